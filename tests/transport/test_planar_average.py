import json
import lzma
import struct
from pathlib import Path

import numpy as np
import pytest
import sisl
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from aiida_nanoml.errors import TransportError
from aiida_nanoml.transport.planar_average import PlanarAverage, parse_planar_average, read_planar_average
from aiida_nanoml.transport.rmatrix import solve
from aiida_nanoml.units import HBAR2_OVER_2M0_EV_NM2, SIESTA_BOHR_ANG, SIESTA_RYDBERG_EV

RECORDED = Path(__file__).parents[1] / 'recorded' / 'siesta_potential'
PRINTED = json.loads((RECORDED / 'run.json').read_text())
FERMI = PRINTED['fermi_ev']
CONTENT = {name: lzma.decompress((RECORDED / f'{name}.xz').read_bytes()) for name in ('slab.VH', 'slab.VT')}
LAYER = 0.2025
"""Distance of the layers of the slab, in nm; the outermost ones are 4 layers from the ends of the cell."""


@pytest.fixture(scope='module', params=['slab.VH', 'slab.VT'])
def slab(request):
    return parse_planar_average(CONTENT[request.param], request.param)


def write_mesh(grids, cell):
    """Return the bytes of a mesh, as SIESTA writes them: grids (components, n1, n2, n3) in Ry, cell in Bohr."""
    n_components, *mesh = grids.shape
    content = struct.pack('<i9di', 72, *np.ravel(cell), 72) + struct.pack('<i4ii', 16, *mesh, n_components, 16)
    for row in grids.transpose(0, 3, 2, 1).reshape(-1, mesh[0]):
        content += struct.pack(f'<i{mesh[0]}fi', 4 * mesh[0], *row, 4 * mesh[0])
    return content


MESH = np.random.default_rng(3).normal(size=(1, 3, 4, 5)).astype(np.float32)
CELL = np.diag([4.0, 5.0, 6.0])

averages = st.builds(
    PlanarAverage,
    arrays(np.float64, st.integers(1, 40), elements=st.floats(-50, 50)),
    st.floats(0.1, 100.0),
    st.just('VT'),
)


def test_sisl_reads_the_same(tmp_path, slab):
    path = tmp_path / f'{slab.name}.{slab.quantity}'
    path.write_bytes(CONTENT[path.name])
    grid = sisl.get_sile(path).read_grid()
    assert list(grid.shape) == PRINTED['mesh']
    codata = sisl.unit.siesta.unit_convert('Ry', 'eV')
    assert slab.values == pytest.approx(grid.grid.mean(axis=(0, 1), dtype=float) * SIESTA_RYDBERG_EV / codata, abs=1e-5)
    assert slab.values.mean() == pytest.approx(grid.grid.mean(dtype=float), rel=1e-5)
    assert slab.length == pytest.approx(2.6325, abs=1e-9)
    assert slab.length == pytest.approx(grid.cell[2, 2] / 10, rel=1e-6)
    assert np.array_equal(read_planar_average(path).values, slab.values)
    assert (slab.name, slab.quantity) == ('slab', path.suffix[1:])


def test_the_vacuum_is_where_siesta_says(slab):
    middle = np.interp(slab.length / 2, slab.positions, slab.values)
    assert PRINTED['vacuum_mean_ev'] - 0.002 < middle < PRINTED['vacuum_max_ev']
    # The scale of the work function of Al(100); the basis is too small for more.
    assert middle - FERMI == pytest.approx(4.42, abs=0.02)
    assert middle == pytest.approx(slab.values.max(), abs=1e-4)


def test_the_points_lie_on_the_lattice_and_the_cells_between_them(slab):
    """The slab is its own mirror image in the plane of atoms at zero."""
    assert slab.values[1:] == pytest.approx(slab.values[:0:-1], abs=1e-4)
    cells = slab.potential(1.0).values
    assert cells == pytest.approx(cells[::-1], abs=1e-4)
    assert cells == pytest.approx((slab.values + np.roll(slab.values, -1)) / 2, abs=0.1)
    assert cells.mean() == pytest.approx(slab.values.mean(), abs=1e-9)


