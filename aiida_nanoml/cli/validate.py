"""``aiida-nanoml validate``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from aiida_nanoml.cli.launch import run_function
from aiida_nanoml.cli.options import JSON, NAME, DataNode, example
from aiida_nanoml.cli.output import emit, identity_line, interval_line, metric_table, record

if TYPE_CHECKING:
    from aiida_nanoml.data.labels import LabelSetData
    from aiida_nanoml.data.prediction import PredictionData


@click.command(epilog=example('aiida-nanoml validate predictions labels'))
@click.argument('predictions', type=DataNode('nanoml.prediction'))
@click.argument('labels', type=DataNode('nanoml.labels'))
@NAME
@JSON
def validate(predictions: PredictionData, labels: LabelSetData, name: str, as_json: bool) -> None:
    """Compare PREDICTIONS with LABELS of the same structures, from the engine that the model learnt from."""
    from aiida_nanoml.calculations.functions.validation import compare_with_labels

    made = run_function(compare_with_labels, predictions=predictions, labels=labels)
    node, metrics = made['metrics'], made['metrics'].get_dict()
    node.label = name
    parts = {key: value for key, value in metrics.items() if isinstance(value, dict)}
    emit(
        as_json,
        record(node, table=made['table'].uuid, metrics=metrics),
        {
            'metrics': identity_line(node),
            'labelling': f'{metrics["labelling_s"]:.1f} s',
            'not compared': metrics['n_not_compared'],
            **interval_line(parts, 'all'),
        },
        f'plot {predictions.label or predictions.pk} -o validation.png',
        metric_table(parts),
    )
