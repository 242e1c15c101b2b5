"""Flakes: known lattices, reproducible random domains, and the chemistry that every flake must obey."""

import dataclasses
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial.distance import cdist

from aiida_nanoml.errors import StructureError
from aiida_nanoml.structures import (
    FlakeParameters,
    flake_lattice,
    generate_flakes,
    lattice_formula,
    parse_lattice,
    read_structures,
)

DATA = Path(__file__).parent / 'data'
LATTICES = [
    ('h', 1, 'C6H6'),
    ('h', 2, 'C42H18'),
    ('h', 3, 'C114H30'),
    ('h', 4, 'C222H42'),
    ('s', (9, 6), 'C54H20'),
    ('s', (11, 12), 'C132H34'),
    ('s', (3, 4), 'C12H10'),
    ('z', 2, 'C24H12'),
    ('z', 3, 'C54H18'),
    ('z', 4, 'C96H24'),
]
small_lattices = st.sampled_from([('h', 2), ('z', 2), ('z', 3), ('s', (5, 4)), ('s', (9, 6))])


@st.composite
def some_parameters(draw):
    family, size = draw(small_lattices)
    share = sorted(draw(st.tuples(*[st.sampled_from([0.0, 0.2, 0.35, 0.5, 0.8, 1.0])] * 2)))
    return FlakeParameters(
        family,
        size,
        count=draw(st.integers(1, 4)),
        seed=draw(st.integers(0, 2**70)),
        shape=draw(st.sampled_from(['growth', 'rectangle'])),
        n_domains=tuple(sorted(draw(st.tuples(*[st.integers(1, 6)] * 2)))),
        bn_fraction=(0.0, 1.0) if share[0] == share[1] else tuple(share),
        balanced=draw(st.booleans()),
    )


def bonds_of(flake):
    """Pairs of bonded heavy atoms, and of hydrogen with its host, by distance alone."""
    distances = cdist(flake.positions, flake.positions)
    hydrogen = flake.numbers == 1
    heavy_pairs = np.argwhere(np.triu((distances < 1.6) & ~hydrogen[:, None] & ~hydrogen[None], 1))
    hosts = np.argwhere((distances < 1.3) & hydrogen[:, None] & ~hydrogen[None])
    return heavy_pairs, hosts


