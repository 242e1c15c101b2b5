"""Descriptor that joins the columns of several descriptors."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from aiida_nanoml.errors import DescriptorError
from aiida_nanoml.features.base import Descriptor
from aiida_nanoml.features.registry import dense_features, freeze, is_electronic, is_frozen, learns, make_descriptor
from aiida_nanoml.structures.structure_set import StructureSet

SEPARATOR = '/'
"""Separator of the name of a part and the name of its column."""


class CombinedDescriptor(Descriptor):
    """Descriptor that joins the columns of several others, one part after the other.

    A column is named ``part/column``, for example ``quadruplets/C|CCC``. The combination learns if a part learns, and
    runs an electronic calculation if a part does.

    :param parts: for each part its ``name`` in the registry and, optionally, ``params``; every name once.

    Attributes:
        ``parts_``: the fitted parts by name, set by :meth:`fit`.

    >>> descriptor = CombinedDescriptor([{'name': 'quadruplets'}, {'name': 'shells', 'params': {'shells': 2}}])
    >>> [str(descriptor.get_feature_names_out()[column]) for column in (0, -1)]
    ['quadruplets/C|CCC', 'shells/field_mass']
    """

    def __init__(self, parts: list[dict[str, Any]] | None = None) -> None:
        self.parts = parts

    @property
    def learns(self) -> bool:
        """Whether a part learns from training rows."""
        return any(learns(part) for part in self._make_parts().values())

    @property
    def electronic(self) -> bool:
        """Whether a part runs an electronic calculation."""
        return any(is_electronic(part) for part in self._make_parts().values())

    def fit(self, structures: StructureSet, y: ArrayLike | None = None) -> CombinedDescriptor:
        """Fit every part.

        :param structures: training rows.
        :param y: shape (n,), their targets.
        :raises DescriptorError: a part cannot be made or fitted.
        """
        self.parts_ = {name: freeze(part, structures, y) for name, part in self._make_parts().items()}
        return self

    def frozen(self) -> CombinedDescriptor:
        """Return a combination whose parameters hold what the parts learnt.

        :raises DescriptorError: a part learns and was not fitted.
        """
        return _combine(self._known_parts())

    def restricted(self, feature_names: list[str]) -> CombinedDescriptor:
        """Return a combination that computes at least these columns; parts without any are left out.

        :param feature_names: some of the names of the columns.
        :raises DescriptorError: a part learns and was not fitted.
        """
        kept = {}
        for name, part in self._known_parts().items():
            prefix = f'{name}{SEPARATOR}'
            wanted = [feature.removeprefix(prefix) for feature in feature_names if feature.startswith(prefix)]
            if wanted:
                kept[name] = part.restricted(wanted) if hasattr(part, 'restricted') else part
        return _combine(kept)

    def transform(self, structures: StructureSet) -> NDArray[np.float64]:
        """Describe structures.

        :param structures: n structures that every part can describe.
        :returns: shape (n, number of columns).
        :raises DescriptorError: a part cannot describe a structure, or learns and was not fitted.
        """
        return np.concatenate([dense_features(part, structures) for part in self._known_parts().values()], axis=1)

    def unknown_counts(self, structures: StructureSet) -> NDArray[np.int64]:
        """Count what the parts cannot describe in each structure (n,), over all parts that count it."""
        counts = np.zeros(len(structures), dtype=np.int64)
        for part in self._known_parts().values():
            if hasattr(part, 'unknown_counts'):
                counts += part.unknown_counts(structures)
        return counts

    def get_feature_names_out(self, input_features: object = None) -> NDArray[np.object_]:
        """Return the name of each column, ``part/column``."""
        names = [
            f'{name}{SEPARATOR}{feature}'
            for name, part in self._known_parts().items()
            for feature in part.get_feature_names_out()
        ]
        return np.array(names, dtype=object)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, 'parts_') or all(is_frozen(part) for part in self._make_parts().values())

    def _known_parts(self) -> dict[str, Any]:
        """Return the parts by name, each with its columns known."""
        parts: dict[str, Any] = self.parts_ if hasattr(self, 'parts_') else self._make_parts()
        for name, part in parts.items():
            if not is_frozen(part):
                raise DescriptorError(f'the part {name!r} learns from structures: fit the combination first')
        return parts

    def _make_parts(self) -> dict[str, Any]:
        """Make the parts by name from their parameters."""
        self._check_parameters()
        if not self.parts:
            raise DescriptorError('a combination needs parts: a list with the name and the params of each')
        made: dict[str, Any] = {}
        for part in self.parts:
            if 'name' not in part or set(part) - {'name', 'params'}:
                raise DescriptorError(f'a part of a combination has a name and params, got {part!r}')
            if part['name'] in made:
                raise DescriptorError(f'the part {part["name"]!r} is there twice: its columns could not be told apart')
            made[part['name']] = make_descriptor(part['name'], **part.get('params', {}))
        return made


def _combine(parts: dict[str, Any]) -> CombinedDescriptor:
    """Combine descriptors by name, from their parameters."""
    return CombinedDescriptor([{'name': name, 'params': part.get_params(deep=False)} for name, part in parts.items()])
