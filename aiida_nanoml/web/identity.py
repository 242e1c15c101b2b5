"""Who is asking: sessions of visitors, and how the person who started the program signs in."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from aiida_nanoml.web.errors import PageError

ENTER = '/enter'


@dataclass(frozen=True)
class Visitor:
    """Someone who is signed in.

    :param name: who it is.
    :param token: secret of the session; every form that changes something brings it back.
    :param applications: names of those that are granted; None: all of them.
    """

    name: str
    token: str
    applications: frozenset[str] | None = None


class Identity(Protocol):
    """Tells who is asking. A centre's front has another one than a program on one's own machine."""

    open_paths: frozenset[str]
    """Paths that answer without a session, such as the one that signs in."""

    @property
    def routes(self) -> Sequence[BaseRoute]:
        """Return the routes of the sign-in."""

    def visitor(self, request: Request) -> Visitor | None:
        """Return who is asking; None: nobody who is signed in."""


class StarterIdentity:
    """The person who started the program is the user: a link signs in.

    :param cookie: name of the cookie; browsers share cookies between the ports of a machine.
    :param once: whether the link works once. A browser gets it as an argument, which everybody on the machine can see;
        on a terminal only its reader does.
    """

    open_paths = frozenset({ENTER})

    def __init__(self, cookie: str, *, once: bool) -> None:
        self._once = once
        self.link_token: str | None = secrets.token_urlsafe(32)
        self.routes: Sequence[BaseRoute] = (Route(ENTER, self._enter),)
        self._cookie = cookie
        self._sessions: dict[str, Visitor] = {}

    def visitor(self, request: Request) -> Visitor | None:
        """Return the visitor of the session whose cookie was sent."""
        return self._sessions.get(request.cookies.get(self._cookie, ''))

    @property
    def _reason(self) -> str:
        return ' any more, it worked once' if self._once and self.link_token is None else ''

    async def _enter(self, request: Request) -> Response:
        """Begin a session."""
        given = request.query_params.get('token', '')
        if self.visitor(request) is None:
            known = self.link_token
            if known is None or not secrets.compare_digest(given.encode(), known.encode()):
                raise PageError(401, f'this link does not sign in{self._reason}: start the program again for a new one')
            if self._once:
                self.link_token = None
        response = RedirectResponse('/', status_code=303)
        if self.visitor(request) is None:
            session = secrets.token_urlsafe(32)
            self._sessions[session] = Visitor('you', secrets.token_urlsafe(32))
            response.set_cookie(self._cookie, session, httponly=True, samesite='strict', path='/')
        return response
