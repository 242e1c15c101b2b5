"""Models of scikit-learn that do more than pass rows on: what the model for few rows chooses."""

from __future__ import annotations

import numpy as np
import pytest

from aiida_nanoml.learning.estimators import FewRowsEstimator
from aiida_nanoml.learning.registry import FEW_ROWS, default_kind


@pytest.mark.parametrize(
    ('target', 'n_targets', 'corrects', 'n_rows', 'kind'),
    [
        ('gap', 1, False, None, 'fast'),
        ('gap', 1, False, FEW_ROWS, 'fast'),
        ('gap', 1, False, FEW_ROWS - 1, 'few_rows'),
        ('gap', 1, True, FEW_ROWS, 'correction'),
        ('gap', 1, True, 24, 'few_rows'),
        ('gap', 2, False, 24, 'alloy'),
        ('energy_per_atom', 1, False, 24, 'alloy'),
    ],
)
def test_the_usual_kind_fits_targets_and_rows(
    target: str, n_targets: int, corrects: bool, n_rows: int | None, kind: str
) -> None:
    assert default_kind(target, n_targets, corrects, n_rows) == kind


def test_few_rows_take_what_fits_them_best() -> None:
    random = np.random.Generator(np.random.PCG64(0))
    X = random.normal(size=(40, 3))
    straight = FewRowsEstimator().fit(X, X @ [1.0, -2.0, 0.5])
    assert straight.chosen_.startswith('Ridge')
    curved = np.sin(3 * X[:, 0])
    bent = FewRowsEstimator().fit(X, curved)
    assert bent.chosen_.startswith(('SVR', 'RandomForest'))
    rescaled = FewRowsEstimator().fit(X, 1e3 * curved)
    np.testing.assert_allclose(rescaled.predict(X), 1e3 * bent.predict(X), rtol=1e-6)


def test_few_rows_know_a_spread_only_of_a_forest() -> None:
    random = np.random.Generator(np.random.PCG64(1))
    X = random.uniform(size=(150, 12))
    steps = np.floor(6 * X[:, 0]) % 2
    forest = FewRowsEstimator().fit(X, steps)
    assert forest.chosen_.startswith('RandomForest')
    assert (forest.predict(X, return_std=True)[1] >= 0).all()
    line = FewRowsEstimator().fit(X, X[:, 0])
    assert np.isnan(line.predict(X, return_std=True)[1]).all()


@pytest.mark.parametrize('n_rows', [1, 2, 4])
def test_few_rows_may_be_very_few(n_rows: int) -> None:
    X = np.arange(float(n_rows))[:, None]
    assert np.isfinite(FewRowsEstimator().fit(X, 2 * X[:, 0]).predict([[1.5]])).all()
