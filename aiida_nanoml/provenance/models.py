"""Table of trained models: one line each, in sections of the same target and labels."""

from __future__ import annotations

import textwrap
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from aiida import orm
from aiida.common.links import LinkType
from numpy.typing import NDArray

from aiida_nanoml.calculations.functions.base import csv_text
from aiida_nanoml.data.density_model import DensityModelData
from aiida_nanoml.data.model import ModelData
from aiida_nanoml.engines.label_set import LabelSource
from aiida_nanoml.errors import ProvenanceError
from aiida_nanoml.learning.dataset import GAP
from aiida_nanoml.learning.identity import content_hash
from aiida_nanoml.learning.metrics import mae_standard_error
from aiida_nanoml.learning.plot_style import Width, save_figure
from aiida_nanoml.learning.splits import SPLITS
from aiida_nanoml.learning.targets import TARGETS
from aiida_nanoml.provenance.graph import in_parts, load_records, read_arrays, select
from aiida_nanoml.provenance.origins import DENSITY_MODEL
from aiida_nanoml.text import aligned, counted, first_of

DENSITY = 'density'
"""Target of density networks, in addition to :data:`~aiida_nanoml.learning.targets.TARGETS`."""

SORTS: Mapping[str, int] = {'mae': 1, 'rmse': 1, 'r2': -1}
"""Test metrics by which a table can be sorted: 1 if small values are good, -1 if large ones are."""

_MEASURES = {False: ('r2', 'mae', 'rmse'), True: ('nmae', 'nmae_free', 'worst_nmae')}
"""Test metrics that a table shows: for densities (True) or other targets."""

_COLUMNS = (
    *('pk', 'uuid', 'label', 'type', 'kind', 'descriptor', 'n_features', 'target', 'unit', 'labels', 'baseline'),
    *('n_train', 'n_validation', 'n_test', 'test_rows', 'r2', 'mae', 'mae_standard_error', 'rmse', 'nmae', 'nmae_free'),
    *('worst_nmae', 'dataset', 'created', 'user', 'fingerprint'),
)


@dataclass(frozen=True)
class ModelRow:
    """A trained model.

    :param kind: kind of the model; :data:`DENSITY` for a density network.
    :param descriptor: names of the parts joined by ``+``; empty if there is none, or it is unknown.
    :param unit: unit of the target; empty for densities, whose errors are shares of the number of electrons.
    :param source: engine, version, protocol, parameters and pseudopotentials of the labels; empty when unknown.
    :param baseline: the same of the baseline, if the model corrects one; else empty.
    :param training: PK of the process that made it; None: not in the graph.
    :param dataset: PK of its training data; None: unknown.
    :param dataset_name: label or PK of the training data.
    :param tested: PK of its test data.
    :param n_rows: number of rows of each part.
    :param test_rows: hash of the set of test structures; empty if unknown, or there are none.
    :param metrics: metrics by part, as the model records them.
    :param mae_standard_error: standard error of the mean absolute test error, in the unit of the target.
    :param leakage: whether leakage between the parts was accepted.
    :param unknown: what is unknown about it, and why; empty if nothing is.
    """

    pk: int
    uuid: str
    type: str
    label: str
    kind: str
    descriptor: str
    n_features: int | None
    target: str
    unit: str
    source: dict[str, Any]
    baseline: dict[str, Any]
    training: int | None
    dataset: int | None
    dataset_name: str
    tested: int | None
    n_rows: dict[str, int]
    test_rows: str
    metrics: dict[str, dict[str, Any]]
    mae_standard_error: float | None
    leakage: bool
    created: str
    user: str
    fingerprint: str
    unknown: str

    @property
    def name(self) -> str:
        """Return how sentences name it: the label, or the PK."""
        return self.label or f'pk {self.pk}'

    @property
    def labels(self) -> str:
        """Return engine, version and protocol of its labels."""
        return str(LabelSource.from_dict(self.source)) if self.source else 'unknown labels'

    def to_dict(self) -> dict[str, Any]:
        """Return everything in types of JSON."""
        return asdict(self) | {'labels': self.labels}


