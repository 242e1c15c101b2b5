"""Meshes of k-points that parameters ask for."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from aiida_nanoml.structures import Structure


def monkhorst_pack_mesh(
    structure: Structure,
    *,
    grid: Sequence[int] | None,
    length_ang: float | None,
    density: float | None,
    shift: Sequence[float],
) -> tuple[list[int], list[float]] | None:
    """Return the diagonal Monkhorst-Pack mesh of a structure; its open directions get one point.

    With ``density`` each of the d periodic directions gets round(c / length) points, at least one, where c to the
    power of d is ``density`` / (number of atoms) times the product of the d lengths. All scalings of one cell have
    the same mesh.

    Source: H. J. Monkhorst, J. D. Pack, Phys. Rev. B 13, 5188 (1976).

    :param structure: cell in Å.
    :param grid: divisions along each vector.
    :param length_ang: round(length / lattice vector) divisions, at least one, in place of a grid.
    :param density: k-points times atoms, in place of both.
    :param shift: displacement of the mesh in units of its step; of one that is no grid, where there is more than one
        point.
    :returns: divisions and displacements along each vector; None for the Gamma point alone.
    """
    pbc = structure.pbc.tolist()
    lengths = np.linalg.norm(structure.cell, axis=1)
    if grid is not None:
        wanted = list(grid)
    elif length_ang is not None:
        wanted = _count_divisions(length_ang, lengths, pbc)
    elif density is not None and structure.pbc.any():
        repeated = lengths[structure.pbc]
        points = density / len(structure.numbers)
        wanted = _count_divisions((points * float(repeated.prod())) ** (1 / len(repeated)), lengths, pbc)
    else:
        return None
    # A single displaced point would be at the edge of the zone: worse than Gamma.
    steps = [step if n > 1 or grid is not None else 0.0 for n, step in zip(wanted, shift, strict=True)]
    mesh = [n if repeats else 1 for n, repeats in zip(wanted, pbc, strict=True)]
    steps = [step if repeats else 0.0 for step, repeats in zip(steps, pbc, strict=True)]
    return None if mesh == [1, 1, 1] and not any(steps) else (mesh, steps)


def _count_divisions(length: float, lengths: NDArray[np.float64], pbc: Sequence[bool]) -> list[int]:
    # Noise in the lengths must not decide where the quotient lies halfway.
    return [
        max(1, math.floor(round(length / own, 6) + 0.5)) if repeats else 1
        for own, repeats in zip(lengths.tolist(), pbc, strict=True)
    ]
