"""SIESTA: density-functional theory with numerical atomic orbitals, run as a program."""
