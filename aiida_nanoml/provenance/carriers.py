"""What carries a process on: a task in the queue of a running daemon, or the command that runs it in place."""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
from aiida import orm
from aiida.common import timezone
from aiida.manage import get_manager
from aiida.manage.configuration import Profile, get_config
from plumpy import ProcessState

from aiida_nanoml.worker.files import written_in_one_step

CARRIER = 'nanoml_carrier'
"""Extra of a process without a caller: what carries it."""

DAEMON = {'daemon': True}
"""Value of the extra of a process that was submitted."""

RECENT_S = 60.0
"""A process of the daemon may be without a task for this time after its last change: a busy broker is slow."""

TAKEN_S = 120.0
"""A task that no worker takes for this time, although they have room, is one that they do not hear of."""

QUIET_S = 600.0
"""A process that nothing is known of is taken for a live one for this time after its last change."""


@contextmanager
def carried_by_this_command(node: orm.ProcessNode) -> Iterator[None]:
    """Note at a process that this command runs it, as long as the context lasts."""
    started = psutil.Process().create_time()
    node.base.extras.set(CARRIER, {'host': socket.gethostname(), 'pid': os.getpid(), 'started': started})
    try:
        yield
    finally:
        node.base.extras.delete(CARRIER)


def note_submitted(node: orm.ProcessNode) -> None:
    """Note at a process that the daemon carries it."""
    node.base.extras.set(CARRIER, DAEMON)


def daemon_runs(profile: Profile) -> bool:
    """Return whether the daemon of a profile is alive; AiiDA only looks for the file that a killed one leaves."""
    return daemon_process(profile) is not None


def daemon_process(profile: Profile) -> psutil.Process | None:
    """Return the process of the daemon of a profile; None if it does not run."""
    from aiida.engine.daemon.client import get_daemon_client

    pid = get_daemon_client(profile.name).get_daemon_pid()
    process = None if pid is None else _process(pid)
    try:
        # The number of a daemon that was killed may have been given to another process.
        return process if process is not None and profile.name in process.cmdline() else None
    except psutil.Error:
        return None


def record_daemon(profile: Profile, daemon: psutil.Process) -> None:
    """Write down the processes of the daemon that runs, beside those that were written down before and still run.

    When the daemon is killed, this tells which processes it left.
    """
    try:
        family = {
            process.pid: process.create_time()
            for process in (daemon, *daemon.children(recursive=True))
            if _watches_or_works(process.cmdline())  # a job that is being submitted is a child, too
        }
    except psutil.Error:
        return  # it ends just now
    before = read_record(profile)
    found = {process.pid: started for process, started in before.items()} | family
    if found.keys() != {process.pid for process in before}:
        with contextlib.suppress(OSError), written_in_one_step(_record_file(profile)) as handle:
            handle.write(json.dumps(found).encode())


def read_record(profile: Profile) -> dict[psutil.Process, float]:
    """Return the processes that were written down as those of a daemon of the profile, and that still run.

    :returns: when each one was started: its number may have been given to another one since.
    """
    try:
        content = json.loads(_record_file(profile).read_bytes())
        found = {_process(int(pid)): float(started) for pid, started in content.items()}
        return {
            process: started
            for process, started in found.items()
            if process is not None and abs(process.create_time() - started) < 1.0
        }
    except (OSError, ValueError, AttributeError, TypeError, psutil.Error):
        return {}


def _watches_or_works(command: list[str]) -> bool:
    """Return whether a command is that of a daemon, a worker, a broker, or of a part of Circus."""
    return 'daemon' in command or any('circus' in word for word in command)


def _record_file(profile: Profile) -> Path:
    return Path(get_config().filepaths(profile)['daemon']['pid']).with_name(f'nanoml-{profile.name}.json')


def _process(pid: int) -> psutil.Process | None:
    """Return a process that runs; None if there is none, or if it has ended and nobody has asked for its end."""
    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else process
    except psutil.Error:
        return None


def queue_folder(profile: Profile) -> Path | None:
    """Return the folder of the queue of tasks of a profile; None if its broker keeps none here."""
    if profile.process_control_backend != 'core.zeromq':
        return None
    return Path(get_config().filepaths(profile)['broker_service']['dir']) / 'storage' / 'tasks'


def read_queue(folder: Path) -> list[int]:
    """Return the PKs of the processes that have a task, one for each task.

    The class of AiiDA that reads the queue would put tasks that are worked on back among those that wait.

    :param folder: see :func:`queue_folder`; it need not exist.
    """
    found = [_pk_of_task(file) for file in sorted(folder.glob('*/*.json'))]
    return [pk for pk in found if pk is not None]


def read_untaken(folder: Path, n_places: int, now: float) -> list[int]:
    """Return the PKs of the processes whose task waits for more than :data:`TAKEN_S` while workers have room.

    :param folder: see :func:`queue_folder`; it need not exist.
    :param n_places: tasks that the workers take at the same time.
    :param now: seconds since the epoch.
    """
    if len(list(folder.glob('processing/*.json'))) >= n_places:
        return []
    found = []
    for file in sorted(folder.glob('pending/*.json')):
        with contextlib.suppress(OSError):  # taken in the meantime
            if now - file.stat().st_ctime > TAKEN_S:
                found.append(_pk_of_task(file))
    return [pk for pk in found if pk is not None]


