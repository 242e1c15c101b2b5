"""Which calculations have to be run again to compute a node anew, and what is taken as it is."""

from __future__ import annotations

from dataclasses import dataclass
from graphlib import TopologicalSorter
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
from aiida_nanoml.provenance.lineage import DATASET, DENSITIES, LABEL_JOB, LABELS, POTENTIALS, SINGLE_RUN, STRUCTURES

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
"""Types of data that are taken as they are; with ``inputs`` everything that the calculation was given is, with
``start`` nothing that can be computed again."""

PARENT_FOLDER = 'parent_folder'
"""Input of a job that goes on with the work of one which was killed; the same is computed without it."""

_OURS = 'aiida.calculations:nanoml.'
_PARAMETERS = ('core.dict', 'core.list', 'core.str', 'core.int', 'core.float', 'core.bool', 'core.code.', 'core.remote')


@dataclass(frozen=True)
class Taken:
    """Data that are not computed again.

    :param reason: why not.
    """

    uuid: str
    type: str
    label: str
    reason: str


@dataclass(frozen=True)
class RerunPlan:
    """Calculations to run again.

    :param graph: the node with everything behind it.
    :param steps: PKs of the calculations, each after those whose results it takes; the last one made the node.
    :param recomputed: PKs of the data that are computed anew on the way, without those of the last step.
    :param taken: data that go in as they are, parameters left out.
    """

    graph: ProvenanceGraph
    steps: tuple[int, ...]
    recomputed: frozenset[int]
    taken: tuple[Taken, ...]


def calculation_behind(node: orm.Node) -> orm.CalculationNode:
    """Find the calculation that made a node, or that returned everything which a workflow returned.

    :raises ProvenanceError: there is none, or there are several.
    """
    if isinstance(node, orm.CalculationNode):
        return node
    if isinstance(node, orm.WorkflowNode):
        returned = {
            link.link_label: link.node for link in node.base.links.get_outgoing(link_type=LinkType.RETURN).all()
        }
        makers = {made.creator.uuid: made.creator for made in returned.values() if made.creator is not None}
        if len(makers) == 1:
            return next(iter(makers.values()))
        results = ', '.join(f'{label} {made.uuid}' for label, made in sorted(returned.items()))
        raise ProvenanceError(
            f'{node.process_label} {node.uuid} is a workflow that returned '
            + (f'results of {len(makers)} calculations: reproduce one of {results}' if makers else 'nothing computed')
        )
    if node.creator is None:
        raise ProvenanceError(
            f'{type(node).__name__} {node.uuid} was stored without a process: there is nothing to rerun. Name a '
            'node that a calculation made, such as a model or a prediction.'
        )
    return node.creator


def plan_rerun(process: orm.CalculationNode, since: str = INPUTS) -> RerunPlan:
    """Walk back from a calculation to the data that are taken as they are.

    :param since: a key of :data:`BOUNDARIES`.
    :raises ProvenanceError: the calculation itself cannot be run again; the message says why. Calculations before it
        that cannot are left out, and their results are taken.
    """
    if since not in BOUNDARIES:
        raise ProvenanceError(f'{since!r} is nothing to begin with: choose one of {", ".join(BOUNDARIES)}')
    graph = ProvenanceGraph.ancestors([process.pk])
    reason = _obstacle(graph, process.pk)
    if reason:
        name = graph.type_name(process.pk)
        raise ProvenanceError(f'{name} {process.uuid} is not run again: {reason}')
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
            elif not graph.type_name(pk).startswith(_PARAMETERS):
                node = graph.nodes[pk]
                taken[pk] = Taken(node.uuid, node.type, node.label, reason)
    return RerunPlan(
        graph, tuple(TopologicalSorter(before).static_order()), frozenset(recomputed), tuple(taken[pk] for pk in taken)
    )


def _reason_to_take(graph: ProvenanceGraph, pk: int, since: str) -> str | None:
    creator = graph.creator.get(pk)
    if creator is None:
        return 'stored without a process'
    if since == INPUTS:
        return 'input of the calculation'
    # Densities that a model predicted are no labels.
    predicted = graph.type_name(pk) == DENSITIES and graph.attributes(pk).get('model_fingerprint')
    if graph.type_name(pk) in BOUNDARIES[since] and not predicted:
        return f'rerun from {since} on'
    return _obstacle(graph, creator)


def _obstacle(graph: ProvenanceGraph, process: int) -> str | None:
    """Say why a calculation cannot be run again; None: it can."""
    node, inputs = graph.nodes[process], graph.inputs[process]
    if not node.process_type.startswith(_OURS):
        return f'it was made by {node.type}, which is no calculation of aiida-nanoml'
    if node.process_type == SINGLE_RUN:
        return 'DFT is never run again: it is a single run of SIESTA'
    if node.process_type == LABEL_JOB and 'engine_code' in inputs:
        program = graph.nodes[inputs['engine_code']].label
        return f'DFT and other programs of their own are never run again: the labels come from the code {program}'
    folders = [pk for label, pk in inputs.items() if graph.type_name(pk) == 'core.remote' and label != PARENT_FOLDER]
    if folders:
        return f'it read finished runs in the folder {graph.attributes(folders[0]).get("remote_path")}'
    if node.state != ProcessState.FINISHED.value:
        return f'it did not finish, its state is {node.state or "unknown"}, so that there is no result to compare with'
    if node.exit_status:
        return f'it failed with exit status {node.exit_status}, so that there is no whole result to compare with'
    name = node.process_type.partition(':')[2]
    try:
        calculation = CalculationFactory(name)
    except exceptions.EntryPointError:
        return f'this version of aiida-nanoml has no calculation {name}'
    missing = [port for port in _required(calculation) if port not in inputs]
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


def _required(calculation: Any) -> list[str]:
    ports = calculation.spec().inputs.items()
    return [name for name, port in ports if isinstance(port, InputPort) and port.required and not port.has_default()]
