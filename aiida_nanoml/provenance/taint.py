"""What rests on something that turned out to be wrong, and what must be rerun."""

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
"""Inputs of a labelling job that decide what it computes, or where it begins, but not what comes out of it."""

CHOOSERS = ('choose_structures', 'hold_out')
"""Functions that choose structures by what is known, or at random."""

_PARTS = ('', 'train', 'validation', 'test')
_SHOWN = 5


@dataclass(frozen=True)
class TouchedRows:
    """A data set or a model, and how many rows of it are touched.

    :param whole: it is touched by itself, as what made it is wrong, and not only some of its labels.
    :param rows: touched rows by part of the split (``''`` without a split), out of how many: ``(touched, all)``. Of a
        model, those of the data set it was trained on.
    """

    node: DataStep
    whole: bool
    rows: dict[str, tuple[int, int]]


@dataclass(frozen=True)
class Rerun:
    """Processes of one kind that must be rerun together.

    :param process: name of the class or function.
    :param uuids: of the processes, in the order in which they were made.
    """

    process: str
    n_processes: int
    uuids: tuple[str, ...]


@dataclass(frozen=True)
class Caller:
    """A workflow that nothing called, and that made something of what is touched."""

    pk: int
    uuid: str
    type: str
    label: str


@dataclass(frozen=True)
class Taint:
    """Everything that rests on something.

    :param wrong: nodes that the question is about.
    :param alike: nodes with the same content, which are taken to be wrong as well: the same file of a pseudopotential,
        the same executable on the same computer, labels that name the pseudopotential by its MD5.
    :param n_runs: labelling jobs whose labels are wrong.
    :param n_labelled: finished rows of these.
    :param n_chosen: labelling jobs whose structures, or whose start, were chosen by something touched; their labels
        stand.
    :param computers: where the wrong labelling jobs ran, with their number.
    :param n_cached: touched processes whose results were taken from another touched one.
    :param n_label_sets: touched sets of labels.
    :param datasets: touched data sets that a job used, or that nothing used any more.
    :param models: touched models of gaps and other targets, and of densities.
    :param predictions: touched predictions, the predicted densities among them.
    :param others: number of other touched data nodes, by type.
    :param reruns: what must be rerun, in this order.
    :param callers: workflows that would do so when they are submitted again.
    :param n_nodes: touched nodes, without the wrong ones.
    """

    wrong: tuple[DataStep, ...]
    alike: tuple[DataStep, ...]
    n_runs: int
    n_labelled: int
    n_chosen: int
    computers: dict[str, int]
    n_cached: int
    n_label_sets: int
    datasets: tuple[TouchedRows, ...]
    models: tuple[TouchedRows, ...]
    predictions: tuple[DataStep, ...]
    others: dict[str, int]
    reruns: tuple[Rerun, ...]
    callers: tuple[Caller, ...]
    n_nodes: int

    def to_dict(self) -> dict[str, Any]:
        """Return everything in types of JSON."""
        return asdict(self)

    def render(self) -> str:
        """Return what is touched and what must be rerun, a line each."""
        lines = [f'wrong: {_named(step)}' for step in self.wrong[:_SHOWN]]
        lines += _more(self.wrong)
        lines += [f'the same: {_named(step)}' for step in self.alike[:_SHOWN]]
        lines += _more(self.alike)
        if not self.n_nodes:
            return '\n'.join([*lines, 'nothing rests on it'])
        if self.n_runs:
            where = ', '.join(f'{computer or "no computer"} {number}' for computer, number in self.computers.items())
            lines.append(f'labels: {counted(self.n_labelled, "structure")} in {counted(self.n_runs, "job")} ({where})')
        if self.n_chosen:
            lines.append(f'labels that stand, of structures chosen by what is touched: {counted(self.n_chosen, "job")}')
        if self.n_cached:
            lines.append(f'taken from the cache: {counted(self.n_cached, "result")}')
        for title, touched in (('data set', self.datasets), ('model', self.models)):
            lines += [f'{title}: {_named(found.node)}: {_rows(found)}' for found in touched[:_SHOWN]]
            lines += _more(touched)
        lines += [f'prediction: {_named(step)}, {_size(step)}' for step in self.predictions[:_SHOWN]]
        lines += _more(self.predictions)
        others = {LABELS: self.n_label_sets} | self.others
        lines.append('besides: ' + ', '.join(f'{number} {name}' for name, number in others.items() if number))
        lines.append(f'{counted(self.n_nodes, "node")} touched; to rerun, in this order:')
        lines += [
            f'  {number}. {rerun.process}' + (f' × {rerun.n_processes}' if rerun.n_processes > 1 else '')
            for number, rerun in enumerate(self.reruns, start=1)
        ]
        if self.callers:
            callers = [f'{caller.type} pk {caller.pk}' for caller in self.callers]
            lines.append(f'or submit again: {first_of(callers, _SHOWN)}')
        return '\n'.join(lines)


