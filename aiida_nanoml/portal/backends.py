"""Users' servers as the front sees them: it asks the spawner for one, and gets the path of its socket."""

from __future__ import annotations

import asyncio
import json
import secrets
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiida_nanoml.portal.errors import PortalError
from aiida_nanoml.portal.spawner import MESSAGE_BYTES


@dataclass(frozen=True)
class Backend:
    """The server of a user.

    :param path: of its socket.
    :param secret: that signs requests to it.
    :param ended: how the one before ended, if that was no orderly end.
    """

    path: Path
    secret: bytes
    ended: str


class Backends:
    """All servers.

    :param channel: socket to the spawner.
    """

    def __init__(self, channel: socket.socket) -> None:
        channel.setblocking(False)
        self._channel = channel
        self._lock = asyncio.Lock()
        self._secrets: dict[str, str] = {}

    async def get(self, account: str, user: str, quota_bytes: int) -> Backend:
        """Return the server of a unix account; it is started if need be.

        :raises PortalError: it cannot be started; the message says why.
        """
        async with self._lock:
            secret = secrets.token_hex(32)
            message = {'account': account, 'user': user, 'secret': secret, 'quota_bytes': quota_bytes}
            answer = await self._ask({'do': 'start'} | message)
            if answer['started']:
                self._secrets[account] = secret
            return Backend(Path(answer['path']), bytes.fromhex(self._secrets[account]), answer['ended'])

    async def stop(self, account: str) -> None:
        """End a server; runs go on."""
        async with self._lock:
            await self._ask({'do': 'stop', 'account': account})

    async def _ask(self, message: dict[str, Any]) -> dict[str, Any]:
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(self._channel, json.dumps(message).encode())
        answer: dict[str, Any] = json.loads(
            await loop.sock_recv(self._channel, MESSAGE_BYTES) or b'{"error": "the portal is ending"}'
        )
        if 'error' in answer:
            raise PortalError(answer['error'])
        return answer
