"""``aiida-nanoml predict``."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import click

from aiida_nanoml.cli.launch import run_builder, submit_builder
from aiida_nanoml.cli.options import (
    CODE,
    JSON,
    NAME,
    QUEUE,
    SUBMIT,
    WALLCLOCK,
    DataNode,
    default_code,
    example,
    job_options,
)
from aiida_nanoml.cli.output import aligned, emit, identity_line, record, source_line, type_name

if TYPE_CHECKING:
    from aiida_nanoml.data.labels import LabelSetData
    from aiida_nanoml.data.model import ModelData
    from aiida_nanoml.learning.uncertainty import Calibration

SHOWN_ROWS = 10


@click.command(epilog=example('aiida-nanoml predict gap-model flakes --name predictions'))
@click.argument('model', type=DataNode('nanoml.model'))
@click.argument('rows', metavar='STRUCTURES|DATASET', type=DataNode('nanoml.structures', 'nanoml.dataset'))
@click.option('--baseline', type=DataNode('nanoml.labels'), help='Labels of STRUCTURES that the model corrects.')
@CODE
@WALLCLOCK
@QUEUE
@SUBMIT
@NAME
@JSON
def predict(
    model: ModelData,
    rows: Any,
    baseline: LabelSetData | None,
    code: Any,
    wallclock: int | None,
    queue: str | None,
    submit: bool,
    name: str,
    as_json: bool,
) -> None:
    """Predict the gaps of structures, or of the rows of a data set, with a trained MODEL.

    A model that corrects a baseline needs it: the column of DATASET, or with --baseline the labels of STRUCTURES from
    the engine that it corrects.

    The standard deviation is that of the error, calibrated on rows that the model did not learn from. The distance to
    the training set says how far a row is from what the model has seen; 1 is typical. A row is outside when it is
    beyond what the training set covers: its standard deviation may be too small.
    """
    from aiida_nanoml.calculations.predict import PredictCalculation
    from aiida_nanoml.data.prediction import BASELINE

    builder = PredictCalculation.get_builder()
    builder.code = code or default_code()
    builder.model = model
    of_structures = type_name(rows) == 'nanoml.structures'
    builder['structures' if of_structures else 'dataset'] = rows
    if baseline is not None:
        builder.baseline = baseline
    builder.metadata.options = job_options(wallclock, queue)
    if submit:
        submit_builder(builder, name, as_json)
        return
    process = run_builder(builder)
    node = process.outputs.predictions
    node.label = name
    names, values, distances, outside = (
        node.get_array(key).tolist() for key in ('names', 'value', 'distance', 'outside')
    )
    # Without calibration there is no deviation, and a single model has no spread.
    deviations, spread = (
        [None if math.isnan(value) else value for value in node.get_array(key).tolist()] for key in ('std', 'spread')
    )
    corrected = node.get_array(BASELINE).tolist() if BASELINE in node.arrays else None
    table: list[list[str]] = [['name', 'gap (eV)', 'std (eV)', 'distance', 'domain']]
    if corrected:
        table[0].append('baseline (eV)')
    for row in range(min(SHOWN_ROWS, len(names))):
        shown = '-' if deviations[row] is None else f'{deviations[row]:.3f}'
        where = 'outside' if outside[row] else 'inside'
        table.append([names[row], f'{values[row]:.3f}', shown, f'{distances[row]:.2f}', where])
        if corrected:
            table[-1].append(f'{corrected[row]:.3f}')
    if len(names) > SHOWN_ROWS:
        table.append([f'… {len(names) - SHOWN_ROWS} more', *[''] * (len(table[0]) - 1)])
    emit(
        as_json,
        record(
            node,
            process=process.uuid,
            model=model.uuid,
            n_rows=len(names),
            max_distance=node.base.attributes.get('max_distance'),
            names=names,
            value_ev=values,
            std_ev=deviations,
            spread_ev=spread,
            distance=distances,
            outside=outside,
            calibration=node.base.attributes.get('calibration'),
            baseline_ev=corrected,
            baseline=node.base.attributes.get('baseline'),
        ),
        {
            'predictions': identity_line(node),
            'gap': f'{min(values):.3f} to {max(values):.3f} eV, {len(values)} rows',
            **({'corrects': source_line(node.base.attributes.get('baseline'))} if corrected else {}),
            'intervals': _intervals(node.calibration),
            'distance': f'up to {max(distances):.2f} (1: typical of the training set)',
            'outside': f'{sum(outside)} of {len(outside)} rows are beyond what the training set covers',
        },
        f'trace {node.label or node.pk}',
        aligned(table),
    )


def _intervals(calibration: Calibration | None) -> str:
    if calibration is None:
        return 'not calibrated: the model was trained with fewer than 20 validation rows, and without --folds'
    return (
        f'68 %: ± {calibration.factor_68:.2f} std, 95 %: ± {calibration.factor_95:.2f} std, by {calibration.rows} '
        f'{calibration.part} rows'
    )
