"""Hyperparameters: R² over a grid, or over random samples of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from aiida_nanoml.errors import DatasetError
from aiida_nanoml.learning.dataset import GAP, Dataset
from aiida_nanoml.learning.plot_style import GREY, ORANGE, RED, Width, drawing
from aiida_nanoml.learning.studies.base import (
    DEFAULT_KIND,
    EpochProgress,
    Point,
    Row,
    Study,
    StudySettings,
    Table,
    chosen,
    with_uncertainty,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from aiida_nanoml.learning.model import Model

NETWORK_GRID: Mapping[str, list[Any]] = {
    'epochs': [50, 100, 200],
    'batch_size': [32, 64, 128],
    'hidden_layers': [[64, 64], [300, 50, 25], [256, 256]],
    'learning_rate': [0.001, 0.003, 0.01],
}
"""Default grid of a dense network."""

SHOWN_BEST = 10


class HyperparametersSettings(StudySettings):
    """Settings of the study of hyperparameters."""

    grid: Annotated[dict[str, Annotated[list[Any], Field(min_length=1)]], Field(min_length=1)] | None = Field(
        default=None,
        description='values to try, by hyperparameter; by default epochs, batch_size, hidden_layers and learning_rate '
        'of a dense network',
    )
    sampling: Literal['grid', 'random'] = Field(
        default='random', description='every combination, or `n_points` of them drawn at random'
    )
    n_points: Annotated[int, Field(strict=True, ge=1)] = Field(default=12, description='combinations to draw')
    sampling_seed: Annotated[int, Field(strict=True, ge=0, lt=2**32)] = Field(
        default=0, description='seed of the draw, the same for all repetitions'
    )


class HyperparametersStudy(Study):
    """R² for combinations of hyperparameters, from scikit-learn's ``ParameterGrid`` or ``ParameterSampler``.

    The best combination is the one with the highest mean R² on the validation rows. Its R² on the test rows, which had
    no part in the choice, is what it is worth.
    """

    name = 'hyperparameters'
    title = 'Hyperparameters'
    settings_model = HyperparametersSettings
    descriptor: ClassVar[Mapping[str, Any]] = {'name': 'quadruplets', 'params': {'classes': 22, 'unknown': 'drop'}}
    settings: HyperparametersSettings

    def __init__(
        self,
        settings: Mapping[str, Any],
        kind: str = DEFAULT_KIND,
        hyperparameters: Mapping[str, Any] | None = None,
        target: str = GAP,
    ) -> None:
        from aiida_nanoml.learning.dense_network import DenseNetwork
        from aiida_nanoml.learning.registry import MODELS

        super().__init__(settings, kind, hyperparameters, target)
        chosen_kind = MODELS.load(kind)
        if self.settings.grid is None and not issubclass(chosen_kind.model, DenseNetwork):
            raise DatasetError(
                f'the kind {kind} has no default `grid`: set the values to try of some of its hyperparameters, which '
                f'are {", ".join(sorted(set(chosen_kind.hyperparameters) - {"seed"})) or "none"}'
            )
        self.grid = {name: list(values) for name, values in (self.settings.grid or NETWORK_GRID).items()}
        both = sorted(set(self.grid) & set(self.model.hyperparameters))
        if both:
            raise DatasetError(f'{", ".join(both)} cannot be fixed and tried at the same time')
        self._combinations = self._draw()
        for point in self._combinations:
            self.model.make(0, **point)

    @property
    def keys(self) -> tuple[str, ...]:
        """The hyperparameters that are tried."""
        return tuple(self.grid)

    def _draw(self) -> list[Point]:
        from sklearn.model_selection import ParameterGrid, ParameterSampler

        grid = ParameterGrid(self.grid)
        if self.settings.sampling == 'grid' or self.settings.n_points >= len(grid):
            drawn = list(grid)
        else:
            drawn = list(ParameterSampler(self.grid, self.settings.n_points, random_state=self.settings.sampling_seed))
        return [{name: point[name] for name in self.grid} for point in drawn]

    def points(self, dataset: Dataset) -> list[Point]:
        """Return the combinations, the same for every data set."""
        return self._combinations

    def train(self, dataset: Dataset, point: Point, seed: int, progress: EpochProgress | None) -> tuple[Dataset, Model]:
        """Train with one combination."""
        from aiida_nanoml.learning.training import fit_model

        return dataset, fit_model(self.model.make(seed, **point), dataset, progress)

    def described(self, point: Point) -> Row:
        """Numbers as they are, lists as in ``300-50-25``, anything else as text."""
        return {name: _shown(value) for name, value in point.items()}

    def ranked(self, table: Table) -> Table:
        """Return means over the seeds about all families together, best combination on validation rows first."""
        summary = self.summary(table)
        overall = chosen(summary, family=summary['family'][0])
        if 'r2_validation' not in overall:
            return overall
        order = np.argsort(-np.nan_to_num(overall['r2_validation'], nan=-np.inf), kind='stable')
        return {name: column[order] for name, column in overall.items()}

    def tables(self, table: Table) -> dict[str, list[list[str]]]:
        """Return a table of the best combinations."""
        ranked = self.ranked(table)
        if 'r2_validation' not in ranked:
            return {}
        cells = [[*self.keys, 'R2 validation', 'R2 test', f'MAE test ({self.target.unit})']]
        for row in range(min(SHOWN_BEST, len(ranked['family']))):
            values = [ranked[name][row].item() for name in self.keys]
            cells.append(
                [f'{value:g}' if isinstance(value, float) else value for value in values]
                + [
                    with_uncertainty(ranked[name][row], ranked[f'{name}_std'][row])
                    for name in ('r2_validation', 'r2_test', f'mae_test_{self.target.suffix}')
                ]
            )
        return {'best': cells}

    def figure(self, table: Table, source: str, *, width: Width = 'double', ax: Axes | None = None) -> list[Axes]:
        """Draw R² of the validation rows of every combination, once for each hyperparameter; the best one is marked."""
        ranked = self.ranked(table)
        columns = min(len(self.grid), 3 if width == 'double' else 1)
        lines = -(-len(self.grid) // columns)
        with drawing(ax, width, 0.8 + 2.2 * lines, panels=len(self.grid), rows=lines) as canvas:
            panels = canvas.panels
            for axes, (name, values) in zip(panels, self.grid.items(), strict=True):
                labels = [_shown(value) for value in values]
                if 'r2_validation' in ranked:
                    place = np.array([labels.index(value) for value in ranked[name].tolist()], dtype=np.float64)
                    # Side by side in the order of rank, so that bars do not hide each other.
                    spread = np.linspace(-0.25, 0.25, len(place)) if len(place) > 1 else np.zeros(1)
                    axes.errorbar(
                        place + spread,
                        ranked['r2_validation'],
                        yerr=np.nan_to_num(ranked['r2_validation_std']),
                        linestyle='none',
                        markersize=3.5,
                        color=ORANGE,
                        marker='^',
                        ecolor=GREY,
                        elinewidth=0.8,
                        capsize=1.5,
                        label='validation',
                    )
                    axes.plot(
                        place[:1] + spread[:1],
                        ranked['r2_validation'][:1],
                        '*',
                        markersize=11,
                        color=RED,
                        label='best on validation',
                    )
                axes.set_xticks(range(len(labels)), [f'{label:g}' if isinstance(label, float) else label
                                                     for label in labels], rotation=20)  # fmt: skip
                axes.set_xlim(-0.5, len(labels) - 0.5)
                axes.set_xlabel(name)
                bottom, top = axes.get_ylim()
                axes.set_ylim(max(bottom, -0.5), top)
            for axes in panels[::columns]:
                axes.set_ylabel('R² of the validation rows')
            canvas.add_legend()
            canvas.write_title(f'Hyperparameters, model {self.model.kind}. {self.target.title}: {source}')
        return panels


def _shown(value: Any) -> float | str:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, list | tuple):
        return '-'.join(map(str, value))
    return str(value)
