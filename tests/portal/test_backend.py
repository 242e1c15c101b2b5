"""When a user's server ends, and when the answer of one is broken off."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from aiida_nanoml.portal.accounts import Accounts
from aiida_nanoml.portal.backend import Activity, protocol_for, serve
from aiida_nanoml.portal.front import while_true
from aiida_nanoml.web.runs import RunFile, Runs
from tests.portal.conftest import ROOT, Clock

IDLE_S = 0.4


class Server:
    """What the program of a server puts together, with an app that answers after some seconds."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, idle_s: float) -> None:
        reading, self.spawner = os.pipe()
        monkeypatch.setattr(sys, 'stdin', os.fdopen(reading))
        self.path = folder / 'socket'
        self.runs = Runs(folder / 'runs')
        self._idle_s = idle_s
        self._activity = Activity(self._answer)

    async def _answer(self, scope: Any, receive: Any, send: Any) -> None:
        if scope['type'] == 'lifespan':
            for answer in ('startup', 'shutdown'):
                await receive()
                await send({'type': f'lifespan.{answer}.complete'})
            return
        await asyncio.sleep(float(scope['path'][1:]))
        await send({'type': 'http.response.start', 'status': 200, 'headers': []})
        await send({'type': 'http.response.body', 'body': b'answered'})

    def serve(self, meanwhile: Any, uid: int) -> float:
        """Serve until it ends; return the seconds that it took."""
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(self.path))
        listener.listen()
        config = uvicorn.Config(self._activity, http=protocol_for(uid), log_level='error', ws='none')
        server = uvicorn.Server(config)

        async def all_of_it() -> None:
            task = asyncio.create_task(serve(server, listener, self._activity, self.runs, self._idle_s))
            await meanwhile()
            await asyncio.wait_for(task, 30)

        begun = time.monotonic()
        asyncio.run(all_of_it())
        return time.monotonic() - begun

    async def ask(self, seconds: float) -> bytes:
        reader, writer = await asyncio.open_unix_connection(self.path)
        writer.write(f'GET /{seconds} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n'.encode())
        try:
            return await reader.read()
        except ConnectionError:
            return b''
        finally:
            writer.close()


def test_a_server_ends_when_nobody_asks_and_no_run_is_alive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(tmp_path, monkeypatch, IDLE_S)
    name = server.runs.create('list_nodes', [], estimates=False)

    async def meanwhile() -> None:
        with RunFile(server.runs.path(name)) as file:
            file.write('begun', pid=os.getpid())
            assert b'answered' in await server.ask(3 * IDLE_S), 'a request takes longer than it may be idle'
            await asyncio.sleep(3 * IDLE_S)
            assert b'answered' in await server.ask(0), 'the run is alive'
            file.write('done')

    assert server.serve(meanwhile, os.getuid()) > 7 * IDLE_S
    os.close(server.spawner)


def test_a_server_ends_with_the_spawner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(tmp_path, monkeypatch, 3600.0)

    async def meanwhile() -> None:
        assert b'answered' in await server.ask(0)
        os.close(server.spawner)

    server.serve(meanwhile, os.getuid())


def test_a_server_answers_one_account_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(tmp_path, monkeypatch, 3600.0)

    async def meanwhile() -> None:
        assert await server.ask(0) == b''
        os.close(server.spawner)

    server.serve(meanwhile, os.getuid() + 1)


def test_a_long_answer_is_broken_off_when_its_session_has_ended() -> None:
    looks = iter((True, True, False))
    ended = []

    async def long() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.append(True)

    async def short() -> None:
        await asyncio.sleep(0)

    async def broken() -> None:
        raise ValueError('as it was raised')

    assert asyncio.run(while_true(long(), lambda: next(looks), 0.01)) is False
    assert ended == [True]
    assert asyncio.run(while_true(short(), lambda: False, 10)) is True
    with pytest.raises(ValueError, match='as it was raised'):
        asyncio.run(while_true(broken(), lambda: True, 10))


def test_to_look_keeps_no_session_alive(accounts: Accounts, clock: Clock) -> None:
    secret = accounts.sign_in('alice', accounts.add_user(ROOT, 'alice', None), '')
    for _ in range(2):
        clock.now += 61
        found = accounts.signed(secret, asks=False)
    assert found is None
