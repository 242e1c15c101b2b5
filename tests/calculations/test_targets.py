"""Data sets and comparisons of other targets than the gap."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from aiida import orm

from aiida_nanoml.calculations.functions.datasets import (
    assemble_dataset,
    merge_datasets,
    select_features,
    split_dataset,
)
from aiida_nanoml.calculations.functions.validation import compare_with_labels
from aiida_nanoml.calculations.predict import baseline_values
from aiida_nanoml.data.dataset import DatasetData
from aiida_nanoml.data.labels import LabelSetData
from aiida_nanoml.data.prediction import PredictionData
from aiida_nanoml.data.structures import StructureSetData
from aiida_nanoml.engines.label_set import LabelSet
from aiida_nanoml.errors import DatasetError
from aiida_nanoml.learning.targets import evaluate_target
from aiida_nanoml.structures import StructureSet
from tests.calculations.test_functions import refused

FORMULAS = {'name': 'formulas', 'params': {'known': ['Al2', 'AlFe', 'AlNi', 'Fe2', 'FeNi', 'Ni2']}}
SEVERAL = {'target': 'cohesive_energy', 'others': ['pressure', 'magnetic_moment']}


@pytest.fixture
def inputs(
    aiida_profile, third_party_path, alloy_cells: StructureSet, alloy_labels: LabelSet, atom_labels: LabelSet
) -> dict[str, Any]:
    """What a data set of several targets is made of."""
    return {
        'structures': StructureSetData(alloy_cells),
        'labels': LabelSetData(alloy_labels),
        'descriptor': orm.Dict(FORMULAS),
        'targets': orm.Dict(SEVERAL),
        'atoms': LabelSetData(atom_labels),
    }


def changed(labels: LabelSet, **columns: Any) -> LabelSetData:
    return LabelSetData(LabelSet.from_arrays(labels.source, labels.to_arrays() | columns))


def test_targets_stand_side_by_side_with_their_units(
    inputs, alloy_cells: StructureSet, alloy_labels: LabelSet, atom_labels: LabelSet
) -> None:
    node = assemble_dataset(**inputs)
    attributes = node.base.attributes
    assert (attributes.get('target'), attributes.get('unit')) == ('cohesive_energy', 'eV/atom')
    assert node.others == {'magnetic_moment': 'µB/atom', 'pressure': 'GPa'}
    assert attributes.get('excluded') == {}
    rows = node.dataset
    np.testing.assert_allclose(rows.y, 4 - (np.linalg.det(alloy_cells.cells) / 24 - 1) ** 2)
    for name in node.others:
        np.testing.assert_array_equal(rows.others[name], evaluate_target(name, alloy_labels, alloy_cells))
    np.testing.assert_array_equal(rows.y, evaluate_target('cohesive_energy', alloy_labels, alloy_cells, atom_labels))


def test_atoms_may_be_among_the_labels(inputs, alloy_labels: LabelSet, atom_labels: LabelSet) -> None:
    apart = assemble_dataset(**inputs)
    together = LabelSetData(LabelSet.concatenate([atom_labels, alloy_labels]))
    joined = assemble_dataset(**{name: node for name, node in inputs.items() if name != 'atoms'} | {'labels': together})
    np.testing.assert_array_equal(joined.dataset.y, apart.dataset.y)


def test_missing_atoms_are_named_and_others_refused(inputs, atom_labels: LabelSet) -> None:
    few = LabelSetData(atom_labels.select(np.array([0, 2])))
    refused(assemble_dataset, 'DatasetError', 'lack a finished one of Fe', **inputs | {'atoms': few})
    other = LabelSetData(replace(atom_labels, source=replace(atom_labels.source, protocol='stringent')))
    refused(assemble_dataset, 'DatasetError', 'no common zero', **inputs | {'atoms': other})


def test_labels_without_levels_have_no_gap(inputs) -> None:
    message = 'targets of these labels: energy_per_atom, cohesive_energy, pressure, magnetic_moment'
    refused(assemble_dataset, 'DatasetError', message, **inputs | {'targets': orm.Dict({})})
    del inputs['targets']
    refused(assemble_dataset, 'DatasetError', 'computes no levels', **inputs)
    unknown = inputs | {'targets': orm.Dict({'target': 'colour'})}
    refused(assemble_dataset, 'DatasetError', "no target 'colour'", **unknown)


def test_rows_without_a_target_are_left_out_and_counted(inputs, alloy_labels: LabelSet, alloy_cells) -> None:
    """Rows with an odd electron count are not: a metal has no shell."""
    moments = alloy_labels.numbers['magnetic_moment_bohr'].copy()
    moments[[3, 8]] = np.nan
    status, odd = alloy_labels.status.copy(), alloy_labels.open_shell.copy()
    status[[8, 9]], odd[20:30] = 'not_converged', True
    labels = changed(alloy_labels, magnetic_moment_bohr=moments, status=status, open_shell=odd)
    node = assemble_dataset(**inputs | {'labels': labels})
    assert node.base.attributes.get('excluded') == {'failed': 2, 'no_target': 1}
    assert node.dataset.hashes.tolist() == np.delete(alloy_cells.hashes, [3, 8, 9]).tolist()


def test_a_baseline_is_the_same_target_by_another_engine(
    inputs, alloy_cells: StructureSet, alloy_labels: LabelSet, atom_labels: LabelSet
) -> None:
    """The cheap engine's own atoms are among its labels."""
    both = LabelSet.concatenate([atom_labels, alloy_labels])
    source = replace(both.source, engine='cheap', title='Cheap')
    energies = dict(both.energies) | {'energy_ev': both.energies['energy_ev'] * 0.9}
    baseline = LabelSetData(replace(both, source=source, energies=energies))
    node = assemble_dataset(**inputs, baseline=baseline)
    np.testing.assert_allclose(node.dataset.baseline, 0.9 * node.dataset.y)
    assert node.dataset.input_names[-1] == 'baseline_cohesive_energy'
    found = baseline_values(inputs['structures'], baseline, 'cohesive_energy')
    np.testing.assert_array_equal(found, node.dataset.baseline)
    alone = LabelSetData(baseline.labels.select(np.isin(baseline.labels.hashes, alloy_cells.hashes)))
    with pytest.raises(DatasetError, match='lack a finished one of Al, Fe, Ni'):
        baseline_values(inputs['structures'], alone, 'cohesive_energy')


