"""What pages ask of the graph, as texts and numbers; called in the thread of the database alone."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aiida_nanoml.actions.base import step
from aiida_nanoml.actions.fields import FieldSpec
from aiida_nanoml.actions.registry import action_class
from aiida_nanoml.web.errors import PageError
from aiida_nanoml.web.figures import LossPlot, loss_plot
from aiida_nanoml.web.forms import Form, write_form

if TYPE_CHECKING:
    from aiida.orm import Node, ProcessNode

NODES_OFFERED = 200
"""Nodes that a field offers, the newest ones."""

LINKS_SHOWN = 100
ATTRIBUTES_SHOWN = 20_000
"""Characters of the attributes of a node."""

FIGURES = {'.png': 'image/png', '.svg': 'image/svg+xml'}
"""Endings of files that are shown as pictures."""

DRAWN = ('structures', 'labels', 'dataset')
"""Contents of our nodes that draw themselves."""


@dataclass(frozen=True)
class NodeLink:
    """A node that a page names.

    :param role: of the link to it; empty where there is none.
    """

    uuid: str
    pk: int
    kind: str
    label: str
    made: str
    content: str
    process: bool
    role: str = ''

    @property
    def url(self) -> str:
        """Return the address of its page."""
        return f'/{"processes" if self.process else "nodes"}/{self.uuid}'


@dataclass(frozen=True)
class NodePage:
    """What is shown of a node.

    :param html: HTML that our own types write of themselves.
    :param files: names of the files in it.
    """

    node: NodeLink
    description: str
    attributes: str
    html: str
    files: list[str]
    figures: list[str]
    incoming: list[NodeLink]
    outgoing: list[NodeLink]


@dataclass(frozen=True)
class ProcessPage:
    """What is shown of a process.

    :param state: in words.
    :param message: why it failed; empty if it did not.
    :param standstill: why it does not move although it has not ended; empty if it moves.
    :param mending: action and form that make it move.
    :param progress: what is done and what there is to do, by step.
    :param losses: of a training, as far as it is; None: they are not known.
    """

    node: NodeLink
    state: str
    message: str
    ended: bool
    standstill: str
    mending: tuple[str, Form] | None
    progress: dict[str, tuple[int, int]]
    caller: NodeLink | None
    called: list[NodeLink]
    inputs: list[NodeLink]
    outputs: list[NodeLink]
    losses: LossPlot | None


@dataclass(frozen=True)
class Waiting:
    """Something that waits, and why.

    :param node: the process; None: the daemon.
    :param mending: action and form of what helps; None: nothing need be done.
    """

    reason: str
    node: NodeLink | None = None
    mending: tuple[str, Form] | None = None


@dataclass(frozen=True)
class DeskFacts:
    """What the desk shows of the profile."""

    results: list[NodeLink]
    waiting: list[Waiting]


def offered_nodes(spec: FieldSpec) -> list[tuple[str, str]]:
    """Return the newest nodes that a field takes: how it is given, and what is shown."""
    from aiida.orm import Code, Node, QueryBuilder

    from aiida_nanoml.actions.list_nodes import CONTENT, describe_attributes

    wanted = spec.node
    assert wanted is not None  # noqa: S101
    if wanted.code:
        codes = QueryBuilder().append(Code, tag='node').order_by({'node': [{'id': 'desc'}]}).all(flat=True)
        return [(code.full_label, f'{code.full_label} (pk {code.pk})') for code in codes]
    # Nodes themselves would be loaded with all their attributes, which takes ten times as long.
    keys = ('process_label', 'process_state', *CONTENT)
    shown = ['id', 'label', 'ctime', 'node_type', *(f'attributes.{key}' for key in keys)]
    query = QueryBuilder()
    if wanted.entry_points:
        query.append(_classes(wanted.entry_points), tag='node', project=shown)
    else:
        query.append(Node, filters={'label': {'!==': ''}}, tag='node', project=shown)
    rows = query.order_by({'node': [{'id': 'desc'}]}).limit(NODES_OFFERED).all()
    labels = Counter(label for _, label, *_ in rows)
    found = []
    for pk, label, ctime, node_type, *values in rows:
        attributes = {key: value for key, value in zip(keys, values, strict=True) if value is not None}
        kind = attributes.get('process_label') or node_type.split('.')[-3]
        content = attributes.get('process_state') or describe_attributes(attributes) or kind
        value = label if label and labels[label] == 1 else str(pk)
        found.append((value, f'{label or kind} · {content} · pk {pk} · {ctime.astimezone():%Y-%m-%d %H:%M}'))
    return found


def known_nodes(uuids: list[str]) -> list[NodeLink]:
    """Return those of some UUIDs that belong to nodes."""
    from aiida.orm import Node, QueryBuilder

    query = QueryBuilder().append(Node, filters={'uuid': {'in': uuids}}, tag='node')
    nodes = {node.uuid: node for node in query.all(flat=True)} if uuids else {}
    return [link_to(nodes[uuid]) for uuid in uuids if uuid in nodes]


def link_to(node: Node, role: str = '') -> NodeLink:
    """Return what a page says of a node in a line."""
    from aiida.orm import ProcessNode

    from aiida_nanoml.actions.list_nodes import describe_content
    from aiida_nanoml.actions.nodes import type_name

    return NodeLink(
        uuid=node.uuid,
        pk=node.pk,
        kind=type_name(node),
        label=node.label,
        made=f'{node.ctime.astimezone():%Y-%m-%d %H:%M}',
        content=describe_content(node),
        process=isinstance(node, ProcessNode),
        role=role,
    )


def describe_node(uuid: str) -> NodePage:
    """Return the page of a node.

    :raises PageError: there is none.
    """
    node = load(uuid)
    repository = node.base.repository
    files = sorted(str(folder / name) for folder, _, names in repository.walk() for name in names)
    figures = [name for name in files if name.endswith(tuple(FIGURES))]
    attributes = json.dumps(node.base.attributes.all, indent=2, ensure_ascii=False, default=str)
    links = node.base.links
    return NodePage(
        node=link_to(node),
        description=node.description,
        attributes=attributes[:ATTRIBUTES_SHOWN] + (' …' if len(attributes) > ATTRIBUTES_SHOWN else ''),
        html=_drawn(node),
        files=files,
        figures=figures,
        incoming=[link_to(link.node, link.link_label) for link in links.get_incoming().all()[:LINKS_SHOWN]],
        outgoing=[link_to(link.node, link.link_label) for link in links.get_outgoing().all()[:LINKS_SHOWN]],
    )


def read_node_file(uuid: str, name: str) -> bytes:
    """Return a file in a node.

    :raises PageError: there is none.
    """
    node = load(uuid)
    try:
        content: bytes = node.base.repository.get_object_content(name, mode='rb')
    except (OSError, TypeError) as error:
        raise PageError(404, f'there is no file {name} in this node') from error
    return content


def load(uuid: str, kind: str = '') -> Any:
    """Load a node.

    :param kind: entry point that it must have.
    :raises PageError: there is none, or it is of another kind.
    """
    from aiida.common.exceptions import NotExistent
    from aiida.orm import load_node

    from aiida_nanoml.actions.nodes import type_name

    try:
        node = load_node(uuid=uuid)
    except NotExistent as error:
        raise PageError(404, f'there is no node {uuid}') from error
    if kind and type_name(node) != kind:
        raise PageError(404, f'{uuid} is no {kind}')
    return node


def describe_process(uuid: str) -> ProcessPage:
    """Return the page of a process.

    :raises PageError: there is none.
    """
    from aiida.common.links import LinkType

    from aiida_nanoml.actions.session import failure_of
    from aiida_nanoml.provenance.carriers import Carriers
    from aiida_nanoml.provenance.progress import JobProgress, losses_of

    node = _load_process(uuid)
    reason = '' if node.is_terminated else Carriers().stands_still(node)
    links = node.base.links
    inputs = links.get_incoming(link_type=(LinkType.INPUT_CALC, LinkType.INPUT_WORK)).all()
    outputs = links.get_outgoing(link_type=(LinkType.CREATE, LinkType.RETURN)).all()
    return ProcessPage(
        node=link_to(node),
        state=_state(node),
        message=(failure_of(node) or '') if node.is_terminated else node.process_status or '',
        ended=node.is_terminated,
        standstill=reason,
        mending=_mending(node) if reason else None,
        progress=JobProgress(node).look(),
        caller=None if node.caller is None else link_to(node.caller),
        called=[link_to(one) for one in node.called[:LINKS_SHOWN]],
        inputs=[link_to(link.node, link.link_label) for link in inputs[:LINKS_SHOWN]],
        outputs=[link_to(link.node, link.link_label) for link in outputs[:LINKS_SHOWN]],
        losses=loss_plot(losses_of(node)) if node.process_label == 'TrainCalculation' else None,
    )


class ProcessWatch:
    """Looks at a process again and again.

    :raises PageError: there is none.
    """

    def __init__(self, uuid: str) -> None:
        from aiida_nanoml.provenance.progress import JobProgress

        self._node = _load_process(uuid)
        self._jobs = JobProgress(self._node)

    def look(self) -> dict[str, Any]:
        """Return state, progress, and whether it has ended."""
        ended = self._node.is_terminated
        return {'state': _state(self._node), 'progress': self._jobs.look(), 'ended': ended}


def newest_processes(number: int) -> list[NodeLink]:
    """Return the newest workflows and jobs that no other process called."""
    from aiida.orm import CalcJobNode, QueryBuilder, WorkflowNode

    query = QueryBuilder().append((WorkflowNode, CalcJobNode), tag='node').order_by({'node': [{'id': 'desc'}]})
    found = []
    for node in query.iterall():
        if node[0].caller is None:
            found.append(link_to(node[0]))
            if len(found) == number:
                break
    return found


def desk_facts(n_results: int) -> DeskFacts:
    """Return the last results, and what waits and why."""
    from aiida.orm import ProcessNode, QueryBuilder

    from aiida_nanoml.actions.list_nodes import KINDS
    from aiida_nanoml.provenance.carriers import Carriers

    query = QueryBuilder().append(_classes(tuple(KINDS.values())), filters={'label': {'!==': ''}}, tag='node')
    results = query.order_by({'node': [{'id': 'desc'}]}).limit(n_results).all(flat=True)
    carriers = Carriers()
    waiting = []
    if carriers.has_broker and carriers.daemon is None:
        waiting.append(Waiting('The daemon does not run: each run carries its own processes.', None, _start_daemon()))
    active = QueryBuilder().append(
        ProcessNode, filters={'attributes.process_state': {'in': ['created', 'running', 'waiting']}}, tag='node'
    )
    for node in active.order_by({'node': [{'id': 'desc'}]}).limit(LINKS_SHOWN).all(flat=True):
        if node.caller is None:
            reason = carriers.stands_still(node)
            waiting.append(Waiting(reason or 'it moves', link_to(node), _mending(node) if reason else None))
    return DeskFacts([link_to(node) for node in results], waiting)


def _load_process(uuid: str) -> Any:
    from aiida.orm import ProcessNode

    node = load(uuid)
    if not isinstance(node, ProcessNode):
        raise PageError(404, f'{uuid} is no process')
    return node


def _classes(entry_points: tuple[str, ...]) -> Any:
    from aiida.plugins import DataFactory

    return tuple(map(DataFactory, entry_points))


def _state(node: ProcessNode) -> str:
    from aiida_nanoml.actions.list_nodes import describe_content

    return describe_content(node)


def _mending(node: ProcessNode) -> tuple[str, Form]:
    """Return the action that makes a process move."""
    if node.process_label == 'LabelWorkChain':
        return _filled('resume_campaign', node=node.pk)
    return _start_daemon()


def _start_daemon() -> tuple[str, Form]:
    return _filled('doctor', fix=True)


def _filled(action: str, **fields: Any) -> tuple[str, Form]:
    wanted = step(action, **fields)
    return action, write_form(action_class(action), wanted.fields)


def _drawn(node: Any) -> str:
    """Return what our own types write of themselves; another package's HTML is not trusted."""
    if not type(node).__module__.startswith('aiida_nanoml.'):
        return ''
    for one in (node, *(getattr(node, name, None) for name in DRAWN)):
        if hasattr(one, '_repr_html_'):
            return str(one._repr_html_())
    return ''
