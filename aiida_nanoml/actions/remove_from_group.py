"""Take nodes out of a group."""

from __future__ import annotations

from typing import ClassVar

from aiida_nanoml.actions.add_to_group import GroupChange
from aiida_nanoml.actions.base import Action, Result
from aiida_nanoml.actions.errors import InputError
from aiida_nanoml.actions.fields import AnyNode, argument
from aiida_nanoml.actions.session import Session


class RemoveFromGroup(Action):
    """Take NODE... out of GROUP; the nodes stay. The group goes with its last node."""

    action: ClassVar[str] = 'remove_from_group'
    command: ClassVar[tuple[str, ...]] = ('groups', 'remove')
    example: ClassVar[str] = 'aiida-nanoml groups remove paper flakes'

    group: str = argument('Name of the group.', min_length=1)
    nodes: tuple[AnyNode, ...] = argument('Nodes to take out.', metavar='NODE...')

    def perform(self, session: Session) -> Result:
        """Take them out."""
        from aiida.common.exceptions import NotExistent
        from aiida.orm import Group

        nodes = self.load_all('nodes')
        try:
            group = Group.collection.get(label=self.group)
        except NotExistent as error:
            raise InputError(
                f'there is no group {self.group!r}: `aiida-nanoml groups list` shows all', 'group'
            ) from error
        before = group.count()
        group.remove_nodes(nodes)
        after = group.count()
        if after == 0:
            Group.collection.delete(group.pk)
        return GroupChange(self.group, after - before, after)
