"""Server that forks a program for each call, after it has imported what the programs import.

Run as ``python server.py FOLDER``: two processes, one without AiiDA for ``nanoml-worker``, one with it for the rest.
They end when their standard input does, and write down the seconds of each call.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import os
import pkgutil
import select
import signal
import socket
import sys
import threading
import traceback
import types
from functools import partial
from pathlib import Path

BIN = Path(sys.argv[1]) / 'bin'
"""Where the clients are."""

POLL_S = 0.25
"""Seconds between two looks at a process that another one waits for; an option of AiiDA takes whole seconds."""

PROGRAMS = {
    'nanoml-worker': ('aiida_nanoml.worker.main', 'main'),
    'aiida-nanoml': ('aiida_nanoml.cli', 'main'),
    'verdi': ('aiida.cmdline.commands.cmd_verdi', 'verdi'),
}
PURE = ('structures', 'densities', 'features', 'engines', 'learning', 'alloys', 'transport', 'worker')
LIBRARIES = (
    *('sklearn.ensemble', 'sklearn.svm', 'skops.io', 'scipy.optimize', 'matplotlib.pyplot', 'tblite.interface'),
    *('pyscf.gto', 'pyscf.dft', 'ase.calculators.emt', 'sisl', 'pebble', 'tqdm'),
)
WITH_AIIDA = (
    *('aiida.orm', 'aiida.engine', 'aiida.cmdline.commands.cmd_verdi', 'aiida.tools.archive'),
    *('aiida.storage.sqlite_dos.backend', 'aiida.storage.sqlite_zip.backend', 'aiida.storage.sqlite_temp.backend'),
    *('aiida_siesta', 'aiida_pseudo.data.pseudo', 'ase.io', 'pymatgen.core'),
)


def import_modules(package: str) -> None:
    """Import a package of ours with all its modules, those aside whose extra is not installed."""
    path = importlib.import_module(package).__path__
    for module in pkgutil.walk_packages(path, f'{package}.'):
        with contextlib.suppress(ModuleNotFoundError):
            importlib.import_module(module.name)


def find_plugins() -> None:
    """Find the plug-ins of all groups: the metadata of all packages are read once, not by each program."""
    from aiida_nanoml.plugins import Registry

    for name in [name for name in sys.modules if name.startswith('aiida_nanoml.')]:
        for value in vars(sys.modules[name]).values():
            if isinstance(value, Registry):
                value.names()


def prepare_worker() -> None:
    """Import what ``nanoml-worker`` may import."""
    from aiida_nanoml.learning.keras_backend import import_keras

    for name in PURE:
        import_modules(f'aiida_nanoml.{name}')
    for name in LIBRARIES:
        with contextlib.suppress(ModuleNotFoundError):  # an extra
            importlib.import_module(name)
    import_keras()
    find_plugins()
    assert not [name for name in sys.modules if name.split('.')[0] == 'aiida'], 'the worker imports AiiDA'


def prepare_aiida() -> None:
    """Import what the programs with AiiDA may import, and let them wait less for the disk and for processes."""
    from storage import spare_storage  # beside this file

    spare_storage()
    import_modules('aiida_nanoml')
    for name in (*WITH_AIIDA, *LIBRARIES):
        with contextlib.suppress(ModuleNotFoundError):
            importlib.import_module(name)
    from aiida.common.exceptions import LoadingEntryPointError
    from aiida.manage import get_manager
    from aiida.manage.configuration import get_config, reset_config
    from aiida.plugins import CalculationFactory, WorkflowFactory
    from aiida.plugins.entry_point import get_entry_point_names
    from sqlalchemy.orm import configure_mappers

    find_plugins()
    configure_mappers()
    get_config(create=True).get_option('logging.aiida_loglevel')  # prepares the models of a configuration
    reset_config()
    manager = get_manager()
    manager.create_runner = partial(manager.create_runner, poll_interval=POLL_S)
    for group, factory in (('aiida.calculations', CalculationFactory), ('aiida.workflows', WorkflowFactory)):
        for name in get_entry_point_names(group):
            if name.startswith('nanoml.'):
                with contextlib.suppress(LoadingEntryPointError):  # an extra
                    factory(name).spec()  # is kept by the class


def serve(address: str, log: str) -> None:
    """Answer calls until the standard input ends; a forked process leaves by running a program."""
    assert len(os.listdir('/proc/self/task')) == 1, 'a process with threads cannot be forked'
    gc.collect()
    gc.freeze()
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(f'{address}.new')
    listener.listen(64)
    os.rename(f'{address}.new', address)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the keepers
    while True:
        ready, _, _ = select.select([listener, 0], [], [])
        if 0 in ready:
            return
        connection, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            keep(connection, log)
        connection.close()


def keep(connection: socket.socket, log: str) -> None:
    """Fork the program, pass signals on to it, and answer with its exit status; it ends with its client."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    header, files, _, _ = socket.recv_fds(connection, 8, 3)
    content = b''
    while len(content) < int.from_bytes(header, 'big'):
        content += connection.recv(1 << 16)
    words = content.decode('utf-8', 'surrogateescape').split('\0')
    end = words.index('', 2)
    program, folder, *arguments = words[:end]
    environment = dict(word.split('=', 1) for word in words[end + 1 :])
    pid = os.fork()
    if pid == 0:
        connection.close()
        os.setpgid(0, 0)
        run(program, arguments, environment, folder, files)
    for number in files:
        os.close(number)
    with os.fdopen(os.pidfd_open(pid)) as ended:
        while ended not in (ready := select.select([connection, ended], [], [])[0]) and ready:
            numbers = connection.recv(16)
            with contextlib.suppress(ProcessLookupError):
                if not numbers:
                    os.killpg(pid, signal.SIGKILL)
                for number in numbers:
                    os.kill(pid, number)
            if not numbers:
                break
    _, status, usage = os.wait4(pid, 0)
    with open(log, 'a', encoding='utf-8') as handle:
        handle.write(f'{usage.ru_utime + usage.ru_stime:.2f} {program} {" ".join(arguments)[:100]!r} {folder}\n')
    signalled = os.WIFSIGNALED(status)
    with contextlib.suppress(OSError):
        connection.sendall(bytes([signalled, os.WTERMSIG(status) if signalled else os.WEXITSTATUS(status)]))
    os._exit(0)


