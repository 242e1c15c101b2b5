"""``aiida-nanoml compare``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from aiida_nanoml.cli.options import ARCHIVE, FORCE, JSON, TARGETS, DataNode, example, load_storage, same_archive
from aiida_nanoml.cli.output import emit, note, refuse_overwriting


@click.command(epilog=example('aiida-nanoml compare dft-ridge dft-forest\naiida-nanoml compare --all --csv models.csv'))
@click.argument('models', type=DataNode('nanoml.model', 'nanoml.density_model'), nargs=-1, metavar='MODEL...')
@click.option('--all', 'everything', is_flag=True, help='All models of the profile, one line each.')
@click.option('--target', type=click.Choice([*TARGETS, 'density']), help='With --all: only those that predict it.')
@click.option('--kind', help='With --all: only those of this kind, for example `ridge`.')
@click.option(
    '--sort',
    type=click.Choice(['mae', 'rmse', 'r2']),
    default='mae',
    show_default=True,
    help='Test metric that tells which model is the best.',
)
@click.option('--csv', 'table', type=click.Path(path_type=Path, dir_okay=False), help='Write a row for each model.')
@click.option(
    '-o',
    '--output',
    type=click.Path(path_type=Path, dir_okay=False),
    help='Draw the test errors; the ending chooses the format: .png, .pdf or .svg.',
)
@FORCE
@ARCHIVE
@JSON
def compare(
    models: tuple[Any, ...],
    everything: bool,
    target: str | None,
    kind: str | None,
    sort: str,
    table: Path | None,
    output: Path | None,
    force: bool,
    as_json: bool,
) -> None:
    """Show how each MODEL differs from the others, and whether their test metrics may be compared.

    They may where target, labels and test rows are the same. Rows are compared by the content hashes of their
    structures.
    """
    if everything == bool(models):
        raise click.UsageError('name two models or more, or take all of the profile with --all')
    if (target or kind) and not everything:
        raise click.UsageError('--target and --kind choose among all models: they go with --all')
    if len(models) == 1:
        raise click.UsageError('one model cannot be compared: name another one as well, or see all models with --all')
    load_storage()
    from aiida_nanoml.provenance.comparison import compare as compare_models
    from aiida_nanoml.provenance.models import tabulate_models

    for path in (table, output):
        if path is not None:
            refuse_overwriting(path, force)
    listed = tabulate_models([model.pk for model in models] if models else None, target, kind, sort)
    if not listed.rows:
        chosen = ''.join(f' with {name} {value}' for name, value in (('target', target), ('kind', kind)) if value)
        raise click.ClickException(f'there is no model{chosen} in this profile: `aiida-nanoml train` makes some')
    shown = compare_models(*models) if models else listed
    if table is not None:
        table.write_text(listed.csv(), encoding='utf-8')
        note(f'{table} is written')
    if output is not None:
        listed.draw(output)
        note(f'{output} is written')
    best = listed.rows[0]
    emit(as_json, shown.to_dict(), shown.render(), f'trace {best.label or best.pk}{same_archive()}')