def test_between_the_points_it_is_what_siesta_has_there(slab):
    half = PlanarAverage(slab.values[::2], slab.length, slab.quantity)
    step = slab.length / len(slab.values)
    between = half.potential(1.0, start=step - 0.001, end=step + 0.001).values
    assert between == pytest.approx(slab.values[1], abs=0.02)


def test_the_macroscopic_average_is_flat_inside_of_the_slab(slab):
    inside = (slab.positions < 2 * LAYER) | (slab.positions > slab.length - 2 * LAYER)
    flat = slab.macroscopic(LAYER)
    assert np.ptp(slab.values[inside]) > 6.0
    assert np.ptp(flat.values[inside]) < 0.04
    # Any other period leaves much of it.
    assert np.ptp(slab.macroscopic(1.3 * LAYER).values[inside]) > 1.0
    assert flat.values.mean() == pytest.approx(slab.values.mean(), abs=1e-9)
    assert flat.values.max() == pytest.approx(slab.values.max(), abs=0.01)


def test_transmission_through_the_vacuum():
    total = parse_planar_average(CONTENT['slab.VT'], 'slab.VT')
    barrier = total.macroscopic(LAYER).potential(1.0, zero=FERMI, lead=LAYER)
    assert len(barrier) == 160
    assert barrier.left == pytest.approx(barrier.right, abs=1e-4)
    assert barrier.left == pytest.approx(-14.83, abs=0.05)
    assert barrier.name == 'slab'

    energies = np.linspace(-10.0, 4.0, 29)
    found = solve(barrier, energies[0], energies[-1], 256).scatter(energies)
    assert found.unitarity_defect < 1e-10
    assert (np.diff(np.log(found.transmission)) > 0).all()

    # The factor before the exponential of Wentzel, Kramers and Brillouin is of the order of one.
    heights = np.clip(barrier.values, 0.0, None)
    exponent = 2 * np.sqrt(heights / HBAR2_OVER_2M0_EV_NM2).sum() * barrier.length / len(barrier)
    at_fermi = found.transmission[20]
    assert energies[20] == 0.0
    assert at_fermi == pytest.approx(3e-5, rel=0.15)
    assert 0.25 < at_fermi / np.exp(-exponent) < 4.0


def test_exchange_and_correlation_make_the_barrier_thinner():
    electrostatic, total = (
        parse_planar_average(content, name).macroscopic(LAYER).potential(1.0, zero=FERMI, lead=LAYER)
        for name, content in CONTENT.items()
    )
    found = [solve(barrier, -1.0, 1.0, 256).scatter([0.0]).transmission[0] for barrier in (electrostatic, total)]
    assert 100 * found[0] < found[1]


def test_a_region_that_begins_elsewhere_is_the_same_barrier(slab):
    """In place of the ends of the cell, the vacuum may be anywhere in the region."""
    whole = slab.macroscopic(LAYER)
    here = whole.potential(1.0, zero=FERMI, lead=LAYER)
    step = slab.length / len(slab.values)
    assert whole.potential(1.0, FERMI, start=-5 * step).values == pytest.approx(np.roll(here.values, 5))
    assert whole.potential(1.0, FERMI, start=0.3, end=0.3 + slab.length).length == pytest.approx(slab.length)
    window = whole.potential(1.0, FERMI, start=0.1, end=slab.length - 0.1, lead=LAYER)
    assert window.length == pytest.approx(slab.length - 0.2)
    assert len(window) == 148
    transmissions = [solve(region, -1.0, 1.0, 256).scatter([0.0]).transmission[0] for region in (here, window)]
    assert transmissions[0] == pytest.approx(transmissions[1], rel=0.02)


