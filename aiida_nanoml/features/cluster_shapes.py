"""Enumeration of the clusters around every heavy atom, each cluster as a key of 64 bits.

Two ways lead to keys, and keys of the two are never compared:

- *lattice*: the bonded network is laid on the sites of a honeycomb; a cluster is the set of occupied sites within a
  radius, with their elements, up to the 12 point operations of the lattice. Exact.
- *graph*: a cluster is the part of the bonded network within some number of bonds, up to what colour refinement sees.

Keys are made of integers only, by fixed functions, so they are the same on every machine and in every version.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from aiida_nanoml.errors import DescriptorError
from aiida_nanoml.features.bonds import ELEMENTS, HYDROGEN, Bonds, bonds_of, place
from aiida_nanoml.structures.structure_set import StructureSet

BOND_LENGTH = 1.42
"""Unit of the radii in Å: the distance of neighbours on the lattice."""

LARGEST_RADIUS = 8
"""The largest cluster radius, in bond lengths."""

# The honeycomb in integers: x in units of √3/2 bond lengths, y in halves. The six directions of bonds follow each
# other by 60°; the even ones leave the sites of one sublattice, the odd ones those of the other.
_STEPS = np.array([(1, 1), (0, 2), (-1, 1), (-1, -1), (0, -2), (1, -1)])
_REACH_X, _REACH_Y = int(LARGEST_RADIUS / 0.75**0.5), 2 * LARGEST_RADIUS

_CENTRES_PER_BLOCK = 8192  # the six sums of a block stay in the processor's cache
_CENTRES_AT_ONCE = 128  # of one structure, in the graph way
_COUNT_BITS = 12  # a composition is one number: how many atoms of each element, and the element of the centre above
_COUNT_UNITS = np.array([1 << (_COUNT_BITS * species) for species in range(len(ELEMENTS))], dtype=np.uint64)
_CENTRE_SHIFT = _COUNT_BITS * len(ELEMENTS)

_Keys = NDArray[np.uint64]


class Clusters(NamedTuple):
    """The clusters of a set of structures, one row for each heavy atom.

    :param rows: (M,) structure of each heavy atom.
    :param keys: (M, K) key of the cluster at each radius.
    :param compositions: (M, K) elements of the cluster at each radius; :func:`composition_text` reads them.
    """

    rows: NDArray[np.int64]
    keys: _Keys
    compositions: _Keys


def composition_text(composition: int) -> str:
    """Write a composition as ``centre|others``, for example ``C|BC2`` for a carbon atom with one B and two C."""
    amounts = [(composition >> (_COUNT_BITS * species)) & ((1 << _COUNT_BITS) - 1) for species in range(len(ELEMENTS))]
    others = (
        f'{element}{amount if amount > 1 else ""}' for element, amount in zip(ELEMENTS, amounts, strict=True) if amount
    )
    return f'{ELEMENTS[composition >> _CENTRE_SHIFT]}|{"".join(others)}'


def n_sites(radius: int) -> int:
    """Return the number of lattice sites within a radius (bond lengths) of a site, which itself is not counted."""
    return sum(int(_squared_distance(site)) <= 4 * radius**2 for site, _ in _stencil())


def bonds_across(radius: int) -> int:
    """Return the number of bonds that lead from a site to every lattice site within a radius (bond lengths).

    This is the radius of a cluster in the graph way: 1, 3, 4, 5, 7, 8, 9, 11 bonds for the radii 1 to 8.
    """
    return max(bonds for site, bonds in _stencil() if _squared_distance(site) <= 4 * radius**2)


# The lattice way ------------------------------------------------------------------------------------------------------


class Embedding(NamedTuple):
    """Structures laid on honeycomb lattices, each on one of its own.

    :param species: (A,) index of each atom into :data:`~aiida_nanoml.features.bonds.ELEMENTS`.
    :param sites: (A, 2) site of each atom, in units of √3/2 and 1/2 bond lengths.
    :param odd: (A,) whether the atom is on the second sublattice.
    :param fault: (n,) first atom that is not as on a lattice; -1 where all are.
    :param reason: (n,) what is wrong with this atom; empty where nothing is.
    """

    species: NDArray[np.int64]
    sites: NDArray[np.int64]
    odd: NDArray[np.bool_]
    fault: NDArray[np.int64]
    reason: NDArray[np.str_]


def _walk(
    firsts: NDArray[np.int64],
    degree: NDArray[np.int64],
    starts: NDArray[np.int64],
    others: NDArray[np.int64],
    steps: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Walk along the bonds from the first atom of each structure, and add up the steps.

    :param firsts: (n,) first atoms.
    :param degree: (A,) bonds of each atom.
    :param starts: (2P,) one atom of each bond, ascending.
    :param others: (2P,) the other atom.
    :param steps: (2P, 2) from one to the other, on the lattice.
    :returns: (A, 2) site of each atom, and (A,) whether it was reached.
    """
    first_bond = np.concatenate([[0], np.cumsum(degree)])
    sites, reached = np.zeros((len(degree), 2), dtype=np.int64), np.zeros(len(degree), dtype=bool)
    frontier = firsts
    reached[frontier] = True
    while len(frontier):
        amounts = degree[frontier]
        ends = np.cumsum(amounts)
        leaving = np.arange(int(ends[-1])) + np.repeat(first_bond[frontier] - (ends - amounts), amounts)
        leaving = leaving[~reached[others[leaving]]]
        sites[others[leaving]] = sites[starts[leaving]] + steps[leaving]
        reached[others[leaving]] = True
        frontier = np.unique(others[leaving])
    return sites, reached


