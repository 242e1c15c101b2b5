"""Train a model on a data set and judge it: what trainings, cross-validations and studies have in common."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from aiida_nanoml.errors import DatasetError
from aiida_nanoml.learning.arrays import Floats
from aiida_nanoml.learning.dataset import Dataset, model_inputs
from aiida_nanoml.learning.metrics import regression_metrics
from aiida_nanoml.learning.registry import Model
from aiida_nanoml.learning.splits import SPLITS, fold_rows

HELD_OUT = 'held-out'
"""Part of a data set that stands for all rows, each predicted by a model that did not see it."""

Metrics = dict[str, dict[str, float | int | None]]
EpochProgress = Callable[[int, int], None]
"""Called after every epoch with the epoch (from 1) and the number of epochs."""


def fit_model(model: Model, dataset: Dataset, progress: EpochProgress | None = None) -> Model:
    """Train on the rows of the part ``train``; those of ``validation`` are watched.

    :param model: untrained, from :func:`~aiida_nanoml.learning.registry.make_model`.
    :param dataset: with a split. With a baseline, the model learns the correction to it.
    :param progress: called after every epoch of a network.
    :returns: the same model.
    :raises DatasetError: no training rows, or all of them have one target.
    :raises ModelError: hyperparameters that do not fit each other or the data.
    """
    X_train, y_train = dataset.part('train')
    if len(X_train) == 0:
        raise DatasetError('the data set has no training rows: split it before training')
    if np.ptp(y_train) == 0:
        what = 'gap' if dataset.baseline is None else 'correction to the baseline'
        raise DatasetError(
            f'all {len(y_train)} training rows have the same {what}, {y_train[0]:g} eV: there is nothing to learn. '
            'Check the labels, or take structures that differ.'
        )
    X_validation, y_validation = dataset.part('validation')
    model.fit(
        X_train,
        y_train,
        (X_validation, y_validation) if len(X_validation) else None,
        progress=None if progress is None else lambda epoch, epochs, _: progress(epoch, epochs),
    )
    return model


def predict_with_spread(model: Model, features: Floats, baseline: Floats | None = None) -> tuple[Floats, Floats]:
    """Predict and give the spread over the members of an ensemble.

    :param features: shape (n, F).
    :param baseline: shape (n,), eV, of a model that learnt the correction to it.
    :returns: values (n,) in eV, baseline plus correction, and their spread (n,) in eV, NaN for a single model.
    """
    values, spread = model.predict(model_inputs(features, baseline), return_std=True)
    return (values if baseline is None else baseline + values), spread


def predict_held_out(
    make: Callable[[], Model], dataset: Dataset, folds: int, progress: EpochProgress | None = None
) -> tuple[Floats, Floats]:
    """Predict each row with a model that did not see it: of the folds one is predicted and the next one watched.

    :param make: gives an untrained model for each fold.
    :param dataset: its split does not matter.
    :param folds: at least 3.
    :returns: values (n,) and their spread (n,), eV.
    :raises DatasetError: fewer distinct structures than folds.
    """
    fold = fold_rows(dataset.hashes, folds, strata=dataset.families)
    values, spread = np.empty(len(dataset)), np.empty(len(dataset))
    for number in range(folds):
        parts = np.full(len(dataset), 'train', dtype='<U10')
        parts[fold == (number + 1) % folds] = 'validation'
        parts[fold == number] = 'test'
        model = fit_model(make(), dataset.with_split(parts), progress)
        rows = fold == number
        baseline = None if dataset.baseline is None else dataset.baseline[rows]
        values[rows], spread[rows] = predict_with_spread(model, dataset.X[rows], baseline)
    return values, spread


def metrics_by_part(dataset: Dataset, values: Floats) -> Metrics:
    """Judge predictions by part of the split, and by part and family (``'test/h'``).

    :param dataset: with a split.
    :param values: shape (N,), predictions for its rows, eV.
    :returns: :func:`~aiida_nanoml.learning.metrics.regression_metrics` by part. Of a data set with a baseline also
        those of the baseline alone (``'baseline/test'``).
    """
    judged = {'': values} | ({} if dataset.baseline is None else {'baseline/': dataset.baseline})
    metrics: Metrics = {}
    for prefix, found in judged.items():
        for part in (*SPLITS, HELD_OUT):
            rows = dataset.split == part
            if rows.any():
                metrics[f'{prefix}{part}'] = regression_metrics(dataset.y[rows], found[rows])
            for family in np.unique(dataset.families[rows]):
                members = rows & (dataset.families == family)
                if family:
                    metrics[f'{prefix}{part}/{family}'] = regression_metrics(dataset.y[members], found[members])
    return metrics
