"""Predictions against labels computed afterwards."""

from __future__ import annotations

from typing import Any

import numpy as np
from aiida import orm
from aiida.engine import calcfunction

from aiida_nanoml.calculations.functions.base import refusing
from aiida_nanoml.data.labels import LabelSetData
from aiida_nanoml.data.prediction import BASELINE, PredictionData
from aiida_nanoml.engines.label_set import LabelSource
from aiida_nanoml.errors import DatasetError
from aiida_nanoml.learning.dataset import positions_of


@calcfunction
@refusing
def compare_with_labels(predictions: PredictionData, labels: LabelSetData) -> dict[str, orm.Dict | orm.ArrayData]:
    """Compare predictions with labels of the same structures.

    :param predictions: predicted gaps in eV.
    :param labels: labels from the engine and protocol that the model learnt from.
    :returns: ``metrics`` (r2, mae, rmse in eV, n, by family too, of a correction also of the baseline alone, and the
        seconds that labelling took) and ``table`` with the columns ``names``, ``predicted``, ``labelled``,
        ``distance`` and, of a correction, ``baseline``.
    :raises DatasetError: the labels are of another origin than the training labels, or none belongs to a prediction.
    """
    from aiida_nanoml.learning.metrics import regression_metrics

    learnt = predictions.base.attributes.get('labels')
    found = labels.labels
    if not (learnt and LabelSource.from_dict(learnt).compatible(found.source)):
        raise DatasetError(
            f'the model learnt from {learnt}, these labels are from {found.source.to_dict()}: their difference '
            'would mix the error of the model with that of the engine'
        )
    found = found.select(found.finished)
    positions = positions_of(predictions.get_array('hashes'), found.hashes)
    compared = positions >= 0
    if not compared.any():
        raise DatasetError('none of the predicted structures has a finished label')
    columns = {name: column[compared] for name, column in predictions.arrays.items()}
    labelled = found.select(positions[compared])
    gaps = labelled.energies['gap_ev']
    metrics: dict[str, Any] = {
        'labelling_s': float(np.nansum(labelled.wall_s)),
        'n_not_compared': int((~compared).sum()),
    }
    judged = {'': columns['value']} | ({'baseline/': columns[BASELINE]} if BASELINE in columns else {})
    for prefix, values in judged.items():
        metrics[f'{prefix}all'] = regression_metrics(gaps, values)
        for family in sorted(set(columns['families'].tolist()) - {''}):
            members = columns['families'] == family
            metrics[f'{prefix}{family}'] = regression_metrics(gaps[members], values[members])
    table = orm.ArrayData()
    shown = {'names': columns['names'], 'predicted': columns['value'], 'labelled': gaps}
    shown |= {name: columns[name] for name in ('distance', BASELINE) if name in columns}
    for name, column in shown.items():
        table.set_array(name, column)
    return {'metrics': orm.Dict(metrics), 'table': table}
