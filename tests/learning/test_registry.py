import numpy as np
import pytest

from aiida_nanoml.errors import DatasetError, ModelError
from aiida_nanoml.learning.dense_network import DenseNetwork
from aiida_nanoml.learning.estimators import TargetRegressor
from aiida_nanoml.learning.metrics import regression_metrics
from aiida_nanoml.learning.registry import MODELS, hyperparameters, make_model

ESTIMATORS = [kind for kind in MODELS.names() if issubclass(MODELS.load(kind).model, TargetRegressor)]


@pytest.fixture(scope='module')
def rows():
    random = np.random.Generator(np.random.PCG64(3))
    X = random.uniform(0, 0.3, size=(300, 5))
    y = 1.0 + 2.0 * X[:, 0] - 3.0 * X[:, 1] + random.normal(0, 0.02, size=300)
    return X[:200], y[:200], X[200:], y[200:]


def test_paper_preset_is_the_reference_of_the_source():
    model = make_model('paper')
    assert isinstance(model, DenseNetwork)
    core = model._build_core(26)
    dense = [layer for layer in core.layers if layer.get_weights()]
    assert [layer.units for layer in dense] == [600, 550, 500, 450, 400, 350, 300, 250, 200, 150, 100, 75, 50, 25, 1]
    assert {layer.activation.__name__ for layer in dense[:-1]} == {'relu'}
    assert dense[-1].activation.__name__ == 'linear'
    assert (model.learning_rate, model.batch_size, model.epochs) == (1e-5, 100, 2100)
    assert (model.loss, model.initializer, model.schedule, model.weight_decay) == (
        'mse',
        'random_uniform',
        'constant',
        0,
    )
    assert (model.target_scale, model.standardize, model.early_stopping) == (4.0, False, False)


def test_transfer_preset_has_the_layers_of_the_source():
    assert make_model('transfer').hidden_layers == (300, 50, 25)


@pytest.mark.parametrize('kind', MODELS.names())
def test_every_kind_lists_the_hyperparameters_that_it_takes(kind):
    defaults = hyperparameters(kind)
    assert make_model(kind, **defaults).get_params() == make_model(kind).get_params() == defaults


def test_lists_from_json_become_tuples():
    assert make_model('fast', hidden_layers=[8, 4]).hidden_layers == (8, 4)


@pytest.mark.parametrize(
    ('kind', 'given', 'message'),
    [
        ('resnet', {}, "there is no kind of model 'resnet'; registered: alloy, correction, fast"),
        ('ridge', {'beta': 1.0}, "unknown hyperparameter 'beta' of RidgeEstimator; valid: alpha"),
        ('linear', {'alpha': 1.0}, "unknown hyperparameter 'alpha' of LinearEstimator; valid: none"),
        ('fast', {'epochs': '10'}, "epochs='10'"),
        ('fast', {'epochs': True}, 'epochs=True'),
        ('fast', {'hidden_layers': [8.0]}, 'hidden_layers'),
        ('fast', {'early_stopping': 1}, 'early_stopping=1'),
        ('fast', {'learning_rate': float('nan')}, 'learning_rate=nan'),
        ('fast', {'seed': -1}, 'seed=-1'),
        ('ridge', {'alpha': -1.0}, 'alpha=-1.0'),
        ('forest', {'feature_share': 1.5}, 'feature_share=1.5'),
        ('svm', {'kernel_width': 'auto'}, "kernel_width='auto'"),
    ],
)
def test_wrong_requests_say_what_is_valid(kind, given, message):
    with pytest.raises(ModelError, match=message):
        make_model(kind, **given)


@pytest.mark.parametrize('kind', ESTIMATORS)
def test_estimators_learn_behind_the_interface_of_the_network(kind, rows):
    X, y, X_test, y_test = rows
    model = make_model(kind)
    assert isinstance(model, TargetRegressor)
    assert model.fit(X, y, validation_data=(X_test, y_test), progress=None) is model
    assert regression_metrics(y_test, model.predict(X_test))['r2'] > 0.8
    assert model.history_ == {}
    assert np.array_equal(make_model(kind).fit(X, y).predict(X_test), model.predict(X_test))


