"""What runs on the compute node: reads a job, calls the core, writes results. Knows no AiiDA."""

WORKER = 'nanoml-worker'
"""Name of the executable, and label of its code."""
