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

    The distance to the training set says how far a row is from what the model has seen; 1 is typical.
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
    names, values, spread, distances = (node.get_array(key).tolist() for key in ('names', 'value', 'std', 'distance'))
    spread = [None if math.isnan(value) else value for value in spread]  # a single model has no spread
    corrected = node.get_array(BASELINE).tolist() if BASELINE in node.arrays else None
    table: list[list[str]] = [['name', 'gap (eV)', 'spread (eV)', 'distance']]
    if corrected:
        table[0].append('baseline (eV)')
    for row in range(min(SHOWN_ROWS, len(names))):
        shown = '-' if spread[row] is None else f'{spread[row]:.3f}'
        table.append([names[row], f'{values[row]:.3f}', shown, f'{distances[row]:.2f}'])
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
            std_ev=spread,
            distance=distances,
            baseline_ev=corrected,
            baseline=node.base.attributes.get('baseline'),
        ),
        {
            'predictions': identity_line(node),
            'gap': f'{min(values):.3f} to {max(values):.3f} eV, {len(values)} rows',
            **({'corrects': source_line(node.base.attributes.get('baseline'))} if corrected else {}),
            'distance': f'up to {max(distances):.2f} (1: typical of the training set)',
        },
        f'trace {node.label or node.pk}',
        aligned(table),
    )
