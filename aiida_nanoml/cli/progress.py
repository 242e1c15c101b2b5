"""Following a running process on the screen."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from aiida_nanoml.actions.signals import EndingSignal, collected_signals

if TYPE_CHECKING:
    from aiida.orm import ProcessNode

Item = TypeVar('Item')

LINE_EVERY_S = 10.0
"""Seconds between two lines about one step where the output is no terminal."""

SIGNAL_POLL_S = 0.1
"""Seconds until a signal is noticed."""

STUCK_S = 60.0
"""Seconds without any progress after which the user is told."""


def follow(process: ProcessNode, poll_s: float = 1.0) -> None:
    """Show how far the jobs below a process are, until it ends: bars on a terminal, else a line now and then.

    :param process: node of a running process.
    :param poll_s: seconds between two looks.
    :raises EndingSignal: the user does not want to wait, or the terminal was closed; the process continues.
    """
    with collected_signals() as received:
        for _ in poll_progress(process):
            end = time.monotonic() + poll_s
            while not received and time.monotonic() < end:
                time.sleep(SIGNAL_POLL_S)
            if received:
                raise EndingSignal(received[0])


def poll_progress(process: ProcessNode) -> Iterator[None]:
    """Show how far a process is, once for every item that is taken, until it ends; the caller waits in between.

    :param process: node of a running process.
    """
    from aiida_nanoml.provenance.progress import JobProgress

    jobs = JobProgress(process)
    last: dict[str, tuple[int, int]] = {}
    moved = time.monotonic()
    display = _Bars() if sys.stderr.isatty() else _Lines()
    try:
        while True:
            ended = process.is_terminated
            progress = jobs.look()
            for step, (done, total) in progress.items():
                display.show(step, done, total)
            if ended:
                return
            if progress != last:
                last, moved = progress, time.monotonic()
            elif time.monotonic() - moved > STUCK_S:
                moved = time.monotonic()
                print(_why_nothing_moves(process, jobs.running), file=sys.stderr, flush=True)
            yield
    finally:
        display.close()


def _why_nothing_moves(process: ProcessNode, running: Iterable[ProcessNode]) -> str:
    """Return why a process does not move and what helps, as far as it is known."""
    from aiida_nanoml.provenance.carriers import Carriers

    reason = Carriers().find_standstill(process, [node for node in running if node.pk != process.pk])
    if not reason:
        return f'nothing moved for {STUCK_S:.0f} s; look: verdi process list'
    cure = '`aiida-nanoml doctor --fix`'
    if process.process_label == 'LabelWorkChain':
        cure = f'`aiida-nanoml campaign resume {process.pk}`'
    return f'process {process.pk} stands still ({reason}): in another terminal, run {cure}'


def counted(step: str, items: Iterable[Item], total: int) -> Iterator[Item]:
    """Show how many items of a step are done while they are taken.

    :param step: what is done, one of :data:`aiida_nanoml.provenance.progress.UNITS`.
    :param total: number of items.
    """
    display = _Bars() if sys.stderr.isatty() else _Lines()
    try:
        for done, item in enumerate(items, start=1):
            display.show(step, done, total)
            yield item
    finally:
        display.close()


class _Bars:
    def __init__(self) -> None:
        self.bars: dict[str, Any] = {}

    def show(self, step: str, done: int, total: int) -> None:
        from tqdm import tqdm

        from aiida_nanoml.provenance.progress import UNITS

        if step not in self.bars:
            form = '{desc} {percentage:3.0f}% |{bar:30}| {n_fmt}/{total_fmt}{unit}, {elapsed}'
            self.bars[step] = tqdm(desc=f'{step:<10}', unit=f' {UNITS[step]}', bar_format=form)
        self.bars[step].total, self.bars[step].n = total, done
        self.bars[step].refresh()

    def close(self) -> None:
        for bar in self.bars.values():
            bar.close()


class _Lines:
    def __init__(self) -> None:
        self.start = time.monotonic()
        self.shown: dict[str, tuple[float, int]] = {}

    def show(self, step: str, done: int, total: int) -> None:
        from aiida_nanoml.provenance.progress import UNITS

        now = time.monotonic()
        last, last_done = self.shown.get(step, (-math.inf, -1))
        if done != last_done and (done == total or now - last >= LINE_EVERY_S):
            self.shown[step] = now, done
            print(f'{now - self.start:5.0f} s  {step} {done}/{total} {UNITS[step]}', file=sys.stderr, flush=True)

    def close(self) -> None:
        pass
