"""The part of a portal that keeps root: it starts the front and, for members of one unix group, servers of pages.

It reads the configuration once, and then only messages of the front: start the server of a unix account. It opens no
database, reads no request of a browser, and starts nothing but this package. The front and every server run under
other accounts, as those of sshd do.
"""

from __future__ import annotations

import grp
import json
import os
import pwd
import re
import select
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiida_nanoml.portal.config import PortalConfig
from aiida_nanoml.portal.errors import PortalError

FIRST_UID = 1000
"""Unix accounts of people begin here; those of the system never have a server."""

NOBODY_UID = 65534

MESSAGE_BYTES = 2**16
END_S = 5.0
"""Seconds that programs have to end."""

SOON_S = 5.0
"""A front that gives up sooner after its start than this will not do better the next time."""

ORDERLY = (0, -signal.SIGTERM)
"""Statuses of a server that ended because nobody needed it, or because it was told to."""

_ACCOUNT = re.compile(r'[a-z_][a-z0-9_.-]{0,31}')


@dataclass
class _Server:
    program: subprocess.Popen[bytes]
    path: Path


class Spawner:
    """Starts and ends programs.

    :param listener: socket on which the front answers browsers.
    """

    def __init__(self, config: PortalConfig, config_path: Path, listener: socket.socket) -> None:
        self._config = config
        self._config_path = config_path
        self._listener = listener
        self._is_root = os.geteuid() == 0
        self._front_account = _entry(config.account) if self._is_root else pwd.getpwuid(os.geteuid())
        if self._is_root and self._front_account.pw_uid == 0:
            raise PortalError('account is root: give the front an account of its own')
        self._servers: dict[str, _Server] = {}
        self._ends: dict[str, str] = {}
        self._make_runtime()

    def _make_runtime(self) -> None:
        folder = self._config.runtime
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
            if self._is_root:
                os.chown(folder, 0, self._front_account.pw_gid)
            folder.chmod(0o710 if self._is_root else 0o700)
        except OSError as error:
            raise PortalError(f'runtime is {folder}, which cannot be made: {error.strerror}') from error

    def run(self) -> int:
        """Start the front, and do what it asks for, until a signal ends it.

        :returns: exit status.
        """
        woken, wake = socket.socketpair()
        for end in (woken, wake):
            end.setblocking(False)
        signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
        stopped: list[int] = []
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda received, _: stopped.append(received))
        signal.signal(signal.SIGCHLD, lambda *_: None)
        try:
            while not stopped:
                begun = time.monotonic()
                status = self._serve_front(woken, stopped)
                self._end_all([server.program for server in self._servers.values()])
                self._collect()
                if not stopped:
                    print(f'the front ended ({_describe_end(status)})', file=sys.stderr, flush=True)
                    if status > 0 and time.monotonic() - begun < SOON_S:
                        return 1
        finally:
            self._end_all([server.program for server in self._servers.values()])
            self._collect()
        return 0

    def _serve_front(self, woken: socket.socket, stopped: list[int]) -> int:
        """Start a front and answer it until it ends, or a signal comes; return its status."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        words = [str(self._config_path), str(self._listener.fileno()), str(theirs.fileno())]
        front = subprocess.Popen(  # noqa: S603
            [sys.executable, '-I', '-m', 'aiida_nanoml.portal.serving', *words],
            pass_fds=(self._listener.fileno(), theirs.fileno()),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            cwd='/',
            env=_environment(self._front_account),
            umask=0o077,
            start_new_session=True,
            **_credentials(self._front_account, self._is_root, groups=False),
        )
        theirs.close()
        with ours:
            while front.poll() is None and not stopped:
                ready, _, _ = select.select([ours, woken], [], [])
                if woken in ready:
                    woken.recv(4096)
                self._collect()
                if ours in ready:
                    message = ours.recv(MESSAGE_BYTES)
                    if not message:
                        break
                    with suppress(OSError):
                        ours.send(json.dumps(self._answer(message)).encode())
        self._end_all([front])
        return front.wait()

    def _answer(self, message: bytes) -> dict[str, Any]:
        """Do what the front asks for."""
        try:
            asked = json.loads(message)
            if asked.pop('do') == 'start':
                return self._start(**asked)
            self._stop(**asked)
            return {}
        except PortalError as error:
            return {'error': str(error)}
        except (ValueError, TypeError, KeyError, AttributeError):
            return {'error': 'the front sent a message that means nothing'}

    def _start(self, account: str, user: str, secret: str, quota_bytes: int) -> dict[str, Any]:
        """Start the server of a unix account unless it runs."""
        entry = self.check_account(account)
        path = self._config.runtime / f'{account}.sock'
        if account in self._servers:
            return {'path': str(path), 'started': False, 'ended': ''}
        listener = self._listen(path)
        settings = {
            'user': str(user),
            'secret': str(secret),
            'quota_bytes': int(quota_bytes),
            'front_uid': self._front_account.pw_uid,
            'host': self._config.host,
            'scheme': 'https' if self._config.secure else 'http',
            'idle_s': self._config.backend_idle_s,
            'socket': listener.fileno(),
        }
        with listener:
            program = subprocess.Popen(
                [sys.executable, '-I', '-m', 'aiida_nanoml.portal.backend'],
                pass_fds=(listener.fileno(),),
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                cwd='/',
                env=_environment(entry),
                umask=0o077,
                start_new_session=True,
                **_credentials(entry, self._is_root, groups=True),
            )
        assert program.stdin is not None  # noqa: S101
        with suppress(BrokenPipeError):
            program.stdin.write(json.dumps(settings).encode() + b'\n')
            program.stdin.flush()  # it stays open: its end is that of this program
        self._servers[account] = _Server(program, path)
        return {'path': str(path), 'started': True, 'ended': self._ends.pop(account, '')}

    def _stop(self, account: str) -> None:
        if account in self._servers:
            self._end_all([self._servers[account].program])
            self._collect()

    def check_account(self, account: str) -> pwd.struct_passwd:
        """Return the entry of a unix account that may have a server.

        :raises PortalError: it is not a person's, is not in the group, or this program cannot become it.
        """
        if not _ACCOUNT.fullmatch(account):
            raise PortalError(f'{account!r} is no name of a unix account')
        entry = _entry(account)
        if not self._is_root:
            if entry.pw_uid != os.geteuid():
                raise PortalError(
                    f'the portal was not started as root: it can start the server of {self._front_account.pw_name} '
                    f'alone, not that of {account}'
                )
            return entry
        if entry.pw_uid < FIRST_UID or entry.pw_uid in (NOBODY_UID, self._front_account.pw_uid):
            raise PortalError(f'{account} (uid {entry.pw_uid}) is an account of the system, which never has a server')
        try:
            group = grp.getgrnam(self._config.group)
        except KeyError:
            raise PortalError(f'there is no unix group {self._config.group!r}: make it with groupadd') from None
        if entry.pw_gid != group.gr_gid and account not in group.gr_mem:
            raise PortalError(
                f'{account} is not in the unix group {group.gr_name}: `usermod -aG {group.gr_name} {account}`'
            )
        return entry

    def _listen(self, path: Path) -> socket.socket:
        """Return a socket that only the front can reach."""
        path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX)
        before = os.umask(0o177)
        try:
            listener.bind(str(path))
        finally:
            os.umask(before)
        if self._is_root:
            os.chown(path, 0, self._front_account.pw_gid)
            path.chmod(0o660)
        listener.listen(128)
        return listener

    def _collect(self) -> None:
        """Forget the servers that have ended, and note how."""
        for account, server in list(self._servers.items()):
            status = server.program.poll()
            if status is not None:
                server.path.unlink(missing_ok=True)
                if server.program.stdin is not None:
                    with suppress(BrokenPipeError):
                        server.program.stdin.close()
                del self._servers[account]
                if status not in ORDERLY:
                    self._ends[account] = _describe_end(status)

    @staticmethod
    def _end_all(programs: list[subprocess.Popen[bytes]]) -> None:
        """End programs; the runs that they began are processes of their own, and go on."""
        for program in programs:
            if program.poll() is None:
                program.terminate()
        end = time.monotonic() + END_S
        for program in programs:
            try:
                program.wait(max(0.1, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                program.kill()
                program.wait()


def _entry(account: str) -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(account)
    except KeyError:
        raise PortalError(f'there is no unix account {account!r}') from None


def _credentials(entry: pwd.struct_passwd, is_root: bool, *, groups: bool) -> dict[str, Any]:
    """Return what a new program may do: only what its account may."""
    if not is_root:
        return {}
    all_groups = os.getgrouplist(entry.pw_name, entry.pw_gid) if groups else []
    return {'user': entry.pw_uid, 'group': entry.pw_gid, 'extra_groups': all_groups}


def _environment(entry: pwd.struct_passwd) -> dict[str, str]:
    """Return the environment of a program: nothing of that of root."""
    return {
        'HOME': entry.pw_dir,
        'USER': entry.pw_name,
        'LOGNAME': entry.pw_name,
        'SHELL': '/bin/sh',
        'PATH': f'{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin',
        'LANG': 'C.UTF-8',
    }


def _describe_end(status: int) -> str:
    return f'killed by signal {-status}' if status < 0 else f'exit status {status}'
