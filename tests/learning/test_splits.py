import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiida_nanoml.errors import DatasetError
from aiida_nanoml.learning.splits import SPLITS, check_leakage, fold_rows, split_rows


def named(n):
    return np.array([f'structure-{i}' for i in range(n)])


def test_shares_and_type():
    parts = split_rows(named(100))
    assert parts.dtype == np.dtype('<U10')
    assert {p: int(np.sum(parts == p)) for p in SPLITS} == {'train': 60, 'validation': 20, 'test': 20}


def test_known_answer_holds_on_every_machine():
    assert split_rows(named(10), seed=7).tolist() == [
        'train',
        'train',
        'train',
        'validation',
        'train',
        'validation',
        'test',
        'train',
        'test',
        'train',
    ]


def test_other_seed_other_split():
    assert not np.array_equal(split_rows(named(100), seed=0), split_rows(named(100), seed=1))


def test_no_share_no_rows():
    parts = split_rows(named(10), validation=0, test=0.3)
    assert set(parts) == {'train', 'test'}
    assert np.sum(parts == 'test') == 3


@settings(deadline=None)
@given(
    st.lists(st.integers(0, 40), min_size=30, max_size=120).filter(lambda v: len(set(v)) > 15),
    st.integers(0, 2**40),
    st.randoms(use_true_random=False),
)
def test_equal_identities_stay_together_and_row_order_does_not_matter(values, seed, random):
    identities = np.array([str(v) for v in values])
    parts = split_rows(identities, seed=seed)
    assert set(parts) == set(SPLITS)
    for identity in set(identities):
        assert len(set(parts[identities == identity])) == 1
    order = list(range(len(values)))
    random.shuffle(order)
    assert np.array_equal(split_rows(identities[order], seed=seed), parts[order])


@settings(deadline=None)
@given(st.integers(10, 60), st.integers(10, 60), st.floats(0.1, 0.4), st.floats(0.1, 0.4))
def test_strata_are_divided_alike(n_h, n_s, validation, test):
    strata = np.array(['h'] * n_h + ['s'] * n_s)
    parts = split_rows(named(n_h + n_s), validation, test, strata=strata)
    for stratum, n in (('h', n_h), ('s', n_s)):
        for part, share in (('validation', validation), ('test', test)):
            assert np.sum(parts[strata == stratum] == part) == max(1, round(share * n))


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'validation': -0.1}, 'validation share must be at least 0'),
        ({'test': 1.0}, 'test share must be at least 0 and below 1'),
        ({'test': float('nan')}, 'must be a number'),
        ({'test': '0.2'}, 'must be a number'),
        ({'validation': 0.5, 'test': 0.5}, 'nothing is left to train on'),
        ({'seed': 1.0}, 'seed of a split must be an integer'),
        ({'seed': True}, 'seed of a split must be an integer'),
        ({'strata': named(3)}, 'strata has 3 rows, identities has 10'),
    ],
)
def test_options_that_make_no_sense_are_refused(options, message):
    with pytest.raises(DatasetError, match=message):
        split_rows(named(10), **options)


def test_too_few_rows_are_refused():
    with pytest.raises(DatasetError, match='2 distinct structures, too few: nothing is left for train'):
        split_rows(np.array(['a', 'b', 'b', 'a']))
    with pytest.raises(DatasetError, match="the stratum 's' has 1 distinct structures, too few"):
        split_rows(named(10), strata=np.array(['h'] * 9 + ['s']))


def test_one_identity_in_two_strata_is_refused():
    with pytest.raises(DatasetError, match="'x' belongs to two strata"):
        split_rows(np.array(['x', 'x', 'y', 'z']), strata=np.array(['h', 's', 'h', 'h']))


@pytest.mark.parametrize('identities', [np.arange(10), [], [['a', 'b']]])
def test_identities_are_strings(identities):
    with pytest.raises(DatasetError, match='one-dimensional array of strings'):
        split_rows(identities)


@settings(deadline=None)
@given(st.lists(st.integers(0, 30), min_size=8, max_size=60), st.integers(2, 8), st.randoms(use_true_random=False))
def test_folds_keep_equal_identities_together_and_are_of_equal_size(values, folds, random):
    identities = np.array([str(v) for v in values])
    names = sorted(set(identities.tolist()))
    if len(names) < folds:
        with pytest.raises(DatasetError, match='too few'):
            fold_rows(identities, folds)
        return
    strata = np.array([str(v % 3) for v in values])
    found = fold_rows(identities, folds, seed=3, strata=strata)
    fold_of = {name: set(found[identities == name].tolist()) for name in names}
    assert all(len(numbers) == 1 for numbers in fold_of.values())
    sizes = np.bincount([number for numbers in fold_of.values() for number in numbers], minlength=folds)
    assert len(sizes) == folds
    assert sizes.max() - sizes.min() <= 1
    for stratum in set(strata.tolist()):
        members = {name for name in names if str(int(name) % 3) == stratum}
        spread = np.bincount([next(iter(fold_of[name])) for name in members], minlength=folds)
        assert spread.max() - spread.min() <= 1
    order = list(range(len(values)))
    random.shuffle(order)
    assert np.array_equal(fold_rows(identities[order], folds, seed=3, strata=strata[order]), found[order])


def test_known_folds_hold_on_every_machine():
    assert fold_rows(named(10), 3, seed=7).tolist() == [0, 1, 0, 2, 2, 0, 0, 2, 1, 1]


@pytest.mark.parametrize('folds', [1, 0, -3, 2.0, '5', True])
def test_folds_must_be_an_integer_of_at_least_two(folds):
    with pytest.raises(DatasetError, match='number of folds'):
        fold_rows(named(10), folds)


def test_a_structure_in_two_parts_is_refused():
    hashes = np.array(['a', 'b', 'c', 'a', 'b', 'd', 'd'])
    check_leakage(hashes, np.array(['train', 'test', 'test', 'train', 'test', 'validation', 'validation']))
    check_leakage(hashes, np.array(['train', 'test', 'test', '', '', 'validation', '']))
    leaking = np.array(['train', 'test', 'test', 'validation', 'train', 'train', 'train'])
    with pytest.raises(DatasetError, match='2 structures are in more than one part of the split, the first are a, b:'):
        check_leakage(hashes, leaking)
    with pytest.raises(DatasetError, match='the first are A0, B1:'):
        check_leakage(hashes, leaking, np.array(['A0', 'B1', 'C2', 'A3', 'B4', 'D5', 'D6']))


@given(st.integers(5, 40), st.integers(0, 3))
def test_a_split_never_leaks(n, seed):
    repeated = np.concatenate([named(n), named(3)])
    check_leakage(repeated, split_rows(repeated, seed=seed))
