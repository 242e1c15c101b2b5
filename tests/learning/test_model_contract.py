"""One contract for all kinds of models, of this package and of another one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone

from aiida_nanoml.errors import DatasetError, ModelError
from aiida_nanoml.learning.model_files import load_model, model_fingerprint, save_model
from aiida_nanoml.learning.registry import MODELS, hyperparameters, make_model

THIRD_PARTY_KINDS = ('neighbours', 'constant')


pytestmark = pytest.mark.usefixtures('third_party_path')

KINDS = [*MODELS.names(), *THIRD_PARTY_KINDS]


def small(kind: str) -> dict[str, Any]:
    """Return hyperparameters with which a model of any kind is trained at once."""
    quick = {'hidden_layers': (8, 8), 'epochs': 2, 'early_stopping': False, 'n_trees': 5}
    quick |= {'members': min(2, hyperparameters(kind).get('members', 1))}
    return {name: value for name, value in quick.items() if name in hyperparameters(kind)}


def rows(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    X = np.random.Generator(np.random.PCG64(seed)).uniform(size=(60, 3))
    return X, 1.0 + X[:, 0] * X[:, 1]


@pytest.mark.parametrize('kind', KINDS)
def test_contract(kind: str, tmp_path: Path) -> None:
    """Train, predict, save, load: the same interface, and the same numbers afterwards."""
    X, y = rows()
    X_new, _ = rows(1)
    model = make_model(kind, **small(kind))
    assert MODELS.load(kind).description
    with pytest.raises(ModelError, match='not trained'):
        model.predict(X)
    with pytest.raises(ModelError, match='not trained'):
        model_fingerprint(model)
    with pytest.raises(DatasetError, match='not finite'):
        model.fit(np.where(X > 0.9, np.nan, X), y)
    assert model.fit(X, y) is model
    assert (model.n_features_in_, model.n_targets_) == (3, 1)
    assert all(len(losses) == model.best_epoch_ for losses in model.history_.values())
    values, std = model.predict(X_new, return_std=True)
    assert values.shape == std.shape == (60,)
    assert np.array_equal(values, model.predict(X_new))
    assert np.array_equal(values[:, None], model.predict_all(X_new))
    with pytest.raises(ModelError, match=r'X has 2 features, but .* is expecting 3 features'):
        model.predict(X_new[:, :2])
    assert isinstance(model.loss_label('eV'), str)

    names = ['a', 'b', 'c']
    card = save_model(model, tmp_path / 'model', {'kind': kind, 'feature_names': names, 'labels': {'engine': 'xtb'}})
    assert {path.suffix for path in (tmp_path / 'model').iterdir()} <= {'.json', '.keras', '.skops', '.npz'}
    loaded, loaded_card = load_model(tmp_path / 'model')
    assert type(loaded) is type(model)
    assert np.array_equal(loaded.predict(X_new), values)
    assert np.array_equal(loaded.predict(X_new, return_std=True)[1], std, equal_nan=True)
    assert loaded.get_params() == model.get_params()
    assert (loaded.history_, loaded.best_epoch_) == (model.history_, model.best_epoch_)
    assert loaded_card == card
    assert (card.kind, card.n_features, card.unit, card.target, card.feature_names) == (kind, 3, 'eV', 'gap', names)
    assert card.parameters == json.loads(json.dumps(model.get_params()))
    assert card.fingerprint == model_fingerprint(model) == model_fingerprint(tmp_path / 'model')
    assert set(model.libraries) < set(card.versions)
    for path in (tmp_path / 'model').iterdir():
        path.write_bytes(b'no model')
        with pytest.raises(ModelError, match=path.name):
            load_model(tmp_path / 'model')
        break


@pytest.mark.parametrize('kind', KINDS)
def test_hyperparameters_are_checked(kind: str) -> None:
    known = hyperparameters(kind)
    model = make_model(kind)
    assert model.get_params() == make_model(kind, **known).get_params() == clone(model).get_params() == known
    with pytest.raises(ModelError, match=f"unknown hyperparameter 'colour' of {type(model).__name__}; valid: "):
        make_model(kind, colour='blue')
    for name in known:
        with pytest.raises(ModelError, match=name):
            make_model(kind, **{name: object()})
        with pytest.raises(ModelError, match=name):
            make_model(kind).set_params(**{name: object()}).fit(*rows())


@pytest.mark.parametrize('kind', KINDS)
def test_several_targets_are_learnt_or_refused(kind: str) -> None:
    assert MODELS.load(kind).several_targets is (
        kind in {'alloy', 'linear', 'ridge', 'tree', 'forest', 'few_rows', *THIRD_PARTY_KINDS}
    )
    if 'epochs' in hyperparameters(kind):
        return  # tests of the network train with several targets
    X, y = rows()
    model, Y = make_model(kind, **small(kind)), np.column_stack([y, -40.0 * y])
    if not MODELS.load(kind).several_targets:
        with pytest.raises(ModelError, match='2'):
            model.fit(X, Y)
        return
    assert model.fit(X, Y).predict_all(X).shape == (60, 2)
    assert np.array_equal(model.predict(X), model.predict_all(X)[:, 0])


def test_names_are_read_without_importing_what_makes_models() -> None:
    """Help of the command line lists them."""
    program = """
