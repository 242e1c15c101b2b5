"""Names of hyperparameters and classes in version 0.1: models and inputs of that time stay readable."""

from __future__ import annotations

from collections.abc import Container, Mapping
from types import MappingProxyType
from typing import Any

from aiida_nanoml.errors import ModelError

CURRENT_NAMES: Mapping[str, str] = MappingProxyType({'target_scale_ev': 'target_scale', 'tube_ev': 'tube_width'})
"""Current names of hyperparameters by their former ones. The current ones are written, both are read."""

FORMER_CLASSES: Mapping[str, str] = MappingProxyType({'DenseNetwork': 'GapNetwork'})
"""Former names of model classes by their current ones."""


LATER_DEFAULTS: Mapping[str, Mapping[str, Any]] = MappingProxyType({'DenseNetwork': {'validation_fraction': 0.1}})
"""Hyperparameters that version 0.1 does not have by class, with the value at which a model does what it did then."""


def with_current_names(hyperparameters: Mapping[str, Any], known: Container[str] = ()) -> dict[str, Any]:
    """Return hyperparameters under their current names.

    :param known: names that mean what they say, even if they are former names of others.
    :raises ModelError: one of them is given under both names.
    """
    named: dict[str, Any] = {}
    for name, value in hyperparameters.items():
        current = name if name in known else CURRENT_NAMES.get(name, name)
        if current != name and current in hyperparameters:
            raise ModelError(f'{name} is the former name of {current}: give one of them')
        named[current] = value
    return named


def without_later_defaults(model: str, hyperparameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return hyperparameters without those that version 0.1 does not have and that are at their defaults.

    :param model: name of the class.
    """
    later = LATER_DEFAULTS.get(model, {})
    return {name: value for name, value in hyperparameters.items() if name not in later or value != later[name]}


def with_former_names(hyperparameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return hyperparameters under the names of version 0.1."""
    former = {current: name for name, current in CURRENT_NAMES.items()}
    return {former.get(name, name): value for name, value in hyperparameters.items()}
