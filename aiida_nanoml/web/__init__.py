"""The web face: pages that fill actions and show their results, as the command line does."""
