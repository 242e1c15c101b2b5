"""Input of a finished run: what it asks for beside what the output prints, and the cell with all its digits."""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

from aiida_nanoml.engines.run_text import fortran_number

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
            if parameter.strip():
                values['/'.join([*stack, '_'])] = parameter.strip()
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


def _numbers(words: str | None) -> list[float] | None:
    found = re.sub(r'\[angstrom\]', ' ', words or '', flags=re.I).split()
    numbers = [fortran_number(word) for word in found]
    if len(numbers) != 3 or any(number is None or abs(number) > 1e5 for number in numbers):
        return None
    return [number for number in numbers if number is not None]


def _plain(value: str) -> str:
    return ' '.join(re.sub(r'[^A-Za-z0-9_ .,:;=()+\[\]/*<>-]', ' ', value).split()) or 'T'
