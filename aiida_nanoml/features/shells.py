"""Counts over shells of neighbours, carbon regions, boron nitride domains, their borders and edges: structure only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from aiida_nanoml.errors import DescriptorError
from aiida_nanoml.features.base import Descriptor
from aiida_nanoml.features.bonds import ELEMENTS, bonds_of, fractions, place
from aiida_nanoml.structures.structure_set import StructureSet

_Floats = NDArray[np.float64]

LARGEST_SHELL = 12
"""Largest number of bonds between the two atoms of a counted pair."""

BOND_LENGTH = 1.42
"""Unit of lengths in dipoles and potentials, Å."""

_PAIRS = ('BB', 'BC', 'BN', 'CC', 'CN', 'NN')
_PAIR_KIND = np.zeros((4, 4), dtype=np.int64)
for _kind, _pair in enumerate(_PAIRS):
    _first, _second = (ELEMENTS.index(element) for element in tuple(_pair))
    _PAIR_KIND[_first, _second] = _PAIR_KIND[_second, _first] = _kind
_PHASES = ('carbon', 'nitride')
_LARGEST_BLOCK = 2_000_000  # pairs of sites; bounds a block's arrays to some tens of megabytes

_REGION_NAMES = tuple(
    f'{phase}_{quantity}' for phase in _PHASES for quantity in ('regions', 'largest', 'second', 'mean_square')
)
_BALANCE_NAMES = (
    'doping',
    'doping_size',
    'domain_doping',
    'domain_doping_square',
    'largest_domain_doping',
    'sublattice_excess',
    'region_excess',
    'largest_region_excess',
    'mass',
)
_BORDER_NAMES = (
    *(f'{style}_{pair}' for style in ('armchair', 'zigzag') for pair in ('BB', 'BN', 'NN')),
    *(f'{element}H' for element in ('B', 'C', 'N')),
    'edge_bonds_CC',
    *(f'depth_{element}' for element in ('B', 'C', 'N')),
    *(f'border_depth_{phase}' for phase in _PHASES),
)
_FIELD_NAMES = ('dipole', 'field_spread', 'field_mass')
_RING_NAMES = tuple(f'rings_C{amount}' for amount in range(7))


class ShellDescriptor(Descriptor):
    """Counts that say where carbon and boron nitride are, independent of size, orientation and order of atoms.

    Columns: fractions of the elements; for each shell the pairs of elements that are so many bonds apart; rings by
    their number of C atoms; number and size of carbon regions and boron nitride domains; balance of B and N in the
    domains, and of the two sublattices in the carbon regions; lengths of zigzag and armchair borders by element; atoms
    at the edge and distances from it; dipole and field of the pattern of B and N. No electronic calculation.

    :param shells: number of shells, 1 to :data:`LARGEST_SHELL`.
    """

    electronic: ClassVar[bool] = False

    def __init__(self, shells: Annotated[int, Field(strict=True, ge=1, le=LARGEST_SHELL)] = 6) -> None:
        self.shells = shells

    def transform(self, structures: StructureSet) -> _Floats:
        """Describe structures.

        :param structures: isolated flakes of H, B, C and N; n of them.
        :returns: one row for each structure (n, ``len(get_feature_names_out())``), without unit.
        :raises DescriptorError: if a structure is periodic, has other elements, a heavy atom without three bonded
            neighbours, a hydrogen atom without one, or parts that no bond connects.
        """
        self._check_parameters()
        graph = _graph(structures)
        return np.concatenate(
            [
                fractions(structures),
                _pairs_and_rings(graph, structures, self.shells),
                _regions(graph),
                _balances(graph),
                _borders(graph),
                _fields(graph, structures),
            ],
            axis=1,
        )

    def get_feature_names_out(self, input_features: object = None) -> NDArray[np.object_]:
        """Give the name of each column, for example ``BC@2`` for B and C as second neighbours."""
        self._check_parameters()
        names = [f'fraction_{element}' for element in ELEMENTS]
        names.extend(f'{pair}@{shell}' for shell in range(1, self.shells + 1) for pair in _PAIRS)
        names.extend([*_RING_NAMES, *_REGION_NAMES, *_BALANCE_NAMES, *_BORDER_NAMES, *_FIELD_NAMES])
        return np.array(names, dtype=object)


@dataclass(frozen=True, eq=False)
class _Graph:
    """The heavy atoms of all structures and the bonds between them.

    :param row: (M,) structure of each heavy atom.
    :param species: (M,) 1, 2, 3 for B, C, N.
    :param edge: (M,) 1 where a hydrogen atom is bonded.
    :param left: (Q,) one end of each bond, :param right: the other.
    :param n_sites: (n,) heavy atoms of each structure.
    :param sublattice: (M,) 1 or -1, alternating along bonds; 0 in structures with odd rings.
    :param region: (M,) number of the carbon region or boron nitride domain of each atom.
    :param atoms: (M,) indices into the flat arrays of the set.
    """

    row: NDArray[np.int64]
    species: NDArray[np.int64]
    edge: NDArray[np.int64]
    left: NDArray[np.int64]
    right: NDArray[np.int64]
    n_sites: NDArray[np.int64]
    sublattice: NDArray[np.int64]
    region: NDArray[np.int64]
    atoms: NDArray[np.int64]

    def sums(self, values: NDArray[Any]) -> _Floats:
        """Sum of the values of all heavy atoms of each structure (n,)."""
        return _totals(self.row, values, len(self.n_sites))

    def around(self, values: NDArray[Any]) -> _Floats:
        """Sum of the values of the bonded heavy atoms of each heavy atom (M,)."""
        size = len(self.row)
        return _totals(self.left, values[self.right], size) + _totals(self.right, values[self.left], size)


def _totals(index: NDArray[np.int64], values: NDArray[Any], size: int) -> _Floats:
    """Sum of the values with each index (size,)."""
    return np.bincount(index, weights=values, minlength=size).astype(np.float64)


def _graph(structures: StructureSet) -> _Graph:
    species, ends, others = bonds_of(structures, 'shells')
    n_bonds = np.bincount(ends, minlength=len(species))
    wrong = np.flatnonzero(n_bonds != np.where(species == 0, 1, 3))
    if len(wrong):
        raise DescriptorError(
            f'{place(structures, int(wrong[0]))} has {n_bonds[wrong[0]]} bonds; shells are counted in flakes, in which '
            'a heavy atom has three bonded neighbours and hydrogen one'
        )
    atoms = np.flatnonzero(species > 0)
    number = np.full(len(species), -1)
    number[atoms] = np.arange(len(atoms))
    half = len(ends) // 2
    left, right = number[ends[:half]], number[others[:half]]
    heavy = (left >= 0) & (right >= 0)
    left, right = left[heavy], right[heavy]
    row = structures.rows[atoms]
    edge = np.bincount(ends[species[others] == 0], minlength=len(species))[atoms]
    kinds = species[atoms]

    part = _components(len(atoms), left, right)
    starts = np.zeros(len(atoms), dtype=bool)
    starts[np.unique(part, return_index=True)[1]] = True
    broken = np.flatnonzero(np.bincount(row[starts]) > 1)
    if len(broken):
        raise DescriptorError(f'structure {broken[0]} falls into parts that no bond connects; shells need one flake')
    parity = _steps_from(starts, left, right) % 2
    odd = np.zeros(len(structures), dtype=bool)
    odd[row[left[parity[left] == parity[right]]]] = True
    alike = (kinds[left] == 2) == (kinds[right] == 2)
    return _Graph(
        row=row,
        species=kinds,
        edge=edge,
        left=left,
        right=right,
        n_sites=np.bincount(row, minlength=len(structures)),
        sublattice=np.where(odd[row], 0, 1 - 2 * parity),
        region=_components(len(atoms), left[alike], right[alike]),
        atoms=atoms,
    )


def _steps_from(sources: NDArray[np.bool_], left: NDArray[np.int64], right: NDArray[np.int64]) -> NDArray[np.int64]:
    """Number of bonds from each atom to the nearest source (M,); M where there is no way."""
    steps = np.where(sources, 0, len(sources))
    while True:
        nearer = steps.copy()
        np.minimum.at(nearer, left, steps[right] + 1)
        np.minimum.at(nearer, right, steps[left] + 1)
        if np.array_equal(nearer, steps):
            return steps
        steps = nearer


def _components(size: int, left: NDArray[np.int64], right: NDArray[np.int64]) -> NDArray[np.int64]:
    """Number of the connected part of each of ``size`` atoms."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    bonds = coo_array((np.ones(len(left)), (left, right)), shape=(size, size))
    return np.asarray(connected_components(bonds, directed=False)[1], dtype=np.int64)


