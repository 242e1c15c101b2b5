"""Rows of a data set are complete and finite, or there is no data set."""

from __future__ import annotations

import numpy as np
import pytest

from aiida_nanoml.errors import DatasetError
from aiida_nanoml.learning.dataset import BASELINE_FEATURE, UNASSIGNED, Dataset, positions_of
from aiida_nanoml.learning.registry import make_model

NAMES = ('CCC', 'BNN', 'H')


def make_arrays(n_rows: int = 4) -> dict[str, np.ndarray]:
    return {
        'X': np.arange(3.0 * n_rows).reshape(n_rows, 3),
        'y': np.linspace(0.5, 2.0, n_rows),
        'hashes': np.array([f'hash{row}' for row in range(n_rows)]),
        'names': np.array([f'flake {row}' for row in range(n_rows)]),
        'families': np.full(n_rows, 'h'),
        'split': np.full(n_rows, UNASSIGNED, dtype='<U10'),
    }


def test_arrays_are_the_way_there_and_back() -> None:
    arrays = make_arrays()
    dataset = Dataset.from_arrays(arrays, NAMES)
    assert len(dataset) == 4
    for name, column in dataset.to_arrays().items():
        np.testing.assert_array_equal(column, arrays[name])
        assert column.dtype.kind != 'O'


def test_parts_divide_the_rows() -> None:
    split = np.array(['train', 'test', 'train', 'validation'])
    dataset = Dataset.from_arrays(make_arrays(), NAMES).with_split(split)
    assert dataset.part('train')[0].tolist() == [[0, 1, 2], [6, 7, 8]]
    assert dataset.part('train')[1].tolist() == [0.5, 1.5]
    assert sum(len(dataset.part(name)[1]) for name in ('train', 'validation', 'test')) == len(dataset)
    assert len(dataset.part('nowhere')[1]) == 0


@pytest.mark.parametrize('value', [np.nan, np.inf, -np.inf, 1e200])
def test_a_feature_that_is_not_finite_is_named(value: float) -> None:
    arrays = make_arrays()
    arrays['X'][2, 1] = value
    with pytest.raises(DatasetError, match=r"row 2 \(flake 2\): feature 'BNN' is not a finite number"):
        Dataset.from_arrays(arrays, NAMES)


@pytest.mark.parametrize('value', [np.nan, np.inf, -1e308])
def test_a_target_that_is_not_finite_is_named(value: float) -> None:
    arrays = make_arrays()
    arrays['y'][3] = value
    with pytest.raises(DatasetError, match=r'row 3 \(flake 3\): the target is not a finite number'):
        Dataset.from_arrays(arrays, NAMES)


@pytest.mark.parametrize('name', ['y', 'hashes', 'names', 'families', 'split'])
def test_columns_of_another_length_are_refused(name: str) -> None:
    arrays = make_arrays()
    with pytest.raises(DatasetError, match=rf'{name} has shape \(3,\), expected \(4,\)'):
        Dataset.from_arrays(arrays | {name: arrays[name][:3]}, NAMES)


@pytest.mark.parametrize('name', list(make_arrays()))
def test_missing_columns_are_named(name: str) -> None:
    arrays = make_arrays()
    del arrays[name]
    with pytest.raises(DatasetError, match=f"lacks the column '{name}'"):
        Dataset.from_arrays(arrays, NAMES)


def test_features_must_be_a_table_as_wide_as_their_names() -> None:
    arrays = make_arrays()
    with pytest.raises(DatasetError, match='3 feature columns but 2 feature names'):
        Dataset.from_arrays(arrays, NAMES[:2])
    with pytest.raises(DatasetError, match=r'shape \(N, F\)'):
        Dataset.from_arrays(arrays | {'X': np.arange(4.0)}, NAMES)


def test_no_rows_are_no_data_set() -> None:
    with pytest.raises(DatasetError, match='no rows'):
        Dataset.from_arrays(make_arrays(0), NAMES)


BASELINE = np.array([0.4, 1.1, 1.4, 2.1])


def test_with_a_baseline_the_correction_is_learnt_from_features_and_baseline() -> None:
    arrays = make_arrays() | {'baseline': BASELINE, 'split': np.array(['train', 'test', 'train', 'test'])}
    dataset = Dataset.from_arrays(arrays, NAMES)
    assert dataset.input_names == (*NAMES, BASELINE_FEATURE)
    X, learnt = dataset.part('train')
    np.testing.assert_array_equal(X, [[0, 1, 2, 0.4], [6, 7, 8, 1.4]])
    np.testing.assert_allclose(learnt, [0.1, 0.1])
    np.testing.assert_array_equal(dataset.to_arrays()['baseline'], BASELINE)
    assert 'baseline' not in Dataset.from_arrays(make_arrays(), NAMES).to_arrays()


