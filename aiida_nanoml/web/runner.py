"""The program that does runs: it has imported AiiDA, and forks for each run.

The server starts ``python -m aiida_nanoml.web.runner`` and writes a line for each run. A run has a process of its own:
it may take hours, use all memory, or be stopped, and no page waits for it. Where no daemon runs, it carries its
processes itself, as a command does.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from aiida_nanoml.actions.base import NOT_KNOWN, JobAction, Result, fill
from aiida_nanoml.actions.errors import InputError, StoppedError
from aiida_nanoml.actions.nodes import one_line
from aiida_nanoml.actions.registry import action_class, action_names
from aiida_nanoml.actions.session import Session
from aiida_nanoml.actions.signals import EndingSignal, collected_signals
from aiida_nanoml.errors import NanomlError
from aiida_nanoml.web.database import wait_for_writers
from aiida_nanoml.web.files import UserFiles
from aiida_nanoml.web.forms import name_in, read_form, write_form
from aiida_nanoml.web.paths import path_checker
from aiida_nanoml.web.places import QUICK, Place, job_places
from aiida_nanoml.web.runs import Run, RunFile, Runs, uuids_in

if TYPE_CHECKING:
    from aiida.orm import ProcessNode

Item = TypeVar('Item')

POLL_S = 1.0
"""Seconds between two looks at the jobs of a process."""

SIGNAL_POLL_S = 0.1
"""Seconds until a signal is noticed."""

COUNT_S = 0.2
"""Seconds between two lines about how many items are done."""

NODES_SHOWN = 50
"""Nodes of a result that its page links to."""

ITEMS_KEPT = 30
"""Items of each list in a result that stay in the file of its run."""


class RunSession(Session):
    """Writes notes and progress into the file of a run; nobody is there to be asked.

    :param place: left when the daemon does the work.
    """

    def __init__(self, file: RunFile, place: Place) -> None:
        self._file = file
        self._place = place

    def note(self, text: str) -> None:
        """Write a note."""
        self._file.write('note', text=text)

    def count(self, step: str, items: Iterable[Item], total: int) -> Iterator[Item]:
        """Write how many items are done, now and then."""
        last = 0.0
        for done, item in enumerate(items, start=1):
            if done == total or time.monotonic() - last > COUNT_S:
                last = time.monotonic()
                self._file.write('progress', step=step, done=done, total=total)
            yield item

    def follow(self, node: ProcessNode) -> None:
        """Write how far a process of the daemon is, until it ends.

        :raises EndingSignal: the run was stopped; the process continues.
        """
        self._place.leave()
        with collected_signals() as received:
            for _ in self._progress(node):
                end = time.monotonic() + POLL_S
                while not received and time.monotonic() < end:
                    time.sleep(SIGNAL_POLL_S)
                if received:
                    raise EndingSignal(received[0])

    async def watch(self, node: ProcessNode) -> None:
        """Write how far a process that this run carries is."""
        for _ in self._progress(node):
            await asyncio.sleep(POLL_S)

    def _progress(self, node: ProcessNode) -> Iterator[None]:
        from aiida_nanoml.provenance.progress import JobProgress

        self._file.write('process', uuid=node.uuid, label=node.process_label)
        jobs = JobProgress(node)
        last: dict[str, tuple[int, int]] = {}
        while not node.is_terminated:
            found = jobs.look()
            for step, (done, total) in found.items():
                if last.get(step) != (done, total):
                    self._file.write('progress', step=step, done=done, total=total)
            last = found
            yield


def perform(run: Run, file: RunFile, files: UserFiles, place: Place) -> None:
    """Do what was asked for, and write down what became of it."""
    from aiida.common.exceptions import ConfigurationError

    from aiida_nanoml.actions.faults import USER_FAULTS

    try:
        action_type = action_class(run.action)
        values, errors = read_form(action_type, run.form, path_checker(files))
        if errors:
            name, message = next(iter(errors.items()))
            file.write('refused', message=message, field=name)
            return
        action = fill(action_type, values)
        result = (action.estimate() or NOT_KNOWN) if run.estimates else action.run(RunSession(file, place))
        file.write('done', **_describe(result))
    except InputError as error:
        file.write('refused', message=error.render(name_in(action_type)), field=error.field or '')
    except StoppedError as error:
        file.write('stopped', message=str(error))
    except KeyboardInterrupt:
        file.write('stopped', message='it was stopped')
    except (*USER_FAULTS, ConfigurationError) as error:
        file.write('failed', message=one_line(error))
    except Exception:
        traceback.print_exc()  # into the log of the run
        file.write('failed', message='this is a fault of the program: its log has the details')


def place_for(run: Run, file: RunFile, folder: Path) -> Place:
    """Wait for a place for a run: those with jobs and all others do not wait for each other."""
    jobs = not run.estimates and issubclass(action_class(run.action), JobAction)
    kind, number = ('job', job_places()) if jobs else ('quick', QUICK)
    return Place(folder, kind, number, lambda text: file.write('note', text=text))


def _describe(result: Result) -> dict[str, Any]:
    """Return what the page of a result shows."""
    lines = result.lines()
    following = result.next_step()
    content = result.to_dict()
    return {
        'lines': lines if isinstance(lines, str) else [[name, str(value)] for name, value in lines.items()],
        'table': result.table(),
        'failure': result.failure,
        'nodes': list(dict.fromkeys(uuids_in(content)))[:NODES_SHOWN],
        'result': _shortened(content),
        'next': None
        if following is None
        else {
            'action': following.action,
            'form': write_form(action_class(following.action), following.fields),
            'command': following.command(),
        },
    }


def _shortened(value: Any) -> Any:
    """Return a result in types of JSON with the first items of its lists."""
    if isinstance(value, dict):
        return {key: _shortened(one) for key, one in value.items()}
    return [_shortened(one) for one in value[:ITEMS_KEPT]] if isinstance(value, list | tuple) else value


def main() -> None:
    """Fork for each line of the standard input, a run, until it is closed."""
    folder, root, quota, profile = sys.argv[1:]
    _import_all()
    gc.freeze()  # what was imported stays: runs share it
    signal.signal(signal.SIGCHLD, _collect_ended)
    for line in sys.stdin:
        name = json.loads(line)
        if os.fork() == 0:
            status = 1
            try:
                _begin(Runs(Path(folder)), name, UserFiles(Path(root), int(quota)), profile)
                status = 0
            finally:
                os._exit(status)  # what the server's program does at its end is not ours to do


def _begin(runs: Runs, name: str, files: UserFiles, profile: str) -> None:
    from aiida import load_profile

    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.setsid()
    nothing = os.open(os.devnull, os.O_RDWR)
    log = os.open(runs.log(name), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for number, target in enumerate((nothing, log, log)):
        os.dup2(target, number)
    with RunFile(runs.path(name)) as file:
        file.write('begun', pid=os.getpid())
        run = runs.read(name)
        with place_for(run, file, runs.folder) as place:
            os.chdir(files.root)  # paths in a form are those of the user's files
            wait_for_writers()
            load_profile(profile)
            perform(run, file, files, place)
    sys.stdout.flush()
    sys.stderr.flush()


def _collect_ended(*_: object) -> None:
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _import_all() -> None:
    """Import what most runs need, so that they begin at once."""
    import aiida.engine
    import aiida.orm
    import aiida.storage.sqlite_dos.backend  # noqa: F401

    import aiida_nanoml.provenance.progress  # noqa: F401

    for name in action_names():
        with suppress(NanomlError):
            action_class(name)


if __name__ == '__main__':
    main()