def taint(*nodes: orm.Node) -> Taint:
    """Follow nodes on to everything that rests on them, along the links of data and through the cache.

    :param nodes: what is wrong: a pseudopotential, a code, a run, a workflow, or any data. What a process made is
        wrong with it, and so is what has the same content (see :class:`Taint`).
    :raises ProvenanceError: no node, or one that is not stored.
    """
    if not nodes or not all(node.is_stored for node in nodes):
        raise ProvenanceError('taint needs nodes that are stored')
    wrong = {pk for node in nodes for pk in _made_by_workflow(node)}
    alike = {pk for node in nodes for pk in _same_content(node)} - wrong
    touched = _Touched(wrong | alike)
    named = {pk for node in nodes for pk in _named_by_md5(node)} - touched.reached
    touched.add(named)
    return _summary(touched, wrong, alike | named)


def taint_version(engine: str, version: str) -> Taint:
    """Follow all labels of a version of an engine, imported runs among them, on to everything that rests on them.

    :param engine: name of the engine.
    :param version: as the labels tell it.
    :raises ProvenanceError: no labels are from it; says which versions there are.
    """
    made = {'attributes.engine': engine}
    query = orm.QueryBuilder().append(orm.Node, filters=made, project=['attributes.engine_version', 'id'], tag='labels')
    query.append(orm.ProcessNode, with_outgoing='labels', filters={'process_type': {'in': LABEL_JOBS}}, project='id')
    jobs: dict[str, set[int]] = defaultdict(set)
    for told, _, job in query.all():
        jobs[told].add(job)
    if version not in jobs:
        known = ', '.join(sorted(jobs)) or 'none'
        raise ProvenanceError(f'no labels here are from {engine} {version!r}; versions of {engine}: {known}')
    return _summary(_Touched(jobs[version]), jobs[version], set())


def _made_by_workflow(node: orm.Node) -> list[int]:
    """The node itself; of a workflow, the calculations below it, which made everything that it returned."""
    if not isinstance(node, orm.WorkflowNode):
        return [node.pk]
    level, found = {node.pk}, {node.pk}
    while level:
        called = _linked(level, forward=True)
        level = {pk for _, pk in called} - found
        found |= level
    return sorted(found)


def _same_content(node: orm.Node) -> set[int]:
    """Nodes that are wrong in the same way: the same pseudopotential, the same executable."""
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
    """Labels and densities that name a pseudopotential, whether or not its node was an input of their runs."""
    if not _is_pseudopotential(node):
        return set()
    element, md5 = (node.base.attributes.get(key) for key in ('element', 'md5'))
    kinds = [{'node_type': {'like': f'data.{name}.%'}} for name in (LABELS, DENSITIES)]
    named = {'or': kinds, f'attributes.pseudopotentials.{element}': md5}
    return set(orm.QueryBuilder().append(orm.Data, filters=named, project='id').all(flat=True))


def _is_pseudopotential(node: orm.Node) -> bool:
    return isinstance(node, PseudoPotentialData)


class _Touched:
    """The links of everything that rests on some nodes, or on results that were taken from theirs."""

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
    """Processes whose results were taken from some processes."""
    key = NodeCaching.CACHED_FROM_KEY
    query = orm.QueryBuilder()
    query.append(orm.ProcessNode, filters={'extras': {'has_key': key}}, project=['id', f'extras.{key}'])
    copies = query.all()
    if not copies:
        return set()
    uuids = {uuid for _, uuid in select(pks, 'uuid')}
    return {pk for pk, source in copies if source in uuids}


def _linked(pks: Collection[int], *, forward: bool) -> list[list[int]]:
    """Pairs (caller, called) of processes, the callers or the called ones given."""
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


def _summary(touched: _Touched, wrong: set[int], alike: set[int]) -> Taint:
    files, links = _set_files_aside(touched)
    graph = ProvenanceGraph(touched.starts | touched.copies, links)
    given = wrong | alike
    direct = _reached_directly(graph, given)
    runs, chosen = _labelling(graph, given, direct)
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
        n_cached=len(touched.copies),
        n_label_sets=sum(pk not in given for pk in graph.of_type(LABELS)),
        datasets=tuple(rows.of_dataset(pk) for pk in datasets),
        models=tuple(rows.of_model(pk) for pk in models),
        predictions=tuple(data_step(graph, pk) for pk in predictions),
        others=dict(sorted(others.items())),
        reruns=_reruns(graph, processes),
        callers=_callers(processes),
        n_nodes=len(graph.nodes) + files.total() - len(given),
    )


