"""``aiida-nanoml model``."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from aiida_nanoml.cli.options import FORCE, JSON, DataNode, example, output_file
from aiida_nanoml.cli.output import (
    emit,
    identity_line,
    interval_line,
    metric_table,
    record,
    refuse_overwriting,
    source_line,
)

if TYPE_CHECKING:
    from aiida_nanoml.data.model import ModelData


@click.group()
def model() -> None:
    """Trained models."""


@model.command(epilog=example('aiida-nanoml model show gap-model'))
@click.argument('node', type=DataNode('nanoml.model'))
@JSON
def show(node: ModelData, as_json: bool) -> None:
    """Show what the model NODE is, what it was trained on and how good it is."""
    card = node.card
    answers = [f'{name} in {unit}' for name, unit in {card.target: card.unit, **card.others}.items()]
    lines = {
        'model': identity_line(node),
        'kind': card.kind,
        'fingerprint': card.fingerprint,
        'predicts': f'{", ".join(answers)} from {card.n_features} features',
        'labels': source_line(card.labels) if card.labels else 'unknown',
        **({'corrects': source_line(card.baseline)} if card.baseline else {}),
        'descriptor': (card.descriptor or {}).get('name', 'unknown'),
        **interval_line(card.metrics, 'test'),
        'settings': ', '.join(f'{key} {value}' for key, value in card.parameters.items()) or 'none',
        'made with': ', '.join(f'{key} {value}' for key, value in card.versions.items()),
    }
    table = metric_table(card.metrics, target=card.target, others=card.others) if card.metrics else ''
    emit(as_json, record(node, **card.model_dump(mode='json')), lines, f'trace {node.label or node.pk}', table)


@model.command(epilog=example('aiida-nanoml model export gap-model -o cbn_trained_model.h5'))
@click.argument('node', type=DataNode('nanoml.model'))
@output_file('File to write: .keras, or .h5 for legacy HDF5.')
@FORCE
@JSON
def export(node: ModelData, output: Path, force: bool, as_json: bool) -> None:
    """Write the gap network NODE as one file that maps raw features to its targets in their units.

    Of a model with a baseline, the last feature is the baseline, and the answer the correction to it.
    """
    from aiida_nanoml.learning.model_files import export_model

    refuse_overwriting(output, force)
    with tempfile.TemporaryDirectory() as folder:
        node.base.repository.copy_tree(Path(folder))
        export_model(folder, output)
    card = node.card
    features = card.feature_names or []
    answer = f'correction to {source_line(card.baseline)}' if card.baseline else card.target
    emit(
        as_json,
        record(
            node,
            file=str(output),
            answer=answer,
            unit=card.unit,
            others=card.others,
            baseline=card.baseline,
            feature_names=features,
        ),
        {
            'file': output,
            'answers': '; '.join(f'{name}, in {unit}' for name, unit in {answer: card.unit, **card.others}.items()),
            'features': f'{len(features)}, raw',
        },
    )
