"""Search for flakes that are the same molecule: turned, reflected, moved, numbered otherwise, relaxed or not."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from aiida_nanoml.errors import DescriptorError
from aiida_nanoml.features.bonds import Bonds, bonds_of
from aiida_nanoml.features.cluster_shapes import mixed_bits
from aiida_nanoml.structures.structure_set import StructureSet

TOLERANCE_ANG = 1.0
"""Largest difference (Å) between the sorted distances of one molecule in two geometries.

Relaxation with GFN1-xTB changes those of flakes of 60 to 74 atoms by 0.24 to 0.53 Å: a few per cent of their length."""

_WEIGHT = np.uint64(0x9E3779B97F4A7C15)
_DISTANCES_AT_ONCE = 10_000_000  # of one block of molecules, 80 MB


def isomer_groups(structures: StructureSet, tolerance_ang: float = TOLERANCE_ANG) -> NDArray[np.int64]:
    """Find the structures that are the same molecule.

    They are, if colour refinement (Weisfeiler and Leman 1968) cannot separate their bonded networks, nor the numbers
    of bonds between any two of their atoms, and if the distances between the atoms, sorted for each pair of elements,
    differ nowhere by more than the tolerance. None of this depends on where a structure stands, how it is turned or
    reflected, or how its atoms are numbered; nor, as long as the same atoms are bonded, on atoms that move by up to
    half of the tolerance. Structures are compared only with those of the same network: the cost grows with the number
    of structures, not with its square.

    :param structures: n isolated flakes of H, B, C and N.
    :param tolerance_ang: in Å, at least 0.
    :returns: (n,) number of the group of each structure: that of the first structure which is the same molecule.
    :raises DescriptorError: a structure is periodic or has other elements, or the tolerance is negative.
    """
    if not tolerance_ang >= 0:
        raise DescriptorError(f'the tolerance of distances must be at least 0 Å, got {tolerance_ang}')
    bonds = bonds_of(structures, 'isomers')
    neighbours = _neighbours(bonds)
    groups = np.arange(len(structures))
    for alike in _equal(_network_keys(structures, bonds.species, neighbours)):
        for members in _equal(_path_keys(structures, bonds.species, neighbours, alike)):
            some = alike[members]
            groups[some] = some[_groups_by_distance(structures, some, bonds.species, tolerance_ang)]
    return groups


def _equal(keys: NDArray[np.uint64]) -> list[NDArray[np.int64]]:
    """Return the positions of each key that occurs more than once."""
    order = np.argsort(keys, kind='stable')
    parts = np.split(order, np.flatnonzero(np.diff(keys[order])) + 1)
    return [part for part in parts if len(part) > 1]


def _neighbours(bonds: Bonds) -> NDArray[np.int64]:
    """Return the atoms bonded to each atom, one after the other (width, A); A fills the places that are left."""
    n_atoms = len(bonds.species)
    degree = np.bincount(bonds.ends, minlength=n_atoms)
    order = np.argsort(bonds.ends, kind='stable')
    slots = np.arange(len(order)) - np.repeat(np.cumsum(degree) - degree, degree)
    neighbours = np.full((int(degree.max(initial=0)), n_atoms), n_atoms)
    neighbours[slots, bonds.ends[order]] = bonds.others[order]
    return neighbours


def _network_keys(
    structures: StructureSet, species: NDArray[np.int64], neighbours: NDArray[np.int64]
) -> NDArray[np.uint64]:
    """Return a number for the bonded network of each structure (n,): the sum of the refined colours of its atoms."""
    if not len(structures):
        return np.empty(0, dtype=np.uint64)
    colours = np.append(mixed_bits(species.astype(np.uint64)), np.uint64(0))
    n_colours = 0
    while (found := len(np.unique(colours))) > n_colours:
        n_colours = found
        heard = colours[:-1] * _WEIGHT
        for others in neighbours:
            heard += colours[others]
        colours[:-1] = mixed_bits(heard)
    return mixed_bits(np.add.reduceat(colours[:-1], structures.offsets[:-1]))


def _path_keys(
    structures: StructureSet, species: NDArray[np.int64], neighbours: NDArray[np.int64], members: NDArray[np.int64]
) -> NDArray[np.uint64]:
    """Return a number for the bonds from any atom to any other, in each of some structures of equal size (m,).

    Naphthalene and fulvalene, for example, have the same colours, but not the same paths.
    """
    keys = np.zeros(len(members), dtype=np.uint64)
    for position, row in enumerate(members.tolist()):
        start, stop = structures.offsets[row : row + 2].tolist()
        n_atoms = stop - start
        near = np.minimum(neighbours[:, start:stop] - start, n_atoms)
        layer = np.eye(n_atoms + 1, n_atoms, dtype=bool)
        hops = np.zeros((n_atoms, n_atoms), dtype=np.uint64)
        reached, count = layer[:-1].copy(), 0
        while layer.any():
            count += 1
            layer[:-1] = np.logical_or.reduce(layer[near]) & ~reached
            hops[layer[:-1]] = count
            reached |= layer[:-1]
        colours = mixed_bits(species[start:stop].astype(np.uint64))
        keys[position] = mixed_bits(colours[:, None] + colours + np.multiply(hops, _WEIGHT)).sum()
    return keys


def _groups_by_distance(
    structures: StructureSet, members: NDArray[np.int64], species: NDArray[np.int64], tolerance_ang: float
) -> NDArray[np.int64]:
    """Return for each of some structures of the same elements the first with nearly its distances."""
    n_atoms = int(structures.counts[members[0]])
    groups = np.arange(len(members))
    if n_atoms == 1:
        return np.zeros_like(groups)
    at_once = max(1, _DISTANCES_AT_ONCE // n_atoms**2)
    distances = np.concatenate(
        [
            _sorted_distances(structures, members[begin : begin + at_once], species, n_atoms)
            for begin in range(0, len(members), at_once)
        ]
    )
    # From the most compact on, so that the groups do not depend on the order of the structures.
    waiting = np.argsort(distances.mean(axis=1), kind='stable')
    while len(waiting):
        near = np.abs(distances[waiting] - distances[waiting[0]]).max(axis=1) <= tolerance_ang
        groups[waiting[near]] = waiting[near].min()
        waiting = waiting[~near]
    return groups


def _sorted_distances(
    structures: StructureSet, members: NDArray[np.int64], species: NDArray[np.int64], n_atoms: int
) -> NDArray[np.float32]:
    """Return the distances between atoms of each structure (m, n(n-1)/2) in Å, sorted for each pair of elements."""
    atoms = structures.offsets[members][:, None] + np.arange(n_atoms)
    by_element = np.argsort(species[atoms], axis=1, kind='stable')
    atoms = np.take_along_axis(atoms, by_element, axis=1)
    points, elements = structures.positions[atoms], species[atoms[0]]
    left, right = np.triu_indices(n_atoms, 1)
    pairs = elements[left] * (species.max() + 1) + elements[right]
    parts = []
    for pair in np.unique(pairs):
        these = pairs == pair
        difference = points[:, left[these]] - points[:, right[these]]
        lengths = np.sqrt(np.einsum('mpi,mpi->mp', difference, difference)).astype(np.float32)
        parts.append(np.sort(lengths, axis=1))
    return np.concatenate(parts, axis=1)
