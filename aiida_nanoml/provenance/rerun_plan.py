"""Plan of a rerun: which calculations run again to recompute a node, and which data are taken as recorded."""

from __future__ import annotations

from dataclasses import dataclass
from graphlib import TopologicalSorter
from operator import attrgetter
from typing import Any

from aiida import orm
from aiida.common import exceptions
from aiida.common.links import LinkType
from aiida.engine import ProcessState
from aiida.engine.processes.ports import InputPort
from aiida.plugins import CalculationFactory

from aiida_nanoml.engines.registry import get_engine
from aiida_nanoml.errors import EngineError, ProvenanceError
from aiida_nanoml.provenance.graph import ProvenanceGraph
from aiida_nanoml.provenance.origins import (
    DATASET,
    DENSITIES,
    LABEL_JOB,
    LABELS,
    OURS,
    POTENTIALS,
    PROGRAM_RUN,
    SINGLE_RUN,
    STRUCTURES,
)

INPUTS = 'inputs'
START = 'start'
_GEOMETRIES = (STRUCTURES, POTENTIALS, 'core.structure')
BOUNDARIES: dict[str, tuple[str, ...]] = {
    INPUTS: (),
    'dataset': (DATASET, LABELS, DENSITIES, *_GEOMETRIES),
    'labels': (LABELS, DENSITIES, *_GEOMETRIES),
    'structures': _GEOMETRIES,
    START: (),
}
"""Types of data that are taken as recorded; with ``inputs`` all inputs of the calculation are, with ``start`` only what
cannot be computed again."""

GIVEN = 'input of the calculation'
_FROM = 'rerun from'

PARENT_FOLDER = 'parent_folder'
"""Input of a job that continues a killed one; without it, the same results are computed."""

_PARAMETERS = frozenset(
    {'core.dict', 'core.list', 'core.str', 'core.int', 'core.float', 'core.bool', 'core.code.installed'}
)


@dataclass(frozen=True)
class Taken:
    """Data that are not computed again.

    :param reason: why not.
    """

    uuid: str
    type: str
    label: str
    reason: str

    @property
    def asked(self) -> bool:
        """Return whether it was taken only because the rerun begins there; what is before may be recomputable, too."""
        return self.reason == GIVEN or self.reason.startswith(_FROM)


@dataclass(frozen=True)
class RerunPlan:
    """Calculations to run again.

    :param graph: the node and everything that it depends on.
    :param steps: PKs of the calculations, each after those whose results it uses; the last one made the node.
    :param recomputed: PKs of the data that the steps pass on to each other.
    :param taken: data that are taken as recorded, without parameters.
    """

    graph: ProvenanceGraph
    steps: tuple[int, ...]
    recomputed: frozenset[int]
    taken: tuple[Taken, ...]


def reproducible(node: orm.Node) -> orm.CalculationNode | orm.Data:
    """Return what is reproduced: the node, or the calculation whose results a workflow returned.

    :raises ProvenanceError: no calculation made the node, or a workflow returned results of several.
    """
    if isinstance(node, orm.WorkflowNode):
        links = node.base.links.get_outgoing(link_type=LinkType.RETURN).all()
        makers = {link.node.creator.uuid: link.node.creator for link in links if link.node.creator is not None}
        if len(makers) == 1:
            return next(iter(makers.values()))
        results = ', '.join(f'{link.link_label} {link.node.uuid}' for link in links)
        raise ProvenanceError(
            f'{node.process_label} {node.uuid} is a workflow that returned '
            + (f'results of {len(makers)} calculations: reproduce one of {results}' if makers else 'nothing computed')
        )
    if isinstance(node, orm.Data) and node.creator is None:
        raise ProvenanceError(
            f'{type(node).__name__} {node.uuid} was stored without a process: there is nothing to rerun; name a '
            'node that a calculation made, such as a model or a prediction'
        )
    return node


