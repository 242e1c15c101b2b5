"""Sets of structures in the pipelines, cross-validations and searches of scikit-learn."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, KFold, cross_val_predict, cross_val_score, train_test_split
from sklearn.pipeline import Pipeline, make_pipeline

from aiida_nanoml.errors import StructureError
from aiida_nanoml.features import descriptor_names, make_descriptor
from aiida_nanoml.features.registry import dense_features
from aiida_nanoml.learning.registry import MODELS, hyperparameters, make_model
from aiida_nanoml.structures import AlloyParameters, FlakeParameters, StructureSet, generate_alloys, generate_flakes

PARAMETERS: dict[str, dict[str, Any]] = {
    'quadruplets': {'classes': 26},
    'clusters': {'radii': [1, 2], 'per_radius': 5},
    'combined': {'parts': [{'name': 'quadruplets', 'params': {'classes': 26}}, {'name': 'shells'}]},
}
QUICK: dict[str, Any] = {'hidden_layers': (4,), 'epochs': 1, 'members': 1, 'n_trees': 3}


@pytest.fixture(scope='module')
def flakes() -> StructureSet:
    return generate_flakes(FlakeParameters(family='z', size=2, count=18, seed=4))


@pytest.fixture(scope='module')
def alloys() -> StructureSet:
    return generate_alloys(AlloyParameters(count=18, seed=4))


def quick(kind: str) -> Any:
    known = hyperparameters(kind)
    return make_model(kind, **{name: value for name, value in QUICK.items() if name in known})


def share_of_boron(structures: StructureSet) -> np.ndarray:
    """Return a target that every descriptor knows something about, above zero."""
    return 1.0 + np.add.reduceat(structures.numbers == 5, structures.offsets[:-1]) / structures.counts


@pytest.mark.parametrize('name', descriptor_names())
def test_any_descriptor_is_cross_validated(name: str, flakes: StructureSet, alloys: StructureSet) -> None:
    """Folds of a set give what the same rows give without scikit-learn's indexing."""
    structures = alloys if name == 'alloy' else flakes
    y = np.linspace(1.0, 2.0, len(structures)) if name == 'alloy' else share_of_boron(structures)
    descriptor, model = make_descriptor(name, **PARAMETERS.get(name, {})), make_model('ridge')
    folds = KFold(2, shuffle=True, random_state=0)
    found = cross_val_predict(make_pipeline(descriptor, model), structures, y, cv=folds)
    for learnt, left in folds.split(y):
        known = clone(descriptor).fit(structures.select(learnt), y[learnt])
        alone = clone(model).fit(dense_features(known, structures.select(learnt)), y[learnt])
        assert found[left] == pytest.approx(alone.predict(dense_features(known, structures.select(left))), abs=1e-12)


@pytest.mark.parametrize('kind', MODELS.names())
def test_any_model_is_cross_validated(kind: str, flakes: StructureSet) -> None:
    y, descriptor = share_of_boron(flakes), make_descriptor('quadruplets', classes=26)
    found = cross_val_score(make_pipeline(descriptor, quick(kind)), flakes, y, cv=2, error_score='raise')
    assert found == pytest.approx(cross_val_score(quick(kind), descriptor.transform(flakes), y, cv=2), rel=1e-6)


def test_a_search_in_two_processes_finds_the_better_settings(flakes: StructureSet) -> None:
    descriptor = make_descriptor('quadruplets', classes=26)
    features = descriptor.transform(flakes)
    y = 1.0 + features @ np.arange(features.shape[1])
    pipeline = Pipeline([('features', descriptor), ('model', make_model('ridge'))])
    settings = {'model__alpha': [1e-6, 1e4]}
    search = GridSearchCV(pipeline, settings, cv=3, n_jobs=2, error_score='raise').fit(flakes, y)
    assert search.best_params_ == {'model__alpha': 1e-6}
    assert search.predict(flakes[:3]) == pytest.approx(y[:3], rel=1e-3)


def test_columns_keep_their_names_in_data_frames(flakes: StructureSet) -> None:
    y = share_of_boron(flakes)
    plain = make_pipeline(make_descriptor('shells', shells=2), make_model('ridge'))
    named = clone(plain).set_output(transform='pandas').fit(flakes, y)
    assert named[:-1].transform(flakes).columns.tolist() == named[0].get_feature_names_out().tolist()
    assert named[-1].feature_names_in_.tolist() == named[0].get_feature_names_out().tolist()
    assert np.array_equal(named.predict(flakes), plain.fit(flakes, y).predict(flakes))


def test_rows_are_chosen_in_brackets(flakes: StructureSet) -> None:
    names = flakes.names.tolist()
    assert flakes.shape == (18,)
    last = flakes.select([17])
    mask = np.arange(18) == 17
    for rows in (slice(17, None), [17], np.array([-1]), mask, mask.tolist(), [names[17]], np.array([names[17]])):
        assert flakes[rows] == last
    for row in (17, -1, np.int64(17), names[17]):
        assert np.array_equal(flakes[row].positions, last[0].positions)
    learnt, left = train_test_split(flakes, test_size=6, random_state=0)
    assert (len(learnt), len(left)) == (12, 6)
    assert sorted([*learnt.names.tolist(), *left.names.tolist()]) == sorted(names)
    with pytest.raises(StructureError, match=f"no structure of the set is called '{names[0]}x'; near to it: "):
        flakes[f'{names[0]}x']
    with pytest.raises(StructureError, match=r'2 structures are called .* in the rows 0, 1: choose by the row'):
        flakes[[0, 0]][names[0]]
    with pytest.raises(StructureError, match='a mask of 17 entries'):
        flakes[mask[:17]]


def test_a_set_that_was_pickled_is_still_fixed(flakes: StructureSet) -> None:
    again = pickle.loads(pickle.dumps(flakes))  # noqa: S301
    assert again == flakes
    assert np.array_equal(again.hashes, flakes.hashes)
    with pytest.raises(ValueError, match='read-only'):
        again.positions[0] = 0.0
