import re
import sys

import matplotlib.image
import numpy as np
import pytest

from aiida_nanoml.errors import DatasetError
from aiida_nanoml.learning.plots import (
    plot_calibration,
    plot_learning_curve,
    plot_parity,
    plot_rounds,
    plot_test_errors,
)
from aiida_nanoml.learning.targets import TARGETS
from aiida_nanoml.learning.uncertainty import Calibration

ENGINE = 'GFN1-xTB (tblite), balanced'


def parts():
    random = np.random.Generator(np.random.PCG64(1))
    y = random.uniform(0, 2.5, size=150)
    noisy = y + random.normal(0, 0.1, size=150)
    return {'train': (y[:100], noisy[:100]), 'validation': (y[100:125], noisy[100:125]), 'test': (y[125:], noisy[125:])}


def svg_text(path):
    """What is written in a figure: matplotlib draws outlines and keeps the words as comments."""
    return re.findall(r'<!-- (.*?) -->', path.read_text())


def test_parity_plot_says_what_was_compared(tmp_path):
    plot_parity(tmp_path / 'parity.svg', parts(), 'Dense network', 'GFN1-xTB (tblite), balanced')
    text = '\n'.join(svg_text(tmp_path / 'parity.svg'))
    assert 'Gap, GFN1-xTB (tblite), balanced (eV)' in text
    assert 'Predicted gap (eV)' in text
    for name, n in (('train', 100), ('validation', 25), ('test', 25)):
        assert f'{name}: R² = 0.9' in text
        assert f'n = {n}' in text


def drawn_points(path):
    """Centres of the markers of the first cloud, in the units of the file (y grows downwards)."""
    cloud = path.read_text().split('id="PathCollection_1"')[1].split('</g>\n   </g>')[0]
    return np.array([[float(v) for v in pair] for pair in re.findall(r'<use [^>]*x="([\d.]+)" y="([\d.]+)"', cloud)])


def test_reference_runs_to_the_right_and_prediction_upwards(tmp_path):
    y = np.linspace(0.0, 1.0, 9)
    plot_parity(tmp_path / 'low.svg', {'test': (y, y**2)}, 'T', 'E')
    right, down = drawn_points(tmp_path / 'low.svg').T
    scale = np.ptp(right)
    assert (right - right[0]) / scale == pytest.approx(y, abs=1e-4)
    assert (down[0] - down) / scale == pytest.approx(y**2, abs=1e-4)


def test_parity_where_r2_is_not_defined(tmp_path):
    plot_parity(tmp_path / 'one.svg', {'new': ([0.5], [0.4])}, 'T', 'E')
    assert 'new: R² = n/a, MAE = 0.100 eV, n = 1' in '\n'.join(svg_text(tmp_path / 'one.svg'))


def test_learning_curve_marks_the_best_epoch(tmp_path):
    history = {'loss': [1.0, 0.5, 0.25, 0.125], 'val_loss': [1.0, 0.3, 0.2, 0.4]}
    plot_learning_curve(tmp_path / 'curve.svg', history, 'Learning', 'MSE of gap / 4 eV')
    text = '\n'.join(svg_text(tmp_path / 'curve.svg'))
    for expected in ('Epoch', 'MSE of gap / 4 eV', 'Training', 'Validation', '0.2, epoch 3', 'Learning'):
        assert expected in text


@pytest.mark.parametrize('history', [{'loss': [0.5]}, {'loss': [1.0, 0.0], 'val_loss': [0.0, 0.0]}])
def test_learning_curves_of_odd_histories(tmp_path, history):
    plot_learning_curve(tmp_path / 'curve.png', history, 'Learning')
    assert matplotlib.image.imread(tmp_path / 'curve.png').shape[0] > 500


def test_same_data_same_file(tmp_path):
    for name in ('a.png', 'b.png'):
        plot_parity(tmp_path / name, parts(), 'T', 'E')
    assert (tmp_path / 'a.png').read_bytes() == (tmp_path / 'b.png').read_bytes()


def test_no_global_state(tmp_path):
    before = dict(matplotlib.rcParams)
    loaded = 'matplotlib.pyplot' in sys.modules
    plot_parity(tmp_path / 'a.pdf', parts(), 'T', 'E')
    assert dict(matplotlib.rcParams) == before
    assert ('matplotlib.pyplot' in sys.modules) == loaded


def test_unusable_input_is_refused(tmp_path):
    with pytest.raises(DatasetError, match='at least one part'):
        plot_parity(tmp_path / 'a.png', {}, 'T', 'E')
    with pytest.raises(DatasetError, match='engine and protocol'):
        plot_parity(tmp_path / 'a.png', parts(), 'T', ' ')
    with pytest.raises(DatasetError, match='predicted values of test has 1 rows'):
        plot_parity(tmp_path / 'a.png', {'test': ([1.0, 2.0], [1.0])}, 'T', 'E')
    with pytest.raises(DatasetError, match='no loss'):
        plot_learning_curve(tmp_path / 'a.png', {}, 'T')
    with pytest.raises(DatasetError, match='val_loss has 1 rows'):
        plot_learning_curve(tmp_path / 'a.png', {'loss': [1.0, 0.5], 'val_loss': [1.0]}, 'T')
    with pytest.raises(DatasetError, match='not supported'):
        plot_parity(tmp_path / 'a.xyz', parts(), 'T', 'E')
    assert not list(tmp_path.iterdir())


