"""Reader of finished runs of CP2K that were made by anyone."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from aiida_nanoml.engines.base import Label
from aiida_nanoml.engines.cp2k.input_reading import as_printed, further_input, read_cell, read_input
from aiida_nanoml.engines.cp2k.labels import make_label
from aiida_nanoml.engines.cp2k.levels import Levels, check_levels, join_tables, read_tables
from aiida_nanoml.engines.cp2k.output import (
    FORCES_HEADING,
    LARGEST_ENERGY_HARTREE,
    check_energies,
    check_finished,
    read_electrons_by_spin,
    read_forces,
    read_stress,
    read_version,
    to_number,
    to_numbers,
)
from aiida_nanoml.engines.cp2k.printed_settings import read_settings
from aiida_nanoml.engines.finished_runs import ProgramRun, RunFolderError, RunReader, md5_of, read_text
from aiida_nanoml.errors import EvaluationError, FailureCode, StructureError
from aiida_nanoml.structures import Structure
from aiida_nanoml.structures.elements import ATOMIC_NUMBERS, SYMBOLS
from aiida_nanoml.structures.vacuum import MINIMUM_VACUUM_ANG, gather_atoms
from aiida_nanoml.text import quoted
from aiida_nanoml.units import HARTREE_EV

LARGEST_COORDINATE_ANG = 1e5

PRINTED_ANG = 2e-3
"""Lattice vectors are printed to half a thousandth of an Å at worst."""

_STARTED = re.compile(r'PROGRAM STARTED AT')
_ENDED = re.compile(r'PROGRAM ENDED AT')
_ENERGY = re.compile(
    r'^ ?ENERGY\| Total FORCE_EVAL \( *(\S+) *\) energy *[\[(](?:a\.u\.|hartree)[\])]:? +(\S+) *$', re.M
)
_SCF = re.compile(r'^ *SCF WAVEFUNCTION OPTIMIZATION', re.M)
_CONVERGED = re.compile(r'\*\*\* SCF run converged in +(\d{1,6}) (?:steps|iterations)', re.M)
_OUTER = re.compile(r'outer SCF loop converged in +\d+ iterations or +(\d{1,6}) steps')
_FAILED = re.compile(r'SCF run NOT converged|[Oo]uter SCF loop FAILED|SCF_NOT_CONVERGED')
_INNER = re.compile(r'Leaving inner SCF loop after reaching')
_COORDINATES = re.compile(r'^ *MODULE (?:QUICKSTEP|\S+): +ATOMIC COORDINATES IN (angstrom|bohr)', re.M | re.I)
_ATOM = re.compile(r'^ +(\d{1,7}) +\d{1,4} +(\S+?) +(\d{1,3}) +(\S+) +(\S+) +(\S+)(?: +(\S+) +\S+)? *$')
_VECTOR = re.compile(r'^ ?CELL\| Vector ([abc]) \[angstrom\S*:? +(\S+) +(\S+) +(\S+) +\|[abc]\| *= +(\S+)', re.M)
_INCLUDE = re.compile(r'^[ \t]*@include[ \t]+["\']?([^\s"\']+)["\']?[ \t]*$', re.M | re.I)
_COORDINATE_FILES = tuple(
    f'SUBSYS/TOPOLOGY/COORD{middle}FILE{end}' for middle in ('_', '') for end in ('_NAME', 'NAME')
)
_MOVING = ('GEO_OPT', 'CELL_OPT', 'MD', 'MOLECULAR_DYNAMICS', 'GEOMETRY_OPTIMIZATION')
_RESTING = ('ENERGY', 'ENERGY_FORCE', 'WAVEFUNCTION_OPTIMIZATION', 'WFN_OPT', 'LINEAR_RESPONSE', 'LR')
_EXIT = re.compile(r'SCF run terminated by external request')
_VARIABLE_CELL = re.compile(r'CELL_OPT|Ensemble [Tt]ype +(?!NV|LANG|ISOKIN|HYDRO)\S|^ ?NPT\|', re.M)


@dataclass(frozen=True)
class _Step:
    """One calculation of the energy within a run.

    :param text: output from the end of the step before to the end of this step.
    :param after: output that follows, up to the next self-consistency.
    :param energy_ev: in eV.
    """

    text: str
    after: str
    energy_ev: float


class Cp2kRunReader(RunReader):
    """Reads the standard output of CP2K, the files of levels and of positions beside it."""

    name = 'cp2k'

    @classmethod
    def recognises(cls, head: str) -> bool:
        """Return whether a file is the output of CP2K.

        :param head: its beginning.
        """
        return re.search(r'^ ?(?:CP2K\| version string|GLOBAL\| Method name +CP2K|DBCSR\| )', head, re.M) is not None

    def read(self, folder: Path, name: str, root: Path) -> ProgramRun:
        """Read the last finished run in an output.

        :raises RunFolderError: there is no number that can be trusted, with the true reason.
        """
        text = read_text(folder / name, root)
        if text is None:
            raise RunFolderError(FailureCode.NO_OUTPUT, f'there is no file {name}')
        try:
            return self._read(folder, name, root, text)
        except RunFolderError:
            raise
        except EvaluationError as error:
            raise RunFolderError(error.code, error.message) from error

    def _read(self, folder: Path, name: str, root: Path, text: str) -> ProgramRun:
        part, notes = _last_run(text)
        version = read_version(part)
        if version is None:
            raise RunFolderError(FailureCode.UNREADABLE, 'the output does not name the version of CP2K')
        moving = _check_run_type(part)
        step, structure_note, positions = _choose_step(part, moving, folder, root)
        notes += structure_note
        found, input_name = _find_input(part, folder, root)
        asked = read_input(found or '')
        if asked is not None and _COORDINATES.search(part) is None:
            described = as_printed(asked, _coordinates_file(asked, folder, root))
            if described is not None:
                part = described + part
                notes.append('the output was printed briefly: structure and settings are those of the input')
        structure, elements, vacuum, charges = _read_structure(part, positions, read_cell(asked) if asked else None)
        k_points, weights = _read_weights(part)
        isolated = vacuum is not None and not k_points
        if not isolated:
            structure = Structure(structure.numbers, structure.positions, structure.cell, np.ones(3, dtype=bool))
        further = None if asked is None else further_input(asked)
        parameters, more = read_settings(part, elements, k_points, vacuum if isolated else None, further)
        if found is not None and asked is None:
            more.append(f'{input_name} was not read: it has variables, other files or several parts')
        n_iterations = _iterations(step.text)
        change = check_energies(step.text, step.energy_ev, len(structure.numbers))
        if abs(change) > 1e-3 * len(structure.numbers):
            notes.append(f'the self-consistency is loose: its end changed the energy by {change:.3f} eV')
        spins = 1 if parameters.spin == 'none' else 2
        electrons = read_electrons_by_spin(part[: part.find(step.text) + len(step.text)])
        label, level_note = _label(step, spins, electrons, weights, n_iterations, folder, root, part, charges)
        forces = _forces(step, len(structure.numbers))
        files = {name: md5_of(text)} | ({} if found is None else {input_name: md5_of(found)})
        notes += more + level_note
        return ProgramRun(
            structure=structure,
            label=replace(
                label, forces_ev_per_ang=forces, stress_ev_per_ang3=_stress(step) if structure.pbc.all() else None
            ),
            parameters=parameters,
            version=version,
            files=files,
            wall_s=_wall_time(part),
            note='; '.join(notes),
        )


def _last_run(text: str) -> tuple[str, list[str]]:
    """Return the output of the last finished run in a file, and what is to be said about it."""
    starts = [found.start() for found in _STARTED.finditer(text)]
    if not starts:
        raise RunFolderError(FailureCode.TRUNCATED, 'the output has no beginning: "PROGRAM STARTED" is missing')
    parts = [text[start:end] for start, end in zip(starts, [*starts[1:], len(text)], strict=True)]
    if any(len(_ENDED.findall(part)) > 1 for part in parts) or (
        len(parts) > 1 and any(len(part) < 1500 and not _ENDED.search(part) for part in parts[:-1])
    ):
        raise RunFolderError(FailureCode.AMBIGUOUS, 'the lines of several runs stand in one output, mixed')
    finished = [part for part in parts if _ENDED.search(part)]
    if not finished:
        check_finished(parts[-1], '')
    part = finished[-1] if finished else parts[-1]
    check_finished(part, '')
    if len(parts) == 1:
        return part, []
    place = parts.index(part) + 1
    return part, [f'run {place} of the {len(parts)} in this output, the last that is finished']


def _check_run_type(text: str) -> bool:
    """Check that a run computes energies of one structure, and return whether it moves atoms."""
    found = re.search(r'^ ?GLOBAL\| Run type +(\S+)', text, re.M)
    kind = found[1].upper() if found else ''
    if kind in _RESTING:
        return False
    if kind in _MOVING:
        return True
    raise RunFolderError(
        FailureCode.INPUT_REFUSED,
        f'a run of the type {quoted(kind)} computes no energy of one structure' if kind else 'its type is not printed',
    )


def _steps(text: str) -> list[_Step]:
    found = list(_ENERGY.finditer(text))
    steps = []
    for index, match in enumerate(found):
        begin = found[index - 1].end() if index else 0
        end = found[index + 1].start() if index + 1 < len(found) else len(text)
        following = _SCF.search(text, match.end(), end)
        if match[1] != 'QS':
            raise RunFolderError(
                FailureCode.INPUT_REFUSED, f'its energies are of the method {quoted(match[1])}, not of Quickstep'
            )
        energy = to_number(match[2], 'the energy', LARGEST_ENERGY_HARTREE) * HARTREE_EV
        steps.append(
            _Step(text[begin : match.end()], text[match.end() : following.start() if following else end], energy)
        )
    if not steps:
        raise RunFolderError(FailureCode.ENGINE_FAILURE, 'the run printed no total energy')
    return steps


def _choose_step(
    text: str, moving: bool, folder: Path, root: Path
) -> tuple[_Step, list[str], tuple[list[str], NDArray[np.float64]] | None]:
    """Return the last step whose geometry is known, and that geometry where it is not the first one."""
    steps = _steps(text)
    if not moving:
        if len(steps) > 1:
            raise RunFolderError(FailureCode.AMBIGUOUS, f'{len(steps)} energies in a run of one structure')
        return steps[0], [], None
    # The cell of later steps is not printed in full.
    fixed_cell = _VARIABLE_CELL.search(text) is None
    if len(steps) == 1:
        return steps[0], [], None
    frames = _read_frames(text, folder, root) if fixed_cell else []
    for step in reversed(steps):
        for symbols, positions, energy in reversed(frames):
            if abs(energy * HARTREE_EV - step.energy_ev) < 2e-7 * HARTREE_EV and _is_converged(step.text):
                return step, [f'the last of {len(steps)} geometries'], (symbols, positions)
    why = 'no file of positions beside the output has it' if fixed_cell else 'the cell changes along the run'
    return steps[0], [f'the first of {len(steps)} geometries: the last is not known, {why}'], None


def _read_frames(text: str, folder: Path, root: Path) -> list[tuple[list[str], NDArray[np.float64], float]]:
    """Read the positions that a run left, with their energies in Hartree."""
    project = re.search(r'^ ?GLOBAL\| Project name +(\S+)', text, re.M)
    content = read_text(folder / f'{project[1]}-pos-1.xyz', root) if project and '/' not in project[1] else None
    frames = []
    lines = (content or '').splitlines()
    place = 0
    while place + 1 < len(lines) and lines[place].strip().isdigit():
        count = int(lines[place])
        energy = re.search(r'E *= *(\S+)', lines[place + 1])
        rows = [line.split() for line in lines[place + 2 : place + 2 + count]]
        place += 2 + count
        if energy is None or len(rows) != count or any(len(row) != 4 for row in rows):
            continue
        numbers = to_numbers((word for row in rows for word in row[1:]), 'a coordinate', LARGEST_COORDINATE_ANG)
        value = to_number(energy[1].rstrip(','), 'an energy', LARGEST_ENERGY_HARTREE)
        frames.append(([row[0] for row in rows], numbers.reshape(-1, 3), value))
    return frames


def _find_input(text: str, folder: Path, root: Path) -> tuple[str | None, str]:
    """Return the text and the name of the input that the output names, or of the only one in the folder."""
    named = re.search(r'^ ?CP2K\| Input file name +(\S+)', text, re.M)
    names = [named[1].rsplit('/', 1)[-1]] if named else []
    others = sorted(path.name for path in folder.glob('*.inp'))
    for name in dict.fromkeys(names + (others if len(others) == 1 else [])):
        found = read_text(folder / name, root)
        if found is not None and '&FORCE_EVAL' in found.upper():
            return _INCLUDE.sub(lambda include: _included(include, folder, root), found), name
    return None, ''


def _included(include: re.Match[str], folder: Path, root: Path) -> str:
    """Return the text of a file that an input includes, or the line as it is if there is no such file in the folder."""
    text = read_text(folder / include[1].rsplit('/', 1)[-1], root)
    return include[0] if text is None else f'\n{text}\n'


def _coordinates_file(asked: dict[str, str], folder: Path, root: Path) -> str | None:
    """Return the text of the file of coordinates that an input names, if it lies in the folder."""
    name = next((asked[path] for path in _COORDINATE_FILES if path in asked), '').strip('"\'').rsplit('/', 1)[-1]
    return read_text(folder / name, root) if name else None


def _read_structure(
    text: str, positions: tuple[list[str], NDArray[np.float64]] | None, exact_cell: NDArray[np.float64] | None
) -> tuple[Structure, list[str], float | None, float | None]:
    """Return the structure, the element of each kind, the vacuum of an isolated one, and its valence charge."""
    heading = _COORDINATES.search(text)
    if heading is None:
        raise RunFolderError(FailureCode.NO_INPUT, 'the output does not show the coordinates of the atoms')
    numbers: list[int] = []
    rows: list[str] = []
    kinds: dict[int, str] = {}
    charges: list[float] = []
    for line in text[heading.end() :].splitlines()[1:]:
        found = _ATOM.match(line)
        if found is None:
            if numbers and not line.strip():
                break
            if numbers and ('SCF' in line or 'Total' in line):
                break
            continue
        if int(found[1]) != len(numbers) + 1:
            raise RunFolderError(FailureCode.UNREADABLE, f'atom {len(numbers) + 1} is missing among the coordinates')
        number = int(found[3])
        if not 1 <= number < len(SYMBOLS):
            raise RunFolderError(FailureCode.UNREADABLE, f'atom {found[1]} is no element, but {quoted(found[2])}')
        numbers.append(number)
        kinds[int(line.split()[1])] = SYMBOLS[number]
        rows += [found[4], found[5], found[6]]
        if found[7]:
            charges.append(to_number(found[7], 'the charge of a core', 200.0))
    count = re.search(r'^ +- Atoms: +(\d{1,7}) *$', text, re.M)
    if not numbers or (count and int(count[1]) != len(numbers)):
        raise RunFolderError(FailureCode.UNREADABLE, 'the table of coordinates is cut')
    values = to_numbers(rows, 'a coordinate', LARGEST_COORDINATE_ANG).reshape(-1, 3)
    if heading[1].lower() == 'bohr':
        raise RunFolderError(FailureCode.UNREADABLE, 'the coordinates are in bohr')
    if sorted(kinds) != list(range(1, len(kinds) + 1)):
        raise RunFolderError(FailureCode.UNREADABLE, 'kinds of atoms are missing among the coordinates')
    if positions is not None:
        symbols, values = positions
        if len(symbols) != len(numbers):
            raise RunFolderError(FailureCode.INCONSISTENT, 'the file of positions has another number of atoms')
        if any(s in ATOMIC_NUMBERS and ATOMIC_NUMBERS[s] != n for s, n in zip(symbols, numbers, strict=True)):
            raise RunFolderError(FailureCode.INCONSISTENT, 'the file of positions has other elements')
    cell = _read_cell(text)
    if exact_cell is not None and np.abs(exact_cell - cell).max() <= PRINTED_ANG:
        cell = exact_cell
    vacuum: float | None = None
    try:
        widths, gathered = gather_atoms(values, cell)
    except StructureError as error:
        raise RunFolderError(FailureCode.INVALID_STRUCTURE, str(error)) from error
    alone = re.search(r'^ ?POISSON\| Periodicity +NONE', text, re.M) is not None
    if alone or widths.min() >= MINIMUM_VACUUM_ANG - PRINTED_ANG:
        vacuum = float(widths.min())
        values = gathered
    structure = Structure(np.array(numbers), values, cell, np.zeros(3, dtype=bool))
    valence = sum(charges) if len(charges) == len(numbers) else None
    return structure, [kinds[key] for key in sorted(kinds)], vacuum, valence


def _read_cell(text: str) -> NDArray[np.float64]:
    rows: dict[str, list[str]] = {}
    for found in _VECTOR.finditer(text):
        rows.setdefault(found[1], list(found.groups()[1:]))
    if sorted(rows) != ['a', 'b', 'c']:
        raise RunFolderError(FailureCode.NO_INPUT, 'the output does not show the cell')
    values = to_numbers((word for name in 'abc' for word in rows[name]), 'a lattice vector', 1e5).reshape(3, 4)
    cell, lengths = values[:, :3], values[:, 3]
    if (lengths <= 0).any() or np.abs(np.linalg.norm(cell, axis=1) - lengths).max() > PRINTED_ANG:
        raise RunFolderError(FailureCode.INCONSISTENT, 'lattice vectors and their lengths contradict each other')
    # The length has more digits than the components.
    return np.asarray(cell * (lengths / np.linalg.norm(cell, axis=1))[:, None])


def _read_weights(text: str) -> tuple[bool, NDArray[np.float64]]:
    """Return whether there are k-points besides Gamma, and the weight of each."""
    rows = re.findall(r'^ ?BRILLOUIN\| +\d{1,6} +(\S+) +(\S+) +(\S+) +(\S+) *$', text, re.M)
    if not rows:
        if 'BRILLOUIN|' in text and re.search(r'BRILLOUIN\| K-point scheme +(?!None|Gamma)\S', text):
            raise RunFolderError(FailureCode.UNREADABLE, 'the k-points are not listed in the output')
        return False, np.ones(1)
    values = to_numbers((word for row in rows for word in row), 'a k-point', 1e4).reshape(-1, 4)
    weights = values[:, 0]
    if weights.min() < 0 or not 0.99 < weights.sum() < 1.01:
        raise RunFolderError(FailureCode.INCONSISTENT, f'the weights of the k-points sum up to {weights.sum():.4f}')
    gamma = len(values) == 1 and not np.abs(values[:, 1:]).any()
    return not gamma, weights / weights.sum()


def _is_converged(text: str) -> bool:
    converged = [found.end() for pattern in (_CONVERGED, _OUTER) for found in pattern.finditer(text)]
    failed = [found.end() for pattern in (_FAILED, _INNER, _EXIT) for found in pattern.finditer(text)]
    return bool(converged) and (not failed or max(failed) < max(converged))


def _iterations(text: str) -> int:
    if _SCF.search(text) is None:
        raise RunFolderError(FailureCode.NOT_CONVERGED, 'the energy is not preceded by a self-consistency')
    if _EXIT.search(text):
        raise RunFolderError(FailureCode.NOT_CONVERGED, 'the self-consistency was ended from outside, by EXIT')
    if not _is_converged(text):
        raise RunFolderError(
            FailureCode.NOT_CONVERGED, 'no self-consistency within the allowed iterations, though the run went on'
        )
    counts = [int(found[1]) for pattern in (_CONVERGED, _OUTER) for found in pattern.finditer(text)]
    return counts[-1]


def _forces(step: _Step, n_atoms: int) -> NDArray[np.float64] | None:
    """Return the forces that follow the energy of a step; None if they are not printed there, once and whole."""
    if len(FORCES_HEADING.findall(step.after)) != 1:
        return None
    return read_forces(step.after, n_atoms)


def _stress(step: _Step) -> NDArray[np.float64] | None:
    """Return the stress that follows the energy of a step; None if it is not printed there once."""
    headings = re.findall(r'^(?!.*igen).*stress tensor \[(?:GPa|bar)\]', step.after, re.M | re.I)
    return read_stress(step.after) if len(headings) == 1 else None


def _label(
    step: _Step,
    spins: int,
    electrons: list[int],
    weights: NDArray[np.float64],
    n_iterations: int,
    folder: Path,
    root: Path,
    text: str,
    valence: float | None,
) -> tuple[Label, list[str]]:
    """Return the label of a step, with what is to be said about its levels."""
    charge = re.search(r'^ ?DFT\| Charge +(-?\d{1,4}) *$', text, re.M)
    n_electrons = sum(electrons) if len(electrons) == spins else 0
    if valence is not None:
        neutral = valence - int(charge[1] if charge else 0)
        if n_electrons and abs(neutral - n_electrons) > 0.01:
            raise RunFolderError(
                FailureCode.INCONSISTENT, f'{n_electrons} electrons, where the cores call for {neutral:g}'
            )
        n_electrons = round(neutral) if abs(neutral - round(neutral)) < 0.01 else n_electrons
    bare = replace(
        Label.from_energy(step.energy_ev),
        n_electrons=n_electrons,
        open_shell=n_electrons % 2 == 1,
        n_iterations=n_iterations,
    )
    if not n_electrons:
        return bare, ['the number of electrons is not printed: the gap is not known']
    try:
        levels = _find_levels(step, spins, len(weights), n_iterations, folder, root, text)
        if levels is not None:
            check_levels(levels, n_electrons, weights)
            return _label_of_levels(step.energy_ev, levels, weights, n_electrons, n_iterations), []
        edges = _find_edges(step, electrons) if len(electrons) == spins and len(weights) == 1 else None
    except EvaluationError as error:
        return bare, [f'{error.message}: the gap is not known']
    if edges is None:
        return bare, ['HOMO and LUMO are not both printed: the gap is not known']
    homo, lumo = edges
    return replace(bare, homo_ev=homo, lumo_ev=lumo, gap_ev=lumo - homo), []


def _find_levels(
    step: _Step, spins: int, n_points: int, n_iterations: int, folder: Path, root: Path, text: str
) -> Levels | None:
    """Return the levels of tables in the output, or in a file beside it; None if there are none with empty ones."""
    sources = [step.text, step.after]
    if len(_ENERGY.findall(text)) == 1:
        project = re.search(r'^ ?GLOBAL\| Project name +(\S+)', text, re.M)
        if project and '/' not in project[1]:
            files = sorted(folder.glob(f'{_literal(project[1])}-*.MOLog*'))
            sources += [read_text(file, root) or '' for file in files]
    for source in sources:
        if 'EIGENVALUES' not in source:
            continue
        tables = read_tables(source)
        if not tables:
            continue
        levels = join_tables(tables, n_iterations)
        if levels.levels_ev.shape[:2] != (spins, n_points):
            raise EvaluationError(FailureCode.INCONSISTENT, 'levels of some spins or k-points are not printed')
        return levels if (levels.occupations < 0.5 / spins).any() else None
    return None


def _label_of_levels(
    energy_ev: float, levels: Levels, weights: NDArray[np.float64], n_electrons: int, n_iterations: int
) -> Label:
    """Return the label of levels; where the moment is fixed, each spin has a HOMO and a LUMO of its own.

    :raises EvaluationError: ``'inconsistent'``: an empty level lies below an occupied one.
    """
    label = make_label(energy_ev, levels, weights, n_electrons, n_iterations)
    full = levels.occupations > 0.5
    if len(levels.levels_ev) == 1 or len(weights) > 1 or np.abs(levels.occupations - full).max() > 1e-3:
        return label
    homo, lumo = float(levels.levels_ev[full].max()), float(levels.levels_ev[~full].min())
    _check_edges(homo, lumo)
    return replace(label, homo_ev=homo, lumo_ev=lumo, gap_ev=lumo - homo)


def _find_edges(step: _Step, electrons: list[int]) -> tuple[float, float] | None:
    """Return HOMO and LUMO in eV from lists of occupied and empty levels of each spin; None where one is missing.

    :param electrons: of each spin.
    """
    homo: list[float] = []
    lumo: list[float] = []
    for spin, count in enumerate(electrons, start=1):
        n_occupied = (count + 1) // 2 if len(electrons) == 1 else count
        occupied = _read_list(step.text, 'occupied', spin)
        empty = _read_list(step.text, 'unoccupied', spin)
        if not empty or (n_occupied and not occupied):
            return None
        if len(occupied) != n_occupied:
            raise EvaluationError(
                FailureCode.INCONSISTENT, f'{len(occupied)} occupied levels are printed of {n_occupied} of a spin'
            )
        homo += occupied[-1:]
        lumo.append(empty[0])
    printed = re.findall(r'^ *HOMO - LUMO gap \[eV\] *: +(\d{1,6}\.\d{1,12}) *$', step.text, re.M)[-len(electrons) :]
    if len(printed) == len(homo) == len(lumo):
        for low, high, gap in zip(homo, lumo, printed, strict=True):
            if abs((high - low) * HARTREE_EV - float(gap)) > 2e-3:
                raise EvaluationError(FailureCode.INCONSISTENT, f'levels and the gap of {gap} eV contradict each other')
    top, bottom = max(homo) * HARTREE_EV, min(lumo) * HARTREE_EV
    _check_edges(top, bottom)
    return top, bottom


def _read_list(text: str, kind: str, spin: int) -> list[float]:
    """Read the last list of levels of a spin, in Hartree; messages between its lines are passed over."""
    heading = rf'^ +(?:Lowest )?[Ee]igenvalues of the {kind} subspace spin +{spin} *$'
    found = list(re.finditer(heading, text, re.M))
    values: list[float] = []
    for line in text[found[-1].end() :].splitlines()[1:] if found else []:
        if re.search(r'subspace spin|Fermi [Ee]nergy|HOMO|ENERGY\|', line):
            break
        if re.fullmatch(r'(?: +[-+]?(?:\d+\.\d+|\*{3,20}|NaN))+ *', line):
            values += to_numbers(line.split(), 'a level', 1e4).tolist()
        elif values and kind == 'unoccupied':
            break
    if np.diff(values).min(initial=0.0) < -1e-5 or (values and not np.all(values)):
        raise EvaluationError(FailureCode.ENGINE_FAILURE, f'{kind} levels do not ascend, or are zero')
    return values


def _check_edges(homo_ev: float, lumo_ev: float) -> None:
    if lumo_ev < homo_ev:
        raise EvaluationError(FailureCode.INCONSISTENT, 'an empty level lies below an occupied one')


def _literal(name: str) -> str:
    return re.sub(r'([\[\]*?])', r'[\1]', name)


def _wall_time(text: str) -> float | None:
    found = re.search(r'^ ?CP2K +1 +1\.0 +\S+ +\S+ +\S+ +(\d{1,9}\.\d{1,6}) *$', text, re.M)
    return float(found[1]) if found else None