# The bare lattice -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(('family', 'size', 'formula'), LATTICES)
def test_lattices(family, size, formula):
    flake = flake_lattice(family, size)
    assert lattice_formula(family, size) == formula
    assert f'C{(flake.numbers == 6).sum()}H{(flake.numbers == 1).sum()}' == formula
    assert parse_lattice(f'{family}-{formula}') == (family, size)
    pairs, hosts = bonds_of(flake)
    lengths = np.linalg.norm(np.diff(flake.positions[pairs], axis=1)[:, 0], axis=1)
    np.testing.assert_allclose(lengths, 1.42)
    np.testing.assert_allclose(np.linalg.norm(np.diff(flake.positions[hosts], axis=1)[:, 0], axis=1), 1.09)
    # Every heavy atom has three bonds, at least two of them to heavy atoms; every hydrogen atom has one.
    n_heavy = np.bincount(pairs.ravel(), minlength=len(flake))[flake.numbers == 6]
    n_hydrogen = np.bincount(hosts[:, 1], minlength=len(flake))[flake.numbers == 6]
    assert (n_heavy + n_hydrogen == 3).all()
    assert n_heavy.min() == 2
    assert np.bincount(hosts[:, 0], minlength=len(flake)).max() == 1
    # Planar and centred, also the box around it.
    assert not flake.positions[:, 2].any()
    np.testing.assert_allclose(flake.positions.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(flake.positions.min(axis=0), -flake.positions.max(axis=0), atol=1e-12)


@pytest.mark.parametrize(('name', 'family', 'size'), [('h-0000', 'h', 2), ('s-0000', 's', (9, 6))])
def test_lattice_is_that_of_recorded_flakes(name, family, size):
    """The heavy atoms of recorded runs lie on the same lattice, up to a translation."""
    recorded = read_structures(DATA / f'{name}.extxyz')[0]
    points = recorded.positions[recorded.numbers > 1]
    ours = flake_lattice(family, size)
    lattice = ours.positions[ours.numbers > 1]
    centred = points - (points.min(axis=0) + points.max(axis=0)) / 2
    assert len(centred) == len(lattice)
    assert cdist(centred, lattice).min(axis=1).max() < 1e-6


@pytest.mark.parametrize(
    ('text', 'found'),
    [
        ('C42H18', ('h', 2)),
        ('s-C42H18', ('s', (7, 6))),
        ('C54H20', ('s', (9, 6))),
        (' C54H18 ', ('z', 3)),
        ('C6H6', ('h', 1)),
        ('z-C6H6', ('z', 1)),
    ],
)
def test_parse_lattice(text, found):
    assert parse_lattice(text) == found


@pytest.mark.parametrize(
    'text', ['', 'C42', 'H18C42', 'C4H4', 'C0H0', 's-C54H18', 'q-C42H18', 'C42H18N2', 'C999999H999999']
)
def test_parse_lattice_refuses(text):
    with pytest.raises(StructureError):
        parse_lattice(text)


@pytest.mark.parametrize(
    ('family', 'size'),
    [
        *(('x', 2), (['h'], 2), ('h', 0), ('h', -1), ('h', 2.0), ('h', True), ('h', (2, 2)), ('h', 10**6)),
        *(('s', 4), ('s', (8, 6)), ('s', (9, 5)), ('s', (1, 2)), ('s', (9, 6, 2)), ('s', (9.0, 6)), ('s', None)),
    ],
)
def test_impossible_lattices_are_refused(family, size):
    with pytest.raises(StructureError):
        flake_lattice(family, size)


@pytest.mark.parametrize('length', [0, -1.42, float('nan'), float('inf'), '1.42', True])
def test_impossible_lengths_are_refused(length):
    with pytest.raises(StructureError, match='bond_length'):
        flake_lattice('h', 2, bond_length=length)
    with pytest.raises(StructureError, match='nh_length'):
        FlakeParameters('h', 2, 1, 0, nh_length=length)


# Random flakes: what holds for all ------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=80)
@given(parameters=some_parameters())
def test_every_flake_obeys_the_rules(parameters):
    flakes = generate_flakes(parameters)
    carbon = flake_lattice(parameters.family, parameters.size)
    n_heavy = int((carbon.numbers == 6).sum())
    lengths = {6: 1.09, 5: 1.19, 7: 1.01}
    assert len(flakes) == parameters.count
    assert set(flakes.families.tolist()) == {parameters.family}
    for flake in flakes:
        pairs, hosts = bonds_of(flake)
        np.testing.assert_array_equal(flake.positions[:n_heavy], carbon.positions[:n_heavy])
        assert (flake.numbers[n_heavy:] == 1).all()
        n_domain = int(np.isin(flake.numbers, (5, 7)).sum())
        assert parameters.bn_fraction[0] * n_heavy - 1e-6 <= n_domain <= parameters.bn_fraction[1] * n_heavy + 1e-6
        assert n_domain % 2 == 0 or not parameters.balanced
        kinds = np.sort(flake.numbers[pairs], axis=1).tolist()
        assert [5, 5] not in kinds
        assert [7, 7] not in kinds
        around = {atom: set() for atom in range(n_heavy)}
        for first, second in pairs.tolist():
            around[first].add(int(flake.numbers[second]))
            around[second].add(int(flake.numbers[first]))
        assert not any(flake.numbers[atom] == 6 and {5, 7} <= near for atom, near in around.items())
        assert len(hosts) == len(flake) - n_heavy
        for hydrogen, host in hosts.tolist():
            distance = np.linalg.norm(flake.positions[hydrogen] - flake.positions[host])
            assert distance == pytest.approx(lengths[int(flake.numbers[host])])


@settings(deadline=None, max_examples=30)
@given(parameters=some_parameters())
def test_a_longer_set_begins_with_the_shorter_one(parameters):
    longer = generate_flakes(dataclasses.replace(parameters, count=parameters.count + 3))
    assert longer.select(slice(0, parameters.count)) == generate_flakes(parameters)


def test_a_set_longer_than_a_block_begins_with_the_shorter_one():
    """Small lattice, many redraws: a redrawn row must not depend on what comes after it."""
    longer = generate_flakes(FlakeParameters('z', 2, 400, 3))
    assert longer.select(slice(0, 77)) == generate_flakes(FlakeParameters('z', 2, 77, 3))


@pytest.mark.parametrize('shape', ['growth', 'rectangle'])
def test_flakes_of_a_set_are_distinct_up_to_symmetry(shape):
    """Sorted distances between species are the same for mirrored and turned flakes, so equal ones would show."""
    flakes = generate_flakes(FlakeParameters('z', 2, 300, 11, shape=shape))
    prints = set()
    for flake in flakes:
        angles = np.arange(6) * np.pi / 3
        keys = []
        for mirror in (1, -1):
            for angle in angles:
                turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) * [mirror, 1]
                points = np.rint((flake.positions[:24, :2] @ turn.T) * 1000).astype(int)
                keys.append(tuple(sorted(zip(*points.T.tolist(), flake.numbers[:24].tolist(), strict=True))))
        prints.add(min(keys))
    assert len(prints) == 300


