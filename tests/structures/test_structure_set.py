"""Structure sets: what goes in comes out, hashes follow the content only, and unphysical input is refused."""

import io

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.core import Lattice, Molecule
from pymatgen.core import Structure as Crystal

from aiida_nanoml.errors import StructureError
from aiida_nanoml.structures import FlakeParameters, Structure, StructureSet, atomic_numbers, generate_flakes, place


@pytest.fixture(scope='module')
def mixed():
    atoms = [molecule('C6H6'), molecule('H2O'), bulk('Cu', cubic=True), molecule('CO2')]
    return StructureSet.from_ase(atoms, names=['benzene', 'water', 'copper', 'dioxide'], families=['h', '', '', ''])


def test_sizes_and_formulas(mixed):
    assert len(mixed) == 4
    assert mixed.counts.tolist() == [12, 3, 4, 3]
    assert mixed.formulas == ['C6H6', 'H2O', 'Cu4', 'CO2']
    assert mixed.elements == ('C', 'Cu', 'H', 'O')
    assert mixed.rows.tolist() == [0] * 12 + [1] * 3 + [2] * 4 + [3] * 3


def test_hill_order():
    """Carbon and hydrogen lead only where there is carbon."""
    positions = np.arange(12.0).reshape(4, 3) * 2
    methane_like = Structure(atomic_numbers(['N', 'H', 'C', 'B']), positions)
    borazine_like = Structure(atomic_numbers(['N', 'H', 'H', 'B']), positions)
    assert StructureSet.from_structures([methane_like, borazine_like]).formulas == ['CHBN', 'BH2N']


def test_one_structure(mixed):
    copper = mixed[2]
    assert copper.symbols == ['Cu'] * 4
    assert copper.pbc.all()
    assert copper.cell[0, 0] == pytest.approx(3.61)
    assert sorted(mixed[-1].symbols) == ['C', 'O', 'O']
    assert [len(part) for part in mixed] == [12, 3, 4, 3]
    with pytest.raises(IndexError, match='row 4'):
        mixed[4]


@pytest.mark.parametrize(
    'rows', [slice(1, None), [1, 2, 3], np.array([1, 2, 3]), np.array([False, True, True, True]), [-3, -2, -1]]
)
def test_select(mixed, rows):
    part = mixed.select(rows)
    assert part.names.tolist() == ['water', 'copper', 'dioxide']
    assert part.hashes.tolist() == mixed.hashes[1:].tolist()
    np.testing.assert_array_equal(part.positions, mixed.positions[12:])


def test_select_in_any_order_and_repeated(mixed):
    part = mixed.select([2, 0, 2])
    assert part.formulas == ['Cu4', 'C6H6', 'Cu4']
    assert part.families.tolist() == ['', 'h', '']
    assert len(mixed.select([])) == 0


@pytest.mark.parametrize('rows', [[4], [-5], np.array([True, False]), [0.5], [[0]]])
def test_select_refuses(mixed, rows):
    with pytest.raises(StructureError):
        mixed.select(rows)


def test_concatenate_undoes_select(mixed):
    assert StructureSet.concatenate([mixed.select([0, 1]), mixed.select([2]), mixed.select([3])]) == mixed
    assert StructureSet.concatenate([mixed, mixed.select([])]) == mixed
    with pytest.raises(StructureError, match='no structure set'):
        StructureSet.concatenate([])


def test_arrays_survive_an_archive_without_pickle(mixed):
    stream = io.BytesIO()
    np.savez(stream, **mixed.to_arrays())
    stream.seek(0)
    with np.load(stream, allow_pickle=False) as archive:
        assert StructureSet.from_arrays(archive) == mixed


def test_nothing_can_be_changed(mixed):
    for name, values in mixed.to_arrays().items():
        with pytest.raises(ValueError, match='read-only'):
            values[:] = values[:]
        with pytest.raises(AttributeError, match='cannot be changed'):
            setattr(mixed, name, values)
    with pytest.raises(ValueError, match='read-only'):
        mixed.hashes[0] = ''


def test_later_changes_of_the_input_do_not_reach_the_set():
    positions = np.array([[0.0, 0, 0], [0, 0, 1]])
    created = StructureSet([1, 1], positions, [0, 2])
    positions += 7
    assert created.positions[1].tolist() == [0, 0, 1]


def test_equality_includes_names(mixed):
    renamed = StructureSet.from_arrays({**mixed.to_arrays(), 'names': ['a', 'b', 'c', 'd']})
    assert renamed != mixed
    assert renamed.hashes.tolist() == mixed.hashes.tolist()
    assert mixed != 'C6H6'


def test_ase_round_trip(mixed):
    atoms = mixed.to_ase()
    assert atoms[0].info == {'name': 'benzene', 'family': 'h'}
    assert atoms[1].info == {'name': 'water'}
    again = StructureSet.from_ase(atoms, mixed.names, mixed.families)
    assert again == mixed


def test_pymatgen_round_trip(mixed):
    objects = mixed.to_pymatgen()
    assert [type(part) for part in objects] == [Molecule, Molecule, Crystal, Molecule]
    assert StructureSet.from_pymatgen(objects).hashes.tolist() == mixed.hashes.tolist()


