"""From clusters of the training rows to a model of a few of them, and leakage that is refused on the way."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from aiida import orm
from aiida.engine import run_get_node
from aiida.plugins import CalculationFactory

from aiida_nanoml.calculations.functions.datasets import (
    assemble_dataset,
    merge_datasets,
    select_features,
    split_dataset,
)
from aiida_nanoml.data.dataset import DatasetData
from aiida_nanoml.features.selection import make_selector
from aiida_nanoml.learning.dataset import Dataset
from tests.calculations.test_functions import refused

Train, Predict = (CalculationFactory(f'nanoml.{task}') for task in ('train', 'predict'))
CLUSTERS = {'name': 'clusters', 'params': {'radii': [1, 2], 'per_radius': 8}}


@pytest.fixture
def clusters_node(structures_node, labels_node) -> DatasetData:
    """Clusters of the flakes, learnt from eight of twelve."""
    return assemble_dataset(structures_node, labels_node, orm.Dict(CLUSTERS), split=orm.Dict({}))


@pytest.mark.parametrize(
    ('name', 'params'),
    [('vt', {'p': 0.8}), ('mit', {'threshold': 0.3}), ('rcr', {'n_features': 7}), ('random', {'n_features': 5})],
)
def test_a_selection_sees_training_rows_only(clusters_node: DatasetData, name: str, params: dict[str, Any]) -> None:
    rows = clusters_node.dataset
    training = rows.split == 'train'
    node = select_features(clusters_node, orm.Dict({'name': name, 'params': params}))
    selector = make_selector(name, **params).fit(rows.X[training], rows.y[training], feature_names=rows.feature_names)
    kept = selector.get_support()
    assert 0 < kept.sum() < len(kept)
    np.testing.assert_array_equal(node.dataset.X, rows.X[:, kept])
    assert node.dataset.split.tolist() == rows.split.tolist()
    identity = node.base.attributes.get('descriptor')
    assert identity['feature_names'] == np.array(rows.feature_names)[kept].tolist()
    assert identity['n_features'] == node.base.attributes.get('n_features') == kept.sum()
    assert identity['params'] == clusters_node.base.attributes.get('descriptor')['params']
    assert node.selection == {'name': name, 'params': selector.get_params(), 'n_before': len(kept)}
    assert node.learnt_rows == clusters_node.learnt_rows == 8

    garbled = np.where(training, rows.y, 100.0)  # what the other rows say must not matter
    other = Dataset.from_arrays(rows.to_arrays() | {'y': garbled}, rows.feature_names)
    attributes = clusters_node.base.attributes
    again = DatasetData(other, attributes.get('descriptor'), attributes.get('labels'), learnt_rows=8)
    kept_again = select_features(again, orm.Dict({'name': name, 'params': params})).dataset.feature_names
    assert kept_again == node.dataset.feature_names


def test_a_selection_belongs_to_its_split(dataset_node: DatasetData) -> None:
    node = select_features(dataset_node, orm.Dict({'name': 'vt', 'params': {'p': 1.0}}))
    message = "belong to its split: 'vt' selected them on its training rows"
    refused(split_dataset, 'DatasetError', message, dataset=node, parameters=orm.Dict({}))
    refused(merge_datasets, 'DatasetError', message, a=node, b=node)


@pytest.mark.parametrize(
    ('selection', 'message'),
    [
        ({'name': 'vt', 'params': {'p': 0.5}}, 'removes all'),
        ({'name': 'pca'}, "no selector 'pca'"),
        ({'name': 'vt', 'p': 0.9}, 'a selector is chosen by `name` and `params`'),
        ({'name': 'vt', 'params': [0.9]}, 'the `params` of a selector are a mapping'),
        ({'name': 'rcr', 'params': {'n_features': 3}}, 'is no cluster of a radius'),
    ],
)
def test_a_selection_that_cannot_be_made_is_refused(dataset_node, selection: dict, message: str) -> None:
    refused(select_features, 'DatasetError', message, dataset=dataset_node, selection=orm.Dict(selection))


def test_a_selection_needs_training_rows(flake_dataset: Dataset, flake_descriptor: dict, aiida_profile) -> None:
    node = DatasetData(flake_dataset, flake_descriptor, {})
    message = 'no training rows to select by: split it first'
    refused(select_features, 'DatasetError', message, dataset=node, selection=orm.Dict({'name': 'vt'}))


def test_a_model_of_selected_clusters_predicts_structures(code, clusters_node: DatasetData, structures_node) -> None:
    selected = select_features(clusters_node, orm.Dict({'name': 'rcr', 'params': {'n_features': 9}}))
    trained, node = run_get_node(Train, code=code, dataset=selected, kind='ridge')
    assert node.is_finished_ok, node.exit_message
    assert trained['model'].base.attributes.get('n_features') == 9
    assert trained['model'].base.attributes.get('allow_leakage') is False
    predicted, node = run_get_node(Predict, code=code, model=trained['model'], structures=structures_node)
    assert node.is_finished_ok, node.exit_message
    np.testing.assert_allclose(predicted['predictions'].get_array('value'), trained['fitted'].get_array('value'))
    inputs = {'code': code, 'model': trained['model'], 'dataset': clusters_node}
    with pytest.raises(ValueError, match='the features come from the descriptor'):
        run_get_node(Predict, **inputs)


def test_a_structure_in_two_parts_is_refused_unless_asked_for(code, dataset_node: DatasetData) -> None:
    rows = dataset_node.dataset
    hashes = rows.hashes.copy()
    hashes[rows.split == 'test'] = hashes[rows.split == 'train'][:2]
    attributes = dataset_node.base.attributes
    arrays = rows.to_arrays() | {'hashes': hashes}
    leaking = DatasetData(
        Dataset.from_arrays(arrays, rows.feature_names), attributes.get('descriptor'), attributes.get('labels')
    )
    inputs = {'code': code, 'dataset': leaking, 'kind': 'ridge'}
    with pytest.raises(ValueError, match='2 structures are in more than one part of the split'):
        run_get_node(Train, **inputs)
    with pytest.raises(ValueError, match='2 structures are in more than one part of the split'):
        run_get_node(Train, **inputs, allow_leakage=False)
    trained, node = run_get_node(Train, **inputs, allow_leakage=True)
    assert node.is_finished_ok, node.exit_message
    assert trained['model'].base.attributes.get('allow_leakage') is True
    assert trained['model'].card.allow_leakage is True


def test_a_cross_validation_of_learnt_columns_is_refused(code, clusters_node: DatasetData, dataset_node) -> None:
    selected = select_features(dataset_node, orm.Dict({'name': 'random', 'params': {'n_features': 5}}))
    for dataset in (clusters_node, selected):
        with pytest.raises(
            ValueError, match='learnt or selected on its training rows, which a cross-validation tests on'
        ):
            run_get_node(Train, code=code, dataset=dataset, kind='ridge', folds=3)
