"""Sets of structures, labels and densities joined from imported SIESTA runs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from aiida import orm

from aiida_nanoml.calculations.functions.base import MERGE_WIDTH, merge_nodes, run_function
from aiida_nanoml.calculations.functions.densities import import_siesta_densities, merge_densities
from aiida_nanoml.calculations.functions.labels import merge_labels
from aiida_nanoml.calculations.functions.siesta import LABELS, PSEUDO, STRUCTURES, collect_runs, manifest
from aiida_nanoml.calculations.functions.structures import merge_structures
from aiida_nanoml.calculations.importers.pseudopotentials import PseudopotentialFinder
from aiida_nanoml.calculations.importers.runs import FoundRun
from aiida_nanoml.data.densities import DensitySetData
from aiida_nanoml.data.labels import LabelSetData
from aiida_nanoml.data.structures import StructureSetData
from aiida_nanoml.engines.label_set import LabelSet, LabelSource
from aiida_nanoml.engines.siesta.folder import open_run_folder
from aiida_nanoml.errors import EvaluationError

COLLECTED = 'nanoml_collected'
"""Extra of a set that was joined from imported runs: identity of what was joined."""

PARTS_AT_ONCE = MERGE_WIDTH // 2
"""Runs or batches that one process joins: each gives it two links, the structures and the labels."""


@dataclass(frozen=True)
class ImportedSet:
    """Structures and labels of one source.

    :param source: engine, version, parameters and pseudopotentials.
    :param contradictions: runs of one structure whose results differ, several each: none of them is chosen.
    :param densities: of those structures whose runs saved theirs, if they were asked for.
    """

    source: LabelSource
    structures: StructureSetData
    labels: LabelSetData
    densities: DensitySetData | None = None
    contradictions: list[list[FoundRun]] = field(default_factory=list)


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
    joined = ((*_join(group), _find_contradictions(group)) for _, group in groups)
    sets = sorted(joined, key=lambda made: -made[1].base.attributes.get('n_rows'))
    for number, made in enumerate(sets, start=1):
        for node, kind in zip(made[:2], (STRUCTURES, LABELS), strict=True):
            if name:
                node.label = f'{name}-{kind}' if number == 1 else f'{name}-{kind}-{number}'
    return [
        ImportedSet(labels.label_source, structures, labels, contradictions=contradictions)
        for structures, labels, contradictions in sets
    ]


def _find_contradictions(group: list[tuple[tuple[int, int], list[FoundRun]]]) -> list[list[FoundRun]]:
    """Find runs of one structure whose results differ, and give each the reason."""
    by_hash: dict[str, dict[str, FoundRun]] = {}
    for _, members in group:
        for run in members:
            by_hash.setdefault(run.hash, {}).setdefault(run.digest, run)
    found = []
    for runs in (list(members.values()) for members in by_hash.values() if len(members) > 1):
        labels = LabelSet.stacked(
            [orm.load_node(run.part[1]).labels.select(np.array([run.row])) for run in runs if run.part is not None]
        )
        if labels.contradictions():
            text = labels.describe(list(range(len(runs))))
            for run in runs:
                others = ', '.join(str(other.folder) for other in runs if other is not run)
                run.reason = f'contradicts {others}: {text}; none of them is chosen, remove what is wrong'
            found.append(runs)
    return found


class DensityImporter:
    """Import the densities of runs whose labels are in the graph; those imported before are found again.

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
            folder = open_run_folder(run.folder, run.root, run.input)
            try:
                files = folder.files() | folder.density_files()
            except EvaluationError:
                continue  # this run saved no density
            wanted.remove(run.hash)
            found, origin = self._finder.find(folder)
            pseudos |= found
            entry = {'folder': str(run.folder.relative_to(run.root)), 'name': run.name, 'family': run.family}
            entry |= {'input': run.input} if run.input else {}
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
        return merge_nodes(merge_densities, 'densities', nodes)


def _join(group: list[tuple[tuple[int, int], list[FoundRun]]]) -> tuple[StructureSetData, LabelSetData]:
    wanted = [
        {'part': part, 'hashes': [run.hash for run in members]}
        | {'names': [run.name for run in members], 'families': [run.family for run in members]}
        for part, members in group
    ]
    if len(wanted) == 1:
        nodes = [orm.load_node(pk) for pk in group[0][0]]
        whole = isinstance(nodes[0], StructureSetData) and _is_whole(nodes[0], wanted[0])
        if whole and not nodes[1].labels.contradictions():
            return nodes[0], nodes[1]
    key = hashlib.sha256(json.dumps(wanted, sort_keys=True).encode()).hexdigest()
    found = [
        orm.QueryBuilder().append(kind, filters={f'extras.{COLLECTED}': key}).first(flat=True)
        for kind in (StructureSetData, LabelSetData)
    ]
    if all(found):
        return found[0], found[1]
    chunks = [_collect(wanted[start : start + PARTS_AT_ONCE]) for start in range(0, len(wanted), PARTS_AT_ONCE)]
    structures = merge_nodes(merge_structures, STRUCTURES, [chunk[STRUCTURES] for chunk in chunks])
    labels = merge_nodes(merge_labels, LABELS, [chunk[LABELS] for chunk in chunks])
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


def _is_whole(node: StructureSetData, wanted: dict[str, Any]) -> bool:
    held = node.structures
    columns = (('hashes', held.hashes), ('names', held.names), ('families', held.families))
    return all(wanted[key] == column.tolist() for key, column in columns)
