"""Alloy cells: even compositions, distinct arrangements, quasi-random structures, and the same bits everywhere."""

import dataclasses
import hashlib
import itertools
import json
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiida_nanoml.errors import StructureError
from aiida_nanoml.structures import (
    AlloyParameters,
    Structure,
    StructureSet,
    composition_section,
    generate_alloys,
    isolated_atoms,
    lattice_constants,
    phases_of,
    warren_cowley,
)
from aiida_nanoml.structures.alloys import mean_lattice_constant
from aiida_nanoml.structures.cubic import amounts_of, pair_counts

FIVE = ('Co', 'Cr', 'Fe', 'Ni', 'Al')
EQUAL = dict.fromkeys(FIVE, 0.2)


def alloys(count=1, seed=0, **params):
    return generate_alloys(AlloyParameters(count=count, seed=seed, **params))


@st.composite
def some_parameters(draw):
    elements = draw(st.permutations(['Co', 'Cr', 'Al', 'Cu', 'Ti', 'Au']))[: draw(st.integers(2, 6))]
    phases = tuple(draw(st.permutations(['fcc', 'bcc']))[: draw(st.integers(1, 2))])
    composition = draw(st.sampled_from([None, {elements[0]: 0.25, elements[1]: 0.75}]))
    return AlloyParameters(
        count=draw(st.integers(1, 5)),
        seed=draw(st.integers(0, 2**70)),
        elements=tuple(elements),
        n_atoms=draw(st.sampled_from([12, 20, 32])),
        phases=phases,
        composition=composition,
        min_elements=draw(st.integers(1, len(elements))),
        round_composition=draw(st.booleans()),
        order=draw(st.sampled_from(['random', 'sqs'])),
        sqs_iterations=5,
        lattice_constants=draw(st.sampled_from([None, dict.fromkeys(phases, 3.5)])),
    )


# The cells ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ('phase', 'n_atoms', 'repeats'),
    [
        ('fcc', 8, (2, 1, 1)), ('fcc', 12, (3, 1, 1)), ('fcc', 16, (2, 2, 1)), ('fcc', 24, (3, 2, 1)),
        ('fcc', 32, (2, 2, 2)), ('fcc', 108, (3, 3, 3)), ('bcc', 8, (2, 2, 1)), ('bcc', 16, (2, 2, 2)),
        ('bcc', 54, (3, 3, 3)), ('bcc', 108, (6, 3, 3)), ('bcc', 32, (4, 2, 2)),
    ],
)  # fmt: skip
def test_cells_are_the_most_compact_ones(phase, n_atoms, repeats):
    cells = alloys(n_atoms=n_atoms, phases=(phase,), lattice_constants={phase: 3.0})
    np.testing.assert_array_equal(cells.cells[0], 3.0 * np.diag(repeats))
    assert cells.counts.tolist() == [n_atoms]
    assert phases_of(cells).tolist() == cells.families.tolist() == [phase]
    np.testing.assert_allclose(lattice_constants(cells), 3.0)


@settings(max_examples=30, deadline=None)
@given(some_parameters())
def test_every_set_keeps_the_rules(parameters):
    cells = generate_alloys(parameters)
    n_phases = len(parameters.phases)
    assert len(cells) == parameters.count * n_phases
    assert cells.families.tolist() == list(parameters.phases) * parameters.count
    assert phases_of(cells).tolist() == cells.families.tolist()
    assert cells.names.tolist() == [f'alloy-{row // n_phases:04d}' for row in range(len(cells))]
    assert set(cells.counts) == {parameters.n_atoms}
    amounts = amounts_of(cells, parameters.elements).reshape(parameters.count, n_phases, -1)
    assert (amounts == amounts[:, :1]).all(), 'one composition in all phases'
    if parameters.composition is None:
        assert ((amounts > 0).sum(axis=2) >= parameters.min_elements).all()
    else:
        np.testing.assert_array_equal(amounts[0, 0, :2], np.array([1, 3]) * parameters.n_atoms / 4)
    assert len(set(cells.hashes)) == len(cells)
    longer = generate_alloys(dataclasses.replace(parameters, count=parameters.count + 2))
    assert longer.select(slice(0, len(cells))) == cells


