"""Users, groups, grants, sessions and the log in the database of a portal."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text, update
from sqlalchemy.exc import DatabaseError

from aiida_nanoml.portal import database as db
from aiida_nanoml.portal.accounts import Accounts, Actor, Grant, hash_of
from aiida_nanoml.portal.config import PortalConfig, read_config
from aiida_nanoml.portal.database import open_database
from aiida_nanoml.portal.errors import PortalError
from aiida_nanoml.portal.limits import Limit, address_key
from aiida_nanoml.portal.passwords import Hasher
from tests.portal.conftest import QUICK, ROOT, Clock

ALICE = Actor('alice', '192.0.2.1')


def test_a_password_is_kept_as_argon2id_and_nothing_else(accounts: Accounts, tmp_path: Path) -> None:
    password = accounts.add_user(ROOT, 'alice', 'alice')
    assert len(password) >= 20
    content = (tmp_path / 'portal.sqlite').read_bytes()
    assert b'$argon2id$v=19$' in content
    assert password.encode() not in content
    assert (tmp_path / 'portal.sqlite').stat().st_mode & 0o077 == 0


def test_the_parameters_are_those_that_are_recommended() -> None:
    kept = Hasher().hash('a password')
    assert kept.startswith('$argon2id$v=19$m=65536,t=3,p=4$')
    assert Hasher().verify('a password', kept)
    assert not Hasher().verify('another password', kept)
    assert not Hasher().verify('', '')


def test_only_the_right_password_signs_in(accounts: Accounts) -> None:
    password = accounts.add_user(ROOT, 'alice', None)
    for name, wrong in (('alice', password + 'x'), ('alice', ''), ('bob', password), ('', ''), ('alice', 'x' * 10**6)):
        assert accounts.sign_in(name, wrong, '192.0.2.1') is None
    secret = accounts.sign_in('alice', password, '192.0.2.1')
    assert accounts.signed(secret).user.name == 'alice'
    assert accounts.signed(secret + 'x') is None
    refused = [entry.actor for entry in accounts.log(10) if entry.event == 'sign-in refused']
    assert refused == ['alice', '?', '?', 'alice', 'alice'], 'a name that nobody has may be a password'


def test_a_name_that_does_not_exist_costs_the_same_work(accounts: Accounts, monkeypatch: pytest.MonkeyPatch) -> None:
    accounts.add_user(ROOT, 'alice', None)
    from cryptography.hazmat.primitives.kdf import argon2

    parameters = []
    derive, verify = argon2.Argon2id.derive_phc_encoded, argon2.Argon2id.verify_phc_encoded

    class Watched:
        def __init__(self, **settings: object) -> None:
            self._settings = settings

        def derive_phc_encoded(self, password: bytes) -> str:
            parameters.append((self._settings['memory_cost'], self._settings['iterations'], self._settings['lanes']))
            return derive(argon2_class(**self._settings), password)

        @staticmethod
        def verify_phc_encoded(password: bytes, kept: str) -> None:
            settings = dict(part.split('=') for part in kept.split('$')[3].split(','))
            parameters.append((int(settings['m']), int(settings['t']), int(settings['p'])))
            verify(password, kept)

    argon2_class = argon2.Argon2id
    monkeypatch.setattr(argon2, 'Argon2id', Watched)
    for name in ('alice', 'nobody'):
        assert accounts.sign_in(name, 'wrong', '') is None
    assert parameters == [(64, 1, 1)] * 2


def test_sessions_end(accounts: Accounts, clock: Clock) -> None:
    password = accounts.add_user(ROOT, 'alice', None)
    secret = accounts.sign_in('alice', password, '192.0.2.1')
    for _ in range(12):  # used all the time
        clock.now += 80
        assert accounts.signed(secret) is not None
    clock.now += 80
    assert accounts.signed(secret) is None, 'absolute limit of 1000 s'
    secret = accounts.sign_in('alice', password, '192.0.2.1')
    clock.now += 101
    assert accounts.signed(secret) is None, 'idle for 100 s'

    secret = accounts.sign_in('alice', password, '192.0.2.1')
    again = accounts.sign_in('alice', password, '192.0.2.1', hash_of(secret))
    assert again != secret
    assert accounts.signed(secret) is None, 'the session of before ends at a sign-in'
    signed = accounts.signed(again)
    accounts.sign_out(ALICE, signed.session)
    assert accounts.signed(again) is None


def test_who_is_disabled_is_out_at_once(accounts: Accounts) -> None:
    password = accounts.add_user(ROOT, 'alice', None)
    secret = accounts.sign_in('alice', password, '')
    accounts.set_active(ROOT, 'alice', False)
    assert accounts.signed(secret) is None
    assert accounts.sign_in('alice', password, '') is None
    accounts.set_active(ROOT, 'alice', True)
    assert accounts.signed(secret) is None
    assert accounts.sign_in('alice', password, '') is not None


def test_a_new_password_ends_other_sessions(accounts: Accounts) -> None:
    password = accounts.add_user(ROOT, 'alice', None)
    here, elsewhere = (accounts.sign_in('alice', password, '') for _ in range(2))
    signed = accounts.signed(here)
    with pytest.raises(PortalError, match='old password'):
        accounts.change_password(ALICE, signed, 'wrong', 'long enough now')
    with pytest.raises(PortalError, match='12 to 256'):
        accounts.change_password(ALICE, signed, password, 'short')
    accounts.change_password(ALICE, signed, password, 'long enough now')
    assert accounts.signed(here) is not None
    assert accounts.signed(elsewhere) is None
    assert accounts.sign_in('alice', password, '') is None
    new = accounts.reset_password(ROOT, 'alice')
    assert accounts.signed(here) is None
    assert accounts.sign_in('alice', new, '') is not None


def test_grants_come_directly_and_by_groups(accounts: Accounts) -> None:
    for name in ('alice', 'bob'):
        accounts.add_user(ROOT, name, None)
    assert accounts.granted('alice') == frozenset()
    accounts.grant(ROOT, Grant('rmatrix', 'user', 'alice'))
    accounts.grant(ROOT, Grant('rmatrix', 'user', 'alice'))
    accounts.grant(ROOT, Grant('cbn_ann', 'group', 'flakes'))
    accounts.grant(ROOT, Grant('provenance', 'group', 'everybody'))
    accounts.add_member(ROOT, 'flakes', 'alice')
    assert accounts.granted('alice') == {'rmatrix', 'cbn_ann', 'provenance'}
    assert accounts.granted('bob') == {'provenance'}
    assert accounts.groups() == {'everybody': [], 'flakes': ['alice']}
    accounts.remove_member(ROOT, 'flakes', 'alice')
    accounts.revoke(ROOT, Grant('rmatrix', 'user', 'alice'))
    assert accounts.granted('alice') == {'provenance'}
    for refused in (
        Grant('nonsense', 'user', 'alice'),
        Grant('rmatrix', 'user', 'carol'),
        Grant('rmatrix', 'group', 'A b'),
    ):
        with pytest.raises(PortalError):
            accounts.grant(ROOT, refused)
    with pytest.raises(PortalError, match='is not granted'):
        accounts.revoke(ROOT, Grant('rmatrix', 'user', 'alice'))
    # A group that has the name of a user has nothing to do with that user.
    accounts.grant(ROOT, Grant('alloys', 'group', 'bob'))
    assert accounts.granted('bob') == {'provenance'}


def test_names_and_accounts_belong_to_one(accounts: Accounts) -> None:
    accounts.add_user(ROOT, 'alice', 'alice')
    for name, account in (('alice', None), ('bob', 'alice')):
        with pytest.raises(PortalError, match='exists'):
            accounts.add_user(ROOT, name, account)
    for name in ('', 'Alice', 'a b', '1a', 'a' * 33, '../x', 'é', 'a\n'):
        with pytest.raises(PortalError, match='cannot be a name'):
            accounts.add_user(ROOT, name, None)
    assert [user.name for user in accounts.users()] == ['alice']


def test_somebody_can_always_administer(accounts: Accounts) -> None:
    accounts.add_user(ROOT, 'alice', None, admin=True)
    for change in (lambda: accounts.set_admin(ROOT, 'alice', False), lambda: accounts.set_active(ROOT, 'alice', False)):
        with pytest.raises(PortalError, match='last administrator'):
            change()
    accounts.add_user(ROOT, 'bob', None, admin=True)
    accounts.set_admin(ROOT, 'alice', False)
    assert [user.admin for user in accounts.users()] == [False, True]


def test_every_change_is_in_the_log_which_only_grows(accounts: Accounts, tmp_path: Path) -> None:
    accounts.add_user(ROOT, 'alice', None)
    accounts.grant(ALICE, Grant('rmatrix', 'user', 'alice'))
    accounts.announce(ROOT, 'away on Monday')
    assert [(entry.actor, entry.address, entry.event, entry.detail) for entry in accounts.log(9)] == [
        ('unix:root', '', 'announce', 'away on Monday'),
        ('alice', '192.0.2.1', 'grant', 'rmatrix user alice'),
        ('unix:root', '', 'user add', 'alice account=None admin=False'),
    ]
    assert len(accounts.log(1)) == 1
    assert len(accounts.log(9, 'alice')) == 1
    engine = open_database(f'sqlite:///{tmp_path}/portal.sqlite')
    for change in (update(db.log).values(actor='bob'), db.log.delete()):
        with pytest.raises(DatabaseError, match='the log only grows'), engine.begin() as connection:
            connection.execute(change)
    assert len(accounts.log(9)) == 3


def test_announcements_are_told_until_their_time(accounts: Accounts, clock: Clock) -> None:
    accounts.announce(ROOT, 'for good')
    accounts.announce(ROOT, 'for a while', until=clock.now + 50)
    assert [one.text for one in accounts.announcements()] == ['for a while', 'for good']
    clock.now += 50
    [left] = accounts.announcements()
    accounts.withdraw(ROOT, left.id)
    assert accounts.announcements() == []
    with pytest.raises(PortalError):
        accounts.withdraw(ROOT, left.id)


def test_tables_of_another_version_are_left_alone(accounts: Accounts, tmp_path: Path) -> None:
    engine = open_database(f'sqlite:///{tmp_path}/portal.sqlite')
    with engine.begin() as connection:
        connection.execute(text('UPDATE nanoml_portal SET version = 99'))
    with pytest.raises(PortalError, match='have version 99, this program knows 1'):
        open_database(f'sqlite:///{tmp_path}/portal.sqlite')


def test_a_database_that_cannot_be_used_is_told(tmp_path: Path) -> None:
    for url in ('nonsense', 'nodialect://x', f'sqlite:///{tmp_path}/no/such/folder.sqlite'):
        with pytest.raises(PortalError, match='database'):
            open_database(url)
    (tmp_path / 'text').write_text('no database')
    with pytest.raises(PortalError, match='not a database'):
        open_database(f'sqlite:///{tmp_path}/text')
    if os.geteuid() == 0:
        with pytest.raises(PortalError, match="no unix account 'nobody-at-all'"):
            open_database(f'sqlite:///{tmp_path}/new.sqlite', 'nobody-at-all')


def test_tries_are_counted_for_each_key_in_a_window() -> None:
    now = [0.0]
    limit = Limit(clock=lambda: now[0])
    assert [limit.allow('user a', 'address 1') for _ in range(6)] == [True] * 5 + [False]
    assert not limit.allow('user a', 'address 2')
    assert not limit.allow('user b', 'address 1')
    assert limit.allow('user b', 'address 2')
    now[0] = 59.9
    assert not limit.allow('user a')
    now[0] = 60.0
    assert limit.allow('user a')


def test_a_network_of_ipv6_is_one_address() -> None:
    assert address_key('192.0.2.7') == '192.0.2.7'
    assert address_key('2001:db8:1:2::1') == address_key('2001:db8:1:2:ffff::9') != address_key('2001:db8:1:3::1')
    assert address_key('testclient') == 'testclient'


@pytest.mark.parametrize(
    ('line', 'message'),
    [
        ('origin = "http://nanoml.example.org"', 'passwords need https'),
        ('origin = "https://nanoml.example.org/portal"', 'scheme and host alone'),
        ('origin = "nanoml.example.org"', 'scheme and host alone'),
        ('origin = "https://a.example"\nlisten = "8080"', 'write address and port'),
        ('origin = "https://a.example"\ncolour = "red"', 'colour: extra inputs are not permitted'),
        ('origin = "https://a.example"\nsession_s = 0', 'session_s: input should be greater than 0'),
        ('', 'origin: field required'),
        ('origin = ', 'is no TOML'),
    ],
)
def test_a_wrong_configuration_is_told(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / 'portal.toml'
    path.write_text(line)
    with pytest.raises(PortalError, match=message) as error:
        read_config(path)
    assert str(path) in str(error.value)


def test_a_cookie_that_only_this_host_can_set_comes_with_tls() -> None:
    assert PortalConfig(origin='https://nanoml.example.org').cookie == '__Host-nanoml'
    local = PortalConfig(origin='http://127.0.0.1:8000')
    assert (local.cookie, local.host, local.secure) == ('nanoml-8000', '127.0.0.1:8000', False)


@pytest.fixture(scope='module')
def postgresql() -> Iterator[str]:
    """The URL of a PostgreSQL that runs for these tests alone."""
    programs = sorted(Path('/usr/lib/postgresql').glob('*/bin/initdb'))
    if not programs or os.geteuid() != 0:
        pytest.skip('PostgreSQL is not installed, or its account cannot be taken')
    folder = Path(tempfile.mkdtemp(prefix='nanoml-pg-', dir='/tmp'))
    account = pwd.getpwnam('postgres')
    os.chown(folder, account.pw_uid, account.pw_gid)

    def run(program: str, *words: str) -> None:
        found = [programs[-1].with_name(program), *words]
        subprocess.run(found, check=True, stdout=subprocess.DEVNULL, user='postgres', cwd=folder)

    run('initdb', '--pgdata', f'{folder}/data', '--auth', 'trust', '--no-sync')
    options = f"-k {folder} -c listen_addresses='' -c fsync=off"
    run('pg_ctl', '--pgdata', f'{folder}/data', '--log', f'{folder}/log', '--wait', '--options', options, 'start')
    try:
        yield f'postgresql+psycopg://postgres@/postgres?host={folder}'
    finally:
        run('pg_ctl', '--pgdata', f'{folder}/data', '--mode', 'immediate', 'stop')
        shutil.rmtree(folder)


def test_postgresql_keeps_the_same(postgresql: str, clock: Clock) -> None:
    engine = open_database(postgresql)
    accounts = Accounts(engine, session_s=1000.0, session_idle_s=100.0, hasher=QUICK, clock=clock)
    password = accounts.add_user(ROOT, 'alice', 'alice')
    with pytest.raises(PortalError, match='exists'):
        accounts.add_user(ROOT, 'bob', 'alice')
    accounts.grant(ROOT, Grant('rmatrix', 'user', 'alice'))
    accounts.set_quota(ROOT, 'alice', 10**13)
    secret = accounts.sign_in('alice', password, '192.0.2.1')
    signed = accounts.signed(secret)
    assert (signed.user.quota_bytes, signed.applications) == (10**13, {'rmatrix'})
    accounts.revoke(ROOT, Grant('rmatrix', 'user', 'alice'))
    accounts.announce(ROOT, 'away on Monday')
    assert [one.text for one in accounts.announcements()] == ['away on Monday']
    assert [entry.event for entry in accounts.log(9)][:3] == ['announce', 'revoke', 'sign-in']
    for change in (update(db.log).values(actor='bob'), db.log.delete(), text('TRUNCATE log')):
        with pytest.raises(DatabaseError, match='the log only grows'), engine.begin() as connection:
            connection.execute(change)
    engine.dispose()
    again = open_database(postgresql)
    assert len(Accounts(again, session_s=1.0, session_idle_s=1.0).log(9)) == 6
    again.dispose()
