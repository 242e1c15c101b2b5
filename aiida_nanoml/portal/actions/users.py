"""Users of a portal: add, list, disable, and give them new passwords and quotas."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from aiida_nanoml.actions.base import Result
from aiida_nanoml.actions.fields import argument, option
from aiida_nanoml.actions.session import Session
from aiida_nanoml.portal.actions.common import Done, PortalAction
from aiida_nanoml.text import aligned

if TYPE_CHECKING:
    from aiida_nanoml.portal.accounts import User


class AddUser(PortalAction):
    """Add the user NAME, and print a password, which is kept nowhere.

    The user can sign in with it, and choose another one on the page of the account.
    """

    action: ClassVar[str] = 'portal_add_user'
    command: ClassVar[tuple[str, ...]] = ('portal', 'user', 'add')
    example: ClassVar[str] = 'aiida-nanoml portal user add alice --account alice'

    name: str = argument('Name of the sign-in.', min_length=1)
    account: str | None = option(None, 'Unix account of the user: the pages, files and jobs are its own.')
    admin: bool = option(False, 'Let the user administer the portal.')

    def perform(self, session: Session) -> Result:
        """Add it."""
        password = self.accounts().add_user(self.actor(), self.name, self.account, admin=self.admin)
        return Done({'user': self.name, 'account': self.account, 'admin': self.admin, 'password': password})


class ListUsers(PortalAction):
    """List all users with their unix accounts, groups and applications."""

    action: ClassVar[str] = 'portal_list_users'
    command: ClassVar[tuple[str, ...]] = ('portal', 'user', 'list')
    example: ClassVar[str] = 'aiida-nanoml portal user list'

    def perform(self, session: Session) -> Result:
        """Ask the database."""
        accounts = self.accounts()
        groups = accounts.groups()
        return UserList(
            [
                (
                    user,
                    [group for group, members in groups.items() if user.name in members],
                    sorted(accounts.granted(user.name)),
                )
                for user in accounts.users()
            ]
        )


@dataclass(frozen=True)
class UserList(Result):
    """Users.

    :param users: each with its groups and its applications.
    """

    users: list[tuple[User, list[str], list[str]]]

    def to_dict(self) -> dict[str, Any]:
        """Return all users."""
        return {
            'users': [vars(user) | {'groups': groups, 'applications': granted} for user, groups, granted in self.users]
        }

    def lines(self) -> str:
        """Return a table."""
        if not self.users:
            return 'no users'
        head = ['user', 'account', 'may', 'groups', 'applications']
        rows = [
            [
                user.name,
                user.account or '-',
                'nothing' if not user.active else 'administer' if user.admin else 'sign in',
                ' '.join(groups) or '-',
                ' '.join(granted) or '-',
            ]
            for user, groups, granted in self.users
        ]
        return aligned([head, *rows])


class DisableUser(PortalAction):
    """End all sessions of the user NAME, who cannot sign in any more; nothing of the user is deleted."""

    action: ClassVar[str] = 'portal_disable_user'
    command: ClassVar[tuple[str, ...]] = ('portal', 'user', 'disable')
    example: ClassVar[str] = 'aiida-nanoml portal user disable alice'

    name: str = argument('Name of the sign-in.', min_length=1)

    def perform(self, session: Session) -> Result:
        """Disable it."""
        self.accounts().set_active(self.actor(), self.name, False)
        return Done({'user': self.name, 'active': False})


class EnableUser(PortalAction):
    """Let the user NAME sign in again."""

    action: ClassVar[str] = 'portal_enable_user'
    command: ClassVar[tuple[str, ...]] = ('portal', 'user', 'enable')
    example: ClassVar[str] = 'aiida-nanoml portal user enable alice'

    name: str = argument('Name of the sign-in.', min_length=1)

    def perform(self, session: Session) -> Result:
        """Enable it."""
        self.accounts().set_active(self.actor(), self.name, True)
        return Done({'user': self.name, 'active': True})


class ResetPassword(PortalAction):
    """Give the user NAME a new password, print it, and end all sessions of the user."""

    action: ClassVar[str] = 'portal_reset_password'
    command: ClassVar[tuple[str, ...]] = ('portal', 'user', 'password')
    example: ClassVar[str] = 'aiida-nanoml portal user password alice'

    name: str = argument('Name of the sign-in.', min_length=1)

    def perform(self, session: Session) -> Result:
        """Make it."""
        return Done({'user': self.name, 'password': self.accounts().reset_password(self.actor(), self.name)})


class SetQuota(PortalAction):
    """Set what the files of the user NAME may take; without a size, it is what the configuration says."""

    action: ClassVar[str] = 'portal_set_quota'
    command: ClassVar[tuple[str, ...]] = ('portal', 'user', 'quota')
    example: ClassVar[str] = 'aiida-nanoml portal user quota alice --size 50'

    name: str = argument('Name of the sign-in.', min_length=1)
    size: float | None = option(None, 'Most that files may take.', unit='GB', gt=0, le=10**6)

    def perform(self, session: Session) -> Result:
        """Set it; it holds from the next start of the server of the user on."""
        quota = None if self.size is None else round(self.size * 10**9)
        self.accounts().set_quota(self.actor(), self.name, quota)
        return Done({'user': self.name, 'quota_bytes': quota})


class SetAccount(PortalAction):
    """Set the unix account of the user NAME; without one, the user has no pages of the own."""

    action: ClassVar[str] = 'portal_set_account'
    command: ClassVar[tuple[str, ...]] = ('portal', 'user', 'account')
    example: ClassVar[str] = 'aiida-nanoml portal user account alice --account alice'

    name: str = argument('Name of the sign-in.', min_length=1)
    account: str | None = option(None, 'Unix account of the user.')

    def perform(self, session: Session) -> Result:
        """Set it."""
        self.accounts().set_account(self.actor(), self.name, self.account)
        return Done({'user': self.name, 'account': self.account})
