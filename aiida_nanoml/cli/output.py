"""What commands print: a short table for people, or exactly one JSON object; notes go to the standard error."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aiida_nanoml.text import aligned

if TYPE_CHECKING:
    from aiida.orm import Node


_SHOWN_METRICS = ('r2', 'mae', 'rmse')


def note(text: str) -> None:
    """Say something while a command runs, on the standard error."""
    click.echo(text, err=True)


def type_name(node: Node) -> str:
    """Name the type of a node: ``nanoml.model`` for data, ``LabelWorkChain`` for a process."""
    from aiida.orm import ProcessNode

    if isinstance(node, ProcessNode):
        return str(node.process_label or type(node).__name__)
    entry_point = node.entry_point
    return str(entry_point.name) if entry_point else type(node).__name__


def record(node: Node, **numbers: Any) -> dict[str, Any]:
    """Give the identity of a node, and what else is worth telling, in types of JSON."""
    return {'uuid': node.uuid, 'pk': node.pk, 'type': type_name(node), 'label': node.label} | numbers


def emit(
    as_json: bool,
    content: Mapping[str, Any],
    lines: Mapping[str, object] | str,
    next_step: str | None = None,
    table: str = '',
) -> None:
    """Print the result of a command.

    :param as_json: print ``content`` as one JSON object, and nothing else.
    :param content: everything, in types of JSON.
    :param lines: what a person wants to see, as rows of a table or as text.
    :param next_step: the command that usually follows, without the program's name.
    :param table: printed below the lines.
    """
    if as_json:
        click.echo(json.dumps(content, allow_nan=False))
        return
    click.echo(lines if isinstance(lines, str) else aligned(list(lines.items())))
    if table:
        click.echo(table)
    if next_step:
        click.echo(f'next: aiida-nanoml {next_step}')


def identity_line(node: Node) -> str:
    """Name a node in a table: label, PK and UUID."""
    label = f'{node.label} ' if node.label else ''
    return f'{label}pk {node.pk}, uuid {node.uuid}'


def source_line(source: Mapping[str, Any]) -> str:
    """Name the origin of labels in a table."""
    from aiida_nanoml.engines.label_set import LabelSource

    return str(LabelSource.from_dict(source))


def metric_table(
    metrics: Mapping[str, Mapping[str, float | int | None]],
    indent: str = '',
    target: str = 'gap',
    others: Iterable[str] = (),
) -> str:
    """Show r2, MAE and RMSE by part of a split, and beside them those of the baseline alone, where there is one.

    :param metrics: by part; those of other targets under ``<name>/<part>``.
    :param target: the main target, for the unit.
    :param others: names of the other targets: each has a table of its own.
    """
    beside = {name: _below(metrics, name) for name in others}
    own = {part: found for part, found in metrics.items() if part.partition('/')[0] not in beside}
    tables = [_metric_table(own, indent, target)]
    tables += [f'{indent}{name}\n{_metric_table(found, indent, name)}' for name, found in beside.items() if found]
    return '\n'.join(tables)


def _metric_table(metrics: Mapping[str, Mapping[str, float | int | None]], indent: str, target: str) -> str:
    from aiida_nanoml.learning.targets import find_target

    shown = find_target(target)
    baseline = _below(metrics, 'baseline')
    marks = ('', 'baseline ') if baseline else ('',)
    names = ('R2', f'MAE ({shown.unit})', f'RMSE ({shown.unit})')
    rows: list[list[str]] = [['', 'rows', *(f'{mark}{name}' for mark in marks for name in names)]]
    for part, values in metrics.items():
        if part.startswith('baseline/'):
            continue
        judged = [values, baseline[part]] if baseline else [values]
        numbers = [
            '-' if found[key] is None else f'{found[key]:.{3 if key == "r2" else shown.digits}f}'
            for found in judged
            for key in _SHOWN_METRICS
        ]
        rows.append([part, str(values['n']), *numbers])
    return aligned(rows, indent)


def _below(
    metrics: Mapping[str, Mapping[str, float | int | None]], name: str
) -> dict[str, Mapping[str, float | int | None]]:
    """Metrics whose part begins with a name, by the rest of the part."""
    prefix = f'{name}/'
    return {part.removeprefix(prefix): found for part, found in metrics.items() if part.startswith(prefix)}


def interval_line(metrics: Mapping[str, Mapping[str, float | int | None]], part: str) -> dict[str, str]:
    """Say in one row of a table what share of known gaps lies in the predicted intervals; no row without any."""
    found = metrics.get(part, {})
    if 'coverage_68' not in found:
        return {}
    if found['coverage_68'] is None:
        return {'intervals': 'not calibrated: that needs 20 validation rows, or --folds'}
    inner, outer = (f'{100 * (found[f"coverage_{level}"] or 0.0):.0f} %' for level in (68, 95))
    return {
        'intervals': f'68 % hold {inner} and 95 % hold {outer} of {found["n"]} rows ({part}), '
        f'{found["outside"]} of them outside'
    }


def counts(values: Mapping[str, int]) -> str:
    """Show numbers by name in one cell."""
    return ', '.join(f'{name} {number}' for name, number in values.items()) or 'none'


def refuse_overwriting(path: Path, force: bool) -> None:
    """Refuse to replace a file unless that was asked for, and a path that leads nowhere.

    :raises ClickException: the file exists, or its folder does not.
    """
    if path.exists() and not force:
        raise click.ClickException(f'{path} exists already: choose another name, or replace it with --force')
    if not path.parent.is_dir():
        raise click.ClickException(f'there is no folder {path.parent}: make it first')
