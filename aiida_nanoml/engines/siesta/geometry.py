"""Geometries that a run of SIESTA computed, as its output and the files beside it say."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from aiida_nanoml.units import BOHR_ANG

Floats = NDArray[np.float64]

SAME_ANG = 1e-3
"""Positions and lattice vectors that differ by more than this (Å) are those of another geometry."""

FARTHEST_ANG = 1e6
"""A coordinate or a lattice vector beyond this (Å) is a mistake."""

_PRINTED_ANG = 1e-4
"""Largest difference (Å) between a position in a file and the same one in the output, which has five digits in bohr."""

_HEADING = re.compile(
    r'^siesta: Atomic coordinates \((?P<initial>Bohr)\) and species'
    r'|^outcoor: (?P<kind>Relaxed |Final \(unrelaxed\) |)[Aa]tomic coordinates \((?P<unit>\w+)\):'
    r'|^outcell: (?P<cell>Unit cell vectors) \(Ang\):'
    r'|^siesta: (?P<automatic>Automatic unit cell vectors) \(Ang\):'
    r'|^ *Begin (?P<step>[^\n=]{1,60})= *\d',
    re.MULTILINE,
)
_NUMBER = re.compile(r'-?\d+\.\d+')
_ATOM = re.compile(r'((?:\s*-?\d+\.\d+){3})\s*(\d{1,6})\b')
_LONGEST_LINE = 400


@dataclass(frozen=True)
class Geometry:
    """Cell and atoms, as they are printed.

    :param cell: (3, 3) lattice vectors as rows in Å; None where they are not known.
    :param positions: (n, 3) in Å.
    :param species: (n,) index of the species of each atom.
    """

    cell: Floats | None
    positions: Floats
    species: NDArray[np.int64]

    def difference(self, other: Geometry) -> float:
        """Return the largest difference (Å) of a coordinate or a component of the cell; infinite for other atoms."""
        if self.species.tolist() != other.species.tolist():
            return float('inf')
        parts = [np.abs(self.positions - other.positions).max()]
        if self.cell is not None and other.cell is not None:
            parts.append(np.abs(self.cell - other.cell).max())
        return float(max(parts))


@dataclass(frozen=True)
class Course:
    """Geometries of a run.

    :param first: with which the run began; None if the output does not give it.
    :param steps: of each step; None where the output does not give it.
    :param spans: where the text of each step begins and ends in the output.
    :param last: to which energy, forces and levels of the run belong; None if the output does not give it.
    :param relaxed: whether the run ended in a relaxed geometry; None if it did not look for one.
    """

    first: Geometry | None
    steps: tuple[Geometry | None, ...]
    spans: tuple[tuple[int, int], ...]
    last: Geometry | None
    relaxed: bool | None


@dataclass
class _Step:
    """What is printed in one step: coordinates that wait for the cell that they are given in, and that cell."""

    coordinates: tuple[Floats, NDArray[np.int64], str] | None = None
    cell: Floats | None = None
    start: int = 0

    def geometry(self, constant_ang: float | None, cell: Floats | None) -> Geometry | None:
        """Return the geometry.

        :param cell: where the step prints none.
        """
        cell = cell if self.cell is None else self.cell
        if self.coordinates is None:
            return None
        points, species, unit = self.coordinates
        if unit == 'fractional':
            positions = None if cell is None else points @ cell
        else:
            scale = {'Bohr': BOHR_ANG, 'Ang': 1.0, 'scaled': constant_ang}.get(unit)
            positions = None if scale is None else points * scale
        return None if positions is None else Geometry(cell, positions, species)


def read_course(output: str, constant_ang: float | None) -> Course:
    """Read the geometries of a run from its output.

    :param output: the standard output of the run.
    :param constant_ang: ``LatticeConstant`` of the input in Å, the unit of scaled coordinates.
    """
    initial, final, steps = _Step(), _Step(), [_Step()]
    relaxed: bool | None = None
    for match in _HEADING.finditer(output):
        lines = _lines_after(output, match.end())
        if match['step'] is not None:
            steps.append(_Step(start=match.start()))
        elif match['initial']:
            initial.coordinates = _read_atoms(lines, 'Bohr')
        elif match['automatic']:
            initial.cell = _read_cell(lines)
        elif match['cell']:
            # Before version 4, the cell that is printed after the last step is the next one.
            if steps[-1].cell is None:
                steps[-1].cell = _read_cell(lines)
        elif match['kind']:
            final.coordinates = _read_atoms(lines, match['unit'])
            relaxed = match['kind'].startswith('Relaxed')
        elif steps[-1].coordinates is None:
            steps[-1].coordinates = _read_atoms(lines, match['unit'])
    computed = [step for step in steps if step.cell is not None or step.coordinates is not None]
    start = computed[0] if computed else _Step()
    cell = initial.cell if start.cell is None else start.cell
    first = start.geometry(constant_ang, cell) or initial.geometry(constant_ang, cell)
    every = tuple(step.geometry(constant_ang, cell) for step in computed)
    every = (every[0] or first, *every[1:]) if every else (first,)
    last = every[-1]
    if last is None and (relaxed or (relaxed is False and not prints_next_geometry(output))):
        last = final.geometry(constant_ang, computed[-1].cell if computed else cell)
        every = (*every[:-1], last)
    bounds = [step.start for step in computed or [start]] + [len(output)]
    return Course(first, every, tuple(pairwise(bounds)), last, relaxed)


def prints_next_geometry(output: str) -> bool:
    """Return whether a run ends with the geometry that would have been next: SIESTA before version 4 does."""
    return re.search(r'^ *Siesta Version *: *(?:siesta-)?[0-3]\.', output, re.MULTILINE) is not None


def refine(printed: Geometry, read: Callable[[str], str | None], prefix: str) -> Geometry:
    """Return the geometry with all its digits, from a file beside the output that agrees with it, else as printed.

    :param printed: as the output gives it.
    :param read: returns the text of a file of the run by name.
    :param prefix: the system label.
    """
    for other in read_geometry_files(read, prefix):
        if printed.difference(other) < _PRINTED_ANG * max(1.0, np.abs(printed.positions).max() / 10):
            return other
    return printed


def read_geometry_files(read: Callable[[str], str | None], prefix: str) -> Iterator[Geometry]:
    """Read the geometries of ``.STRUCT_OUT`` (that of the last step) and ``.XV`` (in old versions the next one)."""
    for name, parse in ((f'{prefix}.STRUCT_OUT', _read_struct), (f'{prefix}.XV', _read_xv)):
        text = read(name)
        found = None if text is None else parse(text)
        if found is not None:
            yield found


def _lines_after(text: str, start: int) -> Iterator[str]:
    """Return the lines after the one in which a position is."""
    position = text.find('\n', start) + 1
    while position:
        end = text.find('\n', position)
        if end < 0:
            return
        yield text[position:end]
        position = end + 1


def _read_atoms(lines: Iterator[str], unit: str) -> tuple[Floats, NDArray[np.int64], str] | None:
    points, species = [], []
    for line in lines:
        match = _ATOM.match(line.removeprefix('siesta:').strip()) if len(line) < _LONGEST_LINE else None
        if match is None:
            if '*' in line:  # numbers that did not fit into their fields
                return None
            break
        numbers = _NUMBER.findall(match[1])
        if len(numbers) != 3:
            return None
        points.append([float(number) for number in numbers])
        species.append(int(match[2]))
    return (np.array(points), np.array(species, dtype=np.int64), unit) if points else None


def _read_cell(lines: Iterator[str]) -> Floats | None:
    rows = []
    for _ in range(3):
        numbers = _NUMBER.findall(next(lines, ''))
        if len(numbers) != 3:
            return None
        rows.append([float(number) for number in numbers])
    return np.array(rows)


def _read_struct(text: str) -> Geometry | None:
    """Read a ``.STRUCT_OUT``: the cell in Å, the number of atoms, and of each species, element and fractions."""
    return _read_table(text, 5, lambda cell, table: Geometry(cell[:, :3], table[:, 2:5] @ cell[:, :3], _species(table)))


def _read_xv(text: str) -> Geometry | None:
    """Read a ``.XV``: cell and its velocity, the number of atoms, and of each species, element, place and velocity."""
    return _read_table(
        text,
        8,
        lambda cell, table: Geometry(cell[:, :3] * BOHR_ANG, table[:, 2:5] * BOHR_ANG, _species(table)),
    )


def _species(table: Floats) -> NDArray[np.int64]:
    return np.asarray(table[:, 0], dtype=np.int64)


def _read_table(text: str, columns: int, make: Callable[[Floats, Floats], Geometry]) -> Geometry | None:
    """Read three lines with a cell, one with the number of atoms, and one for each; None if the file is damaged."""
    lines = text.splitlines()
    try:
        cell = np.array([line.split() for line in lines[:3]], dtype=np.float64)
        number = int(lines[3])
        table = np.array([line.split()[:columns] for line in lines[4 : 4 + number]], dtype=np.float64)
        if table.shape != (number, columns) or cell.shape[0] != 3 or not number:
            return None
        if not (np.abs(table).max() < FARTHEST_ANG and np.abs(cell).max() < FARTHEST_ANG):
            return None
        return make(cell, table)
    except (IndexError, ValueError):
        return None
