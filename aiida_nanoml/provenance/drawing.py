"""Figures of trainings and predictions, drawn from the data in the graph."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiida_nanoml.errors import ProvenanceError
from aiida_nanoml.learning.plot_style import Width, save_figure
from aiida_nanoml.provenance.graph import load_records

if TYPE_CHECKING:
    import numpy as np
    from aiida.orm import CalcJobNode, Node, XyData
    from numpy.typing import NDArray

    Pair = tuple[NDArray[np.float64], NDArray[np.float64]]
    Parts = dict[str, Pair]

TRAINING, PREDICTION = 'TrainCalculation', 'PredictCalculation'
HISTORY = 'core.array.xy'


def draw_parity(node: Node, output: Path, width: Width = 'single') -> dict[str, Any]:
    """Draw predicted against computed values.

    :param node: a model, a training, predictions of rows whose values are known, or a workflow that made a model.
    :param output: file to write; its ending chooses the format.
    :param width: in columns of a journal.
    :returns: what was drawn, and of how many rows.
    :raises ProvenanceError: the node has another type, is not finished, or there are no known values to compare with.
    """
    from aiida_nanoml.engines.label_set import LabelSource
    from aiida_nanoml.learning.plots import plot_parity
    from aiida_nanoml.learning.targets import find_target
    from aiida_nanoml.worker.train import parity_title

    parts, baseline, model = _known_and_predicted(node)
    source = LabelSource.from_dict(model.base.attributes.get('labels'))
    attributes = model.base.attributes
    target = find_target(attributes.get('target'))
    title = parity_title(target, attributes.get('kind'), attributes.get('baseline', None))
    save_figure(plot_parity(parts, title, str(source), baseline, target, width=width), output)
    return {'drawn': 'parity', 'n_rows': sum(len(known) for known, _ in parts.values())}


def draw_calibration(node: Node, output: Path, width: Width = 'single') -> dict[str, Any]:
    """Draw errors against predicted standard deviations.

    :param node: as of :func:`draw_parity`.
    :param output: file to write; its ending chooses the format.
    :param width: in columns of a journal.
    :returns: what was drawn, and of how many rows.
    :raises ProvenanceError: as :func:`draw_parity`, or the model has no calibration.
    """
    import numpy as np

    from aiida_nanoml.engines.label_set import LabelSource
    from aiida_nanoml.learning.plots import plot_calibration
    from aiida_nanoml.learning.targets import find_target
    from aiida_nanoml.worker.train import calibration_parts, parity_title

    job = _find_job(node)
    trained = job.process_label == TRAINING
    predictions = job.outputs.fitted if trained else job.outputs.predictions
    if predictions.calibration is None:
        raise ProvenanceError(
            f'the model of pk {node.pk} has no calibration: train with 20 validation rows or more, or with --folds'
        )
    if 'dataset' in job.inputs:
        parts = calibration_parts(job.inputs.dataset.dataset, predictions.arrays)
    else:
        table = _validation_table(predictions)
        error = np.abs(table.get_array('predicted') - table.get_array('labelled'))
        parts = {'unseen': (table.get_array('std'), error)}
    attributes = (job.outputs if trained else job.inputs).model.base.attributes
    target = find_target(attributes.get('target'))
    title = parity_title(target, attributes.get('kind'), attributes.get('baseline', None))
    source = str(LabelSource.from_dict(attributes.get('labels')))
    drawn = plot_calibration(parts, predictions.calibration, title, source, target.unit, width=width)
    save_figure(drawn, output)
    return {'drawn': 'calibration', 'n_rows': sum(len(error) for _, error in parts.values())}


def _known_and_predicted(node: Node) -> tuple[Parts, Pair | None, Node]:
    """Return known and predicted values by part, the baseline that is corrected in the last part, and the model."""
    from aiida_nanoml.data.prediction import BASELINE

    job = _find_job(node)
    if job.process_label == TRAINING:
        return *_split_parts(job.inputs.dataset, job.outputs.fitted), job.outputs.model
    predictions = job.outputs.predictions
    if 'dataset' in job.inputs:
        known = job.inputs.dataset.base.attributes.get('target')
        if known != predictions.base.attributes.get('target'):
            raise ProvenanceError(
                f'the predictions are of the target {predictions.base.attributes.get("target")}, the data set has '
                f'{known}: there is nothing to compare'
            )
        return *_split_parts(job.inputs.dataset, predictions), job.inputs.model
    table = _validation_table(predictions)
    known = table.get_array('labelled')
    baseline = (known, table.get_array(BASELINE)) if BASELINE in table.arrays else None
    return {'unseen': (known, table.get_array('predicted'))}, baseline, job.inputs.model


def _validation_table(predictions: Node) -> Any:
    """Return the table of the last comparison of predictions with labels."""
    for link in sorted(predictions.base.links.get_outgoing().all(), key=lambda link: -link.node.pk):
        if link.node.process_label == 'compare_with_labels' and link.node.is_finished_ok:
            return link.node.outputs.table
    raise ProvenanceError(
        f'no labels are known for the structures of the predictions (pk {predictions.pk}): label them, then '
        'compare with `aiida-nanoml validate`'
    )


def _split_parts(dataset: Any, predictions: Any) -> tuple[Parts, Pair | None]:
    from aiida_nanoml.worker.train import parity_parts

    parts, baseline = parity_parts(dataset.dataset, predictions.get_array('value'))
    return parts, baseline if predictions.base.attributes.get('baseline', None) else None


def draw_learning_curve(node: Node, output: Path, width: Width = 'single') -> dict[str, Any]:
    """Draw the losses over the epochs of a training.

    :param node: a network, its training, or the history of one.
    :param output: file to write; its ending chooses the format.
    :param width: in columns of a journal.
    :returns: what was drawn, and of how many epochs.
    :raises ProvenanceError: there is no such history.
    """
    from aiida_nanoml.learning.plots import plot_learning_curve
    from aiida_nanoml.learning.registry import make_model

    history: XyData
    if _type_of(node) == HISTORY:
        history, job = node, node.creator
    else:
        job = _find_job(node)
        if 'history' not in getattr(job, 'outputs', {}):
            raise ProvenanceError(f'{_type_of(node)} pk {node.pk} has no history: only networks have one')
        history = job.outputs.history
    losses = {name: values for name, values, _ in history.get_y()}
    if job is None or job.process_label != TRAINING:
        raise ProvenanceError(f'pk {node.pk} is not the history of a training')
    card = job.outputs.model.card
    loss_label = make_model(card.kind, **card.parameters).loss_label(card.unit)
    save_figure(plot_learning_curve(losses, f'Model {card.kind}', loss_label, width=width), output)
    return {'drawn': 'learning curve', 'n_epochs': len(losses['loss'])}


def _find_job(node: Node) -> CalcJobNode:
    """Return the training or prediction that made a node."""
    from aiida.orm import ProcessNode, WorkflowNode

    if isinstance(node, WorkflowNode) and 'model' in node.outputs:
        job = node.outputs.model.creator
    else:
        job = node if isinstance(node, ProcessNode) else node.creator
    if job is None or job.process_label not in (TRAINING, PREDICTION):
        made = 'no process made it' if job is None else f'it belongs to {job.process_label}'
        raise ProvenanceError(
            f'{_type_of(node)} pk {node.pk} cannot be drawn: {made}; give a model, a training, predictions, or the '
            'history of a training'
        )
    if not job.is_finished_ok:
        raise ProvenanceError(f'{job.process_label} pk {job.pk} is not finished, or failed: there is nothing to draw')
    return job


def _type_of(node: Node) -> str:
    return load_records([node.pk])[node.pk].type
