"""Command ``web``: pages for one person on one machine."""

from __future__ import annotations

import contextlib
import gc
import json
import socket
import webbrowser
from pathlib import Path
from typing import Any

import click

HOST = '127.0.0.1'
SHUTDOWN_S = 1
"""Seconds that open pages have to end with the server."""


@click.command(epilog='\b\nExample:\n  aiida-nanoml web --port 8000')
@click.option('--port', type=click.IntRange(0, 65535), default=0, help='Port; 0: any free one.  [default: 0]')
@click.option(
    '--folder',
    type=click.Path(path_type=Path, file_okay=False),
    help='Folder of the files that pages read and write.  [default: nanoml-web/PROFILE/files beside the profile]',
)
@click.option('--no-browser', is_flag=True, help='Open no browser.')
@click.option('--json', 'as_json', is_flag=True, help='Print one JSON object with the address, then serve.')
def web(port: int, folder: Path | None, no_browser: bool, as_json: bool) -> None:
    """Serve pages for all actions on this machine, for the person who started it.

    The link that it prints signs in: once where a browser is opened, as often as you like with --no-browser. Ctrl-C
    ends it; runs that have begun go on.
    """
    try:
        import uvicorn

        from aiida_nanoml.web.app import create_app
        from aiida_nanoml.web.identity import ENTER, StarterIdentity
        from aiida_nanoml.web.site import Settings
    except ModuleNotFoundError as error:
        raise click.ClickException(
            f'pages need {error.name}, which is not installed: `pip install aiida-nanoml[web]`'
        ) from error
    profile = _profile()
    listener = _listen(port)
    port = listener.getsockname()[1]
    identity = StarterIdentity(f'nanoml-{port}', once=not no_browser)
    state = Path(_config().dirpath) / 'nanoml-web' / profile.name
    app = create_app(
        Settings(
            identity=identity,
            hosts=frozenset({f'{HOST}:{port}', f'localhost:{port}'}),
            profile=profile.name,
            files=(folder or state / 'files').absolute(),
            runs=state / 'runs',
            program=_program(profile.name),
        )
    )
    url = f'http://{HOST}:{port}{ENTER}?token={identity.link_token}'
    gc.freeze()
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            log_level='error',
            server_header=False,
            proxy_headers=False,
            ws='none',
            http='h11',
            loop='asyncio',
            timeout_graceful_shutdown=SHUTDOWN_S,
        )
    )
    click.echo(json.dumps({'url': url}) if as_json else f'open {url}\nCtrl-C ends it')
    if not no_browser:
        webbrowser.open(url)
    with contextlib.suppress(KeyboardInterrupt):  # it has ended in good order
        server.run(sockets=[listener])


def _profile() -> Any:
    """Return the profile that was chosen, or the default one."""
    from aiida.manage.configuration import get_profile, load_profile

    return get_profile() or load_profile()


def _config() -> Any:
    from aiida.manage.configuration import get_config

    return get_config()


def _program(profile_name: str) -> str:
    """Return the words before every command that is shown: they name a profile that is not the default one."""
    default = _config().default_profile_name
    return 'aiida-nanoml' if profile_name == default else f'aiida-nanoml --profile {profile_name}'


def _listen(port: int) -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
    except OSError as error:
        raise click.ClickException(f'port {port} cannot be used: {error.strerror}; choose another --port') from error
    listener.listen()
    return listener
