"""Ancestors or descendants of nodes in AiiDA's graph, loaded with few queries."""

from __future__ import annotations

import io
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from graphlib import TopologicalSorter
from typing import Any, Self

import numpy as np
from aiida import orm
from aiida.common.links import LinkType
from aiida.manage import get_manager
from aiida.orm.nodes.caching import NodeCaching
from aiida.repository import Repository
from numpy.typing import NDArray

DATA_LINKS = (LinkType.INPUT_CALC.value, LinkType.CREATE.value)
"""Links along which data flow; links of workflows add nothing to these."""

_AT_ONCE = 10_000
"""PKs in one query: SQLite takes 32,766 parameters."""

_COLUMNS = ('uuid', 'node_type', 'label', 'ctime', 'user_id', 'dbcomputer_id')
_OF_PROCESSES = (
    'process_type',
    'attributes.process_label',
    'attributes.exit_status',
    'attributes.process_state',
    f'extras.{NodeCaching.CACHED_FROM_KEY}',
)


@dataclass(frozen=True, slots=True)
class Record:
    """A node, without its attributes.

    :param type: entry point of a data node (``nanoml.model``), name of the class or function of a process.
    :param process_type: entry point of a process with its group, empty for data.
    :param ctime: time of creation, ISO 8601.
    :param user: e-mail address.
    :param computer: label, empty without one.
    :param exit_status: of a process that has ended.
    :param state: of a process, as AiiDA names it; empty for data.
    :param cached_from: UUID of the process whose results were copied; empty for one that was really run, and for data.
    """

    pk: int
    uuid: str
    type: str
    process_type: str
    label: str
    ctime: str
    user: str
    computer: str
    is_process: bool
    exit_status: int | None = None
    state: str = ''
    cached_from: str = ''


class ProvenanceGraph:
    """Nodes that are connected with some nodes by the flow of data, and the links between them.

    The graph is walked level by level, so that a node which is reached on many paths is visited once. A query with
    ``with_descendants`` lists every path: in rounds of active learning, their number grows exponentially.

    :param starts: PKs of the nodes where the walk begins.
    :param links: (source, target, label) of every link that was walked.
    """

    def __init__(self, starts: Collection[int], links: Iterable[Sequence[Any]]) -> None:
        self.starts = tuple(sorted(starts))
        self.inputs: dict[int, dict[str, int]] = defaultdict(dict)
        """Inputs of each process, by the label of the link."""
        self.outputs: dict[int, dict[str, int]] = defaultdict(dict)
        """Outputs of each process, by the label of the link."""
        self.creator: dict[int, int] = {}
        """Process that made each data node."""
        found = list(links)
        self.nodes = load_records({*starts, *(pk for link in found for pk in link[:2])})
        """Nodes by PK, in the order in which they were made."""
        for source, target, label in found:
            if self.nodes[target].is_process:
                self.inputs[target][label] = source
            else:
                self.outputs[source][label] = target
                self.creator[target] = source
        self._attributes: dict[int, dict[str, Any]] = {}
        self._by_type: dict[str, list[int]] = defaultdict(list)
        for pk, node in self.nodes.items():
            self._by_type[node.type].append(pk)
        self._position = {pk: position for position, pk in enumerate(self.nodes)}

    @classmethod
    def ancestors(cls, pks: Collection[int]) -> Self:
        """Return the graph of some nodes and of everything that they depend on."""
        return cls(pks, walk(pks, forward=False))

    def type_name(self, pk: int) -> str:
        """Return the entry point of a data node (``nanoml.model``), or the name of a process class or function."""
        return self.nodes[pk].type

    def of_type(self, *names: str) -> list[int]:
        """Return the PKs of the nodes of these types, in the order in which they were made."""
        found = (pk for name in names for pk in self._by_type.get(name, ()))
        return sorted(found, key=self._position.__getitem__)

    @property
    def processes(self) -> list[int]:
        """Return the PKs of all processes, in the order in which they were made."""
        return [pk for pk, node in self.nodes.items() if node.is_process]

    def process_depths(self) -> dict[int, int]:
        """Return the number of processes on the longest path before each process that took or made data."""
        before = {
            process: {self.creator[pk] for pk in self.inputs.get(process, {}).values() if pk in self.creator}
            for process in self.processes
            if self.inputs.get(process) or self.outputs.get(process)
        }
        depths: dict[int, int] = {}
        for process in TopologicalSorter(before).static_order():
            depths[process] = max((depths[earlier] + 1 for earlier in before[process]), default=0)
        return depths

    def jobs(self, *process_types: str) -> list[int]:
        """Return the PKs of the processes with these entry points, in the order in which they were made."""
        return [pk for pk, node in self.nodes.items() if node.process_type in process_types]

    def ancestors_of(self, pk: int) -> set[int]:
        """Return the PKs of a node and of all that it depends on, as far as the graph reaches."""
        found, waiting = {pk}, [pk]
        while waiting:
            here = waiting.pop()
            before = set(self.inputs.get(here, {}).values())
            if here in self.creator:
                before.add(self.creator[here])
            waiting += before - found
            found |= before
        return found

    def used_sets(self, kind: str, *process_types: str) -> list[int]:
        """Return the PKs of the nodes of a type that one of these jobs used, or that nothing here used."""
        by_jobs = {pk for job in self.jobs(*process_types) for pk in self.inputs[job].values()}
        used = {pk for inputs in self.inputs.values() for pk in inputs.values()}
        return [pk for pk in self.of_type(kind) if pk in by_jobs or pk not in used]

    def users(self) -> dict[int, set[int]]:
        """Return the processes that took a data node as input, by its PK."""
        found: dict[int, set[int]] = defaultdict(set)
        for process, inputs in self.inputs.items():
            for source in inputs.values():
                found[source].add(process)
        return found

    def attributes(self, pk: int) -> dict[str, Any]:
        """Return the attributes of a node; those of all nodes of its type are loaded at once."""
        if pk not in self._attributes:
            members = self._by_type[self.nodes[pk].type]
            self._attributes.update(select(members, 'attributes'))
        return self._attributes[pk]

    def add(self, pk: int, creator: int, label: str) -> None:
        """Add another output of a process, which the walk did not reach."""
        [node] = load_records([pk]).values()
        self.nodes[pk] = node
        self._by_type[node.type].append(pk)
        self._position[pk] = len(self._position)
        self.outputs[creator][label] = pk
        self.creator[pk] = creator