def test_all_flakes_of_a_small_lattice_can_be_found():
    """Naphthalene with two B or N atoms: every coherent flake is reached, and a request for one more is refused."""
    found = distinct_pairs_of_naphthalene()
    parameters = FlakeParameters('s', (5, 2), len(found), 4, bn_fraction=(0.2, 0.2), n_domains=(1, 2))
    assert len(generate_flakes(parameters)) == len(found)
    with pytest.raises(StructureError, match=f'only {len(found)} of {len(found) + 1} distinct'):
        generate_flakes(dataclasses.replace(parameters, count=len(found) + 1))


def distinct_pairs_of_naphthalene():
    """Enumerate by brute force: two sites, B/N on each, no B-B or N-N bond, no C between B and N, up to 4 mirrors."""
    points = flake_lattice('s', (5, 2)).positions[:10, :2]
    bonded = np.triu(cdist(points, points) < 1.6, 1) | np.tril(cdist(points, points) < 1.6, -1)
    images = [cdist(points, points * signs).argmin(axis=1) for signs in ([1, 1], [-1, 1], [1, -1], [-1, -1])]
    color = np.array([bool(step) for step in two_colors(bonded)])
    found = set()
    for a in range(10):
        for b in range(a):
            touching = bonded[a, b] or (bonded[a] & bonded[b]).any()
            for kinds in ((5, 5), (5, 7), (7, 5), (7, 7)):
                orientation = [(kind == 5) == color[site] for kind, site in zip(kinds, (a, b), strict=True)]
                if touching and orientation[0] != orientation[1]:
                    continue
                numbers = np.full(10, 6)
                numbers[[a, b]] = kinds
                found.add(min(tuple(numbers[image].tolist()) for image in images))
    return found


def two_colors(bonded):
    colors = {0: 0}
    while len(colors) < len(bonded):
        for site in list(colors):
            colors.update(dict.fromkeys(np.flatnonzero(bonded[site]).tolist(), 1 - colors[site]))
    return [colors[site] for site in range(len(bonded))]


def test_a_pure_carbon_set_has_one_flake():
    flakes = generate_flakes(FlakeParameters('h', 2, 1, 0, bn_fraction=(0, 0)))
    assert flakes.formulas == ['C42H18']
    with pytest.raises(StructureError, match='only 1 of 2 distinct'):
        generate_flakes(FlakeParameters('h', 2, 2, 0, bn_fraction=(0, 0)))


def test_a_full_flake_is_one_domain():
    """With no carbon left all domains touch: only one orientation and its mirror image remain."""
    full = FlakeParameters('h', 2, 1, 0, bn_fraction=(1, 1), n_domains=(4, 4))
    assert generate_flakes(full).formulas == ['B21H18N21']
    with pytest.raises(StructureError, match='only 1 of 2 distinct'):
        generate_flakes(dataclasses.replace(full, count=2))


# Domains --------------------------------------------------------------------------------------------------------------


def n_pieces(flake):
    """Number of connected pieces that the B and N atoms form."""
    pairs, _ = bonds_of(flake)
    domain = np.isin(flake.numbers, (5, 7))
    inner = pairs[domain[pairs].all(axis=1)]
    graph = coo_array((np.ones(len(inner)), inner.T), shape=(len(flake), len(flake)))
    return connected_components(graph.tocsr()[domain][:, domain])[0]


