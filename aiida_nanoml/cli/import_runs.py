"""Turning folders of finished SIESTA runs into provenance, one after the other, so that it can stop at any time."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from aiida import orm
from aiida.engine import run_get_node
from aiida.tools import delete_nodes

from aiida_nanoml.calculations.functions.densities import import_siesta_densities, merge_densities
from aiida_nanoml.calculations.functions.labels import merge_labels
from aiida_nanoml.calculations.functions.siesta import (
    LABELS,
    PSEUDO,
    STRUCTURES,
    collect_runs,
    import_siesta_runs,
    manifest,
    structure_set,
)
from aiida_nanoml.calculations.functions.structures import merge_structures
from aiida_nanoml.calculations.importers.siesta import DIGEST, SharedDicts, inputs_of_run
from aiida_nanoml.calculations.pseudopotentials import PseudopotentialFinder
from aiida_nanoml.calculations.siesta import SiestaCalculation
from aiida_nanoml.cli.launch import run_function
from aiida_nanoml.data.densities import DensitySetData
from aiida_nanoml.data.labels import LabelSetData
from aiida_nanoml.data.structures import StructureSetData
from aiida_nanoml.engines.label_set import LabelSource
from aiida_nanoml.engines.siesta.folder import (
    FinishedRun,
    RunFolder,
    find_run_folders,
    open_run_folder,
    read_finished_run,
    source_of_run,
)
from aiida_nanoml.errors import EvaluationError
from aiida_nanoml.structures import StructureSet

IMPORTED, PRESENT, SKIPPED = 'imported', 'present', 'skipped'

COLLECTED = 'nanoml_collected'
"""Extra of a set that was joined from imported runs: identity of what was joined."""

PARTS_AT_ONCE = 50
"""Runs or batches that one process joins; the cost of a process grows with the square of its links."""


@dataclass
class FoundRun:
    """A folder, and what became of it.

    :param folder: path, as the user will recognise it.
    :param root: nothing outside this folder is read.
    :param name: name of the structure.
    :param status: ``imported``, ``present`` (it was there already) or ``skipped``; empty while it waits.
    :param reason: why it was skipped.
    :param uuid: process that imported it.
    :param hash: content hash of its structure.
    :param part: PKs of the nodes that hold its structure and its label, perhaps among others.
    """

    folder: Path
    root: Path
    name: str
    family: str = ''
    status: str = ''
    reason: str = ''
    gap_ev: float | None = None
    n_atoms: int | None = None
    uuid: str | None = None
    digest: str = ''
    hash: str = ''
    part: tuple[int, int] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return what is told about it, in types of JSON."""
        return {
            'folder': str(self.folder),
            'status': self.status,
            'gap_ev': self.gap_ev,
            'n_atoms': self.n_atoms,
            'uuid': self.uuid,
            'reason': self.reason or None,
        }


@dataclass(frozen=True)
class ImportedSet:
    """Structures and labels of one source.

    :param source: engine, version, parameters and pseudopotentials.
    :param densities: of those structures whose runs saved theirs, if they were asked for.
    """

    source: LabelSource
    structures: StructureSetData
    labels: LabelSetData
    densities: DensitySetData | None = None


@dataclass
class _Batch:
    source: LabelSource
    pseudos: dict[str, Any] = field(default_factory=dict)
    runs: list[FoundRun] = field(default_factory=list)
    origins: list[str] = field(default_factory=list)


def find_runs(roots: Sequence[Path], family: Callable[[str], str]) -> list[FoundRun]:
    """Find the run folders below some folders.

    :param family: gives the family of a run by its name.
    """
    found: dict[Path, FoundRun] = {}
    for root in roots:
        unreadable: list[OSError] = []
        for folder in find_run_folders(root, unreadable.append):
            relative = folder.relative_to(root)
            name = str(relative) if relative.parts else folder.resolve().name
            found.setdefault(folder.resolve(), FoundRun(folder, root, name, family(Path(name).name)))
        for error in unreadable:
            path = Path(str(error.filename))
            reason = f'the folder cannot be read: {error.strerror}'
            found.setdefault(path, FoundRun(path, root, path.name, status=SKIPPED, reason=reason))
    return list(found.values())


