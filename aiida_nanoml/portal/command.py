"""Command ``portal serve``: the pages of a centre, for several people."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import click

from aiida_nanoml.portal.config import DEFAULT, PortalConfig, read_config


@click.command(epilog='\b\nExample:\n  aiida-nanoml portal serve --config /etc/aiida-nanoml/portal.toml')
@click.option(
    '--config',
    'path',
    type=click.Path(path_type=Path),
    default=DEFAULT,
    show_default=True,
    help='Configuration of the portal.',
)
@click.option('--json', 'as_json', is_flag=True, help='Print one JSON object with the address, then serve.')
@click.pass_context
def serve(ctx: click.Context, path: Path, as_json: bool) -> None:
    """Serve the pages of a centre: sign-in, administration, and a server for each user under the own unix account.

    Started as root, it starts servers for the members of one unix group, and answers browsers under an account of its
    own. Started by anybody else, it can start the server of that account alone.
    """
    try:
        import uvicorn  # noqa: F401

        from aiida_nanoml.portal.opened import open_accounts
        from aiida_nanoml.portal.spawner import Spawner
    except ModuleNotFoundError as error:
        raise click.ClickException(
            f'a portal needs {error.name}, which is not installed: `pip install aiida-nanoml[portal]`'
        ) from error
    config = read_config(path)
    open_accounts(config)  # tables are made, and faults told, before anything runs
    spawner = Spawner(config, path.absolute(), listener := listen(config))
    click.echo(json.dumps({'url': config.origin}) if as_json else f'open {config.origin}\nCtrl-C ends it')
    with listener:
        ctx.exit(spawner.run())


def listen(config: PortalConfig) -> socket.socket:
    """Return the socket on which browsers, or the proxy before the portal, are answered.

    :raises ClickException: the address is taken.
    """
    host, _, port = config.listen.rpartition(':')
    listener = socket.socket(socket.AF_INET6 if ':' in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host.strip('[]'), int(port)))
    except OSError as error:
        raise click.ClickException(
            f'{config.listen} cannot be used: {error.strerror}; choose another listen'
        ) from error
    listener.listen(128)
    return listener
