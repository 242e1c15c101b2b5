"""Every way a job can end has its own exit status, and no finished row is lost."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aiida import orm
from aiida.common.links import LinkType
from aiida.plugins import CalculationFactory, ParserFactory
from aiida.plugins.entry_point import format_entry_point_string

from aiida_nanoml.data.structures import StructureSetData
from aiida_nanoml.engines.label_set import LabelSet, LabelSource
from aiida_nanoml.structures import StructureSet
from aiida_nanoml.worker.files import write_arrays, write_report
from aiida_nanoml.worker.journal import Journal
from aiida_nanoml.worker.labelled_rows import read_rows, tabulate
from aiida_nanoml.worker.schemas import ERROR_FILE, JOURNAL_FILE, MODEL_FOLDER, REPORT_FILE, RESULTS_FILE, Report

SOURCE = LabelSource('paced', '1.0', 'Paced', 'quick', {})


@dataclass(frozen=True)
class Parsed:
    """What a parser made of a job folder; ``exit_code`` is the name, None if there is none."""

    outputs: dict[str, Any]
    exit_code: str | None
    message: str | None


@pytest.fixture
def parse(code: orm.InstalledCode) -> Callable[..., Parsed]:
    """Run a parser on a job folder, as AiiDA does after retrieving it."""

    def run(task: str, folder: Path, **inputs: orm.Data) -> Parsed:
        name = format_entry_point_string('aiida.calculations', f'nanoml.{task}')
        job = orm.CalcJobNode(computer=code.computer, process_type=name)
        for label, node in inputs.items():
            job.base.links.add_incoming(node.store(), LinkType.INPUT_CALC, label)
        job.store()
        retrieved = orm.FolderData()
        for kept in (REPORT_FILE, ERROR_FILE):
            if (folder / kept).exists():
                retrieved.base.repository.put_object_from_file(str(folder / kept), kept)
        retrieved.base.links.add_incoming(job, LinkType.CREATE, 'retrieved')
        retrieved.store()
        outputs, node = ParserFactory(f'nanoml.{task}').parse_from_node(
            job, store_provenance=False, retrieved_temporary_folder=str(folder)
        )
        assert node.is_finished, node.exception
        names = {code.status: name for name, code in CalculationFactory(f'nanoml.{task}').exit_codes.items()}
        return Parsed(outputs, names[node.exit_status] if node.exit_status else None, node.exit_message)

    return run


@pytest.fixture
def chains(make_chains: Callable[..., StructureSet]) -> StructureSet:
    return make_chains(2, 4, 6)


def entry(row: int, gap: float = 1.0, **change: Any) -> dict[str, Any]:
    energies = {'energy_ev': -1.0, 'homo_ev': -5.0, 'lumo_ev': -5.0 + gap, 'gap_ev': gap}
    return {
        'row': row,
        'status': 'ok',
        'message': '',
        'wall_s': 0.1,
        **energies,
        'n_electrons': 2,
        'open_shell': False,
    } | change


def leave_labels(folder: Path, structures: StructureSet, entries: dict[int, dict], **report: Any) -> None:
    """Write what a worker leaves behind."""
    write_arrays(folder / RESULTS_FILE, tabulate(SOURCE, structures, read_rows(entries)).to_arrays())
    write_report(folder, Report(**({'status': 'ok', 'content': {'source': SOURCE.to_dict()}} | report)))


def test_labels_of_a_finished_job(parse, tmp_path: Path, chains: StructureSet) -> None:
    leave_labels(tmp_path, chains, {row: entry(row, gap=float(row)) for row in range(3)})
    found = parse('label', tmp_path, structures=StructureSetData(chains))
    assert found.exit_code is None, found.message
    assert found.outputs['labels'].labels.energies['gap_ev'].tolist() == [0.0, 1.0, 2.0]
    assert found.outputs['labels'].label_source == SOURCE


def test_labels_of_chosen_rows(parse, tmp_path: Path, chains: StructureSet) -> None:
    leave_labels(tmp_path, chains.select([2, 0]), {0: entry(0), 1: entry(1)})
    found = parse('label', tmp_path, structures=StructureSetData(chains), rows=orm.List([2, 0]))
    assert found.exit_code is None, found.message
    assert found.outputs['labels'].labels.hashes.tolist() == chains.hashes[[2, 0]].tolist()


def test_an_interrupted_job_keeps_its_finished_rows(parse, tmp_path: Path, chains: StructureSet) -> None:
    leave_labels(tmp_path, chains, {1: entry(1)}, status='interrupted', message='stopped by a signal')
    found = parse('label', tmp_path, structures=StructureSetData(chains))
    assert found.exit_code == 'ERROR_INTERRUPTED'
    assert 'stopped by a signal' in found.message
    assert found.outputs['labels'].labels.status.tolist() == ['interrupted', 'ok', 'interrupted']


def test_a_killed_job_keeps_the_rows_of_its_journal(parse, tmp_path: Path, chains: StructureSet) -> None:
    with Journal(tmp_path / JOURNAL_FILE, SOURCE.to_dict()) as journal:
        journal.append(entry(2, gap=2.0))
        journal.append(entry(0, gap=0.5))
    with (tmp_path / JOURNAL_FILE).open('ab') as handle:
        handle.write(b'{"row": 1, "status": "o')
    found = parse('label', tmp_path, structures=StructureSetData(chains))
    assert found.exit_code == 'ERROR_INTERRUPTED'
    assert 'killed after 2 of 3 structures' in found.message
    labels = found.outputs['labels'].labels
    assert labels.status.tolist() == ['ok', 'interrupted', 'ok']
    assert labels.energies['gap_ev'][[0, 2]].tolist() == [0.5, 2.0]
    assert labels.source == SOURCE


def test_a_job_without_any_finished_row(parse, tmp_path: Path, chains: StructureSet) -> None:
    failed = {row: {'row': row, 'status': 'not_converged', 'message': 'too hard', 'wall_s': 1.0} for row in range(3)}
    leave_labels(tmp_path, chains, failed)
    found = parse('label', tmp_path, structures=StructureSetData(chains))
    assert found.exit_code == 'ERROR_NO_ROW_FINISHED'
    assert 'too hard' in found.message
    assert found.outputs['labels'].base.attributes.get('failures') == {'not_converged': 3}


@pytest.mark.parametrize(
    ('content', 'expected'), [(None, 'empty'), ('', 'empty'), ('warning\nbash: nanoml-worker: not found\n\n', 'found')]
)
def test_a_job_that_left_nothing_says_what_its_error_stream_says(
    parse, tmp_path: Path, chains: StructureSet, content: str | None, expected: str
) -> None:
    if content is not None:
        (tmp_path / ERROR_FILE).write_text(content)
    found = parse('label', tmp_path, structures=StructureSetData(chains))
    assert found.exit_code == 'ERROR_REPORT_MISSING'
    assert not found.outputs
    assert found.message.startswith('The job left no report: ')
    assert found.message.endswith(expected)


@pytest.mark.parametrize('content', ['', '{', '[]', '{"status": "splendid"}', '{"status": "ok", "mood": "good"}'])
def test_a_report_that_cannot_be_read(parse, tmp_path: Path, chains: StructureSet, content: str) -> None:
    (tmp_path / REPORT_FILE).write_text(content)
    found = parse('label', tmp_path, structures=StructureSetData(chains))
    assert found.exit_code == 'ERROR_REPORT_INVALID'
    assert REPORT_FILE in found.message


@pytest.mark.parametrize(
    ('code_name', 'expected'),
    [
        ('unexpected', 'ERROR_WORKER_FAILED'),
        ('ModelError', 'ERROR_INPUT_REFUSED'),
        ('EngineError', 'ERROR_INPUT_REFUSED'),
        ('DatasetError', 'ERROR_INPUT_REFUSED'),
    ],
)
@pytest.mark.parametrize('task', ['label', 'train', 'predict'])
def test_errors_of_the_worker(parse, tmp_path: Path, task: str, code_name: str, expected: str) -> None:
    write_report(tmp_path, Report(status='error', code=code_name, message='it broke here'))
    found = parse(task, tmp_path)
    assert found.exit_code == expected
    assert not found.outputs
    assert 'it broke here' in found.message


def damage_results(folder: Path, *dropped: str, **replaced: Any) -> None:
    """Drop columns of the results, and replace others."""
    with np.load(folder / RESULTS_FILE) as archive:
        arrays = {name: archive[name] for name in archive.files if name not in dropped}
    write_arrays(folder / RESULTS_FILE, arrays | replaced)


@pytest.mark.parametrize(
    ('damage', 'message'),
    [
        (lambda folder: (folder / RESULTS_FILE).unlink(), 'results.npz is missing'),
        (lambda folder: (folder / RESULTS_FILE).write_bytes(b'PK\x03\x04junk'), 'results.npz is damaged'),
        (lambda folder: damage_results(folder, 'gap_ev'), "'gap_ev'"),
        (lambda folder: damage_results(folder, gap_ev=np.full(3, np.nan)), 'not a finite number'),
        (lambda folder: damage_results(folder, gap_ev=np.full(3, 'wide')), 'wide'),
        (lambda folder: damage_results(folder, hashes=np.array(['a', 'b', 'c'])), 'other structures'),
        (lambda folder: write_report(folder, Report(status='ok')), "'source' is missing"),
        (lambda folder: write_report(folder, Report(status='ok', content={'source': {}})), 'not a label source'),
    ],
)
def test_results_that_cannot_be_read(parse, tmp_path: Path, chains: StructureSet, damage, message: str) -> None:
    leave_labels(tmp_path, chains, {row: entry(row) for row in range(3)})
    damage(tmp_path)
    found = parse('label', tmp_path, structures=StructureSetData(chains))
    assert found.exit_code == 'ERROR_RESULTS_INVALID'
    assert not found.outputs
    assert message in found.message


def test_labels_of_another_number_of_structures(parse, tmp_path: Path, chains: StructureSet) -> None:
    leave_labels(tmp_path, chains.select([0, 1]), {0: entry(0), 1: entry(1)})
    found = parse('label', tmp_path, structures=StructureSetData(chains))
    assert found.exit_code == 'ERROR_RESULTS_INVALID'
    assert 'other structures' in found.message


@pytest.mark.parametrize(
    'lines',
    [
        [{'header': {'engine': 'xtb'}}, entry(0)],
        [{'header': SOURCE.to_dict()}, entry(0, gap_ev=float('nan'))],
        [{'header': SOURCE.to_dict()}, entry(0, gap_ev='wide')],
    ],
)
def test_a_journal_that_cannot_be_read(parse, tmp_path: Path, chains: StructureSet, lines: list[dict]) -> None:
    (tmp_path / JOURNAL_FILE).write_text(''.join(json.dumps(line) + '\n' for line in lines))
    found = parse('label', tmp_path, structures=StructureSetData(chains))
    assert found.exit_code == 'ERROR_RESULTS_INVALID'
    assert not found.outputs


def predicted(n_rows: int) -> dict[str, np.ndarray]:
    return {name: np.ones(n_rows) for name in ('value', 'std', 'spread', 'distance')} | {
        'outside': np.zeros(n_rows, dtype=bool)
    }


def test_a_training_becomes_five_nodes(parse, tmp_path: Path, dataset_node, model_folder: Path) -> None:
    n_rows = len(dataset_node.dataset)
    shutil.copytree(model_folder, tmp_path / MODEL_FOLDER)
    (tmp_path / 'Energy_gap_prediction.png').write_bytes(b'\x89PNG')
    write_arrays(tmp_path / RESULTS_FILE, predicted(n_rows) | {'history_loss': np.array([2.0, 1.0])})
    metrics = {'train': {'r2': None, 'mae': 0.1, 'rmse': 0.1, 'n': 8}}
    write_report(tmp_path, Report(status='ok', content={'metrics': metrics}))
    found = parse('train', tmp_path, dataset=dataset_node)
    assert found.exit_code is None, found.message
    assert set(found.outputs) == {'model', 'metrics', 'fitted', 'history', 'figures'}
    assert found.outputs['metrics'].get_dict() == metrics
    assert found.outputs['history'].get_x()[1].tolist() == [1, 2]
    assert found.outputs['history'].get_y()[0][1].tolist() == [2.0, 1.0]
    assert found.outputs['fitted'].get_array('hashes').tolist() == dataset_node.dataset.hashes.tolist()
    assert found.outputs['figures'].base.repository.list_object_names() == ['Energy_gap_prediction.png']


def test_a_training_without_model(parse, tmp_path: Path, dataset_node) -> None:
    write_arrays(tmp_path / RESULTS_FILE, predicted(12))
    write_report(tmp_path, Report(status='ok', content={'metrics': {}}))
    found = parse('train', tmp_path, dataset=dataset_node)
    assert found.exit_code == 'ERROR_RESULTS_INVALID'
    assert not found.outputs
    assert 'model.json' in found.message


@pytest.mark.parametrize(('n_rows', 'expected'), [(12, None), (11, 'ERROR_RESULTS_INVALID')])
def test_there_is_one_prediction_a_row(
    parse, tmp_path: Path, structures_node, model_node, n_rows: int, expected: str | None
) -> None:
    write_arrays(tmp_path / RESULTS_FILE, predicted(n_rows))
    write_report(tmp_path, Report(status='ok'))
    found = parse('predict', tmp_path, structures=structures_node, model=model_node)
    assert found.exit_code == expected
    assert set(found.outputs) == ({'predictions'} if expected is None else set())


def test_a_label_set_can_be_rebuilt_from_what_a_worker_leaves(tmp_path: Path, chains: StructureSet) -> None:
    leave_labels(tmp_path, chains, {0: entry(0)})
    with np.load(tmp_path / RESULTS_FILE, allow_pickle=False) as archive:
        labels = LabelSet.from_arrays(SOURCE, {name: archive[name] for name in archive.files})
    assert labels.failures == {'interrupted': 2}
