"""Finished runs of programs, made without this package: the files of a folder, and what a reader finds in them."""

from __future__ import annotations

import gzip
import hashlib
import io
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, ClassVar

from aiida_nanoml.engines.base import EngineParameters, Label
from aiida_nanoml.errors import EvaluationError, FailureCode
from aiida_nanoml.structures import Structure
from aiida_nanoml.structures.compressed import COMPRESSIONS, DAMAGED, LARGEST_UNPACKED_BYTES

LARGEST_BYTES = 1 << 30
"""Larger files are refused."""

HEAD_BYTES = 1 << 16
"""A reader recognises an output by so much of its beginning."""


_USUAL_OUTPUT = re.compile(r'(.*\.(out|log|output|txt|o\d+)|.*out|output.*|slurm.*)(\.(gz|xz|bz2))?', re.I)


class RunFolderError(EvaluationError):
    """A folder holds no finished run, or one that cannot be used."""


@dataclass(frozen=True)
class ProgramRun:
    """What a finished run says.

    :param structure: what was computed, in Å; isolated where vacuum is all around and Gamma the only k-point.
    :param label: its label; without levels where the run shows none that can be trusted.
    :param parameters: of the engine, complete: what the engine would need to compute the same.
    :param version: of the program.
    :param files: MD5 by name of each file that decides about the result, relative to the folder.
    :param pseudopotentials: MD5 by element, as far as the run or files beside it show them.
    :param wall_s: time of the run in seconds, None where it is not printed.
    :param note: what the user should know about the label; empty if there is nothing to say.
    """

    structure: Structure
    label: Label
    parameters: EngineParameters
    version: str
    files: Mapping[str, str]
    pseudopotentials: Mapping[str, str] = field(default_factory=dict)
    wall_s: float | None = None
    note: str = ''


class RunReader(ABC):
    """Finds and reads the finished runs of one program.

    Registered as an entry point, with the name of the engine, in the group ``aiida_nanoml.run_readers``.
    """

    name: ClassVar[str]
    """Name of the engine whose runs are read."""

    own_folders: ClassVar[tuple[str, ...]] = ()
    """Endings of folders that the program writes into: below a run that was found, they are not searched."""

    @classmethod
    @abstractmethod
    def recognises(cls, head: str) -> bool:
        """Return whether a file is an output of the program, whatever its name.

        :param head: its first :data:`HEAD_BYTES` bytes.
        """

    def choose(self, names: Sequence[str]) -> list[str]:
        """Return those outputs in one folder that stand for a run each.

        :param names: of the files that :meth:`recognises` found, sorted.
        """
        return list(names)

    @abstractmethod
    def read(self, folder: Path, name: str, root: Path) -> ProgramRun:
        """Read a finished run.

        :param folder: where it lies.
        :param name: of its output, which :meth:`recognises` found.
        :param root: nothing outside this folder is read.
        :raises RunFolderError: there is no number that can be trusted, with the true reason.
        """


def plain_name(name: str) -> str:
    """Return the name of a file without the ending of its compression."""
    ending = Path(name).suffix.lower()
    return name[: -len(ending)] if ending in COMPRESSIONS else name


def has_usual_name(name: str) -> bool:
    """Return whether a file has one of the names that people give to the output of a program."""
    return _USUAL_OUTPUT.fullmatch(name) is not None


def md5_of(text: str) -> str:
    """Return the MD5 of the text of a file, by which a run is recognised."""
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def read_text(path: Path, root: Path) -> str | None:
    """Return the text of a file, or of its compressed form; None if there is neither.

    :param root: nothing outside this folder is read, whatever links say.
    :raises RunFolderError: ``'outside'``, a link leads out of the tree; ``'unreadable'``.
    """
    content = read_bytes(path, root)
    return None if content is None else io.TextIOWrapper(io.BytesIO(content), 'utf-8', 'replace').read()


def read_bytes(path: Path, root: Path) -> bytes | None:
    """Return the content of a file as :func:`read_text` does."""
    for form in (path, *(path.with_name(path.name + ending) for ending in COMPRESSIONS)):
        try:
            if not form.resolve().is_relative_to(root):
                raise RunFolderError(FailureCode.OUTSIDE, f'{form.name} is a link that leads out of {root.name}')
            if not form.is_file():
                continue
            largest = LARGEST_UNPACKED_BYTES if form.suffix.lower() in COMPRESSIONS else LARGEST_BYTES
            with open_file(form) as handle:
                content: bytes = handle.read(largest + 1)
        except OSError as error:
            if not isinstance(error, gzip.BadGzipFile):
                reason = error.strerror or str(error)
                raise RunFolderError(FailureCode.UNREADABLE, f'{form.name} cannot be read: {reason}') from error
            raise _damaged(form, error) from error
        except (*DAMAGED, ValueError) as error:
            raise _damaged(form, error) from error
        if len(content) > largest:
            raise RunFolderError(FailureCode.UNREADABLE, f'{form.name} has more than {largest >> 20} MiB')
        return content
    return None


def open_file(path: Path) -> IO[bytes]:
    """Open a file for reading, unpacked if its name says that it is compressed."""
    opened = COMPRESSIONS.get(path.suffix.lower())
    return path.open('rb') if opened is None else opened(path)


def _damaged(path: Path, error: Exception) -> RunFolderError:
    return RunFolderError(
        FailureCode.UNREADABLE, f'{path.name} is damaged, or not compressed as its name says: {error}'
    )
