"""The quadruplet vector: known answers, symmetry, agreement with a plain loop, refusal of what it cannot describe."""

import itertools
import warnings

import numpy as np
import pytest
from ase.build import bulk, molecule
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from aiida_nanoml.errors import DescriptorError
from aiida_nanoml.features import QuadrupletDescriptor
from aiida_nanoml.features.quadruplets import CLASSES
from aiida_nanoml.structures import FlakeParameters, StructureSet, flake_lattice, generate_flakes

FLAKES = generate_flakes(FlakeParameters('s', (9, 6), 60, 21))


def row(structures, **params):
    descriptor = QuadrupletDescriptor(**params)
    values = descriptor.fit_transform(structures)[0]
    return {name: value for name, value in zip(descriptor.get_feature_names_out(), values, strict=True) if value}


def by_a_plain_loop(flake):
    """Quadruplets of one flake, atom by atom from sorted distances."""
    amounts = dict.fromkeys(CLASSES, 0)
    symbols = flake.symbols
    for atom, symbol in enumerate(symbols):
        if symbol == 'H':
            continue
        distances = np.linalg.norm(flake.positions - flake.positions[atom], axis=1)
        near = sorted(symbols[other] for other in np.argsort(distances)[1:4])
        amounts[f'{symbol}|{"".join(near)}'] += 1
    heavy = sum(symbol != 'H' for symbol in symbols)
    shares = [amounts[name] / heavy for name in CLASSES]
    return np.array(shares + [symbols.count(element) / len(symbols) for element in ('H', 'B', 'C', 'N')])


def test_class_sets():
    """What the rules of coherent domains allow: B never sees B, N never N, and carbon never both; nothing else."""
    allowed = set()
    for centre, forbidden in (('C', 'BN'), ('B', 'B'), ('N', 'N')):
        for around in itertools.combinations_with_replacement('BCHN', 3):
            text = ''.join(around)
            mixed = centre == 'C' and 'B' in text and 'N' in text
            if mixed or text.count('H') > 1 or (centre != 'C' and forbidden in text):
                continue
            allowed.add(f'{centre}|{text}')
    assert set(CLASSES) == allowed
    assert len(CLASSES) == 26
    assert set(CLASSES[22:]) == {'C|BBB', 'C|NNN', 'B|CCC', 'N|CCC'}


def test_benzene_and_borazine():
    benzene = StructureSet.from_ase([molecule('C6H6')])
    assert row(benzene) == {'C|CCH': 1.0, 'fraction_H': 0.5, 'fraction_C': 0.5}
    numbers = np.where(benzene.numbers == 6, np.resize([5, 7], 12), 1)
    borazine = StructureSet(numbers, benzene.positions, benzene.offsets)
    assert row(borazine) == {'B|HNN': 0.5, 'N|BBH': 0.5, 'fraction_H': 0.5, 'fraction_B': 0.25, 'fraction_N': 0.25}


def test_pure_carbon_flake():
    found = row(StructureSet.from_structures([flake_lattice('h', 2)]))
    assert found == pytest.approx({'C|CCC': 24 / 42, 'C|CCH': 18 / 42, 'fraction_H': 0.3, 'fraction_C': 0.7})


def test_columns():
    assert ' '.join(QuadrupletDescriptor().get_feature_names_out()) == (
        'C|CCC C|BCC C|CCN C|BBC C|CNN C|CCH C|BCH C|CHN C|BBH C|HNN '
        'B|NNN B|CNN B|CCN B|HNN B|CHN B|CCH N|BBB N|BBC N|BCC N|BBH N|BCH N|CCH '
        'fraction_H fraction_B fraction_C fraction_N'
    )
    for classes, unknown, n in ((22, 'error', 26), (26, 'drop', 30), (22, 'overflow', 27), (26, 'overflow', 31)):
        descriptor = QuadrupletDescriptor(classes, unknown)
        known = FLAKES.select(QuadrupletDescriptor(22).unknown_counts(FLAKES) == 0)
        assert (
            descriptor.transform(known).shape
            == (len(known), n)
            == (len(known), len(descriptor.get_feature_names_out()))
        )


