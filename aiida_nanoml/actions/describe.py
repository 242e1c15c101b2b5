"""Texts about nodes and metrics that the results of several actions share."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from aiida_nanoml.text import aligned

if TYPE_CHECKING:
    from aiida.orm import Node

    from aiida_nanoml.learning.verdict import Verdict

SHOWN_ROWS = 10
"""Rows of a table that are printed; --json has all."""

_SHOWN_METRICS = ('r2', 'mae', 'rmse')


def identity_line(node: Node) -> str:
    """Return label, PK and UUID of a node in one line."""
    label = f'{node.label} ' if node.label else ''
    return f'{label}pk {node.pk}, uuid {node.uuid}'


def source_line(source: Mapping[str, Any]) -> str:
    """Return the origin of labels in one line."""
    from aiida_nanoml.engines.label_set import LabelSource

    return str(LabelSource.from_dict(source))


def metric_table(
    metrics: Mapping[str, Mapping[str, float | int | None]],
    indent: str = '',
    target: str = 'gap',
    others: Iterable[str] = (),
) -> str:
    """Return r2, MAE and RMSE by part of a split, and those of the baseline alone if there is one, as a table.

    :param metrics: by part; those of other targets under ``<name>/<part>``.
    :param target: the main target, for the unit.
    :param others: names of the other targets: each has a table of its own.
    """
    tables = metric_rows(metrics, target, others)
    return '\n'.join(
        f'{indent}{name}\n{aligned(rows, indent)}' if name else aligned(rows, indent) for name, rows in tables
    )


def metric_rows(
    metrics: Mapping[str, Mapping[str, float | int | None]], target: str, others: Iterable[str] = ()
) -> list[tuple[str, list[list[str]]]]:
    """Return the tables of :func:`metric_table`, each with its name, empty for the main target, heading and rows."""
    beside = {name: _metrics_below(metrics, name) for name in others}
    own = {part: found for part, found in metrics.items() if part.partition('/')[0] not in beside}
    return [('', _target_rows(own, target)), *((name, _target_rows(one, name)) for name, one in beside.items() if one)]


def _target_rows(metrics: Mapping[str, Mapping[str, float | int | None]], target: str) -> list[list[str]]:
    from aiida_nanoml.learning.targets import find_target

    shown = find_target(target)
    baseline = _metrics_below(metrics, 'baseline')
    marks = ('', 'baseline ') if baseline else ('',)
    names = ('R2', f'MAE ({shown.unit})', f'RMSE ({shown.unit})')
    rows: list[list[str]] = [['', 'rows', *(f'{mark}{name}' for mark in marks for name in names)]]
    for part, values in metrics.items():
        if part.startswith('baseline/'):
            continue
        shown_metrics = [values, baseline[part]] if baseline else [values]
        numbers = [
            '-' if found[key] is None else f'{found[key]:.{3 if key == "r2" else shown.digits}f}'
            for found in shown_metrics
            for key in _SHOWN_METRICS
        ]
        rows.append([part, str(values['n']), *numbers])
    return rows


def _metrics_below(
    metrics: Mapping[str, Mapping[str, float | int | None]], name: str
) -> dict[str, Mapping[str, float | int | None]]:
    """Return the metrics whose part begins with a name, by the rest of the part."""
    prefix = f'{name}/'
    return {part.removeprefix(prefix): found for part, found in metrics.items() if part.startswith(prefix)}


def interval_line(metrics: Mapping[str, Mapping[str, float | int | None]], part: str) -> dict[str, str]:
    """Return a row with the share of known values inside the predicted intervals; no row without intervals."""
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


def verdict_lines(verdict: Verdict) -> dict[str, str]:
    """Return the verdict on a model or on predictions, and what would help, as rows."""
    lines = {'verdict': str(verdict)}
    return lines | ({'to improve': '; '.join(verdict.remedies)} if verdict.remedies else {})


def counts(values: Mapping[str, int]) -> str:
    """Return numbers by name in one cell."""
    return ', '.join(f'{name} {number}' for name, number in values.items()) or 'none'


def shortened(table: Sequence[Sequence[str]], n_rows: int, shown: int = SHOWN_ROWS) -> str:
    """Return a table, with a last row that says how many rows are left out.

    :param table: head and the first rows.
    :param n_rows: rows that there are.
    :param shown: rows that the table has at most.
    """
    rows = [list(row) for row in table]
    if n_rows > shown:
        rows.append([f'… {n_rows - shown} more', *[''] * (len(rows[0]) - 1)])
    return aligned(rows)


def without_nan(values: Iterable[Any]) -> list[Any]:
    """Return values in types of JSON, which has no NaN: None stands for it."""
    return [None if isinstance(value, float) and math.isnan(value) else value for value in values]


def called(node: Node) -> str:
    """Return the label of a node, or its PK."""
    return str(node.label or node.pk)
