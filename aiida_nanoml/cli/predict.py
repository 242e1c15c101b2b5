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
from aiida_nanoml.cli.output import emit, identity_line, record, source_line, type_name
from aiida_nanoml.text import aligned

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
    """Predict the targets of structures, or of the rows of a data set, with a trained MODEL.

    A model that corrects a baseline needs it: the column of DATASET, or with --baseline the labels of STRUCTURES from
    the engine that it corrects.

    The standard deviation is that of the error, calibrated on rows that the model did not learn from. The distance to
    the training set says how far a row is from what the model has seen; 1 is typical. A row is outside when it is
    beyond what the training set covers: its standard deviation may be too small.
    """
    from aiida_nanoml.calculations.predict import PredictCalculation
    from aiida_nanoml.data.prediction import BASELINE
    from aiida_nanoml.learning.dataset import COMPANION_VALUE
    from aiida_nanoml.learning.targets import find_target

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
    target = find_target(node.base.attributes.get('target'))
    unit, digits = target.unit, target.digits
    others = {find_target(name): node.get_array(f'{COMPANION_VALUE}{name}').tolist() for name in node.others}
    table: list[list[str]] = [['name', f'{target.noun} ({unit})', f'std ({unit})', 'distance', 'domain']]
    if corrected:
        table[0].append(f'baseline ({unit})')
    table[0] += [f'{other.noun} ({other.unit})' for other in others]
    for row in range(min(SHOWN_ROWS, len(names))):
        shown = '-' if deviations[row] is None else f'{deviations[row]:.{digits}f}'
        where = 'outside' if outside[row] else 'inside'
        table.append([names[row], f'{values[row]:.{digits}f}', shown, f'{distances[row]:.2f}', where])
        if corrected:
            table[-1].append(f'{corrected[row]:.{digits}f}')
        table[-1] += [f'{found[row]:.{other.digits}f}' for other, found in others.items()]
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
            target=target.name,
            others=node.others,
            **{
                f'{name}_{target.suffix}': column
                for name, column in (
                    ('value', values),
                    ('std', deviations),
                    ('spread', spread),
                    ('baseline', corrected),
                )
            },
            **{f'{COMPANION_VALUE}{other.name}_{other.suffix}': found for other, found in others.items()},
            distance=distances,
            outside=outside,
            calibration=node.base.attributes.get('calibration'),
            baseline=node.base.attributes.get('baseline'),
        ),
        {
            'predictions': identity_line(node),
            target.noun: f'{min(values):.{digits}f} to {max(values):.{digits}f} {unit}, {len(values)} rows',
            **{
                other.noun: f'{min(found):.{other.digits}f} to {max(found):.{other.digits}f} {other.unit}'
                for other, found in others.items()
            },
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