def embed(structures: StructureSet) -> Embedding:
    """Lay the bonded network of every structure on a honeycomb lattice.

    A structure is on a lattice if its bonds follow the six directions, so that every atom has a site of its own, and
    neighbouring sites that hold a heavy atom are bonded. Lengths have no meaning: a relaxed flake is on a lattice as
    the ideal one is, as long as no bond has turned by 30°. Hydrogen has the site to which its bond points.

    :raises DescriptorError: if this is not a set of isolated structures of H, B, C and N.
    """
    bonds = bonds_of(structures, 'clusters')
    n_atoms, n = len(bonds.species), len(structures)
    heavy, rows = bonds.species != HYDROGEN, structures.rows
    fault, reason = np.full(n, n_atoms, dtype=np.int64), np.full(n, '', dtype='<U80')

    def mark_off_lattice(wrong: NDArray[np.bool_], why: str) -> None:
        atoms = np.flatnonzero(wrong)
        atoms = atoms[fault[rows[atoms]] == n_atoms]
        np.minimum.at(fault, rows[atoms], atoms)
        reason[rows[atoms]] = why

    degree = np.bincount(bonds.ends, minlength=n_atoms)
    mark_off_lattice(degree == 0, 'has no bond')
    mark_off_lattice(degree > np.where(heavy, 3, 1), 'has more bonds than an atom of the lattice can have')
    direction = _directions(structures, bonds)
    n_odd = np.bincount(bonds.ends, weights=direction % 2, minlength=n_atoms)
    odd = n_odd > 0
    mark_off_lattice(odd & (n_odd < degree), 'has bonds that are not 120° apart')

    order = np.argsort(bonds.ends, kind='stable')
    starts, others = bonds.ends[order], bonds.others[order]
    steps = _STEPS[direction[order]]
    sites, reached = _walk(structures.offsets[:-1], degree, starts, others, steps)
    mark_off_lattice(~reached, 'is not connected with the first atom by bonds')
    torn = (sites[others] - sites[starts] != steps).any(axis=1)
    mark_off_lattice(np.bincount(starts[torn], minlength=n_atoms) > 0, 'closes a ring that the lattice does not have')

    # A structure off the lattice may lie anywhere: it must not spoil the grid for the others.
    sites[fault[rows] < n_atoms] = 0
    for some in _blocks(structures.counts, 16 * _CENTRES_PER_BLOCK):
        atoms = np.arange(int(structures.offsets[some.start]), int(structures.offsets[some.stop]))
        good = atoms[fault[rows[atoms]] == n_atoms]
        if not len(good):
            continue
        grid = _Grid(sites[good], rows[good] - some.start, some.stop - some.start)
        occupied = np.bincount(grid.cells, minlength=grid.size)
        around = sum(
            (occupied[grid.cells + np.where(odd[good], -1, 1) * grid.shift(step)] for step in _STEPS[::2]),
            start=np.zeros(len(good), dtype=np.int64),
        )
        faulty = np.zeros(n_atoms, dtype=bool)
        faulty[good] = occupied[grid.cells] > 1
        mark_off_lattice(faulty, 'shares its site of the lattice with another atom')
        faulty[good] = heavy[good] & (around != degree[good])
        mark_off_lattice(faulty, 'is not bonded to an atom on a neighbouring site of the lattice')
    return Embedding(bonds.species, sites, odd, np.where(reason == '', -1, fault), reason)