def test_a_single_growing_domain_is_connected():
    flakes = generate_flakes(FlakeParameters('s', (11, 12), 60, 2, n_domains=(1, 1), bn_fraction=(0.05, 0.6)))
    assert {n_pieces(flake) for flake in flakes} == {1}


def test_number_of_domains_is_an_upper_bound_that_is_reached():
    flakes = generate_flakes(FlakeParameters('h', 3, 80, 2, n_domains=(3, 3), bn_fraction=(0.1, 0.2)))
    pieces = [n_pieces(flake) for flake in flakes]
    assert max(pieces) == 3
    assert np.mean(pieces) > 2


def test_separate_domains_have_independent_orientation():
    """Some flakes must have B on both sublattices: one common orientation would be too few kinds of flakes."""
    lattice = flake_lattice('h', 3)
    flakes = generate_flakes(FlakeParameters('h', 3, 60, 2, n_domains=(3, 3), bn_fraction=(0.1, 0.2)))
    pairs, _ = bonds_of(lattice)
    bonded = np.zeros((114, 114), dtype=bool)
    bonded[pairs[:, 0], pairs[:, 1]] = bonded[pairs[:, 1], pairs[:, 0]] = True
    color = np.array(two_colors(bonded))
    both = [len(set(color[flake.numbers[:114] == 5].tolist())) == 2 for flake in flakes]
    assert 0.3 < np.mean(both) < 1


@pytest.mark.parametrize('shape', ['growth', 'rectangle'])
def test_domains_are_compact(shape):
    """A single domain of a third of the flake has far fewer border bonds than sites drawn at random (at most half)."""
    parameters = FlakeParameters('s', (11, 12), 60, 6, shape=shape, n_domains=(1, 1), bn_fraction=(0.33, 0.34))
    shares = []
    for flake in generate_flakes(parameters):
        pairs, _ = bonds_of(flake)
        domain = np.isin(flake.numbers, (5, 7))
        shares.append((domain[pairs[:, 0]] != domain[pairs[:, 1]]).mean())
    at_random = 2 * 0.335 * 0.665
    assert np.mean(shares) < 0.5 * at_random


def test_rectangles_fill_their_bounding_box():
    """Seen from the heavy atoms inside its bounding box, a rectangle lacks at most its last line."""
    parameters = FlakeParameters('s', (11, 12), 60, 6, shape='rectangle', n_domains=(1, 1), bn_fraction=(0.1, 0.4))
    for flake in generate_flakes(parameters):
        heavy = flake.numbers > 1
        domain = np.isin(flake.numbers, (5, 7))
        low, high = flake.positions[domain].min(axis=0), flake.positions[domain].max(axis=0)
        boxed = heavy & ((flake.positions >= low - 1e-6) & (flake.positions <= high + 1e-6)).all(axis=1)
        lacking = flake.positions[boxed & ~domain]
        assert len(lacking) == 0 or min(len(np.unique(np.round(lacking[:, axis], 3))) for axis in (0, 1)) == 1


def test_shares_are_spread_evenly():
    flakes = generate_flakes(FlakeParameters('s', (11, 12), 600, 12))
    counts = np.bincount(flakes.rows[np.isin(flakes.numbers, (5, 7))], minlength=600)
    histogram, _ = np.histogram(counts, bins=6, range=(0, 132))
    assert histogram.min() > 60  # 100 expected, standard deviation 9


# Reproducibility ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ('shape', 'expected'),
    [
        ('growth', '2802dd55c2475a48d09982425c40eef1dde60a9ab05d586076d04fa75169a45a'),
        ('rectangle', '4472e65aac81706d2dec073c891ffcc0e8e3207da6a483e8c3b2e8f2d9a18ac0'),
    ],
)
def test_a_seed_means_the_same_bits_everywhere(shape, expected):
    content = hashlib.sha256()
    for family, size in (('h', 2), ('s', (9, 6)), ('z', 2)):
        flakes = generate_flakes(FlakeParameters(family, size, 150, 7, shape=shape))
        content.update(flakes.numbers.astype('<u1').tobytes())
        content.update(flakes.positions.astype('<f8').tobytes())
    assert content.hexdigest() == expected


