"""Reader of finished runs of ABINIT, versions 7 to 10, by their main outputs."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np
from pydantic import ValidationError

from aiida_nanoml.engines.abinit.finished_parameters import check_echoes, read_kinds, read_parameters, read_structure
from aiida_nanoml.engines.abinit.levels import Levels, levels_of_netcdf, read_eig, read_netcdf
from aiida_nanoml.engines.abinit.output import (
    DataSet,
    NoGapError,
    check_converged,
    check_finished,
    count_electrons,
    read_data_sets,
    read_label,
    read_version,
)
from aiida_nanoml.engines.abinit.run_levels import join_levels
from aiida_nanoml.engines.base import Label
from aiida_nanoml.engines.finished_runs import (
    ProgramRun,
    RunFolderError,
    RunReader,
    md5_of,
    plain_name,
    read_bytes,
    read_text,
)
from aiida_nanoml.engines.run_text import RunText
from aiida_nanoml.errors import EngineError, EvaluationError, FailureCode, StructureError
from aiida_nanoml.structures import Structure
from aiida_nanoml.structures.elements import SYMBOLS

TRIED = ('7', '8', '9', '10')
"""Versions of which runs were read."""

_ROOT = re.compile(r'^- root for output files -> {0,5}(\S.{0,300})', re.MULTILINE)
_WALL = re.compile(r'^\+Overall time at end \(sec\) : cpu= {0,20}\S{1,20} {1,5}wall= {0,20}(\S{1,20})', re.MULTILINE)
_DRIVER = re.compile(r'^meta: \{optdriver: {0,3}(-?\d{1,4})', re.MULTILINE)
_IMAGE = re.compile(r'_\d+img$')
_NOT_RELAXED = re.compile(r'was not enough Broyd/MD steps to converge gradients')
_DIGESTS = re.compile(r'^pseudos: ?\n((?: {1,8}[A-Z][a-z]? {0,5}: [0-9a-f]{32} *\n){1,120})', re.MULTILINE)
_LOG = re.compile(r'(.*\.)?log\d*|.*\.log|aiida\.out|run\.err', re.IGNORECASE)


@dataclass
class _Files:
    """Files of a run that were read.

    :param folder: where the run lies.
    :param root: nothing outside this folder is read.
    :param used: MD5 of their texts by name.
    """

    folder: Path
    root: Path
    used: dict[str, str] = field(default_factory=dict)

    def text(self, name: str) -> RunText | None:
        """Return the text of a file that decides about the result."""
        text = read_text(self.folder / name, self.root)
        if text is None:
            return None
        self.used[name] = md5_of(text)
        return RunText(name, text)

    def bytes(self, name: str) -> bytes | None:
        """Return the content of a file that decides about the result."""
        content = read_bytes(self.folder / name, self.root)
        if content is not None:
            self.text(name)
        return content


class AbinitRunReader(RunReader):
    """Finished runs of ABINIT.

    Of several data sets in one run the last one counts whose density of the ground state converged.
    """

    name = 'abinit'
    own_folders = ('outdata', 'indata', 'tmpdata')

    @classmethod
    def recognises(cls, head: str) -> bool:
        """Return whether a file is a main output or a log of ABINIT."""
        return read_version(head) is not None

    def choose(self, names: Sequence[str]) -> list[str]:
        """Return the main outputs; logs, which repeat them, where there is nothing else."""
        main = [name for name in names if not _LOG.fullmatch(plain_name(name))]
        return main or list(names)

    def read(self, folder: Path, name: str, root: Path) -> ProgramRun:
        """Read a finished run."""
        try:
            return _read(_Files(folder, root), name)
        except RunFolderError:
            raise
        except EvaluationError as error:
            raise RunFolderError(error.code, error.message) from error
        except StructureError as error:
            raise RunFolderError(FailureCode.INVALID_STRUCTURE, str(error)) from error
        except (EngineError, ValidationError) as error:
            raise RunFolderError(
                FailureCode.INPUT_REFUSED, f'the settings cannot be expressed: {_first_line(error)}'
            ) from error


def _first_line(error: Exception) -> str:
    if isinstance(error, ValidationError):
        fault = error.errors()[0]
        return f'{".".join(map(str, fault["loc"]))}: {fault["msg"]}'
    return str(error)


def _read(files: _Files, name: str) -> ProgramRun:
    output = files.text(name)
    if output is None:
        raise RunFolderError(FailureCode.NO_OUTPUT, f'{name} is gone')
    version = read_version(output.text)
    if version is None:
        raise RunFolderError(FailureCode.NO_OUTPUT, f'{name} is no output of ABINIT')
    check_finished(output, '\n'.join(_read_logs(files, name)))
    data_set, notes = _choose_data_set(output)
    check_echoes(data_set)
    structure = read_structure(data_set)
    n_electrons = count_electrons(data_set, read_kinds(data_set))
    label, found = _read_label(files, data_set, output, structure, n_electrons)
    notes += found
    if label.forces_ev_per_ang is not None and label.forces_ev_per_ang.shape != structure.positions.shape:
        raise RunFolderError(FailureCode.INCONSISTENT, f'{name}: there are not as many forces as atoms')
    digests, names = _read_pseudopotentials(files, data_set, structure)
    if names:
        notes.append(
            f'of the pseudopotentials of {", ".join(names)} only the names are known: the label shares a source '
            'only with runs that name the same'
        )
    if _NOT_RELAXED.search(data_set.text.text):
        notes.append('the geometry was not relaxed within the allowed steps: the label belongs to the last one')
    if version.split('.')[0] not in TRIED:
        notes.append(f'runs of ABINIT {version} were never tried here')
    wall = _WALL.search(output.text)
    return ProgramRun(
        structure=structure,
        label=label,
        parameters=read_parameters(data_set, structure, names),
        version=version,
        files=files.used,
        pseudopotentials=digests,
        wall_s=output.number(wall[1], wall.start(1), 'the time', 1e10) if wall else None,
        note='; '.join(notes),
    )


def _choose_data_set(output: RunText) -> tuple[DataSet, list[str]]:
    """Return the last data set whose ground state converged, and what to say about the others."""
    data_sets = read_data_sets(output)
    if any(_IMAGE.search(key) for data_set in data_sets for key in data_set.before.values):
        raise RunFolderError(FailureCode.AMBIGUOUS, f'{output.name} holds several images of a path: no single geometry')
    refused: EvaluationError | None = None
    for data_set in reversed(data_sets):
        if not _is_ground_state(data_set):
            continue
        try:
            check_converged(data_set)
        except EvaluationError as error:
            refused = refused or error
            continue
        notes = []
        if len(data_sets) > 1:
            notes.append(f'data set {data_set.number} of {len(data_sets)}, the last ground state that converged')
        return data_set, notes
    if refused is not None:
        raise refused
    raise RunFolderError(
        FailureCode.NO_OUTPUT,
        f'{output.name} holds no self-consistent ground state: bands, screening, a response or nothing was computed',
    )


def _is_ground_state(data_set: DataSet) -> bool:
    printed = _DRIVER.search(data_set.text.text)
    variables, number = data_set.before, data_set.number
    driver = int(printed[1]) if printed else variables.integer('optdriver', number, 0)
    # With macro_uj, a potential is added to find out U.
    other = any(
        variables.integer(name, number, 0) for name in ('rfphon', 'rfelfd', 'rfstrs', 'rfddk', 'rfuser', 'macro_uj')
    )
    return driver == 0 and not other and variables.integer('iscf', number, 7) >= 0 and (' ETOT ' in data_set.text.text)


def _read_label(
    files: _Files, data_set: DataSet, output: RunText, structure: Structure, n_electrons: int
) -> tuple[Label, list[str]]:
    """Read the label, without levels where they are not known completely, and what to say about it."""
    levels, missing = _read_levels(files, data_set, output)
    try:
        return read_label(data_set, levels, n_electrons=n_electrons), [missing] if missing else []
    except NoGapError as error:
        return read_label(data_set, None, n_electrons=n_electrons), [f'{error.message}: the label has no levels']


def _read_levels(files: _Files, data_set: DataSet, output: RunText) -> tuple[Levels | None, str]:
    """Read the levels of all k-points; None, and why, where no file has them."""
    ending = f'_DS{data_set.number}' if data_set.number else ''
    root = _ROOT.search(output.text)
    stems = [f'{Path(plain_name(output.name)).stem}o']
    folders = ['']
    if root:
        path = PurePosixPath(root[1].strip())
        stems.insert(0, path.name)
        folders += [f'{path.parent.name}/'] if path.parent.name else []
    within = read_eig(data_set.text)
    printed, printed_name = within, data_set.text.name
    exact: Levels | None = None
    exact_name = ''
    for stem in stems:
        for folder in folders:
            base = f'{folder}{stem}{ending}'
            if (text := files.text(f'{base}_EIG')) is not None and (found := read_eig(text)) is not None:
                if within is not None:
                    _check_printed(within, found, text.name)
                printed, printed_name = found, text.name
            for name in (f'{base}_EIG.nc', f'{base}_GSR.nc'):
                if exact is None and (content := files.bytes(name)) is not None:
                    values = read_netcdf(content, name)
                    _check_energy(values.get('energy'), data_set, name)
                    exact, exact_name = levels_of_netcdf(values, name), name
    if printed is None and exact is None:
        return None, (
            f'{data_set.text.name} prints the levels of some k-points only, and no file _EIG, _EIG.nc or _GSR.nc of '
            'this run is there: the gap is not known'
        )
    return join_levels(data_set, printed, printed_name, exact, exact_name), ''


def _check_printed(within: Levels, found: Levels, name: str) -> None:
    if within.levels_hartree.shape != found.levels_hartree.shape or (
        np.abs(within.levels_hartree - found.levels_hartree).max() > 2e-5
    ):
        raise RunFolderError(
            FailureCode.INCONSISTENT, f'{name} has other levels than the output: they are of another run'
        )


def _check_energy(energy: object, data_set: DataSet, name: str) -> None:
    """Check that a netCDF file belongs to the run."""
    value = np.asarray(energy, dtype=np.float64).ravel() if energy is not None else np.empty(0)
    printed = data_set.after.number('etotal', data_set.number) if data_set.after else None
    if len(value) == 1 and printed is not None and abs(float(value[0]) - printed) > 1e-5 + 1e-8 * abs(printed):
        raise RunFolderError(
            FailureCode.INCONSISTENT,
            f'{name} has the energy {float(value[0]):.6f} Ha, {data_set.text.name} {printed:.6f} Ha: it belongs to '
            'another run',
        )


def _read_pseudopotentials(
    files: _Files, data_set: DataSet, structure: Structure
) -> tuple[dict[str, str], dict[str, str]]:
    """Return the MD5 of the pseudopotential of each element, and the names of those whose MD5 is not known."""
    used: dict[str, set[str]] = {}
    for found in data_set.pseudopotentials.values():
        number = round(found.nuclear_charge)
        if 0 < number < len(SYMBOLS):
            used.setdefault(SYMBOLS[number], set()).add(found.file)
    logged = _read_logged_digests(files, data_set.text.name)
    digests: dict[str, str] = {}
    names: dict[str, str] = {}
    for element in sorted(set(structure.symbols)):
        paths = sorted(used.get(element, set()))
        own = {PurePosixPath(path).name for path in paths}
        if len(paths) == 1:
            content = _read_beside(files, paths[0])
            if content is not None:
                digests[element] = hashlib.md5(content, usedforsecurity=False).hexdigest()
                continue
            if element in logged:
                digests[element] = logged[element]
                continue
        names[element] = ' '.join(sorted(own)) or 'unknown'
    return digests, names


def _read_beside(files: _Files, path: str) -> bytes | None:
    for name in (path, PurePosixPath(path).name):
        if PurePosixPath(name).is_absolute():
            continue
        try:
            content = read_bytes(files.folder / name, files.root)
        except RunFolderError:
            continue
        if content is not None:
            return content
    return None


def _read_logs(files: _Files, output: str) -> list[str]:
    """Return the texts of the logs beside an output."""
    stem = Path(plain_name(output)).stem
    names = dict.fromkeys((f'{stem}.out', f'{stem}.log', 'log', 'run.log', 'abinit.log', 'aiida.out'))
    texts = [read_text(files.folder / name, files.root) for name in names if name != output]
    return [text for text in texts if text is not None and '--- !' in text]


def _read_logged_digests(files: _Files, output: str) -> dict[str, str]:
    """Return the MD5 of pseudopotentials by element in a log of the same run; versions before 8 write none."""
    for text in [read_text(files.folder / output, files.root) or '', *_read_logs(files, output)]:
        found = _DIGESTS.search(text)
        if found is not None:
            rows = [line.split(':') for line in found[1].splitlines()]
            elements = [row[0].strip() for row in rows]
            if len(set(elements)) == len(elements):
                return {element: row[1].strip() for element, row in zip(elements, rows, strict=True)}
    return {}
