import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiida_nanoml.densities import Density
from aiida_nanoml.errors import DensityError
from aiida_nanoml.learning.density.plots import Plane, molecular_plane, plane_values, plot_density_maps, plot_nmae
from aiida_nanoml.learning.plot_style import save_figure
from aiida_nanoml.structures import Structure
from tests.densities.recorded import recorded_density
from tests.figures import words

SOURCE = 'SIESTA 4.1 / paper'


def save(drawn, path):
    save_figure(drawn, path)
    return drawn


def rotation(angles):
    a, b, c = angles
    about_z = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    about_x = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    again = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    return about_z @ about_x @ again


def benzene():
    angles = np.arange(6) * np.pi / 3
    ring = np.stack([np.cos(angles), np.sin(angles), np.zeros(6)], axis=1)
    return np.repeat([6, 1], 6), np.concatenate([1.4 * ring, 2.49 * ring])


@settings(max_examples=30, deadline=None)
@given(
    st.tuples(*[st.floats(-3.1, 3.1)] * 3),
    st.tuples(*[st.floats(0, 12)] * 3),
)
def test_flat_molecule_is_drawn_in_its_plane_wherever_it_stands(angles, shift):
    numbers, places = benzene()
    cell = np.diag([12.0, 12.0, 12.0])
    # Put back into the box, atom by atom, so that its border may cut the molecule.
    positions = (places @ rotation(angles).T + shift) % 12.0
    centre, u, v, extent = molecular_plane(Structure(numbers, positions, cell))
    normal = np.cross(u, v)
    assert (u @ u, v @ v, u @ v) == pytest.approx((1, 1, 0), abs=1e-9)
    steps = positions - centre
    steps -= np.round(steps / 12.0) * 12.0
    assert np.abs(steps @ normal).max() < 1e-6
    for along, low, high in ((u, *extent[:2]), (v, *extent[2:])):
        assert (low < (steps @ along)).all()
        assert ((steps @ along) < high).all()


def test_flat_molecule_stands_as_its_box_does():
    numbers, places = benzene()
    plane = molecular_plane(Structure(numbers, places + 5.0, np.diag([10.0, 10.0, 10.0])))
    assert plane.centre == pytest.approx([5, 5, 5])
    assert plane.u == pytest.approx([1, 0, 0])
    assert plane.v == pytest.approx([0, 1, 0])


@pytest.mark.parametrize('places', [[[4.0, 4.0, 4.0]], [[4.0, 4.0, 3.0], [4.0, 4.0, 4.1]]], ids=['atom', 'line'])
def test_lattice_vectors_decide_where_atoms_do_not(places):
    plane = molecular_plane(Structure(np.full(len(places), 7), np.array(places), np.diag([8.0, 8.0, 8.0])))
    assert plane.u == pytest.approx([1, 0, 0])
    assert abs(plane.v[1 if len(places) == 1 else 2]) == pytest.approx(1)


def test_periodic_layer_is_drawn_with_one_cell():
    cell = np.array([[2.5, 0, 0], [-1.25, 2.165, 0], [0, 0, 15.0]])
    positions = np.array([[0.0, 0, 7.0], [0, 1.4434, 7.0], [0, 0, 3.0]])
    plane = molecular_plane(Structure(np.array([6, 6, 1]), positions, cell, np.array([True, True, False])))
    assert plane.centre[2] == pytest.approx(7.0)
    assert abs(np.cross(plane.u, plane.v)[2]) == pytest.approx(1)
    assert plane.extent == pytest.approx((-1.875, 1.875, -1.0825, 1.0825))


def test_no_plane_without_a_box():
    with pytest.raises(DensityError, match='has no cell'):
        molecular_plane(Structure(*benzene()))


