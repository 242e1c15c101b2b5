"""Every study on data whose outcome is known, and what all studies must do."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiida_nanoml.errors import DatasetError, ModelError, NanomlError
from aiida_nanoml.learning.dataset import UNASSIGNED, Dataset
from aiida_nanoml.learning.studies import STUDIES, make_study
from aiida_nanoml.learning.studies.base import (
    FAILED,
    OK,
    Study,
    Table,
    chosen,
    groups,
    rows_of,
    tabulate,
    with_uncertainty,
)
from aiida_nanoml.learning.studies.learning_curve import training_order
from aiida_nanoml.learning.studies.source_figures import SOURCE, TABLE_1, P
from tests.figures import words

SOURCE_OF_LABELS = 'GFN1-xTB (tblite) 0.8.0, protocol fast'
SMALL: dict[str, dict[str, Any]] = {
    'selection': {'methods': ['vt', 'rcr'], 'p': [0.6, 0.95], 'n_features': [5]},
    'transfer': {},
    'learning_curve': {'rows': [40, 100]},
    'hyperparameters': {'grid': {'max_depth': [1, 4]}},
}
KINDS = {'hyperparameters': 'tree'}


def run_study(study: Study, dataset: Dataset, seeds: tuple[int, ...] = (0, 1)) -> Table:
    """Evaluate all points for all seeds."""
    return tabulate(
        row for seed in seeds for point in study.points(dataset) for row in study.evaluate(dataset, point, seed)
    )


def make_small(name: str) -> Study:
    return make_study(name, SMALL[name], KINDS.get(name, 'linear'))


@pytest.fixture
def dataset_for(shifted_dataset: Dataset, cluster_dataset: Dataset, wide_dataset: Dataset) -> Any:
    return {
        'selection': cluster_dataset,
        'transfer': shifted_dataset,
        'learning_curve': wide_dataset,
        'hyperparameters': wide_dataset,
    }.__getitem__


def test_the_four_studies_are_there() -> None:
    assert set(SMALL) <= set(STUDIES.names())


@pytest.mark.parametrize('name', SMALL)
def test_contract(name: str, dataset_for: Any) -> None:
    """Points are JSON-able and the same every time; each has one row a family; tables and figures name the columns."""
    study, dataset = make_small(name), dataset_for(name)
    assert STUDIES.load(name).name == name
    points = study.points(dataset)
    assert points == study.points(dataset)
    assert len(points) >= 2
    families = study.reported_families(dataset)
    table = run_study(study, dataset)
    assert len(table['status']) == 2 * len(points) * len(families)
    assert (table['status'] == OK).all(), table['message']
    assert {*study.keys, 'family', 'seed', 'n_features', 'n_train', 'r2_validation', 'r2_test', 'mae_test_ev'} <= set(
        table
    )
    summary = study.summary(table)
    assert len(summary['family']) == len(points) * len(families)
    assert (summary['n_seeds'] == 2).all()
    first = groups(table, (*study.keys, 'family'))[0]
    assert summary['r2_test'][0] == pytest.approx(table['r2_test'][first].mean())
    assert summary['r2_test_std'][0] == pytest.approx(table['r2_test'][first].std(ddof=1))
    for cells in study.tables(table).values():
        assert len({len(line) for line in cells}) == 1
        assert len(cells) > 1
    assert any('GFN1-xTB' in text for text in words(study.figure(table, SOURCE_OF_LABELS)))


@pytest.mark.parametrize('name', SMALL)
def test_a_point_that_fails_is_a_row_with_a_sentence(name: str, dataset_for: Any) -> None:
    """With one target for all rows there is nothing to learn."""
    study, dataset = make_small(name), dataset_for(name)
    constant = replace(dataset, y=np.ones(len(dataset)))
    table = run_study(study, constant, seeds=(0,))
    assert (table['status'] == FAILED).all()
    assert all('nothing to learn' in message or 'select' in message.lower() for message in table['message'])
    assert (study.summary(table)['n_failed'] == 1).all()
    study.tables(table)
    assert any('GFN1-xTB' in text for text in words(study.figure(table, SOURCE_OF_LABELS)))


@pytest.mark.parametrize('name', SMALL)
def test_what_cannot_be_set_is_refused(name: str) -> None:
    with pytest.raises(DatasetError, match="no setting 'colour'; it has: "):
        make_study(name, {'colour': 1})
    with pytest.raises(ModelError, match="'oracle'"):
        make_study(name, {}, 'oracle')
    with pytest.raises(ModelError, match='leave out the hyperparameter seed'):
        make_study(name, {}, 'fast', {'seed': 1})


@pytest.mark.parametrize(
    ('name', 'settings', 'message'),
    [
        ('selection', {'methods': []}, 'setting methods'),
        ('selection', {'methods': ['best']}, 'setting methods.0'),
        ('selection', {'p': [0.4]}, 'setting p.0'),
        ('selection', {'n_features': [0]}, 'setting n_features.0'),
        ('transfer', {'families': ['h']}, 'setting families'),
        ('learning_curve', {'rows': []}, 'setting rows'),
        ('learning_curve', {'rows': [1.5]}, 'setting rows.0'),
        ('hyperparameters', {'grid': {}}, 'setting grid'),
        ('hyperparameters', {'grid': {'epochs': []}}, 'setting grid.epochs'),
        ('hyperparameters', {'sampling': 'bayes'}, 'setting sampling'),
    ],
)
def test_settings_out_of_range_are_named(name: str, settings: dict, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        make_study(name, settings)


def test_an_unknown_study_is_refused_with_the_known_ones() -> None:
    with pytest.raises(DatasetError, match='learning_curve'):
        STUDIES.load('alchemy')


def test_vt_drops_rare_columns_and_mit_finds_the_informative_one(cluster_dataset: Dataset) -> None:
    settings = {'methods': ['vt', 'mit', 'random'], 'p': [0.8], 'thresholds': [0.5], 'n_features': [1]}
    study = make_study('selection', settings, 'linear')
    table = run_study(study, cluster_dataset)
    everything, vt, mit, random = (chosen(table, method=method) for method in ('all', 'vt', 'mit', 'random'))
    assert (everything['n_features'] == 16).all()
    # p (1 - p) = 0.16: columns present in half of the rows vary by 0.25, those in one of twenty by 0.05.
    assert (vt['n_features'] == 4).all()
    assert (mit['n_features'] == 1).all()
    assert (mit['r2_test'] > 0.95).all()
    assert (random['r2_test'] < 0.9).all()


def test_all_features_removed_is_a_failed_row(cluster_dataset: Dataset) -> None:
    """No binary column varies by more than 1/4."""
    study = make_study('selection', {'methods': ['vt'], 'p': [0.5, 0.8]}, 'linear')
    table = run_study(study, cluster_dataset, seeds=(0,))
    assert chosen(table, method='all')['status'].tolist() == [OK]
    failed, fine = chosen(table, parameter=0.5), chosen(table, parameter=0.8)
    assert failed['status'].tolist() == [FAILED]
    assert '0.25' in failed['message'][0]
    assert fine['status'].tolist() == [OK]
    assert np.isnan(failed['r2_test']).all()


def test_table_1_has_the_source_beside_ours(cluster_dataset: Dataset) -> None:
    study = make_study('selection', {'methods': ['vt']}, 'linear')
    cells = study.tables(run_study(study, cluster_dataset))['table_1']
    assert [line[1] for line in cells[1:]] == [f'{p:g}' for p in P]
    assert SOURCE in cells[0][-1]
    assert [float(line[-1]) for line in cells[1:]] == list(TABLE_1['h']['r2_test'])
    assert [float(line[-3]) for line in cells[1:]] == list(TABLE_1['h']['n_features'])


def test_selection_does_not_see_validation_and_test_rows(cluster_dataset: Dataset) -> None:
    """A column that only varies outside of the training rows is constant to the selection."""
    X = cluster_dataset.X.copy()
    X[:, 4] = np.where(cluster_dataset.split == 'train', 1.0, X[:, 4])
    study = make_study('selection', {'methods': ['vt'], 'p': [0.8]}, 'linear')
    table = run_study(study, replace(cluster_dataset, X=X), seeds=(0,))
    assert chosen(table, method='vt')['n_features'].tolist() == [3]


def test_transfer_is_good_within_a_family_and_bad_between_families(shifted_dataset: Dataset) -> None:
    study = make_study('transfer', {}, 'linear')
    table = run_study(study, shifted_dataset)
    for train_family in ('h', 's'):
        for family in ('h', 's'):
            found = chosen(table, train_family=train_family, family=family)['r2_test']
            assert (found > 0.95).all() if train_family == family else (found < 0).all()
    together = chosen(table, train_family='')
    assert (together['r2_test'] < 0.5).all(), 'one slope cannot serve both'
    assert (together['n_train'] == 2 * chosen(table, train_family='h')['n_train'][0]).all()
    matrix = study.tables(table)['r2_matrix']
    assert matrix[0] == ['trained on', 'R2 on h', 'R2 on s']
    assert [line[0] for line in matrix[1:]] == ['h', 's', 'all']


def test_transfer_validates_on_the_family_that_it_learnt_from(shifted_dataset: Dataset) -> None:
    table = run_study(make_study('transfer', {'together': False}, 'linear'), shifted_dataset, seeds=(0,))
    other = chosen(table, train_family='h', family='s')
    assert np.isnan(other['r2_validation']).all()
    assert np.isfinite(other['r2_test']).all()


def test_transfer_needs_two_families(cluster_dataset: Dataset, shifted_dataset: Dataset) -> None:
    with pytest.raises(DatasetError, match='needs two families, there is: h'):
        make_study('transfer').points(cluster_dataset)
    with pytest.raises(DatasetError, match='no rows of the family z; there is: h, s'):
        make_study('transfer', {'families': ['h', 'z']}).points(shifted_dataset)
    with pytest.raises(DatasetError, match='needs two families'):
        make_study('transfer').check({'h': 100}, 0.6)


def test_the_learning_curve_grows(wide_dataset: Dataset) -> None:
    study = make_study('learning_curve', {'halvings': 2}, 'ridge')
    table = run_study(study, wide_dataset)
    assert [point['n_rows'] for point in study.points(wide_dataset)] == [45, 90, 180]
    overall = chosen(study.summary(table), family='')
    assert (np.diff(overall['r2_test']) > 0).all()
    assert (np.diff(overall['mae_test_ev']) < 0).all()
    np.testing.assert_array_equal(overall['n_train'], [45, 90, 180])
    assert (table['n_test'][table['family'] == ''] == 60).all(), 'the test rows stay the same'


def test_more_rows_than_there_are_is_refused(wide_dataset: Dataset) -> None:
    study = make_study('learning_curve', {'rows': [10, 200]})
    with pytest.raises(DatasetError, match='needs 200 training rows, there are 180'):
        study.points(wide_dataset)
    with pytest.raises(DatasetError, match='needs 200 training rows, there are 60'):
        study.check({'h': 100}, 0.6)


@given(size=st.integers(2, 180), seed=st.integers(0, 5))
def test_every_beginning_of_the_order_has_the_shares_of_the_families(
    wide_dataset: Dataset, size: int, seed: int
) -> None:
    order = training_order(wide_dataset, seed)
    assert sorted(order) == np.flatnonzero(wide_dataset.split == 'train').tolist()
    assert np.sum(wide_dataset.families[order[:size]] == 'h') == pytest.approx(size * 2 / 3, abs=1)


def test_rows_left_out_of_the_curve_are_not_seen(wide_dataset: Dataset) -> None:
    """Targets of rows beyond the first ones change nothing."""
    study = make_study('learning_curve', {'rows': [50]}, 'linear')
    (point,) = study.points(wide_dataset)
    left_out = training_order(wide_dataset, 0)[50:]
    y = wide_dataset.y.copy()
    y[left_out] += 10
    before, after = (study.evaluate(dataset, point, 0) for dataset in (wide_dataset, replace(wide_dataset, y=y)))
    assert before[0]['r2_test'] == after[0]['r2_test']


def test_hyperparameters_are_ranked_by_validation(wide_dataset: Dataset) -> None:
    """Far too strong a penalty is worse."""
    study = make_study('hyperparameters', {'grid': {'alpha': [1e6, 0.1]}, 'sampling': 'grid'}, 'ridge')
    ranked = study.ranked(run_study(study, wide_dataset))
    assert ranked['alpha'].tolist() == [0.1, 1e6]
    assert ranked['r2_validation'][0] > ranked['r2_validation'][1]


def test_grid_and_random_sampling_cover_the_grid(wide_dataset: Dataset) -> None:
    grid = {'max_depth': [1, 2, 3], 'min_samples_leaf': [1, 5]}
    every = make_study('hyperparameters', {'grid': grid, 'sampling': 'grid'}, 'tree').points(wide_dataset)
    some = make_study('hyperparameters', {'grid': grid, 'n_points': 4}, 'tree').points(wide_dataset)
    assert len(every) == 6
    assert len(some) == 4
    assert all(point in every for point in some)
    assert len({str(point) for point in some}) == 4


@pytest.mark.parametrize(
    ('settings', 'kind', 'fixed', 'error'),
    [
        ({}, 'tree', {}, 'has no default `grid`'),
        ({'grid': {'depth': [1]}}, 'tree', {}, 'unknown hyperparameter'),
        ({'grid': {'max_depth': ['deep']}}, 'tree', {}, 'max_depth'),
        ({'grid': {'seed': [1]}}, 'forest', {}, 'leave out the hyperparameter seed'),
        ({'grid': {'max_depth': [1]}}, 'tree', {'max_depth': 2}, 'fixed and tried'),
    ],
)
def test_a_grid_that_does_not_fit_the_model_is_refused(settings: dict, kind: str, fixed: dict, error: str) -> None:
    with pytest.raises(NanomlError, match=error):
        make_study('hyperparameters', settings, kind, fixed)


def test_a_baseline_is_corrected_and_judged_alone(wide_dataset: Dataset) -> None:
    """The correction is learnt from fewer rows than the gap; the baseline alone stands beside it."""
    baseline = wide_dataset.y + 0.3 + 0.01 * wide_dataset.X[:, 0]
    corrected = replace(wide_dataset, baseline=baseline)
    study = make_study('learning_curve', {'rows': [60]}, 'linear')
    row = study.evaluate(corrected, study.points(corrected)[0], 0)[0]
    assert row['mae_test_baseline_ev'] == pytest.approx(0.3, abs=0.02)
    assert row['mae_test_ev'] < 1e-6


def test_tables_survive_being_taken_apart() -> None:
    rows = [{'a': 1.0, 'b': 'x', 'c': None}, {'a': None, 'b': '', 'c': 2.5}]
    table = tabulate(rows)
    assert rows_of(table) == rows
    assert tabulate(rows_of(table)).keys() == table.keys()


def test_missing_keys_of_some_rows() -> None:
    table = tabulate([{'a': 1}, {'b': 'x'}])
    assert np.isnan(table['a'][1])
    assert table['b'].tolist() == ['', 'x']


def test_numbers_are_written_with_their_deviation() -> None:
    assert with_uncertainty(0.81234, 0.0141) == '0.812 ± 0.014'
    assert with_uncertainty(0.81234, np.nan) == '0.812'
    assert with_uncertainty(np.nan, np.nan) == '-'


def test_unassigned_rows_are_not_judged(wide_dataset: Dataset) -> None:
    split = wide_dataset.split.copy()
    split[split == 'validation'] = UNASSIGNED
    study = make_study('learning_curve', {'rows': [60]}, 'linear')
    dataset = wide_dataset.with_split(split)
    assert 'r2_validation' not in study.evaluate(dataset, study.points(dataset)[0], 0)[0]


@pytest.mark.usefixtures('third_party_path')
def test_a_study_of_another_package(wide_dataset: Dataset) -> None:
    assert 'seeds' in STUDIES.names()
    study = make_study('seeds', {}, 'neighbours')
    row, *_ = study.evaluate(wide_dataset, study.points(wide_dataset)[0], seed=0)
    assert (row['status'], row['message']) == ('ok', '')
    assert row['r2_test'] is not None
    with pytest.raises(DatasetError, match="the study seeds has no setting 'colour'"):
        make_study('seeds', {'colour': 1})
