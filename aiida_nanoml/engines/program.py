"""Engines that run a program: one folder a structure, the program in a session of its own, and what it left there."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self, cast

import numpy as np
import psutil
from pydantic import Field

from aiida_nanoml.engines.base import Engine, EngineParameters, EngineRuntime, Label
from aiida_nanoml.engines.pseudopotentials import (
    PseudopotentialHeader,
    bundled,
    check_pseudopotentials,
    digest,
    read_header,
)
from aiida_nanoml.errors import EngineError, EvaluationError, FailureCode, StructureError
from aiida_nanoml.structures import StructureSet
from aiida_nanoml.structures.elements import SYMBOLS
from aiida_nanoml.structures.vacuum import MINIMUM_VACUUM_ANG, measure_vacuum

if TYPE_CHECKING:
    from aiida_nanoml.structures import Structure

FOLDER_VARIABLE = 'NANOML_PROGRAM_FOLDER'
"""Environment variable with the folder where a program works, so that a later worker can end a stray one."""

THREAD_VARIABLES = ('OMP_NUM_THREADS', 'OPENBLAS_NUM_THREADS', 'MKL_NUM_THREADS')
"""Environment variables with the number of threads of a program."""

WALL_TIME_SHARE = 0.9
"""Share of its wall time after which a program that can stop itself does so."""

PROBE_S = 60.0
"""A program says its version at once; one that takes longer (seconds) is another program."""

GRACE_S = 3.0
"""A program has so long (seconds) to follow a request to end: launchers pass it on to the processes they started."""

TAIL_LENGTH = 300
"""So many characters of the last line of the standard error stand in the message of a failure."""

OUTPUT_FILE = 'aiida.out'
ERROR_FILE = 'aiida.err'


class ProgramRuntime(EngineRuntime):
    """Settings of an engine that runs a program.

    :param executable: the program: a path, or a name to be looked up.
    :param launcher: what stands before it on the command line, for example ``['srun', '--exact', '-n', '4']``.
    :param folder: where the program works; each structure gets a folder in it. Empty: a temporary one.
    :param time_limit_s: seconds after which the program is stopped; None: never.
    """

    executable: str = Field(min_length=1)
    launcher: list[str] = Field(default_factory=list)
    folder: str = ''
    time_limit_s: float | None = Field(default=None, gt=0)

    def relative_to(self, folder: Path) -> Self:
        """Resolve relative paths against the folder of a job."""
        return self.model_copy(update={'folder': str(folder / self.folder)})


class PseudopotentialRuntime(ProgramRuntime):
    """Settings of a program that reads a pseudopotential file of each element.

    :param pseudopotentials: file of each element.
    """

    pseudopotentials: dict[str, str] = Field(default_factory=dict)

    def relative_to(self, folder: Path) -> Self:
        """Resolve relative paths against the folder of a job."""
        files = {element: str(folder / path) for element, path in self.pseudopotentials.items()}
        return super().relative_to(folder).model_copy(update={'pseudopotentials': files})


def bundled_files(file_format: str) -> dict[str, str]:
    """Return the paths of the bundled pseudopotentials of one format by element, as a runtime holds them."""
    return {element: str(path) for element, path in bundled(file_format).items()}


class ProgramEngine(Engine):
    """An engine that starts a program for each structure.

    A subclass sets the class variables, and overrides :meth:`files`, :meth:`read` and :meth:`read_version`; where the
    program takes arguments, :meth:`arguments`; where it reads pseudopotentials, ``pseudopotential_formats`` and
    ``functional``. Folder, launcher, time limit, :meth:`stop`, stray programs of a killed worker and the folder
    that a failure leaves behind are handled here.
    """

    runs_program = True

    program: ClassVar[str]
    """Name of the program in sentences, for example ``pw.x of Quantum ESPRESSO``."""

    how_to_install: ClassVar[str]
    """What to install, in words that follow a colon, for example ``install SIESTA 4.1 or newer``."""

    input_file: ClassVar[str] = 'aiida.in'
    """Which of :meth:`files` the program gets as its standard input; empty: none."""

    heaviest: ClassVar[int] = 94
    """Largest atomic number that is treated; no pseudopotentials are in use for elements beyond plutonium."""

    probe: ClassVar[tuple[str, ...]] = ()
    """Arguments with which the program says its version; its standard input is empty then."""

    results: ClassVar[tuple[str, ...]] = ()
    """What :meth:`read` reads beside standard output and standard error, relative to the folder; a run in a process of
    its own brings it back."""

    restart: ClassVar[Mapping[str, str]] = {}
    """What a run that ended by itself leaves for another run of the same structure to begin with, by name or pattern,
    and where that run wants it; empty: every run begins with free atoms."""

    Runtime: ClassVar[type[ProgramRuntime]]

    runtime: ProgramRuntime

    def __init__(
        self,
        parameters: EngineParameters,
        *,
        threads: int = 1,
        runtime: Mapping[str, Any] | None = None,
        density: bool = False,
    ) -> None:
        super().__init__(parameters, threads=threads, runtime=runtime, density=density)
        self._programs: dict[Path, psutil.Popen] = {}
        self._taken: dict[Path, object] = {}
        self._checked: set[str] = set()
        self._headers: dict[str, PseudopotentialHeader] = {}
        self._stopped = False
        self._version = ''

    def supports(self, number: int) -> bool:
        """Return whether an element is treated; whether there is a pseudopotential is checked later.

        :param number: atomic number.
        """
        return 1 <= number <= self.heaviest

    @abstractmethod
    def files(self, structure: Structure) -> dict[str, str]:
        """Return the text of each file that the program needs, by name.

        Pseudopotentials lie beside them as ``C.upf`` and so on.

        :param structure: it passed :meth:`check`.
        """

    def files_alone(
        self, structure: Structure, *, wall_time_s: float | None = None, continued: bool = False
    ) -> dict[str, str]:
        """Return the text of each file of a run in a process of its own, which can be continued.

        The label is that of :meth:`files`.

        :param structure: it passed :meth:`check`.
        :param wall_time_s: seconds after which the machine ends the run; a program that can stops itself before, and
            leaves what another run begins with. None: never.
        :param continued: whether what :attr:`restart` names lies in the folder.
        """
        return self.files(structure)

    def arguments(self) -> list[str]:
        """Return what follows the program on the command line."""
        return []

    @abstractmethod
    def read(self, folder: Path, structure: Structure) -> Label:
        """Read the label from what the program left.

        :param folder: holds :meth:`files`, ``aiida.out`` and ``aiida.err``, and what the program wrote.
        :param structure: what was computed.
        :raises EvaluationError: the run did not finish, did not converge, or contradicts itself.
        """

    @classmethod
    @abstractmethod
    def read_version(cls, output: str) -> str | None:
        """Return the version in what the program wrote; None if it is another program.

        :param output: its standard output for :attr:`probe`.
        """

    def version_of_run(self, folder: Path) -> str | None:
        """Return the version of the program that made a run, as :meth:`version_in_use` does; None if it did not say it.

        :param folder: as of :meth:`read`.
        """
        return self.read_version(read_file(folder / OUTPUT_FILE) or '')

    def residuals(self, folder: Path) -> list[float]:
        """Return how far each iteration of the last self-consistency cycle was from its end, in any unit.

        :param folder: as of :meth:`read`.
        :returns: empty where the program does not say it.
        """
        return []

    def can_be_continued(self, folder: Path) -> bool:
        """Return whether a run that gave no label ended by itself, and left what :attr:`restart` names.

        :param folder: as of :meth:`read`.
        """
        return False

    def steadier(self) -> dict[str, Any]:
        """Return parameters that make a self-consistency cycle that oscillates steadier, and change nothing else.

        :returns: empty if there are none, or if this instance has them already.
        """
        return {}

    @classmethod
    def missing(cls, runtime: Mapping[str, Any] | None = None) -> str | None:
        """Return which program is not on this machine, and how to install it.

        :raises EngineError: the runtime does not fit.
        """
        found = cast(ProgramRuntime, cls.read_runtime(runtime))
        if shutil.which(found.executable) is None:
            return (
                f'the engine {cls.name} needs {cls.program}, and {found.executable!r} is no program on this machine: '
                f'{cls.how_to_install}, and name the executable by its full path'
            )
        if found.launcher and shutil.which(found.launcher[0]) is None:
            return (
                f'the engine {cls.name} is to be started by {found.launcher[0]!r}, which is no program on this '
                f'machine: load its module in the prepend text of the code, or start {cls.program} without MPI'
            )
        return None

    @classmethod
    def version(cls) -> str:
        """Return the version of the program on the search path.

        :raises EngineError: it reports no version.
        """
        return cls(cls.parameters()).version_in_use()

    def version_in_use(self) -> str:
        """Return the version that the program reports.

        :raises EngineError: it cannot be started, or reports no version.
        """
        if not self._version:
            command = [*self._command, *self.probe]
            with tempfile.TemporaryDirectory(prefix=f'{self.name}-') as folder:
                try:
                    answer = subprocess.run(  # noqa: S603
                        command,
                        input='',
                        capture_output=True,
                        text=True,
                        errors='replace',
                        cwd=folder,
                        env=self._environment,
                        timeout=PROBE_S,
                        check=False,
                    )
                except (OSError, subprocess.TimeoutExpired) as error:
                    raise EngineError(f'{" ".join(command)} cannot be used: {error}') from error
            version = self.read_version(answer.stdout)
            if version is None:
                last = (answer.stderr.strip() or answer.stdout.strip() or 'nothing').splitlines()[-1]
                raise EngineError(f'{" ".join(command)} reports no version of {self.program}; it wrote: {last}')
            self._version = version
        return self._version

    def pseudopotentials(self) -> dict[str, str]:
        """Return the MD5 of the file of each element, without files that cannot be read: :meth:`check` reports those.

        :returns: MD5 by chemical symbol.
        """
        return {
            element: digest(path) for element, path in sorted(self._pseudopotential_files.items()) if path.is_file()
        }

    def check(self, structure: Structure) -> None:
        """Check, before anything runs, that a structure can be computed.

        :raises EvaluationError: as every engine does, and ``'too_little_vacuum'``, ``'missing_pseudopotential'`` or
            ``'wrong_pseudopotential'``.
        """
        super().check(structure)
        check_vacuum(structure)
        if self.pseudopotential_formats:
            elements = sorted({SYMBOLS[number] for number in structure.numbers.tolist()} - self._checked)
            check_pseudopotentials(elements, self._pseudopotential_files, self.pseudopotential_formats, self.functional)
            self._checked.update(elements)

    def compute(self, structure: Structure) -> Label:
        """Run the program.

        The folder of a structure is removed when it gave a label, and kept for inspection otherwise.

        :raises EvaluationError: ``'time_limit'``, ``'interrupted'`` by :meth:`stop`, or what the run shows.
        """
        with self._folder(structure) as folder:
            for name, text in self.files(structure).items():
                (folder / name).write_text(text, encoding='ascii')
            if self.pseudopotential_formats:
                for number in set(structure.numbers.tolist()):
                    file = self._pseudopotential_files[SYMBOLS[number]].absolute()
                    (folder / f'{SYMBOLS[number]}{file.suffix}').symlink_to(file)
            code = self._run(folder)
            try:
                return self.read(folder, structure)
            except EvaluationError as error:
                if error.code in (FailureCode.TRUNCATED, FailureCode.ENGINE_FAILURE) and code:
                    reason = f'signal {-code}' if code < 0 else f'exit status {code}'
                    raise EvaluationError(error.code, f'{error.message}; {reason}{_tail(folder)}') from error
                raise

    def stop(self) -> None:
        """End all programs, and start none any more."""
        self._stopped = True
        for program in list(self._programs.values()):
            _end(program.pid)

    def header(self, element: str) -> PseudopotentialHeader:
        """Return the header of the pseudopotential of an element, which says how many electrons it leaves.

        It is read once.

        :raises EvaluationError: ``'wrong_pseudopotential'``: it does not say so.
        """
        if element not in self._headers:
            path = self._pseudopotential_files[element]
            header = read_header(path.read_text(encoding='utf-8', errors='replace'))
            if header is None or header.valence_charge is None:
                raise EvaluationError(
                    FailureCode.WRONG_PSEUDOPOTENTIAL, f'{path.name} does not say how many valence electrons it leaves'
                )
            self._headers[element] = header
        return self._headers[element]

    @property
    def _pseudopotential_files(self) -> dict[str, Path]:
        files: Mapping[str, str] = getattr(self.runtime, 'pseudopotentials', {})
        return {element: Path(path) for element, path in files.items()}

    @property
    def _command(self) -> list[str]:
        # The program runs in another folder, so that a relative path would be wrong.
        program = shutil.which(self.runtime.executable)
        return [*self.runtime.launcher, os.path.abspath(program) if program else self.runtime.executable]

    @property
    def _environment(self) -> dict[str, str]:
        return os.environ | dict.fromkeys(THREAD_VARIABLES, str(self.threads))

    @contextmanager
    def _folder(self, structure: Structure) -> Iterator[Path]:
        """Make an empty folder for a structure, and remove it unless an error occurs."""
        if not self.runtime.folder:
            with tempfile.TemporaryDirectory(prefix=f'{self.name}-') as name:
                yield Path(name)
            return
        content = str(StructureSet.from_structures([structure]).hashes[0])[:16]
        token = object()
        for copy in count():
            # A structure may be in a batch twice, and be computed twice at the same time.
            folder = Path(self.runtime.folder).absolute() / (content if copy == 0 else f'{content}-{copy}')
            if self._taken.setdefault(folder, token) is token:
                break
        try:
            _clear(folder)
            folder.mkdir(parents=True)
            yield folder
            shutil.rmtree(folder)
        finally:
            del self._taken[folder]

    def _run(self, folder: Path) -> int:
        """Run the program to its end, and return its exit status."""
        command = [*self._command, *self.arguments()]
        with (
            (folder / self.input_file if self.input_file else Path(os.devnull)).open('rb') as source,
            (folder / OUTPUT_FILE).open('wb') as output,
            (folder / ERROR_FILE).open('wb') as errors,
        ):
            if self._stopped:
                raise EvaluationError(FailureCode.INTERRUPTED, 'the job was ended before this structure')
            try:
                program = psutil.Popen(
                    command,
                    stdin=source,
                    stdout=output,
                    stderr=errors,
                    cwd=folder,
                    env=self._environment | {FOLDER_VARIABLE: str(folder)},
                    start_new_session=True,
                )
            except OSError as error:
                raise EvaluationError(
                    FailureCode.ENGINE_FAILURE, f'{" ".join(command)} cannot be started: {error.strerror}'
                ) from error
        self._programs[folder] = program
        try:
            if self._stopped:
                _end(program.pid)
            status = program.wait(self.runtime.time_limit_s)
        except psutil.TimeoutExpired:
            _end(program.pid)
            program.wait()
            raise EvaluationError(
                FailureCode.TIME_LIMIT, f'took longer than {self.runtime.time_limit_s:g} s; raise the time limit'
            ) from None
        finally:
            del self._programs[folder]
        # A program that just begins is still in the group of the job, and gets its signal, perhaps before we do.
        if self._stopped or status == -signal.SIGTERM:
            raise EvaluationError(FailureCode.INTERRUPTED, 'the job was ended while this structure was computed')
        return int(status)


def check_vacuum(structure: Structure) -> None:
    """Check that the images of a structure that is open in some directions are apart there.

    :raises EvaluationError: ``'too_little_vacuum'``, or ``'invalid_structure'`` of a flat cell.
    """
    pbc = np.asarray(structure.pbc)
    if not pbc.any():
        return
    try:
        vacuum = measure_vacuum(structure)
    except StructureError as error:
        raise EvaluationError(
            FailureCode.INVALID_STRUCTURE, f'the cell of a periodic structure is flat: {error}'
        ) from error
    narrow = np.flatnonzero(~pbc & (vacuum < MINIMUM_VACUUM_ANG))
    if len(narrow):
        raise EvaluationError(
            FailureCode.TOO_LITTLE_VACUUM,
            f'the images along the open direction {int(narrow[0]) + 1} are {vacuum[narrow[0]]:.2f} Å apart, less than '
            f'{MINIMUM_VACUUM_ANG:g} Å; make the cell longer, or the direction periodic',
        )


def read_file(path: Path) -> str | None:
    """Return the text of a file, None if there is none; bytes that are no UTF-8 are replaced."""
    return path.read_text(encoding='utf-8', errors='replace') if path.is_file() else None


def _tail(folder: Path) -> str:
    """Return the last line that the program wrote to its standard error, in words that follow a message."""
    lines = (read_file(folder / ERROR_FILE) or '').strip().splitlines()
    return f'; its last error line: {lines[-1].strip()[:TAIL_LENGTH]}' if lines else ''


def _clear(folder: Path) -> None:
    """Remove what a killed worker left of a structure, after ending the program that may still run there."""
    if not folder.exists():
        return
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get(FOLDER_VARIABLE) == str(folder):
                _end(process.pid)
    shutil.rmtree(folder)


def _end(pid: int) -> None:
    """End a process with all that it started: by request, then by force."""
    try:
        parent = psutil.Process(pid)
        family = [*parent.children(recursive=True), parent]
    except psutil.NoSuchProcess:
        return
    for way in ('terminate', 'kill'):
        for process in family:
            with suppress(psutil.NoSuchProcess):
                getattr(process, way)()
        _, family = psutil.wait_procs(family, timeout=GRACE_S)
