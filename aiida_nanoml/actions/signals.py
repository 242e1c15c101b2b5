"""Signals that end a command: Ctrl-C, SIGTERM, and the hang-up of a terminal that is closed."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class EndingSignal(KeyboardInterrupt):
    """A signal asked the command to end.

    :param number: of the signal.
    """

    def __init__(self, number: int = signal.SIGINT) -> None:
        super().__init__()
        self.number = number


def ending_signals() -> list[int]:
    """Return the signals that end this command: without those that it ignores, as below ``nohup``; none in a thread."""
    if threading.current_thread() is not threading.main_thread():
        return []
    return [
        number
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        if signal.getsignal(number) is not signal.SIG_IGN
    ]


@contextmanager
def collected_signals() -> Iterator[list[int]]:
    """Collect ending signals: an exception raised inside a callback of the database library would be lost."""
    received: list[int] = []
    previous = {number: signal.getsignal(number) for number in ending_signals()}
    for number in previous:
        signal.signal(number, lambda got, _: received.append(got))
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextmanager
def signals_in_loop(loop: asyncio.AbstractEventLoop, act: Callable[[], None]) -> Iterator[list[int]]:
    """Collect ending signals, and act on the first one between two steps of a loop, never inside of one.

    :param act: called by the loop.
    """
    received: list[int] = []
    numbers = ending_signals()

    def receive(number: int) -> None:
        received.append(number)
        if len(received) == 1:
            act()

    for number in numbers:
        loop.add_signal_handler(number, receive, number)
    try:
        yield received
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)
