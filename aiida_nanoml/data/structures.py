"""Node of many structures."""

from __future__ import annotations

from typing import Any

from aiida.orm import ArrayData
from aiida.orm.pydantic import OrmMetadataField

from aiida_nanoml.structures import StructureSet


class StructureSetData(ArrayData):  # type: ignore[misc]
    """N structures in flat arrays; attributes hold what people query.

    :param structures: the structures to store.
    """

    class AttributesModel(ArrayData.AttributesModel):  # type: ignore[misc]
        n_structures: int = OrmMetadataField(description='Number of structures')
        n_atoms: int = OrmMetadataField(description='Number of atoms of all structures together')
        elements: list[str] = OrmMetadataField(description='Chemical symbols that occur, sorted')
        formulas: list[str] = OrmMetadataField(description='The first ten formulas that occur, sorted')
        families: list[str] = OrmMetadataField(description='Families that occur, sorted')

    def __init__(self, structures: StructureSet | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if structures is None:
            return
        for name, array in structures.to_arrays().items():
            self.set_array(name, array)
        self.base.attributes.set_many(
            {
                'n_structures': len(structures),
                'n_atoms': len(structures.numbers),
                'elements': list(structures.elements),
                'formulas': sorted(set(structures.formulas))[:10],
                'families': sorted({str(family) for family in structures.families if family}),
            }
        )

    @property
    def structures(self) -> StructureSet:
        """The stored structures.

        :raises StructureError: the stored arrays are damaged.
        """
        return StructureSet.from_arrays(self.arrays)

    @property
    def n_structures(self) -> int:
        """Number of structures."""
        return int(self.base.attributes.get('n_structures'))

    def _validate(self) -> bool:
        super()._validate()
        StructureSet.from_arrays(self.arrays)
        return True
