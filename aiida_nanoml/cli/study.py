"""``aiida-nanoml study``."""

from __future__ import annotations

import inspect
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import click

from aiida_nanoml.cli.launch import run_builder, run_function, submit_builder
from aiida_nanoml.cli.options import (
    CODE,
    FORCE,
    JSON,
    NAME,
    QUEUE,
    SUBMIT,
    WALLCLOCK,
    AnyNode,
    DataNode,
    KeyValue,
    chosen_group,
    chosen_targets,
    default_code,
    descriptor_choice,
    example,
    job_options,
    load_storage,
    setting,
    target_options,
)
from aiida_nanoml.cli.output import emit, record, refuse_overwriting, source_line
from aiida_nanoml.text import aligned

if TYPE_CHECKING:
    from aiida.orm import FolderData, Node, ProcessNode

    from aiida_nanoml.learning.studies.base import Study

WORKFLOW = 'nanoml.study'
FEW_SEEDS = 3
EXAMPLES = MappingProxyType(
    {
        'learning_curve': 'aiida-nanoml study learning-curve flakes --labels labels --kind linear --set rows=[10,20] '
        '-o curve',
        'hyperparameters': 'aiida-nanoml study hyperparameters flakes --labels labels --kind forest '
        "--set 'grid={n_trees: [50, 200]}' -o forest",
        'selection': 'aiida-nanoml study selection flakes --labels labels --kind ridge --set methods=[vt,rcr] '
        '-o selection',
        'transfer': 'aiida-nanoml study transfer h-flakes s-flakes --labels h-labels --labels s-labels --kind ridge '
        '-o transfer',
    }
)
"""Example on the help page of a study; others have a general one."""


