"""Requests that are passed on: whole, piece by piece, and what is kept from either side."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from aiida_nanoml.portal.proxy import BrokenError, UnreachableError, forward

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Browser:
    """The ASGI side of a request: pieces that were sent, and pieces that came back.

    :param pieces: of the body.
    """

    def __init__(self, method: str, headers: dict[str, str], pieces: tuple[bytes, ...] = ()) -> None:
        encoded = [(name.encode(), value.encode()) for name, value in headers.items()]
        self.scope = {'type': 'http', 'method': method, 'path': '/', 'headers': encoded}
        self.gone = asyncio.Event()
        self.answered: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._pieces = [*pieces]

    async def receive(self) -> dict[str, Any]:
        if self._pieces:
            body = self._pieces.pop(0)
            return {'type': 'http.request', 'body': body, 'more_body': bool(self._pieces)}
        await self.gone.wait()
        return {'type': 'http.disconnect'}

    async def send(self, message: dict[str, Any]) -> None:
        await self.answered.put(message)

    async def forward(self, path: Path) -> None:
        await forward(path, b'/files?x=%2F', [(b'x-nanoml-identity', b'ours')], self.scope, self.receive, self.send)


def answering(handler: Handler, path: Path, ask: Callable[[], Awaitable[None]]) -> None:
    """Ask while a handler answers at a socket."""

    async def both() -> None:
        async with await asyncio.start_unix_server(handler, path):
            await asyncio.wait_for(ask(), 20)

    asyncio.run(both())


def test_a_request_and_its_answer_arrive_as_they_were_sent(tmp_path: Path) -> None:
    seen: list[bytes] = []
    pieces = (b'a' * 100_000, b'b' * 100_000, b'c')

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.readuntil(b'\r\n\r\n'))
        seen.append(await reader.readexactly(200_001))
        writer.write(b'HTTP/1.1 201 Created\r\nContent-Type: a/b\r\nSet-Cookie: x=1\r\nContent-Length: 3\r\n\r\nyes')
        writer.close()

    async def ask() -> None:
        given = {
            'host': 'nanoml.example.org',
            'cookie': '__Host-nanoml=secret',
            'x-nanoml-identity': 'forged',
            'content-length': '200001',
            'connection': 'upgrade',
        }
        browser = Browser('POST', given, pieces)
        await browser.forward(tmp_path / 's')
        start, body, end = (browser.answered.get_nowait() for _ in range(3))
        assert start['status'] == 201
        assert dict(start['headers']) == {b'content-type': b'a/b', b'content-length': b'3'}
        assert (body['body'], end['more_body']) == (b'yes', False)

    answering(handle, tmp_path / 's', ask)
    head, content = seen
    assert head.startswith(b'POST /files?x=%2F HTTP/1.1\r\n')
    assert content == b''.join(pieces)
    for kept in (b'secret', b'forged', b'upgrade'):
        assert kept not in head
    assert head.lower().count(b'x-nanoml-identity: ours') == 1


def test_pieces_come_at_once_and_the_server_learns_that_the_browser_has_gone(tmp_path: Path) -> None:
    ended = asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b'\r\n\r\n')
        writer.write(b'HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n')
        writer.write(b'9\r\ndata: 1\n\n\r\n')
        await writer.drain()
        assert await reader.read() == b'', 'it waits, until the browser has gone'
        ended.set()
        writer.close()

    async def ask() -> None:
        browser = Browser('GET', {'host': 'x'}, (b'',))
        asking = asyncio.create_task(browser.forward(tmp_path / 's'))
        assert (await browser.answered.get())['status'] == 200
        assert (await browser.answered.get())['body'] == b'data: 1\n\n'
        assert not asking.done()
        browser.gone.set()
        await asking
        await ended.wait()

    answering(handle, tmp_path / 's', ask)


@pytest.mark.parametrize(
    ('sent', 'begun'),
    [
        (b'', False),
        (b'HTTP/1.1 200 OK\r\nContent-', False),
        (b'no HTTP at all\r\n\r\n', False),
        (b'HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfive!', True),
    ],
)
def test_an_answer_that_breaks_off_is_noticed(tmp_path: Path, sent: bytes, begun: bool) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b'\r\n\r\n')
        writer.write(sent)
        writer.close()

    async def ask() -> None:
        with pytest.raises(BrokenError) as error:
            await Browser('GET', {'host': 'x'}, (b'',)).forward(tmp_path / 's')
        assert error.value.begun is begun

    answering(handle, tmp_path / 's', ask)


def test_a_server_may_answer_before_it_has_read_all(tmp_path: Path) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b'\r\n\r\n')
        writer.write(b'HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n')
        await writer.drain()
        writer.close()

    async def ask() -> None:
        browser = Browser('POST', {'host': 'x', 'transfer-encoding': 'chunked'}, (b'a' * 2**16,) * 3)
        browser._pieces.append(b'')
        await browser.forward(tmp_path / 's')
        assert browser.answered.get_nowait()['status'] == 413

    answering(handle, tmp_path / 's', ask)


def test_nobody_at_the_socket_is_told_apart(tmp_path: Path) -> None:
    async def ask() -> None:
        with pytest.raises(UnreachableError):
            await Browser('GET', {'host': 'x'}, (b'',)).forward(tmp_path / 'none')

    asyncio.run(ask())
