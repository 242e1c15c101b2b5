"""Selection of features: R² against the number of features that are left, by method."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from aiida_nanoml.learning.dataset import Dataset
from aiida_nanoml.learning.plot_style import Width, drawing, styles_of
from aiida_nanoml.learning.studies.base import (
    EpochProgress,
    Point,
    Study,
    StudySettings,
    Table,
    chosen,
    with_uncertainty,
)
from aiida_nanoml.learning.studies.source_figures import SOURCE, TABLE_1, P

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from aiida_nanoml.learning.model import Model

ALL = 'all'
TITLES: Mapping[str, str] = MappingProxyType(
    {'vt': 'VT', 'mit': 'MIT', 'vt_mit': 'VT→MIT', 'rcr': 'RCR', 'random': 'random', ALL: 'all features'}
)
"""Names of the methods in figures."""

Probability = Annotated[float, Field(strict=True, ge=0.5, lt=1)]
Threshold = Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False)]
Count = Annotated[int, Field(strict=True, ge=1)]


class SelectionSettings(StudySettings):
    """Settings of the study of selection."""

    methods: Annotated[tuple[Literal['vt', 'mit', 'vt_mit', 'rcr', 'random'], ...], Field(min_length=1)] = Field(
        default=('vt', 'mit', 'vt_mit', 'rcr', 'random'), description='methods of selection'
    )
    p: Annotated[tuple[Probability, ...], Field(min_length=1)] = Field(
        default=P, description='of VT: keep columns with a variance above p (1 - p)'
    )
    thresholds: Annotated[tuple[Threshold, ...], Field(min_length=1)] = Field(
        default=(0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.7),
        description='of MIT: keep columns whose mutual information with the target is above this',
    )
    normalised: bool = Field(default=True, description='divide the mutual information by its largest value')
    then_threshold: Threshold = Field(default=0.05, description='of MIT after VT, for every p')
    n_features: Annotated[tuple[Count, ...], Field(min_length=1)] = Field(
        default=(4, 10, 20, 30, 45, 60, 80, 100), description='numbers of features that RCR and random choice keep'
    )


class SelectionStudy(Study):
    """R² against the number of features that a selection keeps, for each family by itself.

    The selection sees training rows only. All methods choose from the same columns, by default the reference set of
    204: 4 species and 25 clusters at each of 8 radii. The seed also draws these clusters, so that deviations over seeds
    hold the luck of the draw.
    """

    name = 'selection'
    title = 'Selection of features'
    settings_model = SelectionSettings
    descriptor: ClassVar[Mapping[str, Any]] = {'name': 'clusters', 'params': {'per_radius': 25}}
    one_family = True
    settings: SelectionSettings

    @property
    def keys(self) -> tuple[str, ...]:
        """The method and its parameter: p, the threshold, or the number of features."""
        return ('method', 'parameter')

    def points(self, dataset: Dataset) -> list[Point]:
        """All methods with all their parameters, and all features as they are."""
        counts = [n for n in self.settings.n_features if n < dataset.X.shape[1]] or [dataset.X.shape[1]]
        parameters: dict[str, tuple[float, ...]] = {
            'vt': self.settings.p,
            'mit': self.settings.thresholds,
            'vt_mit': self.settings.p,
            'rcr': tuple(counts),
            'random': tuple(counts),
        }
        points = [{'method': ALL, 'parameter': float(dataset.X.shape[1])}]
        points += [
            {'method': method, 'parameter': float(value)}
            for method in self.settings.methods
            for value in parameters[method]
        ]
        return points

    def train(self, dataset: Dataset, point: Point, seed: int, progress: EpochProgress | None) -> tuple[Dataset, Model]:
        """Select columns by the training rows, then train on these columns."""
        from aiida_nanoml.learning.training import fit_model

        selected = dataset if point['method'] == ALL else self._selected(dataset, point, seed)
        return selected, fit_model(self.model.make(seed), selected, progress)

    def _selected(self, dataset: Dataset, point: Point, seed: int) -> Dataset:
        from aiida_nanoml.features.selection import make_selector

        settings, value = self.settings, point['parameter']
        mutual = {'normalised': settings.normalised, 'seed': seed}
        params: dict[str, Callable[[], dict[str, Any]]] = {
            'vt': lambda: {'p': value},
            'mit': lambda: {'threshold': value, **mutual},
            'vt_mit': lambda: {'p': value, 'threshold': settings.then_threshold, **mutual},
            'rcr': lambda: {'n_features': int(value)},
            'random': lambda: {'n_features': int(value), 'seed': seed},
        }
        selector = make_selector(point['method'], **params[point['method']]())
        rows = dataset.split == 'train'
        selector.fit(dataset.X[rows], dataset.learnt[rows], feature_names=dataset.feature_names)
        kept = np.asarray(selector.get_support(), dtype=bool)
        names = tuple(name for name, keep in zip(dataset.feature_names, kept, strict=True) if keep)
        return replace(dataset, X=dataset.X[:, kept], feature_names=names)

    def figure(self, table: Table, source: str, *, width: Width = 'double', ax: Axes | None = None) -> list[Axes]:
        """Draw R² of the test rows against the number of features: a panel for each family, a line for each method.

        Beside VT stands what the source reports, on labels and flakes of its own.
        """
        summary = self.summary(table)
        families = list(dict.fromkeys(summary['family'].tolist()))
        columns = min(len(families), 3 if width == 'double' else 1)
        lines = -(-len(families) // columns)
        with drawing(ax, width, 0.9 + 2.4 * lines, panels=len(families), rows=lines) as canvas:
            panels = canvas.panels
            for axes, family in zip(panels, families, strict=True):
                self._panel(axes, chosen(summary, family=family), family)
            for axes in panels[::columns]:
                axes.set_ylabel('R² of the test rows')
            canvas.add_legend(columns=4)
            canvas.write_title(f'Selection of features, model {self.model.kind}. {self.target.title}: {source}')
        return panels

    def _panel(self, axes: Any, rows: Table, family: str) -> None:
        if 'r2_test' in rows:
            everything = chosen(rows, method=ALL)
            axes.axhline(everything['r2_test'][0], color='black', linewidth=0.8, linestyle='--',
                         label=f'all {everything["parameter"][0]:.0f} features')  # fmt: skip
            styles = styles_of(self.settings.methods)
            for method in self.settings.methods:
                found = chosen(rows, method=method)
                order = np.argsort(found['n_features'], kind='stable')
                colour, marker, _ = styles[method]
                axes.errorbar(
                    found['n_features'][order],
                    found['r2_test'][order],
                    xerr=np.nan_to_num(found['n_features_std'][order]),
                    yerr=np.nan_to_num(found['r2_test_std'][order]),
                    color=colour,
                    marker=marker,
                    markersize=4.5,
                    linewidth=1.1,
                    elinewidth=0.7,
                    capsize=1.5,
                    label=TITLES[method],
                )
        if family in TABLE_1:
            published = TABLE_1[family]
            axes.plot(published['n_features'], published['r2_test'], 'x', color='black', markersize=4.5,
                      label=f'VT, {SOURCE}')  # fmt: skip
        bottom, top = axes.get_ylim()
        axes.set_ylim(max(bottom, -0.5), max(min(top, 1.02), 0.2))
        axes.set_xlim(left=0)
        axes.set_xlabel('Number of features')
        axes.set_title(f'{family}-NF' if family in TABLE_1 else family or 'all rows')

    def tables(self, table: Table) -> dict[str, list[list[str]]]:
        """Return a table of all methods and, if VT is among them, ours beside Table 1 of the source."""
        summary = self.summary(table)
        names = ('n_features', 'r2_validation', 'r2_test')
        heads = ['N_f', 'R2 val', 'R2 test']
        methods = [['family', 'method', 'parameter', *heads, 'failed']]
        table_1 = [['family', 'p', *heads, *(f'{head}, {SOURCE}' for head in heads)]]
        for row, (family, method) in enumerate(
            zip(summary['family'].tolist(), summary['method'].tolist(), strict=True)
        ):
            parameter = summary['parameter'][row].item()
            ours = [
                with_uncertainty(summary[name][row], summary[f'{name}_std'][row], digits=0 if name == names[0] else 3)
                if name in summary
                else '-'
                for name in names
            ]
            failed = f'{summary["n_failed"][row]:.0f}'
            methods.append([family or 'all', TITLES[method], f'{parameter:g}', *ours, failed])
            if method != 'vt':
                continue
            theirs = ['-'] * len(names)
            if family in TABLE_1 and parameter in P:
                theirs = [f'{TABLE_1[family][name][P.index(parameter)]:g}' for name in names]
            table_1.append([family or 'all', f'{parameter:g}', *ours, *theirs])
        return {'methods': methods} | ({'table_1': table_1} if 'vt' in self.settings.methods else {})
