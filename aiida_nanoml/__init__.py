"""Machine learning on nanostructures on top of the AiiDA provenance engine."""

__version__ = '0.1.0'
