"""Starts runs: hands them to the program that does them, and starts that program where it does not run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from aiida_nanoml.web.files import UserFiles
from aiida_nanoml.web.runs import Runs

PROGRAMS = Path(sys.executable).parent
"""AiiDA looks for `verdi`, which starts the daemon, on the path, also where no virtual environment is activated."""

Start = Callable[[str], None]
"""Starts the run of a name."""


class Launcher:
    """The program :mod:`aiida_nanoml.web.runner`, as a child of the server.

    :param profile: profile in which actions run.
    """

    def __init__(self, runs: Runs, files: UserFiles, profile: str) -> None:
        self._words = [str(runs.folder), str(files.root), str(files.quota_bytes), profile]
        self._lock = threading.Lock()
        self._program: subprocess.Popen[str] | None = None

    def warm_up(self) -> None:
        """Start the program, which takes a second or two to import AiiDA."""
        with self._lock:
            self._running()

    def start(self, name: str) -> None:
        """Start a run."""
        with self._lock:
            try:
                self._tell(name)
            except BrokenPipeError:  # it was killed
                self._program = None
                self._tell(name)

    def close(self) -> None:
        """End the program; runs that have begun go on."""
        with self._lock:
            if self._program is not None and self._program.stdin is not None:
                self._program.stdin.close()
                self._program.wait()
                self._program = None

    def _tell(self, name: str) -> None:
        stdin = self._running().stdin
        assert stdin is not None  # noqa: S101
        stdin.write(json.dumps(name) + '\n')
        stdin.flush()

    def _running(self) -> subprocess.Popen[str]:
        if self._program is None or self._program.poll() is not None:
            self._program = subprocess.Popen(  # noqa: S603
                [sys.executable, '-m', 'aiida_nanoml.web.runner', *self._words],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                text=True,
                env=os.environ | {'PATH': os.pathsep.join([str(PROGRAMS), os.environ.get('PATH', '')])},
                start_new_session=True,  # Ctrl-C on the terminal of the server is not for the runs
            )
        return self._program
