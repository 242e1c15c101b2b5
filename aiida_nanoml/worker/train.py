"""Task ``train`` of the worker: fit a model, evaluate it on every part of the split, and draw figures."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aiida_nanoml.engines.label_set import LabelSource
from aiida_nanoml.errors import DatasetError
from aiida_nanoml.learning.arrays import Floats
from aiida_nanoml.learning.dataset import Dataset
from aiida_nanoml.learning.model_files import save_model
from aiida_nanoml.learning.plot_style import save_figure
from aiida_nanoml.learning.plots import plot_calibration, plot_learning_curve, plot_parity
from aiida_nanoml.learning.registry import make_model
from aiida_nanoml.learning.splits import SPLITS, check_leakage
from aiida_nanoml.learning.targets import Target, find_target
from aiida_nanoml.learning.training import (
    HELD_OUT,
    fit_model,
    metrics_by_part,
    predict_columns,
    predict_held_out,
    training_domain,
)
from aiida_nanoml.learning.uncertainty import Calibration
from aiida_nanoml.worker.files import read_arrays, read_job, write_arrays
from aiida_nanoml.worker.schemas import (
    CALIBRATION_FILE,
    DATASET_FILE,
    LEARNING_CURVE_FILE,
    LOSSES_FILE,
    MODEL_FOLDER,
    RESULTS_FILE,
    Report,
    TrainJob,
    parity_file,
)


def train(folder: Path, progress: Callable[[int, int], None]) -> Report:
    """Train the model of a job folder.

    :param folder: holds ``job.json`` and ``dataset.npz``.
    :param progress: called with the epoch and the number of epochs; with folds, those of all trainings are one series.
    :returns: the report, with the metrics by part and by part and family (``'test/h'``). With folds, those of the
        cross-validation are ``'held-out'``. Of a correction, those of the baseline alone are added
        (``'baseline/test'``), and so do those of other targets (``'pressure/test'``).
    :raises NanomlError: the job, the data set or the hyperparameters cannot be used.
    """
    job = read_job(folder, TrainJob)
    dataset = Dataset.from_arrays(read_arrays(folder / DATASET_FILE), tuple(job.feature_names), job.target)
    target = find_target(job.target)
    if (job.baseline is None) != (dataset.baseline is None):
        raise DatasetError('a baseline is a column of the data set and a source in the job: only one of them is there')
    if not job.allow_leakage:
        check_leakage(dataset.hashes, dataset.split, dataset.names)
    trainings = 1 + (job.folds or 0)
    with (folder / LOSSES_FILE).open('w', encoding='utf-8') as losses:
        model = fit_model(
            make_model(job.kind, **job.hyperparameters),
            dataset,
            lambda epoch, epochs: progress(epoch, epochs * trainings),
            lambda found: print(json.dumps(dict(found)), file=losses, flush=True),
        )
    domain = training_domain(dataset)
    raw = predict_columns(model, domain, None, dataset.X, dataset.baseline, tuple(dataset.others))
    held_out: dict[str, Any] = {}
    if job.folds is None:
        rows = dataset.split == 'validation'
        calibration = Calibration.fit(dataset.y[rows], raw['value'][rows], raw['spread'][rows], 'validation')
    else:
        # More rows than the validation, and none of them decided when a training ends.
        held_out, calibration = predict_held_out(
            lambda: make_model(job.kind, **job.hyperparameters),
            dataset,
            job.folds,
            lambda number, epoch, epochs: progress((1 + number) * epochs + epoch, epochs * trainings),
        )
    columns = raw if calibration is None else raw | {'std': calibration.std(raw['value'], raw['spread'])}
    metrics = metrics_by_part(dataset, columns['value'], columns, calibration)
    if held_out:
        everything = dataset.with_split(np.full(len(dataset), HELD_OUT))
        metrics |= metrics_by_part(everything, held_out['value'], held_out, calibration)
    card = {
        'kind': job.kind,
        'target': target.name,
        'unit': target.unit,
        'others': {name: find_target(name).unit for name in dataset.others},
        'feature_names': list(dataset.input_names),
        'descriptor': job.descriptor,
        'labels': job.labels,
        'baseline': job.baseline,
        'allow_leakage': job.allow_leakage,
        'metrics': metrics,
        'calibration': calibration,
    }
    saved = save_model(model, folder / MODEL_FOLDER, card, domain)
    parts, baseline = parity_parts(dataset, columns['value'])
    title, source = parity_title(target, job.kind, job.baseline), str(LabelSource.from_dict(job.labels))
    save_figure(plot_parity(parts, title, source, baseline, target), folder / parity_file(target))
    if calibration is not None:
        parts_by_name = calibration_parts(dataset, columns)
        drawn = plot_calibration(parts_by_name, calibration, title, source, target.unit)
        save_figure(drawn, folder / CALIBRATION_FILE)
    history = {name: np.array(losses) for name, losses in model.history_.items()}
    if model.history_:
        drawn = plot_learning_curve(model.history_, f'Model {job.kind}', loss_label=model.loss_label(target.unit))
        save_figure(drawn, folder / LEARNING_CURVE_FILE)
    write_arrays(
        folder / RESULTS_FILE,
        columns
        | ({} if dataset.baseline is None else {'baseline': dataset.baseline})
        | {f'history_{name}': losses for name, losses in history.items()},
    )
    return Report(
        status='ok',
        content={'metrics': metrics, 'fingerprint': saved.fingerprint, 'best_epoch': saved.best_epoch},
    )


def parity_title(target: Target, kind: str, baseline: Mapping[str, Any] | None) -> str:
    """Return the title of a parity plot, with the baseline that the model corrects.

    :param target: what the model predicts.
    :param kind: kind of the model.
    :param baseline: source of the baseline, if the model has one.
    """
    correction = '' if baseline is None else f'\ncorrection to {LabelSource.from_dict(baseline)}'
    return f'{target.title}, model {kind}{correction}'


def parity_parts(
    dataset: Dataset, values: Floats
) -> tuple[dict[str, tuple[Floats, Floats]], tuple[Floats, Floats] | None]:
    """Return known and predicted values by part of the split.

    :param values: shape (N,), predictions for the rows of the data set.
    :returns: the parts, and the known values and the baseline of the last of them, if there is a baseline.
    """
    masks = {name: dataset.split == name for name in SPLITS if name in dataset.split}
    masks = masks or {'rows': np.ones(len(dataset), dtype=bool)}
    parts = {name: (dataset.y[rows], values[rows]) for name, rows in masks.items()}
    last = list(masks.values())[-1]
    return parts, None if dataset.baseline is None else (dataset.y[last], dataset.baseline[last])


def calibration_parts(dataset: Dataset, columns: Mapping[str, NDArray[Any]]) -> dict[str, tuple[Floats, Floats]]:
    """Return standard deviations and errors by part of the split, without the training part.

    :param columns: ``value`` and ``std`` of the rows of the data set, each (N,).
    """
    errors = np.abs(columns['value'] - dataset.y)
    masks = {name: dataset.split == name for name in SPLITS if name != 'train' and name in dataset.split}
    masks = masks or {'rows': np.ones(len(dataset), dtype=bool)}
    return {name: (columns['std'][rows], errors[rows]) for name, rows in masks.items()}
