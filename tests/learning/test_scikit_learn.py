"""The tests of scikit-learn's own for estimators, over all kinds of models."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.utils.estimator_checks import check_regressors_train, estimator_checks_generator, parametrize_with_checks

from aiida_nanoml.errors import DatasetError, ModelError
from aiida_nanoml.learning.dense_network import DenseNetwork
from aiida_nanoml.learning.keras_backend import import_keras
from aiida_nanoml.learning.model import Model, NotTrainedError
from aiida_nanoml.learning.registry import MODELS, hyperparameters, make_model

SMALL: dict[str, Any] = {
    'hidden_layers': (8, 8),
    'epochs': 1,
    'members': 1,
    'learning_rate': 0.02,
    'n_trees': 5,
    'folds': 2,
}
ENOUGH_EPOCHS = 40
"""Passes over 200 rows after which the small networks explain half of the variance, as the check of it asks."""


def small(kind: str) -> Model:
    known = hyperparameters(kind)
    return make_model(kind, **{name: value for name, value in SMALL.items() if name in known})


@contextmanager
def without_compiling() -> Iterator[None]:
    """Nearly every check has rows of another shape: to compile a training for each would take minutes."""
    import_keras()
    import tensorflow as tf

    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


def one_of_each_class() -> list[Model]:
    """Return a model of each class: kinds of one class differ in hyperparameters only, and networks take long."""
    return list({type(model): model for model in map(small, reversed(MODELS.names()))}.values())


@parametrize_with_checks(one_of_each_class())
def test_check_of_scikit_learn(estimator: Model, check: Callable[[Model], None]) -> None:
    if not isinstance(estimator, DenseNetwork):
        check(estimator)
    elif isinstance(check, partial) and check.func is check_regressors_train:
        check(clone(estimator).set_params(epochs=ENOUGH_EPOCHS))  # a copy: the other checks get the same model
    else:
        with without_compiling():
            check(estimator)


DECIDED_BY_PRESET = {
    'check_regressors_train',
    'check_regressors_int',
    'check_fit_idempotent',
    'check_methods_sample_order_invariance',
    'check_estimator_cloneable',
}
"""Checks that activation, output, scales and layers may fail; the others ask what all kinds of one class share."""


@pytest.mark.parametrize('kind', ['correction', 'transfer'])
def test_checks_that_a_preset_of_a_network_decides(kind: str) -> None:
    quick = {name: SMALL[name] for name in ('epochs', 'members', 'learning_rate')}
    estimator = make_model(kind, **quick)  # with its own layers, activations and scales
    assert type(estimator) is DenseNetwork
    checks = [check for _, check in estimator_checks_generator(estimator) if check.func.__name__ in DECIDED_BY_PRESET]
    assert {check.func.__name__ for check in checks} == DECIDED_BY_PRESET
    for check in checks:
        test_check_of_scikit_learn(clone(estimator), check)


@pytest.mark.parametrize('kind', ['ridge', 'fast'])
def test_errors_are_those_of_both(kind: str) -> None:
    X, y = np.ones((4, 2)), np.ones(4)
    for error in (NotFittedError, ModelError, NotTrainedError):
        with pytest.raises(error, match='not trained'):
            small(kind).predict(X)
    for error in (DatasetError, TypeError):
        with pytest.raises(error, match='X must be an array of real numbers'):
            small(kind).fit([[object()]], [1.0])
    with pytest.raises(DatasetError, match='y has 3 rows, the features have 4'):
        small(kind).fit(X, y[:3])
    with pytest.raises(DatasetError, match='X holds 1 values that are not finite, the first at row 1, column 0: NaN'):
        small(kind).fit([[1.0], [np.nan]], [1.0, 2.0])
