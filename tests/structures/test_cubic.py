"""Cells of fcc and bcc: neighbours with all images, recognition, short-range order, scaling and names."""

import itertools

import numpy as np
import pytest
from ase.build import bulk
from hypothesis import given, settings
from hypothesis import strategies as st

from aiida_nanoml.errors import StructureError
from aiida_nanoml.structures import (
    AlloyParameters,
    StructureSet,
    generate_alloys,
    isolated_atoms,
    lattice_constants,
    name_alloys,
    phases_of,
    scale_cells,
    warren_cowley,
    with_lattice_constants,
)
from aiida_nanoml.structures.cubic import amounts_of, geometries, pair_counts
from tests.stand_in.fixtures import recorded_runs

ELEMENTS = ('Co', 'Cr', 'Fe', 'Ni', 'Al')
SHELLS = {'fcc': (2**-0.5, 1.0), 'bcc': (3**0.5 / 2, 1.0)}  # distances in lattice constants


@st.composite
def crystals(draw):
    """A supercell of the primitive cell by any small matrix, moved, its atoms in any order, and its phase."""
    phase = draw(st.sampled_from(['fcc', 'bcc']))
    a = draw(st.floats(2.4, 4.2))
    n, m, k = draw(st.sampled_from([(1, 1, 1), (2, 1, 1), (1, 2, 2), (3, 1, 2), (1, 1, 5), (2, 2, 2)]))
    shifts = [draw(st.integers(0, m - 1)), draw(st.integers(0, k - 1)), draw(st.integers(0, k - 1))]
    matrix = np.array([[n, shifts[0], shifts[1]], [0, m, shifts[2]], [0, 0, k]])
    primitive = np.array(bulk('Co', phase, a=a).cell)
    cell = matrix @ primitive
    points = np.array(list(itertools.product(range(n), range(m), range(k)))) @ primitive
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    points = rng.permutation(points) + rng.uniform(-5, 5, 3)
    symbols = rng.integers(0, 5, len(points))
    numbers = np.array([27, 24, 26, 28, 13])[symbols]
    crystal = StructureSet(numbers, points, [0, len(points)], [cell], np.ones((1, 3), dtype=bool))
    return crystal, phase, a


def by_a_plain_loop(crystal, phase, a):
    """Ordered pairs of elements in two shells, over all images within reach."""
    symbols, points, cell = crystal[0].symbols, crystal.positions, crystal.cells[0]
    counts = np.zeros((2, 5, 5), dtype=int)
    reach = np.ceil(a * 1.01 * np.linalg.norm(np.linalg.inv(cell), axis=0)).astype(int) + 1
    images = [np.array(step) @ cell for step in itertools.product(*(range(-r, r + 1) for r in reach))]
    for (first, start), (second, end) in itertools.product(enumerate(points), repeat=2):
        pair = ELEMENTS.index(symbols[first]), ELEMENTS.index(symbols[second])
        lengths = [np.linalg.norm(end + image - start) for image in images]
        for shell, radius in enumerate(SHELLS[phase]):
            counts[(shell, *pair)] += sum(abs(length - radius * a) < 0.01 * a for length in lengths)
    return counts


@settings(max_examples=25, deadline=None)
@given(crystals())
def test_pairs_agree_with_a_plain_loop(case):
    crystal, phase, a = case
    np.testing.assert_array_equal(pair_counts(crystal, ELEMENTS)[0], by_a_plain_loop(*case))
    assert phases_of(crystal).tolist() == [phase]
    np.testing.assert_allclose(lattice_constants(crystal), a)


@pytest.mark.parametrize(('phase', 'first', 'second'), [('fcc', 12, 6), ('bcc', 8, 6)])
@pytest.mark.parametrize('n_atoms', [8, 16, 32, 108])
def test_known_coordination_numbers(phase, first, second, n_atoms):
    cells = generate_alloys(AlloyParameters(count=2, seed=3, n_atoms=n_atoms, phases=(phase,)))
    shape = geometries(cells)[0]
    assert (shape.phase, shape.rows.tolist()) == (phase, [0, 1])
    shells, sites, _ = shape.neighbours
    assert (np.bincount(sites[shells == 0]) == first).all()
    assert (np.bincount(sites[shells == 1]) == second).all()
    assert len(set(sites.tolist())) == n_atoms


