"""Second part of the quickstart: gaps of SIESTA, learnt alone and as a correction to the engine of the first part."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import click

from aiida_nanoml.cli.output import metric_table, note
from aiida_nanoml.text import aligned

FOLDS = 5
HELD_OUT = 'held-out'
FIGURE = 'Energy_gap_correction.png'
SHOWN = 5


def learn_from_siesta(request: dict[str, Any], code: Any, first: Any, jobs: int) -> dict[str, Any]:
    """Import the starter data, train on them both ways, and predict the unseen flakes of the first part.

    :param request: what the first part was asked for; its engine and protocol are the baseline.
    :param first: process of the first part, with the unseen flakes and their labels.
    :param jobs: jobs at the same time.
    :returns: nodes by name: ``dataset``, ``correction`` and ``alone`` (processes), ``predictions``.
    :raises ClickException: a step failed.
    """
    from aiida import orm
    from aiida.plugins import CalculationFactory

    from aiida_nanoml.actions.starter import starter_sets
    from aiida_nanoml.calculations.functions.datasets import assemble_dataset
    from aiida_nanoml.cli.launch import run_function
    from aiida_nanoml.workflows.label import LabelWorkChain

    sets, _ = starter_sets()
    structures, labels = sets['structures'], sets['labels']
    note(f'\n{structures.n_structures} flakes with gaps of {labels.label_source}, every run among them, were imported')
    batches = {'batch_size': -(-structures.n_structures // jobs), 'max_concurrent': jobs}
    baseline = _run(
        LabelWorkChain.get_builder_from_protocol(code, structures, request['engine'], request['protocol'], batches)
    )
    dataset = run_function(
        assemble_dataset,
        structures=structures,
        labels=labels,
        descriptor=orm.Dict({'name': 'quadruplets', 'params': {'classes': 22, 'unknown': 'drop'}}),
        baseline=baseline.outputs.labels,
        split=orm.Dict({'by_family': True}),
    )
    trained: dict[str, Any] = {}
    for name, kind in (('correction', 'correction'), ('alone', 'fast')):
        builder = CalculationFactory('nanoml.train').get_builder()
        builder.code, builder.dataset = code, dataset
        builder.kind, builder.folds, builder.alone = orm.Str(kind), orm.Int(FOLDS), orm.Bool(name == 'alone')
        trained[name] = _run(builder)
    better = min(trained, key=lambda name: trained[name].outputs.metrics[HELD_OUT]['mae'])
    builder = CalculationFactory('nanoml.predict').get_builder()
    builder.code, builder.model = code, trained[better].outputs.model
    builder.structures = first.outputs.predictions.creator.inputs.structures
    if better == 'correction':
        builder.baseline = first.outputs.validation.labels
    return {'dataset': dataset, **trained, 'better': better, 'prediction': _run(builder)}


def _run(builder: Any) -> Any:
    """Hand a process to the daemon, follow it, and return its node."""
    from aiida.engine import submit

    from aiida_nanoml.cli.launch import raise_if_failed
    from aiida_nanoml.cli.progress import follow

    process = submit(builder)
    follow(process)
    raise_if_failed(process)
    return process


def summarise(nodes: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Copy the parity plot of the better model, and give what is worth telling in types of JSON.

    :param nodes: from :func:`learn_from_siesta`.
    :param folder: where the figure goes.
    """
    better = nodes[nodes['better']]
    [name] = [name for name in better.outputs.figures.base.repository.list_object_names() if 'prediction' in name]
    with better.outputs.figures.base.repository.open(name, 'rb') as source, (folder / FIGURE).open('wb') as target:
        shutil.copyfileobj(source, target)
    attributes = nodes['dataset'].base.attributes
    return {
        'labels': _source(attributes.get('labels')),
        'baseline': _source(attributes.get('baseline')),
        'n_rows': attributes.get('n_rows'),
        'folds': FOLDS,
        'better': nodes['better'],
        'metrics': {name: nodes[name].outputs.metrics.get_dict() for name in ('correction', 'alone')},
        'model_uuid': better.outputs.model.uuid,
        'prediction_uuid': nodes['prediction'].outputs.predictions.uuid,
        'figure': str(folder / FIGURE),
    }


def report(nodes: dict[str, Any], summary: dict[str, Any]) -> None:
    """Show both models beside each other, some predictions, and where they come from."""
    from aiida_nanoml.provenance.lineage import trace

    click.echo(f'\nGap of {summary["labels"]}: {summary["n_rows"]} flakes, each predicted by a network that')
    click.echo(f'did not see it ({FOLDS} folds): from the features alone, and as a correction to the baseline')
    found = summary['metrics']
    rows = {}
    for part, values in found['correction'].items():
        if part.split('/')[0] == HELD_OUT:
            family = part.removeprefix(HELD_OUT).replace('/', ' ')
            rows[f'alone{family}'] = found['alone'][part]
            rows[f'baseline{family}'] = found['correction'][f'baseline/{part}']
            rows[f'correction{family}'] = values
    click.echo(metric_table(rows))
    click.echo(f'baseline: {summary["baseline"]}')
    predictions = nodes['prediction'].outputs.predictions
    names, gaps, deviations = (predictions.get_array(name)[:SHOWN] for name in ('names', 'value', 'std'))
    table: list[list[object]] = [['unseen flake', 'gap (eV)', 'std (eV)']]
    table += [[name, f'{gap:.3f}', f'{std:.3f}'] for name, gap, std in zip(names, gaps, deviations, strict=True)]
    click.echo(f'\nGap of {summary["labels"]}, by the better one: {summary["better"]}')
    click.echo(aligned(table))
    click.echo(f'\nLineage of the prediction for {names[0]}')
    click.echo(trace(predictions).render())


def _source(source: dict[str, Any]) -> str:
    return f'{source["title"]} {source["version"]}, protocol {source["protocol"]}'
