"""Trained models in a table: one line each, and in one section only those that were judged by the same labels."""

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
from aiida_nanoml.learning.splits import SPLITS
from aiida_nanoml.learning.targets import TARGETS
from aiida_nanoml.provenance.graph import in_parts, load_records, read_arrays, select
from aiida_nanoml.provenance.origins import DENSITY_MODEL
from aiida_nanoml.text import aligned, counted, first_of

DENSITY = 'density'
"""What density networks predict, beside :data:`~aiida_nanoml.learning.targets.TARGETS`."""

SORTS: Mapping[str, int] = {'mae': 1, 'rmse': 1, 'r2': -1}
"""Test metrics of a table by which it can be sorted, and whether small or large ones are good."""

_MEASURES = {False: ('r2', 'mae', 'rmse'), True: ('nmae', 'nmae_free', 'worst_nmae')}
"""Test metrics that a table shows, of densities or not."""

_COLUMNS = (
    *('pk', 'uuid', 'label', 'type', 'kind', 'descriptor', 'n_features', 'target', 'unit', 'labels', 'baseline'),
    *('n_train', 'n_validation', 'n_test', 'test_rows', 'r2', 'mae', 'mae_standard_error', 'rmse', 'nmae', 'nmae_free'),
    *('worst_nmae', 'dataset', 'created', 'user', 'fingerprint'),
)


@dataclass(frozen=True)
class ModelRow:
    """A trained model.

    :param kind: of the model; of a density network :data:`DENSITY`.
    :param descriptor: names of the parts joined by ``+``; empty where there is none, or an unknown one.
    :param unit: of the target; empty for densities, whose errors are shares of the number of electrons.
    :param source: engine, version, protocol, parameters and pseudopotentials of the labels; empty when unknown.
    :param baseline: of a correction: the same of what is corrected; else empty.
    :param training: PK of the process that made it; None when there is none here.
    :param dataset: PK of what it learnt from; None when that is not known.
    :param dataset_name: its label, or its PK.
    :param tested: PK of what it was judged by.
    :param n_rows: rows of each part.
    :param test_rows: hash of the set of structures that it was judged by; empty when it is not known, or there is none.
    :param metrics: by part, as the model keeps them.
    :param mae_standard_error: of the mean absolute error of the test rows, in the unit of the target.
    :param leakage: whether it was accepted that it is judged on structures which it learnt from.
    :param unknown: what is not known about it, and why; empty when all is.
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
        """How sentences call it: the label, or the PK."""
        return self.label or f'pk {self.pk}'

    @property
    def labels(self) -> str:
        """Engine, version and protocol of its labels."""
        return str(LabelSource.from_dict(self.source)) if self.source else 'unknown labels'

    def to_dict(self) -> dict[str, Any]:
        """Return everything in types of JSON."""
        return asdict(self) | {'labels': self.labels}


@dataclass(frozen=True)
class Section:
    """Models of the same target, whose labels are of one engine, version, protocol and parameters.

    :param rows: in the order of their test sets, and among those of the same one by the metric, best first.
    """

    target: str
    unit: str
    labels: str
    rows: tuple[ModelRow, ...]

    @property
    def title(self) -> str:
        """What the metrics below are of."""
        return f'{quantity(self.target, self.unit)}, labels {self.labels}'

    @property
    def test_sets(self) -> tuple[str, ...]:
        """Hashes of the test sets that occur, in the order of the rows."""
        return tuple(dict.fromkeys(row.test_rows for row in self.rows if row.test_rows))


@dataclass(frozen=True)
class ModelTable:
    """Models, one line each.

    :param sections: metrics of two of them are never to be compared.
    """

    sections: tuple[Section, ...]

    @property
    def rows(self) -> tuple[ModelRow, ...]:
        """All models."""
        return tuple(row for section in self.sections for row in section.rows)

    @property
    def statement(self) -> str:
        """Which metrics may be compared."""
        n_sections = len(self.sections)
        parts = [counted(len(self.rows), 'model')]
        if n_sections > 1:
            parts.append(
                f'in {n_sections} sections of other targets or labels: metrics of two sections are not comparable'
            )
        if any(len(section.test_sets) > 1 for section in self.sections):
            parts.append('where the number behind the test rows differs, the test rows do: then metrics are not either')
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

    def draw(self, path: Path) -> None:
        """Draw the mean absolute test error of each model, in a panel for each section.

        :param path: file to write; its ending chooses the format (png, pdf, svg).
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
            raise ProvenanceError('none of the models was judged on test rows: there is no test error to draw')
        plot_test_errors(path, panels)