class StudyGroup(click.Group):
    """A command for each registered study, and one that shows what was made."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name the studies, those of other packages too."""
        from aiida_nanoml.learning.studies import study_names

        return [*(name.replace('_', '-') for name in study_names()), 'show']

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Make the command of a study."""
        if cmd_name == 'show':
            return show
        from aiida_nanoml.learning.studies import study_class, study_names

        name = cmd_name.replace('-', '_')
        return _command(study_class(name)) if name in study_names() else None


@click.group(cls=StudyGroup)
def study() -> None:
    """Studies: how well gaps, or other targets, are learnt, over repeated seeds, as tables and figures."""


def _command(chosen: type[Study]) -> click.Command:
    """Make the command of a study; its settings stand on its help page."""
    command_name = chosen.name.replace('_', '-')
    settings = ''.join(
        f'\n  {name}={_written(field.default)}: {field.description}'
        for name, field in chosen.settings_model.model_fields.items()
    )
    default = '+'.join(part['name'] for part in chosen.descriptor['params'].get('parts', [chosen.descriptor]))
    parameters = [
        click.Argument(['structures'], type=DataNode('nanoml.structures'), nargs=-1, required=True),
        click.Option(['--labels'], type=DataNode('nanoml.labels'), multiple=True, required=True,
                     help='Labels; repeatable.'),
        click.Option(['--baseline'], type=DataNode('nanoml.labels'), multiple=True,
                     help='Labels from a cheaper engine that models are to correct; repeatable.'),
        click.Option(['--descriptor'],
                     help=f'Registered name of the descriptor, or several joined by +.  [default: {default}]'),
        click.Option(['--descriptor-set'], type=KeyValue(), multiple=True,
                     help='Parameter of the descriptor; of one of several, PART.KEY=VALUE; repeatable.'),
        click.Option(['--kind'], help='Kind of model.  [default: transfer, one network of 300-50-25 neurons; '
                          'for others than the gap: alloy]'),
        click.Option(['--model-set'], type=KeyValue(), multiple=True, help='Hyperparameter of the model; repeatable.'),
        click.Option(['--seeds'], type=click.IntRange(1), default=FEW_SEEDS, show_default=True,
                     help='Repetitions, each with a split, a draw of the descriptor and initial weights of its own.'),
        click.Option(['--validation'], type=float, default=0.2, show_default=True, help='Share of validation rows.'),
        click.Option(['--test'], type=float, default=0.2, show_default=True, help='Share of test rows.'),
        click.Option(['--max-concurrent'], type=click.IntRange(1), default=2, show_default=True,
                     help='Jobs at the same time.'),
        click.Option(['--output', '-o'], type=click.Path(path_type=Path, file_okay=False),
                     help='Folder for the figure and the tables.'),
    ]  # fmt: skip

    def run(**options: Any) -> None:
        _run(chosen, **options)

    command = click.Command(
        command_name,
        params=parameters,
        callback=run,
        help=f'{inspect.getdoc(chosen)}\n\n\b\nSettings (--set), with their defaults:{settings}',
        short_help=(inspect.getdoc(chosen) or '').split('\n\n')[0].replace('\n', ' '),
        epilog=example(
            EXAMPLES.get(chosen.name, f'aiida-nanoml study {command_name} flakes --labels labels -o {command_name}')
        ),
    )
    shared = (
        JSON,
        NAME,
        FORCE,
        SUBMIT,
        QUEUE,
        WALLCLOCK,
        CODE,
        target_options,
        setting('Setting of the study; repeatable.'),
    )
    for option in shared:
        command = option(command)
    return command


def _written(default: Any) -> str:
    if default is None:
        return '…'
    if isinstance(default, tuple):
        return '[' + ','.join(map(str, default)) + ']'
    return str(default)


def _run(
    chosen: type[Study],
    structures: tuple[Any, ...],
    labels: tuple[Any, ...],
    baseline: tuple[Any, ...],
    descriptor: str | None,
    descriptor_set: tuple[tuple[str, Any], ...],
    kind: str | None,
    model_set: tuple[tuple[str, Any], ...],
    settings: tuple[tuple[str, Any], ...],
    target: str,
    other: tuple[str, ...],
    atoms: Any,
    group: str,
    seeds: int,
    validation: float,
    test: float,
    max_concurrent: int,
    output: Path | None,
    code: Any,
    wallclock: int | None,
    queue: str | None,
    submit: bool,
    force: bool,
    name: str,
    as_json: bool,
) -> None:
    from aiida.orm import Dict, Int, List

    from aiida_nanoml.calculations.functions.labels import merge_labels
    from aiida_nanoml.calculations.functions.structures import merge_structures
    from aiida_nanoml.workflows.study import StudyWorkChain

    if submit and output is not None:
        raise click.UsageError('-o goes without --submit: write the files with `aiida-nanoml study show` when it ended')
    if descriptor is None and descriptor_set:
        raise click.UsageError('--descriptor-set goes with --descriptor')
    if output is not None:
        refuse_overwriting_in(output, chosen.name, force)
    builder = StudyWorkChain.get_builder_for(
        chosen.name,
        code or default_code(),
        _joined(merge_structures, 'structures', structures),
        _joined(merge_labels, 'labels', labels),
        settings=dict(settings),
        descriptor=None if descriptor is None else descriptor_choice(descriptor, descriptor_set),
        kind=kind,
        hyperparameters=dict(model_set),
        targets=chosen_targets(target, other),
    )
    if atoms is not None:
        builder.atoms = atoms
    if baseline:
        builder.baseline = _joined(merge_labels, 'labels', baseline)
    by = chosen_group(group) or {'by_family': True}
    builder.split = Dict({'validation': validation, 'test': test} | by)
    builder.seeds = List(list(range(seeds)))
    builder.max_concurrent = Int(max_concurrent)
    builder.options = Dict(job_options(wallclock, queue))
    if submit:
        submit_builder(builder, name, as_json, follow='study show')
        return
    process = run_builder(builder)
    for part in ('table', 'summary', 'files'):
        process.outputs[part].label = f'{name}-{part}' if name and part != 'table' else name
    _emit(process, output, force, as_json)


@click.command(epilog=example('aiida-nanoml study show curve -o curve'))
@click.argument('node', type=AnyNode())
@click.option(
    '-o', '--output', type=click.Path(path_type=Path, file_okay=False), help='Folder for the figure and the tables.'
)
@FORCE
@JSON
def show(node: Any, output: Path | None, force: bool, as_json: bool) -> None:
    """Show the tables of a study again, and write its files; NODE is its table, or the process."""
    from aiida_nanoml.provenance.campaign import process_state

    process = _process_of(node)
    if 'table' not in process.outputs:
        state = process.exit_message or process_state(process)
        raise click.ClickException(f'the study {process.pk} has no table: {state}')
    if output is not None:
        refuse_overwriting_in(output, process.inputs.study.value, force)
    _emit(process, output, force, as_json)


def _process_of(node: Node) -> ProcessNode:
    from aiida.orm import Data, ProcessNode

    process = node if isinstance(node, ProcessNode) else None
    if isinstance(node, Data) and node.creator is not None:
        process = node.creator.caller
    if process is None or process.process_type != f'aiida.workflows:{WORKFLOW}':
        raise click.ClickException(f'{node.label or node.pk} is neither a study nor its table')
    return process


def refuse_overwriting_in(output: Path, study_name: str, force: bool) -> None:
    """Refuse to replace the files of a study before hours are spent on it.

    :raises ClickException: there is a figure already, or the place of the folder does not exist.
    """
    refuse_overwriting(output / f'{study_name}.png', force) if output.is_dir() else refuse_overwriting(output, force)


def _emit(process: ProcessNode, output: Path | None, force: bool, as_json: bool) -> None:
    from aiida_nanoml.calculations.functions.studies import study_of
    from aiida_nanoml.learning.studies.base import FAILED, rows_of

    table = process.outputs.table
    attributes = table.base.attributes
    made = study_of({key: attributes.get(key) for key in ('study', 'settings', 'kind', 'hyperparameters', 'target')})
    columns = table.arrays
    written = [] if output is None else _write(process.outputs.files, output)
    tables = made.tables(columns)
    failed = sorted({str(message) for message in columns['message'][columns['status'] == FAILED]})
    seeds = len(set(columns['seed'].tolist()))
    lines: dict[str, object] = {
        'study': f'{made.name}, model {made.model.kind}, {seeds} seeds (mean ± standard deviation)',
        'labels': source_line(attributes.get('labels')),
        'table': f'{f"{table.label} " if table.label else ""}pk {table.pk}, {len(columns["status"])} rows',
    }
    if failed:
        lines['failed'] = f'{int((columns["status"] == FAILED).sum())} rows, for example: {failed[0]}'
    if written:
        lines['files'] = ' '.join(str(path) for path in written)
    emit(
        as_json,
        record(
            table,
            process=process.uuid,
            study=made.name,
            kind=made.model.kind,
            target=made.target.name,
            unit=made.target.unit,
            labels=attributes.get('labels'),
            n_seeds=seeds,
            n_failed=int((columns['status'] == FAILED).sum()),
            messages=failed,
            summary=rows_of(process.outputs.summary.arrays),
            tables=tables,
            files=[str(path) for path in written],
        ),
        lines,
        f'trace {table.label or table.pk}' if written else f'study show {table.label or table.pk} -o {made.name}',
        '\n\n'.join(aligned(cells) for cells in tables.values()),
    )


def _write(files: FolderData, output: Path) -> list[Path]:
    output.mkdir(exist_ok=True)
    paths = []
    for name in sorted(files.base.repository.list_object_names()):
        paths.append(output / name)
        paths[-1].write_bytes(files.base.repository.get_object_content(name, mode='rb'))
    return paths


def _joined(function: Any, prefix: str, nodes: tuple[Node, ...]) -> Any:
    if len(nodes) == 1:
        return nodes[0]
    load_storage()
    return run_function(function, **{f'{prefix}_{number:03d}': node for number, node in enumerate(nodes)})