def test_a_baseline_is_judged_beside_the_correction_of_it(tmp_path):
    reference, corrected = parts()['test']
    baseline = reference, reference + 0.5
    plot_parity(tmp_path / 'parity.svg', {'test': (reference, corrected)}, 'Correction', 'E', baseline)
    text = '\n'.join(svg_text(tmp_path / 'parity.svg'))
    assert 'test: R² = 0.9' in text
    assert 'baseline alone: R² = ' in text
    assert 'MAE = 0.500 eV' in text
    with pytest.raises(DatasetError, match='the baseline has 3 rows'):
        plot_parity(tmp_path / 'b.svg', {'test': (reference, corrected)}, 'C', 'E', (reference, reference[:3]))


def test_calibration_shows_intervals_and_what_they_hold(tmp_path):
    random = np.random.Generator(np.random.PCG64(1))
    std = random.uniform(0.05, 0.4, 200)
    error = std * np.abs(random.normal(size=200))
    calibration = Calibration(
        part='validation', rows=200, spread=1.0, gap=0.0, constant_ev=0.0, factor_68=1.0, factor_95=1.96
    )
    path = tmp_path / 'calibration.svg'
    plot_calibration(path, {'validation': (std, error), 'test': (std[:50], error[:50])}, calibration, 'Model', ENGINE)
    text = '\n'.join(svg_text(path))
    assert f'Error against {ENGINE} (eV)' in text
    for name, (deviations, errors) in {'validation': (std, error), 'test': (std[:50], error[:50])}.items():
        shares = [round(100 * np.mean(errors <= factor * deviations)) for factor in (1.0, 1.96)]
        assert f'{name}, n = {len(errors)}: they hold {shares[0]}% and {shares[1]}%' in text
    with pytest.raises(DatasetError, match='at least one part'):
        plot_calibration(path, {}, calibration, 'Model', ENGINE)
    with pytest.raises(DatasetError, match='engine and protocol'):
        plot_calibration(path, {'test': (std, error)}, calibration, 'Model', ' ')
    with pytest.raises(DatasetError, match='errors of test has 199 rows'):
        plot_calibration(path, {'test': (std, error[1:])}, calibration, 'Model', ENGINE)


def test_rounds_say_what_was_labelled_and_how_it_was_chosen(tmp_path):
    curves = {'mixed': ([10, 20, 30], [0.4, 0.2, 0.1]), 'random': ([10, 20, 30], [0.4, 0.3, 0.2])}
    plot_rounds(tmp_path / 'rounds.svg', curves, '8 held-out structures', ENGINE, target=0.15)
    text = svg_text(tmp_path / 'rounds.svg')
    for words in ('mixed', 'random', 'target', f'Labels learnt from, {ENGINE}', 'Mean absolute error (eV)'):
        assert words in text


@pytest.mark.parametrize(
    ('curves', 'engine', 'message'),
    [
        ({}, ENGINE, 'at least one curve'),
        ({'mixed': ([10], [0.4])}, ' ', 'which engine and protocol'),
        ({'mixed': ([10, 20], [0.4])}, ENGINE, 'errors of mixed has 1 rows'),
    ],
)
def test_rounds_that_cannot_be_drawn(tmp_path, curves, engine, message):
    with pytest.raises(DatasetError, match=message):
        plot_rounds(tmp_path / 'rounds.svg', curves, 'T', engine)


def test_another_target_stands_on_the_axes_with_its_unit(tmp_path):
    reference, predicted = parts()['test']
    plot_parity(tmp_path / 'parity.svg', {'test': (reference, predicted)}, 'Alloys', ENGINE, target=TARGETS['pressure'])
    text = '\n'.join(svg_text(tmp_path / 'parity.svg'))
    assert f'Pressure, {ENGINE} (GPa)' in text
    assert 'Predicted pressure (GPa)' in text
    assert re.search(r'MAE = 0\.\d\d GPa, n = 25', text)
    calibration = Calibration(
        part='validation', rows=20, spread=1.0, gap=0.0, constant_ev=0.0, factor_68=1.0, factor_95=2.0
    )
    plot_calibration(tmp_path / 'c.svg', {'test': (reference, predicted)}, calibration, 'T', ENGINE, 'GPa')
    text = svg_text(tmp_path / 'c.svg')
    assert f'Error against {ENGINE} (GPa)' in text
    assert 'Predicted standard deviation (GPa)' in text


def test_test_errors_of_the_best_models_in_panels(tmp_path):
    many = [(f'model {number}', 0.1 + 0.01 * number, 0.02) for number in reversed(range(50))]
    plot_test_errors(tmp_path / 'errors.svg', {'MAE (eV)': many, 'NMAE (%)': [('network', 1.0, 0.0)]})
    text = svg_text(tmp_path / 'errors.svg')
    assert [name for name in text if name.startswith('model')] == [f'model {number}' for number in range(40)]
    assert 'MAE (eV); the best 40, 10 more' in text
    assert 'NMAE (%)' in text
    with pytest.raises(DatasetError, match='at least one model'):
        plot_test_errors(tmp_path / 'errors.svg', {})
