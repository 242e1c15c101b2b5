"""Give a node another name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import field_validator

from aiida_nanoml.actions.base import Action, Result, Step, record, step
from aiida_nanoml.actions.fields import OUTPUT, AnyNode, argument, option
from aiida_nanoml.actions.names import NameClaim, check_name
from aiida_nanoml.actions.nodes import type_name
from aiida_nanoml.actions.session import Session

if TYPE_CHECKING:
    from aiida.orm import Node


class Relabel(Action):
    """Give NODE the name NEW; whatever was made of it stays as it is."""

    action: ClassVar[str] = 'relabel'
    command: ClassVar[tuple[str, ...]] = ('relabel',)
    example: ClassVar[str] = 'aiida-nanoml relabel flakes small-flakes'

    node: AnyNode = argument('Node to rename.')
    name: str = argument('New name.', metavar='NEW', min_length=1)
    replace_name: bool = option(False, 'Move the name from the node that has it.', group=OUTPUT)

    @field_validator('name')
    @classmethod
    def _check_name(cls, name: str) -> str:
        check_name(name)
        return name

    def perform(self, session: Session) -> Result:
        """Rename it."""
        node = self.load('node')
        before = node.label
        if node.entry_point is not None and before != self.name:
            claim = NameClaim({self.name: type_name(node)}, {'action': self.action, 'name': self.name})
            for text in claim.check_free(replace=self.replace_name):
                session.note(text)
            node.label = self.name
            claim.settle()
        else:
            node.label = self.name
        return Renamed(node, before)


@dataclass(frozen=True)
class Renamed(Result):
    """A node with its new name.

    :param node: the node.
    :param before: its name until now.
    """

    node: Node
    before: str

    def to_dict(self) -> dict[str, Any]:
        """Return the node and its old name."""
        return record(self.node, before=self.before)

    def lines(self) -> dict[str, object]:
        """Return both names."""
        return {'pk': self.node.pk, 'before': self.before or '-', 'now': self.node.label}

    def next_step(self) -> Step:
        """List what there is."""
        return step('list_nodes')
