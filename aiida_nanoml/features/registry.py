"""Descriptors by name: those of this package, and those that others register as entry points."""

from __future__ import annotations

import inspect
import json
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from aiida_nanoml.errors import DescriptorError

GROUP = 'aiida_nanoml.descriptors'
"""Entry-point group in which a package registers a descriptor class under a name.

A descriptor is a scikit-learn transformer: explicit constructor arguments, ``fit`` and ``transform`` on a
:class:`~aiida_nanoml.structures.StructureSet`, and ``get_feature_names_out``.
"""

_BUILT_IN = (EntryPoint('quadruplets', 'aiida_nanoml.features.quadruplets:QuadrupletDescriptor', GROUP),)


def descriptor_names() -> list[str]:
    """Give the names of all registered descriptors, in alphabetical order."""
    return sorted(_registered())


def make_descriptor(name: str, **params: Any) -> Any:
    """Make a descriptor.

    :param name: one of :func:`descriptor_names`.
    :param params: arguments of its constructor.
    :raises DescriptorError: if there is no such descriptor, it cannot be loaded, or a parameter is unknown or wrong.
    """
    registered = _registered()
    if name not in registered:
        raise DescriptorError(f'There is no descriptor {name!r}; registered: {", ".join(sorted(registered))}.')
    try:
        kind = registered[name].load()
    except Exception as error:  # whatever another package does at import
        raise DescriptorError(
            f'The descriptor {name!r} ({registered[name].value}) cannot be loaded: {type(error).__name__}: {error}'
        ) from error
    known = inspect.signature(kind).parameters
    unknown = sorted(set(params) - set(known))
    if unknown:
        raise DescriptorError(
            f'The descriptor {name!r} has no parameter {", ".join(unknown)}; it has: {", ".join(sorted(known))}.'
        )
    descriptor = kind(**params)
    descriptor.get_feature_names_out()
    return descriptor


def descriptor_identity(descriptor: Any) -> dict[str, Any]:
    """Say in types of JSON which numbers a descriptor makes: two with the same identity make the same columns.

    :returns: ``name`` in the registry, ``params``, ``feature_names`` and ``n_features``.
    :raises DescriptorError: if the descriptor is not registered, or has a parameter that JSON cannot hold.
    """
    kind = type(descriptor)
    path = f'{kind.__module__}:{kind.__qualname__}'
    names = [name for name, entry in sorted(_registered().items()) if entry.value == path or _loads_as(entry, kind)]
    if not names:
        raise DescriptorError(f'{path} is not registered in the entry-point group {GROUP}, so no name identifies it.')
    feature_names = [str(feature) for feature in descriptor.get_feature_names_out()]
    identity = {
        'name': names[0],
        'params': descriptor.get_params(),
        'feature_names': feature_names,
        'n_features': len(feature_names),
    }
    try:
        plain: dict[str, Any] = json.loads(json.dumps(identity, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise DescriptorError(f'The parameters of the descriptor {names[0]!r} do not fit into JSON: {error}') from error
    return plain


def _registered() -> dict[str, EntryPoint]:
    """Entry points by name; those of this package come first and cannot be replaced."""
    return {entry.name: entry for entry in (*entry_points(group=GROUP), *_BUILT_IN)}


def _loads_as(entry: EntryPoint, kind: type) -> bool:
    """Tell if an entry point leads to a class by another path than where the class is defined."""
    if entry.module.partition('.')[0] != kind.__module__.partition('.')[0]:
        return False
    try:
        return entry.load() is kind
    except Exception:  # a broken entry point of another package is no reason to fail here
        return False
