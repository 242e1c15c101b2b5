"""The front as browsers see it: sign-in, sessions, and the rules of every route of its own."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable

import httpx2 as httpx
from starlette.routing import Route

from aiida_nanoml.portal.accounts import Accounts
from aiida_nanoml.portal.front import Front
from aiida_nanoml.portal.pages import REFUSED
from aiida_nanoml.web.guard import HEADERS
from tests.portal.conftest import FORBIDDEN, HOST, OURS, ROOT, Clock, sign_in, token_of

OPEN_READS = {'/portal/sign-in'}
READS = {'/portal/account', '/portal/static/nanoml.js'}
CHANGES = {'/portal/sign-out', '/portal/account/password', '/portal/account/sessions'}
ADMIN_READS = {f'/portal/admin/{name}' for name in ('users', 'groups', 'grants', 'announcements', 'log')}
ADMIN_CHANGES = (ADMIN_READS - {'/portal/admin/log'}) | {'/portal/admin/users/alice'}
PATTERNS = {
    '/portal/admin/users/{name}': '/portal/admin/users/alice',
    '/portal/static/{path:path}': '/portal/static/nanoml.js',
    '/{path:path}': '/files',
}
"""An address of each route that has parameters."""


def test_the_front_imports_no_aiida() -> None:
    program = 'import sys, aiida_nanoml.portal.serving; print({"aiida", "tensorflow", "pandas"} & set(sys.modules))'
    assert (
        subprocess.run([sys.executable, '-c', program], check=True, capture_output=True, text=True).stdout == 'set()\n'
    )


def test_every_route_is_in_a_table(front: Front) -> None:
    found: dict[str, set[str]] = {'GET': set(), 'POST': set()}
    for route in front.routes:
        assert isinstance(route, Route)
        for method in (route.methods or {'GET'}) - {'HEAD'}:
            found[method].add(PATTERNS.get(route.path, route.path))
    assert found['GET'] == OPEN_READS | READS | ADMIN_READS | {'/files'}
    assert found['POST'] == OPEN_READS | CHANGES | ADMIN_CHANGES


def test_nobody_sees_or_changes_anything_without_a_session(browser: Callable[[], httpx.Client]) -> None:
    for path in READS | ADMIN_READS | {'/', '/files', '/nonsense', '/openapi.json'}:
        for cookie in ('', '__Host-nanoml=x', '__Host-nanoml='):
            response = browser().get(path, headers={'cookie': cookie})
            assert (response.status_code, response.headers['location']) == (303, '/portal/sign-in'), path
    for path in CHANGES | ADMIN_CHANGES | {'/files', '/actions/label'}:
        assert browser().post(path, data={'token': 'x'}, headers=OURS).status_code == 401, path


def test_only_forms_of_our_pages_change_anything(alice: httpx.Client) -> None:
    token = token_of(alice)
    for path in CHANGES | ADMIN_CHANGES | OPEN_READS | {'/files', '/actions/label'}:
        for headers in FORBIDDEN:
            response = alice.post(path, data={'token': token}, headers=headers)
            assert response.status_code == 403, (path, headers)
    for path in CHANGES | ADMIN_CHANGES:
        for wrong in ('', 'x', token[:-1]):
            assert alice.post(path, data={'token': wrong}, headers=OURS).status_code == 403, (path, wrong)
        assert alice.get(path).status_code != 200
    assert alice.get('/portal/account').status_code == 200, 'nothing of it ended the session'


def test_other_names_of_the_server_are_refused(alice: httpx.Client) -> None:
    for host in ('evil.example', f'{HOST}:8443', f'{HOST}.evil.example', '127.0.0.1', ''):
        for path in (*READS, *OPEN_READS, '/files'):
            assert alice.get(path, headers={'host': host}).status_code == 403, (host, path)


def test_every_answer_has_the_headers(alice: httpx.Client) -> None:
    for path in READS | {'/nonsense', '/files', '/portal/nonsense'}:
        response = alice.get(path)
        for name, value in HEADERS.items():
            assert response.headers[name] == value, (path, name)
        assert response.headers['strict-transport-security'] == 'max-age=31536000'
    assert "script-src 'unsafe" not in HEADERS['content-security-policy']


def test_the_cookie_is_for_this_host_over_tls_alone(alice: httpx.Client, browser: Callable[[], httpx.Client]) -> None:
    cookie = sign_in(browser(), 'alice', alice.password).headers['set-cookie']
    name, *rest = (part.strip() for part in cookie.split(';'))
    assert re.fullmatch(r'__Host-nanoml=[\w-]{43}', name)
    assert {part.lower() for part in rest} == {'httponly', 'path=/', 'samesite=strict', 'secure'}


def test_a_sign_in_begins_another_session(alice: httpx.Client) -> None:
    before = alice.cookies['__Host-nanoml']
    sign_in(alice, 'alice', alice.password)
    assert alice.cookies['__Host-nanoml'] != before
    alice.cookies.clear()
    assert alice.get('/portal/account', headers={'cookie': f'__Host-nanoml={before}'}).status_code == 303
    fixed = 'x' * 43  # a session that somebody else chose is not taken over
    response = alice.post(
        '/portal/sign-in',
        data={'name': 'alice', 'password': alice.password},
        headers=OURS | {'cookie': f'__Host-nanoml={fixed}'},
    )
    assert fixed not in response.headers['set-cookie']


def test_refusals_tell_nobody_which_names_exist(
    accounts: Accounts, alice: httpx.Client, browser: Callable[[], httpx.Client]
) -> None:
    accounts.add_user(ROOT, 'bob', None)
    accounts.set_active(ROOT, 'bob', False)
    pages = {sign_in(browser(), name, 'wrong').text for name in ('alice', 'bob', 'carol', 'é\0')}
    assert len(pages) == 1
    assert REFUSED in pages.pop()


def test_five_tries_a_minute_for_an_account_and_for_an_address(
    accounts: Accounts, alice: httpx.Client, browser: Callable[[], httpx.Client], clock: Clock
) -> None:
    clock.now += 60
    statuses = [
        sign_in(browser(), 'alice', 'wrong', **{'x-forwarded-for': f'192.0.2.{number}'}).status_code
        for number in range(6)
    ]
    assert statuses == [401] * 5 + [429]
    assert sign_in(browser(), 'alice', alice.password, **{'x-forwarded-for': '192.0.2.99'}).status_code == 429
    statuses = [
        # What a client claims itself stands before what the proxy adds.
        sign_in(browser(), f'user{number}', 'x', **{'x-forwarded-for': f'10.0.0.{number}, 198.51.100.1'}).status_code
        for number in range(6)
    ]
    assert statuses == [401] * 5 + [429]
    clock.now += 60
    assert sign_in(browser(), 'alice', alice.password, **{'x-forwarded-for': '192.0.2.99'}).status_code == 303
    assert accounts.log(1)[0].address == '192.0.2.99'


def test_a_session_ends_where_its_user_ends_it(alice: httpx.Client, browser: Callable[[], httpx.Client]) -> None:
    other = browser()
    sign_in(other, 'alice', alice.password)
    alice.post('/portal/sign-out', data={'token': token_of(alice)}, headers=OURS)
    assert alice.get('/portal/account').status_code == 303
    assert other.get('/portal/account').status_code == 200
    sign_in(alice, 'alice', alice.password)
    other.post('/portal/account/sessions', data={'token': token_of(other)}, headers=OURS)
    assert alice.get('/portal/account').status_code == 303


def test_a_token_of_another_session_is_refused(alice: httpx.Client, browser: Callable[[], httpx.Client]) -> None:
    other = browser()
    sign_in(other, 'alice', alice.password)
    assert alice.post('/portal/sign-out', data={'token': token_of(other)}, headers=OURS).status_code == 403


def test_a_password_is_changed(alice: httpx.Client, browser: Callable[[], httpx.Client]) -> None:
    form = {'token': token_of(alice), 'old': alice.password, 'new': 'long enough now', 'again': 'long enough now'}
    refused = alice.post('/portal/account/password', data=form | {'again': 'another one now'}, headers=OURS)
    assert 'not typed the same twice' in refused.text
    assert (
        'the old password is not right'
        in alice.post('/portal/account/password', data=form | {'old': 'x'}, headers=OURS).text
    )
    assert alice.post('/portal/account/password', data=form, headers=OURS).status_code == 200
    assert sign_in(browser(), 'alice', alice.password).status_code == 401
    assert sign_in(browser(), 'alice', 'long enough now').status_code == 303


def test_what_cannot_be_started_is_told(
    accounts: Accounts, alice: httpx.Client, browser: Callable[[], httpx.Client]
) -> None:
    response = alice.get('/files')
    assert response.status_code == 503
    assert 'your server cannot be started: nothing is started in this test' in response.text
    assert alice.get('/actions/label').status_code == 403, 'not granted: nobody is asked to start anything'
    password = accounts.add_user(ROOT, 'bob', None)
    bob = browser()
    sign_in(bob, 'bob', password)
    response = bob.get('/')
    assert response.headers['location'] == '/portal/account'
    assert 'Unix account: none' in bob.get('/portal/account').text


def test_announcements_are_on_every_page(
    accounts: Accounts, alice: httpx.Client, browser: Callable[[], httpx.Client]
) -> None:
    accounts.announce(ROOT, '<b>away</b> on Monday')
    for response in (alice.get('/portal/account'), browser().get('/portal/sign-in')):
        assert '&lt;b&gt;away&lt;/b&gt; on Monday' in response.text
