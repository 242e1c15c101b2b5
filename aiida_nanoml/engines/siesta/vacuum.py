"""Vacuum between the periodic images of a structure."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from aiida_nanoml.errors import StructureError
from aiida_nanoml.structures import Structure


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
