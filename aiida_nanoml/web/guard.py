"""The rules that every request and every response keeps, whatever the route."""

from __future__ import annotations

from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from aiida_nanoml.web.errors import PageError
from aiida_nanoml.web.grants import NOT_GRANTED, allows
from aiida_nanoml.web.identity import Identity

READING = frozenset({'GET', 'HEAD'})
"""Methods that change nothing."""

FORM_BYTES = 2 * 10**6
"""Largest form, without files."""

HEADERS = {
    'content-security-policy': (
        "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'"
    ),
    'cross-origin-opener-policy': 'same-origin',
    'cross-origin-resource-policy': 'same-origin',
    'referrer-policy': 'same-origin',
    'x-content-type-options': 'nosniff',
    'cache-control': 'no-store',
}
"""Headers of every response that does not bring its own."""


class Guard:
    """Refuses what comes from elsewhere before any route sees it, and puts the headers on every response.

    :param app: the pages.
    :param hosts: values of the header Host that are ours: another name could lead here, too (DNS rebinding).
    :param scheme: of our own origin.
    :param identity: who is asking.
    :param upload_bytes: largest upload of files.
    :param refuse: makes the page of a refusal of a status and a message.
    """

    def __init__(
        self,
        app: ASGIApp,
        hosts: frozenset[str],
        scheme: str,
        identity: Identity,
        upload_bytes: int,
        refuse: Callable[[Request, int, str], Response],
    ) -> None:
        self._app = app
        self._hosts = hosts
        self._scheme = scheme
        self._identity = identity
        self._upload_bytes = upload_bytes
        self._refuse = refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        if scope['type'] == 'lifespan':
            await self._app(scope, receive, send)
        elif scope['type'] == 'websocket':
            await send({'type': 'websocket.close', 'code': 1008})
        else:
            request = Request(scope)
            refused = self._check(request)
            app = self._app if refused is None else self._refuse(request, *refused)
            await app(scope, _limited(receive, request, self._upload_bytes), _with_headers(send))

    def _check(self, request: Request) -> tuple[int, str] | None:
        """Return status and message of a request that is refused."""
        host = request.headers.get('host', '')
        if host not in self._hosts:
            return 403, 'this server does not answer to that name: use the address that the program printed'
        if request.method not in READING:
            origin = f'{self._scheme}://{host}'
            if request.headers.get('origin') != origin or request.headers.get('sec-fetch-site') != 'same-origin':
                return 403, 'only a form of these pages can change anything'
        visitor = self._identity.visitor(request)
        path = request.scope['path']  # as the router sees it, which an address that was put together may not be
        if visitor is None and path not in self._identity.open_paths:
            return 401, 'you are not signed in: open the link that the program printed'
        if visitor is not None and not allows(path, visitor.applications):
            return 403, NOT_GRANTED
        request.state.visitor = visitor
        return None


def _limited(receive: Receive, request: Request, upload_bytes: int) -> Receive:
    """Stop reading what is larger than any form of ours.

    :param upload_bytes: largest upload of files.
    """
    uploads = request.headers.get('content-type', '').startswith('multipart/form-data')
    most = FORM_BYTES + (upload_bytes if uploads else 0)
    n_read = 0

    async def receive_limited() -> Message:
        nonlocal n_read
        message = await receive()
        n_read += len(message.get('body', b''))
        if n_read > most:
            raise PageError(413, 'this is more than can be sent at once')
        return message

    return receive_limited


def _with_headers(send: Send) -> Send:
    async def send_with_headers(message: Message) -> None:
        if message['type'] == 'http.response.start':
            headers = message.setdefault('headers', [])
            given = {name.lower() for name, _ in headers}
            message['headers'] = [
                *headers,
                *((name.encode(), value.encode()) for name, value in HEADERS.items() if name.encode() not in given),
            ]
        await send(message)

    return send_with_headers
