"""Which rows are chosen: known answers, and what must not matter."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiida_nanoml.errors import DatasetError
from aiida_nanoml.learning.acquisition import SHORTLIST, STRATEGIES, choose_rows, draw_rows, farthest_rows


def hashes_of(n: int) -> np.ndarray:
    return np.array([hashlib.sha256(str(row).encode()).hexdigest() for row in range(n)])


def test_farthest_rows_of_a_line() -> None:
    """Known at 0: first the far end, then the middle, then a quarter."""
    line = np.arange(1.0, 9.0)[:, None]
    assert farthest_rows(line, [[0.0]], 3).tolist() == [7, 3, 1]
    assert farthest_rows(line, [[0.0], [8.0]], 1).tolist() == [3]
    assert sorted(farthest_rows(line, [[0.0]], 100).tolist()) == list(range(8))


def test_columns_count_alike_whatever_their_unit() -> None:
    known = np.array([[0.0, 0.0], [1.0, 1000.0]])
    candidates = np.array([[3.0, 0.0], [0.0, 2000.0]])
    assert farthest_rows(candidates, known, 1).tolist() == [0], 'three units of the first column, two of the second'


def test_std_takes_the_largest_and_mixed_avoids_twins() -> None:
    """Rows 4 and 5 are twins of the largest uncertainty; mixed takes one of them, and another row instead."""
    std = np.array([0.1, 0.2, 0.1, 0.3, 0.9, 0.8])
    features = np.array([[0.0], [1.0], [2.0], [5.0], [9.0], [9.0]])
    common = {'hashes': hashes_of(6), 'std': std, 'describe': lambda rows: features[rows], 'known': [[0.0], [0.5]]}
    assert choose_rows('std', 2, **common).tolist() == [4, 5]
    assert choose_rows('mixed', 2, **common).tolist() == [4, 3]


def test_only_the_short_list_is_described() -> None:
    asked = []
    rng = np.random.Generator(np.random.PCG64(1))
    distance, features = rng.random(50), rng.random((50, 3))

    def describe(rows: np.ndarray) -> np.ndarray:
        asked.extend(rows.tolist())
        return features[rows]

    rows = choose_rows('distance', 4, hashes_of(50), distance=distance, describe=describe, known=features[:5])
    assert asked == np.argsort(-distance)[: 4 * SHORTLIST].tolist()
    assert set(rows.tolist()) <= set(asked)


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(sorted(STRATEGIES)), st.integers(1, 12), st.integers(0, 3), st.randoms(use_true_random=False))
def test_the_order_of_the_pool_does_not_matter(strategy: str, count: int, seed: int, random) -> None:
    rng = np.random.Generator(np.random.PCG64(seed))
    hashes, features = hashes_of(10), rng.random((10, 2))
    std = rng.integers(1, 4, 10) / 10  # ties
    order = list(range(10))
    random.shuffle(order)

    def chosen(rows: np.ndarray) -> list[str]:
        pool = features[rows]
        picked = choose_rows(
            strategy, count, hashes[rows], std[rows], std[rows], lambda some: pool[some], features[:2] + 5.0, seed
        )
        return hashes[rows][picked].tolist()

    found = chosen(np.arange(10))
    assert len(set(found)) == len(found) == min(count, 10)
    assert chosen(np.array(order)) == found


def test_random_choices_continue_each_other() -> None:
    """Of what a first choice leaves, the same seed takes the next ones: rounds add up to one draw."""
    hashes = hashes_of(20)
    first = draw_rows(hashes, 5, seed=3)
    left = np.setdiff1d(np.arange(20), first)
    second = left[draw_rows(hashes[left], 5, seed=3)]
    assert np.concatenate([first, second]).tolist() == draw_rows(hashes, 10, seed=3).tolist()
    assert draw_rows(hashes, 10, seed=4).tolist() != draw_rows(hashes, 10, seed=3).tolist()
    assert first.tolist() == [2, 14, 15, 8, 11], 'the same on any machine'


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'strategy': 'best'}, "no strategy 'best'; there are: std, distance, mixed, random"),
        ({'count': 0}, 'integer of at least 1, got 0'),
        ({'count': True}, 'integer of at least 1, got True'),
        ({'hashes': np.array(['a', 'a'])}, 'each structure only once'),
        ({'hashes': np.array([], dtype=str)}, 'at least one row'),
        ({'std': None}, 'needs the std of every row'),
        ({'std': np.array([0.1, np.nan])}, 'needs the std of every row'),
        ({'std': np.array([0.1])}, r'std has shape \(1,\), expected \(2,\)'),
        ({'describe': None}, 'needs the features'),
        ({'known': [[0.0]]}, 'the candidates have 2 features, the known rows 1'),
        ({'strategy': 'random', 'seed': 0.5}, 'seed of a choice must be an integer, got 0.5'),
    ],
)
def test_what_cannot_be_chosen_from_is_refused(change: dict, message: str) -> None:
    usual = {
        'strategy': 'mixed',
        'count': 1,
        'hashes': hashes_of(2),
        'std': np.array([0.1, 0.2]),
        'describe': lambda rows: np.eye(2)[rows],
        'known': np.zeros((1, 2)),
    }
    with pytest.raises(DatasetError, match=message):
        choose_rows(**usual | change)
