import re
import sys

import matplotlib as mpl
import numpy as np
import pytest

from aiida_nanoml.errors import DatasetError
from aiida_nanoml.learning.plot_style import save_figure
from aiida_nanoml.learning.plots import (
    plot_calibration,
    plot_learning_curve,
    plot_parity,
    plot_rounds,
    plot_test_errors,
)
from aiida_nanoml.learning.targets import TARGETS
from aiida_nanoml.learning.uncertainty import Calibration
from tests.figures import words

ENGINE = 'GFN1-xTB (tblite), balanced'


def parts():
    random = np.random.Generator(np.random.PCG64(1))
    y = random.uniform(0, 2.5, size=150)
    noisy = y + random.normal(0, 0.1, size=150)
    return {'train': (y[:100], noisy[:100]), 'validation': (y[100:125], noisy[100:125]), 'test': (y[125:], noisy[125:])}


def test_parity_plot_says_what_was_compared():
    text = '\n'.join(words(plot_parity(parts(), 'Dense network', 'GFN1-xTB (tblite), balanced')))
    assert 'Gap, GFN1-xTB (tblite), balanced (eV)' in text
    assert 'Predicted gap (eV)' in text
    for name, n in (('train', 100), ('validation', 25), ('test', 25)):
        assert f'{name}: R² = 0.9' in text
        assert f'n = {n}' in text


def test_reference_runs_to_the_right_and_prediction_upwards():
    y = np.linspace(0.0, 1.0, 9)
    axes = plot_parity({'test': (y, y**2)}, 'T', 'E')
    np.testing.assert_allclose(axes.collections[0].get_offsets(), np.column_stack([y, y**2]))
    assert axes.get_xlim()[0] < axes.get_xlim()[1]
    assert axes.get_ylim()[0] < axes.get_ylim()[1]


def test_parity_where_r2_is_not_defined():
    assert 'new: R² = n/a, MAE = 0.100 eV, n = 1' in words(plot_parity({'new': ([0.5], [0.4])}, 'T', 'E'))


def test_learning_curve_marks_the_best_epoch():
    history = {'loss': [1.0, 0.5, 0.25, 0.125], 'val_loss': [1.0, 0.3, 0.2, 0.4]}
    text = '\n'.join(words(plot_learning_curve(history, 'Learning', 'MSE of gap / 4 eV')))
    for expected in ('Epoch', 'MSE of gap / 4 eV', 'train', 'validation', '0.2, epoch 3', 'Learning'):
        assert expected in text


@pytest.mark.parametrize('history', [{'loss': [0.5]}, {'loss': [1.0, 0.0], 'val_loss': [0.0, 0.0]}])
def test_learning_curves_of_odd_histories(history):
    axes = plot_learning_curve(history, 'Learning')
    assert len(axes.lines[0].get_xdata()) == len(history['loss'])


def test_same_data_same_file(tmp_path):
    for name in ('a.png', 'b.png'):
        save_figure(plot_parity(parts(), 'T', 'E'), tmp_path / name)
    assert (tmp_path / 'a.png').read_bytes() == (tmp_path / 'b.png').read_bytes()


def test_no_global_state(tmp_path):
    before = dict(mpl.rcParams)
    loaded = 'matplotlib.pyplot' in sys.modules
    save_figure(plot_parity(parts(), 'T', 'E'), tmp_path / 'a.pdf')
    assert dict(mpl.rcParams) == before
    assert ('matplotlib.pyplot' in sys.modules) == loaded


def test_unusable_input_is_refused():
    with pytest.raises(DatasetError, match='at least one part'):
        plot_parity({}, 'T', 'E')
    with pytest.raises(DatasetError, match='engine and protocol'):
        plot_parity(parts(), 'T', ' ')
    with pytest.raises(DatasetError, match='predicted values of test has 1 rows'):
        plot_parity({'test': ([1.0, 2.0], [1.0])}, 'T', 'E')
    with pytest.raises(DatasetError, match='no loss'):
        plot_learning_curve({}, 'T')
    with pytest.raises(DatasetError, match='val_loss has 1 rows'):
        plot_learning_curve({'loss': [1.0, 0.5], 'val_loss': [1.0]}, 'T')


