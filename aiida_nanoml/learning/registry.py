"""Models by name."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from aiida_nanoml.errors import ModelError
from aiida_nanoml.learning.dataset import GAP
from aiida_nanoml.learning.dense_network import DenseNetwork
from aiida_nanoml.learning.estimators import (
    ForestEstimator,
    LinearEstimator,
    RidgeEstimator,
    SvmEstimator,
    TargetRegressor,
    TreeEstimator,
)
from aiida_nanoml.learning.former_names import with_current_names
from aiida_nanoml.learning.presets import PRESETS
from aiida_nanoml.parameters import check_parameters, default_parameters

Model = DenseNetwork | TargetRegressor

MODEL_KINDS: Mapping[str, str] = MappingProxyType(
    {
        'fast': 'dense network: ensemble of small networks, trained in seconds',
        'paper': 'dense network: the 14-layer reference of the source',
        'transfer': 'dense network: 300-50-25, the transfer study of the source',
        'correction': 'dense network: fast, for corrections to a baseline',
        'alloy': 'dense network: for smooth targets of either sign, and for several at once',
        'linear': 'linear regression',
        'ridge': 'linear regression with an L2 penalty',
        'tree': 'decision tree',
        'forest': 'random forest',
        'svm': 'support-vector regression',
    }
)
"""One line of description by kind: presets of the dense network, then the models of scikit-learn."""

_ESTIMATORS: Mapping[str, type[TargetRegressor]] = MappingProxyType(
    {
        'linear': LinearEstimator,
        'ridge': RidgeEstimator,
        'tree': TreeEstimator,
        'forest': ForestEstimator,
        'svm': SvmEstimator,
    }
)


def model_class(kind: str) -> type[Model]:
    """The class behind a kind of model.

    :param kind: key of :data:`MODEL_KINDS`.
    :raises ModelError: unknown kind; the message lists the known ones.
    """
    if kind in PRESETS:
        return DenseNetwork
    if kind in _ESTIMATORS:
        return _ESTIMATORS[kind]
    raise ModelError(f'unknown kind of model {kind!r}; known: {", ".join(MODEL_KINDS)}')


def hyperparameters(kind: str) -> dict[str, Any]:
    """Names and values of the hyperparameters that a kind of model starts from.

    :param kind: key of :data:`MODEL_KINDS`.
    :raises ModelError: unknown kind.
    """
    return default_parameters(model_class(kind)) | dict(PRESETS.get(kind, {}))


def default_kind(target: str, n_targets: int, corrects: bool) -> str:
    """Give the kind of model that is trained unless another is named.

    :param target: the main target.
    :param n_targets: with those beside it.
    :param corrects: whether it learns the correction to a baseline.
    """
    if target != GAP or n_targets > 1:
        return 'alloy'
    return 'correction' if corrects else 'fast'


def make_model(kind: str, **given: Any) -> Model:
    """Make an untrained model.

    :param kind: key of :data:`MODEL_KINDS`.
    :param given: hyperparameters that replace those of the kind; former names are understood.
    :raises ModelError: unknown kind or hyperparameter (the message lists the valid ones), or a value of the wrong type.
    """
    chosen = model_class(kind)
    checked = check_parameters(chosen, with_current_names(given, known=default_parameters(chosen)))
    return chosen(**(dict(PRESETS.get(kind, {})) | checked))
