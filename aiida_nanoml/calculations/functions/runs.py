"""Finished runs of programs other than SIESTA: import many at once."""

from __future__ import annotations

import functools
from pathlib import Path

from aiida import orm

from aiida_nanoml.calculations.functions.base import calculation_function
from aiida_nanoml.calculations.functions.siesta import LABELS, STRUCTURES
from aiida_nanoml.data.labels import LabelSetData
from aiida_nanoml.data.structures import StructureSetData
from aiida_nanoml.engines.label_set import LabelSource
from aiida_nanoml.engines.run_search import read_once, source_of
from aiida_nanoml.errors import DatasetError, EvaluationError
from aiida_nanoml.structures import StructureSet
from aiida_nanoml.worker.labelled_rows import LabelledRow, tabulate


@calculation_function
def import_runs(remote_folder: orm.RemoteData, runs: orm.Dict, **pseudos: orm.SinglefileData) -> dict[str, orm.Data]:
    """Read the structures and labels of finished runs of one program from their folders.

    :param remote_folder: the folder below which the runs lie, on this machine.
    :param runs: ``engine``; ``runs``, a list of mappings: ``folder`` relative to the remote folder, name ``input`` of
        the output, ``name``, ``family``, ``digest`` and ``files`` (MD5 by name) of the content that is meant; and
        ``vacuum_ang``, the vacuum in the parameters of isolated structures, None for that of each run.
    :param pseudos: pseudopotential files of the runs, as ``pseudo_C``, as far as they are known.
    :returns: ``structures`` and ``labels``, one row a run.
    :raises DatasetError: a folder has changed or cannot be read, or the runs do not have the same parameters.
    """
    root = Path(remote_folder.get_remote_path())
    engine, entries = runs['engine'], runs['runs']
    structures, sources, rows = [], [], {}
    for row, entry in enumerate(entries):
        try:
            run = read_once(engine, root / entry['folder'], entry['input'], root, entry['files'])
        except EvaluationError as error:
            raise DatasetError(f'{entry["folder"]}: {error.message}') from error
        structures.append(run.structure)
        sources.append(source_of(engine, run, runs['vacuum_ang']))
        wall_s = float('nan') if run.wall_s is None else run.wall_s
        rows[row] = LabelledRow.from_label(run.label, wall_s, run.note)
    names, families = ([entry[key] for entry in entries] for key in ('name', 'family'))
    imported = StructureSet.from_structures(structures, names=names, families=families)
    labels = tabulate(functools.reduce(LabelSource.joined, sources), imported, rows)
    return {STRUCTURES: StructureSetData(imported), LABELS: LabelSetData(labels)}
