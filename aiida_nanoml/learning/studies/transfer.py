"""Transfer: train on one family, test on the others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
from pydantic import Field

from aiida_nanoml.errors import DatasetError
from aiida_nanoml.learning.dataset import UNASSIGNED, Dataset
from aiida_nanoml.learning.plot_style import SMALL, Width, drawing
from aiida_nanoml.learning.studies.base import (
    ALL_FAMILIES,
    EpochProgress,
    Point,
    Study,
    StudySettings,
    Table,
    chosen,
    families_of,
    with_uncertainty,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from aiida_nanoml.learning.model import Model


class TransferSettings(StudySettings):
    """Settings of the transfer study."""

    families: Annotated[tuple[str, ...], Field(min_length=2)] | None = Field(
        default=None, description='families to train and to test on; by default all'
    )
    together: bool = Field(default=True, description='also train on all families together')


class TransferStudy(Study):
    """R² of models that were trained on one family and are tested on another one.

    Every model is validated on rows of the families that it learnt from, and tested on the test rows of each family.
    The columns must mean the same in all families: the common set of 29 of the source holds the species and clusters
    that occur in every family. Which these are is learnt from training rows of all families, from their structures
    alone.
    """

    name = 'transfer'
    title = 'Transfer between families'
    settings_model = TransferSettings
    descriptor: ClassVar[Mapping[str, Any]] = {
        'name': 'clusters',
        'params': {'radii': [1], 'per_radius': 25, 'common': True},
    }
    settings: TransferSettings

    @property
    def keys(self) -> tuple[str, ...]:
        """The family that was trained on."""
        return ('train_family',)

    def check(self, rows: Mapping[str, int], training_share: float) -> None:
        """Check that there are two families or more, and those that are asked for."""
        super().check(rows, training_share)
        self._families(sorted(family for family in rows if family))

    def _families(self, found: list[str]) -> list[str]:
        missing = sorted(set(self.settings.families or ()) - set(found))
        if missing:
            raise DatasetError(
                f'there are no rows of the family {", ".join(missing)}; there is: {", ".join(found) or "none"}'
            )
        if len(found) < 2:
            raise DatasetError(
                f'a transfer needs two families, there is: {", ".join(found) or "none"}. Give structures of another '
                'family as well'
            )
        return [family for family in found if family in (self.settings.families or found)]

    def points(self, dataset: Dataset) -> list[Point]:
        """Return one point for each family to train on, and one for all together."""
        families = self._families([family for family in families_of(dataset) if family])
        together = [ALL_FAMILIES] if self.settings.together else []
        return [{'train_family': family} for family in families + together]

    def reported_families(self, dataset: Dataset) -> list[str]:
        """Return the single families."""
        return self._families([family for family in families_of(dataset) if family])

    def train(self, dataset: Dataset, point: Point, seed: int, progress: EpochProgress | None) -> tuple[Dataset, Model]:
        """Train and validate on rows of one family."""
        from aiida_nanoml.learning.training import fit_model

        of = [point['train_family']] if point['train_family'] else self.reported_families(dataset)
        others = (dataset.split != 'test') & ~np.isin(dataset.families, of)
        restricted = dataset.with_split(np.where(others, UNASSIGNED, dataset.split))
        return restricted, fit_model(self.model.make(seed), restricted, progress)

    def figure(self, table: Table, source: str, *, width: Width = 'single', ax: Axes | None = None) -> Axes:
        """Draw the matrix of R²: a row for each family trained on, a column for each tested on."""
        summary = self.summary(table)
        trained = list(dict.fromkeys(summary['train_family'].tolist()))
        tested = list(dict.fromkeys(summary['family'].tolist()))
        mean, deviation = np.full((2, len(trained), len(tested)), np.nan)
        for row, train_family in enumerate(trained):
            for column, family in enumerate(tested):
                found = chosen(summary, train_family=train_family, family=family)
                if 'r2_test' in found:
                    mean[row, column] = found['r2_test'][0]
                    deviation[row, column] = found['r2_test_std'][0]
        with drawing(ax, width, 1.6 + 0.5 * len(trained)) as canvas:
            axes = canvas.panels[0]
            image = axes.imshow(np.clip(mean, 0, 1), cmap='cividis', vmin=0, vmax=1, aspect='auto')
            for row, column in np.ndindex(mean.shape):
                shown = f'{mean[row, column]:.2f}' if np.isfinite(mean[row, column]) else 'failed'
                if np.isfinite(deviation[row, column]):
                    shown += f'\n± {deviation[row, column]:.2f}'
                colour = 'black' if mean[row, column] > 0.5 else 'white'
                axes.text(column, row, shown, ha='center', va='center', fontsize=SMALL, color=colour)
            axes.set_xticks(range(len(tested)), tested)
            axes.set_yticks(range(len(trained)), [family or 'all' for family in trained])
            axes.tick_params(length=0, top=False, right=False)
            axes.set(xlabel='Family tested on', ylabel='Family trained on')
            canvas.figure.colorbar(image, ax=axes, label='R² of the test rows')
            canvas.write_title(f'Transfer, model {self.model.kind}\n{source}')
        return canvas.axes

    def tables(self, table: Table) -> dict[str, list[list[str]]]:
        """Return the matrix of R²."""
        summary = self.summary(table)
        tested = list(dict.fromkeys(summary['family'].tolist()))
        cells = [['trained on', *(f'R2 on {family}' for family in tested)]]
        for train_family in dict.fromkeys(summary['train_family'].tolist()):
            line: list[str] = [train_family or 'all']
            for family in tested:
                found = chosen(summary, train_family=train_family, family=family)
                line.append(
                    with_uncertainty(found['r2_test'][0], found['r2_test_std'][0]) if 'r2_test' in found else '-'
                )
            cells.append(line)
        return {'r2_matrix': cells}
