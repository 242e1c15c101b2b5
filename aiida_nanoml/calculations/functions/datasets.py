"""Data sets: assemble them from structures and labels, import, split, merge, and select features."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from aiida import orm
from numpy.typing import NDArray

from aiida_nanoml.calculations.functions.base import calculation_function
from aiida_nanoml.data.dataset import DatasetData
from aiida_nanoml.data.labels import LabelSetData
from aiida_nanoml.data.structures import StructureSetData
from aiida_nanoml.engines.label_set import LabelSet, LabelSource
from aiida_nanoml.errors import DatasetError
from aiida_nanoml.learning.dataset import UNASSIGNED, Dataset, positions_of
from aiida_nanoml.learning.splits import (
    BY_STRUCTURE,
    GROUPS,
    alloy_keys,
    composition_keys,
    split_parameters,
    split_rows,
)
from aiida_nanoml.learning.targets import check_target_values, choose_targets, evaluate_target, find_values
from aiida_nanoml.structures import StructureSet


@calculation_function
def assemble_dataset(
    structures: StructureSetData,
    labels: LabelSetData,
    descriptor: orm.Dict,
    baseline: LabelSetData | None = None,
    split: orm.Dict | None = None,
    targets: orm.Dict | None = None,
    atoms: LabelSetData | None = None,
) -> DatasetData:
    """Build a data set: features of the labelled structures, targets and, if requested, a split.

    Rows whose label failed or lacks a target, for gaps rows with an odd electron count, repeated structures
    and, with a baseline, rows without a finished baseline are left out and counted. A descriptor that learns is fitted
    to the training rows only.

    :param structures: the structures, in any order.
    :param labels: labels of these structures, from one engine and protocol.
    :param descriptor: ``name`` in the registry of descriptors and, optionally, ``params``.
    :param baseline: labels of these structures from a cheaper engine, for models that learn the correction to it.
    :param split: as the ``parameters`` of :func:`split_dataset`; without, the rows are not split.
    :param targets: ``target`` and ``others``, see :func:`~aiida_nanoml.learning.targets.choose_targets`; without, the
        gap.
    :param atoms: labels of isolated atoms from the same engine and protocol, for cohesive energies; without, they are
        looked for among the labels. Those of a baseline are always looked for among its labels.
    :raises DatasetError: a structure has no label, the labels lack a target, no row is left, labels and baseline have
        one source, the split cannot be made, or there is none for a descriptor that learns.
    :raises DescriptorError: the descriptor is unknown or cannot describe a structure.
    """
    from aiida_nanoml.features.registry import dense_features, descriptor_identity, freeze, is_frozen

    target, others = choose_targets({} if targets is None else targets.get_dict())
    transformer = _make_chosen_descriptor(descriptor.get_dict())
    learnt = not is_frozen(transformer)
    if learnt and split is None:
        raise DatasetError(
            f'the descriptor {descriptor["name"]!r} learns from training rows: give `split`, so that it sees no others'
        )
    everything, found = structures.structures, labels.labels.distinct()
    if baseline is not None and baseline.label_source.compatible(found.source):
        raise DatasetError(f'labels and baseline are both from {found.source}: there is nothing to correct')
    rows = found.select(_label_of_each(everything, found))
    alone = found if atoms is None else atoms.labels
    values = {}
    for wanted in (target, *others):
        values[wanted.name] = evaluate_target(wanted.name, rows, everything, alone)
        check_target_values(wanted.name, rows, everything, values[wanted.name], alone)
    cheap = np.zeros(len(everything))
    if baseline is not None:
        cheap = find_values(target.name, baseline.labels.distinct(), everything.hashes, everything)
    closed_shell = any(wanted.closed_shell for wanted in (target, *others))
    kept, excluded = _usable_rows(everything, rows, closed_shell, np.array(list(values.values())), cheap)
    chosen, y = everything.select(kept), values.pop(target.name)[kept]
    parts, groups, split_by = np.full(len(chosen), UNASSIGNED, dtype='<U10'), None, BY_STRUCTURE
    if split is not None:
        wanted_split = split_parameters(split.get_dict())
        split_by = wanted_split['group']
        groups = _groups(split_by, chosen.names, lambda: composition_keys(chosen))
        parts = _draw_parts(wanted_split, chosen.hashes, chosen.families, groups)
    learning = np.flatnonzero(parts == 'train') if learnt else np.empty(0, dtype=np.int64)
    if learnt:
        transformer = freeze(transformer, chosen.select(learning), y[learning])
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # the number of dropped atoms is stored with the data set
        features = dense_features(transformer, chosen)
    identity = descriptor_identity(transformer)
    dataset = Dataset(
        X=features,
        y=y,
        hashes=chosen.hashes,
        names=chosen.names,
        families=chosen.families,
        split=parts,
        feature_names=tuple(identity['feature_names']),
        baseline=None if baseline is None else cheap[kept],
        target=target.name,
        others={name: column[kept] for name, column in values.items()},
        groups=groups,
    )
    unknown_classes = int(transformer.unknown_counts(chosen).sum()) if hasattr(transformer, 'unknown_counts') else 0
    return DatasetData(
        dataset,
        identity,
        found.source.to_dict(),
        excluded,
        unknown_classes,
        None if baseline is None else baseline.label_source.to_dict(),
        learnt_rows=len(learning) if learnt else None,
        split_by=split_by,
    )


def _label_of_each(structures: StructureSet, labels: LabelSet) -> NDArray[np.int64]:
    """Return the row of the label of each structure.

    :raises DatasetError: a structure has no label.
    """
    positions = positions_of(structures.hashes, labels.hashes)
    unlabelled = structures.names[positions < 0]
    if len(unlabelled):
        raise DatasetError(
            f'{len(unlabelled)} of {len(structures)} structures have no label, the first is {str(unlabelled[0])!r}: '
            'label them, or take only the labelled structures'
        )
    return positions


def _usable_rows(
    structures: StructureSet,
    labels: LabelSet,
    closed_shell: bool,
    targets: NDArray[np.float64],
    baseline: NDArray[np.float64],
) -> tuple[NDArray[np.bool_], dict[str, int]]:
    """Return which rows become part of a data set, and how many are left out for each reason.

    :param structures: n structures.
    :param labels: their labels, in their order.
    :param closed_shell: whether rows with an odd electron count are left out.
    :param targets: shape (n_targets, n), NaN where the label lacks a target.
    :param baseline: shape (n,), NaN where there is none.
    :returns: shape (n,), and the counts that are not zero.
    :raises DatasetError: no row is left.
    """
    first = np.zeros(len(structures), dtype=bool)
    first[np.unique(structures.hashes, return_index=True)[1]] = True
    odd = labels.open_shell & closed_shell
    usable = first & labels.finished & ~odd
    with_target = usable & np.isfinite(targets).all(axis=0)
    kept = with_target & np.isfinite(baseline)
    excluded = {
        'failed': int((first & ~labels.finished).sum()),
        'open_shell': int((first & labels.finished & odd).sum()),
        'repeated': int((~first).sum()),
        'no_target': int((usable & ~with_target).sum()),
        'no_baseline': int((with_target & ~kept).sum()),
    }
    if not kept.any():
        raise DatasetError(f'no row is left of {len(structures)}: {excluded}; look at the statuses of the labels')
    return kept, {reason: count for reason, count in excluded.items() if count}


@calculation_function
def split_dataset(dataset: DatasetData, parameters: orm.Dict) -> DatasetData:
    """Divide a data set into training, validation and test rows; equal structures, or alloys, stay together.

    :param dataset: the data set; an earlier split is replaced.
    :param parameters: some of those of :func:`~aiida_nanoml.learning.splits.split_parameters`: shares, ``seed``,
        ``group`` (what stays together) and ``by_family`` (the same shares of every family).
    :raises DatasetError: unknown parameters, shares that cannot be met, or columns that depend on an earlier split;
        compositions, of a data set that was not split by them before: it does not hold the structures.
    """
    _check_bound_columns(dataset)
    rows = dataset.dataset
    attributes = dataset.base.attributes
    wanted = split_parameters(parameters.get_dict())

    def compositions() -> NDArray[np.str_]:
        if rows.groups is None or dataset.split_by != 'composition':
            raise DatasetError(
                f'the data set {dataset.uuid} does not hold compositions: give `split` where it is built '
                '(nanoml.assemble_dataset, `aiida-nanoml dataset build --group composition`)'
            )
        return rows.groups

    groups = _groups(wanted['group'], rows.names, compositions)
    parts = _draw_parts(wanted, rows.hashes, rows.families, groups)
    return DatasetData(
        replace(rows, split=parts, groups=groups),
        attributes.get('descriptor'),
        attributes.get('labels'),
        attributes.get('excluded'),
        attributes.get('unknown_classes'),
        dataset.baseline_source,
        split_by=wanted['group'],
    )


@calculation_function
def merge_datasets(**sets: DatasetData) -> DatasetData:
    """Join data sets in the order of their link labels; the split is dropped, split the result again.

    :raises DatasetError: the features come from different descriptors, or the targets or baselines from different
        engines or protocols, or columns depend on the split of their set.
    """
    nodes = [sets[key] for key in sorted(sets)]
    for node in nodes:
        _check_bound_columns(node)
    for key, what in (
        ('descriptor', 'descriptors'),
        ('target', 'targets'),
        ('unit', 'units'),
        ('others', 'other targets'),
    ):
        _common_attribute(nodes, key, what)
    labels = _joined_source(nodes, 'labels', 'engines or protocols')
    baseline = _joined_source(nodes, 'baseline', 'baselines')
    parts = [replace(node.dataset, groups=None) for node in nodes]
    joined = {name: np.concatenate([part.to_arrays()[name] for part in parts]) for name in parts[0].to_arrays()}
    _, first = np.unique(joined['hashes'], return_index=True)
    keep = np.sort(first)
    dataset = Dataset.from_arrays(
        {name: column[keep] for name, column in joined.items()}, parts[0].feature_names, nodes[0].target
    )
    excluded: dict[str, int] = {'repeated': len(joined['hashes']) - len(keep)}
    for node in nodes:
        for reason, count in node.base.attributes.get('excluded').items():
            excluded[reason] = excluded.get(reason, 0) + count
    return DatasetData(
        dataset.with_split(np.full(len(dataset), UNASSIGNED, dtype='<U10')),
        nodes[0].base.attributes.get('descriptor'),
        labels,
        {reason: count for reason, count in excluded.items() if count},
        sum(node.base.attributes.get('unknown_classes') for node in nodes),
        baseline,
    )


def _groups(
    group: str, names: NDArray[np.str_], compositions: Callable[[], NDArray[np.str_]]
) -> NDArray[np.str_] | None:
    """Return the group of each row; None if only equal structures stay together."""
    if group == BY_STRUCTURE:
        return None
    return alloy_keys(names) if group == 'alloy' else compositions()


def _draw_parts(
    wanted: dict[str, Any], hashes: NDArray[np.str_], families: NDArray[np.str_], groups: NDArray[np.str_] | None
) -> NDArray[np.str_]:
    return split_rows(
        hashes if groups is None else groups,
        wanted['validation'],
        wanted['test'],
        wanted['seed'],
        strata=families if wanted['by_family'] else None,
        called=GROUPS[wanted['group']],
    )


def _check_bound_columns(node: DatasetData) -> None:
    """Check that no column was learnt or selected on training rows, which another split would test on."""
    bound = []
    if node.learnt_rows is not None:
        bound.append(f'the descriptor {node.base.attributes.get("descriptor")["name"]!r} learnt them')
    if node.selection is not None:
        bound.append(f'{node.selection["name"]!r} selected them')
    if bound:
        raise DatasetError(
            f'the columns of the data set {node.uuid} belong to its split: {" and ".join(bound)} on its training rows, '
            'which another split would test on: join the structures and labels instead, build a data set of them with '
            'the wanted split (nanoml.assemble_dataset with `split`, `aiida-nanoml dataset build`), then select'
        )


def _common_attribute(nodes: list[DatasetData], key: str, what: str) -> Any:
    """Return an attribute that must be equal in all data sets."""
    values = [node.base.attributes.get(key, None) or None for node in nodes]
    for node, value in zip(nodes, values, strict=True):
        if value != values[0]:
            raise DatasetError(
                f'data sets of different {what} cannot be joined: {nodes[0].uuid} has {values[0]}, '
                f'{node.uuid} has {value}'
            )
    return values[0]


def _joined_source(nodes: list[DatasetData], key: str, what: str) -> dict[str, Any] | None:
    """Return the joint source of the labels or baselines of all data sets; None if no set has one."""
    values = [node.base.attributes.get(key, None) for node in nodes]
    if not all(values):
        return _common_attribute(nodes, key, what)
    source = LabelSource.from_dict(values[0])
    for node, value in zip(nodes, values, strict=True):
        other = LabelSource.from_dict(value)
        if not source.compatible(other):
            raise DatasetError(
                f'data sets of different {what} cannot be joined: {nodes[0].uuid} has {values[0]}, '
                f'{node.uuid} has {value}'
            )
        source = source.joined(other)
    return source.to_dict()


@calculation_function
def select_features(dataset: DatasetData, selection: orm.Dict) -> DatasetData:
    """Keep the columns that a selector chooses on the training rows.

    :param dataset: a data set with a split. The selector uses the main target; with a baseline, the correction
        to it.
    :param selection: ``name`` in the registry of selectors and, optionally, ``params``.
    :raises DatasetError: the data set was not split, the selector is unknown, or it keeps no column.
    """
    from aiida_nanoml.features.selection import make_selector

    name, params = _name_and_params(selection.get_dict(), 'selector')
    selector = make_selector(name, **params)
    rows = dataset.dataset
    training = rows.split == 'train'
    if not training.any():
        raise DatasetError('the data set has no training rows to select by: split it first')
    selector.fit(rows.X[training], rows.learnt[training], feature_names=rows.feature_names)
    kept = np.flatnonzero(selector.get_support())
    names = tuple(rows.feature_names[column] for column in kept)
    attributes = dataset.base.attributes
    return DatasetData(
        replace(rows, X=rows.X[:, kept], feature_names=names),
        attributes.get('descriptor') | {'feature_names': list(names), 'n_features': len(names)},
        attributes.get('labels'),
        attributes.get('excluded'),
        attributes.get('unknown_classes'),
        dataset.baseline_source,
        learnt_rows=dataset.learnt_rows,
        selection={'name': name, 'params': selector.get_params(deep=False), 'n_before': len(rows.feature_names)},
        split_by=dataset.split_by,
    )


@calculation_function
def import_dataset(x: orm.SinglefileData, y: orm.SinglefileData, parameters: orm.Dict) -> DatasetData:
    """Read the plain-text exchange files ``x.dat`` and ``y.dat``.

    :param x: N rows of features.
    :param y: N numbers, gap / ``target_scale_ev``.
    :param parameters: ``descriptor`` (``name`` and ``params``, or absent when the features come from elsewhere),
        ``n_features`` (only without descriptor), ``target_scale_ev`` (4 if absent), ``family``, and ``labels``: what
        produced the gaps, the fields of :class:`~aiida_nanoml.engines.label_set.LabelSource`.
    :raises DatasetError: wrong column counts, numbers that are not finite, files of different length, implausible gaps.
    """
    from aiida_nanoml.features.registry import descriptor_identity
    from aiida_nanoml.learning.exchange import check_gaps, parse_xy

    wanted = {'n_features': 26, 'target_scale_ev': 4.0, 'family': ''} | parameters.get_dict()
    unknown = sorted(set(wanted) - {'descriptor', 'n_features', 'target_scale_ev', 'family', 'labels'})
    if unknown:
        raise DatasetError(
            f'an import has no parameter {", ".join(unknown)}; it has descriptor, n_features, target_scale_ev, family, '
            'labels'
        )
    if 'labels' not in wanted:
        raise DatasetError('an import needs `labels`: the engine, version, title and protocol behind the gaps')
    source = LabelSource.from_dict(wanted['labels'])
    for key, kind in (('n_features', int), ('target_scale_ev', (int, float)), ('family', str)):
        if not isinstance(wanted[key], kind) or isinstance(wanted[key], bool):
            raise DatasetError(f'{key} cannot be {wanted[key]!r}')
    if 'descriptor' in wanted:
        identity = descriptor_identity(_make_chosen_descriptor(wanted['descriptor']))
    else:
        names = [f'x{column}' for column in range(wanted['n_features'])]
        identity = {'name': 'imported', 'params': {}, 'feature_names': names, 'n_features': len(names)}
    contents = (node.get_content(mode='rb') for node in (x, y))
    scale = wanted['target_scale_ev']
    features, gaps = parse_xy(*contents, x.filename, y.filename, identity['n_features'], scale)
    check_gaps(gaps, y.filename, scale)
    hashes = np.array([hashlib.sha256(b'nanoml-features-1' + row.tobytes()).hexdigest() for row in features])
    dataset = Dataset(
        X=features,
        y=np.asarray(gaps),
        hashes=hashes,
        names=np.array([f'row {row}' for row in range(len(features))]),
        families=np.full(len(features), wanted['family']),
        split=np.full(len(features), UNASSIGNED, dtype='<U10'),
        feature_names=tuple(identity['feature_names']),
    )
    return DatasetData(dataset, identity, source.to_dict())


def _make_chosen_descriptor(choice: Any) -> Any:
    from aiida_nanoml.features.registry import make_descriptor

    name, params = _name_and_params(choice, 'descriptor')
    return make_descriptor(name, **params)


def _name_and_params(choice: Any, what: str) -> tuple[str, dict[str, Any]]:
    """Return name and parameters of a choice."""
    if not isinstance(choice, dict) or 'name' not in choice or set(choice) - {'name', 'params'}:
        raise DatasetError(f'a {what} is chosen by `name` and `params`, got {choice!r}')
    params = choice.get('params', {})
    if not isinstance(params, dict):
        raise DatasetError(f'the `params` of a {what} are a mapping, got {params!r}')
    return choice['name'], params
