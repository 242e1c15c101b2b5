"""``aiida-nanoml train``."""

from __future__ import annotations

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
    Numbers,
    default_code,
    example,
    job_options,
    setting,
)
from aiida_nanoml.cli.output import emit, identity_line, interval_line, metric_table, record, source_line

if TYPE_CHECKING:
    from aiida_nanoml.data.dataset import DatasetData

KINDS = ('fast', 'paper', 'transfer', 'correction', 'alloy', 'linear', 'ridge', 'tree', 'forest', 'svm')


@click.command(epilog=example('aiida-nanoml train gaps --model fast --epochs 50 --name gap-model'))
@click.argument('dataset', type=DataNode('nanoml.dataset'))
@click.option(
    '--model',
    'kind',
    type=click.Choice(KINDS),
    help='Kind of model.  [default: fast; with a baseline: correction; for others than the gap: alloy]',
)
@click.option('--alone', is_flag=True, help='Learn the target itself, although DATASET has a baseline.')
@click.option('--folds', type=click.IntRange(3), help='Also cross-validate with this many folds.')
@click.option('--allow-leakage', is_flag=True, help='Accept structures that are in two parts of the split.')
@click.option('--epochs', type=int, help='Largest number of passes over the training rows.')
@click.option('--batch-size', type=int, help='Rows of one step.')
@click.option('--hidden-layers', type=Numbers(), help='Neurons of each hidden layer, for example 300,50,25.')
@click.option('--learning-rate', type=float, help='Learning rate of Adam.')
@click.option('--seed', type=int, help='Seed of the initial weights and of the order of the rows.')
@setting('Any other hyperparameter of the model; repeatable.')
@CODE
@WALLCLOCK
@QUEUE
@SUBMIT
@NAME
@JSON
def train(
    dataset: DatasetData,
    kind: str | None,
    alone: bool,
    folds: int | None,
    allow_leakage: bool,
    settings: tuple[tuple[str, Any], ...],
    code: Any,
    wallclock: int | None,
    queue: str | None,
    submit: bool,
    name: str,
    as_json: bool,
    **named: Any,
) -> None:
    """Train a model on the training rows of DATASET and judge it on all parts of its split.

    The kinds fast, paper, transfer, correction and alloy are gap networks; the others are models of scikit-learn. With
    a baseline in DATASET, a model learns the correction to it. All targets of DATASET are learnt by one model: alloy,
    linear, ridge, tree and forest can learn several, and other networks with --set target_scale_ev=null.
    """
    from aiida.orm import Bool, Dict, Int, Str

    from aiida_nanoml.calculations.train import TrainCalculation
    from aiida_nanoml.learning.registry import default_kind

    corrects = dataset.baseline_source is not None and not alone
    kind = kind or default_kind(dataset.target, 1 + len(dataset.others), corrects)
    hyperparameters = {key: value for key, value in named.items() if value is not None}
    twice = sorted(set(hyperparameters) & {key for key, _ in settings})
    if twice:
        raise click.UsageError(f'{", ".join(twice)} is given twice, as an option and with --set')
    hyperparameters |= dict(settings)
    builder = TrainCalculation.get_builder()
    builder.code = code or default_code()
    builder.dataset = dataset
    builder.kind = Str(kind)
    if hyperparameters:
        builder.hyperparameters = Dict(hyperparameters)
    if alone:
        builder.alone = Bool(alone)
    if folds is not None:
        builder.folds = Int(folds)
    if allow_leakage:
        builder.allow_leakage = Bool(allow_leakage)
    builder.metadata.options = job_options(wallclock, queue)
    if submit:
        submit_builder(builder, name, as_json)
        return
    process = run_builder(builder)
    node = process.outputs.model
    node.label = name
    metrics = process.outputs.metrics.get_dict()
    baseline = node.base.attributes.get('baseline')
    fingerprint = node.base.attributes.get('fingerprint')
    emit(
        as_json,
        record(
            node,
            process=process.uuid,
            kind=kind,
            target=dataset.target,
            others=list(dataset.others),
            fingerprint=fingerprint,
            baseline=baseline,
            metrics=metrics,
            calibration=node.base.attributes.get('calibration'),
            domain_limit=node.base.attributes.get('domain_limit'),
            parameters=node.base.attributes.get('parameters'),
        ),
        {'model': identity_line(node), 'kind': kind}
        | ({'corrects': source_line(baseline)} if baseline else {})
        | {'fingerprint': fingerprint[:12]}
        | interval_line(metrics, 'held-out' if folds else 'test'),
        f'plot {node.label or node.pk} -o parity.png',
        metric_table(metrics, target=dataset.target, others=dataset.others),
    )
