"""An application of another package: its card, its actions, and pages that keep the rules of ours."""

from __future__ import annotations

from pathlib import Path

import pytest
from starlette.testclient import TestClient

from aiida_nanoml.web.app import create_app
from aiida_nanoml.web.site import Settings
from tests.web.conftest import ORIGIN, OURS, elements
from tests.web.test_security import check_headers

MODULE = """
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from aiida_nanoml.web.applications import Application
from aiida_nanoml.web.site import template_of

PAGE = "{% extends 'base.html' %}{% block title %}x{% endblock %}{% block main %}<p>{{ text }}</p>{% endblock %}"


def routes(site):
    async def overview(request):
        return site.page(request, template_of(PAGE), text='<b>its own</b>')

    async def change(request, form):
        return PlainTextResponse('changed')

    return [Route('/', overview), site.change('/change', change)]


THERMAL = Application('thermal', 'Thermal', 'Heat in flakes.', ('list_nodes', 'not_there'), routes)
WRONG = Application('other', 'Wrong', 'It has another name.', ())
"""
POINTS = """
[aiida_nanoml.applications]
thermal = thermal_app:THERMAL
wrong = thermal_app:WRONG
broken = thermal_app:NOTHING
"""


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Install a package with an application, and two that cannot be used."""
    folder = tmp_path / 'packages' / 'thermal_app-1.0.dist-info'
    folder.mkdir(parents=True)
    (folder / 'METADATA').write_text('Metadata-Version: 2.1\nName: thermal-app\nVersion: 1.0\n')
    (folder / 'entry_points.txt').write_text(POINTS)
    (folder.parent / 'thermal_app.py').write_text(MODULE)
    monkeypatch.syspath_prepend(str(folder.parent))


def test_another_package_adds_a_card_and_pages(installed: None, settings: Settings) -> None:
    app = create_app(settings, lambda name: None)
    with TestClient(app, base_url=ORIGIN, raise_server_exceptions=False) as client:
        for path in ('/applications/thermal', '/applications/thermal/'):
            assert client.get(path).status_code == 401
        assert client.post('/applications/thermal/change', headers=OURS).status_code == 401
        desk = client.get(f'/enter?token={settings.identity.link_token}').text
        assert desk.index('Provenance') < desk.index('Thermal'), 'ours come first'
        assert 'Wrong' not in desk

        page = client.get('/applications/thermal').text
        assert 'href="/applications/thermal/">Open Thermal' in page
        assert 'href="/actions/list_nodes"' in page
        assert 'not_there' not in page

        response = client.get('/applications/thermal/')
        assert '<p>&lt;b&gt;its own&lt;/b&gt;</p>' in response.text
        check_headers(response)
        [token] = {one['value'] for one in elements(client.get('/files').text, 'input') if one.get('name') == 'token'}
        for form, headers, status in (
            ({'token': token}, OURS, 200),
            ({'token': 'x'}, OURS, 403),
            ({'token': token}, OURS | {'origin': 'null'}, 403),
        ):
            assert client.post('/applications/thermal/change', data=form, headers=headers).status_code == status
        assert '/applications/thermal/change' in client.get('/openapi.json').json()['paths']
