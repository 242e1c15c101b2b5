import re
import sys

import matplotlib as mpl
import matplotlib.image
import numpy as np
import pytest

from aiida_nanoml.alloys.curves import fit_curves
from aiida_nanoml.alloys.plots import plot_curves, plot_phase_map, plot_phase_parity, plot_stress_strain
from aiida_nanoml.errors import AlloyError, DatasetError
from aiida_nanoml.learning.plot_style import save_figure
from tests.alloys.scans import IRON, make_scan, scan_points
from tests.figures import words

ENGINE = 'PBE (SIESTA), balanced'
ALLOY = 'alloy-0001'
MODEL = {(ALLOY, 'fcc'): (-3.51, 11.3, 170.0, 4.2), (ALLOY, 'bcc'): (-3.525, 11.5, 175.0, 5.4)}


def scan(known=IRON, without=()):
    """Curves and points; the rows ``without`` have no energy."""
    structures, energies, pressures = make_scan(known)
    energies[list(without)] = np.nan
    curves = fit_curves(structures, energies)
    return curves, scan_points(structures, energies, curves) | {'stress_pressure_gpa': pressures}


def save(drawn, path):
    save_figure(drawn, path)
    return drawn


def markers(path, colour):
    """Number of filled markers of a colour: each is used once where it is drawn."""
    return len(re.findall(rf'<use [^>]*style="fill: {colour.lower()}[^>]*>', path.read_text()))


@pytest.mark.parametrize('draw', [plot_curves, plot_stress_strain])
@pytest.mark.parametrize('ending', ['png', 'svg'])
def test_same_data_same_file(tmp_path, draw, ending):
    files = [tmp_path / f'{name}.{ending}' for name in 'ab']
    before = dict(mpl.rcParams)
    loaded = 'matplotlib.pyplot' in sys.modules
    for file in files:
        save(draw(*scan(), ALLOY, ENGINE, scan(MODEL), 'network'), file)
    if ending == 'png':
        assert matplotlib.image.imread(files[0]).shape[0] > 1000
        assert files[0].read_bytes() == files[1].read_bytes()
    else:
        first, second = (re.sub('<dc:date>.*</dc:date>', '', file.read_text()) for file in files)
        assert first == second
    assert dict(mpl.rcParams) == before
    assert ('matplotlib.pyplot' in sys.modules) == loaded


def test_curves_say_what_was_found_and_by_whom(tmp_path):
    path = tmp_path / 'curves.svg'
    drawn = save(plot_curves(*scan(), ALLOY, ENGINE, scan(MODEL), 'network'), path)
    text = '\n'.join(words(drawn))
    for told in (
        f'Fe ({ALLOY})',
        f'{ENGINE}: bcc, E(fcc) − E(bcc) = +30.0 meV/atom',
        'network: bcc, E(fcc) − E(bcc) = +15.0 meV/atom',
        'a = 3.552 Å, B = 180 GPa',
        'a = 2.852 Å, B = 165 GPa',
        'model: a = 3.562 Å, B = 170 GPa',
        'above the lowest minimum',
    ):
        assert told in text
    # Nine points and a minimum in each panel.
    assert markers(path, '#0072B2') == markers(path, '#D55E00') == 10


def test_the_zero_of_the_energy_does_not_matter(tmp_path):
    for name, shift in (('a.png', 0.0), ('b.png', -512.0)):
        known = {key: (numbers[0] + shift, *numbers[1:]) for key, numbers in IRON.items()}
        save(plot_curves(*scan(known), ALLOY, ENGINE), tmp_path / name)
    one, other = (matplotlib.image.imread(tmp_path / name) for name in ('a.png', 'b.png'))
    assert np.abs(one - other).mean() < 1e-3


def test_a_curve_without_equation_of_state_shows_its_points(tmp_path):
    path = tmp_path / 'curves.svg'
    drawn = save(
        plot_curves(*scan(without=range(9, 15)), ALLOY, ENGINE, scan(MODEL, without=range(6)), 'network'), path
    )
    text = ' '.join(words(drawn))
    assert f'{ENGINE}: undecided' in text
    assert 'network: undecided' in text
    assert 'engine: too few points' in text
    assert 'model: too few points' in text
    assert markers(path, '#D55E00') == 3
    assert markers(path, '#0072B2') == 10 + 3  # those of the model are crosses


@pytest.mark.parametrize('draw', [plot_curves, plot_stress_strain])
def test_a_phase_that_was_not_scanned(tmp_path, draw):
    path = tmp_path / 'curves.svg'
    known = {(ALLOY, 'bcc'): IRON[ALLOY, 'bcc']}
    drawn = save(draw(*scan(known), ALLOY, ENGINE), path)
    assert 'not scanned' in '\n'.join(words(drawn))


