"""A centre's portal: sign-in, grants and a proxy in front of one server of pages for each user."""