@pytest.mark.parametrize(
    ('params', 'expected'),
    [
        ({}, '291ce45dc27449a9'),
        ({'order': 'sqs', 'n_atoms': 32}, 'c0ab69358a034113'),
        ({'composition': EQUAL, 'n_atoms': 20}, 'e0c880970f770b92'),
    ],
)
def test_a_seed_means_the_same_bits_everywhere(params, expected):
    """A frozen digest of the arrays: it must be the same on all machines, and in all versions."""
    cells = alloys(count=4, seed=7, **params)
    content = hashlib.sha256()
    for values, kind in ((cells.numbers, 'u1'), (cells.positions, '<f8'), (cells.cells, '<f8'), (cells.offsets, '<i8')):
        content.update(np.ascontiguousarray(values, dtype=kind).tobytes())
    assert content.hexdigest()[:16] == expected


def test_seeds_differ():
    assert alloys(seed=1).formulas != alloys(seed=2).formulas
    assert not np.array_equal(alloys(seed=1, composition=EQUAL, n_atoms=20).numbers,
                              alloys(seed=2, composition=EQUAL, n_atoms=20).numbers)  # fmt: skip


# Compositions ---------------------------------------------------------------------------------------------------------


def all_compositions(n_atoms, n_elements, least):
    """All amounts by a plain loop."""
    return {
        amounts
        for amounts in itertools.product(range(n_atoms + 1), repeat=n_elements)
        if sum(amounts) == n_atoms and sum(amount > 0 for amount in amounts) >= least
    }


@pytest.mark.parametrize(('n_atoms', 'n_elements', 'least'), [(8, 3, 1), (8, 3, 2), (8, 4, 3), (12, 3, 3), (8, 2, 2)])
def test_all_compositions_come_once_before_any_comes_again(n_atoms, n_elements, least):
    wanted = all_compositions(n_atoms, n_elements, least)
    cells = alloys(len(wanted), n_atoms=n_atoms, elements=FIVE[:n_elements], min_elements=least, phases=('fcc',))
    found = [tuple(amounts) for amounts in amounts_of(cells, FIVE[:n_elements]).tolist()]
    assert len(set(found)) == len(found)
    assert set(found) == wanted


def test_compositions_are_equally_likely():
    """The first composition over many seeds: chi squared of 42 compositions, mean 41, deviation 9."""
    found = Counter(alloys(seed=seed, elements=FIVE[:3], phases=('bcc',)).formulas[0] for seed in range(840))
    assert len(found) == 42
    assert sum((n - 20) ** 2 / 20 for n in found.values()) < 41 + 4 * 9


def test_compositions_come_again_evenly():
    """Each turn takes all compositions, as long as they have new cells."""
    cells = alloys(3 * 490, phases=('bcc',))
    counts = Counter(cells.formulas)
    assert len(counts) == 490
    assert max(counts.values()) == 4, 'compositions such as Al7Co have one cell: the others come once more'
    assert len(set(cells.hashes)) == len(cells)


def test_a_large_space_of_compositions():
    """Some 10²² compositions of twenty elements."""
    elements = ('Al', 'Ti', 'V', 'Cr', 'Fe', 'Co', 'Ni', 'Cu', 'Zn', 'Zr', 'Nb', 'Mo', 'Ru', 'Rh', 'Pd', 'Ag', 'Hf',
                'Ta', 'W', 'Re')  # fmt: skip
    cells = alloys(20, n_atoms=108, elements=elements, phases=('fcc',))
    assert len(set(cells.formulas)) == 20
    assert amounts_of(cells, elements).sum(axis=0).min() > 0


def test_given_fractions():
    cells = alloys(2, composition={'Co': 0.333, 'Ni': 0.667}, n_atoms=12)
    assert cells.formulas == ['Co4Ni8'] * 4
    rounded = alloys(composition=EQUAL, round_composition=True)
    assert rounded.formulas[0] == 'AlCo2Cr2Fe2Ni', 'equal remainders go to the first elements'


def test_fractions_that_do_not_fit_name_what_does():
    with pytest.raises(StructureError) as caught:
        AlloyParameters(count=1, seed=0, composition=EQUAL)
    assert str(caught.value) == (
        'the composition Co=0.2 Cr=0.2 Fe=0.2 Ni=0.2 Al=0.2 does not fit a cell of 8 atoms; the nearest that does is '
        'Co=0.25 Cr=0.25 Fe=0.25 Ni=0.125 Al=0.125 (taken with round_composition); '
        'it fits cells of 20, 40, 60, 80, 100 atoms'
    )


# Arrangements ---------------------------------------------------------------------------------------------------------


