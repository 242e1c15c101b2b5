"""Signals that end a command: collected, told to a loop between its steps, and left alone where they are ignored."""

from __future__ import annotations

import asyncio
import os
import signal
import threading

import pytest

from aiida_nanoml.actions.errors import StoppedError
from aiida_nanoml.actions.signals import collected_signals, ending_signals, signals_in_loop

ENDING = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


@pytest.mark.parametrize('number', ENDING)
def test_a_signal_is_collected_and_the_handler_put_back(number: int) -> None:
    def own(*_: object) -> None: ...

    before = signal.signal(number, own)  # whatever the tests run under may ignore it
    try:
        with collected_signals() as received:
            os.kill(os.getpid(), number)
            assert received == [number]
        assert signal.getsignal(number) is own
    finally:
        signal.signal(number, before)


def test_ignored_signals_stay_ignored() -> None:
    """A command below ``nohup`` goes on when its terminal is closed."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with collected_signals() as received:
            os.kill(os.getpid(), signal.SIGHUP)
        assert received == []
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_thread_has_no_signals() -> None:
    found: list[list[int]] = []
    thread = threading.Thread(target=lambda: found.append(ending_signals()))
    thread.start()
    thread.join()
    assert found == [[]]


def test_a_step_of_a_loop_is_never_interrupted() -> None:
    loop, order = asyncio.new_event_loop(), []

    async def work() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
        order.append('the step is done')
        await asyncio.sleep(0.05)

    with signals_in_loop(loop, lambda: order.append('told')) as received:
        loop.run_until_complete(work())
    loop.close()
    assert order == ['the step is done', 'told'], 'the first signal acts, once, after the step'
    assert received[0] in ENDING
    assert StoppedError('ended', signal.SIGTERM).exit_status == 143
