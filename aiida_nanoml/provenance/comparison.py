"""Comparison of trained models: how they differ, and whether their test metrics may be compared."""

from __future__ import annotations

import itertools
import json
import textwrap
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from aiida import orm
from numpy.typing import NDArray

from aiida_nanoml.data.density_model import DensityModelData
from aiida_nanoml.data.model import ModelData
from aiida_nanoml.errors import ModelError, ProvenanceError
from aiida_nanoml.learning.density.architecture import DensitySettings
from aiida_nanoml.learning.former_names import with_current_names
from aiida_nanoml.learning.metrics import mae_standard_error
from aiida_nanoml.learning.registry import hyperparameters
from aiida_nanoml.learning.splits import SPLITS as PARTS
from aiida_nanoml.learning.splits import split_parameters
from aiida_nanoml.learning.targets import TARGETS
from aiida_nanoml.learning.training import HELD_OUT
from aiida_nanoml.provenance.models import (
    DENSITY,
    ModelRow,
    RowSets,
    flattened,
    model_rows,
    names_of,
    notes,
    quantity,
    same_labels,
)
from aiida_nanoml.provenance.origins import DATASET_IMPORT, SPLITS, LineageGraph, theory_of
from aiida_nanoml.text import aligned, counted

Facts = dict[str, dict[str, Any]]
"""Values by section and name."""

_SHOWN_PAIRS = 6
_WIDTH = 112
_CELLS = {2: 44, 3: 32}
"""Width of a cell in characters, by the number of models."""


@dataclass(frozen=True)
class Overlap:
    """Structures that two models have in common.

    :param one: PK of a model.
    :param other: PK of another one.
    :param trained: number of common training rows.
    :param tested: number of common test rows.
    :param other_tested: number of test rows of the other that are training rows of the one.
    :param one_tested: number of test rows of the one that are training rows of the other.
    """

    one: int
    other: int
    trained: int
    tested: int
    other_tested: int
    one_tested: int


@dataclass(frozen=True)
class Comparison:
    """Models side by side.

    :param comparable: whether their test metrics may be compared: the same target, labels and test rows.
    :param reasons: why they may not be compared.
    :param overlaps: common structures of each pair whose rows are known.
    :param same: what is the same for all, by section and name.
    :param differences: values in the order of the models, by section and name; None if a model has no such value.
    """

    models: tuple[ModelRow, ...]
    comparable: bool
    reasons: tuple[str, ...]
    overlaps: tuple[Overlap, ...]
    same: Facts
    differences: dict[str, dict[str, list[Any]]]

    def to_dict(self) -> dict[str, Any]:
        """Return everything in types of JSON."""
        return asdict(self) | {'models': [row.to_dict() for row in self.models]}

    def render(self) -> str:
        """Return what may be compared, then what differs side by side, then what is the same for all."""
        if self.comparable:
            first = self.models[0]
            lines = [
                f'test metrics may be compared: the same {counted(first.n_rows["test"], "test row")}, '
                f'{quantity(first.target, first.unit)}, labels {first.labels}'
            ]
        else:
            lines = ['test metrics are not directly comparable:', *(f'- {reason}' for reason in self.reasons)]
        lines += [*notes(self.models), *self._pairs()]
        width = _CELLS.get(len(self.models), 24)
        table = [['', *(row.name for row in self.models)]]
        for section, values in self.differences.items():
            table += [['', *('' for _ in self.models)], [section, *('' for _ in self.models)]]
            table += [
                [
                    f'  {name}',
                    *(textwrap.shorten(_format_value(value), width, placeholder=' …') or '-' for value in row),
                ]
                for name, row in values.items()
            ]
        lines += ['', aligned(table, '  '), '', 'the same for all:']
        for section, facts in self.same.items():
            texts = [f'{name} {_format_value(value)}' for name, value in facts.items() if _format_value(value)]
            if texts:
                lines += textwrap.wrap(
                    f'{section}: {", ".join(texts)}', _WIDTH, initial_indent='  ', subsequent_indent='    '
                )
        return '\n'.join(lines)

    def _pairs(self) -> list[str]:
        rows = {row.pk: row for row in self.models}
        lines = []
        for pair in self.overlaps:
            one, other = rows[pair.one], rows[pair.other]
            if pair.trained == one.n_rows['train'] == other.n_rows['train'] and one.test_rows == other.test_rows:
                continue
            shared = [
                f'{pair.trained} training rows in common'
                + (f' and {pair.tested} test rows' if 'test' in one.n_rows and 'test' in other.n_rows else '')
            ]
            shared += [
                f'{n} of the {tested.n_rows["test"]} test rows of {tested.name} are training rows of {trained.name}'
                for n, tested, trained in ((pair.one_tested, one, other), (pair.other_tested, other, one))
                if n
            ]
            lines.append(f'{one.name}, {other.name}: {"; ".join(shared)}')
        if self.overlaps and not lines:
            return [f'all learnt from the same {counted(self.models[0].n_rows["train"], "row")}']
        left_out = len(lines) - _SHOWN_PAIRS
        return [*lines[:_SHOWN_PAIRS], *([f'and {counted(left_out, "more pair")}'] if left_out > 0 else [])]


