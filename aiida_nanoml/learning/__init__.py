"""Learning on descriptors: the dense network, scikit-learn baselines, splits, metrics, model files and plots.

Knows no AiiDA and no structures: rows of numbers in, eV out. TensorFlow and matplotlib are imported by the functions
that use them.
"""
