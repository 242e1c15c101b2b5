from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import cross_val_score

from aiida_nanoml.errors import DatasetError, ModelError
from aiida_nanoml.learning.dense_network import DenseNetwork
from aiida_nanoml.learning.keras_backend import import_keras
from aiida_nanoml.learning.metrics import regression_metrics


@pytest.fixture(scope='module')
def rows():
    """A smooth function of three of six features, with one constant feature, in eV."""
    random = np.random.Generator(np.random.PCG64(5))
    X = random.uniform(0, 0.3, size=(260, 6))
    X[:, 4] = 0.1
    y = 1.2 - 3.0 * X[:, 0] + 8.0 * X[:, 1] * X[:, 2] + 4.0 * X[:, 1] ** 2
    return X[:200], y[:200], X[200:], y[200:]


def quick(**changes):
    return DenseNetwork(
        **(
            {
                'hidden_layers': (16, 16),
                'epochs': 60,
                'members': 2,
                'batch_size': 32,
                'loss': 'mse',
                'early_stopping': False,
            }
            | changes
        )
    )


@pytest.mark.parametrize('members', [1, 3])
def test_learns_a_smooth_function(rows, members):
    X, y, X_test, y_test = rows
    model = quick(members=members, epochs=150).fit(X, y)
    assert regression_metrics(y_test, model.predict(X_test))['r2'] > 0.98
    assert model.history_['loss'][-1] < 0.02 * model.history_['loss'][0]
    assert model.n_features_in_ == 6


def test_validation_loss_is_the_loss_of_the_prediction(rows):
    X, y, X_test, y_test = rows
    model = quick(members=1).fit(X, y, validation_data=(X_test, y_test))
    rmse = regression_metrics(y_test, model.predict(X_test))['rmse']
    assert model.history_['val_loss'][-1] == pytest.approx((rmse / 0.5) ** 2, rel=1e-3)
    assert model.best_epoch_ == len(model.history_['loss']) == len(model.history_['val_loss']) == 60


def test_same_seed_same_weights_other_seed_other_weights(rows):
    X, y, X_test, _ = rows
    first, again, other = (quick(epochs=5, seed=seed).fit(X, y).predict(X_test) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.allclose(first, other)


def test_trainings_in_threads_do_not_mix(rows):
    """Networks of one layout share what was compiled, one after the other."""
    X, y, X_test, _ = rows
    models = [quick(epochs=40, seed=seed) for seed in (1, 2)]
    alone = [clone(model).fit(X, y).predict(X_test) for model in models]
    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(lambda model: model.fit(X, y).predict(X_test), models))
    np.testing.assert_array_equal(together, alone)


def test_agrees_with_keras_fit_step_by_step(rows):
    """Full batches leave no order of rows: Keras' own training of the same network must give the same losses."""
    X, y, _, _ = rows
    model = quick(members=1, epochs=6, batch_size=200, schedule='constant', weight_decay=0.0, standardize=False)
    model.fit(X, y)
    keras = import_keras()
    peer = quick(members=1)._build_core(6)
    peer.compile(keras.optimizers.Adam(model.learning_rate), 'mse')
    losses = peer.fit(X, y / 0.5, batch_size=200, epochs=6, verbose=0).history['loss']
    assert model.history_['loss'] == pytest.approx(losses, rel=1e-4)


def test_last_small_batch_counts_by_its_rows(rows):
    """One step with all rows of a set whose size the batch does not divide: padding rows must not be learnt from."""
    X, y, _, _ = rows
    options = {'members': 1, 'epochs': 1, 'schedule': 'constant', 'learning_rate': 1e-9}
    ragged = quick(batch_size=64, **options).fit(X, y).history_['loss']
    whole = quick(batch_size=1000, **options).fit(X, y).history_['loss']
    assert ragged == pytest.approx(whole, rel=1e-4)


def test_a_member_does_not_depend_on_how_many_there_are():
    network = quick(members=3)._build_core(6)
    single = quick(members=1)._build_core(6)
    assert np.array_equal(
        network.get_layer('hidden_1').get_weights()[0][0], single.get_layer('hidden_1').get_weights()[0]
    )


