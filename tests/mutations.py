"""Mutations of files, for tests that no reader answers one with a traceback or a wrong number.

A test draws a seed with hypothesis, and makes a batch of mutations of it: drawing each one would cost more time than
most readers take. The seed of a failure is printed, and gives the same batch again.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

BATCH = 100
ODD = (
    *(b'nan', b'inf', b'-inf', b'1e308', b'-1e308', b'1e999', b'-0', b'0', b'1', b'-1', b'2', b'1e-9', b'0.5', b''),
    *(b'*' * 12, b'9' * 30, b'9' * 5000, b'1_0', b'\x00', b'\xff\xfe', '\u0663'.encode(), b'+', b'99999999999'),
    *(b'"', b'%', b'[' * 300),
)
"""What words are replaced by: numbers that are none or absurd, and bytes that are no text."""

_WORD = re.compile(rb'[^\s"=,<>\[\]{}()]+')
_NUMBER = re.compile(rb'-?\d+\.?\d*(?:[eE][-+]?\d+)?')


def mutations(content: bytes, seed: int, count: int = BATCH) -> Iterator[bytes]:
    """Make mutations of the content of a file."""
    chance = random.Random(seed)  # noqa: S311
    for _ in range(count):
        yield _mutate(content, chance)


def _mutate(content: bytes, chance: random.Random) -> bytes:
    position = chance.randrange(len(content))
    kind = chance.randrange(8)
    if kind == 0:
        return content[:position]
    if kind <= 3:
        pattern = _NUMBER if kind == 3 else _WORD
        found = pattern.search(content, position) or pattern.search(content)
        if found is None:
            return b''
        return content[: found.start()] + chance.choice(ODD) + content[found.end() :]
    if kind == 4:
        junk = bytes(chance.randrange(256) for _ in range(chance.randrange(1, 4)))
        return content[:position] + junk + content[position + chance.randrange(4) :]
    if kind == 5:
        found = _NUMBER.search(content, position)
        if found is None:
            return content[position:]
        digits = bytearray(found[0])
        digits[chance.randrange(len(digits))] = chance.choice(b'0123456789.-')
        return content[: found.start()] + bytes(digits) + content[found.end() :]
    start = content.rfind(b'\n', 0, position) + 1
    end = content.find(b'\n', position) + 1 or len(content)
    if kind == 6:
        return content[:start] + content[end:]
    return content[:end] + content[start:end] + content[end:]


def fuzzed(batches: int = 100) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Decorate a test that takes the ``seed`` of a batch."""

    def decorate(test: Callable[..., None]) -> Any:
        bounded = settings(max_examples=batches, deadline=None, suppress_health_check=list(HealthCheck))
        return bounded(given(seed=st.integers(0, 2**32 - 1))(test))

    return decorate