@dataclass(frozen=True)
class Section:
    """Models of the same target, whose labels have the same engine, version, protocol and parameters.

    :param rows: models by test set, and within a test set by the metric, best first.
    """

    target: str
    unit: str
    labels: str
    rows: tuple[ModelRow, ...]

    @property
    def title(self) -> str:
        """Return target, unit and labels of the section."""
        return f'{quantity(self.target, self.unit)}, labels {self.labels}'

    @property
    def test_sets(self) -> tuple[str, ...]:
        """Return the hashes of the test sets, in the order of the rows."""
        return tuple(dict.fromkeys(row.test_rows for row in self.rows if row.test_rows))


@dataclass(frozen=True)
class ModelTable:
    """Models, one line each.

    :param sections: sections whose metrics are not comparable with each other.
    """

    sections: tuple[Section, ...]

    @property
    def rows(self) -> tuple[ModelRow, ...]:
        """Return all models."""
        return tuple(row for section in self.sections for row in section.rows)

    @property
    def statement(self) -> str:
        """Return which metrics may be compared."""
        n_sections = len(self.sections)
        parts = [counted(len(self.rows), 'model')]
        if n_sections > 1:
            parts.append(
                f'in {n_sections} sections by target and labels: metrics of different sections are not comparable'
            )
        if any(len(section.test_sets) > 1 for section in self.sections):
            parts.append(
                'a number in brackets marks the set of test rows: metrics of different sets are not comparable'
            )
        return '; '.join(parts)

    def to_dict(self) -> dict[str, Any]:
        """Return everything in types of JSON."""
        sections = [
            {'target': section.target, 'unit': section.unit, 'labels': section.labels}
            | {'test_sets': list(section.test_sets), 'models': [row.to_dict() for row in section.rows]}
            for section in self.sections
        ]
        return {'n_models': len(self.rows), 'statement': self.statement, 'sections': sections}

    def render(self) -> str:
        """Return the statement, and a table for each section."""
        lines = [self.statement]
        for section in self.sections:
            lines += ['', section.title, aligned(_section_lines(section), '  ')]
        lines += ['', *notes(self.rows)]
        return '\n'.join(lines).rstrip()

    def csv(self) -> str:
        """Return one table of all, a row for each model; a column that does not apply is empty."""
        return csv_text([_COLUMNS, *map(_csv_line, self.rows)])

    def draw(self, path: Path, width: Width = 'double') -> None:
        """Draw the mean absolute test error of each model, in a panel for each section.

        :param path: file to write; its ending chooses the format (png, pdf, svg).
        :param width: in columns of a journal.
        :raises ProvenanceError: no model has test rows.
        :raises DatasetError: there is no such format.
        """
        from aiida_nanoml.learning.plots import plot_test_errors

        panels: dict[str, list[tuple[str, float, float]]] = {}
        for section in self.sections:
            of_density = section.target == DENSITY
            measure, factor, unit = ('nmae', 100.0, '%') if of_density else ('mae', 1.0, section.unit)
            known = [row for row in section.rows if row.metrics.get('test', {}).get(measure) is not None]
            numbers = {digest: number for number, digest in enumerate(section.test_sets, 1)}
            several = '{} ({}, rows {})' if len(numbers) > 1 else '{} ({})'
            if known:
                deviation = '' if of_density else ' ± standard error'
                title = f'{quantity(section.target, "")}, {section.labels}'
                panels[f'{title}\n{measure.upper()} of the test rows{deviation} ({unit})'] = [
                    (
                        several.format(row.name, row.kind, numbers.get(row.test_rows, '?')),
                        factor * row.metrics['test'][measure],
                        row.mae_standard_error or 0.0,
                    )
                    for row in known
                ]
        if not panels:
            raise ProvenanceError('none of the models was evaluated on test rows: there is no test error to draw')
        save_figure(plot_test_errors(panels, width=width), path)


def quantity(target: str, unit: str) -> str:
    """Return the name of a target with its unit."""
    return f'{target} ({unit})' if unit else target


def find_models() -> list[int]:
    """Return the PKs of all models of the profile, in the order in which they were made."""
    query = orm.QueryBuilder().append((ModelData, DensityModelData), project=['id', 'ctime', 'uuid'])
    return [pk for pk, *_ in sorted(query.all(), key=lambda row: row[1:])]


