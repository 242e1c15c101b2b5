"""Studies: how well a gap is learnt, against features, families, rows or hyperparameters, over repeated seeds."""

from aiida_nanoml.learning.studies.registry import make_study, study_class, study_names

__all__ = ['make_study', 'study_class', 'study_names']
