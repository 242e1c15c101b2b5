"""Put nodes into a group."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from aiida_nanoml.actions.base import Action, Result, Step, step
from aiida_nanoml.actions.fields import AnyNode, argument
from aiida_nanoml.actions.session import Session
from aiida_nanoml.text import counted


class AddToGroup(Action):
    """Put NODE... into GROUP, which is made if it is not there."""

    action: ClassVar[str] = 'add_to_group'
    command: ClassVar[tuple[str, ...]] = ('groups', 'add')
    example: ClassVar[str] = 'aiida-nanoml groups add paper flakes labels'

    group: str = argument('Name of the group.', min_length=1)
    nodes: tuple[AnyNode, ...] = argument('Nodes to put in.', metavar='NODE...')

    def perform(self, session: Session) -> Result:
        """Put them in."""
        from aiida.orm import Group

        nodes = self.load_all('nodes')
        group, _ = Group.collection.get_or_create(self.group)
        before = group.count()
        group.add_nodes(nodes)
        return GroupChange(self.group, group.count() - before, group.count())


@dataclass(frozen=True)
class GroupChange(Result):
    """What became of a group.

    :param group: its name.
    :param change: nodes that were put in, or, below zero, taken out.
    :param n_nodes: nodes that it has now; 0: it is gone.
    """

    group: str
    change: int
    n_nodes: int

    def to_dict(self) -> dict[str, Any]:
        """Return the group and its numbers."""
        return {'group': self.group, 'change': self.change, 'n_nodes': self.n_nodes}

    def lines(self) -> dict[str, object]:
        """Return the group and its numbers."""
        what = 'put in' if self.change >= 0 else 'taken out'
        return {
            'group': self.group,
            what: abs(self.change),
            'now': counted(self.n_nodes, 'node') if self.n_nodes else 'gone',
        }

    def next_step(self) -> Step:
        """List its nodes, or the groups that there are."""
        return step('list_nodes', group=self.group, unnamed=True) if self.n_nodes else step('list_groups')
