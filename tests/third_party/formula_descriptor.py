"""A descriptor that learns its columns, as another package would provide it."""

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin

from aiida_nanoml.errors import DescriptorError


class FormulaDescriptor(TransformerMixin, BaseEstimator):
    """One column for each formula of the training rows: 1 for the structures that have it.

    :param known: the formulas; None: those of the structures that it is fitted to.
    """

    learns = True

    def __init__(self, known=None):
        self.known = known

    def fit(self, structures, y=None):
        self.known_ = sorted(set(structures.formulas)) if self.known is None else self.known
        return self

    def frozen(self):
        return FormulaDescriptor(self._formulas())

    def restricted(self, feature_names):
        return FormulaDescriptor([formula for formula in self._formulas() if formula in feature_names])

    def transform(self, structures):
        return (np.array(structures.formulas)[:, None] == np.array(self._formulas())).astype(float)

    def unknown_counts(self, structures):
        return (~self.transform(structures).any(axis=1)).astype(int)

    def get_feature_names_out(self, input_features=None):
        return np.array(self._formulas(), dtype=object)

    def _formulas(self):
        if self.known is None and not hasattr(self, 'known_'):
            raise DescriptorError('formulas are learnt: fit it first')
        return self.known_ if self.known is None else self.known


class Forgetful(FormulaDescriptor):
    """One that breaks the rule: what it learnt is not in its parameters."""

    def frozen(self):
        return self
