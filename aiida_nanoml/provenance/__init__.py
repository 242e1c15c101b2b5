"""Questions asked of the provenance graph."""
