"""Task ``density_predict`` of the worker: densities of structures, and their errors if they are known."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from aiida_nanoml.densities.density import write_density
from aiida_nanoml.densities.resampling import mesh_of_spacing
from aiida_nanoml.engines.label_set import LabelSource
from aiida_nanoml.errors import DensityError
from aiida_nanoml.learning.density.model_files import load_density_model
from aiida_nanoml.learning.density.network import metrics_of
from aiida_nanoml.learning.density.plots import plot_density_maps
from aiida_nanoml.learning.plot_style import save_figure
from aiida_nanoml.structures import StructureSet, place
from aiida_nanoml.worker.densities import DensityFiles, Metrics, columns_of, mean_metrics
from aiida_nanoml.worker.files import read_arrays, read_job, write_arrays, written_in_one_step
from aiida_nanoml.worker.schemas import (
    DENSITIES_FOLDER,
    FIGURES_FOLDER,
    MODEL_FOLDER,
    PREDICTED_FOLDER,
    PREDICTED_STRUCTURES_FILE,
    RESULTS_FILE,
    STRUCTURES_FILE,
    DensityPredictJob,
    Report,
    density_file,
)

DRAWN = 10
"""Densities that are drawn; the others are there to be drawn later."""


def density_predict(folder: Path, progress: Callable[[int, int], None], threads: int) -> Report:
    """Predict the densities of a job folder.

    :param folder: holds ``job.json``, ``model/`` and ``structures.npz``, where they are known ``densities/``, too.
    :param progress: called with the number of finished structures and of all.
    :param threads: cores that are used.
    :returns: the report, with mean metrics where densities are known; those of each are in ``results.npz``. Predicted
        densities are in ``predicted/``, their structures in ``predicted_structures.npz``.
    :raises NanomlError: the job, the model or a structure cannot be used.
    """
    job = read_job(folder, DensityPredictJob)
    network, card = load_density_model(folder / MODEL_FOLDER)
    given = StructureSet.from_arrays(read_arrays(folder / STRUCTURES_FILE))
    known = DensityFiles(given, folder / DENSITIES_FOLDER) if job.known else None
    spacing = card.source_spacing_ang if job.spacing_ang is None else job.spacing_ang
    structures = given if job.known else _placed(given, card.vacuum_ang if job.vacuum_ang is None else job.vacuum_ang)
    answers, figures = folder / PREDICTED_FOLDER, folder / FIGURES_FOLDER
    answers.mkdir(exist_ok=True)
    figures.mkdir(exist_ok=True)
    learnt = (
        f'predicted by the density network {card.fingerprint[:8]}, learnt from {LabelSource.from_dict(card.labels)}'
    )
    rows: list[Metrics] = []
    defects, seconds = np.empty(len(structures)), np.empty(len(structures))
    for row, structure in enumerate(structures):
        reference = None if known is None else known[row]
        shape = mesh_of_spacing(structure.cell, spacing) if reference is None else reference.shape
        start = time.perf_counter()
        predicted = network.predict(structure, shape, threads)
        seconds[row] = time.perf_counter() - start
        defects[row] = predicted.charge_defect
        with written_in_one_step(answers / density_file(row)) as handle:
            write_density(handle, predicted.density)
        if reference is not None:
            rows.append(dict(metrics_of(reference, predicted)))
        if row < DRAWN:
            name = str(structures.names[row]) or f'structure {row}'
            path = figures / f'density_{row:02d}.png'
            if reference is None:
                drawn = plot_density_maps(predicted.density, name, learnt)
            else:
                drawn = plot_density_maps(reference, name, learnt, predicted.density.total - reference.free)
            save_figure(drawn, path)
        progress(row + 1, len(structures))
    write_arrays(folder / PREDICTED_STRUCTURES_FILE, structures.to_arrays())
    columns = {'charge_defect': defects, 'seconds': seconds} | (columns_of(rows) if rows else {})
    write_arrays(folder / RESULTS_FILE, columns)
    return Report(
        status='ok',
        content={
            'fingerprint': card.fingerprint,
            'metrics': mean_metrics(rows) if rows else {},
            'learnt_from': int(np.isin(given.hashes, card.hashes).sum()),
        },
    )


def _placed(structures: StructureSet, vacuum_ang: float | None) -> StructureSet:
    """Put isolated structures into boxes."""
    if vacuum_ang is None and not structures.pbc.all(axis=1).all():
        raise DensityError(
            'isolated structures need a box, and the model learnt from periodic ones only: give the vacuum'
        )
    placed = [place(structure, vacuum_ang or 0.0) for structure in structures]
    return StructureSet.from_structures(placed, structures.names, structures.families)
