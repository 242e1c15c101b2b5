"""What all pages share: settings, the database's thread, files, runs, templates, and routes that change something."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import jinja2
from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from aiida_nanoml import __version__
from aiida_nanoml.web.errors import PageError
from aiida_nanoml.web.files import UserFiles
from aiida_nanoml.web.forms import Form
from aiida_nanoml.web.guard import FORM_BYTES
from aiida_nanoml.web.identity import Identity
from aiida_nanoml.web.launcher import Start
from aiida_nanoml.web.orm_thread import OrmThread
from aiida_nanoml.web.runs import Runs

TOKEN = 'token'  # noqa: S105
"""Field of a form that brings back the secret of the session."""

MOST_FIELDS = 2000

SANDBOX = {'content-security-policy': "sandbox; default-src 'none'; frame-ancestors 'none'"}
"""Headers of what users and jobs wrote: whatever it is, it runs no script and reads nothing."""

Endpoint = Callable[[Request], Awaitable[Response]]
Change = Callable[[Request, FormData], Awaitable[Response]]


@dataclass(frozen=True)
class Settings:
    """How one server is set up.

    :param identity: who is asking.
    :param hosts: values of the header Host that are answered.
    :param profile: name of the AiiDA profile.
    :param files: folder of the user's files.
    :param runs: folder of the files of runs.
    :param scheme: of the address that browsers see.
    :param quota_bytes: what the user's files may take.
    :param program: words before every command that is shown.
    :param account_url: page of the account and of the sign-out; empty: there is none.
    """

    identity: Identity
    hosts: frozenset[str]
    profile: str
    files: Path
    runs: Path
    scheme: str = 'http'
    quota_bytes: int = 10**10
    program: str = 'aiida-nanoml'
    account_url: str = ''


@dataclass(frozen=True)
class Site:
    """What endpoints need.

    :param start: starts a run.
    """

    settings: Settings
    files: UserFiles
    runs: Runs
    start: Start
    orm: OrmThread = field(default_factory=OrmThread)

    def page(
        self, request: Request, template: str | jinja2.Template, status: int = 200, **context: Any
    ) -> HTMLResponse:
        """Return a page.

        :param template: name of one of our templates, without ending, or what :func:`template_of` made.
        """
        found = templates().get_template(f'{template}.html') if isinstance(template, str) else template
        visitor = getattr(request.state, 'visitor', None)
        text = found.render(visitor=visitor, path=request.url.path, version=__version__, site=self, **context)
        return HTMLResponse(text, status_code=status)

    async def begin(self, name: str) -> None:
        """Start a run without blocking other pages: the program that does it may have to be started first."""
        await asyncio.to_thread(self.start, name)

    def change(self, path: str, endpoint: Change) -> Route:
        """Return a route that changes something: see :func:`change_route`."""
        return change_route(path, endpoint)


def change_route(path: str, endpoint: Change) -> Route:
    """Return a route that changes something: a form with the token of the session is posted to it."""

    async def answer(request: Request) -> Response:
        async with request.form(max_fields=MOST_FIELDS, max_files=50, max_part_size=FORM_BYTES) as form:
            token = form.get(TOKEN)
            known = request.state.visitor.token
            if not isinstance(token, str) or not secrets.compare_digest(token.encode(), known.encode()):
                raise PageError(403, 'this form is of another session: load the page again')
            return await endpoint(request, form)

    return Route(path, answer, methods=['POST'])


def texts_of(form: FormData) -> Form:
    """Return the texts of a form, without the token."""
    return [(name, value) for name, value in form.multi_items() if isinstance(value, str) and name != TOKEN]


def attachment(name: str) -> dict[str, str]:
    """Return the headers of a file that is saved, and neither shown nor run."""
    return SANDBOX | {'content-disposition': f"attachment; filename*=utf-8''{quote(name.rpartition('/')[2], safe='')}"}


def action_url(action: str, form: Form = ()) -> str:
    """Return the address of the page of an action, filled in."""
    return f'/actions/{action}' + (f'?{urlencode([(name, value) for name, value in form])}' if form else '')


def file_size(size: int) -> str:
    """Return a size with the unit that suits it."""
    for unit, factor in (('GB', 10**9), ('MB', 10**6), ('kB', 10**3)):
        if size >= factor:
            return f'{size / factor:.1f} {unit}'
    return f'{size} B'


def moment(seconds: float) -> str:
    """Return a time of this machine in words."""
    return f'{datetime.fromtimestamp(seconds):%Y-%m-%d %H:%M}'


def template_of(source: str) -> jinja2.Template:
    """Return a template of another package: it can extend ``base.html``, and import from ``macros.html``."""
    return templates().from_string(source)


@cache
def templates() -> jinja2.Environment:
    """Return the templates of pages."""
    return templates_of('aiida_nanoml.web', action_url=action_url, file_size=file_size, moment=moment, quote=quote)


def templates_of(package: str, **helpers: Any) -> jinja2.Environment:
    """Return the templates of a package: every text is escaped, and a name that is not there is an error.

    :param helpers: what all templates can call.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader(package),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(helpers)
    return environment