def test_uniform_start_covers_kernels_and_biases():
    layer = DenseNetwork(hidden_layers=(400,), initializer='random_uniform', members=1)._build_core(26).layers[1]
    for weights in layer.get_weights():
        assert 0.04 < np.abs(weights).max() <= 0.05
        assert abs(weights.mean()) < 0.005


def test_early_stopping_keeps_the_best_epoch(rows):
    X, y, X_val, y_val = rows
    noise = np.random.Generator(np.random.PCG64(0)).normal(0, 0.2, size=len(y))
    options = {'members': 1, 'hidden_layers': (64, 64), 'epochs': 400, 'schedule': 'constant', 'weight_decay': 0.0}
    model = quick(early_stopping=True, patience=15, **options).fit(X, y + noise, validation_data=(X_val, y_val))
    losses = model.history_['val_loss']
    assert len(losses) == model.best_epoch_ + 15 < 400
    assert losses[model.best_epoch_ - 1] == min(losses)
    rmse = regression_metrics(y_val, model.predict(X_val))['rmse']
    assert (rmse / 0.5) ** 2 == pytest.approx(min(losses), rel=1e-3)


def test_early_stopping_watches_a_fraction_of_the_rows_if_it_is_given_none(rows):
    X, y, X_test, _ = rows
    options = {'early_stopping': True, 'epochs': 3, 'members': 1, 'validation_fraction': 0.25}
    first, again, other = (quick(seed=seed, **options).fit(X, y) for seed in (1, 1, 2))
    assert len(first.history_['val_loss']) == 3
    assert first.history_ == again.history_
    assert np.array_equal(first.predict(X_test), again.predict(X_test))
    (learnt, y_learnt), (watched, y_watched) = first._divide(X, y[:, None])
    assert (len(learnt), len(watched)) == (150, 50)
    assert np.array_equal(np.unique(np.concatenate([learnt, watched]), axis=0), np.unique(X, axis=0))
    assert not np.array_equal(watched, other._divide(X, y[:, None])[1][0])
    given = quick(seed=1, **options).fit(learnt, y_learnt[:, 0], (watched, y_watched[:, 0]))
    assert given.history_ == first.history_
    with pytest.raises(DatasetError, match='there is 1 sample: pass validation_data'):
        quick(**options).fit(X[:1], y[:1])


def test_progress_is_told_every_epoch(rows):
    X, y, X_val, y_val = rows
    seen = []
    model = quick(epochs=4).fit(X, y, (X_val, y_val), progress=lambda *told: seen.append(told))
    assert [(epoch, epochs) for epoch, epochs, _ in seen] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert [losses['val_loss'] for _, _, losses in seen] == model.history_['val_loss']


def test_spread_of_the_members(rows):
    X, y, X_test, _ = rows
    model = quick(members=4).fit(X, y)
    mean, spread = model.predict(X_test, return_std=True)
    assert mean == pytest.approx(model.predict(X_test), abs=1e-5)
    far = model.predict(X_test + 1.0, return_std=True)[1]
    assert far.mean() > 2 * spread.mean() > 0
    assert np.isnan(quick(members=1, epochs=1).fit(X, y).predict(X_test, return_std=True)[1]).all()


def test_units_do_not_matter_to_standardised_features(rows):
    X, y, X_test, _ = rows
    factors = np.array([1.0, 100.0, 0.01, 1.0, 1.0, 4.0])
    plain = quick(epochs=5).fit(X, y).predict(X_test)
    scaled = quick(epochs=5).fit(X * factors + 1.0, y).predict(X_test * factors + 1.0)
    assert scaled == pytest.approx(plain, abs=1e-3)


def test_prediction_does_not_depend_on_the_other_rows(rows):
    X, y, X_test, _ = rows
    model = quick(epochs=3).fit(X, y)
    alone = np.concatenate([model.predict(row[None]) for row in X_test[:5]])
    assert model.predict(X_test)[:5] == pytest.approx(alone, abs=1e-5)


def test_scikit_learn_conventions(rows):
    X, y, _, _ = rows
    model = quick(epochs=80, activation='tanh')
    assert clone(model).get_params() == model.get_params()
    assert cross_val_score(model, X, y, cv=2).min() > 0.8


