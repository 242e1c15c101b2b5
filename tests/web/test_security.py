"""Rules of every route: who may ask, what changes anything, and what each answer forbids the browser."""

from __future__ import annotations

from dataclasses import replace

import httpx2 as httpx
import pytest
from starlette.testclient import TestClient

from aiida_nanoml.web.app import WebApp, create_app
from aiida_nanoml.web.guard import HEADERS
from aiida_nanoml.web.identity import StarterIdentity
from aiida_nanoml.web.openapi import walk
from aiida_nanoml.web.site import SANDBOX, Settings
from tests.web.conftest import HOST, ORIGIN, OURS, Browser

UUID = '00000000-0000-4000-8000-000000000000'
RUN = '20260101000000-0123456789ab'

READS = {
    '/': '/',
    '/actions': '/actions',
    '/actions/{name}': '/actions/list_nodes',
    '/applications/cbn_ann/': '/applications/cbn_ann/',
    '/applications/rmatrix/': '/applications/rmatrix/',
    '/applications/rmatrix/results/{name}': f'/applications/rmatrix/results/{RUN}',
    '/applications/rmatrix/results/{name}/transmission.csv': f'/applications/rmatrix/results/{RUN}/transmission.csv',
    '/applications/{name}': '/applications/rmatrix',
    '/enter': '/enter',
    '/files': '/files',
    '/files/download/{path:path}': '/files/download/a.txt',
    '/files/view/{path:path}': '/files/view/a.txt',
    '/nodes/{uuid:uuid}': f'/nodes/{UUID}',
    '/nodes/{uuid:uuid}/files/{name:path}': f'/nodes/{UUID}/files/a.png',
    '/nodes/{uuid:uuid}/rows/{row}': f'/nodes/{UUID}/rows/0',
    '/openapi.json': '/openapi.json',
    '/processes': '/processes',
    '/processes/{uuid:uuid}': f'/processes/{UUID}',
    '/processes/{uuid:uuid}/events': f'/processes/{UUID}/events',
    '/runs': '/runs',
    '/runs/{name}': f'/runs/{RUN}',
    '/runs/{name}/events': f'/runs/{RUN}/events',
    '/runs/{name}/log': f'/runs/{RUN}/log',
    '/static/{path:path}': '/static/style.css',
    '/structures/{uuid:uuid}/{row}': f'/structures/{UUID}/0',
}
"""Routes that change nothing, with an address of each."""

CHANGES = {
    '/actions/{name}': '/actions/list_nodes',
    '/actions/{name}/estimate': '/actions/label/estimate',
    '/applications/rmatrix/compute': '/applications/rmatrix/compute',
    '/files': '/files',
    '/files/delete/{path:path}': '/files/delete/a.txt',
    '/runs/{name}/stop': f'/runs/{RUN}/stop',
}
"""Routes that change something, with an address of each."""

FORBIDDEN = (
    OURS | {'origin': 'http://127.0.0.1:9999'},
    OURS | {'origin': 'http://localhost:8000'},
    OURS | {'origin': 'null'},
    OURS | {'sec-fetch-site': 'same-site'},
    OURS | {'sec-fetch-site': 'cross-site'},
    OURS | {'sec-fetch-site': 'none'},
    {'origin': ORIGIN},
    {'sec-fetch-site': 'same-origin'},
    {},
)
"""Headers of requests that no form of ours makes: another port, another name, a link from elsewhere, no browser."""


def check_headers(response: httpx.Response) -> None:
    """Check that an answer says what the browser may do with it."""
    policy = response.headers['content-security-policy']
    assert policy in (HEADERS['content-security-policy'], SANDBOX['content-security-policy'])
    assert 'unsafe' not in policy
    assert "frame-ancestors 'none'" in policy
    for name in ('x-content-type-options', 'referrer-policy', 'cache-control', 'cross-origin-resource-policy'):
        assert response.headers[name] == HEADERS[name]


def test_every_route_is_in_the_table(app: WebApp) -> None:
    found = walk(app.routes)
    assert {path for path, route in found if 'GET' in route.methods} == set(READS)
    assert {path for path, route in found if 'POST' in route.methods} == set(CHANGES)
    assert {method for _, route in found for method in route.methods} == {'GET', 'HEAD', 'POST'}


