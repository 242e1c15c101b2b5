"""Trained networks without TensorFlow: the same numbers as Keras, from the same files."""

from __future__ import annotations

import io
import itertools
import json
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from aiida_nanoml.errors import ModelError
from aiida_nanoml.learning.dense_layers import ACTIVATIONS, DenseLayers
from aiida_nanoml.learning.former_names import LATER_DEFAULTS
from aiida_nanoml.learning.keras_backend import import_keras
from aiida_nanoml.learning.keras_files import KerasNetwork, core_weights, read_network, write_network
from aiida_nanoml.learning.model_files import load_domain, load_model, model_fingerprint, save_model
from aiida_nanoml.learning.registry import make_model

OLD_MODELS = Path(__file__).parent / 'models_of_0_1'
OLD_KINDS = ('fast', 'transfer', 'correction', 'paper', 'alloy', 'svm', 'tree')

SHORT = {'epochs': 2, 'early_stopping': False}


def rows(n: int = 50, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Five features, one of them constant and far from zero, and three targets of different size."""
    random = np.random.Generator(np.random.PCG64(seed))
    X = random.uniform(0, 4, size=(n, 5))
    X[:, 3] = 200.0
    return X, np.column_stack([1.5 + X[:, 0] * X[:, 1], -40.0 * X[:, 2], 1e-3 * X[:, 1]])


def assert_same_as_keras(path: Path, ensemble: bool) -> None:
    """Compare what NumPy makes of a file with what Keras does, on rows that no training saw."""
    plain = import_keras().saving.load_model(path, compile=False, safe_mode=True)
    X, _ = rows(200, seed=1)
    network = read_network(path, ensemble)
    assert isinstance(network, DenseLayers)
    by_keras = np.asarray(plain(X.astype(np.float32)), dtype=np.float64)
    largest = np.abs(by_keras).max(axis=0)
    assert (np.abs(network.predict_members(X).mean(axis=1) - by_keras) <= 1e-6 * largest).all()


@pytest.mark.parametrize('kind', ['fast', 'paper', 'transfer', 'correction', 'alloy'])
def test_every_preset_predicts_what_keras_predicts(kind: str, tmp_path: Path) -> None:
    """With the layers and members of the preset, in the state before a training."""
    X, Y = rows()
    model = make_model(kind)
    kernels, biases = core_weights(model._build_core(5, 3 if kind == 'alloy' else 1))
    n_targets = kernels[-1].shape[2]
    network = DenseLayers(
        kernels,
        biases,
        activation=model.activation,
        output=model.output,
        scales=Y[:, :n_targets].std(axis=0).tolist(),
        offsets=Y[:, :n_targets].mean(axis=0).tolist(),
        mean=X.mean(axis=0).tolist() if model.standardize else None,
        variance=np.maximum(X.var(axis=0), 0.5).tolist() if model.standardize else None,
    )
    write_network(network, tmp_path / 'network.keras')
    assert_same_as_keras(tmp_path / 'network.keras', ensemble=model.members > 1)


@pytest.mark.parametrize('activation', sorted(set(ACTIVATIONS) - {'linear', 'softplus'}))
@pytest.mark.parametrize(('members', 'output'), [(1, 'softplus'), (3, 'linear')])
def test_every_activation(activation: str, members: int, output: str, tmp_path: Path) -> None:
    random = np.random.Generator(np.random.PCG64(4))
    shapes = itertools.pairwise((5, 12, 7, 2))
    kernels = tuple(random.normal(0, 0.5, (members, *shape)).astype(np.float32) for shape in shapes)
    biases = tuple(random.normal(0, 0.5, (members, kernel.shape[2])).astype(np.float32) for kernel in kernels)
    network = DenseLayers(kernels, biases, activation, output, scales=[0.5, 30.0], offsets=[0.0, -7.0])
    write_network(network, tmp_path / 'network.keras')
    assert_same_as_keras(tmp_path / 'network.keras', ensemble=members > 1)


def test_a_correction_to_a_baseline_and_its_members(tmp_path: Path) -> None:
    """The spread is that of the members as Keras knows them."""
    X, Y = rows()
    model = make_model('correction', members=4, hidden_layers=(8, 8), **SHORT).fit(X, Y[:, 0] - X[:, 0])
    write_network(model.network_, tmp_path / 'network.keras')
    keras = import_keras()
    plain = keras.saving.load_model(tmp_path / 'network.keras', compile=False, safe_mode=True)
    members = np.asarray(keras.Model(plain.input, plain.layers[-2].output)(X.astype(np.float32)))[..., 0]
    mean, spread = model.predict(X, return_std=True)
    np.testing.assert_allclose(mean, members.mean(axis=1), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(spread, members.astype(float).std(axis=1, ddof=1), rtol=1e-5, atol=1e-6)


def test_many_rows_are_predicted_as_few_are() -> None:
    random = np.random.Generator(np.random.PCG64(2))
    kernels = random.normal(size=(2, 3, 4)).astype(np.float32), random.normal(size=(2, 4, 1)).astype(np.float32)
    biases = random.normal(size=(2, 4)).astype(np.float32), random.normal(size=(2, 1)).astype(np.float32)
    network = DenseLayers(kernels, biases, 'tanh', 'linear', [2.0], [1.0])
    X = random.normal(size=(40_000, 3))
    expected = [network.predict_members(X[first : first + 1000]) for first in range(0, 40_000, 1000)]
    np.testing.assert_allclose(network.predict_members(X), np.concatenate(expected), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize('kind', OLD_KINDS)
def test_models_of_the_first_version_predict_the_same(kind: str, tmp_path: Path) -> None:
    expected = np.load(OLD_MODELS / 'expected.npz', allow_pickle=False)
    model, card = load_model(OLD_MODELS / kind)
    X = expected['X']
    np.testing.assert_allclose(model.predict_all(X), expected[kind], rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(
        model.predict(X, return_std=True)[1], expected[f'{kind}_std'], rtol=1e-4, atol=1e-6, equal_nan=True
    )
    assert load_domain(OLD_MODELS / kind).distance(X).shape == (7,)
    again = save_model(model, tmp_path, card.model_dump(include={'kind', 'target', 'unit', 'others'}))
    assert again.fingerprint == card.fingerprint == model_fingerprint(tmp_path)
    later = LATER_DEFAULTS.get(type(model).__name__, {})
    assert card.parameters | later == again.parameters == json.loads(json.dumps(model.get_params()))


def test_loading_and_predicting_import_no_tensorflow() -> None:
    program = f"""
import sys
import numpy as np
from pathlib import Path
from aiida_nanoml.learning.model_files import load_domain, load_model, model_fingerprint
for kind in {OLD_KINDS!r}:
    folder = Path({str(OLD_MODELS)!r}) / kind
    load_model(folder)[0].predict(np.ones((2, 3)), return_std=True)
    load_domain(folder)
    model_fingerprint(folder)
print(*({{'tensorflow', 'keras'}} & set(sys.modules)))
"""
    found = subprocess.run([sys.executable, '-c', program], check=True, capture_output=True, text=True)
    assert found.stdout.split() == []


def with_changes(path: Path, change: Callable[[dict], None]) -> None:
    """Change the configuration in an archive."""
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(files['config.json'])
    change(config)
    files['config.json'] = json.dumps(config).encode()
    with zipfile.ZipFile(path, 'w') as archive:
        for name, content in files.items():
            archive.writestr(name, content)


def layer_settings(config: dict, name: str) -> dict:
    return next(layer['config'] for layer in config['config']['layers'] if layer['name'] == name)


def test_other_networks_are_computed_by_keras(tmp_path: Path) -> None:
    """Two branches: no sequence of layers, but all its classes are harmless."""
    keras = import_keras()
    inputs = keras.Input((5,), name='features')
    hidden = keras.layers.Dense(4, activation='relu', name='hidden_1')(inputs)
    model = keras.Model(inputs, keras.layers.Rescaling(2.0, name='targets')(keras.layers.Dense(1)(hidden)))
    model.save(tmp_path / 'network.keras')
    network = read_network(tmp_path / 'network.keras', ensemble=False)
    assert isinstance(network, KerasNetwork)
    assert (network.n_features, network.n_targets) == (5, 1)
    X, _ = rows(9)
    np.testing.assert_allclose(network.predict_members(X)[:, 0], np.asarray(model(X.astype(np.float32))), rtol=1e-6)
    assert network.state()['targets']['scale'] == 2.0
    write_network(network, tmp_path / 'again.keras')
    assert isinstance(read_network(tmp_path / 'again.keras', ensemble=False), KerasNetwork)


@pytest.mark.parametrize(
    ('layer', 'setting', 'value'),
    [
        ('hidden_2', 'activation', 'sigmoid'),
        ('hidden_2', 'activation', 'tanh'),
        ('standardize', 'invert', True),
        ('members', 'scale', 0.5),
    ],
)
def test_other_settings_are_left_to_keras(layer: str, setting: str, value: object, tmp_path: Path) -> None:
    """NumPy must not read a network that it would compute otherwise."""
    shutil.copy(OLD_MODELS / 'fast' / 'network.keras', tmp_path)
    path = tmp_path / 'network.keras'
    assert isinstance(read_network(path, ensemble=True), DenseLayers)
    with_changes(path, lambda config: layer_settings(config, layer).update({setting: value}))
    assert isinstance(read_network(path, ensemble=True), KerasNetwork)


def with_weights(path: Path, change: Callable[[h5py.File], None]) -> None:
    """Change the weights in an archive."""
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    content = io.BytesIO(files['model.weights.h5'])
    with h5py.File(content, 'r+') as file:
        change(file)
    files['model.weights.h5'] = content.getvalue()
    with zipfile.ZipFile(path, 'w') as archive:
        for name, data in files.items():
            archive.writestr(name, data)


def test_weights_in_another_file_are_refused(tmp_path: Path) -> None:
    """A model from a stranger must not read files of the one who loads it."""
    secret = tmp_path / 'secret.h5'
    with h5py.File(secret, 'w') as file:
        file['weights'] = np.ones((3, 6, 5), dtype=np.float32)

    def external(file: h5py.File) -> None:
        variables = file['layers/einsum_dense_1/vars']
        del variables['0']
        variables.create_dataset('0', (3, 6, 5), np.float32, external=[(str(secret), 0, 4 * 90)])

    def link(file: h5py.File) -> None:
        variables = file['layers/einsum_dense_1/vars']
        del variables['0']
        variables['0'] = h5py.ExternalLink(str(secret), 'weights')

    for number, change in enumerate((external, link)):
        path = tmp_path / f'network_{number}.keras'
        shutil.copy(OLD_MODELS / 'fast' / 'network.keras', path)
        with_weights(path, change)
        with pytest.raises(ModelError, match=r'not a readable network: .*(another file|is a link)'):
            read_network(path, ensemble=True)
