"""Texts for people: numbers with their nouns, lists in sentences, and aligned tables."""

from __future__ import annotations

import html
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

ROWS_SHOWN = 8
"""Rows of a set that a notebook shows."""

DEEPEST_JSON = 100
"""JSON that is nested deeper than this is no file of this package, and would exhaust the stack of what reads on."""


def counted(number: int, what: str, plural: str = '') -> str:
    """Return a number with its noun.

    :param what: the noun in the singular.
    :param plural: its plural; empty: the singular with an s.
    """
    return f'{number} {what if number == 1 else plural or f"{what}s"}'


def agree(number: int, singular: str, plural: str) -> str:
    """Return the form of a word that agrees with a number, such as ``is`` or ``are``."""
    return singular if number == 1 else plural


def first_of(names: Sequence[str], most: int) -> str:
    """Join names with commas; of more than ``most`` the first ones, and how many more there are."""
    listed = ', '.join(names[:most])
    return listed if len(names) <= most else f'{listed} and {len(names) - most} more'


def capitalised(text: str) -> str:
    """Return a text with its first letter in upper case and all others as they are."""
    return text[:1].upper() + text[1:]


def duration(seconds: float) -> str:
    """Return a time span in the largest unit of which there are two or more."""
    for unit, size in (('d', 86400.0), ('h', 3600.0), ('min', 60.0)):
        if seconds >= 2 * size:
            return f'{seconds / size:.1f} {unit}'
    return f'{seconds:.0f} s'


def aligned(rows: Sequence[Sequence[object]], indent: str = '') -> str:
    """Align the columns of a table.

    :param indent: before each row.
    """
    texts = [[str(cell) for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in texts) for column in range(max(map(len, texts), default=0))]
    padded = ([cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in texts)
    return '\n'.join((indent + '  '.join(row)).rstrip() for row in padded)


def quoted(word: str, most: int = 40) -> str:
    """Quote a word of a file for a message, without what a terminal would obey.

    :param most: longer words are cut to so many characters.
    """
    return repr(word if len(word) <= most else f'{word[: most - 3]}...')


def parse_json(content: str | bytes) -> Any:
    """Read JSON from anywhere.

    :raises ValueError: it is no JSON, or nested deeper than :data:`DEEPEST_JSON`.
    """
    try:
        value = json.loads(content)
    except RecursionError:
        raise ValueError(f'JSON is nested deeper than {DEEPEST_JSON} levels') from None
    for depth, _ in enumerate(_levels(value)):
        if depth >= DEEPEST_JSON:
            raise ValueError(f'JSON is nested deeper than {DEEPEST_JSON} levels')
    return value


def parse_finite_json(content: str | bytes) -> Any:
    """Read JSON whose numbers are all finite.

    :raises ValueError: as of :func:`parse_json`, or a number is not finite.
    """
    value = parse_json(content)
    for level in _levels(value):
        for one in level:
            if isinstance(one, float) and not math.isfinite(one):
                raise ValueError(f'{one} is no finite number')
    return value


def _levels(value: Any) -> Iterator[list[Any]]:
    """Return the values of a JSON document that are nested equally deep, level by level."""
    level = [value]
    while level:
        yield level
        nested = [one.values() if isinstance(one, dict) else one for one in level if isinstance(one, dict | list)]
        level = [inner for items in nested for inner in items]


def html_table(caption: str, headings: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Write a table for a notebook; what is in the cells is shown as it is, not read as HTML.

    :param caption: one line above the table.
    :param headings: one for each column.
    :param rows: cells of each row; a cell with a method ``_repr_html_`` is drawn by it.
    """
    head = ''.join(f'<th>{html.escape(heading)}</th>' for heading in headings)
    body = ''.join(f'<tr>{"".join(f"<td>{_html_cell(cell)}</td>" for cell in row)}</tr>' for row in rows)
    return f'<table><caption>{html.escape(caption)}</caption><tr>{head}</tr>{body}</table>'


def _html_cell(cell: object) -> str:
    drawn = getattr(cell, '_repr_html_', None)
    return str(drawn()) if drawn is not None else html.escape(f'{cell:.3f}' if isinstance(cell, float) else str(cell))
