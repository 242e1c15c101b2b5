"""The program of the front, as the spawner starts it: arguments are the configuration and two open sockets."""

from __future__ import annotations

import asyncio
import gc
import socket
import sys
from pathlib import Path

import uvicorn

from aiida_nanoml.errors import NanomlError
from aiida_nanoml.portal.backends import Backends
from aiida_nanoml.portal.config import read_config
from aiida_nanoml.portal.front import create_front
from aiida_nanoml.portal.opened import open_accounts


def main() -> int:
    """Serve until the spawner ends it."""
    path, listener, channel = sys.argv[1:]
    try:
        config = read_config(Path(path))
        accounts = open_accounts(config)
    except NanomlError as error:
        print(error, file=sys.stderr)
        return 1
    backends = Backends(socket.socket(fileno=int(channel)))
    gc.freeze()
    server = uvicorn.Server(
        uvicorn.Config(
            create_front(config, accounts, backends),
            log_level='error',
            server_header=False,
            proxy_headers=False,
            ws='none',
            http='h11',
            loop='asyncio',
            timeout_graceful_shutdown=1,
        )
    )
    asyncio.run(server.serve(sockets=[socket.socket(fileno=int(listener))]))
    return 0


if __name__ == '__main__':
    sys.exit(main())
