"""Mending of a profile whose processes do not move: broker, daemon and tasks are put in order again."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiida_nanoml.actions.errors import ActionError
from aiida_nanoml.text import counted

if TYPE_CHECKING:
    from aiida.manage.configuration import Profile
    from aiida.orm import ProcessNode


def mend(profile: Profile, nodes: Sequence[ProcessNode]) -> list[str]:
    """Make processes that stand still move again: stop the daemon, end orphans, repair the tasks, start the daemon.

    :param profile: its broker must be the one of AiiDA without a service (ZeroMQ).
    :param nodes: processes that have not ended, and that nothing carries.
    :returns: what was done, a sentence without a full stop for each step.
    :raises ActionError: a command still runs one, or the queue of the broker of the profile is not on this machine.
    """
    from aiida_nanoml.actions.installation import end_orphans, start_daemon, stop_daemon
    from aiida_nanoml.provenance.carriers import Carriers, daemon_runs, note_submitted, queue_folder, root_of

    roots = list({root.pk: root for root in map(root_of, nodes)}.values())
    if alive := next(filter(Carriers().in_foreground, roots), None):
        raise ActionError(f'a command still runs the process {alive.pk}: end it with Ctrl-C, then repeat this one')
    folder = queue_folder(profile)
    if folder is None:
        raise ActionError(
            f'the tasks of the profile {profile.name} are not kept on this machine: `verdi daemon stop`, '
            '`verdi process repair` and `verdi daemon start` mend them'
        )
    done = []
    if daemon_runs(profile):
        stop_daemon(profile)
        done.append('stopped the daemon')
    if ended := end_orphans(profile):
        done.append(f'ended {counted(ended, "process", "processes")} that a killed daemon had left')
    for root in roots:
        note_submitted(root)
    family = [one for root in roots for one in (root, *root.called_descendants)]
    carriers = Carriers()
    if lost := _mark_killed([one for one in family if not one.checkpoint or carriers.is_abandoned(one)]):
        done.append(
            f'gave up {counted(lost, "process", "processes")} that cannot be continued, or that nothing waits for'
        )
    done += repair_tasks(folder, carriers)
    start_daemon(profile)
    done.append('started the daemon')
    if paused := [one for one in family if one.paused and not one.is_terminated]:
        _play(paused)
        done.append(f'continued {counted(len(paused), "paused process", "paused processes")}')
    return done


def repair_tasks(folder: Path, carriers: Any) -> list[str]:
    """Make one task of each process that has not ended, and remove all others; the daemon must not run.

    Other than ``verdi process repair``, it leaves processes alone that a living command runs.

    :param folder: the queue of the broker.
    :param carriers: what carries processes now.
    :returns: what was done.
    """
    from aiida.brokers.zeromq.queue import PersistentQueue
    from aiida.engine.processes.control import get_active_processes
    from plumpy.process_comms import create_continue_body

    wanted = {
        node.pk
        for node in get_active_processes()
        if node.checkpoint and not carriers.in_foreground(node) and not carriers.is_abandoned(node)
    }
    queue = PersistentQueue(folder)
    kept: set[int] = set()
    n_removed = 0
    for task_id, task in queue.get_all_pending():
        pk = ((task.get('body') or {}).get('args') or {}).get('pid')
        if pk is not None and pk in wanted and pk not in kept:
            kept.add(pk)
        elif pk is not None:
            queue.remove_pending(task_id)
            n_removed += 1
    for pk in sorted(wanted - kept):
        queue.push(uuid.uuid4().hex, {'body': create_continue_body(pid=pk, nowait=False), 'no_reply': True})
    done = []
    if wanted - kept:
        done.append(f'gave {counted(len(wanted - kept), "process", "processes")} to the daemon again')
    if n_removed:
        done.append(f'removed {counted(n_removed, "useless task")}')
    return done


def end_dead(node: ProcessNode) -> int:
    """Mark a process, and those below it, as killed if they have not ended: nothing can continue them.

    :returns: their number.
    """
    return _mark_killed([node, *node.called_descendants])


def _mark_killed(nodes: list[ProcessNode]) -> int:
    from plumpy import ProcessState

    dead = [node for node in nodes if not node.is_terminated]
    for node in dead:
        node.set_process_state(ProcessState.KILLED)
        node.set_process_status('nothing carried it any more')
        node.delete_checkpoint()
        node.seal()
    return len(dead)


def _play(nodes: list[ProcessNode]) -> None:
    """Let the daemon continue paused processes; one that does not answer yet stays paused and is reported again."""
    from aiida.engine.processes.control import ProcessTimeoutException, play_processes

    with contextlib.suppress(ProcessTimeoutException):
        play_processes(nodes, timeout=30)
