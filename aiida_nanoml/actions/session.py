"""Running the processes of an action: in place, or by the daemon."""

from __future__ import annotations

import asyncio
import contextlib
import re
import signal
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from aiida_nanoml.actions.errors import ActionError, StoppedError
from aiida_nanoml.actions.nodes import load_storage, one_line, type_name
from aiida_nanoml.actions.signals import EndingSignal, signals_in_loop

if TYPE_CHECKING:
    from aiida.engine import Process, ProcessBuilder
    from aiida.orm import Node, ProcessNode

Item = TypeVar('Item')

FOLLOW_INTERVAL_S = 1.0
"""Seconds between two looks at a process that the daemon runs."""

CANCEL_S = 5.0
"""Seconds that the tasks of a run have to end."""


class Session:
    """How an action runs its processes, and where its notes and its progress go. This one is silent.

    A face derives its own from it: it overrides :meth:`note`, :meth:`count` and :meth:`watch`.
    """

    def note(self, text: str) -> None:
        """Report something while an action runs."""

    def ask(self, question: str) -> bool:
        """Ask whether to go on; without anybody to answer, the answer is no."""
        return False

    def count(self, step: str, items: Iterable[Item], total: int) -> Iterator[Item]:
        """Show how many items of a step are done while they are taken.

        :param step: what is done, in one word.
        :param total: number of items.
        """
        yield from items

    async def watch(self, node: ProcessNode) -> None:
        """Show how far a running process is; cancelled when it has ended."""

    def follow(self, node: ProcessNode) -> None:
        """Wait for a process that the daemon runs.

        :raises KeyboardInterrupt: the user does not want to wait; the process continues.
        """
        while not node.is_terminated:
            time.sleep(FOLLOW_INTERVAL_S)

    def run_function(self, function: Any, **inputs: Any) -> Any:
        """Run a calculation function.

        :returns: the node that it made, or nodes by name.
        :raises ActionError: the function refused its input.
        """
        load_storage()
        result, node = function.run_get_node(**inputs)
        raise_if_failed(node)
        return result

    def join(self, function: Any, prefix: str, nodes: Sequence[Node]) -> Any:
        """Join nodes with a calculation function that takes any number of them; a single one is returned as it is.

        :param prefix: its inputs are called ``PREFIX_000`` and so on.
        """
        if len(nodes) == 1:
            return nodes[0]
        return self.run_function(function, **{f'{prefix}_{number:03d}': node for number, node in enumerate(nodes)})

    def run(
        self,
        builder: ProcessBuilder,
        accepted: Sequence[int] = (),
        *,
        names: Mapping[str, str] | None = None,
        foreground: bool = False,
    ) -> ProcessNode:
        """Run a process and wait for it: the daemon runs it if there is one, else this command does.

        :param accepted: exit statuses that the caller reports itself, with what the process made.
        :param names: labels of the outputs by their names.
        :param foreground: run it in this command, also if a daemon runs.
        :returns: the node of the process, which finished without a fault, or with such a status.
        :raises StoppedError: a signal ended the command.
        :raises ActionError: inputs that do not fit, or a process that failed; what it made before is named.
        """
        if foreground or not _daemon_runs():
            node = self._run_in_place(builder, names or {})
        else:
            node = self._run_by_daemon(builder, names or {})
        if node.exit_status not in accepted:
            raise_if_failed(node)
        return node

    def _run_by_daemon(self, builder: ProcessBuilder, names: Mapping[str, str]) -> ProcessNode:
        node = self.submit(builder, names)
        self.note(f'the daemon runs {type_name(node)} (pk {node.pk}); Ctrl-C leaves it running')
        try:
            self.follow(node)
        except KeyboardInterrupt as error:
            number = error.number if isinstance(error, EndingSignal) else signal.SIGINT
            raise StoppedError(
                f'the daemon continues {type_name(node)} (pk {node.pk}): see how far it is with `{_look(node)}`',
                number,
                node,
            ) from error
        return node

    def _run_in_place(self, builder: ProcessBuilder, names: Mapping[str, str]) -> ProcessNode:
        from aiida.engine.utils import loop_scope
        from aiida.manage import get_manager

        from aiida_nanoml.calculations.output_names import choose_names
        from aiida_nanoml.provenance.carriers import carried_by_this_command

        # Without a broker nobody announces that a child has finished: the runner looks for it.
        manager = get_manager()
        # A loop of its own: runners share one otherwise, and the runner that is replaced below would close it.
        runner = manager.create_runner(communicator=None, poll_interval=0.5, loop=asyncio.new_event_loop())
        process = _instantiate(runner, builder)
        choose_names(process.node, names)
        runner.loop.create_task(self.watch(process.node))
        manager.set_runner(runner)  # SSH connections look for it, and would otherwise make one that needs the broker
        received: list[int] = []
        try:
            # AiiDA's own handlers would kill inside whatever runs, also in the middle of a change of the database.
            with (
                carried_by_this_command(process.node),
                loop_scope(runner.loop),
                signals_in_loop(runner.loop, lambda: _kill(process)) as received,
            ):
                process.execute()
        except Exception as error:
            if not process.node.is_terminated:
                raise
            if not received:
                # The engine raises what ended the process, also that another command killed it.
                raise ActionError(f'{failure_of(process.node)}{_way_back(process.node)}') from error
        finally:
            _cancel_tasks(runner.loop)
            manager.reset_runner()
        if received and not process.node.is_finished:
            self._end_jobs(process.node)
            raise StoppedError(f'{failure_of(process.node)}{_way_back(process.node)}', received[0])
        return process.node

    def _end_jobs(self, node: ProcessNode) -> None:
        """End the jobs of a killed process at their computers, and mark them as killed: nothing will collect them."""
        from aiida.common.exceptions import AiidaException
        from aiida.engine.daemon.execmanager import kill_calculation
        from aiida.orm import CalcJobNode

        from aiida_nanoml.actions.mending import end_dead

        for job in node.called_descendants:
            if not isinstance(job, CalcJobNode) or job.is_terminated or job.get_job_id() is None:
                continue
            try:
                with job.get_authinfo().get_transport() as transport:
                    kill_calculation(job, transport)
            except (AiidaException, OSError) as error:
                self.note(f'job {job.pk} may still run at {job.computer.label}: {one_line(error)}')
        end_dead(node)

    def submit(self, builder: ProcessBuilder, names: Mapping[str, str] | None = None) -> ProcessNode:
        """Submit a process to the daemon.

        :param names: labels of the outputs by their names; they get them when the process ends.
        :raises ActionError: no daemon would run it, or inputs that do not fit.
        """
        from aiida.engine import submit
        from aiida.manage import get_manager

        from aiida_nanoml.calculations.output_names import choose_names
        from aiida_nanoml.provenance.carriers import daemon_runs, note_submitted

        manager = get_manager()
        profile = manager.get_profile()
        if manager.get_broker() is None:
            raise ActionError(
                f'the profile {profile.name} has no broker, so that nothing can be submitted: leave out --submit, or '
                'use a profile made with `verdi presto --use-zeromq`'
            )
        if not daemon_runs(profile):
            raise ActionError(
                'the daemon does not run, so that nothing would happen: start it with `verdi daemon start`, or leave '
                'out --submit'
            )
        process = _instantiate(manager.get_runner(), builder)
        choose_names(process.node, names or {})  # before the daemon has it, which may take the result from the cache
        note_submitted(process.node)
        return submit(process)