def quantity(target: str, unit: str) -> str:
    """Name a target with its unit."""
    return f'{target} ({unit})' if unit else target


def find_models() -> list[int]:
    """PKs of all models of the profile, in the order in which they were made."""
    query = orm.QueryBuilder().append((ModelData, DensityModelData), project=['id', 'ctime', 'uuid'])
    return [pk for pk, *_ in sorted(query.all(), key=lambda row: row[1:])]


def tabulate_models(
    pks: Collection[int] | None = None, target: str | None = None, kind: str | None = None, sort: str = 'mae'
) -> ModelTable:
    """Put models into a table. The number of queries does not depend on how many there are.

    :param pks: of models; None: all of the profile.
    :param target: take only those that predict it, a key of :data:`~aiida_nanoml.learning.targets.TARGETS` or
        :data:`DENSITY`.
    :param kind: take only those of this kind, a key of :data:`~aiida_nanoml.learning.registry.MODEL_KINDS`.
    :param sort: metric of the test rows, a key of :data:`SORTS`; those of densities are sorted by ``nmae``.
    :returns: those that are left; perhaps none.
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
    """Describe models, in the order in which they were made.

    :param pks: of nodes ``nanoml.model`` and ``nanoml.density_model``.
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
        told, of_density = attributes[pk], record.type == DENSITY_MODEL
        training, inputs = trainings.get(pk, (None, {}))
        dataset = inputs.get('densities' if of_density else 'dataset')
        tested = inputs.get('test') if of_density else dataset
        parts = row_sets.parts(dataset, tested)
        metrics = told.get('metrics') or {}
        rows.append(
            ModelRow(
                pk=pk,
                uuid=record.uuid,
                type=record.type,
                label=record.label,
                kind=DENSITY if of_density else told['kind'],
                descriptor=_descriptor_name(told.get('descriptor') or {}),
                n_features=told.get('n_features'),
                target=DENSITY if of_density else told.get('target', GAP),
                unit='' if of_density else told.get('unit', TARGETS[GAP].unit),
                source=told.get('labels') or {},
                baseline=told.get('baseline') or {},
                training=training,
                dataset=dataset,
                dataset_name=row_sets.names.get(dataset, ''),
                tested=tested,
                n_rows={part: len(hashes) for part, hashes in parts.items()},
                test_rows=content_hash(np.unique(parts['test'])) if 'test' in parts else '',
                metrics=metrics,
                mae_standard_error=mae_standard_error(metrics.get('test', {})),
                leakage=bool(told.get('allow_leakage')),
                created=record.ctime,
                user=record.user,
                fingerprint=told['fingerprint'],
                unknown=_unknown(training, dataset, 'test' in parts),
            )
        )
    return rows


class RowSets:
    """Structures in the parts of data sets and densities, read at once.

    :param datasets: PKs of data sets.
    :param densities: PKs of densities: each is a part as a whole.
    """

    def __init__(self, datasets: Collection[int], densities: Collection[int]) -> None:
        self._hashes = read_arrays(datasets, 'hashes')
        self._split = read_arrays(datasets, 'split')
        self.names = {pk: label or f'pk {pk}' for pk, label in select([*datasets, *densities], 'label')}
        """Label, or PK, of each."""
        self._densities: dict[int, NDArray[np.str_]] = {}
        for filters in in_parts(densities):
            for node in orm.QueryBuilder().append(orm.Node, filters=filters).all(flat=True):
                self._densities[node.pk] = node.hashes

    def parts(self, dataset: int | None, tested: int | None) -> dict[str, NDArray[np.str_]]:
        """Give the hashes of the structures in each part that has some.

        :param dataset: PK of what a model learnt from; None: nothing is known.
        :param tested: PK of what it was judged by: the same data set, or other densities.
        """
        if dataset in self._hashes:
            split = self._split[dataset]
            found = {part: self._hashes[dataset][split == part] for part in SPLITS}
        else:
            found = {'train': self._densities.get(dataset), 'test': self._densities.get(tested)}
        return {part: hashes for part, hashes in found.items() if hashes is not None and len(hashes)}


def _trainings(pks: Collection[int]) -> dict[int, tuple[int, dict[str, int]]]:
    """The process that made each model, and its inputs by the label of the link."""
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


