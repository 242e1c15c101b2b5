"""The portal's own database: users, groups, grants, sessions, announcements, and a log that only grows."""

from __future__ import annotations

import os
import pwd
from pathlib import Path
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Engine,
    Float,
    ForeignKey,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    create_engine,
    event,
    insert,
    inspect,
    select,
)
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from aiida_nanoml.portal.errors import PortalError

VERSION = 1
"""Of the tables."""

BUSY_S = 5.0
"""Seconds that SQLite waits for another writer."""

metadata = MetaData()

versions = Table('nanoml_portal', metadata, Column('version', Integer, primary_key=True))

users = Table(
    'users',
    metadata,
    Column('name', String(32), primary_key=True),
    Column('account', String(32), unique=True),
    Column('password', String(256), nullable=False),
    Column('issuer', String(256)),
    Column('subject', String(256)),
    Column('admin', Boolean, nullable=False),
    Column('active', Boolean, nullable=False),
    Column('quota_bytes', BigInteger),
    Column('created', Float, nullable=False),
    UniqueConstraint('issuer', 'subject'),
)

members = Table(
    'members',
    metadata,
    Column('group', String(32), primary_key=True),
    Column('user', ForeignKey('users.name'), primary_key=True),
)

grants = Table(
    'grants',
    metadata,
    Column('application', String(64), primary_key=True),
    Column('kind', String(5), primary_key=True),
    Column('holder', String(32), primary_key=True),
)

sessions = Table(
    'sessions',
    metadata,
    Column('hash', String(64), primary_key=True),
    Column('user', ForeignKey('users.name'), nullable=False, index=True),
    Column('address', String(64), nullable=False),
    Column('begun', Float, nullable=False),
    Column('seen', Float, nullable=False),
)

announcements = Table(
    'announcements',
    metadata,
    Column('id', Integer, primary_key=True),
    Column('text', Text, nullable=False),
    Column('author', String(64), nullable=False),
    Column('since', Float, nullable=False),
    Column('until', Float),
)

log = Table(
    'log',
    metadata,
    Column('id', Integer, primary_key=True),
    Column('time', Float, nullable=False),
    Column('actor', String(64), nullable=False),
    Column('address', String(64), nullable=False),
    Column('event', String(32), nullable=False),
    Column('detail', Text, nullable=False),
    sqlite_autoincrement=True,
)

_ONLY_GROWS = {
    'sqlite': [
        f'CREATE TRIGGER log_no_{change.lower()} BEFORE {change} ON log '
        "BEGIN SELECT RAISE(ABORT, 'the log only grows'); END"
        for change in ('UPDATE', 'DELETE')
    ],
    'postgresql': [
        'CREATE FUNCTION log_only_grows() RETURNS trigger LANGUAGE plpgsql AS '
        "'BEGIN RAISE EXCEPTION ''the log only grows''; END'",
        'CREATE TRIGGER log_only_grows BEFORE UPDATE OR DELETE OR TRUNCATE ON log '
        'FOR EACH STATEMENT EXECUTE FUNCTION log_only_grows()',
    ],
}
"""Rules of the database itself, by its kind."""


def open_database(url: str, account: str | None = None) -> Engine:
    """Return the database; its tables are made if it has none.

    :param account: unix account that a new file of SQLite belongs to, where root makes it.
    :raises PortalError: it cannot be opened, or another version of this package made its tables.
    """
    try:
        parsed = make_url(url)
        engine = create_engine(url, connect_args={'timeout': BUSY_S} if parsed.drivername == 'sqlite' else {})
    except (ArgumentError, ModuleNotFoundError) as error:
        raise PortalError(
            f'database is {url!r}: write a URL such as sqlite:////var/lib/aiida-nanoml/p.sqlite'
        ) from error
    if parsed.get_backend_name() == 'sqlite':
        event.listen(engine, 'connect', _keep_references)
        _make_file(Path(parsed.database or ''), account)
    try:
        _make_tables(engine)
    except SQLAlchemyError as error:
        reason = str(getattr(error, 'orig', error)).splitlines()[0]
        raise PortalError(f'the database {parsed.render_as_string()} cannot be used: {reason}') from error
    return engine


def _keep_references(connection: Any, _: object) -> None:
    connection.execute('PRAGMA foreign_keys = ON')


def _make_file(path: Path, account: str | None) -> None:
    """Make the file of SQLite, readable by its owner alone, and its folder, where SQLite writes its journal.

    :param account: unix account that both belong to, where root makes them.
    """
    owner = None
    if os.geteuid() == 0 and account is not None:
        try:
            owner = pwd.getpwnam(account)
        except KeyError:
            raise PortalError(f'there is no unix account {account!r}: make it with useradd, or name another') from None
    try:
        if not path.parent.exists():
            path.parent.mkdir(mode=0o700)
            if owner is not None:
                os.chown(path.parent, owner.pw_uid, owner.pw_gid)
        if owner is not None and path.parent.stat().st_uid != owner.pw_uid:
            raise PortalError(
                f'the folder {path.parent} of the database does not belong to {account}, who has to write there: '
                f'`chown {account} {path.parent}`'
            )
        if not path.exists():
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            if owner is not None:
                os.fchown(descriptor, owner.pw_uid, owner.pw_gid)
            os.close(descriptor)
    except OSError as error:
        raise PortalError(f'the database {path} cannot be made: {error.strerror}') from error


def _make_tables(engine: Engine) -> None:
    if not inspect(engine).has_table(versions.name):
        with engine.begin() as connection:
            metadata.create_all(connection)
            for rule in _ONLY_GROWS.get(engine.dialect.name, ()):
                connection.exec_driver_sql(rule)
            connection.execute(insert(versions).values(version=VERSION))
    with engine.connect() as connection:
        found = connection.scalar(select(versions.c.version))
    if found != VERSION:
        raise PortalError(
            f'the tables of the portal have version {found}, this program knows {VERSION}: install the version of '
            'aiida-nanoml that made them'
        )