def test_a_scan_without_any_minimum(tmp_path):
    path = tmp_path / 'curves.svg'
    few = [*range(6), *range(9, 18)]
    drawn = save(plot_curves(*scan(without=few), ALLOY, ENGINE), path)
    text = '\n'.join(words(drawn))
    assert 'above the lowest point' in text
    assert text.count('too few points') == 2
    with pytest.raises(AlloyError, match='fcc: too few points, bcc: too few points'):
        plot_stress_strain(*scan(without=few), ALLOY, ENGINE)
    with pytest.raises(AlloyError, match=f'no point of {ALLOY} has an energy'):
        plot_curves(*scan(without=range(18)), ALLOY, ENGINE)


def test_a_poor_fit_is_told(tmp_path):
    structures, energies, _ = make_scan(IRON)
    energies[2] += 0.03
    curves = fit_curves(structures, energies)
    drawn = save(plot_curves(curves, scan_points(structures, energies, curves), ALLOY, ENGINE), tmp_path / 'a.svg')
    assert '\n'.join(words(drawn)).count('(poor fit)') == 1


def test_stress_is_drawn_where_the_engine_gives_it(tmp_path):
    curves, points = scan()
    points['stress_pressure_gpa'][[0, 1, 9]] = np.nan
    drawn = save(plot_stress_strain(curves, points, ALLOY, ENGINE, scan(MODEL), 'network'), tmp_path / 'some.svg')
    # one more marker in the legend
    assert markers(tmp_path / 'some.svg', '#0072B2') == 7 + 1
    assert markers(tmp_path / 'some.svg', '#D55E00') == 8 + 1
    text = '\n'.join(words(drawn))
    for told in (
        ENGINE,
        'fcc, −dE/dV: B = 180 GPa',
        'bcc, model: B = 175 GPa',
        'network',
        'fcc, stress by the engine',
    ):
        assert told in text
    points['stress_pressure_gpa'][:] = np.nan
    drawn = save(plot_stress_strain(curves, points, ALLOY, ENGINE), tmp_path / 'none.svg')
    assert markers(tmp_path / 'none.svg', '#0072B2') == 0
    assert 'stress by the engine' not in '\n'.join(words(drawn))


@pytest.mark.parametrize('draw', [plot_curves, plot_stress_strain])
def test_scans_that_cannot_be_drawn(draw):
    curves, points = scan()
    many = scan({(f'a{row}', phase): IRON[ALLOY, phase] for row in range(7) for phase in ('fcc', 'bcc')})
    with pytest.raises(AlloyError, match='which engine and protocol'):
        draw(curves, points, ALLOY, ' ')
    with pytest.raises(AlloyError, match='must say which one'):
        draw(curves, points, ALLOY, ENGINE, (curves, points))
    with pytest.raises(AlloyError, match=r"the engine has no alloy 'Fe'; there is alloy-0001$"):
        draw(curves, points, 'Fe', ENGINE)
    with pytest.raises(AlloyError, match=r'network has no alloy .*; there is a0, a1, a2, a3, a4 and others'):
        draw(curves, points, ALLOY, ENGINE, many, 'network')
    with pytest.raises(AlloyError, match='the points of the engine lack the column lattice_constant_ang, energy_ev'):
        draw(curves, {name: points[name] for name in ('curve', 'stress_pressure_gpa')}, ALLOY, ENGINE)
    with pytest.raises(AlloyError, match='do not belong to its curves, fitted to 18 rows'):
        draw(curves, {name: column[1:] for name, column in points.items()}, ALLOY, ENGINE)


def composition_grid(steps=8):
    grid = np.array([(i, j) for i in range(steps + 1) for j in range(steps + 1 - i)]) / steps
    return grid[:, 0], grid[:, 1], 0.04 * (grid[:, 0] - 0.35)


def draw_map(x, y, difference, **kwargs):
    return plot_phase_map(x, y, difference, 'Fraction of Fe', 'Fraction of Co', 'Fe-Co-Ni', ENGINE, **kwargs)


def test_phase_map_shows_the_boundary_and_known_phases(tmp_path):
    x, y, difference = composition_grid()
    drawn = save(
        draw_map(x, y, difference, known=([0.1, 0.8, 0.5], [0.2, 0.1, 0.5], ['fcc', 'bcc', 'undecided'])),
        tmp_path / 'a.svg',
    )
    text = '\n'.join(words(drawn))
    for told in (
        'phase boundary',
        'fcc by the engine',
        'bcc by the engine',
        'Fraction of Fe',
        'Fraction of Co',
        ENGINE,
    ):
        assert told in text
    assert 'undecided' not in text
    for name in ('a.png', 'b.png'):
        save(draw_map(x, y, difference), tmp_path / name)
    assert (tmp_path / 'a.png').read_bytes() == (tmp_path / 'b.png').read_bytes()


@pytest.mark.parametrize('sign', [1, -1])
def test_one_phase_has_no_boundary(tmp_path, sign):
    x, y, difference = composition_grid()
    drawn = save(draw_map(x, y, sign * (np.abs(difference) + 0.001)), tmp_path / 'a.svg')
    assert 'phase boundary' not in '\n'.join(words(drawn))


