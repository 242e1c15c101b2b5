"""``aiida-nanoml plot``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aiida_nanoml.cli.options import FORCE, JSON, AnyNode, example, output_file
from aiida_nanoml.cli.output import emit, record, refuse_overwriting, type_name

if TYPE_CHECKING:
    import numpy as np
    from aiida.orm import CalcJobNode, Node, XyData
    from numpy.typing import NDArray

    Pair = tuple[NDArray[np.float64], NDArray[np.float64]]
    Parts = dict[str, Pair]

TRAINING, PREDICTION = 'TrainCalculation', 'PredictCalculation'


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
    refuse_overwriting(output, force)
    if calibration:
        numbers = _draw_calibration(node, output)
    elif learning_curve or type_name(node) == 'core.array.xy':
        numbers = _draw_learning_curve(node, output)
    else:
        numbers = _draw_parity(node, output)
    emit(as_json, record(node, file=str(output), **numbers), {'file': output, **numbers})


def _draw_parity(node: Node, output: Path) -> dict[str, Any]:
    from aiida_nanoml.engines.label_set import LabelSource
    from aiida_nanoml.learning.plots import plot_parity
    from aiida_nanoml.learning.targets import find_target
    from aiida_nanoml.worker.train import parity_title

    parts, baseline, model = _parts(node)
    source = LabelSource.from_dict(model.base.attributes.get('labels'))
    attributes = model.base.attributes
    target = find_target(attributes.get('target'))
    title = parity_title(target, attributes.get('kind'), attributes.get('baseline', None))
    plot_parity(output, parts, title, str(source), baseline, target)
    return {'drawn': 'parity', 'n_rows': sum(len(known) for known, _ in parts.values())}


def _draw_calibration(node: Node, output: Path) -> dict[str, Any]:
    import numpy as np

    from aiida_nanoml.engines.label_set import LabelSource
    from aiida_nanoml.learning.plots import plot_calibration
    from aiida_nanoml.learning.targets import find_target
    from aiida_nanoml.worker.train import calibration_parts, parity_title

    job = _job(node)
    trained = job.process_label == TRAINING
    predictions = job.outputs.fitted if trained else job.outputs.predictions
    if predictions.calibration is None:
        raise click.ClickException(
            f'the model behind pk {node.pk} has no calibration: train with 20 validation rows or more, or with --folds'
        )
    if 'dataset' in job.inputs:
        parts = calibration_parts(job.inputs.dataset.dataset, predictions.arrays)
    else:
        table = _validated(predictions)
        error = np.abs(table.get_array('predicted') - table.get_array('labelled'))
        parts = {'unseen': (table.get_array('std'), error)}
    attributes = (job.outputs if trained else job.inputs).model.base.attributes
    target = find_target(attributes.get('target'))
    title = parity_title(target, attributes.get('kind'), attributes.get('baseline', None))
    source = str(LabelSource.from_dict(attributes.get('labels')))
    plot_calibration(output, parts, predictions.calibration, title, source, target.unit)
    return {'drawn': 'calibration', 'n_rows': sum(len(error) for _, error in parts.values())}


def _parts(node: Node) -> tuple[Parts, Pair | None, Node]:
    """Known and predicted values by part, the baseline that is corrected in the last part, and the model."""
    from aiida_nanoml.data.prediction import BASELINE

    job = _job(node)
    if job.process_label == TRAINING:
        return *_by_split(job.inputs.dataset, job.outputs.fitted), job.outputs.model
    predictions = job.outputs.predictions
    if 'dataset' in job.inputs:
        known = job.inputs.dataset.base.attributes.get('target')
        if known != predictions.base.attributes.get('target'):
            raise click.ClickException(
                f'the predictions are of the target {predictions.base.attributes.get("target")}, the data set holds '
                f'{known}: nothing to compare'
            )
        return *_by_split(job.inputs.dataset, predictions), job.inputs.model
    table = _validated(predictions)
    known = table.get_array('labelled')
    baseline = (known, table.get_array(BASELINE)) if BASELINE in table.arrays else None
    return {'unseen': (known, table.get_array('predicted'))}, baseline, job.inputs.model


def _validated(predictions: Node) -> Any:
    """The table of the last comparison of predictions with labels."""
    for link in sorted(predictions.base.links.get_outgoing().all(), key=lambda link: -link.node.pk):
        if link.node.process_label == 'compare_with_labels' and link.node.is_finished_ok:
            return link.node.outputs.table
    raise click.ClickException(
        f'the labels of the structures behind the predictions (pk {predictions.pk}) are not known: label them, then '
        'compare with `aiida-nanoml validate`'
    )


def _by_split(dataset: Any, predictions: Any) -> tuple[Parts, Pair | None]:
    from aiida_nanoml.worker.train import parity_parts

    parts, baseline = parity_parts(dataset.dataset, predictions.get_array('value'))
    return parts, baseline if predictions.base.attributes.get('baseline', None) else None


def _draw_learning_curve(node: Node, output: Path) -> dict[str, Any]:
    from aiida_nanoml.learning.plots import plot_learning_curve
    from aiida_nanoml.learning.registry import make_model

    history: XyData
    if type_name(node) == 'core.array.xy':
        history, job = node, node.creator
    else:
        job = _job(node)
        if 'history' not in getattr(job, 'outputs', {}):
            raise click.ClickException(f'{type_name(node)} pk {node.pk} has no history: only networks have one')
        history = job.outputs.history
    losses = {name: values for name, values, _ in history.get_y()}
    if job is None or job.process_label != TRAINING:
        raise click.ClickException(f'pk {node.pk} is not the history of a training')
    card = job.outputs.model.card
    loss_label = make_model(card.kind, **card.parameters).loss_label(card.unit)
    plot_learning_curve(output, losses, f'Model {card.kind}', loss_label)
    return {'drawn': 'learning curve', 'n_epochs': len(losses['loss'])}


def _job(node: Node) -> CalcJobNode:
    """The training or prediction behind a node."""
    from aiida.orm import ProcessNode, WorkflowNode

    if isinstance(node, WorkflowNode) and 'model' in node.outputs:
        job = node.outputs.model.creator
    else:
        job = node if isinstance(node, ProcessNode) else node.creator
    if job is None or job.process_label not in (TRAINING, PREDICTION):
        made = 'no process made it' if job is None else f'it belongs to {job.process_label}'
        raise click.ClickException(
            f'{type_name(node)} pk {node.pk} cannot be drawn: {made}. Give a model, a training, predictions, or the '
            'history of a training.'
        )
    if not job.is_finished_ok:
        raise click.ClickException(f'{job.process_label} pk {job.pk} is not finished, or failed: nothing to draw')
    return job
