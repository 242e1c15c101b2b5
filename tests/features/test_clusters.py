"""Clusters: agreement with explicit geometry, symmetry, the two ways of identifying them, what is learnt or refused."""

import itertools
import json
import warnings

import networkx
import numpy as np
import pytest
from ase.build import bulk, molecule
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import issparse
from scipy.sparse.csgraph import shortest_path
from sklearn.base import clone

from aiida_nanoml.errors import DescriptorError
from aiida_nanoml.features import QuadrupletDescriptor, descriptor_identity, make_descriptor
from aiida_nanoml.features.bonds import ELEMENTS, bonds_of
from aiida_nanoml.features.cluster_shapes import (
    bonds_across,
    composition_text,
    embed,
    graph_clusters,
    lattice_clusters,
    n_sites,
)
from aiida_nanoml.features.clusters import COMMON_SET, ClusterDescriptor
from aiida_nanoml.structures import FlakeParameters, Structure, StructureSet, flake_lattice, generate_flakes

BOND = 1.42
RADII = tuple(range(1, 9))
FLAKES = generate_flakes(FlakeParameters('s', (9, 6), 40, 21))
HEXAGONS = generate_flakes(FlakeParameters('h', 2, 40, 3, shape='rectangle'))
FAMILIES = StructureSet.concatenate([FLAKES, HEXAGONS])


def everything(**params):
    return ClusterDescriptor(per_radius=None, **params)


def on_lattice(structures, radii=RADII):
    return lattice_clusters(structures, radii, embed(structures))


def partition_sizes(*labels):
    """Numbers of classes of some labellings of the same things, and of all labels together."""
    codes = [np.unique(label, return_inverse=True)[1] for label in labels]
    return [len(set(code)) for code in codes], len(set(zip(*(code.tolist() for code in codes), strict=True)))


# Against explicit geometry --------------------------------------------------------------------------------------------


def honeycomb(radius):
    """Coordinates of sites within a radius of one at the origin, in bond lengths, from the lattice vectors."""
    steps = range(-2 * radius, 2 * radius + 1)
    cells = np.array([(a + b / 2, b * 3**0.5 / 2) for a in steps for b in steps]) * 3**0.5
    sites = np.concatenate([cells, cells + np.array([0, 1])])
    return sites[np.linalg.norm(sites, axis=1) < radius + 1e-6]


@pytest.mark.parametrize('radius', RADII)
def test_sites_within_a_radius(radius):
    assert n_sites(radius) == len(honeycomb(radius)) - 1


def test_shells_of_the_smallest_radii():
    """3 neighbours; then 6 at √3 and 3 at 2; then 6 at √7 and 6 at 3."""
    assert [n_sites(radius) for radius in (1, 2, 3)] == [3, 3 + 6 + 3, 12 + 6 + 6]


@pytest.mark.parametrize('radius', RADII)
def test_bonds_that_lead_across_a_radius(radius):
    """The graph way reaches all that the lattice way does, and needs every bond for that."""
    sites = honeycomb(radius + 2)
    apart = np.linalg.norm(sites[:, None] - sites, axis=2)
    centre = int(np.argmin(np.linalg.norm(sites, axis=1)))
    bonds = shortest_path(np.abs(apart - 1) < 1e-6, unweighted=True, indices=centre)
    assert bonds_across(radius) == bonds[apart[centre] < radius + 1e-6].max()


def explicit_cluster(flake, centre, radius):
    """Least list of (coordinates, element) under the 12 operations, from coordinates in Å and floating-point turns."""
    points = flake.positions[:, :2].copy()
    heavy = flake.numbers > 1
    for atom in np.flatnonzero(~heavy):
        host = np.flatnonzero(heavy)[np.argmin(np.linalg.norm(points[heavy] - points[atom], axis=1))]
        bond = points[atom] - points[host]
        points[atom] = points[host] + bond * BOND / np.linalg.norm(bond)
    points -= points[centre]
    near = np.linalg.norm(points, axis=1) < radius * BOND + 0.05
    points, numbers = points[near], flake.numbers[near].tolist()
    forms = []
    for mirror, turn in itertools.product((1, -1), range(6)):
        cos, sin = np.cos(turn * np.pi / 3), np.sin(turn * np.pi / 3)
        moved = np.rint((points * (mirror, 1)) @ np.array([[cos, sin], [-sin, cos]]) / (BOND / 2)).astype(int)
        forms.append(tuple(sorted(zip(*moved.T.tolist(), numbers, strict=True))))
    return min(forms)