import sys
from aiida_nanoml.learning.registry import MODELS
print(*MODELS.names())
print(*({'sklearn', 'scipy', 'tensorflow', 'keras', 'third_party_models'} & set(sys.modules)))
"""
    found = subprocess.run([sys.executable, '-c', program], check=True, capture_output=True, text=True)
    names, heavy = found.stdout.split('\n')[:2]
    assert set(THIRD_PARTY_KINDS) | {'fast', 'ridge'} <= set(names.split())
    assert heavy == ''


def test_what_is_no_kind_of_model_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = tmp_path / 'odd_models-1.0.dist-info'
    info.mkdir()
    (info / 'METADATA').write_text('Metadata-Version: 2.1\nName: odd-models\nVersion: 1.0\n')
    (info / 'entry_points.txt').write_text('[aiida_nanoml.models]\nodd = odd_models:ODD\nbare = odd_models:Bare\n')
    (tmp_path / 'odd_models.py').write_text(
        'from aiida_nanoml.learning.registry import ModelKind\nclass Bare: pass\nODD = ModelKind(Bare, "no model")\n'
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ModelError, match=r"'odd'.*has a class that is not a subclass of .*Model"):
        MODELS.load('odd')
    with pytest.raises(ModelError, match=r"'bare'.*is not an .*ModelKind"):
        MODELS.load('bare')


@pytest.mark.parametrize('kind', ['tree', 'forest', 'ridge', 'svm'])
def test_a_small_spread_of_a_large_feature_is_learnt(kind, tmp_path):
    random = np.random.Generator(np.random.PCG64(5))
    plain = random.normal(size=(120, 3))
    y = 1.0 + np.tanh(plain[:, 1])
    shifted = plain.copy()
    shifted[:, 1] = 1e6 + 0.01 * plain[:, 1]
    answers = [make_model(kind).fit(X[:90], y[:90]).predict(X[90:]) for X in (plain, shifted)]
    model = make_model(kind).fit(shifted[:90], y[:90])
    residual = [((answer - y[90:]) ** 2).sum() / ((y[90:] - y[90:].mean()) ** 2).sum() for answer in answers]
    assert residual[1] == pytest.approx(residual[0], abs=0.02)
    assert residual[1] < 0.2
    save_model(model, tmp_path, {'kind': kind})
    loaded = load_model(tmp_path)[0]
    both = (one.predict(shifted, return_std=True) for one in (loaded, model))
    for ours, theirs in zip(*both, strict=True):
        np.testing.assert_array_equal(ours, theirs)
