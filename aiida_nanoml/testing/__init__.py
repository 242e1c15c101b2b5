"""Tests that every engine must pass: ``python -m pytest --pyargs aiida_nanoml.testing --engine NAME``."""
