"""``aiida-nanoml starter``."""

from __future__ import annotations

from importlib.resources import as_file, files
from typing import Any

import click

from aiida_nanoml.cli.options import JSON, example, load_storage
from aiida_nanoml.cli.output import emit, identity_line, record

GROUP = 'nanoml-starter'
"""Label of the group that holds both sets; an archive that is made of it brings all that they come from."""

ARCHIVE = 'siesta-flakes.aiida'
LABELS = {'structures': 'starter-structures', 'labels': 'starter-labels'}


@click.command(epilog=example('aiida-nanoml starter'))
@JSON
def starter(as_json: bool) -> None:
    """Import gaps of C-BN flakes that SIESTA gave, with every run behind them, to train on without SIESTA."""
    load_storage()
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


def starter_sets() -> tuple[dict[str, Any], str]:
    """Give the structures and labels by these names, imported if need be, and ``present`` or ``imported``."""
    nodes = _sets()
    if nodes:
        return nodes, 'present'
    _import()
    return _sets(), 'imported'


def _sets() -> dict[str, Any]:
    """Both sets, when the group holds them."""
    from aiida.orm import Group, Node, QueryBuilder

    query = QueryBuilder().append(Group, filters={'label': GROUP}, tag='group')
    query.append(Node, with_group='group', filters={'label': {'in': list(LABELS.values())}})
    nodes = {node.label: node for node in query.all(flat=True)}
    return {kind: nodes[label] for kind, label in LABELS.items()} if len(nodes) == len(LABELS) else {}


def _import() -> None:
    """Import the archive; nodes that are there are left as they are."""
    from aiida.tools.archive import import_archive

    from aiida_nanoml.cli.launch import only_errors

    with only_errors(), as_file(files('aiida_nanoml.starter') / ARCHIVE) as path:
        import_archive(path, create_group=False)
