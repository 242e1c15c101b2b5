"""The tight-binding descriptor: Hückel's answers, exact derivatives, symmetry, what a fit recovers and refuses."""

import json
import math

import numpy as np
import pytest
from ase.build import bulk, molecule
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone

from aiida_nanoml.errors import DescriptorError
from aiida_nanoml.features import descriptor_identity, make_descriptor
from aiida_nanoml.features.pi_model import PARAMETERS, pi_blocks
from aiida_nanoml.features.registry import freeze
from aiida_nanoml.features.tight_binding import PARAMETER_SETS, TightBindingDescriptor
from aiida_nanoml.structures import FlakeParameters, StructureSet, flake_lattice, generate_flakes

HUCKEL = {name: -1.0 if name.startswith('hopping') else 0.0 for name in PARAMETERS}
FLAKES = StructureSet.concatenate(
    [generate_flakes(FlakeParameters('h', 2, 40, 5)), generate_flakes(FlakeParameters('s', (9, 6), 40, 5))]
)
TEXTBOOK = TightBindingDescriptor(dict(PARAMETERS))
VALUES = np.array(list(PARAMETERS.values()))


def row(structures, **parameters):
    descriptor = TightBindingDescriptor({**HUCKEL, **parameters})
    return dict(zip(descriptor.get_feature_names_out(), descriptor.fit_transform(structures)[0], strict=True))


def lattice(family, size, numbers=None):
    flake = flake_lattice(family, size)
    numbers = flake.numbers if numbers is None else numbers
    return StructureSet(numbers, flake.positions, [0, len(flake)])


def borazine():
    """Atoms of the hexagon in the order of its angles, so that B and N alternate."""
    flake = flake_lattice('h', 1)
    angles = np.arctan2(flake.positions[:6, 1], flake.positions[:6, 0])
    numbers = flake.numbers.copy()
    numbers[np.argsort(angles)] = [5, 7] * 3
    return lattice('h', 1, numbers)


def test_benzene_has_the_levels_of_huckel():
    """Levels at 2, 1, 1, -1, -1, -2 times the hopping; there are no further ones."""
    found = row(lattice('h', 1))
    assert found['gap'] == pytest.approx(2)
    assert found['midgap'] == pytest.approx(0, abs=1e-12)
    assert [found[f'homo-{k}'] for k in (1, 2, 3, 4)] == pytest.approx([-1, -2, -2, -2])
    assert [found[f'lumo+{k}'] for k in (1, 2, 3, 4)] == pytest.approx([1, 2, 2, 2])
    assert found['bonding_energy'] == pytest.approx(-8 / 6, abs=1e-4)
    assert [found[f'{side}_participation'] for side in ('hole', 'electron')] == pytest.approx([1 / 6] * 2, abs=1e-4)
    assert (found['hole_C'], found['hole_edge']) == pytest.approx((1, 1))
    assert found['charge_transfer'] == pytest.approx(0, abs=1e-12)


def test_coronene_has_the_gap_of_huckel():
    """Twice 0.5392 times the hopping, as in the tables of Hückel theory."""
    assert row(lattice('z', 2))['gap'] == pytest.approx(2 * 0.5392, abs=2e-4)


def test_hopping_falls_with_the_bond_length():
    longer = StructureSet.from_structures([flake_lattice('h', 1, bond_length=1.5)])
    assert row(longer)['gap'] == pytest.approx(2 * math.exp(-3.37 * (1.5 / 1.42 - 1)))


@pytest.mark.parametrize('delta', [0.5, 2.0])
def test_a_ring_of_two_elements(delta):
    """Levels ±sqrt(delta² + (k hopping)²) with k = 2, 1, 1; the occupied ones are on N."""
    found = row(borazine(), onsite_B=delta, onsite_N=-delta)
    root = math.hypot(delta, 1)
    assert found['gap'] == pytest.approx(2 * root)
    assert found['homo-2'] == pytest.approx(-math.hypot(delta, 2))
    assert [found['hole_N'], found['electron_B']] == pytest.approx([(1 + delta / root) / 2] * 2, abs=1e-3)
    assert found['hole_C'] == 0
    assert found['charge_N'] == pytest.approx(-found['charge_B'])


def test_the_field_of_the_charges():
    """On each N, 2 - n electrons are missing, and as many too many on B: this pushes the two elements apart."""
    delta, strength = 1.0, 0.7
    on_nitrogen = sum(1 + delta / math.hypot(delta, k) for k in (2, 1, 1)) / 3
    pushed = delta + strength * (2 - on_nitrogen)
    found = row(borazine(), onsite_B=delta, onsite_N=-delta, field_site=strength)
    assert found['gap'] == pytest.approx(2 * math.hypot(pushed, 1), abs=1e-6)
    assert found['charge_N'] == pytest.approx((2 - on_nitrogen) / 2, abs=1e-6)
    ring = 1.42 * np.array([1, math.sqrt(3), 2])
    near, second, opposite = 14.399645 / np.sqrt(ring**2 + 1.2**2)
    pushed = delta + 0.1 * (2 - on_nitrogen) * (2 * second - 2 * near - opposite)
    assert row(borazine(), onsite_B=delta, onsite_N=-delta, field_far=0.1)['gap'] == pytest.approx(
        2 * math.hypot(pushed, 1), abs=1e-6
    )