@pytest.mark.parametrize(
    ('family', 'size', 'shape'), [('s', (7, 4), 'growth'), ('h', 2, 'rectangle'), ('z', 2, 'growth')]
)
def test_agrees_with_explicit_geometry(family, size, shape):
    """Two clusters have the same key if, and only if, one of the 12 operations maps one on the other."""
    flakes = generate_flakes(FlakeParameters(family, size, 8, 5, shape=shape))
    found = on_lattice(flakes)
    for column, radius in enumerate(RADII):
        expected = [
            str(explicit_cluster(flake, centre, radius))
            for flake in flakes
            for centre in np.flatnonzero(flake.numbers > 1)
        ]
        (n_keys, n_expected), n_together = partition_sizes(found.keys[:, column], expected)
        assert n_keys == n_expected == n_together > 2


def test_compositions_count_the_atoms():
    flakes = FLAKES.select([3])
    found = on_lattice(flakes)
    flake = flakes[0]
    for centre in (0, 20, 40):
        for column, radius in enumerate(RADII):
            atoms = [number for _, _, number in explicit_cluster(flake, centre, radius)]
            atoms.remove(flake.numbers[centre])
            amounts = [(element, atoms.count(number)) for element, number in zip('HBCN', (1, 5, 6, 7), strict=True)]
            others = ''.join(f'{element}{amount if amount > 1 else ""}' for element, amount in amounts if amount)
            symbol = flake.symbols[centre]
            assert composition_text(int(found.compositions[centre, column])) == f'{symbol}|{others}'


# Known answers --------------------------------------------------------------------------------------------------------


def test_benzene_and_coronene():
    benzene = StructureSet.from_ase([molecule('C6H6')])
    counts = everything(binary=False, species=False).fit(benzene)
    assert [name.split(':')[2] for name in counts.get_feature_names_out()[[0, 1, 7]]] == ['C|HC2', 'C|H3C5', 'C|H6C5']
    np.testing.assert_array_equal(counts.transform(benzene), [[6] * 8])
    coronene = StructureSet.from_structures([flake_lattice('z', 2)])
    orbits = everything(radii=[8], binary=False, species=False).fit_transform(coronene)
    np.testing.assert_array_equal(orbits, [[12, 6, 6]])


def test_names_are_for_ever():
    """A frozen vocabulary must find its clusters on any machine and after any update."""
    benzene = StructureSet.from_ase([molecule('C6H6')])
    names = {
        geometry: everything(radii=[1, 8], geometry=geometry, species=False)
        .fit(benzene)
        .get_feature_names_out()
        .tolist()
        for geometry in ('lattice', 'graph')
    }
    assert names == {
        'lattice': ['k1:f5d02646d3c11aef:C|HC2', 'k8:ad9000ad1246bff1:C|H6C5'],
        'graph': ['k1:ge753f3bfd27fb77c:C|HC2', 'k8:g69bf17497c95d360:C|H6C5'],
    }


def test_radius_one_is_the_quadruplet():
    """Column by column: clusters of radius 1 are the quadruplet classes, and nothing else is."""
    flakes = generate_flakes(FlakeParameters('s', (9, 6), 300, 2))
    quadruplets = QuadrupletDescriptor(26)
    shares = dict(zip(quadruplets.get_feature_names_out(), quadruplets.transform(flakes).T, strict=True))
    clusters = everything(radii=[1], binary=False, species=False)
    counts = clusters.fit_transform(flakes)
    assert counts.shape[1] == np.count_nonzero([shares[name].any() for name in shares if '|' in name]) > 22
    for name, column in zip(clusters.get_feature_names_out(), counts.T, strict=True):
        centre, others = name.split(':')[2].split('|')
        spelled = ''.join(
            element * int(others[place + 1] if others[place + 1 : place + 2].isdigit() else 1)
            for place, element in enumerate(others)
            if element.isalpha()
        )
        quadruplet = f'{centre}|{"".join(sorted(spelled))}'
        np.testing.assert_allclose(column / 54, shares[quadruplet], err_msg=quadruplet)


