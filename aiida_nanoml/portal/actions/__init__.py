"""Administration of a portal as actions, and so as commands; none of them needs an AiiDA profile."""
