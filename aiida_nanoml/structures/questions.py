"""What looks wrong in structures from elsewhere, although each of them can be used: asked, not refused."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from aiida_nanoml.structures.structure_set import StructureSet
from aiida_nanoml.structures.vacuum import MINIMUM_VACUUM_ANG, measure_vacuum

LOOKED_AT = 50
"""Structures whose distances are measured."""

MOST_ATOMS = 500
"""Larger structures are left out of this: all their distances would be computed."""

LIKE_BOHR = (1.4, 2.4)
"""Distance of nearest atoms, in sums of covalent radii, of a molecule whose coordinates are in bohr and read as Å."""


@dataclass(frozen=True)
class Peculiarities:
    """What is peculiar in a set of structures.

    :param n_repeated: structures that are equal to an earlier one.
    :param n_odd: isolated structures with an odd number of electrons.
    :param n_boxed: periodic structures whose images are far apart in every direction.
    :param bond_ratio: median distance of nearest atoms in sums of covalent radii, of isolated structures; NaN: none.
    """

    n_repeated: int
    n_odd: int
    n_boxed: int
    bond_ratio: float

    @property
    def looks_like_bohr(self) -> bool:
        """Whether lengths may be in bohr."""
        return LIKE_BOHR[0] <= self.bond_ratio <= LIKE_BOHR[1]


def find_peculiarities(structures: StructureSet) -> Peculiarities:
    """Look for repeated structures, odd electrons, boxes around molecules, and lengths in bohr."""
    isolated = ~structures.pbc.any(axis=1)
    boxed = [part for part in structures if part.pbc.all() and (measure_vacuum(part) >= MINIMUM_VACUUM_ANG).all()]
    return Peculiarities(
        n_repeated=len(structures) - len(np.unique(structures.hashes)),
        n_odd=int((structures.has_odd_electrons & isolated).sum()),
        n_boxed=len(boxed),
        bond_ratio=_measure_bonds(structures.select(np.flatnonzero(isolated)[:LOOKED_AT])),
    )


def _measure_bonds(structures: StructureSet) -> float:
    """Return the median distance of nearest atoms in sums of their covalent radii."""
    from ase.data import covalent_radii

    ratios = [
        _nearest(part.positions, covalent_radii[part.numbers]) for part in structures if 1 < len(part) <= MOST_ATOMS
    ]
    return float(np.median(np.concatenate(ratios))) if ratios else float('nan')


def _nearest(positions: np.ndarray, radii: np.ndarray) -> np.ndarray:
    """Return the distance of each atom to the nearest one, in sums of covalent radii.

    :param positions: (n, 3) in Å.
    :param radii: (n,) in Å.
    """
    distances = np.linalg.norm(positions[:, None] - positions[None], axis=-1)
    np.fill_diagonal(distances, np.inf)
    return np.asarray((distances / (radii[:, None] + radii[None])).min(axis=1))