def test_numbers_of_clusters_of_large_flakes():
    """The source has some 26, 3,000 and 35,000 for 1,000 flakes of this lattice; a tenth of them has fewer."""
    flakes = generate_flakes(FlakeParameters('s', (11, 12), 100, 7))
    found = on_lattice(flakes, (1, 2, 3))
    amounts = [len(np.unique(keys)) for keys in found.keys.T]
    assert amounts[0] == 26
    assert 500 < amounts[1] < 3000 < amounts[2] < 13200


def test_keys_spread_over_all_bits():
    """Half of each key alone is nearly enough to tell clusters apart, as it is for random numbers."""
    flakes = generate_flakes(FlakeParameters('s', (11, 12), 300, 7))
    keys = np.unique(on_lattice(flakes, (4,)).keys)
    expected = len(keys) ** 2 / 2 / 2**32
    assert len(keys) > 10_000
    for half in (keys & np.uint64(0xFFFFFFFF), keys >> np.uint64(32)):
        assert len(keys) - len(np.unique(half)) <= 5 + 3 * expected


# Symmetry -------------------------------------------------------------------------------------------------------------


def moved(flake, seed, displacement=0.05):
    """Turn or reflect in space, move, displace the atoms a little, and put them into another order."""
    random = np.random.default_rng(seed)
    turn, _ = np.linalg.qr(random.normal(size=(3, 3)))
    order = random.permutation(len(flake))
    points = flake.positions @ turn + random.uniform(-50, 50, 3)
    points += random.uniform(-displacement, displacement, points.shape)
    return StructureSet(flake.numbers[order], points[order], [0, len(flake)])


@pytest.mark.parametrize('geometry', ['lattice', 'graph'])
@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10**6), which=st.integers(0, len(FAMILIES) - 1))
def test_rows_do_not_change_with_place_order_reflection_or_relaxation(geometry, seed, which):
    flake = FAMILIES.select([which])
    descriptor = everything(geometry=geometry, binary=False).fit(flake)
    again = moved(flake[0], seed)
    np.testing.assert_array_equal(descriptor.transform(again), descriptor.transform(flake))
    assert descriptor.unknown_counts(again).tolist() == [0]


def test_a_point_operation_that_is_none_of_the_flake():
    """The same domain at another place of the same flake: other rows, but the same clusters where the edge is far."""
    flake = flake_lattice('z', 4)
    middle = np.argsort(np.linalg.norm(flake.positions, axis=1))[:6]
    doped = []
    for atom in middle:
        numbers = flake.numbers.copy()
        numbers[atom] = 5
        doped.append(Structure(numbers, flake.positions))
    rows = everything(binary=False).fit_transform(StructureSet.from_structures(doped))
    np.testing.assert_array_equal(rows, np.repeat(rows[:1], 6, axis=0))


@settings(deadline=None, max_examples=15)
@given(rows=st.lists(st.integers(0, len(FAMILIES) - 1), min_size=1, max_size=8))
def test_a_row_does_not_depend_on_the_others(rows):
    descriptor = ClusterDescriptor().fit(FLAKES)
    np.testing.assert_array_equal(descriptor.transform(FAMILIES.select(rows)), descriptor.transform(FAMILIES)[rows])


def test_sets_of_any_size_and_mixture():
    """Blocks of the enumeration do not show: a long set with a large flake in it has the rows of its parts."""
    large = generate_flakes(FlakeParameters('h', 6, 2, 1))
    mixed = StructureSet.concatenate([FLAKES, large, HEXAGONS, large, FLAKES, *[HEXAGONS] * 4])
    together = on_lattice(mixed, (1, 5))
    parts = {id(part): on_lattice(part, (1, 5)) for part in (FLAKES, large, HEXAGONS)}
    expected = [parts[id(part)] for part in (FLAKES, large, HEXAGONS, large, FLAKES, *[HEXAGONS] * 4)]
    np.testing.assert_array_equal(together.keys, np.concatenate([part.keys for part in expected]))
    np.testing.assert_array_equal(
        np.bincount(together.rows), mixed.counts - np.bincount(mixed.rows, mixed.numbers == 1)
    )
    one_by_one = [graph_clusters(large.select([row]), (1, 2)).keys for row in (0, 1)]
    np.testing.assert_array_equal(graph_clusters(large, (1, 2)).keys, np.concatenate(one_by_one))


