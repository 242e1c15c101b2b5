"""``aiida-nanoml siesta``."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aiida_nanoml.cli.options import JSON, NAME, example, load_storage
from aiida_nanoml.cli.output import counts, emit, identity_line, note, record
from aiida_nanoml.text import aligned

if TYPE_CHECKING:
    from aiida_nanoml.cli.import_runs import FoundRun, ImportedSet

SINGLE_LIMIT = 100
"""Up to so many folders, each run has a process of its own unless the user says otherwise."""

BATCH_SIZE = 100
SHOWN_REASONS = 20


@click.group()
def siesta() -> None:
    """Runs of SIESTA that exist already."""


@siesta.command(
    'import', epilog=example('aiida-nanoml siesta import runs --name dft'), short_help='Import finished run folders.'
)
@click.argument('folders', nargs=-1, required=True, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    '--pseudo-family', help='Family of the pseudopotentials, where they are not beside the runs; default: ours.'
)
@click.option('--batch-size', type=click.IntRange(1), help=f'Runs that share a process; default: {BATCH_SIZE}.')
@click.option('--single', is_flag=True, help=f'A process for each run; default for up to {SINGLE_LIMIT} folders.')
@click.option('--family', help='Family of all structures.')
@click.option('--family-from-name', is_flag=True, help='Family: the letters with which the name of a folder begins.')
@click.option('--vacuum', type=float, help='Vacuum (Å) in the parameters of isolated structures; default: their own.')
@click.option('--densities', is_flag=True, help='Import the densities, too, of runs with SaveRho and SaveDeltaRho.')
@click.option('--mesh-spacing', type=float, help='Keep the densities on a coarse mesh of this spacing, Å.')
@NAME
@JSON
def import_(
    folders: tuple[Path, ...],
    pseudo_family: str | None,
    batch_size: int | None,
    single: bool,
    family: str | None,
    family_from_name: bool,
    vacuum: float | None,
    densities: bool,
    mesh_spacing: float | None,
    name: str,
    as_json: bool,
) -> None:
    """Import the finished runs in FOLDERS and below, made without AiiDA.

    A run is a folder with an input (.fdf), its output (.out) and the levels (.EIG). Runs that did not finish are listed
    with the reason and skipped. The command can be stopped and repeated: what was imported is recognised by its
    content. The structures and labels of all runs are joined for `dataset build`.
    """
    if single and batch_size is not None:
        raise click.UsageError('choose one of --single and --batch-size')
    if family is not None and family_from_name:
        raise click.UsageError('choose one of --family and --family-from-name')
    if mesh_spacing is not None and not densities:
        raise click.UsageError('--mesh-spacing goes with --densities')
    load_storage()
    from aiida_nanoml.calculations.local_worker import make_localhost
    from aiida_nanoml.calculations.pseudopotentials import PseudopotentialFinder
    from aiida_nanoml.cli.import_runs import DensityImporter, RunImporter, collect, find_runs
    from aiida_nanoml.cli.launch import log_to_stderr, only_errors
    from aiida_nanoml.cli.progress import counted

    log_to_stderr()
    finder = PseudopotentialFinder(pseudo_family)
    runs = find_runs(folders, _family_of_name if family_from_name else lambda _: family or '')
    if not runs:
        raise click.ClickException(
            f'there is no run in {", ".join(map(str, folders))}: no folder holds an input (.fdf) or output (.out)'
        )
    if batch_size is None and not single and len(runs) > SINGLE_LIMIT:
        batch_size = BATCH_SIZE
        note(f'{len(runs)} folders: {batch_size} runs share a process; --single gives each its own')
    importer = RunImporter(make_localhost(), finder, batch_size, vacuum)
    with only_errors():
        for _ in counted('importing', importer.take(runs), len(runs)):
            pass
    sets = collect(runs, name)
    if densities:
        further = DensityImporter(make_localhost(), finder, vacuum, mesh_spacing)
        marks = ['', *(f'-{number}' for number in range(2, len(sets) + 1))]
        with only_errors():
            sets = [
                further.take(made, runs, f'{name}-densities{mark}' if name else '')
                for made, mark in zip(sets, marks, strict=False)
            ]
        if not any(made.densities for made in sets):
            raise click.ClickException('no run saved its density: SIESTA does with SaveRho T and SaveDeltaRho T')
    _emit(runs, sets, as_json)


def _family_of_name(name: str) -> str:
    letters = re.match(r'[A-Za-z]+', name)
    return letters[0] if letters else ''


def _emit(runs: list[FoundRun], sets: list[ImportedSet], as_json: bool) -> None:
    numbers = Counter(run.status for run in runs)
    content: dict[str, Any] = {'uuid': None, 'pk': None, 'type': None, 'label': '', 'structures': None, 'labels': None}
    if sets:
        content |= record(sets[0].labels, structures=sets[0].structures.uuid, labels=sets[0].labels.uuid)
    content['sets'] = [
        {
            'structures': record(made.structures, n_structures=made.structures.n_structures),
            'labels': record(made.labels, n_rows=len(made.labels.labels)),
            'densities': made.densities and record(made.densities, n_densities=made.densities.n_densities),
            'source': made.source.to_dict(),
        }
        for made in sets
    ]
    content['counts'] = {status: numbers[status] for status in ('imported', 'present', 'skipped')}
    content['runs'] = [run.to_dict() for run in runs]
    lines: dict[str, object] = {'runs': f'{len(runs)} ({counts(content["counts"])})'}
    for number, made in enumerate(sets, start=1):
        mark = f' {number}' if len(sets) > 1 else ''
        gaps = made.labels.labels.energies['gap_ev']
        lines |= {
            f'structures{mark}': identity_line(made.structures),
            f'labels{mark}': identity_line(made.labels),
            **({f'densities{mark}': identity_line(made.densities)} if made.densities else {}),
            f'source{mark}': f'{made.source}: {len(gaps)} gaps, {gaps.min():.3f} to {gaps.max():.3f} eV',
        }
    if _differ_in_vacuum_only(sets):
        narrowest = min(made.source.parameters['vacuum_ang'] for made in sets)
        lines['note'] = f'some sets differ in the vacuum only: --vacuum {narrowest:g} puts them together'
    next_step = None
    if sets:
        first = sets[0]
        next_step = f'dataset build {first.structures.label or first.structures.pk} --labels '
        next_step += str(first.labels.label or first.labels.pk)
    emit(as_json, content, lines, next_step, _reasons(runs))


def _reasons(runs: list[FoundRun]) -> str:
    skipped = [(f'  {run.folder}', run.reason) for run in runs if run.status == 'skipped']
    if not skipped:
        return ''
    more = [f'  and {len(skipped) - SHOWN_REASONS} more, see --json'] if len(skipped) > SHOWN_REASONS else []
    return '\n'.join(['skipped:', aligned(skipped[:SHOWN_REASONS]), *more])


def _differ_in_vacuum_only(sets: list[ImportedSet]) -> bool:
    others = [
        json.dumps({key: value for key, value in made.source.parameters.items() if key != 'vacuum_ang'}, sort_keys=True)
        for made in sets
    ]
    return len(set(others)) < len(others)
