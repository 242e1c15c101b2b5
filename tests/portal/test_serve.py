"""A portal as real processes under real unix accounts: who can reach what, and what a kill loses."""

from __future__ import annotations

import os
import pwd
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from aiida_nanoml.portal.accounts import Grant
from aiida_nanoml.portal.config import read_config
from aiida_nanoml.portal.errors import PortalError
from aiida_nanoml.portal.spawner import Spawner
from tests.portal.conftest import ROOT, START_S, Client, Portal
from tests.web.conftest import elements, text_of


@pytest.fixture(scope='module')
def portal(people: dict[str, str]) -> Iterator[Portal]:
    """A portal with alice, who may make flakes, and bob, who may not."""
    made = Portal(Path(people['folder']), f'account = "{people["front"]}"\ngroup = "{people["group"]}"\n')
    accounts = made.accounts
    made.passwords = {name: accounts.add_user(ROOT, name, people[name]) for name in ('alice', 'bob')}
    accounts.grant(ROOT, Grant('cbn_ann', 'user', 'alice'))
    accounts.grant(ROOT, Grant('provenance', 'group', 'everybody'))
    made.start()
    yield made
    assert made.stop() == 0


@pytest.fixture(scope='module')
def alice(portal: Portal) -> Client:
    return signed_in(portal, 'alice')


@pytest.fixture(scope='module')
def bob(portal: Portal) -> Client:
    return signed_in(portal, 'bob')


def signed_in(portal: Portal, name: str) -> Client:
    client = Client(portal.origin)
    assert client.sign_in(name, portal.passwords[name]).status_code == 303
    return client


def make_flakes(client: Client, name: str, count: int = 3) -> str:
    """Make flakes, and return the address of the run."""
    form = {'family': 'z', 'size': '4', 'count': str(count), 'seed': '1', 'name': name}
    response = client.post('/actions/generate_flakes', **form)
    assert response.status_code == 200, text_of(response.text)
    assert response.url.path.startswith('/runs/')
    return response.url.path


def as_account(account: str, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, check=False, capture_output=True, text=True, user=account, extra_groups=[])


def test_each_has_files_nodes_and_runs_of_their_own(
    portal: Portal, people: dict[str, str], alice: Client, bob: Client
) -> None:
    run = make_flakes(alice, 'few')
    [node, *_] = [one['href'] for one in elements(alice.ended(run), 'a') if one.get('href', '').startswith('/nodes/')]
    assert '3 structures' in text_of(alice.get(node).text)
    upload = {'file': ('secret.txt', b'for alice alone')}
    token = {'token': alice.token()}
    assert alice.client.post('/files', data=token, files=upload, headers=alice.headers).status_code == 200
    assert alice.get('/files/download/secret.txt').content == b'for alice alone'

    for path in (run, f'{run}/log', node, '/files/download/secret.txt', '/files/view/secret.txt'):
        assert alice.get(path).status_code == 200, path
        assert bob.get(path).status_code == 404, path
    assert 'secret.txt' not in bob.get('/files').text

    # What the portal refuses, the kernel refuses, too.
    children = portal.children()
    assert set(children) == {f'serving {people["front"]}', f'backend {people["alice"]}', f'backend {people["bob"]}'}
    home = Path(people['folder']) / people['alice']
    assert (home / '.aiida').is_dir()
    for path in (home / '.aiida').rglob('*'):
        assert path.lstat().st_uid == pwd.getpwnam(people['alice']).pw_uid
        assert path.is_symlink() or not path.stat().st_mode & 0o077, path
    assert as_account(people['bob'], 'ls', str(home)).returncode != 0
    server = children[f'backend {people["alice"]}']
    assert as_account(people['bob'], 'cat', f'/proc/{server}/environ').returncode != 0
    assert as_account(people['bob'], 'cat', str(Path(people['folder']) / 'database' / 'portal.sqlite')).returncode != 0


def test_nobody_but_the_front_reaches_a_server(portal: Portal, people: dict[str, str], alice: Client) -> None:
    assert alice.get('/files').status_code == 200
    path = Path(people['folder']) / 'portal-run' / f'{people["alice"]}.sock'
    program = f'import socket; socket.socket(socket.AF_UNIX).connect({str(path)!r})'
    for account in (people['alice'], people['bob']):
        found = as_account(account, '/usr/bin/python3', '-c', program)
        assert 'PermissionError' in found.stderr
    # Root reaches the socket, but the server answers the account of the front alone.
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        client.settimeout(START_S)
        try:
            client.sendall(b'GET /files HTTP/1.1\r\nHost: x\r\n\r\n')
            answer = client.recv(100)
        except ConnectionError:
            answer = b''
        assert answer == b''
    # The front's account reaches it, and is nobody without a signature.
    program = f"""
import socket
with socket.socket(socket.AF_UNIX) as client:
    client.connect({str(path)!r})
    client.sendall(b'GET /files HTTP/1.1\\r\\nHost: 127.0.0.1:{portal.port}\\r\\nConnection: close\\r\\n\\r\\n')
    print(client.recv(100).decode())
"""
    done = subprocess.run(
        ['/usr/bin/python3', '-c', program],
        check=True,
        capture_output=True,
        text=True,
        user=people['front'],
        group=people['front'],
    )
    assert done.stdout.startswith('HTTP/1.1 401 ')


