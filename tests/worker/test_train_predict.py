"""Training and prediction in job folders, in this process."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aiida_nanoml.engines.label_set import LabelSet
from aiida_nanoml.learning.dataset import Dataset
from aiida_nanoml.learning.metrics import regression_metrics
from aiida_nanoml.learning.model_card import CARD_FILE
from aiida_nanoml.learning.model_files import load_model
from aiida_nanoml.structures import StructureSet
from aiida_nanoml.worker.files import read_arrays, write_arrays
from aiida_nanoml.worker.main import main
from aiida_nanoml.worker.schemas import (
    DATASET_FILE,
    JOB_FILE,
    LEARNING_CURVE_FILE,
    MODEL_FOLDER,
    PARITY_FILE,
    RESULTS_FILE,
    STRUCTURES_FILE,
    PredictJob,
    TrainJob,
)
from tests.worker.conftest import read_report

NETWORK = {'epochs': 3, 'members': 2}


@pytest.fixture
def train_job(
    tmp_path: Path, split_flakes: Dataset, flake_labels: LabelSet, flake_descriptor: dict
) -> Callable[..., Path]:
    def make(kind: str, dataset: Dataset = split_flakes, name: str = 'job', **hyperparameters: Any) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        write_arrays(folder / DATASET_FILE, dataset.to_arrays())
        job = TrainJob(
            kind=kind,
            hyperparameters=hyperparameters,
            feature_names=list(dataset.feature_names),
            descriptor=flake_descriptor,
            labels=flake_labels.source.to_dict(),
        )
        (folder / JOB_FILE).write_text(job.model_dump_json(), encoding='utf-8')
        return folder

    return make


@pytest.fixture
def predict_job(tmp_path: Path, model_folder: Path) -> Callable[..., Path]:
    def make(name: str = 'job', descriptor: dict | None = None) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        shutil.copytree(model_folder, folder / MODEL_FOLDER)
        (folder / JOB_FILE).write_text(PredictJob(descriptor=descriptor).model_dump_json(), encoding='utf-8')
        return folder

    return make


def test_training_judges_every_part(train_job, split_flakes: Dataset) -> None:
    folder = train_job('ridge')
    assert main(['train', '--folder', str(folder)]) == 0
    report = read_report(folder)
    arrays = read_arrays(folder / RESULTS_FILE)
    assert set(arrays) == {'value', 'std', 'distance'}
    assert np.isnan(arrays['std']).all(), 'a single model has no spread'
    assert set(report.content['metrics']) == {'train', 'train/z', 'validation', 'validation/z', 'test', 'test/z'}
    rows = split_flakes.split == 'train'
    expected = regression_metrics(split_flakes.y[rows], arrays['value'][rows])
    assert report.content['metrics']['train'] == pytest.approx(expected)
    model, card = load_model(folder / MODEL_FOLDER)
    np.testing.assert_allclose(model.predict(split_flakes.X), arrays['value'])
    assert card.fingerprint == report.content['fingerprint']
    assert (folder / PARITY_FILE).read_bytes().startswith(b'\x89PNG')
    assert not (folder / LEARNING_CURVE_FILE).exists(), 'a linear model has no epochs'


def test_a_network_leaves_its_losses_and_a_spread(train_job) -> None:
    folder = train_job('fast', **NETWORK)
    assert main(['train', '--folder', str(folder)]) == 0
    arrays = read_arrays(folder / RESULTS_FILE)
    losses = {name: column for name, column in arrays.items() if name.startswith('history_')}
    assert {'history_loss', 'history_val_loss'} <= set(losses)
    assert all(np.isfinite(column).all() and 1 <= len(column) <= 3 for column in losses.values())
    assert (arrays['std'] >= 0).all()
    assert arrays['std'].max() > 0
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
