"""``nanoml-worker train``: fit a model, judge it on every part of the split, and draw what happened."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from aiida_nanoml.engines.label_set import LabelSource
from aiida_nanoml.errors import DatasetError
from aiida_nanoml.learning.arrays import Floats
from aiida_nanoml.learning.dataset import Dataset
from aiida_nanoml.learning.distance import TrainingDomain
from aiida_nanoml.learning.gap_network import GapNetwork
from aiida_nanoml.learning.model_files import save_model
from aiida_nanoml.learning.plots import plot_learning_curve, plot_parity
from aiida_nanoml.learning.registry import make_model
from aiida_nanoml.learning.splits import SPLITS
from aiida_nanoml.learning.training import HELD_OUT, fit_model, metrics_by_part, predict_held_out, predict_with_spread
from aiida_nanoml.worker.files import read_arrays, read_job, write_arrays
from aiida_nanoml.worker.schemas import (
    DATASET_FILE,
    LEARNING_CURVE_FILE,
    MODEL_FOLDER,
    PARITY_FILE,
    RESULTS_FILE,
    Report,
    TrainJob,
)


def train(folder: Path, progress: Callable[[int, int], None]) -> Report:
    """Train the model of a job folder.

    :param folder: holds ``job.json`` and ``dataset.npz``.
    :param progress: called with the epoch and the number of epochs.
    :returns: the report, with the metrics (eV) by part and by part and family (``'test/h'``). With folds, those of the
        cross-validation are ``'held-out'``. Of a correction, the metrics of the baseline alone stand beside them
        (``'baseline/test'``).
    :raises NanomlError: the job, the data set or the hyperparameters cannot be used.
    """
    job = read_job(folder, TrainJob)
    dataset = Dataset.from_arrays(read_arrays(folder / DATASET_FILE), tuple(job.feature_names))
    if (job.baseline is None) != (dataset.baseline is None):
        raise DatasetError('a baseline is a column of the data set and a source in the job: only one of them is there')
    model = fit_model(make_model(job.kind, **job.hyperparameters), dataset, progress)
    values, spread = predict_with_spread(model, dataset.X, dataset.baseline)
    domain = TrainingDomain().fit(dataset.part('train')[0])
    metrics = metrics_by_part(dataset, values)
    if job.folds is not None:
        everything = dataset.with_split(np.full(len(dataset), HELD_OUT))
        held_out, _ = predict_held_out(
            lambda: make_model(job.kind, **job.hyperparameters), dataset, job.folds, progress
        )
        metrics |= metrics_by_part(everything, held_out)
    card = {
        'kind': job.kind,
        'feature_names': list(dataset.input_names),
        'descriptor': job.descriptor,
        'labels': job.labels,
        'baseline': job.baseline,
        'metrics': metrics,
    }
    saved = save_model(model, folder / MODEL_FOLDER, card, domain)
    parts, baseline = parity_parts(dataset, values)
    title = parity_title(job.kind, job.baseline)
    plot_parity(folder / PARITY_FILE, parts, title, str(LabelSource.from_dict(job.labels)), baseline)
    history = {name: np.array(losses) for name, losses in model.history_.items()}
    if isinstance(model, GapNetwork):
        plot_learning_curve(
            folder / LEARNING_CURVE_FILE, model.history_, f'Model {job.kind}', loss_label=model.loss_label
        )
    write_arrays(
        folder / RESULTS_FILE,
        {'value': values, 'std': spread, 'distance': domain.distance(dataset.inputs)}
        | ({} if dataset.baseline is None else {'baseline': dataset.baseline})
        | {f'history_{name}': losses for name, losses in history.items()},
    )
    return Report(
        status='ok',
        content={'metrics': metrics, 'fingerprint': saved.fingerprint, 'best_epoch': saved.best_epoch},
    )


def parity_title(kind: str, baseline: Mapping[str, Any] | None) -> str:
    """What a parity plot of a model is called: it must say what the model corrects.

    :param kind: kind of the model.
    :param baseline: source of the baseline, if the model has one.
    """
    correction = '' if baseline is None else f'\ncorrection to {LabelSource.from_dict(baseline)}'
    return f'Energy gap, model {kind}{correction}'


def parity_parts(
    dataset: Dataset, values: Floats
) -> tuple[dict[str, tuple[Floats, Floats]], tuple[Floats, Floats] | None]:
    """Known and predicted gaps by part of the split.

    :param values: shape (N,), predictions for the rows of the data set, eV.
    :returns: the parts, and the known gaps and the baseline of the last of them, if there is a baseline.
    """
    masks = {name: dataset.split == name for name in SPLITS if name in dataset.split}
    masks = masks or {'rows': np.ones(len(dataset), dtype=bool)}
    parts = {name: (dataset.y[rows], values[rows]) for name, rows in masks.items()}
    last = list(masks.values())[-1]
    return parts, None if dataset.baseline is None else (dataset.y[last], dataset.baseline[last])