def walk(pks: Collection[int], *, forward: bool) -> Iterator[tuple[int, int, str]]:
    """Follow the links of data level by level.

    :param pks: PKs of the first nodes.
    :param forward: follow links to what depends on the nodes; else to what they depend on.
    :yields: (source, target, label) of each link, once.
    """
    seen, level = set(pks), set(pks)
    while level:
        found: set[int] = set()
        for here in in_parts(level):
            query = orm.QueryBuilder()
            query.append(orm.Node, filters=here if forward else {}, project='id', tag='source')
            query.append(
                orm.Node,
                with_incoming='source',
                filters={} if forward else here,
                project='id',
                edge_filters={'type': {'in': DATA_LINKS}},
                edge_project='label',
            )
            for source, target, label in query.all():
                found.add(target if forward else source)
                yield source, target, label
        level = found - seen
        seen |= found


def in_parts(pks: Collection[int]) -> Iterator[dict[str, Any]]:
    """Yield filters of queries for some nodes, as many at once as SQLite takes."""
    chosen = sorted(pks)
    for begin in range(0, len(chosen), _AT_ONCE):
        yield {'id': {'in': chosen[begin : begin + _AT_ONCE]}}


def select(pks: Collection[int], *columns: Any) -> list[list[Any]]:
    """Return the PK and some columns of nodes, as projections of the query builder."""
    rows: list[list[Any]] = []
    for filters in in_parts(pks):
        rows += orm.QueryBuilder().append(orm.Node, filters=filters, project=['id', *columns]).all()
    return rows


def load_records(pks: Collection[int]) -> dict[int, Record]:
    """Return nodes without their attributes, in the order in which they were made."""
    users = dict(orm.QueryBuilder().append(orm.User, project=['id', 'email']).all())
    computers = dict(orm.QueryBuilder().append(orm.Computer, project=['id', 'label']).all())
    rows = select(pks, *_COLUMNS)
    processes = [row[0] for row in rows if row[2].startswith('process.')]
    details = {row[0]: row[1:] for row in select(processes, *_OF_PROCESSES)}
    records = {}
    # An import of an archive changes the PKs, but not the time of creation.
    for pk, uuid, node_type, label, ctime, user, computer in sorted(rows, key=lambda row: (row[4], row[1])):
        process_type, name, exit_status, state, cached_from = details.get(pk, (None,) * 5)
        records[pk] = Record(
            pk=pk,
            uuid=uuid,
            type=type_name(node_type, name),
            process_type=process_type or '',
            label=label,
            ctime=ctime.isoformat(),
            user=users[user],
            computer=computers.get(computer, ''),
            is_process=pk in details,
            exit_status=exit_status,
            state=state or '',
            cached_from=cached_from or '',
        )
    return records


def type_name(node_type: str, process_label: str | None = None) -> str:
    """Return the entry point of a data node (``nanoml.model``), or the name of a process class or function."""
    if node_type.startswith('process.'):
        return process_label or node_type.split('.')[-2]
    return node_type.removeprefix('data.').rpartition('.')[0].rpartition('.')[0]


def read_arrays(pks: Collection[int], name: str) -> dict[int, NDArray[Any]]:
    """Read one array of many nodes at once.

    :param pks: PKs of array nodes.
    :param name: name of the array; nodes without it are left out.
    :returns: arrays by PK.
    """
    backend = get_manager().get_profile_storage().get_repository()
    keys: dict[str, list[int]] = defaultdict(list)
    for pk, files in select(pks, 'repository_metadata'):
        folder = Repository.from_serialized(backend, files)
        if folder.has_object(f'{name}.npy'):
            keys[folder.get_object(f'{name}.npy').key].append(pk)
    arrays = {}
    for key, stream in backend.iter_object_streams(list(keys)):
        array = np.load(io.BytesIO(stream.read()), allow_pickle=False)
        arrays.update(dict.fromkeys(keys[key], array))
    return arrays