@pytest.mark.parametrize(('loss', 'bound'), [('mae', 0.1), ('huber', 0.1)])
def test_other_losses(rows, loss, bound):
    X, y, X_test, y_test = rows
    model = quick(loss=loss, epochs=100, members=1).fit(X, y, (X_test, y_test))
    metrics = regression_metrics(y_test, model.predict(X_test))
    assert metrics['mae'] < bound
    if loss == 'mae':
        assert model.history_['val_loss'][-1] == pytest.approx(metrics['mae'] / 0.5, rel=1e-3)


def test_gaps_are_never_negative_unless_asked_for(rows):
    X, y, X_test, _ = rows
    targets = np.maximum(y - 1.2, 0.0)
    assert quick().fit(X, targets).predict(X_test - 0.5).min() >= 0
    assert quick(output='linear').fit(X, y - 5.0).predict(X_test).max() < 0


def test_divergence_is_reported(rows):
    with pytest.raises(ModelError, match='diverged in epoch'):
        quick(members=1, output='linear', learning_rate=1e12, schedule='constant').fit(rows[0], rows[1])


def test_features_of_another_length_are_refused(rows):
    model = quick(epochs=1).fit(rows[0], rows[1])
    with pytest.raises(ModelError, match='X has 5 features, but DenseNetwork is expecting 6 features'):
        model.predict(rows[2][:, :5])


def test_untrained_network_is_refused(rows):
    with pytest.raises(ModelError, match='not trained'):
        quick().predict(rows[0])