def test_a_correction_that_is_linear_is_learnt_exactly() -> None:
    """Where the baseline carries what no linear model finds, the correction makes up for the rest."""
    random = np.random.Generator(np.random.PCG64(2))
    X = random.uniform(size=(40, 3))
    baseline = np.sin(20 * X).sum(axis=1)
    arrays = make_arrays(40) | {'X': X, 'baseline': baseline, 'y': baseline + 0.2 + X @ [0.5, -0.3, 0.1]}
    arrays['split'] = np.array(['train', 'test'] * 20)
    dataset = Dataset.from_arrays(arrays, NAMES)
    (seen, learnt), (unseen, wanted) = dataset.part('train'), dataset.part('test')
    np.testing.assert_allclose(make_model('linear').fit(seen, learnt).predict(unseen), wanted, atol=1e-10)
    alone = make_model('linear').fit(seen[:, :3], dataset.y[::2]).predict(unseen[:, :3])
    assert np.abs(alone - dataset.y[1::2]).mean() > 0.3


def test_a_baseline_must_be_whole() -> None:
    spoilt = BASELINE.copy()
    spoilt[1] = np.nan
    with pytest.raises(DatasetError, match=r'row 1 \(flake 1\): the baseline is not a finite number'):
        Dataset.from_arrays(make_arrays() | {'baseline': spoilt}, NAMES)
    with pytest.raises(DatasetError, match=r'baseline has shape \(3,\), expected \(4,\)'):
        Dataset.from_arrays(make_arrays() | {'baseline': BASELINE[:3]}, NAMES)


def test_positions_of_hashes() -> None:
    known = np.array(['a', 'b', 'c'])
    assert positions_of(np.array(['c', 'x', 'a', 'c']), known).tolist() == [2, -1, 0, 2]


def test_other_targets_are_learnt_beside_the_first_in_alphabetical_order() -> None:
    arrays = make_arrays() | {'baseline': BASELINE, 'split': np.array(['train', 'test', 'train', 'test'])}
    arrays |= {'y_pressure': np.arange(4.0), 'y_magnetic_moment': np.full(4, 2.0)}
    dataset = Dataset.from_arrays(arrays, NAMES, 'cohesive_energy')
    assert list(dataset.others) == ['magnetic_moment', 'pressure']
    assert dataset.input_names == (*NAMES, 'baseline_cohesive_energy')
    _, learnt = dataset.part('train')
    np.testing.assert_allclose(learnt, [[0.1, 2.0, 0.0], [0.1, 2.0, 2.0]])
    again = Dataset.from_arrays(dataset.to_arrays(), NAMES, 'cohesive_energy')
    assert list(again.to_arrays()) == list(dataset.to_arrays())
    for name, column in dataset.to_arrays().items():
        np.testing.assert_array_equal(again.to_arrays()[name], column)


def test_another_target_must_be_whole_and_another_one() -> None:
    arrays = make_arrays() | {'y_pressure': np.array([1.0, np.nan, 2.0, 3.0])}
    with pytest.raises(DatasetError, match=r"row 1 \(flake 1\): the target 'pressure' is not a finite number"):
        Dataset.from_arrays(arrays, NAMES)
    with pytest.raises(DatasetError, match=r'y_pressure has shape \(3,\), expected \(4,\)'):
        Dataset.from_arrays(arrays | {'y_pressure': np.ones(3)}, NAMES)
    with pytest.raises(DatasetError, match="'pressure' is the target and one of the others"):
        Dataset.from_arrays(arrays, NAMES, 'pressure')


def test_groups_take_the_place_of_structures_where_there_are_any() -> None:
    arrays = make_arrays()
    assert Dataset.from_arrays(arrays, NAMES).identities.tolist() == arrays['hashes'].tolist()
    grouped = Dataset.from_arrays(arrays | {'groups': np.array(['a', 'a', 'b', 'b'])}, NAMES)
    assert grouped.identities.tolist() == ['a', 'a', 'b', 'b']
    assert grouped.to_arrays()['groups'].tolist() == ['a', 'a', 'b', 'b']
