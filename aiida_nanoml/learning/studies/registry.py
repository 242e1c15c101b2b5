"""Studies by name: those of this package, and those that others register as entry points."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiida_nanoml.errors import DatasetError
from aiida_nanoml.learning.dataset import GAP
from aiida_nanoml.learning.studies.base import DEFAULT_KIND, Study
from aiida_nanoml.plugins import Registry, subclass_of

STUDIES: Registry[type[Study]] = Registry('aiida_nanoml.studies', 'study', DatasetError, subclass_of(Study, named=True))
"""Studies; a package adds one with an entry point that leads to a subclass of Study."""


def make_study(
    name: str,
    settings: Mapping[str, Any] | None = None,
    kind: str = DEFAULT_KIND,
    hyperparameters: Mapping[str, Any] | None = None,
    target: str = GAP,
) -> Study:
    """Make a study with its settings and the model that it trains.

    :param name: name of a study in :data:`STUDIES`.
    :param settings: what differs from the defaults of the study.
    :param kind: kind of model.
    :param hyperparameters: what differs from the kind.
    :param target: what is learnt.
    :raises DatasetError: unknown study or target, or a setting that is unknown or wrong.
    :raises ModelError: unknown kind or hyperparameter.
    """
    return STUDIES.load(name)(settings or {}, kind, hyperparameters or {}, target)