@pytest.mark.parametrize('bad', [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused(rows, bad):
    X, y, _, _ = rows
    X_bad, y_bad = X.copy(), y.copy()
    X_bad[7, 2], y_bad[3] = bad, bad
    with pytest.raises(DatasetError, match='X holds 1 values that are not finite, the first at row 7, column 2'):
        quick().fit(X_bad, y)
    with pytest.raises(DatasetError, match='y holds 1 values that are not finite, the first at row 3'):
        quick().fit(X, y_bad)
    with pytest.raises(DatasetError, match='validation y holds'):
        quick().fit(X, y, (X, y_bad))


@pytest.mark.parametrize(
    'changes', [{'hidden_layers': ()}, {'epochs': 0}, {'learning_rate': -1.0}, {'seed': 1.5}, {'activation': 'eval'}]
)
def test_hyperparameters_are_checked_before_training(rows, changes):
    with pytest.raises(ModelError, match=f'hyperparameter {next(iter(changes))}='):
        quick(**changes).fit(rows[0], rows[1])


def test_a_network_that_cannot_answer_below_zero_refuses_such_targets(rows):
    X, y, _, _ = rows
    with pytest.raises(ModelError, match="output='softplus' cannot answer below zero"):
        quick(output='softplus').fit(X, y - y.max())
    network = quick(output='linear', target_scale=0.1, epochs=5).fit(X, y - y.max())
    assert network.predict(X).max() < 1
    assert network.predict(X).min() < 0


@pytest.fixture(scope='module')
def three_targets(rows):
    """The smooth function, and two others of the same features in other units: one of either sign, one tiny."""
    X, y, X_test, y_test = rows

    def others(features):
        return np.column_stack([-900.0 * features[:, 0] + 40.0, 1e-4 * features[:, 1] ** 2])

    return X, np.column_stack([y, others(X)]), X_test, np.column_stack([y_test, others(X_test)])


@pytest.mark.parametrize('members', [1, 3])
def test_several_targets_are_learnt_alike_whatever_their_units(three_targets, members):
    X, Y, X_test, Y_test = three_targets
    model = quick(members=members, epochs=200, output='linear', activation='silu', target_scale=None).fit(X, Y)
    found = model.predict_all(X_test)
    assert found.shape == (60, 3)
    for column in range(3):
        assert regression_metrics(Y_test[:, column], found[:, column])['r2'] > 0.97
    mean, spread = model.predict(X_test, return_std=True)
    assert mean == pytest.approx(found[:, 0], abs=1e-5)
    assert spread.shape == (60,)
    assert np.array_equal(model.predict(X_test), found[:, 0])


def test_one_target_is_learnt_the_same_as_column_and_as_vector(rows):
    X, y, X_test, y_test = rows
    vector = quick(epochs=3).fit(X, y, (X_test, y_test))
    column = quick(epochs=3).fit(X, y[:, None], (X_test, y_test[:, None]))
    assert np.array_equal(vector.predict(X_test), column.predict(X_test))
    assert np.array_equal(vector.predict_all(X_test)[:, 0], vector.predict(X_test))
    assert vector.history_ == column.history_
    assert vector.n_targets_ == column.n_targets_ == 1


def test_without_a_scale_targets_are_divided_by_their_deviation(rows):
    X, y, X_test, _ = rows
    options = {'epochs': 3, 'output': 'linear'}
    own = quick(target_scale=None, **options).fit(X, y)
    given = quick(target_scale=float(y.std()), **options).fit(X, y)
    assert own.predict(X_test) == pytest.approx(given.predict(X_test), abs=1e-6)
    assert own.loss_label() == 'MSE of target / standard deviation'
    assert given.loss_label('GPa').startswith('MSE of target / (0.')
    assert given.loss_label('GPa').endswith(' GPa)')
    thousandfold = quick(target_scale=None, **options).fit(X, 1000 * y)
    assert thousandfold.predict(X_test) == pytest.approx(1000 * own.predict(X_test), rel=1e-3)


def test_several_targets_need_scales_of_their_own_and_the_same_in_the_validation(three_targets):
    X, Y, X_test, Y_test = three_targets
    with pytest.raises(ModelError, match=r'3 targets have no scale in common, target_scale=0\.5: set it to None'):
        quick().fit(X, Y)
    with pytest.raises(DatasetError, match='y has 3 targets, validation y has 2'):
        quick(target_scale=None, output='linear').fit(X, Y, (X_test, Y_test[:, :2]))
    with pytest.raises(ModelError, match="'alloy' for targets of either sign"):
        quick(target_scale=None).fit(X, Y)


def offset_rows(n=120, seed=5):
    """The same rows twice: plain, and with the informative column as 1,000,000 + 0.01 z."""
    random = np.random.Generator(np.random.PCG64(seed))
    plain = random.normal(size=(n, 3))
    y = 1.0 + np.tanh(plain[:, 1]) + 0.05 * plain[:, 0]
    shifted = plain.copy()
    shifted[:, 1] = 1e6 + 0.01 * plain[:, 1]
    return plain, shifted, y


@pytest.mark.parametrize('members', [1, 3])
def test_a_small_spread_of_a_large_feature_is_learnt(members):
    plain, shifted, y = offset_rows()
    settings = {'members': members, 'epochs': 60, 'hidden_layers': (16,), 'early_stopping': False, 'output': 'linear'}
    answers = [DenseNetwork(**settings).fit(X[:90], y[:90]).predict(X[90:], return_std=True) for X in (plain, shifted)]
    np.testing.assert_allclose(answers[1][0], answers[0][0], atol=2e-3)
    np.testing.assert_allclose(answers[1][1], answers[0][1], atol=2e-3)
    residual = ((answers[1][0] - y[90:]) ** 2).sum() / ((y[90:] - y[90:].mean()) ** 2).sum()
    assert residual < 0.1


def test_a_spread_below_the_rounding_of_keras_is_learnt():
    plain, _, y = offset_rows()
    settings = {'members': 1, 'epochs': 20, 'hidden_layers': (8,), 'early_stopping': False, 'output': 'linear'}
    answers = [DenseNetwork(**settings).fit(X[:90], y[:90]).predict(X[90:]) for X in (plain, plain * [1.0, 1e-12, 1.0])]
    np.testing.assert_allclose(answers[1], answers[0], atol=1e-4)


def test_raw_features_that_single_precision_loses_are_refused():
    _, shifted, y = offset_rows()
    network = DenseNetwork(standardize=False, epochs=1, early_stopping=False)
    with pytest.raises(ModelError, match=r'feature 1 is 1e\+06 ± 0.0\d+: single precision'):
        network.fit(shifted, y + 5)
    constant = np.full_like(shifted, 1e6)
    assert network.fit(constant, y + 5).predict(constant).shape == (120,)
