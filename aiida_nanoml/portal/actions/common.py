"""What all actions of a portal share: the configuration, and who acts."""

from __future__ import annotations

import os
import pwd
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from aiida_nanoml.actions.base import Action, Result
from aiida_nanoml.actions.errors import ActionError
from aiida_nanoml.actions.fields import option
from aiida_nanoml.portal.config import DEFAULT, read_config

if TYPE_CHECKING:
    from aiida_nanoml.portal.accounts import Accounts, Actor


class PortalAction(Action):
    """An action on the database of a portal: whoever may write that file is an administrator."""

    in_terminal_only: ClassVar[bool] = True

    config: Path = option(DEFAULT, 'Configuration of the portal.')

    def needs_storage(self) -> bool:
        """Return False: a portal has a database of its own."""
        return False

    def accounts(self) -> Accounts:
        """Open the database.

        :raises ActionError: the extra is not installed.
        """
        try:
            from aiida_nanoml.portal.opened import open_accounts
        except ModuleNotFoundError as error:
            raise ActionError(
                f'a portal needs {error.name}, which is not installed: `pip install aiida-nanoml[portal]`'
            ) from error
        return open_accounts(read_config(self.config))

    @staticmethod
    def actor() -> Actor:
        """Return who runs the command."""
        from aiida_nanoml.portal.accounts import Actor

        number = os.getuid()
        try:
            return Actor(f'unix:{pwd.getpwuid(number).pw_name}')
        except KeyError:
            return Actor(f'unix:{number}')


@dataclass(frozen=True)
class Done(Result):
    """A change that was made.

    :param what: what holds now, by name.
    """

    what: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Return it."""
        return self.what

    def lines(self) -> dict[str, object]:
        """Return a line for each."""
        return {name: '-' if value is None else value for name, value in self.what.items()}
