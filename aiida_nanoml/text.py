"""Texts for people: numbers with their nouns, and aligned tables."""

from __future__ import annotations

from collections.abc import Sequence


def counted(number: int, what: str) -> str:
    """Put a number before a noun, with a plural s where there is not one."""
    return f'{number} {what}' if number == 1 else f'{number} {what}s'


def aligned(rows: Sequence[Sequence[object]], indent: str = '') -> str:
    """Align the columns of a table.

    :param indent: before each row.
    """
    texts = [[str(cell) for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in texts) for column in range(max(map(len, texts), default=0))]
    padded = ([cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in texts)
    return '\n'.join((indent + '  '.join(row)).rstrip() for row in padded)
