"""Importers: finished calculations made without AiiDA become nodes."""
