from __future__ import annotations

import re
import struct

import numpy as np
import pytest
import sisl
from hypothesis import given, settings
from hypothesis import strategies as st

from aiida_nanoml.engines.siesta.fdf import read_fdf
from aiida_nanoml.engines.siesta.fdf_recognition import read_structure
from aiida_nanoml.engines.siesta.mesh import (
    choose_mesh,
    read_density,
    read_mesh,
    write_deformation,
    write_start,
)
from aiida_nanoml.errors import DensityError
from aiida_nanoml.structures import Structure
from aiida_nanoml.units import SIESTA_BOHR_ANG
from tests.mutations import fuzzed, mutations
from tests.stand_in.fixtures import recorded_runs

RUNS = recorded_runs()
IMINE = RUNS['methanimine']


@pytest.fixture(scope='module')
def files(tmp_path_factory):
    folder = IMINE.unpack(tmp_path_factory.mktemp('methanimine'))
    return {name: (folder / name).read_bytes() for name in IMINE.about['kept']} | {'folder': folder}


@pytest.fixture(scope='module')
def imine(files):
    return read_density(files['aiida.RHO'], files['aiida.DRHO'], IMINE.structure)


def write_records(values, cell_bohr):
    """Return the bytes of a mesh as SIESTA writes them: (components, n1, n2, n3)."""
    n_components, *mesh = values.shape
    content = struct.pack('<i9di', 72, *np.ravel(cell_bohr), 72) + struct.pack('<i4ii', 16, *mesh, n_components, 16)
    for row in values.transpose(0, 3, 2, 1).reshape(-1, mesh[0]):
        content += struct.pack(f'<i{mesh[0]}fi', 4 * mesh[0], *row, 4 * mesh[0])
    return content


SMALL = np.random.default_rng(1).uniform(1, 2, size=(1, 3, 4, 5)).astype(np.float32)
BOX = np.diag([3.0, 4.0, 5.0])
ATOM = Structure(np.array([1]), np.array([[1.0, 1.0, 1.0]]), BOX)
NEUTRAL = SMALL - SMALL.mean()
RECORDS = write_records(SMALL, BOX / SIESTA_BOHR_ANG)
NETCDF = write_deformation(NEUTRAL[0], BOX)


def test_both_formats_of_siesta_and_sisl_agree(files):
    for ending, netcdf in (('RHO', 'Rho.grid.nc'), ('DRHO', 'DeltaRho.grid.nc')):
        records, grid = read_mesh(files[f'aiida.{ending}'], ending), read_mesh(files[netcdf], netcdf)
        assert np.array_equal(records.values, grid.values)
        assert grid.cell == pytest.approx(records.cell, abs=1e-5)
        assert records.cell == pytest.approx(IMINE.structure.cell, abs=1e-9)
        reference = sisl.get_sile(files['folder'] / f'aiida.{ending}').read_grid()
        assert list(reference.shape) == IMINE.about['mesh'] == list(records.values.shape[1:])
        scale = sisl.unit.siesta.unit_convert('Bohr', 'Ang') ** -3
        assert records.values[0] * scale == pytest.approx(reference.grid, rel=1e-5, abs=1e-7)


def test_a_density_has_its_electrons_where_the_atoms_are(imine):
    assert imine.charge(imine.total) == pytest.approx(IMINE.about['electrons'], rel=5e-4)
    assert imine.charge(imine.difference) == pytest.approx(0.0, abs=1e-3)
    assert imine.free.min() >= 0
    assert imine.nmae(0) == pytest.approx(0.135, abs=1e-3)
    places = imine.structure.positions / imine.spacing
    number = imine.structure.symbols.index('N')
    # The valence density of nitrogen is highest in a shell around the nucleus.
    peak = np.array(np.unravel_index(imine.total.argmax(), imine.shape))
    assert np.linalg.norm((peak - places[number]) * imine.spacing) < 0.6


def test_netcdf_gives_the_same_density(files, imine):
    found = read_density(files['Rho.grid.nc'], files['DeltaRho.grid.nc'], IMINE.structure)
    assert np.array_equal(found.total, imine.total)
    assert np.array_equal(found.difference, imine.difference)


def test_the_directions_of_the_spin_are_added_up():
    up_and_down = np.concatenate([0.6 * SMALL, 0.4 * SMALL])
    delta = np.concatenate([NEUTRAL, 0 * NEUTRAL])
    cell = BOX / SIESTA_BOHR_ANG
    both = read_density(write_records(up_and_down, cell), write_records(delta, cell), ATOM)
    one = read_density(write_records(SMALL, cell), write_records(NEUTRAL, cell), ATOM)
    assert both.total == pytest.approx(one.total, rel=1e-6)
    assert both.difference == pytest.approx(one.difference, abs=1e-5)


