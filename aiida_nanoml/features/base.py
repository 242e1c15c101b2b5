"""Base class of the descriptors: their parameters are checked by the annotations of their constructors."""

from __future__ import annotations

from typing import Any, Self

from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, TransformerMixin

from aiida_nanoml.errors import DescriptorError
from aiida_nanoml.parameters import check_parameters
from aiida_nanoml.structures.structure_set import StructureSet


class Descriptor(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """A descriptor that learns nothing; one that learns has a :meth:`fit` of its own.

    What else a descriptor may have: :data:`~aiida_nanoml.features.registry.DESCRIPTORS`.
    """

    def fit(self, structures: StructureSet, y: ArrayLike | None = None) -> Self:
        """Check the parameters; there is nothing to learn from structures.

        :raises DescriptorError: if a parameter is out of range.
        """
        self._check_parameters()
        return self

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False  # sets of structures
        tags.no_validation = True
        return tags

    def _check_parameters(self) -> None:
        check_parameters(type(self), self.get_params(deep=False), what='parameter', error=DescriptorError)