def test_neighbours_are_searched_once_for_each_geometry():
    """Two lattices, at any number of scales, orders of atoms and arrangements."""
    cells = scale_cells(generate_alloys(AlloyParameters(count=5, seed=0)), [0.9, 1.0, 1.1])
    rng = np.random.default_rng(0)
    order = np.concatenate([start + rng.permutation(8) for start in cells.offsets[:-1]])
    shuffled = StructureSet.from_arrays(
        cells.to_arrays() | {'numbers': cells.numbers[order], 'positions': cells.positions[order]}
    )
    shapes = geometries(StructureSet.concatenate([cells, shuffled]))
    assert sorted((shape.phase, len(shape.rows)) for shape in shapes) == [('bcc', 30), ('fcc', 30)]
    np.testing.assert_array_equal(pair_counts(shuffled, ELEMENTS), pair_counts(cells, ELEMENTS))


def test_recorded_cells():
    runs = recorded_runs('alloy')
    cells = StructureSet.from_structures([run.structure for run in runs.values()])
    assert phases_of(cells).tolist() == [name.split('-')[2] for name in runs]
    first = dict(zip(runs, lattice_constants(cells), strict=True))
    assert first['hea-00-fcc-0'] == pytest.approx(3.30)
    assert first['hea-00-bcc-0'] == pytest.approx(2.62)
    named = name_alloys(cells)
    assert named.families.tolist() == [name.split('-')[2] for name in runs]
    assert named.names.tolist() == [f'alloy-00{name.split("-")[1]}' for name in runs]


def test_what_is_neither_phase_is_refused_with_its_name():
    fcc = bulk('Ni', cubic=True)
    open_cell = fcc.copy()
    open_cell.pbc = (True, True, False)
    rattled = fcc.repeat(2)
    rattled.positions[0] += [0.6, 0, 0]
    for strange in (bulk('Co', 'hcp', a=2.5, c=2.5 * (8 / 3) ** 0.5), bulk('Si'), bulk('Po', 'sc', a=3), open_cell):
        cells = StructureSet.from_ase([fcc, strange, rattled], names=['good', 'strange', 'rattled'])
        with pytest.raises(
            StructureError, match=r'structure 1 \(strange\) is none of the known phases \(2 rows in all'
        ):
            phases_of(cells)
        with pytest.raises(StructureError, match='strange'):
            name_alloys(cells)


def test_small_displacements_do_not_matter():
    cells = generate_alloys(AlloyParameters(count=3, seed=0, n_atoms=32))
    rng = np.random.default_rng(1)
    moved = StructureSet.from_arrays(
        cells.to_arrays() | {'positions': cells.positions + rng.normal(0, 0.03, cells.positions.shape)}
    )
    np.testing.assert_array_equal(pair_counts(moved, ELEMENTS), pair_counts(cells, ELEMENTS))


# Short-range order ----------------------------------------------------------------------------------------------------


def test_short_range_order_of_ordered_crystals():
    """B2: only unlike first neighbours, only like second ones. L1_2, AB3: the neighbours of A are all B."""
    a = 2.9
    points = np.array([[0, 0, 0], [0.5, 0.5, 0.5]])
    b2 = StructureSet([28, 13], a * points, [0, 2], [a * np.eye(3)], np.ones((1, 3), dtype=bool))
    np.testing.assert_allclose(warren_cowley(b2, ('Ni', 'Al'))[0], [[[1, -1], [-1, 1]], [[-1, 1], [1, -1]]])
    points = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
    l12 = StructureSet([13, 28, 28, 28], 3.6 * points, [0, 4], [3.6 * np.eye(3)], np.ones((1, 3), dtype=bool))
    order = warren_cowley(l12, ('Al', 'Co', 'Ni'))[0]
    np.testing.assert_allclose(order[0][np.ix_([0, 2], [0, 2])], [[1, -1 / 3], [-1 / 3, 1 / 9]])
    assert np.isnan(order[:, 1]).all()
    assert np.isnan(order[:, :, 1]).all()


def test_short_range_order_is_weighted_to_zero():
    """The neighbours of an element are some element: the parameters weighted by the fractions sum to zero."""
    cells = generate_alloys(AlloyParameters(count=4, seed=0, n_atoms=32))
    shares = amounts_of(cells, ELEMENTS) / 32
    sums = np.nansum(warren_cowley(cells, ELEMENTS) * shares[:, None, None, :], axis=3)
    np.testing.assert_allclose(sums, 0, atol=1e-12)


def test_an_element_outside_the_list_is_named():
    cells = generate_alloys(AlloyParameters(count=1, seed=0, elements=('Al', 'Ni')))
    with pytest.raises(StructureError, match=r'structure 0 \(alloy-0000\) has the element Ni; known are Al, Co'):
        pair_counts(cells, ('Al', 'Co'))


# Scaling --------------------------------------------------------------------------------------------------------------


