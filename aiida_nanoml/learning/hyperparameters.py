"""Types of hyperparameters: a model's constructor signature is the only place where they are listed."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Annotated, Any, get_type_hints

from pydantic import Field, TypeAdapter, ValidationError

from aiida_nanoml.errors import ModelError

Count = Annotated[int, Field(strict=True, ge=1)]
Seed = Annotated[int, Field(strict=True, ge=0, lt=2**32)]
Flag = Annotated[bool, Field(strict=True)]
Positive = Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False)]


def default_hyperparameters(model_class: type) -> dict[str, Any]:
    """Names and defaults in the constructor of a model class."""
    return {name: p.default for name, p in inspect.signature(model_class).parameters.items()}


def check_hyperparameters(model_class: type, given: Mapping[str, Any]) -> dict[str, Any]:
    """Check hyperparameters against the annotations of a model's constructor.

    :param model_class: class with an annotated ``__init__``.
    :param given: values by name; names that are left out keep their defaults.
    :returns: the values, lists turned to tuples where the signature says so.
    :raises ModelError: an unknown name (the message lists the valid ones) or a value of the wrong type or range.
    """
    valid = default_hyperparameters(model_class)
    unknown = sorted(set(given) - set(valid))
    if unknown:
        raise ModelError(
            f'unknown hyperparameter {", ".join(map(repr, unknown))} of {model_class.__name__}; '
            f'valid: {", ".join(valid) or "none"}'
        )
    hints = get_type_hints(model_class.__init__, include_extras=True)  # type: ignore[misc]
    checked = {}
    for name, value in given.items():
        try:
            checked[name] = TypeAdapter(hints[name]).validate_python(value)
        except ValidationError as error:
            reason = error.errors()[0]['msg']
            raise ModelError(f'hyperparameter {name}={value!r} of {model_class.__name__}: {reason}') from None
    return checked
