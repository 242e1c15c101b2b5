"""The files of one user: one folder, and nothing outside of it is ever opened.

A path is walked part by part from a descriptor of the folder, and no part may be a link: what a name means is decided
by the kernel, not by a comparison of texts.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from aiida_nanoml.errors import NanomlError

LONGEST_NAME = 200
"""Bytes of one part of a path."""

DEEPEST = 8
"""Parts of a path."""

TEXT_BYTES = 200_000
"""Bytes of a file that are shown as text."""


class UserFileError(NanomlError):
    """A file that cannot be used, or is not there."""


@dataclass(frozen=True)
class Entry:
    """A file or a folder.

    :param path: from the folder of the user, with slashes.
    :param size: in bytes; 0 for a folder.
    :param changed: seconds since the epoch.
    """

    path: str
    folder: bool
    size: int
    changed: float

    @property
    def name(self) -> str:
        """Return the last part of the path."""
        return self.path.rpartition('/')[2]


class UserFiles:
    """A folder with the files of one user.

    :param root: the folder; made if it is not there.
    :param quota_bytes: what all files together may take.
    """

    def __init__(self, root: Path, quota_bytes: int) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self.root = root
        self.quota_bytes = quota_bytes

    def check_path(self, path: str) -> list[str]:
        """Return the parts of a path, which need not exist.

        :raises UserFileError: it leaves the folder, has an empty or hidden part, or characters that cannot be seen.
        """
        parts = path.split('/')
        if not path.isprintable():
            raise UserFileError('the name of a file cannot have characters that cannot be seen')
        if len(parts) > DEEPEST:
            raise UserFileError(f'the path of a file cannot have more than {DEEPEST} parts')
        for part in parts:
            if not part or part.startswith(('.', '-', '~')) or part != part.strip() or '\\' in part:
                raise UserFileError(
                    f'{path!r} is no name of a file here: no part may be empty, have blanks at its ends, a backslash, '
                    'or begin with . - or ~'
                )
            try:
                length = len(part.encode())
            except UnicodeEncodeError:
                raise UserFileError(f'{path!r} is no name of a file here: it cannot be written as UTF-8') from None
            if length > LONGEST_NAME:
                raise UserFileError(f'the name of a file cannot have more than {LONGEST_NAME} bytes')
        return parts

    def entries(self, folders: bool | None = None) -> list[Entry]:
        """Return all files and folders, sorted by path; links and anything else that is no plain file are left out.

        :param folders: only folders, or only files.
        """
        found = self._entries(self.root, '')
        return sorted(
            (one for one in found if folders is None or one.folder == folders),
            key=lambda one: one.path,
        )

    def _entries(self, folder: Path, prefix: str) -> Iterator[Entry]:
        with os.scandir(folder) as items:
            for item in items:
                path = f'{prefix}{item.name}'
                try:
                    self.check_path(path)
                    status = item.stat(follow_symlinks=False)
                except (UserFileError, OSError):
                    continue
                if stat.S_ISDIR(status.st_mode):
                    yield Entry(path, True, 0, status.st_mtime)
                    yield from self._entries(folder / item.name, f'{path}/')
                elif stat.S_ISREG(status.st_mode):
                    yield Entry(path, False, status.st_size, status.st_mtime)

    def check_exists(self, path: str, *, folder: bool) -> None:
        """Check that a path leads to a plain file, or to a folder.

        :raises UserFileError: it does not.
        """
        with self._opened(path, os.O_RDONLY) as descriptor:
            mode = os.fstat(descriptor).st_mode
            if not (stat.S_ISDIR(mode) if folder else stat.S_ISREG(mode)):
                raise UserFileError(f'{path} is no {"folder" if folder else "plain file"}')

    def check_new(self, path: str) -> None:
        """Check that a file or folder of this path can be written: all folders above it are there, and it is no link.

        :raises UserFileError: it cannot.
        """
        parts = self.check_path(path)
        with self._parent(parts, path) as parent, suppress(FileNotFoundError):
            mode = os.stat(parts[-1], dir_fd=parent, follow_symlinks=False).st_mode
            if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                raise UserFileError(f'{path} is no plain file')

    def open(self, path: str) -> BinaryIO:
        """Open a file to be read.

        :raises UserFileError: there is no such plain file.
        """
        with self._opened(path, os.O_RDONLY) as descriptor:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise UserFileError(f'{path} is no plain file')
            return os.fdopen(os.dup(descriptor), 'rb')

    def read_text(self, path: str) -> tuple[str, bool]:
        """Return the beginning of a file as text, and whether that is all.

        :raises UserFileError: there is no such plain file, or it is no text.
        """
        with self.open(path) as handle:
            content = handle.read(TEXT_BYTES + 1)
        if b'\0' in content:
            raise UserFileError(f'{path} is no text: download it')
        return content[:TEXT_BYTES].decode('utf-8', 'replace'), len(content) <= TEXT_BYTES

    async def write(self, path: str, chunks: AsyncIterator[bytes]) -> None:
        """Write a new file, all of it or nothing.

        :raises UserFileError: there is one already, or the files would take more than the quota.
        """
        parts = self.check_path(path)
        free = self.quota_bytes - sum(entry.size for entry in self.entries())
        with self._parent(parts, path) as parent:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            try:
                descriptor = os.open(parts[-1], flags, 0o600, dir_fd=parent)
            except FileExistsError:
                raise UserFileError(f'{path} exists already: delete it first, or choose another name') from None
            try:
                with os.fdopen(descriptor, 'wb') as target:
                    async for chunk in chunks:
                        free -= len(chunk)
                        if free < 0:
                            raise UserFileError(
                                f'{path} was not kept: your files may take {self.quota_bytes // 10**6} MB in all'
                            )
                        target.write(chunk)
            except BaseException:
                os.unlink(parts[-1], dir_fd=parent)
                raise

    def delete(self, path: str) -> None:
        """Delete a file, or a folder with all that is in it.

        :raises UserFileError: there is none.
        """
        parts = self.check_path(path)
        with self._parent(parts, path) as parent:
            try:
                if stat.S_ISDIR(os.stat(parts[-1], dir_fd=parent, follow_symlinks=False).st_mode):
                    shutil.rmtree(parts[-1], dir_fd=parent)  # it follows no links
                else:
                    os.unlink(parts[-1], dir_fd=parent)
            except OSError as error:
                raise UserFileError(f'{path} cannot be deleted: {error.strerror}') from error

    @contextmanager
    def _parent(self, parts: list[str], path: str) -> Iterator[int]:
        """Open the folder in which the last part of a path is."""
        descriptor = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for part in parts[:-1]:
                inner = self._open_at(part, os.O_RDONLY | os.O_DIRECTORY, descriptor, path)
                os.close(descriptor)
                descriptor = inner
            yield descriptor
        finally:
            os.close(descriptor)

    @contextmanager
    def _opened(self, path: str, flags: int) -> Iterator[int]:
        parts = self.check_path(path)
        with self._parent(parts, path) as parent:
            # A pipe without a writer would keep us waiting.
            descriptor = self._open_at(parts[-1], flags | os.O_NONBLOCK, parent, path)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def _open_at(self, part: str, flags: int, folder: int, path: str) -> int:
        try:
            return os.open(part, flags | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
        except OSError as error:
            raise UserFileError(f'there is no file {path}') from error
