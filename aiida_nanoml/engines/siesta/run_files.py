"""Files in the folder of a run: reading them, compressed or not, and finding out which are input and output."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

from aiida_nanoml.engines.finished_runs import has_usual_name, open_file, plain_name
from aiida_nanoml.structures.compressed import DAMAGED, LARGEST_UNPACKED_BYTES

_BANNER = re.compile(rb'^ *\* +WELCOME TO SIESTA +\*|^ *Siesta Version *:|^Executable *: *siesta\b', re.I | re.M)
_BANNER_WITHIN = 1 << 16
_OUTPUT_ENDING = re.compile(r'\.(out|log|output|txt)$', re.I)
_MOST_FILES = 5000
_RUN_ENDS = re.compile(rb'^ *Job completed|^>> End of run:', re.M)
_ECHO = re.compile(r'# default value *$', re.M)


def is_output(path: Path) -> bool:
    """Return whether a file begins as the standard output of SIESTA does, whatever its name."""
    try:
        if not path.is_file():
            return False
        with open_file(path) as handle:
            return bool(_BANNER.search(handle.read(_BANNER_WITHIN)))
    except (OSError, *DAMAGED, ValueError):
        return False


def is_input(name: str) -> bool:
    """Return whether a file has the name of an input, compressed or not; what systems hide beside one is none."""
    return plain_name(name).lower().endswith('.fdf') and not name.startswith('.')


def is_echo(text: str) -> bool:
    """Return whether a text is what SIESTA writes down of an input that it has read, with the default values."""
    return len(_ECHO.findall(text, 0, 1 << 16)) > 2


def find_outputs(path: Path, names: Sequence[str]) -> list[str]:
    """Return the names of the files in a folder that are outputs of SIESTA.

    Of several with one content, as a batch system and a shell leave them, those named like an input come first, and the
    others are left out.

    :param names: of all files in the folder.
    """
    likely = sorted((name for name in names if not is_input(name)), key=lambda name: not has_usual_name(name))
    found = [name for name in likely[:_MOST_FILES] if is_output(path / name)]
    if len(found) < 2:
        return found
    inputs = {stem(name) for name in names if is_input(name)}
    alike = [name for name in found if stem(name) in inputs]
    return [*alike, *_distinct(path, [name for name in found if name not in alike], alike)]


def choose_output(path: Path, outputs: Sequence[str]) -> list[str]:
    """Return the outputs of runs that came to their end, if there are some, else all."""
    ended = [name for name in outputs if len(outputs) > 1 and _RUN_ENDS.search(_end_of(path / name))]
    return ended or list(outputs)


def stem(name: str) -> str:
    """Return the name of an input or output without its endings."""
    plain = plain_name(name)
    return plain[:-4] if is_input(plain) else _OUTPUT_ENDING.sub('', plain)


def _distinct(path: Path, names: Sequence[str], first: Sequence[str]) -> list[str]:
    """Return the names of files, of those with one content the first, and none with the content of some others."""
    seen = {_digest(path / name) for name in first}
    kept = []
    for name in names:
        digest = _digest(path / name)
        if digest not in seen:
            kept.append(name)
        seen.add(digest)
    return kept


def _digest(path: Path) -> str:
    try:
        with open_file(path) as handle:
            return hashlib.sha256(handle.read(LARGEST_UNPACKED_BYTES)).hexdigest()
    except (OSError, *DAMAGED, ValueError):
        return path.name


def _end_of(path: Path) -> bytes:
    try:
        with open_file(path) as handle:
            return handle.read(LARGEST_UNPACKED_BYTES)[-_BANNER_WITHIN:]
    except (OSError, *DAMAGED, ValueError):
        return b''
