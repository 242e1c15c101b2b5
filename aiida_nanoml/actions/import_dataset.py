"""Read features and gaps from text files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from pydantic import field_validator, model_validator

from aiida_nanoml.actions.base import NamedAction, Result
from aiida_nanoml.actions.common import (
    DESCRIPTOR_SETTINGS_HELP,
    TARGET_SCALE,
    SplitFields,
    descriptor_choice,
    settings_option,
)
from aiida_nanoml.actions.dataset import DatasetResult
from aiida_nanoml.actions.errors import InputError
from aiida_nanoml.actions.fields import FEATURES, argument, option
from aiida_nanoml.actions.session import Session


class ImportDataset(SplitFields, NamedAction):
    """Read N rows of features from X and N gaps from Y, and split the rows.

    Numbers stand between white space, semicolons or commas; decimal commas, headings and exponents of Fortran are
    understood. Gaps that no structure has are refused: their unit is another one.
    """

    action: ClassVar[str] = 'import_dataset'
    command: ClassVar[tuple[str, ...]] = ('dataset', 'import')
    makes: ClassVar[Mapping[str, str]] = {'': 'nanoml.dataset'}
    short: ClassVar[str | None] = 'Read features and gaps from text files.'
    example: ClassVar[str] = (
        'aiida-nanoml dataset import x.dat y.dat --labels-from "SIESTA 4.1, LDA-CA DZP" --name siesta'
    )

    x: Path = argument('File of the features.', exists='file')
    y: Path = argument('File of the gaps.', exists='file')
    labels_from: str = option(..., 'Source of the gaps: "NAME VERSION, PROTOCOL".')
    descriptor: str | None = option(
        None, 'Descriptor that the columns belong to.', group=FEATURES, shown='features of unknown origin'
    )
    descriptor_settings: dict[str, Any] = settings_option(DESCRIPTOR_SETTINGS_HELP, group=FEATURES)
    n_features: int = option(26, 'Columns of X, if no descriptor is named.', ge=1, group=FEATURES)
    target_unit: Literal['ev', 'mev', 'gap/4ev'] | None = option(
        None, 'Unit of the gaps in Y.', shown='that of --target-scale'
    )
    target_scale: float = option(TARGET_SCALE, 'Y holds the gap divided by this.', unit='eV', gt=0)
    family: str = option('', 'Family of the rows.')

    @field_validator('labels_from')
    @classmethod
    def _check_source(cls, text: str) -> str:
        from aiida_nanoml.engines.label_set import LabelSource

        LabelSource.parse(text)
        return text

    @model_validator(mode='after')
    def _check_settings(self) -> Self:
        if self.descriptor is None and self.descriptor_settings:
            raise InputError('{descriptor_settings} goes with {descriptor}')
        if self.target_unit is not None and 'target_scale' in self.model_fields_set:
            raise InputError('choose one of {target_unit} and {target_scale}')
        return self

    def perform(self, session: Session) -> Result:
        """Read the files, then split the rows."""
        from aiida.orm import Dict, SinglefileData

        from aiida_nanoml.calculations.functions.datasets import import_dataset, split_dataset
        from aiida_nanoml.engines.label_set import LabelSource

        source = LabelSource.parse(self.labels_from)
        parameters: dict[str, Any] = {
            'labels': source.to_dict(),
            'target_scale_ev': self._scale(session),
            'family': self.family,
        }
        if self.descriptor is None:
            parameters['n_features'] = self.n_features
        else:
            parameters['descriptor'] = descriptor_choice(self.descriptor, self.descriptor_settings)
        rows = session.run_function(
            import_dataset,
            x=SinglefileData(self.x.absolute()),
            y=SinglefileData(self.y.absolute()),
            parameters=Dict(parameters),
        )
        split = Dict(self.shares() | {'by_family': not self.no_by_family})
        node = session.run_function(split_dataset, dataset=rows, parameters=split)
        node.label = self.name
        return DatasetResult(node)

    def _scale(self, session: Session) -> float:
        """Return what the numbers in Y are multiplied by, in eV; say so where nobody did."""
        from aiida_nanoml.learning.exchange import TARGET_UNITS

        if self.target_unit is not None:
            return TARGET_UNITS[self.target_unit]
        if 'target_scale' not in self.model_fields_set:
            session.note(f'{self.y.name} is read as gap / {TARGET_SCALE:g} eV: --target-unit chooses eV or meV')
        return self.target_scale