# Lattice and graph ----------------------------------------------------------------------------------------------------


def test_both_ways_agree_at_radius_one():
    (n_lattice, n_graph), n_together = partition_sizes(
        on_lattice(FAMILIES, (1,)).keys[:, 0], graph_clusters(FAMILIES, (1,)).keys[:, 0]
    )
    assert n_lattice == n_graph == n_together > 20


@pytest.mark.parametrize('radius', [2, 3, 4])
def test_inside_a_flake_the_graph_separates_all_that_the_lattice_does(radius):
    """It reaches further, so it separates more; only at edges can two branches of a cluster change places."""
    flakes = generate_flakes(FlakeParameters('s', (13, 14), 30, 4))
    graph = graph_clusters(flakes, (radius,))
    inside = [
        number
        for number, composition in enumerate(graph.compositions[:, 0].tolist())
        if 'H' not in composition_text(composition)
    ]
    (n_lattice, n_graph), n_together = partition_sizes(
        on_lattice(flakes, (radius,)).keys[inside, 0], graph.keys[inside, 0]
    )
    assert 100 < n_lattice < n_graph == n_together


def independent_graph_cluster(structures, radius):
    """Rooted balls as networkx graphs, told apart by isomorphism."""
    species, ends, others = bonds_of(structures, 'clusters')
    classes, labels = [], []
    everything = networkx.Graph(zip(ends.tolist(), others.tolist(), strict=True))
    for centre in np.flatnonzero(species > 0).tolist():
        ball = networkx.ego_graph(everything, centre, bonds_across(radius))
        for atom in ball:
            ball.nodes[atom]['kind'] = (int(species[atom]), atom == centre)
        same = (
            number
            for number, other in enumerate(classes)
            if networkx.faster_could_be_isomorphic(ball, other)
            and networkx.is_isomorphic(ball, other, node_match=lambda one, two: one['kind'] == two['kind'])
        )
        label = next(same, len(classes))
        if label == len(classes):
            classes.append(ball)
        labels.append(label)
    return labels


@pytest.mark.parametrize('radius', [1, 2])
def test_the_graph_way_is_isomorphism_on_flakes(radius):
    flakes = StructureSet.concatenate([FAMILIES.select([0, 1, 45]), stone_wales()])
    (n_keys, n_classes), n_together = partition_sizes(
        graph_clusters(flakes, (radius,)).keys[:, 0], independent_graph_cluster(flakes, radius)
    )
    assert n_keys == n_classes == n_together > 15


def bent(structures, radius=12.0):
    """Roll a planar flake on a cylinder."""
    x, y, z = structures.positions.T
    points = np.stack([radius * np.sin(x / radius), y, z + radius * np.cos(x / radius)], axis=1)
    return StructureSet.from_arrays({**structures.to_arrays(), 'positions': points})


def stone_wales():
    """A flake of carbon with one bond turned by 90°: two rings of 5 and two of 7, each atom with 3 neighbours."""
    flake = flake_lattice('z', 4)
    points = flake.positions.copy()
    first = int(np.argmin(np.linalg.norm(points, axis=1)))
    second = int(np.argsort(np.linalg.norm(points - points[first], axis=1))[1])
    middle = (points[first] + points[second]) / 2
    for atom in (first, second):
        x, y, z = points[atom] - middle
        points[atom] = middle + 0.92 * np.array([-y, x, z])  # as short as it relaxes to
    return StructureSet(flake.numbers, points, [0, len(flake)], names=['turned'], families=['z'])


@pytest.mark.parametrize('geometry', ['lattice', 'graph'])
def test_bending_changes_nothing(geometry):
    descriptor = everything(geometry=geometry, binary=False).fit(FLAKES)
    np.testing.assert_array_equal(descriptor.transform(bent(FLAKES)), descriptor.transform(FLAKES))


def test_a_ring_defect_is_seen_by_the_graph_only():
    defect, perfect = stone_wales(), StructureSet.from_structures([flake_lattice('z', 4)])
    np.testing.assert_array_equal(*(QuadrupletDescriptor().transform(one) for one in (defect, perfect)))
    known = everything(geometry='graph', radii=[1, 2]).fit(perfect)
    assert known.unknown_counts(perfect).tolist() == [0]
    assert known.unknown_counts(defect)[0] > 15
    with pytest.raises(DescriptorError, match=r'structure 0 \(turned\): atom \d+ \(C\) .*not on a honeycomb lattice'):
        everything(geometry='lattice').fit(defect)


