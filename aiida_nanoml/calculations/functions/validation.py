"""Compare predictions with labels that were computed afterwards, in error and in time."""

from __future__ import annotations

from typing import Any

import numpy as np
from aiida import orm
from numpy.typing import NDArray
from pydantic import ValidationError

from aiida_nanoml.calculations.functions.base import calculation_function
from aiida_nanoml.data.labels import LabelSetData
from aiida_nanoml.data.prediction import BASELINE, PredictionData
from aiida_nanoml.data.structures import StructureSetData
from aiida_nanoml.engines.label_set import LabelSource
from aiida_nanoml.errors import DatasetError
from aiida_nanoml.learning.dataset import positions_of
from aiida_nanoml.learning.targets import find_target, find_values
from aiida_nanoml.worker.schemas import REPORT_FILE, Report


@calculation_function
def compare_with_labels(
    predictions: PredictionData,
    labels: LabelSetData,
    structures: StructureSetData | None = None,
    report: orm.FolderData | None = None,
    baseline: LabelSetData | None = None,
    atoms: LabelSetData | None = None,
) -> dict[str, orm.Dict | orm.ArrayData]:
    """Compare predictions with labels of the same structures.

    Of gaps, structures with an odd electron count are left out: no model learns from such.

    :param predictions: predicted values of any target; those of further targets are not looked at.
    :param labels: labels from the engine and protocol that the model learnt from.
    :param structures: those to compare; by default all that have a label. Targets that are counted by atom or need a
        cell cannot do without.
    :param report: retrieved files of the prediction job, which state its time.
    :param baseline: labels that a correction started from, whose cost is part of that of the prediction.
    :param atoms: labels of isolated atoms, for cohesive energies; by default they are looked for among the labels.
    :returns: ``metrics`` (r2, mae and rmse in the unit of the target, n, coverage, by family too, of a correction also
        of the baseline alone; ``labelling_s``, the seconds that labelling took; with ``report``, what
        :func:`time_saved` gives) and ``table`` with the columns ``names``, ``predicted``, ``labelled``, ``std``,
        ``distance``, ``outside`` and, of a correction, ``baseline``.
    :raises DatasetError: the labels have another source than the training labels, lack the target, or none
        belongs to a prediction; structures or isolated atoms are missing.
    """
    from aiida_nanoml.learning.metrics import regression_metrics
    from aiida_nanoml.learning.uncertainty import interval_metrics

    learnt = predictions.base.attributes.get('labels')
    found = labels.labels.distinct()
    if not (learnt and LabelSource.from_dict(learnt).compatible(found.source)):
        raise DatasetError(
            f'the model learnt from {learnt}, these labels are from {found.source.to_dict()}: their difference '
            'would mix the error of the model with that of the engine'
        )
    target = find_target(predictions.base.attributes.get('target'))
    asked = predictions.get_array('hashes')
    wanted = np.isin(asked, asked if structures is None else structures.structures.hashes)
    odd = found.hashes[found.finished & found.open_shell & target.closed_shell]
    n_open_shell = int(np.isin(odd, asked[wanted]).sum())
    values = find_values(
        target.name,
        found,
        asked,
        None if structures is None else structures.structures,
        None if atoms is None else atoms.labels,
    )
    positions = positions_of(asked, found.hashes)
    compared = wanted & np.isfinite(values) & ~np.isin(asked, odd)
    if not compared.any():
        even = ' with an even electron count' if target.closed_shell else ''
        raise DatasetError(f'none of the predicted structures has a finished label{even} that tells {target.name!r}')
    columns = {name: column[compared] for name, column in predictions.arrays.items()}
    labelled = found.select(positions[compared])
    known = values[compared]
    metrics: dict[str, Any] = {
        'labelling_s': float(np.nansum(labelled.wall_s)),
        'n_not_compared': int((wanted & ~compared).sum()),
        'n_open_shell': n_open_shell,
    }
    if report is not None:
        cheap = np.nan if baseline is None else baseline.labels.select(baseline.labels.finished).wall_s
        metrics |= time_saved(labelled.wall_s, job_seconds(report), len(asked), cheap)
    groups = {'all': np.ones(len(known), dtype=bool)}
    groups |= {family: columns['families'] == family for family in sorted(set(columns['families'].tolist()) - {''})}
    for group, rows in groups.items():
        chosen = {name: column[rows] for name, column in columns.items()}
        intervals = interval_metrics(known[rows], chosen, predictions.calibration)
        metrics[group] = regression_metrics(known[rows], chosen['value']) | intervals
        if BASELINE in chosen:
            metrics[f'baseline/{group}'] = regression_metrics(known[rows], chosen[BASELINE])
    table = orm.ArrayData()
    shown = {'names': columns['names'], 'predicted': columns['value'], 'labelled': known}
    shown |= {name: columns[name] for name in ('std', 'distance', 'outside', BASELINE) if name in columns}
    for name, column in shown.items():
        table.set_array(name, column)
    return {'metrics': orm.Dict(metrics), 'table': table}