class RunImporter:
    """Imports runs that are not in the graph yet.

    :param computer: where the folders lie: this machine.
    :param finder: finds their pseudopotentials.
    :param batch_size: runs that share a process; None: a process for each run.
    :param vacuum_ang: vacuum that stands in the parameters of isolated structures; None: that of each run.
    """

    def __init__(
        self,
        computer: orm.Computer,
        finder: PseudopotentialFinder,
        batch_size: int | None = None,
        vacuum_ang: float | None = None,
    ) -> None:
        self._computer = computer
        self._finder = finder
        self._batch_size = batch_size
        self._vacuum_ang = vacuum_ang
        self._shared = SharedDicts()
        self._known = dict(_known_runs())
        self._remotes: dict[Path, orm.RemoteData] = {}
        self._batches: dict[Path, list[_Batch]] = {}
        self._read_part: tuple[Any, ...] = (None,)

    def take(self, runs: Sequence[FoundRun]) -> Iterator[FoundRun]:
        """Import runs.

        :param runs: from :func:`find_runs`; each is given its status.
        :yields: each run as soon as it is known what became of it.
        """
        twins: dict[str, FoundRun] = {}
        later: list[FoundRun] = []
        for run in runs:
            if run.status == SKIPPED:
                yield run
                continue
            try:
                folder = open_run_folder(run.folder, run.root)
                run.digest = folder.digest()
                if run.digest in twins:
                    later.append(run)
                elif run.digest in self._known:
                    self._recognise(run)
                    yield run
                else:
                    yield from self._import(run, folder)
                    twins[run.digest] = run
            except EvaluationError as error:
                run.status, run.reason = SKIPPED, error.message
                yield run
        for batches in self._batches.values():
            for batch in batches:
                yield from self._finish(batch)
        for run in later:
            twin = twins[run.digest]
            run.status = PRESENT if twin.status == IMPORTED else twin.status
            run.reason = f'the same as {twin.folder}' if run.status == PRESENT else twin.reason
            run.uuid, run.gap_ev, run.n_atoms = twin.uuid, twin.gap_ev, twin.n_atoms
            yield run

    def _recognise(self, run: FoundRun) -> None:
        process, part, row = self._known[run.digest]
        if self._read_part[0] != part:
            self._read_part = part, *_read(*(orm.load_node(pk) for pk in part))
        _, found, made = self._read_part
        run.hash = str(found.hashes[row])
        run.gap_ev = made[run.hash]
        run.n_atoms = int(found.counts[row])
        run.status, run.uuid, run.part = PRESENT, process, part

    def _import(self, run: FoundRun, folder: RunFolder) -> Iterator[FoundRun]:
        finished = read_finished_run(folder, self._vacuum_ang)
        pseudos, origin = self._finder.find(folder)
        run.gap_ev, run.n_atoms = finished.result.label.gap_ev, len(finished.structure)
        if self._batch_size is None:
            self._import_alone(run, folder, finished, pseudos, origin)
            yield run
            return
        source = source_of_run(finished, {element: node.md5 for element, node in pseudos.items()})
        batches = self._batches.setdefault(run.root, [])
        batch = next((batch for batch in batches if batch.source.compatible(source)), None)
        if batch is None:
            batch = _Batch(source)
            batches.append(batch)
        batch.source = batch.source.joined(source)
        batch.pseudos |= pseudos
        batch.runs.append(run)
        batch.origins.append(origin)
        if len(batch.runs) >= self._batch_size:
            batches.remove(batch)
            yield from self._finish(batch)

    def _import_alone(
        self, run: FoundRun, folder: RunFolder, finished: FinishedRun, pseudos: dict[str, Any], origin: str
    ) -> None:
        remote = orm.RemoteData(remote_path=str(run.folder.resolve()), computer=self._computer)
        remote.base.extras.set(DIGEST, run.digest)
        inputs = inputs_of_run(folder, finished, pseudos, origin, remote, self._shared)
        failure = ''
        done = False
        try:
            made, node = run_get_node(SiestaCalculation, **inputs)
            done = node.is_finished_ok and LABELS in made
            failure = f'the parser gave no label, exit status {node.exit_status}: {node.exit_message}'
        finally:
            if not done:
                # What is not complete leaves nothing behind; deleting the inputs takes all that was made of them.
                own = [new.pk for new in (remote, inputs['structure']) if new.is_stored]
                delete_nodes(own, dry_run=False)
        if not done:
            run.status, run.reason, run.gap_ev = SKIPPED, failure, None
            return
        run.status, run.uuid, run.part = IMPORTED, node.uuid, (inputs['structure'].pk, made[LABELS].pk)
        run.hash = str(StructureSet.from_structures([finished.structure]).hashes[0])

    def _finish(self, batch: _Batch) -> Iterator[FoundRun]:
        root = batch.runs[0].root
        if root not in self._remotes:
            self._remotes[root] = orm.RemoteData(remote_path=str(root.resolve()), computer=self._computer).store()
        entries = [
            {
                'folder': str(run.folder.relative_to(root)),
                'name': run.name,
                'family': run.family,
                'digest': run.digest,
                'files': open_run_folder(run.folder, root).files(),
                'pseudopotentials': origin,
            }
            for run, origin in zip(batch.runs, batch.origins, strict=True)
        ]
        pseudos = {f'{PSEUDO}{element}': node.store() for element, node in sorted(batch.pseudos.items())}
        settings = manifest(entries, self._vacuum_ang)
        made, process = import_siesta_runs.run_get_node(remote_folder=self._remotes[root], runs=settings, **pseudos)
        for row, run in enumerate(batch.runs):
            if process.is_finished_ok:
                run.status, run.uuid = IMPORTED, process.uuid
                run.part = (made[STRUCTURES].pk, made[LABELS].pk)
                run.hash = str(made[STRUCTURES].structures.hashes[row])
            else:
                run.status, run.reason, run.gap_ev = SKIPPED, str(process.exit_message), None
            yield run
        if not process.is_finished_ok:
            delete_nodes([settings.pk], dry_run=False)