def test_a_baseline_is_judged_beside_the_correction_of_it():
    reference, corrected = parts()['test']
    baseline = reference, reference + 0.5
    text = '\n'.join(words(plot_parity({'test': (reference, corrected)}, 'Correction', 'E', baseline)))
    assert 'test: R² = 0.9' in text
    assert 'baseline alone: R² = ' in text
    assert 'MAE = 0.500 eV' in text
    with pytest.raises(DatasetError, match='the baseline has 3 rows'):
        plot_parity({'test': (reference, corrected)}, 'C', 'E', (reference, reference[:3]))


def test_calibration_shows_intervals_and_what_they_hold():
    random = np.random.Generator(np.random.PCG64(1))
    std = random.uniform(0.05, 0.4, 200)
    error = std * np.abs(random.normal(size=200))
    calibration = Calibration(
        part='validation', rows=200, spread=1.0, gap=0.0, constant_ev=0.0, factor_68=1.0, factor_95=1.96
    )
    drawn = {'validation': (std, error), 'test': (std[:50], error[:50])}
    text = '\n'.join(words(plot_calibration(drawn, calibration, 'Model', ENGINE)))
    assert f'Error against {ENGINE} (eV)' in text
    for name, (deviations, errors) in {'validation': (std, error), 'test': (std[:50], error[:50])}.items():
        shares = [round(100 * np.mean(errors <= factor * deviations)) for factor in (1.0, 1.96)]
        assert f'{name}, n = {len(errors)}: they hold {shares[0]}% and {shares[1]}%' in text
    with pytest.raises(DatasetError, match='at least one part'):
        plot_calibration({}, calibration, 'Model', ENGINE)
    with pytest.raises(DatasetError, match='engine and protocol'):
        plot_calibration({'test': (std, error)}, calibration, 'Model', ' ')
    with pytest.raises(DatasetError, match='errors of test has 199 rows'):
        plot_calibration({'test': (std, error[1:])}, calibration, 'Model', ENGINE)


def test_rounds_say_what_was_labelled_and_how_it_was_chosen():
    curves = {'mixed': ([10, 20, 30], [0.4, 0.2, 0.1]), 'random': ([10, 20, 30], [0.4, 0.3, 0.2])}
    text = words(plot_rounds(curves, '8 held-out structures', ENGINE, target=0.15))
    for told in ('mixed', 'random', 'target', f'Labels learnt from, {ENGINE}', 'Mean absolute error (eV)'):
        assert told in text


@pytest.mark.parametrize(
    ('curves', 'engine', 'message'),
    [
        ({}, ENGINE, 'at least one curve'),
        ({'mixed': ([10], [0.4])}, ' ', 'which engine and protocol'),
        ({'mixed': ([10, 20], [0.4])}, ENGINE, 'errors of mixed has 1 rows'),
    ],
)
def test_rounds_that_cannot_be_drawn(curves, engine, message):
    with pytest.raises(DatasetError, match=message):
        plot_rounds(curves, 'T', engine)


def test_another_target_stands_on_the_axes_with_its_unit():
    reference, predicted = parts()['test']
    text = '\n'.join(words(plot_parity({'test': (reference, predicted)}, 'Alloys', ENGINE, target=TARGETS['pressure'])))
    assert f'Pressure, {ENGINE} (GPa)' in text
    assert 'Predicted pressure (GPa)' in text
    assert re.search(r'MAE = 0\.\d\d GPa, n = 25', text)
    calibration = Calibration(
        part='validation', rows=20, spread=1.0, gap=0.0, constant_ev=0.0, factor_68=1.0, factor_95=2.0
    )
    text = words(plot_calibration({'test': (reference, predicted)}, calibration, 'T', ENGINE, 'GPa'))
    assert f'Error against {ENGINE} (GPa)' in text
    assert 'Predicted standard deviation (GPa)' in text


def test_test_errors_of_the_best_models_in_panels():
    many = [(f'model {number}', 0.1 + 0.01 * number, 0.02) for number in reversed(range(50))]
    text = words(plot_test_errors({'MAE (eV)': many, 'NMAE (%)': [('network', 1.0, 0.0)]}))
    assert [name for name in text if name.startswith('model')] == [f'model {number}' for number in range(40)]
    assert 'MAE (eV); the best 40, 10 more' in text
    assert 'NMAE (%)' in text
    with pytest.raises(DatasetError, match='at least one model'):
        plot_test_errors({})