def test_pymatgen_disorder_is_refused():
    alloy = Crystal(Lattice.cubic(3.6), [{'Ni': 0.5, 'Co': 0.5}], [[0, 0, 0]])
    with pytest.raises(StructureError, match='partly occupied'):
        StructureSet.from_pymatgen([alloy])


# Content hashes -------------------------------------------------------------------------------------------------------


def one(numbers, positions, cell=None, pbc=None):
    cells = None if cell is None else [cell]
    periodic = None if pbc is None else [pbc]
    return StructureSet(numbers, positions, [0, len(numbers)], cells, periodic)


def test_hash_is_stable():
    """A stored hash must keep its meaning over versions and machines."""
    water = one([8, 1, 1], [[0, 0, 0.119262], [0, 0.763239, -0.477047], [0, -0.763239, -0.477047]])
    assert water.hashes.tolist() == ['7b7d856d67d3f3fe82ae335f3884005a70775d1d469298e66f7225eb6a10a890']


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10**6), row=st.integers(0, 9))
def test_hash_ignores_the_order_of_atoms(seed, row):
    flakes = generate_flakes(FlakeParameters('z', 2, 10, 5))
    flake = flakes[row]
    order = np.random.default_rng(seed).permutation(len(flake))
    shuffled = one(flake.numbers[order], flake.positions[order])
    assert shuffled.hashes[0] == flakes.hashes[row]


def test_hash_ignores_the_sign_of_zero_and_noise_far_below_its_resolution():
    points = np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 1.1]])
    expected = one([6, 8], points).hashes[0]
    assert one([6, 8], np.where(points == 0, -0.0, points)).hashes[0] == expected
    assert one([6, 8], points + 1e-9).hashes[0] == expected


@settings(deadline=None, max_examples=25)
@given(shift=st.tuples(*[st.floats(-50, 50)] * 3), row=st.integers(0, 9))
def test_hash_of_an_isolated_structure_ignores_where_it_stands_and_its_box(shift, row):
    flakes = generate_flakes(FlakeParameters('z', 2, 10, 5))
    flake = flakes[row]
    assert one(flake.numbers, flake.positions + np.array(shift), np.eye(3) * 40).hashes[0] == flakes.hashes[row]


def test_a_box_does_not_change_the_hash_of_coordinates_halfway_between_two_roundings():
    """Files of six decimals hold such coordinates: what a shift leaves in the last bits must not decide."""
    points = 1.1 * np.arange(30).reshape(10, 3) + np.where(np.arange(10)[:, None] > 0, 12345e-6, 0)
    flake = Structure(np.full(10, 6), np.round(points, 6))
    boxes = [place(flake, vacuum) for vacuum in (5.3, 10.0, 12.7)]
    assert len(set(StructureSet.from_structures([flake, *boxes]).hashes.tolist())) == 1


def test_hash_sees_every_part_of_the_content():
    points = np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 1.1]])
    cell = np.eye(3) * 10
    variants = [
        one([6, 8], points),
        one([8, 6], points),
        one([6, 8], points + np.array([[0, 0, 0], [0, 0, 2e-5]])),
        one([6, 8], points, cell, [True, True, True]),
        one([6, 8], points + 0.5, cell, [True, True, True]),
        one([6, 8], points, cell, [True, True, False]),
        one([6, 8], points, cell * 1.001, [True, True, True]),
    ]
    assert len({variant.hashes[0] for variant in variants}) == len(variants)


# What is refused ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'numbers': [6, 0, 6, 8]}, r'structure 0 \(a\): atom 1 has the atomic number 0'),
        ({'numbers': [6, 8, 6, 119]}, r'structure 1 \(b\): atom 1 has the atomic number 119'),
        ({'numbers': [6, 8, 6, 300]}, 'outside the range'),
        ({'numbers': [6.0, 8.0, 6.0, 8.0]}, 'type float64'),
        ({'numbers': [6, 8, 6]}, r'shape \(3,\)'),
        ({'positions': [[0, 0, 0], [0, 0, 1], [0, 0, 0], [0, 0, np.nan]]}, r'structure 1 \(b\): atom 1 is at'),
        ({'positions': [[0, 0, 0], [0, 0, 1], [0, 0, 0], [0, 0, np.inf]]}, 'must be finite'),
        ({'positions': [[0, 0, 0], [0, 0, 1], [0, 0, 0], [0, 0, 1e6]]}, 'not beyond 5000 Å'),
        ({'positions': [[0, 0, 0], [0, 0, 1], [0, 0, 0], [0, 0, 0.4]]}, r'\(b\): atom 0 and atom 1.* 0\.400 Å'),
        ({'positions': [[0, 0], [0, 1], [0, 0], [0, 1]]}, r'shape \(4, 2\)'),
        ({'positions': 'abc'}, 'positions'),
        ({'offsets': [0, 2, 2]}, 'structure 1 has no atoms'),
        ({'offsets': [1, 2, 4]}, 'starts with 0'),
        ({'offsets': [0, 2, 3]}, 'shape'),
        ({'cells': np.full((2, 3, 3), np.nan)}, r'structure 0 \(a\) has a cell'),
        ({'cells': np.zeros((1, 3, 3))}, 'cells'),
        ({'pbc': np.ones((2, 3), dtype=bool)}, r'structure 0 \(a\) is periodic but its lattice vectors span no cell'),
        ({'pbc': [[2, 0, 0], [0, 0, 0]]}, 'pbc'),
        ({'names': ['a']}, 'names'),
        ({'names': [1, 2]}, 'must be texts'),
        ({'families': ['h', 's', 'z']}, 'families'),
    ],
)
def test_refused_arrays(changes, message):
    good = {
        'numbers': [6, 8, 6, 8],
        'positions': [[0, 0, 0], [0, 0, 1.1], [0, 0, 0], [0, 0, 1.1]],
        'offsets': [0, 2, 4],
        'cells': np.zeros((2, 3, 3)),
        'pbc': np.zeros((2, 3), dtype=bool),
        'names': ['a', 'b'],
        'families': ['', ''],
    }
    assert len(StructureSet.from_arrays(good)) == 2
    with pytest.raises(StructureError, match=message):
        StructureSet.from_arrays({**good, **changes})


