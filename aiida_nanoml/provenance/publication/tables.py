"""Tables of a publication: the content of the nodes as CSV, with units in the column headers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from aiida import orm

from aiida_nanoml.calculations.functions.base import csv_text
from aiida_nanoml.data.prediction import BASELINE
from aiida_nanoml.engines.label_set import NUMBERS, LabelSet
from aiida_nanoml.learning.dataset import COMPANION_VALUE
from aiida_nanoml.learning.targets import find_target
from aiida_nanoml.provenance.graph import ProvenanceGraph, select
from aiida_nanoml.provenance.lineage import Lineage
from aiida_nanoml.provenance.origins import (
    DATASET,
    DENSITIES,
    DENSITY_MODEL,
    LABELS,
    MODEL,
    POTENTIALS,
    PREDICTION,
    STRUCTURES,
)
from aiida_nanoml.structures import StructureSet
from aiida_nanoml.structures.files import write_structures

Rows = Iterable[Sequence[Any]]


@dataclass(frozen=True)
class Table:
    """A file of the folder.

    :param name: name of the file.
    :param title: what its rows are, in words.
    """

    name: str
    title: str
    n_rows: int


def write_tables(folder: Path, graph: ProvenanceGraph, lineage: Lineage) -> tuple[Table, ...]:
    """Write the tables of the published nodes and of all that they rest on.

    Of sets that were joined, only the joined set is written.

    :param folder: an existing folder.
    """
    writer = _Writer(folder)
    for kind, name, title, rows in _KINDS:
        for pk in final_nodes(graph, kind):
            node = orm.load_node(pk)
            writer.write(f'{name}-{node.uuid[:8]}', f'{title}, node {node.uuid}', rows(node))
            if kind == STRUCTURES:
                writer.write_structures(f'{name}-{node.uuid[:8]}', f'{title} with positions in Å', node.structures)
    for pk in graph.starts:
        if graph.type_name(pk) == 'core.array.xy':
            node = orm.load_node(pk)
            writer.write(f'curves-{node.uuid[:8]}', f'curves, node {node.uuid}', _curves(node))
    writer.write('metrics', 'errors of the models, by part of the split', _metrics(graph))
    writer.write('runs', 'every process, by its time of creation', _runs(graph, lineage))
    writer.write('pseudopotentials', 'pseudopotentials of the labels', _pseudopotentials(lineage))
    writer.write('executables', 'executables that ran', _executables(lineage))
    writer.write('seeds', 'seeds of random numbers', _seeds(graph, lineage))
    return tuple(writer.tables)


class _Writer:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.tables: list[Table] = []

    def write(self, name: str, title: str, rows: Rows) -> None:
        """Write a table, unless it has only a header."""
        lines = list(rows)
        if len(lines) > 1:
            (self.folder / f'{name}.csv').write_text(csv_text(lines), encoding='utf-8')
            self.tables.append(Table(f'{name}.csv', title, len(lines) - 1))

    def write_structures(self, name: str, title: str, structures: StructureSet) -> None:
        """Write structures with all of their properties."""
        write_structures(structures, self.folder / f'{name}.extxyz')
        self.tables.append(Table(f'{name}.extxyz', title, len(structures)))


def final_nodes(graph: ProvenanceGraph, kind: str) -> list[int]:
    """Return the PKs of the nodes of a type that no process made into another one of this type, such as by joining."""
    joined = {
        pk
        for process, outputs in graph.outputs.items()
        if any(graph.type_name(made) == kind for made in outputs.values())
        for pk in graph.inputs[process].values()
    }
    return [pk for pk in graph.of_type(kind) if pk not in joined or pk in graph.starts]


def _plain(values: Any) -> list[Any]:
    """Return numbers of Python; None, an empty cell, for NaN."""
    array = np.asarray(values)
    if np.issubdtype(array.dtype, np.floating):
        return [None if np.isnan(value) else value for value in array.tolist()]
    found: list[Any] = array.tolist()
    return found


def _columns(columns: dict[str, Any]) -> Rows:
    yield list(columns)
    yield from zip(*map(_plain, columns.values()), strict=True)


def _structures(node: Any) -> Rows:
    structures = node.structures
    counts = np.diff(structures.offsets)
    yield from _columns(
        {
            'name': structures.names,
            'sha256': structures.hashes,
            'family': structures.families,
            'formula': structures.formulas,
            'atoms': counts,
            'periodic': [bool(np.any(pbc)) for pbc in structures.pbc],
        }
    )


def _labels(node: Any) -> Rows:
    labels: LabelSet = node.labels
    units = node.base.attributes.get('units')
    yield from _columns(
        {'structure sha256': labels.hashes, 'status': labels.status, 'message': labels.messages}
        | {f'{name} ({units[name]})': values for name, values in labels.energies.items()}
        | {f'{name} ({NUMBERS[name]})': values for name, values in labels.numbers.items()}
        | {'electrons': labels.n_electrons, 'open shell': labels.open_shell, 'wall time (s)': labels.wall_s}
    )


def _dataset(node: Any) -> Rows:
    rows = node.dataset
    unit = find_target(rows.target).unit
    columns = {
        'name': rows.names,
        'structure sha256': rows.hashes,
        'family': rows.families,
        'part': rows.split,
        f'{rows.target} ({unit})': rows.y,
    }
    if rows.baseline is not None:
        columns[f'baseline ({unit})'] = rows.baseline
    columns |= {f'{name} ({find_target(name).unit})': values for name, values in rows.others.items()}
    columns |= {f'feature {name}': rows.X[:, column] for column, name in enumerate(rows.feature_names)}
    yield from _columns(columns)


def _predictions(node: Any) -> Rows:
    arrays, attributes = node.arrays, node.base.attributes
    unit = attributes.get('unit')
    columns = {
        'name': arrays['names'],
        'structure sha256': arrays['hashes'],
        'family': arrays['families'],
        f'{attributes.get("target")} ({unit})': arrays['value'],
        f'standard deviation ({unit})': arrays['std'],
        f'spread of the ensemble ({unit})': arrays['spread'],
        'distance to the training set': arrays['distance'],
        'outside of the training set': arrays['outside'],
    }
    if BASELINE in arrays:
        columns[f'baseline ({unit})'] = arrays[BASELINE]
    columns |= {f'{name} ({other})': arrays[f'{COMPANION_VALUE}{name}'] for name, other in node.others.items()}
    yield from _columns(columns)


def _densities(node: Any) -> Rows:
    structures, shapes = node.structures, node.shapes
    yield from _columns(
        {
            'name': structures.names,
            'structure sha256': structures.hashes,
            'mesh': [' x '.join(map(str, shape)) for shape in shapes.tolist()],
            'electrons': node.electrons,
        }
    )


def _potentials(node: Any) -> Rows:
    yield ['name', 'cell', 'middle of the cell (nm)', 'potential energy (eV)']
    for potential in node.potentials:
        width = potential.length / len(potential.values)
        for cell, value in enumerate(potential.values.tolist()):
            yield [potential.name, cell, (cell + 0.5) * width, value]


def _curves(node: orm.XyData) -> Rows:
    name, values, unit = node.get_x()
    columns = {f'{name} ({unit})': values}
    columns |= {f'{label} ({unit})' if unit else label: values for label, values, unit in node.get_y()}
    yield from _columns(columns)


_KINDS: tuple[tuple[str, str, str, Callable[[Any], Rows]], ...] = (
    (PREDICTION, 'predictions', 'predicted values', _predictions),
    (DATASET, 'dataset', 'rows of the data set, with their features', _dataset),
    (LABELS, 'labels', 'labels', _labels),
    (STRUCTURES, 'structures', 'structures', _structures),
    (DENSITIES, 'densities', 'densities', _densities),
    (POTENTIALS, 'potentials', 'potentials of transmissions', _potentials),
)


def _metrics(graph: ProvenanceGraph) -> Rows:
    found = [
        (graph.nodes[pk].uuid, graph.attributes(pk).get('kind', graph.type_name(pk)), part, values)
        for pk in graph.of_type(MODEL, DENSITY_MODEL)
        for part, values in (graph.attributes(pk).get('metrics') or {}).items()
        if isinstance(values, dict)
    ]
    units = {graph.nodes[pk].uuid: graph.attributes(pk).get('unit', '') for pk in graph.of_type(MODEL, DENSITY_MODEL)}
    names = list(dict.fromkeys(name for *_, values in found for name in values))
    yield ['model', 'kind', 'part', 'unit of mae and rmse', *names]
    for uuid, kind, part, values in found:
        yield [uuid, kind, part, units[uuid], *(values.get(name) for name in names)]


def _runs(graph: ProvenanceGraph, lineage: Lineage) -> Rows:
    labelling = {job.pk: (origin, job) for origin in lineage.labelling for job in origin.jobs}
    versions = {pk: row for pk, *row in select(graph.processes, 'attributes.version.core', 'attributes.version.plugin')}
    head = ['uuid', 'pk', 'process', 'created', 'user', 'computer', 'exit status', 'taken from the cache of']
    yield [*head, 'aiida-core', 'plugin', 'labels', 'protocol', 'asked', 'finished', 'results imported from']
    for pk in graph.processes:
        record = graph.nodes[pk]
        line = [record.uuid, pk, record.type, record.ctime, record.user, record.computer, record.exit_status]
        line += [record.cached_from, *versions[pk]]
        if pk in labelling:
            origin, job = labelling[pk]
            line += [f'{origin.title} {origin.version}', origin.protocol, job.n_rows, job.n_finished, job.imported]
        yield line + [None] * (len(head) + 7 - len(line))


def _pseudopotentials(lineage: Lineage) -> Rows:
    yield ['element', 'md5', 'file', 'node']
    for found in lineage.pseudopotentials:
        yield [found.element, found.md5, found.filename, found.uuid]


def _executables(lineage: Lineage) -> Rows:
    yield ['code', 'path', 'host', 'jobs', 'node']
    for found in lineage.executables:
        yield [found.label, found.path, found.hostname, found.n_jobs, found.uuid]


def _seeds(graph: ProvenanceGraph, lineage: Lineage) -> Rows:
    yield ['process', 'uuid', 'seed', 'not given']
    for seed in lineage.seeds:
        yield [seed.of, graph.nodes[seed.pk].uuid, seed.value, seed.default]