def tabulate_models(
    pks: Collection[int] | None = None, target: str | None = None, kind: str | None = None, sort: str = 'mae'
) -> ModelTable:
    """Return a table of models. The number of queries does not depend on the number of models.

    :param pks: PKs of models; None: all of the profile.
    :param target: only models that predict it, a key of :data:`~aiida_nanoml.learning.targets.TARGETS` or
        :data:`DENSITY`.
    :param kind: only models of this kind, one of :data:`~aiida_nanoml.learning.registry.MODELS`.
    :param sort: test metric, a key of :data:`SORTS`; density models are sorted by ``nmae``.
    :returns: the chosen models; perhaps none.
    :raises ProvenanceError: an unknown target or metric.
    """
    if target is not None and target not in (*TARGETS, DENSITY):
        raise ProvenanceError(f'there is no target {target!r}; there are: {", ".join((*TARGETS, DENSITY))}')
    if sort not in SORTS:
        raise ProvenanceError(f'models cannot be sorted by {sort!r}; they can by {", ".join(SORTS)}')
    rows = model_rows(find_models() if pks is None else pks)
    rows = [row for row in rows if target in (None, row.target) and kind in (None, row.kind)]
    return ModelTable(_sections(rows, sort))


def model_rows(pks: Collection[int]) -> list[ModelRow]:
    """Return a row for each model, in the order in which they were made.

    :param pks: PKs of nodes ``nanoml.model`` and ``nanoml.density_model``.
    """
    records = load_records(pks)
    attributes = dict(select(pks, 'attributes'))
    trainings = _trainings(pks)
    used = [inputs for _, inputs in trainings.values()]
    row_sets = RowSets(
        {inputs['dataset'] for inputs in used if 'dataset' in inputs},
        {inputs[name] for inputs in used for name in ('densities', 'test') if name in inputs},
    )
    rows = []
    for pk, record in records.items():
        card, of_density = attributes[pk], record.type == DENSITY_MODEL
        training, inputs = trainings.get(pk, (None, {}))
        dataset = inputs.get('densities' if of_density else 'dataset')
        tested = inputs.get('test') if of_density else dataset
        parts = row_sets.parts(dataset, tested)
        metrics = card.get('metrics') or {}
        rows.append(
            ModelRow(
                pk=pk,
                uuid=record.uuid,
                type=record.type,
                label=record.label,
                kind=DENSITY if of_density else card['kind'],
                descriptor=_descriptor_name(card.get('descriptor') or {}),
                n_features=card.get('n_features'),
                target=DENSITY if of_density else card.get('target', GAP),
                unit='' if of_density else card.get('unit', TARGETS[GAP].unit),
                source=card.get('labels') or {},
                baseline=card.get('baseline') or {},
                training=training,
                dataset=dataset,
                dataset_name=row_sets.names.get(dataset, ''),
                tested=tested,
                n_rows={part: len(hashes) for part, hashes in parts.items()},
                test_rows=content_hash(np.unique(parts['test'])) if 'test' in parts else '',
                metrics=metrics,
                mae_standard_error=mae_standard_error(metrics.get('test', {})),
                leakage=bool(card.get('allow_leakage')),
                created=record.ctime,
                user=record.user,
                fingerprint=card['fingerprint'],
                unknown=_what_is_unknown(training, dataset, 'test' in parts),
            )
        )
    return rows


class RowSets:
    """Structures in the parts of data sets and densities, read at once.

    :param datasets: PKs of data sets.
    :param densities: PKs of densities; each of them is one part.
    """

    def __init__(self, datasets: Collection[int], densities: Collection[int]) -> None:
        self._hashes = read_arrays(datasets, 'hashes')
        self._split = read_arrays(datasets, 'split')
        self.names = {pk: label or f'pk {pk}' for pk, label in select([*datasets, *densities], 'label')}
        """Label or PK of each data set."""
        self._densities: dict[int, NDArray[np.str_]] = {}
        for filters in in_parts(densities):
            for node in orm.QueryBuilder().append(orm.Node, filters=filters).all(flat=True):
                self._densities[node.pk] = node.hashes

    def parts(self, dataset: int | None, tested: int | None) -> dict[str, NDArray[np.str_]]:
        """Return the hashes of the structures in each part that is not empty.

        :param dataset: PK of the training data of a model; None: unknown.
        :param tested: PK of its test data: the same data set, or other densities.
        """
        if dataset in self._hashes:
            split = self._split[dataset]
            found = {part: self._hashes[dataset][split == part] for part in SPLITS}
        else:
            found = {'train': self._densities.get(dataset), 'test': self._densities.get(tested)}
        return {part: hashes for part, hashes in found.items() if hashes is not None and len(hashes)}