def test_second_neighbours_and_shifts():
    """Hopping t' between second neighbours moves a level k of the ring by t' (k² - 2)."""
    found = row(lattice('h', 1), second_CC=0.1, shift_CH=0.3)
    assert found['midgap'] == pytest.approx(0.3 - 0.1)
    assert found['gap'] == pytest.approx(2)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**31))
def test_derivatives_are_those_of_finite_differences(seed):
    random = np.random.default_rng(seed)
    at = VALUES + random.normal(0, 0.2, len(VALUES))
    along = random.normal(0, 1, len(VALUES))
    (block,) = pi_blocks(FLAKES.select(random.integers(0, 40, 6)))
    gaps, derivatives = block.gaps(at)
    step = 1e-5
    expected = (block.gaps(at + step * along)[0] - block.gaps(at - step * along)[0]) / (2 * step)
    # Where levels are about to cross, the difference is not that of one level.
    clear = gaps > 0.01
    np.testing.assert_allclose((derivatives @ along)[clear], expected[clear], rtol=1e-4, atol=1e-4)


def test_first_order_agrees_with_a_second_diagonalisation():
    for block in pi_blocks(FLAKES):
        gaps, _ = block.gaps(VALUES)
        levels = block.frontier(VALUES, 5).levels
        middle = levels.shape[1] // 2
        np.testing.assert_allclose(levels[:, middle] - levels[:, middle - 1], gaps, atol=0.02)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 79), st.integers(0, 2**31))
def test_orientation_and_order_do_not_matter(number, seed):
    random = np.random.default_rng(seed)
    flake = FLAKES[number]
    rotation, _ = np.linalg.qr(random.normal(size=(3, 3)))
    order = random.permutation(len(flake))
    moved = StructureSet(
        flake.numbers[order], flake.positions[order] @ rotation + random.uniform(-5, 5, 3), [0, len(order)]
    )
    np.testing.assert_allclose(
        TEXTBOOK.transform(moved), TEXTBOOK.transform(FLAKES.select([number])), rtol=1e-6, atol=1e-6
    )


def test_rows_do_not_depend_on_each_other():
    mixed = StructureSet.concatenate([FLAKES.select([70, 3]), lattice('h', 1), FLAKES.select([4])])
    alone = np.concatenate([TEXTBOOK.transform(mixed.select([k])) for k in range(4)])
    np.testing.assert_allclose(TEXTBOOK.transform(mixed), alone, rtol=1e-9, atol=1e-9)


def test_two_far_flakes_are_described_as_one():
    """Per-atom columns and levels are those of the single flake; each level is there twice."""
    flake = FLAKES[2]
    far = flake.positions + np.array([0, 0, 4000.0])
    pair = StructureSet(np.tile(flake.numbers, 2), np.concatenate([flake.positions, far]), [0, 2 * len(flake)])
    names = TEXTBOOK.get_feature_names_out().tolist()
    one, two = (dict(zip(names, TEXTBOOK.transform(found)[0], strict=True)) for found in (FLAKES.select([2]), pair))
    for name in ('gap', 'midgap', 'bonding_energy', 'charge_B', 'charge_C', 'hole_N', 'electron_edge', 'overlap'):
        assert two[name] == pytest.approx(one[name], abs=2e-2 if 'o' in name[:2] else 2e-3), name
    assert two['homo-2'] == pytest.approx(one['homo-1'], abs=1e-2)


def test_columns_are_continuous_where_levels_cross():
    """Benzene's HOMO is degenerate: the smallest distortion picks other orbitals, but not other columns."""
    ring = lattice('h', 1)
    random = np.random.default_rng(0)
    rows = [
        TEXTBOOK.transform(StructureSet(ring.numbers, ring.positions + random.normal(0, 1e-7, (12, 3)), [0, 12]))
        for _ in range(5)
    ]
    np.testing.assert_allclose(np.concatenate(rows), np.repeat(TEXTBOOK.transform(ring), 5, axis=0), atol=1e-5)


