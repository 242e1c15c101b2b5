"""Import the starter data: recorded SIESTA runs of C-BN flakes, to learn from without SIESTA."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import as_file, files
from typing import Any, ClassVar

from aiida_nanoml.actions.base import Action, Result, Step, record, step
from aiida_nanoml.actions.describe import identity_line
from aiida_nanoml.actions.fields import option
from aiida_nanoml.actions.session import Session, only_errors

GROUP = 'nanoml-starter'
"""Label of the group that holds both sets; an archive that is made of it brings all that they come from."""

ARCHIVE = 'siesta-flakes.aiida'
LABELS = {'structures': 'starter-structures', 'labels': 'starter-labels'}

DENSITIES_GROUP = 'nanoml-starter-densities'
DENSITIES_ARCHIVE = 'siesta-densities.aiida'
DENSITIES = {'densities': 'starter-densities', 'large': 'starter-densities-large'}
"""Densities of small flakes to learn from, and of larger ones to evaluate on."""

NETWORK = {'spacing_ang': 0.25, 'epochs': 20}
"""Settings for the starter densities, whose mesh is coarse."""


class Starter(Action):
    """Import gaps of C-BN flakes that SIESTA computed, with every run behind them, to train on without SIESTA.

    With --densities, import the valence densities of eight flakes, on a mesh of 0.25 Å.
    """

    action: ClassVar[str] = 'starter'
    command: ClassVar[tuple[str, ...]] = ('starter',)
    example: ClassVar[str] = 'aiida-nanoml starter'

    densities: bool = option(False, 'Import charge densities of flakes in place of the gaps.')

    def perform(self, session: Session) -> Result:
        """Import the archive unless its group exists."""
        if self.densities:
            return StarterDensities(*_find_or_import(DENSITIES_GROUP, DENSITIES, DENSITIES_ARCHIVE))
        return StarterGaps(*starter_sets())


@dataclass(frozen=True)
class StarterGaps(Result):
    """Structures and labels of the starter data.

    :param nodes: ``structures`` and ``labels``.
    :param status: ``present`` or ``imported``.
    """

    nodes: dict[str, Any]
    status: str

    def to_dict(self) -> dict[str, Any]:
        """Return both nodes, their source and their number."""
        structures, labels = self.nodes['structures'], self.nodes['labels']
        return record(
            labels,
            status=self.status,
            structures=structures.uuid,
            labels=labels.uuid,
            n_structures=structures.n_structures,
            n_rows=len(labels.labels),
            families=structures.base.attributes.get('families'),
            source=labels.label_source.to_dict(),
        )

    def lines(self) -> dict[str, object]:
        """Return both nodes, their source and the range of the gaps."""
        structures, labels = self.nodes['structures'], self.nodes['labels']
        gaps = labels.labels.energies['gap_ev']
        return {
            'structures': identity_line(structures),
            'labels': identity_line(labels),
            'source': str(labels.label_source),
            'gaps': f'{len(gaps)}, {gaps.min():.3f} to {gaps.max():.3f} eV{_existed(self.status)}',
        }

    def next_step(self) -> Step:
        """Build a data set."""
        structures, labels = self.nodes['structures'], self.nodes['labels']
        return step('build_dataset', structures=[structures], labels=[labels], name='starter')


@dataclass(frozen=True)
class StarterDensities(Result):
    """Densities of the starter data.

    :param nodes: ``densities`` to learn from, ``large`` to evaluate on.
    :param status: ``present`` or ``imported``.
    """

    nodes: dict[str, Any]
    status: str

    def to_dict(self) -> dict[str, Any]:
        """Return both nodes and their source."""
        small, large = self.nodes['densities'], self.nodes['large']
        source = small.label_source.to_dict()
        return record(small, status=self.status, densities=small.uuid, large=large.uuid, source=source)

    def lines(self) -> dict[str, object]:
        """Return both nodes with their structures, and the source."""
        lines: dict[str, object] = {
            name: f'{identity_line(node)}: {node.n_densities} of {", ".join(node.base.attributes.get("names"))}'
            for name, node in self.nodes.items()
        }
        return lines | {'source': f'{self.nodes["densities"].label_source}{_existed(self.status)}'}

    def next_step(self) -> Step:
        """Train a density network."""
        small, large = self.nodes['densities'], self.nodes['large']
        return step('density_train', densities=small, test=large, settings=NETWORK, name='starter-network')


def starter_sets() -> tuple[dict[str, Any], str]:
    """Return structures and labels by these names, imported if need be, and ``present`` or ``imported``."""
    return _find_or_import(GROUP, LABELS, ARCHIVE)


def _existed(status: str) -> str:
    return ', existed already' if status == 'present' else ''


def _find_or_import(group: str, labels: Mapping[str, str], archive: str) -> tuple[dict[str, Any], str]:
    nodes = _find_sets(group, labels)
    if nodes:
        return nodes, 'present'
    _import_archive(archive)
    return _find_sets(group, labels), 'imported'


def _find_sets(group: str, labels: Mapping[str, str]) -> dict[str, Any]:
    """Return all sets if the group holds them, else none."""
    from aiida.orm import Group, Node, QueryBuilder

    query = QueryBuilder().append(Group, filters={'label': group}, tag='group')
    query.append(Node, with_group='group', filters={'label': {'in': list(labels.values())}})
    nodes = {node.label: node for node in query.all(flat=True)}
    return {kind: nodes[label] for kind, label in labels.items()} if len(nodes) == len(labels) else {}


def _import_archive(archive: str) -> None:
    """Import an archive; nodes that exist are left as they are."""
    from aiida.tools.archive import import_archive

    with only_errors(), as_file(files('aiida_nanoml.starter') / archive) as path:
        import_archive(path, create_group=False)
