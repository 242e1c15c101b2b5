"""Build a data set from labelled structures: features, targets and a split."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from aiida_nanoml.actions.base import Estimate, NamedAction, Result, given
from aiida_nanoml.actions.common import (
    DESCRIPTOR_HELP,
    DESCRIPTOR_SETTINGS_HELP,
    SplitFields,
    TargetFields,
    descriptor_choice,
    descriptor_names,
    settings_option,
)
from aiida_nanoml.actions.dataset import DatasetResult
from aiida_nanoml.actions.fields import FEATURES, Labels, Structures, argument, option
from aiida_nanoml.actions.session import Session


class BuildDataset(TargetFields, SplitFields, NamedAction):
    """Describe labelled STRUCTURES, put the gaps, or other targets, beside the features, and split the rows.

    Several sets are joined. Rows whose label failed or lacks a target, for gaps rows with an odd electron count,
    repeated structures and, with a baseline, rows without one are left out and counted. A descriptor that learns, such
    as clusters, is fitted to the training rows only. A split by alloy or composition does not keep the shares of the
    families.
    """

    action: ClassVar[str] = 'build_dataset'
    command: ClassVar[tuple[str, ...]] = ('dataset', 'build')
    makes: ClassVar[Mapping[str, str]] = {'': 'nanoml.dataset'}
    short: ClassVar[str | None] = 'Describe labelled structures and split them.'
    example: ClassVar[str] = (
        'aiida-nanoml dataset build flakes --labels labels --name gaps\n'
        'aiida-nanoml dataset build cells --labels labels --atoms atoms --target cohesive_energy --other pressure \\\n'
        '  --descriptor alloy --group alloy --name energies'
    )

    structures: tuple[Structures, ...] = argument('Labelled structures.', min_length=1)
    labels: tuple[Labels, ...] = option(..., 'Labels; repeatable.', min_length=1)
    baseline: tuple[Labels, ...] = option((), 'Labels from a cheaper engine that models are to correct; repeatable.')
    descriptor: str = option('quadruplets', DESCRIPTOR_HELP, group=FEATURES, suggestions=descriptor_names)
    descriptor_settings: dict[str, Any] = settings_option(DESCRIPTOR_SETTINGS_HELP, group=FEATURES)

    def perform(self, session: Session) -> Result:
        """Assemble the data set."""
        from aiida.orm import Dict

        from aiida_nanoml.calculations.functions.datasets import assemble_dataset
        from aiida_nanoml.calculations.functions.labels import merge_labels
        from aiida_nanoml.calculations.functions.structures import merge_structures

        descriptor = descriptor_choice(self.descriptor, self.descriptor_settings)
        structures, labels, baseline = (self.load_all(name) for name in ('structures', 'labels', 'baseline'))
        targets, by = self.chosen_targets(), self.chosen_group()
        by_family = {'by_family': not self.no_by_family} if self.no_by_family or not by else {}
        node = session.run_function(
            assemble_dataset,
            structures=session.join(merge_structures, 'structures', structures),
            labels=session.join(merge_labels, 'labels', labels),
            descriptor=Dict(descriptor),
            split=Dict(self.shares() | by_family | by),
            **given(
                baseline=session.join(merge_labels, 'labels', baseline) if baseline else None,
                targets=Dict(targets) if targets else None,
                atoms=self.load('atoms'),
            ),
        )
        node.label = self.name
        return DatasetResult(node)

    def estimate(self) -> Estimate | None:
        """Return the seconds that the descriptor takes; None if it was never used in this profile."""
        from aiida_nanoml.actions.costs import estimate_features

        choice = descriptor_choice(self.descriptor, self.descriptor_settings)
        return estimate_features([node.structures for node in self.load_all('structures')], choice)