def test_seeds_differ():
    first, second = (generate_flakes(FlakeParameters('h', 2, 50, seed)) for seed in (0, 1))
    assert len(set(first.hashes.tolist()) & set(second.hashes.tolist())) < 5


def test_names():
    flakes = generate_flakes(FlakeParameters('h', 2, 2, 7))
    assert flakes.names.tolist() == ['h-C42-s7-0000', 'h-C42-s7-0001']


def test_lengths_can_be_chosen():
    parameters = FlakeParameters('h', 2, 3, 7, bond_length=1.44, ch_length=1.1, bh_length=1.2, nh_length=1.0)
    plain = generate_flakes(FlakeParameters('h', 2, 3, 7))
    scaled = generate_flakes(parameters)
    np.testing.assert_array_equal(plain.numbers, scaled.numbers)
    heavy = plain.numbers > 1
    np.testing.assert_allclose(scaled.positions[heavy], plain.positions[heavy] * 1.44 / 1.42, atol=1e-12)
    for flake in scaled:
        _, hosts = bonds_of(flake)
        distances = np.linalg.norm(np.diff(flake.positions[hosts], axis=1)[:, 0], axis=1)
        wanted = {6: 1.1, 5: 1.2, 7: 1.0}
        np.testing.assert_allclose(distances, [wanted[int(number)] for number in flake.numbers[hosts[:, 1]]])


# Parameters -----------------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=50)
@given(parameters=some_parameters())
def test_parameters_survive_json(parameters):
    assert FlakeParameters.from_dict(json.loads(json.dumps(parameters.to_dict()))) == parameters


def test_parameters_from_a_dictionary_with_defaults():
    made = FlakeParameters.from_dict({'family': 's', 'size': [9, 6], 'count': 3, 'seed': 1})
    assert made == FlakeParameters('s', (9, 6), 3, 1)
    assert generate_flakes(made).formulas[0].startswith('C')


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'sede': 1}, "unknown parameter 'sede' of FlakeParameters"),
        ({'family': 'q'}, "no family 'q'"),
        ({'size': '2'}, 'valid integer'),
        ({'count': 0}, 'count=0 .* greater than or equal to 1'),
        ({'count': 3.0}, 'count=3.0 .* valid integer'),
        ({'count': True}, 'count=True'),
        ({'seed': -1}, 'seed=-1'),
        ({'seed': 1.0}, 'seed=1.0'),
        ({'seed': '1'}, "seed='1'"),
        ({'seed': None}, 'seed=None'),
        ({'shape': 'circle'}, "shape='circle' .* 'growth' or 'rectangle'"),
        ({'n_domains': 3}, 'n_domains'),
        ({'n_domains': [0, 2]}, 'n_domains'),
        ({'n_domains': [3, 2]}, 'n_domains'),
        ({'n_domains': [1, 43]}, '42'),
        ({'n_domains': [1, 2.5]}, 'n_domains'),
        ({'bn_fraction': 0.5}, 'bn_fraction'),
        ({'bn_fraction': [0.6, 0.5]}, 'bn_fraction'),
        ({'bn_fraction': [0, 1.1]}, 'bn_fraction'),
        ({'bn_fraction': [float('nan'), 1]}, 'bn_fraction'),
        ({'bn_fraction': ['0', 1]}, 'bn_fraction'),
        ({'bn_fraction': [0.06, 0.09]}, 'no even number of B and N atoms'),
        ({'balanced': 1}, 'balanced=1 .* valid boolean'),
    ],
)
def test_refused_parameters(changes, message):
    good = {'family': 'h', 'size': 2, 'count': 3, 'seed': 1}
    with pytest.raises(StructureError, match=message):
        FlakeParameters.from_dict({**good, **changes})


@pytest.mark.parametrize('name', ['family', 'size', 'count', 'seed'])
def test_missing_parameters_are_named(name):
    good = {'family': 'h', 'size': 2, 'count': 3, 'seed': 1}
    del good[name]
    with pytest.raises(StructureError, match=f"missing parameter '{name}'"):
        FlakeParameters.from_dict(good)
