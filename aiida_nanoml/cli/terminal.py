"""Notes and progress of an action on the standard error; the standard output belongs to its result."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, TypeVar

import click

from aiida_nanoml.actions.session import Session
from aiida_nanoml.cli.progress import counted, follow, poll_progress

if TYPE_CHECKING:
    from aiida.orm import ProcessNode

Item = TypeVar('Item')

PROGRESS_INTERVAL_S = 1.0
"""Seconds between two looks at the running jobs."""


class TerminalSession(Session):
    """Shows notes and progress on the standard error."""

    def __init__(self) -> None:
        log_to_stderr()

    def note(self, text: str) -> None:
        """Write a line."""
        click.echo(text, err=True)

    def ask(self, question: str) -> bool:
        """Ask on a terminal; elsewhere nobody can answer."""
        return sys.stdin.isatty() and click.confirm(question, err=True)

    def count(self, step: str, items: Iterable[Item], total: int) -> Iterator[Item]:
        """Show how many items are done while they are taken."""
        return counted(step, items, total)

    def follow(self, node: ProcessNode) -> None:
        """Show how far a process of the daemon is, until it ends."""
        follow(node)

    async def watch(self, node: ProcessNode) -> None:
        """Show how far a process is, once a second."""
        for _ in poll_progress(node):
            await asyncio.sleep(PROGRESS_INTERVAL_S)


def log_to_stderr() -> None:
    """Let AiiDA warn on the standard error; its reports would run through the progress, and stay in the database."""
    for logger in (logging.getLogger(), logging.getLogger('aiida')):
        for handler in logger.handlers:
            if type(handler).__name__ == 'CliHandler':
                handler.addFilter(_warning_on_stderr)


def _warning_on_stderr(entry: logging.LogRecord) -> bool:
    entry.err = True
    return entry.levelno >= logging.WARNING
