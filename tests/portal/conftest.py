"""A portal as the tests call it: its database with quick hashes, and the whole of it as real processes."""

from __future__ import annotations

import json
import os
import pwd
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2 as httpx
import pytest
from starlette.testclient import TestClient

from aiida_nanoml.portal.accounts import Accounts, Actor
from aiida_nanoml.portal.backends import Backends
from aiida_nanoml.portal.config import PortalConfig, read_config
from aiida_nanoml.portal.database import open_database
from aiida_nanoml.portal.front import Front, create_front
from aiida_nanoml.portal.limits import Limit
from aiida_nanoml.portal.opened import open_accounts
from aiida_nanoml.portal.passwords import Hasher
from tests.web.conftest import settings  # noqa: F401

ROOT = Actor('unix:root')
QUICK = Hasher(memory_kib=64, passes=1, lanes=1)
START_S = 60
DEPLOYMENT = Path(__file__).parents[2] / 'docs' / 'deployment'
PROGRAM = Path(sys.executable).with_name('aiida-nanoml')

# Python may lie where only root can look: others see the same folder in the mounts of this program alone.
REACHABLE = """
set -e
hidden=$1 python=$2 held=$3
shift 3
mkdir -p "$held"
mount --bind "$python" "$held"
mount -t tmpfs -o mode=755 tmpfs "$hidden"
mkdir -p "$python"
mount --bind "$held" "$python"
exec "$@"
"""


HOST = 'nanoml.example.org'
ORIGIN = f'https://{HOST}'
OURS = {'origin': ORIGIN, 'sec-fetch-site': 'same-origin'}
FORBIDDEN = (
    OURS | {'origin': 'https://evil.example'},
    OURS | {'origin': f'http://{HOST}'},
    OURS | {'origin': f'{ORIGIN}:8443'},
    OURS | {'origin': 'null'},
    OURS | {'sec-fetch-site': 'same-site'},
    OURS | {'sec-fetch-site': 'cross-site'},
    {'origin': ORIGIN},
    {'sec-fetch-site': 'same-origin'},
    {},
)
"""Headers of requests that no form of ours makes."""


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def accounts(tmp_path: Path, clock: Clock) -> Accounts:
    """An empty database."""
    engine = open_database(f'sqlite:///{tmp_path}/portal.sqlite')
    return Accounts(engine, session_s=1000.0, session_idle_s=100.0, hasher=QUICK, clock=clock)


