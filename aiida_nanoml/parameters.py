"""Parameters of plug-ins: the annotated constructor of a class is the only place where they are listed."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import is_dataclass
from typing import Annotated, Any, get_type_hints

from pydantic import Field, TypeAdapter, ValidationError

from aiida_nanoml.errors import ModelError, NanomlError

Count = Annotated[int, Field(strict=True, ge=1)]
Natural = Annotated[int, Field(strict=True, ge=0)]
Seed = Annotated[int, Field(strict=True, ge=0, lt=2**32)]
Flag = Annotated[bool, Field(strict=True)]
Positive = Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False)]


def default_parameters(kind: type) -> dict[str, Any]:
    """Return the names and defaults in the constructor of a class."""
    return {name: p.default for name, p in inspect.signature(kind).parameters.items()}


def check_parameters(
    kind: type,
    given: Mapping[str, Any],
    *,
    what: str = 'hyperparameter',
    error: type[NanomlError] = ModelError,
) -> dict[str, Any]:
    """Check parameters against the annotations of a constructor.

    :param kind: class with an annotated ``__init__``; an argument without annotation takes any value.
    :param given: values by name; names that are left out keep their defaults.
    :param what: what a parameter is called in messages.
    :param error: the error to raise.
    :returns: the values, lists turned to tuples where the signature says so.
    :raises NanomlError: ``error``, for an unknown name (the message lists the valid ones), a name that has no default
        and is left out, or a value of the wrong type or range.
    """
    valid = default_parameters(kind)
    unknown = sorted(set(given) - set(valid))
    if unknown:
        raise error(
            f'unknown {what} {", ".join(map(repr, unknown))} of {kind.__name__}; valid: {", ".join(valid) or "none"}'
        )
    missing = [name for name, default in valid.items() if default is inspect.Parameter.empty and name not in given]
    if missing:
        raise error(f'missing {what} {", ".join(map(repr, missing))} of {kind.__name__}')
    hints = _parameter_types(kind)
    checked = {}
    for name, value in given.items():
        try:
            checked[name] = TypeAdapter(hints.get(name, Any)).validate_python(value)
        except ValidationError as fault:
            first = fault.errors()[0]
            reason = first['ctx']['error'] if first['type'] == 'value_error' else first['msg']
            raise error(f'{what} {name}={value!r} of {kind.__name__}: {reason}') from None
    return checked


def _parameter_types(kind: type) -> dict[str, Any]:
    """Return the annotations of a constructor by name."""
    # The fields of a data class may be inherited, with types that are known in the module of the base class only.
    annotated = kind if is_dataclass(kind) else kind.__init__  # type: ignore[misc]
    return get_type_hints(annotated, include_extras=True)
