import itertools
import re
import sys

import matplotlib as mpl
import matplotlib.image
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.collections import LineCollection, QuadMesh
from matplotlib.text import Annotation, Text

from aiida_nanoml.errors import TransportError
from aiida_nanoml.learning.plot_style import RED, save_figure, thin_out
from aiida_nanoml.transport import plots
from aiida_nanoml.transport.plots import plot_scan, plot_transmission
from aiida_nanoml.transport.potential import Potential, PotentialSet
from aiida_nanoml.transport.presets import barrier, double_barrier, make_potential, step
from aiida_nanoml.transport.transmissions import TransmissionSettings, transmit

DIODE = make_potential('double_barrier', {'width': 4.0, 'separation': 8.0})
ENERGIES = np.linspace(0.0, 0.45, 91)


class Figures(list):
    """The figures of a test, in their order, laid out."""

    def draw(self, drawn):
        self.append((drawn[0] if isinstance(drawn, list) else drawn).get_figure())
        self[-1].draw_without_rendering()


@pytest.fixture
def figures():
    return Figures()


def save(drawn, path):
    save_figure(drawn, path)
    return drawn


def lorentzian(energies, resonances=((0.1, 0.2), (0.02, 1e-4))):
    """Transmission of resonances without background."""
    places, widths = np.array(resonances)[:, :, None]
    return (1 / (1 + (2 * (energies - places) / widths) ** 2)).max(axis=0)


def curve(axes, label):
    (line,) = [line for line in axes.lines if line.get_label() == label]
    return line.get_xdata(), line.get_ydata()


def drawn_lines(axes, label):
    """Ends of the lines of a collection, (m, 2, 2)."""
    found = [item for item in axes.collections if isinstance(item, LineCollection) and item.get_label() == label]
    return np.array([segment for item in found for segment in item.get_segments()])


