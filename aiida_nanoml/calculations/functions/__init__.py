"""Calculation functions: steps short enough to run where the workflow runs."""
