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
PAIRS = ('BB', 'BC', 'BN', 'CC', 'CN', 'NN')


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


def expected_pairs(graph, shells):
    """Count pairs of atoms by their elements and the number of bonds between them, for each heavy atom."""
    symbol = dict(graph.nodes(data='symbol'))
    found = {f'{pair}@{shell}': 0.0 for shell in range(1, shells + 1) for pair in PAIRS}
    steps = dict(networkx.all_pairs_shortest_path_length(graph, cutoff=shells))
    for one, other in itertools.combinations(graph, 2):
        if other in steps[one]:
            found[f'{"".join(sorted(symbol[one] + symbol[other]))}@{steps[one][other]}'] += 1 / len(graph)
    return found


def expected_rings(graph):
    """Count rings of six by their number of carbon atoms, for each heavy atom."""
    symbol = dict(graph.nodes(data='symbol'))
    rings = [ring for ring in networkx.minimum_cycle_basis(graph) if len(ring) == 6]
    amounts = [sum(symbol[atom] == 'C' for atom in ring) for ring in rings]
    return {f'rings_C{amount}': amounts.count(amount) / len(graph) for amount in range(7)}


def expected_regions(graph, phase, elements):
    """Count the connected parts of a phase for each heavy atom, and measure their shares of the flake."""
    parts = parts_of(graph, elements)
    sizes = sorted((len(part) / len(graph) for part in parts), reverse=True)
    largest, second = (*sizes, 0, 0)[:2]
    return {
        f'{phase}_regions': len(parts) / len(graph),
        f'{phase}_largest': largest,
        f'{phase}_second': second,
        f'{phase}_mean_square': sum(size**2 for size in sizes),
    }


def expected_balances(graph):
    """Compare B with N in each domain, and the two sublattices in each carbon region."""
    symbol = dict(graph.nodes(data='symbol'))
    colour = networkx.bipartite.color(graph)
    excess = [abs(sum(1 - 2 * colour[atom] for atom in part)) for part in parts_of(graph, 'C')]
    balance = [sum({'N': 1, 'B': -1}[symbol[atom]] for atom in part) for part in parts_of(graph, 'BN')]
    n = len(graph)
    return {
        'region_excess': sum(excess) / n,
        'largest_region_excess': max(excess, default=0) / n,
        'doping': sum(balance) / n,
        'domain_doping': sum(map(abs, balance)) / n,
        'largest_domain_doping': max(map(abs, balance), default=0) / n,
    }


def parts_of(graph, elements):
    """Find the connected parts of some elements."""
    symbol = dict(graph.nodes(data='symbol'))
    return list(networkx.connected_components(graph.subgraph(atom for atom in graph if symbol[atom] in elements)))


def expected_borders(graph):
    """Count pairs of carbon atoms that both touch a domain: bonded (armchair), or both bonded to a third (zigzag)."""
    symbol = dict(graph.nodes(data='symbol'))
    beside = {
        atom: {element: sum(symbol[near] == element for near in graph[atom]) for element in 'BN'}
        for atom in graph
        if symbol[atom] == 'C'
    }
    found = dict.fromkeys((f'{style}_{pair}' for style in ('armchair', 'zigzag') for pair in ('BB', 'BN', 'NN')), 0.0)
    for one, other in itertools.combinations(beside, 2):
        between = sum(symbol[near] == 'C' for near in networkx.common_neighbors(graph, one, other))
        links = {'armchair': int(graph.has_edge(one, other)), 'zigzag': between}
        for pair, style in itertools.product(('BB', 'BN', 'NN'), links):
            first, second = pair
            touched = beside[one][first] * beside[other][second]
            if first != second:
                touched += beside[one][second] * beside[other][first]
            found[f'{style}_{pair}'] += links[style] * touched / len(graph)
    return found


@pytest.mark.parametrize('number', [0, 7, 31, 44])
def test_against_plain_loops(number):
    graph = network(FLAKES[number])
    found = row(FLAKES.select([number]), shells=4)
    expected = expected_pairs(graph, 4) | expected_rings(graph) | expected_balances(graph) | expected_borders(graph)
    expected |= expected_regions(graph, 'carbon', 'C') | expected_regions(graph, 'nitride', 'BN')
    assert {name: found[name] for name in expected} == pytest.approx(expected)


def test_recorded_columns():
    """What no plain loop checks stays as it was when models were trained on it."""
    found = row(FLAKES.select([31]))
    recorded = {
        'doping_size': 0.037037,
        'domain_doping_square': 0.0740741,
        'sublattice_excess': 0,
        'mass': 0.111111,
        'BH': 0.0555556,
        'CH': 0.296296,
        'NH': 0.0185185,
        'edge_bonds_CC': 0.12963,
        'depth_B': 0.0680414,
        'depth_C': 0.182475,
        'depth_N': 0.113402,
        'border_depth_carbon': 0.207217,
        'border_depth_nitride': 0.0408248,
        'dipole': 0.176655,
        'field_spread': 0.364331,
        'field_mass': 0.0654212,
    }
    assert {name: found[name] for name in recorded} == pytest.approx(recorded, rel=1e-5, abs=1e-12)


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