def test_a_grant_is_needed_where_it_is_asked_for(alice: Client, bob: Client) -> None:
    for path in ('/actions/generate_flakes', '/applications/cbn_ann', '/actions/label?structures=1'):
        assert alice.get(path).status_code == 200, path
        response = bob.get(path)
        assert response.status_code == 403, path
        assert 'is not granted to you' in response.text
    assert bob.post('/actions/generate_flakes', family='z', size='2', count='1', seed='1').status_code == 403
    assert bob.get('/actions/list_nodes').status_code == 200
    assert alice.get('/actions/rmatrix').status_code == 403


def test_a_killed_server_is_started_again_and_its_run_goes_on(
    portal: Portal, people: dict[str, str], alice: Client
) -> None:
    run = make_flakes(alice, 'more', count=60)
    os.kill(portal.children()[f'backend {people["alice"]}'], signal.SIGKILL)
    page = wait_for(lambda: (found := alice.get('/files')).status_code == 503 and found.text)
    assert 'Your server had ended (killed by signal 9), and is being started again' in text_of(page)
    assert alice.get('/files').status_code == 200
    assert 'number 60' in text_of(alice.ended(run))
    assert ('alice', 'server ended', 'killed by signal 9') in {
        (entry.actor, entry.event, entry.detail) for entry in portal.accounts.log(20)
    }


def test_a_killed_front_is_started_again_and_nobody_signs_in_anew(
    portal: Portal, people: dict[str, str], alice: Client
) -> None:
    run = make_flakes(alice, 'most', count=60)
    killed = portal.children()[f'serving {people["front"]}']
    os.kill(killed, signal.SIGKILL)
    wait_for(lambda: portal.children().get(f'serving {people["front"]}', killed) != killed)
    assert 'number 60' in text_of(alice.ended(run))


def wait_for(look):
    end = time.monotonic() + START_S
    while not (found := look()):
        assert time.monotonic() < end
        time.sleep(0.1)
    return found


def test_the_spawner_starts_servers_of_people_in_the_group_alone(people: dict[str, str]) -> None:
    folder = Path(people['folder'])
    portal = Portal(folder, f'account = "{people["front"]}"\ngroup = "{people["group"]}"\n', name='spawner')
    with socket.socket() as listener:
        spawner = Spawner(read_config(portal.config), portal.config, listener)
        assert spawner.check_account(people['bob']).pw_name == people['bob']
        for account, reason in (
            ('root', 'is an account of the system'),
            ('daemon', 'is an account of the system'),
            (people['front'], 'is an account of the system'),
            ('nobody', 'is an account of the system'),
            ('no-such-account', 'there is no unix account'),
            ('../x', 'is no name of a unix account'),
            ('', 'is no name of a unix account'),
        ):
            with pytest.raises(PortalError, match=reason):
                spawner.check_account(account)
        subprocess.run(['gpasswd', '--delete', people['bob'], people['group']], check=True, capture_output=True)
        try:
            with pytest.raises(PortalError, match=f'{people["bob"]} is not in the unix group {people["group"]}'):
                spawner.check_account(people['bob'])
        finally:
            subprocess.run(['gpasswd', '--add', people['bob'], people['group']], check=True, capture_output=True)


def test_without_root_only_the_own_account_can_have_a_server(
    people: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    portal = Portal(tmp_path)
    number = pwd.getpwnam(people['alice']).pw_uid
    monkeypatch.setattr(os, 'geteuid', lambda: number)
    with socket.socket() as listener:
        spawner = Spawner(read_config(portal.config), portal.config, listener)
    assert spawner.check_account(people['alice']).pw_uid == number
    for account in (people['bob'], 'root'):
        with pytest.raises(PortalError, match=f'not started as root: it can start the server of {people["alice"]}'):
            spawner.check_account(account)


def test_the_front_never_runs_as_root(people: dict[str, str]) -> None:
    portal = Portal(Path(people['folder']), 'account = "root"\n', name='root')
    with socket.socket() as listener, pytest.raises(PortalError, match='account is root'):
        Spawner(read_config(portal.config), portal.config, listener)
