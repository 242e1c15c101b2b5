"""Labelling in batches: failures of the machine are repaired, failures of a structure are reported."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aiida import orm
from aiida.engine import run_get_node
from aiida.manage.caching import enable_caching
from aiida.plugins import CalculationFactory, WorkflowFactory

from aiida_nanoml.data.structures import StructureSetData
from aiida_nanoml.provenance.campaign import campaign_status, campaigns
from aiida_nanoml.structures import StructureSet

LabelCalculation = CalculationFactory('nanoml.label')
LabelWorkChain = WorkflowFactory('nanoml.label')


@pytest.fixture
def label(paced_code: orm.InstalledCode) -> Callable[..., tuple[dict, orm.WorkChainNode]]:
    def run(structures: StructureSet, code: orm.InstalledCode = paced_code, **inputs: Any) -> Any:
        given = {'engine': 'paced', 'protocol': 'quick'} | inputs
        return run_get_node(LabelWorkChain, code=code, structures=StructureSetData(structures), **given)

    return run


def jobs_of(node: orm.WorkChainNode) -> list[orm.CalcJobNode]:
    """Jobs of a workflow, in the order of submission."""
    return sorted((job for job in node.called if isinstance(job, orm.CalcJobNode)), key=lambda job: job.pk)


def batches(node: orm.WorkChainNode) -> list[list[int]]:
    """Rows of every job, in the order of submission."""
    return [job.inputs.rows.get_list() for job in jobs_of(node)]


def test_structures_are_labelled_in_batches_and_their_order_is_kept(label, make_chains) -> None:
    chains = make_chains(*range(2, 62))
    outputs, node = label(chains, batch_size=20, max_concurrent=3)
    assert node.is_finished_ok, node.exit_message
    assert sorted(row for rows in batches(node) for row in rows) == list(range(60))
    assert {len(rows) for rows in batches(node)} == {20}
    labels = outputs['labels'].labels
    assert labels.hashes.tolist() == chains.hashes.tolist()
    np.testing.assert_allclose(labels.energies['gap_ev'], 0.1 * np.arange(2, 62))


def test_batches_cost_few_nodes(label, make_chains) -> None:
    """3,000 labelled structures stay below 1,000 nodes even in batches of 20: at most 6 a batch and 40 around them."""
    before = orm.QueryBuilder().append(orm.Node).count()
    _, node = label(make_chains(2, 3, 4, 5), batch_size=2)
    n_nodes = orm.QueryBuilder().append(orm.Node).count() - before
    assert node.is_finished_ok, node.exit_message
    jobs = jobs_of(node)
    assert len(jobs) == 2
    per_batch = max(len(job.base.links.get_outgoing().all()) + 2 for job in jobs)  # with the job itself and its rows
    around = n_nodes - len(jobs) * per_batch
    assert per_batch <= 6
    assert around <= 40
    assert per_batch * 3000 // 20 + around <= 1000


def test_batches_are_taken_from_the_cache(aiida_profile_clean, label, make_chains) -> None:
    chains = make_chains(2, 3, 4, 5)
    first, _ = label(chains, batch_size=2)
    with enable_caching(identifier='aiida.calculations:nanoml.label'):
        again, node = label(chains, batch_size=2)
    assert node.is_finished_ok, node.exit_message
    assert [job.base.caching.is_created_from_cache for job in jobs_of(node)] == [True, True]
    assert again['labels'].base.caching.get_hash() == first['labels'].base.caching.get_hash()


def test_only_the_rows_that_a_killed_worker_owes_are_labelled_again(label, make_chains, tmp_path: Path) -> None:
    parameters = {'kill_worker': [6], 'killed_marker': str(tmp_path / 'killed')}
    outputs, node = label(make_chains(2, 4, 6, 8), parameters=parameters)
    assert (tmp_path / 'killed').exists()
    assert node.is_finished_ok, node.exit_message
    assert batches(node) == [[0, 1, 2, 3], [2, 3]]
    assert outputs['labels'].labels.finished.all()
    assert outputs['labels'].base.attributes.get('n_rows') == 4


def test_rows_that_fail_by_themselves_are_not_tried_again(label, make_chains) -> None:
    outputs, node = label(make_chains(2, 4, 6, 2), parameters={'fail': [4], 'crash': [6]}, max_rounds=2)
    assert node.is_finished_ok, node.exit_message
    assert batches(node) == [[0, 1, 2], [2]], 'the second chain of two atoms is the first one again'
    assert outputs['labels'].base.attributes.get('failures') == {'engine_crash': 1, 'not_converged': 1}
    assert outputs['labels'].base.attributes.get('n_finished') == 1


def test_no_more_jobs_are_at_the_computer_than_allowed_and_free_places_are_filled(
    label, make_chains, tmp_path: Path
) -> None:
    """The throttle works before submission: what waits is not a job yet. The first job waits for the third one."""
    parameters = {'meet': [2, 4], 'meeting': str(tmp_path)}
    chains = make_chains(2, 3, 4, 5)
    outputs, node = label(chains, parameters=parameters, batch_size=1, max_concurrent=2)
    assert node.is_finished_ok, node.exit_message
    assert outputs['labels'].labels.hashes.tolist() == chains.hashes.tolist(), 'rows are in the order of their ends'
    jobs = jobs_of(node)
    assert len(jobs) == 4
    ends = {job.pk: job.outputs.labels.ctime for job in jobs}
    at_once = [sum(ends[other.pk] > job.ctime for other in jobs[:number]) for number, job in enumerate(jobs)]
    assert max(at_once) == 1, 'a job was submitted while two others were not done'
    statuses = [status for job in jobs for status in job.outputs.labels.labels.status]
    assert statuses == ['ok'] * 4, 'a free place was left empty until all jobs of a round were done'


def test_a_job_goes_on_from_the_journal_of_a_killed_one(paced_code, make_chains, tmp_path: Path) -> None:
    inputs = {
        'code': paced_code,
        'structures': StructureSetData(make_chains(2, 4, 6, 8)),
        'rows': orm.List([0, 1, 2, 3]),
        'engine': 'paced',
        'protocol': 'quick',
        'parameters': {'kill_worker': [6], 'killed_marker': str(tmp_path / 'killed')},
    }
    killed, first = run_get_node(LabelCalculation, **inputs)
    assert first.exit_status == LabelCalculation.exit_codes.ERROR_INTERRUPTED.status
    done = killed['labels'].labels
    assert done.finished.tolist() == [True, True, False, False]
    resumed, second = run_get_node(LabelCalculation, **inputs, parent_folder=first.outputs.remote_folder)
    assert second.is_finished_ok, second.exit_message
    assert resumed['labels'].labels.finished.all()
    assert resumed['labels'].labels.wall_s[:2].tolist() == done.wall_s[:2].tolist(), 'finished rows were computed again'


def test_a_killed_campaign_goes_on_with_what_it_has(label, make_chains, tmp_path: Path) -> None:
    parameters = {'kill_worker': [6], 'killed_marker': str(tmp_path / 'killed'), 'fail': [4]}
    partial, node = label(make_chains(2, 4, 6, 8), parameters=parameters, max_rounds=1, batch_size=2)
    assert batches(node) == [[0, 1], [2, 3]]
    assert partial['labels'].labels.status.tolist() == ['ok', 'not_converged']
    status = campaign_status(node)
    assert (status.n_structures, status.n_done, status.n_running, status.n_waiting) == (4, 1, 0, 2)
    assert [(failure.code, failure.n_structures) for failure in status.failures] == [('not_converged', 1)]
    assert '4 atoms never converge' in status.failures[0].message

    resumed, second = run_get_node(LabelWorkChain.get_builder_to_resume(node))
    assert second.is_finished_ok, second.exit_message
    assert batches(second) == [[2, 3]], 'a failure of the structure itself is left as it is'
    labels = resumed['labels'].labels
    assert campaign_status(second).n_waiting == 0
    assert [node.pk for node in campaigns()][:2] == [second.pk, node.pk]
    assert labels.status[np.argsort(labels.n_electrons)].tolist() == ['not_converged', 'ok', 'ok', 'ok']

    builder = LabelWorkChain.get_builder_to_resume(second)
    builder.retry = True
    _, third = run_get_node(builder)
    assert batches(third) == [[1]]


def test_known_labels_are_not_made_again(label, make_chains) -> None:
    chains = make_chains(2, 3, 4)
    known, _ = label(chains.select([1]))
    outputs, node = label(chains, known={'before': known['labels']})
    assert batches(node) == [[0, 2]]
    assert outputs['labels'].labels.finished.tolist() == [True] * 3
    everything, last = label(chains, known={'before': outputs['labels']})
    assert batches(last) == []
    assert everything['labels'].uuid == outputs['labels'].uuid


def test_nothing_labelled_is_a_failure_that_keeps_the_reasons(label, make_chains) -> None:
    outputs, node = label(make_chains(2), parameters={'fail': [2]})
    assert node.exit_status == LabelWorkChain.exit_codes.ERROR_NO_ROW_FINISHED.status
    assert '2 atoms never converge' in node.exit_message
    assert outputs['labels'].base.attributes.get('failures') == {'not_converged': 1}


def test_batches_without_any_result_name_the_job(label, make_chains, code_factory) -> None:
    missing = code_factory(Path('/nowhere/nanoml-worker'), 'missing-worker')
    outputs, node = label(make_chains(2), code=missing, max_rounds=1)
    assert node.exit_status == LabelWorkChain.exit_codes.ERROR_BATCHES_FAILED.status
    assert 'LabelCalculation<' in node.exit_message
    assert 'No such file' in node.exit_message
    assert 'labels' not in outputs


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'engine': 'abacus'}, "no engine 'abacus'"),
        ({'batch_size': 0}, 'at least 1'),
        ({'mode': 'serial'}, 'batch, single'),
        ({'mode': 'single'}, 'paced has no single runs'),
        ({'program_processes': 2}, 'paced runs no program'),
        (
            {'engine': 'siesta', 'protocol': 'fast', 'mode': 'single', 'densities': True},
            'densities come out of batches',
        ),
        ({'engine': 'xtb', 'protocol': 'fast', 'densities': True}, "engine 'xtb' computes no density"),
        ({'max_rounds': -1}, 'at least 1'),
        ({'parameters': {'unknown': 1}}, 'unknown'),
        ({'options': {'resources': {'num_machines': 3}}}, 'one job uses one machine'),
    ],
)
def test_inputs_that_cannot_work_are_refused(label, make_chains, change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        label(make_chains(2), **change)