def test_a_fit_recovers_the_parameters_behind_the_gaps():
    true = dict(PARAMETERS, hopping_CC=-2.3, onsite_B=1.6, shift_NC=-0.3, field_far=0.06)
    values = np.array(list(true.values()))
    gaps = np.empty(len(FLAKES))
    for block in pi_blocks(FLAKES):
        gaps[block.rows] = block.gaps(values)[0]
    fitted = TightBindingDescriptor().fit(FLAKES, gaps)
    assert fitted.parameters_['hopping_CC'] == pytest.approx(-2.3, abs=0.02)
    found = fitted.transform(FLAKES)[:, 0]
    before = TEXTBOOK.transform(FLAKES)[:, 0]
    assert np.abs(found - gaps).mean() < 0.2 * np.abs(before - gaps).mean()

    frozen = fitted.frozen()
    assert frozen.parameters == fitted.parameters_
    identity = json.loads(json.dumps(descriptor_identity(frozen)))
    again = make_descriptor(identity['name'], **identity['params'])
    np.testing.assert_array_equal(again.transform(FLAKES), fitted.transform(FLAKES))
    assert freeze(frozen, FLAKES, gaps) is frozen


def test_a_fit_to_some_rows_is_the_same_every_time():
    gaps = TEXTBOOK.transform(FLAKES)[:, 0]
    descriptor = TightBindingDescriptor(rows=20, seed=3)
    first = descriptor.fit(FLAKES, gaps).parameters_
    assert clone(descriptor).fit(FLAKES, gaps).parameters_ == first
    assert TightBindingDescriptor(rows=20, seed=4).fit(FLAKES, gaps).parameters_ != first


@pytest.mark.parametrize('name', PARAMETER_SETS)
def test_named_parameters(name):
    named = make_descriptor('tight_binding', parameters=name)
    spelled = TightBindingDescriptor(dict(PARAMETER_SETS[name]))
    np.testing.assert_array_equal(named.transform(FLAKES), spelled.transform(FLAKES))
    assert descriptor_identity(named)['params']['parameters'] == name


def test_what_it_is():
    assert TightBindingDescriptor.learns
    assert TightBindingDescriptor.electronic
    with pytest.raises(DescriptorError, match='learns from structures: fit it'):
        descriptor_identity(make_descriptor('tight_binding'))


def test_unfitted():
    for ask in (lambda d: d.transform(FLAKES), lambda d: d.get_feature_names_out(), lambda d: d.frozen()):
        with pytest.raises(DescriptorError, match='no parameters yet: fit it'):
            ask(TightBindingDescriptor())


@pytest.mark.parametrize(
    ('gaps', 'message'),
    [
        (None, 'learns from gaps'),
        (np.ones(3), r'80 structures need one gap each, got an array of shape \(3,\)'),
        (np.where(np.arange(80) == 7, np.nan, 1.0), 'row 7 has the target nan'),
        (np.where(np.arange(80) == 9, -0.5, 1.0), 'row 9 has the target -0.5'),
    ],
)
def test_targets_that_are_no_gaps(gaps, message):
    with pytest.raises(DescriptorError, match=message):
        TightBindingDescriptor().fit(FLAKES, gaps)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ({'parameters': 'mine'}, "no set of tight-binding parameters 'mine'"),
        ({'parameters': [1.0]}, 'not list'),
        ({'parameters': {'hopping_CC': -2.7, 'U': 1}}, 'missing or unknown: U, field_far'),
        ({'parameters': {**PARAMETERS, 'onsite_B': math.nan}}, 'onsite_B must be a finite number, not nan'),
        ({'parameters': {**PARAMETERS, 'onsite_B': '2'}}, "onsite_B must be a finite number, not '2'"),
        ({'rows': 0}, 'rows=0 .* greater than or equal to 1'),
        ({'seed': 1.5}, 'seed=1.5 .* valid integer'),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(DescriptorError, match=message):
        TightBindingDescriptor(**arguments).fit(FLAKES, np.ones(len(FLAKES)))


def test_structures_that_have_no_pi_gap():
    flake = FLAKES[0]
    carbon = int(np.flatnonzero(flake.numbers == 6)[0])
    odd = flake.numbers.copy()
    odd[carbon] = 7
    cases = [
        (StructureSet(odd, flake.positions, [0, len(flake)]), r'53|\d+ pi electrons, an odd number|own element'),
        (StructureSet(flake.numbers[:-1], flake.positions[:-1], [0, len(flake) - 1]), 'three bonded neighbours'),
        (StructureSet.from_ase([bulk('C', cubic=True)]), 'structure 0 is periodic'),
        (StructureSet.from_ase([molecule('H2O')]), 'know the elements H, B, C, N only'),
        (StructureSet.from_ase([molecule('BF3')]), 'know the elements H, B, C, N only'),
    ]
    for structures, message in cases:
        with pytest.raises(DescriptorError, match=message):
            TEXTBOOK.transform(structures)
    numbers = flake_lattice('h', 1).numbers.copy()
    numbers[0] = 7
    with pytest.raises(DescriptorError, match='structure 0 has 7 pi electrons, an odd number'):
        TEXTBOOK.transform(lattice('h', 1, numbers))
    numbers[:6] = 7
    with pytest.raises(DescriptorError, match=r'\(N\) is bonded to its own element'):
        TEXTBOOK.transform(lattice('h', 1, numbers))
    with pytest.raises(DescriptorError, match='describe a StructureSet, not list'):
        TEXTBOOK.transform([flake])
