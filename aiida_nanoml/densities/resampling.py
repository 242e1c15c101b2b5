"""Densities on another mesh of the same box: one spacing for all, and the mesh that an engine takes."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from aiida_nanoml.densities.density import MOST_POINTS, Density, Values, mesh_spacing
from aiida_nanoml.errors import DensityError

SPACING_TOLERANCE = 0.03
"""Share by which a spacing may differ from the one asked for, as a whole number of points must fit into the box."""

CHARGE_TOLERANCE = 1e-5
"""Share of the charge that a change of the mesh may cost."""


def resample(density: Density, spacing: float) -> Density:
    """Put a density onto the mesh whose spacing is next to one asked for, along each lattice vector.

    The charge is kept. Onto a coarser mesh, what it cannot carry is lost: the density of a free atom gets slightly
    negative in places.

    :param density: the density.
    :param spacing: in Å.
    :raises DensityError: the spacing is not positive, or no whole number of points comes within
        :data:`SPACING_TOLERANCE` of it; or the charge is not kept.
    """
    shape = mesh_of_spacing(density.structure.cell, spacing)
    return Density(density.structure, resample_values(density.free, shape), resample_values(density.difference, shape))


def mesh_of_spacing(cell: ArrayLike, spacing: float) -> tuple[int, int, int]:
    """Count the points of the mesh whose spacing is next to one asked for.

    :param cell: (3, 3) lattice vectors as rows in Å.
    :param spacing: in Å.
    :returns: points along each lattice vector.
    :raises DensityError: the spacing is not positive, needs too many points, or no whole number of points comes within
        :data:`SPACING_TOLERANCE` of it.
    """
    if not 0 < spacing < math.inf:
        raise DensityError(f'the spacing of a mesh must be positive; got {spacing} Å')
    exact = mesh_spacing(cell, (1, 1, 1)) / spacing
    if not np.prod(exact) <= MOST_POINTS:
        raise DensityError(f'a spacing of {spacing:g} Å needs more than {MOST_POINTS} points in this box')
    shape = np.maximum(1, np.round(exact)).astype(np.int64)
    found = mesh_spacing(cell, tuple(shape))
    if (np.abs(found / spacing - 1) > SPACING_TOLERANCE).any():
        raise DensityError(
            f'no mesh of this box has a spacing within {SPACING_TOLERANCE:.0%} of {spacing:g} Å along each lattice '
            f'vector: the nearest are {", ".join(f"{one:.4g}" for one in found)} Å'
        )
    n1, n2, n3 = shape.tolist()
    return n1, n2, n3


def resample_values(values: Values, shape: tuple[int, int, int]) -> Values:
    """Evaluate periodic values on another mesh of the same box, by trigonometric interpolation.

    It is exact for what both meshes can carry, and keeps the mean. The highest wave of an even number of points is one
    half of each of its two directions.

    :param values: (n1, n2, n3).
    :param shape: points along each lattice vector of the mesh to make.
    :returns: values on that mesh.
    :raises DensityError: there is no such mesh, or the mean is not kept.
    """
    values = np.asarray(values, dtype=np.float32)
    if values.ndim != 3 or len(shape) != 3 or min(shape) < 1 or math.prod(shape) > MOST_POINTS:
        raise DensityError(f'values of the shape {values.shape} cannot be put onto a mesh of {shape} points')
    found = values
    # The axes that get shorter come first: there is less to do for the others.
    for axis in sorted(range(3), key=lambda axis: shape[axis] / values.shape[axis]):
        if shape[axis] != found.shape[axis]:
            found = _resample_axis(found, axis, shape[axis])
    before, after = (float(np.mean(one, dtype=np.float64)) for one in (values, found))
    scale = float(np.mean(np.abs(values), dtype=np.float64))
    if not abs(after - before) <= CHARGE_TOLERANCE * scale:
        raise DensityError(f'the mean changed from {before:g} to {after:g}: the charge was not kept')
    return found


def _resample_axis(values: Values, axis: int, n_new: int) -> Values:
    """Interpolate along one axis."""
    from scipy.fft import irfft, rfft

    n_old = values.shape[axis]
    waves: NDArray[np.complex64] = rfft(values, axis=axis, norm='forward')
    n_kept = min(n_old, n_new)
    place: list[slice] = [slice(None)] * 3
    place[axis] = slice(0, n_kept // 2 + 1)
    kept = waves[tuple(place)]
    if n_kept % 2 == 0:
        # Of real values, irfft takes the highest wave of an even number once, every other with its opposite.
        highest: list[slice] = [slice(None)] * 3
        highest[axis] = slice(n_kept // 2, None)
        kept[tuple(highest)] *= 0.5 if n_new > n_old else 2.0
    found: Values = irfft(kept, n=n_new, axis=axis, norm='forward')
    return found
