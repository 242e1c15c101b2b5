"""Format of SIESTA's input, fdf: keys with values and units, and blocks of lines."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from aiida_nanoml.engines.siesta.parameters import canonical
from aiida_nanoml.errors import EngineError
from aiida_nanoml.units import BOHR_ANG, BOLTZMANN_EV_PER_K, HARTREE_EV, RYDBERG_EV

LENGTHS_ANG = {'ang': 1.0, 'bohr': BOHR_ANG, 'nm': 10.0, 'pm': 0.01, 'cm': 1e8, 'm': 1e10}
"""Units of length in Å, in lower case."""

ENERGIES_EV = {
    'ev': 1.0,
    'mev': 1e-3,
    'ry': RYDBERG_EV,
    'mry': RYDBERG_EV / 1e3,
    'hartree': HARTREE_EV,
    'ha': HARTREE_EV,
    'mha': HARTREE_EV / 1e3,
    'k': BOLTZMANN_EV_PER_K,
}
"""Units of energy in eV, in lower case; a temperature is an energy, too."""

_DIMENSIONS = ((LENGTHS_ANG, 'bohr'), (ENERGIES_EV, 'ry'))
"""Units of each dimension, and the one of a value without unit."""

_TOKEN = re.compile(
    r"""(?P<quote>["'`])(?P<text>.*?)(?:(?P=quote)|$)|(?P<comment>[#;!])|\[[^\]]*\]?|<|[\w$%&*+\-./@^|~]["'`\w$%&*+\-./@^|~]*"""
)
"""A token of a line, as the parser of SIESTA 4.1 and 5 cuts it (``Src/fdf/parse.F90``); all else separates tokens."""

_SEPARATORS = re.compile(r'[\s=:,]+')
_FORTRAN_NUMBER = re.compile(r'[+-]?(?:\d+\.?\d*|\.\d+)[dD][+-]?\d+', re.ASCII)
_LIST = re.compile(r'\[([^\]]*)\]?')
_DEEPEST = 20
"""Files within files; deeper ones include themselves."""

_TRUE = frozenset({'', 't', 'true', '.true.', 'yes', 'y'})


@dataclass(frozen=True)
class Fdf:
    """Content of an input, by canonical key (lower case, without ``-``, ``_`` and ``.``).

    The methods take a key in any spelling: ``fdf.get_quantity('Mesh.Cutoff', 'Ry', 300.0)``.

    :param values: value of each key as one text; ``''`` for a key that stands alone.
    :param blocks: lines of each block, without comments and empty lines.
    """

    values: Mapping[str, str]
    blocks: Mapping[str, tuple[str, ...]]

    @classmethod
    def from_keywords(cls, keywords: Mapping[str, Any]) -> Fdf:
        """Read the keywords of aiida-siesta, such as its inputs ``parameters`` and ``basis``.

        :param keywords: values by key; a block has a key with ``%block`` and a value that ends with its last line.
        """
        values, blocks = {}, {}
        for key, value in keywords.items():
            first, _, name = key.strip().partition(' ')
            if first.lower() == '%block':
                lines = (line.strip() for line in str(value).partition('%endblock')[0].splitlines())
                blocks[canonical(name.strip())] = tuple(line for line in lines if line)
            else:
                values[canonical(key)] = str(value)
        return cls(values, blocks)

    def __contains__(self, key: str) -> bool:
        """Return whether there is a value or a block of a key."""
        return canonical(key) in self.values or canonical(key) in self.blocks

    @overload
    def get(self, key: str) -> str | None: ...
    @overload
    def get(self, key: str, default: str) -> str: ...
    def get(self, key: str, default: str | None = None) -> str | None:
        """Return the value of a key as a text."""
        return self.values.get(canonical(key), default)

    def get_flag(self, key: str) -> bool:
        """Return whether a key is set to true; a key that stands alone is."""
        text = self.get(key)
        return text is not None and text.lower() in _TRUE

    @overload
    def get_number(self, *keys: str) -> float | None: ...
    @overload
    def get_number(self, *keys: str, default: float) -> float: ...
    def get_number(self, *keys: str, default: float | None = None) -> float | None:
        """Return the first number of a value; a whole number as an integer.

        :param keys: several keys with the same meaning; the first that the input has counts.
        :raises EngineError: the value begins with no number.
        """
        key = next((key for key in keys if self.get(key) is not None), None)
        if key is None:
            return default
        value = _first_number(self.get(key, ''))
        if value is None:
            raise EngineError(f'the value of {key} in the fdf input is no number: {self.get(key)!r}')
        return int(value) if value.is_integer() else value

    @overload
    def get_integer(self, key: str) -> int | None: ...
    @overload
    def get_integer(self, key: str, default: int) -> int: ...
    def get_integer(self, key: str, default: int | None = None) -> int | None:
        """Return the integer that a value begins with.

        :raises EngineError: there is none.
        """
        text = self.get(key)
        if text is None:
            return default
        try:
            return int(text.split(maxsplit=1)[0])
        except (ValueError, IndexError) as error:
            raise EngineError(f'the value of {key} in the fdf input is no integer: {text!r}') from error

    @overload
    def get_quantity(self, key: str, unit: str) -> float | None: ...
    @overload
    def get_quantity(self, key: str, unit: str, default: float) -> float: ...
    def get_quantity(self, key: str, unit: str, default: float | None = None) -> float | None:
        """Return a length or an energy.

        As in SIESTA, a value without unit is in bohr or Ry.

        :param unit: unit of the result and of the default, for example ``Ang`` or ``K``.
        :raises EngineError: the value begins with no number, or its unit is not known.
        """
        text = self.get(key)
        if text is None:
            return default
        scales, usual = next(one for one in _DIMENSIONS if unit.lower() in one[0])
        words = text.split()
        value = _first_number(text)
        given = words[1].lower() if len(words) > 1 else usual
        if value is None or given not in scales:
            raise EngineError(f'the value of {key} in the fdf input is not understood: {text!r}')
        return value * scales[given] / scales[unit.lower()]

    def get_list(self, key: str) -> list[float] | None:
        """Return the numbers of a list, ``[9 9 1]``; None if the value of the key is no list.

        :raises EngineError: the list holds something else.
        """
        match = _LIST.fullmatch((self.get(key) or '').strip())
        if match is None:
            return None
        words = [word for word in _SEPARATORS.split(match[1]) if word]
        numbers = read_numbers(match[1])
        if len(numbers) != len(words):
            raise EngineError(f'the list {key} in the fdf input is not understood: {match[0]!r}')
        return numbers

    def get_block(self, key: str) -> tuple[str, ...] | None:
        """Return the lines of a block."""
        return self.blocks.get(canonical(key))

    def get_table(self, key: str, columns: int) -> NDArray[np.float64]:
        """Return the numbers of a block; as SIESTA does, words between the numbers of a line are passed over.

        :param columns: numbers that are taken from each line.
        :returns: (lines, columns).
        :raises EngineError: there is no such block, or a line has fewer numbers.
        """
        lines = self.get_block(key)
        if lines is None:
            raise EngineError(f'the fdf input has no block {key}')
        rows = []
        for line in lines:
            numbers = read_numbers(line)
            if len(numbers) < columns:
                raise EngineError(f'a line of the block {key} has fewer than {columns} numbers: {line!r}')
            rows.append(numbers[:columns])
        return np.array(rows, dtype=np.float64).reshape(-1, columns)


def read_fdf(text: str, read: Callable[[str], str | None] | None = None) -> Fdf:
    """Read an input.

    As SIESTA does, the first of several lines with one key counts, ``%include`` puts a file in, ``key < file`` takes
    the value or block of a key from a file, and ``%block key < file`` takes the lines of a block from a file. A ``<``
    counts anywhere but within quotes.

    :param text: content of the file.
    :param read: returns the text of another file by the name that the input gives, None if there is no such file. With
        it, the input is that of a finished run, and a ``%`` that SIESTA passes over is no mistake.
    :raises EngineError: a block that does not end, or input in a file that is not there.
    """
    reader = _Reader(read)
    reader.take(text, 'the fdf input', frozenset(), 0)
    return Fdf(reader.values, reader.blocks)


class _Reader:
    """Collect values and blocks of an input and of the files that it names."""

    def __init__(self, read: Callable[[str], str | None] | None) -> None:
        self._read = read
        self.values: dict[str, str] = {}
        self.blocks: dict[str, tuple[str, ...]] = {}

    def take(self, text: str, name: str, wanted: frozenset[str], depth: int) -> set[str]:
        """Take the lines of a file.

        :param wanted: keys that are taken; empty: all.
        :returns: the keys that the file has among these.
        """
        found: set[str] = set()
        lines = iter(enumerate(text.splitlines(), start=1))
        for number, raw in lines:
            tokens = _tokens(raw)
            if not tokens:
                continue
            place = f'line {number} of {name}'
            first = tokens[0].lower()
            if first == '%block':
                found |= self._take_block(tokens, raw, lines, place, wanted, depth)
            elif first == '%include':
                content = self._open(tokens[1:2], raw, place, depth)
                found |= self.take(content, tokens[1], wanted, depth + 1)
            elif first == '%endblock' or (first.startswith('%') and self._read is None):
                raise EngineError(f'{place} is not understood: {raw.strip()!r}')
            elif '<' in tokens and not self._is_title(tokens):
                found |= self._redirect(tokens, raw, place, wanted, depth)
            else:
                key = canonical(tokens[0])
                if not wanted or key in wanted:
                    self.values.setdefault(key, ' '.join(tokens[1:]))
                    found.add(key)
        return found

    def _take_block(
        self,
        tokens: list[str],
        raw: str,
        lines: Iterator[tuple[int, str]],
        place: str,
        wanted: frozenset[str],
        depth: int,
    ) -> set[str]:
        if len(tokens) < 2 or tokens[1] == '<' or ('<' in tokens and tokens.index('<') != 2):
            raise EngineError(f'{place} is not understood: {raw.strip()!r}')
        label, key = tokens[1], canonical(tokens[1])
        if '<' in tokens:
            content = self._open(tokens[3:4], raw, place, depth)
            body = self._read_body(iter(enumerate(content.splitlines(), start=1)), label, tokens[3], depth, whole=True)
        else:
            body = self._read_body(lines, label, place, depth, whole=False)
        if wanted and key not in wanted:
            return set()
        self.blocks.setdefault(key, tuple(body))
        return {key}

    def _read_body(
        self, lines: Iterator[tuple[int, str]], label: str, place: str, depth: int, *, whole: bool
    ) -> list[str]:
        """Return the lines of a block up to its end.

        :param whole: the lines are a file, whose end is that of the block; it may repeat the head of the block.
        """
        body: list[str] = []
        for _, raw in lines:
            bare = _without_comment(raw)
            words = bare.split(maxsplit=2)
            first = words[0].lower() if words else ''
            if first == '%endblock':
                return body
            if first == '%include':
                content = self._open(_tokens(raw)[1:2], raw, place, depth)
                inner = iter(enumerate(content.splitlines(), start=1))
                body += self._read_body(inner, label, words[1], depth + 1, whole=True)
            elif first == '%block' and whole and len(words) > 1 and canonical(words[1]) == canonical(label):
                body.clear()
            elif first:
                body.append(bare)
        if not whole:
            raise EngineError(
                f'the block {label!r} of the fdf input, {place.removesuffix(" of the fdf input")}, does not end'
            )
        return body

    def _redirect(self, tokens: list[str], raw: str, place: str, wanted: frozenset[str], depth: int) -> set[str]:
        position = tokens.index('<')
        if position == 0:
            raise EngineError(f'{place} is not understood: {raw.strip()!r}')
        keys = {canonical(token): token for token in tokens[:position]}
        asked = frozenset(keys) & wanted if wanted else frozenset(keys)
        if not asked:
            return set()
        content = self._open(tokens[position + 1 : position + 2], raw, place, depth)
        found = self.take(content, tokens[position + 1], asked, depth + 1)
        if missing := sorted(keys[key] for key in asked - found):
            raise EngineError(f'{place} takes {missing[0]} from {tokens[position + 1]}, which does not have it')
        return found

    def _is_title(self, tokens: list[str]) -> bool:
        """Return whether a line is a title with ``<`` in it: it decides about nothing, and names no file."""
        if canonical(tokens[0]) != 'systemname':
            return False
        file = tokens[tokens.index('<') + 1 :][:1]
        return not file or self._read is None or self._read(file[0]) is None

    def _open(self, name: list[str], raw: str, place: str, depth: int) -> str:
        if not name:
            raise EngineError(f'{place} names no file: {raw.strip()!r}')
        if self._read is None:
            raise EngineError(f'{place} refers to another file: {raw.strip()!r}; put it into one file')
        if depth >= _DEEPEST:
            raise EngineError(f'{place} refers to {name[0]}: files that include each other without an end')
        content = self._read(name[0])
        if content is None:
            raise EngineError(f'{place} refers to {name[0]}, which is not there: {raw.strip()!r}')
        return content


def read_numbers(line: str) -> list[float]:
    """Return the numbers of a line; words between them are passed over."""
    return [number for number in map(_float, _SEPARATORS.split(line)) if number is not None]


def _tokens(line: str) -> list[str]:
    """Return the tokens of a line, without its comment."""
    tokens = []
    for match in _TOKEN.finditer(line):
        if match['comment']:
            break
        tokens.append(match['text'] if match['quote'] else match[0])
    return tokens


def _without_comment(line: str) -> str:
    """Return a line without its comment."""
    if not any(mark in line for mark in '#;!'):
        return line.strip()
    comment = next((match for match in _TOKEN.finditer(line) if match['comment']), None)
    return (line if comment is None else line[: comment.start()]).strip()


def _first_number(text: str) -> float | None:
    words = text.split(maxsplit=1)
    return _float(words[0]) if words else None


def _float(word: str) -> float | None:
    try:
        value = float(word)
    except ValueError:
        if not _FORTRAN_NUMBER.fullmatch(word):
            return None
        value = float(re.sub('[dD]', 'e', word))
    return value if math.isfinite(value) else None
