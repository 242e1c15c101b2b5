"""Text of one file of a run, whose numbers are read strictly: what is wrong is named with the file and the line."""

from __future__ import annotations

import math
import re
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from aiida_nanoml.errors import EvaluationError, FailureCode
from aiida_nanoml.text import quoted

_NUMBER = re.compile(r'([+-]?(?:\d{1,40}\.?\d{0,40}|\.\d{1,40}))(?:[eEdD]([+-]?\d{1,4})|([+-]\d{3}))?', re.ASCII)


def fortran_number(word: str) -> float | None:
    """Return the number that a word of Fortran stands for; infinity where it is too large.

    :returns: None for another word: NaN, infinity and fields full of asterisks are none. Fortran leaves out the letter
        before an exponent of three digits.
    """
    found = _NUMBER.fullmatch(word)
    return None if found is None else float(f'{found[1]}e{found[2] or found[3] or 0}')


@dataclass(frozen=True)
class RunText:
    """Text of a file.

    :param name: of the file, for messages.
    :param text: its content; empty for a file that is not there.
    """

    name: str
    text: str

    def place(self, position: int) -> str:
        """Return the file and the line of a position in the text."""
        return f'{self.name}, line {self.text.count(chr(10), 0, position) + 1}'

    def number(self, word: str, position: int, what: str, largest: float) -> float:
        """Read a number.

        :param word: as it is written.
        :param position: of the word in the text.
        :param what: what it is, for the message.
        :param largest: larger numbers of either sign are absurd.
        :raises EvaluationError: ``'engine_failure'``: no number, not finite, or absurd.
        """
        value = fortran_number(word)
        if value is None:
            reason = 'its field is too narrow for the number' if '*' in word else 'this is no finite number'
            raise EvaluationError(
                FailureCode.ENGINE_FAILURE, f'{self.place(position)}: {what} is {quoted(word)}: {reason}'
            )
        if not abs(value) <= largest:
            raise EvaluationError(
                FailureCode.ENGINE_FAILURE,
                f'{self.place(position)}: {what} is {quoted(word)}: beyond {largest:g} it is no result',
            )
        return value

    @cached_property
    def words(self) -> list[str]:
        """The words of the text."""
        return self.text.split()

    def position(self, index: int) -> int:
        """Return the position of a word, by its index in :attr:`words`."""
        return next(islice(_WORD.finditer(self.text), index, None)).start()

    def numbers(self, indices: Sequence[int], what: str, largest: float) -> NDArray[np.float64]:
        """Read many numbers.

        :param indices: N indices in :attr:`words`.
        :returns: (N,).
        :raises EvaluationError: as of :meth:`number`, for the first that is wrong.
        """
        words = [self.words[index] for index in indices]
        try:
            values = np.array(words, dtype=np.float64)
            # NumPy takes more than Fortran writes: digits of other scripts, and underscores between them.
            plain = (text := ''.join(words)).isascii() and '_' not in text
            if plain and (not words or np.abs(values).max() <= largest):
                return values
        except ValueError:
            pass
        values = np.array([math.nan if (value := fortran_number(word)) is None else value for word in words])
        wrong = np.flatnonzero(~(np.abs(values) <= largest))
        if len(wrong):
            index = int(wrong[0])
            self.number(words[index], self.position(indices[index]), what, largest)
        return values

    def last(self, pattern: str, what: str, largest: float) -> float | None:
        """Read the number of the last match of a pattern; None if there is no match.

        :param pattern: its first group is the number; ``^`` is the beginning of a line.
        :raises EvaluationError: as of :meth:`number`.
        """
        found = last_match(pattern, self.text)
        return None if found is None else self.number(found[1], found.start(1), what, largest)


def positive_numbers(pattern: re.Pattern[str], text: str) -> list[float]:
    """Return the numbers above 0 among what the group of a pattern finds."""
    values = (fortran_number(found[1]) for found in pattern.finditer(text))
    return [value for value in values if value is not None and value > 0]


def last_match(pattern: str, text: str) -> re.Match[str] | None:
    """Return the last match of a pattern in a text; ``^`` and ``$`` are the ends of a line."""
    literal = _literal_beginning(pattern)
    if literal:  # an output is long, and what is looked for stands near its end
        compiled = re.compile(pattern, re.MULTILINE)
        position = len(text)
        while position >= 0:
            position = text.rfind(literal, 0, position + len(literal) - 1) if position else -1
            if position >= 0 and (position == 0 or text[position - 1] == '\n'):
                found = compiled.match(text, position)
                if found is not None:
                    return found
        return None
    return next(iter(deque(re.finditer(pattern, text, re.MULTILINE), maxlen=1)), None)


@cache
def _literal_beginning(pattern: str) -> str:
    """Return the text with which each match of a pattern begins at the beginning of a line; empty if none is known."""
    plain = re.match(r'\^((?:[A-Za-z0-9:>, ]|\\[().*/{}\[\]])+)', pattern)
    if plain is None or '|' in pattern:
        return ''
    written = plain[1]
    if pattern[plain.end() : plain.end() + 1] in ('*', '+', '?', '{'):
        written = re.sub(r'\\?.$', '', written)
    return written.replace('\\', '')


_WORD = re.compile(r'\S+')
