"""Compressed files, unpacked within bounds."""

from __future__ import annotations

import bz2
import gzip
import lzma
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO

from aiida_nanoml.errors import StructureError

COMPRESSIONS: dict[str, Callable[[Path], IO[bytes]]] = {'.gz': gzip.open, '.xz': lzma.open, '.bz2': bz2.open}  # type: ignore[dict-item]
"""Endings of compressed files, and how they are opened."""

LARGEST_UNPACKED_BYTES = 1 << 28
"""Compressed files that unpack to more are refused: a small one can hold any number of zeros."""

DAMAGED = (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile)
"""What the readers of compressed files raise on damaged ones, beside other errors of the system."""


def is_compressed(path: Path) -> bool:
    """Return whether the name of a file says that it is compressed."""
    return path.suffix.lower() in COMPRESSIONS


def unpack(path: Path) -> bytes:
    """Return the content of a compressed file.

    :raises StructureError: it is damaged, cannot be read, or unpacks to more than :data:`LARGEST_UNPACKED_BYTES`.
    """
    try:
        with COMPRESSIONS[path.suffix.lower()](path) as handle:
            content = handle.read(LARGEST_UNPACKED_BYTES + 1)
    except (OSError, ValueError, *DAMAGED) as error:
        raise StructureError(f'{path} is damaged, or not compressed as its name says: {error}') from error
    if len(content) > LARGEST_UNPACKED_BYTES:
        raise StructureError(f'{path} unpacks to more than {LARGEST_UNPACKED_BYTES >> 20} MiB: unpack it')
    return content
