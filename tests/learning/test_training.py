from dataclasses import replace

import numpy as np
import pytest

from aiida_nanoml.errors import DatasetError
from aiida_nanoml.learning.dataset import Dataset
from aiida_nanoml.learning.distance import TrainingDomain
from aiida_nanoml.learning.metrics import regression_metrics
from aiida_nanoml.learning.registry import make_model
from aiida_nanoml.learning.training import fit_model, metrics_by_part, predict_columns, predict_held_out

PARTS = ('train', 'validation', 'test')


@pytest.fixture(scope='module')
def dataset():
    """Rows of two families whose target is linear in the features, with noise of 0.1 eV."""
    random = np.random.Generator(np.random.PCG64(5))
    X = random.normal(size=(200, 3))
    return Dataset(
        X=X,
        y=2.0 + X @ [0.3, -0.2, 0.1] + 0.1 * random.normal(size=200),
        hashes=np.array([f'{row:064x}' for row in range(200)]),
        names=np.array([f'row {row}' for row in range(200)]),
        families=np.where(np.arange(200) % 2, 'h', 's'),
        split=np.array(PARTS)[np.arange(200) // 4 % 3],
        feature_names=('a', 'b', 'c'),
    )


def with_baseline(dataset, baseline):
    return Dataset.from_arrays(dataset.to_arrays() | {'baseline': baseline}, dataset.feature_names)


def test_a_model_learns_from_the_training_rows_alone(dataset):
    model = fit_model(make_model('linear'), dataset)
    rows = dataset.split == 'train'
    alone = make_model('linear').fit(dataset.X[rows], dataset.y[rows])
    np.testing.assert_array_equal(model.predict(dataset.X), alone.predict(dataset.X))


def test_progress_is_that_of_the_epochs(dataset):
    seen, losses = [], []
    model = fit_model(make_model('fast', epochs=2, members=1), dataset, lambda *told: seen.append(told), losses.append)
    assert seen == [(1, 2), (2, 2)]
    assert {name: [one[name] for one in losses] for name in losses[0]} == model.history_


def test_data_without_anything_to_learn_are_refused(dataset):
    with pytest.raises(DatasetError, match='split it before training'):
        fit_model(make_model('linear'), dataset.with_split(np.full(200, 'test')))
    constant = dataset.to_arrays() | {'y': np.where(dataset.split == 'train', 1.5, dataset.y)}
    with pytest.raises(DatasetError, match=r'all 68 training rows have the same gap, 1.5 eV'):
        fit_model(make_model('linear'), Dataset.from_arrays(constant, dataset.feature_names))
    with pytest.raises(DatasetError, match='the same correction to the baseline, 0 eV'):
        fit_model(make_model('linear'), with_baseline(dataset, dataset.y))


def test_a_target_that_is_constant_in_the_test_rows_alone_has_no_r2(dataset):
    arrays = dataset.to_arrays() | {'y': np.where(dataset.split == 'test', 1.5, dataset.y)}
    changed = Dataset.from_arrays(arrays, dataset.feature_names)
    metrics = metrics_by_part(changed, fit_model(make_model('linear'), changed).predict(changed.X))
    assert metrics['test']['r2'] is None
    assert metrics['train']['r2'] > 0.8


def test_metrics_of_every_part_and_family(dataset):
    baseline = with_baseline(dataset, dataset.y + 0.3)
    metrics = metrics_by_part(baseline, dataset.y + 0.1)
    names = {f'{part}{family}' for part in PARTS for family in ('', '/h', '/s')}
    assert set(metrics) == names | {f'baseline/{name}' for name in names}
    rows = (dataset.split == 'test') & (dataset.families == 'h')
    assert metrics['test/h'] == regression_metrics(dataset.y[rows], dataset.y[rows] + 0.1)
    assert metrics['baseline/test/h']['mae'] == pytest.approx(0.3)


def test_held_out_rows_are_predicted_by_a_model_that_did_not_see_them(dataset):
    """A forest knows its own rows far better than others; every fold's distance is to its own training rows."""
    columns, calibration = predict_held_out(lambda: make_model('forest', n_trees=20), dataset, 4)
    own = fit_model(make_model('forest', n_trees=20), dataset.with_split(np.full(200, 'train')))
    error = np.abs(columns['value'] - dataset.y).mean()
    assert error > 1.5 * np.abs(own.predict(dataset.X) - dataset.y).mean()
    assert error < np.abs(dataset.y - dataset.y.mean()).mean()
    assert np.all(columns['distance'] > 0)
    assert 0 < columns['outside'].mean() < 0.1
    assert (calibration.part, calibration.rows) == ('held-out', 200)
    np.testing.assert_array_equal(columns['std'], calibration.std(columns['value'], columns['spread']))


def test_columns_of_a_correction_count_the_baseline(dataset):
    cheap = dataset.y - 0.2 * dataset.X[:, 0]
    corrected = with_baseline(dataset, cheap)
    model = fit_model(make_model('ridge', alpha=0.0), corrected)
    domain = TrainingDomain().fit(corrected.part('train')[0])
    columns = predict_columns(model, domain, None, dataset.X, cheap)
    np.testing.assert_allclose(columns['value'], dataset.y, atol=1e-6)
    np.testing.assert_array_equal(columns['distance'], domain.distance(corrected.inputs))
    assert np.isnan(columns['std']).all()
    assert columns['outside'].dtype == bool


@pytest.fixture(scope='module')
def several(dataset):
    """The rows with a pressure and a moment beside the target."""
    others = {'pressure': 100.0 * dataset.X[:, 0] - 7.0, 'magnetic_moment': np.tanh(dataset.X[:, 1])}
    return replace(dataset, target='cohesive_energy', others=others)


def test_other_targets_are_predicted_and_judged_beside_the_first(several):
    model = fit_model(make_model('linear'), several)
    domain = TrainingDomain().fit(several.part('train')[0])
    columns = predict_columns(model, domain, None, several.X, None, tuple(several.others))
    assert {name for name in columns if name.startswith('value')} == {
        'value',
        'value_magnetic_moment',
        'value_pressure',
    }
    np.testing.assert_allclose(columns['value_pressure'], several.others['pressure'], atol=1e-9)
    alone = fit_model(make_model('linear'), replace(several, others={}))
    np.testing.assert_allclose(columns['value'], alone.predict(several.X))
    metrics = metrics_by_part(several, columns['value'], columns)
    names = {f'{part}{family}' for part in PARTS for family in ('', '/h', '/s')}
    assert set(metrics) == {f'{mark}{name}' for mark in ('', 'magnetic_moment/', 'pressure/') for name in names}
    assert metrics['pressure/test']['mae'] == pytest.approx(0, abs=1e-9)
    rows = (several.split == 'test') & (several.families == 'h')
    known, found = several.others['magnetic_moment'][rows], columns['value_magnetic_moment'][rows]
    assert metrics['magnetic_moment/test/h'] == regression_metrics(known, found)


def test_with_a_baseline_other_targets_are_learnt_as_they_are(several):
    corrected = replace(several, baseline=several.y - 0.5 - 0.1 * several.X[:, 2])
    model = fit_model(
        make_model('ridge', alpha=1e-9), corrected.with_split(np.where(several.split == 'test', 'test', 'train'))
    )
    np.testing.assert_allclose(model.predict(corrected.inputs), 0.5 + 0.1 * several.X[:, 2], atol=1e-6)
    np.testing.assert_allclose(model.predict_all(corrected.inputs)[:, 2], several.others['pressure'], atol=1e-5)


def test_another_target_that_never_changes_is_named(several):
    still = replace(several, others=several.others | {'magnetic_moment': np.zeros(200)})
    with pytest.raises(DatasetError, match='the same magnetic moment, 0 µB/atom: there is nothing to learn'):
        fit_model(make_model('linear'), still)


def test_folds_keep_groups_together(dataset):
    """Rows of a group are equal: a tree that has seen one knows the others by heart."""
    group = np.arange(200) // 10
    random = np.random.Generator(np.random.PCG64(2))
    X, y = random.normal(size=(20, 3))[group], random.normal(size=20)[group]
    rows = replace(dataset, X=X, y=y)
    grouped = replace(rows, groups=np.array([f'alloy-{number}' for number in group]))

    def error(given):
        columns, _ = predict_held_out(lambda: make_model('tree', min_samples_leaf=1), given, 4)
        return np.abs(columns['value'] - y).mean()

    assert error(rows) < 1e-9
    assert error(grouped) > 0.5
