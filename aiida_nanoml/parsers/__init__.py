"""Parsers of the calculation jobs: from retrieved files to nodes."""
