"""``aiida-nanoml trace``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from aiida_nanoml.cli.options import ARCHIVE, FORCE, JSON, AnyNode, example, same_archive
from aiida_nanoml.cli.output import emit, note, refuse_overwriting


@click.command(epilog=example('aiida-nanoml trace PREDICTION --csv nodes.csv --graph lineage.svg'))
@click.argument('node', type=AnyNode())
@click.option('--jobs', 'all_jobs', is_flag=True, help='List every labelling job, not only the first ones.')
@click.option(
    '--csv', 'table', type=click.Path(path_type=Path, dir_okay=False), help='Write a table, a row for each node.'
)
@click.option(
    '--graph',
    'picture',
    type=click.Path(path_type=Path, dir_okay=False),
    help='Draw it, grouped; the ending chooses the format: .svg, .pdf or .png.',
)
@FORCE
@ARCHIVE
@JSON
def trace(node: Any, all_jobs: bool, table: Path | None, picture: Path | None, force: bool, as_json: bool) -> None:
    """Show where NODE comes from, back to every labelling job.

    Of a workflow, the results are followed; of a calculation, its inputs.
    """
    from aiida_nanoml.calculations.functions.base import csv_text
    from aiida_nanoml.provenance.lineage import TABLE, lineage_table
    from aiida_nanoml.provenance.lineage import trace as trace_node

    for path in (table, picture):
        if path is not None:
            refuse_overwriting(path, force)
    if table is not None:
        table.write_text(csv_text([TABLE, *lineage_table(node)]), encoding='utf-8')
        note(f'{table} is written')
    if picture is not None:
        from aiida_nanoml.provenance.picture import draw_lineage

        n_boxes = draw_lineage(node, picture)
        note(f'{picture} is drawn, {n_boxes} boxes')
    lineage = trace_node(node)
    content = lineage.to_dict()
    identity = {key: content['node'][key] for key in ('uuid', 'pk', 'type')}
    emit(as_json, identity | content, lineage.render(all_jobs), f'audit {node.pk}{same_archive()}')
