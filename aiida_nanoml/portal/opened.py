"""The database of a portal, opened as its configuration says."""

from __future__ import annotations

from aiida_nanoml.portal.accounts import Accounts
from aiida_nanoml.portal.config import PortalConfig
from aiida_nanoml.portal.database import open_database


def open_accounts(config: PortalConfig) -> Accounts:
    """Open the database.

    :raises PortalError: it cannot be opened.
    """
    engine = open_database(config.database, config.account)
    return Accounts(engine, session_s=config.session_s, session_idle_s=config.session_idle_s)