def split_of(node: DatasetData) -> dict[str, set[str]]:
    """Parts in which the cells of each alloy are."""
    rows = node.dataset
    return {name: set(rows.split[rows.names == name].tolist()) for name in rows.names.tolist()}


def test_all_cells_of_an_alloy_stay_together(inputs) -> None:
    node = assemble_dataset(**inputs, split=orm.Dict({'group': 'alloy', 'seed': 3}))
    assert node.split_by == node.base.attributes.get('split_by') == 'alloy'
    assert all(len(parts) == 1 for parts in split_of(node).values())
    assert set(node.base.attributes.get('split')) == {'train', 'validation', 'test'}
    assert node.dataset.groups.tolist() == node.dataset.names.tolist()
    assert node.dataset.identities.tolist() == node.dataset.names.tolist()
    selected = select_features(node, orm.Dict({'name': 'random', 'params': {'n_features': 3}}))
    assert (selected.split_by, selected.others) == ('alloy', node.others)


def test_a_split_can_be_drawn_again_by_alloy_but_compositions_need_structures(inputs) -> None:
    unsplit = assemble_dataset(**inputs)
    assert unsplit.split_by == 'structure'
    again = split_dataset(unsplit, orm.Dict({'group': 'alloy'}))
    assert all(len(parts) == 1 for parts in split_of(again).values())
    refused(split_dataset, 'DatasetError', 'does not hold compositions', dataset=unsplit,
            parameters=orm.Dict({'group': 'composition'}))  # fmt: skip
    by_structure = split_dataset(again, orm.Dict({}))
    assert by_structure.dataset.groups is None
    assert any(len(parts) > 1 for parts in split_of(by_structure).values())


def test_equal_compositions_stay_together(inputs, alloy_cells: StructureSet) -> None:
    node = assemble_dataset(**inputs, split=orm.Dict({'group': 'composition', 'validation': 0.3, 'test': 0.3}))
    rows, formulas = node.dataset, np.array(alloy_cells.formulas)
    for formula in np.unique(formulas):
        assert len(set(rows.split[formulas == formula])) == 1
    other = split_dataset(node, orm.Dict({'group': 'composition', 'seed': 5, 'validation': 0.3, 'test': 0.3}))
    assert other.dataset.groups.tolist() == rows.groups.tolist()


