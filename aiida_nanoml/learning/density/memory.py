"""Estimates of the memory that density networks need, from their settings and meshes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import ArrayLike

from aiida_nanoml.densities.resampling import mesh_of_spacing
from aiida_nanoml.learning.density.architecture import Architecture, DensitySettings
from aiida_nanoml.learning.density.network import SLAB
from aiida_nanoml.learning.density.training import CACHED_POINTS

LIBRARIES_MB = 700.0
"""Resident memory of a worker that has imported TensorFlow, before it reads anything."""

_SINGLE, _DOUBLE = 4, 8


def training_memory_mb(
    settings: DensitySettings, cells: Sequence[ArrayLike], shapes: Sequence[tuple[int, int, int]]
) -> float:
    """Return the largest memory of a training, in MB.

    :param settings: of the network.
    :param cells: (3, 3) lattice vectors in Å of each density to learn from or to watch.
    :param shapes: mesh points of each density along its vectors.
    :raises DensityError: a box does not fit to the common mesh.
    """
    architecture = Architecture(settings)
    common = [_n_points(mesh_of_spacing(cell, settings.spacing_ang)) for cell in cells]
    kept = max(*common, min(sum(common), CACHED_POINTS)) * (_view_bytes(settings) + _SINGLE)
    read, inputs = architecture.sampling.shape
    # Values around the drawn points exist in parts, joined and in their order; inputs as they are and centred.
    drawn = settings.points_per_epoch * (3 * read * _SINGLE + 2 * inputs * _DOUBLE)
    largest = max(map(_n_points, shapes)) * 4 * _SINGLE
    return float(LIBRARIES_MB + (kept + drawn + largest) / 1e6)


def prediction_memory_mb(settings: DensitySettings, cells: Iterable[ArrayLike], spacing: float, threads: int) -> float:
    """Return the largest memory of predictions, which are made one after another, in MB.

    :param settings: of the network.
    :param cells: (3, 3) lattice vectors in Å of each box.
    :param spacing: of the mesh of the answer, in Å.
    :param threads: slabs of the mesh that are predicted at the same time.
    :raises DensityError: a box does not fit to a mesh.
    """
    architecture = Architecture(settings)
    read, inputs = architecture.sampling.shape
    largest = 0.0
    for cell in cells:
        common = _n_points(mesh_of_spacing(cell, settings.spacing_ang))
        answer = _n_points(mesh_of_spacing(cell, spacing))
        largest = max(largest, common * (_view_bytes(settings) + 2 * _SINGLE) + answer * 8 * _SINGLE)
    return float(LIBRARIES_MB + (largest + threads * SLAB * (read + 2 * inputs) * _SINGLE) / 1e6)


def _view_bytes(settings: DensitySettings) -> int:
    """Return the bytes of a mesh point in what a network sees: the density, its place, and the scales."""
    return _SINGLE + _DOUBLE + len(settings.radii) * _SINGLE


def _n_points(shape: Sequence[int]) -> int:
    return int(np.prod(shape, dtype=np.int64))