def compare(*nodes: orm.Node) -> Comparison:
    """Compare trained models.

    :param nodes: two models or more, ``nanoml.model`` or ``nanoml.density_model``.
    :raises ProvenanceError: fewer than two, one of them twice, or a node that is no stored model.
    """
    for node in nodes:
        if not isinstance(node, ModelData | DensityModelData):
            raise ProvenanceError(f'pk {node.pk} ({type(node).__name__}) is no model: name models to compare')
        if not node.is_stored:
            raise ProvenanceError('a model that is not stored has no provenance yet: store it')
    pks = [node.pk for node in nodes]
    if len(set(pks)) < max(2, len(pks)):
        raise ProvenanceError('a comparison needs two models or more, each of them once')
    found = {row.pk: row for row in model_rows(pks)}
    rows = [found[pk] for pk in pks]
    lineages = _Lineages(rows)
    facts = [lineages.facts(row) for row in rows]
    same: Facts = defaultdict(dict)
    differences: dict[str, dict[str, list[Any]]] = defaultdict(dict)
    for section in dict.fromkeys(name for one in facts for name in one):
        for name in dict.fromkeys(name for one in facts for name in one.get(section, {})):
            values = [one.get(section, {}).get(name) for one in facts]
            if all(value == values[0] for value in values):
                same[section][name] = values[0]
            else:
                differences[section][name] = values
    reasons = [*_why_not_comparable(rows, lineages.parts), *lineages.imported()]
    return Comparison(
        models=tuple(rows),
        comparable=not reasons,
        reasons=tuple(reasons),
        overlaps=_overlaps(lineages.parts),
        same=dict(same),
        differences=dict(differences),
    )


Parts = dict[int, dict[str, NDArray[np.str_]]]
"""Hashes of the structures in each part, by PK of the model."""


def _why_not_comparable(rows: Sequence[ModelRow], parts: Parts) -> list[str]:
    """Return why the test metrics of models are not comparable; nothing if they are."""
    reasons = []
    targets: dict[str, list[ModelRow]] = defaultdict(list)
    for row in rows:
        targets[quantity(row.target, row.unit)].append(row)
    if len(targets) > 1:
        text = '; '.join(f'{target} by {names_of(members)}' for target, members in targets.items())
        reasons.append(f'they predict different quantities: {text}')
    if not all(same_labels(rows[0], row) for row in rows[1:]):
        sources: dict[str, list[ModelRow]] = defaultdict(list)
        for row in rows:
            sources[row.labels].append(row)
        text = '; '.join(f'{source}: {names_of(members)}' for source, members in sources.items())
        detail = ' with other parameters or pseudopotentials' if len(sources) == 1 else ''
        reasons.append(f'their labels have different origins: {text}{detail}')
    untested = [row for row in rows if not row.test_rows]
    tested = [row for row in rows if row.test_rows]
    if untested:
        reasons.append(f'{names_of(untested)}: the test rows are unknown, or there are none')
    if len({row.test_rows for row in tested}) > 1:
        common = set.intersection(*(set(parts[row.pk]['test'].tolist()) for row in tested))
        text = ', '.join(f'{row.name} {row.n_rows["test"]}' for row in tested)
        reasons.append(f'they were evaluated on different test rows: {text}; {len(common)} are common to all')
    return reasons