def orbits_of_pairs(repeats, basis):
    """Ways to choose two of the sites of a cell, up to its operations: by their distance vectors, a plain loop."""
    edges = 2 * np.array(repeats)
    points = [2 * np.array(step) + np.array(shift)
              for step in itertools.product(*map(range, repeats)) for shift in basis]  # fmt: skip
    found = set()
    for first, second in itertools.combinations(points, 2):
        images = []
        for axes in itertools.permutations(range(3)):
            if tuple(np.array(repeats)[list(axes)]) != tuple(repeats):
                continue
            turned = (second - first)[list(axes)]
            images += [tuple((turned * signs) % edges) for signs in itertools.product((1, -1), repeat=3)]
        found.add(min(images))
    return len(found)


@pytest.mark.parametrize(
    ('phase', 'repeats', 'basis'),
    [
        ('fcc', (2, 1, 1), [(0, 0, 0), (0, 1, 1), (1, 0, 1), (1, 1, 0)]),
        ('bcc', (2, 2, 1), [(0, 0, 0), (1, 1, 1)]),
        ('bcc', (2, 2, 2), [(0, 0, 0), (1, 1, 1)]),
    ],
)
@pytest.mark.parametrize('order', ['random', 'sqs'])
def test_all_cells_of_a_composition_can_be_found(phase, repeats, basis, order):
    """Two atoms of Al among others of Ni: known numbers of distinct cells, no more and no fewer."""
    n_atoms = int(np.prod(repeats)) * len(basis)
    params = {
        'elements': ('Al', 'Ni'), 'composition': {'Al': 2 / n_atoms, 'Ni': 1 - 2 / n_atoms}, 'phases': (phase,),
        'n_atoms': n_atoms, 'order': order, 'sqs_iterations': 20,
    }  # fmt: skip
    n_distinct = orbits_of_pairs(repeats, basis)
    assert len(alloys(n_distinct, **params)) == n_distinct
    with pytest.raises(StructureError, match=f'only {n_distinct} of {n_distinct + 1} distinct alloys were found'):
        alloys(n_distinct + 1, **params)


def deviation(cells, elements):
    """Squared differences of the shares of pairs from those of a random alloy, the first shell twice."""
    counts = pair_counts(cells, elements)
    shares = amounts_of(cells, elements) / cells.counts[:, None]
    random = shares[:, None, :, None] * shares[:, None, None, :]
    squares = (counts / counts.sum(axis=(2, 3), keepdims=True) - random) ** 2
    return squares.sum(axis=(2, 3)) @ [2, 1]


@pytest.mark.parametrize('phase', ['fcc', 'bcc'])
def test_the_best_quasi_random_cell_is_found(phase):
    """All arrangements of two elements in 8 atoms can be compared."""
    params = {'elements': ('Al', 'Ni'), 'composition': {'Al': 0.375, 'Ni': 0.625}, 'phases': (phase,)}
    best = deviation(alloys(order='sqs', **params), ('Al', 'Ni'))
    cell = alloys(**params)[0]
    arrangements = []
    for chosen in itertools.combinations(range(8), 3):
        numbers = np.full(8, 28, dtype=np.uint8)
        numbers[list(chosen)] = 13
        arrangements.append(Structure(numbers, cell.positions, cell.cell, cell.pbc))
    every = deviation(StructureSet.from_structures(arrangements), ('Al', 'Ni'))
    assert best[0] == pytest.approx(every.min())
    assert every.min() < every.mean()


@pytest.mark.parametrize('n_atoms', [8, 32, 108])
def test_quasi_random_cells_are_nearer_to_random_alloys(n_atoms):
    params = {'count': 3, 'n_atoms': n_atoms, 'min_elements': 5, 'sqs_iterations': 100}
    orders = {order: alloys(order=order, **params) for order in ('random', 'sqs')}
    assert orders['random'].formulas == orders['sqs'].formulas
    means = {order: deviation(cells, FIVE).mean() for order, cells in orders.items()}
    assert means['sqs'] < {8: 0.8, 32: 0.3, 108: 0.1}[n_atoms] * means['random']
    parameters = {order: np.abs(warren_cowley(cells, FIVE)).mean() for order, cells in orders.items()}
    assert parameters['sqs'] < parameters['random']