def test_linear_estimator_finds_the_coefficients(rows):
    X, _, X_test, _ = rows
    model = make_model('linear').fit(X, 1.0 + X @ np.arange(5.0))
    assert model.predict(X_test) == pytest.approx(1.0 + X_test @ np.arange(5.0))


@pytest.mark.parametrize('kind', ESTIMATORS)
def test_estimators_refuse_what_the_network_refuses(kind, rows):
    X, y, X_test, _ = rows
    model = make_model(kind)
    with pytest.raises(ModelError, match='not trained'):
        model.predict(X)
    with pytest.raises(DatasetError, match='not finite'):
        model.fit(np.where(X > 0.29, np.nan, X), y)
    with pytest.raises(ModelError, match=r'X has 4 features, but .* is expecting 5 features'):
        model.fit(X, y).predict(X_test[:, :4])


SEVERAL = [kind for kind in ESTIMATORS if kind != 'svm']


@pytest.mark.parametrize('kind', SEVERAL)
def test_estimators_learn_several_targets_whatever_their_units(kind, rows):
    X, y, X_test, y_test = rows
    other, other_test = (-5000.0 * (features[:, 2] + features[:, 3]) for features in (X, X_test))
    model = make_model(kind).fit(X, np.column_stack([y, other]))
    found = model.predict_all(X_test)
    assert found.shape == (100, 2)
    for known, predicted in zip((y_test, other_test), found.T, strict=True):
        assert regression_metrics(known, predicted)['r2'] > 0.6
    assert np.array_equal(model.predict(X_test), found[:, 0])
    in_other_units = make_model(kind).fit(X, np.column_stack([y, other / 5000])).predict_all(X_test)
    assert in_other_units * [1, 5000] == pytest.approx(found)


@pytest.mark.parametrize('kind', ['linear', 'ridge'])
def test_a_linear_model_learns_each_target_as_if_it_were_alone(kind, rows):
    X, y, X_test, _ = rows
    both = make_model(kind).fit(X, np.column_stack([y, X[:, 2] ** 2]))
    assert both.predict(X_test) == pytest.approx(make_model(kind).fit(X, y).predict(X_test))


def test_spread_of_a_forest_is_that_of_its_main_target(rows):
    X, y, X_test, _ = rows
    spread = make_model('forest', n_trees=50).fit(X, np.column_stack([y, y])).predict(X_test, return_std=True)[1]
    alone = make_model('forest', n_trees=50).fit(X, y).predict(X_test, return_std=True)[1]
    assert spread == pytest.approx(alone, rel=0.05)


def test_support_vectors_refuse_several_targets(rows):
    X, y, _, _ = rows
    with pytest.raises(ModelError, match='SvmEstimator learns one target, the data set has 2'):
        make_model('svm').fit(X, np.column_stack([y, y]))


@pytest.mark.parametrize(
    ('kind', 'former', 'current', 'value'),
    [('fast', 'target_scale_ev', 'target_scale', None), ('svm', 'tube_ev', 'tube_width', 0.3)],
)
def test_former_names_of_hyperparameters_are_understood(kind, former, current, value):
    """They stand in stored inputs and models."""
    assert make_model(kind, **{former: value}).get_params() == make_model(kind, **{current: value}).get_params()
    assert former not in hyperparameters(kind)
    with pytest.raises(ModelError, match=f'{former} is the former name of {current}: give one of them'):
        make_model(kind, **{former: value, current: value})
    with pytest.raises(ModelError, match="unknown hyperparameter 'target_scale' of RidgeEstimator"):
        make_model('ridge', target_scale_ev=1.0)
