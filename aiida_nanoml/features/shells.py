"""Descriptor of flakes by counts over shells of neighbours, regions, domains, borders and edges."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from aiida_nanoml.errors import DescriptorError
from aiida_nanoml.features.base import Descriptor
from aiida_nanoml.features.bonds import (
    BORON,
    CARBON,
    ELEMENTS,
    HYDROGEN,
    NITROGEN,
    bonds_of,
    connected_parts,
    fractions,
    place,
)
from aiida_nanoml.structures.structure_set import StructureSet

_Floats = NDArray[np.float64]

LARGEST_SHELL = 12
"""Largest number of bonds between two atoms that are counted as a pair."""

BOND_LENGTH = 1.42
"""Unit of lengths in dipoles and potentials, Å."""

_PAIRS = ('BB', 'BC', 'BN', 'CC', 'CN', 'NN')
_PAIR_KIND = np.zeros((4, 4), dtype=np.int64)
for _kind, _pair in enumerate(_PAIRS):
    _first, _second = (ELEMENTS.index(element) for element in tuple(_pair))
    _PAIR_KIND[_first, _second] = _PAIR_KIND[_second, _first] = _kind
_PHASES = ('carbon', 'nitride')
_HEAVY = {'B': BORON, 'C': CARBON, 'N': NITROGEN}
_LARGEST_BLOCK = 2_000_000  # pairs of sites; bounds a block's arrays to some tens of megabytes


class ShellDescriptor(Descriptor):
    """Descriptor that counts where carbon and boron nitride are; size, orientation and order of atoms do not matter.

    Columns: fractions of the elements; for each shell the pairs of elements that are so many bonds apart; rings by
    their number of C atoms; number and size of carbon regions and boron nitride domains; balance of B and N in the
    domains, and of the two sublattices in the carbon regions; lengths of zigzag and armchair borders by element; atoms
    at the edge and distances from it; dipole and field of the pattern of B and N. No electronic calculation.

    :param shells: number of shells, 1 to :data:`LARGEST_SHELL`.

    >>> from aiida_nanoml.structures import StructureSet, flake_lattice
    >>> coronene = StructureSet.from_structures([flake_lattice('z', 2)])
    >>> descriptor = ShellDescriptor(shells=2)
    >>> row = dict(zip(descriptor.get_feature_names_out(), descriptor.transform(coronene)[0].tolist()))
    >>> row['CC@1']  # bonds per atom
    1.25
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
        graph = _build_graph(structures)
        columns = dict(zip(_FRACTION_NAMES, fractions(structures).T, strict=True))
        columns |= _pair_and_ring_features(graph, self.shells)
        columns |= _region_features(graph)
        columns |= _balance_features(graph)
        columns |= _border_features(graph)
        columns |= _field_features(graph, structures)
        return np.stack([columns[name] for name in _column_names(self.shells)], axis=1)

    def get_feature_names_out(self, input_features: object = None) -> NDArray[np.object_]:
        """Return the name of each column, for example ``BC@2`` for B and C as second neighbours."""
        self._check_parameters()
        return np.array(_column_names(self.shells), dtype=object)


