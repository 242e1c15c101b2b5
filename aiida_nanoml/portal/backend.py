"""The server of one user, as the spawner starts it: it answers the front alone, and ends when nobody needs it."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import struct
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import uvicorn
from starlette.requests import Request
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from aiida_nanoml.actions.installation import make_profile
from aiida_nanoml.portal.identity_header import HEADER, read, target_of
from aiida_nanoml.web.app import WebApp, create_app
from aiida_nanoml.web.identity import Visitor
from aiida_nanoml.web.runs import KEPT, Runs
from aiida_nanoml.web.site import Settings

PROFILE = 'main'
"""Name of the profile that is made where a user has none."""

ACCOUNT = '/portal/account'

LOOK_S = 10.0
"""Seconds between two looks whether the server is needed, at most."""


class FrontIdentity:
    """Whom the front names is asking, if it is the user of this server.

    :param user: whose server this is.
    :param secret: that front and server share.
    """

    open_paths: frozenset[str] = frozenset()
    routes: Sequence[BaseRoute] = ()

    def __init__(self, user: str, secret: bytes) -> None:
        self._user = user
        self._secret = secret

    def visitor(self, request: Request) -> Visitor | None:
        """Return the visitor that the header names."""
        value = request.headers.get(HEADER, '')
        claim = read(self._secret, value, request.method, target_of(dict(request.scope)))
        if claim is None or claim.user != self._user:
            return None
        return Visitor(claim.user, claim.token, claim.applications)


class Activity:
    """Counts requests, to know when nobody needs the server.

    :param app: what answers.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._open = 0
        self._last = time.monotonic()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        self._open += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._open -= 1
            self._last = time.monotonic()

    def idle_s(self) -> float:
        """Return the seconds since the last request, the lifespan of the app aside."""
        return 0.0 if self._open > 1 else time.monotonic() - self._last


def protocol_for(uid: int) -> type[H11Protocol]:
    """Return a protocol of HTTP that answers only programs of one unix account."""

    class FrontOnly(H11Protocol):
        def connection_made(self, transport: Any) -> None:
            peer = transport.get_extra_info('socket')
            if peer_uid(peer) == uid:
                super().connection_made(transport)
            else:
                transport.abort()

        def connection_lost(self, exc: Exception | None) -> None:
            if self.transport is not None:
                super().connection_lost(exc)

    return FrontOnly


def peer_uid(peer: socket.socket) -> int:
    """Return the unix account of the program at the other end."""
    size = struct.calcsize('3i')
    _, uid, _ = struct.unpack('3i', peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
    return int(uid)


def app_of(settings: dict[str, Any], home: Path) -> WebApp:
    """Return the pages of the user, in the default profile of the home folder; one is made where there is none."""
    from aiida.manage.configuration import get_config, load_profile

    config = get_config(create=True)
    name = config.default_profile_name or make_profile(PROFILE).name
    load_profile(name)
    state = Path(config.dirpath) / 'nanoml-web' / name
    state.mkdir(parents=True, exist_ok=True)
    return create_app(
        Settings(
            identity=FrontIdentity(settings['user'], bytes.fromhex(settings['secret'])),
            hosts=frozenset({settings['host']}),
            profile=name,
            files=state / 'files',
            runs=state / 'runs',
            scheme=settings['scheme'],
            quota_bytes=settings['quota_bytes'],
            account_url=ACCOUNT,
        )
    )


async def serve(server: uvicorn.Server, listener: socket.socket, activity: Activity, runs: Runs, idle_s: float) -> None:
    """Serve until nobody needs it, or the spawner has gone."""
    loop = asyncio.get_running_loop()

    def end() -> None:
        server.should_exit = True

    def look_at_spawner() -> None:
        if not os.read(sys.stdin.fileno(), 1):
            loop.remove_reader(sys.stdin.fileno())
            end()

    loop.add_reader(sys.stdin.fileno(), look_at_spawner)

    async def end_when_idle() -> None:
        while True:
            await asyncio.sleep(min(LOOK_S, idle_s / 4))
            if activity.idle_s() > idle_s and not await asyncio.to_thread(is_busy, runs):
                end()

    watching = asyncio.create_task(end_when_idle())
    await server.serve(sockets=[listener])
    watching.cancel()


def is_busy(runs: Runs) -> bool:
    """Return whether a run is alive."""
    return any(not run.ended for run in runs.newest(KEPT))


def main() -> None:
    """Read the settings in the first line of the standard input, and serve."""
    line = b''
    while not line.endswith(b'\n'):  # unbuffered: the end of the input is looked for later
        part = os.read(sys.stdin.fileno(), 1)
        if not part:
            return
        line += part
    settings = json.loads(line)
    home = Path.home()
    os.chdir(home)
    app = app_of(settings, home)
    activity = Activity(app)
    server = uvicorn.Server(
        uvicorn.Config(
            activity,
            http=protocol_for(settings['front_uid']),
            log_level='error',
            server_header=False,
            proxy_headers=False,
            ws='none',
            loop='asyncio',
            timeout_graceful_shutdown=1,
        )
    )
    listener = socket.socket(fileno=settings['socket'])
    asyncio.run(serve(server, listener, activity, app.site.runs, settings['idle_s']))


if __name__ == '__main__':
    main()
