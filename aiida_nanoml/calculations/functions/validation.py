"""Predictions against labels computed afterwards."""

from __future__ import annotations

import numpy as np
from aiida import orm
from aiida.engine import calcfunction

from aiida_nanoml.calculations.functions.base import refusing
from aiida_nanoml.data.labels import LabelSetData
from aiida_nanoml.data.prediction import PredictionData
from aiida_nanoml.errors import DatasetError


@calcfunction
@refusing
def compare_with_labels(predictions: PredictionData, labels: LabelSetData) -> dict[str, orm.Dict | orm.ArrayData]:
    """Compare predictions with labels of the same structures.

    :param predictions: predicted gaps in eV.
    :param labels: labels from the engine and protocol that the model learnt from.
    :returns: ``metrics`` (r2, mae, rmse in eV, n, by family too, and the seconds that labelling took) and ``table``
        with the columns ``names``, ``predicted``, ``labelled``, ``distance``.
    :raises DatasetError: the labels are of another origin than the training labels, or none belongs to a prediction.
    """
    from aiida_nanoml.learning.metrics import regression_metrics

    learnt = predictions.base.attributes.get('labels')
    found = labels.labels
    if learnt != found.source.to_dict():
        raise DatasetError(
            f'the model learnt from {learnt}, these labels are from {found.source.to_dict()}: their difference '
            'would mix the error of the model with that of the engine'
        )
    position = {value: row for row, value in enumerate(found.hashes) if found.finished[row]}
    rows = [row for row, value in enumerate(predictions.get_array('hashes')) if value in position]
    if not rows:
        raise DatasetError('none of the predicted structures has a finished label')
    columns = {name: predictions.get_array(name)[rows] for name in ('hashes', 'names', 'families', 'value', 'distance')}
    labelled = found.select(np.array([position[value] for value in columns['hashes']]))
    gaps = labelled.energies['gap_ev']
    metrics = {
        'all': regression_metrics(gaps, columns['value']),
        'labelling_s': float(np.nansum(labelled.wall_s)),
        'n_not_compared': predictions.base.attributes.get('n_rows') - len(rows),
    }
    for family in sorted(set(columns['families'].tolist()) - {''}):
        members = columns['families'] == family
        metrics[family] = regression_metrics(gaps[members], columns['value'][members])
    table = orm.ArrayData()
    for name, column in (
        ('names', columns['names']),
        ('predicted', columns['value']),
        ('labelled', gaps),
        ('distance', columns['distance']),
    ):
        table.set_array(name, column)
    return {'metrics': orm.Dict(metrics), 'table': table}