@pytest.fixture
def front(accounts: Accounts, clock: Clock) -> Iterator[Front]:
    """The front, with a spawner that starts nothing."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

    def refuse() -> None:
        while theirs.recv(65536):
            theirs.send(json.dumps({'error': 'nothing is started in this test'}).encode())

    thread = threading.Thread(target=refuse)
    thread.start()
    config = PortalConfig(origin=ORIGIN, behind_proxy=True)
    yield create_front(config, accounts, Backends(ours), Limit(clock=lambda: clock.now))
    ours.close()
    thread.join()
    theirs.close()


@pytest.fixture
def browser(front: Front) -> Callable[[], httpx.Client]:
    """Make a browser of its own."""
    return lambda: TestClient(front, base_url=ORIGIN, raise_server_exceptions=False, follow_redirects=False)


def sign_in(client: httpx.Client, name: str, password: str, **headers: str) -> httpx.Response:
    return client.post('/portal/sign-in', data={'name': name, 'password': password}, headers=OURS | headers)


def token_of(client: httpx.Client) -> str:
    return re.search(r'name="token" value="([^"]+)"', client.get('/portal/account').text)[1]


@pytest.fixture
def alice(accounts: Accounts, browser: Callable[[], httpx.Client]) -> httpx.Client:
    """A browser in which alice is signed in."""
    client = browser()
    client.password = accounts.add_user(ROOT, 'alice', 'alice')
    assert sign_in(client, 'alice', client.password).status_code == 303
    return client


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(('127.0.0.1', 0))
        return int(listener.getsockname()[1])


class Client:
    """A browser of one person."""

    def __init__(self, origin: str) -> None:
        self.origin = origin
        self.client = httpx.Client(base_url=origin, follow_redirects=True, timeout=START_S)
        self.headers = {'origin': origin, 'sec-fetch-site': 'same-origin'}

    def get(self, path: str) -> httpx.Response:
        return self.client.get(path)

    def sign_in(self, name: str, password: str) -> httpx.Response:
        form = {'name': name, 'password': password}
        return self.client.post('/portal/sign-in', data=form, headers=self.headers, follow_redirects=False)

    def token(self) -> str:
        return re.search(r'name="token" value="([^"]+)"', self.get('/portal/account').text)[1]

    def post(self, path: str, **form: str) -> httpx.Response:
        return self.client.post(path, data={'token': self.token(), **form}, headers=self.headers)

    def ended(self, run: str) -> str:
        """Return the page of a run when it has ended."""
        end = time.monotonic() + START_S
        while 'data-events' in (page := self.get(run).text):
            assert time.monotonic() < end, page
            time.sleep(0.2)
        return page


class Portal:
    """The command `portal serve`.

    :param more: lines of the configuration, beside those that every test needs.
    :param name: of its files.
    """

    def __init__(self, folder: Path, more: str = '', name: str = 'portal') -> None:
        self.port = free_port()
        self.origin = f'http://127.0.0.1:{self.port}'
        self.config = folder / f'{name}.toml'
        self.config.write_text(
            f'origin = "{self.origin}"\nlisten = "127.0.0.1:{self.port}"\n'
            f'database = "sqlite:///{folder}/database/portal.sqlite"\nruntime = "{folder}/{name}-run"\n{more}'
        )
        self._folder = folder
        self.process: subprocess.Popen[str] | None = None

    @property
    def accounts(self) -> Accounts:
        """Return what the commands of administrators work on."""
        return open_accounts(read_config(self.config))

    def start(self) -> None:
        limits = ['setpriv', f'--bounding-set={bounding_set()}', '--no-new-privs']
        words = [*_reaching(self._folder), *limits, PROGRAM, 'portal', 'serve', '--json', '--config', self.config]
        self.process = subprocess.Popen(
            list(map(str, words)),
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {'AIIDA_PATH': str(self._folder)},
        )
        assert json.loads(self.process.stdout.readline()) == {'url': self.origin}

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(timeout=START_S)
        self.process.stdout.close()
        return status

    def children(self) -> dict[str, int]:
        """Return the PIDs of the front and of the servers, by module and unix account."""
        found = {}
        for pid in _children(self.process.pid):
            words = Path(f'/proc/{pid}/cmdline').read_bytes().split(b'\0')
            if b'-m' not in words:
                continue  # it has ended, or has just been forked
            module = words[words.index(b'-m') + 1].decode().rpartition('.')[2]
            owner = pwd.getpwuid(os.stat(f'/proc/{pid}').st_uid).pw_name
            found[f'{module} {owner}'] = pid
        return found


def bounding_set() -> str:
    """Return what the service of the documentation may do, as setpriv reads it."""
    [kept] = re.findall(r'^CapabilityBoundingSet=(.+)$', (DEPLOYMENT / 'aiida-nanoml-portal.service').read_text(), re.M)
    return ','.join(['-all', *(f'+{name.removeprefix("CAP_").lower()}' for name in kept.split())])


def _children(pid: int) -> list[int]:
    return [int(one) for one in Path(f'/proc/{pid}/task/{pid}/children').read_text().split()]


def _reaching(folder: Path) -> list[str]:
    """Return the words before a program that lets all accounts reach this Python."""
    python = Path(sys.base_prefix)
    hidden = [place for place in reversed([python, *python.parents]) if not place.stat().st_mode & 0o001]
    if not hidden or os.geteuid() != 0:
        return []
    return ['unshare', '-m', 'sh', '-c', REACHABLE, 'sh', str(hidden[0]), str(python), str(folder / 'python')]


@pytest.fixture(scope='module')
def people() -> Iterator[dict[str, str]]:
    """Two unix accounts of people, one of the front, and a folder that all can reach, for as long as the tests run."""
    if os.geteuid() != 0 or shutil.which('useradd') is None:
        pytest.skip('only root can make the unix accounts that a portal keeps apart')
    if subprocess.run(['unshare', '-m', 'true'], check=False, capture_output=True).returncode:
        pytest.skip('this machine lets nobody have mounts of their own')
    mark = secrets.token_hex(3)
    folder = Path(tempfile.mkdtemp(prefix='nanoml-portal-', dir='/tmp'))
    folder.chmod(0o755)
    names = {'folder': str(folder), 'group': f'nml{mark}g'}
    run = lambda *words: subprocess.run(words, check=True, capture_output=True)
    run('groupadd', names['group'])
    try:
        for role in ('alice', 'bob'):
            names[role] = f'nml{mark}{role}'
            run('useradd', '--create-home', '--base-dir', str(folder), '--groups', names['group'], names[role])
            (folder / names[role]).chmod(0o700)
        names['front'] = f'nml{mark}f'
        run('useradd', '--system', names['front'])
        yield names
    finally:
        for role in ('alice', 'bob', 'front'):
            if role in names:
                subprocess.run(
                    ['userdel', '--force', names[role]], check=False, capture_output=True
                )  # a run may end yet
        subprocess.run(['groupdel', names['group']], check=False, capture_output=True)
        shutil.rmtree(folder, ignore_errors=True)