def _overlaps(parts: Parts) -> tuple[Overlap, ...]:
    """Count common structures of each pair of models whose rows are known."""
    sets = {pk: {part: set(hashes.tolist()) for part, hashes in found.items()} for pk, found in parts.items() if found}
    none: set[str] = set()
    return tuple(
        Overlap(
            one,
            other,
            trained=len(sets[one].get('train', none) & sets[other].get('train', none)),
            tested=len(sets[one].get('test', none) & sets[other].get('test', none)),
            other_tested=len(sets[one].get('train', none) & sets[other].get('test', none)),
            one_tested=len(sets[one].get('test', none) & sets[other].get('train', none)),
        )
        for one, other in itertools.combinations(sets, 2)
    )


class _Lineages:
    """Lineages of some models, from one walk of the graph for all of them.

    :param rows: the models.
    """

    def __init__(self, rows: Sequence[ModelRow]) -> None:
        self._rows = rows
        self._graph = LineageGraph.ancestors([row.pk for row in rows])
        self._of = {row.pk: self._graph.ancestors_of(row.pk) for row in rows}
        self._labelling, self._claims = self._graph.label_origins(), self._graph.claims()
        self._structures, self._seeds = self._graph.structure_origins(), self._graph.seeds()
        self._executables = self._graph.executables()
        sets = RowSets(
            {row.dataset for row in rows if row.dataset is not None and row.target != DENSITY},
            {pk for row in rows if row.target == DENSITY for pk in (row.dataset, row.tested) if pk is not None},
        )
        self.parts: Parts = {row.pk: sets.parts(row.dataset, row.tested) for row in rows}

    def imported(self) -> list[str]:
        """Return a reason if only some of the models have imported rows, which are known by their features only."""
        found = [
            row for row in self._rows if any(self._graph.type_name(pk) == DATASET_IMPORT for pk in self._of[row.pk])
        ]
        if not found or len(found) == len(self._rows):
            return []
        return [
            f'the rows of {names_of(found)} were imported and are known by their features only: whether they are '
            'structures of the others is unknown'
        ]

    def facts(self, row: ModelRow) -> Facts:
        """Return everything about a model that is compared, by section and name."""
        attributes = self._graph.attributes(row.pk)
        return {
            'metrics': _metrics(row),
            'data': self._data(row),
            'descriptor': _descriptor(attributes.get('descriptor') or {}),
            'hyperparameters': _hyperparameters(row.kind, with_current_names(attributes['parameters'])),
            'labels': _source_facts(row.source),
            'baseline': _source_facts(row.baseline),
            'lineage': self._lineage(row),
            'training': self._training(row, attributes),
        }

    def _data(self, row: ModelRow) -> dict[str, Any]:
        if row.dataset is None:
            return {'data set': 'unknown'}
        attributes = self._graph.attributes(row.dataset)
        facts: dict[str, Any] = {
            'data set': row.dataset_name,
            'rows': attributes.get('n_rows', attributes.get('n_densities')),
        }
        for part in PARTS:
            hashes = self.parts[row.pk].get(part)
            if hashes is not None:
                facts[f'{part} rows'] = len(hashes)
        for key in ('families', 'excluded', 'unknown_classes', 'split_by', 'learnt_rows', 'selection', 'others'):
            facts |= flattened({key.replace('_', ' '): attributes.get(key)})
        for process, inputs in self._graph.inputs.items():
            for function, label in SPLITS:
                if process in self._of[row.pk] and self._graph.type_name(process) == function and label in inputs:
                    facts |= flattened({'split': split_parameters(self._graph.attributes(inputs[label]))})
        return facts

    def _lineage(self, row: ModelRow) -> dict[str, Any]:
        ancestors = self._of[row.pk]
        facts: dict[str, list[Any]] = defaultdict(list)
        for origin in self._labelling:
            jobs = [job for job in origin.jobs if job.pk in ancestors]
            if jobs:
                n_imported = sum(bool(job.imported) for job in jobs)
                facts[f'labelled by {origin.name}'].append(
                    f'{sum(job.n_finished for job in jobs)} structures in {counted(len(jobs), "job")} on '
                    + ', '.join(sorted({job.computer for job in jobs}))
                    + (f', {n_imported} of them imported' if n_imported else '')
                )
        for claim in self._claims:
            if claim.node.pk in ancestors:
                facts[f'{claim.role} from outside'].append(f'{claim.way} pk {claim.node.pk}: {claim.source}')
        for structures in self._structures:
            if any(node.pk in ancestors for node in structures.nodes):
                parameters = ', '.join(f'{key} {value}' for key, value in structures.parameters.items())
                detail = f': {parameters}' if parameters else ''
                facts['structures'].append(f'{structures.n_structures} {structures.way}{detail}')
        for seed in self._seeds:
            if seed.pk in ancestors:
                facts[f'seed of {seed.of}'].append(seed.value)
        for code in self._executables:
            if code.pk in ancestors:
                facts['executables'].append(f'{code.label} ({code.path})')
        records = [self._graph.nodes[pk] for pk in ancestors]
        return dict(facts) | {
            'oldest node': min(record.ctime for record in records)[:10],
            'users': sorted({record.user for record in records}),
        }

    def _training(self, row: ModelRow, attributes: Mapping[str, Any]) -> dict[str, Any]:
        facts: dict[str, Any] = {
            'made': row.created[:19],
            'user': row.user,
            'fingerprint': row.fingerprint[:12],
            'leakage accepted': row.leakage,
        }
        facts |= {f'version of {name}': version for name, version in (attributes.get('versions') or {}).items()}
        if row.training is not None:
            step = self._graph.process_step(row.training)
            facts |= {'process': step.type, 'code': step.code, 'executable': step.executable}
            facts |= {'computer': step.computer, 'cached from': step.cached_from}
            for name in ('folds', 'alone'):
                given = self._graph.inputs[row.training].get(name)
                facts[name] = None if given is None else self._graph.attributes(given)['value']
        return facts