def test_missing_and_unknown_arrays_are_named(mixed):
    arrays = mixed.to_arrays()
    del arrays['pbc']
    with pytest.raises(StructureError, match=r"missing: \['pbc'\], unknown: \['charges'\]"):
        StructureSet.from_arrays({**arrays, 'charges': np.zeros(22)})


def test_unknown_symbols_are_named():
    assert atomic_numbers(['H', 'Og']).tolist() == [1, 118]
    with pytest.raises(StructureError, match='X, Zz'):
        atomic_numbers(['C', 'Zz', 'X'])


def test_a_structure_of_wrong_shape_is_refused():
    with pytest.raises(StructureError, match='positions'):
        Structure(np.array([6, 6]), np.zeros((3, 3)))


def periodic(positions, cell, pbc=(True, True, True)):
    return one([29] * len(positions), positions, cell, list(pbc))


def test_atoms_on_periodic_images_are_refused():
    cell = np.diag([4.0, 5.0, 6.0])
    for axis in range(3):
        near, far = np.full(3, 2.0), np.full(3, 2.0)
        near[axis], far[axis] = 0.1, cell[axis, axis] - 0.1
        with pytest.raises(StructureError, match=r'periodic image of atom 1 are 0\.200 Å'):
            periodic([near, far], cell)
        open_axis = [other != axis for other in range(3)]
        assert len(periodic([near, far], cell, open_axis)) == 1


def test_images_across_a_corner_and_far_outside_the_cell_are_seen():
    cell = np.array([[3.0, 0, 0], [1.2, 3, 0], [0.3, 0.4, 3]])
    corner = cell.sum(axis=0)
    for shift in (0, 5, -3):
        with pytest.raises(StructureError, match='periodic image'):
            periodic([[0.05, 0.05, 0.05], corner - 0.05 + shift * cell[1]], cell)


@settings(deadline=None, max_examples=50)
@given(data=st.data())
def test_periodic_distances_agree_with_ase(data):
    """The same pairs are refused as ASE's minimum image distance says, in skewed cells."""
    numbers = st.floats(-1, 1, allow_nan=False)
    skew = np.array(data.draw(st.lists(numbers, min_size=9, max_size=9))).reshape(3, 3)
    cell = np.eye(3) * 4 + skew
    pbc = np.array(data.draw(st.lists(st.booleans(), min_size=3, max_size=3)))
    first = np.array(data.draw(st.lists(st.floats(-6, 6, allow_nan=False), min_size=3, max_size=3)))
    offset = np.array(data.draw(st.lists(st.floats(-0.5, 0.5, allow_nan=False), min_size=3, max_size=3)))
    steps = np.array(data.draw(st.lists(st.integers(-2, 2), min_size=3, max_size=3)))
    points = np.array([first, first + offset + (steps * pbc) @ cell])
    distance = Atoms('Cu2', points, cell=cell, pbc=pbc).get_distance(0, 1, mic=True)
    if abs(distance - 0.5) < 1e-6:
        return
    if distance < 0.5:
        with pytest.raises(StructureError, match='not physical'):
            periodic(points, cell, pbc)
    else:
        assert len(periodic(points, cell, pbc)) == 1


def test_a_flat_or_thin_periodic_cell_is_refused():
    with pytest.raises(StructureError, match='span no cell'):
        periodic([[0, 0, 0]], np.array([[3.0, 0, 0], [6, 0, 0], [0, 0, 3]]))
    with pytest.raises(StructureError, match='thinner'):
        periodic([[0, 0, 0]], np.diag([3.0, 3.0, 0.4]))
    assert len(periodic([[0, 0, 0]], np.diag([3.0, 3.0, 0.4]), (True, True, False))) == 1


def test_a_name_that_would_be_shortened_is_refused():
    with pytest.raises(StructureError, match='NUL'):
        StructureSet([1], [[0, 0, 0]], [0, 1], names=['one\0'])
