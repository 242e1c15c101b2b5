"""Taint: what rests on something that turned out to be wrong, and what must be rerun."""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from aiida import orm
from aiida.common.links import LinkType
from aiida.orm.nodes.caching import NodeCaching
from aiida_pseudo.data.pseudo.pseudo import PseudoPotentialData

from aiida_nanoml.errors import ProvenanceError
from aiida_nanoml.provenance.graph import ProvenanceGraph, in_parts, load_records, read_arrays, select, type_name, walk
from aiida_nanoml.provenance.origins import (
    DATASET,
    DENSITIES,
    DENSITY_MODEL,
    LABEL_JOBS,
    LABELS,
    MODEL,
    PREDICT_JOB,
    PREDICTION,
    STUDY_JOB,
    TRAIN_JOB,
    DataStep,
    data_step,
)
from aiida_nanoml.text import counted, first_of

CHOOSING = frozenset({'structure', 'structures', 'rows', 'start'})
"""Inputs of a labelling job that choose the structures or the start, but do not change the result."""

CHOOSERS = ('choose_structures', 'hold_out')
"""Functions that choose structures, by known results or at random."""

_PARTS = ('', 'train', 'validation', 'test')
_SHOWN = 5


@dataclass(frozen=True)
class AffectedRows:
    """A data set or a model, and how many rows of it are affected.

    :param whole: it is affected as a whole, because what made it is wrong, and not only by some of its labels.
    :param rows: by part of the split (``''`` without a split), the number of affected rows and of all rows. For a
        model, those of the data set it was trained on.
    """

    node: DataStep
    whole: bool
    rows: dict[str, tuple[int, int]]


@dataclass(frozen=True)
class Rerun:
    """Processes of one kind that must be rerun together.

    :param process: name of the class or function.
    :param uuids: UUIDs of the processes, in the order in which they were made.
    """

    process: str
    n_processes: int
    uuids: tuple[str, ...]


@dataclass(frozen=True)
class Caller:
    """A top-level workflow whose calculations are affected."""

    pk: int
    uuid: str
    type: str
    label: str


@dataclass(frozen=True)
class Taint:
    """Everything that rests on something wrong.

    :param wrong: nodes that are wrong.
    :param alike: nodes with the same content, which are wrong as well: the same file of a pseudopotential,
        the same executable on the same computer, labels that name the pseudopotential by its MD5.
    :param n_runs: labelling jobs whose labels are wrong.
    :param n_labelled: finished rows of these jobs.
    :param n_chosen: labelling jobs whose structures, or whose start, were chosen by affected results; their labels
        stay valid.
    :param computers: number of wrong labelling jobs, by the computer they ran on.
    :param n_cached: affected processes whose results were copied from another affected one.
    :param n_label_sets: affected sets of labels.
    :param datasets: affected data sets that a job used, or that nothing used.
    :param models: affected models of gaps and other targets, and of densities.
    :param predictions: affected predictions, the predicted densities among them.
    :param others: number of other affected data nodes, by type.
    :param reruns: what must be rerun, in this order.
    :param callers: workflows that would rerun it when they are submitted again.
    :param n_nodes: affected nodes, without the wrong ones.
    """

    wrong: tuple[DataStep, ...]
    alike: tuple[DataStep, ...]
    n_runs: int
    n_labelled: int
    n_chosen: int
    computers: dict[str, int]
    n_cached: int
    n_label_sets: int
    datasets: tuple[AffectedRows, ...]
    models: tuple[AffectedRows, ...]
    predictions: tuple[DataStep, ...]
    others: dict[str, int]
    reruns: tuple[Rerun, ...]
    callers: tuple[Caller, ...]
    n_nodes: int

    def to_dict(self) -> dict[str, Any]:
        """Return everything in types of JSON."""
        return asdict(self)

    def render(self) -> str:
        """Return what is affected and what must be rerun, a line each."""
        lines = [f'wrong: {_node_text(step)}' for step in self.wrong[:_SHOWN]]
        lines += _more_line(self.wrong)
        lines += [f'the same: {_node_text(step)}' for step in self.alike[:_SHOWN]]
        lines += _more_line(self.alike)
        if not self.n_nodes:
            return '\n'.join([*lines, 'nothing rests on it'])
        if self.n_runs:
            where = ', '.join(f'{computer or "no computer"} {number}' for computer, number in self.computers.items())
            lines.append(f'labels: {counted(self.n_labelled, "structure")} in {counted(self.n_runs, "job")} ({where})')
        if self.n_chosen:
            lines.append(
                f'labels that stay valid, of structures chosen by affected results: {counted(self.n_chosen, "job")}'
            )
        if self.n_cached:
            lines.append(f'taken from the cache: {counted(self.n_cached, "result")}')
        for title, affected in (('data set', self.datasets), ('model', self.models)):
            lines += [f'{title}: {_node_text(found.node)}: {_rows_text(found)}' for found in affected[:_SHOWN]]
            lines += _more_line(affected)
        lines += [f'prediction: {_node_text(step)}, {_size(step)}' for step in self.predictions[:_SHOWN]]
        lines += _more_line(self.predictions)
        others = {LABELS: self.n_label_sets} | self.others
        lines.append('also affected: ' + ', '.join(f'{number} {name}' for name, number in others.items() if number))
        lines.append(f'{counted(self.n_nodes, "node")} affected; to rerun, in this order:')
        lines += [
            f'  {number}. {rerun.process}' + (f' × {rerun.n_processes}' if rerun.n_processes > 1 else '')
            for number, rerun in enumerate(self.reruns, start=1)
        ]
        if self.callers:
            callers = [f'{caller.type} pk {caller.pk}' for caller in self.callers]
            lines.append(f'or submit again: {first_of(callers, _SHOWN)}')
        return '\n'.join(lines)


