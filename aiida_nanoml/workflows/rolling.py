"""What workflows share that keep a number of jobs at a computer."""

from __future__ import annotations

from collections.abc import Iterable

from aiida import orm
from aiida.engine import ToContext, WorkChain
from aiida.engine.processes.workchains.awaitable import Awaitable


class RollingWorkChain(WorkChain):
    """A workflow that goes on when one of its jobs has ended, to fill the free place; AiiDA waits for all of a step."""

    def wait_for_any(self, uuids: Iterable[str]) -> ToContext | None:
        """Give what a step returns to wait until one of the running processes ends, None if one has ended already.

        :param uuids: UUIDs of the processes.
        """
        jobs = [orm.load_node(uuid) for uuid in uuids]
        for key in [key for key in self.ctx if key.startswith('job_')]:
            del self.ctx[key]
        if any(job.is_terminated for job in jobs):
            return None  # its end may have been told while nothing waited
        return ToContext(**{f'job_{job.pk}': job for job in jobs})

    def _action_awaitables(self) -> None:
        """Watch each job once, though every round waits for all that run."""
        watched: set[int] = self.__dict__.setdefault('_watched', set())
        awaited = self._awaitables
        self._awaitables = [awaitable for awaitable in awaited if awaitable.pk not in watched]
        super()._action_awaitables()
        watched.update(awaitable.pk for awaitable in awaited)
        self._awaitables = awaited

    def _on_awaitable_finished(self, awaitable: Awaitable) -> None:
        if awaitable in self._awaitables:
            self._awaitables = [awaitable]
            super()._on_awaitable_finished(awaitable)
