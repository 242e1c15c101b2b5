"""Compare SIESTA runs that begin with a given density with runs that begin with free atoms."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from aiida import orm
from numpy.typing import ArrayLike

from aiida_nanoml.calculations.base import validate_rows
from aiida_nanoml.calculations.functions.base import calculation_function
from aiida_nanoml.calculations.functions.siesta import node_of_structure
from aiida_nanoml.data.densities import DensitySetData
from aiida_nanoml.engines.siesta.output import Run, read_run
from aiida_nanoml.errors import DensityError, EvaluationError

STARTS = ('atoms', 'density')
"""Starts of a self-consistency: free atoms, or a given density."""


@calculation_function
def box_structures(densities: DensitySetData, rows: orm.List) -> dict[str, orm.StructureData]:
    """Return structures of a set of densities, each in the box of its density.

    :param densities: the set.
    :param rows: indices of the structures.
    :returns: ``row_0003`` and so on, by row.
    :raises DensityError: a row does not exist.
    """
    structures = densities.structures
    text = validate_rows(rows.get_list(), len(structures))
    if text is not None:
        raise DensityError(text)
    return {row_name(row): node_of_structure(structures[row], str(structures.names[row])) for row in rows}


@calculation_function
def compare_starts(densities: DensitySetData, **runs: orm.FolderData) -> dict[str, orm.ArrayData | orm.Dict]:
    """Compare runs that began with free atoms with runs that began with a density.

    :param densities: the densities; the table has the order of their rows.
    :param runs: retrieved files of each run, as ``row_0003_atoms`` and ``row_0003_density``.
    :returns: ``table``, for each structure ``rows``, ``names``, ``hashes`` and, of both starts, ``iterations_…``,
        ``scf_s_…`` and ``wall_s_…``, the seconds of the self-consistency and of the whole run, and
        ``energy_difference_ev``, the energy after the given density less that after free atoms; and ``summary``, see
        :func:`summarise_starts`.
    :raises DensityError: a run is missing or cannot be read.
    """
    rows = [row for row in range(densities.n_densities) if f'{row_name(row)}_{STARTS[0]}' in runs]
    if sorted(runs) != sorted(f'{row_name(row)}_{start}' for row in rows for start in STARTS):
        raise DensityError(f'each structure needs a run from {" and one from ".join(STARTS)}; got {sorted(runs)}')
    found = {
        start: [_read(runs[f'{row_name(row)}_{start}'], f'row {row} from {start}') for row in rows] for start in STARTS
    }
    structures = densities.structures
    columns: dict[str, Any] = {'rows': rows, 'names': structures.names[rows], 'hashes': structures.hashes[rows]}
    for start, results in found.items():
        columns[f'iterations_{start}'] = [run.n_iterations for run in results]
        columns[f'scf_s_{start}'] = [run.scf_s for run in results]
        columns[f'wall_s_{start}'] = [run.wall_s for run in results]
    energies = [np.array([run.label.energy_ev for run in found[start]]) for start in STARTS]
    columns['energy_difference_ev'] = energies[1] - energies[0]
    table = orm.ArrayData()
    for name, column in columns.items():
        table.set_array(name, np.asarray(column))
    return {'table': table, 'summary': orm.Dict(summarise_starts(columns))}


def summarise_starts(columns: Mapping[str, ArrayLike]) -> dict[str, float | int | None]:
    """Return sums and shares of what a given density saves.

    :param columns: those of the table of :func:`compare_starts`, shape (n,) each.
    :returns: ``n_structures``; ``iterations_atoms`` and ``iterations_density``, sums over the structures; the shares
        saved of these, ``iterations_saved``, of the seconds of the self-consistency, ``scf_s_saved``, and of those of
        the whole run, ``wall_s_saved``; ``iterations_saved_least``, the smallest share of a structure; and
        ``energy_difference_max_ev``. None if SIESTA wrote no times.
    """
    counts = {start: np.asarray(columns[f'iterations_{start}']) for start in STARTS}
    summary: dict[str, float | int | None] = {'n_structures': len(counts['atoms'])}
    summary |= {f'iterations_{start}': int(count.sum()) for start, count in counts.items()}
    for name in ('iterations', 'scf_s', 'wall_s'):
        atoms, density = (float(np.sum(columns[f'{name}_{start}'])) for start in STARTS)
        summary[f'{name}_saved'] = 1 - density / atoms if np.isfinite(density) and atoms > 0 else None
    summary['iterations_saved_least'] = float(np.min(1 - counts['density'] / counts['atoms']))
    summary['energy_difference_max_ev'] = float(np.abs(columns['energy_difference_ev']).max())
    return summary


def row_name(row: int) -> str:
    """Return the link label of a row."""
    return f'row_{row:04d}'


def _read(folder: orm.FolderData, what: str) -> Run:
    def read(name: str) -> str | None:
        try:
            content: bytes = folder.base.repository.get_object_content(name, mode='rb')
        except FileNotFoundError:
            return None
        return content.decode('utf-8', errors='replace')

    try:
        return read_run(read)
    except EvaluationError as error:
        raise DensityError(f'the run of {what} cannot be read: {error.message}') from error