_METRICS = {
    'r2': ('R2', ''),
    'mae': ('MAE', 'unit'),
    'rmse': ('RMSE', 'unit'),
    'coverage_68': ('share in 68 % intervals', ''),
    'coverage_95': ('share in 95 % intervals', ''),
    'outside': ('rows outside of the domain', ''),
}
_DENSITY_METRICS = {
    'nmae': ('NMAE', '%'),
    'worst_nmae': ('worst NMAE', '%'),
    'nmae_free': ('NMAE of free atoms', '%'),
    'rmse': ('RMSE', 'electrons/Å³'),
    'max_error': ('largest error', 'electrons/Å³'),
    'largest_charge_defect': ('largest charge defect', 'electrons'),
}
"""Names of metrics and their units."""


def _metrics(row: ModelRow) -> dict[str, Any]:
    """Return metrics by part, not by family; each name has target and unit, so that only equal ones are compared."""
    facts: dict[str, Any] = {}
    order = ['test', 'validation', HELD_OUT, 'train']
    for key in sorted(row.metrics, key=lambda key: next((n for n, part in enumerate(order) if part in key), 9)):
        of, _, part = f'{row.target}/{key}'.rpartition('/')
        *_, of = of.split('/')
        if part not in order:
            continue  # of a family
        if row.target == DENSITY:
            names, unit = _DENSITY_METRICS, ''
        else:
            names, unit = _METRICS, TARGETS[of].unit if of in TARGETS else row.unit
        for measure, (name, in_unit) in names.items():
            value = row.metrics[key].get(measure)
            if value is not None:
                shown = unit if in_unit == 'unit' else in_unit
                facts[f'{of} {name}, {part}{f" ({shown})" if shown else ""}'] = 100 * value if shown == '%' else value
        if row.target != DENSITY:
            facts[f'{of} standard error of the MAE, {part} ({unit})'] = mae_standard_error(row.metrics[key])
    return facts


def _descriptor(descriptor: Mapping[str, Any]) -> dict[str, Any]:
    facts = {key: descriptor[key] for key in ('name', 'n_features') if key in descriptor}
    return facts | flattened(descriptor.get('params', {}))


def _hyperparameters(kind: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return all hyperparameters, and those that differ from the defaults of the kind of model."""
    try:
        own = DensitySettings().model_dump() if kind == DENSITY else hyperparameters(kind)
    except ModelError:  # of another version of this package
        return dict(given)
    defaults = json.loads(json.dumps(own))
    changed = [
        f'{name} {_format_value(value)} (default {_format_value(defaults[name])})'
        for name, value in given.items()
        if name in defaults and value != defaults[name]
    ]
    return {**given, 'not the default': changed or ['none']}


def _source_facts(source: Mapping[str, Any]) -> dict[str, Any]:
    if not source:
        return {}
    return flattened(source) | {'theory': theory_of(source['engine'])}


def _format_value(value: Any) -> str:
    if value is None:
        return ''
    if isinstance(value, bool):
        return 'yes' if value else 'no'
    if isinstance(value, float):
        return f'{value:.4g}'
    if isinstance(value, list | tuple):
        return ', '.join(map(_format_value, value))
    return str(value)
