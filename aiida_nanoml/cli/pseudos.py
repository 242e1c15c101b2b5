"""``aiida-nanoml pseudos``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from aiida_nanoml.cli.options import JSON, example, load_storage
from aiida_nanoml.cli.output import emit
from aiida_nanoml.text import aligned

if TYPE_CHECKING:
    from aiida_pseudo.groups.family.pseudo import PseudoPotentialFamily


@click.group()
def pseudos() -> None:
    """Pseudopotentials for SIESTA."""


@pseudos.command(epilog=example('aiida-nanoml pseudos install'))
@click.option('--label', help='Label of the family; default: nanoml-tm-lda-ca.')
@JSON
def install(label: str | None, as_json: bool) -> None:
    """Install our Troullier-Martins pseudopotentials (LDA, psf) of H B C N Al Cr Fe Co Ni as a family."""
    from aiida_nanoml.calculations.pseudopotentials import OWN_FAMILY, install_family

    load_storage()
    family, added = install_family(label or OWN_FAMILY)
    content = _record(family) | {'status': 'installed' if added else 'present'}
    lines = {
        'family': f'{family.label} (pk {family.pk}, uuid {family.uuid})' + ('' if added else ', was there'),
        'elements': ' '.join(content['elements']),
    }
    emit(as_json, content, lines, 'siesta import DIR')


@pseudos.command('list', epilog=example('aiida-nanoml pseudos list'))
@JSON
def list_(as_json: bool) -> None:
    """List the families of psf and psml files, ours and those that were made with `aiida-pseudo install`."""
    from aiida_nanoml.calculations.pseudopotentials import siesta_families

    load_storage()
    families = [_record(family) for family in siesta_families()]
    rows = [['label', 'format', 'elements'], *([f['label'], f['format'], ' '.join(f['elements'])] for f in families)]
    text = aligned(rows) if families else 'no family of psf or psml files is installed'
    emit(as_json, {'families': families}, text, None if families else 'pseudos install')


def _record(family: PseudoPotentialFamily) -> dict[str, Any]:
    nodes = dict(sorted(family.pseudos.items()))
    formats = sorted({type(node).get_entry_point_name().removeprefix('pseudo.') for node in nodes.values()})
    return {
        'uuid': family.uuid,
        'pk': family.pk,
        'type': 'pseudo.family',
        'label': family.label,
        'format': '+'.join(formats),
        'elements': list(nodes),
        'md5': {element: node.md5 for element, node in nodes.items()},
    }
