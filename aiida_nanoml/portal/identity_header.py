"""The header in which a front tells a user's server who is asking: signed, and good for one request."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from dataclasses import dataclass

HEADER = 'x-nanoml-identity'

LIFE_S = 30.0
"""Seconds between signing and reading."""


@dataclass(frozen=True)
class Claim:
    """Who is asking.

    :param user: name of the sign-in.
    :param token: secret that forms bring back.
    :param applications: names of those that are granted.
    """

    user: str
    token: str
    applications: frozenset[str]


def sign(secret: bytes, claim: Claim, method: str, target: bytes, now: float | None = None) -> str:
    """Return the value of the header.

    :param secret: that front and server share since the server was started.
    :param target: path and query as they are sent.
    :param now: seconds since the epoch; None: now.
    """
    content = {
        'user': claim.user,
        'token': claim.token,
        'applications': sorted(claim.applications),
        'time': time.time() if now is None else now,
    }
    payload = base64.urlsafe_b64encode(json.dumps(content).encode())
    return f'{payload.decode()}.{_mac(secret, payload, method, target)}'


def read(secret: bytes, value: str, method: str, target: bytes, now: float | None = None) -> Claim | None:
    """Return the claim of a header; None: it was not signed with this secret for this request, or it is too old."""
    payload, dot, mac = value.partition('.')
    expected = _mac(secret, payload.encode(), method, target)
    if not dot or not hmac.compare_digest(mac.encode(), expected.encode()):
        return None
    content = json.loads(base64.urlsafe_b64decode(payload))
    if abs((time.time() if now is None else now) - content['time']) > LIFE_S:
        return None
    return Claim(content['user'], content['token'], frozenset(content['applications']))


def _mac(secret: bytes, payload: bytes, method: str, target: bytes) -> str:
    return hmac.new(secret, b'\n'.join((method.encode(), target, payload)), hashlib.sha256).hexdigest()


def target_of(scope: dict[str, object]) -> bytes:
    """Return path and query of a request as they were sent."""
    path, query = scope.get('raw_path') or str(scope['path']).encode(), scope.get('query_string')
    assert isinstance(path, bytes)  # noqa: S101
    return path + (b'?' + query if isinstance(query, bytes) and query else b'')
