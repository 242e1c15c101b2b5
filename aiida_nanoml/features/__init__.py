"""Features: descriptors turn structures into rows of numbers, as scikit-learn transformers on structure sets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiida_nanoml.features.registry import describe, descriptor_identity, descriptor_names, freeze, make_descriptor

if TYPE_CHECKING:
    from aiida_nanoml.features.quadruplets import QuadrupletDescriptor

__all__ = [
    'QuadrupletDescriptor',
    'describe',
    'descriptor_identity',
    'descriptor_names',
    'freeze',
    'make_descriptor',
]


def __getattr__(name: str) -> Any:
    # Descriptors bring scikit-learn along, which takes a second to import: not before one is wanted.
    if name == 'QuadrupletDescriptor':
        from aiida_nanoml.features.quadruplets import QuadrupletDescriptor

        return QuadrupletDescriptor
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
