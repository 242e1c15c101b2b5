"""List groups of nodes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from aiida_nanoml.actions.base import Action, Result, Step, step
from aiida_nanoml.actions.session import Session
from aiida_nanoml.text import aligned


class ListGroups(Action):
    """List all groups of the profile, the newest first."""

    action: ClassVar[str] = 'list_groups'
    command: ClassVar[tuple[str, ...]] = ('groups', 'list')
    example: ClassVar[str] = 'aiida-nanoml groups list'

    def perform(self, session: Session) -> Result:
        """Ask the profile."""
        from aiida.orm import Group, QueryBuilder

        query = QueryBuilder().append(Group, tag='group').order_by({'group': [{'id': 'desc'}]})
        return GroupList([(group.label, group.count(), group.description) for group in query.all(flat=True)])


@dataclass(frozen=True)
class GroupList(Result):
    """Groups.

    :param groups: name, number of nodes and description of each.
    """

    groups: list[tuple[str, int, str]]

    def to_dict(self) -> dict[str, Any]:
        """Return all groups."""
        keys = ('name', 'n_nodes', 'description')
        return {'groups': [dict(zip(keys, group, strict=True)) for group in self.groups]}

    def lines(self) -> str:
        """Return a table."""
        if not self.groups:
            return 'no groups'
        return aligned([['group', 'nodes', 'description'], *([*map(str, group)] for group in self.groups)])

    def next_step(self) -> Step | None:
        """List the nodes of the newest group."""
        return step('list_nodes', group=self.groups[0][0], unnamed=True) if self.groups else None
