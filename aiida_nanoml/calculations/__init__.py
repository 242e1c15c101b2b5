"""Calculation jobs run by ``nanoml-worker``, and calculation functions."""
