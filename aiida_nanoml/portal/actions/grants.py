"""Groups of users of a portal, and the applications that they and single users are granted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import model_validator

from aiida_nanoml.actions.base import Result
from aiida_nanoml.actions.errors import InputError
from aiida_nanoml.actions.fields import argument, option
from aiida_nanoml.actions.session import Session
from aiida_nanoml.portal.actions.common import Done, PortalAction
from aiida_nanoml.text import aligned

if TYPE_CHECKING:
    from aiida_nanoml.portal.accounts import Grant


class GrantAction(PortalAction):
    """A change of a grant: of one application, to a user or a group."""

    application: str = argument('Name of an application; "others" are the actions of none.', min_length=1)
    user: str | None = option(None, 'Name of a user.')
    group: str | None = option(None, 'Name of a group; "everybody" has all users.')

    @model_validator(mode='after')
    def _check_holder(self) -> GrantAction:
        if (self.user is None) == (self.group is None):
            raise InputError('give either {user} or {group}')
        return self

    def grant(self) -> Grant:
        """Return what is granted to whom."""
        from aiida_nanoml.portal.accounts import Grant

        kind, holder = ('user', self.user) if self.user is not None else ('group', self.group)
        return Grant(self.application, kind, str(holder))


class GrantApplication(GrantAction):
    """Grant APPLICATION to a user, or to all members of a group."""

    action: ClassVar[str] = 'portal_grant'
    command: ClassVar[tuple[str, ...]] = ('portal', 'grant')
    example: ClassVar[str] = 'aiida-nanoml portal grant rmatrix --user alice'

    def perform(self, session: Session) -> Result:
        """Grant it."""
        grant = self.grant()
        self.accounts().grant(self.actor(), grant)
        return Done(vars(grant) | {'granted': True})


class RevokeApplication(GrantAction):
    """Take APPLICATION back from a user, or from a group; it acts from the next request on."""

    action: ClassVar[str] = 'portal_revoke'
    command: ClassVar[tuple[str, ...]] = ('portal', 'revoke')
    example: ClassVar[str] = 'aiida-nanoml portal revoke rmatrix --user alice'

    def perform(self, session: Session) -> Result:
        """Take it back."""
        grant = self.grant()
        self.accounts().revoke(self.actor(), grant)
        return Done(vars(grant) | {'granted': False})


class AddMember(PortalAction):
    """Put USER into GROUP, which is made by its first member."""

    action: ClassVar[str] = 'portal_add_member'
    command: ClassVar[tuple[str, ...]] = ('portal', 'group', 'add')
    example: ClassVar[str] = 'aiida-nanoml portal group add flakes alice'

    group: str = argument('Name of the group.', min_length=1)
    user: str = argument('Name of the user.', min_length=1)

    def perform(self, session: Session) -> Result:
        """Put it in."""
        self.accounts().add_member(self.actor(), self.group, self.user)
        return Done({'group': self.group, 'user': self.user, 'member': True})


class RemoveMember(PortalAction):
    """Take USER out of GROUP."""

    action: ClassVar[str] = 'portal_remove_member'
    command: ClassVar[tuple[str, ...]] = ('portal', 'group', 'remove')
    example: ClassVar[str] = 'aiida-nanoml portal group remove flakes alice'

    group: str = argument('Name of the group.', min_length=1)
    user: str = argument('Name of the user.', min_length=1)

    def perform(self, session: Session) -> Result:
        """Take it out."""
        self.accounts().remove_member(self.actor(), self.group, self.user)
        return Done({'group': self.group, 'user': self.user, 'member': False})


class ListMembers(PortalAction):
    """List groups with their members and the applications that they are granted."""

    action: ClassVar[str] = 'portal_list_members'
    command: ClassVar[tuple[str, ...]] = ('portal', 'group', 'list')
    example: ClassVar[str] = 'aiida-nanoml portal group list'

    def perform(self, session: Session) -> Result:
        """Ask the database."""
        accounts = self.accounts()
        granted: dict[str, list[str]] = {}
        for grant in accounts.grants():
            if grant.kind == 'group':
                granted.setdefault(grant.holder, []).append(grant.application)
        return GroupList([(name, members, granted.get(name, [])) for name, members in accounts.groups().items()])


@dataclass(frozen=True)
class GroupList(Result):
    """Groups.

    :param groups: name, members and applications of each.
    """

    groups: list[tuple[str, list[str], list[str]]]

    def to_dict(self) -> dict[str, Any]:
        """Return all groups."""
        return {'groups': [dict(zip(('name', 'members', 'applications'), row, strict=True)) for row in self.groups]}

    def lines(self) -> str:
        """Return a table."""
        rows = [[name, ' '.join(members) or '-', ' '.join(granted) or '-'] for name, members, granted in self.groups]
        return aligned([['group', 'members', 'applications'], *rows])
