"""Places for runs: only so many work at the same time, the others wait until one is free."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

POLL_S = 0.1
"""Seconds between two looks for a free place."""

QUICK = 4
"""Places of actions that run no job."""


def job_places() -> int:
    """Return the places of actions that run jobs: these take a core each."""
    return max(2, os.cpu_count() or 1)


class Place:
    """One of some places, each of which is a lock on a file: it is free again when its process ends in any way.

    :param folder: of the files.
    :param kind: what the places are for.
    :param number: how many there are.
    :param note: told once if all are taken.
    """

    def __init__(self, folder: Path, kind: str, number: int, note: Callable[[str], None]) -> None:
        self._descriptor = self._take(folder, kind, number)
        if self._descriptor is None:
            note(f'waits until one of {number} other runs has ended')
        while self._descriptor is None:
            time.sleep(POLL_S)
            self._descriptor = self._take(folder, kind, number)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.leave()

    def leave(self) -> None:
        """Let another run have the place: this one only waits from now on."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    @staticmethod
    def _take(folder: Path, kind: str, number: int) -> int | None:
        for place in range(number):
            descriptor = os.open(folder / f'{kind}-{place}.lock', os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
            else:
                return descriptor
        return None