def test_a_deformation_is_what_siesta_writes_itself(files, imine):
    written = read_mesh(write_deformation(imine.difference, imine.structure.cell), 'DeltaRho.IN.grid.nc')
    recorded = read_mesh(files['DeltaRho.grid.nc'], 'DeltaRho.grid.nc')
    assert written.values == pytest.approx(recorded.values, rel=1e-6, abs=1e-12)
    assert written.cell == pytest.approx(recorded.cell, rel=1e-6)


@pytest.mark.parametrize(
    'name', ['h-0000', 'atom-Fe', 'hea-00-bcc-3', 'hea-00-fcc-0', 'iron-spin', 'z-bare', 'z-C24H12']
)
def test_the_mesh_is_the_one_that_siesta_chose(name, tmp_path):
    output = (RUNS[name].unpack(tmp_path) / 'aiida.out').read_text()
    chosen = re.search(r'InitMesh: MESH = +(\d+) x +(\d+) x +(\d+)', output).groups()
    fdf = read_fdf(RUNS[name].fdf)
    cutoff = float(fdf.values['meshcutoff'].removesuffix('Ry'))
    assert choose_mesh(read_structure(fdf).cell, cutoff) == tuple(map(int, chosen))


@pytest.mark.parametrize(
    ('cell', 'coarse', 'fine'),
    [
        ([[0, 4, 4], [4, 0, 4], [4, 4, 0]], (18, 18, 18), (32, 32, 32)),
        ([[5, 0, 0], [-2.5, 4.330127, 0], [0, 0, 8]], (16, 16, 30), (30, 30, 54)),
        ([[6, 0, 0], [5, 4, 0], [1, -3, 7]], (24, 24, 40), (40, 48, 64)),
        ([[5, 0, 0], [12, 5, 0], [0.5, 9, 6]], (12, 20, 36), (30, 50, 80)),
        ([[3, 0, 0], [0.2, 4, 0.1], [0.3, 0.4, 15]], (12, 16, 60), (20, 30, 100)),
        ([[-3, 3, 3], [3, -3, 3], [3, 3, -3]], (16, 16, 16), (30, 30, 30)),
        ([[0, 5, 0], [6, 0, 0], [0, 0, 4]], (20, 24, 16), (36, 40, 30)),
    ],
)
def test_the_mesh_of_an_oblique_cell(cell, coarse, fine):
    """What SIESTA 4.1-b4-133 printed for one atom of hydrogen in these cells, at 37 and at 120 Ry."""
    assert choose_mesh(cell, 37.0) == coarse
    assert choose_mesh(cell, 120.0) == fine


@given(st.floats(2, 12), st.floats(2, 12), st.floats(-3, 3), st.floats(20, 200), st.sampled_from([1, 2, 3]))
def test_a_mesh_is_allowed_and_carries_the_cutoff(a, b, tilt, cutoff, sub_points):
    shape = choose_mesh([[a, 0, 0], [tilt, b, 0], [0, 0, 5]], cutoff, sub_points)
    for n in shape:
        assert n % sub_points == 0
        assert 30**20 % n == 0
    assert (np.pi * shape[2] / 5 * SIESTA_BOHR_ANG) ** 2 >= cutoff


@pytest.mark.parametrize(
    ('cell', 'cutoff', 'sub_points', 'reason'),
    [
        (np.diag([5.0, 5.0, 0.0]), 100.0, 2, 'span a volume'),
        (np.zeros((2, 3)), 100.0, 2, 'three lattice vectors'),
        (np.diag([5.0, 5.0, np.nan]), 100.0, 2, 'span a volume'),
        (np.diag([5.0, 5.0, 5.0]), 0.0, 2, 'a positive cutoff'),
        (np.diag([5.0, 5.0, 5.0]), np.inf, 2, 'a positive cutoff'),
        (np.diag([5.0, 5.0, 5.0]), 100.0, 0, 'sub-points'),
        (np.diag([5.0, 5.0, 5.0]), 1e9, 2, 'more than 2147483648 points'),
    ],
)
def test_cells_and_cutoffs_without_a_mesh_are_refused(cell, cutoff, sub_points, reason):
    with pytest.raises(DensityError, match=reason):
        choose_mesh(cell, cutoff, sub_points)


def test_a_start_stands_on_the_mesh_of_the_run(imine):
    structure = IMINE.structure
    same = read_mesh(write_start(imine, structure, 30.0), 'start')
    assert np.array_equal(same.values[0], read_mesh(write_deformation(imine.difference, structure.cell), '').values[0])
    finer = read_mesh(write_start(imine, structure, 60.0), 'start')
    assert finer.values.shape[1:] == choose_mesh(structure.cell, 60.0) != imine.shape
    scale = finer.values[0].size / same.values[0].size
    assert finer.values.sum(dtype=float) == pytest.approx(scale * same.values.sum(dtype=float), abs=1e-3)
    order = [4, 2, 0, 1, 3]
    moved = Structure(structure.numbers[order], (structure.positions - structure.cell[0])[order], structure.cell)
    assert write_start(imine, moved, 30.0) == write_start(imine, structure, 30.0)