def taint(*nodes: orm.Node) -> Taint:
    """Find everything that rests on some nodes, along the links of data and through the cache.

    :param nodes: what is wrong: a pseudopotential, a code, a run, a workflow, or any data. What a process made is
        wrong with it, and so is what has the same content (see :class:`Taint`).
    :raises ProvenanceError: no node, or one that is not stored.
    """
    if not nodes or not all(node.is_stored for node in nodes):
        raise ProvenanceError('taint needs one stored node or more')
    wrong = {pk for node in nodes for pk in _made_by_workflow(node)}
    alike = {pk for node in nodes for pk in _same_content(node)} - wrong
    affected = _Affected(wrong | alike)
    named = {pk for node in nodes for pk in _named_by_md5(node)} - affected.reached
    affected.add(named)
    return _summarise(affected, wrong, alike | named)


def taint_version(engine: str, version: str) -> Taint:
    """Find everything that rests on labels of a version of an engine, imported runs included.

    :param engine: name of the engine.
    :param version: version that the labels record.
    :raises ProvenanceError: no labels have this version; the message lists those that there are.
    """
    made = {'attributes.engine': engine}
    query = orm.QueryBuilder().append(orm.Node, filters=made, project=['attributes.engine_version', 'id'], tag='labels')
    query.append(orm.ProcessNode, with_outgoing='labels', filters={'process_type': {'in': LABEL_JOBS}}, project='id')
    jobs: dict[str, set[int]] = defaultdict(set)
    for recorded, _, job in query.all():
        jobs[recorded].add(job)
    if version not in jobs:
        known = ', '.join(sorted(jobs)) or 'none'
        raise ProvenanceError(f'no labels here are from {engine} {version!r}; versions of {engine}: {known}')
    return _summarise(_Affected(jobs[version]), jobs[version], set())


def _made_by_workflow(node: orm.Node) -> list[int]:
    """Return the PK of a node; of a workflow also those of all processes that it called."""
    if not isinstance(node, orm.WorkflowNode):
        return [node.pk]
    level, found = {node.pk}, {node.pk}
    while level:
        called = _calls(level, forward=True)
        level = {pk for _, pk in called} - found
        found |= level
    return sorted(found)


def _same_content(node: orm.Node) -> set[int]:
    """Return the PKs of nodes that are wrong in the same way: the same pseudopotential, the same executable."""
    query = orm.QueryBuilder()
    if _is_pseudopotential(node):
        same = {f'attributes.{key}': node.base.attributes.get(key) for key in ('element', 'md5')}
        query.append(orm.Data, filters=same, project='id')
    elif isinstance(node, orm.InstalledCode):
        query.append(orm.Computer, filters={'id': node.computer.pk}, tag='computer')
        executable = {'attributes.filepath_executable': str(node.filepath_executable)}
        query.append(orm.InstalledCode, with_computer='computer', filters=executable, project='id')
    else:
        return set()
    return set(query.all(flat=True))


def _named_by_md5(node: orm.Node) -> set[int]:
    """Return the PKs of labels and densities that name a pseudopotential by its MD5."""
    if not _is_pseudopotential(node):
        return set()
    element, md5 = (node.base.attributes.get(key) for key in ('element', 'md5'))
    kinds = [{'node_type': {'like': f'data.{name}.%'}} for name in (LABELS, DENSITIES)]
    named = {'or': kinds, f'attributes.pseudopotentials.{element}': md5}
    return set(orm.QueryBuilder().append(orm.Data, filters=named, project='id').all(flat=True))