def _unknown(training: int | None, dataset: int | None, tested: bool) -> str:
    if training is None:
        return 'its data: no process made it here, it was stored by hand, or its training was deleted or not exported'
    if dataset is None:
        return f'its data: the process pk {training} that made it has no data set as input'
    return '' if tested else 'how good it is on rows that it did not see: there are no test rows'


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
            labels=_distinct(members[0], named[members[0].target, members[0].labels]),
            rows=_ordered(members, sort),
        )
        for members in groups
    )


def same_labels(one: ModelRow, other: ModelRow) -> bool:
    """Say whether the labels of two models may stand in one target."""
    if not one.source or not other.source:
        return one.source == other.source
    return LabelSource.from_dict(one.source).compatible(LabelSource.from_dict(other.source))


def flattened(values: Mapping[str, Any], before: str = '') -> dict[str, Any]:
    """Give nested mappings as one, with the keys on the way joined by dots."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= flattened(value, f'{before}{key}.') if isinstance(value, Mapping) else {f'{before}{key}': value}
    return flat


def _distinct(row: ModelRow, sources: Sequence[Mapping[str, Any]]) -> str:
    """Name labels, with what they do not have in common with others of the same name."""
    if len(sources) == 1:
        return row.labels
    flat = [flattened({key: source.get(key, {}) for key in ('parameters', 'pseudopotentials')}) for source in sources]
    names = sorted({name for found in flat for name in found})
    own = flat[sources.index(row.source)]
    different = [name for name in names if any(found.get(name) != own.get(name) for found in flat)]
    told = ', '.join(f'{name.partition(".")[2]} {own.get(name)}' for name in different)
    return f'{row.labels} ({textwrap.shorten(told, 80, placeholder=" …")})'


def _ordered(rows: Sequence[ModelRow], sort: str) -> tuple[ModelRow, ...]:
    """Put the models of one test set together, the best first; test sets in the order of their best model."""

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
    """A table: the header, and a line for each model."""
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
                *(_measured(row, name) for name in measures),
                row.dataset_name or '?',
                row.created[:10],
            ]
        )
    return [line if not of_density else [*line[:3], *line[4:]] for line in lines]


def _measured(row: ModelRow, name: str) -> str:
    value = row.metrics.get('test', {}).get(name)
    if value is None:
        return '-'
    if row.target == DENSITY:
        return f'{100 * value:.3f}'
    digits = 3 if name == 'r2' else TARGETS[row.target].digits
    error = f' ± {row.mae_standard_error:.{digits}f}' if name == 'mae' and row.mae_standard_error is not None else ''
    return f'{value:.{digits}f}{error}'


def notes(rows: Sequence[ModelRow]) -> list[str]:
    """Say what has to be known beside the numbers: what is unknown, leakage, baselines, equal weights."""
    lines = []
    for why, members in _by(rows, lambda row: row.unknown).items():
        lines += [f'unknown of {names_of(members)}: {why}'] if why else []
    leaking = [row for row in rows if row.leakage]
    if leaking:
        lines.append(f'{names_of(leaking)}: leakage between the parts was accepted, the metrics flatter')
    for corrected, members in _by(rows, _corrected).items():
        lines += [f'{names_of(members)}: correction to {corrected}'] if corrected else []
    for members in _by(rows, lambda row: row.fingerprint).values():
        lines += [f'{names_of(members)}: the same weights'] if len(members) > 1 else []
    return lines


def _by(rows: Sequence[ModelRow], key: Callable[[ModelRow], str]) -> dict[str, list[ModelRow]]:
    found: dict[str, list[ModelRow]] = defaultdict(list)
    for row in rows:
        found[key(row)].append(row)
    return found


def _corrected(row: ModelRow) -> str:
    return str(LabelSource.from_dict(row.baseline)) if row.baseline else ''


def names_of(rows: Sequence[ModelRow]) -> str:
    """Name models in a sentence, the first ones when they are many."""
    return first_of([row.name for row in rows], _SHOWN)


def _csv_line(row: ModelRow) -> list[Any]:
    told = row.to_dict() | {f'n_{part}': row.n_rows.get(part) for part in SPLITS}
    told |= {'baseline': _corrected(row), 'dataset': row.dataset_name}
    told |= {name: row.metrics.get('test', {}).get(name) for name in _HEADERS}
    return ['' if told[name] is None else told[name] for name in _COLUMNS]