def raise_if_failed(node: ProcessNode) -> None:
    """Check that a process finished without a fault.

    :raises ActionError: it did not; says why, and what of its work is kept.
    """
    failure = failure_of(node)
    if failure is not None:
        raise ActionError(failure)


def failure_of(node: ProcessNode) -> str | None:
    """Return why a process failed and what of its work is kept; None: it finished without a fault."""
    if node.is_finished_ok:
        return None
    if node.is_excepted:
        reason = f'excepted: {one_line(Exception(node.exception))}; see `verdi process report {node.pk}`'
    elif node.is_killed:
        reason = 'was killed'
    else:
        reason = f'failed with exit status {node.exit_status}: {node.exit_message}'
    kept = ', '.join(f'{type_name(made)} pk {made.pk}' for made in _made_by(node))
    return f'{node.process_label} (pk {node.pk}) {reason}' + (f'; what was computed is kept: {kept}' if kept else '')


@contextlib.contextmanager
def only_errors() -> Iterator[None]:
    """Keep the warnings of many processes from the screen and from the graph."""
    import logging

    from aiida.common.log import AIIDA_LOGGER

    level = AIIDA_LOGGER.level
    AIIDA_LOGGER.setLevel(logging.ERROR)
    try:
        yield
    finally:
        AIIDA_LOGGER.setLevel(level)


def _made_by(process: ProcessNode) -> list[Node]:
    """Return what a process and those that it called made, of the types of this package."""
    from aiida.common.links import LinkType

    made = {}
    for node in (process, *process.called_descendants):
        for link in node.base.links.get_outgoing(link_type=LinkType.CREATE).all():
            if type_name(link.node).startswith('nanoml.'):
                made[link.node.pk] = link.node
    return [made[pk] for pk in sorted(made)]


def _cancel_tasks(loop: asyncio.AbstractEventLoop) -> None:
    """End what still runs in a loop: the progress, and the jobs of a process that was killed."""
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    if tasks:
        with contextlib.suppress(asyncio.CancelledError):
            loop.run_until_complete(asyncio.wait(tasks, timeout=CANCEL_S))


def _daemon_runs() -> bool:
    """Return whether processes can be handed to a daemon of the profile."""
    from aiida.manage import get_manager

    from aiida_nanoml.provenance.carriers import daemon_runs

    profile = get_manager().get_profile()
    return profile.process_control_backend is not None and daemon_runs(profile)


def _kill(process: Process) -> None:
    """Let the loop of a process kill it."""
    from plumpy.greenback_bridge import run_with_portal

    process.loop.create_task(run_with_portal(process.kill, 'a signal ended the command that ran it'))


def _look(node: ProcessNode) -> str:
    """Return the command that shows how far a process is."""
    campaign = type_name(node) == 'LabelWorkChain'
    return f'aiida-nanoml campaign status {node.pk}' if campaign else f'verdi process status {node.pk}'


def _way_back(node: ProcessNode) -> str:
    """Return the command that continues a campaign; empty for other processes."""
    if type_name(node) != 'LabelWorkChain':
        return ''
    return f'; continue it with `aiida-nanoml campaign resume {node.pk}`'


def _instantiate(runner: Any, builder: ProcessBuilder) -> Process:
    try:
        return runner.instantiate_process(builder)
    except ValueError as error:
        raise _input_refused(error) from error


def _input_refused(error: ValueError) -> ActionError:
    reason = re.sub(r"^Error occurred validating port '[^']*': ", '', one_line(error))
    return ActionError(f'the inputs cannot be used: {reason}')
