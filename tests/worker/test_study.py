"""Studies in job folders: in this process, and killed and started again."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aiida_nanoml.learning.dataset import Dataset
from aiida_nanoml.learning.studies import make_study
from aiida_nanoml.learning.studies.base import FAILED, OK, rows_of, tabulate
from aiida_nanoml.worker.files import read_arrays, write_arrays
from aiida_nanoml.worker.journal import read_journal
from aiida_nanoml.worker.main import main
from aiida_nanoml.worker.schemas import DATASET_FILE, JOB_FILE, JOURNAL_FILE, RESULTS_FILE, StudyJob
from tests.worker.conftest import read_report

DEPTHS = {'grid': {'max_depth': [1, 2, 3]}, 'sampling': 'grid'}


@pytest.fixture
def study_job(tmp_path: Path, split_flakes: Dataset) -> Callable[..., Path]:
    def make(dataset: Dataset = split_flakes, name: str = 'job', **changes: Any) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        write_arrays(folder / DATASET_FILE, dataset.to_arrays())
        content = {
            'study': 'hyperparameters',
            'settings': DEPTHS,
            'kind': 'tree',
            'hyperparameters': {},
            'seed': 1,
            'feature_names': list(dataset.feature_names),
        }
        (folder / JOB_FILE).write_text(StudyJob(**(content | changes)).model_dump_json(), encoding='utf-8')
        return folder

    return make


def wait_for_first(folder: Path, worker: subprocess.Popen) -> None:
    """Wait until one model is in the journal."""
    while not read_journal(folder / JOURNAL_FILE)[1]:
        assert worker.poll() is None, worker.stdout.read()
        time.sleep(0.05)


def test_the_rows_are_those_of_the_study(study_job, split_flakes: Dataset, capsys) -> None:
    folder = study_job()
    assert main(['study', '--folder', str(folder)]) == 0
    assert read_report(folder).content == {'n_points': 3, 'n_done': 3, 'n_failed': 0}
    assert capsys.readouterr().out.splitlines()[-1] == '3/3'
    study = make_study('hyperparameters', DEPTHS, 'tree')
    expected = tabulate(row for point in study.points(split_flakes) for row in study.evaluate(split_flakes, point, 1))
    found = read_arrays(folder / RESULTS_FILE)
    assert set(found) == set(expected)
    for name in set(expected) - {'wall_s'}:
        np.testing.assert_array_equal(found[name], expected[name])


def test_a_point_that_fails_does_not_disturb_the_others(study_job) -> None:
    """Shares of classes vary by far less than 1/4, so that nothing is left."""
    folder = study_job(study='selection', kind='linear', settings={'methods': ['vt'], 'p': [0.5]})
    assert main(['study', '--folder', str(folder)]) == 0
    assert read_report(folder).content == {'n_points': 2, 'n_done': 2, 'n_failed': 1}
    rows = read_arrays(folder / RESULTS_FILE)
    assert rows['status'].tolist() == [OK, FAILED]
    assert '0.25' in rows['message'][1]


def test_a_killed_study_goes_on_from_its_journal(study_job, start_worker) -> None:
    """Killed after the first model, it trains the others only."""
    settings = {'grid': {'n_trees': [10, 4000, 20]}, 'sampling': 'grid'}
    folder = study_job(kind='forest', settings=settings)
    worker = start_worker('study', folder)
    wait_for_first(folder, worker)
    worker.kill()
    worker.wait()
    _, entries, _ = read_journal(folder / JOURNAL_FILE)
    assert 0 in entries
    assert len(entries) < 3
    assert not (folder / RESULTS_FILE).exists()
    assert main(['study', '--folder', str(folder)]) == 0
    rows = rows_of(read_arrays(folder / RESULTS_FILE))
    assert [row['n_trees'] for row in rows] == [10, 4000, 20]
    assert rows[0]['wall_s'] == entries[0]['rows'][0]['wall_s'], 'it was not trained again'


def test_a_termination_signal_ends_a_study_in_order(study_job, start_worker) -> None:
    """A network is left between two epochs; what was finished is kept."""
    settings = {'grid': {'epochs': [1, 1_000_000]}, 'sampling': 'grid'}
    fixed = {'hidden_layers': [2], 'members': 1, 'early_stopping': False}
    folder = study_job(kind='fast', settings=settings, hyperparameters=fixed)
    worker = start_worker('study', folder)
    wait_for_first(folder, worker)
    worker.send_signal(signal.SIGTERM)
    worker.wait()
    report = read_report(folder)
    assert report.status == 'interrupted'
    assert report.message == 'stopped by a signal after 1 of 2 points'
    assert read_arrays(folder / RESULTS_FILE)['epochs'].tolist() == [1]


def test_a_journal_of_another_data_set_is_refused(study_job, split_flakes: Dataset) -> None:
    folder = study_job()
    assert main(['study', '--folder', str(folder)]) == 0
    write_arrays(folder / DATASET_FILE, replace(split_flakes, y=split_flakes.y + 1).to_arrays())
    assert main(['study', '--folder', str(folder)]) == 1
    assert 'start in a fresh folder' in read_report(folder).message


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'study': 'alchemy'}, "no study 'alchemy'"),
        ({'settings': {'grids': {}}}, "no setting 'grids'"),
        ({'kind': 'oracle'}, "'oracle'"),
        ({'study': 'learning_curve', 'settings': {'rows': [2, 500]}}, 'needs 500 training rows'),
        ({'study': 'transfer', 'settings': {}}, 'needs two families, there is: z'),
    ],
)
def test_what_cannot_be_studied_is_refused(study_job, changes: dict, message: str) -> None:
    folder = study_job(**changes)
    assert main(['study', '--folder', str(folder)]) == 1
    assert message in read_report(folder).message
    assert json.loads((folder / JOB_FILE).read_text())['task'] == 'study'


def test_leakage_is_refused_unless_allowed(study_job, split_flakes: Dataset) -> None:
    hashes = split_flakes.hashes.copy()
    train, test = (int(np.flatnonzero(split_flakes.split == part)[0]) for part in ('train', 'test'))
    hashes[train] = hashes[test]
    leaking = replace(split_flakes, hashes=hashes)
    refused = study_job(leaking, name='refused')
    assert main(['study', '--folder', str(refused)]) == 1
    assert read_report(refused).code == 'DatasetError'
    assert main(['study', '--folder', str(study_job(leaking, name='allowed', allow_leakage=True))]) == 0