@pytest.mark.parametrize(
    ('split', 'message'),
    [
        ({'group': 'phase'}, "no group 'phase'"),
        ({'group': 'alloy', 'by_family': True}, 'belongs to two strata: without strata (`by_family`)'),
        ({'group': 'alloy', 'test': 0.9}, 'sum to 1.1'),
    ],
)
def test_a_split_by_alloy_that_cannot_be_made(inputs, split: dict, message: str) -> None:
    refused(assemble_dataset, 'DatasetError', message, **inputs, split=orm.Dict(split))


def test_sets_of_one_kind_are_joined_with_all_targets(inputs, alloy_cells: StructureSet) -> None:
    halves = [
        assemble_dataset(**inputs | {'structures': StructureSetData(alloy_cells.select(rows))},
                         split=orm.Dict({'group': 'alloy'}))
        for rows in (slice(0, 36), slice(30, 72))
    ]  # fmt: skip
    joined = merge_datasets(a=halves[0], b=halves[1])
    whole = assemble_dataset(**inputs)
    assert (joined.target, joined.others, joined.split_by) == (whole.target, whole.others, 'structure')
    for name, column in whole.dataset.to_arrays().items():
        np.testing.assert_array_equal(joined.dataset.to_arrays()[name], column)
    energies = assemble_dataset(**inputs | {'targets': orm.Dict({'target': 'energy_per_atom'})})
    refused(merge_datasets, 'DatasetError', 'data sets of different targets', a=halves[0], b=energies)
    fewer = assemble_dataset(**inputs | {'targets': orm.Dict({'target': 'cohesive_energy'})})
    refused(merge_datasets, 'DatasetError', 'data sets of different other targets', a=halves[0], b=fewer)


def test_the_same_inputs_give_the_same_node(inputs) -> None:
    given = inputs | {'split': orm.Dict({'group': 'alloy'})}
    first, again = (assemble_dataset(**given) for _ in range(2))
    assert first.base.caching.compute_hash() == again.base.caching.compute_hash()
    other = assemble_dataset(**given | {'targets': orm.Dict({'target': 'cohesive_energy', 'others': ['pressure']})})
    assert first.base.caching.compute_hash() != other.base.caching.compute_hash()


def test_to_name_the_gap_changes_nothing(structures_node, labels_node) -> None:
    descriptor = orm.Dict({'name': 'quadruplets', 'params': {'classes': 22, 'unknown': 'overflow'}})
    given = {'structures': structures_node, 'labels': labels_node, 'descriptor': descriptor, 'split': orm.Dict({})}
    silent, named = assemble_dataset(**given), assemble_dataset(**given, targets=orm.Dict({'target': 'gap'}))
    assert silent.base.caching.compute_hash() == named.base.caching.compute_hash()
    assert (silent.target, silent.others, silent.split_by) == ('gap', {}, 'structure')


def test_predictions_are_compared_by_their_own_target(
    inputs, alloy_cells: StructureSet, alloy_labels: LabelSet
) -> None:
    known = assemble_dataset(**inputs).dataset
    n = len(alloy_cells)
    model = {'target': 'cohesive_energy', 'unit': 'eV/atom', 'kind': 'alloy', 'fingerprint': 'f'}
    columns = {
        'hashes': alloy_cells.hashes,
        'names': alloy_cells.names,
        'families': alloy_cells.families,
        'value': known.y + 0.01,
        'std': np.full(n, 0.02),
        'spread': np.full(n, np.nan),
        'distance': np.ones(n),
        'outside': np.zeros(n, dtype=bool),
    }
    source = alloy_labels.source.to_dict()
    predictions = PredictionData(columns, model | {'labels': source})
    given = {name: inputs[name] for name in ('labels', 'structures', 'atoms')}
    made = compare_with_labels(predictions=predictions, **given)
    metrics = made['metrics'].get_dict()
    assert {name: metrics[name]['mae'] for name in ('all', 'fcc', 'bcc')} == pytest.approx(
        {'all': 0.01, 'fcc': 0.01, 'bcc': 0.01}
    )
    assert (metrics['all']['n'], metrics['n_open_shell'], metrics['n_not_compared']) == (n, 0, 0)
    np.testing.assert_array_equal(made['table'].get_array('labelled'), known.y)
    without = {'predictions': predictions, 'labels': given['labels'], 'atoms': given['atoms']}
    refused(compare_with_labels, 'DatasetError', 'depends on the structures', **without)
    refused(compare_with_labels, 'DatasetError', 'lack a finished one', **without | {'structures': given['structures'],
            'atoms': LabelSetData(alloy_labels)})  # fmt: skip