def test_a_vacancy_stays_on_the_lattice():
    flake = flake_lattice('z', 4)
    lost = int(np.argmin(np.linalg.norm(flake.positions, axis=1)))
    rest = np.delete(np.arange(len(flake)), lost)
    both = StructureSet.from_structures([flake, Structure(flake.numbers[rest], flake.positions[rest])])
    perfect = everything(radii=[1, 2], geometry='lattice').fit(both.select([0]))
    # 3 neighbours see it at radius 1; at radius 2 so do 6 second and 3 third neighbours.
    assert perfect.unknown_counts(both).tolist() == [0, 3 + 12]


def two_molecules():
    far = molecule('C6H6')
    far.positions += 20
    return molecule('C6H6') + far


def two_hydrogen_atoms_on_a_site():
    """A missing atom, two of whose neighbours have hydrogen that points to its place."""
    flake = flake_lattice('z', 4)
    lost = int(np.argmin(np.linalg.norm(flake.positions, axis=1)))
    near = np.argsort(np.linalg.norm(flake.positions - flake.positions[lost], axis=1))[1:3]
    ends = flake.positions[near] + 0.7 * (flake.positions[lost] - flake.positions[near])
    rest = np.delete(np.arange(len(flake)), lost)
    return StructureSet.from_structures(
        [Structure(np.append(flake.numbers[rest], [1, 1]), np.concatenate([flake.positions[rest], ends]))]
    ).to_ase()[0]


def unbonded_neighbours():
    """Two halves of a flake that gape at one side, as a tear does."""
    flake = StructureSet.from_structures([flake_lattice('s', (9, 6))])
    points = flake.positions.copy()
    points[:, 1] += np.where(points[:, 1] > 0, np.clip(0.12 * (points[:, 0] + 5), 0, None), 0)
    return StructureSet(flake.numbers, points, flake.offsets).to_ase()[0]


@pytest.mark.parametrize(
    ('atoms', 'reason'),
    [
        (molecule('CH4'), r'atom 0 \(C\) has more bonds than'),
        (molecule('H2'), r'atom 0 \(H\) has no bond'),
        (molecule('C2H2'), 'bonds that are not 120° apart'),
        (molecule('C4H4NH'), 'bonds that are not 120° apart'),
        (two_molecules(), r'atom 12 \(C\) is not connected'),
        (two_hydrogen_atoms_on_a_site(), r'\(H\) shares its site'),
        (unbonded_neighbours(), 'is not bonded to an atom on a neighbouring site'),
    ],
)
def test_what_is_not_on_a_lattice(atoms, reason):
    """Refused on a lattice; a warning names it where the choice is free and others are on one."""
    both = StructureSet.from_ase([molecule('C6H6'), atoms])
    with pytest.raises(DescriptorError, match=f'structure 1: .*{reason}.*1 of 2 structures.*geometry="graph"'):
        everything(geometry='lattice').fit(both)
    embedding = embed(both)
    assert embedding.fault[0] == -1
    assert embedding.fault[1] >= 12


def test_the_way_is_chosen_for_all_training_structures_together():
    mixed = StructureSet.concatenate([FLAKES, stone_wales()])
    with pytest.warns(UserWarning, match=r'1 of 41 structures .*\(first: structure 40 \(turned\)') as caught:
        learnt = everything().fit(mixed)
    assert len(caught) == 1
    by_bonds = everything(geometry='graph')
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        by_bonds.fit(mixed)
        everything().fit(FLAKES)
        everything().fit(stone_wales())
    assert learnt.frozen().geometry == 'graph'
    np.testing.assert_array_equal(learnt.get_feature_names_out(), by_bonds.get_feature_names_out())
    assert everything().fit(FLAKES).frozen().geometry == 'lattice'
    with pytest.raises(DescriptorError, match='use geometry="graph"'):
        everything().fit(FLAKES).transform(stone_wales())


# What is learnt -------------------------------------------------------------------------------------------------------


