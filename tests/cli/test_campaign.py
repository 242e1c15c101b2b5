"""Campaigns as a user runs them: a daemon of their own, a kill in the middle, and going on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from aiida import orm
from aiida.common.links import LinkType
from aiida.engine import run_get_node
from aiida.plugins import WorkflowFactory

from aiida_nanoml.data.structures import StructureSetData
from aiida_nanoml.provenance.campaign import campaign_status
from aiida_nanoml.provenance.carriers import CARRIER, DAEMON, carried_by_this_command
from aiida_nanoml.worker.journal import Journal
from aiida_nanoml.worker.schemas import JOURNAL_FILE
from tests.forked import environment as forked

COUNT = 40


@pytest.fixture
def campaign(paced_code: orm.InstalledCode, make_chains, tmp_path: Path) -> orm.WorkChainNode:
    """A campaign that ended with one failure and with two structures left open, labelled ``chains``."""
    structures = StructureSetData(make_chains(2, 4, 6, 8))
    structures.label = 'chains'
    parameters = {'fail': [4], 'kill_worker': [6], 'killed_marker': str(tmp_path / 'killed')}
    _, node = run_get_node(
        WorkflowFactory('nanoml.label'),
        code=paced_code,
        structures=structures,
        engine='paced',
        protocol='quick',
        parameters=parameters,
        batch_size=2,
        max_rounds=1,
        metadata={'label': 'chains-campaign'},
    )
    return node


def test_status_tells_what_is_done_and_why_something_failed(cli, cli_json, campaign: orm.WorkChainNode) -> None:
    found = cli_json('campaign', 'status', 'chains-campaign')
    assert found['n_structures'] == 4
    assert (found['n_done'], found['n_running'], found['n_waiting']) == (1, 0, 2)
    assert found['failures'] == [
        {'code': 'not_converged', 'n_structures': 1, 'message': '4 atoms never converge'},
    ]
    assert found['source'] == 'Paced 1.0, protocol quick'
    assert found['remaining_s'] >= 0
    text = cli('campaign', 'status', campaign.pk).stdout
    assert '1 of 4' in text
    assert '4 atoms never converge' in text
    assert text.endswith(f'next: aiida-nanoml campaign resume {campaign.pk}\n')
    assert cli_json('campaign', 'status')['campaigns'][0]['uuid'] == campaign.uuid


def test_a_job_that_has_no_state_yet_is_told(campaign: orm.WorkChainNode, code: orm.InstalledCode) -> None:
    """A process is stored, and linked to its caller, a moment before the engine gives it a state."""
    batch = campaign.called[0]
    caller = orm.WorkChainNode(process_type=campaign.process_type)
    for name in ('structures', 'mode', 'options', 'max_concurrent'):
        caller.base.links.add_incoming(campaign.inputs[name], LinkType.INPUT_WORK, name)
    caller.store()
    job = orm.CalcJobNode(computer=code.computer, process_type=batch.process_type)
    job.set_process_label('LabelCalculation')
    job.base.links.add_incoming(batch.inputs.rows, LinkType.INPUT_CALC, 'rows')
    job.base.links.add_incoming(caller, LinkType.CALL_CALC, 'batch')
    job.store()
    found = campaign_status(caller)
    assert found.state == 'created'
    assert [(job.state, job.n_structures) for job in found.jobs] == [('created', 2)]


@pytest.fixture
def open_campaign(campaign: orm.WorkChainNode, code: orm.InstalledCode) -> Callable[[], orm.WorkChainNode]:
    """Store a campaign that waits for a batch of two rows, as a killed command leaves it."""

    def make() -> orm.WorkChainNode:
        batch = campaign.called[0]
        caller = orm.WorkChainNode(process_type=campaign.process_type)
        caller.set_process_state('waiting')
        for name in ('structures', 'mode', 'options', 'max_concurrent'):
            caller.base.links.add_incoming(campaign.inputs[name], LinkType.INPUT_WORK, name)
        caller.store()
        job = orm.CalcJobNode(computer=code.computer, process_type=batch.process_type)
        job.set_process_label('LabelCalculation')
        job.set_process_state('waiting')
        job.base.links.add_incoming(batch.inputs.rows, LinkType.INPUT_CALC, 'rows')
        job.base.links.add_incoming(caller, LinkType.CALL_CALC, 'batch')
        job.store()
        return caller

    return make


def test_rows_of_a_job_whose_campaign_was_killed_wait(open_campaign) -> None:
    caller = open_campaign()
    running = campaign_status(caller)
    assert (running.n_running, running.n_waiting, running.stands_still) == (2, 2, '')
    caller.set_process_state('killed')
    dead = campaign_status(caller)
    assert (dead.n_done, dead.n_running, dead.n_waiting, dead.jobs) == (0, 0, 4, ())


def test_a_folder_that_vanished_is_not_continued(open_campaign, campaign, code, tmp_path: Path) -> None:
    """Its rows are labelled in a new job; the journal of a folder that is there is continued."""
    caller = open_campaign()
    [job] = caller.called
    folder = orm.RemoteData(computer=code.computer, remote_path=str(tmp_path / 'job'))
    folder.base.links.add_incoming(job, LinkType.CREATE, 'remote_folder')
    folder.store()
    caller.set_process_state('killed')
    assert campaign_status(caller).n_waiting == 4
    resume = WorkflowFactory('nanoml.label').get_builder_to_resume
    assert dict(resume(caller).interrupted) == {}
    (tmp_path / 'job').mkdir()
    assert [found.pk for found in resume(caller).interrupted.values()] == [folder.pk]


def test_rows_in_the_journal_of_a_running_batch_are_done(open_campaign, campaign, tmp_path: Path) -> None:
    caller = open_campaign()
    with Journal(tmp_path / JOURNAL_FILE, {'engine': 'paced'}) as journal:
        journal.append({'row': 0, 'status': 'ok', 'wall_s': 2.0})
        journal.append({'row': 1, 'status': 'not_converged', 'message': 'tried again', 'wall_s': 2.0})
    caller.called[0].set_remote_workdir(str(tmp_path))
    found = campaign_status(caller)
    assert (found.n_done, found.n_running, found.n_waiting) == (1, 1, 2)
    assert found.remaining_s is not None


def test_a_campaign_whose_command_is_gone_stands_still(open_campaign, cli, cli_json) -> None:
    caller = open_campaign()
    with carried_by_this_command(caller):
        assert campaign_status(caller).stands_still == ''
        carrier = caller.base.extras.get(CARRIER)
        assert f'`aiida-nanoml campaign status {caller.pk}`' in cli('campaign', 'resume', caller.pk, status=1).output
    caller.base.extras.set(CARRIER, carrier | {'started': carrier['started'] - 100})  # its number was given again
    assert 'is gone' in cli_json('campaign', 'status', caller.pk)['stands_still']
    text = cli('campaign', 'status', caller.pk).stdout
    assert 'waiting, stands still' in text
    assert text.endswith(f'next: aiida-nanoml campaign resume {caller.pk}\n')
    caller.base.extras.set(CARRIER, DAEMON)
    assert campaign_status(caller).stands_still == 'no daemon runs'


def test_what_is_no_campaign_is_refused(cli, campaign: orm.WorkChainNode) -> None:
    job = campaign.called[0]
    assert 'not a campaign' in cli('campaign', 'status', job.pk, status=2).output


def test_retry_labels_the_failures_again_and_resume_says_when_nothing_is_left(cli, cli_json, make_chains, code) -> None:
    flakes = cli_json('flakes', 'generate', '--family', 'z', '--size', 2, '--count', 2, '--seed', 1)
    cli('label', flakes['uuid'], '--protocol', 'fast', '--set', 'max_iterations=2', '--code', code.pk, status=1)
    node = cli_json('campaign', 'status')['campaigns'][0]
    assert [failure['code'] for failure in node['failures']] == ['not_converged']
    refused = cli('campaign', 'resume', node['uuid'], status=1).output
    assert f'campaign retry {node["pk"]}' in refused
    assert 'No structure could be labelled' in cli('campaign', 'retry', node['uuid'], status=1).output


@pytest.fixture
def paced_campaign(paced_code: orm.InstalledCode, make_chains) -> Callable[..., tuple[str, ...]]:
    """Words that label four chains in the foreground, of which the last one takes long."""
    StructureSetData(make_chains(2, 4, 6, 8)).store().label = 'chains'
    return (
        'label', 'chains', '--engine', 'paced', '--protocol', 'quick', '--code', str(paced_code.pk),
        '--batch-size', '4', '--name', 'ended', '--set', 'hang=[8]',
    )  # fmt: skip


def test_sigterm_ends_a_foreground_command_between_two_steps(
    cli, cli_json, paced_campaign, job_root: Path, caplog
) -> None:
    """The command ends with a way back, no job runs on, and what was labelled is kept."""
    before = set(job_root.rglob(JOURNAL_FILE))

    def terminate() -> None:
        for _ in range(600):
            for journal in set(job_root.rglob(JOURNAL_FILE)) - before:
                if journal.read_text().count('"row"') >= 3:
                    os.kill(os.getpid(), signal.SIGTERM)
                    return
            time.sleep(0.1)

    thread = threading.Thread(target=terminate)
    thread.start()
    result = cli(*paced_campaign, status=128 + signal.SIGTERM)
    thread.join()
    [node] = orm.QueryBuilder().append(orm.WorkChainNode, filters={'label': 'ended'}).all(flat=True)
    assert result.stderr.splitlines()[-1] == (
        f'LabelWorkChain (pk {node.pk}) was killed; continue it with `aiida-nanoml campaign resume {node.pk}`'
    )
    assert 'Traceback' not in result.output + caplog.text
    [job] = [called for called in node.called if isinstance(called, orm.CalcJobNode)]
    assert (node.is_killed, job.is_killed, node.is_sealed) == (True, True, True)
    folder = job.get_remote_workdir()
    running = [one for one in psutil.process_iter(['cwd']) if one.info['cwd'] == folder]
    assert psutil.wait_procs(running, timeout=20)[1] == [], 'the worker of the job still runs'
    status = cli_json('campaign', 'status', node.pk)
    assert (status['state'], status['n_done'] + status['n_waiting']) == ('killed', 4)
    assert f'campaign resume {node.pk}' in cli('campaign', 'status', node.pk).stdout


@pytest.fixture
def command(tmp_path: Path) -> Callable[..., Any]:
    """Run a program in a profile of its own, whose daemon is stopped at the end."""
    environment = os.environ | {'AIIDA_PATH': str(tmp_path), 'HOME': str(tmp_path)}
    quick = forked.program('aiida-nanoml')
    programs = quick.parent if quick else Path(sys.executable).parent
    environment['PATH'] = f'{programs}{os.pathsep}{environment["PATH"]}'

    def call(program: str, *arguments: Any) -> str:
        words = [programs / program, *map(str, arguments)]
        done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False, timeout=200)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    (tmp_path / '.aiida').mkdir()
    call('verdi', 'presto', '--use-zeromq', '-n')
    call('verdi', 'config', 'set', 'daemon.timeout', 60)  # it waits for a worker that ends its jobs, in 20 s or not
    call('aiida-nanoml', 'doctor', '--fix')
    call('verdi', 'daemon', 'start')
    yield call
    call('verdi', 'daemon', 'stop')


def wait_until(condition: Callable[[], bool]) -> None:
    for _ in range(200):
        if condition():
            return
        time.sleep(0.5)
    raise AssertionError('waited in vain')


@pytest.mark.timeout(400)
def test_a_killed_campaign_goes_on_after_a_restart_of_its_daemon(command) -> None:
    def status() -> dict[str, Any]:
        return json.loads(command('aiida-nanoml', 'campaign', 'status', 'killed', '--json'))

    command(
        'aiida-nanoml',
        'flakes',
        'generate',
        '--family',
        'h',
        '--size',
        2,
        '--count',
        COUNT,
        '--seed',
        1,
        '--name',
        'flakes',
    )
    submitted = command(
        'aiida-nanoml', 'label', 'flakes', '--protocol', 'fast', '--batch-size', 8, '--max-concurrent', 1,
        '--submit', '--name', 'killed',
    )  # fmt: skip
    assert submitted.splitlines()[-1] == f'next: aiida-nanoml campaign status {status()["pk"]}'
    wait_until(lambda: status()['n_done'] > 8)  # a whole batch, and rows in the journal of the next one
    command('verdi', 'process', 'kill', status()['pk'])
    wait_until(lambda: status()['ended'])
    command('verdi', 'daemon', 'restart')
    before = status()
    assert before['state'] == 'killed'
    assert 0 < before['n_done'] < COUNT
    assert before['n_done'] + before['n_waiting'] == COUNT

    # The daemon runs: it gets the work, names what comes out, and the command follows it.
    resumed = json.loads(command('aiida-nanoml', 'campaign', 'resume', 'killed', '--name', 'resumed', '--json'))
    assert (resumed['n_done'], resumed['label'], resumed['type']) == (COUNT, 'resumed', 'nanoml.labels')
    assert 'daemon' in command('verdi', 'node', 'extras', resumed['process'])
    after = json.loads(command('aiida-nanoml', 'campaign', 'status', resumed['process'], '--json'))
    assert after['failures'] == []
    assert f'{COUNT} structures in' in command('aiida-nanoml', 'trace', resumed['uuid'])
