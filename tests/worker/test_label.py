"""Labelling in a job folder: every row gets an answer, and no interruption loses a finished one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk

from aiida_nanoml.engines.label_set import LabelSet, LabelSource
from aiida_nanoml.errors import EngineError
from aiida_nanoml.structures import Structure, StructureSet
from aiida_nanoml.worker.files import read_arrays
from aiida_nanoml.worker.journal import read_journal
from aiida_nanoml.worker.label import label_structures
from aiida_nanoml.worker.main import main
from aiida_nanoml.worker.schemas import JOB_FILE, JOURNAL_FILE, RESULTS_FILE, STRUCTURES_FILE
from tests.worker.conftest import read_report


def read_labels(folder: Path) -> LabelSet:
    source = LabelSource.from_dict(read_report(folder).content['source'])
    return LabelSet.from_arrays(source, read_arrays(folder / RESULTS_FILE))


def wait_for_rows(folder: Path, n_rows: int, process: subprocess.Popen) -> None:
    """Wait until a running worker has finished some rows."""
    end = time.monotonic() + 60
    while len(read_journal(folder / JOURNAL_FILE)[1]) < n_rows:
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < end
        time.sleep(0.02)


def test_every_row_gets_its_own_answer(label_job, make_chains: Callable[..., StructureSet], capsys) -> None:
    """A crash, a hang and a failure in one batch do not touch the other rows."""
    folder = label_job(make_chains(2, 3, 4, 5, 6), time_limit_s=1.0, hang=[3], crash=[4], fail=[5])
    assert main(['label', '--folder', str(folder), '--processes', '2']) == 0
    labels = read_labels(folder)
    assert labels.status.tolist() == ['ok', 'time_limit', 'engine_crash', 'not_converged', 'ok']
    assert labels.energies['gap_ev'][[0, 4]] == pytest.approx([0.2, 0.6])
    assert labels.energies['energy_ev'][[0, 4]].tolist() == [-20.0, -60.0]
    assert np.isnan(labels.energies['gap_ev'][1:4]).all()
    assert 'raise the time limit' in labels.messages[1]
    assert labels.messages[3] == '5 atoms never converge'
    assert labels.n_electrons.tolist() == [2, 0, 0, 0, 6]
    assert labels.hashes.tolist() == make_chains(2, 3, 4, 5, 6).hashes.tolist()
    report = read_report(folder)
    assert (report.status, report.code) == ('ok', '')
    assert report.content['failures'] == {'engine_crash': 1, 'not_converged': 1, 'time_limit': 1}
    assert capsys.readouterr().out.endswith('5/5\n')


def test_the_order_of_rows_does_not_depend_on_the_number_of_processes(label_job, make_chains) -> None:
    chains = make_chains(*range(2, 12))
    found = []
    for processes in (1, 3):
        folder = label_job(chains, name=f'job{processes}')
        assert main(['label', '--folder', str(folder), '--processes', str(processes)]) == 0
        found.append(read_labels(folder).energies['gap_ev'].tolist())
    assert found[0] == found[1] == pytest.approx([0.1 * n for n in range(2, 12)])


def test_structures_are_labelled_without_a_job_folder(label_job, make_chains, tmp_path: Path, monkeypatch) -> None:
    chains = make_chains(2, 5, 6)
    folder = label_job(chains, fail=[5])
    assert main(['label', '--folder', str(folder), '--processes', '2']) == 0
    monkeypatch.chdir(tmp_path)
    progress: list[tuple[int, int]] = []
    labels = label_structures(
        chains, 'paced', 'quick', {'fail': [5]}, processes=2, progress=lambda *numbers: progress.append(numbers)
    )
    assert labels.source == read_labels(folder).source
    for name, column in read_labels(folder).to_arrays().items():
        if name != 'wall_s':
            np.testing.assert_array_equal(labels.to_arrays()[name], column, err_msg=name)
    assert progress == [(1, 3), (2, 3), (3, 3)]
    assert [path.name for path in tmp_path.iterdir()] == ['job']
    with pytest.raises(EngineError, match="has no protocol 'slow'"):
        label_structures(chains, 'paced', 'slow')


def test_odd_electron_counts_are_flagged(label_job, make_chains) -> None:
    folder = label_job(make_chains(2, 3))
    main(['label', '--folder', str(folder)])
    assert read_labels(folder).open_shell.tolist() == [False, True]


def test_a_killed_worker_goes_on_where_it_was(label_job, make_chains, start_worker) -> None:
    chains = make_chains(*range(2, 10))
    whole = label_job(chains, name='whole', wait_s=0.1)
    main(['label', '--folder', str(whole)])
    folder = label_job(chains, wait_s=0.1)
    process = start_worker('label', folder)
    wait_for_rows(folder, 3, process)
    process.kill()
    process.wait()
    assert not (folder / 'results.json').exists()
    before = read_journal(folder / JOURNAL_FILE)[1]
    assert 3 <= len(before) < len(chains)

    assert main(['label', '--folder', str(folder)]) == 0

    after = read_journal(folder / JOURNAL_FILE)[1]
    assert {row: after[row] for row in before} == before, 'a finished row was computed again'
    resumed, expected = read_labels(folder).to_arrays(), read_labels(whole).to_arrays()
    for name in set(expected) - {'wall_s'}:
        np.testing.assert_array_equal(resumed[name], expected[name])


@pytest.mark.parametrize('to_group', [False, True], ids=['process', 'group'])
def test_sigterm_keeps_what_is_finished(label_job, make_chains, start_worker, to_group: bool) -> None:
    """Schedulers send the signal to one process or to all of a job; rows in flight are interrupted, not crashed."""
    chains = make_chains(*range(2, 22))
    folder = label_job(chains, wait_s=0.2)
    process = start_worker('label', folder, processes=2)
    wait_for_rows(folder, 2, process)
    if to_group:
        os.killpg(process.pid, signal.SIGTERM)
    else:
        process.terminate()
    assert process.wait(timeout=20) == 1
    report = read_report(folder)
    assert (report.status, report.code) == ('interrupted', 'interrupted')
    labels = read_labels(folder)
    assert set(labels.status.tolist()) == {'ok', 'interrupted'}
    assert 2 <= labels.finished.sum() < len(chains)
    assert {entry['status'] for entry in read_journal(folder / JOURNAL_FILE)[1].values()} == {'ok'}

    journal = folder / JOURNAL_FILE
    n_finished = int(labels.finished.sum())
    job = json.loads((folder / JOB_FILE).read_text())
    assert job['parameters'] == {'wait_s': 0.2}
    assert main(['label', '--folder', str(folder), '--processes', '4']) == 0
    assert read_report(folder).status == 'ok'
    assert read_labels(folder).finished.all()
    assert len(journal.read_text().splitlines()) == 1 + len(chains)
    assert n_finished >= 2


def test_a_journal_of_other_parameters_is_refused(label_job, make_chains) -> None:
    first = label_job(make_chains(2), name='first')
    main(['label', '--folder', str(first)])
    second = label_job(make_chains(2), name='second', wait_s=0.01)
    (second / JOURNAL_FILE).write_bytes((first / JOURNAL_FILE).read_bytes())
    assert main(['label', '--folder', str(second)]) == 1
    report = read_report(second)
    assert (report.status, report.code) == ('error', 'DatasetError')
    assert 'fresh folder' in report.message


@pytest.mark.parametrize(
    ('damage', 'code', 'message'),
    [
        (lambda folder: (folder / JOB_FILE).unlink(), 'DatasetError', 'job.json is missing'),
        (lambda folder: (folder / JOB_FILE).write_text('{"task": "label"'), 'DatasetError', 'not a valid job'),
        (lambda folder: (folder / JOB_FILE).write_text('{"task": "paint"}'), 'DatasetError', 'not a valid job'),
        (lambda folder: (folder / JOB_FILE).write_text('{"task": "predict"}'), 'DatasetError', "the task 'predict'"),
        (lambda folder: (folder / STRUCTURES_FILE).unlink(), 'DatasetError', 'structures.npz is missing'),
        (lambda folder: (folder / STRUCTURES_FILE).write_bytes(b'PK'), 'DatasetError', 'structures.npz is damaged'),
        (lambda folder: np.savez(folder / STRUCTURES_FILE, x=np.zeros(3)), 'StructureError', 'missing'),
        (
            lambda folder: np.savez(folder / STRUCTURES_FILE, numbers=np.array([{}], dtype=object)),
            'DatasetError',
            'damaged',
        ),
    ],
)
def test_a_damaged_job_folder_gives_a_named_error(label_job, make_chains, damage, code: str, message: str) -> None:
    folder = label_job(make_chains(2))
    damage(folder)
    assert main(['label', '--folder', str(folder)]) == 1
    report = read_report(folder)
    assert (report.status, report.code) == ('error', code)
    assert message in report.message
    assert not (folder / RESULTS_FILE).exists()


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'engine': 'abacus'}, "no engine 'abacus'"),
        ({'wait_s': 'long'}, 'wait_s'),
        ({'cutoff_ry': 50.0}, 'cutoff_ry'),
    ],
)
def test_an_engine_that_cannot_be_used_is_an_engine_error(label_job, make_chains, change: dict, message: str) -> None:
    folder = label_job(make_chains(2), **change)
    assert main(['label', '--folder', str(folder)]) == 1
    assert read_report(folder).code == 'EngineError'
    assert message in read_report(folder).message


def test_the_command_refuses_wrong_arguments(capsys) -> None:
    for arguments in (['label', '--processes', '0'], ['dance'], []):
        with pytest.raises(SystemExit) as stopped:
            main(arguments)
        assert stopped.value.code == 2
    with pytest.raises(SystemExit) as stopped:
        main(['--version'])
    assert stopped.value.code == 0
    assert capsys.readouterr().out.strip()


def test_an_engine_without_levels_labels_a_batch(label_job) -> None:
    """Energies and stress of a curve come back, gaps are not there, and a foreign element costs its own row."""
    cells = [bulk('Ni', 'fcc', a=a, cubic=True) for a in (3.4, 3.5, 3.6)]
    cells[1].set_chemical_symbols(['Ni', 'Al', 'Ni', 'Cu'])
    cells.append(bulk('Fe', 'bcc', a=2.86))
    curve = StructureSet.from_structures(
        [Structure(cell.numbers, cell.positions, cell=cell.cell.array, pbc=cell.pbc) for cell in cells]
    )
    folder = label_job(curve, engine='ase', protocol='fast')
    assert main(['label', '--folder', str(folder), '--processes', '2']) == 0
    labels = read_labels(folder)
    assert labels.status.tolist() == ['ok', 'ok', 'ok', 'unsupported_element']
    assert labels.messages[3] == 'EMT (ASE) does not treat Fe'
    assert labels.source.title == 'EMT (ASE)'
    assert np.isfinite(labels.energies['energy_ev'][:3]).all()
    assert np.isnan(labels.energies['gap_ev']).all()
    stress = labels.vectors['stress_ev_per_ang3']
    pressures = [-np.trace(stress[row].reshape(3, 3)) / 3 for row in (0, 2)]
    assert pressures[0] > 0 > pressures[1], 'squeezed and stretched'


def test_a_missing_potential_ends_the_job_before_any_row(label_job, make_chains) -> None:
    folder = label_job(make_chains(2, 3), engine='ase', protocol='fast', calculator='no_such_package:Potential')
    assert main(['label', '--folder', str(folder)]) == 1
    report = read_report(folder)
    assert (report.status, report.code) == ('error', 'EngineError')
    assert 'install its package where the jobs run' in report.message
    assert not (folder / JOURNAL_FILE).exists()
