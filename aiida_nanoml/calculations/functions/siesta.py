"""Finished runs of SIESTA: import many at once, and join them; single structures in boxes."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
from aiida import orm

from aiida_nanoml.calculations.base import validate_rows
from aiida_nanoml.calculations.functions.base import calculation_function
from aiida_nanoml.data.labels import LabelSetData
from aiida_nanoml.data.structures import StructureSetData
from aiida_nanoml.engines.label_set import LabelSet, LabelSource
from aiida_nanoml.engines.siesta.folder import (
    FinishedRun,
    open_run_folder,
    read_finished_once,
    read_finished_steps,
    source_of_run,
)
from aiida_nanoml.errors import DatasetError, EvaluationError, StructureError
from aiida_nanoml.structures import Structure, StructureSet, place
from aiida_nanoml.structures.elements import ATOMIC_NUMBERS, SYMBOLS
from aiida_nanoml.worker.labelled_rows import LabelledRow, tabulate

STRUCTURES = 'structures'
LABELS = 'labels'
PSEUDO = 'pseudo_'


@calculation_function
def place_structures(
    structures: StructureSetData, rows: orm.List, vacuum_ang: orm.Float
) -> dict[str, orm.StructureData]:
    """Return single structures of a set, isolated ones in an orthogonal box with vacuum.

    :param structures: the set.
    :param rows: indices of the structures.
    :param vacuum_ang: distance between the images of an isolated structure in Å.
    :returns: ``row_0003`` and so on, by row; a hash in the set is that of its structure.
    :raises StructureError: a row does not exist, or the vacuum is not positive.
    """
    whole = structures.structures
    wanted = rows.get_list()
    text = validate_rows(wanted, len(whole))
    if text is not None:
        raise StructureError(text)
    if not vacuum_ang.value > 0:
        raise StructureError(f'vacuum_ang must be positive, got {vacuum_ang.value}')
    width = max(4, len(str(max(wanted))))
    return {
        f'row_{row:0{width}d}': node_of_structure(place(whole[row], vacuum_ang.value), str(whole.names[row]))
        for row in wanted
    }


@calculation_function
def import_siesta_runs(
    remote_folder: orm.RemoteData, runs: orm.Dict, **pseudos: orm.SinglefileData
) -> dict[str, orm.Data]:
    """Read the structures and labels of finished runs from their folders.

    :param remote_folder: the folder below which the runs lie, on this machine.
    :param runs: ``runs``, a list of mappings: ``folder`` relative to the remote folder, ``name``, ``family``,
        ``digest`` and ``files`` (MD5 by name) of the content that is meant, the number ``step`` where it is not
        the last one, and the name ``input`` where the folder holds several runs; and ``vacuum_ang``, see
        :func:`~aiida_nanoml.engines.siesta.folder.read_finished_run`.
    :param pseudos: pseudopotential files of the runs, as ``pseudo_C`` for each element.
    :returns: ``structures`` and ``labels``, one row a run.
    :raises DatasetError: a folder has changed or cannot be read, or the runs do not have the same parameters.
    """
    root = Path(remote_folder.get_remote_path())
    md5 = {name.removeprefix(PSEUDO): node.md5 for name, node in pseudos.items()}
    structures, sources, rows = [], [], {}
    steps: dict[tuple[str, str], dict[int, FinishedRun]] = {}
    entries, vacuum_ang = runs['runs'], runs['vacuum_ang']
    for row, run in enumerate(entries):
        try:
            folder = open_run_folder(root / run['folder'], root, run.get('input', ''))
            if folder.digest() != run['digest']:
                raise DatasetError(f'{run["folder"]} is not what it was when the import began')
            finished = read_finished_once(folder, run['digest'], vacuum_ang)
            if 'step' in run:
                key = (run['folder'], run['digest'])
                if key not in steps:
                    steps[key] = read_finished_steps(folder, finished)
                finished = steps[key][run['step']]
        except EvaluationError as error:
            raise DatasetError(f'{run["folder"]}: {error.message}') from error
        structures.append(finished.structure)
        sources.append(source_of_run(finished, md5))
        rows[row] = LabelledRow.from_label(finished.result.label, finished.result.wall_s, finished.note)
    names, families = ([run[key] for run in entries] for key in ('name', 'family'))
    imported = StructureSet.from_structures(structures, names=names, families=families)
    labels = tabulate(functools.reduce(LabelSource.joined, sources), imported, rows)
    return {STRUCTURES: StructureSetData(imported), LABELS: LabelSetData(labels)}


@calculation_function
def collect_runs(rows: orm.Dict, **parts: orm.Data) -> dict[str, orm.Data]:
    """Join the structures and labels of runs into one set each.

    :param rows: ``parts``, a list of mappings: ``hashes`` of the structures that are taken from a part, with their
        ``names`` and ``families``.
    :param parts: ``structures_000`` and ``labels_000`` and so on, the structures of a part as one structure or as a
        set.
    :returns: ``structures`` and ``labels``, in the order of the parts.
    :raises DatasetError: the labels come from different engines, versions or parameters.
    """
    structures, labels = [], []
    for number, part in enumerate(rows['parts']):
        found = structure_set(parts[f'{STRUCTURES}_{number:03d}'])
        position = {digest: row for row, digest in reversed(list(enumerate(found.hashes.tolist())))}
        chosen = found.select(np.array([position[digest] for digest in part['hashes']], dtype=np.int64))
        named = {key: np.array(part[key], dtype=str) for key in ('names', 'families')}
        structures.append(StructureSet.from_arrays(chosen.to_arrays() | named))
        made = parts[f'{LABELS}_{number:03d}'].labels
        labels.append(made.select(np.flatnonzero(np.isin(made.hashes, part['hashes']))))
    return {
        STRUCTURES: StructureSetData(StructureSet.concatenate(structures)),
        LABELS: LabelSetData(LabelSet.concatenate(labels)),
    }


def structure_set(node: orm.StructureData | StructureSetData) -> StructureSet:
    """Return the structures of a node with one structure or many."""
    if isinstance(node, StructureSetData):
        return node.structures
    return StructureSet.from_structures([structure_of_node(node)])


def structure_of_node(node: orm.StructureData) -> Structure:
    """Return the structure of AiiDA's node for one."""
    numbers = {kind.name: ATOMIC_NUMBERS[kind.symbol] for kind in node.kinds}
    return Structure(
        numbers=np.array([numbers[site.kind_name] for site in node.sites], dtype=np.uint8),
        positions=np.array([site.position for site in node.sites], dtype=np.float64),
        cell=np.array(node.cell, dtype=np.float64),
        pbc=np.array(node.pbc, dtype=bool),
    )


def node_of_structure(structure: Structure, label: str = '') -> orm.StructureData:
    """Return AiiDA's node for one structure; the kinds are the elements, in order of occurrence."""
    node = orm.StructureData(cell=structure.cell.tolist(), pbc=structure.pbc.tolist(), label=label)
    for number, position in zip(structure.numbers, structure.positions, strict=True):
        node.append_atom(symbols=SYMBOLS[number], position=position.tolist())
    return node


def manifest(runs: list[dict[str, Any]], vacuum_ang: float | None, **further: Any) -> orm.Dict:
    """Return the input ``runs`` of :func:`import_siesta_runs`; ``further`` keys are read by similar functions."""
    return orm.Dict({'runs': runs, 'vacuum_ang': vacuum_ang, **further})
