"""``aiida-nanoml dataset``."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aiida_nanoml.cli.launch import run_function
from aiida_nanoml.cli.options import (
    FORCE,
    JSON,
    NAME,
    DataNode,
    chosen_group,
    chosen_targets,
    descriptor_choice,
    example,
    setting,
    target_options,
)
from aiida_nanoml.cli.output import counts, emit, identity_line, record, refuse_overwriting, source_line

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from aiida_nanoml.data.dataset import DatasetData
    from aiida_nanoml.learning.targets import Target


DESCRIPTOR_HELP = 'Registered name of the descriptor, or several joined by +.'
NATURE = {None: '', False: ' (structure only)', True: ' (runs a tight-binding calculation)'}
SETTING_HELP = 'Parameter of the descriptor; of one of several, PART.KEY=VALUE; repeatable.'


def split_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of a split."""
    for option in (
        click.option('--no-by-family', is_flag=True, help='Do not keep the same shares in every family.'),
        click.option('--seed', type=int, default=0, show_default=True, help='Seed of the split.'),
        click.option('--test', type=float, default=0.2, show_default=True, help='Share of test rows.'),
        click.option('--validation', type=float, default=0.2, show_default=True, help='Share of validation rows.'),
    ):
        command = option(command)
    return command


@click.group()
def dataset() -> None:
    """Data sets: features, targets and split."""


@dataset.command(
    epilog=example(
        'aiida-nanoml dataset build flakes --labels labels --name gaps\n'
        'aiida-nanoml dataset build cells --labels labels --atoms atoms --target cohesive_energy --other pressure \\\n'
        '  --descriptor alloy --group alloy --name energies'
    ),
    short_help='Describe labelled structures and split them.',
)
@click.argument('structures', type=DataNode('nanoml.structures'), nargs=-1, required=True)
@click.option('--labels', type=DataNode('nanoml.labels'), multiple=True, required=True, help='Labels; repeatable.')
@click.option(
    '--baseline',
    type=DataNode('nanoml.labels'),
    multiple=True,
    help='Labels from a cheaper engine that models are to correct; repeatable.',
)
@click.option('--descriptor', default='quadruplets', show_default=True, help=DESCRIPTOR_HELP)
@setting(SETTING_HELP)
@target_options
@split_options
@NAME
@JSON
def build(
    structures: tuple[Any, ...],
    labels: tuple[Any, ...],
    baseline: tuple[Any, ...],
    descriptor: str,
    settings: tuple[tuple[str, Any], ...],
    target: str,
    other: tuple[str, ...],
    atoms: Any,
    group: str,
    validation: float,
    test: float,
    seed: int,
    no_by_family: bool,
    name: str,
    as_json: bool,
) -> None:
    """Describe labelled STRUCTURES, put the gaps, or other targets, beside the features, and split the rows.

    Several sets are joined. Rows whose label failed or does not tell a target, for gaps rows with an odd electron
    count, repeated structures and, with a baseline, rows without one are left out and counted. A descriptor that
    learns, such as clusters, sees the training rows only. A split by alloy or composition does not keep the shares of
    the families.
    """
    from aiida.orm import Dict

    from aiida_nanoml.calculations.functions.datasets import assemble_dataset
    from aiida_nanoml.calculations.functions.labels import merge_labels
    from aiida_nanoml.calculations.functions.structures import merge_structures

    targets = chosen_targets(target, other)
    by_family = {'by_family': not no_by_family} if no_by_family or not chosen_group(group) else {}
    node: DatasetData = run_function(
        assemble_dataset,
        structures=_joined(merge_structures, 'structures', structures),
        labels=_joined(merge_labels, 'labels', labels),
        descriptor=Dict(descriptor_choice(descriptor, settings)),
        split=Dict({'validation': validation, 'test': test, 'seed': seed} | by_family | chosen_group(group)),
        **({'baseline': _joined(merge_labels, 'labels', baseline)} if baseline else {}),
        **({'targets': Dict(targets)} if targets else {}),
        **({} if atoms is None else {'atoms': atoms}),
    )
    node.label = name
    _emit_dataset(node, as_json)


