"""The one thread in which a server touches AiiDA's database."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar('T')


class OrmThread:
    """Runs functions one after the other in one thread: sessions of the database belong to the thread that made them.

    What a function returns must hold no node: a page shows texts and numbers.

    :ivar ready: the storage is open, so that an answer comes soon.
    """

    def __init__(self) -> None:
        self.ready = False
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix='orm')

    async def run(self, function: Callable[..., T], *arguments: Any) -> T:
        """Run a function there, and wait for it without blocking other pages.

        :raises ActionError: the storage cannot be opened.
        """
        return await asyncio.get_running_loop().run_in_executor(self._executor, _with_storage, function, *arguments)

    def warm_up(self) -> None:
        """Import AiiDA and open the storage while nobody waits."""
        self._executor.submit(self._open_storage)

    def close(self) -> None:
        """End the thread when it has done what it was given."""
        self._executor.shutdown()

    def _open_storage(self) -> None:
        from aiida_nanoml.web.database import wait_for_writers

        wait_for_writers()
        try:
            _with_storage(lambda: None)
        finally:
            self.ready = True  # or it says why not when it is asked


def _with_storage(function: Callable[..., T], *arguments: Any) -> T:
    from aiida_nanoml.actions.nodes import load_storage

    load_storage()
    return function(*arguments)
