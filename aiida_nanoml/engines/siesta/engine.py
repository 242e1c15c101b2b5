"""Engine ``siesta``: run the program in a folder of its own for each structure, and read what it left."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, cast

import numpy as np
import psutil
from pydantic import Field

from aiida_nanoml.engines.base import DFT, Engine, EngineParameters, Label, ProgramRuntime
from aiida_nanoml.engines.siesta.fdf_writing import write_fdf
from aiida_nanoml.engines.siesta.mesh import read_density
from aiida_nanoml.engines.siesta.output import read_run, read_version
from aiida_nanoml.engines.siesta.parameters import SiestaParameters
from aiida_nanoml.engines.siesta.pseudopotentials import bundled, check_pseudopotentials, digest
from aiida_nanoml.errors import EngineError, EvaluationError, FailureCode, StructureError
from aiida_nanoml.structures import StructureSet, place
from aiida_nanoml.structures.elements import SYMBOLS
from aiida_nanoml.structures.vacuum import MINIMUM_VACUUM_ANG, measure_vacuum

if TYPE_CHECKING:
    from aiida_nanoml.densities import Density
    from aiida_nanoml.structures import Structure

HEAVIEST = 94
"""Plutonium: no pseudopotentials are in use for heavier elements."""

FOLDER_VARIABLE = 'NANOML_PROGRAM_FOLDER'
"""Environment variable with the folder where a program works, so that a later worker can end a stray one."""

PROBE_S = 60.0
"""The version is said at once; a program that takes longer (seconds) is not SIESTA."""

GRACE_S = 3.0
"""A program has so long (seconds) to follow a request to end: launchers pass it on to the processes they started."""


class SiestaEngine(Engine):
    """Density-functional theory with numerical atomic orbitals, as a program that is started for each structure.

    An isolated structure is placed in a box of its own with the vacuum of the parameters, whatever its cell. HOMO and
    LUMO come from the file of levels, the energy is the free energy.

    Source: Soler et al., J. Phys.: Condens. Matter 14, 2745 (2002).
    """

    name = 'siesta'
    title = 'SIESTA'
    theory = DFT
    properties = frozenset({'energy', 'gap', 'forces', 'stress', 'dos_fermi', 'density'})
    periodic = True
    runs_program = True

    Parameters = SiestaParameters

    class Runtime(ProgramRuntime):
        """What SIESTA finds on the machine.

        :param pseudopotentials: psf or psml file of each element. Default: the bundled set.
        """

        executable: str = Field(default='siesta', min_length=1)
        pseudopotentials: dict[str, str] = Field(
            default_factory=lambda: {element: str(path) for element, path in bundled().items()}
        )

        def relative_to(self, folder: Path) -> Self:
            """Resolve relative paths against the folder of a job."""
            files = {element: str(folder / path) for element, path in self.pseudopotentials.items()}
            return super().relative_to(folder).model_copy(update={'pseudopotentials': files})

    settings: SiestaParameters
    runtime: Runtime

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
        self._stopped = False
        self._version = ''

    @property
    def method(self) -> str:
        """Return the names of functional, basis and code."""
        settings = self.settings
        spin = {'none': '', 'polarized': ', spin-polarised'}.get(settings.spin, f', {settings.spin}')
        return f'{settings.xc_functional}-{settings.xc_authors}/{settings.basis_size}{spin} (SIESTA)'

    @classmethod
    def missing(cls, runtime: Mapping[str, Any] | None = None) -> str | None:
        """Return which program is not on this machine, and how to install it.

        :raises EngineError: the runtime does not fit.
        """
        found = cast(SiestaEngine.Runtime, cls.read_runtime(runtime))
        if shutil.which(found.executable) is None:
            return (
                f'the engine siesta needs SIESTA, and {found.executable!r} is no program on this machine: install '
                'SIESTA 4.1 or newer, for example from conda-forge, and name the executable by its full path'
            )
        if found.launcher and shutil.which(found.launcher[0]) is None:
            return (
                f'the engine siesta is to be started by {found.launcher[0]!r}, which is no program on this machine: '
                'load its module in the prepend text of the code, or start SIESTA without MPI'
            )
        return None

    @classmethod
    def version(cls) -> str:
        """Return the version of the program ``siesta`` on the search path.

        :raises EngineError: it reports no version.
        """
        return cls(cls.parameters()).version_in_use()

    def version_in_use(self) -> str:
        """Return the version that the program reports for an empty input.

        :raises EngineError: it cannot be started, or reports no version.
        """
        if not self._version:
            with tempfile.TemporaryDirectory(prefix='siesta-') as folder:
                try:
                    answer = subprocess.run(  # noqa: S603
                        self._command,
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
                    raise EngineError(f'{" ".join(self._command)} cannot be used: {error}') from error
            version = read_version(answer.stdout)
            if version is None:
                last = (answer.stderr.strip() or answer.stdout.strip() or 'nothing').splitlines()[-1]
                raise EngineError(f'{" ".join(self._command)} reports no version of SIESTA; it wrote: {last}')
            self._version = version
        return self._version

    def pseudopotentials(self) -> dict[str, str]:
        """Return the MD5 of the file of each element, without files that cannot be read: :meth:`check` reports those.

        :returns: MD5 by chemical symbol.
        """
        files = {element: Path(path) for element, path in sorted(self.runtime.pseudopotentials.items())}
        return {element: digest(path) for element, path in files.items() if path.is_file()}

    def supports(self, number: int) -> bool:
        """Return whether SIESTA treats an element; pseudopotentials are checked later.

        :param number: atomic number.
        """
        return 1 <= number <= HEAVIEST

    def check(self, structure: Structure) -> None:
        """Check, before anything runs, that a structure can be computed.

        :raises EvaluationError: as every engine does, and ``'too_little_vacuum'``, ``'missing_pseudopotential'`` or
            ``'wrong_pseudopotential'``.
        """
        super().check(structure)
        _check_vacuum(structure)
        elements = sorted({SYMBOLS[number] for number in structure.numbers.tolist()} - self._checked)
        files = {element: Path(path) for element, path in self.runtime.pseudopotentials.items()}
        check_pseudopotentials(elements, files, self.settings)
        self._checked.update(elements)

    def compute(self, structure: Structure) -> Label:
        """Run SIESTA.

        The folder of a structure is removed when it gave a label, and kept for inspection otherwise.

        :raises EvaluationError: ``'time_limit'``, ``'interrupted'`` by :meth:`stop`, or what the run shows.
        """
        with self._folder(structure) as folder:
            (folder / 'aiida.fdf').write_text(
                write_fdf(structure, self.settings, densities=self.density), encoding='ascii'
            )
            for number in set(structure.numbers.tolist()):
                file = Path(self.runtime.pseudopotentials[SYMBOLS[number]]).absolute()
                (folder / f'{SYMBOLS[number]}{file.suffix}').symlink_to(file)
            code = self._run(folder)
            try:
                run = read_run(lambda name: _read(folder / name), scheduler_stderr=_read(folder / 'aiida.err') or '')
            except EvaluationError as error:
                if error.code in (FailureCode.TRUNCATED, FailureCode.ENGINE_FAILURE) and code:
                    reason = f'signal {-code}' if code < 0 else f'exit status {code}'
                    raise EvaluationError(error.code, f'{error.message}; {reason}') from error
                raise
            if not self.density:
                return run.label
            return replace(run.label, density=self._density(folder, structure))

    def stop(self) -> None:
        """End all programs, and start none any more."""
        self._stopped = True
        for program in list(self._programs.values()):
            _end(program.pid)

    def _density(self, folder: Path, structure: Structure) -> Density:
        names = 'aiida.RHO', 'aiida.DRHO'
        try:
            rho, delta_rho = ((folder / name).read_bytes() for name in names)
        except OSError as error:
            raise EvaluationError(FailureCode.ENGINE_FAILURE, f'SIESTA left no density: {error.strerror}') from error
        return read_density(rho, delta_rho, place(structure, self.settings.vacuum_ang))

    @property
    def _command(self) -> list[str]:
        # The program runs in another folder, so that a relative path would be wrong.
        program = shutil.which(self.runtime.executable)
        return [*self.runtime.launcher, os.path.abspath(program) if program else self.runtime.executable]

    @property
    def _environment(self) -> dict[str, str]:
        threads = str(self.threads)
        return os.environ | dict.fromkeys(('OMP_NUM_THREADS', 'OPENBLAS_NUM_THREADS', 'MKL_NUM_THREADS'), threads)

    @contextmanager
    def _folder(self, structure: Structure) -> Iterator[Path]:
        """Make an empty folder for a structure, and remove it unless an error occurs."""
        if not self.runtime.folder:
            with tempfile.TemporaryDirectory(prefix='siesta-') as name:
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
        with (
            (folder / 'aiida.fdf').open('rb') as source,
            (folder / 'aiida.out').open('wb') as output,
            (folder / 'aiida.err').open('wb') as errors,
        ):
            if self._stopped:
                raise EvaluationError(FailureCode.INTERRUPTED, 'the job was ended before this structure')
            try:
                program = psutil.Popen(
                    self._command,
                    stdin=source,
                    stdout=output,
                    stderr=errors,
                    cwd=folder,
                    env=self._environment | {FOLDER_VARIABLE: str(folder)},
                    start_new_session=True,
                )
            except OSError as error:
                raise EvaluationError(
                    FailureCode.ENGINE_FAILURE, f'{" ".join(self._command)} cannot be started: {error.strerror}'
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


def _check_vacuum(structure: Structure) -> None:
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


def _read(path: Path) -> str | None:
    return path.read_text(encoding='utf-8', errors='replace') if path.is_file() else None
