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
from aiida_nanoml.cli.output import aligned, emit, identity_line, record, type_name

if TYPE_CHECKING:
    from aiida_nanoml.data.model import ModelData

SHOWN_ROWS = 10


@click.command(epilog=example('aiida-nanoml predict gap-model flakes --name predictions'))
@click.argument('model', type=DataNode('nanoml.model'))
@click.argument('rows', metavar='STRUCTURES|DATASET', type=DataNode('nanoml.structures', 'nanoml.dataset'))
@CODE
@WALLCLOCK
@QUEUE
@SUBMIT
@NAME
@JSON
def predict(
    model: ModelData,
    rows: Any,
    code: Any,
    wallclock: int | None,
    queue: str | None,
    submit: bool,
    name: str,
    as_json: bool,
) -> None:
    """Predict the gaps of structures, or of the rows of a data set, with a trained MODEL.

    The distance to the training set says how far a row is from what the model has seen; 1 is typical.
    """
    from aiida_nanoml.calculations.predict import PredictCalculation

    builder = PredictCalculation.get_builder()
    builder.code = code or default_code()
    builder.model = model
    of_structures = type_name(rows) == 'nanoml.structures'
    builder['structures' if of_structures else 'dataset'] = rows
    builder.metadata.options = job_options(wallclock, queue)
    if submit:
        submit_builder(builder, name, as_json)
        return
    process = run_builder(builder)
    node = process.outputs.predictions
    node.label = name
    names, values, spread, distances = (node.get_array(key).tolist() for key in ('names', 'value', 'std', 'distance'))
    spread = [None if math.isnan(value) else value for value in spread]  # a single model has no spread
    table: list[list[str]] = [['name', 'gap (eV)', 'spread (eV)', 'distance']]
    for row in range(min(SHOWN_ROWS, len(names))):
        shown = '-' if spread[row] is None else f'{spread[row]:.3f}'
        table.append([names[row], f'{values[row]:.3f}', shown, f'{distances[row]:.2f}'])
    if len(names) > SHOWN_ROWS:
        table.append([f'… {len(names) - SHOWN_ROWS} more', '', '', ''])
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
        ),
        {
            'predictions': identity_line(node),
            'gap': f'{min(values):.3f} to {max(values):.3f} eV, {len(values)} rows',
            'distance': f'up to {max(distances):.2f} (1: typical of the training set)',
        },
        f'trace {node.label or node.pk}',
        aligned(table),
    )
