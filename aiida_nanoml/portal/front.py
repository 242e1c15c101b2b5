"""The front of a portal: sign-in and administration, and everything else by the server of the user who is asking."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import jinja2
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.staticfiles import StaticFiles
from starlette.types import Receive, Scope, Send

import aiida_nanoml.web
from aiida_nanoml import __version__
from aiida_nanoml.portal.accounts import Accounts, Actor, Signed, User
from aiida_nanoml.portal.backends import Backends
from aiida_nanoml.portal.config import PortalConfig
from aiida_nanoml.portal.errors import PortalError
from aiida_nanoml.portal.identity_header import HEADER, Claim, sign, target_of
from aiida_nanoml.portal.limits import Limit
from aiida_nanoml.portal.proxy import BrokenError, UnreachableError, forward
from aiida_nanoml.web.errors import PageError
from aiida_nanoml.web.guard import Guard
from aiida_nanoml.web.identity import Visitor
from aiida_nanoml.web.site import moment, templates_of

STATIC = Path(aiida_nanoml.web.__file__).with_name('static')
SIGN_IN = '/portal/sign-in'
ASSETS = ('style.css', 'icon.svg')
LARGEST_BODY = 10**13
"""Bytes of a request that is passed on: the user's server knows the quota."""

LOOK_S = 30.0
"""Seconds between two looks whether a long answer, such as that of progress, may still be read."""

STRICT_TRANSPORT = (b'strict-transport-security', b'max-age=31536000')


@dataclass(frozen=True)
class SignedVisitor(Visitor):
    """Someone who is signed in at the portal.

    :param signed: session and user.
    """

    signed: Signed | None = None


class CookieIdentity:
    """Tells who is asking by the cookie of a session.

    :param accounts: which sessions there are.
    :param cookie: its name.
    """

    open_paths = frozenset({SIGN_IN, *(f'/portal/static/{name}' for name in ASSETS)})
    routes: Sequence[BaseRoute] = ()

    def __init__(self, accounts: Accounts, cookie: str) -> None:
        self._accounts = accounts
        self._cookie = cookie

    def visitor(self, request: Request) -> SignedVisitor | None:
        """Return the visitor of the session whose cookie was sent."""
        secret = request.cookies.get(self._cookie)
        signed = self._accounts.signed(secret) if secret else None
        if signed is None:
            return None
        return SignedVisitor(signed.user.name, signed.token, signed.applications, signed)


class Desk:
    """What the pages of the front share.

    :param tries: limits how often a sign-in is tried.
    """

    def __init__(self, config: PortalConfig, accounts: Accounts, backends: Backends, tries: Limit) -> None:
        self.config = config
        self.accounts = accounts
        self.backends = backends
        self.tries = tries

    def page(self, request: Request, template: str, status: int = 200, **context: Any) -> HTMLResponse:
        """Return a page of the front."""
        visitor = getattr(request.state, 'visitor', None)
        text = (
            templates()
            .get_template(f'{template}.html')
            .render(
                visitor=visitor,
                user=None if visitor is None else visitor.signed.user,
                path=request.url.path,
                version=__version__,
                announcements=self.accounts.announcements(),
                **context,
            )
        )
        return HTMLResponse(text, status_code=status)

    def address(self, request: Request) -> str:
        """Return where a request came from."""
        forwarded = request.headers.get('x-forwarded-for', '').rpartition(',')[2].strip()
        if self.config.behind_proxy and forwarded:
            return forwarded
        return '' if request.client is None else request.client.host

    def actor(self, request: Request) -> Actor:
        """Return who is asking, for the log."""
        return Actor(signed_of(request).user.name, self.address(request))

    def redirect(self, path: str) -> RedirectResponse:
        """Return the answer to a change that was made."""
        return RedirectResponse(path, status_code=303)


def signed_of(request: Request) -> Signed:
    """Return the session of a request."""
    signed: Signed = request.state.visitor.signed
    return signed