def test_scaling_keeps_everything_but_lengths():
    cells = generate_alloys(AlloyParameters(count=2, seed=0))
    scaled = scale_cells(cells, [0.95, 1.0, 1.1])
    assert scaled.names.tolist() == np.repeat(cells.names, 3).tolist()
    assert scaled.families.tolist() == np.repeat(cells.families, 3).tolist()
    assert scaled.select([1, 4, 7, 10]) == cells
    np.testing.assert_allclose(
        lattice_constants(scaled).reshape(4, 3), np.outer(lattice_constants(cells), [0.95, 1.0, 1.1])
    )
    again = StructureSet.from_arrays(scaled.to_arrays())
    assert again == scaled


def test_lattice_constants_can_be_set():
    cells = generate_alloys(AlloyParameters(count=2, seed=0))
    wanted = [3.5, 2.8, 3.6, 2.9]
    found = with_lattice_constants(cells, wanted)
    np.testing.assert_allclose(lattice_constants(found), wanted)
    np.testing.assert_array_equal(found.numbers, cells.numbers)
    assert (found.names == cells.names).all()


@pytest.mark.parametrize(
    ('factors', 'message'),
    [
        ([1.0, 0.0], r'must be positive numbers; one is 0\.0'),
        ([-1.0], 'must be positive'),
        ([float('nan')], 'must be positive numbers; one is nan'),
        ([float('inf')], 'must be positive numbers; one is inf'),
        ([], 'at least one number'),
        ([[1.0]], 'a row of'),
        (['wide'], 'must be a row of numbers'),
        ([0.1], r'structure 0 \(alloy-0000\) would have a lattice constant of 0\.\d+ Å; from 1\.5 to 20 Å'),
        ([1.0, 50.0], r'structure 0 \(alloy-0000\) would have'),
    ],
)
def test_impossible_factors_are_refused(factors, message):
    cells = generate_alloys(AlloyParameters(count=1, seed=0))
    with pytest.raises(StructureError, match=message):
        scale_cells(cells, factors)


def test_impossible_lattice_constants_are_refused():
    cells = generate_alloys(AlloyParameters(count=1, seed=0))
    with pytest.raises(StructureError, match='3 lattice constants do not fit a set of 2 structures'):
        with_lattice_constants(cells, [3, 3, 3])
    with pytest.raises(StructureError, match=r'structure 1 \(alloy-0000\) would have a lattice constant of 36\.000'):
        with_lattice_constants(cells, [3.6, 36])
    with pytest.raises(StructureError, match='none of the known phases'):
        with_lattice_constants(isolated_atoms(['Al']), [3])


# Names ----------------------------------------------------------------------------------------------------------------


def test_names_come_back_in_any_order():
    """Curves are found by their arrangement: the rows of a scan may be mixed, moved and of any scale."""
    cells = generate_alloys(AlloyParameters(count=6, seed=4))
    scan = scale_cells(cells, [0.97, 1.0, 1.03])
    bare = StructureSet.from_arrays(
        scan.to_arrays() | {'names': [''] * len(scan), 'families': [''] * len(scan)}
    ).select(np.random.default_rng(0).permutation(len(scan)))
    named = name_alloys(bare)
    label = dict(zip(scan.hashes, zip(scan.names, scan.families, strict=True), strict=True))
    pairs = {(new, *label[key]) for new, key in zip(named.names, named.hashes, strict=True)}
    assert len(pairs) == 12, 'one new name for each alloy, and the phases as they were'
    assert len({new for new, _, _ in pairs}) == 6
    assert list(dict.fromkeys(named.names.tolist())) == [f'alloy-{number:04d}' for number in range(6)]


def test_several_arrangements_of_one_composition_are_several_alloys():
    parameters = AlloyParameters(count=3, seed=0, composition={'Al': 0.5, 'Ni': 0.5}, elements=('Al', 'Ni'))
    cells = generate_alloys(parameters)
    order = [4, 0, 2, 1, 5, 3]
    assert name_alloys(cells.select(order)).names.tolist() == [
        'alloy-0000', 'alloy-0001', 'alloy-0002', 'alloy-0000', 'alloy-0001', 'alloy-0002',
    ]  # fmt: skip


def test_a_phase_alone_is_an_alloy():
    cells = generate_alloys(AlloyParameters(count=2, seed=0))
    assert name_alloys(cells.select([1, 2, 3])).names.tolist() == ['alloy-0000', 'alloy-0001', 'alloy-0001']


def test_no_structures():
    nothing = generate_alloys(AlloyParameters(count=1, seed=0)).select([])
    assert pair_counts(nothing, ELEMENTS).shape == (0, 2, 5, 5)
    assert len(name_alloys(nothing)) == len(scale_cells(nothing, [1.0])) == 0
