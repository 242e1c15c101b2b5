"""Electron transport through one-dimensional potentials: R-matrix, potentials, resonances, files and figures."""