def test_plane_values_of_a_wave_in_a_tilted_plane_of_an_oblique_box():
    cell = np.array([[6.0, 0, 0], [1.5, 5.0, 0], [0.5, -1.0, 7.0]])
    shape = (30, 24, 36)
    fractions = np.stack(np.meshgrid(*(np.arange(n) / n for n in shape), indexing='ij'), axis=-1)

    def wave(fraction):
        return np.cos(2 * np.pi * (fraction @ [1, 0, 0])) + np.sin(2 * np.pi * (fraction @ [1, -1, 2]))

    u, v = np.array([1.0, 0, 0]), np.array([0, 0.6, 0.8])
    plane = Plane(np.array([0.3, 0.2, 0.1]), u, v, (-4, 4, -4, 4))
    right, up = np.linspace(-4, 4, 17), np.linspace(-3, 5, 9)
    places = plane.centre + right[None, :, None] * u + up[:, None, None] * v
    found = plane_values(wave(fractions), cell, plane, right, up)
    assert found.shape == (9, 17)
    assert found == pytest.approx(wave(places @ np.linalg.inv(cell)), abs=2e-3)


def recorded():
    return recorded_density('z-0000')


def test_maps_of_a_density_name_quantities_units_and_source(tmp_path):
    drawn = save(plot_density_maps(recorded(), 'C18B3N3H12', SOURCE), tmp_path / 'maps.svg')
    text = '\n'.join(words(drawn))
    for told in ('C18B3N3H12', SOURCE, 'Density', 'Difference to free atoms', 'electrons/Å³', 'Å'):
        assert told in text
    assert 'Error' not in text


def test_maps_of_a_prediction_tell_its_error(tmp_path):
    density = recorded()
    drawn = save(plot_density_maps(density, 'flake', SOURCE, predicted=0.5 * density.difference), tmp_path / 'maps.svg')
    text = '\n'.join(words(drawn))
    nmae = density.nmae(0.0)
    assert f'NMAE {50 * nmae:.3g} %, free atoms {100 * nmae:.3g} %' in text
    assert 'Predicted difference' in text


def test_maps_of_nothing_but_free_atoms_can_be_drawn(tmp_path):
    density = recorded()
    alone = Density(density.structure, density.free, np.zeros_like(density.free))
    save(plot_density_maps(alone, 'free atoms', SOURCE), tmp_path / 'maps.png')
    assert (tmp_path / 'maps.png').stat().st_size > 10_000


@pytest.mark.parametrize(
    ('source', 'predicted', 'reason'),
    [(' ', None, 'which engine'), (SOURCE, np.zeros((2, 2, 2)), r'mesh \(2, 2, 2\)')],
)
def test_maps_refuse_what_cannot_be_judged(source, predicted, reason):
    with pytest.raises(DensityError, match=reason):
        plot_density_maps(recorded(), 'flake', source, predicted)


def test_errors_stand_beside_those_of_free_atoms(tmp_path):
    drawn = save(
        plot_nmae(
            ['a', 'b', 'c'],
            [0.02, 0.01, 0.03],
            [0.1, 0.1, 0.12],
            ['train', 'train', 'test'],
            'Network',
            SOURCE,
        ),
        tmp_path / 'nmae.svg',
    )
    text = '\n'.join(words(drawn))
    assert 'train, mean 1.5 %, n = 2, 6.7 × below free atoms' in text
    assert 'test, mean 3 %, n = 1, 4.0 × below free atoms' in text
    assert re.findall(r'^[abc]$', text, re.MULTILINE) == ['b', 'a', 'c']


def test_many_structures_are_counted_in_place_of_named(tmp_path):
    n = 100
    drawn = save(plot_nmae([f'row{i}' for i in range(n)], np.full(n, 0.01), np.full(n, 0.1), ['test'] * n,
              'Network', SOURCE), tmp_path / 'nmae.svg')  # fmt: skip
    text = '\n'.join(words(drawn))
    assert '100 structures' in text
    assert 'row7' not in text


@pytest.mark.parametrize(
    ('changes', 'reason'),
    [
        ({'names': []}, 'do not belong together'),
        ({'nmae': [0.1, 0.2]}, 'do not belong together'),
        ({'nmae': [0.0]}, 'logarithmic'),
        ({'nmae_free': [np.nan]}, 'logarithmic'),
        ({'source': ''}, 'which engine'),
    ],
)
def test_errors_that_cannot_be_drawn_are_refused(changes, reason):
    good = {
        'names': ['a'],
        'nmae': [0.1],
        'nmae_free': [0.2],
        'parts': ['test'],
        'title': 'Network',
        'source': SOURCE,
    }
    with pytest.raises(DensityError, match=reason):
        plot_nmae(**good | changes)
