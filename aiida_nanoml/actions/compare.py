"""Show how models differ, and whether their test metrics may be compared."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import model_validator

from aiida_nanoml.actions.base import ArchiveAction, Result, Step, step
from aiida_nanoml.actions.common import TARGETS
from aiida_nanoml.actions.errors import ActionError, InputError
from aiida_nanoml.actions.fields import OUTPUT, AnyModel, argument, option, output_option
from aiida_nanoml.actions.figures import FigureAction
from aiida_nanoml.actions.session import Session

if TYPE_CHECKING:
    from aiida_nanoml.provenance.comparison import Comparison
    from aiida_nanoml.provenance.models import ModelRow, ModelTable


class Compare(ArchiveAction, FigureAction):
    """Show how each MODEL differs from the others, and whether their test metrics may be compared.

    They may where target, labels and test rows are the same. Rows are compared by the content hashes of their
    structures.
    """

    action: ClassVar[str] = 'compare'
    command: ClassVar[tuple[str, ...]] = ('compare',)
    example: ClassVar[str] = 'aiida-nanoml compare dft-ridge dft-forest\naiida-nanoml compare --all --csv models.csv'

    models: tuple[AnyModel, ...] = argument('Models to compare.', (), metavar='MODEL...')
    everything: bool = option(False, 'All models of the profile, one line each.', options=('--all',))
    target: str | None = option(None, 'With --all: only models that predict it.', choices=lambda: (*TARGETS, 'density'))
    kind: str | None = option(None, 'With --all: only models of this kind, for example `ridge`.')
    sort: Literal['mae', 'rmse', 'r2'] = option('mae', 'Test metric by which the best model is found.')
    csv: Path | None = option(None, 'Write a table, a row for each model.', exists='new file', group=OUTPUT)
    output: Path | None = output_option('Draw the test errors; the ending chooses the format: .png, .pdf or .svg.')

    @model_validator(mode='after')
    def check_choice(self) -> Self:
        """Check that either two models or all are chosen."""
        if self.everything == bool(self.models):
            raise InputError('name two models or more, or take all of the profile with {everything}')
        if (self.target or self.kind) and not self.everything:
            raise InputError('{target} and {kind} choose among all models: they go with {everything}')
        if len(self.models) == 1:
            raise InputError('one model cannot be compared: name another one as well, or see all with {everything}')
        return self

    def perform(self, session: Session) -> Result:
        """Compare the models, and write table and figure."""
        from aiida_nanoml.provenance.comparison import compare
        from aiida_nanoml.provenance.models import tabulate_models

        models = self.load_all('models')
        for path in (self.csv, self.output and self.file):
            self.check_overwriting(path)
        listed = tabulate_models([model.pk for model in models] or None, self.target, self.kind, self.sort)
        if not listed.rows:
            chosen = ''.join(f' with {name} {value}' for name in ('target', 'kind') if (value := getattr(self, name)))
            raise ActionError(f'there is no model{chosen} in this profile: `aiida-nanoml train` makes some')
        compared = compare(*models) if models else listed
        if self.csv is not None:
            self.csv.write_text(listed.csv(), encoding='utf-8')
            session.note(f'{self.csv} is written')
        if self.output is not None:
            listed.draw(self.file, **self.size)
            session.note(f'{self.file} is written')
        return CompareResult(compared, listed.rows[0], self.archive)


@dataclass(frozen=True)
class CompareResult(Result):
    """Models side by side, or in a table.

    :param compared: differences of the models, or all models in sections.
    :param best: the best model of the first section.
    :param archive: archive that was asked.
    """

    compared: Comparison | ModelTable
    best: ModelRow
    archive: Path | None

    def to_dict(self) -> dict[str, Any]:
        """Return the models with all values."""
        return self.compared.to_dict()

    def lines(self) -> str:
        """Return what may be compared and what differs as text."""
        return self.compared.render()

    def next_step(self) -> Step:
        """Trace the best model."""
        return step('trace', node=self.best.label or self.best.pk, archive=self.archive)
