"""``aiida-nanoml trace``."""

from __future__ import annotations

from typing import Any

import click

from aiida_nanoml.cli.options import JSON, AnyNode, example
from aiida_nanoml.cli.output import emit


@click.command(epilog=example('aiida-nanoml trace PREDICTION'))
@click.argument('node', type=AnyNode())
@click.option('--jobs', 'all_jobs', is_flag=True, help='List every labelling job, not only the first ones.')
@JSON
def trace(node: Any, all_jobs: bool, as_json: bool) -> None:
    """Show where NODE comes from, back to every labelling job.

    Of a workflow, the results are followed; of a calculation, its inputs.
    """
    from aiida_nanoml.provenance.lineage import trace as trace_node

    lineage = trace_node(node)
    content = lineage.to_dict()
    emit(as_json, {key: content['node'][key] for key in ('uuid', 'pk', 'type')} | content, lineage.render(all_jobs))
