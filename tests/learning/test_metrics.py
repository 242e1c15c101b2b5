import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error

from aiida_nanoml.errors import DatasetError
from aiida_nanoml.learning.metrics import mae_standard_error, regression_metrics

gaps = st.floats(min_value=0, max_value=5)


def test_known_answers():
    metrics = regression_metrics([1.0, 2.0, 3.0], [1.0, 2.0, 6.0])
    assert metrics == {'r2': 1 - 9 / 2, 'mae': 1.0, 'rmse': pytest.approx(3**0.5), 'n': 3}


@settings(deadline=None)
@given(arrays(float, (7, 2), elements=gaps))
def test_agrees_with_scikit_learn(pair):
    y, y_pred = pair.T
    metrics = regression_metrics(y, y_pred)
    assert metrics['mae'] == pytest.approx(mean_absolute_error(y, y_pred))
    assert metrics['rmse'] == pytest.approx(root_mean_squared_error(y, y_pred))
    if metrics['r2'] is None:
        assert np.ptp(y) < 1e-100
    else:
        assert metrics['r2'] == pytest.approx(r2_score(y, y_pred), rel=1e-6)


@pytest.mark.parametrize('y', [[0.5], [0.1, 0.1, 0.1]])
def test_r2_is_not_defined_without_spread(y):
    metrics = regression_metrics(y, [0.0] * len(y))
    assert metrics['r2'] is None
    assert metrics['mae'] == pytest.approx(y[0])


@pytest.mark.parametrize(
    ('y', 'y_pred', 'message'),
    [
        ([], [], 'at least one row'),
        ([1.0, 2.0], [1.0], '1 rows'),
        ([1.0, np.nan], [1.0, 2.0], 'not finite, the first at row 1'),
        ([[1.0]], [[1.0]], 'shape'),
        (['a'], [1.0], 'real numbers'),
    ],
)
def test_unusable_input_is_refused(y, y_pred, message):
    with pytest.raises(DatasetError, match=message):
        regression_metrics(y, y_pred)


def test_standard_error_of_the_mean_absolute_error():
    errors = np.array([0.1, 0.2, 0.6, 0.3])
    metrics = regression_metrics(np.zeros(4) + np.arange(4), np.arange(4) + errors)
    assert mae_standard_error(metrics) == pytest.approx(errors.std(ddof=1) / 2)
    assert mae_standard_error(metrics | {'n': 1}) is None
    assert mae_standard_error({}) is None
