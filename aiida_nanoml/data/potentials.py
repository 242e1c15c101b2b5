"""Node of one-dimensional potentials."""

from __future__ import annotations

from typing import Any

from aiida.orm import ArrayData
from aiida.orm.pydantic import OrmMetadataField

from aiida_nanoml.transport.potential import PotentialSet

SHOWN = 10
"""Number of names in the attributes."""


class PotentialSetData(ArrayData):  # type: ignore[misc]
    """N potentials between leads, in flat arrays; energies in eV, lengths in nm, masses in m0.

    :param potentials: the potentials to store.
    """

    class AttributesModel(ArrayData.AttributesModel):  # type: ignore[misc]
        n_potentials: int = OrmMetadataField(description='Number of potentials')
        n_cells: int = OrmMetadataField(description='Number of cells of all potentials together')
        names: list[str] = OrmMetadataField(description='Names of the first ten potentials')
        units: dict[str, str] = OrmMetadataField(description='Unit of each array')

    def __init__(self, potentials: PotentialSet | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if potentials is None:
            return
        arrays = potentials.to_arrays()
        for name, array in arrays.items():
            self.set_array(name, array)
        self.base.attributes.set_many(
            {
                'n_potentials': len(potentials),
                'n_cells': len(arrays['values']),
                'names': potentials.names[:SHOWN],
                'units': {'values': 'eV', 'leads': 'eV', 'lengths': 'nm', 'masses': 'm0', 'lead_masses': 'm0'},
            }
        )

    @property
    def potentials(self) -> PotentialSet:
        """The stored potentials.

        :raises TransportError: the stored arrays are damaged.
        """
        return PotentialSet.from_arrays(self.arrays)

    @property
    def n_potentials(self) -> int:
        """Number of potentials."""
        return int(self.base.attributes.get('n_potentials'))

    def _validate(self) -> bool:
        super()._validate()
        _ = self.potentials
        return True
