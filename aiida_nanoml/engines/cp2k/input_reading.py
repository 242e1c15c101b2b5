"""Input of a finished run: what it asks for beside what the output prints, and the cell with all its digits."""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

from aiida_nanoml.engines.run_text import fortran_number
from aiida_nanoml.structures.elements import ATOMIC_NUMBERS

COORDINATES = 'FORCE_EVAL/SUBSYS/COORD/*'

DEEPEST = 20
"""No section of CP2K lies deeper."""

_PRINTED = re.compile(
    r'METHOD|STRESS_TENSOR|(?:.*/)?PRINT/.*|SUBSYS/(?:COORD|CELL|TOPOLOGY|VELOCITY|COLVAR|PRINT|CORE_COORD)(?:\[\d+\])?/.*'
    r'|SUBSYS/KIND(?:\[\d+\])?/(?:_|ELEMENT|BASIS_SET|POTENTIAL|MASS|BASIS_SET_FILE_NAME|POTENTIAL_FILE_NAME|DFT_PLUS_U/(?:L|U_MINUS_J))'
    r'|DFT/(?:BASIS_SET_FILE_NAME|POTENTIAL_FILE_NAME|POTENTIAL|WFN_RESTART_FILE_NAME|UKS|LSD|SPIN_POLARIZED'
    r'|UNRESTRICTED_KOHN_SHAM|RESTRICTED_KOHN_SHAM|RKS|ROKS|CHARGE|MULTIPLICITY|MULTIP|PLUS_U_METHOD)'
    r'|DFT/(?:SCF|MGRID|POISSON|KPOINTS|PRINT|TDDFPT|LOCALIZE|AUXILIARY_DENSITY_MATRIX_METHOD/PRINT)(?:\[\d+\])?/.*'
    r'|DFT/QS/(?:METHOD|EPS_DEFAULT|EXTRAPOLATION|EXTRAPOLATION_ORDER|WF_INTERPOLATION|MAP_CONSISTENT)|PROPERTIES/.*'
    r'|DFT/XC/XC_FUNCTIONAL/_|DFT/XC/XC_GRID/(?:XC_SMOOTH_RHO|XC_DERIV)|DFT/XC/HF/(?:MEMORY|SCREENING)/.*'
)
"""Paths of what the output prints, of what belongs to the structure, and of what does not change the energy."""


def read_input(text: str) -> dict[str, str] | None:
    """Read an input of CP2K as values by path below ``FORCE_EVAL``.

    :returns: None of an input with several sections ``FORCE_EVAL``, with variables or other files, or that is no input.
    """
    if re.search(r'^\s*@|\$\{?\w', text, re.M):
        return None
    values: dict[str, str] = {}
    stack: list[str] = []
    counts: dict[str, int] = {}
    for raw in text.splitlines():
        line = re.split(r'[!#]', raw, maxsplit=1)[0].strip()
        if not line:
            continue
        if line.upper().startswith('&END'):
            if not stack:
                return None
            stack.pop()
        elif line.startswith('&'):
            name, _, parameter = line[1:].partition(' ')
            path = '/'.join([*stack, name.upper()])
            counts[path] = counts.get(path, 0) + 1
            stack.append(name.upper() if counts[path] == 1 else f'{name.upper()}[{counts[path]}]')
            if len(stack) > DEEPEST:
                return None
            if parameter.strip() or stack[-2:-1] == ['XC_FUNCTIONAL']:
                values['/'.join([*stack, '_'])] = parameter.strip() or 'T'
        elif stack[-2:] == ['SUBSYS', 'COORD']:
            values[COORDINATES] = f'{values[COORDINATES]};{line}' if COORDINATES in values else line
        else:
            keyword, _, value = line.partition(' ')
            path = '/'.join([*stack, keyword.upper()])
            values[path] = f'{values[path]} ; {value.strip()}' if path in values else value.strip()
    if stack or counts.get('FORCE_EVAL') != 1:
        return None
    return {path.removeprefix('FORCE_EVAL/'): value for path, value in values.items() if path.startswith('FORCE_EVAL/')}