def _is_pseudopotential(node: orm.Node) -> bool:
    return isinstance(node, PseudoPotentialData)


class _Affected:
    """Links of everything that rests on some nodes, or on results that were copied from theirs."""

    def __init__(self, starts: Collection[int]) -> None:
        self.starts: set[int] = set()
        self.links: list[tuple[int, int, str]] = []
        self.reached: set[int] = set()
        self.copies: set[int] = set()
        self.add(starts)

    def add(self, starts: Collection[int]) -> None:
        """Add what rests on further nodes."""
        self.starts |= set(starts)
        while starts:
            links = list(walk(starts, forward=True))
            fresh = ({*starts} | {pk for source, target, _ in links for pk in (source, target)}) - self.reached
            self.links += links
            self.reached |= fresh
            starts = _cached_from(fresh) - self.reached
            self.copies |= starts


def _cached_from(pks: Collection[int]) -> set[int]:
    """Return the processes whose results were copied from some processes."""
    key = NodeCaching.CACHED_FROM_KEY
    query = orm.QueryBuilder()
    query.append(orm.ProcessNode, filters={'extras': {'has_key': key}}, project=['id', f'extras.{key}'])
    copies = query.all()
    if not copies:
        return set()
    uuids = {uuid for _, uuid in select(pks, 'uuid')}
    return {pk for pk, source in copies if source in uuids}


def _calls(pks: Collection[int], *, forward: bool) -> list[list[int]]:
    """Return pairs (caller, called) of processes, for given callers (forward) or called processes."""
    types = {'type': {'in': [LinkType.CALL_CALC.value, LinkType.CALL_WORK.value]}}
    pairs: list[list[int]] = []
    for given in in_parts(pks):
        query = orm.QueryBuilder().append(orm.ProcessNode, filters=given if forward else {}, project='id', tag='caller')
        query.append(
            orm.ProcessNode,
            with_incoming='caller',
            filters={} if forward else given,
            edge_filters=types,
            project='id',
        )
        pairs += query.all()
    return pairs


def _summarise(affected: _Affected, wrong: set[int], alike: set[int]) -> Taint:
    files, links = _leave_out_files(affected)
    graph = ProvenanceGraph(affected.starts | affected.copies, links)
    given = wrong | alike
    direct = _reached_directly(graph, given)
    runs, chosen = _wrong_and_chosen(graph, given, direct)
    sets = {pk for job in runs for pk in graph.outputs[job].values()} | given
    labels = [pk for pk in graph.of_type(LABELS) if pk in sets]
    rows = _Rows(graph, labels, direct)
    datasets = graph.used_sets(DATASET, TRAIN_JOB, PREDICT_JOB, STUDY_JOB)
    models = graph.of_type(MODEL, DENSITY_MODEL)
    predicted = [pk for pk in graph.of_type(DENSITIES) if graph.attributes(pk)['model_fingerprint']]
    predictions = [*graph.of_type(PREDICTION), *predicted]
    shown = {*given, *datasets, *models, *predictions, *graph.of_type(LABELS, DATASET)}
    others = files + Counter(node.type for pk, node in graph.nodes.items() if not node.is_process and pk not in shown)
    processes = [pk for pk in graph.processes if pk not in chosen]
    where = Counter(graph.nodes[pk].computer for pk in runs)
    first = {pk for pk in alike if graph.creator.get(pk) is None or pk in labels}
    return Taint(
        wrong=tuple(data_step(graph, pk) for pk in graph.nodes if pk in wrong),
        alike=tuple(data_step(graph, pk) for pk in graph.nodes if pk in first),
        n_runs=len(runs),
        n_labelled=sum(n_finished for _, n_finished in select(labels, 'attributes.n_finished')),
        n_chosen=len(chosen),
        computers=dict(sorted(where.items())),
        n_cached=len(affected.copies),
        n_label_sets=sum(pk not in given for pk in graph.of_type(LABELS)),
        datasets=tuple(rows.of_dataset(pk) for pk in datasets),
        models=tuple(rows.of_model(pk) for pk in models),
        predictions=tuple(data_step(graph, pk) for pk in predictions),
        others=dict(sorted(others.items())),
        reruns=_reruns(graph, processes),
        callers=_callers(processes),
        n_nodes=len(graph.nodes) + files.total() - len(given),
    )