def time_saved(
    label_s: NDArray[np.float64], job_s: float, n_predicted: int, baseline_s: NDArray[np.float64] | float = np.nan
) -> dict[str, float | None]:
    """Compare the time of a prediction with that of a label.

    :param label_s: shape (n,), seconds that each label took; NaN where unknown.
    :param job_s: seconds that the prediction job took, with everything that it loads.
    :param n_predicted: structures in that job.
    :param baseline_s: shape (m,), seconds that each label of the baseline took; NaN: without baseline.
    :returns: by structure ``label_s_each`` and ``prediction_s_each`` (with the baseline), their ratio ``speedup``, and
        ``saved_s``, what labelling everything that was predicted would have cost more; None where a time is unknown.
    """
    known = label_s[np.isfinite(label_s)]
    cheap = np.asarray(baseline_s)[np.isfinite(baseline_s)]
    prediction = job_s / n_predicted + (float(cheap.mean()) if cheap.size else 0.0)
    label = float(known.mean()) if known.size else None
    return {
        'label_s_each': label,
        'prediction_s_each': prediction,
        'speedup': None if label is None else label / prediction,
        'saved_s': None if label is None else n_predicted * (label - prediction),
    }


def comparison_inputs(
    predictions: PredictionData, structures: StructureSetData | None, atoms: LabelSetData | None
) -> dict[str, orm.Data]:
    """Return the inputs of :func:`compare_with_labels` beside predictions and labels, as far as they are known.

    :param structures: those to compare; None: those of the prediction job, for targets that depend on them.
    :param atoms: labels of isolated atoms, or None.
    """
    job = predictions.creator
    if structures is None and find_target(predictions.base.attributes.get('target')).from_structures:
        structures = predicted_structures(predictions)
    found: dict[str, orm.Data | None] = {'structures': structures, 'atoms': atoms}
    if job is not None and job.process_label == 'PredictCalculation':
        found['report'] = job.outputs.retrieved
        found['baseline'] = job.inputs.baseline if 'baseline' in job.inputs else None
    return {name: node for name, node in found.items() if node is not None}


def predicted_structures(predictions: PredictionData) -> StructureSetData | None:
    """Return the structures that were predicted; None if the prediction was made from features."""
    job = predictions.creator
    return job.inputs.structures if job is not None and 'structures' in job.inputs else None


def job_seconds(report: orm.FolderData) -> float:
    """Return the seconds that a job of the worker took, from what it retrieved.

    :raises DatasetError: the folder holds no report.
    """
    try:
        return Report.model_validate_json(report.base.repository.get_object_content(REPORT_FILE)).wall_s
    except (FileNotFoundError, ValidationError) as error:
        raise DatasetError(f'{report.uuid} is not what a job of the worker retrieved: {error}') from error
