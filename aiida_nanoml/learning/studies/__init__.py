"""Studies: how well a target is learnt, against features, families, rows or hyperparameters, over repeated seeds."""

from aiida_nanoml.learning.studies.registry import STUDIES, make_study

__all__ = ['STUDIES', 'make_study']