@dataclass(frozen=True, eq=False)
class _Graph:
    """The heavy atoms of all structures and the bonds between them.

    :param row: (M,) structure of each heavy atom.
    :param species: (M,) 1, 2, 3 for B, C, N.
    :param edge: (M,) 1 where a hydrogen atom is bonded.
    :param left: (Q,) one end of each bond.
    :param right: (Q,) the other end.
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
        """Return the sum of the values over the heavy atoms of each structure (n,)."""
        return _totals(self.row, values, len(self.n_sites))

    def around(self, values: NDArray[Any]) -> _Floats:
        """Return the sum of the values over the bonded heavy atoms of each heavy atom (M,)."""
        size = len(self.row)
        return _totals(self.left, values[self.right], size) + _totals(self.right, values[self.left], size)


def _totals(index: NDArray[np.int64], values: NDArray[Any], size: int) -> _Floats:
    """Return the sum of the values with each index (size,)."""
    return np.bincount(index, weights=values, minlength=size).astype(np.float64)


def _build_graph(structures: StructureSet) -> _Graph:
    """Find bonds, sublattices, regions and domains of all structures."""
    species, ends, others = bonds_of(structures, 'shells')
    n_bonds = np.bincount(ends, minlength=len(species))
    wrong = np.flatnonzero(n_bonds != np.where(species == HYDROGEN, 1, 3))
    if len(wrong):
        raise DescriptorError(
            f'{place(structures, int(wrong[0]))} has {n_bonds[wrong[0]]} bonds; shells are counted in flakes, in which '
            'a heavy atom has three bonded neighbours and hydrogen one'
        )
    atoms = np.flatnonzero(species != HYDROGEN)
    number = np.full(len(species), -1)
    number[atoms] = np.arange(len(atoms))
    half = len(ends) // 2
    left, right = number[ends[:half]], number[others[:half]]
    heavy = (left >= 0) & (right >= 0)
    left, right = left[heavy], right[heavy]
    row = structures.rows[atoms]
    edge = np.bincount(ends[species[others] == HYDROGEN], minlength=len(species))[atoms]
    kinds = species[atoms]

    part = connected_parts(len(atoms), left, right)
    starts = np.zeros(len(atoms), dtype=bool)
    starts[np.unique(part, return_index=True)[1]] = True
    broken = np.flatnonzero(np.bincount(row[starts]) > 1)
    if len(broken):
        raise DescriptorError(f'structure {broken[0]} falls into parts that no bond connects; shells need one flake')
    parity = _steps_from(starts, left, right) % 2
    odd = np.zeros(len(structures), dtype=bool)
    odd[row[left[parity[left] == parity[right]]]] = True
    alike = (kinds[left] == CARBON) == (kinds[right] == CARBON)
    return _Graph(
        row=row,
        species=kinds,
        edge=edge,
        left=left,
        right=right,
        n_sites=np.bincount(row, minlength=len(structures)),
        sublattice=np.where(odd[row], 0, 1 - 2 * parity),
        region=connected_parts(len(atoms), left[alike], right[alike]),
        atoms=atoms,
    )


def _steps_from(sources: NDArray[np.bool_], left: NDArray[np.int64], right: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the number of bonds from each atom to the nearest source (M,); M if none can be reached."""
    steps = np.where(sources, 0, len(sources))
    while True:
        nearer = steps.copy()
        np.minimum.at(nearer, left, steps[right] + 1)
        np.minimum.at(nearer, right, steps[left] + 1)
        if np.array_equal(nearer, steps):
            return steps
        steps = nearer


def _column_names(shells: int) -> list[str]:
    """Return the names of all columns, in their order."""
    return [
        *_FRACTION_NAMES,
        *_pair_names(shells),
        *_RING_NAMES,
        *_REGION_NAMES,
        *_BALANCE_NAMES,
        *_BORDER_NAMES,
        *_FIELD_NAMES,
    ]


_FRACTION_NAMES = tuple(f'fraction_{element}' for element in ELEMENTS)
_RING_NAMES = tuple(f'rings_C{amount}' for amount in range(7))


def _pair_names(shells: int) -> list[str]:
    return [f'{pair}@{shell}' for shell in range(1, shells + 1) for pair in _PAIRS]


