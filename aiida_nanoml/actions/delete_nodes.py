"""Delete nodes with everything that depends on them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from aiida_nanoml.actions.base import Action, Result, Step, record, step
from aiida_nanoml.actions.describe import counts
from aiida_nanoml.actions.errors import ActionError
from aiida_nanoml.actions.fields import AnyNode, argument, option
from aiida_nanoml.actions.nodes import type_name
from aiida_nanoml.actions.session import Session, only_errors
from aiida_nanoml.text import counted, first_of

if TYPE_CHECKING:
    from aiida.orm import Node

SHOWN_NAMES = 20


class DeleteNodes(Action):
    """Delete NODE..., the runs that made or used them, and all that was made of them.

    Nothing that stays refers to anything that is gone. What goes is shown first, and you are asked.
    """

    action: ClassVar[str] = 'delete_nodes'
    command: ClassVar[tuple[str, ...]] = ('delete',)
    example: ClassVar[str] = 'aiida-nanoml delete old-model --dry-run'
    short: ClassVar[str | None] = 'Delete nodes and what depends on them'

    nodes: tuple[AnyNode, ...] = argument('Nodes to delete.', metavar='NODE...')
    dry_run: bool = option(False, 'Show what would be deleted, and delete nothing.')
    yes: bool = option(False, 'Do not ask.')

    def perform(self, session: Session) -> Result:
        """Find what depends on the nodes, ask, and delete."""
        from aiida.orm import Node, QueryBuilder
        from aiida.tools import delete_nodes

        chosen = {node.pk for node in self.load_all('nodes')}
        with only_errors():
            pks, _ = delete_nodes(chosen, dry_run=True)
        query = QueryBuilder().append(Node, filters={'id': {'in': pks}}, tag='node')
        doomed = Doomed(chosen, query.order_by({'node': [{'id': 'desc'}]}).all(flat=True))
        if self.dry_run:
            return doomed
        self._check_ended(doomed.nodes)
        if not self.yes:
            session.note(doomed.render())
            if not session.ask(f'Delete {counted(len(pks), "node")}?'):
                raise ActionError('nothing was deleted: without an answer, only --yes deletes')
        content = doomed.to_dict()
        with only_errors():
            delete_nodes(chosen, dry_run=False)
        return Deleted(content)

    def _check_ended(self, nodes: list[Node]) -> None:
        """Check that no process runs among what goes."""
        from aiida.orm import ProcessNode

        running = [node for node in nodes if isinstance(node, ProcessNode) and not node.is_terminated]
        if running:
            raise ActionError(
                f'{running[0].process_label} (pk {running[0].pk}) has not ended: end it first, with '
                f'`verdi process kill {running[0].pk}`'
            )


@dataclass(frozen=True)
class Doomed(Result):
    """What would be deleted.

    :param chosen: PKs of the nodes that were named.
    :param nodes: these and all that depend on them, the newest first.
    """

    chosen: set[int]
    nodes: list[Node]

    def to_dict(self) -> dict[str, Any]:
        """Return all nodes."""
        return {'deleted': False, 'n_nodes': len(self.nodes), 'nodes': [record(node) for node in self.nodes]}

    def lines(self) -> dict[str, object]:
        """Return the nodes that were named, numbers by type, and everything else that has a name."""
        named = [node for node in self.nodes if node.pk in self.chosen]
        others = [node for node in self.nodes if node.pk not in self.chosen]
        labelled = [f'{node.label} (pk {node.pk})' for node in others if node.label not in ('', type_name(node))]
        return {
            'named': ', '.join(f'{node.label or type_name(node)} (pk {node.pk})' for node in named),
            'depend on them': counts(Counter(type_name(node) for node in others)),
            **({'among these': first_of(labelled, SHOWN_NAMES)} if labelled else {}),
        }

    def next_step(self) -> Step:
        """Delete them."""
        return step('delete_nodes', nodes=sorted(self.chosen))


@dataclass(frozen=True)
class Deleted(Result):
    """What was deleted.

    :param content: the nodes, in types of JSON.
    """

    content: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Return all nodes that are gone."""
        return self.content | {'deleted': True}

    def lines(self) -> dict[str, object]:
        """Return their number."""
        return {'deleted': counted(self.content['n_nodes'], 'node')}
