"""Let nothing wait for the disk: profiles of tests need not survive the loss of power, only the end of processes."""

from __future__ import annotations

import os
import sqlite3
from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import Engine


def skip_syncs() -> None:
    """Turn off the flush of files, and of SQLite's transactions, to the disk in this process and its forks."""
    os.fsync = os.fdatasync = lambda _: None
    event.listen(Engine, 'connect', _do_not_sync)


def _do_not_sync(connection: Any, _record: Any) -> None:
    if isinstance(connection, sqlite3.Connection):
        connection.execute('PRAGMA synchronous=OFF').close()