def plan_rerun(node: orm.CalculationNode | orm.Data, since: str = INPUTS) -> RerunPlan:
    """Plan a rerun, from the calculation that made a node back to the data that are taken as recorded.

    :param node: as :func:`reproducible` returns it.
    :param since: a key of :data:`BOUNDARIES`.
    :raises ProvenanceError: the calculation itself cannot be run again; the message says why. Calculations before it
        that cannot are left out, and their results are taken.
    """
    if since not in BOUNDARIES:
        raise ProvenanceError(f'a rerun cannot begin from {since!r}: choose one of {", ".join(BOUNDARIES)}')
    process = node.creator if isinstance(node, orm.Data) else node
    graph = ProvenanceGraph.ancestors([process.pk])
    reason = _obstacle(graph, process.pk)
    if reason:
        name = graph.type_name(process.pk)
        raise ProvenanceError(f'{name} {process.uuid} cannot be reproduced: {reason}')
    before: dict[int, set[int]] = {}
    recomputed, taken, waiting = set(), {}, [process.pk]
    while waiting:
        step = waiting.pop()
        if step in before:
            continue
        before[step] = set()
        for label, pk in graph.inputs[step].items():
            if label == PARENT_FOLDER:
                continue
            reason = _reason_to_take(graph, pk, since)
            if reason is None:
                before[step].add(graph.creator[pk])
                recomputed.add(pk)
                waiting.append(graph.creator[pk])
            elif graph.type_name(pk) not in _PARAMETERS:
                kept = graph.nodes[pk]
                taken[pk] = Taken(kept.uuid, kept.type, kept.label, reason)
    steps = tuple(TopologicalSorter(before).static_order())
    return RerunPlan(
        graph, steps, frozenset(recomputed), tuple(sorted(taken.values(), key=attrgetter('type', 'label', 'uuid')))
    )


def _reason_to_take(graph: ProvenanceGraph, pk: int, since: str) -> str | None:
    creator = graph.creator.get(pk)
    if creator is None:
        return 'stored without a process'
    if since == INPUTS:
        return GIVEN
    # Densities that a model predicted are no labels.
    predicted = graph.type_name(pk) == DENSITIES and graph.attributes(pk).get('model_fingerprint')
    if graph.type_name(pk) in BOUNDARIES[since] and not predicted:
        return f'{_FROM} {since} on'
    return _obstacle(graph, creator)


def _obstacle(graph: ProvenanceGraph, process: int) -> str | None:
    """Return why a calculation cannot be run again; None: it can."""
    node, inputs = graph.nodes[process], graph.inputs[process]
    if not node.process_type.startswith(OURS):
        return f'{node.type} is no calculation of aiida-nanoml'
    if node.process_type == SINGLE_RUN:
        return 'runs of SIESTA are never repeated'
    if node.process_type == PROGRAM_RUN:
        return 'runs of programs are never repeated'
    if node.process_type == LABEL_JOB and 'engine_code' in inputs:
        program = graph.nodes[inputs['engine_code']].label
        return f'runs of programs such as SIESTA are never repeated, and the labels come from the code {program}'
    folders = [pk for label, pk in inputs.items() if graph.type_name(pk) == 'core.remote' and label != PARENT_FOLDER]
    if folders:
        return f'it read finished runs in the folder {graph.attributes(folders[0]).get("remote_path")}'
    if node.state != ProcessState.FINISHED.value:
        return f'it did not finish (state {node.state or "unknown"}): there is no result to compare with'
    if node.exit_status:
        return f'it failed with exit status {node.exit_status}: there is no complete result to compare with'
    name = node.process_type.partition(':')[2]
    try:
        calculation = CalculationFactory(name)
    except exceptions.EntryPointError:
        return f'this version of aiida-nanoml has no calculation {name}'
    missing = [port for port in required_inputs(calculation) if port not in inputs]
    if missing:
        return f'its input {missing[0]} is missing, because it was deleted or not exported'
    if node.process_type == LABEL_JOB:
        return _missing_engine(str(graph.attributes(inputs['engine'])['value']))
    return None


def _missing_engine(name: str) -> str | None:
    try:
        missing = get_engine(name).missing()
    except EngineError as error:
        missing = str(error)
    return f'its engine cannot run here: {missing}' if missing else None


def required_inputs(calculation: Any) -> list[str]:
    """Return the names of the required inputs of a calculation.

    :param calculation: a class or a calculation function.
    """
    ports = calculation.spec().inputs.items()
    return [name for name, port in ports if isinstance(port, InputPort) and port.required and not port.has_default()]
