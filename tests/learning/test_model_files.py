import json
import shutil
import zipfile

import numpy as np
import pytest

from aiida_nanoml.errors import ModelError
from aiida_nanoml.learning.distance import TrainingDomain
from aiida_nanoml.learning.keras_backend import import_keras
from aiida_nanoml.learning.model_card import parse_card
from aiida_nanoml.learning.model_files import (
    ModelCard,
    export_model,
    load_domain,
    load_model,
    model_fingerprint,
    save_model,
)
from aiida_nanoml.learning.registry import make_model
from tests.mutations import fuzzed, mutations

SMALL = {
    'fast': {'hidden_layers': (8, 8), 'members': 3, 'epochs': 4, 'early_stopping': False},
    'paper': {'hidden_layers': (8, 8), 'epochs': 2},
    'transfer': {'hidden_layers': (8, 8), 'epochs': 2, 'early_stopping': False},
    'correction': {'hidden_layers': (8, 8), 'epochs': 2, 'members': 2, 'early_stopping': False},
    'alloy': {'hidden_layers': (8, 8), 'epochs': 2, 'members': 2, 'early_stopping': False},
    'forest': {'n_trees': 5},
}
CARD = {
    'kind': 'fast',
    'feature_names': ['C|CCC', 'B|NNN', 'H'],
    'descriptor': {'name': 'quadruplets', 'classes': 22},
    'labels': {'engine': 'xtb', 'protocol': 'balanced'},
    'metrics': {'test': {'r2': 0.9, 'mae': 0.1, 'rmse': 0.2, 'n': 10}, 'validation': {'r2': None, 'mae': 0.1, 'n': 1}},
}


def rows(seed=0):
    X = np.random.Generator(np.random.PCG64(seed)).uniform(size=(60, 3))
    return X, 1.0 + X[:, 0] * X[:, 1]


def trained(kind, **changes):
    return make_model(kind, **(SMALL.get(kind, {}) | changes)).fit(*rows())


@pytest.fixture(scope='module')
def network():
    return trained('fast')


@pytest.fixture
def saved(network, tmp_path):
    save_model(network, tmp_path / 'model', CARD, TrainingDomain().fit(rows()[0]))
    return tmp_path / 'model'


def test_loaded_network_is_whole(network, saved):
    loaded, card = load_model(saved)
    X, _ = rows(1)
    assert np.array_equal(loaded.predict(X, return_std=True)[1], network.predict(X, return_std=True)[1])
    assert loaded.best_epoch_ == network.best_epoch_ == card.best_epoch == 4
    assert np.array_equal(load_domain(saved).distance(X), TrainingDomain().fit(rows()[0]).distance(X))


def test_no_domain_unless_it_was_given(network, tmp_path):
    save_model(network, tmp_path, CARD)
    assert load_domain(tmp_path) is None


def test_no_pickle_in_the_folder(saved, tmp_path):
    save_model(trained('forest'), tmp_path / 'forest', CARD | {'kind': 'forest'})
    names = {path.name for folder in (saved, tmp_path / 'forest') for path in folder.iterdir()}
    assert names == {'model.json', 'network.keras', 'history.json', 'training_domain.npz', 'estimator.skops'}
    with zipfile.ZipFile(tmp_path / 'forest' / 'estimator.skops') as archive:
        assert not [name for name in archive.namelist() if not name.endswith(('.npy', '.json'))]


@pytest.mark.parametrize('kind', ['fast', 'forest', 'svm', 'ridge'])
def test_fingerprint_names_the_content(kind):
    """The same training gives the same fingerprint; one other row, or one other hyperparameter, another."""
    X, y = rows()
    model = make_model(kind, **SMALL.get(kind, {}))
    first = model_fingerprint(model.fit(X, y))
    assert len(first) == 64
    assert model_fingerprint(trained(kind)) == first
    assert model_fingerprint(make_model(kind, **SMALL.get(kind, {})).fit(X, np.where(y == y[0], 3.0, y))) != first
    name, value = {'fast': ('patience', 7), 'forest': ('seed', 1), 'svm': ('tube_width', 0.3), 'ridge': ('alpha', 2.0)}[
        kind
    ]
    assert model_fingerprint(trained(kind, **{name: value})) != first


def test_archives_of_one_network_differ_but_the_fingerprint_does_not(network, saved, tmp_path):
    """Why files are not hashed: the archive carries the moment of its making."""
    with zipfile.ZipFile(saved / 'network.keras') as archive:
        metadata = json.loads(archive.read('metadata.json'))
    assert 'date_saved' in metadata
    export_model(saved, tmp_path / 'network.keras')
    shutil.copy(tmp_path / 'network.keras', saved / 'network.keras')
    assert model_fingerprint(saved) == model_fingerprint(network)


