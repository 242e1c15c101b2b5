"""Base class of the workchains that keep a number of jobs running, and submit the next when one ends."""

from __future__ import annotations

from collections.abc import Iterable

from aiida import orm
from aiida.engine import ToContext
from aiida.engine.processes.workchains.awaitable import Awaitable

from aiida_nanoml.workflows.base import NanomlWorkChain


class RollingWorkChain(NanomlWorkChain):
    """Workchain that refills a job slot as soon as one job ends.

    AiiDA resumes a workchain when all processes that a step awaits have terminated, and has no public way to resume it
    after the first one. The two private hooks that are overridden here were checked against aiida-core 2.9.4.
    """

    def wait_for_any(self, uuids: Iterable[str]) -> ToContext | None:
        """Return what a step returns to wait until one of the running processes ends; None if one has ended already.

        :param uuids: UUIDs of the processes.
        """
        jobs = [orm.load_node(uuid) for uuid in uuids]
        for key in [key for key in self.ctx if key.startswith('job_')]:
            del self.ctx[key]
        if any(job.is_terminated for job in jobs):
            return None  # it may have terminated before we subscribed
        return ToContext(**{f'job_{job.pk}': job for job in jobs})

    def _action_awaitables(self) -> None:
        """Subscribe to the end of each job once, though every step awaits all that run."""
        watched: set[int] = self.__dict__.setdefault('_watched', set())
        awaited = self._awaitables
        self._awaitables = [awaitable for awaitable in awaited if awaitable.pk not in watched]
        super()._action_awaitables()
        watched.update(awaitable.pk for awaitable in awaited)
        self._awaitables = awaited

    def _on_awaitable_finished(self, awaitable: Awaitable) -> None:
        """Forget the other awaitables, so that AiiDA resumes the workchain; the next step awaits them again."""
        if awaitable in self._awaitables:
            self._awaitables = [awaitable]
            super()._on_awaitable_finished(awaitable)
