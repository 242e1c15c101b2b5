"""Journal of a job: one line for each finished row, so that a killed job loses at most the rows in flight."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import TracebackType
from typing import Any

from aiida_nanoml.errors import DatasetError
from aiida_nanoml.text import parse_json


def read_journal(path: Path) -> tuple[dict[str, Any] | None, dict[int, dict[str, Any]], int]:
    """Read what a job has finished so far.

    :param path: the file; a truncated last line, left by a killed job, is dropped.
    :returns: the header (None when there is none), the entries by row, and the number of bytes that are whole.
    """
    header: dict[str, Any] | None = None
    rows: dict[int, dict[str, Any]] = {}
    whole = 0
    for line in path.read_bytes().splitlines(keepends=True) if path.exists() else ():
        if not line.endswith(b'\n'):
            break
        try:
            entry = parse_json(line)
            if header is None:
                header = dict(entry['header'])
            else:
                rows[int(entry['row'])] = entry
        except (ValueError, KeyError, TypeError, OverflowError):
            break
        whole += len(line)
    return header, rows, whole


class Journal:
    """Finished rows of a job, appended and flushed to disk one by one.

    :param path: the file; what it holds already is kept.
    :param header: what all rows have in common; it must agree with what the file says.
    :raises DatasetError: the file belongs to a job with another header.
    """

    def __init__(self, path: Path, header: dict[str, Any]) -> None:
        found, self.rows, whole = read_journal(path)
        if found is not None and found != json.loads(json.dumps(header)):
            raise DatasetError(f'{path.name} was begun with {found}, this job has {header}: start in a fresh folder')
        self._handle = path.open('r+b' if path.exists() else 'w+b')
        self._handle.truncate(whole)
        self._handle.seek(whole)
        if found is None:
            self._write({'header': header})

    def append(self, entry: dict[str, Any]) -> None:
        """Add the result of one row, on disk when this returns.

        :param entry: JSON-able, with the integer ``row``.
        """
        self._write(entry)
        self.rows[int(entry['row'])] = entry

    def _write(self, line: dict[str, Any]) -> None:
        self._handle.write(json.dumps(line).encode() + b'\n')
        self._handle.flush()
        os.fsync(self._handle.fileno())

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._handle.close()
