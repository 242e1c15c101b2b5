"""Base class of studies: points to evaluate, rows of results, means and deviations over seeds."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from aiida_nanoml.errors import DatasetError, NanomlError
from aiida_nanoml.learning.dataset import GAP, Dataset
from aiida_nanoml.learning.plot_style import Width
from aiida_nanoml.learning.targets import find_target

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from aiida_nanoml.learning.model import Model

DEFAULT_KIND = 'transfer'
"""Kind of model of a study: one network, trained in seconds, since a study trains hundreds."""

OK = 'ok'
FAILED = 'failed'
ALL_FAMILIES = ''
"""Family of a row about the rows of all families together."""

Point = dict[str, Any]
"""Settings of one model of a study, in types of JSON."""

Row = dict[str, float | int | str | None]
Table = dict[str, NDArray[Any]]
"""Columns by name, all of one length; numbers that are not there are NaN, texts that are not there empty."""

EpochProgress = Callable[[int, int], None]


class StudySettings(BaseModel):
    """Settings of a study: unknown ones are refused."""

    model_config = ConfigDict(extra='forbid', frozen=True)


@dataclass(frozen=True)
class ModelChoice:
    """Model that a study trains.

    :param kind: kind of model.
    :param hyperparameters: what differs from the kind.
    :raises ModelError: unknown kind or hyperparameter, or a seed, which is the study's to vary.
    """

    kind: str
    hyperparameters: Mapping[str, Any]

    def __post_init__(self) -> None:
        self.make(0)

    def make(self, seed: int, /, **given: Any) -> Model:
        """Make an untrained model.

        :param seed: for models that have one.
        :param given: hyperparameters that replace those of the choice.
        """
        from aiida_nanoml.errors import ModelError
        from aiida_nanoml.learning.registry import hyperparameters, make_model

        wanted = dict(self.hyperparameters) | given
        if 'seed' in wanted:
            raise ModelError('a study repeats every point over seeds: leave out the hyperparameter seed')
        if 'seed' in hyperparameters(self.kind):
            wanted['seed'] = seed
        return make_model(self.kind, **wanted)


class Study(ABC):
    """Error of models of a target, as a function of something.

    A study has points. For every point a model is trained on the training rows of a data set and evaluated on its
    parts; everything is repeated for several seeds, each with a split, a descriptor and initial weights of its own.

    :param settings: what differs from the defaults in :attr:`settings_model`.
    :param kind: kind of model.
    :param hyperparameters: what differs from the kind.
    :param target: what is learnt.
    :raises DatasetError: a setting that is unknown or wrong, or an unknown target.
    :raises ModelError: unknown kind or hyperparameter.
    """

    name: ClassVar[str]
    """Name in the registry."""

    title: ClassVar[str]
    """Title of figures."""

    settings_model: ClassVar[type[StudySettings]]
    """Settings, with defaults and descriptions."""

    descriptor: ClassVar[Mapping[str, Any]]
    """``name`` and ``params`` of the descriptor that the study is meant for."""

    one_family: ClassVar[bool] = False
    """Whether every family has data sets, and therefore descriptors, of its own."""

    def __init__(
        self,
        settings: Mapping[str, Any],
        kind: str = DEFAULT_KIND,
        hyperparameters: Mapping[str, Any] | None = None,
        target: str = GAP,
    ) -> None:
        try:
            self.settings = self.settings_model.model_validate(dict(settings))
        except ValidationError as error:
            raise DatasetError(self._refusal(error)) from None
        self.model = ModelChoice(kind, dict(hyperparameters or {}))
        self.target = find_target(target)

    @property
    @abstractmethod
    def keys(self) -> tuple[str, ...]:
        """Columns that tell points apart, besides the family: rows that agree in them are repetitions."""

    @abstractmethod
    def points(self, dataset: Dataset) -> list[Point]:
        """List what is evaluated on a data set.

        :raises DatasetError: the data set has too few rows or families.
        """

    @abstractmethod
    def train(self, dataset: Dataset, point: Point, seed: int, progress: EpochProgress | None) -> tuple[Dataset, Model]:
        """Train the model of a point.

        :returns: the data set as the model saw it (its columns, and the split with the rows that it learnt from), and
            the trained model.
        :raises NanomlError: the point cannot be evaluated.
        """

    @abstractmethod
    def figure(
        self, table: Table, source: str, *, width: Width = 'double', ax: Axes | None = None
    ) -> Axes | list[Axes]:
        """Draw the study.

        :param table: rows of all seeds.
        :param source: engine and protocol of the labels.
        :param width: of a figure of its own, in columns of a journal.
        :param ax: axes to draw on, or in whose place panels are drawn; ``None``: a figure of its own.
        :returns: the axes, or those of all panels.
        """

    def check(self, rows: Mapping[str, int], training_share: float) -> None:
        """Check that the study can work, before anything is submitted.

        :param rows: number of structures by family.
        :param training_share: share of the rows that models learn from.
        :raises DatasetError: too few rows, or a family that is missing.
        """
        if self.one_family and not any(rows):
            raise DatasetError(
                f'the study {self.name} looks at one family at a time, but no structure says to which family it '
                'belongs: import the structures with --family'
            )

    def tables(self, table: Table) -> dict[str, list[list[str]]]:
        """Return printable tables by name, made from the rows of all seeds: cells, the first row is the head."""
        return {}

    def reported_families(self, dataset: Dataset) -> list[str]:
        """Return the families about which every point has a row; :data:`ALL_FAMILIES` stands for all together."""
        families = families_of(dataset)
        return families if len(families) == 1 else [ALL_FAMILIES, *families]

    def evaluate(self, dataset: Dataset, point: Point, seed: int, progress: EpochProgress | None = None) -> list[Row]:
        """Train and evaluate the model of a point.

        A point that cannot be evaluated, for example because no feature is left, has rows with the status ``failed``
        and a sentence.

        :param dataset: with a split.
        :param point: one of :meth:`points`.
        :param seed: of the model.
        :param progress: called after every epoch of a network.
        :returns: a row for each of :meth:`reported_families`.
        """
        from aiida_nanoml.learning.training import metrics_by_part, predict_with_spread

        start = time.perf_counter()
        common: Row = {**self.described(point), 'seed': seed}
        try:
            seen, model = self.train(dataset, point, seed, progress)
            values, _ = predict_with_spread(model, seen.X, seen.baseline)
        except NanomlError as error:
            common |= {'status': FAILED, 'message': str(error), 'wall_s': time.perf_counter() - start}
            return [{**common, 'family': family} for family in self.reported_families(dataset)]
        metrics = metrics_by_part(seen, values)
        common |= {
            'status': OK,
            'message': '',
            'wall_s': time.perf_counter() - start,
            'n_features': seen.X.shape[1],
            'n_train': int((seen.split == 'train').sum()),
        }
        rows = []
        for family in self.reported_families(dataset):
            row: Row = {**common, 'family': family}
            for part in ('train', 'validation', 'test', 'baseline/test'):
                found = metrics.get(f'{part}/{family}' if family else part)
                if found is None:
                    continue
                suffix = part.replace('baseline/test', 'test_baseline')
                row |= {f'r2_{suffix}': found['r2']}
                row |= {f'{metric}_{suffix}_{self.target.suffix}': found[metric] for metric in ('mae', 'rmse')}
                if part in ('validation', 'test'):
                    row[f'n_{part}'] = found['n']
            rows.append(row)
        return rows

    def described(self, point: Point) -> Row:
        """Return the values of a point in the columns :attr:`keys`."""
        return {key: point[key] for key in self.keys}

    def summary(self, table: Table) -> Table:
        """Compute means and standard deviations over the seeds.

        :param table: rows of all seeds.
        :returns: a row for each point and family: the columns :attr:`keys`, ``family``, ``n_seeds`` (that were
            evaluated), ``n_failed``, the means by the names of ``table`` and the sample deviations with ``_std`` at the
            end, NaN for one seed.
        """
        by = (*self.keys, 'family')
        numbers = [name for name in table if table[name].dtype.kind == 'f' and name not in (*by, 'seed', 'wall_s')]
        entries = []
        for rows in groups(table, by):
            usable = rows[table['status'][rows] == OK]
            entry: Row = {name: table[name][rows[0]].item() for name in by}
            entry |= {'n_seeds': len(usable), 'n_failed': len(rows) - len(usable)}
            for name in numbers:
                known = table[name][usable]
                known = known[np.isfinite(known)]
                entry[name] = float(known.mean()) if len(known) else None
                entry[f'{name}_std'] = float(known.std(ddof=1)) if len(known) > 1 else None
            entries.append(entry)
        return tabulate(entries)

    @classmethod
    def describe_settings(cls) -> list[str]:
        """Return a line for each setting: name, default and meaning."""
        return [
            f'{name}={_default_text(field.default)}: {field.description}'
            for name, field in cls.settings_model.model_fields.items()
        ]

    def _refusal(self, error: ValidationError) -> str:
        fault = error.errors()[0]
        where = '.'.join(str(part) for part in fault['loc'])
        known = ', '.join(self.settings_model.model_fields)
        if fault['type'] == 'extra_forbidden':
            return f'the study {self.name} has no setting {where!r}; it has: {known}'
        return f'setting {where} of the study {self.name}: {fault["msg"]}, got {fault["input"]!r}'


def _default_text(default: Any) -> str:
    if default is None:
        return '…'
    return f'[{",".join(map(str, default))}]' if isinstance(default, tuple) else str(default)


def families_of(dataset: Dataset) -> list[str]:
    """Return the families in a data set, sorted."""
    return sorted({str(family) for family in dataset.families if family}) or [ALL_FAMILIES]


def tabulate(rows: Iterable[Mapping[str, Any]]) -> Table:
    """Turn rows into columns.

    :param rows: values by name of the column; a name may be missing in some rows.
    :returns: columns of texts if a value is a text, else of numbers: NaN if missing.
    """
    found = list(rows)
    names = dict.fromkeys(name for row in found for name in row)
    table: Table = {}
    for name in names:
        values = [row.get(name) for row in found]
        if any(isinstance(value, str) for value in values):
            table[name] = np.array(['' if value is None else str(value) for value in values], dtype=np.str_)
        else:
            table[name] = np.array([np.nan if value is None else float(value) for value in values])
    return table


def rows_of(table: Table) -> list[Row]:
    """Return the rows of a table; the inverse of :func:`tabulate`."""
    columns = {name: column.tolist() for name, column in table.items()}
    n_rows = len(next(iter(columns.values()), []))
    return [
        {name: None if isinstance(column[row], float) and np.isnan(column[row]) else column[row]
         for name, column in columns.items()}
        for row in range(n_rows)
    ]  # fmt: skip


def groups(table: Table, by: Iterable[str]) -> list[NDArray[np.int64]]:
    """Group the rows that agree in some columns, in the order in which they first occur.

    :returns: indices of the rows of each group.
    """
    members: dict[tuple[Any, ...], list[int]] = {}
    for row, values in enumerate(zip(*(_comparable(table[name]) for name in by), strict=True)):
        members.setdefault(values, []).append(row)
    return [np.array(rows, dtype=np.int64) for rows in members.values()]


def chosen(table: Table, **values: Any) -> Table:
    """Keep the rows that have the given values in the given columns."""
    keep = np.ones(len(next(iter(table.values()))), dtype=bool)
    for name, value in values.items():
        keep &= table[name] == value
    return {name: column[keep] for name, column in table.items()}


def _comparable(column: NDArray[Any]) -> list[Any]:
    values: list[Any] = column.tolist()
    return ['nan' if isinstance(value, float) and np.isnan(value) else value for value in values]


def with_uncertainty(mean: float, deviation: float, digits: int = 3) -> str:
    """Write a mean and its deviation over seeds, ``0.812 ± 0.014``; ``-`` if there is none."""
    if not np.isfinite(mean):
        return '-'
    text = f'{mean:.{digits}f}'
    return text if not np.isfinite(deviation) else f'{text} ± {deviation:.{digits}f}'