def test_repeated_quasi_random_cells_become_worse():
    cells = alloys(4, composition={'Al': 0.5, 'Ni': 0.5}, elements=('Al', 'Ni'), phases=('fcc',), order='sqs')
    found = deviation(cells, ('Al', 'Ni'))
    assert (np.diff(found) >= -1e-12).all()
    assert found[-1] > found[0]


# Lattice constants ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(('element', 'phase', 'a'), [('Al', 'fcc', 4.05), ('Ni', 'fcc', 3.52), ('Cr', 'bcc', 2.88)])
def test_lattice_constants_of_elements(element, phase, a):
    assert mean_lattice_constant({element: 3}, phase) == pytest.approx(a)


def test_volumes_are_added():
    fcc, bcc = (mean_lattice_constant({'Al': 1, 'Co': 3}, phase) for phase in ('fcc', 'bcc'))
    cobalt = 3**0.5 / 4 * 2.51**3 * 1.622
    assert fcc**3 / 4 == pytest.approx((4.05**3 / 4 + 3 * cobalt) / 4, rel=1e-4)
    assert bcc**3 / 2 == pytest.approx(fcc**3 / 4, rel=1e-4)
    found = lattice_constants(alloys(composition={'Al': 0.25, 'Co': 0.75}))
    np.testing.assert_allclose(found, [fcc, bcc])


def test_an_element_without_a_simple_crystal_needs_lattice_constants():
    with pytest.raises(StructureError, match=r'volume of Mn in its own crystal is not known here; give lattice_const'):
        AlloyParameters(count=1, seed=0, elements=('Mn', 'Fe'))
    cells = alloys(elements=('Mn', 'Fe'), lattice_constants={'fcc': 3.6, 'bcc': 2.9})
    np.testing.assert_allclose(lattice_constants(cells), [3.6, 2.9])


# Sections and atoms ---------------------------------------------------------------------------------------------------


def test_a_section():
    cells = composition_section(FIVE, 'Al', 'Co', steps=4, n_atoms=32, seed=0)
    amounts = amounts_of(cells, ('Al', 'Co', 'Cr', 'Fe', 'Ni'))[::2]
    wanted = [(x, y) for x in range(5) for y in range(5 - x)]
    assert (amounts[:, :2] // 8).tolist() == [list(point) for point in wanted]
    assert (np.ptp(amounts[:, 2:], axis=1) <= 1).all(), 'the others share the rest equally'
    assert cells.families.tolist() == ['fcc', 'bcc'] * 15
    assert cells.names.tolist()[::2] == [f'alloy-{number:04d}' for number in range(15)]


def test_a_section_has_each_composition_once():
    """More steps than atoms: the nearest compositions repeat."""
    cells = composition_section(['Al', 'Ni', 'Fe'], 'Ni', 'Al', steps=20, n_atoms=8, seed=0, phases=['bcc'])
    assert len(cells) == len(set(cells.formulas)) == 45
    binary = composition_section(['Al', 'Ni'], 'Ni', 'Al', steps=4, n_atoms=8, seed=0, phases=['bcc'])
    assert binary.formulas == ['Al8', 'Al6Ni2', 'Al4Ni4', 'Al2Ni6', 'Ni8']


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'x': 'Cu'}, "two of the elements Al, Ni, Fe, not 'Cu' and 'Al'"),
        ({'x': 'Al'}, "two of the elements Al, Ni, Fe, not 'Al' and 'Al'"),
        ({'steps': 0}, 'steps must be an integer of at least 1'),
        ({'n_atoms': 9}, 'n_atoms must be'),
        ({'phases': ['hcp']}, "there is no phase 'hcp'"),
        ({'order': 'best'}, "order='best' .* 'random' or 'sqs'"),
    ],
)
def test_refused_sections(changes, message):
    given = {'elements': ['Al', 'Ni', 'Fe'], 'x': 'Ni', 'y': 'Al', 'steps': 3, 'n_atoms': 8, 'seed': 0}
    with pytest.raises(StructureError, match=message):
        composition_section(**(given | changes))


def test_isolated_atoms():
    atoms = isolated_atoms(['Ni', 'Al', 'Ni', 'Co'])
    assert atoms.names.tolist() == atoms.formulas == ['Al', 'Co', 'Ni']
    assert not atoms.pbc.any()
    assert not atoms.positions.any()
    assert atoms.families.tolist() == [''] * 3
    with pytest.raises(StructureError, match='no such element: Xx'):
        isolated_atoms(['Xx'])
    with pytest.raises(StructureError, match='name at least one'):
        isolated_atoms([])