def test_the_reference_set_of_204():
    descriptor = ClusterDescriptor().fit(FAMILIES)
    names = descriptor.get_feature_names_out()
    assert names[:4].tolist() == ['fraction_H', 'fraction_B', 'fraction_C', 'fraction_N']
    radii = [int(name[1]) for name in names[4:]]
    assert radii == sorted(radii)
    amounts = np.bincount(radii, minlength=9)[1:]
    every = everything().fit(FAMILIES)
    available = np.bincount([int(name[1]) for name in every.get_feature_names_out()[4:]], minlength=9)[1:]
    np.testing.assert_array_equal(amounts, np.minimum(available, 25))
    assert amounts[1:].tolist() == [25] * 7
    assert set(names) <= set(every.get_feature_names_out())


def test_counts_and_binary_rows():
    counts = everything(binary=False, species=False).fit_transform(FLAKES)
    names = everything(species=False).fit(FLAKES).get_feature_names_out()
    for radius in RADII:
        of_radius = [name.startswith(f'k{radius}:') for name in names]
        np.testing.assert_array_equal(counts[:, of_radius].sum(axis=1), 54)
        assert (np.diff(counts[:, of_radius].sum(axis=0)) <= 0).all(), 'the frequent ones first'
    np.testing.assert_array_equal(everything(species=False).fit_transform(FLAKES), counts > 0)


def test_rows_begin_with_the_fractions_of_the_elements():
    rows = ClusterDescriptor().fit_transform(FLAKES)
    expected = [[flake.symbols.count(element) / len(flake) for element in ELEMENTS] for flake in FLAKES]
    np.testing.assert_allclose(rows[:, :4], expected)
    np.testing.assert_array_equal(ClusterDescriptor(species=False).fit_transform(FLAKES), rows[:, 4:])


@pytest.mark.parametrize('binary', [True, False])
@pytest.mark.parametrize('species', [True, False])
def test_sparse_rows(species, binary):
    dense = everything(species=species, binary=binary)
    sparse = everything(species=species, binary=binary, sparse_output=True)
    for rows in (sparse.fit_transform(FLAKES), sparse.transform(FLAKES)):
        assert issparse(rows)
        assert rows.format == 'csr'
        np.testing.assert_array_equal(rows.toarray(), dense.fit_transform(FLAKES))


def test_vocabulary_is_that_of_the_training_structures():
    train, test = FLAKES.select(slice(0, 30)), FLAKES.select(slice(30, 40))
    learnt = everything(radii=[1, 3], binary=False, species=False).fit(train)
    assert learnt.unknown_counts(train).tolist() == [0] * 30
    rows, unseen = learnt.transform(test), learnt.unknown_counts(test)
    seen = on_lattice(train, (1, 3)).keys
    found = on_lattice(test, (1, 3))
    missing = sum(~np.isin(found.keys[:, column], seen[:, column]) for column in (0, 1))
    np.testing.assert_array_equal(unseen, np.bincount(found.rows, missing))
    np.testing.assert_array_equal(rows.sum(axis=1) + unseen, 2 * 54)
    assert unseen.min() > 0


def test_draws_depend_on_the_seed_only():
    names = ClusterDescriptor(seed=1).fit(FLAKES).get_feature_names_out()
    mixed = FLAKES.select(np.random.default_rng(0).permutation(len(FLAKES)))
    assert set(ClusterDescriptor(seed=1).fit(mixed).get_feature_names_out()) == set(names)
    assert set(ClusterDescriptor(seed=2).fit(FLAKES).get_feature_names_out()) != set(names)
    fewer = ClusterDescriptor(seed=1, radii=[4, 2]).fit(FLAKES).get_feature_names_out()
    assert fewer.tolist() == [name for name in names if name[:2] in ('fr', 'k2', 'k4')]


def test_draws_by_occurrence_take_what_many_flakes_have():
    by_occurrence, uniform = (
        ClusterDescriptor(draw=draw, radii=[3, 4]).fit_transform(FLAKES)[:, 4:] for draw in ('occurrence', 'uniform')
    )
    assert by_occurrence.mean() > 3 * uniform.mean()