@pytest.mark.parametrize('ending', ['.keras', '.h5'])
@pytest.mark.parametrize('kind', ['fast', 'paper'])
def test_exported_network_takes_raw_features_and_answers_in_ev(kind, ending, tmp_path):
    model = trained(kind)
    save_model(model, tmp_path / 'model', CARD | {'kind': kind})
    path = tmp_path / f'cbn_trained_model{ending}'
    export_model(tmp_path / 'model', path)
    plain = import_keras().models.load_model(path, compile=False)
    X, _ = rows(1)
    assert np.asarray(plain(X.astype(np.float32)))[:, 0] == pytest.approx(model.predict(X), abs=1e-6)


def test_only_networks_are_exported(saved, tmp_path):
    with pytest.raises(ModelError, match=r'exported as \.keras or \.h5'):
        export_model(saved, tmp_path / 'model.onnx')
    save_model(trained('ridge'), tmp_path / 'ridge', CARD | {'kind': 'ridge'})
    with pytest.raises(ModelError, match="of the kind 'ridge'"):
        export_model(tmp_path / 'ridge', tmp_path / 'model.keras')


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'kind': 'ridge'}, "says 'ridge', the model is a DenseNetwork"),
        ({'kind': 'resnet'}, 'there is no kind of model'),
        ({'feature_names': ['a']}, 'names 1 features, the model was trained on 3'),
        ({'unit': 'meV'}, "unit: .*the target 'gap' is in eV, not meV"),
        ({'target': 'pressure'}, "unit: .*the target 'pressure' is in GPa, not eV"),
        ({'target': 'colour'}, "target: .*no target 'colour'"),
        ({'others': {'pressure': 'kbar'}}, "others: .*no target 'pressure' in kbar"),
        ({'colour': 'blue'}, 'colour'),
        ({'fingerprint': 'abc'}, 'filled by save_model'),
    ],
)
def test_wrong_cards_are_refused(network, tmp_path, changes, message):
    with pytest.raises(ModelError, match=message):
        save_model(network, tmp_path / 'model', CARD | changes)
    assert not (tmp_path / 'model').exists()


def test_what_cannot_be_saved_is_refused(network, saved):
    with pytest.raises(ModelError, match='holds a model already'):
        save_model(network, saved, CARD)
    with pytest.raises(ModelError, match='not trained'):
        save_model(make_model('fast'), saved / 'deeper', CARD)
    with pytest.raises(ModelError, match='domain has 2 features'):
        save_model(network, saved / 'deeper', CARD, TrainingDomain().fit(rows()[0][:, :2]))