def legend(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


@pytest.mark.parametrize('ending', ['png', 'pdf', 'svg'])
def test_files_are_written_and_the_same_each_time(tmp_path, ending):
    before = dict(mpl.rcParams)
    loaded = 'matplotlib.pyplot' in sys.modules
    values = np.linspace(4, 10, 8)
    for name in 'ab':
        save(plot_transmission(DIODE, ENERGIES, lorentzian(ENERGIES), ([0.1], [0.02])), tmp_path / f't{name}.{ending}')
        rows = np.array([lorentzian(ENERGIES) for _ in values])
        save(plot_scan('Separation (nm)', values, ENERGIES, rows, ([4.0], [0.1])), tmp_path / f's{name}.{ending}')
    for kind in 'ts':
        one, other = (re.sub(rb'(?i)date.*', b'', (tmp_path / f'{kind}{name}.{ending}').read_bytes()) for name in 'ab')
        assert one == other
        assert len(one) > 5000
    assert dict(mpl.rcParams) == before
    assert ('matplotlib.pyplot' in sys.modules) == loaded


def test_potential_and_transmission_share_the_energy(figures):
    transmission = lorentzian(ENERGIES)
    figures.draw(plot_transmission(DIODE, ENERGIES, transmission, ([0.1, 0.2], [0.02, 1e-4]), '256 cosines'))
    left, right = figures[0].axes
    assert left.get_ylim() == right.get_ylim()
    x, y = curve(left, 'V(x)')
    # A lead, two barriers and a well, a lead: each value holds up to the next place.
    np.testing.assert_allclose(x, [-2.4, 0, 4, 12, 16, 18.4])
    np.testing.assert_allclose(y, [0, 0.3, 0, 0.3, 0, 0])
    np.testing.assert_array_equal(curve(right, 'T(E)'), [transmission, ENERGIES])
    assert figures[0].get_suptitle() == 'double_barrier, m* = 0.067 m₀, 16 nm\n256 cosines'
    assert legend(figures[0]) == ['V(x)', 'closed lead', 'resonance', 'T(E)', 'narrower than the energy step']
    # In the well, where a particle of these energies is caught.
    np.testing.assert_allclose(drawn_lines(left, 'resonance'), [[[4, e], [12, e]] for e in (0.1, 0.2)])
    notes = [text.get_text() for text in right.texts]
    assert notes == ['0.1000 eV\nΓ = 20 meV', '0.2000 eV\nΓ = 100 µeV']
    # One peak is shown by the curve, the other one lies between two energies.
    filled = {line.get_markerfacecolor(): line.get_ydata().tolist() for line in right.lines if line.get_marker() == '<'}
    assert filled == {RED: [0.1], 'white': [0.2]}


def test_what_was_solved_can_be_drawn(figures):
    settings = TransmissionSettings(0.0, 0.45, n_energies=200, n_basis=64, resolve=True)
    found = transmit(PotentialSet([DIODE]), settings)
    resonances = found.resonances[0]
    transmission = found.scatterings[0].transmission
    figures.draw(plot_transmission(DIODE, found.energies, transmission, (resonances.energies, resonances.widths)))
    left, right = figures[0].axes
    assert 'narrower than the energy step' not in legend(figures[0])
    assert len(right.texts) == len(resonances) == 3
    t, energies = curve(right, 'T(E)')
    for energy, ends in zip(resonances.energies, drawn_lines(left, 'resonance'), strict=True):
        near = np.abs(energies - energy) < 0.005
        assert t[near].max() > 0.99
        np.testing.assert_allclose(ends[:, 0], [4, 12] if energy < 0.3 else [0, 16])


def test_closed_leads_are_shaded(figures):
    figures.draw(plot_transmission(step(0.1), [0.0, 0.1, 0.2], [0.0, 0.0, 0.8]))
    left, right = figures[0].axes
    low, high = left.get_ylim()
    shaded = right.patches[0]
    np.testing.assert_allclose([shaded.get_y(), shaded.get_y() + shaded.get_height()], [low, 0.1])
    areas = [area.get_datalim(left.transData) for area in left.collections if area.get_hatch()]
    np.testing.assert_allclose([area.y1 for area in areas], [0.0, 0.1])
    np.testing.assert_allclose([[area.x0, area.x1] for area in areas], [[-0.15, 0], [1, 1.15]])
    assert low < 0
    assert high > 0.2
    figures.draw(plot_transmission(step(0.1), [0.5, 0.6], [0.9, 0.95]))
    left, right = figures[1].axes
    assert left.get_ylim()[0] > 0.1 - 0.5
    figures.draw(plot_transmission(barrier(0.1), [5.0, 5.1], [1.0, 1.0]))
    assert 'closed lead' not in legend(figures[2])


def test_the_axis_keeps_to_the_energies(figures):
    potential = Potential([-40.0, 20.0, 0.0, 0.3], 1.0, 0.067, left=0.0, right=0.0)
    figures.draw(plot_transmission(potential, [0.0, 0.5], [0.0, 0.1]))
    left, _ = figures[0].axes
    np.testing.assert_allclose(left.get_ylim(), [-0.56, 1.06])
    assert [text.get_text() for text in left.texts] == ['V up to 20 eV', 'V down to −40 eV']
    figures.draw(plot_transmission(DIODE, [0.0, 0.5], [0.0, 0.1]))
    assert not figures[1].axes[0].texts


@pytest.mark.parametrize(
    ('transmission', 'log_scale', 'scale'),
    [
        ([0.0, 1e-2, 1e-2, 1.0], None, 'linear'),
        ([0.0, 1e-2, 1e-2, 1.0], True, 'log'),
        ([0.0, 1e-9, 1e-8, 1.0], None, 'log'),
        ([0.0, 1e-9, 1e-8, 1.0], False, 'linear'),
        ([0.0, 0.0, 0.0, 0.0], None, 'linear'),
        ([0.0, 1e-31, 1e-40, 1e-300], None, 'linear'),
        # Most of the points lie on a resonance, most of the range does not.
        ([1e-9, 1e-9, *np.ones(50), 1e-9, 1e-9], None, 'log'),
    ],
)
def test_scale(figures, transmission, log_scale, scale):
    n = len(transmission)
    energies = np.array([0.0, 0.4, *np.linspace(0.5, 0.5001, n - 4), 0.6, 1.0])
    figures.draw(plot_transmission(DIODE, energies, transmission, log_scale=log_scale))
    assert figures[0].axes[1].get_xscale() == scale
    figures.draw(plot_scan('x', [1.0], energies, [transmission], log_scale=log_scale))
    assert figures[1].axes[0].get_yscale() == scale


def test_nothing_below_the_least_on_a_logarithmic_scale(figures):
    energies = np.linspace(0.1, 0.5, 5)
    transmission = [0.0, 1e-40, 3e-20, 1e-12, 1e-3]
    figures.draw(plot_transmission(DIODE, energies, transmission))
    right = figures[0].axes[1]
    t, _ = curve(right, 'T(E)')
    np.testing.assert_array_equal(t, [np.nan, np.nan, 3e-20, 1e-12, 1e-3])
    low, high = right.get_xlim()
    assert low == pytest.approx(1e-20)
    assert 1e-3 < high < 1e-2
    ticks = right.get_xticks()
    assert 3 <= len(ticks) <= 8
    assert ticks.max() == pytest.approx(1e-3)
    figures.draw(plot_scan('x', np.arange(7), energies, [transmission] * 7))
    (mesh,) = [item for item in figures[1].axes[0].collections if isinstance(item, QuadMesh)]
    assert mesh.get_array().mask.sum() == 14
    assert legend(figures[1]) == ['closed lead, or T < 1e-30']


def test_one_energy(figures):
    figures.draw(plot_transmission(DIODE, [0.1], [0.5], ([0.1], [1e-3])))
    left, right = figures[0].axes
    assert right.lines[0].get_marker() == 'o'
    low, high = left.get_ylim()
    assert low < 0
    assert high > 0.3
    assert 'narrower than the energy step' in legend(figures[0])
    flat = Potential([0.0], 1.0, 0.067)
    figures.draw(plot_transmission(flat, [0.0], [0.0]))
    figures.draw(plot_scan('Width (nm)', [3, 1, 2], [0.1], [[0.1], [0.9], [0.4]], title='barrier'))
    axes = figures[2].axes[0]
    np.testing.assert_allclose(axes.lines[0].get_xydata(), [[1, 0.9], [2, 0.4], [3, 0.1]])
    assert figures[2].get_suptitle() == 'barrier\nE = 0.1 eV'


def test_many_resonances_and_labels_that_do_not_overlap(figures):
    places = np.concatenate([np.linspace(0.010, 0.012, 5), [0.44, 0.5, -1]])
    widths = np.array([1e-12, 1e-9, 2e-6, 0.0, 4e-3, 0.1, 1e-5, 1e-5])
    figures.draw(plot_transmission(DIODE, ENERGIES, lorentzian(ENERGIES), (places[::-1], widths[::-1])))
    right = figures[0].axes[1]
    labels = [text for text in right.texts if isinstance(text, Annotation)]
    assert [label.get_text() for label in labels] == [
        '0.0100 eV\nΓ = 1 peV',
        '0.0105 eV\nΓ = 1 neV',
        '0.0110 eV\nΓ = 2 µeV',
        '0.0115 eV\nΓ below rounding',
        '0.0120 eV\nΓ = 4 meV',
        '0.4400 eV\nΓ = 100 meV',
    ]
    # Of the words alone: an annotation takes in its arrow.
    boxes = [Text.get_window_extent(label) for label in labels]
    for lower, upper in itertools.pairwise(boxes):
        assert lower.y1 <= upper.y0
    assert boxes[0].y0 > 0
    assert boxes[-1].x1 < figures[0].bbox.x1
    many = np.linspace(0.01, 0.44, 40)
    figures.draw(plot_transmission(DIODE, ENERGIES, lorentzian(ENERGIES), (many, np.linspace(1e-3, 1, 40))))
    assert len(figures[1].axes[1].texts) == plots.MOST_LABELS
    assert len(drawn_lines(figures[1].axes[0], 'resonance')) == 40


def test_labels_tell_near_resonances_apart(figures):
    figures.draw(plot_transmission(DIODE, ENERGIES, lorentzian(ENERGIES), ([0.1, 0.1000001], [1e-9, 1e-9])))
    texts = [text.get_text().split('\n')[0] for text in figures[0].axes[1].texts]
    assert texts == ['0.1000000 eV', '0.1000001 eV']
    figures.draw(plot_transmission(DIODE, ENERGIES, lorentzian(ENERGIES), ([0.1, 0.1 + 1e-16], [1e-9, 1e-9])))
    assert len(figures[1].axes[1].texts) == 2


@given(st.lists(st.floats(0, 1), max_size=6).map(sorted))
def test_labels_are_moved_apart(places):
    moved = plots._spread_apart(np.array(places), 0.1)
    assert (np.diff(moved) > 0.1 - 1e-9).all()
    assert ((moved >= 0.05 - 1e-9) & (moved <= 0.95 + 1e-9)).all()
    if (np.diff([0.05 - 0.1, *places, 0.95 + 0.1]) >= 0.1).all():
        np.testing.assert_allclose(moved, places, atol=1e-9)


def test_where_a_particle_is_caught():
    potential = Potential([0.0, 0.3, 0.1, 0.3, -0.2, 0.2, 0.0], 7.0, 0.067)
    assert plots._stretches(potential, 0.25) == [(2.0, 3.0)]
    assert plots._stretches(potential, 0.15) == [(2.0, 3.0), (4.0, 5.0)]
    assert plots._stretches(potential, 0.05) == [(4.0, 5.0)]
    assert plots._stretches(potential, 0.4) == [(0.0, 7.0)]
    # Closed leads catch as barriers do.
    assert plots._stretches(potential, -0.1) == [(4.0, 5.0)]
    assert plots._stretches(Potential([0.0, 0.1], 2.0, 0.067, left=1.0, right=1.0), 0.5) == [(0.0, 2.0)]
    # Here it comes from one lead, and turns.
    assert plots._stretches(Potential([0.0, 1.0], 2.0, 0.067), 0.5) == [(0.0, 2.0)]


def test_names_are_no_formulas_and_masses_are_a_range(figures):
    potential = Potential([0.0, 0.3], 2.0, [0.067, 0.1], name='$\\alpha$ $_b')
    figures.draw(plot_transmission(potential, [0.1, 0.2], [0.1, 0.2], note='$x'))
    assert figures[0].get_suptitle() == '$\\alpha$ $_b, m* = 0.067 to 0.1 m₀, 2 nm\n$x'
    for values in ([1.0], np.arange(7.0)):
        figures.draw(plot_scan('$x$_', values, [0.1, 0.2], np.ones((len(values), 2)), title='${', note='}$'))
    assert figures[2].axes[0].get_xlabel() == '$x$_'


def test_few_values_are_lines(figures):
    values = [8.0, 2.0, 4.0]
    rows = np.array([lorentzian(ENERGIES, ([place], [0.01])) for place in (0.1, 0.2, 0.3)])
    figures.draw(plot_scan('Width (nm)', values, ENERGIES, rows, ([2.0, 8.0, 8.0, 8.0], [0.2, 0.1, 0.3, 9.0])))
    (axes,) = figures[0].axes
    for value, row in zip(values, rows, strict=True):
        np.testing.assert_array_equal(curve(axes, f'{value:g}'), [ENERGIES, row])
    assert legend(figures[0]) == ['2', '4', '8', 'resonances']
    assert figures[0].legends[0].get_title().get_text() == 'Width (nm)'
    styles = [(line.get_linestyle(), line._unscaled_dash_pattern) for line in axes.lines[:3]]
    assert len(set(map(str, styles))) == 3
    # Ticks of each value have its colour, and stand above T = 1.
    ticks = [item for item in axes.collections if isinstance(item, LineCollection)]
    places = [[segment[0][0] for segment in item.get_segments()] for item in ticks]
    assert places == [[0.2], [0.1, 0.3]]
    colours = {line.get_label(): mpl.colors.to_hex(line.get_color()) for line in axes.lines}
    assert [mpl.colors.to_hex(item.get_colors()[0]) for item in ticks] == [colours['2'], colours['8']]
    bottom = min(segment[:, 1].min() for item in ticks for segment in item.get_segments())
    low, high = axes.get_ylim()
    assert low + bottom * (high - low) > 1.0


def test_many_values_are_a_map_with_everything_at_its_place(figures):
    values = np.array([1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0])
    energies = np.array([0.0, 0.1, 0.4])
    rows = np.random.default_rng(1).random((7, 3))
    shuffled = [3, 0, 6, 1, 2, 5, 4]
    figures.draw(plot_scan('Width (nm)', values[shuffled], energies, rows[shuffled], ([4.0, 4.0], [0.3, 0.5])))
    axes, bar = figures[0].axes
    (mesh,) = [item for item in axes.collections if isinstance(item, QuadMesh)]
    corners = mesh.get_coordinates()
    np.testing.assert_allclose(corners[0, :, 0], [0.5, 1.5, 3, 6, 12, 24, 48, 80])
    np.testing.assert_allclose(corners[:, 0, 1], [-0.05, 0.05, 0.25, 0.55])
    np.testing.assert_array_equal(mesh.get_array(), rows.T)
    assert (axes.get_xlabel(), axes.get_ylabel(), bar.get_ylabel()) == ('Width (nm)', 'Energy (eV)', 'Transmission')
    np.testing.assert_allclose(drawn_lines(axes, 'resonances'), [[[3.75, 0.3], [4.5, 0.3]]])


def test_a_map_of_many_energies_keeps_narrow_peaks(figures):
    energies = np.unique(np.concatenate([np.linspace(0, 1, 600), 0.2345 + np.linspace(-1e-5, 1e-5, 2001)]))
    row = 1e-20 + lorentzian(energies, ([0.2345], [1e-7]))
    figures.draw(plot_scan('x', np.arange(7), energies, [row] * 7, log_scale=True))
    (mesh,) = [item for item in figures[0].axes[0].collections if isinstance(item, QuadMesh)]
    shown = mesh.get_array()
    assert shown.shape == (plots.MOST_ROWS, 7)
    heights = np.diff(mesh.get_coordinates()[:, 0, 1])
    np.testing.assert_allclose(heights @ shown[:, 0], np.trapezoid(row, energies), rtol=1e-9)
    assert shown[:, 0].argmax() == int(0.2345 * plots.MOST_ROWS)


def test_means_do_not_lose_what_is_small():
    grid = np.linspace(0, 1, 1001)
    row = np.where(grid < 0.1, 1.0, 1e-25)
    means = plots._means(grid, row[None], np.linspace(0, 1, 11))
    np.testing.assert_allclose(means[0, 2:], 1e-25)
    np.testing.assert_allclose(means[0, 0], 1.0, rtol=0.01)


def test_long_curves_keep_what_is_seen(tmp_path):
    rng = np.random.default_rng(2)
    n = 50_000
    places, values = np.sort(rng.random(n)), rng.random(n)
    values[30_000] = 7.0
    kept, shown = thin_out(places, values, plots.INTERVALS)
    assert len(kept) <= 4 * plots.INTERVALS + 4
    assert (np.diff(kept) > 0).all()
    np.testing.assert_array_equal(np.interp(kept, places, values), shown)
    borders = np.searchsorted(places, places[0] + (places[-1] - places[0]) * np.arange(100) / 100)
    fewer = np.searchsorted(kept, places[borders])
    for extreme in (np.maximum, np.minimum):
        np.testing.assert_array_equal(extreme.reduceat(values, borders), extreme.reduceat(shown, fewer))
    # Noise on so many cells is more than matplotlib can fill.
    noise = Potential(rng.random(1_000_000), 100.0, 0.067, left=0.0, right=0.0)
    save(plot_transmission(noise, places, np.minimum(values, 1), ([0.5], [0.1])), tmp_path / 'a.svg')
    assert (tmp_path / 'a.svg').stat().st_size < 2e6


def bad_transmission(**changed):
    arguments = {'potential': double_barrier(), 'energies': [0.1, 0.2], 'transmission': [0.5, 0.6]} | changed
    plot_transmission(**arguments)


@pytest.mark.parametrize(
    ('changed', 'message'),
    [
        ({'energies': [0.1, 0.2, 0.3]}, r'transmissions must be of the shape \(3,\); the shape is \(2,\)'),
        ({'energies': [[0.1, 0.2]]}, r'energies must be one row; the shape is \(1, 2\)'),
        ({'energies': [], 'transmission': []}, 'no energy'),
        ({'energies': ['x', 'y']}, 'energies must be numbers'),
        ({'energies': [0.2, 0.1]}, r'must ascend: 0\.1 eV follows 0\.2 eV'),
        ({'energies': [0.1, 0.1]}, 'must ascend'),
        ({'transmission': [0.1, np.nan]}, 'transmissions must be finite; nan'),
        ({'transmission': [0.1, 1.1]}, r'a transmission is 1\.1'),
        ({'transmission': [-0.1, 1.0]}, r'a transmission is -0\.1'),
        ({'transmission': [0.0, 1e-40], 'log_scale': True}, 'no transmission reaches 1e-30'),
        ({'resonances': ([0.1], [0.1, 0.2])}, r'their widths must be of the shape \(1,\)'),
        ({'resonances': ([0.1], [-0.1])}, r'width of a resonance is -0\.1 eV'),
        ({'resonances': ([np.inf], [0.1])}, 'energies of the resonances must be finite; inf'),
    ],
)
def test_transmissions_that_cannot_be_drawn(changed, message):
    with pytest.raises(TransportError, match=message):
        bad_transmission(**changed)


@pytest.mark.parametrize(
    ('changed', 'message'),
    [
        ({'values': []}, 'no value of the parameter'),
        ({'values': [1.0, 1.0]}, 'a value twice: 1'),
        ({'values': [1.0, np.nan]}, 'values of the parameter must be finite'),
        ({'values': [1.0, 2.0, 3.0]}, r'transmissions must be of the shape \(3, 2\); the shape is \(2, 2\)'),
        ({'transmissions': [[0.1, 0.2], [0.3]]}, 'transmissions must be numbers'),
        ({'transmissions': [[0.1, 0.2], [0.3, 2.0]]}, 'a transmission is 2'),
        ({'resonances': ([1.5], [0.1])}, r'resonances for 1\.5, which is no value'),
        ({'resonances': ([1.0], [])}, r'energies of the resonances must be of the shape \(1,\)'),
    ],
)
def test_scans_that_cannot_be_drawn(changed, message):
    arguments = {'values': [1.0, 2.0], 'energies': [0.1, 0.2], 'transmissions': [[0.1, 0.2], [0.3, 0.4]]} | changed
    with pytest.raises(TransportError, match=message):
        plot_scan('x', **arguments)