def test_frozen_needs_no_data():
    for source in (ClusterDescriptor(radii=(1, 2)), everything(radii=[1, 2], geometry='graph', binary=False)):
        learnt = source.fit(FLAKES)
        identity = descriptor_identity(learnt.frozen())
        again = make_descriptor('clusters', **json.loads(json.dumps(identity['params'])))
        assert descriptor_identity(again) == identity
        assert identity['feature_names'] == learnt.get_feature_names_out().tolist()
        np.testing.assert_array_equal(again.transform(HEXAGONS), learnt.transform(HEXAGONS))
        np.testing.assert_array_equal(clone(again).fit(HEXAGONS).transform(FLAKES), learnt.transform(FLAKES))
        np.testing.assert_array_equal(clone(again).fit_transform(FLAKES), learnt.transform(FLAKES))
        assert again.frozen().get_params() == again.get_params()


def test_columns_of_a_vocabulary_are_in_its_order():
    learnt = everything(radii=[1, 2], species=False).fit(FLAKES)
    order = np.random.default_rng(0).permutation(len(learnt.get_feature_names_out()))
    names = learnt.get_feature_names_out()[order].tolist()
    given = ClusterDescriptor(vocabulary=names, species=False)
    assert given.get_feature_names_out().tolist() == names
    np.testing.assert_array_equal(given.transform(FLAKES), learnt.transform(FLAKES)[:, order])


def test_restricted_to_some_columns():
    learnt = ClusterDescriptor().fit(FLAKES)
    names = learnt.get_feature_names_out()
    rows = learnt.transform(HEXAGONS)
    some = learnt.restricted(names[[3, 10, 31]])
    assert some.get_feature_names_out().tolist() == [*names[:4], *names[[10, 31]]]
    np.testing.assert_array_equal(some.transform(HEXAGONS), rows[:, [0, 1, 2, 3, 10, 31]])
    only = learnt.restricted(names[[10]])
    np.testing.assert_array_equal(only.transform(HEXAGONS), rows[:, [10]])
    elements = learnt.restricted(names[:4])
    np.testing.assert_array_equal(elements.transform(HEXAGONS), rows[:, :4])
    assert elements.unknown_counts(HEXAGONS).tolist() == [0] * len(HEXAGONS)
    with pytest.raises(DescriptorError, match="no column 'k9:x'"):
        learnt.restricted([*names, 'k9:x'])


def test_clusters_common_to_all_families():
    learnt = everything(common=True).fit(FAMILIES)
    parts = [set(everything().fit(part).get_feature_names_out()) for part in (FLAKES, HEXAGONS)]
    assert set(learnt.get_feature_names_out()) == parts[0] & parts[1] != parts[0] | parts[1]
    np.testing.assert_array_equal(everything(common=True).fit_transform(FAMILIES), learnt.transform(FAMILIES))


def test_the_common_set_of_29():
    many = StructureSet.concatenate(
        [generate_flakes(FlakeParameters(family, size, 200, 1)) for family, size in (('s', (9, 6)), ('h', 2))]
    )
    names = ClusterDescriptor(**COMMON_SET).fit(many).get_feature_names_out()
    assert len(names) == 29
    assert {name[:2] for name in names[4:]} == {'k1'}


def test_nothing_in_common():
    ethylene, ammonia = (StructureSet.from_ase([molecule(name)], families=[name]) for name in ('C2H4', 'NH3'))
    with pytest.raises(DescriptorError, match=r'no cluster .* in every family'):
        everything(common=True, radii=[3]).fit(StructureSet.concatenate([ethylene, ammonia]))


def test_no_structures():
    learnt = ClusterDescriptor().fit(FLAKES)
    assert learnt.transform(FLAKES.select([])).shape == (0, len(learnt.get_feature_names_out()))
    assert learnt.unknown_counts(FLAKES.select([])).shape == (0,)
    assert graph_clusters(FLAKES.select([]), (1, 2)).keys.shape == (0, 2)
    with pytest.raises(DescriptorError, match='at least one structure'):
        ClusterDescriptor().fit(FLAKES.select([]))


# What is refused ------------------------------------------------------------------------------------------------------


def test_before_fit():
    for use in ('transform', 'unknown_counts', 'restricted'):
        with pytest.raises(DescriptorError, match='fit the descriptor first'):
            getattr(ClusterDescriptor(), use)(FLAKES)
    with pytest.raises(DescriptorError, match='fit the descriptor first'):
        ClusterDescriptor().get_feature_names_out()
    with pytest.raises(DescriptorError, match='fit the descriptor first'):
        ClusterDescriptor().frozen()


