"""Symmetry of a mesh: operations, points that they map on each other, and weights that they tie.

A layer from a row of values, each at one of some points, to another such row commutes with a symmetry when the weight
between two points is that between their images: one free weight for each orbit of pairs. Between the points of a patch
of 7 x 7 in a plane, 2401 weights become 601 with the four rotations, and 325 with the reflections as well.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from aiida_nanoml.errors import ModelError

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

Group = Literal['none', 'C4', 'C4v', 'D4h', 'C12v', 'Oh']

GROUPS: tuple[Group, ...] = ('none', 'C4', 'C4v', 'D4h', 'C12v', 'Oh')
"""Point groups by Schoenflies symbol; all but Oh turn around the third axis of the mesh, and D4h reflects it, too."""

_SAME_POINT = 1e-6


def symmetry_operations(group: str) -> Floats:
    """Return the operations of a point group.

    :param group: one of :data:`GROUPS`.
    :returns: (g, 3, 3) orthogonal matrices, the identity first; images are ``matrix @ point``.
    :raises ModelError: there is no such group.
    """
    if group not in GROUPS:
        raise ModelError(f'there is no group {group!r}: choose one of {", ".join(GROUPS)}')
    identity = np.eye(3)
    if group == 'none':
        return identity[None]
    if group == 'Oh':
        signed = [
            np.diag(signs) @ identity[list(order)]
            for order in itertools.permutations(range(3))
            for signs in itertools.product((1.0, -1.0), repeat=3)
        ]
        return np.array(signed)
    fold = 12 if group == 'C12v' else 4
    angles = 2 * np.pi * np.arange(fold) / fold
    turns = np.zeros((fold, 3, 3))
    turns[:, 0, 0] = turns[:, 1, 1] = np.cos(angles)
    turns[:, 1, 0], turns[:, 0, 1] = np.sin(angles), -np.sin(angles)
    turns[:, 2, 2] = 1.0
    found = turns
    if group != 'C4':
        found = np.concatenate([found, turns @ np.diag([1.0, -1.0, 1.0])])
    if group == 'D4h':
        found = np.concatenate([found, found @ np.diag([1.0, 1.0, -1.0])])
    return np.round(found) if fold == 4 else found


def permutations(points: ArrayLike, operations: Floats) -> Integers:
    """Return which point is the image of each point, for every operation.

    :param points: (n, 3), closed under the operations.
    :param operations: (g, 3, 3) of :func:`symmetry_operations`.
    :returns: (g, n) indices.
    :raises ModelError: the image of a point is none of the points.
    """
    from scipy.spatial import cKDTree

    places = np.asarray(points, dtype=np.float64)
    images = np.einsum('gxy,ny->gnx', operations, places)
    distances, found = cKDTree(places).query(images)
    if not (distances < _SAME_POINT).all():
        raise ModelError('the points are not closed under the group: the image of one is none of them')
    return np.asarray(found, dtype=np.int64)


def tie_weights(inputs: Integers, outputs: Integers) -> tuple[Integers, int]:
    """Number the free weights of a layer that commutes with the permutations of its inputs and outputs.

    :param inputs: (g, n) from :func:`permutations`.
    :param outputs: (g, m) for the same operations.
    :returns: (n, m) number of the free weight of each pair, and how many there are.
    """
    n, m = inputs.shape[1], outputs.shape[1]
    pairs = np.arange(n * m).reshape(n, m)
    # The first pair of an orbit stands for it; the operations are a whole group, so that one step reaches all.
    first = pairs
    for image_in, image_out in zip(inputs, outputs, strict=True):
        first = np.minimum(first, pairs[np.ix_(image_in, image_out)])
    kinds, numbers = np.unique(first, return_inverse=True)
    return numbers.reshape(n, m).astype(np.int64), len(kinds)


def side_by_side(permuted: Sequence[Integers]) -> Integers:
    """Join the permutations of several sets of points, which lie one after the other.

    :param permuted: (g, n) of each set, for the same operations.
    :returns: (g, sum of n).
    """
    starts = np.cumsum([0, *(indices.shape[1] for indices in permuted[:-1])])
    return np.concatenate([indices + start for indices, start in zip(permuted, starts, strict=True)], axis=1)


def ball(radius: float) -> Integers:
    """Return the mesh points within a radius.

    :param radius: in steps of the mesh.
    :returns: (n, 3) integers.
    """
    reach = np.arange(-int(radius), int(radius) + 1)
    points = np.stack(np.meshgrid(reach, reach, reach, indexing='ij'), axis=-1).reshape(-1, 3)
    inside: Integers = points[(points**2).sum(axis=1) <= radius**2 + _SAME_POINT]
    return inside


def rings(radius: float, fold: int = 12) -> Floats:
    """Return points on rings in planes, at the angles of a rotation axis, which the mesh need not have.

    The rings lie one step from each other, along the radius and along the axis; a point at the centre of each plane
    belongs to them.

    :param radius: of the ball that they fill, in steps of the mesh.
    :param fold: points on each ring.
    :returns: (n, 3).
    """
    angles = 2 * np.pi * np.arange(fold) / fold
    circle = np.stack([np.cos(angles), np.sin(angles), np.zeros(fold)], axis=1)
    found = []
    for height in range(-int(radius), int(radius) + 1):
        centre = np.array([[0.0, 0.0, height]])
        widest = np.sqrt(max(radius**2 - height**2, 0.0) + _SAME_POINT)
        found.append(centre)
        found.extend(centre + size * circle for size in range(1, int(widest) + 1))
    return np.concatenate(found)


def interpolation(points: ArrayLike) -> tuple[Integers, Floats]:
    """Express values at any points by those at mesh points, linearly along each axis.

    :param points: (n, 3) in steps of the mesh.
    :returns: (m, 3) mesh points, and the share (n, m) of each in every value.
    """
    places = np.asarray(points, dtype=np.float64)
    # Rounded, so that a point of the mesh is taken as it is.
    places = np.where(np.abs(places - np.round(places)) < _SAME_POINT, np.round(places), places)
    low = np.floor(places)
    above = places - low
    corners = np.array(list(itertools.product((0, 1), repeat=3)))
    shares = np.where(corners[None] == 1, above[:, None], 1 - above[:, None]).prod(axis=2)
    neighbours = (low[:, None] + corners[None]).astype(np.int64).reshape(-1, 3)
    used, place = np.unique(neighbours, axis=0, return_inverse=True)
    matrix = np.zeros((len(places), len(used)))
    np.add.at(matrix, (np.repeat(np.arange(len(places)), 8), place.ravel()), shares.ravel())
    needed = matrix.any(axis=0)
    return used[needed], matrix[:, needed]
