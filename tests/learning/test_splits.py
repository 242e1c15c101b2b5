import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from aiida_nanoml.errors import DatasetError
from aiida_nanoml.learning.splits import (
    SPLITS,
    alloy_keys,
    check_leakage,
    composition_keys,
    fold_rows,
    split_parameters,
    split_rows,
)
from aiida_nanoml.structures import Structure, StructureSet


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


@st.composite
def alloys(draw):
    """Names of alloys, each with some cells, in any order."""
    sizes = draw(st.lists(st.integers(1, 8), min_size=6, max_size=25))
    names = np.repeat([f'alloy-{number:04d}' for number in range(len(sizes))], sizes)
    return names[np.array(draw(st.permutations(range(len(names)))))]


@given(alloys(), st.integers(0, 5))
@example(np.repeat([f'alloy-{number:04d}' for number in range(6)], [1, 8, 1, 1, 1, 1]), 1)
def test_no_group_is_in_two_parts_or_folds(names, seed):
    keys = alloy_keys(names)
    parts = split_rows(keys, 0.2, 0.2, seed, called='alloys')
    folds = fold_rows(keys, 3, seed, called='alloys')
    for name in np.unique(names):
        assert len(set(parts[names == name])) == 1
        assert len(set(folds[names == name])) == 1
    assert set(parts) == set(SPLITS)
    assert set(folds) == {0, 1, 2}


def test_compositions_are_in_lowest_proportions_whatever_the_cell_and_the_order():
    cells = [[26, 26, 13], [13, 26, 26, 26, 26, 13], [26, 13, 13], [26], [26, 26]]
    places = [np.arange(len(numbers))[:, None] * [2.0, 0, 0] for numbers in cells]
    structures = StructureSet.from_structures(
        [Structure(np.array(numbers), where) for numbers, where in zip(cells, places, strict=True)]
    )
    keys = composition_keys(structures)
    assert keys.tolist() == ['Al1 Fe2', 'Al1 Fe2', 'Al2 Fe1', 'Fe1', 'Fe1']


def test_parameters_of_a_split_are_completed():
    usual = {'validation': 0.2, 'test': 0.2, 'seed': 0, 'by_family': True, 'group': 'structure'}
    assert split_parameters({}) == usual
    assert split_parameters({'test': 0.3, 'group': 'alloy'}) == usual | {
        'test': 0.3,
        'group': 'alloy',
        'by_family': False,
    }
    assert split_parameters({'group': 'alloy', 'by_family': True})['by_family']
    with pytest.raises(DatasetError, match="no group 'phase'; it keeps together one of structure, alloy, composition"):
        split_parameters({'group': 'phase'})
    with pytest.raises(DatasetError, match='no parameter shares; it has validation, test, seed, by_family, group'):
        split_parameters({'shares': 0.3})


def test_groups_that_cannot_be_kept_together_say_what_they_are():
    with pytest.raises(DatasetError, match='row 1 has no name'):
        alloy_keys(np.array(['alloy-1', '']))
    names = np.array(['alloy-1', 'alloy-1', 'alloy-2'])
    with pytest.raises(DatasetError, match=r'there are 2 distinct alloys, too few.*Add alloys'):
        split_rows(names, called='alloys')
    with pytest.raises(DatasetError, match='2 distinct alloys, too few for 3 folds'):
        fold_rows(names, 3, called='alloys')
    with pytest.raises(DatasetError, match="'alloy-1' belongs to two strata: without strata"):
        split_rows(names, strata=np.array(['fcc', 'bcc', 'fcc']))