@dataset.command(
    'import',
    epilog=example('aiida-nanoml dataset import x.dat y.dat --labels-from "SIESTA 4.1, LDA-CA DZP" --name siesta'),
    short_help='Read features and gaps from text files.',
)
@click.argument('x', type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument('y', type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option('--labels-from', required=True, help='What gave the gaps: "NAME VERSION, PROTOCOL".')
@click.option('--descriptor', help='The columns are those of this descriptor; default: features of unknown origin.')
@setting(SETTING_HELP)
@click.option('--n-features', type=click.IntRange(1), default=26, show_default=True, help='Columns of X.')
@click.option('--target-scale', type=float, default=4.0, show_default=True, help='Y holds the gap / this, in eV.')
@click.option('--family', default='', help='Family of the rows.')
@split_options
@NAME
@JSON
def import_(
    x: Path,
    y: Path,
    labels_from: str,
    descriptor: str | None,
    settings: tuple[tuple[str, Any], ...],
    n_features: int,
    target_scale: float,
    family: str,
    validation: float,
    test: float,
    seed: int,
    no_by_family: bool,
    name: str,
    as_json: bool,
) -> None:
    """Read N rows of features from X and N gaps from Y, numbers separated by white space, and split the rows."""
    from aiida.orm import Dict, SinglefileData

    from aiida_nanoml.calculations.functions.datasets import import_dataset, split_dataset
    from aiida_nanoml.cli.options import load_storage

    parameters: dict[str, Any] = {
        'labels': parse_source(labels_from),
        'target_scale_ev': target_scale,
        'family': family,
    }
    if descriptor is None and settings:
        raise click.UsageError('--set goes with --descriptor')
    if descriptor is None:
        parameters['n_features'] = n_features
    else:
        parameters['descriptor'] = descriptor_choice(descriptor, settings)
    load_storage()
    rows = run_function(
        import_dataset,
        x=SinglefileData(x.absolute()),
        y=SinglefileData(y.absolute()),
        parameters=Dict(parameters),
    )
    split = {'validation': validation, 'test': test, 'seed': seed, 'by_family': not no_by_family}
    node: DatasetData = run_function(split_dataset, dataset=rows, parameters=Dict(split))
    node.label = name
    _emit_dataset(node, as_json)


def parse_source(text: str) -> dict[str, Any]:
    """Read ``NAME VERSION, PROTOCOL``, for example ``SIESTA 4.1, LDA-CA DZP``.

    :returns: the fields of :class:`~aiida_nanoml.engines.label_set.LabelSource`. The engine is ``imported``, so that
        these labels are never taken for those that an engine gave here.
    """
    match = re.fullmatch(r'\s*(?P<title>\S.*?)\s+(?P<version>v?\d\S*)\s*,\s*(?P<protocol>\S.*?)\s*', text)
    if match is None:
        raise click.BadParameter(
            f'{text!r} is not of the form "NAME VERSION, PROTOCOL", for example "SIESTA 4.1, LDA-CA DZP"',
            param_hint='--labels-from',
        )
    return {'engine': 'imported', **match.groupdict(), 'parameters': {}}


@dataset.command(
    epilog=example('aiida-nanoml dataset select gaps --by vt --set p=0.95 --name fewer'),
    short_help='Keep the features worth keeping.',
)
@click.argument('node', type=DataNode('nanoml.dataset'))
@click.option(
    '--by', 'method', required=True, help='Selector: vt, mit, vt_mit, rcr, random, or one of another package.'
)
@setting('Parameter of the selector; repeatable.')
@NAME
@JSON
def select(node: DatasetData, method: str, settings: tuple[tuple[str, Any], ...], name: str, as_json: bool) -> None:
    """Keep the columns of NODE that its training rows say are worth keeping.

    vt: variance above p (1 - p). mit: mutual information with the target above threshold. vt_mit: one, then the other.
    rcr: clusters by growing radius, up to n_features or max_radius. random: n_features by chance, to compare with.
    """
    from aiida.orm import Dict

    from aiida_nanoml.calculations.functions.datasets import select_features

    selected: DatasetData = run_function(
        select_features, dataset=node, selection=Dict({'name': method, 'params': dict(settings)})
    )
    selected.label = name
    _emit_dataset(selected, as_json)


@dataset.command(epilog=example('aiida-nanoml dataset export gaps -o .'))
@click.argument('node', type=DataNode('nanoml.dataset'))
@click.option(
    '-o', '--output', type=click.Path(path_type=Path, file_okay=False), required=True, help='Folder for x.dat, y.dat.'
)
@click.option(
    '--target-scale', type=float, default=4.0, show_default=True, help='y.dat holds the target / this, for gaps in eV.'
)
@FORCE
@JSON
def export(node: DatasetData, output: Path, target_scale: float, force: bool, as_json: bool) -> None:
    """Write the features of NODE to x.dat and its targets, those of the main one, to y.dat."""
    from aiida_nanoml.learning.exchange import write_xy

    output.mkdir(parents=True, exist_ok=True)
    paths = [output / 'x.dat', output / 'y.dat']
    for path in paths:
        refuse_overwriting(path, force)
    rows = node.dataset
    write_xy(paths[0], paths[1], rows.X, rows.y, target_scale)
    emit(
        as_json,
        record(node, n_rows=len(rows), n_features=rows.X.shape[1], files=[str(path) for path in paths]),
        {'rows': len(rows), 'features': rows.X.shape[1], 'files': ' '.join(map(str, paths))},
    )


@dataset.command(epilog=example('aiida-nanoml dataset show gaps'))
@click.argument('node', type=DataNode('nanoml.dataset'))
@JSON
def show(node: DatasetData, as_json: bool) -> None:
    """Show what NODE holds."""
    _emit_dataset(node, as_json)


def _joined(function: Any, prefix: str, nodes: Sequence[Any]) -> Any:
    if len(nodes) == 1:
        return nodes[0]
    return run_function(function, **{f'{prefix}_{number:03d}': node for number, node in enumerate(nodes)})


def _emit_dataset(node: DatasetData, as_json: bool) -> None:
    from aiida_nanoml.learning.targets import find_target

    keys = ('n_rows', 'n_features', 'families', 'split', 'excluded', 'unknown_classes', 'labels', 'target', 'unit')
    numbers = {key: node.base.attributes.get(key) for key in keys} | {'baseline': node.baseline_source}
    rows = node.dataset
    target = find_target(node.target)
    columns = {target: rows.y} | {find_target(name): values for name, values in rows.others.items()}
    parts = counts(numbers['split']) if numbers['split'] else 'not split'
    labels, descriptor = numbers['labels'], node.base.attributes.get('descriptor')
    electronic = _electronic(descriptor)
    lines = {
        'data set': identity_line(node),
        'rows': f'{numbers["n_rows"]} ({parts})' + (f', split by {node.split_by}' if rows.groups is not None else ''),
        'left out': counts(numbers['excluded']),
        'features': f'{numbers["n_features"]}, {descriptor.get("name", "unknown descriptor")}{NATURE[electronic]}',
        **{shown.noun: _range(values, shown) for shown, values in columns.items()},
        'labels': source_line(labels) if labels else 'unknown',
    }
    if node.learnt_rows is not None:
        lines['features'] += f', learnt on {node.learnt_rows} training rows'
    if node.selection is not None:
        kept = f'{numbers["n_features"]} of {node.selection["n_before"]} columns'
        lines['selection'] = f'{_written(node.selection)}: {kept}'
    if node.baseline_source and rows.baseline is not None:
        error = f'{abs(rows.y - rows.baseline).mean():.{target.digits}f} {target.unit}'
        lines['baseline'] = f'{source_line(node.baseline_source)}, MAE {error}'
    if numbers['unknown_classes']:
        lines['note'] = f'{numbers["unknown_classes"]} neighbourhoods of heavy atoms have no column in the descriptor'
    emit(
        as_json,
        record(
            node,
            **numbers,
            descriptor=descriptor.get('name'),
            electronic=electronic,
            learnt_rows=node.learnt_rows,
            selection=node.selection,
            others=node.others,
            split_by=node.split_by,
            **{
                f'{shown.name}_{what}_{shown.suffix}': getattr(values, what)().item()
                for shown, values in columns.items()
                for what in ('min', 'mean', 'max')
            },
        ),
        lines,
        f'train {node.label or node.pk}',
    )


def _range(values: NDArray[np.float64], target: Target) -> str:
    """Show the range and the mean of a target."""
    low, high, mean = (f'{number:.{target.digits}f}' for number in (values.min(), values.max(), values.mean()))
    return f'{low} to {high} {target.unit}, mean {mean} {target.unit}'


def _electronic(descriptor: Mapping[str, Any]) -> bool | None:
    """Whether the descriptor runs an electronic calculation; None where it is not installed, or not known."""
    from aiida_nanoml.errors import DescriptorError
    from aiida_nanoml.features.registry import is_electronic, make_descriptor

    try:
        return is_electronic(make_descriptor(descriptor.get('name', ''), **descriptor.get('params', {})))
    except DescriptorError:
        return None


def _written(selection: Mapping[str, Any]) -> str:
    return ' '.join([selection['name'], *(f'{key}={value}' for key, value in selection['params'].items())])