@pytest.mark.parametrize(
    ('change', 'reason'),
    [
        (lambda s: Structure(s.numbers, s.positions, s.cell + np.diag([0.0, 0.0, 1.0])), 'with the same vacuum'),
        (lambda s: Structure(s.numbers, s.positions), 'with the same vacuum'),
        (lambda s: Structure(s.numbers, s.positions + 0.1, s.cell), 'are elsewhere in the box'),
        (lambda s: Structure(s.numbers[::-1], s.positions, s.cell), 'to other atoms'),
        (lambda s: Structure(s.numbers[:-1], s.positions[:-1], s.cell), 'to other atoms'),
    ],
)
def test_a_start_of_another_structure_is_refused(imine, change, reason):
    with pytest.raises(DensityError, match=reason):
        write_start(imine, change(IMINE.structure), 30.0)


def test_values_that_are_no_deformation_are_refused():
    with pytest.raises(DensityError, match='1 value that is not finite'):
        write_deformation(np.where(np.arange(8).reshape(2, 2, 2) == 3, np.nan, 0), BOX)
    with pytest.raises(DensityError, match=r'the shape \(2, 2\)'):
        write_deformation(np.zeros((2, 2)), BOX)


@pytest.mark.parametrize(
    ('rho', 'delta_rho', 'structure', 'reason'),
    [
        (RECORDS, RECORDS, ATOM, r'aiida.DRHO integrates to .* of two runs, or the structure is charged'),
        (write_records(0 * SMALL, BOX / SIESTA_BOHR_ANG), NETCDF, ATOM, 'aiida.RHO to 0'),
        (RECORDS, NETCDF, Structure(ATOM.numbers, ATOM.positions), 'aiida.RHO belongs to another box'),
        (RECORDS, write_deformation(NEUTRAL[0], 1.1 * BOX), ATOM, r'aiida.DRHO belongs to .* \[\[3.3, 0.0, 0.0\]'),
        (RECORDS, write_deformation(NEUTRAL[0, :2], BOX), ATOM, r'\(3, 4, 5\) with 1 .* \(2, 4, 5\) .* two runs'),
        (write_records(np.concatenate(4 * [SMALL]), BOX / SIESTA_BOHR_ANG), NETCDF, ATOM, 'has 4 components'),
        (write_records(np.nan * SMALL, BOX / SIESTA_BOHR_ANG), NETCDF, ATOM, 'not finite'),
        (write_records(np.full_like(SMALL, 3e38), BOX / SIESTA_BOHR_ANG), NETCDF, ATOM, 'not finite'),
    ],
)
def test_files_that_do_not_belong_together_are_refused(rho, delta_rho, structure, reason):
    with pytest.raises(DensityError, match=reason):
        read_density(rho, delta_rho, structure)


@pytest.mark.parametrize(
    ('content', 'reason'),
    [
        (b'', 'ends after 0 bytes'),
        (b'\x89HDF\r\n\x1a\n' + bytes(200), 'nccopy -k classic'),
        (b'CDF', 'no mesh of SIESTA that can be read'),
        (NETCDF[:-40], 'no mesh of SIESTA that can be read'),
        (RECORDS[:-1], 'it is not whole'),
        (2 * RECORDS, 'it is not whole'),
        (b'SystemLabel aiida\n' * 40, 'does not begin with a cell'),
        (write_records(SMALL, 0 * BOX), 'does not begin with a cell'),
        (NETCDF.replace(b'gridfunc', b'gridfund'), "KeyError 'gridfunc'"),
    ],
)
def test_other_files_are_refused(content, reason):
    with pytest.raises(DensityError, match=reason):
        read_mesh(content, 'aiida.RHO')


def read_or_refuse(content):
    try:
        mesh = read_mesh(content, 'damaged')
    except DensityError:
        return
    assert np.isfinite(mesh.cell).all()
    assert mesh.values.ndim == 4
    assert mesh.values.nbytes <= len(content) + 4096


@given(st.sampled_from([RECORDS, NETCDF]), st.data())
@settings(max_examples=300)
def test_no_damage_is_more_than_an_error(content, data):
    """Neither a crash, nor a long wait, nor much memory."""
    offset = data.draw(st.integers(0, len(content) - 1) | st.integers(0, 400))
    replacement = data.draw(st.binary(min_size=1, max_size=12))
    read_or_refuse(content[:offset])
    read_or_refuse((content[:offset] + replacement + content[offset + len(replacement) :])[: len(content)])


@pytest.mark.parametrize('content', [RECORDS, NETCDF], ids=['records', 'netcdf'])
@fuzzed()
def test_no_mutation_of_a_mesh_is_a_traceback_or_an_infinite_number(content, seed):
    for damaged in mutations(content, seed):
        try:
            mesh = read_mesh(damaged, 'aiida.VH')
        except DensityError:
            continue
        assert np.isfinite(mesh.values).all()
        assert np.isfinite(mesh.cell).all()
