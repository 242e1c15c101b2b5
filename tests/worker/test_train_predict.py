"""Training and prediction in job folders, in this process."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest

from aiida_nanoml.engines.label_set import LabelSet
from aiida_nanoml.learning.dataset import BASELINE_FEATURE, Dataset
from aiida_nanoml.learning.metrics import regression_metrics
from aiida_nanoml.learning.model_card import CARD_FILE
from aiida_nanoml.learning.model_files import load_model
from aiida_nanoml.structures import Structure, StructureSet, flake_lattice
from aiida_nanoml.worker.files import read_arrays, write_arrays
from aiida_nanoml.worker.main import main
from aiida_nanoml.worker.schemas import (
    BASELINE_FILE,
    CALIBRATION_FILE,
    DATASET_FILE,
    JOB_FILE,
    LEARNING_CURVE_FILE,
    LOSSES_FILE,
    MODEL_FOLDER,
    RESULTS_FILE,
    STRUCTURES_FILE,
    PredictJob,
    TrainJob,
)
from aiida_nanoml.worker.train import train
from tests.worker.conftest import read_report

NETWORK = {'epochs': 3, 'members': 2}


@pytest.fixture
def train_job(
    tmp_path: Path, split_flakes: Dataset, flake_labels: LabelSet, flake_descriptor: dict
) -> Callable[..., Path]:
    def make(
        kind: str,
        dataset: Dataset = split_flakes,
        name: str = 'job',
        job: Mapping[str, Any] = MappingProxyType({}),
        **hyperparameters: Any,
    ) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        write_arrays(folder / DATASET_FILE, dataset.to_arrays())
        content = TrainJob(
            kind=kind,
            hyperparameters=hyperparameters,
            feature_names=list(dataset.feature_names),
            descriptor=flake_descriptor,
            labels=flake_labels.source.to_dict(),
            target=dataset.target,
            **job,
        )
        (folder / JOB_FILE).write_text(content.model_dump_json(), encoding='utf-8')
        return folder

    return make


@pytest.fixture
def predict_job(tmp_path: Path, model_folder: Path) -> Callable[..., Path]:
    def make(
        name: str = 'job',
        descriptor: dict | None = None,
        baseline: dict | None = None,
        model: Path = model_folder,
    ) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        shutil.copytree(model, folder / MODEL_FOLDER)
        job = PredictJob(descriptor=descriptor, baseline=baseline)
        (folder / JOB_FILE).write_text(job.model_dump_json(), encoding='utf-8')
        return folder

    return make


def test_training_judges_every_part(train_job, split_flakes: Dataset) -> None:
    folder = train_job('ridge')
    assert main(['train', '--folder', str(folder)]) == 0
    report = read_report(folder)
    arrays = read_arrays(folder / RESULTS_FILE)
    assert set(arrays) == {'value', 'std', 'spread', 'distance', 'outside'}
    assert np.isnan(arrays['spread']).all(), 'a single model has no spread'
    assert np.isnan(arrays['std']).all(), 'too few validation rows to calibrate by'
    assert not (folder / CALIBRATION_FILE).exists()
    assert set(report.content['metrics']) == {'train', 'train/z', 'validation', 'validation/z', 'test', 'test/z'}
    rows = split_flakes.split == 'train'
    expected = regression_metrics(split_flakes.y[rows], arrays['value'][rows])
    assert report.content['metrics']['train'] == pytest.approx(
        expected | {'coverage_68': None, 'coverage_95': None, 'outside': 0}
    )
    model, card = load_model(folder / MODEL_FOLDER)
    np.testing.assert_allclose(model.predict(split_flakes.X), arrays['value'])
    assert card.fingerprint == report.content['fingerprint']
    assert (folder / 'Energy_gap_prediction.png').read_bytes().startswith(b'\x89PNG')
    assert not (folder / LEARNING_CURVE_FILE).exists(), 'a linear model has no epochs'


def imported_by(task: str, folder: Path) -> list[str]:
    """Run a task of the worker in a process of its own, and list the heavy libraries that it imported."""
    program = f"""