def further_input(values: dict[str, str]) -> dict[str, str]:
    """Return what of an input the output does not print, and what may change the energy."""
    return {
        path: _plain(value)
        for path, value in values.items()
        if not _PRINTED.fullmatch(path) and re.fullmatch(r'(?:[A-Z0-9_-]+(?:\[\d{1,3}\])?/)*[A-Z0-9_-]+', path)
    }


def read_cell(values: dict[str, str]) -> NDArray[np.float64] | None:
    """Read the cell of an input, (3, 3) in Å; None where it is not written out in Å."""
    words = {name: values.get(f'SUBSYS/CELL/{name}') for name in ('A', 'B', 'C', 'ABC')}
    if values.get('SUBSYS/CELL/MULTIPLE_UNIT_CELL') or values.get('SUBSYS/CELL/ALPHA_BETA_GAMMA'):
        return None
    rows = [_numbers(words[name]) for name in ('A', 'B', 'C')]
    if all(row is not None for row in rows):
        return np.array(rows)
    edges = _numbers(words['ABC'])
    return None if edges is None else np.diag(edges)


def as_printed(values: dict[str, str], coordinates: str | None) -> str | None:
    """Return what CP2K prints of an input at its usual print level, for outputs that were printed briefly.

    :param values: as :func:`read_input` returns them.
    :param coordinates: file in the format xyz that the input names; None without it.
    :returns: None where the input alone does not tell structure and settings.
    """
    cell, atoms, kinds = read_cell(values), _atoms(values, coordinates), _kinds(values)
    functional = _functional(values)
    cutoffs = [_cutoff(values, name, usual) for name, usual in (('CUTOFF', 280.0), ('REL_CUTOFF', 40.0))]
    restricted_open = any(path in values for path in ('DFT/ROKS', 'DFT/RESTRICTED_OPEN_KOHN_SHAM'))
    foreign = (
        restricted_open
        or values.get('METHOD', 'QS').upper() not in ('QS', 'QUICKSTEP')
        or any(path.startswith(('DFT/KPOINTS', 'SUBSYS/CELL/CELL_FILE')) for path in values)
    )
    if cell is None or atoms is None or kinds is None or functional is None or None in cutoffs or foreign:
        return None
    if not {name for name, *_ in atoms} <= set(kinds):
        return None
    names = [name for name in kinds if name in {atom[0] for atom in atoms}]
    lines = [
        f' CELL| Vector {name} [angstrom]: {row[0]:.9f} {row[1]:.9f} {row[2]:.9f} |{name}| = {np.linalg.norm(row):.9f}'
        for name, row in zip('abc', cell, strict=True)
    ]
    polarized = any(_is_on(values.get(f'DFT/{name}', 'F')) for name in _UNRESTRICTED)
    lines += [
        f' DFT| Spin Kohn-Sham calculation {"UKS" if polarized else "RKS"}',
        f' DFT| Charge {values.get("DFT/CHARGE", "0")}',
        *([f' DFT| Multiplicity {values["DFT/MULTIPLICITY"]}'] if 'DFT/MULTIPLICITY' in values else []),
        *(f' FUNCTIONAL| {part}:' for part in functional),
        f' QS| Method: {values.get("DFT/QS/METHOD", "GPW").upper()}',
        *(f' QS| {name} [a.u.]: {(value or 0) / 2:.6f}' for name, value in zip(_CUTOFFS, cutoffs, strict=True)),
        f' QS| eps_rho_gspace: {values.get("DFT/QS/EPS_DEFAULT", "1.0E-10")}',
        f' POISSON| Periodicity {values.get("DFT/POISSON/PERIODIC", "XYZ").upper()}',
    ]
    solver = values.get('DFT/POISSON/POISSON_SOLVER') or values.get('DFT/POISSON/PSOLVER') or 'PERIODIC'
    lines.append(f' POISSON| Solver {solver.upper()}')
    for number, name in enumerate(names, start=1):
        lines += [
            f'  {number}. Atomic kind: {name}  Number of atoms: 1',
            f'     Orbital Basis Set {kinds[name][1]}',
            f'     GTH Potential information for {kinds[name][2]}',
        ]
    lines.append(' MODULE QUICKSTEP: ATOMIC COORDINATES IN angstrom')
    lines += [
        f' {number} {names.index(name) + 1} {kinds[name][0]} {ATOMIC_NUMBERS[kinds[name][0]]} {x} {y} {z}'
        for number, (name, x, y, z) in enumerate(atoms, start=1)
    ]
    return '\n'.join([*lines, '', ''])


