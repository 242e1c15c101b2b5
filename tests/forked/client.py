"""Client of ``server.py``: what stands in ``bin`` in the place of a program. It is run without site-packages."""

import os
import signal
import socket
import sys
import time


def connect(server: socket.socket, address: str) -> None:
    """Connect to the server, which needs some seconds to begin."""
    for _ in range(3000):
        try:
            server.connect(address)
        except FileNotFoundError:
            time.sleep(0.1)
        else:
            return
    raise TimeoutError(f'no server at {address}: see server.log beside it')


def main(address: str, program: str, plain: str) -> int:
    """Run a program by the server, and return its exit status.

    :param address: socket of the server.
    :param plain: the program itself; a daemon runs it, since its processes outlive the server's.
    """
    if program == 'verdi' and 'daemon' in sys.argv:
        os.execv(plain, [plain, *sys.argv[1:]])  # noqa: S606
    request = [program, os.getcwd(), *sys.argv[1:], '', *(f'{key}={value}' for key, value in os.environ.items())]
    content = '\0'.join(request).encode('utf-8', 'surrogateescape')
    with socket.socket(socket.AF_UNIX) as server:
        connect(server, address)
        socket.send_fds(server, [len(content).to_bytes(8, 'big')], [0, 1, 2])
        server.sendall(content)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda number, _: server.sendall(bytes([number])))
        answer = server.recv(2)
    if len(answer) != 2:
        return 70  # the server is gone
    kind, value = answer
    if kind:  # ended by a signal: end in the same way
        signal.signal(value, signal.SIG_DFL)
        os.kill(os.getpid(), value)
    return value
