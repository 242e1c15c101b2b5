"""Folders in which SIESTA was run: finding them, and reading a finished run out of one."""

from __future__ import annotations

import hashlib
import io
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from aiida_nanoml.densities import Density
from aiida_nanoml.engines.base import Engine
from aiida_nanoml.engines.label_set import LabelSource
from aiida_nanoml.engines.siesta.engine import SiestaEngine
from aiida_nanoml.engines.siesta.fdf import Fdf, read_fdf
from aiida_nanoml.engines.siesta.fdf_recognition import match_protocol, read_parameters, read_structure
from aiida_nanoml.engines.siesta.mesh import read_density
from aiida_nanoml.engines.siesta.output import Run, read_run
from aiida_nanoml.engines.siesta.parameters import SiestaParameters
from aiida_nanoml.errors import EngineError, EvaluationError, FailureCode, StructureError
from aiida_nanoml.structures import Structure

PSEUDOPOTENTIALS = ('.psf', '.psml')
"""Endings of the pseudopotential files that SIESTA reads, as it looks for them."""

_BANNER = re.compile(rb'siesta version|welcome to siesta', re.IGNORECASE)
_BANNER_WITHIN = 1 << 14


class RunFolderError(EvaluationError):
    """A folder holds no finished run, or one that cannot be used."""


@dataclass(frozen=True)
class RunFolder:
    """A folder with the input and the output of one run.

    :param path: the folder.
    :param root: nothing outside this folder is read, whatever links say.
    :param input: name of the fdf file.
    :param output: name of the file with the standard output.
    :param fdf: content of the input.
    """

    path: Path
    root: Path
    input: str
    output: str
    fdf: Fdf

    @property
    def prefix(self) -> str:
        """``SystemLabel``, how the names of the other files begin."""
        return self.fdf.get('SystemLabel', 'siesta')

    @property
    def species(self) -> dict[str, int]:
        """Atomic number by label of the species."""
        rows = [line.split()[:3] for line in self.fdf.get_block('ChemicalSpeciesLabel') or ()]
        return {row[2]: abs(int(row[1])) for row in rows if len(row) == 3 and row[1].lstrip('-').isdigit()}

    def read(self, name: str) -> str | None:
        """Return the text of a file of the run, None if there is none.

        :raises RunFolderError: ``'outside'``, a link leads out of the tree; ``'unreadable'``.
        """
        return _read(self.path / name, self.root)

    @property
    def pseudopotentials(self) -> dict[str, str]:
        """Names of the pseudopotential files of the species, by label; those that are gone are left out."""
        found = {}
        for label in self.species:
            for ending in PSEUDOPOTENTIALS:
                if (self.path / f'{label}{ending}').is_file():
                    found[label] = f'{label}{ending}'
        return found

    def files(self) -> dict[str, str]:
        """Return the MD5 of each file that decides about the result, by name.

        The file of k-points follows from the input, and is not among them: runs keep the identity under which they
        were imported before it was read.
        """
        names = [self.input, self.output, f'{self.prefix}.EIG', f'{self.prefix}.xml', 'MESSAGES']
        contents = {name: self.read(name) for name in [*names, *self.pseudopotentials.values()]}
        return {
            name: hashlib.md5(content.encode(), usedforsecurity=False).hexdigest()
            for name, content in contents.items()
            if content is not None
        }

    def density_files(self) -> dict[str, str]:
        """Return the MD5 of the two files that hold the density, by name.

        :raises RunFolderError: ``'no_density'``; or as :meth:`read` does.
        """
        return {
            name: hashlib.md5(content, usedforsecurity=False).hexdigest()
            for name, content in _read_meshes(self).items()
        }

    def digest(self) -> str:
        """Return the identity of the content of the run, wherever it lies: SHA-256 of :meth:`files`."""
        content = ''.join(f'{name} {md5}\n' for name, md5 in sorted(self.files().items()))
        return hashlib.sha256(content.encode()).hexdigest()


@dataclass(frozen=True)
class FinishedRun:
    """What a finished run says.

    :param structure: :func:`~aiida_nanoml.engines.siesta.fdf_recognition.read_structure` says what is isolated.
    :param parameters: of the engine.
    :param protocol: whose parameters these are, ``'custom'`` if of none.
    :param result: label, version, time.
    """

    structure: Structure
    parameters: SiestaParameters
    protocol: str
    result: Run


def find_run_folders(root: Path, unreadable: Callable[[OSError], None]) -> Iterator[Path]:
    """Find the folders below one that hold an input or an output of SIESTA; links to folders are not followed.

    :param root: the folder to begin with.
    :param unreadable: called with the error of a folder that cannot be looked into.
    """
    for folder, folders, names in os.walk(root, onerror=unreadable):
        folders.sort()
        path = Path(folder)
        if any(name.endswith('.fdf') for name in names) or any(
            name.endswith('.out') and _is_siesta(path / name) for name in names
        ):
            yield path


