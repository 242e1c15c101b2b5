"""Task ``density_train`` of the worker: fit a density network, evaluate it, and draw figures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from aiida_nanoml.densities.density import Density
from aiida_nanoml.engines.label_set import LabelSource
from aiida_nanoml.errors import DatasetError
from aiida_nanoml.learning.density.model_files import save_density_model
from aiida_nanoml.learning.density.network import DensityNetwork, PredictedDensity, metrics_of
from aiida_nanoml.learning.density.plots import plot_density_maps, plot_nmae
from aiida_nanoml.learning.plot_style import save_figure
from aiida_nanoml.learning.plots import plot_learning_curve
from aiida_nanoml.structures import StructureSet
from aiida_nanoml.structures.vacuum import measure_vacuum
from aiida_nanoml.worker.densities import DensityFiles, Metrics, columns_of, mean_metrics
from aiida_nanoml.worker.files import read_arrays, read_job, write_arrays
from aiida_nanoml.worker.schemas import (
    DENSITIES_FOLDER,
    FIGURES_FOLDER,
    LEARNING_CURVE_FILE,
    MODEL_FOLDER,
    RESULTS_FILE,
    STRUCTURES_FILE,
    TEST_DENSITIES_FOLDER,
    TEST_STRUCTURES_FILE,
    DensityTrainJob,
    Report,
)

EVALUATED = 20
"""Training densities that the network is evaluated on; of the test densities it is all of them."""

NMAE_FILE = 'nmae.png'
MAPS_FILE = 'worst_density.png'


def density_train(folder: Path, progress: Callable[[int, int], None], threads: int) -> Report:
    """Train the density network of a job folder.

    :param folder: holds ``job.json``, ``structures.npz`` and ``densities/``; to test on, ``test_structures.npz`` and
        ``test_densities/``.
    :param progress: called with the epoch and the number of epochs.
    :param threads: cores that predictions use.
    :returns: the report, with mean metrics by part; those of each density are in ``results.npz``.
    :raises NanomlError: the job, the settings or a density cannot be used, or a structure is in both parts.
    """
    job = read_job(folder, DensityTrainJob)
    source = LabelSource.from_dict(job.labels)
    parts = {'train': _files(folder, STRUCTURES_FILE, DENSITIES_FOLDER)}
    if job.tested:
        parts['test'] = _files(folder, TEST_STRUCTURES_FILE, TEST_DENSITIES_FOLDER)
        check_unseen(parts['train'].structures, parts['test'].structures)
    network = DensityNetwork(**job.settings).fit(parts['train'], parts.get('test'), progress)
    rows: list[Metrics] = []
    labels: list[tuple[str, str]] = []
    spacings = []
    worst: tuple[float, str, Density, PredictedDensity] | None = None
    for part, files in parts.items():
        for row in _rows_to_evaluate(part, len(files)):
            known = files[row]
            predicted = network.predict(known.structure, known.shape, threads)
            found = dict(metrics_of(known, predicted))
            name = str(files.structures.names[row]) or f'{part} {row}'
            rows.append(found)
            labels.append((part, name))
            if part == 'train':
                spacings.append(known.spacing.mean())
            if part == list(parts)[-1] and (worst is None or found['nmae'] > worst[0]):
                worst = found['nmae'], name, known, predicted
    metrics = {
        part: mean_metrics(found for found, (of, _) in zip(rows, labels, strict=True) if of == part) for part in parts
    }
    card = {
        'labels': job.labels,
        'hashes': parts['train'].structures.hashes.tolist(),
        'source_spacing_ang': float(np.mean(spacings)),
        'vacuum_ang': smallest_vacuum(parts['train'].structures),
        'metrics': metrics,
    }
    saved = save_density_model(network, folder / MODEL_FOLDER, card)
    figures = folder / FIGURES_FOLDER
    figures.mkdir(exist_ok=True)
    title = f'Density network {network.settings.group}'
    losses = plot_learning_curve(network.history_, title, 'Mean absolute error / mean absolute difference')
    save_figure(losses, figures / LEARNING_CURVE_FILE)
    names = [name for _, name in labels]
    errors = plot_nmae(
        names,
        [found['nmae'] for found in rows],
        [found['nmae_free'] for found in rows],
        [part for part, _ in labels],
        title,
        str(source),
    )
    save_figure(errors, figures / NMAE_FILE)
    if worst is not None:
        _, name, known, predicted = worst
        # Against the free atoms of the engine, so that an error of the fitted ones is seen, too.
        difference = predicted.density.total - known.free
        save_figure(plot_density_maps(known, f'{title}: {name}', str(source), difference), figures / MAPS_FILE)
    history = {f'history_{name}': np.array(losses) for name, losses in network.history_.items()}
    columns = columns_of(rows) | {'parts': np.array([part for part, _ in labels]), 'names': np.array(names)}
    write_arrays(folder / RESULTS_FILE, columns | history)
    return Report(status='ok', content={'metrics': metrics, 'fingerprint': saved.fingerprint})


def check_unseen(training: StructureSet, test: StructureSet) -> None:
    """Check that no structure is both learnt from and tested on.

    :raises DatasetError: there is one.
    """
    shared = np.flatnonzero(np.isin(test.hashes, training.hashes))
    if len(shared):
        name = str(test.names[shared[0]]) or f'row {shared[0]}'
        raise DatasetError(
            f'{len(shared)} of {len(test)} structures to test on are also learnt from, the first is {name}: leave them '
            'out of one of the two'
        )


def smallest_vacuum(structures: StructureSet) -> float | None:
    """Return the smallest distance (Å) between the images of isolated structures; None: there are none."""
    distances = [measure_vacuum(structure).min() for structure in structures if not structure.pbc.any()]
    return round(float(min(distances)), 6) if distances else None


def _files(folder: Path, structures: str, densities: str) -> DensityFiles:
    return DensityFiles(StructureSet.from_arrays(read_arrays(folder / structures)), folder / densities)


def _rows_to_evaluate(part: str, n: int) -> list[int]:
    if part != 'train' or n <= EVALUATED:
        return list(range(n))
    return [round(row) for row in np.linspace(0, n - 1, EVALUATED)]