def collect(runs: Sequence[FoundRun], name: str = '') -> list[ImportedSet]:
    """Join the structures and labels of runs into one set each for every source, the largest first.

    Sets that were joined before are found again.

    :param runs: imported or present.
    :param name: the sets are labelled ``NAME-structures`` and ``NAME-labels``, further ones with a number.
    """
    parts: dict[tuple[int, int], list[FoundRun]] = {}
    for run in runs:
        if run.part is not None:
            parts.setdefault(run.part, []).append(run)
    groups: list[tuple[LabelSource, list[tuple[tuple[int, int], list[FoundRun]]]]] = []
    for part, members in parts.items():
        source = orm.load_node(part[1]).label_source
        for position, (other, group) in enumerate(groups):
            if other.compatible(source):
                group.append((part, members))
                groups[position] = (other.joined(source), group)
                break
        else:
            groups.append((source, [(part, members)]))
    sets = sorted((_join(group) for _, group in groups), key=lambda made: -made[1].base.attributes.get('n_rows'))
    for number, made in enumerate(sets, start=1):
        for node, kind in zip(made, (STRUCTURES, LABELS), strict=True):
            if name:
                node.label = f'{name}-{kind}' if number == 1 else f'{name}-{kind}-{number}'
    return [ImportedSet(labels.label_source, structures, labels) for structures, labels in sets]


class DensityImporter:
    """Imports the densities of runs whose labels are in the graph; what was imported before is found again.

    :param computer: where the folders lie: this machine.
    :param finder: finds their pseudopotentials.
    :param vacuum_ang: as of :class:`RunImporter`.
    :param spacing_ang: of the coarse mesh (Å) that they are kept on; None: they are kept as they are.
    """

    def __init__(
        self,
        computer: orm.Computer,
        finder: PseudopotentialFinder,
        vacuum_ang: float | None = None,
        spacing_ang: float | None = None,
    ) -> None:
        self._computer = computer
        self._finder = finder
        self._vacuum_ang = vacuum_ang
        self._spacing = {} if spacing_ang is None else {'spacing_ang': spacing_ang}

    def take(self, made: ImportedSet, runs: Sequence[FoundRun], label: str = '') -> ImportedSet:
        """Add the densities of a set.

        :param made: of :func:`collect`.
        :param runs: imported or present; those of other sets are left alone.
        :param label: of the node.
        :returns: the set with its densities, without if no run saved one.
        """
        wanted = set(made.labels.labels.hashes.tolist())
        parts: dict[Path, list[dict[str, Any]]] = {}
        pseudos: dict[str, Any] = {}
        for run in runs:
            if run.hash not in wanted:
                continue
            folder = open_run_folder(run.folder, run.root)
            try:
                files = folder.files() | folder.density_files()
            except EvaluationError:
                continue  # this run saved no density
            wanted.remove(run.hash)
            found, origin = self._finder.find(folder)
            pseudos |= found
            entry = {'folder': str(run.folder.relative_to(run.root)), 'name': run.name, 'family': run.family}
            parts.setdefault(run.root, []).append(entry | {'files': files, 'pseudopotentials': origin})
        if not parts:
            return made
        key = hashlib.sha256(json.dumps([*parts.values(), self._spacing], sort_keys=True).encode()).hexdigest()
        densities = orm.QueryBuilder().append(DensitySetData, filters={f'extras.{COLLECTED}': key}).first(flat=True)
        if densities is None:
            densities = self._import(parts, pseudos)
            densities.base.extras.set(COLLECTED, key)
        if label:
            densities.label = label
        return replace(made, densities=densities)

    def _import(self, parts: dict[Path, list[dict[str, Any]]], pseudos: dict[str, Any]) -> DensitySetData:
        stored = {f'{PSEUDO}{element}': node.store() for element, node in sorted(pseudos.items())}
        nodes = []
        for root, entries in parts.items():
            remote = orm.RemoteData(remote_path=str(root.resolve()), computer=self._computer).store()
            for start in range(0, len(entries), PARTS_AT_ONCE):
                settings = manifest(entries[start : start + PARTS_AT_ONCE], self._vacuum_ang, **self._spacing)
                nodes.append(run_function(import_siesta_densities, remote_folder=remote, runs=settings, **stored))
        return _merge(merge_densities, 'densities', nodes)