def open_run_folder(path: Path, root: Path) -> RunFolder:
    """Find the files of a run in a folder.

    :param path: the folder.
    :param root: nothing outside this folder is read.
    :raises RunFolderError: there is no input or no output, or more than one run.
    """
    try:
        names = sorted(entry.name for entry in path.iterdir())
    except OSError as error:
        raise RunFolderError(FailureCode.UNREADABLE, f'the folder cannot be read: {error.strerror}') from error
    inputs = [name for name in names if name.endswith('.fdf')]
    outputs = [name for name in names if name.endswith('.out')]
    if not inputs:
        raise RunFolderError(FailureCode.NO_INPUT, 'there is no input (.fdf) beside the output')
    if not outputs:
        raise RunFolderError(FailureCode.NO_OUTPUT, 'there is no output (.out): the run has not begun')
    pairs = [(name, f'{name[:-4]}.out') for name in inputs if f'{name[:-4]}.out' in outputs]
    if not pairs:
        pairs = [(one, other) for one in inputs for other in outputs if _is_siesta(path / other)]
    if not pairs:
        raise RunFolderError(FailureCode.NO_OUTPUT, f'{", ".join(outputs)} is not an output of SIESTA')
    if len(pairs) > 1:
        raise RunFolderError(
            FailureCode.AMBIGUOUS,
            f'{", ".join(inputs)} and {", ".join(outputs)}: keep one run in a folder, or name them alike',
        )
    root = root.resolve()
    text = _read(path / pairs[0][0], root) or ''
    try:
        fdf = read_fdf(text)
    except EngineError as error:
        raise RunFolderError(FailureCode.INPUT_REFUSED, f'{pairs[0][0]}: {error}') from error
    return RunFolder(path, root, *pairs[0], fdf)


def read_finished_run(folder: RunFolder, vacuum_ang: float | None = None) -> FinishedRun:
    """Read a finished run.

    :param folder: from :func:`open_run_folder`.
    :param vacuum_ang: vacuum that the parameters of an isolated structure are given in place of its own, so that runs
        in boxes of one size have the same parameters; the images must be at least so far apart.
    :raises EvaluationError: the run did not finish, it did something else than label its structure, or its structure is
        not physical; the code is one of :func:`~aiida_nanoml.engines.siesta.output.read_run`, or ``'input_refused'``,
        ``'input_changed'``, ``'vacuum'``, or of :meth:`~aiida_nanoml.engines.base.Engine.check`.
    """
    result = read_run(folder.read, prefix=folder.prefix, output=folder.output)
    try:
        structure = read_structure(folder.fdf)
        parameters = read_parameters(folder.fdf)
    except (EngineError, StructureError) as error:
        raise RunFolderError(FailureCode.INPUT_REFUSED, f'{folder.input}: {error}') from error
    if vacuum_ang is not None and not structure.pbc.any():
        if parameters.vacuum_ang < vacuum_ang:
            raise RunFolderError(
                FailureCode.VACUUM, f'the images are {parameters.vacuum_ang:g} Å apart, less than {vacuum_ang:g} Å'
            )
        parameters = parameters.model_copy(update={'vacuum_ang': vacuum_ang})
    _check_input_unchanged(folder)
    # The engine itself would also look for its own pseudopotentials.
    Engine.check(SiestaEngine(parameters), structure)
    return FinishedRun(structure, parameters, match_protocol(parameters), result)


def read_run_density(folder: RunFolder, structure: Structure) -> Density:
    """Read the density of a run, which ``SaveRho`` and ``SaveDeltaRho`` leave.

    :param folder: from :func:`open_run_folder`.
    :param structure: of the run, in its box.
    :raises RunFolderError: ``'no_density'``, the run did not save it.
    :raises DensityError: the files are damaged, or belong to another run.
    """
    (first, rho), (second, delta_rho) = _read_meshes(folder).items()
    return read_density(rho, delta_rho, structure, (first, second))


def source_of_run(run: FinishedRun, pseudopotentials: Mapping[str, str]) -> LabelSource:
    """Return what made the label of a run.

    :param pseudopotentials: MD5 by element.
    """
    elements = set(run.structure.symbols)
    return LabelSource(
        engine=SiestaEngine.name,
        version=run.result.version,
        title=SiestaEngine(run.parameters).method,
        protocol=run.protocol,
        parameters=run.parameters.model_dump(),
        pseudopotentials={element: md5 for element, md5 in pseudopotentials.items() if element in elements},
    )


def _check_input_unchanged(folder: RunFolder) -> None:
    """Check that the output belongs to the input: it begins with the input as SIESTA saw it."""
    text = folder.read(folder.output) or ''
    dump = re.search(r'\*+ Dump of input data file \*+\n(.*?)\n\*+ End of input data file', text, re.DOTALL)
    if dump is None:
        return
    seen = read_fdf(dump[1])
    if seen != folder.fdf:
        keys = [
            key
            for ours, theirs in ((folder.fdf.values, seen.values), (folder.fdf.blocks, seen.blocks))
            for key in sorted({*ours, *theirs})
            if ours.get(key) != theirs.get(key)
        ]
        raise RunFolderError(
            FailureCode.INPUT_CHANGED,
            f'{folder.input} is not the input of {folder.output}: {", ".join(keys[:3])} differs',
        )


def _is_siesta(path: Path) -> bool:
    try:
        with path.open('rb') as handle:
            return bool(_BANNER.search(handle.read(_BANNER_WITHIN)))
    except OSError:
        return False


def _read_meshes(folder: RunFolder) -> dict[str, bytes]:
    found = {}
    for name in (f'{folder.prefix}.RHO', f'{folder.prefix}.DRHO'):
        content = _read_bytes(folder.path / name, folder.root)
        if content is None:
            raise RunFolderError(
                FailureCode.NO_DENSITY,
                f'there is no {name}: the run did not save its density (SaveRho T, SaveDeltaRho T)',
            )
        found[name] = content
    return found


def _read(path: Path, root: Path) -> str | None:
    content = _read_bytes(path, root)
    return None if content is None else io.TextIOWrapper(io.BytesIO(content), 'utf-8', 'replace').read()


def _read_bytes(path: Path, root: Path) -> bytes | None:
    try:
        if not path.resolve().is_relative_to(root):
            raise RunFolderError(FailureCode.OUTSIDE, f'{path.name} is a link that leads out of {root.name}')
        return path.read_bytes() if path.is_file() else None
    except OSError as error:
        raise RunFolderError(FailureCode.UNREADABLE, f'{path.name} cannot be read: {error.strerror}') from error