def test_holes_are_marked_and_not_filled(tmp_path):
    x, y, difference = composition_grid()
    hole = (np.abs(x - 0.25) < 0.01) & (np.abs(y - 0.25) < 0.01)
    filled = {}
    for name, values in (('whole', difference), ('hole', np.where(hole, np.nan, difference))):
        save(draw_map(x, y, values), tmp_path / f'{name}.svg')
        drawn = save(draw_map(x, y, values), tmp_path / f'{name}.png')
        filled[name] = np.mean(matplotlib.image.imread(tmp_path / f'{name}.png')[..., :3].min(axis=2) > 0.99)
    assert 'undecided' in '\n'.join(words(drawn))
    assert filled['hole'] > filled['whole'] + 0.005


@pytest.mark.parametrize(
    ('x', 'y', 'difference'),
    [
        ([0.5], [0.5], [0.01]),
        ([0.5], [0.5], [0.0]),
        ([0.1, 0.2, 0.3], [0.1, 0.5, 0.2], [0.01, -0.02, np.nan]),
        (np.linspace(0, 1, 6), 1 - np.linspace(0, 1, 6), np.linspace(-0.02, 0.02, 6)),
        ([0.0, 0.0, 1.0, 1.0], [0.0, 1.0, 0.0, 1.0], [0.01, np.nan, np.nan, -0.01]),
    ],
    ids=['one', 'zero', 'three', 'line', 'holes only'],
)
def test_few_compositions_are_squares(tmp_path, x, y, difference):
    drawn = save(draw_map(x, y, difference), tmp_path / 'a.svg')
    text = '\n'.join(words(drawn))
    assert 'phase boundary' not in text
    squares = len(re.findall('<use [^>]*stroke: #000000', (tmp_path / 'a.svg').read_text()))
    assert squares >= np.isfinite(difference).sum()


def test_alloys_of_one_composition_are_averaged(tmp_path):
    x, y, difference = composition_grid()
    save(draw_map(x, y, difference), tmp_path / 'once.png')
    twice = np.concatenate([difference + 0.01, difference - 0.01])
    save(draw_map(np.tile(x, 2), np.tile(y, 2), twice), tmp_path / 'twice.png')
    once, again = (matplotlib.image.imread(tmp_path / f'{name}.png') for name in ('once', 'twice'))
    assert np.abs(once - again).mean() < 1e-3


def test_maps_that_cannot_be_drawn():
    x, y, difference = composition_grid()
    with pytest.raises(AlloyError, match='which engine and protocol'):
        plot_phase_map(x, y, difference, 'x', 'y', 'T', '')
    with pytest.raises(DatasetError, match='y has 44 rows'):
        draw_map(x, y[1:], difference)
    with pytest.raises(DatasetError, match='at least one row'):
        draw_map([], [], [])
    with pytest.raises(AlloyError, match=r'45 compositions and \(44,\) energy differences'):
        draw_map(x, y, difference[1:])
    with pytest.raises(AlloyError, match='every composition is undecided'):
        draw_map(x, y, np.full(len(x), np.nan))
    with pytest.raises(AlloyError, match="'hcp' is no phase; the known ones are fcc, bcc"):
        draw_map(x, y, difference, known=([0.1], [0.1], ['hcp']))
    with pytest.raises(AlloyError, match=r'1 known compositions and \(2,\) phases'):
        draw_map(x, y, difference, known=([0.1], [0.1], ['fcc', 'bcc']))


def test_phase_parity_counts_right_and_wrong(tmp_path):
    reference, predicted = np.array([0.03, 0.01, -0.02, -0.04]), np.array([0.02, -0.01, -0.03, -0.04])
    drawn = save(plot_phase_parity(reference, predicted, 'Test alloys', ENGINE), tmp_path / 'a.svg')
    text = '\n'.join(words(drawn))
    for told in ('75.0%', 'MAE = 10 meV/atom', 'n = 4', 'right phase, n = 3', 'wrong phase, n = 1', ENGINE):
        assert told in text
    assert markers(tmp_path / 'a.svg', '#0072B2') == 3 + 1
    assert markers(tmp_path / 'a.svg', '#D55E00') == 1 + 1
    for name in ('a.png', 'b.png'):
        save(plot_phase_parity(reference, predicted, 'Test alloys', ENGINE), tmp_path / name)
    assert (tmp_path / 'a.png').read_bytes() == (tmp_path / 'b.png').read_bytes()


def test_phase_parity_of_one_alloy_and_of_none(tmp_path):
    drawn = save(plot_phase_parity([0.0], [0.0], 'T', ENGINE), tmp_path / 'one.svg')
    assert '100.0%' in '\n'.join(words(drawn))
    with pytest.raises(AlloyError, match='which engine and protocol'):
        plot_phase_parity([0.1], [0.1], 'T', '')
    with pytest.raises(DatasetError, match='at least one row'):
        plot_phase_parity([], [], 'T', ENGINE)
    with pytest.raises(DatasetError, match='predicted energy differences has 2 rows'):
        plot_phase_parity([0.1], [0.1, 0.2], 'T', ENGINE)
    with pytest.raises(DatasetError, match='not finite'):
        plot_phase_parity([np.nan], [0.1], 'T', ENGINE)
