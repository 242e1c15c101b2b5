"""Free-atom densities on the common mesh, as a density network reads them."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from aiida_nanoml.densities.density import Values
from aiida_nanoml.densities.free_atoms import FreeAtoms
from aiida_nanoml.densities.resampling import mesh_of_spacing
from aiida_nanoml.errors import DensityError
from aiida_nanoml.learning.density.architecture import Architecture, DensitySettings, Singles
from aiida_nanoml.learning.density.symmetry import Integers
from aiida_nanoml.structures import Structure

MOST_OBLIQUE = 1e-4
"""Cosine of the angle between lattice vectors up to which they are perpendicular."""


class MeshView:
    """Free-atom density of one structure, as a network reads it.

    :param free: (n1, n2, n3) in electrons/Å³ on the common mesh.
    :param architecture: says which scales there are, and where they are read.
    """

    def __init__(self, free: Values, architecture: Architecture) -> None:
        settings = architecture.settings
        self.free = free
        self.occupied: Integers = np.flatnonzero(free.ravel() > settings.floor)
        """Flat indices of the points whose difference is predicted."""
        self._scales = []
        for smoothed, offsets in zip(_smoothed(free, settings.smoothing), architecture.offsets, strict=True):
            reach = np.abs(offsets).max(axis=0)
            padded = np.pad(np.sqrt(np.maximum(smoothed, 0.0)), [(n, n) for n in reach.tolist()], mode='wrap')
            strides = np.array([padded.shape[1] * padded.shape[2], padded.shape[2], 1])
            self._scales.append((padded.ravel(), strides, (offsets + reach) @ strides))

    def read(self, places: Integers) -> Singles:
        """Read the scales around some points.

        :param places: (p,) flat indices.
        :returns: (k, p), one row for each value that is read.
        """
        points = np.stack(np.unravel_index(places, self.free.shape), axis=1)
        found = np.empty((sum(len(steps) for *_, steps in self._scales), len(places)), dtype=np.float32)
        row = 0
        for values, strides, steps in self._scales:
            start = points @ strides
            for step in steps.tolist():
                # clip saves take a buffer; all indices are inside
                values[step:].take(start, out=found[row], mode='clip')
                row += 1
        return found


def view_structure(structure: Structure, free_atoms: FreeAtoms, architecture: Architecture) -> MeshView:
    """Put the free atoms of a structure on the common mesh.

    :raises DensityError: an element was not learnt, or the box does not fit the common mesh.
    """
    check_box(structure, architecture.settings)
    shape = mesh_of_spacing(structure.cell, architecture.settings.spacing_ang)
    return MeshView(free_atoms.superpose(structure, shape), architecture)


def check_box(structure: Structure, settings: DensitySettings) -> None:
    """Check that the mesh of a box has the symmetry of a network.

    :raises DensityError: two lattice vectors are not perpendicular.
    """
    if settings.group == 'none':
        return
    lengths = np.linalg.norm(structure.cell, axis=1)
    if not lengths.all():
        raise DensityError('the structure has no cell: put it into a box first')
    unit = structure.cell / lengths[:, None]
    cosine = float(np.abs(unit @ unit.T - np.eye(3)).max())
    if cosine > MOST_OBLIQUE:
        raise DensityError(
            f'the lattice vectors of the box are not perpendicular (cosine {cosine:.3g}): its mesh does not have the '
            f'symmetry {settings.group}; take a rectangular box, or a network with the group none'
        )


def _smoothed(values: Values, widths: Iterable[float]) -> Iterable[Values]:
    """Convolve periodic values with Gaussians; widths in mesh points."""
    from scipy.ndimage import gaussian_filter

    # Not by waves: their rounding is noise in empty places, of which the square root makes much.
    for width in widths:
        smoothed: Values = gaussian_filter(values, width, mode='wrap') if width else values
        yield smoothed