def _join(group: list[tuple[tuple[int, int], list[FoundRun]]]) -> tuple[StructureSetData, LabelSetData]:
    wanted = [
        {'part': part, 'hashes': [run.hash for run in members]}
        | {'names': [run.name for run in members], 'families': [run.family for run in members]}
        for part, members in group
    ]
    if len(wanted) == 1:
        nodes = [orm.load_node(pk) for pk in group[0][0]]
        if isinstance(nodes[0], StructureSetData) and _is_whole(nodes[0], wanted[0]):
            return nodes[0], nodes[1]
    key = hashlib.sha256(json.dumps(wanted, sort_keys=True).encode()).hexdigest()
    found = [
        orm.QueryBuilder().append(kind, filters={f'extras.{COLLECTED}': key}).first(flat=True)
        for kind in (StructureSetData, LabelSetData)
    ]
    if all(found):
        return found[0], found[1]
    chunks = [_collect(wanted[start : start + PARTS_AT_ONCE]) for start in range(0, len(wanted), PARTS_AT_ONCE)]
    structures = _merge(merge_structures, STRUCTURES, [chunk[STRUCTURES] for chunk in chunks])
    labels = _merge(merge_labels, LABELS, [chunk[LABELS] for chunk in chunks])
    for node in (structures, labels):
        node.base.extras.set(COLLECTED, key)
    return structures, labels


def _collect(wanted: list[dict[str, Any]]) -> dict[str, Any]:
    nodes = {}
    for number, part in enumerate(wanted):
        for kind, pk in zip((STRUCTURES, LABELS), part['part'], strict=True):
            nodes[f'{kind}_{number:03d}'] = orm.load_node(pk)
    rows = [{key: part[key] for key in ('hashes', 'names', 'families')} for part in wanted]
    made: dict[str, Any] = run_function(collect_runs, rows=orm.Dict({'parts': rows}), **nodes)
    return made


def _merge(function: Any, prefix: str, nodes: list[Any]) -> Any:
    while len(nodes) > 1:
        chunks = [nodes[start : start + 2 * PARTS_AT_ONCE] for start in range(0, len(nodes), 2 * PARTS_AT_ONCE)]
        nodes = [
            run_function(function, **{f'{prefix}_{number:03d}': node for number, node in enumerate(chunk)})
            if len(chunk) > 1
            else chunk[0]
            for chunk in chunks
        ]
    return nodes[0]


def _is_whole(node: StructureSetData, wanted: dict[str, Any]) -> bool:
    held = node.structures
    columns = (('hashes', held.hashes), ('names', held.names), ('families', held.families))
    return all(wanted[key] == column.tolist() for key, column in columns)


def _read(structures: Any, labels: LabelSetData) -> tuple[Any, dict[str, float]]:
    rows = labels.labels
    gaps = dict(zip(rows.hashes.tolist(), rows.energies['gap_ev'].tolist(), strict=True))
    return structure_set(structures), gaps


def _known_runs() -> Iterator[tuple[str, tuple[str, tuple[int, int], int]]]:
    """Runs that are in the graph: by digest, their process, the nodes of their structure and label, and the row."""
    alone = orm.QueryBuilder()
    alone.append(orm.RemoteData, filters={'extras': {'has_key': DIGEST}}, project=f'extras.{DIGEST}', tag='folder')
    alone.append(
        orm.CalcJobNode,
        with_incoming='folder',
        filters={'attributes.exit_status': 0, 'process_type': 'aiida.calculations:nanoml.siesta'},
        project='uuid',
        tag='process',
    )
    alone.append(orm.StructureData, with_outgoing='process', edge_filters={'label': 'structure'}, project='id')
    alone.append(LabelSetData, with_incoming='process', edge_filters={'label': LABELS}, project='id')
    for digest, uuid, structure, labels in alone.iterall():
        yield digest, (uuid, (structure, labels), 0)
    batches = orm.QueryBuilder()
    batches.append(
        orm.CalcFunctionNode,
        filters={'attributes.exit_status': 0, 'process_type': 'aiida.calculations:nanoml.import_siesta_runs'},
        project='uuid',
        tag='process',
    )
    batches.append(orm.Dict, with_outgoing='process', edge_filters={'label': 'runs'}, project='attributes.runs')
    batches.append(StructureSetData, with_incoming='process', edge_filters={'label': STRUCTURES}, project='id')
    batches.append(LabelSetData, with_incoming='process', edge_filters={'label': LABELS}, project='id')
    for uuid, entries, structures, labels in batches.iterall():
        for row, entry in enumerate(entries):
            yield entry['digest'], (uuid, (structures, labels), row)
