"""Patience with a database that another process writes to."""

from __future__ import annotations

import sqlite3

LOCK_MS = 60_000
"""Milliseconds that SQLite waits for another writer; Python's default of 5 s is short for many runs on a slow disk."""


def wait_for_writers() -> None:
    """Let all connections to SQLite that this process makes wait for other writers."""
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    if not event.contains(Engine, 'connect', _wait_longer):
        event.listen(Engine, 'connect', _wait_longer)


def _wait_longer(connection: object, _: object) -> None:
    if isinstance(connection, sqlite3.Connection):
        connection.execute(f'PRAGMA busy_timeout = {LOCK_MS}').close()
