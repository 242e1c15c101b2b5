"""Training and evaluation of a model on a data set: common to trainings, cross-validations and studies."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aiida_nanoml.errors import DatasetError
from aiida_nanoml.learning.arrays import Floats, as_target_columns
from aiida_nanoml.learning.dataset import COMPANION_VALUE, Dataset, model_inputs
from aiida_nanoml.learning.distance import TrainingDomain
from aiida_nanoml.learning.metrics import regression_metrics
from aiida_nanoml.learning.model import Model
from aiida_nanoml.learning.splits import SPLITS, fold_rows
from aiida_nanoml.learning.targets import find_target
from aiida_nanoml.learning.uncertainty import Calibration, interval_metrics

HELD_OUT = 'held-out'
"""Part of a data set that stands for all rows, each predicted by a model that did not see it."""

Metrics = dict[str, dict[str, float | int | None]]
Columns = dict[str, NDArray[Any]]
EpochProgress = Callable[[int, int], None]
"""Called after every epoch with the epoch (from 1) and the number of epochs."""

FoldProgress = Callable[[int, int, int], None]
"""Called after every epoch with the fold (from 0), the epoch (from 1) and the number of epochs of a fold."""


def fit_model(
    model: Model,
    dataset: Dataset,
    progress: EpochProgress | None = None,
    watch: Callable[[Mapping[str, float]], None] | None = None,
) -> Model:
    """Train on the rows of the part ``train``; those of ``validation`` are watched.

    :param model: untrained, from :func:`~aiida_nanoml.learning.registry.make_model`.
    :param dataset: with a split. With a baseline, the model learns the correction to it.
    :param progress: called after every epoch of a network.
    :param watch: called after every epoch of a network with its losses by name.
    :returns: the same model.
    :raises DatasetError: no training rows, or all of them have the same value of a target.
    :raises ModelError: hyperparameters that do not fit each other or the data.
    """
    X_train, y_train = dataset.part('train')
    if len(X_train) == 0:
        raise DatasetError('the data set has no training rows: split it before training')
    for name, values in zip((dataset.target, *dataset.others), as_target_columns(y_train).T, strict=True):
        if np.ptp(values) == 0:
            target = find_target(name)
            corrects = dataset.baseline is not None and name == dataset.target
            raise DatasetError(
                f'all {len(values)} training rows have the same '
                f'{"correction to the baseline" if corrects else target.noun}, {values[0]:g} {target.unit}: there is '
                'nothing to learn; check the labels, or take structures that differ'
            )
    X_validation, y_validation = dataset.part('validation')

    def after_epoch(epoch: int, epochs: int, losses: Mapping[str, float]) -> None:
        if watch is not None:
            watch(losses)
        if progress is not None:
            progress(epoch, epochs)

    model.fit(
        X_train,
        y_train,
        (X_validation, y_validation) if len(X_validation) else None,
        progress=after_epoch,
    )
    return model


def predict_with_spread(model: Model, features: Floats, baseline: Floats | None = None) -> tuple[Floats, Floats]:
    """Predict rows, with the spread of the model.

    :param model: trained.
    :param features: shape (n, F).
    :param baseline: shape (n,), in the unit of the target, of a model that learnt the correction to it.
    :returns: values (n,) of the main target, baseline plus correction, and their spread (n,), NaN if a model knows
        none; both in the unit of the target.
    :raises ModelError: features of another length.
    """
    values, spread = model.predict(model_inputs(features, baseline), return_std=True)
    return (values if baseline is None else baseline + values), spread


def predict_columns(
    model: Model,
    domain: TrainingDomain,
    calibration: Calibration | None,
    features: Floats,
    baseline: Floats | None = None,
    others: Sequence[str] = (),
) -> Columns:
    """Predict rows, with standard deviations and distances to the training rows.

    :param model: trained.
    :param domain: of the same training rows.
    :param calibration: ``None``: there is none, and ``std`` is NaN.
    :param features: shape (n, F).
    :param baseline: shape (n,), in the unit of the target, of a model that learnt the correction to it.
    :param others: names of the targets that the model learnt beside the main one, in order.
    :returns: ``value`` (baseline plus correction), ``std`` (calibrated), ``spread`` (of the model, NaN if it knows
        none), all in the unit of the main target, ``distance`` (1 is typical of the training rows), ``outside`` (bool)
        and ``value_<name>`` for each of ``others`` in its own unit, each (n,).
    :raises ModelError: features of another length.
    """
    values, spread = predict_with_spread(model, features, baseline)
    inputs = model_inputs(features, baseline)
    beside = model.predict_all(inputs)[:, 1:].T if others else ()
    return {
        'value': values,
        'std': np.full(len(values), np.nan) if calibration is None else calibration.std(values, spread),
        'spread': spread,
        'distance': domain.distance(inputs),
        'outside': domain.outside(inputs),
        **{f'{COMPANION_VALUE}{name}': found for name, found in zip(others, beside, strict=True)},
    }


def training_domain(dataset: Dataset) -> TrainingDomain:
    """Return the domain that the training rows of a data set cover.

    :param dataset: with a split.
    :raises DatasetError: fewer than two distinct training rows, or one group only.
    """
    training = dataset.split == 'train'
    groups = None if dataset.groups is None else dataset.groups[training]
    return TrainingDomain().fit(dataset.inputs[training], groups)


def predict_held_out(
    make: Callable[[], Model], dataset: Dataset, folds: int, progress: FoldProgress | None = None
) -> tuple[Columns, Calibration | None]:
    """Predict each row with a model that did not see it: of the folds one is predicted and the next one watched.

    :param make: returns an untrained model for each fold.
    :param dataset: its split does not matter; what a split keeps together stays in one fold.
    :param folds: at least 3.
    :param progress: called after every epoch of a network.
    :returns: the columns of :func:`predict_columns`, and the calibration by all rows, which gave their ``std``.
    :raises DatasetError: fewer distinct structures, or groups, than folds.
    """
    if dataset.groups is None:
        fold = fold_rows(dataset.hashes, folds, strata=dataset.families)
    else:
        fold = fold_rows(dataset.groups, folds, called='groups')
    columns: Columns = {}
    for number in range(folds):
        parts = np.full(len(dataset), 'train', dtype='<U10')
        parts[fold == (number + 1) % folds] = 'validation'
        parts[fold == number] = 'test'
        divided = dataset.with_split(parts)
        of_fold = None if progress is None else functools.partial(progress, number)
        model = fit_model(make(), divided, of_fold)
        domain = training_domain(divided)
        rows = fold == number
        baseline = None if dataset.baseline is None else dataset.baseline[rows]
        predicted = predict_columns(model, domain, None, dataset.X[rows], baseline, tuple(dataset.others))
        for name, found in predicted.items():
            columns.setdefault(name, np.empty(len(dataset), dtype=found.dtype))[rows] = found
    calibration = Calibration.fit(dataset.y, columns['value'], columns['spread'], 'held-out')
    if calibration is not None:
        columns['std'] = calibration.std(columns['value'], columns['spread'])
    return columns, calibration


def metrics_by_part(
    dataset: Dataset,
    values: Floats,
    columns: Mapping[str, NDArray[Any]] | None = None,
    calibration: Calibration | None = None,
) -> Metrics:
    """Compute errors by part of the split, and by part and family (``'test/h'``).

    :param dataset: with a split.
    :param values: shape (N,), predictions of the main target for its rows.
    :param columns: of :func:`predict_columns`, to evaluate the intervals and the other targets as well.
    :param calibration: that gave the ``std`` of ``columns``.
    :returns: :func:`~aiida_nanoml.learning.metrics.regression_metrics` by part, with ``columns`` also
        :func:`~aiida_nanoml.learning.uncertainty.interval_metrics`. Of a data set with a baseline also the former of
        the baseline alone (``'baseline/test'``), and of other targets under their names (``'pressure/test'``,
        ``'pressure/test/fcc'``).
    """
    parts = {part: dataset.split == part for part in (*SPLITS, HELD_OUT)}
    groups: dict[str, NDArray[np.bool_]] = {}
    for part, rows in parts.items():
        families = sorted(set(dataset.families[rows].tolist()) - {''})
        groups |= {part: rows} | {f'{part}/{family}': rows & (dataset.families == family) for family in families}
    groups = {name: rows for name, rows in groups.items() if rows.any()}
    metrics: Metrics = {name: regression_metrics(dataset.y[rows], values[rows]) for name, rows in groups.items()}
    if columns is not None:
        for name, rows in groups.items():
            members = {key: column[rows] for key, column in columns.items()}
            metrics[name] |= interval_metrics(dataset.y[rows], members, calibration)
            for other, known in dataset.others.items():
                metrics[f'{other}/{name}'] = regression_metrics(known[rows], members[f'{COMPANION_VALUE}{other}'])
    if dataset.baseline is not None:
        for name, rows in groups.items():
            metrics[f'baseline/{name}'] = regression_metrics(dataset.y[rows], dataset.baseline[rows])
    return metrics
