"""Variables of a run as ABINIT echoes them in its main output, before and after the computation."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from aiida_nanoml.engines.run_text import RunText
from aiida_nanoml.errors import EvaluationError, FailureCode

LARGEST_VALUE = 1e12

BEFORE = ' -outvars: echo values of preprocessed input variables'
AFTER = ' -outvars: echo values of variables after computation'

_FIRST = re.compile(r'[-P ] {0,30}([a-z][a-z0-9_]{0,40}(?:[?:*+][0-9?]?)?[0-9?]{0,4}) {1,40}(\S.{0,400})')
_FURTHER = re.compile(r'[-P ] {15,40}(\S.{0,400})')
_UNITS = frozenset({'Bohr', 'Hartree', 'Ha', 'eV', 'Ry', 'K', 'S', 'Angstrom', 'Hartree/Bohr'})


@dataclass(frozen=True)
class Variables:
    """The variables of an echo.

    :param output: the text in which they are, for messages.
    :param values: words and position by the name, with the number of the data set where there are several.
    """

    output: RunText
    values: dict[str, tuple[list[str], int]] = field(default_factory=dict)

    def find(self, name: str, data_set: int) -> tuple[list[str], int] | None:
        """Return words and position of a variable of a data set; None if it is not echoed."""
        tens, ones = divmod(data_set, 10)
        for key in (f'{name}{data_set}', f'{name}?{ones}', f'{name}{tens}?', name):
            if key in self.values:
                return self.values[key]
        return None

    def words(self, name: str, data_set: int) -> list[str] | None:
        """Return the words of a variable of a data set, without its unit."""
        found = self.find(name, data_set)
        return None if found is None else [word for word in found[0] if word not in _UNITS]

    def numbers(self, name: str, data_set: int, count: int | None = None) -> NDArray[np.float64] | None:
        """Return the numbers of a variable of a data set; None if it is not echoed.

        :param count: how many there have to be.
        :raises EvaluationError: a word is no number, or their count is another one.
        """
        found, words = self.find(name, data_set), self.words(name, data_set)
        if found is None or words is None:
            return None
        if count is not None and len(words) != count:
            raise EvaluationError(
                FailureCode.ENGINE_FAILURE,
                f'{self.output.place(found[1])}: {name} has {len(words)} values, {count} are expected',
            )
        return np.array([self.output.number(word, found[1], name, LARGEST_VALUE) for word in words])

    def number(self, name: str, data_set: int, default: float | None = None) -> float | None:
        """Return the number of a variable of a data set."""
        values = self.numbers(name, data_set, 1)
        return default if values is None else float(values[0])

    def integers(self, name: str, data_set: int, count: int | None = None) -> list[int] | None:
        """Return the whole numbers of a variable of a data set.

        :raises EvaluationError: one is no whole number.
        """
        values = self.numbers(name, data_set, count)
        if values is None:
            return None
        if not (values == np.round(values)).all():
            raise EvaluationError(FailureCode.ENGINE_FAILURE, f'{self.output.name}: {name} is no whole number')
        return [int(value) for value in values]

    def integer(self, name: str, data_set: int, default: int) -> int:
        """Return the whole number of a variable of a data set."""
        values = self.integers(name, data_set, 1)
        return default if values is None else values[0]

    def names(self, data_set: int) -> list[str]:
        """Return the names of the variables that concern a data set, each once."""
        tens, ones = divmod(data_set, 10)
        endings = {'', str(data_set), f'?{ones}', f'{tens}?'}
        names = ((key, key.rstrip('0123456789?')) for key in self.values)
        return sorted({name for key, name in names if key[len(name) :] in endings})


def read_echo(output: RunText, mark: str) -> Variables | None:
    """Read an echo of variables; None if the output does not hold it.

    :param mark: :data:`BEFORE` or :data:`AFTER`; the last occurrence counts.
    """
    start = output.text.rfind(mark)
    if start < 0:
        return None
    values: dict[str, tuple[list[str], int]] = {}
    current: list[str] = []
    position = output.text.find('\n', start) + 1
    while 0 < position < len(output.text):
        end = output.text.find('\n', position)
        line = output.text[position : end if end >= 0 else len(output.text)]
        if line.startswith('====='):
            break
        # A line that goes on has its words further to the right than any name ends.
        if (further := _FURTHER.fullmatch(line.rstrip())) and not re.match(r'[a-z]', further[1]):
            current.extend(further[1].split())
            position = end + 1
            continue
        if (first := _FIRST.fullmatch(line.rstrip())) and not first[1].startswith('outvar'):
            current = first[2].split()
            values.setdefault(first[1], (current, position))
        else:
            current = []
        position = end + 1
    return Variables(output, values)
