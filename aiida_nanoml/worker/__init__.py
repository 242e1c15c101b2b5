"""What runs on the compute node: reads a job, calls the core, writes results. Knows no AiiDA."""
