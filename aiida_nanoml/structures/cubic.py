"""Alloy cells of the cubic phases: their neighbour shells, recognition, lattice constants and names.

The row of a set is one cell at one lattice constant. Its ``family`` is the phase, its ``name`` the alloy. Rows that
differ by their elements, their scale or the order of their atoms only have one geometry, and neighbours are searched
once for each geometry: 42,000 cells of a scan take as long as a few.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from aiida_nanoml.errors import StructureError
from aiida_nanoml.structures.structure_set import StructureSet, atomic_numbers

PHASES: dict[str, int] = {'fcc': 4, 'bcc': 2}
"""The phases, and the number of atoms in the conventional cubic cell of each."""

LATTICE_CONSTANTS = (1.5, 20.0)
"""Smallest and largest lattice constant in Å that is not taken for a mistake."""

# Number of neighbours in the first and the second shell.
_SHELLS = {'fcc': (12, 6), 'bcc': (8, 6)}
# Distances in units of the cube root of the volume per atom. The shells of fcc are at 1.122, 1.587 and 1.944, those of
# bcc at 1.091, 1.260 and 1.782: these radii lie half way between the first, the second and the third.
_BORDERS = {'fcc': (1.355, 1.766), 'bcc': (1.176, 1.521)}
_OPPOSITE = 0.2  # tolerance for two neighbours on opposite sides; in hcp the nearest to that are 0.65 apart

# Fractions of the cell are rounded to this denominator. It is a multiple of 1 to 16, so that the sites of a lattice are
# rounded from the middle of the interval, not from its border.
_DENOMINATOR = 720_720
_NUMBERS_AT_ONCE = 2_000_000  # in the work arrays of a block


@dataclass(frozen=True, eq=False)
class Geometry:
    """Rows of a set whose atoms sit on the same sites, but for the scale and the order of the atoms.

    :param rows: (R,) rows of the set, in increasing order.
    :param atoms: (R, A) the atom of the set on each site.
    :param phase: key of :data:`PHASES`, or empty if the sites are those of no known phase.
    :param neighbours: (3, P) for each neighbour of each site: the shell (0 or 1), the site, and the site of the
        neighbour; each periodic image counts. Nothing without a phase.
    """

    rows: NDArray[np.int64]
    atoms: NDArray[np.int64]
    phase: str
    neighbours: NDArray[np.int64]


def geometries(structures: StructureSet) -> list[Geometry]:
    """Sort the rows of a set by geometry, and find the phase and the neighbours of each.

    Images are counted: in a small cell, a site may be a neighbour of another one several times, and of itself.
    """
    found = []
    for count in np.unique(structures.counts).tolist():
        rows = np.flatnonzero(structures.counts == count)
        atoms = structures.offsets[rows, None] + np.arange(count)
        cells, points = structures.cells[rows], structures.positions[atoms]
        # Not periodic in all directions: no crystal, all such rows are one geometry without a phase.
        crystal = np.logical_and.reduce(structures.pbc[rows], axis=1)
        cells = np.where(crystal[:, None, None], cells, np.eye(3))
        fractions = np.rint(points @ np.linalg.inv(cells) * _DENOMINATOR).astype(np.int64) % _DENOMINATOR
        fractions[~crystal] = 0
        order = np.lexsort(np.moveaxis(fractions, -1, 0)[::-1], axis=-1)
        fractions = np.take_along_axis(fractions, order[:, :, None], axis=1)
        lengths = np.linalg.norm(cells, axis=2).max(axis=1)
        shapes = np.rint(cells / lengths[:, None, None] * _DENOMINATOR).astype(np.int64)
        keys = np.concatenate(
            [crystal[:, None], shapes.reshape(len(rows), -1), fractions.reshape(len(rows), -1)], axis=1
        )
        _, first, inverse = np.unique(_as_bytes(keys), return_index=True, return_inverse=True)
        atoms = np.take_along_axis(atoms, order, axis=1)
        for number, head in enumerate(first.tolist()):
            members = np.flatnonzero(inverse == number)
            phase, neighbours = '', np.empty((3, 0), dtype=np.int64)
            if crystal[head]:
                phase, neighbours = _shells(cells[head], structures.positions[atoms[head]])
            found.append(Geometry(rows[members], atoms[members], phase, neighbours))
    return found


def phases_of(structures: StructureSet) -> NDArray[np.str_]:
    """Recognise the phase of each structure by the number of neighbours of all its atoms in two shells.

    :returns: (n,) keys of :data:`PHASES`.
    :raises StructureError: naming the first row that is none of the known phases.
    """
    return _find_phases(structures, geometries(structures))


def lattice_constants(structures: StructureSet) -> NDArray[np.float64]:
    """Return the lattice constant of the conventional cubic cell of each structure (n,), in Å, by its volume.

    :raises StructureError: naming the first row that is none of the known phases.
    """
    return constants_from_volumes(volumes_per_atom(structures), phases_of(structures))


def volumes_per_atom(structures: StructureSet) -> NDArray[np.float64]:
    """Return the volume of each periodic structure (n,), Å³ per atom."""
    return np.asarray(np.abs(np.linalg.det(structures.cells)) / structures.counts)


def constants_from_volumes(volumes_ang3: NDArray[np.float64], phases: NDArray[np.str_]) -> NDArray[np.float64]:
    """Return the lattice constant of the conventional cubic cell.

    :param volumes_ang3: (n,) Å³ per atom.
    :param phases: (n,) keys of :data:`PHASES`.
    :returns: (n,) Å.
    """
    atoms = np.array([PHASES[phase] for phase in phases.tolist()], dtype=np.float64)
    return np.asarray(np.cbrt(atoms * volumes_ang3))


def pair_counts(structures: StructureSet, elements: Sequence[str]) -> NDArray[np.int64]:
    """Count the neighbours of each pair of elements in the first and the second shell.

    :param elements: E chemical symbols; all that occur must be among them.
    :returns: (n, 2, E, E) number of neighbours of the second element around all atoms of the first: symmetric, and the
        sum over both is the number of atoms times that of neighbours of one (fcc 12 and 6, bcc 8 and 6).
    :raises StructureError: naming the first row that is none of the known phases, or has another element.
    """
    species = species_of(structures, elements)
    shapes = geometries(structures)
    _find_phases(structures, shapes)
    counts = np.empty((len(structures), 2, len(elements), len(elements)), dtype=np.int64)
    for shape in shapes:
        counts[shape.rows] = count_pairs(species[shape.atoms], shape.neighbours, len(elements))
    return counts


def count_pairs(species: NDArray[np.int64], neighbours: NDArray[np.int64], n_elements: int) -> NDArray[np.int64]:
    """Count the neighbours of each pair of elements for R arrangements on the same sites.

    :param species: (R, A) element on each site, an integer below E.
    :param neighbours: (3, P) of a :class:`Geometry`.
    :param n_elements: E.
    :returns: (R, 2, E, E), see :func:`pair_counts`.
    """
    shells, sites, others = neighbours
    size = 2 * n_elements**2
    counts = np.empty((len(species), size), dtype=np.int64)
    step = max(1, _NUMBERS_AT_ONCE // len(sites))
    for start in range(0, len(species), step):
        block = species[start : start + step]
        bins = (shells * n_elements + block[:, sites]) * n_elements + block[:, others]
        bins += np.arange(len(block))[:, None] * size
        counts[start : start + step] = np.bincount(bins.ravel(), minlength=len(block) * size).reshape(-1, size)
    return counts.reshape(-1, 2, n_elements, n_elements)


def warren_cowley(structures: StructureSet, elements: Sequence[str]) -> NDArray[np.float64]:
    """Compute the Warren-Cowley parameters of two shells: 0 for a random alloy, negative for preferred pairs.

    The parameter of elements A and B is 1 - P(B|A) / c(B): P(B|A) is the share of B among the neighbours of A, c(B)
    among all atoms. J. M. Cowley, Phys. Rev. 77, 669 (1950).

    :param elements: E chemical symbols; all that occur must be among them.
    :returns: (n, 2, E, E); NaN where a structure has not both elements.
    :raises StructureError: as :func:`pair_counts`.
    """
    counts = pair_counts(structures, elements)
    amounts = amounts_of(structures, elements)
    expected = amounts[:, None, :, None] * amounts[:, None, None, :] * counts.sum(axis=(2, 3), keepdims=True)
    expected = expected / (structures.counts**2)[:, None, None, None]
    with np.errstate(invalid='ignore', divide='ignore'):
        parameters: NDArray[np.float64] = 1.0 - counts / expected
    return parameters


def species_of(structures: StructureSet, elements: Sequence[str]) -> NDArray[np.int64]:
    """Return the index of the element of each atom (A,) into a list of elements.

    :raises StructureError: naming the first row and element that is not in the list.
    """
    index = np.full(256, -1, dtype=np.int64)
    index[atomic_numbers(elements)] = np.arange(len(elements))
    species: NDArray[np.int64] = index[structures.numbers]
    strange = np.flatnonzero(species < 0)
    if len(strange):
        row = int(structures.rows[strange[0]])
        symbol = structures[row].symbols[strange[0] - structures.offsets[row]]
        raise StructureError(f'{_place(structures, row)} has the element {symbol}; known are {", ".join(elements)}')
    return species


def amounts_of(structures: StructureSet, elements: Sequence[str]) -> NDArray[np.int64]:
    """Return the number of atoms of each element in each structure (n, E).

    :raises StructureError: as :func:`species_of`.
    """
    n, size = len(structures), len(elements)
    keys = structures.rows * size + species_of(structures, elements)
    return np.bincount(keys, minlength=n * size).reshape(n, size)


def scale_cells(structures: StructureSet, factors: ArrayLike) -> StructureSet:
    """Scale every cell to several lattice constants.

    :param structures: n cells; they keep their names and families.
    :param factors: (m,) lattice constants in units of that of each cell.
    :returns: n m cells, those of one row together and in the order of the factors.
    :raises StructureError: if a factor is not a positive number, a row is none of the known phases, or a lattice
        constant is outside :data:`LATTICE_CONSTANTS`.
    """
    scales = _numbers(factors, 'Factors of lattice constants')
    n, m = len(structures), len(scales)
    _check_constants(structures, lattice_constants(structures)[:, None] * scales)
    return _scale(structures.select(np.repeat(np.arange(n), m)), np.tile(scales, n))


def with_lattice_constants(structures: StructureSet, constants: ArrayLike) -> StructureSet:
    """Scale every cell to a lattice constant of its own.

    :param structures: n cells; they keep their names and families.
    :param constants: (n,) lattice constants in Å.
    :returns: n cells.
    :raises StructureError: if there is not one positive lattice constant for each row, a row is none of the known
        phases, or a lattice constant is outside :data:`LATTICE_CONSTANTS`.
    """
    wanted = _numbers(constants, 'Lattice constants')
    if wanted.shape != (len(structures),):
        raise StructureError(f'{len(wanted)} lattice constants do not fit a set of {len(structures)} structures')
    _check_constants(structures, wanted[:, None])
    return _scale(structures, wanted / lattice_constants(structures))


def name_alloys(structures: StructureSet) -> StructureSet:
    """Recognise the phases of cells from elsewhere, and name their alloys; names and families that they have are lost.

    Rows that are scalings of each other are one curve. Curves of different phases with the same formula are one alloy;
    if there are several of one phase, they are paired in their order. Alloys are ``alloy-0000`` and so on, in the
    order in which they first appear.

    :raises StructureError: naming the first row that is none of the known phases.
    """
    shapes = geometries(structures)
    phases = _find_phases(structures, shapes)
    curves = np.empty(len(structures), dtype=np.int64)
    n_curves = 0
    for shape in shapes:
        _, inverse = np.unique(_as_bytes(structures.numbers[shape.atoms]), return_inverse=True)
        curves[shape.rows] = n_curves + inverse
        n_curves += int(inverse.max()) + 1
    formulas = structures.formulas
    met: dict[tuple[str, str], list[int]] = {}  # the curves of each formula and phase, in the order of appearance
    alloys: dict[tuple[str, int], int] = {}  # the alloy of each formula and number in this order
    names = []
    for curve, formula, phase in zip(curves.tolist(), formulas, phases.tolist(), strict=True):
        known = met.setdefault((formula, phase), [])
        if curve not in known:
            known.append(curve)
        names.append(alloy_name(alloys.setdefault((formula, known.index(curve)), len(alloys))))
    return _replace_arrays(structures, names=np.array(names, dtype=np.str_), families=phases)


def alloy_name(number: int) -> str:
    """Name of an alloy by its number in a set, for example ``alloy-0003``."""
    return f'alloy-{number:04d}'


def _find_phases(structures: StructureSet, shapes: list[Geometry]) -> NDArray[np.str_]:
    phases = np.empty(len(structures), dtype='<U3')
    for shape in shapes:
        phases[shape.rows] = shape.phase
    strange = np.flatnonzero(phases == '')
    if len(strange):
        expected = ', '.join(f'{phase} {first} and {second}' for phase, (first, second) in _SHELLS.items())
        raise StructureError(
            f'{_place(structures, int(strange[0]))} is none of the known phases ({len(strange)} rows in all): it must '
            f'be periodic, and its atoms must have the neighbours of a crystal in two shells ({expected})'
        )
    return phases


def _shells(cell: NDArray[np.float64], points: NDArray[np.float64]) -> tuple[str, NDArray[np.int64]]:
    """Return the phase of one periodic cell, empty for an unknown one, and its neighbours (3, P)."""
    from ase.neighborlist import primitive_neighbor_list

    n = len(points)
    unit = np.cbrt(abs(np.linalg.det(cell)) / n)
    reach = max(border for _, border in _BORDERS.values())
    left, right, vectors = primitive_neighbor_list('ijD', [True] * 3, cell, points, reach * unit)
    vectors = vectors / unit
    distances = np.linalg.norm(vectors, axis=1)
    for phase, numbers in _SHELLS.items():
        inner, outer = _BORDERS[phase]
        near = distances < outer
        shells, sites = (distances[near] >= inner).astype(np.int64), left[near].astype(np.int64)
        counts = np.bincount(shells * n + sites, minlength=2 * n).reshape(2, n)
        if not (counts == np.array(numbers)[:, None]).all():
            continue
        around = vectors[near][shells == 0][np.argsort(sites[shells == 0], kind='stable')].reshape(n, numbers[0], 3)
        sums = np.linalg.norm(around[:, :, None] + around[:, None, :], axis=-1)
        if (sums.min(axis=2) < _OPPOSITE).all():  # hcp has as many neighbours as fcc, but not on opposite sides
            return phase, np.stack([shells, sites, right[near].astype(np.int64)])
    return '', np.empty((3, 0), dtype=np.int64)


def _as_bytes(keys: NDArray[Any]) -> NDArray[Any]:
    """Return one item for each row of a matrix, for comparisons of whole rows."""
    rows = np.ascontiguousarray(keys)
    return rows.view(np.dtype((np.void, rows.dtype.itemsize * rows.shape[1]))).ravel()


def _numbers(values: ArrayLike, what: str) -> NDArray[np.float64]:
    try:
        numbers = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise StructureError(f'{what} must be a row of numbers, not {values!r}') from error
    if numbers.ndim != 1 or not len(numbers):
        raise StructureError(f'{what} must be a row of at least one number, not {values!r}')
    strange = numbers[~(np.isfinite(numbers) & (numbers > 0))]
    if len(strange):
        raise StructureError(f'{what} must be positive numbers; one is {strange[0]}')
    return numbers


def _check_constants(structures: StructureSet, constants: NDArray[np.float64]) -> None:
    """Refuse lattice constants (n, m) that are beyond what is possible."""
    low, high = LATTICE_CONSTANTS
    rows, columns = np.nonzero((constants < low) | (constants > high))
    if len(rows):
        raise StructureError(
            f'{_place(structures, int(rows[0]))} would have a lattice constant of '
            f'{constants[rows[0], columns[0]]:.3f} Å; from {low:g} to {high:g} Å are possible'
        )


def _scale(structures: StructureSet, factors: NDArray[np.float64]) -> StructureSet:
    return _replace_arrays(
        structures,
        positions=structures.positions * factors[structures.rows, None],
        cells=structures.cells * factors[:, None, None],
    )


def _replace_arrays(structures: StructureSet, **arrays: NDArray[Any]) -> StructureSet:
    # Atoms of a known phase cannot come too near to each other at the lattice constants that are possible.
    return StructureSet._from_checked(**{**structures.to_arrays(), **arrays})


def _place(structures: StructureSet, row: int) -> str:
    name = f' ({structures.names[row]})' if structures.names[row] else ''
    return f'structure {row}{name}'