import sys
from aiida_nanoml.worker.main import main
assert main([{task!r}, '--folder', {str(folder)!r}]) == 0
print(*({{'tensorflow', 'keras'}} & set(sys.modules)))
"""
    return subprocess.run([sys.executable, '-c', program], check=True, capture_output=True, text=True).stdout.split()


def test_a_prediction_by_a_network_imports_no_tensorflow(train_job, predict_job, flakes: StructureSet) -> None:
    """TensorFlow takes some five seconds to import, a prediction a fraction of one."""
    trained = train_job('fast', name='training', **NETWORK)
    assert main(['train', '--folder', str(trained)]) == 0
    folder = predict_job(model=trained / MODEL_FOLDER)
    write_arrays(folder / STRUCTURES_FILE, flakes.to_arrays())
    assert imported_by('predict', folder) == []


def test_a_training_of_scikit_learn_imports_no_tensorflow(train_job) -> None:
    assert imported_by('train', train_job('forest', n_trees=5)) == []


def test_a_network_leaves_its_losses_and_a_spread(train_job) -> None:
    folder = train_job('fast', **NETWORK)
    assert main(['train', '--folder', str(folder)]) == 0
    arrays = read_arrays(folder / RESULTS_FILE)
    losses = {name: column for name, column in arrays.items() if name.startswith('history_')}
    assert {'history_loss', 'history_val_loss'} <= set(losses)
    assert all(np.isfinite(column).all() and 1 <= len(column) <= 3 for column in losses.values())
    told = [json.loads(line) for line in (folder / LOSSES_FILE).read_text().splitlines()]
    for name, column in losses.items():
        assert [one[name.removeprefix('history_')] for one in told] == column.tolist()
    assert (arrays['spread'] >= 0).all()
    assert arrays['spread'].max() > 0
    assert (folder / LEARNING_CURVE_FILE).read_bytes().startswith(b'\x89PNG')


@pytest.mark.parametrize(
    ('kind', 'hyperparameters', 'message'),
    [
        ('oracle', {}, "'oracle'"),
        ('ridge', {'depth': 3}, 'depth'),
        ('fast', {'epochs': 'many'}, 'epochs'),
        ('fast', {'seed': 1.5}, 'seed'),
    ],
)
def test_a_model_that_cannot_be_made_is_a_model_error(
    train_job, kind: str, hyperparameters: dict, message: str
) -> None:
    folder = train_job(kind, **hyperparameters)
    assert main(['train', '--folder', str(folder)]) == 1
    assert read_report(folder).code == 'ModelError'
    assert message in read_report(folder).message


def test_training_needs_training_rows(train_job, flake_dataset: Dataset) -> None:
    folder = train_job('ridge', dataset=flake_dataset)
    assert main(['train', '--folder', str(folder)]) == 1
    assert read_report(folder).code == 'DatasetError'
    assert 'split it before training' in read_report(folder).message


def test_a_nan_in_the_job_folder_is_refused(train_job) -> None:
    folder = train_job('ridge')
    arrays = read_arrays(folder / DATASET_FILE)
    arrays['X'][3, 2] = np.nan
    write_arrays(folder / DATASET_FILE, arrays)
    assert main(['train', '--folder', str(folder)]) == 1
    assert read_report(folder).code == 'DatasetError'
    assert 'row 3' in read_report(folder).message


def test_structures_and_their_features_get_the_same_prediction(
    predict_job, flakes: StructureSet, split_flakes: Dataset, flake_descriptor: dict
) -> None:
    by_structure, by_features = predict_job('structures'), predict_job('features', descriptor=flake_descriptor)
    write_arrays(by_structure / STRUCTURES_FILE, flakes.to_arrays())
    write_arrays(by_features / DATASET_FILE, split_flakes.to_arrays())
    found = []
    for folder in (by_structure, by_features):
        assert main(['predict', '--folder', str(folder)]) == 0, read_report(folder).message
        found.append(read_arrays(folder / RESULTS_FILE))
    for name in ('value', 'distance'):
        np.testing.assert_allclose(found[0][name], found[1][name])
    learnt = split_flakes.split == 'train'
    np.testing.assert_allclose(found[0]['distance'][learnt], 0, atol=1e-9)


def test_a_radical_is_outside_whatever_its_features_are(predict_job, flakes: StructureSet) -> None:
    """Nitrogen in place of an edge carbon: an odd number of electrons, and only known neighbourhoods."""
    coronene = flake_lattice('z', 2)
    numbers = coronene.numbers.copy()
    edge = [atom for atom in range(len(numbers)) if numbers[atom] == 6 and _has_hydrogen(coronene, atom)]
    numbers[edge[0]] = 7
    radical = StructureSet.from_structures([Structure(numbers, coronene.positions)], names=['radical'])
    assert radical.has_odd_electrons.tolist() == [True]
    folder = predict_job()
    write_arrays(folder / STRUCTURES_FILE, StructureSet.concatenate([flakes.select([0]), radical]).to_arrays())
    assert main(['predict', '--folder', str(folder)]) == 0, read_report(folder).message
    assert read_arrays(folder / RESULTS_FILE)['outside'].tolist() == [False, True]


def _has_hydrogen(flake: Structure, atom: int) -> bool:
    distances = np.linalg.norm(flake.positions - flake.positions[atom], axis=1)
    return bool(((flake.numbers == 1) & (distances < 1.3)).any())


def test_a_structure_in_two_parts_is_refused_unless_asked_for(train_job, split_flakes: Dataset) -> None:
    hashes = np.where(
        split_flakes.split == 'test', split_flakes.hashes[split_flakes.split == 'train'][0], split_flakes.hashes
    )
    leaking = replace(split_flakes, hashes=hashes)
    folder = train_job('ridge', leaking)
    assert main(['train', '--folder', str(folder)]) == 1
    assert 'structures are in more than one part of the split' in read_report(folder).message
    allowed = train_job('ridge', leaking, 'allowed', {'allow_leakage': True})
    assert main(['train', '--folder', str(allowed)]) == 0
    assert load_model(allowed / MODEL_FOLDER)[1].allow_leakage is True


def test_features_of_another_descriptor_are_refused(predict_job, split_flakes: Dataset, flake_descriptor: dict) -> None:
    other = flake_descriptor | {'params': {'classes': 26, 'unknown': 'error'}}
    folder = predict_job(descriptor=other)
    write_arrays(folder / DATASET_FILE, split_flakes.to_arrays())
    assert main(['predict', '--folder', str(folder)]) == 1
    assert read_report(folder).code == 'ModelError'
    assert 'the model was trained on' in read_report(folder).message
    assert not (folder / RESULTS_FILE).exists()


def truncate(folder: Path) -> None:
    path = folder / 'estimator.skops'
    path.write_bytes(path.read_bytes()[:200])


def flip(folder: Path) -> None:
    card = json.loads((folder / CARD_FILE).read_text())
    (folder / CARD_FILE).write_text(json.dumps(card | {'fingerprint': '0' * 64}))


@pytest.mark.parametrize(
    ('damage', 'message'),
    [
        (truncate, 'estimator.skops'),
        (flip, 'fingerprint'),
        (lambda folder: (folder / CARD_FILE).write_text('{"kind": "ridge"'), 'not readable'),
        (lambda folder: (folder / CARD_FILE).unlink(), 'missing'),
        (lambda folder: (folder / 'training_domain.npz').unlink(), 'without its training domain'),
        (lambda folder: (folder / 'training_domain.npz').write_bytes(b'PK\x03\x04'), 'training_domain.npz'),
    ],
)
def test_a_corrupt_model_is_a_model_error(predict_job, flakes: StructureSet, damage, message: str) -> None:
    folder = predict_job()
    write_arrays(folder / STRUCTURES_FILE, flakes.to_arrays())
    damage(folder / MODEL_FOLDER)
    assert main(['predict', '--folder', str(folder)]) == 1
    assert read_report(folder).code == 'ModelError'
    assert message in read_report(folder).message


# Corrections to a baseline


def test_a_correction_is_added_to_the_baseline(
    train_job, corrected_flakes: Dataset, cheap_labels: LabelSet, flake_labels: LabelSet
) -> None:
    """The correction is the same for all flakes, which is easy to learn; the gap itself is not."""
    baseline = cheap_labels.source.to_dict()
    folder = train_job('ridge', dataset=corrected_flakes, job={'baseline': baseline})
    assert main(['train', '--folder', str(folder)]) == 0, read_report(folder).message
    arrays = read_arrays(folder / RESULTS_FILE)
    np.testing.assert_allclose(arrays['value'], corrected_flakes.y, atol=1e-9)
    np.testing.assert_array_equal(arrays['baseline'], corrected_flakes.baseline)
    metrics = read_report(folder).content['metrics']
    assert metrics['test']['mae'] == pytest.approx(0, abs=1e-9)
    assert metrics['baseline/test']['mae'] == pytest.approx(0.3)
    assert set(metrics) == {f'{mark}{part}{family}' for mark in ('', 'baseline/') for family in ('', '/z')
                            for part in ('train', 'validation', 'test')}  # fmt: skip
    model, card = load_model(folder / MODEL_FOLDER)
    assert card.baseline == baseline
    assert card.labels == flake_labels.source.to_dict()
    assert card.feature_names[-1] == BASELINE_FEATURE
    assert card.n_features == corrected_flakes.X.shape[1] + 1
    np.testing.assert_allclose(model.predict(corrected_flakes.inputs), 0.3)


def test_a_baseline_without_its_origin_is_refused(
    train_job, corrected_flakes: Dataset, split_flakes: Dataset, cheap_labels: LabelSet
) -> None:
    folders = (
        train_job('ridge', dataset=corrected_flakes, name='no source'),
        train_job('ridge', dataset=split_flakes, name='no column', job={'baseline': cheap_labels.source.to_dict()}),
    )
    for folder in folders:
        assert main(['train', '--folder', str(folder)]) == 1
        assert 'only one of them is there' in read_report(folder).message


def test_every_row_is_judged_by_a_model_that_did_not_see_it(train_job, split_flakes: Dataset) -> None:
    """A tree that may grow to single rows knows all that it saw, and little else."""
    folder = train_job('tree', job={'folds': 4}, min_samples_leaf=1)
    assert main(['train', '--folder', str(folder)]) == 0
    metrics = read_report(folder).content['metrics']
    assert metrics['train']['mae'] == pytest.approx(0, abs=1e-12)
    assert metrics['held-out']['n'] == metrics['held-out/z']['n'] == len(split_flakes)
    assert metrics['held-out']['mae'] > 0.05
    assert 'baseline/held-out' not in metrics


def test_what_a_model_is_off_by_is_learnt_from_rows_that_it_did_not_see(
    train_job, tmp_path: Path, split_flakes: Dataset, flake_descriptor: dict
) -> None:
    """Of 60 flakes, with one of the twelve repeated under other names, the held-out ones calibrate the intervals."""
    random = np.random.Generator(np.random.PCG64(0))
    dataset = Dataset(
        X=random.uniform(size=(60, split_flakes.X.shape[1])),
        y=random.uniform(1, 3, size=60),
        hashes=np.array([f'{row:064x}' for row in range(60)]),
        names=np.array([f'row {row}' for row in range(60)]),
        families=np.full(60, 'z'),
        split=np.repeat(['train', 'validation', 'test'], 20),
        feature_names=split_flakes.feature_names,
    )
    folder = train_job('forest', dataset=dataset, job={'folds': 3}, n_trees=5)
    assert main(['train', '--folder', str(folder)]) == 0, read_report(folder).message
    arrays = read_arrays(folder / RESULTS_FILE)
    _, card = load_model(folder / MODEL_FOLDER)
    assert (card.calibration.part, card.calibration.rows) == ('held-out', 60)
    np.testing.assert_allclose(arrays['std'], card.calibration.std(arrays['value'], arrays['spread']))
    held_out = read_report(folder).content['metrics']['held-out']
    assert held_out['coverage_68'] == pytest.approx(0.68, abs=0.02)
    assert held_out['coverage_95'] == pytest.approx(0.95, abs=0.02)
    assert (folder / CALIBRATION_FILE).read_bytes().startswith(b'\x89PNG')

    other = tmp_path / 'predict'
    shutil.copytree(folder / MODEL_FOLDER, other / MODEL_FOLDER)
    (other / JOB_FILE).write_text(PredictJob(descriptor=flake_descriptor).model_dump_json(), encoding='utf-8')
    far = dataset.X + np.where(np.arange(60) < 10, 5.0, 0.0)[:, None]
    write_arrays(other / DATASET_FILE, dataset.to_arrays() | {'X': far})
    assert main(['predict', '--folder', str(other)]) == 0, read_report(other).message
    found = read_arrays(other / RESULTS_FILE)
    assert found['outside'][:10].all()
    np.testing.assert_array_equal(found['outside'][10:20], False)
    np.testing.assert_allclose(found['std'][10:], arrays['std'][10:])


@pytest.mark.parametrize('baseline', [None, 1.0])
def test_a_constant_target_is_refused(
    train_job, split_flakes: Dataset, cheap_labels: LabelSet, baseline: float | None
) -> None:
    column = None if baseline is None else np.full(12, baseline)
    dataset = replace(split_flakes, y=np.where(split_flakes.split == 'train', 2.0, split_flakes.y), baseline=column)
    job = {} if baseline is None else {'baseline': cheap_labels.source.to_dict()}
    folder = train_job('ridge', dataset=dataset, job=job)
    assert main(['train', '--folder', str(folder)]) == 1
    report = read_report(folder)
    assert report.code == 'DatasetError'
    assert f'the same {"gap, 2 eV" if baseline is None else "correction to the baseline, 1 eV"}' in report.message


def test_folds_and_baseline_go_together(train_job, corrected_flakes: Dataset, cheap_labels: LabelSet) -> None:
    job = {'folds': 3, 'baseline': cheap_labels.source.to_dict()}
    network = {'hidden_layers': (4,), 'epochs': 2, 'members': 2}
    folder = train_job('correction', dataset=corrected_flakes, job=job, **network)
    assert main(['train', '--folder', str(folder)]) == 0, read_report(folder).message
    metrics = read_report(folder).content['metrics']
    assert metrics['baseline/held-out']['mae'] == pytest.approx(0.3)
    assert metrics['held-out']['n'] == 12


def test_structures_with_their_baseline_and_their_features_get_the_same_prediction(
    predict_job,
    correction_folder: Path,
    flakes: StructureSet,
    corrected_flakes: Dataset,
    cheap_labels: LabelSet,
    flake_descriptor: dict,
) -> None:
    job = {'baseline': cheap_labels.source.to_dict(), 'model': correction_folder}
    by_structure, by_features = predict_job('structures', **job), predict_job('features', flake_descriptor, **job)
    write_arrays(by_structure / STRUCTURES_FILE, flakes.to_arrays())
    write_arrays(by_structure / BASELINE_FILE, {'baseline': corrected_flakes.baseline})
    write_arrays(by_features / DATASET_FILE, corrected_flakes.to_arrays())
    for folder in (by_structure, by_features):
        assert main(['predict', '--folder', str(folder)]) == 0, read_report(folder).message
        found = read_arrays(folder / RESULTS_FILE)
        np.testing.assert_allclose(found['value'], corrected_flakes.y, atol=1e-9)
        np.testing.assert_array_equal(found['baseline'], corrected_flakes.baseline)
        np.testing.assert_allclose(found['distance'][corrected_flakes.split == 'train'], 0, atol=1e-9)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (None, 'the model corrects the values of Cheap 1.0, protocol fast: label'),
        ({'version': '2.0'}, 'its errors are others'),
    ],
)
def test_a_correction_of_something_else_is_refused(
    predict_job,
    correction_folder: Path,
    flakes: StructureSet,
    cheap_labels: LabelSet,
    change: dict | None,
    message: str,
) -> None:
    baseline = None if change is None else cheap_labels.source.to_dict() | change
    folder = predict_job(baseline=baseline, model=correction_folder)
    write_arrays(folder / STRUCTURES_FILE, flakes.to_arrays())
    write_arrays(folder / BASELINE_FILE, {'baseline': np.ones(12)})
    assert main(['predict', '--folder', str(folder)]) == 1
    assert read_report(folder).code == 'ModelError'
    assert message in read_report(folder).message


@pytest.mark.parametrize(('gaps', 'message'), [(np.ones(11), '11 rows'), (np.full(12, np.nan), 'not finite')])
def test_a_baseline_has_one_number_for_each_structure(
    predict_job, correction_folder: Path, flakes: StructureSet, cheap_labels: LabelSet, gaps: np.ndarray, message: str
) -> None:
    folder = predict_job(baseline=cheap_labels.source.to_dict(), model=correction_folder)
    write_arrays(folder / STRUCTURES_FILE, flakes.to_arrays())
    write_arrays(folder / BASELINE_FILE, {'baseline': gaps})
    assert main(['predict', '--folder', str(folder)]) == 1
    assert message in read_report(folder).message


# Several targets


@pytest.fixture
def several(split_flakes: Dataset) -> Dataset:
    """The flakes with made-up targets: two sums of their features, in other units than the gap."""
    X = split_flakes.X
    others = {'pressure': -50.0 * X[:, :4].sum(axis=1), 'magnetic_moment': X[:, 1] - X[:, 0]}
    return replace(split_flakes, y=-3000.0 + X[:, 0], target='energy_per_atom', others=others)


@pytest.mark.parametrize(('kind', 'hyperparameters'), [('alloy', NETWORK), ('ridge', {})])
def test_several_targets_are_trained_judged_and_predicted(
    train_job, predict_job, several: Dataset, flakes: StructureSet, kind: str, hyperparameters: dict
) -> None:
    folder = train_job(kind, dataset=several, job={'folds': 3}, **hyperparameters)
    assert main(['train', '--folder', str(folder)]) == 0, read_report(folder).message
    arrays = read_arrays(folder / RESULTS_FILE)
    assert {'value', 'value_pressure', 'value_magnetic_moment', 'spread', 'std'} <= set(arrays)
    metrics = read_report(folder).content['metrics']
    assert {'test', 'held-out', 'pressure/test', 'pressure/held-out', 'magnetic_moment/test/z'} <= set(metrics)
    rows = several.split == 'test'
    expected = regression_metrics(several.others['pressure'][rows], arrays['value_pressure'][rows])
    assert metrics['pressure/test'] == pytest.approx(expected)
    model, card = load_model(folder / MODEL_FOLDER)
    assert (card.target, card.unit) == ('energy_per_atom', 'eV/atom')
    assert list(card.others.items()) == [('magnetic_moment', 'µB/atom'), ('pressure', 'GPa')]
    np.testing.assert_allclose(model.predict_all(several.X)[:, 2], arrays['value_pressure'], rtol=1e-5, atol=1e-5)
    assert {path.name for path in folder.glob('*_prediction.png')} == {'Energy_per_atom_prediction.png'}

    other = predict_job('predict', model=folder / MODEL_FOLDER)
    write_arrays(other / STRUCTURES_FILE, flakes.to_arrays())
    assert main(['predict', '--folder', str(other)]) == 0, read_report(other).message
    found = read_arrays(other / RESULTS_FILE)
    for name in ('value', 'value_pressure', 'value_magnetic_moment'):
        np.testing.assert_allclose(found[name], arrays[name], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ('kind', 'message'), [('svm', 'SvmEstimator learns one target'), ('fast', '3 targets have no scale in common')]
)
def test_a_model_that_cannot_learn_several_targets_says_so(
    train_job, several: Dataset, kind: str, message: str
) -> None:
    folder = train_job(kind, dataset=several)
    assert main(['train', '--folder', str(folder)]) == 1
    assert read_report(folder).code == 'ModelError'
    assert message in read_report(folder).message


def test_another_target_gives_its_name_to_the_figure(train_job, several: Dataset) -> None:
    folder = train_job('svm', dataset=replace(several, others={}))
    assert main(['train', '--folder', str(folder)]) == 0, read_report(folder).message
    assert (folder / 'Energy_per_atom_prediction.png').read_bytes().startswith(b'\x89PNG')
    assert set(read_arrays(folder / RESULTS_FILE)) == {'value', 'std', 'spread', 'distance', 'outside'}


def test_epochs_of_all_folds_are_one_series(train_job) -> None:
    seen: list[tuple[int, int]] = []
    train(train_job('fast', job={'folds': 3}, epochs=2, members=1), lambda done, total: seen.append((done, total)))
    assert seen == [(number, 8) for number in range(1, 9)]