def _set_files_aside(touched: _Touched) -> tuple[Counter[str], list[tuple[int, int, str]]]:
    """Count what jobs made beside their results and nothing used, such as folders; give the links to all the rest.

    In a campaign of single runs these are most of the nodes, and nothing but their number is told.
    """
    sources = {source for source, _, _ in touched.links}
    leaves = {target for _, target, _ in touched.links} - sources - touched.starts - touched.copies
    types = dict(select(leaves, 'node_type'))
    aside = {pk: type_name(kind) for pk, kind in types.items() if kind.startswith('data.core.')}
    return Counter(aside.values()), [link for link in touched.links if link[1] not in aside]


def _reached_directly(graph: ProvenanceGraph, starts: Collection[int]) -> set[int]:
    """What is wrong by itself: reached on a way on which nothing is labelled and no structures are chosen."""
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


def _labelling(graph: ProvenanceGraph, given: set[int], direct: set[int]) -> tuple[list[int], set[int]]:
    """Labelling jobs whose labels are wrong, and those that only got structures, or a start, from what is touched."""
    runs, chosen = [], set()
    for job in graph.jobs(*LABEL_JOBS):
        inputs = graph.inputs[job]
        deciding = any(name not in CHOOSING or pk in direct for name, pk in inputs.items())
        if job in given or deciding or not inputs:
            runs.append(job)
        else:
            chosen.add(job)
    return runs, chosen


class _Rows:
    """Which rows of data sets stand on wrong labels."""

    def __init__(self, graph: ProvenanceGraph, labels: Collection[int], direct: set[int]) -> None:
        self._graph = graph
        self._direct = direct
        self._wrong = sorted({digest for array in read_arrays(labels, 'hashes').values() for digest in array.tolist()})
        self._hashes = read_arrays(graph.of_type(DATASET), 'hashes')
        self._split = read_arrays(graph.of_type(DATASET), 'split')

    def of_dataset(self, pk: int) -> TouchedRows:
        """Count the touched rows of a data set."""
        return TouchedRows(data_step(self._graph, pk), pk in self._direct, self._count(pk))

    def of_model(self, pk: int) -> TouchedRows:
        """Count the touched rows of the data set that a model learnt from."""
        inputs = self._graph.inputs[self._graph.creator[pk]] if pk in self._graph.creator else {}
        dataset = inputs.get('dataset')
        rows = {} if dataset is None else self._count(dataset)
        return TouchedRows(data_step(self._graph, pk), pk in self._direct or not rows, rows)

    def _count(self, pk: int) -> dict[str, tuple[int, int]]:
        touched = np.isin(self._hashes[pk], self._wrong) | (pk in self._direct)
        split = self._split[pk]
        return {
            part: (int(touched[split == part].sum()), int((split == part).sum()))
            for part in _PARTS
            if (split == part).any()
        }


def _reruns(graph: ProvenanceGraph, processes: Sequence[int]) -> tuple[Rerun, ...]:
    """Group processes by kind, each after those whose results it needs."""
    depth = graph.process_depths()
    ordered = sorted(processes, key=lambda pk: (depth.get(pk, 0), graph.nodes[pk].type))
    groups = itertools.groupby(ordered, key=lambda pk: graph.nodes[pk].type)
    found = [(name, list(members)) for name, members in groups]
    return tuple(Rerun(name, len(pks), tuple(graph.nodes[pk].uuid for pk in pks)) for name, pks in found)


def _callers(processes: Collection[int]) -> tuple[Caller, ...]:
    """Workflows at the top that called some processes."""
    level, top = set(processes), set()
    while level:
        pairs = _linked(level, forward=False)
        top |= level - {called for _, called in pairs}
        level = {caller for caller, _ in pairs}
    records = load_records(top - set(processes))
    return tuple(Caller(node.pk, node.uuid, node.type, node.label) for node in records.values())


def _named(step: DataStep) -> str:
    return f'{step.type}{f" {step.label}" if step.label else ""} pk {step.pk}'


def _size(step: DataStep) -> str:
    rows = step.facts.get('n_rows')
    return f'{step.facts["n_densities"]} densities' if rows is None else f'{rows} rows'


def _rows(found: TouchedRows) -> str:
    if found.whole:
        return 'all of it'
    return ', '.join(f'{touched} of {total} {part or "rows"}' for part, (touched, total) in found.rows.items())


def _more(found: Sequence[Any]) -> list[str]:
    return [f'  and {len(found) - _SHOWN} more'] if len(found) > _SHOWN else []
