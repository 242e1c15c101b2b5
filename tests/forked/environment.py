"""A folder like the virtual environment, whose programs are forked by a server; see the package."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

VARIABLE = 'NANOML_TESTS_FORKED'
"""Variable with the folder, for the processes of pytest-xdist."""

PROGRAMS = {'aiida-nanoml': 'aiida', 'verdi': 'aiida', 'nanoml-worker': 'worker', 'python-forked': 'aiida'}


class ForkedEnvironment:
    """The folder, and the server, which runs until :meth:`close`."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix='nanoml-forked-'))
        binaries = Path(sys.executable).parent
        (self.folder / 'bin').mkdir()
        shutil.copy(binaries.parent / 'pyvenv.cfg', self.folder)
        (self.folder / 'lib').symlink_to(binaries.parent / 'lib')
        (self.folder / 'bin' / 'python').symlink_to(Path(sys.executable).resolve())
        for program, server in PROGRAMS.items():
            self._write_client(program, self.folder / server, binaries / program)
        here = Path(__file__).parent
        path = os.pathsep.join([str(binaries), os.environ['PATH']])  # AiiDA looks for verdi when it is imported
        with open(self.folder / 'server.log', 'wb') as log:
            self._server = subprocess.Popen(
                [sys.executable, here / 'server.py', self.folder],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env=os.environ | {'AIIDA_PATH': str(self.folder), 'PYTHONWARNINGS': 'ignore', 'PATH': path},
            )

    def _write_client(self, program: str, address: Path, plain: Path) -> None:
        client = Path(__file__).with_name('client.py').read_text(encoding='utf-8')
        path = self.folder / 'bin' / program
        call = f'main({str(address)!r}, {program.removesuffix("-forked")!r}, {str(plain)!r})'
        path.write_text(f'#!{Path(sys.executable).resolve()} -IS\n{client}\n\nsys.exit({call})\n', encoding='utf-8')
        path.chmod(0o755)

    def close(self) -> None:
        """End the server, and remove the folder."""
        self._server.stdin.close()  # both processes notice that
        self._server.terminate()  # unless it is still importing
        self._server.wait()
        if (kept := os.environ.get('NANOML_TESTS_CALLS')) and (self.folder / 'calls.txt').exists():
            shutil.copy(self.folder / 'calls.txt', kept)
        shutil.rmtree(self.folder, ignore_errors=True)


_started: list[ForkedEnvironment] = []


def start() -> None:
    """Start the server, for this process and those that it starts; nothing happens when there is one."""
    if VARIABLE not in os.environ:
        _started.append(ForkedEnvironment())
        os.environ[VARIABLE] = str(_started[0].folder)


def stop() -> None:
    """End the server that this process started, if any."""
    while _started:
        del os.environ[VARIABLE]
        _started.pop().close()


def program(name: str) -> Path | None:
    """Return the path of a program that is forked, or None when there is no server."""
    folder = os.environ.get(VARIABLE)
    return Path(folder, 'bin', name) if folder else None