def test_means_of_a_wave():
    n, length = 12, 3.0
    wave = PlanarAverage(2.0 + np.cos(2 * np.pi * np.arange(n) / n), length, 'VH')
    region = wave.potential(0.5, zero=1.0, start=0.2, end=1.4, lead=0.4)
    edges = np.linspace(0.2, 1.4, 6)

    def integral(x):
        return x + length / (2 * np.pi) * np.sin(2 * np.pi * x / length)

    assert region.values == pytest.approx(np.diff(integral(edges)) / np.diff(edges))
    assert region.left == pytest.approx((integral(0.6) - integral(0.2)) / 0.4)
    assert region.right == pytest.approx((integral(1.4) - integral(1.0)) / 0.4)
    assert region.lead_masses.tolist() == [0.5, 0.5]
    assert wave.macroscopic(length).values == pytest.approx(np.full(n, 2.0))


@given(averages, st.floats(0.05, 1.0), st.floats(-1.0, 1.0))
def test_averages_keep_the_mean(average, part, start):
    mean = pytest.approx(average.values.mean(), abs=1e-9)
    assert average.macroscopic(part * average.length).values.mean() == mean
    assert average.potential(1.0, start=start * average.length).values.mean() == mean
    assert average.macroscopic(average.length).values == pytest.approx(np.full(len(average.values), mean.expected))


@given(averages, st.floats(0.05, 0.5), st.floats(-5.0, 5.0))
def test_the_zero_moves_the_whole_potential(average, part, zero):
    lead = part * average.length
    before, after = average.potential(1.0, lead=lead), average.potential(1.0, zero=zero, lead=lead)
    assert after.values == pytest.approx(before.values - zero)
    assert after.leads == pytest.approx(before.leads - zero)


@pytest.mark.parametrize('axis', [0, 1, 2])
def test_every_axis_of_the_mesh(axis):
    found = parse_planar_average(write_mesh(MESH, CELL), 'mesh.VT', axis)
    others = tuple(other for other in range(3) if other != axis)
    assert found.values == pytest.approx(SIESTA_RYDBERG_EV * MESH[0].mean(axis=others, dtype=float))
    assert found.length == pytest.approx(SIESTA_BOHR_ANG / 10 * CELL[axis, axis])


def test_an_oblique_vector_is_refused():
    cell = CELL.copy()
    cell[1, 0] = 0.1  # the planes remain perpendicular to the third vector
    content = write_mesh(MESH, cell)
    assert parse_planar_average(content, 'mesh.VT', 2).length == pytest.approx(6 * SIESTA_BOHR_ANG / 10)
    for axis, other in ((0, 1), (1, 0)):
        with pytest.raises(TransportError, match=f'vectors {axis} and {other} are not perpendicular'):
            parse_planar_average(content, 'mesh.VT', axis)


def test_spins_are_not_mixed():
    content = write_mesh(np.concatenate([MESH, MESH + 1]), CELL)
    with pytest.raises(TransportError, match=r'a potential for each spin: choose spin 0 \(up\) or 1'):
        parse_planar_average(content, 'iron.VT')
    up, down = (parse_planar_average(content, 'iron.VT', spin=spin) for spin in (0, 1))
    assert down.values - up.values == pytest.approx(np.full(5, SIESTA_RYDBERG_EV), rel=1e-6)
    with pytest.raises(TransportError, match='no spin 2: there are 2'):
        parse_planar_average(content, 'iron.VT', spin=2)
    with pytest.raises(TransportError, match='no spin 1: there are 1'):
        parse_planar_average(write_mesh(MESH, CELL), 'mesh.VH', spin=1)
    with pytest.raises(TransportError, match='has 4 components: only collinear spin'):
        parse_planar_average(write_mesh(np.concatenate(4 * [MESH]), CELL), 'iron.VT', spin=0)


def damaged(offset, replacement):
    content = bytearray(write_mesh(MESH, CELL))
    content[offset : offset + len(replacement)] = replacement
    return bytes(content)


