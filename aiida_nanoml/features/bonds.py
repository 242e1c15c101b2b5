"""Bonds of isolated flakes of H, B, C and N, from which every descriptor of their atoms starts."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from aiida_nanoml.errors import DescriptorError
from aiida_nanoml.structures.elements import SYMBOLS
from aiida_nanoml.structures.neighbours import near_pairs
from aiida_nanoml.structures.structure_set import StructureSet

ELEMENTS = ('H', 'B', 'C', 'N')
"""Elements of the descriptors of flakes, in the order of their fractions; an index into it is a species."""

HYDROGEN, BORON, CARBON, NITROGEN = range(len(ELEMENTS))
"""Their species."""

HEAVY_BOND = 1.9
"""Heavy atoms nearer than this (Å) are bonded: between a stretched B-N bond and second neighbours at 2.5 Å."""

HYDROGEN_BOND = 1.5
"""Hydrogen nearer than this (Å) to a heavy atom is bonded: between B-H, 1.2 Å, and second neighbours at 2.1 Å."""

_SPECIES = np.full(256, -1, dtype=np.int64)
_SPECIES[[SYMBOLS.index(element) for element in ELEMENTS]] = np.arange(len(ELEMENTS))


class Bonds(NamedTuple):
    """Every bond of a set of structures, from both of its ends.

    :param species: (A,) index of each atom into :data:`ELEMENTS`.
    :param ends: (2P,) one atom of each bond.
    :param others: (2P,) the other atom; bond ``b`` and bond ``b + P`` are the same one.
    """

    species: NDArray[np.int64]
    ends: NDArray[np.int64]
    others: NDArray[np.int64]


def bonds_of(structures: StructureSet, descriptor: str) -> Bonds:
    """Find the bonds of all structures; hydrogen atoms are not bonded to each other.

    :param descriptor: what is described, for messages, for example ``'quadruplets'``.
    :raises DescriptorError: if this is not a set of isolated structures of H, B, C and N.
    """
    if not isinstance(structures, StructureSet):
        raise DescriptorError(f'{descriptor} describe a StructureSet, not {type(structures).__name__}')
    periodic = np.flatnonzero(structures.pbc.any(axis=1))
    if len(periodic):
        raise DescriptorError(
            f'structure {periodic[0]} is periodic; {descriptor} describe isolated flakes only: a flake in '
            'a box is imported with structures import --isolated'
        )
    species = _SPECIES[structures.numbers]
    strange = np.flatnonzero(species < 0)
    if len(strange):
        raise DescriptorError(
            f'{place(structures, int(strange[0]))}: {descriptor} know the elements {", ".join(ELEMENTS)} only'
        )
    left, right, distances = near_pairs(structures.positions, structures.offsets, HEAVY_BOND)
    hydrogen = species == HYDROGEN
    n_hydrogen = hydrogen[left].astype(np.int8) + hydrogen[right]
    bonded = np.flatnonzero((n_hydrogen == 0) | ((n_hydrogen == 1) & (distances < HYDROGEN_BOND)))
    left, right = left[bonded], right[bonded]
    return Bonds(species, np.concatenate([left, right]), np.concatenate([right, left]))


def connected_parts(size: int, left: NDArray[np.int64], right: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the number of the connected part of each of ``size`` atoms (size,).

    :param left: (P,) one atom of each bond.
    :param right: (P,) the other one.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    bonds = coo_array((np.ones(len(left)), (left, right)), shape=(size, size))
    return np.asarray(connected_components(bonds, directed=False)[1], dtype=np.int64)


def fractions(structures: StructureSet) -> NDArray[np.float64]:
    """Return the share of each of :data:`ELEMENTS` among all atoms of each structure (n, 4)."""
    n, size = len(structures), len(ELEMENTS)
    amounts = np.bincount(structures.rows * size + _SPECIES[structures.numbers], minlength=n * size).reshape(n, size)
    shares: NDArray[np.float64] = amounts / structures.counts[:, None]
    return shares


def place(structures: StructureSet, atom: int) -> str:
    """Describe where an atom of the flat arrays is: row and name of its structure, its index there, its element."""
    row = int(structures.rows[atom])
    name = f' ({structures.names[row]})' if structures.names[row] else ''
    symbol = SYMBOLS[structures.numbers[atom]]
    return f'structure {row}{name}: atom {atom - structures.offsets[row]} ({symbol})'