def lattice_clusters(structures: StructureSet, radii: tuple[int, ...], embedding: Embedding) -> Clusters:
    """Enumerate clusters on the lattice.

    The cluster of radius k holds the atoms on all sites within k bond lengths of the centre, the sites at exactly this
    distance included. Its key is the least, over the 6 point operations that keep the centre (the other 6 of the
    lattice's 12 lead to the other sublattice, which is brought to the first by inversion), of a sum of pseudo-random
    numbers, one for each site and element. Two given clusters that differ have the same key with a probability of
    about 2e-19, so that among a million clusters any two do with about 1e-7.

    :param radii: ascending, in bond lengths.
    :raises DescriptorError: if a structure is not on a lattice.
    """
    wrong = np.flatnonzero(embedding.fault >= 0)
    if len(wrong):
        row = int(wrong[0])
        raise DescriptorError(
            f'{place(structures, int(embedding.fault[row]))} {embedding.reason[row]}: the structure is not on a '
            f'honeycomb lattice ({len(wrong)} of {len(structures)} structures); use geometry="graph"'
        )
    heavy = np.flatnonzero(embedding.species != HYDROGEN)
    keys = np.empty((len(heavy), len(radii)), dtype=np.uint64)
    compositions = np.empty_like(keys)
    rows = structures.rows
    tables = _lattice_tables(radii[-1])
    done = 0
    for some in _blocks(structures.counts, _CENTRES_PER_BLOCK):
        atoms = np.arange(int(structures.offsets[some.start]), int(structures.offsets[some.stop]))
        grid = _Grid(embedding.sites[atoms], rows[atoms] - some.start, some.stop - some.start)
        content = np.zeros(grid.size, dtype=np.uint8)
        content[grid.cells] = embedding.species[atoms] + 1
        for odd in (False, True):
            chosen = (embedding.species[atoms] != HYDROGEN) & (embedding.odd[atoms] == odd)
            rank = done + np.cumsum(embedding.species[atoms] != HYDROGEN)[chosen] - 1
            cells = grid.cells[chosen]
            centre = content[cells]
            sums = tables.centre.take(centre, axis=0)
            amounts = (centre.astype(np.uint64) - 1) << np.uint64(_CENTRE_SHIFT)
            units = np.concatenate([[np.uint64(0)], _COUNT_UNITS])
            position = 0
            for column, radius in enumerate(radii):
                while position < len(tables.sites) and _squared_distance(tables.sites[position]) <= 4 * radius**2:
                    found = content[cells + (-1 if odd else 1) * grid.shift(tables.sites[position])]
                    sums += tables.around[position].take(found, axis=0)
                    amounts += units.take(found)
                    position += 1
                keys[rank, column] = mixed_bits(sums.min(axis=1))
                compositions[rank, column] = amounts
        done += int(np.count_nonzero(embedding.species[atoms] != HYDROGEN))
    return Clusters(rows[heavy], keys, compositions)


class _Grid:
    """Cells of an integer grid for the sites of some structures, with room around each for the largest cluster."""

    def __init__(self, sites: NDArray[np.int64], rows: NDArray[np.int64], n: int) -> None:
        lowest = np.full((n, 2), np.iinfo(np.int64).max)
        np.minimum.at(lowest, rows, sites)
        local = sites - lowest[rows] + (_REACH_X, _REACH_Y)
        self._stride = int(local[:, 1].max()) + _REACH_Y + 1
        lines = np.zeros(n, dtype=np.int64)
        np.maximum.at(lines, rows, local[:, 0] + _REACH_X + 1)
        first = np.concatenate([[0], np.cumsum(lines)])
        self.cells = (first[rows] + local[:, 0]) * self._stride + local[:, 1]
        self.size = int(first[-1]) * self._stride

    def shift(self, step: NDArray[np.int64]) -> int:
        """Return the distance of the cells of two sites that are a step apart."""
        return int(step[0]) * self._stride + int(step[1])


class _LatticeTables(NamedTuple):
    sites: NDArray[np.int64]
    """(S, 2) sites around the centre, the nearest first."""
    centre: _Keys
    """(5, 6) number of the centre for nothing and each element, the same for all operations."""
    around: _Keys
    """(S, 5, 6) number of each site for nothing and each element, as moved by each operation."""


