"""Calculation functions: known answers, and input that is refused with exit status 500 and a sentence."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from aiida import orm
from aiida.manage.caching import enable_caching

from aiida_nanoml.calculations.functions.base import INPUT_REFUSED
from aiida_nanoml.calculations.functions.datasets import (
    assemble_dataset,
    import_dataset,
    merge_datasets,
    split_dataset,
)
from aiida_nanoml.calculations.functions.labels import merge_labels
from aiida_nanoml.calculations.functions.structures import (
    generate_flake_set,
    generate_flake_sets,
    generate_structures,
    import_structures,
    merge_structures,
)
from aiida_nanoml.calculations.functions.validation import compare_with_labels
from aiida_nanoml.data.dataset import DatasetData
from aiida_nanoml.data.labels import LabelSetData
from aiida_nanoml.data.model import ModelData
from aiida_nanoml.data.prediction import PredictionData
from aiida_nanoml.data.structures import StructureSetData
from aiida_nanoml.engines.label_set import LabelSet
from aiida_nanoml.learning.dataset import Dataset
from aiida_nanoml.learning.splits import split_rows
from aiida_nanoml.structures import StructureSet, flake_lattice, write_structures

FLAKES = {'family': 'z', 'size': 2, 'count': 4, 'seed': 3}
DESCRIPTOR = {'name': 'quadruplets', 'params': {'classes': 22, 'unknown': 'overflow'}}
SIESTA = {'engine': 'siesta', 'version': '4.1', 'title': 'SIESTA', 'protocol': 'LDA-CA DZP'}


def refused(function: Any, error: str, message: str, **inputs: Any) -> None:
    """Run a function that must refuse its input, and leave a node that says so."""
    _, node = function.run_get_node(**inputs)
    assert node.is_failed, node.process_state
    assert node.exit_status == INPUT_REFUSED
    assert node.exit_message.startswith(f'{error}: ')
    assert message in node.exit_message
    assert tempfile.gettempdir() not in node.exit_message, 'a path on this machine helps nobody'
    assert not node.base.links.get_outgoing().all()


def changed(labels: LabelSet, **columns: Any) -> LabelSet:
    return LabelSet.from_arrays(labels.source, labels.to_arrays() | columns)


@pytest.fixture
def text_file(aiida_profile) -> Callable[..., orm.SinglefileData]:
    def make(content: str, name: str = 'x.dat') -> orm.SinglefileData:
        return orm.SinglefileData(io.BytesIO(content.encode()), filename=name)

    return make


# Structures


def test_flakes_are_the_same_for_the_same_seed(aiida_profile) -> None:
    first, second, other = (generate_flake_set(orm.Dict(FLAKES | {'seed': seed})) for seed in (3, 3, 4))
    assert first.structures == second.structures
    assert first.uuid != second.uuid
    assert set(first.structures.hashes).isdisjoint(other.structures.hashes)


def test_unseen_flakes_continue_the_series(aiida_profile) -> None:
    both = generate_flake_sets(orm.Dict(FLAKES), orm.Int(2))
    whole = generate_flake_set(orm.Dict(FLAKES | {'count': 6})).structures
    assert both['structures'].structures == whole.select(slice(4))
    assert both['unseen'].structures == whole.select(slice(4, None))


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'seed': '3'}, "seed='3' of FlakeParameters: Input should be a valid integer"),
        ({'seed': 3.0}, 'seed=3.0 of FlakeParameters: Input should be a valid integer'),
        ({'seed': True}, 'seed=True of FlakeParameters: Input should be a valid integer'),
        ({'seed': None}, 'seed=None of FlakeParameters: Input should be a valid integer'),
        ({'sead': 3}, 'sead'),
        ({'family': 'x'}, "'x'"),
        ({'count': 0}, 'count'),
        ({'bn_fraction': [0.0, 2.0]}, 'bn_fraction'),
    ],
)
def test_flakes_that_cannot_be_made_are_refused(aiida_profile, change: dict, message: str) -> None:
    refused(generate_flake_set, 'StructureError', message, parameters=orm.Dict(FLAKES | change))


def test_any_registered_generator_runs(aiida_profile, third_party_path) -> None:
    """Those of this package give what their own functions give; one of another package works in the same way."""
    flakes = generate_structures(orm.Str('flakes'), orm.Dict(FLAKES))
    assert flakes.structures == generate_flake_set(orm.Dict(FLAKES)).structures
    chains, node = generate_structures.run_get_node(orm.Str('chains'), orm.Dict({'count': 3}))
    assert chains.structures.formulas == ['H2', 'H3', 'H4']
    assert node.inputs.generator.value == 'chains'
    assert chains.creator.process_type == 'aiida.calculations:nanoml.generate_structures'


@pytest.mark.parametrize(
    ('generator', 'parameters', 'message'),
    [
        ('flake', {}, "there is no generator 'flake'; registered: "),
        ('flakes', {'family': 'h'}, "missing parameter 'size', 'count', 'seed' of FlakeGenerator"),
        ('chains', {'count': 0}, 'count=0 of ChainGenerator'),
    ],
)
def test_what_no_generator_can_do_is_refused(
    aiida_profile, third_party_path, generator: str, parameters: dict, message: str
) -> None:
    refused(
        generate_structures, 'StructureError', message, generator=orm.Str(generator), parameters=orm.Dict(parameters)
    )


def test_what_was_refused_is_tried_again_and_the_rest_comes_from_the_cache(aiida_profile) -> None:
    with enable_caching(identifier='aiida.calculations:nanoml.generate_flake_set'):
        for count, status in ((4, 0), (0, INPUT_REFUSED)):
            first, second = (generate_flake_set.run_get_node(orm.Dict(FLAKES | {'count': count}))[1] for _ in range(2))
            assert first.exit_status == second.exit_status == status
            assert second.base.caching.is_created_from_cache == (status == 0)


def test_no_unseen_flakes_are_refused(aiida_profile) -> None:
    refused(generate_flake_sets, 'StructureError', 'n_unseen', parameters=orm.Dict(FLAKES), n_unseen=orm.Int(0))


def test_structures_are_imported_as_they_were_written(tmp_path, flakes: StructureSet, aiida_profile) -> None:
    write_structures(flakes, tmp_path / 'flakes.extxyz')
    node = import_structures(orm.SinglefileData(tmp_path / 'flakes.extxyz'))
    assert node.structures.hashes.tolist() == flakes.hashes.tolist()
    assert node.structures.names.tolist() == flakes.names.tolist()


def test_a_file_that_is_no_structure_is_refused(text_file) -> None:
    refused(import_structures, 'StructureError', 'flakes.xyz', file=text_file('3\n\nC 0 0\n', 'flakes.xyz'))
    overlapping = '2\n\nC 0.0 0.0 0.0\nC 0.0 0.0 0.1\n'
    refused(import_structures, 'StructureError', 'atom', file=text_file(overlapping, 'close.xyz'))
    missing = '2\n\nC 0.0 0.0 0.0\nC 0.0 0.0 nan\n'
    refused(import_structures, 'StructureError', 'finite', file=text_file(missing, 'nan.xyz'))


def test_sets_are_joined_in_the_order_of_their_names(structures_node: StructureSetData, flakes: StructureSet) -> None:
    parts = {f'set_{row}': StructureSetData(flakes.select([row])) for row in (2, 0, 1)}
    assert merge_structures(**parts).structures == flakes.select([0, 1, 2])


# Labels


def test_of_two_labels_the_finished_one_wins(flake_labels: LabelSet, aiida_profile) -> None:
    status = flake_labels.status.astype('<U20')
    status[:2] = 'time_limit'
    first = LabelSetData(changed(flake_labels, status=status))
    merged = merge_labels(labels_0=first, labels_1=LabelSetData(flake_labels.select(np.array([1, 2]))))
    assert sorted(merged.labels.hashes) == sorted(flake_labels.hashes)
    found = dict(zip(merged.labels.hashes, merged.labels.status, strict=True))
    assert found[flake_labels.hashes[0]] == 'time_limit'
    assert found[flake_labels.hashes[1]] == 'ok'


@pytest.mark.parametrize('change', [{'engine': 'pyscf'}, {'protocol': 'stringent'}, {'version': '0'}])
def test_labels_of_two_engines_or_protocols_are_not_joined(labels_node, flake_labels: LabelSet, change: dict) -> None:
    other = LabelSetData(replace(flake_labels, source=replace(flake_labels.source, **change)))
    refused(merge_labels, 'DatasetError', 'different origin', a=labels_node, b=other)


# Data sets


def test_features_and_gaps_stand_side_by_side(
    structures_node, labels_node, flake_labels: LabelSet, flake_dataset: Dataset
) -> None:
    node = assemble_dataset(structures_node, labels_node, orm.Dict(DESCRIPTOR))
    np.testing.assert_array_equal(node.dataset.y, flake_labels.energies['gap_ev'])
    np.testing.assert_array_equal(node.dataset.X, flake_dataset.X)
    assert node.base.attributes.get('labels') == flake_labels.source.to_dict()
    assert node.base.attributes.get('descriptor')['name'] == 'quadruplets'
    assert node.base.attributes.get('split') == {}


def test_labels_are_found_by_structure_not_by_place(flakes: StructureSet, labels_node, flake_labels: LabelSet) -> None:
    backwards = StructureSetData(flakes.select(np.arange(len(flakes))[::-1]))
    node = assemble_dataset(backwards, labels_node, orm.Dict(DESCRIPTOR))
    np.testing.assert_array_equal(node.dataset.y, flake_labels.energies['gap_ev'][::-1])


def test_rows_that_cannot_be_learnt_from_are_left_out_and_counted(flakes: StructureSet, flake_labels: LabelSet) -> None:
    status = flake_labels.status.astype('<U20')
    status[[0, 3, 4]] = ['not_converged', 'interrupted', 'time_limit']
    open_shell = flake_labels.open_shell.copy()
    open_shell[[1, 3]] = True
    repeated = StructureSet.concatenate([flakes, flakes.select([5, 5])])
    node = assemble_dataset(
        StructureSetData(repeated),
        LabelSetData(changed(flake_labels, status=status, open_shell=open_shell)),
        orm.Dict(DESCRIPTOR),
    )
    assert node.base.attributes.get('excluded') == {'failed': 3, 'open_shell': 1, 'repeated': 2}
    assert node.dataset.hashes.tolist() == flakes.hashes[[2, *range(5, 12)]].tolist()
    assert node.base.attributes.get('n_rows') == 8


def test_a_baseline_stands_beside_the_gaps(
    flakes: StructureSet, labels_node, cheap_labels: LabelSet, flake_labels: LabelSet
) -> None:
    status = cheap_labels.status.astype('<U20')
    status[[2, 7]] = 'not_converged'
    rows = np.array([*range(10, -1, -1)])  # in another order, and without the last flake
    baseline = LabelSetData(changed(cheap_labels, status=status).select(rows))
    rows = assemble_dataset(StructureSetData(flakes), labels_node, orm.Dict(DESCRIPTOR), baseline=baseline)
    node = split_dataset(rows, orm.Dict({}))
    assert node.base.attributes.get('excluded') == {'no_baseline': 3}
    kept = [0, 1, 3, 4, 5, 6, 8, 9, 10]
    np.testing.assert_array_equal(node.dataset.baseline, cheap_labels.energies['gap_ev'][kept])
    np.testing.assert_array_equal(node.dataset.y, flake_labels.energies['gap_ev'][kept])
    assert node.baseline_source == cheap_labels.source.to_dict()


def test_a_baseline_of_the_same_origin_or_of_no_structure_is_refused(
    structures_node, labels_node, cheap_labels: LabelSet
) -> None:
    inputs = {'structures': structures_node, 'labels': labels_node, 'descriptor': orm.Dict(DESCRIPTOR)}
    refused(assemble_dataset, 'DatasetError', 'there is nothing to correct', **inputs, baseline=labels_node)
    strangers = LabelSetData(changed(cheap_labels, hashes=np.array([f'{row:064d}' for row in range(12)])))
    refused(assemble_dataset, 'DatasetError', "'no_baseline': 12", **inputs, baseline=strangers)


def test_no_rows_left_are_refused(structures_node, flake_labels: LabelSet) -> None:
    failed = changed(flake_labels, status=np.full(len(flake_labels), 'not_converged'))
    inputs = {'structures': structures_node, 'labels': LabelSetData(failed), 'descriptor': orm.Dict(DESCRIPTOR)}
    refused(assemble_dataset, 'DatasetError', "no row is left of 12: {'failed': 12", **inputs)


def test_a_structure_without_label_is_named(structures_node, flake_labels: LabelSet, flakes: StructureSet) -> None:
    some = LabelSetData(flake_labels.select(np.arange(10)))
    inputs = {'structures': structures_node, 'labels': some, 'descriptor': orm.Dict(DESCRIPTOR)}
    message = f'2 of 12 structures have no label, the first is {str(flakes.names[10])!r}'
    refused(assemble_dataset, 'DatasetError', message, **inputs)


@pytest.mark.parametrize(
    ('descriptor', 'error', 'message'),
    [
        ({'name': 'coulomb'}, 'DescriptorError', "'coulomb'"),
        ({'name': 'quadruplets', 'params': {'classes': 23}}, 'DescriptorError', '23'),
        ({'name': 'quadruplets', 'params': {'bins': 3}}, 'DescriptorError', 'bins'),
        ({'name': 'quadruplets', 'classes': 22}, 'DatasetError', 'classes'),
        ({'params': {}}, 'DatasetError', '`name`'),
    ],
)
def test_a_descriptor_that_cannot_be_made_is_refused(
    structures_node, labels_node, descriptor: dict, error: str, message: str
) -> None:
    inputs = {'structures': structures_node, 'labels': labels_node, 'descriptor': orm.Dict(descriptor)}
    refused(assemble_dataset, error, message, **inputs)


def test_atoms_of_an_unknown_class_are_refused_or_counted(aiida_profile, flake_labels: LabelSet) -> None:
    flake = flake_lattice('z', 2)
    numbers = flake.numbers.copy()
    numbers[:24] = 7  # nitrogen bonded to nitrogen: none of the classes
    strange = StructureSet.from_structures([replace(flake, numbers=numbers)], names=np.array(['all N']))
    labels = changed(flake_labels.select(np.array([0])), hashes=strange.hashes)
    inputs = {'structures': StructureSetData(strange), 'labels': LabelSetData(labels)}
    for unknown in ('error', 'drop', 'overflow'):
        descriptor = orm.Dict({'name': 'quadruplets', 'params': {'classes': 22, 'unknown': unknown}})
        if unknown == 'error':
            refused(assemble_dataset, 'DescriptorError', 'all N', **inputs, descriptor=descriptor)
        else:
            node = assemble_dataset(**inputs, descriptor=descriptor)
            assert node.base.attributes.get('unknown_classes') == 24
            assert node.base.attributes.get('n_features') == (26 if unknown == 'drop' else 27)


def test_a_split_is_the_one_of_the_core(dataset_node: DatasetData, split_flakes: Dataset) -> None:
    node = split_dataset(dataset_node, orm.Dict({'validation': 0.25, 'test': 0.25, 'seed': 5}))
    expected = split_rows(split_flakes.hashes, 0.25, 0.25, 5, strata=split_flakes.families)
    assert node.dataset.split.tolist() == expected.tolist()
    for name in ('descriptor', 'labels', 'excluded', 'n_rows'):
        assert node.base.attributes.get(name) == dataset_node.base.attributes.get(name)


@pytest.mark.parametrize(
    ('parameters', 'message'),
    [
        ({'seed': '0'}, 'seed of a split must be an integer'),
        ({'seed': 0.5}, 'seed of a split must be an integer'),
        ({'validation': 0.6, 'test': 0.5}, 'nothing is left to train on'),
        ({'test': 'half'}, 'must be a number'),
        ({'train': 0.5}, 'no parameter train'),
    ],
)
def test_a_split_that_cannot_be_made_is_refused(dataset_node, parameters: dict, message: str) -> None:
    refused(split_dataset, 'DatasetError', message, dataset=dataset_node, parameters=orm.Dict(parameters))


def test_data_sets_are_joined_without_repetition(
    dataset_node: DatasetData, split_flakes: Dataset, flake_descriptor: dict, flake_labels: LabelSet
) -> None:
    half = Dataset.from_arrays(
        {name: column[:6] for name, column in split_flakes.to_arrays().items()}, split_flakes.feature_names
    )
    other = DatasetData(half, flake_descriptor, flake_labels.source.to_dict(), {'failed': 3}, 2)
    node = merge_datasets(a=other, b=dataset_node)
    assert node.dataset.hashes.tolist() == split_flakes.hashes.tolist()
    assert node.base.attributes.get('excluded') == {'repeated': 6, 'failed': 3}
    assert node.base.attributes.get('split') == {}
    assert node.base.attributes.get('unknown_classes') == 2


def test_a_data_set_is_split_in_one_step(structures_node, labels_node) -> None:
    parameters = orm.Dict({'validation': 0.25, 'test': 0.25, 'seed': 5})
    node = assemble_dataset(structures_node, labels_node, orm.Dict(DESCRIPTOR), split=parameters)
    apart = split_dataset(assemble_dataset(structures_node, labels_node, orm.Dict(DESCRIPTOR)), parameters)
    assert node.dataset.split.tolist() == apart.dataset.split.tolist()
    assert node.base.attributes.get('split') == apart.base.attributes.get('split')
    assert node.learnt_rows is None
    inputs = {'structures': structures_node, 'labels': labels_node, 'descriptor': orm.Dict(DESCRIPTOR)}
    refused(assemble_dataset, 'DatasetError', 'no parameter shares', **inputs, split=orm.Dict({'shares': 0.2}))


def test_a_descriptor_learns_from_training_rows_only(
    structures_node, labels_node, flakes: StructureSet, third_party_path
) -> None:
    """A formula that only test rows have is no column, and is counted as unknown."""
    node = assemble_dataset(structures_node, labels_node, orm.Dict({'name': 'formulas'}), split=orm.Dict({}))
    formulas, training = np.array(flakes.formulas), node.dataset.split == 'train'
    assert set(formulas[~training]) - set(formulas[training]), 'these flakes cannot show a leak'
    assert list(node.dataset.feature_names) == sorted(set(formulas[training]))
    assert node.learnt_rows == training.sum() == 8
    unseen = ~np.isin(formulas, formulas[training])
    assert node.base.attributes.get('unknown_classes') == unseen.sum()
    assert (node.dataset.X.sum(axis=1) == ~unseen).all()


def test_columns_that_were_learnt_stay_with_their_split(structures_node, labels_node, third_party_path) -> None:
    inputs = {'structures': structures_node, 'labels': labels_node}
    learning = orm.Dict({'name': 'formulas'})
    refused(assemble_dataset, 'DatasetError', "'formulas' learns from training rows: give `split`", **inputs,
            descriptor=learning)  # fmt: skip
    node = assemble_dataset(**inputs, descriptor=learning, split=orm.Dict({}))
    message = "belong to its split: the descriptor 'formulas' learnt them on its training rows"
    refused(split_dataset, 'DatasetError', message, dataset=node, parameters=orm.Dict({'seed': 1}))
    refused(merge_datasets, 'DatasetError', message, a=node, b=node)


def test_what_was_learnt_elsewhere_needs_no_split(structures_node, labels_node, third_party_path) -> None:
    frozen = orm.Dict({'name': 'formulas', 'params': {'known': ['C24H12']}})
    node = assemble_dataset(structures_node, labels_node, frozen)
    assert node.learnt_rows is None
    assert split_dataset(node, orm.Dict({})).base.attributes.get('split') == {'train': 8, 'validation': 2, 'test': 2}


@pytest.mark.parametrize(
    ('name', 'value', 'message'),
    [
        ('labels', SIESTA | {'parameters': {}}, 'different engines or protocols'),
        ('descriptor', {'name': 'imported'}, 'different descriptors'),
        ('unit', 'Ry', 'different units'),
        ('baseline', SIESTA | {'parameters': {}}, 'different baselines'),
    ],
)
def test_data_sets_of_different_origin_or_unit_are_not_joined(
    dataset_node: DatasetData, split_flakes: Dataset, name: str, value: Any, message: str
) -> None:
    attributes = dataset_node.base.attributes
    other = DatasetData(split_flakes, attributes.get('descriptor'), attributes.get('labels'))
    other.base.attributes.set(name, value)
    refused(merge_datasets, 'DatasetError', message, a=dataset_node, b=other)


# Exchange files


def test_exchange_files_are_read_in_their_unit(text_file) -> None:
    x, y = text_file('1 2\n3 4\n'), text_file('0.25\n0.5\n', 'y.dat')
    node = import_dataset(x, y, orm.Dict({'n_features': 2, 'labels': SIESTA, 'family': 's'}))
    assert node.dataset.X.tolist() == [[1, 2], [3, 4]]
    assert node.dataset.y.tolist() == [1.0, 2.0]
    assert node.base.attributes.get('families') == ['s']
    assert node.base.attributes.get('labels') == SIESTA | {'parameters': {}, 'pseudopotentials': {}}


@pytest.mark.parametrize(
    ('x', 'y', 'message'),
    [
        ('1 2 3\n1 2\n', '1\n1\n', 'x.dat, line 2: 2 numbers where 3 features'),
        ('1 2 3 4\n', '1\n', 'x.dat, line 1: 4 numbers where 3 features'),
        ('1 2 nan\n', '1\n', "x.dat, line 1: 'nan' is not finite"),
        ('1 2 3\n', 'inf\n', "y.dat, line 1: 'inf' is not finite"),
        ('1 2 x\n', '1\n', "x.dat, line 1: 'x' is not a number"),
        ('1 2 3\n1 2 4\n', '1\n', '2 rows'),
        ('', '', 'holds no numbers'),
    ],
)
def test_exchange_files_that_cannot_be_used_are_refused(text_file, x: str, y: str, message: str) -> None:
    inputs = {
        'x': text_file(x),
        'y': text_file(y, 'y.dat'),
        'parameters': orm.Dict({'n_features': 3, 'labels': SIESTA}),
    }
    refused(import_dataset, 'DatasetError', message, **inputs)


@pytest.mark.parametrize(
    ('parameters', 'error', 'message'),
    [
        ({}, 'DatasetError', 'labels'),
        ({'labels': {'engine': 'siesta'}}, 'DatasetError', 'not a label source'),
        ({'labels': 'SIESTA'}, 'DatasetError', 'not a label source'),
        ({'labels': SIESTA, 'n_features': 'three'}, 'DatasetError', 'n_features'),
        ({'labels': SIESTA, 'target_scale_ev': 'four'}, 'DatasetError', 'target_scale_ev'),
        ({'labels': SIESTA, 'target_scale_ev': -4.0}, 'DatasetError', 'positive'),
        ({'labels': SIESTA, 'unit': 'eV'}, 'DatasetError', 'unit'),
        ({'labels': SIESTA, 'family': 3}, 'DatasetError', 'family'),
        ({'labels': SIESTA, 'descriptor': {'params': {}}}, 'DatasetError', '`name`'),
        ({'labels': SIESTA, 'descriptor': {'name': 'coulomb'}}, 'DescriptorError', 'coulomb'),
    ],
)
def test_import_parameters_that_cannot_be_used_are_refused(
    text_file, parameters: dict, error: str, message: str
) -> None:
    inputs = {'x': text_file('1 2\n'), 'y': text_file('1\n', 'y.dat'), 'parameters': orm.Dict(parameters)}
    refused(import_dataset, error, message, **inputs)


# Validation

UNCERTAINTY = {name: np.full(12, np.nan) for name in ('std', 'spread')} | {
    'distance': np.ones(12),
    'outside': np.arange(12) == 3,
}


@pytest.fixture
def prediction(dataset_node: DatasetData, model_node: ModelData) -> PredictionData:
    arrays = dataset_node.dataset.to_arrays()
    columns = {name: arrays[name] for name in ('hashes', 'names', 'families')}
    columns |= {'value': arrays['y'] + 0.5} | UNCERTAINTY
    return PredictionData(columns, model_node.base.attributes.all)


def test_predictions_are_compared_with_labels_of_the_same_structures(prediction, flake_labels: LabelSet) -> None:
    labels = LabelSetData(flake_labels.select(np.arange(12)[::-1][:9]))
    found = compare_with_labels(prediction, labels)
    metrics = found['metrics'].get_dict()
    assert metrics['all']['mae'] == pytest.approx(0.5)
    assert metrics['z']['n'] == 9
    assert (metrics['all']['coverage_95'], metrics['all']['outside']) == (None, 1), 'the model has no calibration'
    assert metrics['n_not_compared'] == 3
    assert metrics['labelling_s'] == pytest.approx(0.9)
    table = found['table']
    np.testing.assert_allclose(table.get_array('predicted') - table.get_array('labelled'), 0.5)


def test_the_baseline_is_judged_beside_the_correction_of_it(
    corrected_node: DatasetData, correction_node: ModelData, labels_node
) -> None:
    arrays = corrected_node.dataset.to_arrays()
    columns = {name: arrays[name] for name in ('hashes', 'names', 'families', 'baseline')}
    columns |= {'value': arrays['y'] + 0.1} | UNCERTAINTY
    found = compare_with_labels(PredictionData(columns, correction_node.base.attributes.all), labels_node)
    metrics = found['metrics'].get_dict()
    assert metrics['all']['mae'] == metrics['z']['mae'] == pytest.approx(0.1)
    assert metrics['baseline/all']['mae'] == metrics['baseline/z']['mae'] == pytest.approx(0.3)
    np.testing.assert_array_equal(found['table'].get_array('baseline'), arrays['baseline'])


def test_predictions_are_not_compared_with_labels_of_another_engine(prediction, flake_labels: LabelSet) -> None:
    other = LabelSetData(replace(flake_labels, source=replace(flake_labels.source, engine='pyscf')))
    refused(compare_with_labels, 'DatasetError', 'the model learnt from', predictions=prediction, labels=other)


def test_nothing_in_common_is_refused(prediction, flake_labels: LabelSet) -> None:
    strangers = changed(flake_labels, hashes=np.array([f'{row:064d}' for row in range(12)]))
    refused(compare_with_labels, 'DatasetError', 'none of the predicted', predictions=prediction,
            labels=LabelSetData(strangers))  # fmt: skip


FDF = """
NumberOfAtoms 2
NumberOfSpecies 1
%block ChemicalSpeciesLabel
 1 1 H
