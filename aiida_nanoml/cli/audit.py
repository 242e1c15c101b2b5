"""``aiida-nanoml audit``."""

from __future__ import annotations

from typing import Any

import click

from aiida_nanoml.cli.options import ARCHIVE, JSON, AnyNode, example, same_archive
from aiida_nanoml.cli.output import emit


@click.command(epilog=example('aiida-nanoml audit PREDICTION --strict'))
@click.argument('node', type=AnyNode())
@click.option('--strict', is_flag=True, help='Exit with status 1 for warnings as well.')
@click.option('--checks', 'all_checks', is_flag=True, help='Say of every check what it asks and what it looked at.')
@ARCHIVE
@JSON
@click.pass_context
def audit(context: click.Context, node: Any, strict: bool, all_checks: bool, as_json: bool) -> None:
    """Look for everything that a referee would object to in NODE: leakage, mixed or unsafe labels, missing seeds, …

    NODE is a prediction, a model, a data set, labels, densities, a transmission, or a process that made one. Findings
    are errors (the result does not hold as it stands), warnings (a referee would ask) and notes (to be stated).

    The exit status is 1 when there is an error.
    """
    from aiida_nanoml.provenance.audit import audit as audit_node

    found = audit_node(node)
    emit(as_json, found.to_dict(), found.render(all_checks), f'reproduce {node.uuid}{same_archive()}')
    if found.counts['error'] or (strict and found.counts['warning']):
        context.exit(1)
