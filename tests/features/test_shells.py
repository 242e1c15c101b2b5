"""Shell counts: known answers on rings and flakes, agreement with plain loops, symmetry, refusals."""

import itertools

import networkx
import numpy as np
import pytest
from ase.build import bulk, molecule
from hypothesis import given, settings
from hypothesis import strategies as st

from aiida_nanoml.errors import DescriptorError
from aiida_nanoml.features import descriptor_identity, make_descriptor
from aiida_nanoml.features.shells import ShellDescriptor
from aiida_nanoml.structures import FlakeParameters, StructureSet, flake_lattice, generate_flakes

FLAKES = StructureSet.concatenate(
    [generate_flakes(FlakeParameters('h', 2, 30, 8)), generate_flakes(FlakeParameters('s', (9, 6), 30, 8))]
)


def row(structures, **params):
    descriptor = ShellDescriptor(**params)
    return dict(zip(descriptor.get_feature_names_out(), descriptor.fit_transform(structures)[0], strict=True))


def network(flake):
    """Heavy atoms and their bonds, by a plain loop over distances."""
    graph = networkx.Graph()
    heavy = np.flatnonzero(flake.numbers > 1).tolist()
    graph.add_nodes_from((atom, {'symbol': flake.symbols[atom]}) for atom in heavy)
    for one, other in itertools.combinations(heavy, 2):
        if np.linalg.norm(flake.positions[one] - flake.positions[other]) < 1.9:
            graph.add_edge(one, other)
    return graph


def test_pure_carbon():
    """Hexabenzocoronene: 42 atoms, 13 rings, 54 bonds, 18 atoms at the edge, armchair pairs of them."""
    found = row(StructureSet.from_structures([flake_lattice('h', 2)]))
    expected = {
        'fraction_H': 0.3,
        'fraction_C': 0.7,
        'CC@1': 54 / 42,
        'CC@2': 90 / 42,
        'rings_C6': 13 / 42,
        'carbon_regions': 1 / 42,
        'carbon_largest': 1,
        'carbon_mean_square': 1,
        'CH': 18 / 42,
        'edge_bonds_CC': 12 / 42,
    }
    assert {name: found[name] for name in expected} == pytest.approx(expected)
    for name in ('doping', 'mass', 'sublattice_excess', 'nitride_largest', 'dipole', 'field_spread', 'armchair_BN'):
        assert found[name] == pytest.approx(0, abs=1e-12), name


def test_borazine_and_a_doped_ring():
    ring = flake_lattice('h', 1)
    order = np.argsort(np.arctan2(ring.positions[:6, 1], ring.positions[:6, 0]))
    numbers = ring.numbers.copy()
    numbers[order] = [5, 7] * 3
    found = row(StructureSet(numbers, ring.positions, [0, 12]))
    assert (found['BN@1'], found['BB@2'], found['NN@2'], found['BN@3']) == pytest.approx((1, 0.5, 0.5, 0.5))
    assert (found['rings_C0'], found['nitride_largest'], found['doping'], found['dipole']) == pytest.approx(
        (1 / 6, 1, 0, 0), abs=1e-12
    )
    numbers[order] = [7, 6, 6, 6, 6, 6]
    found = row(StructureSet(numbers, ring.positions, [0, 12]))
    assert found['doping'] == found['doping_size'] == found['largest_domain_doping'] == pytest.approx(1 / 6)
    assert found['sublattice_excess'] == found['region_excess'] == pytest.approx(1 / 6)
    assert found['rings_C5'] == pytest.approx(1 / 6)
    # The two carbon atoms beside N have N's neighbour and a carbon path, but no bond with each other.
    assert found['armchair_NN'] == found['zigzag_NN'] == 0


def test_borders():
    """One B3N3 ring inside coronene: its six carbon neighbours stand alone, so the border has no zigzag pair."""
    flake = flake_lattice('z', 2)
    order = np.argsort(np.linalg.norm(flake.positions[:24, :2], axis=1))[:6]
    around = order[np.argsort(np.arctan2(flake.positions[order, 1], flake.positions[order, 0]))]
    numbers = flake.numbers.copy()
    numbers[around] = [5, 7] * 3
    found = row(StructureSet(numbers, flake.positions, [0, len(flake)]))
    assert (found['BC@1'], found['CN@1']) == pytest.approx((3 / 24, 3 / 24))
    assert (found['carbon_largest'], found['nitride_largest']) == pytest.approx((18 / 24, 6 / 24))
    assert found['rings_C0'] == pytest.approx(1 / 24)
    assert found['rings_C4'] == pytest.approx(6 / 24)
    assert [found[f'{style}_{pair}'] for style in ('armchair', 'zigzag') for pair in ('BB', 'BN', 'NN')] == [0] * 6
    assert found['mass'] == pytest.approx(6 / 24)
    numbers[around] = [6, 5, 7, 6, 6, 6]
    found = row(StructureSet(numbers, flake.positions, [0, len(flake)]))
    assert found['armchair_BN'] == 0
    assert found['nitride_largest'] == pytest.approx(2 / 24)