@pytest.mark.parametrize('shape', ['growth', 'rectangle'])
@pytest.mark.parametrize(('family', 'size'), [('h', 2), ('s', (9, 6)), ('z', 3)])
def test_agrees_with_a_plain_loop(family, size, shape):
    flakes = generate_flakes(FlakeParameters(family, size, 12, 3, shape=shape))
    expected = np.array([by_a_plain_loop(flake) for flake in flakes])
    np.testing.assert_allclose(QuadrupletDescriptor(26).transform(flakes), expected, atol=1e-12)


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 10**6), which=st.integers(0, len(FLAKES) - 1))
def test_rows_do_not_change_with_place_order_or_small_displacements(seed, which):
    """Rotation, reflection, translation, another order of atoms, and a relaxation by some hundredths of an Å."""
    random = np.random.default_rng(seed)
    flake = FLAKES[which]
    turn, _ = np.linalg.qr(random.normal(size=(3, 3)))
    order = random.permutation(len(flake))
    points = flake.positions @ turn + random.uniform(-50, 50, 3) + random.uniform(-0.05, 0.05, flake.positions.shape)
    moved = StructureSet(flake.numbers[order], points[order], [0, len(flake)])
    descriptor = QuadrupletDescriptor(26)
    np.testing.assert_array_equal(descriptor.transform(moved)[0], descriptor.transform(FLAKES.select([which]))[0])


@settings(deadline=None, max_examples=20)
@given(rows=st.lists(st.integers(0, len(FLAKES) - 1), min_size=1, max_size=8))
def test_a_row_does_not_depend_on_the_others(rows):
    descriptor = QuadrupletDescriptor(26)
    np.testing.assert_array_equal(descriptor.transform(FLAKES.select(rows)), descriptor.transform(FLAKES)[rows])


def test_sums_of_a_row():
    values = QuadrupletDescriptor(26).transform(FLAKES)
    np.testing.assert_allclose(values[:, :26].sum(axis=1), 1)
    np.testing.assert_allclose(values[:, 26:].sum(axis=1), 1)


def test_mixed_sizes():
    """Structures of different size in one set: normalised each by its own atoms."""
    both = StructureSet.concatenate([FLAKES.select([0]), StructureSet.from_ase([molecule('C6H6')])])
    values = QuadrupletDescriptor(26).transform(both)
    np.testing.assert_allclose(values, [by_a_plain_loop(flake) for flake in both], atol=1e-12)


def test_no_structures():
    assert QuadrupletDescriptor().transform(FLAKES.select([])).shape == (0, 26)


# Atoms outside the class set ------------------------------------------------------------------------------------------


@pytest.fixture
def single_boron():
    """A boron atom alone in carbon: B|CCC, one of the four rare classes, on the last structure of two."""
    pure = flake_lattice('h', 2)
    numbers = pure.numbers.copy()
    distances = np.linalg.norm(pure.positions[:42], axis=1)
    numbers[np.argmin(distances)] = 5
    sets = StructureSet.from_structures([pure, pure], names=['pure', 'doped'])
    return StructureSet.from_arrays({**sets.to_arrays(), 'numbers': np.concatenate([pure.numbers, numbers])})


def test_unknown_error_names_row_atom_and_class(single_boron):
    with pytest.raises(DescriptorError, match=r'structure 1 \(doped\): atom \d+ \(B\) is B\|CCC'):
        QuadrupletDescriptor().transform(single_boron)


def test_unknown_overflow(single_boron):
    descriptor = QuadrupletDescriptor(unknown='overflow')
    values = descriptor.transform(single_boron)
    assert descriptor.get_feature_names_out()[22] == 'other'
    np.testing.assert_allclose(values[:, 22], [0, 1 / 42])
    np.testing.assert_allclose(values[:, :23].sum(axis=1), 1)


def test_unknown_drop_warns_with_the_number(single_boron):
    with pytest.warns(UserWarning, match='1 heavy atoms of 1 structures') as caught:
        values = QuadrupletDescriptor(unknown='drop').transform(single_boron)
    assert len(caught) == 1
    np.testing.assert_allclose(values[:, :22].sum(axis=1), [1, 41 / 42])
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        QuadrupletDescriptor(unknown='drop').transform(single_boron.select([0]))


def test_unknown_counts(single_boron):
    assert QuadrupletDescriptor().unknown_counts(single_boron).tolist() == [0, 1]
    assert QuadrupletDescriptor(26).unknown_counts(single_boron).tolist() == [0, 0]


