import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from aiida_nanoml.errors import DatasetError
from aiida_nanoml.learning.uncertainty import MIN_ROWS, Calibration, interval_metrics


def gaussian_rows(n, spread_factor=0.0, gap_factor=0.0, constant=0.0, seed=0):
    """Rows whose errors have exactly the variance that a calibration assumes."""
    random = np.random.Generator(np.random.PCG64(seed))
    values, spread = random.uniform(0, 3, n), random.uniform(0.01, 0.5, n)
    sigma = np.sqrt((spread_factor * spread) ** 2 + (gap_factor * values) ** 2 + constant**2)
    return values + sigma * random.normal(size=n), values, spread, sigma


@pytest.mark.parametrize(
    'coefficients', [(2.0, 0.0, 0.0), (0.0, 0.1, 0.0), (0.0, 0.0, 0.3), (1.5, 0.0, 0.1), (1.5, 0.1, 0.05)]
)
def test_known_errors_are_found_again(coefficients):
    y, values, spread, sigma = gaussian_rows(20000, *coefficients)
    calibration = Calibration.fit(y, values, spread)
    assert calibration.std(values, spread) == pytest.approx(sigma, rel=0.1, abs=0.01)
    assert calibration.factor_68 == pytest.approx(0.994, abs=0.03)
    assert calibration.factor_95 == pytest.approx(1.960, abs=0.05)


def test_long_tails_widen_the_outer_interval_and_not_the_inner_one():
    """Laplace errors of standard deviation 1: 68 % are below 0.806 and 95 % below 2.118."""
    random = np.random.Generator(np.random.PCG64(1))
    errors = random.laplace(scale=np.sqrt(0.5), size=40000)
    calibration = Calibration.fit(1.0 + errors, np.ones(40000), np.full(40000, np.nan))
    assert calibration.std([1.0], [np.nan]) == pytest.approx([1.0], rel=0.02)
    assert calibration.factor_68 == pytest.approx(-np.log(0.32) * np.sqrt(0.5), rel=0.03)
    assert calibration.factor_95 == pytest.approx(-np.log(0.05) * np.sqrt(0.5), rel=0.03)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32), st.integers(MIN_ROWS, 60), st.sampled_from([0.0, 1.0, np.nan]), st.floats(0.1, 10))
def test_intervals_hold_their_share_of_the_calibration_rows_in_any_unit(seed, n, spread_factor, unit):
    y, values, spread, _ = gaussian_rows(n, 1.0, 0.1, 0.1, seed)
    spread = spread_factor * spread
    calibration = Calibration.fit(y * unit, values * unit, spread * unit)
    std = calibration.std(values * unit, spread * unit)
    assert np.all(std > 0)
    columns = {'value': values * unit, 'std': std, 'outside': np.zeros(n, dtype=bool)}
    found = interval_metrics(y * unit, columns, calibration)
    # ceil((n + 1) level) of the n rows: split conformal prediction.
    assert found['coverage_68'] == pytest.approx(np.ceil((n + 1) * 0.68) / n)
    assert found['coverage_95'] == pytest.approx(np.ceil((n + 1) * 0.95) / n)


def test_a_perfect_model_has_a_small_deviation_and_not_none():
    y = np.linspace(1, 2, 30)
    calibration = Calibration.fit(y, y, np.zeros(30))
    assert np.all(calibration.std(y, np.zeros(30)) > 0)
    assert calibration.std(y, np.zeros(30)) == pytest.approx(0, abs=1e-4)


def test_a_larger_spread_is_a_larger_deviation_and_no_spread_counts_as_zero():
    calibration = Calibration(
        part='validation', rows=20, spread=2.0, gap=0.0, constant_ev=0.3, factor_68=1.0, factor_95=2.0
    )
    assert calibration.std([1.0, 1.0, 1.0], [0.0, 0.2, np.nan]) == pytest.approx([0.3, 0.5, 0.3])
    assert calibration.half_widths([0.5]) == (pytest.approx([0.5]), pytest.approx([1.0]))


def test_too_few_rows_calibrate_nothing():
    y, values, spread, _ = gaussian_rows(MIN_ROWS, 1.0)
    assert Calibration.fit(y[1:], values[1:], spread[1:]) is None
    assert Calibration.fit(y, values, spread) is not None
    assert Calibration.fit([], [], []) is None


def test_rows_that_cannot_be_used_are_refused():
    y, values, spread, _ = gaussian_rows(30, 1.0)
    with pytest.raises(DatasetError, match='not finite'):
        Calibration.fit(np.where(y > 1, np.nan, y), values, spread)
    with pytest.raises(DatasetError, match='values has 29 rows'):
        Calibration.fit(y, values[1:], spread)


def test_without_calibration_there_is_no_coverage_but_rows_outside():
    columns = {'value': np.ones(3), 'std': np.full(3, np.nan), 'outside': np.array([True, False, True])}
    assert interval_metrics(np.ones(3), columns, None) == {'coverage_68': None, 'coverage_95': None, 'outside': 2}


@pytest.mark.parametrize('change', [{'rows': 3}, {'spread': -1.0}, {'factor_95': 0.0}, {'part': 'train'}, {'scale': 1}])
def test_a_calibration_that_means_nothing_is_refused(change):
    fields = {'part': 'validation', 'rows': 20, 'spread': 1.0, 'gap': 0.0, 'constant_ev': 0.1}
    with pytest.raises(ValidationError):
        Calibration(**(fields | {'factor_68': 1.0, 'factor_95': 2.0} | change))
