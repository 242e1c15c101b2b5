"""The server of one user: all routes behind one guard."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.staticfiles import StaticFiles
from starlette.types import Receive, Scope, Send

from aiida_nanoml.errors import NanomlError
from aiida_nanoml.web.errors import PageError
from aiida_nanoml.web.files import UserFiles
from aiida_nanoml.web.guard import Guard
from aiida_nanoml.web.launcher import Launcher, Start
from aiida_nanoml.web.openapi import describe
from aiida_nanoml.web.pages import actions, desk, files, graph, rows
from aiida_nanoml.web.pages import runs as run_pages
from aiida_nanoml.web.runs import Runs
from aiida_nanoml.web.site import Settings, Site

STATIC = Path(__file__).with_name('static')
LOOK_S = 0.1
REASONS = {400: 'the request cannot be read', 404: 'there is no such page', 405: 'this page cannot be asked so'}


class WebApp:
    """An ASGI application.

    :ivar site: what its pages share.
    :ivar routes: all routes, those that applications bring, too.
    """

    def __init__(self, settings: Settings, start: Start | None = None) -> None:
        user_files = UserFiles(settings.files, settings.quota_bytes)
        runs = Runs(settings.runs)
        self._launcher = Launcher(runs, user_files, settings.profile)
        self._own_launcher = start is None
        self.site = Site(settings, user_files, runs, start or self._launcher.start)
        pages = Starlette(
            routes=[
                *settings.identity.routes,
                *(route for part in (desk, actions, run_pages, files, graph, rows) for route in part.routes(self.site)),
                Route('/openapi.json', self._openapi),
                Route('/static/{path:path}', self._static),
            ],
            exception_handlers={
                PageError: self._page_error,
                HTTPException: self._http_error,
                NanomlError: self._user_fault,
                Exception: self._fault,
            },
            lifespan=self._lifespan,
        )
        self.routes = pages.routes
        self._description: dict[str, Any] = {}
        self._files = StaticFiles(directory=STATIC)
        self._guarded = Guard(
            pages, settings.hosts, settings.scheme, settings.identity, settings.quota_bytes, self._refusal
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        await self._guarded(scope, receive, send)

    @asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        self.site.orm.warm_up()
        warming = asyncio.create_task(self._warm_launcher())
        try:
            yield
        finally:
            warming.cancel()
            await asyncio.to_thread(self._launcher.close)
            await asyncio.to_thread(self.site.orm.close)

    async def _warm_launcher(self) -> None:
        """Start the program that does runs when the first page has what it needs."""
        while not self.site.orm.ready:
            await asyncio.sleep(LOOK_S)
        if self._own_launcher:
            await asyncio.to_thread(self._launcher.warm_up)

    def _refusal(self, request: Request, status: int, message: str) -> Response:
        # Whoever is not signed in gets no page with the names of ours.
        return self.site.page(request, 'refused', status, message=message)

    async def _openapi(self, request: Request) -> Response:
        if not self._description:
            self._description = describe(self.routes)
        return JSONResponse(self._description)

    async def _static(self, request: Request) -> Response:
        return await self._files.get_response(request.path_params['path'], request.scope)

    async def _page_error(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, PageError)  # noqa: S101
        if getattr(request.state, 'visitor', None) is None:
            return self._refusal(request, error.status, str(error))
        return self.site.page(request, 'error', error.status, missing=error.status == 404, message=str(error))

    async def _user_fault(self, request: Request, error: Exception) -> Response:
        return await self._page_error(request, PageError(500, str(error)))

    async def _http_error(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)  # noqa: S101
        message = REASONS.get(error.status_code, error.detail)
        return await self._page_error(request, PageError(error.status_code, message))

    async def _fault(self, request: Request, error: Exception) -> Response:
        message = 'this is a fault of the program: the terminal in which it was started has the details'
        return await self._page_error(request, PageError(500, message))


def create_app(settings: Settings, start: Start | None = None) -> WebApp:
    """Return the server of one user.

    :param start: starts a run; None: a program that the server starts does them.
    """
    return WebApp(settings, start)
