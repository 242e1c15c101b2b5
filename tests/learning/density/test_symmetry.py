"""Symmetry of a mesh: published counts of free weights, and layers that commute."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from aiida_nanoml.errors import ModelError
from aiida_nanoml.learning.density.symmetry import (
    GROUPS,
    ball,
    interpolation,
    permutations,
    rings,
    side_by_side,
    symmetry_operations,
    tie_weights,
)

ORDERS = {'none': 1, 'C4': 4, 'C4v': 8, 'D4h': 16, 'C12v': 24, 'Oh': 48}
PATCH = np.array([(x, y, 0) for x in range(-3, 4) for y in range(-3, 4)])


@pytest.mark.parametrize('group', GROUPS)
def test_operations_are_a_group_of_rotations_and_reflections(group: str) -> None:
    operations = symmetry_operations(group)
    assert len(operations) == ORDERS[group]
    np.testing.assert_array_equal(operations[0], np.eye(3))
    np.testing.assert_allclose(
        np.einsum('gxy,gzy->gxz', operations, operations), np.broadcast_to(np.eye(3), operations.shape), atol=1e-12
    )
    products = np.einsum('gxy,hyz->ghxz', operations, operations).reshape(-1, 9)
    distances = np.abs(products[:, None] - operations.reshape(1, -1, 9)).max(axis=2).min(axis=1)
    assert distances.max() < 1e-12, 'a product of two operations is none of them'
    assert len(np.unique(np.round(operations.reshape(-1, 9), 6), axis=0)) == ORDERS[group]


@pytest.mark.parametrize(('group', 'weights'), [('none', 2401), ('C4', 601), ('C4v', 325)])
def test_published_counts_of_a_patch_of_7_by_7(group: str, weights: int) -> None:
    permuted = permutations(PATCH, symmetry_operations(group))
    tied, count = tie_weights(permuted, permuted)
    assert count == weights
    assert set(tied.ravel()) == set(range(weights))


@pytest.mark.parametrize('group', GROUPS)
def test_a_tied_layer_commutes_with_every_operation(group: str) -> None:
    generator = np.random.default_rng(0)
    operations = symmetry_operations(group)
    points = rings(2.0) if group == 'C12v' else ball(2.0)
    inputs = permutations(points, operations)
    outputs = side_by_side([inputs, inputs])
    tied, count = tie_weights(inputs, outputs)
    assert count <= tied.size
    weights = generator.normal(size=count)[tied]
    row = generator.normal(size=len(points))
    for image_in, image_out in zip(inputs, outputs, strict=True):
        turned = np.empty_like(row)
        turned[image_in] = row
        expected = np.empty(outputs.shape[1])
        expected[image_out] = row @ weights
        np.testing.assert_allclose(turned @ weights, expected, atol=1e-12)


def test_burnside_counts_the_orbits_of_every_group() -> None:
    for group, points in itertools.product(('C4', 'C4v', 'D4h', 'Oh'), (ball(1.0), ball(3.0))):
        permuted = permutations(points, symmetry_operations(group))
        fixed = (permuted == np.arange(len(points))).sum(axis=1)
        assert tie_weights(permuted, permuted)[1] == (fixed.astype(float) ** 2).mean()


def test_interpolation_is_exact_for_linear_functions_and_mesh_points() -> None:
    points = rings(3.0)
    used, shares = interpolation(points)
    np.testing.assert_allclose(shares.sum(axis=1), 1.0)
    np.testing.assert_allclose(shares @ used, points, atol=1e-6)
    mesh, same = interpolation(ball(2.0))
    np.testing.assert_array_equal(same @ mesh, ball(2.0))
    assert same.shape == (33, 33)


def test_what_is_no_symmetry_is_refused() -> None:
    with pytest.raises(ModelError, match="no group 'C5'"):
        symmetry_operations('C5')
    with pytest.raises(ModelError, match='not closed'):
        permutations([[1, 0, 0]], symmetry_operations('C4'))