def _trainings(pks: Collection[int]) -> dict[int, tuple[int, dict[str, int]]]:
    """Return the process that made each model, and its inputs by the label of the link."""
    found: dict[int, tuple[int, dict[str, int]]] = {}
    for filters in in_parts(pks):
        query = orm.QueryBuilder().append(orm.Node, filters=filters, project='id', tag='model')
        query.append(
            orm.ProcessNode,
            with_outgoing='model',
            edge_filters={'type': LinkType.CREATE.value},
            project='id',
            tag='training',
        )
        query.append(
            orm.Node,
            with_outgoing='training',
            edge_filters={'type': LinkType.INPUT_CALC.value},
            project='id',
            edge_project='label',
        )
        for model, training, source, label in query.all():
            found.setdefault(model, (training, {}))[1][label] = source
    return found


def _descriptor_name(descriptor: Mapping[str, Any]) -> str:
    if descriptor.get('name') == 'combined':
        return '+'.join(part['name'] for part in descriptor['params']['parts'])
    return str(descriptor.get('name', ''))


def _what_is_unknown(training: int | None, dataset: int | None, tested: bool) -> str:
    if training is None:
        return 'unknown training data: it was stored by hand, or its training was deleted or not exported'
    if dataset is None:
        return f'unknown training data: the process pk {training} that made it has no data set as input'
    return '' if tested else 'unknown error on unseen rows: there are no test rows'


def _sections(rows: Sequence[ModelRow], sort: str) -> tuple[Section, ...]:
    groups: list[list[ModelRow]] = []
    for row in rows:
        same = (members for members in groups if members[0].target == row.target and same_labels(members[0], row))
        members = next(same, None)
        if members is None:
            groups.append([row])
        else:
            members.append(row)
    order = [*TARGETS, DENSITY]
    groups.sort(key=lambda members: (order.index(members[0].target), -len(members), members[0].labels))
    named: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for members in groups:
        named[members[0].target, members[0].labels].append(members[0].source)
    return tuple(
        Section(
            target=members[0].target,
            unit=members[0].unit,
            labels=_distinct_name(members[0], named[members[0].target, members[0].labels]),
            rows=_sort_rows(members, sort),
        )
        for members in groups
    )


def same_labels(one: ModelRow, other: ModelRow) -> bool:
    """Return whether the labels of two models may be mixed in one target."""
    if not one.source or not other.source:
        return one.source == other.source
    return LabelSource.from_dict(one.source).compatible(LabelSource.from_dict(other.source))


