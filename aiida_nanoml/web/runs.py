"""Runs: actions that a person started on a page. Each has a file, to which the process that does it writes.

A run goes on when the server ends, and its page is there again with the next server. The process holds a lock on
the file as long as it lives.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import secrets
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from aiida_nanoml.web.errors import PageError
from aiida_nanoml.web.forms import Form

KEPT = 200
"""Runs whose files are kept."""

START_S = 60.0
"""Seconds after which a run that nobody began is taken for lost."""

_NAME = re.compile(r'\d{14}-[0-9a-f]{12}')


@dataclass(frozen=True)
class Run:
    """A run as its file tells.

    :param name: name of the file, without ending.
    :param form: what was filled in.
    :param estimates: only its cost was asked for.
    :param begun: seconds since the epoch.
    :param notes: what it reported.
    :param progress: what is done and what there is to do, by step.
    :param process: UUID and label of the process that it follows.
    :param pid: of the process that does it; None: it waits.
    :param outcome: the last event; empty while it runs.
    :param alive: whether something does it, or will do so.
    """

    name: str
    action: str
    form: Form
    estimates: bool
    begun: float
    notes: list[str] = field(default_factory=list)
    progress: dict[str, tuple[int, int]] = field(default_factory=dict)
    process: Mapping[str, Any] | None = None
    pid: int | None = None
    outcome: Mapping[str, Any] = field(default_factory=dict)
    alive: bool = True

    @property
    def state(self) -> str:
        """Return ``waiting``, ``running``, ``lost``, or its end: ``done``, ``refused``, ``failed``, ``stopped``."""
        if self.outcome:
            return str(self.outcome['event'])
        if not self.alive:
            return 'lost'
        return 'waiting' if self.pid is None else 'running'

    @property
    def ended(self) -> bool:
        """Return whether nothing more will come."""
        return self.state not in ('waiting', 'running')


class RunFile:
    """The file of a run, for the process that does it.

    :param path: made by :meth:`Runs.create`.
    """

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)

    def write(self, event: str, **content: Any) -> None:
        """Add an event in one line."""
        os.write(self._descriptor, (json.dumps({'event': event, **content}) + '\n').encode())


class Runs:
    """All runs of one person.

    :param folder: of their files; made if it is not there.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder

    def create(self, action: str, form: Form, *, estimates: bool) -> str:
        """Write down a request, and forget the oldest ones that have ended.

        :returns: name of the run.
        """
        name = f'{time.strftime("%Y%m%d%H%M%S", time.gmtime())}-{secrets.token_hex(6)}'
        request = {'action': action, 'form': list(form), 'estimates': estimates, 'begun': time.time()}
        partial = self.folder / f'{name}.new'
        partial.write_text(json.dumps(request) + '\n')
        partial.rename(self.path(name))
        for old in self._names()[KEPT:]:
            if self.read(old).ended:
                self.path(old).unlink()
                self.log(old).unlink(missing_ok=True)
        return name

    def path(self, name: str) -> Path:
        """Return the file of a run."""
        return self.folder / f'{name}.jsonl'

    def log(self, name: str) -> Path:
        """Return the file with what the process of a run printed."""
        return self.folder / f'{name}.log'

    def read(self, name: str) -> Run:
        """Return a run.

        :raises PageError: there is none of this name.
        """
        if not _NAME.fullmatch(name):
            raise PageError(404, f'there is no run {name}')
        try:
            alive = self._is_locked(name)  # asked first: it writes its last event before it ends
            first, *rest = self.path(name).read_text().splitlines()
        except FileNotFoundError:
            raise PageError(404, f'there is no run {name}: only the last {KEPT} are kept') from None
        request = json.loads(first)
        content: dict[str, Any] = {'notes': [], 'progress': {}}
        for event in map(json.loads, rest):
            kind = event['event']
            if kind == 'note':
                content['notes'].append(event['text'])
            elif kind == 'progress':
                content['progress'][event['step']] = event['done'], event['total']
            elif kind == 'process':
                content['process'] = event
            elif kind == 'begun':
                content['pid'] = event['pid']
            else:
                content['outcome'] = event
        waits = 'pid' not in content and time.time() - request['begun'] < START_S
        form = [(str(key), str(value)) for key, value in request.pop('form')]
        return Run(name=name, form=form, alive=alive or waits, **request, **content)

    def newest(self, number: int) -> list[Run]:
        """Return the newest runs."""
        return [self.read(name) for name in self._names()[:number]]

    def stop(self, name: str) -> None:
        """Ask the process of a run to end, as Ctrl-C does on a terminal."""
        run = self.read(name)
        if not run.ended and run.pid is not None and self._is_locked(name):
            with suppress(ProcessLookupError):
                os.kill(run.pid, signal.SIGTERM)

    def _names(self) -> list[str]:
        return sorted((path.stem for path in self.folder.glob('*.jsonl') if _NAME.fullmatch(path.stem)), reverse=True)

    def _is_locked(self, name: str) -> bool:
        with self.path(name).open() as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False


def uuids_in(value: Any) -> Iterator[str]:
    """Return the UUIDs that a result names, in its order."""
    if isinstance(value, dict):
        for one in value.values():
            yield from uuids_in(one)
    elif isinstance(value, list):
        for one in value:
            yield from uuids_in(one)
    elif isinstance(value, str) and re.fullmatch(r'[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}', value):
        yield value