class Passing:
    """Passes requests on to the servers of users."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        request = Request(scope)
        signed = signed_of(request)
        account = signed.user.account
        if account is None:
            await self._desk.redirect('/portal/account')(scope, receive, send)
            return
        target = target_of(dict(scope))
        for last in (False, True):
            backend = await self._backend(signed.user, account)
            if backend.ended:
                self._desk.accounts.note(Actor(signed.user.name), 'server ended', backend.ended)
                page = self._desk.page(request, 'restarting', 503, ended=backend.ended, again=request.method == 'GET')
                await page(scope, receive, send)
                return
            claim = Claim(signed.user.name, signed.token, signed.applications)
            own = [(HEADER.encode(), sign(backend.secret, claim, request.method, target).encode())]
            try:
                passing = forward(backend.path, target, own, scope, receive, send)
                if not await while_true(passing, partial(self._may_go_on, request)):
                    with suppress(Exception):  # an answer with a length breaks off
                        await send({'type': 'http.response.body', 'body': b'', 'more_body': False})
            except UnreachableError as error:
                if last:
                    raise PageError(502, f'your server cannot be reached: {error}') from error
            except BrokenError as error:
                if error.begun:
                    raise
                raise PageError(
                    502,
                    'your server ended before it had answered: load the page again, and look under Runs whether what '
                    'you asked for was begun; runs that had begun go on',
                ) from error
            else:
                return

    def _may_go_on(self, request: Request) -> bool:
        """Return whether the session is still there, and its applications are those of the request."""
        signed = self._desk.accounts.signed(request.cookies[self._desk.config.cookie], asks=False)
        return signed is not None and signed.applications >= signed_of(request).applications

    async def _backend(self, user: User, account: str) -> Any:
        quota = user.quota_bytes or self._desk.config.quota_bytes
        try:
            return await self._desk.backends.get(account, user.name, quota)
        except PortalError as error:
            raise PageError(503, f'your server cannot be started: {error}') from error


class Front:
    """An ASGI application.

    :ivar routes: all routes; what none of the front's own takes is passed on.
    """

    def __init__(
        self, config: PortalConfig, accounts: Accounts, backends: Backends, tries: Limit | None = None
    ) -> None:
        from aiida_nanoml.portal import administration, pages

        self.desk = Desk(config, accounts, backends, tries or Limit())
        files = StaticFiles(directory=STATIC)

        async def static(request: Request) -> Response:
            return await files.get_response(request.path_params['path'], request.scope)

        app = Starlette(
            routes=[
                *pages.routes(self.desk),
                *administration.routes(self.desk),
                Route('/portal/static/{path:path}', static),
                Route('/{path:path}', Passing(self.desk)),
            ],
            exception_handlers={
                PageError: self._page_error,
                PortalError: self._portal_error,
                HTTPException: self._http_error,
                Exception: self._fault,
            },
        )
        self.routes = app.routes
        self._secure = config.secure
        self._guarded = Guard(
            app,
            frozenset({config.host}),
            'https' if config.secure else 'http',
            CookieIdentity(accounts, config.cookie),
            LARGEST_BODY,
            self._refusal,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""

        async def send_securely(message: Any) -> None:
            if message['type'] == 'http.response.start' and self._secure:
                message['headers'] = [*message.get('headers', ()), STRICT_TRANSPORT]
            await send(message)

        await self._guarded(scope, receive, send_securely)

    def _refusal(self, request: Request, status: int, message: str) -> Response:
        if status == 401:
            if request.method == 'GET':
                return RedirectResponse(SIGN_IN, status_code=303)
            message = 'you are not signed in, or your session has ended: sign in again'
        request.state.visitor = None
        return self.desk.page(request, 'refused', status, message=message)

    async def _page_error(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, PageError)  # noqa: S101
        return self.desk.page(request, 'refused', error.status, message=str(error))

    async def _portal_error(self, request: Request, error: Exception) -> Response:
        return self.desk.page(request, 'refused', 422, message=str(error))

    async def _http_error(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)  # noqa: S101
        message = {404: 'there is no such page', 405: 'this page cannot be asked so'}.get(error.status_code)
        return self.desk.page(request, 'refused', error.status_code, message=message or error.detail)

    async def _fault(self, request: Request, error: Exception) -> Response:
        message = 'this is a fault of the portal: its administrators find the details in the log of the service'
        return self.desk.page(request, 'refused', 500, message=message)


async def while_true(work: Coroutine[Any, Any, None], holds: Callable[[], bool], look_s: float = LOOK_S) -> bool:
    """Do something as long as a condition holds.

    :param look_s: seconds between two looks.
    :returns: whether it was done; otherwise it was broken off.
    """
    task = asyncio.ensure_future(work)
    try:
        while not (await asyncio.wait([task], timeout=look_s))[0]:
            if not holds():
                return False
        await task
        return True
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError, Exception):
            await task


def create_front(config: PortalConfig, accounts: Accounts, backends: Backends, tries: Limit | None = None) -> Front:
    """Return the front.

    :param tries: limits how often a sign-in is tried; None: five times a minute for each account and address.
    """
    return Front(config, accounts, backends, tries)


@cache
def templates() -> jinja2.Environment:
    """Return the templates of the front."""
    return templates_of('aiida_nanoml.portal', moment=moment)
