"""The valence density of one structure on the mesh of its box."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from aiida_nanoml.errors import DensityError
from aiida_nanoml.structures import Structure

Values = NDArray[np.float32]

MOST_POINTS = 2**31
"""Meshes with more points than this are a mistake of reading."""


@dataclass(frozen=True, eq=False)
class Density:
    """Self-consistent and free-atom density of the valence electrons of one structure, both spins together.

    Value ``[i, j, k]`` is that at ``i/n1 a1 + j/n2 a2 + k/n3 a3``, with the lattice vectors of the structure:
    a mesh is periodic, whether the structure is or not.

    :param structure: the structure, in a box; positions in Å, counted from the corner of the box.
    :param free: (n1, n2, n3) superposition of the densities of free atoms, in electrons/Å³.
    :param difference: (n1, n2, n3) self-consistent density minus free-atom density, in electrons/Å³.
    :raises DensityError: the structure has no box, the meshes differ, or a value is not finite.
    """

    structure: Structure
    free: Values
    difference: Values

    def __post_init__(self) -> None:
        for name in ('free', 'difference'):
            values = np.asarray(getattr(self, name), dtype=np.float32)
            if values.ndim != 3 or not 0 < values.size <= MOST_POINTS:
                raise DensityError(f'`{name}` has the shape {values.shape}, a mesh has three dimensions')
            if not np.isfinite(values).all():
                raise DensityError(f'`{name}` has {np.count_nonzero(~np.isfinite(values))} values that are not finite')
            object.__setattr__(self, name, values)
        if self.free.shape != self.difference.shape:
            raise DensityError(
                f'the free-atom density has the mesh {self.free.shape}, the other {self.difference.shape}'
            )
        if not abs(np.linalg.det(self.structure.cell)) > 0:
            raise DensityError('the structure has no box: a mesh needs three lattice vectors')

    @property
    def shape(self) -> tuple[int, int, int]:
        """Points along each lattice vector."""
        n1, n2, n3 = self.free.shape
        return n1, n2, n3

    @property
    def total(self) -> Values:
        """(n1, n2, n3) self-consistent density, in electrons/Å³."""
        return self.free + self.difference

    @property
    def spacing(self) -> NDArray[np.float64]:
        """(3,) distance between neighbouring points along each lattice vector, in Å."""
        return mesh_spacing(self.structure.cell, self.shape)

    @property
    def volume_element(self) -> float:
        """Volume of a point, in Å³."""
        return float(abs(np.linalg.det(self.structure.cell)) / self.free.size)

    def charge(self, values: ArrayLike) -> float:
        """Integrate a density over the box.

        :param values: (n1, n2, n3) in electrons/Å³.
        :returns: electrons.
        """
        return float(np.sum(values, dtype=np.float64) * self.volume_element)

    def nmae(self, difference: ArrayLike) -> float:
        """Judge a prediction by its normalised mean absolute error, ``∫ |ρ_pred - ρ| / ∫ ρ``.

        :param difference: (n1, n2, n3) predicted difference to the free-atom density, in electrons/Å³; 0 judges the
            free-atom density itself.
        """
        error = np.abs(np.asarray(difference, dtype=np.float32) - self.difference)
        return float(np.sum(error, dtype=np.float64) / np.sum(self.total, dtype=np.float64))


def mesh_spacing(cell: ArrayLike, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Return the distance between neighbouring points of a mesh along each lattice vector, in Å.

    :param cell: (3, 3) lattice vectors as rows in Å.
    :param shape: points along each of them.
    """
    spacing: NDArray[np.float64] = np.linalg.norm(np.asarray(cell, dtype=np.float64), axis=1) / shape
    return spacing


def write_density(file: Path | IO[bytes], density: Density) -> None:
    """Write the two meshes of a density as NPZ; the structure is stored elsewhere."""
    np.savez_compressed(file, free=density.free, difference=density.difference)


def read_density(file: Path | IO[bytes], structure: Structure) -> Density:
    """Read what :func:`write_density` wrote.

    :param structure: the structure of the density.
    :raises DensityError: the file is missing, damaged, or does not hold the two meshes.
    """
    try:
        with np.load(file, allow_pickle=False) as archive:
            arrays: Mapping[str, Any] = {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DensityError(f'{file} holds no density that can be read: {error}') from error
    missing = {'free', 'difference'} - set(arrays)
    if missing:
        raise DensityError(f'{file} holds no {" and no ".join(sorted(missing))} density')
    return Density(structure, arrays['free'], arrays['difference'])
