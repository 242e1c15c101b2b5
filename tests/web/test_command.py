"""The command `web` as a person starts it, and the program that does runs."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2 as httpx
import psutil
import pytest
from click.testing import CliRunner

from aiida_nanoml.cli import root
from tests.web.conftest import elements, text_of

START_S = 60


class Server:
    """The command, and a client that is signed in."""

    def __init__(self, profile: str, folder: Path) -> None:
        program = Path(sys.executable).with_name('aiida-nanoml')
        words = [program, '--profile', profile, 'web', '--no-browser', '--json', '--folder', folder]
        self.process = subprocess.Popen(list(map(str, words)), stdout=subprocess.PIPE, text=True)
        self.line = self.process.stdout.readline()
        self.url = json.loads(self.line)['url']
        self.origin = self.url.partition('/enter')[0]
        self.client = httpx.Client(base_url=self.origin, follow_redirects=True, timeout=START_S)

    def token(self) -> str:
        return re.search(r'name="token" value="([^"]+)"', self.client.get('/files').text)[1]

    def run(self, action: str, **form: str) -> str:
        """Start a run, and return its address."""
        headers = {'origin': self.origin, 'sec-fetch-site': 'same-origin'}
        response = self.client.post(f'/actions/{action}', data={'token': self.token(), **form}, headers=headers)
        assert response.status_code == 200, text_of(response.text)
        return response.url.path

    def ended(self, run: str) -> str:
        """Return the page of a run when it has ended."""
        end = time.monotonic() + START_S
        while 'data-events' in (page := self.client.get(run).text):
            assert time.monotonic() < end, text_of(page)
            time.sleep(0.1)
        return page


@pytest.fixture
def start(aiida_profile_clean, aiida_profile, tmp_path: Path) -> Iterator[Callable[[], Server]]:
    """Start a server in the profile of the tests."""
    started: list[Server] = []

    def start_one() -> Server:
        started.append(Server(aiida_profile.name, tmp_path / 'files'))
        return started[-1]

    yield start_one
    for server in started:
        server.process.kill()
        server.process.wait()
        server.process.stdout.close()


def test_a_person_starts_the_server_and_actions_outlive_it(start: Callable[[], Server]) -> None:
    server = start()
    assert server.line == json.dumps({'url': server.url}) + '\n', 'one line of JSON'
    assert re.fullmatch(r'http://127\.0\.0\.1:\d+/enter\?token=[\w-]{43}', server.url)
    assert server.client.get('/').status_code == 401
    assert server.client.get(server.url).status_code == 200

    page = server.ended(server.run('generate_flakes', family='z', size='2', count='3', seed='1', name='few'))
    assert 'done' in text_of(page)
    [runner] = [
        one for one in psutil.Process(server.process.pid).children() if 'aiida_nanoml.web.runner' in one.cmdline()
    ]
    assert runner.environ()['PATH'].startswith(f'{Path(sys.executable).parent}:'), 'the daemon is started by name'
    [link] = [one['href'] for one in elements(page, 'a') if one.get('href', '').startswith('/nodes/')]
    assert '3 structures' in text_of(server.client.get(link).text)
    assert 'href="/actions/label?structures=few"' in page

    # Killed in the middle of a run: the run goes on, and the next server shows it.
    run = server.run('generate_flakes', family='z', size='4', count='40', seed='2', name='more')
    server.process.send_signal(signal.SIGKILL)
    server.process.wait()
    again = start()
    again.client.get(again.url)
    assert 'number 40' in text_of(again.ended(run))
    again.process.terminate()
    again.process.wait(timeout=START_S)


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, 'uvicorn', None)
    result = CliRunner().invoke(root, ['web', '--no-browser'])
    assert result.exit_code == 1
    assert 'pages need uvicorn, which is not installed: `pip install aiida-nanoml[web]`' in result.output


def test_a_port_that_is_taken_is_told(aiida_profile) -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(('127.0.0.1', 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        result = CliRunner().invoke(root, ['web', '--no-browser', '--port', port])
    assert result.exit_code == 1
    assert f'port {port} cannot be used: Address already in use' in result.output