@pytest.mark.parametrize(
    ('name', 'content', 'reason'),
    [
        ('slab.VT', b'', 'ends after 0 bytes'),
        ('slab.VT', CONTENT['slab.VT'][:-1], 'has 230503 bytes, a mesh of 18 x 18 x 160 points has 230504'),
        ('slab.VT', 2 * CONTENT['slab.VT'], 'has 461008 bytes'),
        ('slab.VT', (RECORDED / 'slab.fdf').read_bytes(), 'does not begin with a cell'),
        ('slab.RHO', CONTENT['slab.VT'], 'no potential of SIESTA by its name: .* end in .VH and .* end in .VT'),
        ('mesh.VT', damaged(4, struct.pack('<9d', *9 * [0.0])), 'does not begin with a cell'),
        ('mesh.VT', damaged(4, struct.pack('<d', np.nan)), 'does not begin with a cell'),
        ('mesh.VT', damaged(84, struct.pack('<i', 2_000_000_000)), 'a mesh of 2000000000 x 4 x 5 points'),
        ('mesh.VT', damaged(84, struct.pack('<i', -3)), 'does not begin with a cell'),
        ('mesh.VT', damaged(84, struct.pack('<2i', 4, 3)), 'has 504 bytes, a mesh of 4 x 3 x 5 points has 464'),
        ('mesh.VT', damaged(104, struct.pack('<i', 8)), 'damaged: its rows do not have 3 points'),
        ('mesh.VT', damaged(108, struct.pack('<f', np.nan)), 'mesh.VT has 1 value that is not finite'),
        ('mesh.VT', damaged(188, struct.pack('<2f', np.inf, -np.inf)), 'mesh.VT has 2 values that are not finite'),
        ('mesh.VT', damaged(108, struct.pack('<f', 1e9)), 'mean of plane 0 of 5 is 1.13'),
    ],
)
def test_bad_files_are_refused(name, content, reason):
    with pytest.raises(TransportError, match=reason):
        parse_planar_average(content, name)


def test_bad_paths_are_refused(tmp_path):
    with pytest.raises(TransportError, match=r'none\.VT cannot be read: there is no such file'):
        read_planar_average(tmp_path / 'none.VT')
    with pytest.raises(TransportError, match='or it is a folder'):
        read_planar_average(tmp_path)


@given(st.integers(0, 107), st.binary(min_size=1, max_size=12))
def test_no_damage_of_the_header_is_more_than_an_error(offset, replacement):
    try:
        found = parse_planar_average(damaged(offset, replacement), 'mesh.VT')
    except TransportError:
        return
    assert np.isfinite(found.values).all()
    assert found.length > 0


@pytest.mark.parametrize(
    ('arguments', 'reason'),
    [
        ({'start': np.nan}, 'the start of the region is nan'),
        ({'start': 9.0}, 'the start of the region is 9'),
        ({'end': 3.0}, 'the end of the region is 3: it must be between 0.001 and 2.6325 nm'),
        ({'start': 0.5, 'end': 0.4}, 'the end of the region is 0.4'),
        ({'lead': 1.4}, 'the stretch of a lead is 1.4: it must be between 0 and 1.31625 nm'),
        ({'lead': -0.1}, 'the stretch of a lead'),
        ({'zero': np.inf}, 'the zero of the energy is inf'),
        ({'mass': 0.0}, 'the effective mass is 0'),
    ],
)
def test_bad_regions_are_refused(slab, arguments, reason):
    with pytest.raises(TransportError, match=reason):
        slab.potential(**{'mass': 1.0} | arguments)


@pytest.mark.parametrize('period', [0.0, -0.2, np.nan, 2.7])
def test_bad_periods_are_refused(slab, period):
    with pytest.raises(TransportError, match='the period of a macroscopic average is'):
        slab.macroscopic(period)


def test_an_axis_that_is_none_is_refused():
    with pytest.raises(TransportError, match='no lattice vector 3: choose 0, 1 or 2'):
        parse_planar_average(CONTENT['slab.VH'], 'slab.VH', 3)
