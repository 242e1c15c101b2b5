"""What the page of CBN_ANN asks of the graph: the newest node of each step, what runs; in the database's thread."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from aiida_nanoml.web.graph import NodeLink, link_to
from aiida_nanoml.web.rows import structure_sets

STEPS = {
    'structures': 'nanoml.structures',
    'labels': 'nanoml.labels',
    'dataset': 'nanoml.dataset',
    'model': 'nanoml.model',
    'predictions': 'nanoml.prediction',
}
"""Entry point of what each step makes."""

PROCESSES = (
    'LabelWorkChain', 'LabelCalculation', 'TrainCalculation', 'PredictCalculation', 'GapWorkChain', 'ActiveWorkChain',
    'StudyWorkChain',
)  # fmt: skip
"""Processes of this application, if no other process called them."""

RUNNING_SHOWN = 20


@dataclass(frozen=True)
class Running:
    """A process that has not ended.

    :param progress: what is done and what there is to do, by step.
    """

    node: NodeLink
    progress: dict[str, tuple[int, int]]


@dataclass(frozen=True)
class Workbench:
    """The newest nodes of each step, and what runs.

    :param newest: node of each step that has one, by the name of the step.
    :param labelled: PK of the structures behind the newest labels; None: they are not in the graph.
    """

    newest: dict[str, NodeLink]
    labelled: int | None
    running: list[Running]


def find_workbench() -> Workbench:
    """Return what the page of the application shows of the profile."""
    from aiida.orm import ProcessNode, QueryBuilder

    from aiida_nanoml.provenance.progress import JobProgress

    newest = {step: node for step, kind in STEPS.items() if (node := _newest(kind)) is not None}
    labelled = next(structure_sets(newest['labels']), None) if 'labels' in newest else None
    active = {
        'attributes.process_state': {'in': ['created', 'running', 'waiting']},
        'attributes.process_label': {'in': PROCESSES},
    }
    query = QueryBuilder().append(ProcessNode, filters=active, tag='node').order_by({'node': [{'id': 'desc'}]})
    running = [node for node in query.all(flat=True) if node.caller is None][:RUNNING_SHOWN]
    return Workbench(
        newest={step: link_to(node) for step, node in newest.items()},
        labelled=None if labelled is None else labelled.pk,
        running=[Running(link_to(node), JobProgress(node).look()) for node in running],
    )


def _newest(kind: str) -> Any:
    """Return the newest node of a kind that has a name, or else the newest of all; None: there is none."""
    from aiida.orm import QueryBuilder
    from aiida.plugins import DataFactory

    for filters in ({'label': {'!==': ''}}, {}):
        query = QueryBuilder().append(DataFactory(kind), filters=filters, tag='node')
        node = query.order_by({'node': [{'id': 'desc'}]}).limit(1).first(flat=True)
        if node is not None:
            return node
    return None
