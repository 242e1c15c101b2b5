"""Users, groups, grants, sessions and announcements of a portal; every change is written into the log with it."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine, delete, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from aiida_nanoml.portal import database as db
from aiida_nanoml.portal.errors import PortalError
from aiida_nanoml.portal.passwords import Hasher, check_password, new_password
from aiida_nanoml.web.applications import APPLICATIONS
from aiida_nanoml.web.grants import OTHERS

EVERYBODY = 'everybody'
"""Group to which all users belong."""

SEEN_S = 60.0
"""Seconds after which a request is noted as the last one of its session."""

_NAME = re.compile(r'[a-z][a-z0-9._-]{0,31}')


@dataclass(frozen=True)
class Actor:
    """Who does something, for the log.

    :param name: user of the portal, or ``unix:NAME`` of a command.
    :param address: where the request came from.
    """

    name: str
    address: str = ''


@dataclass(frozen=True)
class User:
    """Somebody who may sign in.

    :param name: of the sign-in.
    :param account: unix account of the server of pages; None: there is none.
    :param admin: may administer the portal.
    :param active: may sign in.
    :param quota_bytes: what the files may take; None: what the configuration says.
    """

    name: str
    account: str | None
    admin: bool
    active: bool
    quota_bytes: int | None


@dataclass(frozen=True)
class Signed:
    """A session and its user.

    :param session: hash of the secret in the cookie.
    :param token: secret that forms bring back.
    :param applications: names of those that are granted.
    """

    user: User
    session: str
    token: str
    applications: frozenset[str]


@dataclass(frozen=True)
class Entry:
    """An entry of the log.

    :param time: seconds since the epoch.
    """

    id: int
    time: float
    actor: str
    address: str
    event: str
    detail: str


@dataclass(frozen=True)
class Announcement:
    """Something that everybody is told.

    :param until: seconds since the epoch; None: until it is withdrawn.
    """

    id: int
    text: str
    author: str
    since: float
    until: float | None


@dataclass(frozen=True)
class Grant:
    """An application for a user, or for all of a group.

    :param kind: ``user`` or ``group``.
    """

    application: str
    kind: str
    holder: str


class Accounts:
    """All of it, in one database.

    :param session_s: seconds after which a session ends.
    :param session_idle_s: seconds without a request after which it ends.
    :param hasher: of passwords.
    :param clock: seconds since the epoch.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        session_s: float,
        session_idle_s: float,
        hasher: Hasher | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._engine = engine
        self._session_s = session_s
        self._session_idle_s = session_idle_s
        self._hasher = hasher or Hasher()
        self._clock = clock

    # users

    def add_user(self, actor: Actor, name: str, account: str | None, *, admin: bool = False) -> str:
        """Add a user.

        :returns: a password, which is kept nowhere.
        :raises PortalError: the name or the account is taken, or the name cannot be used.
        """
        _check_name(name)
        password = new_password()
        row = {'name': name, 'account': account, 'admin': admin, 'active': True, 'created': self._clock()}
        try:
            with self._engine.begin() as connection:
                connection.execute(insert(db.users).values(password=self._hasher.hash(password), **row))
                self._log(connection, actor, 'user add', f'{name} account={account} admin={admin}')
        except IntegrityError:
            raise PortalError(f'the user {name} exists, or another one has the unix account {account}') from None
        return password

    def user(self, name: str) -> User:
        """Return a user.

        :raises PortalError: there is none of this name.
        """
        with self._engine.connect() as connection:
            return _user(connection, name)

    def users(self) -> list[User]:
        """Return all users by name."""
        with self._engine.connect() as connection:
            return [_as_user(row) for row in connection.execute(select(db.users).order_by(db.users.c.name)).mappings()]

    def set_active(self, actor: Actor, name: str, active: bool) -> None:
        """Let a user sign in, or end all sessions and let nobody sign in under this name."""
        with self._engine.begin() as connection:
            user = _user(connection, name)
            if not active and user.admin:
                self._check_another_admin(connection, name)
            connection.execute(update(db.users).where(db.users.c.name == name).values(active=active))
            if not active:
                connection.execute(delete(db.sessions).where(db.sessions.c.user == name))
            self._log(connection, actor, 'user enable' if active else 'user disable', name)

    def set_admin(self, actor: Actor, name: str, admin: bool) -> None:
        """Let a user administer the portal, or not.

        :raises PortalError: nobody would be left who may.
        """
        with self._engine.begin() as connection:
            _user(connection, name)
            if not admin:
                self._check_another_admin(connection, name)
            connection.execute(update(db.users).where(db.users.c.name == name).values(admin=admin))
            self._log(connection, actor, 'user admin', f'{name} admin={admin}')

    def set_account(self, actor: Actor, name: str, account: str | None) -> None:
        """Set the unix account of a user's server.

        :raises PortalError: another user has it.
        """
        try:
            with self._engine.begin() as connection:
                _user(connection, name)
                connection.execute(update(db.users).where(db.users.c.name == name).values(account=account))
                self._log(connection, actor, 'user account', f'{name} account={account}')
        except IntegrityError:
            raise PortalError(f'another user has the unix account {account}') from None

    def set_quota(self, actor: Actor, name: str, quota_bytes: int | None) -> None:
        """Set what the files of a user may take; None: what the configuration says."""
        if quota_bytes is not None and not 0 < quota_bytes < 2**62:
            raise PortalError(f'a quota of {quota_bytes} bytes cannot be used: give a number above 0')
        with self._engine.begin() as connection:
            _user(connection, name)
            connection.execute(update(db.users).where(db.users.c.name == name).values(quota_bytes=quota_bytes))
            self._log(connection, actor, 'user quota', f'{name} quota_bytes={quota_bytes}')

    def reset_password(self, actor: Actor, name: str) -> str:
        """Give a user a new password, and end all sessions.

        :returns: the password, which is kept nowhere.
        """
        password = new_password()
        self._set_password(actor, name, password, None, 'password reset')
        return password

    def change_password(self, actor: Actor, signed: Signed, old: str, new: str) -> None:
        """Take the password that a user chose, and end all other sessions.

        :raises PortalError: the old one is wrong, or the new one cannot be used.
        """
        check_password(new)
        with self._engine.connect() as connection:
            kept = connection.scalar(select(db.users.c.password).where(db.users.c.name == signed.user.name))
        if not self._hasher.verify(old, kept or ''):
            raise PortalError('the old password is not right')
        self._set_password(actor, signed.user.name, new, signed.session, 'password change')

    def _set_password(self, actor: Actor, name: str, password: str, kept_session: str | None, event: str) -> None:
        hashed = self._hasher.hash(password)
        with self._engine.begin() as connection:
            _user(connection, name)
            connection.execute(update(db.users).where(db.users.c.name == name).values(password=hashed))
            others = delete(db.sessions).where(db.sessions.c.user == name)
            if kept_session is not None:
                others = others.where(db.sessions.c.hash != kept_session)
            connection.execute(others)
            self._log(connection, actor, event, name)

    def _check_another_admin(self, connection: Connection, name: str) -> None:
        columns = db.users.c
        found = select(columns.name).where(columns.admin, columns.active, columns.name != name).limit(1)
        if connection.scalar(found) is None:
            raise PortalError(f'{name} is the last administrator: make another one first')

    # groups and grants

    def add_member(self, actor: Actor, group: str, user: str) -> None:
        """Put a user into a group; a group is there as long as it has members or grants."""
        _check_name(group)
        if group == EVERYBODY:
            raise PortalError(f'all users belong to {EVERYBODY}')
        with self._engine.begin() as connection:
            _user(connection, user)
            row = {'group': group, 'user': user}
            if not _exists(connection, db.members, row):
                connection.execute(insert(db.members).values(**row))
                self._log(connection, actor, 'group add', f'{group} {user}')

    def remove_member(self, actor: Actor, group: str, user: str) -> None:
        """Take a user out of a group.

        :raises PortalError: the user is not in it.
        """
        with self._engine.begin() as connection:
            if not _remove(connection, db.members, {'group': group, 'user': user}):
                raise PortalError(f'{user} is not in the group {group}')
            self._log(connection, actor, 'group remove', f'{group} {user}')

    def groups(self) -> dict[str, list[str]]:
        """Return the members of each group; of the group of all users, none are named."""
        columns = db.members.c
        found: dict[str, list[str]] = {EVERYBODY: []}
        with self._engine.connect() as connection:
            for group, user in connection.execute(select(columns.group, columns.user).order_by(*columns)):
                found.setdefault(group, []).append(user)
            holders = select(db.grants.c.holder).where(db.grants.c.kind == 'group')
            for holder in connection.scalars(holders.distinct().order_by(db.grants.c.holder)):
                found.setdefault(holder, [])
        return found

    def grant(self, actor: Actor, grant: Grant) -> None:
        """Grant an application.

        :raises PortalError: there is no such application or user.
        """
        known = known_applications()
        if grant.application not in known:
            raise PortalError(f'there is no application {grant.application!r}; known: {", ".join(known)}')
        _check_name(grant.holder)
        with self._engine.begin() as connection:
            if grant.kind == 'user':
                _user(connection, grant.holder)
            if not _exists(connection, db.grants, vars(grant)):
                connection.execute(insert(db.grants).values(**vars(grant)))
                self._log(connection, actor, 'grant', f'{grant.application} {grant.kind} {grant.holder}')

    def revoke(self, actor: Actor, grant: Grant) -> None:
        """Take a grant back; it acts from the next request on.

        :raises PortalError: it was not granted.
        """
        with self._engine.begin() as connection:
            if not _remove(connection, db.grants, vars(grant)):
                raise PortalError(f'{grant.application} is not granted to the {grant.kind} {grant.holder}')
            self._log(connection, actor, 'revoke', f'{grant.application} {grant.kind} {grant.holder}')

    def grants(self) -> list[Grant]:
        """Return all grants."""
        with self._engine.connect() as connection:
            return [Grant(*row) for row in connection.execute(select(db.grants).order_by(*db.grants.c))]

    def granted(self, user: str) -> frozenset[str]:
        """Return the applications that a user has, directly or by a group."""
        with self._engine.connect() as connection:
            return _granted(connection, user)

    # sessions

    def sign_in(self, name: str, password: str, address: str, old_session: str | None = None) -> str | None:
        """Begin a session.

        :param old_session: hash of the session that the browser has so far, which ends.
        :returns: the secret for the cookie; None: name or password is wrong, or the user is disabled.
        """
        with self._engine.connect() as connection:
            row = connection.execute(select(db.users).where(db.users.c.name == name)).mappings().first()
        right = self._hasher.verify(password[:1024], row['password'] if row is not None else '')
        if row is None or not right or not row['active']:
            with self._engine.begin() as connection:
                # Somebody may have typed the password in the place of the name.
                self._log(connection, Actor('?' if row is None else name, address), 'sign-in refused', '')
            return None
        return self.begin_session(name, address, old_session)

    def begin_session(self, name: str, address: str, old_session: str | None = None) -> str:
        """Begin a session of a user who has shown who it is, and return the secret for the cookie."""
        secret = secrets.token_urlsafe(32)
        now = self._clock()
        row = {'hash': hash_of(secret), 'user': name, 'address': address, 'begun': now, 'seen': now}
        columns = db.sessions.c
        with self._engine.begin() as connection:
            ended = or_(
                columns.begun < now - self._session_s,
                columns.seen < now - self._session_idle_s,
                columns.hash == (old_session or ''),
            )
            connection.execute(delete(db.sessions).where(ended))
            connection.execute(insert(db.sessions).values(**row))
            self._log(connection, Actor(name, address), 'sign-in', '')
        return secret

    def signed(self, secret: str, *, asks: bool = True) -> Signed | None:
        """Return the session of a cookie; None: there is none, or it has ended.

        :param asks: somebody asks for something, so that the session is not idle.
        """
        now = self._clock()
        hashed = hash_of(secret)
        columns = db.sessions.c
        with self._engine.connect() as connection:
            row = connection.execute(select(db.sessions).where(columns.hash == hashed)).mappings().first()
            if row is None or now - row['begun'] >= self._session_s or now - row['seen'] >= self._session_idle_s:
                return None
            user = _user(connection, row['user'])
            applications = _granted(connection, user.name)
        if not user.active:
            return None
        if asks and now - row['seen'] >= SEEN_S:
            with self._engine.begin() as connection:
                connection.execute(update(db.sessions).where(columns.hash == hashed).values(seen=now))
        token = hmac.new(secret.encode(), b'form', hashlib.sha256).hexdigest()
        return Signed(user, hashed, token, applications)

    def sign_out(self, actor: Actor, session: str) -> None:
        """End a session."""
        with self._engine.begin() as connection:
            connection.execute(delete(db.sessions).where(db.sessions.c.hash == session))
            self._log(connection, actor, 'sign-out', '')

    def end_sessions(self, actor: Actor, name: str) -> int:
        """End all sessions of a user, and return how many there were."""
        with self._engine.begin() as connection:
            _user(connection, name)
            ended = connection.execute(delete(db.sessions).where(db.sessions.c.user == name)).rowcount
            self._log(connection, actor, 'sessions ended', f'{name} {ended}')
        return ended

    # announcements and log

    def announce(self, actor: Actor, text: str, until: float | None = None) -> None:
        """Tell everybody something.

        :raises PortalError: there is no text, or too much of it.
        """
        if not 0 < len(text.strip()) <= 2000:
            raise PortalError('an announcement has 1 to 2000 characters')
        row = {'text': text.strip(), 'author': actor.name, 'since': self._clock(), 'until': until}
        with self._engine.begin() as connection:
            connection.execute(insert(db.announcements).values(**row))
            self._log(connection, actor, 'announce', text.strip())

    def withdraw(self, actor: Actor, number: int) -> None:
        """Take an announcement back."""
        with self._engine.begin() as connection:
            if not _remove(connection, db.announcements, {'id': number}):
                raise PortalError(f'there is no announcement {number}')
            self._log(connection, actor, 'withdraw', str(number))

    def announcements(self) -> list[Announcement]:
        """Return what is told now, the newest first."""
        columns = db.announcements.c
        now = self._clock()
        query = select(db.announcements).where(or_(columns.until.is_(None), columns.until > now))
        with self._engine.connect() as connection:
            return [Announcement(**row) for row in connection.execute(query.order_by(columns.id.desc())).mappings()]

    def note(self, actor: Actor, event: str, detail: str = '') -> None:
        """Write something into the log that changes nothing here."""
        with self._engine.begin() as connection:
            self._log(connection, actor, event, detail)

    def log(self, number: int, user: str | None = None) -> list[Entry]:
        """Return the newest entries of the log, the newest first.

        :param user: only what this one did.
        """
        query = select(db.log).order_by(db.log.c.id.desc()).limit(number)
        if user is not None:
            query = query.where(db.log.c.actor == user)
        with self._engine.connect() as connection:
            return [Entry(**row) for row in connection.execute(query).mappings()]

    def _log(self, connection: Connection, actor: Actor, event: str, detail: str) -> None:
        row = {'actor': actor.name[:64], 'address': actor.address[:64], 'event': event, 'detail': detail}
        connection.execute(insert(db.log).values(time=self._clock(), **row))


