"""Tables of numbers in text files, as programs and spreadsheets write them.

Numbers stand between white space, semicolons or commas; a decimal comma is understood where commas are no separators,
and so are exponents of Fortran (``1.0D-3``). A byte order mark, comments after ``#`` and one line of headings are left
out.
"""

from __future__ import annotations

import codecs
import csv
import math
import re

from aiida_nanoml.errors import NanomlError
from aiida_nanoml.text import quoted

_NUMBER = re.compile(r'[+-]?(\d+\.?\d*|\.\d+)([eEdD][+-]?\d{1,4})?', re.ASCII)
_WITH_COMMA = re.compile(r'[+-]?\d*,\d+([eEdD][+-]?\d{1,4})?', re.ASCII)
_NOT_FINITE = re.compile(r'[+-]?(nan|inf|infinity)', re.ASCII | re.IGNORECASE)
_MARKS = ((codecs.BOM_UTF8, 'utf-8-sig'), (codecs.BOM_UTF16_LE, 'utf-16'), (codecs.BOM_UTF16_BE, 'utf-16'))

Line = tuple[int, str]
"""Number of a line, counted from 1, and what it holds beside a comment."""


def read_numbers(content: bytes, name: str, error: type[NanomlError]) -> list[tuple[int, list[float]]]:
    """Read the numbers of each line that holds some.

    :param content: of the file.
    :param name: what to call the file in an error.
    :param error: what is raised.
    :returns: number of the line and its numbers.
    :raises NanomlError: of the type ``error``, with the line: no text, no numbers, or one that is not finite.
    """
    lines = [(number, line) for number, line in _lines(content, name, error) if line]
    if lines and _is_heading(lines[0][1]):
        lines = lines[1:]
    separator, has_decimal_comma = _find_layout([line for _, line in lines])
    rows = []
    for number, line in lines:
        try:
            words = _split(line, separator)
        except csv.Error as fault:
            raise error(f'{name}, line {number}: {fault}') from fault
        rows.append((number, [_read(word, has_decimal_comma, f'{name}, line {number}', error) for word in words]))
    if not rows:
        raise error(f'{name} holds no numbers')
    return rows


def _lines(content: bytes, name: str, error: type[NanomlError]) -> list[Line]:
    encoding = next((encoding for mark, encoding in _MARKS if content.startswith(mark)), 'utf-8')
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as fault:
        raise error(f'{name} cannot be read as text: {fault}') from fault
    return [(number, line.partition('#')[0].strip()) for number, line in enumerate(text.splitlines(), start=1)]


def _is_heading(line: str) -> bool:
    """Return whether no word of a line is a number, however words are separated."""
    words = (_plain(word, has_decimal_comma=False) for word in re.split(r'[\s;,"]+', line) if word)
    return not any(_NUMBER.fullmatch(word) or _NOT_FINITE.fullmatch(word) for word in words)


def _find_layout(texts: list[str]) -> tuple[str | None, bool]:
    """Return the separator, None for white space, and whether numbers have a decimal comma."""
    has_comma = any(',' in text for text in texts)
    if any(';' in text for text in texts):
        return ';', has_comma
    if not has_comma:
        return None, False
    words = [word for text in texts for word in text.split()]
    if all(_WITH_COMMA.fullmatch(word) or _NUMBER.fullmatch(word) for word in words) and '.' not in ''.join(texts):
        return None, True
    return ',', False


def _split(line: str, separator: str | None) -> list[str]:
    if separator is None:
        return line.split()
    words = [word.strip() for word in next(csv.reader([line], delimiter=separator, skipinitialspace=True))]
    return words[:-1] if len(words) > 1 and not words[-1] else words


def _looks_like_number(word: str, has_decimal_comma: bool) -> bool:
    return bool(_NUMBER.fullmatch(_plain(word, has_decimal_comma)) or _NOT_FINITE.fullmatch(word))


def _plain(word: str, has_decimal_comma: bool) -> str:
    word = word.replace('\N{MINUS SIGN}', '-')
    return word.replace(',', '.') if has_decimal_comma and '.' not in word else word


def _read(word: str, has_decimal_comma: bool, place: str, error: type[NanomlError]) -> float:
    plain = _plain(word, has_decimal_comma)
    if not _looks_like_number(word, has_decimal_comma):
        raise error(f'{place}: {quoted(word)} is not a number' if word else f'{place}: a cell is empty')
    value = float(plain.replace('d', 'e').replace('D', 'e')) if _NUMBER.fullmatch(plain) else math.nan
    if not math.isfinite(value):
        raise error(f'{place}: {quoted(word)} is not finite')
    return value