def test_nothing_is_read_without_a_session(stranger: httpx.Client) -> None:
    for path in (set(READS.values()) | {'/nonsense'}) - {'/enter'}:
        for cookie in ('', 'nanoml-8000=x', 'nanoml-8000='):
            response = stranger.get(path, headers={'cookie': cookie})
            assert response.status_code == 401, path
            assert 'R-MATRIX' not in response.text
            check_headers(response)


def test_nothing_is_changed_without_a_session(stranger: httpx.Client) -> None:
    for path in CHANGES.values():
        assert stranger.post(path, data={'token': 'x'}, headers=OURS).status_code == 401, path


def test_only_forms_of_our_pages_change_anything(browser: Browser) -> None:
    for path in CHANGES.values():
        for headers in FORBIDDEN:
            response = browser.client.post(path, data={'token': browser.token}, headers=headers)
            assert response.status_code == 403, (path, headers)
            check_headers(response)
        for token in ('', 'x', browser.token[:-1], 'é'):
            response = browser.client.post(path, data={'token': token}, headers=OURS)
            assert response.status_code == 403, (path, token)
            check_headers(response)
        assert browser.client.post(path, headers=OURS).status_code == 403, path
        allowed = browser.client.post(path, data={'token': browser.token}, headers=OURS)
        assert allowed.status_code != 403, f'{path}: the same request with all of it is answered'


def test_a_link_changes_nothing(browser: Browser) -> None:
    for path in set(CHANGES.values()) - set(READS.values()):
        assert browser.client.get(path).status_code in (404, 405), path


def test_other_methods_are_refused(browser: Browser) -> None:
    for path in {*READS.values(), *CHANGES.values()}:
        for method in ('PUT', 'PATCH', 'DELETE', 'OPTIONS'):
            assert browser.client.request(method, path).status_code == 403, (method, path)
            assert browser.client.request(method, path, headers=OURS).status_code in (404, 405), (method, path)


def test_other_names_of_the_server_are_refused(browser: Browser) -> None:
    for path in READS.values():
        for host in ('evil.example', 'evil.example:8000', '127.0.0.1', '127.0.0.1:9999', f'{HOST}.evil.example', ''):
            response = browser.client.get(path, headers={'host': host})
            assert response.status_code == 403, (path, host)
            check_headers(response)


def test_every_answer_has_the_headers(browser: Browser) -> None:
    for path in (set(READS.values()) | {'/nonsense'}) - {'/enter'}:
        response = browser.client.get(path)
        assert response.status_code in (200, 404), path
        check_headers(response)


def test_a_link_signs_in_once(app: WebApp, stranger: httpx.Client) -> None:
    link = f'/enter?token={app.site.settings.identity.link_token}'
    for wrong in ('/enter', '/enter?token=', '/enter?token=x', '/enter?token=%C3%A9'):
        assert stranger.get(wrong).status_code == 401
    response = stranger.get(link, follow_redirects=False)
    cookie = response.headers['set-cookie'].lower()
    assert 'httponly' in cookie
    assert 'samesite=strict' in cookie
    assert stranger.get('/files').status_code == 200
    stranger.cookies.clear()
    assert 'any more, it worked once' in stranger.get(link).text
    assert stranger.get('/files').status_code == 401


def test_a_link_that_nobody_else_sees_signs_in_again(settings: Settings) -> None:
    identity = StarterIdentity('nanoml-8000', once=False)
    app = create_app(replace(settings, identity=identity), lambda name: None)
    sessions = set()
    with TestClient(app, base_url=ORIGIN) as client:
        for _ in range(2):
            client.get('/enter', params={'token': identity.link_token})
            assert client.get('/files').status_code == 200
            sessions.add(client.cookies['nanoml-8000'])
            client.cookies.clear()
            assert client.get('/enter', params={'token': f'{identity.link_token}x'}).status_code == 401
    assert len(sessions) == 2


def test_a_token_of_another_session_is_refused(browser: Browser, settings: Settings) -> None:
    identity = settings.identity
    identity.link_token = link = 'a second link'  # noqa: S105
    with TestClient(browser.app, base_url=ORIGIN) as other:
        other.get('/enter', params={'token': link})
        assert other.get('/files').status_code == 200
        response = other.post('/files', data={'token': browser.token}, headers=OURS)
    assert response.status_code == 403


