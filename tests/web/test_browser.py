"""One journey in a real browser: sign in, fill a form, watch a run, see its figure, copy the command; no violation."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from aiida_nanoml.web.app import WebApp, create_app
from aiida_nanoml.web.identity import StarterIdentity
from aiida_nanoml.web.site import Settings

playwright = pytest.importorskip('playwright.sync_api', reason='playwright is not installed')
CHROMIUM = shutil.which('chromium')

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason='needs the Debian package chromium')


@contextmanager
def served(app: WebApp, listener: Any) -> Iterator[None]:
    """Serve an app in a thread."""
    import uvicorn

    server = uvicorn.Server(uvicorn.Config(app, log_level='error', timeout_graceful_shutdown=1, ws='none'))
    thread = threading.Thread(target=server.run, kwargs={'sockets': [listener]})
    thread.start()
    try:
        yield
    finally:
        server.should_exit = True
        thread.join()


@pytest.mark.parametrize(('width', 'scripted'), [(1280, True), (390, False)], ids=['wide', 'narrow without script'])
def test_a_journey(
    settings: Settings, aiida_profile_clean, monkeypatch: pytest.MonkeyPatch, width: int, scripted: bool
) -> None:
    import socket
    from dataclasses import replace

    from aiida_nanoml.web.runner import perform
    from aiida_nanoml.web.runs import RunFile

    listener = socket.socket()
    listener.bind(('127.0.0.1', 0))
    host = f'127.0.0.1:{listener.getsockname()[1]}'
    identity = StarterIdentity('nanoml')

    def start(name: str) -> None:
        def do() -> None:
            time.sleep(2.0)  # longer than a page waits for a result
            with RunFile(app.site.runs.path(name)) as file:
                file.write('begun', pid=1)
                file.write('note', text='a <b>note</b>')
                perform(app.site.runs.read(name), file, app.site.files)

        threading.Thread(target=do).start()

    app = create_app(replace(settings, identity=identity, hosts=frozenset({host})), start)
    monkeypatch.chdir(settings.files)
    complaints: list[str] = []
    with served(app, listener), playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=['--no-sandbox'])
        context = chromium.new_context(viewport={'width': width, 'height': 900}, java_script_enabled=scripted)
        page = context.new_page()
        page.on('console', lambda message: complaints.append(message.text))
        page.on('pageerror', lambda error: complaints.append(str(error)))
        page.goto(f'http://{host}/enter?token={identity.link_token}')
        page.get_by_role('link', name='R-MATRIX').click()
        page.get_by_role('link', name='rmatrix example').click()
        page.get_by_label('n energies').fill('60')
        page.get_by_label('n basis').fill('64')
        page.get_by_label('plot').fill('barrier.png')
        page.get_by_role('button', name='Run').click()
        page.wait_for_selector('img.figure')
        assert page.evaluate('document.querySelector("img.figure").naturalWidth') > 100 or not scripted
        assert page.get_by_text('a <b>note</b>').is_visible()
        assert page.evaluate('document.documentElement.scrollWidth') <= width if scripted else True
        page.keyboard.press('Tab')
        assert page.locator(':focus').inner_text() == 'Skip to the content'
        page.get_by_role('link', name='Files').click()
        page.get_by_role('button', name='Delete barrier.png').click()
        page.get_by_text('There is nothing yet').wait_for()
        page.goto(f'http://{host}/actions/rmatrix_plot')
        page.get_by_role('button', name='Run').click()
        page.get_by_role('alert').wait_for()
        chromium.close()
    assert [one for one in complaints if '422' not in one] == []
