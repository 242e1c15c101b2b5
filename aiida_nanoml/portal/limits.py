"""How often a thing may be tried: a window of time for each account and each address."""

from __future__ import annotations

import ipaddress
import time
from collections import deque
from collections.abc import Callable

TRIES = 5
WINDOW_S = 60.0
MOST_KEYS = 100_000


class Limit:
    """Counts tries.

    :param tries: within the window.
    :param window_s: seconds.
    :param clock: seconds that only grow.
    """

    def __init__(
        self, tries: int = TRIES, window_s: float = WINDOW_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._tries = tries
        self._window_s = window_s
        self._clock = clock
        self._past: dict[str, deque[float]] = {}

    def allow(self, *keys: str) -> bool:
        """Count a try for each key, and return whether none of them has had too many; refused ones do not count."""
        now = self._clock()
        self._forget(now)
        if any(len(self._past.get(key, ())) >= self._tries for key in keys):
            return False
        if len(self._past) + len(keys) > MOST_KEYS:
            return False  # an attack from everywhere
        for key in keys:
            self._past.setdefault(key, deque()).append(now)
        return True

    def _forget(self, now: float) -> None:
        for key in list(self._past):
            times = self._past[key]
            while times and now - times[0] >= self._window_s:
                times.popleft()
            if not times:
                del self._past[key]


def address_key(address: str) -> str:
    """Return what counts as one address: of IPv6, the network of 64 bits that one place gets."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    return str(ipaddress.ip_network(f'{address}/64', strict=False)) if parsed.version == 6 else address
