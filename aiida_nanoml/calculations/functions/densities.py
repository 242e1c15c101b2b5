"""Charge densities: merge, divide, and import those of finished SIESTA runs."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from aiida import orm

from aiida_nanoml.calculations.functions.base import calculation_function
from aiida_nanoml.calculations.functions.siesta import PSEUDO
from aiida_nanoml.data.densities import DensitySetData
from aiida_nanoml.densities import Density
from aiida_nanoml.densities.thinning import thin
from aiida_nanoml.engines.label_set import LabelSource
from aiida_nanoml.engines.siesta.folder import open_run_folder, read_finished_run, read_run_density, source_of_run
from aiida_nanoml.errors import DatasetError, DensityError, EvaluationError
from aiida_nanoml.structures import StructureSet


@calculation_function
def merge_densities(**sets: DensitySetData) -> DensitySetData:
    """Join densities in the order of their link labels; of densities of one structure, the first counts.

    :raises DensityError: the sets come from different engines, versions, protocols or models.
    """
    return DensitySetData.joined([sets[key] for key in sorted(sets)])


@calculation_function
def divide_densities(densities: DensitySetData, n_test: orm.Int, seed: orm.Int) -> dict[str, DensitySetData]:
    """Divide densities at random into training and test densities.

    :param n_test: number of test densities.
    :param seed: random seed of the choice.
    :returns: ``train`` and ``test``, each in the order of the densities.
    :raises DensityError: one of the two would be empty.
    """
    n, wanted = densities.n_densities, n_test.value
    if not 0 < wanted < n:
        raise DensityError(f'{wanted} test densities of {n} leave one of the two parts empty')
    order = np.random.Generator(np.random.PCG64(seed.value)).permutation(n)
    rows = {'test': sorted(order[:wanted].tolist()), 'train': sorted(order[wanted:].tolist())}
    return {part: densities.select(chosen) for part, chosen in rows.items()}


@calculation_function
def import_siesta_densities(
    remote_folder: orm.RemoteData, runs: orm.Dict, **pseudos: orm.SinglefileData
) -> DensitySetData:
    """Read the densities of finished runs from their folders.

    :param remote_folder: the folder below which the runs lie, on this machine.
    :param runs: as of :func:`~aiida_nanoml.calculations.functions.siesta.import_siesta_runs`; ``files`` has the MD5 of
        the two mesh files, too. With ``spacing_ang``, densities are kept on a coarse mesh of this spacing (Å).
    :param pseudos: pseudopotential files of the runs, as ``pseudo_C`` for each element.
    :returns: one density a run, in the order of the runs.
    :raises DatasetError: a folder has changed or cannot be read, or the runs do not have the same parameters.
    :raises DensityError: a density cannot be read or does not belong to its run.
    """
    root = Path(remote_folder.get_remote_path())
    md5 = {name.removeprefix(PSEUDO): node.md5 for name, node in pseudos.items()}
    folders, structures, sources = [], [], []
    for run in runs['runs']:
        try:
            folder = open_run_folder(root / run['folder'], root, run.get('input', ''))
            if folder.files() | folder.density_files() != run['files']:
                raise DatasetError(f'{run["folder"]} is not what it was when the import began')
            finished = read_finished_run(folder, runs['vacuum_ang'])
        except EvaluationError as error:
            raise DatasetError(f'{run["folder"]}: {error.message}') from error
        folders.append(folder)
        structures.append(finished.structure)
        sources.append(source_of_run(finished, md5))
    names, families = ([run[key] for run in runs['runs']] for key in ('name', 'family'))
    imported = StructureSet.from_structures(structures, names=names, families=families)
    densities: Iterable[Density] = map(read_run_density, folders, structures)
    spacing = runs.get_dict().get('spacing_ang')
    if spacing is not None:
        densities = (thin(density, spacing) for density in densities)
    return DensitySetData(imported, densities, functools.reduce(LabelSource.joined, sources))
