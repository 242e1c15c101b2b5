"""``aiida-nanoml starter``."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import as_file, files
from typing import Any

import click

from aiida_nanoml.cli.options import JSON, example, load_storage
from aiida_nanoml.cli.output import emit, identity_line, record

GROUP = 'nanoml-starter'
"""Label of the group that holds both sets; an archive that is made of it brings all that they come from."""

ARCHIVE = 'siesta-flakes.aiida'
LABELS = {'structures': 'starter-structures', 'labels': 'starter-labels'}

DENSITIES_GROUP = 'nanoml-starter-densities'
DENSITIES_ARCHIVE = 'siesta-densities.aiida'
DENSITIES = {'densities': 'starter-densities', 'large': 'starter-densities-large'}
"""Densities of small flakes to learn from, and of larger ones to judge by."""

NETWORK = '--set spacing_ang=0.25 --set epochs=40'
"""Settings for the starter densities, whose mesh is coarse."""


@click.command(epilog=example('aiida-nanoml starter'))
@click.option('--densities', is_flag=True, help='Import charge densities of flakes in place of the gaps.')
@JSON
def starter(densities: bool, as_json: bool) -> None:
    """Import gaps of C-BN flakes that SIESTA gave, with every run behind them, to train on without SIESTA.

    With --densities, import the valence densities of eight flakes, on a mesh of 0.25 Å.
    """
    load_storage()
    if densities:
        _densities(as_json)
        return
    nodes, status = starter_sets()
    structures, labels = nodes['structures'], nodes['labels']
    gaps = labels.labels.energies['gap_ev']
    numbers = {
        'n_structures': structures.n_structures,
        'n_rows': len(gaps),
        'families': structures.base.attributes.get('families'),
        'source': labels.label_source.to_dict(),
    }
    emit(
        as_json,
        record(labels, status=status, structures=structures.uuid, labels=labels.uuid, **numbers),
        {
            'structures': identity_line(structures),
            'labels': identity_line(labels),
            'source': str(labels.label_source),
            'gaps': f'{len(gaps)}, {gaps.min():.3f} to {gaps.max():.3f} eV' + (', were there' * (status == 'present')),
        },
        f'dataset build {LABELS["structures"]} --labels {LABELS["labels"]} --name starter',
    )


def _densities(as_json: bool) -> None:
    nodes, status = _present_or_imported(DENSITIES_GROUP, DENSITIES, DENSITIES_ARCHIVE)
    small, large = nodes['densities'], nodes['large']
    told = {
        name: f'{identity_line(node)}: {node.n_densities} of {", ".join(node.base.attributes.get("names"))}'
        for name, node in nodes.items()
    }
    emit(
        as_json,
        record(small, status=status, densities=small.uuid, large=large.uuid, source=small.label_source.to_dict()),
        {**told, 'source': f'{small.label_source}' + (', were there' * (status == 'present'))},
        f'density train {DENSITIES["densities"]} --test {DENSITIES["large"]} {NETWORK} --name starter-network',
    )


def starter_sets() -> tuple[dict[str, Any], str]:
    """Give the structures and labels by these names, imported if need be, and ``present`` or ``imported``."""
    return _present_or_imported(GROUP, LABELS, ARCHIVE)


def _present_or_imported(group: str, labels: Mapping[str, str], archive: str) -> tuple[dict[str, Any], str]:
    nodes = _sets(group, labels)
    if nodes:
        return nodes, 'present'
    _import(archive)
    return _sets(group, labels), 'imported'


def _sets(group: str, labels: Mapping[str, str]) -> dict[str, Any]:
    """All sets, when the group holds them."""
    from aiida.orm import Group, Node, QueryBuilder

    query = QueryBuilder().append(Group, filters={'label': group}, tag='group')
    query.append(Node, with_group='group', filters={'label': {'in': list(labels.values())}})
    nodes = {node.label: node for node in query.all(flat=True)}
    return {kind: nodes[label] for kind, label in labels.items()} if len(nodes) == len(labels) else {}


def _import(archive: str) -> None:
    """Import an archive; nodes that are there are left as they are."""
    from aiida.tools.archive import import_archive

    from aiida_nanoml.cli.launch import only_errors

    with only_errors(), as_file(files('aiida_nanoml.starter') / archive) as path:
        import_archive(path, create_group=False)
