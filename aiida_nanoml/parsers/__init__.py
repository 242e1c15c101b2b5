"""Parsers: from the report and arrays of ``nanoml-worker`` to nodes."""
