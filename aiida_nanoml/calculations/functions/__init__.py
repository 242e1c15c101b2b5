"""Calculation functions: steps short enough to run in the process of the workflow."""
