"""Vacuum between the periodic images of a structure."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from aiida_nanoml.errors import StructureError
from aiida_nanoml.structures.structure_set import Structure, StructureSet

MINIMUM_VACUUM_ANG = 5.0
"""Images nearer than this (Å) interact: their orbitals and potentials overlap."""


def measure_vacuum(structure: Structure) -> NDArray[np.float64]:
    """Measure the distance between the images of a structure along each direction of its cell.

    It is measured across the faces of the cell.

    :returns: (3,) in Å; infinite without a cell.
    :raises StructureError: a cell without volume.
    """
    if not structure.cell.any():
        return np.full(3, np.inf)
    return gather_atoms(structure.positions, structure.cell)[0]


def gather_atoms(
    positions: NDArray[np.float64], cell: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Measure the widest empty slab along each direction, and put the atoms together on one side of it.

    :param positions: (n, 3) in Å.
    :param cell: (3, 3) lattice vectors as rows in Å.
    :returns: the widths of the slabs (3,) in Å, and the positions (n, 3) in Å.
    :raises StructureError: a cell without volume.
    """
    volume = abs(float(np.linalg.det(cell)))
    if volume < 1e-6:
        raise StructureError('the lattice vectors span no volume')
    fractions = positions @ np.linalg.inv(cell)
    heights = volume / np.linalg.norm(np.cross(np.roll(cell, -1, axis=0), np.roll(cell, -2, axis=0)), axis=1)
    vacuum = np.empty(3)
    for axis in range(3):
        wrapped = fractions[:, axis] - np.floor(fractions[:, axis])
        ordered = np.sort(wrapped)
        gaps = np.diff(ordered, append=ordered[0] + 1.0)
        extent = float(np.ptp(fractions[:, axis]))
        if 1.0 - extent >= gaps.max() - 1e-9:  # nothing is cut
            vacuum[axis] = (1.0 - extent) * heights[axis]
            continue
        widest = int(np.argmax(gaps))
        vacuum[axis] = gaps[widest] * heights[axis]
        first = ordered[(widest + 1) % len(ordered)]
        fractions[:, axis] = np.where(wrapped < first - 1e-12, wrapped + 1.0, wrapped)
    return vacuum, np.asarray(fractions @ cell, dtype=np.float64)


def isolate(structures: StructureSet) -> StructureSet:
    """Take periodic structures for what they are in a box: isolated.

    Codes that know periodic structures only put a molecule into a box. Atoms that the faces of the box divide are put
    together; the box itself is kept, and does not count.

    :returns: the same structures, none of them periodic.
    :raises StructureError: the images of a structure are nearer than :data:`MINIMUM_VACUUM_ANG` along a vector.
    """
    parts = []
    for row, part in enumerate(structures):
        if not part.pbc.any():
            parts.append(part)
            continue
        vacuum, whole = gather_atoms(part.positions, part.cell)
        narrow = np.flatnonzero(part.pbc & (vacuum < MINIMUM_VACUUM_ANG))
        if len(narrow):
            raise StructureError(
                f'structure {row} ({structures.names[row]}) is no isolated one in a box: its images are '
                f'{vacuum[narrow[0]]:.2f} Å apart along vector {narrow[0] + 1}, less than {MINIMUM_VACUUM_ANG:g} Å'
            )
        parts.append(Structure(part.numbers, whole, part.cell))
    return StructureSet.from_structures(parts, structures.names, structures.families)
