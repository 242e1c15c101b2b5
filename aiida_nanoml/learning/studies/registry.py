"""Studies by name: those of this package, and those that others register as entry points."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from aiida_nanoml.errors import DatasetError
from aiida_nanoml.learning.dataset import GAP
from aiida_nanoml.learning.studies.base import DEFAULT_KIND, Study

GROUP = 'aiida_nanoml.studies'
"""Entry-point group in which a package registers a subclass of :class:`~aiida_nanoml.learning.studies.base.Study`."""

_BUILT_IN = (
    EntryPoint('selection', 'aiida_nanoml.learning.studies.selection:SelectionStudy', GROUP),
    EntryPoint('transfer', 'aiida_nanoml.learning.studies.transfer:TransferStudy', GROUP),
    EntryPoint('learning_curve', 'aiida_nanoml.learning.studies.learning_curve:LearningCurveStudy', GROUP),
    EntryPoint('hyperparameters', 'aiida_nanoml.learning.studies.hyperparameters:HyperparametersStudy', GROUP),
)


def study_names() -> list[str]:
    """Give the names of all registered studies: those of this package, then others in alphabetical order."""
    built_in = [entry.name for entry in _BUILT_IN]
    return built_in + sorted(set(_registered()) - set(built_in))


def study_class(name: str) -> type[Study]:
    """Give the class of a study.

    :param name: one of :func:`study_names`.
    :raises DatasetError: there is no such study, or it cannot be loaded.
    """
    registered = _registered()
    if name not in registered:
        raise DatasetError(f'there is no study {name!r}; registered: {", ".join(study_names())}')
    try:
        found: type[Study] = registered[name].load()
    except Exception as error:  # whatever another package does at import
        raise DatasetError(
            f'the study {name!r} ({registered[name].value}) cannot be loaded: {type(error).__name__}: {error}'
        ) from error
    return found


def make_study(
    name: str,
    settings: Mapping[str, Any] | None = None,
    kind: str = DEFAULT_KIND,
    hyperparameters: Mapping[str, Any] | None = None,
    target: str = GAP,
) -> Study:
    """Make a study with its settings and the model that it trains.

    :param name: one of :func:`study_names`.
    :param settings: what differs from the defaults of the study.
    :param kind: kind of model.
    :param hyperparameters: what differs from the kind.
    :param target: what is learnt.
    :raises DatasetError: unknown study or target, or a setting that is unknown or wrong.
    :raises ModelError: unknown kind or hyperparameter.
    """
    return study_class(name)(settings or {}, kind, hyperparameters or {}, target)


def _registered() -> dict[str, EntryPoint]:
    """Entry points by name; those of this package come first and cannot be replaced."""
    return {entry.name: entry for entry in (*entry_points(group=GROUP), *_BUILT_IN)}