def test_a_fault_shows_no_traceback(browser: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(browser.app.site.files), 'entries', lambda *_: 1 / 0)
    response = browser.client.get('/files')
    assert response.status_code == 500
    assert 'fault of the program' in response.text
    assert 'ZeroDivisionError' not in response.text
    assert 'Traceback' not in response.text
    check_headers(response)


def test_a_large_form_is_refused(browser: Browser) -> None:
    form = {'token': browser.token, 'name': 'x' * 3_000_000}
    assert browser.client.post('/actions/list_nodes', data=form, headers=OURS).status_code == 413


def test_the_description_names_every_route_and_every_action(browser: Browser) -> None:
    paths = browser.client.get('/openapi.json').json()['paths']
    assert set(paths['/actions/label']) == {'get', 'post'}
    body = paths['/actions/label']['post']['requestBody']['content']['application/x-www-form-urlencoded']['schema']
    assert {'structures', 'token', 'time_limit'} <= set(body['properties'])
    assert '/actions/quickstart' not in paths
    assert '/files/view/{path}' in paths


def test_an_app_is_made_from_its_settings(settings: Settings) -> None:
    assert create_app(settings).site.settings is settings


ODD = (
    *('%00', '%0a', '..%2f..%2fetc%2fpasswd', '%2e%2e/%2e%2e', '%ff%fe', '%ed%a0%80', '%E2%80%AE', '%C2%85', '"%27<>'),
    *('a' * 5000, '{{7*7}}', '%25s', 'None', '-1', '1e999', '\u0661', '..;/', '%5c..%5c', 'con', '.'),
)
ODD_FORMS = (
    b'',
    b'&&&=&',
    b'%00=%00',
    b'token=%ff%fe',
    b'=%ed%a0%80',
    b'structures=' + b'%F0%9F%98%80' * 50,
    b'batch_size=' + b'9' * 5000,
    b'batch_size=%D9%A1&time_limit=nan&parameters=a%3D%26b%0aa%3D%2Aa',
    b'time_limit=1e999&wallclock=-0&mesh_spacing=inf',
    b'parameters=' + b'a%3D' + b'%5B' * 3000,
    b'parameters=a%3D!!python/object/apply:os.system',
    b'structures=1&structures=2&structures=3',
    b'structures=%00&name=%00',
    b'name=%EF%BF%BF%C2%85&structures=2147483648',
)


def test_odd_addresses_are_answered_in_words(browser: Browser) -> None:
    for route in {*READS, *CHANGES} - {'/enter'}:
        for odd in ODD:
            path = route
            for parameter in ('{name}', '{path:path}', '{uuid:uuid}', '{name:path}', '{row}'):
                path = path.replace(parameter, odd)
            if path == route:
                continue
            if route in READS:
                response = browser.client.get(path)
            else:
                response = browser.client.post(path, headers=OURS, data={'token': browser.token})
            assert response.status_code < 500, path[:80]
            check_headers(response)


def test_odd_forms_are_answered_in_words(browser: Browser) -> None:
    kind = {'content-type': 'application/x-www-form-urlencoded'}
    for path in ('/actions/label', '/files'):
        for odd in ODD_FORMS:
            content = f'token={browser.token}&'.encode() + odd
            response = browser.client.post(path, content=content, headers=OURS | kind)
            assert response.status_code < 500, (path, odd[:80])
    for kind in ('multipart/form-data', 'multipart/form-data; boundary=x', 'text/plain', 'application/json', 'x'):
        for content in (
            b'',
            b'--x\r\n',
            b'--x\r\nContent-Disposition: form-data; name="token"\r\n\r\nx\r\n--x--',
            b'\0' * 99,
        ):
            response = browser.client.post('/files', content=content, headers=OURS | {'content-type': kind})
            assert response.status_code in (400, 403), (kind, content)
            check_headers(response)


def test_odd_queries_are_answered_in_words(browser: Browser) -> None:
    for query in ODD_FORMS:
        response = browser.client.get(f'/actions/label?{query.decode()}')
        assert response.status_code == 200, query[:80]
