"""Passes a request on to a server behind a unix socket, and its answer back, piece by piece."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import h11
from starlette.types import Receive, Scope, Send

from aiida_nanoml.portal.errors import PortalError

HOP_BY_HOP = frozenset(
    (b'connection', b'keep-alive', b'proxy-connection', b'te', b'trailer', b'transfer-encoding', b'upgrade')
)
"""Headers that belong to one connection: RFC 9110, section 7.6.1."""

NOT_PASSED = HOP_BY_HOP | {b'cookie', b'authorization', b'expect', b'content-length'}
"""Headers of a request that the server does not see: the session is the front's."""

NOT_RETURNED = HOP_BY_HOP | {b'set-cookie', b'server', b'clear-site-data', b'strict-transport-security'}
"""Headers of an answer that only the front may send."""

OWN = b'x-nanoml-'
"""Headers that only the front may set begin so."""

CHUNK = 2**16


class UnreachableError(PortalError):
    """Nothing of the request was passed on."""


class BrokenError(PortalError):
    """The server ended before it had answered.

    :param begun: a part of the answer was sent.
    """

    def __init__(self, begun: bool) -> None:
        super().__init__('the server ended before it had answered')
        self.begun = begun


async def forward(
    path: Path, target: bytes, own_headers: Iterable[tuple[bytes, bytes]], scope: Scope, receive: Receive, send: Send
) -> None:
    """Pass a request on.

    :param path: of the socket.
    :param target: path and query.
    :param own_headers: that are added.
    :raises UnreachableError: nobody listens there.
    :raises BrokenError: the connection ended too early.
    """
    try:
        reader, writer = await asyncio.open_unix_connection(path)
    except OSError as error:
        raise UnreachableError(f'{path} cannot be reached: {error.strerror}') from error
    try:
        await _exchange(reader, writer, _request(target, own_headers, scope), receive, send)
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


def _request(target: bytes, own_headers: Iterable[tuple[bytes, bytes]], scope: Scope) -> h11.Request:
    passed = [(name, value) for name, value in scope['headers'] if name not in NOT_PASSED and not name.startswith(OWN)]
    given = dict(scope['headers'])
    if b'transfer-encoding' in given:
        passed.append((b'transfer-encoding', b'chunked'))
    elif b'content-length' in given:
        passed.append((b'content-length', given[b'content-length']))
    headers = [*passed, *own_headers, (b'connection', b'close')]
    return h11.Request(method=scope['method'], target=target, headers=headers)


async def _exchange(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: h11.Request, receive: Receive, send: Send
) -> None:
    connection = h11.Connection(h11.CLIENT)
    sending = asyncio.ensure_future(_send_request(connection, writer, request, receive))
    answering = asyncio.ensure_future(_return_answer(connection, reader, send))
    try:
        await asyncio.wait((sending, answering), return_when=asyncio.FIRST_COMPLETED)
        if answering.done() or sending.exception() is not None:
            await (answering if answering.done() else sending)
        # otherwise the browser has gone, and with the connection the server's answer ends
    finally:
        for task in (sending, answering):
            task.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await task


async def _send_request(
    connection: h11.Connection, writer: asyncio.StreamWriter, request: h11.Request, receive: Receive
) -> None:
    """Send a request, and return when the browser has gone."""
    with suppress(ConnectionError):  # the server may answer without reading all of it
        writer.write(connection.send(request) or b'')
        more = True
        while more:
            message = await receive()
            if message['type'] == 'http.disconnect':
                return
            writer.write(connection.send(h11.Data(data=message.get('body', b''))) or b'')
            await writer.drain()
            more = message.get('more_body', False)
        writer.write(connection.send(h11.EndOfMessage()) or b'')
        await writer.drain()
    while (await receive())['type'] != 'http.disconnect':
        pass


async def _return_answer(connection: h11.Connection, reader: asyncio.StreamReader, send: Send) -> None:
    begun = False
    try:
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                connection.receive_data(await reader.read(CHUNK))
            elif isinstance(event, h11.Response):
                headers = [(name, value) for name, value in event.headers if name not in NOT_RETURNED]
                await send({'type': 'http.response.start', 'status': event.status_code, 'headers': headers})
                begun = True
            elif isinstance(event, h11.Data):
                await send({'type': 'http.response.body', 'body': bytes(event.data), 'more_body': True})
            elif isinstance(event, h11.EndOfMessage):
                await send({'type': 'http.response.body', 'body': b'', 'more_body': False})
                return
            elif isinstance(event, h11.ConnectionClosed):
                raise BrokenError(begun)
    except (h11.RemoteProtocolError, ConnectionError) as error:
        raise BrokenError(begun) from error
