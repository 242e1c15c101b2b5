"""One plug-in of each kind, as another package would provide them: the smallest that keep the contracts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin

from aiida_nanoml.features.selection import Selector
from aiida_nanoml.parameters import Count, Positive
from aiida_nanoml.structures import Generator, Structure, StructureSet


class AtomCountDescriptor(TransformerMixin, BaseEstimator):
    """The number of atoms, in a unit of its own."""

    def __init__(self, unit: Positive = 1.0) -> None:
        self.unit = unit

    def fit(self, structures, y=None):
        return self

    def transform(self, structures):
        return structures.counts[:, None] / self.unit

    def get_feature_names_out(self, input_features=None):
        return np.array(['n_atoms'], dtype=object)


class FirstSelector(Selector):
    """The first columns; its argument has no annotation, and takes any value."""

    def __init__(self, n_features=1):
        self.n_features = n_features

    def select_columns(self, X, y, names):
        return np.arange(len(names)) < self.n_features


@dataclass(frozen=True)
class ChainGenerator(Generator):
    """Chains of hydrogen atoms, each one atom longer than the one before."""

    name: ClassVar[str] = 'chains'
    description: ClassVar[str] = 'chains of hydrogen atoms'

    count: Count
    distance_ang: Positive = 1.0

    def generate(self) -> StructureSet:
        """Generate the chains, from two atoms on."""
        return StructureSet.from_structures(
            [
                Structure([1] * n, [[self.distance_ang * atom, 0, 0] for atom in range(n)])
                for n in range(2, 2 + self.count)
            ]
        )