def flattened(values: Mapping[str, Any], before: str = '') -> dict[str, Any]:
    """Return nested mappings as one, with keys joined by dots."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= flattened(value, f'{before}{key}.') if isinstance(value, Mapping) else {f'{before}{key}': value}
    return flat


def _distinct_name(row: ModelRow, sources: Sequence[Mapping[str, Any]]) -> str:
    """Return the name of labels, with the parameters that differ from others of the same name."""
    if len(sources) == 1:
        return row.labels
    flat = [flattened({key: source.get(key, {}) for key in ('parameters', 'pseudopotentials')}) for source in sources]
    names = sorted({name for found in flat for name in found})
    own = flat[sources.index(row.source)]
    different = [name for name in names if any(found.get(name) != own.get(name) for found in flat)]
    values = ', '.join(f'{name.partition(".")[2]} {own.get(name)}' for name in different)
    return f'{row.labels} ({textwrap.shorten(values, 80, placeholder=" …")})'


def _sort_rows(rows: Sequence[ModelRow], sort: str) -> tuple[ModelRow, ...]:
    """Return models by test set, the best first; test sets in the order of their best model."""

    def rank(row: ModelRow) -> tuple[bool, float, int]:
        measure, sign = ('nmae', 1) if row.target == DENSITY else (sort, SORTS[sort])
        value = row.metrics.get('test', {}).get(measure)
        return value is None, 0.0 if value is None else sign * value, row.pk

    members: dict[str, list[ModelRow]] = defaultdict(list)
    for row in sorted(rows, key=rank):
        members[row.test_rows].append(row)
    known = sorted(members, key=lambda digest: digest == '')
    return tuple(row for digest in known for row in members[digest])


_SHOWN = 4
_HEADERS = {'r2': 'R2', 'mae': 'MAE', 'rmse': 'RMSE', 'nmae': 'NMAE', 'nmae_free': 'free atoms', 'worst_nmae': 'worst'}


def _section_lines(section: Section) -> list[list[str]]:
    """Return the header and a line for each model."""
    of_density = section.target == DENSITY
    measures = _MEASURES[of_density]
    unit = '%' if of_density else section.unit
    headers = [_HEADERS[name] + (f' ({unit})' if name != 'r2' else '') for name in measures]
    lines = [['', 'pk', 'kind', 'descriptor', 'train', 'test', *headers, 'data set', 'made']]
    numbers = {digest: f' ({number})' for number, digest in enumerate(section.test_sets, 1)}
    if len(numbers) == 1:
        numbers = {}
    for row in section.rows:
        counts = [str(row.n_rows.get(part, '?' if row.dataset is None else 0)) for part in ('train', 'test')]
        lines.append(
            [
                row.label or '-',
                str(row.pk),
                row.kind + (' on baseline' if row.baseline else ''),
                row.descriptor or '-',
                counts[0],
                counts[1] + numbers.get(row.test_rows, ''),
                *(_format_metric(row, name) for name in measures),
                row.dataset_name or '?',
                row.created[:10],
            ]
        )
    return [line if not of_density else [*line[:3], *line[4:]] for line in lines]


def _format_metric(row: ModelRow, name: str) -> str:
    value = row.metrics.get('test', {}).get(name)
    if value is None:
        return '-'
    if row.target == DENSITY:
        return f'{100 * value:.3f}'
    digits = 3 if name == 'r2' else TARGETS[row.target].digits
    error = f' ± {row.mae_standard_error:.{digits}f}' if name == 'mae' and row.mae_standard_error is not None else ''
    return f'{value:.{digits}f}{error}'


def notes(rows: Sequence[ModelRow]) -> list[str]:
    """Return what must be known with the numbers: what is unknown, leakage, baselines, equal weights."""
    lines = []
    for why, members in _group_by(rows, lambda row: row.unknown).items():
        lines += [f'{names_of(members)}: {why}'] if why else []
    leaking = [row for row in rows if row.leakage]
    if leaking:
        lines.append(f'{names_of(leaking)}: leakage between the parts was accepted: the metrics may be too good')
    for corrected, members in _group_by(rows, _corrected_labels).items():
        lines += [f'{names_of(members)}: correction to {corrected}'] if corrected else []
    for members in _group_by(rows, lambda row: row.fingerprint).values():
        lines += [f'{names_of(members)}: the same weights'] if len(members) > 1 else []
    return lines


def _group_by(rows: Sequence[ModelRow], key: Callable[[ModelRow], str]) -> dict[str, list[ModelRow]]:
    found: dict[str, list[ModelRow]] = defaultdict(list)
    for row in rows:
        found[key(row)].append(row)
    return found


def _corrected_labels(row: ModelRow) -> str:
    return str(LabelSource.from_dict(row.baseline)) if row.baseline else ''


def names_of(rows: Sequence[ModelRow]) -> str:
    """Return the names of models for a sentence; of many, the first ones."""
    return first_of([row.name for row in rows], _SHOWN)


def _csv_line(row: ModelRow) -> list[Any]:
    values = row.to_dict() | {f'n_{part}': row.n_rows.get(part) for part in SPLITS}
    values |= {'baseline': _corrected_labels(row), 'dataset': row.dataset_name}
    values |= {name: row.metrics.get('test', {}).get(name) for name in _HEADERS}
    return ['' if values[name] is None else values[name] for name in _COLUMNS]