%endblock ChemicalSpeciesLabel
AtomicCoordinatesFormat Ang
%block AtomicCoordinatesAndAtomicSpecies
 0 0 0 1
 0 0 0.75 1
%endblock AtomicCoordinatesAndAtomicSpecies
"""


def test_an_input_of_siesta_is_a_structure(aiida_profile):
    file = orm.SinglefileData(io.BytesIO(FDF.encode()), filename='hydrogen.fdf')
    found = import_structures(file).structures
    assert found.names.tolist() == ['hydrogen']
    assert found.positions.tolist() == [[0, 0, 0], [0, 0, 0.75]]
    assert not found.pbc.any()
    broken = orm.SinglefileData(io.BytesIO(FDF.replace(' 0 0 0.75 1\n', '').encode()), filename='hydrogen.fdf')
    refused(import_structures, 'StructureError', 'hydrogen.fdf: ', file=broken)


def test_lengths_in_bohr_are_converted(aiida_profile):
    content = b'2\n\nH 0 0 0\nH 0 0 1.4\n'
    file = orm.SinglefileData(io.BytesIO(content), filename='hydrogen.xyz')
    found = import_structures(file, bohr=orm.Bool(True)).structures
    assert found.positions[1, 2] == pytest.approx(1.4 * 0.529177210903)
