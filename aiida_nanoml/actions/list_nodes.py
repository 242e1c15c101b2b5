"""List nodes by kind, the newest first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from aiida_nanoml.actions.base import Action, Result, Step, record, step
from aiida_nanoml.actions.errors import InputError
from aiida_nanoml.actions.fields import argument, option
from aiida_nanoml.actions.nodes import type_name
from aiida_nanoml.actions.session import Session
from aiida_nanoml.text import aligned, counted

if TYPE_CHECKING:
    from aiida.orm import Node

KINDS = {
    'structures': 'nanoml.structures',
    'labels': 'nanoml.labels',
    'datasets': 'nanoml.dataset',
    'models': 'nanoml.model',
    'predictions': 'nanoml.prediction',
    'potentials': 'nanoml.potentials',
    'densities': 'nanoml.densities',
    'density-models': 'nanoml.density_model',
}
PROCESSES = 'processes'

COUNTS = (
    ('n_structures', 'structure'),
    ('n_potentials', 'potential'),
    ('n_rows', 'row'),
    ('n_features', 'feature'),
)
"""Attributes that tell what a node holds."""

KIND_KEYS = ('kind', 'engine_title', 'target')
CONTENT = ('n_densities', *(key for key, _ in COUNTS), *KIND_KEYS)
"""Attributes of which its content is described."""


class ListNodes(Action):
    """List what has a name, the newest first: all kinds, or one KIND.

    Nodes without names, such as the batches of a labelling, are left out unless --unnamed asks for them.
    """

    action: ClassVar[str] = 'list_nodes'
    command: ClassVar[tuple[str, ...]] = ('list',)
    example: ClassVar[str] = 'aiida-nanoml list models --name gap --days 30'
    short: ClassVar[str | None] = 'List nodes, the newest first'

    kind: str | None = argument('Kind of node.', None, choices=lambda: (*KINDS, PROCESSES), metavar='KIND')
    name: str | None = option(None, 'Part of the name, in capitals or not.')
    days: float | None = option(None, 'Only what was made in the last days.', gt=0, le=36_500)
    group: str | None = option(None, 'Only what is in this group.')
    unnamed: bool = option(False, 'Also nodes without a name.')
    limit: int = option(20, 'Largest number of nodes.', ge=1, le=100_000)

    def perform(self, session: Session) -> Result:
        """Ask the profile."""
        query = self._query()
        n_all = query.count()
        return NodeList(query.limit(self.limit).all(flat=True), n_all, self.unnamed)

    def _query(self) -> Any:
        from aiida.common.timezone import now
        from aiida.orm import Group, Node, ProcessNode, QueryBuilder
        from aiida.plugins import DataFactory

        query = QueryBuilder()
        if self.group is not None:
            if not QueryBuilder().append(Group, filters={'label': self.group}).count():
                raise InputError(f'there is no group {self.group!r}: `aiida-nanoml groups list` shows all', 'group')
            query.append(Group, filters={'label': self.group}, tag='group')
        kinds: Any = tuple(DataFactory(name) for name in KINDS.values())
        if self.kind is not None:
            kinds = ProcessNode if self.kind == PROCESSES else DataFactory(KINDS[self.kind])
        elif self.group is not None:
            kinds = Node
        query.append(kinds, tag='node', **({} if self.group is None else {'with_group': 'group'}))
        if self.name is not None:
            pattern = self.name.replace('\\', '\\\\').replace('%', '\\%').replace('_', '\\_')
            query.add_filter('node', {'label': {'ilike': f'%{pattern}%'}})
        elif not self.unnamed:
            query.add_filter('node', {'label': {'!==': ''}})
        if self.days is not None:
            query.add_filter('node', {'ctime': {'>': now() - timedelta(days=self.days)}})
        return query.order_by({'node': [{'id': 'desc'}]})


@dataclass(frozen=True)
class NodeList(Result):
    """Nodes, the newest first.

    :param nodes: those that are shown.
    :param n_all: how many there are.
    :param unnamed: those without a name were asked for, too.
    """

    nodes: list[Node]
    n_all: int
    unnamed: bool

    def to_dict(self) -> dict[str, Any]:
        """Return the identity of each node, when it was made, and what it holds."""
        rows = [record(node, made=node.ctime.isoformat(), content=describe_content(node)) for node in self.nodes]
        return {'nodes': rows, 'n_nodes': self.n_all}

    def lines(self) -> str:
        """Return a table of the nodes."""
        if not self.nodes:
            return 'nothing' if self.unnamed else 'nothing that has a name'
        rows = [['pk', 'kind', 'name', 'made', 'content']]
        for node in self.nodes:
            kind = type_name(node).removeprefix('nanoml.')
            made = f'{node.ctime.astimezone():%Y-%m-%d %H:%M}'
            rows.append([str(node.pk), kind, node.label or '-', made, describe_content(node)])
        rest = self.n_all - len(self.nodes)
        more = f'\n… {rest} more: --limit {self.n_all} shows all' if rest else ''
        return f'{aligned(rows)}{more}'

    def next_step(self) -> Step | None:
        """Trace the newest one."""
        return step('trace', node=self.nodes[0].pk) if self.nodes else None


def describe_content(node: Node) -> str:
    """Return how much a data node holds, or the state of a process."""
    from aiida.orm import ProcessNode

    if isinstance(node, ProcessNode):
        if node.is_finished:
            return 'finished' if node.is_finished_ok else f'failed with exit status {node.exit_status}'
        return str(node.process_state.value) if node.process_state else 'unknown'
    return describe_attributes(node.base.attributes.all)


def describe_attributes(attributes: Mapping[str, Any]) -> str:
    """Return how much a data node holds, as :data:`CONTENT` of its attributes say."""
    counts = [counted(attributes['n_densities'], 'density', 'densities')] if 'n_densities' in attributes else []
    counts += [counted(attributes[key], what) for key, what in COUNTS if key in attributes]
    what = [str(attributes[key]) for key in KIND_KEYS if attributes.get(key)]
    return ', '.join(counts + what)
