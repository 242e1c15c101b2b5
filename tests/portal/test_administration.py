"""Pages of administrators, which are not there for anybody else."""

from __future__ import annotations

import re
from collections.abc import Callable

import httpx2 as httpx
import pytest

from aiida_nanoml.portal.accounts import Accounts
from tests.portal.conftest import OURS, ROOT, sign_in, token_of
from tests.portal.test_front import ADMIN_CHANGES, ADMIN_READS
from tests.web.conftest import elements, text_of

Post = Callable[..., httpx.Response]


@pytest.fixture
def carol(accounts: Accounts, alice: httpx.Client, browser: Callable[[], httpx.Client]) -> httpx.Client:
    """A browser of an administrator, beside alice who is none."""
    client = browser()
    sign_in(client, 'carol', accounts.add_user(ROOT, 'carol', None, admin=True))
    return client


@pytest.fixture
def post(carol: httpx.Client) -> Post:
    """Send a form of the administrator."""
    token = token_of(carol)
    return lambda path, **form: carol.post(f'/portal/admin/{path}', data={'token': token, **form}, headers=OURS)


def test_they_are_there_for_administrators_alone(alice: httpx.Client, carol: httpx.Client) -> None:
    token = token_of(alice)
    for path in ADMIN_READS:
        assert alice.get(path).status_code == 404
        assert carol.get(path).status_code == 200
        assert path not in alice.get('/portal/account').text
        assert f'href="{path}"' in carol.get('/portal/account').text
    for path in ADMIN_CHANGES:
        assert alice.post(path, data={'token': token}, headers=OURS).status_code == 404


def test_a_user_is_added_and_changed(
    accounts: Accounts, alice: httpx.Client, post: Post, browser: Callable[[], httpx.Client]
) -> None:
    page = text_of(post('users', name='bob', account='bob').text)
    password = re.search(r'the password of bob, which is shown once: ([\w-]{20})', page)[1]
    bob = browser()
    assert sign_in(bob, 'bob', password).status_code == 303
    assert accounts.user('bob').account == 'bob'

    assert post('users/bob', do='account', account='robert').status_code == 303
    assert post('users/bob', do='quota', quota='2.5').status_code == 303
    assert post('users/bob', do='admin').status_code == 303
    user = accounts.user('bob')
    assert (user.account, user.quota_bytes, user.admin) == ('robert', 2.5e9, True)
    post('users/bob', do='no admin')
    post('users/bob', do='quota', quota='')
    post('users/bob', do='account', account='')
    user = accounts.user('bob')
    assert (user.account, user.quota_bytes, user.admin) == (None, None, False)

    post('users/bob', do='sessions')
    assert bob.get('/portal/account').status_code == 303
    new = re.search(r'once: ([\w-]{20})', post('users/bob', do='password').text)[1]
    post('users/bob', do='disable')
    assert sign_in(browser(), 'bob', new).status_code == 401
    post('users/bob', do='enable')
    assert sign_in(browser(), 'bob', new).status_code == 303
    assert {entry.actor for entry in accounts.log(6) if entry.event.startswith('user')} == {'carol'}


@pytest.mark.parametrize(
    ('path', 'form', 'message'),
    [
        ('users', {'name': 'alice'}, 'the user alice exists'),
        ('users', {'name': '../x'}, 'cannot be a name'),
        ('users/carol', {'do': 'disable'}, 'carol is the last administrator'),
        ('users/nobody', {'do': 'disable'}, 'there is no user'),
        ('users/alice', {'do': 'explode'}, 'is nothing that can be done with a user'),
        ('users/alice', {'do': 'quota', 'quota': 'inf'}, 'is no size: write a number of GB'),
        ('users/alice', {'do': 'quota', 'quota': '-1'}, 'give a number above 0'),
        ('groups', {'do': 'add', 'group': 'flakes', 'user': 'nobody'}, 'there is no user'),
        ('groups', {'do': 'remove', 'group': 'flakes', 'user': 'alice'}, 'alice is not in the group flakes'),
        ('grants', {'after': 'nonsense user alice'}, 'there is no application'),
        ('grants', {'after': 'rmatrix'}, 'is no grant'),
        ('announcements', {'text': ' '}, 'has 1 to 2000 characters'),
        ('announcements', {'withdraw': '7'}, 'there is no announcement 7'),
        ('announcements', {'withdraw': 'x'}, 'there is no announcement 0'),
    ],
)
def test_refusals_say_why(post: Post, path: str, form: dict[str, str], message: str) -> None:
    response = post(path, **form)
    assert response.status_code == 422
    assert message in text_of(response.text)


def test_grants_are_a_table_of_boxes(accounts: Accounts, carol: httpx.Client, post: Post) -> None:
    post('groups', do='add', group='flakes', user='alice')
    post('grants', after=['rmatrix user alice', 'cbn_ann group flakes'])
    assert accounts.granted('alice') == {'rmatrix', 'cbn_ann'}
    page = carol.get('/portal/admin/grants').text
    ticked = {one['value'] for one in elements(page, 'input') if 'checked' in one}
    assert ticked == {'rmatrix user alice', 'cbn_ann group flakes'}
    # Meanwhile another administrator grants something: it stays.
    post('grants', after=['alloys user alice'])
    post('grants', before=sorted(ticked), after=['cbn_ann group flakes', 'densities user alice'])
    assert accounts.granted('alice') == {'cbn_ann', 'alloys', 'densities'}
    post('groups', do='remove', group='flakes', user='alice')
    assert accounts.granted('alice') == {'alloys', 'densities'}


def test_an_announcement_is_made_and_withdrawn(alice: httpx.Client, carol: httpx.Client, post: Post) -> None:
    post('announcements', text='away on <Monday>')
    assert 'away on &lt;Monday&gt;' in alice.get('/portal/account').text
    page = carol.get('/portal/admin/announcements').text
    [number] = {one['value'] for one in elements(page, 'button') if one.get('name') == 'withdraw'}
    post('announcements', withdraw=number)
    assert 'Monday' not in alice.get('/portal/account').text


def test_the_log_tells_who_did_what(carol: httpx.Client, post: Post) -> None:
    post('groups', do='add', group='flakes', user='alice')
    page = text_of(carol.get('/portal/admin/log').text)
    assert re.search(r'carol\s+testclient\s+group add\s+flakes alice', page)
    assert 'unix:root' in page
    assert 'unix:root' not in text_of(carol.get('/portal/admin/log?user=carol').text)


@pytest.mark.parametrize(
    'payload', ['<script>alert(1)</script>', '"><img src=x onerror=alert(1)>', "' onclick='x", '{{ 7777 * 3 }}']
)
def test_no_text_becomes_markup(carol: httpx.Client, post: Post, payload: str) -> None:
    pages = [
        post('users', name=payload, account=payload).text,
        post('users/alice', do=payload).text,
        post('users/alice', do='account', account=payload).text,
        post('groups', do='add', group=payload, user=payload).text,
        post('grants', after=payload).text,
        post('announcements', text=payload).text,
        *(carol.get(path).text for path in ADMIN_READS),
        carol.get('/portal/admin/log', params={'user': payload}).text,
        carol.post('/portal/sign-in', data={'name': payload, 'password': payload}, headers=OURS).text,
    ]
    for page in pages:
        assert not elements(page, 'script', 'img')[1:], 'beside the icon'
        assert not any(name.startswith('on') for one in elements(page, 'input', 'a', 'p', 'button') for name in one)
        assert '23331' not in text_of(page)
