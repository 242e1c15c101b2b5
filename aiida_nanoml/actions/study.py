"""Study how well a target is learnt, over repeated seeds."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pydantic import model_validator

from aiida_nanoml.actions.base import Estimate, JobAction, Result, part_names
from aiida_nanoml.actions.common import (
    DESCRIPTOR_HELP,
    DESCRIPTOR_SETTINGS_HELP,
    TargetFields,
    descriptor_choice,
    descriptor_names,
    settings_option,
)
from aiida_nanoml.actions.errors import InputError
from aiida_nanoml.actions.fields import FEATURES, JOB, LEARNING, SPLIT, Labels, Structures, argument, option
from aiida_nanoml.actions.session import Session
from aiida_nanoml.actions.show_study import StudyFiles

if TYPE_CHECKING:
    from aiida.engine import ProcessBuilder
    from aiida.orm import ProcessNode

MAX_SEEDS = 1000

EXAMPLES: Mapping[str, str] = MappingProxyType(
    {
        'learning_curve': 'aiida-nanoml study learning-curve flakes --labels labels --kind linear --set rows=[10,20] '
        '-o curve',
        'hyperparameters': 'aiida-nanoml study hyperparameters flakes --labels labels --kind forest '
        "--set 'grid={n_trees: [50, 200]}' -o forest",
        'selection': 'aiida-nanoml study selection flakes --labels labels --kind ridge --set methods=[vt,rcr] '
        '-o selection',
        'transfer': 'aiida-nanoml study transfer h-flakes s-flakes --labels h-labels --labels s-labels --kind ridge '
        '-o transfer',
    }
)
"""Example of a study; others have a general one."""


def study_choices() -> list[str]:
    """Return the names of all registered studies."""
    from aiida_nanoml.learning.studies import STUDIES

    return STUDIES.names()


class Study(TargetFields, StudyFiles, JobAction):
    """Study how well gaps, or other targets, are learnt, over repeated seeds, as tables and a figure."""

    action: ClassVar[str] = 'study'
    command: ClassVar[tuple[str, ...]] = ('study',)
    makes: ClassVar[Mapping[str, str]] = {'': 'core.array', '-summary': 'core.array', '-files': 'core.folder'}
    choice_field: ClassVar[str | None] = 'study'
    example: ClassVar[str] = EXAMPLES['selection']
    follow: ClassVar[str] = 'show_study'

    study: str = option(..., 'Registered name of the study.', choices=study_choices)
    structures: tuple[Structures, ...] = argument('Labelled structures.', min_length=1)
    labels: tuple[Labels, ...] = option(..., 'Labels; repeatable.', min_length=1)
    baseline: tuple[Labels, ...] = option((), 'Labels from a cheaper engine that models are to correct; repeatable.')
    settings: dict[str, Any] = settings_option('Setting of the study; repeatable.')
    descriptor: str | None = option(
        None, DESCRIPTOR_HELP, group=FEATURES, suggestions=descriptor_names, shown='the one that the study is meant for'
    )
    descriptor_settings: dict[str, Any] = settings_option(DESCRIPTOR_SETTINGS_HELP, '--descriptor-set', group=FEATURES)
    kind: str | None = option(
        None,
        'Kind of model.',
        group=LEARNING,
        shown='transfer, one network of 300-50-25 neurons; for others than the gap: alloy',
    )
    hyperparameters: dict[str, Any] = settings_option(
        'Hyperparameter of the model; repeatable.', '--model-set', group=LEARNING
    )
    seeds: int = option(
        3,
        'Repetitions, each with its own split, draw of the descriptor and initial weights.',
        ge=1,
        le=MAX_SEEDS,
        group=SPLIT,
    )
    validation: float = option(0.2, 'Share of validation rows.', ge=0, lt=1, group=SPLIT)
    test: float = option(0.2, 'Share of test rows.', ge=0, lt=1, group=SPLIT)
    max_concurrent: int = option(2, 'Jobs at the same time.', ge=1, group=JOB)

    @classmethod
    def describe(cls, preset: Mapping[str, Any]) -> str:
        """Return the help of one study with its settings, or that of all."""
        from aiida_nanoml.learning.studies import STUDIES

        if 'study' not in preset:
            return super().describe(preset)
        chosen = STUDIES.load(preset['study'])
        settings = '\n'.join(f'  {line}' for line in chosen.describe_settings())
        default = '+'.join(part['name'] for part in chosen.descriptor['params'].get('parts', [chosen.descriptor]))
        return (
            f'{inspect.getdoc(chosen)}\n\nThe descriptor is {default} unless another one is named.\n\n'
            f'Settings (--set), with their defaults:\n{settings}'
        )

    @classmethod
    def examples(cls, preset: Mapping[str, Any]) -> str:
        """Return an example of one study, or of the first one."""
        name = preset.get('study', 'selection')
        command = name.replace('_', '-')
        return EXAMPLES.get(name, f'aiida-nanoml study {command} flakes --labels labels -o {command}')

    @model_validator(mode='after')
    def _check_fields(self) -> Self:
        if self.submit and self.output is not None:
            raise InputError(
                '{output} cannot be combined with {submit}: write the files with `aiida-nanoml study show` when the '
                'study has ended'
            )
        if self.descriptor is None and self.descriptor_settings:
            raise InputError('{descriptor_settings} goes with {descriptor}')
        return self

    def check(self) -> None:
        """Check that no file of the study would be replaced, before hours are spent on it."""
        self.check_output(self.study)

    def builder(self, session: Session) -> ProcessBuilder:
        """Return the workflow."""
        from aiida.orm import Dict, Int, List

        from aiida_nanoml.calculations.functions.labels import merge_labels
        from aiida_nanoml.calculations.functions.structures import merge_structures
        from aiida_nanoml.workflows.study import StudyWorkChain

        structures, labels, baseline = (self.load_all(name) for name in ('structures', 'labels', 'baseline'))
        atoms, code, descriptor = self.load('atoms'), self.worker(), self._descriptor_choice()
        builder = StudyWorkChain.get_builder_for(
            self.study,
            code,
            session.join(merge_structures, 'structures', structures),
            session.join(merge_labels, 'labels', labels),
            settings=self.settings,
            descriptor=descriptor,
            kind=self.kind,
            hyperparameters=self.hyperparameters,
            targets=self.chosen_targets(),
        )
        if atoms is not None:
            builder.atoms = atoms
        if baseline:
            builder.baseline = session.join(merge_labels, 'labels', baseline)
        by: dict[str, Any] = self.chosen_group() or {'by_family': True}
        builder.split = Dict({'validation': self.validation, 'test': self.test} | by)
        builder.seeds = List(list(range(self.seeds)))
        builder.max_concurrent = Int(self.max_concurrent)
        builder.options = Dict(self.job_options())
        return builder

    def output_names(self) -> dict[str, str]:
        """Return the labels of tables and files."""
        return {'table': self.name} | part_names(('summary', 'files'), self.name)

    def collect(self, process: ProcessNode, session: Session) -> Result:
        """Write the files."""
        return self.show(process)

    def estimate(self) -> Estimate:
        """Return the number of jobs: one for each seed and, if the study wants it, each family."""
        from aiida_nanoml.learning.studies import STUDIES

        families = {family for node in self.load_all('structures') for family in node.base.attributes.get('families')}
        each = max(1, len(families)) if STUDIES.load(self.study).one_family else 1
        basis = f'{self.seeds} seeds' + (f', {each} families' if each > 1 else '')
        return Estimate(self.seeds * each, None, None, basis)

    def _descriptor_choice(self) -> dict[str, Any] | None:
        return None if self.descriptor is None else descriptor_choice(self.descriptor, self.descriptor_settings)