def _is_on(value: str) -> bool:
    return value.upper() in ('', 'T', 'TRUE', '.TRUE.', 'YES', 'ON')


_UNRESTRICTED = ('UKS', 'LSD', 'UNRESTRICTED_KOHN_SHAM', 'SPIN_POLARIZED')
_CUTOFFS = ('Density cutoff', 'Relative density cutoff')

_SHORTCUTS = {
    'PADE': ('PADE',),
    'LDA': ('PADE',),
    'PBE': ('PBE',),
    'BLYP': ('BECKE88', 'LYP'),
    'BP': ('BECKE88', 'P86C'),
    'OLYP': ('OPTX', 'LYP'),
    'HCTH120': ('HCTH120',),
}


def _atoms(values: dict[str, str], coordinates: str | None) -> list[list[str]] | None:
    rows = values.get(COORDINATES.removeprefix('FORCE_EVAL/'), '').split(';')
    if rows == ['']:
        if coordinates is None or values.get('SUBSYS/TOPOLOGY/COORD_FILE_FORMAT', 'XYZ').upper() != 'XYZ':
            return None
        first, _, *rows = [*coordinates.splitlines(), '']
        if not first.strip().isdecimal() or len(rows) <= int(first):
            return None
        rows = rows[: int(first)]
    atoms = [row.split()[:4] for row in rows]
    plain = all(len(atom) == 4 and all(fortran_number(word) is not None for word in atom[1:]) for atom in atoms)
    return atoms if plain and atoms else None


def _kinds(values: dict[str, str]) -> dict[str, tuple[str, str, str]] | None:
    """Return element, basis and pseudopotential of each kind."""
    kinds: dict[str, tuple[str, str, str]] = {}
    for path, name in values.items():
        section, _, last = path.rpartition('/')
        if last != '_' or not re.fullmatch(r'SUBSYS/KIND(?:\[\d+\])?', section):
            continue
        element = values.get(f'{section}/ELEMENT', name).capitalize()
        basis, potential = (values.get(f'{section}/{key}', '').split() for key in ('BASIS_SET', 'POTENTIAL'))
        if element not in ATOMIC_NUMBERS or not basis or not potential or ';' in basis:
            return None
        kinds[name] = element, basis[-1], potential[-1]
    return kinds


def _functional(values: dict[str, str]) -> tuple[str, ...] | None:
    prefix = 'DFT/XC/XC_FUNCTIONAL/'
    shortcut = values.get(f'{prefix}_', 'T').upper()
    parts = {path.removeprefix(prefix): value for path, value in values.items() if path.startswith(prefix)}
    if len(parts) == 1 and shortcut in _SHORTCUTS:
        return _SHORTCUTS[shortcut]
    names = tuple(sorted(name.removesuffix('/_') for name in parts if name.endswith('/_')))
    return names if len(parts) == len(names) + (f'{prefix}_' in values) and names else None


def _cutoff(values: dict[str, str], name: str, usual: float) -> float | None:
    found = re.sub(r'\[Ry\]', ' ', values.get(f'DFT/MGRID/{name}', str(usual)), flags=re.I).split()
    return fortran_number(found[0]) if len(found) == 1 else None


def _numbers(words: str | None) -> list[float] | None:
    found = re.sub(r'\[angstrom\]', ' ', words or '', flags=re.I).split()
    numbers = [fortran_number(word) for word in found]
    if len(numbers) != 3 or any(number is None or abs(number) > 1e5 for number in numbers):
        return None
    return [number for number in numbers if number is not None]


def _plain(value: str) -> str:
    return ' '.join(re.sub(r'[^A-Za-z0-9_ .,:;=()+\[\]/*<>-]', ' ', value).split()) or 'T'
