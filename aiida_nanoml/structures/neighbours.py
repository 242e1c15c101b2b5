"""Pairs of near atoms in many structures at once, by one grid search over flat arrays."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_ATOMS_PER_BLOCK = 200_000  # keeps the candidate pairs of one block within some tens of megabytes


def near_pairs(
    positions: NDArray[np.float64], offsets: NDArray[np.int64], cutoff: float
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Find every pair of atoms of one structure that are nearer than a cutoff, without periodic images.

    Atoms are sorted into cubes with the cutoff as the edge; the cubes of all structures share one key, so that the
    neighbours of all atoms come from a few sorted searches instead of a loop over structures.

    :param positions: (A, 3) coordinates in Å, at most some 1e3 Å from the origin; structure ``r`` owns the rows
        ``offsets[r]:offsets[r + 1]`` and has at least one atom.
    :param offsets: (n + 1,) first atom of each structure.
    :param cutoff: largest distance in Å.
    :returns: indices ``i < j`` into ``positions`` (P,), and their distances in Å (P,); the order of the pairs is
        deterministic but has no meaning.
    """
    found = [
        _pairs_of_block(positions, offsets[first : last + 1], cutoff)
        for first, last in _blocks(offsets)
        if last > first
    ]
    if not found:
        return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64), np.empty(0, dtype=np.float64)
    left, right, distances = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return left, right, distances


def _blocks(offsets: NDArray[np.int64]) -> list[tuple[int, int]]:
    """Split the structures into consecutive blocks of a bounded number of atoms (or one structure each)."""
    blocks = []
    first, n_structures = 0, len(offsets) - 1
    while first < n_structures:
        last = int(np.searchsorted(offsets, offsets[first] + _ATOMS_PER_BLOCK, side='right')) - 1
        last = min(max(last, first + 1), n_structures)
        blocks.append((first, last))
        first = last
    return blocks


def _pairs_of_block(
    positions: NDArray[np.float64], offsets: NDArray[np.int64], cutoff: float
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    start = int(offsets[0])
    points = positions[start : int(offsets[-1])]
    local = offsets - start
    rows = np.repeat(np.arange(len(local) - 1), np.diff(local))
    lowest = np.minimum.reduceat(points, local[:-1], axis=0)
    cubes = np.floor((points - lowest[rows]) / cutoff).astype(np.int64)
    extent = cubes.max(axis=0) + 1
    # One empty cube between lines, planes and structures: a step out of the grid can then meet no atom.
    size_x, size_y, size_z = (extent + 1).tolist()
    keys = ((rows * size_z + cubes[:, 2]) * size_y + cubes[:, 1]) * size_x + cubes[:, 0]
    order = np.argsort(keys, kind='stable')
    keys = keys[order]
    sites = np.arange(len(keys))

    # Half of the 27 cubes around each cube; the three along x are one contiguous range of the sorted keys.
    steps = [
        (dy, dz) for dz in (0, 1) for dy in (-1, 0, 1) if (dz, dy) > (0, 0) and extent[2] > dz and extent[1] > abs(dy)
    ]
    ranges = [(sites + 1, np.searchsorted(keys, keys + 1, side='right'))]
    for dy, dz in steps:
        middle = keys + (dz * size_y + dy) * size_x
        ranges.append((np.searchsorted(keys, middle - 1, side='left'), np.searchsorted(keys, middle + 1, side='right')))

    left_parts, right_parts, distance_parts = [], [], []
    sorted_points = points[order]
    for begin, end in ranges:
        lengths = end - begin
        ends = np.cumsum(lengths)
        left = np.repeat(sites, lengths)
        right = np.arange(int(ends[-1])) + np.repeat(begin - (ends - lengths), lengths)
        difference = sorted_points[left] - sorted_points[right]
        squared = np.einsum('ij,ij->i', difference, difference)
        near = np.flatnonzero(squared < cutoff * cutoff)
        left_parts.append(order[left[near]])
        right_parts.append(order[right[near]])
        distance_parts.append(np.sqrt(squared[near]))
    left, right = np.concatenate(left_parts), np.concatenate(right_parts)
    return np.minimum(left, right) + start, np.maximum(left, right) + start, np.concatenate(distance_parts)
