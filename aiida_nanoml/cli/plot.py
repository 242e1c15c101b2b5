"""``aiida-nanoml plot``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from aiida_nanoml.cli.options import FORCE, JSON, AnyNode, example, output_file
from aiida_nanoml.cli.output import emit, record, refuse_overwriting, type_name


@click.command(epilog=example('aiida-nanoml plot gap-model -o parity.png'))
@click.argument('node', type=AnyNode())
@output_file('File to write; its ending chooses the format: .png, .pdf or .svg.')
@click.option('--learning-curve', is_flag=True, help='Of a model or training: losses over the epochs.')
@click.option('--calibration', is_flag=True, help='Errors against predicted standard deviations.')
@FORCE
@JSON
def plot(node: Any, output: Path, learning_curve: bool, calibration: bool, force: bool, as_json: bool) -> None:
    """Draw NODE: predicted against computed values, their errors against standard deviations, or the learning curve.

    NODE is a model, a training, predictions of rows whose values are known (a data set, or predictions that were
    validated), the history of a training, or a workflow that made a model.
    """
    if learning_curve and calibration:
        raise click.UsageError('choose --learning-curve or --calibration: a file holds one figure')
    from aiida_nanoml.provenance import drawing

    refuse_overwriting(output, force)
    if calibration:
        numbers = drawing.draw_calibration(node, output)
    elif learning_curve or type_name(node) == drawing.HISTORY:
        numbers = drawing.draw_learning_curve(node, output)
    else:
        numbers = drawing.draw_parity(node, output)
    emit(as_json, record(node, file=str(output), **numbers), {'file': output, **numbers})