def test_a_class_outside_all_26_is_never_silent():
    """Two boron neighbours: no coherent flake has this, but a file may."""
    benzene = molecule('C6H6')
    ring = np.argsort(np.arctan2(*benzene.positions[:6, :2].T))
    benzene.numbers[ring[:2]] = 5
    diborane = StructureSet.from_ase([benzene])
    assert QuadrupletDescriptor(26).unknown_counts(diborane).tolist() == [2]
    with pytest.raises(DescriptorError, match='none of the known classes'):
        QuadrupletDescriptor(26).transform(diborane)
    assert row(diborane, classes=26, unknown='overflow')['other'] == pytest.approx(2 / 6)


# What is refused ------------------------------------------------------------------------------------------------------


def after_a_good_one(atoms):
    return StructureSet.from_ase([molecule('C6H6'), atoms], names=['good', 'bad'])


@pytest.mark.parametrize(
    ('atoms', 'message'),
    [
        (molecule('CH4'), r'structure 1 \(bad\): atom 0 \(C\) has 4 bonds.*three'),
        (molecule('C2H2'), r'atom 0 \(C\) has 2 bonds'),
        (molecule('H2O'), r'structure 1 \(bad\): atom 0 \(O\).*elements H, B, C, N only'),
        (molecule('H2'), r'atom 0 \(H\) has 0 bonds.*one bonded heavy atom'),
        (bulk('C', 'diamond', 3.57), 'structure 1 is periodic'),
    ],
)
def test_refused_structures(atoms, message):
    for unknown in ('error', 'overflow', 'drop'):
        with pytest.raises(DescriptorError, match=message):
            QuadrupletDescriptor(unknown=unknown).transform(after_a_good_one(atoms))


def test_a_flake_that_lost_a_hydrogen_atom_is_refused():
    flake = flake_lattice('z', 2)
    with pytest.raises(DescriptorError, match=r'\(C\) has 2 bonds'):
        QuadrupletDescriptor().transform(StructureSet(flake.numbers[:-1], flake.positions[:-1], [0, 35]))


def test_a_hydrogen_atom_that_drifted_away_is_no_neighbour():
    flake = flake_lattice('h', 2, ch_length=1.6)
    with pytest.raises(DescriptorError, match=r'\(C\) has 2 bonds'):
        QuadrupletDescriptor().transform(StructureSet.from_structures([flake]))


@pytest.mark.parametrize('params', [{'classes': 24}, {'classes': True}, {'classes': '22'}, {'unknown': 'ignore'}])
def test_refused_parameters(params):
    descriptor = QuadrupletDescriptor(**params)
    with pytest.raises(DescriptorError):
        descriptor.fit(FLAKES)
    with pytest.raises(DescriptorError):
        descriptor.transform(FLAKES)


def test_arrays_are_refused():
    with pytest.raises(DescriptorError, match='describe a StructureSet, not ndarray'):
        QuadrupletDescriptor().transform(np.zeros((2, 26)))


def test_follows_the_habits_of_scikit_learn():
    descriptor = QuadrupletDescriptor(classes=26)
    copy = clone(descriptor).set_params(unknown='overflow')
    assert copy.get_params() == {'classes': 26, 'unknown': 'overflow'}
    assert descriptor.unknown == 'error'
    pipeline = make_pipeline(QuadrupletDescriptor(26), StandardScaler())
    scaled = pipeline.fit_transform(FLAKES)
    np.testing.assert_allclose(scaled.mean(axis=0), 0, atol=1e-9)
    assert pipeline[0].get_feature_names_out().shape == (30,)


def coronenes(**changes):
    """Coronene as it is generated, perhaps with another one above it, or with all lengths changed."""
    coronene = flake_lattice('z', 2)
    positions = coronene.positions * changes.get('scale', 1.0)
    numbers = coronene.numbers
    if 'above' in changes:
        positions = np.concatenate([positions, positions + np.array([0, 0, changes['above']])])
        numbers = np.concatenate([numbers, numbers])
    return StructureSet(numbers, positions, [0, len(numbers)], names=['flake'])


def test_several_flakes_in_one_structure_are_refused():
    with pytest.raises(DescriptorError, match=r'structure 0 \(flake\) falls into parts that no bond connects'):
        QuadrupletDescriptor().transform(coronenes(above=3.4))


@pytest.mark.parametrize('scale', [0.85, 1.15])
def test_bonds_of_unusual_length_are_refused(scale):
    """The histogram is that of an unstretched flake."""
    with pytest.raises(DescriptorError, match=rf'bonds of structure 0 \(flake\) are {1.42 * scale:.3f} Å long'):
        QuadrupletDescriptor().transform(coronenes(scale=scale))
    assert QuadrupletDescriptor().transform(coronenes(scale=1.03)).shape == (1, 26)
