"""Format of SIESTA's input, fdf: keys with values and units, and blocks of lines."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
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

_COMMENT = re.compile(r'[#;!].*')
_SEPARATORS = re.compile(r'[\s=:,]+')
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
            numbers = [number for number in map(_float, _SEPARATORS.split(line)) if number is not None]
            if len(numbers) < columns:
                raise EngineError(f'a line of the block {key} has fewer than {columns} numbers: {line!r}')
            rows.append(numbers[:columns])
        return np.array(rows, dtype=np.float64).reshape(-1, columns)


def read_fdf(text: str) -> Fdf:
    """Read an input.

    As SIESTA does, the first of several lines with one key counts.

    :param text: content of the file.
    :raises EngineError: a block that does not end, or input that is elsewhere (``%include``, ``<``).
    """
    values: dict[str, str] = {}
    blocks: dict[str, tuple[str, ...]] = {}
    lines = iter(enumerate(text.splitlines(), start=1))
    for number, raw in lines:
        line = _COMMENT.sub('', raw).strip()
        if not line:
            continue
        if '<' in line or line.lower().startswith('%include'):
            raise EngineError(f'line {number} of the fdf input refers to another file: {line!r}; put it into one file')
        if not line.startswith('%'):
            key, _, value = _SEPARATORS.sub(' ', line).partition(' ')
            values.setdefault(canonical(key), value.strip().strip('"\'`'))
            continue
        words = line.split()
        if words[0].lower() != '%block' or len(words) != 2:
            raise EngineError(f'line {number} of the fdf input is not understood: {line!r}')
        content = []
        for _, inner in lines:
            bare = _COMMENT.sub('', inner).strip()
            if bare.lower().startswith('%endblock'):
                break
            if bare:
                content.append(bare)
        else:
            raise EngineError(f'the block {words[1]!r} of the fdf input, line {number}, does not end')
        blocks.setdefault(canonical(words[1]), tuple(content))
    return Fdf(values, blocks)


def _first_number(text: str) -> float | None:
    words = text.split(maxsplit=1)
    return _float(words[0]) if words else None


def _float(word: str) -> float | None:
    try:
        value = float(re.sub('[dD]', 'e', word))
    except ValueError:
        return None
    return value if math.isfinite(value) else None
