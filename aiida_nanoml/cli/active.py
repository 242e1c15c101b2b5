"""``aiida-nanoml active``."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aiida_nanoml.cli.launch import run_builder, submit_builder
from aiida_nanoml.cli.options import (
    CODE,
    FORCE,
    JSON,
    NAME,
    QUEUE,
    SUBMIT,
    WALLCLOCK,
    DataNode,
    WorkerCode,
    default_code,
    descriptor_choice,
    example,
    job_options,
    setting,
)
from aiida_nanoml.cli.output import emit, identity_line, record, refuse_overwriting, source_line
from aiida_nanoml.learning.registry import MODEL_KINDS as KINDS
from aiida_nanoml.text import aligned

if TYPE_CHECKING:
    from aiida_nanoml.data.labels import LabelSetData
    from aiida_nanoml.data.structures import StructureSetData

STRATEGIES = ('mixed', 'std', 'distance', 'random')
PARTS = ('engine', 'descriptor', 'model')
REASONS = {
    'target_mae': 'the error of the held-out structures reached the target',
    'target_std': 'the mean standard deviation over the pool reached the target',
    'budget': 'the budget is spent',
    'max_rounds': 'all rounds are done',
    'pool': 'nothing is left in the pool',
}
SHOWN = {'n_asked': 'asked', 'n_learnt': 'learnt', 'n_failed': 'failed', 'n_open_shell': 'open shell', 'n_left': 'left'}
ENERGIES = {'mae': 'MAE (eV)', 'r2': 'R2', 'mean_std': 'std (eV)'}


@click.command(epilog=example('aiida-nanoml active flakes --engine xtb --protocol fast --budget 100 --name gap-model'))
@click.argument('pool', type=DataNode('nanoml.structures'))
@click.option('--held-out', type=DataNode('nanoml.structures'), help='Structures that the model is judged by.')
@click.option('--n-held-out', type=click.IntRange(1), help='Without --held-out: of POOL, at random.  [default: 100]')
@click.option('--initial', type=DataNode('nanoml.structures'), help='Structures to begin with.')
@click.option('--n-initial', type=click.IntRange(1), help='Without --initial: of POOL, at random.  [default: 50]')
@click.option('--per-round', type=click.IntRange(1), help='Structures of each further round.  [default: 25]')
@click.option('--strategy', type=click.Choice(STRATEGIES), help='How they are chosen.  [default: mixed]')
@click.option('--rounds', type=click.IntRange(1), help='Stop after so many rounds, the first one included.')
@click.option('--budget', type=click.IntRange(1), help='Stop when so many structures were asked for.')
@click.option('--target-mae', type=click.FloatRange(0, min_open=True), help='Stop at this error, eV.')
@click.option('--target-std', type=click.FloatRange(0, min_open=True), help='Stop at this mean std of the pool, eV.')
@click.option('--compare', is_flag=True, help='Afterwards learn from as many structures drawn at random.')
@click.option('--engine', default='xtb', show_default=True, help='Registered name of the engine.')
@click.option(
    '--protocol', default='balanced', show_default=True, help='fast, balanced, stringent, or another one of the engine.'
)
@click.option('--known', type=DataNode('nanoml.labels'), multiple=True, help='Labels that exist; repeatable.')
@click.option('--baseline', type=DataNode('nanoml.labels'), help='Labels of all structures that the model corrects.')
@click.option('--descriptor', default='quadruplets', show_default=True, help='Registered name, or several joined by +.')
@click.option(
    '--model', 'kind', type=click.Choice(list(KINDS)), help='Kind of model.  [default: fast; --baseline: correction]'
)
@setting('engine.KEY=VALUE, descriptor.KEY=VALUE or model.KEY=VALUE; repeatable.')
@click.option('--validation', type=float, help='Share of the labels that the training watches.  [default: 0.2]')
@click.option('--seed', type=int, default=0, show_default=True, help='Of what is drawn at random.')
@click.option('--batch-size', type=click.IntRange(1), help='Structures in one job.')
@click.option('--max-concurrent', type=click.IntRange(1), help='Jobs at the same time.')
@CODE
@click.option('--engine-code', type=WorkerCode(), help='Program that the engine runs, such as siesta@cluster.')
@click.option('--pseudo-family', help='Family of pseudopotentials; default: ours, see `pseudos list`.')
@click.option('-o', '--output', type=click.Path(path_type=Path, dir_okay=False), help='Write the figure here, as PNG.')
@FORCE
@WALLCLOCK
@QUEUE
@SUBMIT
@NAME
@JSON
def active(
    pool: StructureSetData,
    held_out: StructureSetData | None,
    n_held_out: int | None,
    initial: StructureSetData | None,
    n_initial: int | None,
    per_round: int | None,
    strategy: str | None,
    rounds: int | None,
    budget: int | None,
    target_mae: float | None,
    target_std: float | None,
    compare: bool,
    engine: str,
    protocol: str,
    known: tuple[LabelSetData, ...],
    baseline: LabelSetData | None,
    descriptor: str,
    kind: str | None,
    settings: tuple[tuple[str, Any], ...],
    validation: float | None,
    seed: int,
    batch_size: int | None,
    max_concurrent: int | None,
    code: Any,
    engine_code: Any,
    pseudo_family: str | None,
    output: Path | None,
    force: bool,
    wallclock: int | None,
    queue: str | None,
    submit: bool,
    name: str,
    as_json: bool,
) -> None:
    """Label the structures of POOL that teach most, round by round, and train on them.

    Each round chooses structures, labels them, trains, and judges the model by held-out structures, which are never
    learnt from. Say when to stop by --rounds, --budget, --target-mae or --target-std: the first one that holds counts.
    """
    from aiida.orm import Bool, Float, Int

    from aiida_nanoml.engines.registry import get_engine
    from aiida_nanoml.workflows.active import ActiveWorkChain

    stops = {
        'max_rounds': None if rounds is None else Int(rounds),
        'budget': None if budget is None else Int(budget),
        'target_mae': None if target_mae is None else Float(target_mae),
        'target_std': None if target_std is None else Float(target_std),
    }
    if not any(stops.values()):
        raise click.UsageError('say when to stop: --rounds, --budget, --target-mae or --target-std')
    for node, number, option in ((held_out, n_held_out, 'held-out'), (initial, n_initial, 'initial')):
        if node is not None and number is not None:
            raise click.UsageError(f'give either --{option} or --n-{option}')
    if output is not None:
        refuse_overwriting(output, force)
    parts = _divided(settings)
    get_engine(engine).parameters(protocol, dict(parts['engine']))  # says what is valid, before anything is stored
    label = {'batch_size': batch_size, 'max_concurrent': max_concurrent}
    numbers = {'n_held_out': n_held_out, 'n_initial': n_initial, 'n_per_round': per_round, 'validation': validation}
    given = numbers | {'strategy': strategy, 'kind': kind or (None if baseline is None else 'correction')}
    overrides = {key: value for key, value in given.items() if value is not None} | {
        'seed': seed,
        'hyperparameters': dict(parts['model']),
        'descriptor': descriptor_choice(descriptor, parts['descriptor']),
        'label': {key: value for key, value in label.items() if value is not None}
        | {'parameters': dict(parts['engine'])},
    }
    builder = ActiveWorkChain.get_builder_from_protocol(
        code or default_code(),
        pool,
        held_out,
        initial,
        engine,
        protocol,
        overrides,
        job_options(wallclock, queue),
        engine_code,
        pseudo_family,
    )
    for stop, limit in stops.items():
        if limit is not None:
            builder[stop] = limit
    builder.compare = Bool(compare)
    if known:
        builder.label.known = {f'known_{number:03d}': node for number, node in enumerate(known)}
    if baseline is not None:
        builder.baseline = baseline
    if submit:
        submit_builder(builder, name, as_json)
        return
    process = run_builder(builder)
    node = process.outputs.model
    node.label = name
    if output is not None:
        with (
            process.outputs.figures.base.repository.open('active_learning.png', 'rb') as source,
            output.open('wb') as to,
        ):
            shutil.copyfileobj(source, to)
    table = {key: process.outputs.table.get_array(key).tolist() for key in process.outputs.table.get_arraynames()}
    summary = process.outputs.summary.get_dict()
    lines = {
        'model': identity_line(node),
        'labels': source_line(summary['labels']),
        'held out': f'{summary["n_held_out"]} structures',
        'strategy': summary['strategy'],
        'stopped': f'{REASONS[summary["stopped_by"]]} ({summary["stopped_by"]})',
    }
    if 'random_mae' in summary:
        lines['at random'] = f'MAE {summary["random_mae"]:.3f} eV from {summary["random_n_learnt"]} labels'
    emit(
        as_json,
        record(node, process=process.uuid, rounds=_without_nan(table), **summary),
        lines,
        f'trace {node.label or node.pk}',
        _round_table(table),
    )


def _divided(settings: tuple[tuple[str, Any], ...]) -> dict[str, list[tuple[str, Any]]]:
    """Settings by what they are of, with the rest of their names."""
    parts: dict[str, list[tuple[str, Any]]] = {part: [] for part in PARTS}
    for key, value in settings:
        part, dot, rest = key.partition('.')
        if not dot or part not in parts:
            raise click.UsageError(f'--set {key}: write engine.KEY=VALUE, descriptor.KEY=VALUE or model.KEY=VALUE')
        parts[part].append((rest, value))
    return parts


def _round_table(table: dict[str, list[Any]]) -> str:
    rows: list[list[str]] = [['round', *SHOWN.values(), *ENERGIES.values()]]
    for number in range(len(table['mae'])):
        energies = [table[key][number] for key in ENERGIES]
        shown = ['-' if math.isnan(value) else f'{value:.3f}' for value in energies]
        rows.append([str(number + 1), *(str(table[key][number]) for key in SHOWN), *shown])
    return aligned(rows)


def _without_nan(table: dict[str, list[Any]]) -> dict[str, list[Any]]:
    return {
        key: [None if isinstance(value, float) and math.isnan(value) else value for value in column]
        for key, column in table.items()
    }
