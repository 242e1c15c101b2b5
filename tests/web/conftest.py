"""The web face as the tests call it: the app of one signed-in person, and runs that are done where they are started."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path

import httpx2 as httpx
import pytest
from starlette.testclient import TestClient

from aiida_nanoml.web.app import WebApp, create_app
from aiida_nanoml.web.identity import StarterIdentity
from aiida_nanoml.web.runner import perform, place_for
from aiida_nanoml.web.runs import RunFile
from aiida_nanoml.web.site import Settings

HOST = '127.0.0.1:8000'
ORIGIN = f'http://{HOST}'
OURS = {'origin': ORIGIN, 'sec-fetch-site': 'same-origin'}
"""Headers that a browser sends with a form of our pages."""


class Element(HTMLParser):
    """Elements of a page, with their attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, {name: value or '' for name, value in attrs}))


def elements(page: str, *tags: str) -> list[dict[str, str]]:
    """Return the attributes of all elements of a page that have one of these names."""
    return [attributes for tag, attributes in Element(page).found if tag in tags]


def text_of(page: str) -> str:
    """Return the words of a page."""
    return ' '.join(re.sub(r'<[^>]+>', ' ', page).split())


@dataclass
class Browser:
    """A signed-in person who fills forms."""

    app: WebApp
    client: httpx.Client
    token: str = field(default='')

    def get(self, path: str, status: int = 200) -> str:
        """Return a page."""
        response = self.client.get(path)
        assert response.status_code == status, response.text
        return response.text

    def post(self, path: str, form: dict[str, object], status: int | None = 200, **more: object) -> httpx.Response:
        """Send a form, and follow to the page that it leads to; any status where None is expected."""
        response = self.client.post(path, data={'token': self.token, **form}, headers=OURS, **more)
        assert status in (None, response.status_code), response.text
        return response


@pytest.fixture
def settings(aiida_profile, tmp_path: Path) -> Settings:
    """Settings of a server for one person."""
    return Settings(
        identity=StarterIdentity('nanoml-8000', once=True),
        hosts=frozenset({HOST}),
        profile=aiida_profile.name,
        files=tmp_path / 'files',
        runs=tmp_path / 'runs',
        quota_bytes=10**6,
    )


@pytest.fixture
def app(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> WebApp:
    """The app; a run is done at once, by the code of the program that does it otherwise."""

    def start(name: str) -> None:
        runs = made.site.runs
        run = runs.read(name)
        with RunFile(runs.path(name)) as file, place_for(run, file, runs.folder) as place:
            file.write('begun', pid=1)
            perform(run, file, made.site.files, place)

    made = create_app(settings, start)
    monkeypatch.chdir(settings.files)
    return made


@pytest.fixture
def stranger(app: WebApp) -> Iterator[httpx.Client]:
    """A client that is not signed in."""
    with TestClient(app, base_url=ORIGIN, raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
def browser(app: WebApp, stranger: httpx.Client) -> Browser:
    """The person who started the server."""
    identity = app.site.settings.identity
    assert isinstance(identity, StarterIdentity)
    assert stranger.get(f'/enter?token={identity.link_token}').status_code == 200
    page = stranger.get('/files').text
    [token] = {one['value'] for one in elements(page, 'input') if one.get('name') == 'token'}
    return Browser(app, stranger, token)


@pytest.fixture
def finish(browser: Browser) -> Callable[..., str]:
    """Run an action from its form, and return the words of the page of its result."""

    def run(action: str, **form: object) -> str:
        return text_of(browser.post(f'/actions/{action}', form).text)

    return run
