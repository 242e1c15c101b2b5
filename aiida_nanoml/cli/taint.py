"""``aiida-nanoml taint``."""

from __future__ import annotations

from typing import Any

import click

from aiida_nanoml.cli.options import ARCHIVE, JSON, AnyNode, example, load_storage, same_archive
from aiida_nanoml.cli.output import emit


@click.command(epilog=example('aiida-nanoml taint RUN\naiida-nanoml taint --engine siesta --engine-version 4.1-b4-133'))
@click.argument('nodes', type=AnyNode(), nargs=-1, metavar='NODE...')
@click.option('--engine', help='Instead of NODE: all labelling runs of this engine …')
@click.option('--engine-version', help='… in this version, as `trace` tells it.')
@ARCHIVE
@JSON
def taint(nodes: tuple[Any, ...], engine: str | None, engine_version: str | None, as_json: bool) -> None:
    """Show what rests on NODE, which turned out to be wrong, and what must be rerun.

    NODE is a pseudopotential, a code, a run, a workflow, or any data. The same file of a pseudopotential, the same
    executable, and results that were taken from the cache are followed as well.
    """
    if (engine is None) != (engine_version is None) or bool(nodes) == (engine is not None):
        raise click.UsageError('name what is wrong: either NODE, or both --engine and --engine-version')
    load_storage()
    from aiida_nanoml.provenance.taint import taint as taint_nodes
    from aiida_nanoml.provenance.taint import taint_version

    found = taint_nodes(*nodes) if nodes else taint_version(str(engine), str(engine_version))
    models = [touched.node for touched in found.models]
    next_step = f'trace {models[0].pk}{same_archive()}' if models else None
    emit(as_json, found.to_dict(), found.render(), next_step)
