"""A storage that costs less: profiles of tests need not survive the loss of power, only the end of processes."""

from __future__ import annotations

import os
import sqlite3
from typing import Any

from aiida.storage.sqlite_dos.backend import SqliteDosStorage
from sqlalchemy import event
from sqlalchemy.engine import Engine


def spare_storage() -> None:
    """Let the storage of this process, and of its forks, do less.

    Files and transactions of SQLite are not flushed to the disk. After a transaction nothing is read again that cannot
    change: AiiDA itself reads what can, such as attributes, at each access. That is a third of its engine's time.
    """
    os.fsync = os.fdatasync = lambda _: None
    event.listen(Engine, 'connect', _do_not_sync)
    initialise = SqliteDosStorage._initialise_session

    def initialise_once(storage: SqliteDosStorage) -> None:
        initialise(storage)
        storage._session_factory.configure(expire_on_commit=False)

    SqliteDosStorage._initialise_session = initialise_once


def _do_not_sync(connection: Any, _record: Any) -> None:
    if isinstance(connection, sqlite3.Connection):
        connection.execute('PRAGMA synchronous=OFF').close()
