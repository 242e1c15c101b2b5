"""What carries processes: tasks in the queue of a broker, and their repair while the daemon is stopped."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from aiida import orm
from aiida.brokers.zeromq.queue import PersistentQueue
from aiida.common.links import LinkType
from plumpy.process_comms import create_continue_body

from aiida_nanoml.actions.installation import find_orphans
from aiida_nanoml.actions.mending import end_dead, repair_tasks
from aiida_nanoml.provenance import carriers
from aiida_nanoml.provenance.carriers import (
    DAEMON,
    TAKEN_S,
    Carriers,
    carried_by_this_command,
    note_submitted,
    read_queue,
    read_record,
    read_untaken,
    record_daemon,
)


@pytest.fixture
def waiting(aiida_profile_clean) -> Callable[..., orm.WorkChainNode]:
    """Store a process that waits, as far as a checkpoint says."""

    def make(checkpoint: str = 'saved') -> orm.WorkChainNode:
        node = orm.WorkChainNode()
        node.set_process_state('waiting')
        node.store()
        if checkpoint:
            node.set_checkpoint(checkpoint)
        return node

    return make


def push(folder: Path, *pks: int) -> None:
    queue = PersistentQueue(folder)
    for number, pk in enumerate(pks):
        queue.push(f'{pk}-{number}', {'body': create_continue_body(pid=pk, nowait=True)})


def test_the_queue_is_read_and_not_changed(tmp_path: Path) -> None:
    assert read_queue(tmp_path / 'none') == []
    push(tmp_path, 7, 8)
    queue = PersistentQueue(tmp_path)
    queue.pop()
    (tmp_path / 'pending' / 'half.json').write_text('{"body"')
    (tmp_path / 'pending' / 'other.json').write_text(json.dumps({'body': None}))
    assert sorted(read_queue(tmp_path)) == [7, 8]
    assert len(list((tmp_path / 'processing').iterdir())) == 1, 'what is worked on is not given out again'


def test_a_task_that_no_worker_takes_is_found(tmp_path: Path) -> None:
    push(tmp_path, 7, 8)
    PersistentQueue(tmp_path).pop()  # 7 is worked on
    late = time.time() + TAKEN_S + 1
    assert read_untaken(tmp_path, n_places=2, now=time.time()) == []
    assert read_untaken(tmp_path, n_places=2, now=late) == [8]
    assert read_untaken(tmp_path, n_places=1, now=late) == [], 'no worker has room'
    assert read_untaken(tmp_path / 'none', n_places=1, now=late) == []


def test_repair_makes_one_task_of_each_process_that_nothing_carries(waiting, tmp_path: Path) -> None:
    ended, lost, queued, alive, without = waiting(), waiting(), waiting(), waiting(), waiting(checkpoint='')
    ended.set_process_state('killed')
    for node in (lost, queued, without):
        note_submitted(node)
    push(tmp_path, ended.pk, queued.pk, queued.pk)
    with carried_by_this_command(alive):
        done = repair_tasks(tmp_path, Carriers())
        assert repair_tasks(tmp_path, Carriers()) == [], 'nothing is left to do'
    assert sorted(read_queue(tmp_path)) == sorted([lost.pk, queued.pk])
    tasks = [json.loads(file.read_text()) for file in (tmp_path / 'pending').iterdir()]
    [made] = [task['body']['args'] for task in tasks if task['body']['args']['pid'] == lost.pk]
    assert made['nowait'] is False, 'the task of a process stays in the queue until the process has ended'
    assert done == ['gave 1 process to the daemon again', 'removed 2 useless tasks']


def test_a_paused_process_stands_still(waiting) -> None:
    caller, node = waiting(), waiting()
    with carried_by_this_command(caller), carried_by_this_command(node):
        assert Carriers().find_standstill(caller, [node]) == ''
        node.pause()
        node.set_process_status('five transfers failed')
        assert Carriers().find_standstill(caller, [node]) == f'process {node.pk}: it is paused: five transfers failed'


def test_a_job_that_its_caller_has_replaced_is_abandoned(waiting, tmp_path: Path) -> None:
    """A worker was killed after it had stored the job, and before it gave it a task."""
    caller, replaced, awaited = waiting(), orm.CalcJobNode(), orm.CalcJobNode()
    for number, job in enumerate((replaced, awaited)):
        job.set_process_state('created')
        job.base.links.add_incoming(caller, LinkType.CALL_CALC, f'job_{number}')
        job.store()
        job.set_checkpoint('saved')
    assert not Carriers().is_abandoned(replaced), 'nothing is known of what the caller waits for'
    caller.set_process_status(f'Waiting for child processes: {awaited.pk}, 1{replaced.pk}')
    assert Carriers().is_abandoned(replaced)
    assert not Carriers().is_abandoned(awaited)
    for node in (caller, replaced, awaited):
        note_submitted(node)
    repair_tasks(tmp_path, Carriers())
    assert sorted(read_queue(tmp_path)) == [caller.pk, awaited.pk]


def test_what_nothing_can_continue_is_given_up(waiting) -> None:
    node = waiting()
    note_submitted(node)
    assert node.base.extras.get('nanoml_carrier') == DAEMON
    assert Carriers().stands_still(node) == 'no daemon runs'
    assert end_dead(node) == 1
    assert node.is_killed
    assert Carriers().stands_still(node) == ''


def test_what_a_killed_daemon_left_is_found_by_what_was_written_down(
    aiida_profile, tmp_path: Path, monkeypatch
) -> None:
    """A process whose number was given to another one since, and a job, are not taken for one of the daemon."""
    monkeypatch.setattr(carriers, '_record_file', lambda profile: tmp_path / 'record.json')
    with running('circus'), running('job') as job:
        record_daemon(aiida_profile, psutil.Process())
        [left] = [process for process in read_record(aiida_profile) if process.pid != os.getpid()]
        assert 'circus' in left.cmdline()
        assert left in find_orphans(aiida_profile)
        assert job.pid not in {process.pid for process in find_orphans(aiida_profile)}
        content = json.loads((tmp_path / 'record.json').read_text())
        (tmp_path / 'record.json').write_text(json.dumps({pid: started - 100 for pid, started in content.items()}))
        assert read_record(aiida_profile) == {}
    (tmp_path / 'record.json').write_text('{"1"')
    assert read_record(aiida_profile) == {}


@contextmanager
def running(word: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process that does nothing, with a word in its command."""
    process = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)', word])
    try:
        yield process
    finally:
        process.kill()
        process.wait()
