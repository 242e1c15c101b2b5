"""``aiida-nanoml structures``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aiida_nanoml.cli.launch import run_function
from aiida_nanoml.cli.options import FORCE, JSON, NAME, DataNode, example, output_file
from aiida_nanoml.cli.output import emit, identity_line, record, refuse_overwriting

if TYPE_CHECKING:
    from aiida_nanoml.data.structures import StructureSetData

SHOWN_NAMES = 3


@click.group()
def structures() -> None:
    """Sets of structures."""


@structures.command(
    'import',
    epilog=example('aiida-nanoml structures import flakes.extxyz --name more-flakes'),
    short_help='Read structures from a file.',
)
@click.argument('file', type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option('--family', help='Family of all of them; default: what the file says.')
@NAME
@JSON
def import_(file: Path, family: str | None, name: str, as_json: bool) -> None:
    """Read structures from FILE, in any format that ASE reads. Extended XYZ keeps names and families."""
    from aiida.orm import SinglefileData, Str

    from aiida_nanoml.calculations.functions.structures import import_structures
    from aiida_nanoml.cli.options import load_storage

    load_storage()
    inputs = {'file': SinglefileData(file.absolute())} | ({} if family is None else {'family': Str(family)})
    node = run_function(import_structures, **inputs)
    node.label = name
    emit_structures(node, as_json, {'filename': file.name})


@structures.command(epilog=example('aiida-nanoml structures export flakes -o flakes.extxyz'))
@click.argument('node', type=DataNode('nanoml.structures'))
@output_file('File to write; its ending chooses the format, .extxyz keeps everything.')
@FORCE
@JSON
def export(node: StructureSetData, output: Path, force: bool, as_json: bool) -> None:
    """Write the structures of NODE to a file."""
    from aiida_nanoml.structures import write_structures

    refuse_overwriting(output, force)
    write_structures(node.structures, output)
    emit(
        as_json,
        record(node, n_structures=node.n_structures, file=str(output)),
        {'structures': node.n_structures, 'file': output},
    )


@structures.command(epilog=example('aiida-nanoml structures show flakes'))
@click.argument('node', type=DataNode('nanoml.structures'))
@JSON
def show(node: StructureSetData, as_json: bool) -> None:
    """Show what NODE holds."""
    emit_structures(node, as_json, {})


def emit_structures(
    node: StructureSetData, as_json: bool, more: Mapping[str, Any], next_command: str = 'label'
) -> None:
    """Print what a set of structures holds.

    :param more: further content of the JSON object.
    :param next_command: the command that usually takes these structures.
    """
    attributes = node.base.attributes
    numbers = {key: attributes.get(key) for key in ('n_structures', 'n_atoms', 'elements', 'formulas', 'families')}
    names = node.structures.names[:SHOWN_NAMES].tolist()
    emit(
        as_json,
        record(node, **numbers, **more),
        {
            'structures': identity_line(node),
            'number': f'{numbers["n_structures"]} ({numbers["n_atoms"]} atoms)',
            'elements': ' '.join(numbers['elements']),
            'families': ' '.join(numbers['families']) or 'unknown',
            'formulas': ' '.join(numbers['formulas'][:SHOWN_NAMES]) + (' …' if len(numbers['formulas']) > 3 else ''),
            'names': ' '.join(names) + (' …' if numbers['n_structures'] > SHOWN_NAMES else ''),
        },
        f'{next_command} {node.label or node.pk}',
    )
