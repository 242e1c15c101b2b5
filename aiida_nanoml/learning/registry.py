"""Models by name: those of this package, and those that others register as entry points."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from aiida_nanoml.errors import ModelError
from aiida_nanoml.learning.former_names import with_current_names
from aiida_nanoml.parameters import check_parameters, default_parameters
from aiida_nanoml.plugins import Registry

if TYPE_CHECKING:
    from aiida_nanoml.learning.model import Model

GAP_KIND, CORRECTION_KIND, ANY_TARGET_KIND, FEW_ROWS_KIND = 'fast', 'correction', 'alloy', 'few_rows'
"""Kinds that are trained unless another is named: for gaps, for corrections to a baseline, for other targets, and for
gaps and corrections with fewer training rows than :data:`FEW_ROWS`."""

FEW_ROWS = 100
"""Training rows below which networks learn gaps worse than linear and kernel models; see :mod:`.kinds`."""


@dataclass(frozen=True)
class ModelKind:
    """Kind of model: a class, with hyperparameters of its own.

    :param model: class of the models.
    :param description: one line for lists and help.
    :param preset: hyperparameters that differ from the defaults of the class.
    """

    model: type[Model]
    description: str
    preset: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def hyperparameters(self) -> dict[str, Any]:
        """Hyperparameters that models of this kind start from, by name."""
        return default_parameters(self.model) | dict(self.preset)

    @property
    def several_targets(self) -> bool:
        """Whether a model of this kind, as it is made by default, can learn several targets at once."""
        try:
            self.make().check_targets(2)
        except ModelError:
            return False
        return True

    def make(self, **given: Any) -> Model:
        """Make an untrained model.

        :param given: hyperparameters that replace those of the kind; former names are understood.
        :raises ModelError: unknown hyperparameter (the message lists the valid ones), or a value of the wrong type.
        """
        named = with_current_names(given, known=default_parameters(self.model))
        return self.model(**(dict(self.preset) | check_parameters(self.model, named)))


def _check_kind(name: str, found: Any) -> str | None:
    from aiida_nanoml.learning.model import Model

    if not isinstance(found, ModelKind):
        return 'is not an aiida_nanoml.learning.registry.ModelKind'
    if not (isinstance(found.model, type) and issubclass(found.model, Model)):
        return 'has a class that is not a subclass of aiida_nanoml.learning.model.Model'
    return None


MODELS: Registry[ModelKind] = Registry('aiida_nanoml.models', 'kind of model', ModelError, _check_kind)
"""Kinds of models; a package adds one with an entry point that leads to a :class:`ModelKind`."""


def hyperparameters(kind: str) -> dict[str, Any]:
    """Return the hyperparameters that a kind of model starts from, by name.

    :param kind: name of a kind in :data:`MODELS`.
    :raises ModelError: unknown kind.
    """
    return MODELS.load(kind).hyperparameters


def default_kind(target: str, n_targets: int, corrects: bool, n_rows: int | None = None) -> str:
    """Return the kind of model that is trained unless another is named.

    :param target: the main target.
    :param n_targets: number of targets.
    :param corrects: whether it learns the correction to a baseline.
    :param n_rows: number of training rows; None: enough for a network.
    """
    from aiida_nanoml.learning.dataset import GAP

    if target != GAP or n_targets > 1:
        return ANY_TARGET_KIND
    if n_rows is not None and n_rows < FEW_ROWS:
        return FEW_ROWS_KIND
    return CORRECTION_KIND if corrects else GAP_KIND


def make_model(kind: str, **given: Any) -> Model:
    """Make an untrained model.

    :param kind: name of a kind in :data:`MODELS`.
    :param given: hyperparameters that replace those of the kind; former names are understood.
    :raises ModelError: unknown kind or hyperparameter (the message lists the valid ones), or a value of the wrong type.
    """
    return MODELS.load(kind).make(**given)
