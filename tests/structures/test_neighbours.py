"""The grid search finds exactly the pairs that a comparison of all with all finds."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from aiida_nanoml.structures import neighbours


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 10**6),
    counts=st.lists(st.integers(1, 25), min_size=1, max_size=6),
    extent=st.tuples(*[st.sampled_from([0.0, 0.5, 3.0, 12.0])] * 3),
    cutoff=st.sampled_from([0.5, 1.0, 1.9]),
)
def test_pairs_of_random_points(seed, counts, extent, cutoff):
    points = np.random.default_rng(seed).uniform(-1, 1, (sum(counts), 3)) * extent
    offsets = np.cumsum([0, *counts])
    rows = np.repeat(np.arange(len(counts)), counts)
    distances = np.linalg.norm(points[:, None] - points[None], axis=2)
    near = np.triu((distances < cutoff) & (rows[:, None] == rows[None]), 1)
    left, right, found = neighbours.near_pairs(points, offsets, cutoff)
    assert sorted(zip(left.tolist(), right.tolist(), strict=True)) == [
        tuple(pair) for pair in np.argwhere(near).tolist()
    ]
    np.testing.assert_allclose(found, distances[left, right])


def test_blocks_do_not_change_the_pairs(monkeypatch):
    points = np.random.default_rng(1).uniform(0, 4, (200, 3))
    offsets = np.arange(0, 201, 10)
    whole = neighbours.near_pairs(points, offsets, 1.0)
    monkeypatch.setattr(neighbours, '_ATOMS_PER_BLOCK', 25)
    parts = neighbours.near_pairs(points, offsets, 1.0)
    assert set(zip(*map(np.ndarray.tolist, whole), strict=True)) == set(
        zip(*map(np.ndarray.tolist, parts), strict=True)
    )


def test_no_structure_has_no_pairs():
    left, right, distances = neighbours.near_pairs(np.empty((0, 3)), np.array([0]), 1.0)
    assert len(left) == len(right) == len(distances) == 0
