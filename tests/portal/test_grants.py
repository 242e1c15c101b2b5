"""Grants act in the router: a user's server behind the front, every route of it asked in every way that is refused."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace

import httpx2 as httpx
import pytest
from starlette.testclient import TestClient

from aiida_nanoml.actions.registry import action_class, action_names
from aiida_nanoml.portal.backend import FrontIdentity
from aiida_nanoml.portal.identity_header import HEADER, LIFE_S, Claim, read, sign
from aiida_nanoml.web.app import WebApp, create_app
from aiida_nanoml.web.applications import all_applications
from aiida_nanoml.web.grants import allows, applications_of
from aiida_nanoml.web.openapi import walk
from aiida_nanoml.web.site import Settings
from tests.portal.conftest import FORBIDDEN as FRONT_FORBIDDEN
from tests.portal.conftest import OURS as FRONT_OURS
from tests.portal.conftest import token_of
from tests.web.conftest import ORIGIN, OURS
from tests.web.test_security import CHANGES, FORBIDDEN, READS

SECRET = b's' * 32
ALICE = Claim('alice', 'the token', frozenset({'provenance'}))

EVERYBODY = None
NEEDED = {
    '/': EVERYBODY,
    '/actions': EVERYBODY,
    '/actions/{name}': 'rmatrix',
    '/actions/{name}/estimate': 'cbn_ann',
    '/applications/cbn_ann/': 'cbn_ann',
    '/applications/rmatrix/': 'rmatrix',
    '/applications/rmatrix/compute': 'rmatrix',
    '/applications/rmatrix/results/{name}': 'rmatrix',
    '/applications/rmatrix/results/{name}/transmission.csv': 'rmatrix',
    '/applications/{name}': 'rmatrix',
    '/files': EVERYBODY,
    '/files/delete/{path:path}': EVERYBODY,
    '/files/download/{path:path}': EVERYBODY,
    '/files/view/{path:path}': EVERYBODY,
    '/nodes/{uuid:uuid}': EVERYBODY,
    '/nodes/{uuid:uuid}/files/{name:path}': EVERYBODY,
    '/nodes/{uuid:uuid}/rows/{row}': EVERYBODY,
    '/openapi.json': EVERYBODY,
    '/processes': EVERYBODY,
    '/processes/{uuid:uuid}': EVERYBODY,
    '/processes/{uuid:uuid}/events': EVERYBODY,
    '/runs': EVERYBODY,
    '/runs/{name}': EVERYBODY,
    '/runs/{name}/events': EVERYBODY,
    '/runs/{name}/log': EVERYBODY,
    '/runs/{name}/stop': EVERYBODY,
    '/static/{path:path}': EVERYBODY,
    '/structures/{uuid:uuid}/{row}': EVERYBODY,
}
"""The application that the address of a route needs; a new route needs a row."""

ADDRESSES = {path: READS.get(path) or CHANGES[path] for path in NEEDED} | {
    '/actions/{name}': '/actions/rmatrix',
    '/applications/{name}': '/applications/rmatrix',
}
ASKED = [
    *(('GET', path) for path in READS if path in NEEDED),
    *(('POST', path) for path in CHANGES),
]


@pytest.fixture
def app(settings: Settings) -> WebApp:
    """The pages of alice."""
    return create_app(replace(settings, identity=FrontIdentity('alice', SECRET)), lambda name: None)


@pytest.fixture
def client(app: WebApp) -> Iterator[httpx.Client]:
    with TestClient(app, base_url=ORIGIN, follow_redirects=False) as made:
        yield made


def ask(client: httpx.Client, method: str, path: str, claim: Claim, **headers: str) -> int:
    """Ask as the front does, and return the status."""
    signed = {HEADER: sign(SECRET, claim, method, path.encode())}
    data = {'token': claim.token} if method == 'POST' else None
    return client.request(method, path, data=data, headers=OURS | signed | headers).status_code


def test_every_route_is_in_the_table(app: WebApp) -> None:
    assert {path for path, _ in walk(app.routes)} == set(NEEDED)


@pytest.mark.parametrize(('method', 'path'), ASKED)
def test_a_route_is_for_its_user_with_its_application_from_our_pages(
    client: httpx.Client, method: str, path: str
) -> None:
    address, needed = ADDRESSES[path], NEEDED[path]
    without = replace(ALICE, applications=frozenset({'alloys'}))
    granted = replace(ALICE, applications=frozenset({needed})) if needed else without
    assert ask(client, method, address, granted) not in (401, 403)
    assert ask(client, method, address, without) == (403 if needed else ask(client, method, address, granted))
    assert ask(client, method, address, replace(granted, user='bob')) == 401
    assert client.request(method, address, headers=OURS).status_code == 401
    if method == 'POST':
        for headers in FORBIDDEN:
            signed = {HEADER: sign(SECRET, granted, method, address.encode())}
            response = client.post(address, data={'token': granted.token}, headers=headers | signed)
            assert response.status_code == 403, headers
        wrong = {HEADER: sign(SECRET, granted, method, address.encode())}
        assert client.post(address, data={'token': 'another'}, headers=OURS | wrong).status_code == 403


@pytest.mark.parametrize(('method', 'path'), ASKED)
def test_the_front_refuses_the_same_before_anything_is_started(
    alice: httpx.Client,
    method: str,
    path: str,
) -> None:
    address = ADDRESSES[path]
    data = {'token': token_of(alice)} if method == 'POST' else None
    expected = 503 if NEEDED[path] is EVERYBODY else 403
    assert alice.request(method, address, data=data, headers=FRONT_OURS).status_code == expected
    if method == 'POST':
        for headers in FRONT_FORBIDDEN:
            assert alice.request(method, address, data=data, headers=headers).status_code == 403


def test_every_spelling_of_an_address_is_judged_as_it_is_routed(client: httpx.Client) -> None:
    for path in (
        '/actions/rmatri%78',
        '/actions/%72matrix',
        '/%61ctions/rmatrix',
        '/actions/rmatrix?name=list_nodes',
        '/actions/rmatrix/',
        '/actions/rmatrix/estimate/',
    ):
        assert ask(client, 'GET', path, ALICE) == 403, path
    for path in (
        '/actions/rmatrix%3F',
        '/actions/list_nodes%2F..%2Frmatrix',
        '/actions/list_nodes%3F',
    ):
        assert ask(client, 'GET', path, ALICE) in (403, 404), path
    assert ask(client, 'GET', '/actions/list_nodes', ALICE) == 200


def test_each_action_needs_one_of_its_applications() -> None:
    everything = {one.name for one in all_applications()} | {'others'}
    for name in action_names():
        needed = applications_of(name)
        assert needed <= everything
        assert allows(f'/actions/{name}', needed)
        assert not allows(f'/actions/{name}', everything - needed), name
        assert allows(f'/actions/{name}', None)
    assert not allows('/actions/no_such_action', everything - {'others'})
    assert not allows('/applications/rmatrix/own/page', everything - {'rmatrix'})
    shown = {name for name in action_names() if not action_class(name).in_terminal_only}
    assert {name for name in shown if applications_of(name) == {'others'}} == set()


def test_menus_show_what_is_granted(client: httpx.Client) -> None:
    def page(path: str, *applications: str) -> str:
        claim = replace(ALICE, applications=frozenset(applications))
        return client.get(path, headers={HEADER: sign(SECRET, claim, 'GET', path.encode())}).text

    assert 'R-MATRIX' in page('/', 'rmatrix')
    assert 'R-MATRIX' not in page('/', 'alloys')
    assert '/actions/rmatrix"' in page('/actions', 'rmatrix')
    assert '/actions/rmatrix"' not in page('/actions', 'alloys')


def test_a_signature_is_for_one_request_for_a_short_time() -> None:
    now = time.time()
    header = sign(SECRET, ALICE, 'GET', b'/files?x=1', now)
    assert read(SECRET, header, 'GET', b'/files?x=1', now + LIFE_S) == ALICE
    payload, _, mac = header.partition('.')
    for secret, value, method, target, later in (
        (b'x' * 32, header, 'GET', b'/files?x=1', 0),
        (SECRET, header, 'POST', b'/files?x=1', 0),
        (SECRET, header, 'GET', b'/files', 0),
        (SECRET, header, 'GET', b'/files?x=1', LIFE_S + 1),
        (SECRET, header, 'GET', b'/files?x=1', -LIFE_S - 1),
        (SECRET, payload, 'GET', b'/files?x=1', 0),
        (SECRET, f'{payload}A.{mac}', 'GET', b'/files?x=1', 0),
        (SECRET, f'{payload}.{mac}é', 'GET', b'/files?x=1', 0),
        (SECRET, '', 'GET', b'/files?x=1', 0),
    ):
        assert read(secret, value, method, target, now + later) is None