# Parameters -----------------------------------------------------------------------------------------------------------


@given(some_parameters())
def test_parameters_survive_json(parameters):
    assert AlloyParameters.from_dict(json.loads(json.dumps(parameters.to_dict()))) == parameters


def test_parameters_from_a_dictionary_with_defaults():
    assert AlloyParameters.from_dict({'count': 3, 'seed': 1}) == AlloyParameters(count=3, seed=1)
    with pytest.raises(StructureError, match="missing parameter 'seed' of AlloyParameters"):
        AlloyParameters.from_dict({'count': 3})
    with pytest.raises(
        StructureError, match="unknown parameter 'atoms' of AlloyParameters; valid: count, seed, elements"
    ):
        AlloyParameters.from_dict({'count': 3, 'seed': 1, 'atoms': 8})


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'count': 0}, 'count=0 .* greater than or equal to 1'),
        ({'count': 2.0}, 'count=2.0 .* valid integer'),
        ({'seed': -1}, 'seed=-1 .* greater than or equal to 0'),
        ({'seed': True}, 'seed=True .* valid integer'),
        ({'min_elements': 0}, 'min_elements=0'),
        ({'min_elements': 6}, 'min_elements is 6, but there are only 5 elements'),
        ({'sqs_iterations': 0}, 'sqs_iterations=0'),
        ({'elements': ()}, r'elements=\(\) .* at least 1 item'),
        ({'elements': 'CoNi'}, "elements='CoNi' .* valid tuple"),
        ({'elements': ('Co', 'Xx')}, 'no such element: Xx'),
        ({'elements': ('Co', 'Ni', 'Co')}, 'repeated in elements: Co, Ni, Co'),
        ({'phases': ('fcc', 'hcp')}, "there is no phase 'hcp'; choose from fcc, bcc"),
        ({'phases': ('fcc', 'fcc')}, 'a phase is repeated'),
        ({'phases': []}, r'phases=\[\] .* at least 1 item'),
        ({'n_atoms': 4}, r'from 8 to 108 and a multiple of 4, so that fcc and bcc .* not 4; the nearest: 8, 12'),
        ({'n_atoms': 54}, r'not 54; the nearest: 52, 56'),
        ({'n_atoms': 112}, 'the nearest: 104, 108'),
        ({'n_atoms': 9, 'phases': ('bcc',)}, r'a multiple of 2, so that bcc have .*nearest: 8, 10'),
        ({'n_atoms': '8'}, "n_atoms='8' .* valid integer"),
        ({'order': 'ordered'}, "order='ordered' .* 'random' or 'sqs'"),
        ({'round_composition': 1}, 'round_composition=1 .* valid boolean'),
        ({'composition': {}}, 'composition={} .* at least 1 item'),
        ({'composition': ['Co']}, r"composition=\['Co'\] .* valid dictionary"),
        ({'composition': {'Cu': 1.0}}, 'composition has Cu, not among the elements Co, Cr, Fe, Ni, Al'),
        ({'composition': {'Co': 1, 'Ni': 1}}, 'sum to 2, not to 1: Co=1 Ni=1; amounts are no fractions'),
        ({'composition': {'Co': 0.5, 'Ni': 0.4}}, r'sum to 0\.9, not to 1'),
        ({'composition': {'Co': 1.5, 'Ni': -0.5}}, 'composition={.* less than or equal to 1'),
        (
            {'composition': {'Co': float('nan'), 'Ni': 0.5}},
            'composition={.* less than or equal to 1|composition={.*nan',
        ),
        ({'composition': {'Co': '0.5', 'Ni': 0.5}}, 'composition={.* valid number'),
        ({'composition': {'Co': 0.1, 'Ni': 0.9}}, 'does not fit a cell of 8 atoms.*fits cells of 20, 40'),
        ({'composition': {'Co': 0.001, 'Ni': 0.999}}, 'it fits no cell'),
        ({'lattice_constants': {'fcc': 3.6}}, 'must have one length in Å for each of the phases fcc, bcc'),
        ({'lattice_constants': {'fcc': 3.6, 'bcc': 36.0}}, 'lattice_constants={.* less than or equal to 20'),
        ({'lattice_constants': 3.6}, 'lattice_constants=3.6 .* valid dictionary'),
    ],
)
def test_refused_parameters(changes, message):
    with pytest.raises(StructureError, match=message):
        AlloyParameters(**({'count': 1, 'seed': 0} | changes))