@pytest.mark.parametrize(
    ('atoms', 'message'),
    [
        (molecule('H2O'), r'structure 1 \(bad\): atom 0 \(O\): clusters know the elements H, B, C, N only'),
        (bulk('C', 'diamond', 3.57), 'structure 1 is periodic; clusters'),
        (molecule('H2'), r'structure 1 \(bad\): atom 0 \(H\)'),
    ],
)
@pytest.mark.parametrize('geometry', ['lattice', 'graph', 'auto'])
def test_refused_structures(geometry, atoms, message):
    sets = StructureSet.from_ase([molecule('C6H6'), atoms], names=['good', 'bad'])
    descriptor = everything(geometry=geometry, radii=[1])
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        with pytest.raises(DescriptorError, match=message):
            descriptor.fit(sets)
    with pytest.raises(DescriptorError, match=message):
        descriptor.fit(sets.select([0])).transform(sets)


def test_arrays_are_refused():
    with pytest.raises(DescriptorError, match='StructureSet'):
        ClusterDescriptor().fit(np.zeros((2, 3)))
    with pytest.raises(DescriptorError, match='describe a StructureSet, not ndarray'):
        ClusterDescriptor().fit(FLAKES).transform(np.zeros((2, 3)))


BENZENE = 'k1:f5d02646d3c11aef:C|HC2'


@pytest.mark.parametrize(
    ('params', 'message'),
    [
        ({'radii': []}, 'radii'),
        ({'radii': 3}, 'radii'),
        ({'radii': '12'}, 'radii'),
        ({'radii': [0, 1]}, 'greater than or equal to 1'),
        ({'radii': [9]}, 'less than or equal to 8'),
        ({'radii': [1.5]}, 'valid integer'),
        ({'radii': [True]}, 'valid integer'),
        ({'radii': [2, 2]}, 'twice'),
        ({'per_radius': 0}, 'per_radius'),
        ({'per_radius': -1}, 'per_radius'),
        ({'per_radius': 2.5}, 'per_radius'),
        ({'seed': -1}, 'seed'),
        ({'seed': None}, 'seed'),
        ({'species': 1}, 'species'),
        ({'binary': 'yes'}, 'binary'),
        ({'common': None}, 'common'),
        ({'sparse_output': 0}, 'sparse_output'),
        ({'draw': 'first'}, "'occurrence' or 'uniform'"),
        ({'geometry': 'cubic'}, "'auto', 'lattice' or 'graph'"),
        ({'vocabulary': BENZENE}, 'list of names'),
        ({'vocabulary': [BENZENE, 'C|CCC']}, "'C|CCC' in vocabulary is no name"),
        ({'vocabulary': [BENZENE, 7]}, '7 in vocabulary is no name'),
        ({'vocabulary': [BENZENE.replace('k1', 'k9')]}, 'none of the radii'),
        ({'vocabulary': [BENZENE], 'radii': [2]}, 'none of the radii'),
        ({'vocabulary': [BENZENE, BENZENE]}, 'twice'),
        ({'vocabulary': [BENZENE, BENZENE.replace('k1:', 'k1:g')]}, 'mixes clusters'),
        ({'vocabulary': [BENZENE], 'geometry': 'graph'}, "geometry='lattice', not 'graph'"),
        ({'vocabulary': [BENZENE.replace('k1:', 'k1:g')], 'geometry': 'lattice'}, "geometry='graph', not 'lattice'"),
    ],
)
def test_refused_parameters(params, message):
    descriptor = ClusterDescriptor(**params)
    for use in (descriptor.fit, descriptor.transform, descriptor.fit_transform):
        with pytest.raises(DescriptorError) as caught:
            use(FLAKES)
        assert message in str(caught.value)


@pytest.mark.parametrize('families', [['s', 's'], ['', ''], ['s', '']])
def test_common_needs_families(families):
    pair = StructureSet.from_arrays({**FLAKES.select([0, 1]).to_arrays(), 'families': np.array(families)})
    with pytest.raises(DescriptorError, match='at least two families'):
        ClusterDescriptor(common=True).fit(pair)
