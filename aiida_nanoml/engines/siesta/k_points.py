"""Meshes of k-points that the parameters of a label ask for."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aiida_nanoml.engines import k_points
from aiida_nanoml.engines.siesta.parameters import SiestaParameters
from aiida_nanoml.errors import EngineError
from aiida_nanoml.structures import Structure

MOST_POINTS = 10_000
"""Meshes with more points along a vector are a mistake."""

_PRINTED_MESH = re.compile(
    r'^siesta: k-(?:grid|point): ?Supercell and displacements *\n((?:siesta: k-grid: +(?:-?\d+ +){3}\S+ *\n){3})'
    r'|^siesta: k-point supercell and displacements *\n((?:siesta: k-grid: +(?:-?\d+ +){3}\S+ *\n){3})',
    re.MULTILINE,
)
_PRINTED_POINTS = re.compile(r'^siesta: k-grid: Number of k-points *= *(\d+)', re.MULTILINE)


@dataclass(frozen=True)
class KMesh:
    """A mesh of k-points.

    :param supercell: lattice vectors, as rows, of the cell of real space that the mesh stands for, in those of the
        structure; diagonal for the usual mesh.
    :param shift: displacement along each vector of the mesh, in units of its step.
    """

    supercell: tuple[tuple[int, int, int], ...]
    shift: tuple[float, float, float]

    @classmethod
    def from_rows(cls, rows: NDArray[np.float64]) -> KMesh:
        """Make a mesh of rows (3, 4): the integers of a vector, and its displacement.

        Vectors in another order, or of the other sign, make the same mesh, and are put in order.
        """
        numbers, shift = rows[:, :3], np.fmod(rows[:, 3], 1.0)
        if (np.count_nonzero(numbers, axis=0) == 1).all() and (np.count_nonzero(numbers, axis=1) == 1).all():
            order = np.argsort(np.argmax(np.abs(numbers), axis=1))
            signs = np.sign(numbers.sum(axis=1))[order]
            numbers = np.abs(numbers[order])
            shift = shift[order] * np.where(shift[order] == 0, 1.0, signs)
        integers = tuple(tuple(int(value) for value in row) for row in numbers)
        return cls(integers, tuple(float(step) for step in shift))  # type: ignore[arg-type]

    @property
    def divisions(self) -> list[int] | None:
        """Points along each direction; None for a mesh that is not diagonal."""
        matrix = np.array(self.supercell)
        return np.diag(matrix).tolist() if not np.any(matrix - np.diag(np.diag(matrix))) else None

    @property
    def is_gamma(self) -> bool:
        """Whether the mesh is the Gamma point alone."""
        return self.divisions == [1, 1, 1] and not any(self.shift)

    def sampled(self) -> NDArray[np.bool_]:
        """Return for each direction whether the points differ along it, or are displaced, (3,)."""
        inverse = np.linalg.inv(np.array(self.supercell, dtype=np.float64))
        steps = np.abs(inverse - np.round(inverse)).max(axis=1) > 1e-9
        displacement = inverse @ np.array(self.shift)
        return np.asarray(steps | (np.abs(displacement - np.round(displacement)) > 1e-9))


def read_printed_mesh(output: str) -> KMesh | None:
    """Read the mesh that a run used from its output; None if the output does not give it."""
    if found := _PRINTED_MESH.search(output):
        rows = [line.split()[2:] for line in (found[1] or found[2]).splitlines()]
        try:
            numbers = np.array(rows, dtype=np.float64)
        except ValueError:
            return None
        # With a singular matrix, the line is damaged: the k-points of the other files decide.
        sound = np.abs(numbers).max() < MOST_POINTS and abs(np.linalg.det(numbers[:, :3])) > 0.5
        return KMesh.from_rows(numbers) if sound else None
    points = _PRINTED_POINTS.search(output)
    return KMesh.from_rows(np.eye(3, 4)) if points and points[1] == '1' else None


def mesh_of_cutoff(cutoff_ang: float, cell: NDArray[np.float64]) -> KMesh:
    """Return the mesh that SIESTA makes of a ``kgrid.Cutoff``.

    Along each of the shortest vectors of the lattice it takes floor(2 cutoff / length) + 1 points, displaced by half a
    step where their number is even. A cutoff that is not positive asks for the Gamma point.

    Source: J. Moreno, J. M. Soler, Phys. Rev. B 45, 13891 (1992); ``Src/kpoint_t.F90`` of SIESTA.

    :param cutoff_ang: in Å.
    :param cell: (3, 3) lattice vectors as rows in Å.
    :raises EngineError: it would have more than :data:`MOST_POINTS` along a vector.
    """
    if cutoff_ang <= 0:
        return KMesh.from_rows(np.eye(3, 4))
    transformation = _shortest_vectors(cell)
    lengths = np.linalg.norm(transformation @ cell, axis=1)
    if not (2 * cutoff_ang < MOST_POINTS * lengths).all():
        raise EngineError(f'kgrid.Cutoff asks for more than {MOST_POINTS} points along a lattice vector')
    points = np.floor(2 * cutoff_ang / lengths) + 1
    if (points == 1).all():
        return KMesh.from_rows(np.eye(3, 4))
    shift = np.where(points % 2 == 0, 0.5, 0.0)
    return KMesh.from_rows(np.column_stack([points[:, None] * transformation, shift]))


def _shortest_vectors(cell: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the integers (3, 3) that make the shortest vectors of a lattice of its vectors."""
    integers = np.eye(3)
    steps = np.array([(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1)], dtype=np.float64)
    for _ in range(1000):
        order = np.argsort(np.linalg.norm(integers @ cell, axis=1), kind='stable')
        integers = integers[order]
        for axis in (2, 1, 0):
            others = [other for other in range(3) if other != axis]
            candidates = integers[axis] + steps @ integers[others]
            lengths = np.linalg.norm(candidates @ cell, axis=1)
            best = int(np.argmin(lengths))
            if lengths[best] < np.linalg.norm(integers[axis] @ cell) - 1e-8:
                integers[axis] = candidates[best]
                break
        else:
            return np.asarray(integers * (1.0 if np.linalg.det(integers) > 0 else -1.0))
    raise EngineError('the lattice vectors cannot be reduced')


def monkhorst_pack_mesh(parameters: SiestaParameters, structure: Structure) -> tuple[list[int], list[float]] | None:
    """Return the diagonal Monkhorst-Pack mesh of a structure; its open directions get one point.

    :param structure: cell in Å.
    :returns: divisions and displacements along each vector; None for the Gamma point alone.
    :raises EngineError: the parameters ask for a mesh that is not diagonal.
    """
    if parameters.k_supercell is not None:
        raise EngineError('k_supercell is a mesh that is not diagonal: AiiDA has no node for it, label in batches')
    return k_points.monkhorst_pack_mesh(
        structure,
        grid=parameters.k_grid,
        length_ang=parameters.k_length_ang,
        density=parameters.k_density,
        shift=parameters.k_shift,
    )
