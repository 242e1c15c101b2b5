"""Densities of free atoms, found in superpositions of them, and superposed for other structures.

Codes that superpose spherical atoms write the sum only. It is linear in the radial densities of the elements, and a
mesh has far more points than those have degrees of freedom: least squares give them back, and with them the
superposition for any structure of the same elements on any mesh, without running a code.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from aiida_nanoml.densities.density import Density, Values
from aiida_nanoml.errors import DensityError
from aiida_nanoml.structures import Structure
from aiida_nanoml.structures.elements import ATOMIC_NUMBERS, SYMBOLS

Floats = NDArray[np.float64]

RANGE_ANG = 4.5
"""Atoms farther than this (Å) from a point are not looked for: confined orbitals end before."""

KNOT_ANG = 0.06
"""Distance of the knots of the splines (Å)."""

POINTS = 20_000
"""Mesh points of one density that enter a fit."""

LARGEST_RESIDUAL = 0.05
"""Share of the charge that a fit may leave out: beyond, the density is no superposition of spherical atoms."""

NOTHING = 1e-6
"""Densities up to this (electrons/Å³) are none: confined orbitals end, where splines only get small."""

_STEP_ANG = 0.002
_DEGREE = 3
_SMOOTHNESS = 1e-8


@dataclass(frozen=True, eq=False)
class FreeAtoms:
    """Radial valence densities of free atoms, as cubic splines that end at :data:`RANGE_ANG`.

    :param coefficients: (b,) of the B-splines of each element by chemical symbol, in electrons/Å³.
    :param residual: share of the charge that they leave out where they were fitted.
    """

    coefficients: Mapping[str, Floats]
    residual: float

    @classmethod
    def fit(cls, densities: Iterable[Density], seed: int = 0) -> FreeAtoms:
        """Find the radial densities of which superpositions consist, by linear least squares over some of their points.

        :param densities: taken one by one; only ``free`` is looked at.
        :param seed: of the points that are taken.
        :raises DensityError: there are none, or they are no superposition of spherical atoms.
        """
        generator = np.random.Generator(np.random.PCG64(seed))
        normal: dict[tuple[str, str], Floats] = {}
        right: dict[str, Floats] = {}
        kept = []
        for density in densities:
            places, values = _some_points(density, generator)
            blocks = _design(density.structure, places)
            design = np.concatenate(list(blocks.values()), axis=1)
            products = np.split(design.T @ design, len(blocks))
            for one, rows, value in zip(blocks, products, np.split(design.T @ values, len(blocks)), strict=True):
                right[one] = right.get(one, 0.0) + value
                for other, product in zip(blocks, np.split(rows, len(blocks), axis=1), strict=True):
                    normal[one, other] = normal.get((one, other), 0.0) + product
            kept.append((blocks, values))
        if not kept:
            raise DensityError('there are no densities to find those of free atoms in')
        elements = sorted(right)
        n = len(_knots()) - _DEGREE - 1
        zero = np.zeros((n, n))
        matrix = np.block([[normal.get((one, other), zero) for other in elements] for one in elements])
        # Where no point is, as at the very nuclei, the second differences of the coefficients decide.
        bends = np.diff(np.eye(n), 2, axis=0)
        scale = np.trace(matrix) / len(matrix)
        matrix += _SMOOTHNESS * scale * (np.kron(np.eye(len(elements)), bends.T @ bends) + 1e-4 * np.eye(len(matrix)))
        solved = np.linalg.solve(matrix, np.concatenate([right[element] for element in elements]))
        coefficients = dict(zip(elements, solved.reshape(len(elements), n), strict=True))
        errors = [
            np.abs(sum(block @ coefficients[element] for element, block in blocks.items()) - values).sum()
            for blocks, values in kept
        ]
        residual = float(np.sum(errors) / np.sum([values.sum() for _, values in kept]))
        if not residual <= LARGEST_RESIDUAL:
            raise DensityError(
                f'a superposition of spherical atoms leaves {residual:.1%} of the free-atom densities unexplained: '
                'they are something else, or belong to several engines or protocols'
            )
        return cls(coefficients, residual)

    @property
    def elements(self) -> tuple[str, ...]:
        """Chemical symbols, sorted."""
        return tuple(sorted(self.coefficients))

    @property
    def electrons(self) -> dict[str, float]:
        """Integral of each atom."""
        radii = np.linspace(0.0, RANGE_ANG, 4001)
        return {
            element: float(4 * np.pi * np.trapezoid(radii**2 * self.radial(element, radii), radii))
            for element in self.elements
        }

    def radial(self, element: str, radii: ArrayLike) -> Floats:
        """Evaluate the density of an atom.

        :param radii: distances from the nucleus in Å, any shape.
        :returns: electrons/Å³, of the same shape.
        :raises DensityError: there is no such element.
        """
        from scipy.interpolate import BSpline

        if element not in self.coefficients:
            raise DensityError(f'there is no free atom of {element}: only of {", ".join(self.elements)}')
        spline = BSpline(_knots(), self.coefficients[element], _DEGREE, extrapolate=False)
        values: Floats = np.nan_to_num(spline(np.asarray(radii, dtype=np.float64)), nan=0.0)
        return np.where(values > NOTHING, values, 0.0)

    def superpose(self, structure: Structure, shape: tuple[int, int, int]) -> Values:
        """Superpose the free atoms of a structure on a mesh of its box.

        :param structure: in a box; its periodic images count, as on every mesh.
        :param shape: points along each lattice vector.
        :returns: (n1, n2, n3) in electrons/Å³.
        :raises DensityError: an element is unknown, or the box is flat.
        """
        table_radii = np.arange(0.0, RANGE_ANG + _STEP_ANG, _STEP_ANG)
        tables = {symbol: self.radial(symbol, table_radii) for symbol in sorted(set(structure.symbols))}
        reaches = {
            symbol: _STEP_ANG * (1 + np.flatnonzero(table > 0).max(initial=0)) for symbol, table in tables.items()
        }
        steps = structure.cell / np.array(shape)[:, None]
        try:
            inverse = np.linalg.inv(steps)
        except np.linalg.LinAlgError as error:
            raise DensityError('the structure has no box: a mesh needs three lattice vectors') from error
        # Planes of constant index are this far apart.
        heights = 1 / np.linalg.norm(inverse, axis=0)
        found = np.zeros(int(np.prod(shape)))
        for symbol, position in zip(structure.symbols, structure.positions, strict=True):
            centre = position @ inverse
            halves = np.ceil(reaches[symbol] / heights)
            axes = [
                np.arange(low, high) for low, high in zip(np.floor(centre - halves), centre + halves + 1, strict=True)
            ]
            x, y, z = (np.multiply.outer(axis - c, step) for axis, c, step in zip(axes, centre, steps, strict=True))
            vectors = x[:, None, None] + y[None, :, None] + z[None, None, :]
            distances = np.sqrt(np.einsum('ijkx,ijkx->ijk', vectors, vectors)).ravel()
            near = np.flatnonzero(distances < reaches[symbol])
            i, j, k = (axis.astype(np.int64) % n for axis, n in zip(axes, shape, strict=True))
            places = ((i[:, None, None] * shape[1] + j[None, :, None]) * shape[2] + k).ravel()
            np.add.at(found, places[near], np.interp(distances[near], table_radii, tables[symbol]))
        superposed: Values = found.reshape(shape).astype(np.float32)
        return superposed

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Return flat arrays that can be written to a file."""
        rows = np.array([self.coefficients[element] for element in self.elements])
        numbers = np.array([ATOMIC_NUMBERS[element] for element in self.elements], dtype=np.uint8)
        return {'numbers': numbers, 'coefficients': rows, 'residual': np.array(self.residual)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Any]) -> FreeAtoms:
        """Read what :meth:`to_arrays` gave.

        :raises DensityError: an array is missing or malformed.
        """
        try:
            numbers, rows = np.asarray(arrays['numbers']), np.asarray(arrays['coefficients'], dtype=np.float64)
            symbols = [SYMBOLS[number] for number in numbers.tolist()]
            residual = float(arrays['residual'])
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise DensityError(f'densities of free atoms cannot be read: {error}') from error
        if rows.shape != (len(symbols), len(_knots()) - _DEGREE - 1) or not np.isfinite(rows).all():
            raise DensityError(
                f'densities of free atoms cannot be read: {rows.shape} numbers for {len(symbols)} elements'
            )
        return cls(dict(zip(symbols, rows, strict=True)), residual)


