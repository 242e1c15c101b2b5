"""Data sets whose outcome is known."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from aiida_nanoml.learning.dataset import Dataset
from aiida_nanoml.learning.splits import split_rows


def make_dataset(X: np.ndarray, y: np.ndarray, families: np.ndarray, names: tuple[str, ...], seed: int = 0) -> Dataset:
    """A data set with the usual split."""
    hashes = np.array([hashlib.sha256(f'row {row}'.encode()).hexdigest() for row in range(len(X))])
    return Dataset(
        X=X,
        y=y,
        hashes=hashes,
        names=np.array([f'row {row}' for row in range(len(X))]),
        families=families,
        split=split_rows(hashes, seed=seed, strata=families),
        feature_names=names,
    )


@pytest.fixture(scope='session')
def shifted_dataset() -> Dataset:
    """Two families of 60 rows in which the only feature has opposite effects."""
    rng = np.random.default_rng(3)
    X = rng.uniform(0, 1, size=(120, 1))
    families = np.array(['h'] * 60 + ['s'] * 60)
    slope = np.where(families == 'h', 1.0, -1.0)
    return make_dataset(X, 2 + slope * X[:, 0] + rng.normal(0, 0.02, 120), families, ('x',))


@pytest.fixture(scope='session')
def cluster_dataset() -> Dataset:
    """200 rows of one family: 4 fractions, then 12 binary columns named like clusters, of which one decides the gap.

    ``k1:0…`` is that one, present in half of the rows. The columns of radius 2 are present in one row of twenty.
    """
    rng = np.random.default_rng(5)
    fractions = rng.uniform(0.2, 0.3, size=(200, 4))
    common = (rng.random((200, 4)) < 0.5).astype(float)
    rare = (rng.random((200, 8)) < 0.05).astype(float)
    names = [f'fraction_{element}' for element in 'HBCN']
    names += [f'k1:{number:016x}:C|C3' for number in range(4)] + [f'k2:{number:016x}:C|C9' for number in range(8)]
    y = 0.5 + 0.4 * common[:, 0] + rng.normal(0, 0.02, 200)
    return make_dataset(np.hstack([fractions, common, rare]), y, np.full(200, 'h'), tuple(names))


@pytest.fixture(scope='session')
def wide_dataset() -> Dataset:
    """300 rows, the sum of 40 columns with a little noise: more rows than columns are needed to learn it."""
    rng = np.random.default_rng(7)
    X = rng.normal(size=(300, 40))
    y = 5 + X.sum(axis=1) * 0.1 + rng.normal(0, 0.05, 300)
    families = np.array(['h', 's', 'h'] * 100)
    return make_dataset(X, y, families, tuple(f'x{number}' for number in range(40)))
