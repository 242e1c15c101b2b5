"""Calculation jobs of ``nanoml-worker`` and SIESTA, calculation functions, and an importer of finished runs."""
