"""Evidence for the checks of an audit: the ancestors of a node and their arrays, each read once."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from aiida import orm
from aiida.common.links import LinkType
from numpy.typing import NDArray

from aiida_nanoml.calculations.functions.siesta import structure_of_node
from aiida_nanoml.engines.label_set import FINISHED, LabelSet
from aiida_nanoml.provenance.audit.findings import Place, Row
from aiida_nanoml.provenance.graph import read_arrays, select
from aiida_nanoml.provenance.lineage import lineage_of, starts
from aiida_nanoml.provenance.origins import (
    DENSITIES,
    DENSITY_MODEL,
    DENSITY_PREDICT_JOB,
    DENSITY_TRAIN_JOB,
    LABELS,
    MODEL,
    PREDICT_JOB,
    PREDICTION,
    SINGLE_RUN,
    STRUCTURES,
    TRAIN_JOB,
    LineageGraph,
)
from aiida_nanoml.provenance.taint import CHOOSERS
from aiida_nanoml.structures import StructureSet

JOINING = ('merge_labels', 'collect_runs')
"""Functions that join sets of labels: the result has all of their rows."""

_TRAININGS = (TRAIN_JOB, DENSITY_TRAIN_JOB)


@dataclass(frozen=True)
class Rows:
    """Rows of a data set, a prediction or densities.

    :param pk: PK of the node that a finding names.
    :param names: (n,) names.
    :param hashes: (n,) content hashes.
    :param part: (n,) part of the split; empty without a split.
    """

    pk: int
    names: NDArray[np.str_]
    hashes: NDArray[np.str_]
    part: NDArray[np.str_]

    def row(self, position: int, detail: str = '') -> Row:
        """Return a row for a finding."""
        return Row((str(self.names[position]),), (str(self.hashes[position]),), detail)


@dataclass(frozen=True)
class LabelRows:
    """One label of each structure of a data set, a finished one if there are several.

    :param pks: PKs of the sets of labels.
    """

    pks: tuple[int, ...]
    hashes: NDArray[np.str_]
    status: NDArray[np.str_]
    messages: NDArray[np.str_]
    open_shell: NDArray[np.bool_]


@dataclass(frozen=True)
class Contradiction:
    """Finished labels of one structure and of one source whose results differ.

    :param hash: of the structure.
    :param pks: PKs of the sets that hold them, one for each label.
    :param names: of the structures, as they were imported; empty where they have none.
    :param details: what each label says.
    """

    hash: str
    pks: tuple[int, ...]
    names: tuple[str, ...]
    details: tuple[str, ...]


@dataclass(frozen=True)
class Geometry:
    """Structures by their hash, relaxed if a run in the profile relaxed them.

    :param structures: the structures.
    :param hashes: (n,) content hashes of the structures as they were labelled.
    :param n_relaxed: number of relaxed structures.
    """

    structures: StructureSet
    hashes: NDArray[np.str_]
    n_relaxed: int


class Evidence:
    """The ancestors of a node, and what the checks need to know of them.

    Models that only helped to choose structures, as those of earlier rounds of active learning, are not audited.

    :param node: a stored node. Of a process, the results are audited; of any output of a training, the model as well.
    :raises ProvenanceError: the node is not stored.
    """

    def __init__(self, node: orm.Node) -> None:
        begin = set(starts(node))
        maker = node if isinstance(node, orm.CalculationNode) else getattr(node, 'creator', None)
        if maker is not None and (maker == node or maker.process_type in _TRAININGS):
            begin |= {link.node.pk for link in maker.base.links.get_outgoing(link_type=LinkType.CREATE).all()}
        self.graph = LineageGraph.ancestors(begin)
        self.lineage = lineage_of(self.graph, node)
        self._attributes: dict[int, dict[str, Any]] = {}
        self._arrays: dict[tuple[int, str], NDArray[Any] | None] = {}

    @cached_property
    def relevant(self) -> frozenset[int]:
        """PKs of everything that values depend on, not only the choice of structures."""
        found, level = set(self.graph.starts), list(self.graph.starts)
        while level:
            fresh: set[int] = set()
            for pk in level:
                creator = self.graph.creator.get(pk)
                if self.graph.nodes[pk].is_process:
                    fresh |= set(self.graph.inputs[pk].values())
                elif creator is not None and self.graph.type_name(creator) not in CHOOSERS:
                    fresh.add(creator)
            level = list(fresh - found)
            found |= fresh
        return frozenset(found)

    def of_type(self, *names: str) -> list[int]:
        """Return the PKs of the relevant nodes of these types, in the order in which they were made."""
        return [pk for pk in self.graph.of_type(*names) if pk in self.relevant]

    def places(self, pks: Iterable[int]) -> tuple[Place, ...]:
        """Return nodes for a finding."""
        nodes = [self.graph.nodes[pk] for pk in pks]
        return tuple(Place(node.pk, node.uuid, node.type, node.label) for node in nodes)

    def name(self, pk: int) -> str:
        """Return how sentences name a node."""
        return str(self.places([pk])[0])

    def attributes(self, pk: int) -> dict[str, Any]:
        """Return the attributes of a node; of thousands of labels, only those of the joined sets are read."""
        if self.graph.type_name(pk) != LABELS:
            return self.graph.attributes(pk)
        if not self._attributes:
            self._attributes.update(select(self.labels, 'attributes'))
        return self._attributes[pk]

    def array(self, pk: int, name: str) -> NDArray[Any] | None:
        """Return an array of a node; those of all relevant nodes of its type are read at once."""
        if (pk, name) not in self._arrays:
            kind = self.graph.type_name(pk)
            members = set(self.labels if kind == LABELS else self.of_type(kind)) | {pk}
            found = read_arrays(sorted(members), name)
            self._arrays.update({(member, name): found.get(member) for member in members})
        return self._arrays[pk, name]

    def arrays(self, pk: int, *names: str) -> list[NDArray[Any]]:
        """Return arrays that every node of the type has."""
        return [array for array in (self.array(pk, name) for name in names) if array is not None]

    @cached_property
    def models(self) -> list[int]:
        """PKs of the models of gaps and other targets."""
        return self.of_type(MODEL)

    @cached_property
    def datasets(self) -> list[int]:
        """PKs of the data sets that a job used, or that nothing used; not those from which they were split."""
        return [step.pk for step in self.lineage.datasets if step.pk in self.relevant]

    @cached_property
    def labels(self) -> list[int]:
        """PKs of the sets of labels in a data set, or that nothing used; not the parts of joined sets."""
        users = self.graph.users()
        return [
            pk
            for pk in self.of_type(LABELS)
            if not users[pk]
            or pk in self.graph.starts
            or any(self.graph.type_name(user) not in JOINING for user in users[pk])
        ]

    def training_inputs(self, model: int) -> dict[str, int]:
        """Return the inputs of the job that trained a model; empty if it is not in the graph."""
        creator = self.graph.creator.get(model)
        return {} if creator is None else self.graph.inputs[creator]

    def trained_on(self, model: int) -> int | None:
        """Return the PK of the data set that a model was trained on; None: not in the graph."""
        return self.training_inputs(model).get('dataset')

    def rows(self, dataset: int) -> Rows:
        """Return the rows of a data set."""
        return Rows(dataset, *self.arrays(dataset, 'names', 'hashes', 'split'))

    @cached_property
    def splits(self) -> list[Rows]:
        """Data sets with a split, and densities for training and test."""
        found = [self.rows(pk) for pk in self.datasets if self.attributes(pk)['split']]
        for job in self.graph.jobs(DENSITY_TRAIN_JOB):
            inputs = self.graph.inputs[job]
            parts = [
                self._density_rows(inputs[label], part)
                for label, part in (('densities', 'train'), ('test', 'test'))
                if label in inputs
            ]
            if job in self.relevant and len(parts) == 2:
                columns = ([getattr(rows, name) for rows in parts] for name in ('names', 'hashes', 'part'))
                found.append(Rows(job, *map(np.concatenate, columns)))
        return found

    def _density_rows(self, pk: int, part: str = '') -> Rows:
        structures = self._structures(pk)
        return Rows(pk, structures.names, structures.hashes, np.full(len(structures), part, dtype='<U10'))

    @cached_property
    def predicted(self) -> list[tuple[Rows, Rows]]:
        """Predictions of gaps, other targets and densities, each with the training rows of its model."""
        found = []
        for job in self.graph.jobs(PREDICT_JOB, DENSITY_PREDICT_JOB):
            inputs, made = self.graph.inputs[job], self.graph.outputs[job]
            if job not in self.relevant or 'model' not in inputs:
                continue
            for pk in made.values():
                kind = self.graph.type_name(pk)
                learnt = self._training_rows(inputs['model'])
                if learnt is None or kind not in (PREDICTION, DENSITIES):
                    continue
                if kind == DENSITIES:
                    found.append((self._density_rows(pk), learnt))
                else:
                    names, hashes = self.arrays(pk, 'names', 'hashes')
                    found.append((Rows(pk, names, hashes, np.full(len(names), '', dtype='<U10')), learnt))
        return found

    def _training_rows(self, model: int) -> Rows | None:
        if self.graph.type_name(model) == DENSITY_MODEL:
            hashes = np.array(self.attributes(model)['hashes'])
            return Rows(model, np.full(len(hashes), ''), hashes, np.full(len(hashes), 'train'))
        dataset = self.trained_on(model)
        if dataset is None:
            return None
        rows = self.rows(dataset)
        learnt = rows.part == 'train'
        return Rows(dataset, rows.names[learnt], rows.hashes[learnt], rows.part[learnt])

    def labels_of(self, dataset: int) -> LabelRows | None:
        """Return the labels of the target of a data set; None: they are not in the graph."""
        source = self.attributes(dataset)['labels']
        keys = {'engine': 'engine', 'version': 'engine_version', 'protocol': 'protocol'}
        pks = [
            pk
            for pk in self.labels
            if all(self.attributes(pk)[there] == source.get(here) for here, there in keys.items())
        ]
        return self.label_rows(pks) if pks else None

    def label_rows(self, pks: Sequence[int]) -> LabelRows:
        """Return the rows of sets of labels; of several labels of a structure, a finished one counts."""
        names = ('hashes', 'status', 'messages', 'open_shell')
        columns = [np.concatenate(parts) for parts in zip(*(self.arrays(pk, *names) for pk in pks), strict=True)]
        order = np.argsort(columns[1] != FINISHED, kind='stable')
        first = order[np.unique(columns[0][order], return_index=True)[1]]
        return LabelRows(tuple(pks), *(column[first] for column in columns))

    def contradictions(self) -> list[Contradiction]:
        """Find labels of one structure and source whose results differ, in joined sets and in their parts."""
        joined = {pk for job in self.graph.jobs(*JOINING) for pk in self.graph.outputs[job].values()}
        parts = [pk for pk in self.of_type(LABELS) if pk not in joined]
        hashes = read_arrays(parts, 'hashes')
        seen: dict[str, set[int]] = {}
        for pk, digests in hashes.items():
            for digest, count in zip(*np.unique(digests, return_counts=True), strict=True):
                seen.setdefault(str(digest), set()).update({pk} if count == 1 else {pk, -pk})
        repeated = {digest: {abs(pk) for pk in pks} for digest, pks in seen.items() if len(pks) > 1}
        nodes = {pk: orm.load_node(pk) for pk in sorted(set().union(*repeated.values()))}
        found = []
        for digest, pks in repeated.items():
            by_source: list[list[int]] = []
            for pk in sorted(pks):
                source = nodes[pk].label_source
                group = next((one for one in by_source if nodes[one[0]].label_source.compatible(source)), None)
                by_source.append([pk]) if group is None else group.append(pk)
            found += [one for group in by_source if (one := self._contradiction(digest, group, nodes)) is not None]
        return found

    def _contradiction(self, digest: str, pks: list[int], nodes: dict[int, Any]) -> Contradiction | None:
        """Return what the labels of one structure in some sets say, if it differs."""
        rows = {pk: np.flatnonzero(nodes[pk].labels.hashes == digest) for pk in pks}
        labels = LabelSet.stacked([nodes[pk].labels.select(rows[pk]) for pk in pks])
        if not labels.contradictions():
            return None
        owners = [(pk, row) for pk in pks for row in rows[pk].tolist()]
        chosen = [at for at in range(len(labels)) if labels.finished[at]]
        details = tuple(
            f'gap {labels.energies["gap_ev"][at]:.4f} eV, energy {labels.energies["energy_ev"][at]:.4f} eV, in '
            f'{self.name(owners[at][0])}'
            for at in chosen
        )
        names = tuple(self._name_of_row(*owners[at]) for at in chosen)
        return Contradiction(digest, tuple(owners[at][0] for at in chosen), names, details)

    def _name_of_row(self, pk: int, row: int) -> str:
        """Return the name of a structure that was imported with its label, empty for another one."""
        creator = self.graph.creator.get(pk)
        structures = self.graph.outputs[creator].get('structures') if creator is not None else None
        names = None if structures is None else read_arrays([structures], 'names').get(structures)
        return '' if names is None or row >= len(names) else str(names[row])

    @cached_property
    def geometry(self) -> Geometry:
        """Structures of all rows that are compared; a set is read only while structures are missing."""
        compared = [*self.splits, *(rows for pair in self.predicted for rows in pair)]
        missing = {digest for rows in compared for digest in rows.hashes.tolist()}
        relaxed = self._relaxed(missing)
        missing -= set(relaxed)
        sizes = {pk: self.attributes(pk)['n_structures'] for pk in self.graph.of_type(STRUCTURES)}
        sizes |= {pk: self.attributes(pk)['n_densities'] for pk in self.of_type(DENSITIES)}
        parts, hashes = [], []
        for pk in sorted(sizes, key=lambda pk: (-sizes[pk], pk)):
            if not missing:
                break
            found = self._structures(pk)
            _, first = np.unique(found.hashes, return_index=True)
            wanted = np.sort(first[np.isin(found.hashes[first], sorted(missing))])
            parts.append(found.select(wanted))
            hashes += found.hashes[wanted].tolist()
            missing -= set(hashes)
        parts += relaxed.values()
        hashes += relaxed
        empty = StructureSet.from_structures([])
        return Geometry(StructureSet.concatenate([empty, *parts]), np.array(hashes, dtype='<U64'), len(relaxed))

    def _structures(self, pk: int) -> StructureSet:
        found: StructureSet = orm.load_node(pk).structures
        return found

    def _relaxed(self, wanted: Collection[str]) -> dict[str, StructureSet]:
        """Return structures relaxed by single runs of SIESTA, from the whole profile, by their hash before."""
        query = orm.QueryBuilder().append(orm.StructureData, project='*', tag='before')
        query.append(
            orm.CalcJobNode,
            with_incoming='before',
            filters={'process_type': SINGLE_RUN, 'attributes.exit_status': 0},
            edge_filters={'label': 'structure'},
            tag='run',
        )
        query.append(orm.StructureData, with_incoming='run', edge_filters={'label': 'output_structure'}, project='*')
        query.order_by({'run': 'ctime'})
        found = {}
        for nodes in query.all():
            before, after = (StructureSet.from_structures([structure_of_node(node)]) for node in nodes)
            if before.hashes[0] in wanted:
                found[str(before.hashes[0])] = after
        return found

    def existing(self, uuids: Collection[str]) -> set[str]:
        """Return those of some UUIDs that are in the profile."""
        found: set[str] = set()
        wanted = sorted(uuids)
        for begin in range(0, len(wanted), 10_000):
            filters = {'uuid': {'in': wanted[begin : begin + 10_000]}}
            found |= set(orm.QueryBuilder().append(orm.Node, filters=filters, project='uuid').all(flat=True))
        return found
