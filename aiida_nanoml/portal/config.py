"""The configuration of a portal: one TOML file that names accounts, database, address and times."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from aiida_nanoml.portal.errors import PortalError

DEFAULT = Path('/etc/aiida-nanoml/portal.toml')
LOOPBACK = frozenset({'127.0.0.1', 'localhost'})


class PortalConfig(BaseModel):
    """How a portal is set up."""

    model_config = ConfigDict(frozen=True, extra='forbid')

    database: str = 'sqlite:////var/lib/aiida-nanoml/portal.sqlite'
    """URL of the database, of SQLite or PostgreSQL, as SQLAlchemy reads it."""

    origin: str
    """Address that browsers see, such as ``https://nanoml.example.org``; http is for the loopback alone."""

    listen: str = '127.0.0.1:8080'
    """Address and port of the front; 0: any free port."""

    account: str = 'nanoml-portal'
    """Unix account of the front, where the portal is started as root."""

    group: str = 'nanoml-users'
    """Unix group whose members can have a server of pages, where the portal is started as root."""

    runtime: Path = Path('/run/aiida-nanoml')
    """Folder of the sockets of users' servers."""

    behind_proxy: bool = False
    """Whether a proxy of our own passes the address of the browser on, as the last one of ``X-Forwarded-For``."""

    session_s: float = Field(12 * 3600.0, gt=0)
    """Seconds after which everybody signs in again."""

    session_idle_s: float = Field(2 * 3600.0, gt=0)
    """Seconds without a request after which a session ends."""

    backend_idle_s: float = Field(1800.0, gt=0)
    """Seconds without a request after which a user's server ends, unless a run is alive."""

    quota_bytes: int = Field(10**10, gt=0)
    """What the files of a user may take, unless the user has a quota of their own."""

    @model_validator(mode='after')
    def _check_origin(self) -> Self:
        parts = urlsplit(self.origin)
        if (
            parts.scheme not in ('http', 'https')
            or not parts.netloc
            or self.origin != f'{parts.scheme}://{parts.netloc}'
        ):
            raise ValueError(
                f'origin is {self.origin!r}: write scheme and host alone, such as https://nanoml.example.org'
            )
        if parts.scheme == 'http' and parts.hostname not in LOOPBACK:
            raise ValueError(f'origin is {self.origin!r}: passwords need https everywhere but on 127.0.0.1')
        host, colon, port = self.listen.rpartition(':')
        if not colon or not host or not port.isdecimal():
            raise ValueError(f'listen is {self.listen!r}: write address and port, such as 127.0.0.1:8080')
        return self

    @property
    def host(self) -> str:
        """Return the value of the header Host that is answered."""
        return urlsplit(self.origin).netloc

    @property
    def secure(self) -> bool:
        """Return whether browsers come over TLS."""
        return self.origin.startswith('https://')

    @property
    def cookie(self) -> str:
        """Return the name of the cookie: with TLS, one that only this very host can set."""
        return '__Host-nanoml' if self.secure else f'nanoml-{self.host.rpartition(":")[2]}'


def read_config(path: Path) -> PortalConfig:
    """Read the file.

    :raises PortalError: it cannot be read, is no TOML, or has a value that cannot be used.
    """
    try:
        return PortalConfig(**tomllib.loads(path.read_text(encoding='utf-8')))
    except OSError as error:
        raise PortalError(f'{path} cannot be read: {error.strerror}; name the file with --config') from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise PortalError(f'{path} is no TOML: {error}') from error
    except ValidationError as error:
        first = error.errors()[0]
        place = '.'.join(map(str, first['loc']))
        message = first['msg'].removeprefix('Value error, ')
        raise PortalError(f'{path}: {f"{place}: " if place else ""}{message[:1].lower()}{message[1:]}') from error