def run(program: str, arguments: list[str], environment: dict[str, str], folder: str, files: list[int]) -> None:
    """Be the program: with its arguments, environment, folder and open files. Do not return."""
    status = 1
    try:
        for target, number in enumerate(files):
            os.dup2(number, target)
            os.close(number)
        sys.stdin = sys.__stdin__ = open(0, encoding='utf-8')  # noqa: SIM115
        sys.stdout = sys.__stdout__ = open(1, 'w', encoding='utf-8')  # noqa: SIM115
        sys.stderr = sys.__stderr__ = open(2, 'w', 1, encoding='utf-8', errors='backslashreplace')  # noqa: SIM115
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environment)
        sys.path[:0] = [entry for entry in environment.get('PYTHONPATH', '').split(os.pathsep) if entry]
        sys.executable = str(BIN / 'python')
        sys.argv = [str(BIN / program), *arguments]
        sys.modules['__main__'] = types.ModuleType('__main__')
        if 'aiida' in sys.modules:
            from aiida.manage.configuration.settings import AiiDAConfigDir

            AiiDAConfigDir.set()  # from the environment
        status = status_of(program)
        threading._shutdown()  # as Python does at its end
        atexit._run_exitfuncs()
        sys.stdout.flush()
    finally:
        os._exit(status)


def status_of(program: str) -> int:
    """Run a program, or the script on the standard input, and return its exit status."""
    try:
        if program == 'python':
            sys.path.insert(0, '')
            exec(compile(sys.stdin.read(), '<stdin>', 'exec'), vars(sys.modules['__main__']))  # noqa: S102
            return 0
        module, name = PROGRAMS[program]
        code = getattr(importlib.import_module(module), name)()
    except SystemExit as stop:
        code = stop.code
    except BaseException:
        traceback.print_exc()
        return 1
    if code is None or isinstance(code, int):
        return (code or 0) & 0xFF
    print(code, file=sys.stderr)
    return 1


def main(folder: str) -> None:
    """Prepare, and serve at the sockets ``worker`` and ``aiida`` in a folder."""
    prepare_worker()
    with_aiida = os.fork() == 0
    if with_aiida:
        prepare_aiida()
    serve(os.path.join(folder, 'aiida' if with_aiida else 'worker'), os.path.join(folder, 'calls.txt'))


if __name__ == '__main__':
    main(sys.argv[1])