def _pair_and_ring_features(graph: _Graph, shells: int) -> dict[str, _Floats]:
    """Count pairs by shell and elements, and rings of six by their number of C atoms; per heavy atom."""
    names = [*_pair_names(shells), *_RING_NAMES]
    found = np.zeros((len(graph.n_sites), len(names)))
    start = np.cumsum(graph.n_sites) - graph.n_sites
    for n in np.unique(graph.n_sites).tolist():
        alike = np.flatnonzero(graph.n_sites == n)
        step = max(1, _LARGEST_BLOCK // n**2)
        for begin in range(0, len(alike), step):
            rows = alike[begin : begin + step]
            species = graph.species[start[rows][:, None] + np.arange(n)]
            found[rows] = _count_block(_bond_matrices(graph, rows, start), species, shells) / n
    return dict(zip(names, found.T, strict=True))


def _bond_matrices(graph: _Graph, rows: NDArray[np.int64], start: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return the bonds of some structures of n heavy atoms each, as matrices (rows, n, n) of 0 and 1.

    :param start: index of the first heavy atom of each structure.
    """
    n = int(graph.n_sites[rows[0]])
    flake_of = np.full(len(graph.n_sites), -1)
    flake_of[rows] = np.arange(len(rows))
    inside = np.flatnonzero(flake_of[graph.row[graph.left]] >= 0)
    left, right = graph.left[inside], graph.right[inside]
    flake, origin = flake_of[graph.row[left]], start[graph.row[left]]
    bonded = np.zeros((len(rows), n, n), dtype=np.float32)
    bonded[flake, left - origin, right - origin] = bonded[flake, right - origin, left - origin] = 1.0
    return bonded


def _count_block(bonded: NDArray[np.float32], species: NDArray[np.int64], shells: int) -> _Floats:
    """Count the pairs of each shell, then the rings of six by their number of C atoms, in flakes of equal size.

    :param bonded: (flakes, n, n) 1 for a bond.
    :param species: (flakes, n) of the heavy atoms.
    :returns: (flakes, columns).
    """
    n_flakes, n, _ = bonded.shape
    kinds = _PAIR_KIND[species[:, :, None], species[:, None]]
    counts = np.zeros((n_flakes, shells * len(_PAIRS) + len(_RING_NAMES)))
    carbon = (species == CARBON).astype(np.float32)
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


_REGION_NAMES = tuple(
    f'{phase}_{quantity}' for phase in _PHASES for quantity in ('regions', 'largest', 'second', 'mean_square')
)


def _region_features(graph: _Graph) -> dict[str, _Floats]:
    """Count connected parts per heavy atom, with shares of the two largest and the mean square share; by phase."""
    sizes = np.bincount(graph.region)
    row = np.zeros(len(sizes), dtype=np.int64)
    row[graph.region] = graph.row
    is_carbon = np.zeros(len(sizes), dtype=bool)
    is_carbon[graph.region] = graph.species == CARBON
    n = len(graph.n_sites)
    columns = {}
    for phase, chosen in zip(_PHASES, (is_carbon, ~is_carbon), strict=True):
        shares = np.where(chosen, sizes / graph.n_sites[row], 0.0)
        order = np.lexsort((-shares, row))
        rank = np.arange(len(order)) - np.searchsorted(row[order], row[order])
        columns[f'{phase}_regions'] = _totals(row, chosen, n) / graph.n_sites
        for quantity, wanted in (('largest', 0), ('second', 1)):
            ranked = order[rank == wanted]
            columns[f'{phase}_{quantity}'] = _totals(row[ranked], shares[ranked], n)
        columns[f'{phase}_mean_square'] = _totals(row, shares**2, n)
    return columns


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


def _balance_features(graph: _Graph) -> dict[str, _Floats]:
    """Compute the excess of N over B, in all and by domain, and of one sublattice over the other, by carbon region.

    ``mass`` is the difference between the two sublattices that B and N impose on their carbon neighbours: in a
    continuum model of graphene, such a difference of on-site energies is a mass, and opens a gap.
    """
    n = graph.n_sites
    n_regions = int(graph.region.max()) + 1
    row = np.zeros(n_regions, dtype=np.int64)
    row[graph.region] = graph.row
    donors = _donors(graph)
    carbon = graph.species == CARBON
    by_domain = _totals(graph.region, donors, n_regions)
    by_region = _totals(graph.region, graph.sublattice * carbon, n_regions)

    def largest(values: _Floats) -> _Floats:
        found = np.zeros(len(n))
        np.maximum.at(found, row, np.abs(values))
        return found

    total = graph.sums(donors)
    columns = {
        'doping': total,
        'doping_size': np.abs(total),
        'domain_doping': _totals(row, np.abs(by_domain), len(n)),
        'domain_doping_square': _totals(row, by_domain**2, len(n)),
        'largest_domain_doping': largest(by_domain),
        'sublattice_excess': np.abs(graph.sums(graph.sublattice * carbon)),
        'region_excess': _totals(row, np.abs(by_region), len(n)),
        'largest_region_excess': largest(by_region),
        'mass': np.abs(graph.sums(graph.around(donors) * carbon * graph.sublattice)),
    }
    return {name: column / n for name, column in columns.items()}


_BORDER_NAMES = (
    *(f'{style}_{pair}' for style in ('armchair', 'zigzag') for pair in ('BB', 'BN', 'NN')),
    *(f'{element}H' for element in _HEAVY),
    'edge_bonds_CC',
    *(f'depth_{element}' for element in _HEAVY),
    *(f'border_depth_{phase}' for phase in _PHASES),
)


def _border_features(graph: _Graph) -> dict[str, _Floats]:
    """Count zigzag and armchair borders and edges, and measure how far from them the elements are."""
    n, size = graph.n_sites, len(graph.row)
    carbon = graph.species == CARBON
    both = carbon[graph.left] & carbon[graph.right]
    left, right = graph.left[both], graph.right[both]
    # B and N atoms beside each carbon atom, and beside its carbon neighbours.
    beside = [carbon * graph.around(graph.species == species) for species in (BORON, NITROGEN)]
    further = [graph.around(values) * carbon for values in beside]
    counts: dict[str, _Floats] = {}
    for pair, one, other in (('BB', 0, 0), ('BN', 0, 1), ('NN', 1, 1)):
        first, second = beside[one], beside[other]
        # Armchair: two bonded carbon atoms that both touch a domain.
        bonded = first[left] * second[right] + (first[right] * second[left] if one != other else 0)
        counts[f'armchair_{pair}'] = _totals(graph.row[left], bonded, len(n))
        # Zigzag: two that touch a domain and have a carbon atom between them.
        around = further[one] * further[other]
        if one == other:
            around = (around - graph.around(first**2) * carbon) / 2
        counts[f'zigzag_{pair}'] = graph.sums(around)
    for element, species in _HEAVY.items():
        counts[f'{element}H'] = graph.sums((graph.species == species) * graph.edge)
    counts['edge_bonds_CC'] = _totals(graph.row[left], graph.edge[left] * graph.edge[right], len(n))
    columns = {name: column / n for name, column in counts.items()}
    depth = np.minimum(_steps_from(graph.edge > 0, graph.left, graph.right), size)
    for element, species in _HEAVY.items():
        columns[f'depth_{element}'] = _mean_depth(graph, depth, graph.species == species)
    touching = (graph.around(~carbon) * carbon + graph.around(carbon) * ~carbon) > 0
    from_border = _steps_from(touching, graph.left, graph.right)
    # A flake of one phase has no border: as deep inside as a flake of this size can be.
    limit = np.sqrt(n)[graph.row]
    for phase, chosen in zip(_PHASES, (carbon, ~carbon), strict=True):
        columns[f'border_depth_{phase}'] = _mean_depth(graph, np.minimum(from_border, limit), chosen)
    return columns


def _mean_depth(graph: _Graph, values: NDArray[Any], chosen: NDArray[np.bool_]) -> _Floats:
    """Return the mean over the chosen atoms of each structure (n,), 0 without any, over the root of the size."""
    found: _Floats = graph.sums(values * chosen) / np.maximum(graph.sums(chosen), 1) / np.sqrt(graph.n_sites)
    return found


_FIELD_NAMES = ('dipole', 'field_spread', 'field_mass')


def _field_features(graph: _Graph, structures: StructureSet) -> dict[str, _Floats]:
    """Compute the dipole of charges of opposite sign on B and N, and their potential on the carbon atoms."""
    n = graph.n_sites
    points = structures.positions[graph.atoms] / BOND_LENGTH
    donors = _donors(graph)
    charges = donors - (graph.sums(donors) / n)[graph.row]
    dipole = np.stack([graph.sums(charges * points[:, axis]) for axis in range(3)], axis=1)
    potential = np.empty(len(points))
    starts = np.concatenate([[0], np.cumsum(n)])
    for begin, end in zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True):
        difference = points[begin:end, None] - points[None, begin:end]
        distance = np.sqrt((difference**2).sum(axis=2) + 1.0)
        potential[begin:end] = (1.0 / distance) @ charges[begin:end]
    carbon = graph.species == CARBON
    amount = np.maximum(graph.sums(carbon), 1)
    mean = graph.sums(potential * carbon) / amount
    deviation = (potential - mean[graph.row]) * carbon
    return {
        'dipole': np.linalg.norm(dipole, axis=1) / n,
        'field_spread': np.sqrt(graph.sums(deviation**2) / amount),
        'field_mass': np.abs(graph.sums(deviation * graph.sublattice)) / amount,
    }


def _donors(graph: _Graph) -> _Floats:
    """Return 1 for each N, -1 for each B and 0 for each C (M,)."""
    found: _Floats = (graph.species == NITROGEN) * 1.0 - (graph.species == BORON)
    return found
