"""Learning curve: R² and MAE against the number of training rows."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from aiida_nanoml.errors import DatasetError
from aiida_nanoml.learning.dataset import UNASSIGNED, Dataset
from aiida_nanoml.learning.plot_style import Width, drawing, label_log_axis, styles_of
from aiida_nanoml.learning.studies.base import (
    EpochProgress,
    Point,
    Study,
    StudySettings,
    Table,
    chosen,
    with_uncertainty,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from aiida_nanoml.learning.model import Model

FEWEST_ROWS = 10
"""Default number of training rows that a curve begins with."""


class LearningCurveSettings(StudySettings):
    """Settings of the learning curve."""

    rows: Annotated[tuple[Annotated[int, Field(strict=True, ge=2)], ...], Field(min_length=1)] | None = Field(
        default=None, description='numbers of training rows; by default the whole training part, its half, quarter, …'
    )
    halvings: Annotated[int, Field(strict=True, ge=1, le=12)] = Field(
        default=5, description='how often the training part is halved, where `rows` are not given'
    )


class LearningCurveStudy(Study):
    """R² and MAE against the number of training rows.

    Smaller sets are parts of larger ones, with the same shares of the families. Validation and test rows stay the same,
    and so does the descriptor: one that learns its columns has seen the structures of all training rows, not their
    gaps.
    """

    name = 'learning_curve'
    title = 'Learning curve'
    settings_model = LearningCurveSettings
    descriptor: ClassVar[Mapping[str, Any]] = {'name': 'quadruplets', 'params': {'classes': 22, 'unknown': 'drop'}}
    settings: LearningCurveSettings

    @property
    def keys(self) -> tuple[str, ...]:
        """The number of rows asked for."""
        return ('n_rows',)

    def check(self, rows: Mapping[str, int], training_share: float) -> None:
        """Check that the training part can have as many rows as asked for."""
        super().check(rows, training_share)
        self._require(round(sum(rows.values()) * training_share))

    def _require(self, n_train: int) -> None:
        wanted = self.settings.rows or (FEWEST_ROWS,)
        if max(wanted) > n_train:
            raise DatasetError(
                f'the learning curve needs {max(wanted)} training rows, there are {n_train}: add structures, lower the '
                'shares of validation and test, or set smaller `rows`'
            )

    def points(self, dataset: Dataset) -> list[Point]:
        """Return one point for each number of rows, in ascending order."""
        n_train = int((dataset.split == 'train').sum())
        self._require(n_train)
        if self.settings.rows:
            sizes = set(self.settings.rows)
        else:
            halved = {round(n_train / 2**step) for step in range(self.settings.halvings + 1)}
            sizes = {size for size in halved if size >= FEWEST_ROWS}
        return [{'n_rows': size} for size in sorted(sizes)]

    def train(self, dataset: Dataset, point: Point, seed: int, progress: EpochProgress | None) -> tuple[Dataset, Model]:
        """Train on the first rows of a drawn order."""
        from aiida_nanoml.learning.training import fit_model

        split = dataset.split.copy()
        split[training_order(dataset, seed)[point['n_rows'] :]] = UNASSIGNED
        smaller = dataset.with_split(split)
        return smaller, fit_model(self.model.make(seed), smaller, progress)

    def tables(self, table: Table) -> dict[str, list[list[str]]]:
        """Return a table of R² and MAE of the test rows by number of training rows."""
        summary = self.summary(table)
        names = ('r2_test', f'mae_test_{self.target.suffix}')
        cells = [['rows', 'family', 'R2 test', f'MAE test ({self.target.unit})']]
        for row, family in enumerate(summary['family'].tolist()):
            shown = [
                with_uncertainty(summary[name][row], summary[f'{name}_std'][row]) if name in summary else '-'
                for name in names
            ]
            cells.append([f'{summary["n_rows"][row]:.0f}', family or 'all', *shown])
        return {'curve': cells}

    def figure(self, table: Table, source: str, *, width: Width = 'double', ax: Axes | None = None) -> list[Axes]:
        """Draw R² and MAE of the test rows against the number of training rows, with deviations over the seeds."""
        summary = self.summary(table)
        families = list(dict.fromkeys(summary['family'].tolist()))
        height = 3.0 if width == 'double' else 5.0
        with drawing(ax, width, height, panels=2, rows=1 if width == 'double' else 2) as canvas:
            panels = canvas.panels
            for family, (colour, marker, _) in styles_of(families).items():
                rows = chosen(summary, family=family)
                label = f'{family}-NF' if family in ('s', 'h') else family or 'all families'
                for axes, name in zip(panels, ('r2_test', f'mae_test_{self.target.suffix}'), strict=True):
                    if name not in rows:
                        continue
                    axes.errorbar(
                        rows['n_train'],
                        rows[name],
                        yerr=np.nan_to_num(rows[f'{name}_std']),
                        color=colour,
                        marker=marker,
                        markersize=4.5,
                        linewidth=1.2,
                        capsize=2.5,
                        label=label,
                    )
                    alone = name.replace('test', 'test_baseline')
                    if alone in rows:
                        line = {'color': colour, 'linestyle': ':', 'linewidth': 1.0}
                        axes.axhline(np.nanmean(rows[alone]), **line, label=f'{label}: baseline alone')
            panels[0].set_ylabel('R² of the test rows')
            bottom, top = panels[0].get_ylim()
            panels[0].set_ylim(max(bottom, -0.5), min(top, 1.02))
            panels[1].set_ylabel(f'MAE of the test rows ({self.target.unit})')
            panels[1].set_ylim(bottom=0)
            for axes in panels:
                axes.set_xscale('log')
                label_log_axis(axes.xaxis)
                axes.set_xlabel('Training rows')
            canvas.add_legend()
            canvas.write_title(f'Learning curve, model {self.model.kind}. {self.target.title}: {source}')
        return panels


def training_order(dataset: Dataset, seed: int) -> NDArray[np.int64]:
    """Draw an order of the training rows in which every beginning has the same shares of the families.

    As in :func:`~aiida_nanoml.learning.splits.split_rows`, the order follows sha256(seed, identity) within a family: it
    depends neither on the order of the rows nor on the version of NumPy.

    :returns: indices of the training rows.
    """
    place: dict[int, tuple[float, str]] = {}
    for family in np.unique(dataset.families):
        members = np.flatnonzero((dataset.split == 'train') & (dataset.families == family)).tolist()
        members.sort(key=lambda row: hashlib.sha256(f'{seed}:curve:{dataset.hashes[row]}'.encode()).digest())
        place |= {row: ((rank + 0.5) / len(members), str(family)) for rank, row in enumerate(members)}
    return np.array(sorted(place, key=place.__getitem__), dtype=np.int64)