def _knots() -> Floats:
    inner = np.arange(0.0, RANGE_ANG + KNOT_ANG / 2, KNOT_ANG)
    return np.concatenate([np.full(_DEGREE, inner[0]), inner, np.full(_DEGREE, inner[-1])])


def _some_points(density: Density, generator: np.random.Generator) -> tuple[Floats, Floats]:
    """Places (p, 3) in Å, where there is density, and the free-atom density (p,) there."""
    occupied = np.flatnonzero(np.abs(density.free) > NOTHING)
    if not len(occupied):
        raise DensityError('a free-atom density is zero everywhere')
    chosen = np.sort(generator.choice(occupied, min(POINTS, len(occupied)), replace=False))
    fractions = np.stack(np.unravel_index(chosen, density.shape), axis=1) / np.array(density.shape)
    return fractions @ density.structure.cell, density.free.ravel()[chosen].astype(np.float64)


def _design(structure: Structure, places: Floats) -> dict[str, Floats]:
    """Sum of the B-splines of all atoms of an element at some places, (p, b) for each element."""
    from scipy.interpolate import BSpline
    from scipy.sparse import coo_array
    from scipy.spatial import cKDTree

    numbers, positions = _with_images(structure)
    pairs = cKDTree(places).sparse_distance_matrix(cKDTree(positions), RANGE_ANG * (1 - 1e-9), output_type='coo_matrix')
    # A place at a nucleus is treated like one at a small distance from it.
    distances = np.maximum(pairs.data, 0.0)
    blocks = {}
    for number in sorted(set(structure.numbers.tolist())):
        chosen = numbers[pairs.col] == number
        basis = BSpline.design_matrix(distances[chosen], _knots(), _DEGREE)
        rows = pairs.row[chosen]
        sums = coo_array((np.ones(len(rows)), (rows, np.arange(len(rows)))), shape=(len(places), len(rows)))
        blocks[SYMBOLS[number]] = (sums.tocsr() @ basis).toarray()
    return blocks


def _with_images(structure: Structure) -> tuple[NDArray[np.uint8], Floats]:
    """Atoms of the box and of those around it that come near it."""
    heights = 1 / np.linalg.norm(np.linalg.inv(structure.cell), axis=0)
    reach = np.ceil(RANGE_ANG / heights).astype(int)
    ranges = [np.arange(-n - 1, n + 2) for n in reach]
    cells = np.stack(np.meshgrid(*ranges, indexing='ij'), axis=-1).reshape(-1, 3)
    positions = (structure.positions[None] + (cells @ structure.cell)[:, None]).reshape(-1, 3)
    numbers = np.tile(structure.numbers, len(cells))
    fractions = positions @ np.linalg.inv(structure.cell)
    margin = RANGE_ANG / heights
    near = ((fractions > -margin) & (fractions < 1 + margin)).all(axis=1)
    return numbers[near], positions[near]