def _pairs_and_rings(graph: _Graph, structures: StructureSet, shells: int) -> _Floats:
    """Pairs by shell and elements, then rings of six by their number of C atoms; for each heavy atom."""
    found = np.zeros((len(graph.n_sites), shells * len(_PAIRS) + len(_RING_NAMES)))
    start = np.cumsum(graph.n_sites) - graph.n_sites
    for n in np.unique(graph.n_sites).tolist():
        alike = np.flatnonzero(graph.n_sites == n)
        step = max(1, _LARGEST_BLOCK // n**2)
        for begin in range(0, len(alike), step):
            rows = alike[begin : begin + step]
            flake_of = np.full(len(graph.n_sites), -1)
            flake_of[rows] = np.arange(len(rows))
            inside = np.flatnonzero(flake_of[graph.row[graph.left]] >= 0)
            left, right = graph.left[inside], graph.right[inside]
            flake, origin = flake_of[graph.row[left]], start[graph.row[left]]
            bonded = np.zeros((len(rows), n, n), dtype=np.float32)
            bonded[flake, left - origin, right - origin] = bonded[flake, right - origin, left - origin] = 1.0
            species = graph.species[start[rows][:, None] + np.arange(n)]
            kinds = _PAIR_KIND[species[:, :, None], species[:, None]]
            found[rows] = _of_block(bonded, species, kinds, shells) / n
    return found


def _of_block(
    bonded: NDArray[np.float32], species: NDArray[np.int64], kinds: NDArray[np.int64], shells: int
) -> _Floats:
    n_flakes, n, _ = bonded.shape
    counts = np.zeros((n_flakes, shells * len(_PAIRS) + len(_RING_NAMES)))
    carbon = (species == 2).astype(np.float32)
    reached = np.broadcast_to(np.eye(n, dtype=bool), bonded.shape).copy()
    front, by_shell = reached, []
    for shell in range(1, max(shells, 3) + 1):
        ways = front.astype(np.float32) @ bonded
        front = (ways > 0) & ~reached
        reached |= front
        by_shell.append(front)
        if shell <= shells:
            flake, left, right = np.nonzero(np.triu(front))
            columns = (shell - 1) * len(_PAIRS) + kinds[flake, left, right]
            counts += np.bincount(flake * counts.shape[1] + columns, minlength=counts.size).reshape(counts.shape)
    # Opposite atoms of a ring of six are three bonds apart on both sides: two neighbours of one are two bonds from the
    # other. The carbon atoms between them, and the two themselves, are those of the ring.
    first, second, third = (shell.astype(np.float32) for shell in by_shell[:3])
    opposite = np.triu((third > 0) & (first @ second == 2))
    between = (first * carbon[:, None]) @ second
    flake, left, right = np.nonzero(opposite)
    amounts = (
        between[flake, left, right] + between[flake, right, left] + carbon[flake, left] + carbon[flake, right]
    ).astype(np.int64)
    columns = shells * len(_PAIRS) + amounts
    # Each ring has three pairs of opposite atoms.
    counts += np.bincount(flake * counts.shape[1] + columns, minlength=counts.size).reshape(counts.shape) / 3
    return counts


def _regions(graph: _Graph) -> _Floats:
    """Number of connected parts for each heavy atom, shares of the two largest, and mean square share; by phase."""
    sizes = np.bincount(graph.region)
    row = np.zeros(len(sizes), dtype=np.int64)
    row[graph.region] = graph.row
    is_carbon = np.zeros(len(sizes), dtype=bool)
    is_carbon[graph.region] = graph.species == 2
    columns = []
    for phase in (is_carbon, ~is_carbon):
        shares = np.where(phase, sizes / graph.n_sites[row], 0.0)
        order = np.lexsort((-shares, row))
        rank = np.arange(len(order)) - np.searchsorted(row[order], row[order])
        n = len(graph.n_sites)
        columns.append(_totals(row, phase, n) / graph.n_sites)
        for rank_wanted in (0, 1):
            ranked = order[rank == rank_wanted]
            columns.append(_totals(row[ranked], shares[ranked], n))
        columns.append(_totals(row, shares**2, n))
    return np.stack(columns, axis=1)


def _balances(graph: _Graph) -> _Floats:
    """Excess of N over B, in all and by domain, and of one sublattice over the other, by carbon region."""
    n = graph.n_sites
    n_regions = int(graph.region.max()) + 1
    row = np.zeros(n_regions, dtype=np.int64)
    row[graph.region] = graph.row
    donors = (graph.species == 3) * 1.0 - (graph.species == 1)
    carbon = graph.species == 2
    by_domain = _totals(graph.region, donors, n_regions)
    by_region = _totals(graph.region, graph.sublattice * carbon, n_regions)

    def largest(values: _Floats) -> _Floats:
        found = np.zeros(len(n))
        np.maximum.at(found, row, np.abs(values))
        return found

    total = graph.sums(donors)
    # What the neighbours of the carbon atoms push apart on the two sublattices.
    push = graph.around(donors) * carbon * graph.sublattice
    columns = [
        total,
        np.abs(total),
        _totals(row, np.abs(by_domain), len(n)),
        _totals(row, by_domain**2, len(n)),
        largest(by_domain),
        np.abs(graph.sums(graph.sublattice * carbon)),
        _totals(row, np.abs(by_region), len(n)),
        largest(by_region),
        np.abs(graph.sums(push)),
    ]
    return np.stack(columns, axis=1) / n[:, None]


def _borders(graph: _Graph) -> _Floats:
    """Zigzag and armchair borders, edges, and how far from them the elements are."""
    n, size = graph.n_sites, len(graph.row)
    carbon = graph.species == 2
    boron, nitrogen = (carbon * graph.around(graph.species == species) for species in (1, 3))
    both = carbon[graph.left] & carbon[graph.right]
    left, right = graph.left[both], graph.right[both]
    columns: list[_Floats] = []
    # Armchair: two bonded carbon atoms that both touch a domain. Zigzag: two that do and have a carbon between them.
    for first, second in ((boron, boron), (boron, nitrogen), (nitrogen, nitrogen)):
        pairs = first[left] * second[right] + (first[right] * second[left] if first is not second else 0)
        columns.append(_totals(graph.row[left], pairs, len(n)))
    sums = {id(values): graph.around(values) * carbon for values in (boron, nitrogen)}
    for first, second in ((boron, boron), (boron, nitrogen), (nitrogen, nitrogen)):
        pairs = sums[id(first)] * sums[id(second)]
        if first is second:
            pairs = (pairs - graph.around(first**2) * carbon) / 2
        columns.append(graph.sums(pairs))
    columns.extend(graph.sums((graph.species == species) * graph.edge) for species in (1, 2, 3))
    columns.append(_totals(graph.row[left], graph.edge[left] * graph.edge[right], len(n)))
    counts = [column / n for column in columns]
    depth = np.minimum(_steps_from(graph.edge > 0, graph.left, graph.right), size)
    counts.extend(_mean(graph, depth, graph.species == species) for species in (1, 2, 3))
    touching = (graph.around(~carbon) * carbon + graph.around(carbon) * ~carbon) > 0
    from_border = _steps_from(touching, graph.left, graph.right)
    # A flake of one phase has no border: as deep inside as a flake of this size can be.
    limit = np.sqrt(n)[graph.row]
    counts.extend(_mean(graph, np.minimum(from_border, limit), phase) for phase in (carbon, ~carbon))
    return np.stack(counts, axis=1)


def _mean(graph: _Graph, values: NDArray[Any], chosen: NDArray[np.bool_]) -> _Floats:
    """Mean over the chosen atoms of each structure (n,), 0 where there is none, over the root of the size."""
    found: _Floats = graph.sums(values * chosen) / np.maximum(graph.sums(chosen), 1) / np.sqrt(graph.n_sites)
    return found


def _fields(graph: _Graph, structures: StructureSet) -> _Floats:
    """Dipole of charges of opposite sign on B and N, and their potential on the carbon atoms."""
    n = graph.n_sites
    points = structures.positions[graph.atoms] / BOND_LENGTH
    donors = (graph.species == 3) * 1.0 - (graph.species == 1)
    charges = donors - (graph.sums(donors) / n)[graph.row]
    dipole = np.stack([graph.sums(charges * points[:, axis]) for axis in range(3)], axis=1)
    potential = np.empty(len(points))
    starts = np.concatenate([[0], np.cumsum(n)])
    for begin, end in zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True):
        difference = points[begin:end, None] - points[None, begin:end]
        distance = np.sqrt((difference**2).sum(axis=2) + 1.0)
        potential[begin:end] = (1.0 / distance) @ charges[begin:end]
    carbon = graph.species == 2
    amount = np.maximum(graph.sums(carbon), 1)
    mean = graph.sums(potential * carbon) / amount
    deviation = (potential - mean[graph.row]) * carbon
    return np.stack(
        [
            np.linalg.norm(dipole, axis=1) / n,
            np.sqrt(graph.sums(deviation**2) / amount),
            np.abs(graph.sums(deviation * graph.sublattice)) / amount,
        ],
        axis=1,
    )