@pytest.mark.parametrize('name', ['model.json', 'network.keras', 'history.json'])
@pytest.mark.parametrize('damage', ['missing', 'empty', 'truncated', 'text'])
def test_damaged_files_are_refused_by_name(saved, name, damage):
    path = saved / name
    content = path.read_bytes()
    path.unlink()
    if damage != 'missing':
        path.write_bytes({'empty': b'', 'truncated': content[: len(content) // 2], 'text': b'no model'}[damage])
    with pytest.raises(ModelError, match=name):
        load_model(saved)


def test_damaged_estimators_are_refused(tmp_path):
    save_model(trained('forest'), tmp_path, CARD | {'kind': 'forest'})
    path = tmp_path / 'estimator.skops'
    for content in (b'', path.read_bytes()[:1000], b'no model'):
        path.write_bytes(content)
        with pytest.raises(ModelError, match='estimator'):
            load_model(tmp_path)
    path.unlink()
    with pytest.raises(ModelError, match='missing'):
        load_model(tmp_path)


def test_estimator_with_a_foreign_type_is_refused(tmp_path):
    import skops.io
    from sklearn.preprocessing import FunctionTransformer

    save_model(trained('ridge'), tmp_path, CARD | {'kind': 'ridge'})
    skops.io.dump(FunctionTransformer(shutil.rmtree), tmp_path / 'estimator.skops')
    with pytest.raises(ModelError, match='rmtree'):
        load_model(tmp_path)


def test_network_with_a_foreign_layer_is_refused(saved):
    keras = import_keras()
    foreign = keras.Sequential([keras.Input((3,)), keras.layers.Lambda(lambda x: x[:, :1])])
    foreign.save(saved / 'network.keras')
    with pytest.raises(ModelError, match='Lambda'):
        load_model(saved)


def test_exchanged_weights_are_noticed(network, saved, tmp_path):
    save_model(trained('fast', seed=9), tmp_path / 'other', CARD)
    shutil.copy(tmp_path / 'other' / 'network.keras', saved / 'network.keras')
    with pytest.raises(ModelError, match='does not agree with the fingerprint'):
        load_model(saved)


def test_network_of_another_shape_is_noticed(saved):
    keras = import_keras()
    keras.Sequential([keras.Input((5,)), keras.layers.Dense(1)]).save(saved / 'network.keras')
    with pytest.raises(ModelError, match=r'network\.keras'):
        load_model(saved)


def test_edited_card_is_noticed(saved):
    card = json.loads((saved / 'model.json').read_text())
    card['parameters']['target_scale'] = 1.0
    (saved / 'model.json').write_text(json.dumps(card))
    with pytest.raises(ModelError, match='does not agree with the fingerprint'):
        load_model(saved)


def test_card_explains_its_fields():
    assert all('description' in field for field in ModelCard.model_json_schema()['properties'].values())


@pytest.mark.parametrize('kind', ['alloy', 'ridge', 'tree', 'forest'])
def test_round_trip_of_several_targets(kind, tmp_path):
    X, y = rows()
    model = make_model(kind, **SMALL.get(kind, {})).fit(X, np.column_stack([y, -40.0 * X[:, 2], 1e-3 * X[:, 1]]))
    others = {'magnetic_moment': 'µB/atom', 'pressure': 'GPa'}
    what = {'target': 'cohesive_energy', 'unit': 'eV/atom', 'others': others}
    card = save_model(model, tmp_path, CARD | {'kind': kind, **what})
    loaded, loaded_card = load_model(tmp_path)
    X_new, _ = rows(1)
    assert np.array_equal(loaded.predict_all(X_new), model.predict_all(X_new))
    assert np.array_equal(
        loaded.predict(X_new, return_std=True)[1], model.predict(X_new, return_std=True)[1], equal_nan=True
    )
    assert loaded_card == card
    assert list(loaded_card.others.items()) == list(others.items())
    assert loaded_card.fingerprint == model_fingerprint(model)
    with pytest.raises(ModelError, match='the card names 1 targets, the model was trained on 3'):
        save_model(model, tmp_path / 'other', CARD | {'kind': kind})


@pytest.mark.parametrize('name', ['model.json', 'history.json'])
@pytest.mark.parametrize(
    'content', ['[' * 100_000, '{"a":' * 500 + '1' + '}' * 500, '[NaN]', '{"loss": [NaN]}', '[1]', '{"loss": ["x"]}']
)
def test_json_that_is_nested_without_end_or_not_finite_is_refused(saved, name, content):
    (saved / name).write_text(content)
    with pytest.raises(ModelError, match=name):
        load_model(saved)


@pytest.mark.parametrize('value', ['NaN', '1e999', '-Infinity'])
def test_a_card_has_finite_numbers(saved, value):
    card = json.loads((saved / 'model.json').read_text())
    text = (saved / 'model.json').read_text().replace(repr(card['domain_limit']), value)
    (saved / 'model.json').write_text(text)
    with pytest.raises(ModelError, match=r'model\.json is not readable: .* is no finite number'):
        load_model(saved)


def test_the_limit_of_the_domain_is_that_of_the_card(saved):
    card = json.loads((saved / 'model.json').read_text())
    (saved / 'model.json').write_text(json.dumps(card | {'domain_limit': card['domain_limit'] * 10}))
    with pytest.raises(ModelError, match=r'has the limit .*, the card says'):
        load_domain(saved)


def test_the_names_of_the_features_are_as_many_as_the_card_counts(saved):
    card = json.loads((saved / 'model.json').read_text())
    (saved / 'model.json').write_text(json.dumps(card | {'feature_names': ['one']}))
    with pytest.raises(ModelError, match='names 1 features and counts 3'):
        load_model(saved)


@pytest.fixture(scope='module')
def ridge(tmp_path_factory):
    folder = tmp_path_factory.mktemp('ridge') / 'model'
    save_model(trained('ridge'), folder, CARD | {'kind': 'ridge'}, TrainingDomain().fit(rows()[0]))
    return folder, (folder / 'model.json').read_bytes()


@fuzzed()
def test_no_mutation_of_a_card_is_a_traceback(ridge, seed):
    for content in mutations(ridge[1], seed):
        try:
            card = parse_card(content, 'model.json', ModelCard)
        except ModelError:
            continue
        assert card.domain_limit is None or np.isfinite(card.domain_limit)


@fuzzed(2)
def test_no_mutated_model_is_a_traceback_or_predicts_something_else(ridge, seed):
    folder, whole = ridge
    right = load_model(folder)[0].predict(rows()[0])
    for content in mutations(whole, seed, 10):
        (folder / 'model.json').write_bytes(content)
        try:
            model, _ = load_model(folder)
            assert np.array_equal(model.predict(rows()[0]), right)
        except ModelError:
            continue
    (folder / 'model.json').write_bytes(whole)


def test_an_export_that_would_lose_a_feature_is_refused(tmp_path):
    X, y = rows()
    X[:, 1] = 1e6 + 0.01 * X[:, 1]
    model = make_model('fast', **SMALL['fast']).fit(X, y)
    save_model(model, tmp_path / 'model', CARD)
    with pytest.raises(ModelError, match=r"feature 'B\|NNN' is 1e\+06 ± 0.00\d+ in the training rows: a Keras file"):
        export_model(tmp_path / 'model', tmp_path / 'exported.keras')
    assert not (tmp_path / 'exported.keras').exists()
