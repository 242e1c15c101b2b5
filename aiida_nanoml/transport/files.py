"""Reader and writer of the text file of a transmission, and writer of the table of its result.

The input names each number: ``Effective_mass`` (m0), ``Nb``, ``Nx``, ``nxl``, ``nxr``, ``d1``, ``d2`` (nm),
``N_energies``, ``E_min``, ``E_max`` (eV), in this order, then ``BLOCK Potential``, Nx values in eV, and
``END_BLOCK Potential``. Words are separated by blanks or line ends, ``#`` begins a comment.

- ``Nb`` cosines; ``Nx`` equal cells, on each of which the potential has one value.
- ``nxl``, ``nxr``: cells at the left and right end whose mean is the potential of the lead; with 0 or 1, the first and
  the last cell.
- ``d1``, ``d2``: ends of the region, of the length d2 - d1, when d1 <= 0 < d2; the lengths on both sides of its origin,
  d1 + d2 together, when both are positive.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np

from aiida_nanoml.errors import TransportError
from aiida_nanoml.text import quoted
from aiida_nanoml.transport.potential import ENERGIES, LENGTHS, MASSES, MOST_CELLS, Floats, Potential
from aiida_nanoml.transport.settings import MOST_COSINES, MOST_ENERGIES

EXAMPLE = Path(__file__).with_name('barrier.txt')
"""An example of such a file: a barrier of 100 nm and 0.1 eV for electrons of 0.023 m0."""

LARGEST_FILE = 64 * 2**20
"""Files beyond this size (bytes) are not read."""

BLOCK = 'Potential'

_NAMES = ('Effective_mass', 'Nb', 'Nx', 'nxl', 'nxr', 'd1', 'd2', 'N_energies', 'E_min', 'E_max')
_COUNTS = {
    'Nb': (2, MOST_COSINES),
    'Nx': (1, MOST_CELLS),
    'nxl': (0, MOST_CELLS),
    'nxr': (0, MOST_CELLS),
    'N_energies': (1, MOST_ENERGIES),
}
_BOUNDS = {
    'Effective_mass': MASSES,
    'd1': (-LENGTHS[1], LENGTHS[1]),
    'd2': (-LENGTHS[1], LENGTHS[1]),
    'E_min': ENERGIES,
    'E_max': ENERGIES,
    'V': ENERGIES,
}
_NUMBER = re.compile(r'[+-]?(\d+\.?\d*|\.\d+)([eEdD][+-]?\d{1,4})?', re.ASCII)
_COUNT = re.compile(r'\+?\d{1,9}', re.ASCII)


@dataclass(frozen=True, eq=False)
class TransmissionInput:
    """Content of an input file.

    :param values: (Nx,) potential in eV.
    :param mass: effective mass in m0.
    :param n_basis: number of cosines.
    :param n_left: cells whose mean is the left lead.
    :param n_right: cells whose mean is the right lead.
    :param d1: in nm.
    :param d2: in nm.
    :param n_energies: number of energies, evenly spaced.
    :param lowest: first energy in eV.
    :param highest: last energy in eV.
    :param name: of the potential.
    """

    values: Floats
    mass: float
    n_basis: int
    n_left: int
    n_right: int
    d1: float
    d2: float
    n_energies: int
    lowest: float
    highest: float
    name: str = ''

    @property
    def length(self) -> float:
        """Length of the region in nm."""
        return self.d2 - self.d1 if self.d1 <= 0 else self.d1 + self.d2

    @property
    def potential(self) -> Potential:
        """The potential and its leads."""
        left = float(self.values[: max(1, self.n_left)].mean())
        right = float(self.values[-max(1, self.n_right) :].mean())
        return Potential(self.values, self.length, self.mass, left, right, name=self.name)

    @property
    def settings(self) -> dict[str, float]:
        """Energies and basis, as :class:`~aiida_nanoml.transport.settings.TransmissionSettings` takes them."""
        return {
            'lowest': self.lowest,
            'highest': self.highest,
            'n_energies': self.n_energies,
            'n_basis': self.n_basis,
        }

    @property
    def energies(self) -> Floats:
        """(n_energies,) in eV."""
        return np.linspace(self.lowest, self.highest, self.n_energies)


def read_input(path: Path | str) -> TransmissionInput:
    """Read an input file.

    :raises TransportError: the file cannot be read, or a word in it cannot be used; it names the line and the word.
    """
    path = Path(path)
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise TransportError(f'{path} is larger than {LARGEST_FILE // 2**20} MB: this is no input file')
        content = path.read_bytes()
    except OSError as error:
        raise TransportError(f'{path} cannot be read: {error.strerror or error}') from error
    return parse_input(content, path.name)


def parse_input(content: bytes, name: str = 'input') -> TransmissionInput:
    """Read the content of an input file.

    :param name: what to call the file in errors, and the potential.
    :raises TransportError: as of :func:`read_input`.
    """
    words = _Words(content, name)
    numbers = {key: words.number(key) for key in _NAMES}
    found = {key: value for key, (value, _) in numbers.items()}
    lines = {key: line for key, (_, line) in numbers.items()}
    n_cells = int(found['Nx'])
    if found['nxl'] + found['nxr'] > n_cells:
        words.fail(
            lines['nxr'], f'nxl + nxr is {int(found["nxl"] + found["nxr"])}, more than the {n_cells} cells of Nx'
        )
    if not (found['d1'] <= 0 < found['d2'] or (found['d1'] > 0 and found['d2'] > 0)):
        words.fail(
            lines['d2'],
            f'd1 = {found["d1"]:g} and d2 = {found["d2"]:g} are no region: either d1 <= 0 < d2 (length d2 - d1), or '
            'both positive (length d1 + d2)',
        )
    n_energies = int(found['N_energies'])
    if n_energies == 1 and found['E_min'] != found['E_max']:
        words.fail(lines['E_max'], 'N_energies is 1, so that E_min and E_max must be equal')
    if n_energies > 1 and not found['E_min'] < found['E_max']:
        words.fail(lines['E_max'], f'E_max = {found["E_max"]:g} must be above E_min = {found["E_min"]:g}')
    values = words.block(n_cells)
    words.end()
    made = TransmissionInput(
        values=values,
        mass=found['Effective_mass'],
        n_basis=int(found['Nb']),
        n_left=int(found['nxl']),
        n_right=int(found['nxr']),
        d1=found['d1'],
        d2=found['d2'],
        n_energies=n_energies,
        lowest=found['E_min'],
        highest=found['E_max'],
        name=Path(name).stem,
    )
    try:
        _ = made.potential
    except TransportError as error:
        raise TransportError(f'{name}: {error}') from error
    return made


def input_of(potential: Potential, n_basis: int, n_energies: int, lowest: float, highest: float) -> TransmissionInput:
    """Make the content of an input file of a potential.

    The file has no leads but those that continue its first and last cell: where they differ, a cell is added to both
    ends, which changes no transmission.

    :raises TransportError: the effective mass is not the same everywhere, which the file cannot say.
    """
    if not potential.has_one_mass:
        raise TransportError('the file has one effective mass, this potential has several: keep it as a node instead')
    cell = potential.length / len(potential)
    values, length = potential.values, potential.length
    if potential.left != values[0] or potential.right != values[-1]:
        values = np.concatenate([[potential.left], values, [potential.right]])
        length = cell * len(values)
    return TransmissionInput(
        values, potential.left_mass, n_basis, 1, 1, 0.0, length, n_energies, lowest, highest, potential.name
    )


def format_input(content: TransmissionInput) -> str:
    """Return the text of an input file; read again, it gives the same numbers."""
    numbers = (
        content.mass, content.n_basis, len(content.values), content.n_left, content.n_right, content.d1, content.d2,
        content.n_energies, content.lowest, content.highest,
    )  # fmt: skip
    lines = [f'{name} {number!r}' for name, number in zip(_NAMES, numbers, strict=True)]
    values = [repr(value) for value in content.values.tolist()]
    return '\n'.join([*lines, f'BLOCK {BLOCK}', *values, f'END_BLOCK {BLOCK}', ''])


def write_text(path: Path, text: str) -> None:
    """Write a file in one step: it is either whole or as it was before."""
    partial = path.with_name(f'.{path.name}.partial')
    partial.write_text(text, encoding='utf-8')
    os.replace(partial, path)


def format_transmission(energies: Floats, transmission: Floats, comments: Sequence[str]) -> str:
    """Return a table of two columns, energy in eV and transmission, below lines that begin with ``#``.

    :param energies: (n,) in eV.
    :param transmission: (n,).
    :param comments: texts to stand above; each of their lines becomes a comment.
    """
    lines = [f'# {line}' for comment in comments for line in comment.splitlines()]
    rows = zip(energies.tolist(), transmission.tolist(), strict=True)
    return '\n'.join([*lines, '# E (eV)  T', *(f'{energy:.15g} {value:.15e}' for energy, value in rows), ''])


class _Words:
    """The words of a file, each with its line."""

    def __init__(self, content: bytes, name: str) -> None:
        self._name = name
        try:
            text = content.decode('utf-8')
        except UnicodeDecodeError as error:
            line = content.count(b'\n', 0, error.start) + 1
            self.fail(line, f'byte {content[error.start]:#04x} is no text')
        self._words = self._split(text)
        self._last = text.count('\n') + (not text.endswith('\n'))

    @staticmethod
    def _split(text: str) -> Iterator[tuple[str, int]]:
        for number, line in enumerate(text.split('\n'), start=1):
            for word in line.partition('#')[0].split():
                yield word, number

    def fail(self, line: int, reason: str) -> NoReturn:
        """Raise the error of a line."""
        raise TransportError(f'{self._name}, line {line}: {reason}')

    def _next(self, expected: str) -> tuple[str, int]:
        word, line = next(self._words, ('', 0))
        if not line:
            self.fail(self._last, f'the file ends where {expected} is expected')
        return word, line

    def _keyword(self, expected: str) -> None:
        word, line = self._next(expected)
        if word != expected:
            self.fail(line, f'{quoted(word)} found where {expected} is expected')

    def number(self, name: str) -> tuple[float, int]:
        """Read a name and its number; return the number and its line."""
        self._keyword(name)
        word, line = self._next(f'the value of {name}')
        if name not in _COUNTS:
            return self._value(name, word, line), line
        low, high = _COUNTS[name]
        if not _COUNT.fullmatch(word) or not low <= int(word) <= high:
            self.fail(line, f'{name} is {quoted(word)}: it must be a whole number from {low} to {high}')
        return int(word), line

    def _value(self, name: str, word: str, line: int) -> float:
        low, high = _BOUNDS[name]
        if not _NUMBER.fullmatch(word):
            self.fail(line, f'{name} is {quoted(word)}: this is no number')
        value = float(word.replace('d', 'e').replace('D', 'e'))
        if not low <= value <= high:
            self.fail(line, f'{name} is {quoted(word)}: it must be from {low:g} to {high:g}')
        return value

    def block(self, n_cells: int) -> Floats:
        """Read the block of the potential."""
        self._keyword('BLOCK')
        self._keyword(BLOCK)
        values = []
        for count in range(n_cells):
            word, line = self._next(f'value {count + 1} of the {n_cells} of the potential (Nx)')
            if word == 'END_BLOCK':
                self.fail(line, f'the block ends after {count} values, Nx is {n_cells}')
            values.append(self._value('V', word, line))
        word, line = self._next('END_BLOCK')
        if word != 'END_BLOCK':
            self.fail(
                line,
                f'{quoted(word)} found where END_BLOCK is expected: the block has more than Nx = {n_cells} values',
            )
        self._keyword(BLOCK)
        return np.array(values)

    def end(self) -> None:
        """Check that nothing follows the block."""
        word, line = next(self._words, ('', 0))
        if line:
            self.fail(line, f'{quoted(word)} found after the end of the block')