@pytest.mark.parametrize('number', [0, 7, 31, 44])
def test_against_plain_loops(number):
    flake = FLAKES[number]
    graph = network(flake)
    n = len(graph)
    found = row(FLAKES.select([number]), shells=4)
    symbol = dict(graph.nodes(data='symbol'))
    expected = dict.fromkeys((f'{pair}@{k}' for k in range(1, 5) for pair in ('BB', 'BC', 'BN', 'CC', 'CN', 'NN')), 0.0)
    steps = dict(networkx.all_pairs_shortest_path_length(graph, cutoff=4))
    for one, other in itertools.combinations(graph, 2):
        if other in steps[one]:
            expected[f'{"".join(sorted(symbol[one] + symbol[other]))}@{steps[one][other]}'] += 1 / n
    rings = [ring for ring in networkx.minimum_cycle_basis(graph) if len(ring) == 6]
    for amount in range(7):
        expected[f'rings_C{amount}'] = sum(sum(symbol[a] == 'C' for a in ring) == amount for ring in rings) / n
    colour = networkx.bipartite.color(graph)
    for phase, elements in (('carbon', 'C'), ('nitride', 'BN')):
        parts = list(networkx.connected_components(graph.subgraph(a for a in graph if symbol[a] in elements)))
        sizes = sorted((len(part) / n for part in parts), reverse=True)
        expected[f'{phase}_regions'] = len(parts) / n
        expected[f'{phase}_largest'], expected[f'{phase}_second'] = (*sizes, 0, 0)[:2]
        expected[f'{phase}_mean_square'] = sum(size**2 for size in sizes)
        if phase == 'carbon':
            excess = [abs(sum(1 - 2 * colour[a] for a in part)) for part in parts]
            expected['region_excess'], expected['largest_region_excess'] = sum(excess) / n, max(excess, default=0) / n
        else:
            balance = [sum({'N': 1, 'B': -1}[symbol[a]] for a in part) for part in parts]
            expected['doping'] = sum(balance) / n
            expected['domain_doping'] = sum(map(abs, balance)) / n
            expected['largest_domain_doping'] = max(map(abs, balance), default=0) / n
    beside = {
        a: {element: sum(symbol[b] == element for b in graph[a]) for element in 'BN'} for a in graph if symbol[a] == 'C'
    }
    for pair in ('BB', 'BN', 'NN'):
        for style in ('armchair', 'zigzag'):
            amount = 0
            for one, other in itertools.combinations(beside, 2):
                if style == 'armchair':
                    links = int(graph.has_edge(one, other))
                else:
                    links = sum(symbol[c] == 'C' for c in networkx.common_neighbors(graph, one, other))
                if links:
                    a, b = (beside[atom] for atom in (one, other))
                    amount += links * (a[pair[0]] * b[pair[1]] + (a[pair[1]] * b[pair[0]] if pair == 'BN' else 0))
            expected[f'{style}_{pair}'] = amount / n
    assert {name: found[name] for name in expected} == pytest.approx(expected)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 59), st.integers(0, 2**31))
def test_orientation_and_order_do_not_matter(number, seed):
    random = np.random.default_rng(seed)
    flake = FLAKES[number]
    rotation, _ = np.linalg.qr(random.normal(size=(3, 3)))
    order = random.permutation(len(flake))
    moved = StructureSet(
        flake.numbers[order], flake.positions[order] @ rotation + random.uniform(-5, 5, 3), [0, len(order)]
    )
    np.testing.assert_allclose(
        ShellDescriptor().transform(moved), ShellDescriptor().transform(FLAKES.select([number])), atol=1e-9
    )


def test_rows_do_not_depend_on_each_other():
    mixed = FLAKES.select([40, 3, 41])
    alone = np.concatenate([ShellDescriptor().transform(mixed.select([k])) for k in range(3)])
    np.testing.assert_allclose(ShellDescriptor().transform(mixed), alone, atol=1e-12)


def test_what_it_is():
    descriptor = make_descriptor('shells', shells=2)
    assert not descriptor.electronic
    assert descriptor_identity(descriptor)['n_features'] == descriptor.transform(FLAKES).shape[1] == 58


@pytest.mark.parametrize('shells', [0, 13, 2.0, True])
def test_wrong_number_of_shells(shells):
    with pytest.raises(DescriptorError, match=f'parameter shells={shells} of ShellDescriptor: '):
        ShellDescriptor(shells).fit(FLAKES)


def test_what_is_no_flake():
    flake = FLAKES[0]
    two = StructureSet(
        np.tile(flake.numbers, 2),
        np.concatenate([flake.positions, flake.positions + np.array([0, 0, 9.0])]),
        [0, 2 * len(flake)],
    )
    cases = [
        (two, 'structure 0 falls into parts'),
        (StructureSet(flake.numbers[:-1], flake.positions[:-1], [0, len(flake) - 1]), 'three bonded neighbours'),
        (StructureSet.from_ase([bulk('C', cubic=True)]), 'structure 0 is periodic'),
        (StructureSet.from_ase([molecule('H2O')]), 'know the elements H, B, C, N only'),
        ([flake], 'describe a StructureSet, not list'),
    ]
    for structures, message in cases:
        with pytest.raises(DescriptorError, match=message):
            ShellDescriptor().transform(structures)