def _leave_out_files(affected: _Affected) -> tuple[Counter[str], list[tuple[int, int, str]]]:
    """Count unused files of jobs, such as folders, and return the links to everything else.

    In a campaign of single runs these are most of the nodes, and only their number is reported.
    """
    sources = {source for source, _, _ in affected.links}
    leaves = {target for _, target, _ in affected.links} - sources - affected.starts - affected.copies
    types = dict(select(leaves, 'node_type'))
    aside = {pk: type_name(kind) for pk, kind in types.items() if kind.startswith('data.core.')}
    return Counter(aside.values()), [link for link in affected.links if link[1] not in aside]


def _reached_directly(graph: ProvenanceGraph, starts: Collection[int]) -> set[int]:
    """Return what is wrong as a whole: reached without passing a labelling job or a choice of structures."""
    users = graph.users()
    found, level = set(starts), list(starts)
    while level:
        fresh: set[int] = set()
        for pk in level:
            node = graph.nodes[pk]
            if node.process_type in LABEL_JOBS or node.type == LABELS or node.type in CHOOSERS:
                continue
            fresh |= set(graph.outputs[pk].values()) if node.is_process else users[pk]
        level = list(fresh - found)
        found |= fresh
    return found


def _wrong_and_chosen(graph: ProvenanceGraph, given: set[int], direct: set[int]) -> tuple[list[int], set[int]]:
    """Return labelling jobs with wrong labels, and those that only got structures, or a start, from affected nodes."""
    runs, chosen = [], set()
    for job in graph.jobs(*LABEL_JOBS):
        inputs = graph.inputs[job]
        changes_result = any(name not in CHOOSING or pk in direct for name, pk in inputs.items())
        if job in given or changes_result or not inputs:
            runs.append(job)
        else:
            chosen.add(job)
    return runs, chosen


class _Rows:
    """Counts the rows of data sets that have wrong labels."""

    def __init__(self, graph: ProvenanceGraph, labels: Collection[int], direct: set[int]) -> None:
        self._graph = graph
        self._direct = direct
        self._wrong = sorted({digest for array in read_arrays(labels, 'hashes').values() for digest in array.tolist()})
        self._hashes = read_arrays(graph.of_type(DATASET), 'hashes')
        self._split = read_arrays(graph.of_type(DATASET), 'split')

    def of_dataset(self, pk: int) -> AffectedRows:
        """Count the affected rows of a data set."""
        return AffectedRows(data_step(self._graph, pk), pk in self._direct, self._count(pk))

    def of_model(self, pk: int) -> AffectedRows:
        """Count the affected rows of the data set that a model learnt from."""
        inputs = self._graph.inputs[self._graph.creator[pk]] if pk in self._graph.creator else {}
        dataset = inputs.get('dataset')
        rows = {} if dataset is None else self._count(dataset)
        return AffectedRows(data_step(self._graph, pk), pk in self._direct or not rows, rows)

    def _count(self, pk: int) -> dict[str, tuple[int, int]]:
        affected = np.isin(self._hashes[pk], self._wrong) | (pk in self._direct)
        split = self._split[pk]
        return {
            part: (int(affected[split == part].sum()), int((split == part).sum()))
            for part in _PARTS
            if (split == part).any()
        }


def _reruns(graph: ProvenanceGraph, processes: Sequence[int]) -> tuple[Rerun, ...]:
    """Return the processes by kind, each kind after those whose results it needs."""
    depth = graph.process_depths()
    ordered = sorted(processes, key=lambda pk: (depth.get(pk, 0), graph.nodes[pk].type))
    groups = itertools.groupby(ordered, key=lambda pk: graph.nodes[pk].type)
    found = [(name, list(members)) for name, members in groups]
    return tuple(Rerun(name, len(pks), tuple(graph.nodes[pk].uuid for pk in pks)) for name, pks in found)


def _callers(processes: Collection[int]) -> tuple[Caller, ...]:
    """Return the top-level workflows that called some processes."""
    level, top = set(processes), set()
    while level:
        pairs = _calls(level, forward=False)
        top |= level - {called for _, called in pairs}
        level = {caller for caller, _ in pairs}
    records = load_records(top - set(processes))
    return tuple(Caller(node.pk, node.uuid, node.type, node.label) for node in records.values())


def _node_text(step: DataStep) -> str:
    return f'{step.type}{f" {step.label}" if step.label else ""} pk {step.pk}'


def _size(step: DataStep) -> str:
    rows = step.facts.get('n_rows')
    return f'{step.facts["n_densities"]} densities' if rows is None else f'{rows} rows'


def _rows_text(found: AffectedRows) -> str:
    if found.whole:
        return 'all rows'
    return ', '.join(f'{affected} of {total} {part or "rows"}' for part, (affected, total) in found.rows.items())


def _more_line(found: Sequence[Any]) -> list[str]:
    return [f'  and {len(found) - _SHOWN} more'] if len(found) > _SHOWN else []
