"""``aiida-nanoml reproduce``."""

from __future__ import annotations

from typing import Any

import click

from aiida_nanoml.cli.options import ARCHIVE, JSON, AnyNode, example, same_archive
from aiida_nanoml.cli.output import emit, note

SINCE = ('inputs', 'dataset', 'labels', 'structures', 'start')


@click.command(epilog=example('aiida-nanoml reproduce PREDICTION --from labels'))
@click.argument('node', type=AnyNode())
@click.option(
    '--from',
    'since',
    type=click.Choice(SINCE),
    default=SINCE[0],
    show_default=True,
    help='What is taken as recorded: the inputs of the last calculation, everything up to the data set, the labels or '
    'the structures, or nothing that can be computed again (start).',
)
@click.option(
    '--tolerance',
    type=click.FloatRange(min=0.0),
    default=0.0,
    show_default='0, bit for bit',
    help='Difference that counts as none, of every real number in its own unit.',
)
@ARCHIVE
@JSON
@click.pass_context
def reproduce(context: click.Context, node: Any, since: str, tolerance: float, as_json: bool) -> None:
    """Compute NODE again from the graph alone, in a fresh profile, and compare it with what is recorded.

    NODE is a prediction, a model, a data set, or anything else that a calculation made. Its calculation runs once more
    on this machine, without the cache; with --from also those before it, each with what was computed anew. Runs
    of SIESTA are never repeated: their labels are taken as recorded. The profile stays as it is.

    The exit status is 1 when NODE differs.
    """
    from aiida_nanoml.provenance.reproduce import reproduce as reproduce_node

    reproduction = reproduce_node(node, since, tolerance, note)
    following = f'trace {node.uuid}'
    if reproduction.verdict != 'differs' and reproduction.earlier is not None:
        following = f'reproduce {node.uuid} --from {reproduction.earlier}'
    emit(as_json, reproduction.to_dict(), reproduction.render(), following + same_archive())
    if reproduction.verdict == 'differs':
        context.exit(1)