def _pk_of_task(file: Path) -> int | None:
    """Return the PK of the process of a task; None if it is done in the meantime, or no task of a process."""
    try:
        return int(json.loads(file.read_bytes())['body']['args']['pid'])
    except (OSError, ValueError, KeyError, TypeError):
        return None


class Carriers:
    """The daemon, its queue and the commands that run now, as found once."""

    def __init__(self) -> None:
        profile = get_manager().get_profile()
        folder = queue_folder(profile)
        self.profile = profile
        self.has_broker = profile.process_control_backend is not None
        self.daemon = daemon_process(profile) if self.has_broker else None
        if self.daemon is not None:
            record_daemon(profile, self.daemon)
        self.queue = None if folder is None else frozenset(read_queue(folder))
        n_places = int(get_config().get_option('daemon.worker_process_slots', scope=profile.name))
        self.untaken = frozenset([] if folder is None else read_untaken(folder, n_places, time.time()))
        self.deaf = self.daemon is not None and _workers_are_deaf(self.daemon)

    def stands_still(self, node: orm.ProcessNode) -> str:
        """Return why a process does not move although it has not ended; empty if it moves, or has ended."""
        if node.is_terminated:
            return ''
        if node.paused:
            return f'it is paused: {node.process_status or "by hand"}'
        carrier = root_of(node).base.extras.get(CARRIER, None)
        if carrier and 'pid' in carrier:
            if _is_alive(carrier):
                return ''
            if not self.has_task(node):
                return f'the command that ran it (process {carrier["pid"]} of {carrier["host"]}) is gone'
        known = carrier is not None or self.has_task(node)
        if not known and timezone.now() - _last_change(node) < timedelta(seconds=QUIET_S):
            return ''  # a script or a notebook may run it
        if self.daemon is None:
            return 'no daemon runs'
        if not self.has_task(node):
            # It is stored a moment before it has a task, and has none a moment before its end is stored.
            recent = timezone.now() - node.mtime < timedelta(seconds=RECENT_S)
            return '' if recent or self.is_abandoned(node) else 'the daemon has no task for it'
        if self.deaf:
            return 'the broker was started again, and the daemon does not hear it'
        return 'the daemon does not take up its task' if node.pk in self.untaken else ''

    def find_standstill(self, node: orm.ProcessNode, jobs: Sequence[orm.ProcessNode]) -> str:
        """Return why a process, or a job that it waits for, does not move; empty if all move, or it has ended.

        :param jobs: those that have not ended.
        """
        reason = self.stands_still(node)
        if reason or node.is_terminated:
            return reason
        for job in jobs:
            if reason := self.stands_still(job):
                return f'process {job.pk}: {reason}'
        return ''

    def has_task(self, node: orm.ProcessNode) -> bool:
        """Return whether a process has a task in the queue of the broker."""
        return self.has_broker and (self.queue is None or node.pk in self.queue)

    def is_abandoned(self, node: orm.ProcessNode) -> bool:
        """Return whether a job was made, and never begun, by a worker that was killed: its caller has made another one.

        The worker that takes over repeats the step of the caller in which the other one was killed.
        """
        if node.caller is None or node.process_state is not ProcessState.CREATED or self.has_task(node):
            return False
        awaited = re.fullmatch(r'Waiting for child processes: ([\d, ]+)', node.caller.process_status or '')
        return awaited is not None and str(node.pk) not in awaited[1].split(', ')

    def in_foreground(self, node: orm.ProcessNode) -> bool:
        """Return whether a living command runs a process, or may do so."""
        carrier = root_of(node).base.extras.get(CARRIER, None)
        if carrier is None:
            return timezone.now() - _last_change(node) < timedelta(seconds=QUIET_S)
        return 'pid' in carrier and _is_alive(carrier)


def _workers_are_deaf(daemon: psutil.Process) -> bool:
    """Return whether workers of the daemon are older than its broker: they wait at the address of the one before."""
    started: dict[str, list[float]] = {'broker': [], 'worker': []}
    try:
        for process in daemon.children(recursive=True):
            command = process.cmdline()
            for kind, times in started.items():
                if kind in command and 'daemon' in command:
                    times.append(process.create_time())
    except psutil.Error:
        return False
    return bool(started['broker'] and started['worker']) and min(started['worker']) < max(started['broker']) - 1.0


def root_of(node: orm.ProcessNode) -> orm.ProcessNode:
    """Return the process without a caller at the top of a process."""
    while node.caller is not None:
        node = node.caller
    return node


def _last_change(node: orm.ProcessNode) -> Any:
    """Return when a process, or one below it, changed last."""
    return max(one.mtime for one in (node, *node.called_descendants))


def _is_alive(carrier: dict[str, Any]) -> bool:
    """Return whether a command runs; one of another machine is taken for alive."""
    if carrier['host'] != socket.gethostname():
        return True
    try:
        return abs(psutil.Process(carrier['pid']).create_time() - carrier['started']) < 1.0
    except psutil.Error:
        return False
