"""Labelling with an engine that runs a program: the stand-in for SIESTA."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from aiida_nanoml.engines.label_set import LabelSet, LabelSource
from aiida_nanoml.engines.pseudopotentials import bundled, digest
from aiida_nanoml.structures import StructureSet
from aiida_nanoml.worker.files import read_arrays, write_arrays
from aiida_nanoml.worker.journal import read_journal
from aiida_nanoml.worker.main import main
from aiida_nanoml.worker.schemas import JOB_FILE, JOURNAL_FILE, RESULTS_FILE, STRUCTURES_FILE, LabelJob
from tests.stand_in.fixtures import recorded_runs
from tests.worker.conftest import read_report
from tests.worker.test_label import wait_for_rows

FLAKES = {name: run for name, run in recorded_runs('flake').items() if not name.startswith('z-')}
NAMES = list(FLAKES)[:6]


@pytest.fixture
def siesta_job(tmp_path: Path, siesta_stand_in: Path) -> Callable[..., Path]:
    """Make the folder of a job, as the calculation does: pseudopotentials beside it, paths relative to it."""

    def make(
        names: list[str], name: str = 'job', time_limit_s: float = 60.0, runtime: dict[str, Any] | None = None
    ) -> Path:
        folder = tmp_path / name
        (folder / 'pseudos').mkdir(parents=True)
        elements = ('H', 'B', 'C', 'N')
        for element in elements:
            shutil.copy(bundled()[element], folder / 'pseudos')
        structures = StructureSet.from_structures([FLAKES[flake].structure for flake in names], names)
        write_arrays(folder / STRUCTURES_FILE, structures.to_arrays())
        job = LabelJob(
            engine='siesta',
            protocol='paper',
            parameters={},
            time_limit_s=time_limit_s,
            runtime={
                'executable': str(siesta_stand_in),
                'launcher': [],
                'pseudopotentials': {element: f'pseudos/{element}.psf' for element in elements},
                **(runtime or {}),
            },
        )
        (folder / JOB_FILE).write_text(job.model_dump_json(), encoding='utf-8')
        return folder

    return make


def read_labels(folder: Path) -> LabelSet:
    source = LabelSource.from_dict(read_report(folder).content['source'])
    return LabelSet.from_arrays(source, read_arrays(folder / RESULTS_FILE))


def programs_in(folder: Path) -> list[psutil.Process]:
    """What runs in a folder, started by whomever."""
    found = []
    for process in psutil.process_iter():
        try:
            if Path(process.cwd()).is_relative_to(folder / 'runs') and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.Error, OSError):
            continue
    return found


def test_a_batch_gives_the_recorded_gaps(siesta_job) -> None:
    folder = siesta_job(NAMES)
    assert main(['label', '--folder', str(folder), '--processes', '2']) == 0
    labels = read_labels(folder)
    assert labels.finished.all()
    assert labels.energies['gap_ev'] == pytest.approx([FLAKES[name].about['gap_ev'] for name in NAMES], abs=1e-6)
    assert labels.source.version == '4.1-b4-133'
    assert labels.source.pseudopotentials == {element: digest(bundled()[element]) for element in ('H', 'B', 'C', 'N')}
    assert set(labels.vectors) == {'levels_ev', 'level_weights', 'forces_ev_per_ang', 'stress_ev_per_ang3'}
    for row, name in enumerate(NAMES):
        levels = labels.vectors['levels_ev'][row]
        assert labels.energies['homo_ev'][row] == pytest.approx(levels[labels.n_electrons[row] // 2 - 1], abs=1e-9)
        assert len(labels.vectors['forces_ev_per_ang'][row]) == 3 * len(FLAKES[name].structure)
        assert len(labels.vectors['stress_ev_per_ang3'][row]) == 9
    assert list((folder / 'runs').iterdir()) == []


def test_a_killed_worker_goes_on_and_ends_its_strays(siesta_job, start_worker, monkeypatch) -> None:
    whole = siesta_job(NAMES, name='whole')
    main(['label', '--folder', str(whole), '--processes', '2'])
    folder = siesta_job(NAMES)
    monkeypatch.setenv('NANOML_STAND_IN_DELAY', '1')
    process = start_worker('label', folder, processes=2)
    wait_for_rows(folder, 1, process)
    end = time.monotonic() + 30
    while not list((folder / 'runs').glob('*/aiida.out')):
        assert time.monotonic() < end
        time.sleep(0.01)
    process.kill()
    process.wait()
    before = read_journal(folder / JOURNAL_FILE)[1]
    assert 1 <= len(before) < len(NAMES)

    monkeypatch.delenv('NANOML_STAND_IN_DELAY')
    assert main(['label', '--folder', str(folder), '--processes', '2']) == 0

    after = read_journal(folder / JOURNAL_FILE)[1]
    assert {row: after[row] for row in before} == before, 'a finished row was computed again'
    resumed, expected = read_labels(folder).to_arrays(), read_labels(whole).to_arrays()
    for name in set(expected) - {'wall_s'}:
        np.testing.assert_array_equal(resumed[name], expected[name])
    assert list((folder / 'runs').iterdir()) == []
    assert not programs_in(folder)


@pytest.mark.parametrize('to_group', [False, True], ids=['process', 'group'])
def test_sigterm_ends_the_programs_and_keeps_what_is_finished(
    siesta_job, start_worker, monkeypatch, to_group: bool
) -> None:
    monkeypatch.setenv('NANOML_STAND_IN_DELAY', '1')
    folder = siesta_job(NAMES)
    process = start_worker('label', folder, processes=2)
    wait_for_rows(folder, 1, process)
    if to_group:
        os.killpg(process.pid, signal.SIGTERM)
    else:
        process.terminate()
    assert process.wait(timeout=30) == 1
    assert read_report(folder).code == 'interrupted'
    labels = read_labels(folder)
    assert set(labels.status.tolist()) == {'ok', 'interrupted'}
    assert {entry['status'] for entry in read_journal(folder / JOURNAL_FILE)[1].values()} == {'ok'}
    assert not programs_in(folder)
    monkeypatch.delenv('NANOML_STAND_IN_DELAY')
    assert main(['label', '--folder', str(folder), '--processes', '2']) == 0
    assert read_labels(folder).finished.all()


def test_the_time_limit_is_that_of_the_job(siesta_job, monkeypatch) -> None:
    monkeypatch.setenv('NANOML_STAND_IN_DELAY', '4')
    folder = siesta_job(NAMES[:2], time_limit_s=1.5, runtime={'time_limit_s': 900.0})
    assert main(['label', '--folder', str(folder), '--processes', '2']) == 0
    labels = read_labels(folder)
    assert labels.status.tolist() == ['time_limit'] * 2
    assert 'raise the time limit' in labels.messages[0]
    assert not programs_in(folder)


def test_one_row_that_fails_does_not_touch_the_others(siesta_job, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv('NANOML_STAND_IN_FAILURE', f'killed@{tmp_path / "once"}')
    folder = siesta_job(NAMES[:3], runtime={'folder': 'elsewhere'})
    assert main(['label', '--folder', str(folder)]) == 0
    labels = read_labels(folder)
    assert labels.status.tolist() == ['truncated', 'ok', 'ok']
    assert 'signal 9' in labels.messages[0]
    assert len(labels.vectors['levels_ev'][0]) == 0
    assert len(labels.vectors['levels_ev'][1]) > 0
    assert len(list((folder / 'elsewhere').iterdir())) == 1, 'the folder of the failed row is kept'


@pytest.mark.parametrize(
    ('runtime', 'message'),
    [
        ({'executable': '/nowhere/siesta'}, 'install SIESTA'),
        ({'launcher': ['/nowhere/srun']}, '/nowhere/srun'),
        ({'cores': 4}, 'cores'),
    ],
)
def test_a_program_that_cannot_be_used_is_an_engine_error(siesta_job, runtime: dict[str, Any], message: str) -> None:
    folder = siesta_job(NAMES[:1], runtime=runtime)
    assert main(['label', '--folder', str(folder)]) == 1
    report = read_report(folder)
    assert report.code == 'EngineError'
    assert message in report.message
    assert not (folder / JOURNAL_FILE).exists()


def test_a_job_with_other_pseudopotentials_is_another_job(siesta_job) -> None:
    folder = siesta_job(NAMES[:1])
    main(['label', '--folder', str(folder)])
    pseudo = folder / 'pseudos' / 'C.psf'
    pseudo.write_bytes(pseudo.read_bytes() + b'\n')
    assert main(['label', '--folder', str(folder)]) == 1
    assert 'fresh folder' in read_report(folder).message
    assert json.loads((folder / JOURNAL_FILE).read_text().splitlines()[0])['header']['pseudopotentials']
