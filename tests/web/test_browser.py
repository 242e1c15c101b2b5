"""One journey in a real browser: sign in, fill a form, watch a run, see its figure, copy the command; no violation."""

from __future__ import annotations

import shutil
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
import uvicorn

from aiida_nanoml.web.app import WebApp, create_app
from aiida_nanoml.web.identity import StarterIdentity
from aiida_nanoml.web.runner import perform, place_for
from aiida_nanoml.web.runs import RunFile
from aiida_nanoml.web.site import Settings

playwright = pytest.importorskip('playwright.sync_api', reason='playwright is not installed')
CHROMIUM = shutil.which('chromium')

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason='needs the Debian package chromium')


@contextmanager
def served(app: WebApp, listener: socket.socket) -> Iterator[None]:
    """Serve an app in a thread."""
    server = uvicorn.Server(uvicorn.Config(app, log_level='error', timeout_graceful_shutdown=1, ws='none'))
    thread = threading.Thread(target=server.run, kwargs={'sockets': [listener]})
    thread.start()
    try:
        yield
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture
def address(settings: Settings, aiida_profile_clean, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Serve the app, whose runs take longer than a page waits for a result, and return the link that signs in."""
    listener = socket.socket()
    listener.bind(('127.0.0.1', 0))
    host = f'127.0.0.1:{listener.getsockname()[1]}'
    identity = StarterIdentity('nanoml', once=True)

    def start(name: str) -> None:
        def do() -> None:
            time.sleep(2.0)
            run, runs = app.site.runs.read(name), app.site.runs
            with RunFile(runs.path(name)) as file, place_for(run, file, runs.folder) as place:
                file.write('begun', pid=1)
                file.write('note', text='a <b>note</b>')
                perform(run, file, app.site.files, place)

        threading.Thread(target=do).start()

    app = create_app(replace(settings, identity=identity, hosts=frozenset({host})), start)
    monkeypatch.chdir(settings.files)
    with served(app, listener):
        yield f'http://{host}/enter?token={identity.link_token}'


def test_a_journey(address: str) -> None:
    """With script and keyboard on a wide screen, then without script on a narrow one."""
    complaints: list[str] = []
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=['--no-sandbox'])
        wide = chromium.new_context(viewport={'width': 1280, 'height': 900})
        page = wide.new_page()
        page.on('console', lambda message: complaints.append(message.text))
        page.on('pageerror', lambda error: complaints.append(str(error)))
        page.goto(address)
        page.get_by_role('link', name='R-MATRIX').click()
        page.get_by_role('link', name='rmatrix example').click()
        page.get_by_label('n energies').fill('60')
        page.get_by_label('n basis').fill('64')
        page.get_by_label('plot').fill('barrier.png')
        page.keyboard.press('Enter')
        page.wait_for_selector('img.figure')
        assert page.evaluate('document.querySelector("img.figure").naturalWidth') > 100
        assert page.get_by_text('a <b>note</b>').is_visible()
        assert page.locator('#command').inner_text().endswith('--plot barrier.png')

        narrow = chromium.new_context(
            viewport={'width': 390, 'height': 800}, java_script_enabled=False, storage_state=wide.storage_state()
        )
        page = narrow.new_page()
        page.goto(address)
        page.keyboard.press('Tab')
        assert page.locator(':focus').inner_text() == 'Skip to the content'
        page.get_by_role('link', name='Files').click()
        page.get_by_role('button', name='Delete barrier.png').click()
        page.get_by_text('There is nothing yet').wait_for()
        page.get_by_role('link', name='Actions').click()
        page.get_by_role('link', name='label', exact=True).click()
        assert page.locator('form').bounding_box()['width'] < 390
        page.get_by_role('button', name='Run').click()
        page.get_by_role('alert').wait_for()
        chromium.close()
    assert complaints == []
