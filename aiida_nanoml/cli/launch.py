"""Running processes in place, with progress on the standard error, or handing them to the daemon."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from aiida_nanoml.actions.installation import daemon_runs
from aiida_nanoml.cli.groups import one_line
from aiida_nanoml.cli.options import load_storage
from aiida_nanoml.cli.output import emit, record, type_name
from aiida_nanoml.cli.progress import poll_progress

if TYPE_CHECKING:
    from aiida.engine import Process, ProcessBuilder
    from aiida.orm import Node, ProcessNode

PROGRESS_INTERVAL = 1.0
"""Seconds between two looks at the running jobs."""


def run_function(function: Any, **inputs: Any) -> Any:
    """Run a calculation function.

    :returns: the node that it made, or nodes by name.
    :raises ClickException: the function refused its input.
    """
    load_storage()
    log_to_stderr()
    result, node = function.run_get_node(**inputs)
    raise_if_failed(node)
    return result


def run_builder(builder: ProcessBuilder, accepted: Sequence[int] = ()) -> ProcessNode:
    """Run a process in place and wait for it.

    :param accepted: exit statuses that the caller tells about himself, with what the process made.
    :returns: the node of the process, which finished without a fault, or with such a status.
    :raises ClickException: inputs that do not fit, or a process that failed; what it made before is named.
    """
    from aiida.manage import get_manager

    log_to_stderr()
    # Without a broker nobody tells that a child has finished: it is asked for.
    manager = get_manager()
    # A loop of its own: runners share one otherwise, and the runner that is replaced below would close it.
    runner = manager.create_runner(communicator=None, poll_interval=0.5, loop=asyncio.new_event_loop())
    process = _instantiate(runner, builder)
    progress = runner.loop.create_task(_show_progress(process.node))
    manager.set_runner(runner)  # SSH connections look for it, and would otherwise make one that needs the broker
    try:
        runner.run_get_node(process)
    finally:
        progress.cancel()
        runner.loop.run_until_complete(asyncio.wait([progress]))
        manager.reset_runner()
    if process.node.exit_status not in accepted:
        raise_if_failed(process.node)
    return process.node


def submit_builder(builder: ProcessBuilder, name: str, as_json: bool, follow: str = 'trace') -> None:
    """Hand a process to the daemon and say how to follow it.

    :param name: label of the process; its results are not there yet.
    :param follow: the command that shows what becomes of the process.
    :raises ClickException: nobody would take it, or inputs that do not fit.
    """
    from aiida.engine import submit
    from aiida.manage import get_manager

    manager = get_manager()
    profile = manager.get_profile()
    if manager.get_broker() is None:
        raise click.ClickException(
            f'the profile {profile.name} has no broker, so that nothing can be submitted: leave out --submit, or use a '
            'profile made with `verdi presto --use-zeromq`'
        )
    if not daemon_runs(profile):
        raise click.ClickException(
            'the daemon does not run, so that nothing would happen: start it with `verdi daemon start`, or leave out '
            '--submit'
        )
    log_to_stderr()
    try:
        builder.metadata.label = name
        node = submit(builder)
    except ValueError as error:
        raise _refused(error) from error
    emit(
        as_json,
        record(node, state='submitted'),
        {type_name(node): f'pk {node.pk}, uuid {node.uuid}', 'follow it': f'verdi process status {node.pk}'},
        f'{follow} {node.pk}',
    )


def log_to_stderr() -> None:
    """Let AiiDA report on the standard error: the standard output belongs to the result."""
    for logger in (logging.getLogger(), logging.getLogger('aiida')):
        for handler in logger.handlers:
            if type(handler).__name__ == 'CliHandler':
                handler.addFilter(_mark_as_error_stream)


@contextmanager
def only_errors() -> Iterator[None]:
    """Keep the warnings of many processes from the screen and from the graph."""
    from aiida.common.log import AIIDA_LOGGER

    level = AIIDA_LOGGER.level
    AIIDA_LOGGER.setLevel(logging.ERROR)
    try:
        yield
    finally:
        AIIDA_LOGGER.setLevel(level)


def raise_if_failed(node: ProcessNode) -> None:
    """Say why a process failed and what of its work is kept.

    :raises ClickException: the process did not finish without a fault.
    """
    if node.is_finished_ok:
        return
    if node.is_excepted:
        reason = f'excepted: {one_line(Exception(node.exception))}; see `verdi process report {node.pk}`'
    elif node.is_killed:
        reason = 'was killed'
    else:
        reason = f'failed with exit status {node.exit_status}: {node.exit_message}'
    kept = ', '.join(f'{type_name(made)} pk {made.pk}' for made in _made(node))
    raise click.ClickException(
        f'{node.process_label} (pk {node.pk}) {reason}' + (f' What was computed is kept: {kept}.' if kept else '')
    )


def _made(process: ProcessNode) -> list[Node]:
    """What a process and those that it called made, of the types of this package."""
    from aiida.common.links import LinkType

    made = {}
    for node in (process, *process.called_descendants):
        for link in node.base.links.get_outgoing(link_type=LinkType.CREATE).all():
            if type_name(link.node).startswith('nanoml.'):
                made[link.node.pk] = link.node
    return [made[pk] for pk in sorted(made)]


def _instantiate(runner: Any, builder: ProcessBuilder) -> Process:
    try:
        return runner.instantiate_process(builder)
    except ValueError as error:
        raise _refused(error) from error


def _refused(error: ValueError) -> click.ClickException:
    reason = re.sub(r"^Error occurred validating port '[^']*': ", '', one_line(error))
    return click.ClickException(f'the inputs cannot be used: {reason}')


def _mark_as_error_stream(entry: logging.LogRecord) -> bool:
    entry.err = True
    return True


async def _show_progress(node: ProcessNode) -> None:
    for _ in poll_progress(node):
        await asyncio.sleep(PROGRESS_INTERVAL)
