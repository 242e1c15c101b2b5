"""Engine ``quantumespresso``: input and output of pw.x, and its finished runs."""