def hash_of(secret: str) -> str:
    """Return what is kept of the secret of a session: it has 256 random bits, so that no salt is needed."""
    return hashlib.sha256(secret.encode()).hexdigest()


def known_applications() -> list[str]:
    """Return the names of what can be granted."""
    return [*APPLICATIONS.names(), OTHERS]


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise PortalError(
            f'{name!r} cannot be a name: it begins with a small letter, and has at most 32 of a to z, 0 to 9, and . _ -'
        )


def _user(connection: Connection, name: str) -> User:
    row = connection.execute(select(db.users).where(db.users.c.name == name)).mappings().first()
    if row is None:
        raise PortalError(f'there is no user {name!r}')
    return _as_user(row)


def _as_user(row: Any) -> User:
    return User(row['name'], row['account'], row['admin'], row['active'], row['quota_bytes'])


def _granted(connection: Connection, user: str) -> frozenset[str]:
    columns = db.grants.c
    groups = select(db.members.c.group).where(db.members.c.user == user)
    mine = (columns.kind == 'user') & (columns.holder == user)
    ours = (columns.kind == 'group') & ((columns.holder == EVERYBODY) | columns.holder.in_(groups))
    return frozenset(connection.scalars(select(columns.application).where(mine | ours)))


def _exists(connection: Connection, table: Any, row: dict[str, Any]) -> bool:
    return connection.execute(select(table).filter_by(**row)).first() is not None


def _remove(connection: Connection, table: Any, row: dict[str, Any]) -> bool:
    condition = [table.c[name] == value for name, value in row.items()]
    return bool(connection.execute(delete(table).where(*condition)).rowcount)
