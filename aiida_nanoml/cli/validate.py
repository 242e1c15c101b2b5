"""``aiida-nanoml validate``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from aiida_nanoml.cli.launch import run_builder, run_function, submit_builder
from aiida_nanoml.cli.options import (
    CODE,
    JSON,
    NAME,
    QUEUE,
    SUBMIT,
    WALLCLOCK,
    DataNode,
    WorkerCode,
    default_code,
    example,
    job_options,
)
from aiida_nanoml.cli.output import emit, identity_line, interval_line, metric_table, record

if TYPE_CHECKING:
    from aiida_nanoml.data.labels import LabelSetData
    from aiida_nanoml.data.prediction import PredictionData
    from aiida_nanoml.data.structures import StructureSetData

CHOICES = ('uncertain', 'random', 'all')


@click.command(epilog=example('aiida-nanoml validate predictions labels'))
@click.argument('predictions', type=DataNode('nanoml.prediction'))
@click.argument('labels', type=DataNode('nanoml.labels'), required=False)
@click.option('--choose', type=click.Choice(CHOICES), help='Which structures to label.  [default: uncertain]')
@click.option('--count', type=click.IntRange(1), help='How many of them.  [default: 10]')
@click.option('--only', multiple=True, metavar='NAME', help='Label the structure of this name; repeatable.')
@click.option('--seed', type=int, default=0, show_default=True, help='Of --choose random.')
@click.option(
    '--structures', type=DataNode('nanoml.structures'), help='Those behind features; default: what was predicted.'
)
@click.option('--atoms', type=DataNode('nanoml.labels'), help='Labels of the isolated atoms, for cohesive energies.')
@click.option('--known', type=DataNode('nanoml.labels'), multiple=True, help='Labels that exist; repeatable.')
@click.option('--batch-size', type=click.IntRange(1), help='Structures in one job.')
@click.option('--max-concurrent', type=click.IntRange(1), help='Jobs at the same time.')
@CODE
@click.option('--engine-code', type=WorkerCode(), help='Program that the engine runs, such as siesta@cluster.')
@click.option('--pseudo-family', help='Family of pseudopotentials; default: ours, see `pseudos list`.')
@WALLCLOCK
@QUEUE
@SUBMIT
@NAME
@JSON
def validate(
    predictions: PredictionData,
    labels: LabelSetData | None,
    name: str,
    as_json: bool,
    atoms: LabelSetData | None,
    **asked: Any,
) -> None:
    """Compare PREDICTIONS with labels, and tell the error and the time saved.

    With LABELS of the same structures, these are taken. Without, some structures are chosen and labelled now, with the
    engine, protocol and parameters of the labels that the model learnt from.
    """
    if labels is None:
        made = _label_and_compare(predictions, name, as_json, atoms, **asked)
        if made is None:
            return
    else:
        if any(asked[key] for key in ('choose', 'count', 'only', 'known', 'submit')):
            raise click.UsageError('with LABELS nothing is chosen and labelled: leave out LABELS, or the options')
        made = _compare(predictions, labels, asked['structures'], atoms)
    node, metrics = made['metrics'], made['metrics'].get_dict()
    node.label = name
    parts = {key: value for key, value in metrics.items() if isinstance(value, dict)}
    lines = {
        'metrics': identity_line(node),
        'labelling': f'{metrics["labelling_s"]:.1f} s',
        'not compared': metrics['n_not_compared'],
        **interval_line(parts, 'all'),
    }
    if metrics.get('speedup') is not None:
        lines['time'] = (
            f'{metrics["label_s_each"]:.3g} s a label, {metrics["prediction_s_each"]:.3g} s a prediction: '
            f'{metrics["speedup"]:.3g} times as fast'
        )
    emit(
        as_json,
        record(node, table=made['table'].uuid, metrics=metrics),
        lines,
        f'plot {predictions.label or predictions.pk} -o validation.png',
        metric_table(parts, target=predictions.base.attributes.get('target')),
    )


def _compare(
    predictions: PredictionData, labels: LabelSetData, structures: StructureSetData | None, atoms: LabelSetData | None
) -> Any:
    from aiida_nanoml.calculations.functions.validation import compare_with_labels
    from aiida_nanoml.learning.targets import find_target

    job = predictions.creator
    costs = {}
    if structures is None and find_target(predictions.base.attributes.get('target')).from_structures:
        structures = job.inputs.structures if job is not None and 'structures' in job.inputs else None
    given = {'structures': structures, 'atoms': atoms}
    if job is not None and job.process_label == 'PredictCalculation':
        costs = {'report': job.outputs.retrieved} | (
            {'baseline': job.inputs.baseline} if 'baseline' in job.inputs else {}
        )
    return run_function(
        compare_with_labels,
        predictions=predictions,
        labels=labels,
        **costs,
        **{name: node for name, node in given.items() if node is not None},
    )


def _label_and_compare(
    predictions: PredictionData,
    name: str,
    as_json: bool,
    atoms: LabelSetData | None,
    choose: str | None,
    count: int | None,
    only: tuple[str, ...],
    seed: int,
    structures: StructureSetData | None,
    known: tuple[LabelSetData, ...],
    batch_size: int | None,
    max_concurrent: int | None,
    code: Any,
    engine_code: Any,
    pseudo_family: str | None,
    wallclock: int | None,
    queue: str | None,
    submit: bool,
) -> Any:
    """Run the workflow; None: it was submitted."""
    from aiida_nanoml.workflows.validate import ValidateWorkChain, choice_of

    if only and (choose or count):
        raise click.UsageError('give either --only or --choose with --count')
    given = {'batch_size': batch_size, 'max_concurrent': max_concurrent}
    builder = ValidateWorkChain.get_builder_from_predictions(
        code or default_code(),
        predictions,
        structures,
        choice_of(choose or 'uncertain', count or 10, seed, only),
        {key: value for key, value in given.items() if value is not None},
        job_options(wallclock, queue),
        engine_code,
        pseudo_family,
    )
    if atoms is not None:
        builder.atoms = atoms
    if known:
        builder.known = {f'known_{number:03d}': node for number, node in enumerate(known)}
    if submit:
        submit_builder(builder, name, as_json)
        return None
    return run_builder(builder).outputs
