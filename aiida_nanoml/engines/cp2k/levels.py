"""Reader of the levels that CP2K prints: tables of molecular orbitals, in the spellings of all its versions."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aiida_nanoml.engines.run_text import fortran_number
from aiida_nanoml.errors import EvaluationError, FailureCode
from aiida_nanoml.text import quoted
from aiida_nanoml.units import HARTREE_EV

LARGEST_LEVEL_HARTREE = 1e4
"""No level of an atom is further from zero."""

MOST_LEVELS = 1_000_000

_NEW_HEADING = re.compile(
    r'^ ?MO\| +(?:(ALPHA|BETA) +)?EIGENVALUES(?:, OCCUPATION NUMBERS,? AND .*| AND OCCUPATION NUMBERS| AND .*)?'
    r'(?P<rest>.*)$'
)
_OLD_HEADING = re.compile(r'^ ?(?:(ALPHA|BETA) +)?MO EIGENVALUES(?: AND MO OCCUPATION NUMBERS)?(?P<rest>.*)$')
_K_POINT = re.compile(r'K[ -]?POINT +(\d{1,6})', re.IGNORECASE)
_STEP = re.compile(r'AFTER SCF STEP +(\d{1,6})')
_ROW = re.compile(r'^ ?MO\| +(\d{1,7}) +(\S+) +(\S+)(?: +(\S+))? *$')
_OLD_ROW = re.compile(r'^ +(\d{1,7}) +(\S+)(?: +(\S+))? *$')
_FERMI = re.compile(r'^ ?(?:MO\| +E\(Fermi\)|  Fermi energy): +(\S+)')


@dataclass(frozen=True)
class LevelTable:
    """Levels of one spin at one k-point.

    :param spin: 0 or 1; 0 of a restricted run.
    :param k_point: 0-based; 0 where there is only the Gamma point.
    :param step: of the self-consistency after which it was printed; None: at its end.
    :param levels_hartree: (L,) in Hartree, ascending.
    :param occupations: (L,) electrons.
    :param fermi_hartree: Fermi level in Hartree; None where it is not printed.
    """

    spin: int
    k_point: int
    step: int | None
    levels_hartree: NDArray[np.float64]
    occupations: NDArray[np.float64]
    fermi_hartree: float | None


@dataclass(frozen=True)
class Levels:
    """Levels of a run.

    :param levels_ev: (S, K, L) in eV.
    :param occupations: (S, K, L) electrons in each level.
    :param fermi_ev: Fermi level of each spin (S,) in eV; NaN where it is not printed.
    """

    levels_ev: NDArray[np.float64]
    occupations: NDArray[np.float64]
    fermi_ev: NDArray[np.float64]


def read_tables(text: str) -> list[LevelTable]:
    """Read all tables of levels in a text, in their order.

    Messages that other parts of the program wrote between the rows are passed over.

    :raises EvaluationError: ``'engine_failure'``: a row is no number, missing, or out of order.
    """
    lines = text.splitlines()
    starts: list[tuple[int, re.Match[str], bool]] = []
    for number, line in enumerate(lines):
        if 'EIGENVALUES' not in line:
            continue
        if found := _NEW_HEADING.match(line):
            starts.append((number, found, True))
        elif found := _OLD_HEADING.match(line):
            starts.append((number, found, False))
    if not starts:
        return []
    ends = [start for start, _, _ in starts[1:]] + [len(lines)]
    return [
        _read_table(lines[start + 1 : end], found, new) for (start, found, new), end in zip(starts, ends, strict=True)
    ]


def join_tables(tables: list[LevelTable], n_iterations: int | None = None) -> Levels:
    """Join the last complete set of tables of a run: all spins, all k-points.

    :param n_iterations: of the self-consistency; levels of an earlier one are refused. None: not checked.
    :raises EvaluationError: ``'engine_failure'``: there is none, or tables of it are missing or differ in their length.
    """
    if not tables:
        raise _fault('there are no levels in it')
    latest: dict[tuple[int, int], LevelTable] = {}
    for table in tables:
        latest[table.spin, table.k_point] = table
    n_spins, n_points = (1 + max(key[axis] for key in latest) for axis in (0, 1))
    if len(latest) != n_spins * n_points:
        raise _fault(f'levels of {n_spins} spins at {n_points} k-points are not complete')
    ordered = [[latest[spin, point] for point in range(n_points)] for spin in range(n_spins)]
    steps = {table.step for row in ordered for table in row}
    if len(steps) > 1:
        raise _fault('the last levels are of different steps of the self-consistency')
    if n_iterations is not None and steps - {None, n_iterations}:
        raise _fault(f'they are those of step {steps.pop()} of {n_iterations} of the self-consistency')
    shortest = min(len(table.levels_hartree) for row in ordered for table in row)
    for row in ordered:
        if len({len(table.levels_hartree) for table in row}) > 1:
            raise _fault('k-points differ in the number of their levels')
        if row[0].occupations[..., shortest:].any():
            raise _fault('the spins differ in the number of their levels, and the further ones hold electrons')
    levels = np.array([[table.levels_hartree[:shortest] for table in row] for row in ordered])
    occupations = np.array([[table.occupations[:shortest] for table in row] for row in ordered])
    fermi = np.array([_common_fermi(row) for row in ordered])
    return Levels(levels * HARTREE_EV, occupations, fermi * HARTREE_EV)


def check_levels(levels: Levels, n_electrons: int, weights: NDArray[np.float64]) -> None:
    """Check that levels ascend and hold the electrons of the structure.

    :param weights: of the k-points (K,), with sum 1.
    :raises EvaluationError: ``'inconsistent'``.
    """
    if not levels.levels_ev.all():
        raise EvaluationError(FailureCode.INCONSISTENT, 'levels are zero: CP2K did not compute them')
    held = float(np.einsum('skl,k->', levels.occupations, weights))
    if abs(held - n_electrons) > max(1e-3, 1e-5 * n_electrons):
        raise EvaluationError(
            FailureCode.INCONSISTENT,
            f'the levels hold {held:.4f} electrons, and the structure has {n_electrons}',
        )


def _common_fermi(row: list[LevelTable]) -> float:
    known = [table.fermi_hartree for table in row if table.fermi_hartree is not None]
    if not known:
        return math.nan
    if max(known) - min(known) > 1e-5:
        raise _fault('k-points of one spin differ in their Fermi level')
    return known[-1]


def _read_table(lines: list[str], heading: re.Match[str], new: bool) -> LevelTable:
    point, step = _K_POINT.search(heading['rest']), _STEP.search(heading['rest'])
    levels: list[float] = []
    occupations: list[float] = []
    fermi: float | None = None
    closed = False
    for line in lines:
        if found := _FERMI.match(line):
            fermi = _number(found[1], LARGEST_LEVEL_HARTREE)
            continue
        if line.lstrip().startswith(('MO| Sum', '# Sum', '#   Sum', 'Sum ')):
            closed = True
        found = None if closed else (_ROW if new else _OLD_ROW).match(line)
        if found is None or (new and found[4] is None and 'Index' in line):
            continue
        index, words = int(found[1]), [word for word in found.groups()[1:] if word is not None]
        if index != len(levels) + 1:
            raise _fault(f'level {len(levels) + 1} is missing')
        if index > MOST_LEVELS or len(words) < 2:
            raise _fault(f'level {index} has no occupation')
        levels.append(_number(words[0], LARGEST_LEVEL_HARTREE))
        if len(words) == 3:
            other = _number(words[1], LARGEST_LEVEL_HARTREE * HARTREE_EV)
            if abs(other - levels[-1] * HARTREE_EV) > 1e-4 + 1e-5 * abs(other):
                raise _fault(f'level {index} is {words[0]} hartree and {words[1]} eV')
        occupations.append(_number(words[-1], 2.0 + 1e-6))
    if not closed:
        raise _fault('a table of levels is cut')
    if len(levels) > 1 and np.diff(levels).min() < -1e-6:
        raise _fault('levels do not ascend')
    if occupations and min(occupations) < -1e-6:
        raise _fault('a level holds less than no electron')
    return LevelTable(
        spin=int(heading[1] == 'BETA'),
        k_point=int(point[1]) - 1 if point else 0,
        step=int(step[1]) if step else None,
        levels_hartree=np.array(levels),
        occupations=np.array(occupations),
        fermi_hartree=fermi,
    )


def _number(word: str, limit: float) -> float:
    value = fortran_number(word)
    if value is None or not abs(value) <= limit:
        raise _fault(f'{quoted(word)} is no level and no occupation of one')
    return value


def _fault(reason: str) -> EvaluationError:
    return EvaluationError(FailureCode.ENGINE_FAILURE, f'the levels of CP2K cannot be used: {reason}')