@lru_cache(maxsize=LARGEST_RADIUS)
def _lattice_tables(radius: int) -> _LatticeTables:
    sites = np.array([site for site, _ in _stencil() if _squared_distance(site) <= 4 * radius**2])
    moved: list[NDArray[np.int64]] = []
    for mirror in (1, -1):
        turned: NDArray[np.int64] = sites * np.array([mirror, 1])
        for _ in range(3):
            moved.append(turned)
            x, y = turned[:, 0], turned[:, 1]
            turned = np.stack([-(x + y) // 2, (3 * x - y) // 2], axis=1)
    images = np.stack(moved, axis=1)[:, None]
    elements = np.arange(1 + len(ELEMENTS))[:, None]
    return _LatticeTables(
        sites,
        np.repeat(_numbers(0, 0, elements), len(moved), axis=1),
        _numbers(images[..., 0], images[..., 1], elements),
    )


def _numbers(x: NDArray[np.int64] | int, y: NDArray[np.int64] | int, element: NDArray[np.int64]) -> _Keys:
    """Return the pseudo-random number of an element on a site; that of nothing (0) is 0."""
    code = (np.asarray(x + 128) * 256 + (y + 128)) * 256 + element
    return np.where(element == 0, np.uint64(0), mixed_bits(code.astype(np.uint64)))


@lru_cache(maxsize=1)
def _stencil() -> tuple[tuple[tuple[int, int], int], ...]:
    """Return the sites around one of the first sublattice, by distance, and the bonds that lead there."""
    bonds, frontier = {(0, 0): 0}, [(0, 0)]
    for count in range(1, 2 * LARGEST_RADIUS):
        following = []
        for x, y in frontier:
            for step_x, step_y in _STEPS[(count + 1) % 2 :: 2].tolist():
                site = (x + step_x, y + step_y)
                if site not in bonds:
                    bonds[site] = count
                    following.append(site)
        frontier = following
    near = [(site, count) for site, count in bonds.items() if 0 < _squared_distance(site) <= 4 * LARGEST_RADIUS**2]
    return tuple(sorted(near, key=lambda item: (_squared_distance(item[0]), item[0])))


def _squared_distance(site: tuple[int, int] | NDArray[np.int64]) -> int:
    """Return four times the squared distance of a site from the origin, in squared bond lengths."""
    return int(3 * site[0] ** 2 + site[1] ** 2)


def _directions(structures: StructureSet, bonds: Bonds) -> NDArray[np.int64]:
    """Return the direction of each bond (2P,), 0 to 5 in steps of 60°, in the plane and frame of its structure."""
    n, rows = len(structures), structures.rows
    centred = structures.positions - (_sums(structures.positions, rows, n) / structures.counts[:, None])[rows]
    spread = _sums((centred[:, :, None] * centred[:, None, :]).reshape(-1, 9), rows, n).reshape(n, 3, 3)
    plane = np.linalg.eigh(spread)[1][:, :, 1:]
    half = len(bonds.ends) // 2
    start, end = bonds.ends[:half], bonds.others[:half]
    vectors = np.einsum('bi,bij->bj', structures.positions[end] - structures.positions[start], plane[rows[start]])
    angle = np.arctan2(vectors[:, 1], vectors[:, 0])
    sixfold = np.stack([np.cos(6 * angle), np.sin(6 * angle)], axis=1)
    total = _sums(sixfold, rows[start], n)
    origin = np.arctan2(total[:, 1], total[:, 0]) / 6
    direction = np.rint((angle - origin[rows[start]]) / (np.pi / 3)).astype(np.int64) % 6
    return np.concatenate([direction, (direction + 3) % 6])


def _sums(values: NDArray[np.float64], rows: NDArray[np.int64], n: int) -> NDArray[np.float64]:
    return np.stack([np.bincount(rows, weights=column, minlength=n) for column in values.T], axis=1)


# The graph way --------------------------------------------------------------------------------------------------------


def graph_clusters(structures: StructureSet, radii: tuple[int, ...]) -> Clusters:
    """Enumerate clusters by the bonded network alone.

    The cluster of radius k holds the atoms within :func:`bonds_across` (k) bonds of the centre, and the bonds between
    them. Atoms begin with a colour for their element and their distance from the centre, in bonds; then a round of
    colour refinement (Weisfeiler and Leman 1968) gives each a colour for its own and those of its neighbours. After
    twice as many rounds as the radius has bonds, when each atom has heard of all others, the key is a sum over all
    colours. The same cluster thus has the same key, however it is bent, stretched, turned or reflected; different
    clusters differ if refinement separates them, which it does not in every case: two branches that meet in no ring
    inside the cluster may change places.

    :param radii: ascending, in bond lengths of the lattice.
    :raises DescriptorError: if this is not a set of isolated structures of H, B, C and N, or an atom has no bond.
    """
    bonds = bonds_of(structures, 'clusters')
    degree = np.bincount(bonds.ends, minlength=len(bonds.species))
    lost = np.flatnonzero((degree == 0) & ((bonds.species == HYDROGEN) | (structures.counts[structures.rows] > 1)))
    if len(lost):
        raise DescriptorError(f'{place(structures, int(lost[0]))} is bonded to nothing, so that no cluster holds it')
    order = np.argsort(bonds.ends, kind='stable')
    ends, others = bonds.ends[order], bonds.others[order]
    slots = np.arange(len(ends)) - np.repeat(np.cumsum(degree) - degree, degree)
    width = max(int(degree.max(initial=0)), 1)
    heavy = np.flatnonzero(bonds.species != HYDROGEN)
    keys = np.empty((len(heavy), len(radii)), dtype=np.uint64)
    compositions = np.empty_like(keys)
    done = 0
    bounds = np.searchsorted(ends, structures.offsets)
    for row, (start, stop) in enumerate(
        zip(structures.offsets[:-1].tolist(), structures.offsets[1:].tolist(), strict=True)
    ):
        own = slice(int(bounds[row]), int(bounds[row + 1]))
        neighbours = np.full((width, stop - start), stop - start)
        neighbours[slots[own], ends[own] - start] = others[own] - start
        species = bonds.species[start:stop]
        centres = np.flatnonzero(species)
        for first in range(0, len(centres), _CENTRES_AT_ONCE):
            some = centres[first : first + _CENTRES_AT_ONCE]
            filled = slice(done, done + len(some))
            _graph_keys(species, neighbours, some, radii, keys[filled], compositions[filled])
            done += len(some)
    return Clusters(structures.rows[heavy], keys, compositions)


def _graph_keys(
    species: NDArray[np.int64],
    neighbours: NDArray[np.int64],
    centres: NDArray[np.int64],
    radii: tuple[int, ...],
    keys: _Keys,
    compositions: _Keys,
) -> None:
    """Fill the keys and compositions of some centres of one structure; a neighbour beyond the last atom is none."""
    n_atoms, n_centres, reach = len(species), len(centres), bonds_across(radii[-1])
    distance = np.full((n_atoms, n_centres), reach + 1)
    distance[centres, np.arange(n_centres)] = 0
    layer = np.zeros((n_atoms + 1, n_centres), dtype=bool)
    layer[:-1] = distance == 0
    for bonds in range(1, reach + 1):
        layer[:-1] = np.logical_or.reduce(layer[neighbours]) & (distance > reach)
        distance[layer[:-1]] = bonds

    # Only atoms within reach of some centre matter: a large structure costs no more than its clusters.
    near = np.flatnonzero((distance <= reach).any(axis=1))
    renumbered = np.full(n_atoms + 1, len(near))
    renumbered[near] = np.arange(len(near))
    neighbours, distance, units = renumbered[neighbours[:, near]], distance[near], _COUNT_UNITS[species[near]]
    first = mixed_bits((species[near, None] * 256 + distance + 1).astype(np.uint64))
    own = (species[centres].astype(np.uint64) << np.uint64(_CENTRE_SHIFT)) - _COUNT_UNITS[species[centres]]
    colours = np.zeros((len(near) + 1, n_centres), dtype=np.uint64)
    for column, radius in enumerate(radii):
        bonds = bonds_across(radius)
        inside = distance <= bonds
        colours[:-1] = first * inside
        for _ in range(2 * bonds):
            heard = colours[:-1] * _WEIGHT
            for others in neighbours:
                heard += colours[others]
            colours[:-1] = mixed_bits(heard) * inside
        keys[:, column] = mixed_bits(colours.sum(axis=0))
        compositions[:, column] = units @ inside.astype(np.uint64) + own


# Both ways ------------------------------------------------------------------------------------------------------------

_WEIGHT = np.uint64(0x9E3779B97F4A7C15)


def mixed_bits(values: _Keys) -> _Keys:
    """Mix the bits of each number: the output function of SplitMix64 (Steele, Lea and Flood 2014)."""
    mixed = values * _WEIGHT + _WEIGHT
    mixed ^= mixed >> np.uint64(30)
    mixed *= np.uint64(0xBF58476D1CE4E5B9)
    mixed ^= mixed >> np.uint64(27)
    mixed *= np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(31)
    return mixed


def _blocks(counts: NDArray[np.int64], size: int) -> Iterator[slice]:
    """Split structures into consecutive blocks of about so many atoms, or one structure each."""
    ends = np.cumsum(counts)
    first = 0
    while first < len(counts):
        before = int(ends[first - 1]) if first else 0
        last = max(int(np.searchsorted(ends, before + size, side='right')), first + 1)
        yield slice(first, last)
        first = last
