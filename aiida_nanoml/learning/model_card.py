"""Card of a saved model: readable without loading the model or the libraries that run it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

from aiida_nanoml.errors import ModelError
from aiida_nanoml.learning.former_names import with_current_names
from aiida_nanoml.learning.targets import TARGETS
from aiida_nanoml.learning.uncertainty import Calibration
from aiida_nanoml.text import parse_finite_json

CARD_FILE = 'model.json'

Card = TypeVar('Card', bound=BaseModel)


class ModelCard(BaseModel):
    """Description of a model: kind, target, training data, hyperparameters and metrics.

    The fields from ``parameters`` on are filled by :func:`save_model`.
    """

    model_config = ConfigDict(extra='forbid', protected_namespaces=())

    kind: str = Field(description='kind of model, see aiida_nanoml.learning.registry.MODELS')
    target: str = Field(default='gap', description='what is predicted, see aiida_nanoml.learning.targets.TARGETS')
    unit: str = Field(default='eV', validate_default=True, description='unit of the prediction')
    others: dict[str, str] = Field(
        default_factory=dict, description='targets that are predicted beside it, in this order, and their units'
    )
    feature_names: list[str] | None = Field(default=None, description='names of the features, in order')
    descriptor: dict[str, Any] | None = Field(default=None, description='identity of the descriptor')
    labels: dict[str, Any] | None = Field(default=None, description='engine, version and protocol of the labels')
    baseline: dict[str, Any] | None = Field(
        default=None,
        description='engine, version and protocol of the baseline; None: the model gives the target itself',
    )
    allow_leakage: bool = Field(
        default=False, description='whether structures in two parts of the split were accepted: then metrics flatter'
    )
    metrics: dict[str, dict[str, float | int | None]] = Field(
        default_factory=dict, description='r2, mae, rmse (in the unit), n, coverage and rows outside by part'
    )
    calibration: Calibration | None = Field(
        default=None, description='what makes a standard deviation of the spread; None: too few rows to tell'
    )
    parameters: dict[str, Any] = Field(default_factory=dict, description='hyperparameters')
    n_features: int = Field(default=0, description='length of a row of features')
    domain_limit: float | None = Field(
        default=None, description='distance beyond which a row is outside of what the training rows cover'
    )
    best_epoch: int | None = Field(default=None, description='epoch whose weights were kept (dense networks)')
    fingerprint: str = Field(default='', description='sha256 over hyperparameters and weights')
    versions: dict[str, str] = Field(default_factory=dict, description='versions of the libraries that trained it')

    @field_validator('target')
    @classmethod
    def _known(cls, target: str) -> str:
        if target not in TARGETS:
            raise ValueError(f'there is no target {target!r}')
        return target

    @field_validator('unit')
    @classmethod
    def _unit_of_target(cls, unit: str, info: ValidationInfo) -> str:
        target = info.data.get('target')
        if target is not None and unit != TARGETS[target].unit:
            raise ValueError(f'the target {target!r} is in {TARGETS[target].unit}, not {unit}')
        return unit

    @field_validator('parameters')
    @classmethod
    def _current_names(cls, parameters: dict[str, Any]) -> dict[str, Any]:
        return with_current_names(parameters)

    @field_validator('others')
    @classmethod
    def _units_of_others(cls, others: dict[str, str]) -> dict[str, str]:
        for name, unit in others.items():
            if name not in TARGETS or unit != TARGETS[name].unit:
                raise ValueError(f'there is no target {name!r} in {unit}')
        return others


def checked_card(fields: Mapping[str, Any], where: str, schema: type[Card]) -> Card:
    """Build a card from fields.

    :param where: what the fields are, for the message.
    :param schema: what the card is.
    :raises ModelError: a field is unknown, missing or wrong.
    """
    try:
        return schema.model_validate(dict(fields))
    except ValidationError as error:
        first = error.errors()[0]
        raise ModelError(f'{where}: {".".join(map(str, first["loc"]))}: {first["msg"]}') from None


def read_json(path: Path) -> Any:
    """Read a JSON file of a model folder.

    :raises ModelError: missing, unreadable, nested without end, or with a number that is not finite.
    """
    try:
        return parse_finite_json(path.read_text(encoding='utf-8'))
    except FileNotFoundError:
        raise ModelError(f'{path} is missing: this is not the folder of a saved model') from None
    except (OSError, ValueError) as error:
        raise ModelError(f'{path} is not readable: {error}') from error


def read_history(path: Path) -> dict[str, list[float]]:
    """Read the losses of every epoch.

    :raises ModelError: missing, unreadable, or something else than lists of numbers by name.
    """
    history = read_json(path)
    lists = history.values() if isinstance(history, dict) else [None]
    if not all(isinstance(losses, list) and all(type(loss) in (int, float) for loss in losses) for losses in lists):
        raise ModelError(f'{path} does not hold the losses of a training')
    return dict(history)


def read_card(folder: Path) -> ModelCard:
    """Read the card in the folder of a saved model.

    :raises ModelError: missing, unreadable, or no card.
    """
    return read_card_file(folder / CARD_FILE, ModelCard)


def read_card_file(path: Path, schema: type[Card]) -> Card:
    """Read a card of some kind.

    :param schema: what the card is.
    :raises ModelError: missing, unreadable, or no such card.
    """
    return _card_of(read_json(path), str(path), schema)


def parse_card(content: str | bytes, where: str, schema: type[Card]) -> Card:
    """Read a card of some kind from the content of its file.

    :param where: what to call the file in an error.
    :param schema: what the card is.
    :raises ModelError: unreadable, or no such card.
    """
    try:
        fields = parse_finite_json(content)
    except ValueError as error:
        raise ModelError(f'{where} is not readable: {error}') from error
    return _card_of(fields, where, schema)


def _card_of(fields: Any, where: str, schema: type[Card]) -> Card:
    if not isinstance(fields, dict):
        raise ModelError(f'{where} is not the card of a model')
    return checked_card(fields, where, schema)
