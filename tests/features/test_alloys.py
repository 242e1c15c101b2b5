"""The alloy descriptor: known crystals, and what must not change a row."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.linear_model import LinearRegression

from aiida_nanoml.errors import DescriptorError
from aiida_nanoml.features import descriptor_identity, make_descriptor
from aiida_nanoml.features.alloys import AlloyDescriptor
from aiida_nanoml.structures import (
    AlloyParameters,
    FlakeParameters,
    StructureSet,
    generate_alloys,
    generate_flakes,
    isolated_atoms,
    scale_cells,
)
from tests.stand_in.fixtures import recorded_runs

FIVE = ['Co', 'Cr', 'Fe', 'Ni', 'Al']


def named(structures, **params):
    """The rows as one mapping of columns."""
    descriptor = AlloyDescriptor(**params)
    return dict(zip(descriptor.get_feature_names_out(), descriptor.transform(structures).T, strict=True))


@pytest.fixture(scope='module')
def cells():
    """Sixteen cells of 8 and of 32 atoms."""
    return StructureSet.concatenate(
        [generate_alloys(AlloyParameters(count=4, seed=1, n_atoms=n_atoms)) for n_atoms in (8, 32)]
    )


def test_columns():
    names = AlloyDescriptor().get_feature_names_out().tolist()
    assert len(names) == 37
    assert names[:7] == [*(f'fraction_{element}' for element in FIVE), 'pairs1_CoCo', 'pairs1_CoCr']
    assert names[19:21] == ['pairs1_AlAl', 'pairs2_CoCo']
    assert names[-2:] == ['volume_ang3_per_atom', 'phase_bcc']
    assert AlloyDescriptor(['Al', 'Ni'], volume_order=1).get_feature_names_out().tolist()[10:] == [
        f'{phase}:{column}*v^{power}'
        for phase in ('fcc', 'bcc')
        for power in (0, 1)
        for column in ('fraction_Al', 'fraction_Ni', 'pairs1_AlAl', 'pairs1_AlNi', 'pairs1_NiNi',
                       'pairs2_AlAl', 'pairs2_AlNi', 'pairs2_NiNi')
    ]  # fmt: skip


def test_an_ordered_crystal():
    """B2 NiAl: all first neighbours are unlike, all second ones like."""
    b2 = StructureSet([28, 13], [[0, 0, 0], [1.45] * 3], [0, 2], [2.9 * np.eye(3)], np.ones((1, 3), dtype=bool))
    row = {name: values[0] for name, values in named(b2).items() if values[0]}
    assert row == pytest.approx(
        {
            'fraction_Ni': 0.5, 'fraction_Al': 0.5, 'pairs1_NiAl': 1.0, 'pairs2_NiNi': 0.5, 'pairs2_AlAl': 0.5,
            'volume_ang3_per_atom': 2.9**3 / 2, 'phase_bcc': 1.0,
        }
    )  # fmt: skip


def test_an_element_alone():
    copper = StructureSet([29], [[0, 0, 0]], [0, 1], [[[0, 1.8, 1.8], [1.8, 0, 1.8], [1.8, 1.8, 0]]], [[True] * 3])
    assert AlloyDescriptor(['Cu']).transform(copper).tolist() == [[1, 1, 1, pytest.approx(3.6**3 / 4), 0]]


def test_sums_of_a_row(cells):
    row = named(cells)
    for start in ('fraction_', 'pairs1_', 'pairs2_'):
        sums = sum(values for name, values in row.items() if name.startswith(start))
        np.testing.assert_allclose(sums, 1)
    assert row['phase_bcc'].tolist() == [0, 1] * 8
    # Each atom has as many ends of bonds as any other: pairs with an element have its share of all ends.
    for shell in (1, 2):
        ends = sum(row[f'pairs{shell}_{name}'] * name.count('Fe') for name in
                   ('CoFe', 'CrFe', 'FeFe', 'FeNi', 'FeAl'))  # fmt: skip
        np.testing.assert_allclose(ends / 2, row['fraction_Fe'])


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32), row=st.integers(0, 15))
def test_rows_do_not_change_with_place_order_or_cell(cells, seed, row):
    """Atoms in any order, moved together and by lattice vectors, the cell turned, and two cells as one."""
    rng = np.random.default_rng(seed)
    cell = cells[row]
    order = rng.permutation(len(cell))
    steps = rng.integers(-2, 3, (len(cell), 3)) @ cell.cell
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    points = (cell.positions[order] + steps + rng.uniform(-9, 9, 3)) @ turn
    axis = rng.integers(3)
    twice = cell.cell.copy()
    twice[axis] *= 2
    changed = StructureSet(
        np.tile(cell.numbers[order], 3),
        np.concatenate([points, points, points + cell.cell[axis] @ turn]),
        [0, len(cell), 3 * len(cell)],
        [cell.cell @ turn, twice @ turn],
        np.ones((2, 3), dtype=bool),
    )
    expected = AlloyDescriptor().transform(cells.select([row, row]))
    np.testing.assert_allclose(AlloyDescriptor().transform(changed), expected, atol=1e-12)


def test_a_scan_changes_the_volume_only(cells):
    factors = np.array([0.95, 1.0, 1.06])
    scan = AlloyDescriptor().transform(scale_cells(cells, factors)).reshape(len(cells), 3, -1)
    given = AlloyDescriptor().transform(cells)
    volume = AlloyDescriptor().get_feature_names_out().tolist().index('volume_ang3_per_atom')
    np.testing.assert_allclose(scan[:, :, volume], given[:, [volume]] * factors**3)
    others = np.delete(np.arange(37), volume)
    np.testing.assert_array_equal(scan[:, :, others], np.repeat(given[:, None, others], 3, axis=1))


def test_powers_of_the_volume(cells):
    scan = scale_cells(cells, [0.97, 1.02])
    row = named(scan, volume_order=2, reference_volume_ang3=12.0)
    bcc = scan.families == 'bcc'
    dilatation = row['volume_ang3_per_atom'] / 12.0 - 1
    for power in (0, 1, 2):
        for column in ('fraction_Ni', 'pairs1_CoCr', 'pairs2_AlAl'):
            np.testing.assert_allclose(row[f'fcc:{column}*v^{power}'], row[column] * dilatation**power * ~bcc)
            np.testing.assert_allclose(row[f'bcc:{column}*v^{power}'], row[column] * dilatation**power * bcc)
    np.testing.assert_array_equal(
        AlloyDescriptor(volume_order=2).transform(scan)[:, :37], AlloyDescriptor().transform(scan)
    )


def test_a_cluster_expansion_is_linear_in_the_powers():
    """An energy of pairs with interactions that depend on phase and volume is met exactly."""
    scan = scale_cells(generate_alloys(AlloyParameters(count=60, seed=0, elements=('Al', 'Ni'), n_atoms=32)),
                       [0.96, 1.0, 1.04])  # fmt: skip
    row = named(scan, elements=('Al', 'Ni'))
    x = row['volume_ang3_per_atom'] / 13.0 - 1
    energies = np.where(
        scan.families == 'bcc',
        (0.3 + x - 2 * x**2) * row['pairs1_AlNi'] + 0.1 * row['pairs2_AlAl'] - 4,
        (0.2 + 3 * x**2) * row['pairs1_NiNi'] + x * row['fraction_Al'] - 5,
    )
    errors = {}
    for order in (0, 1, 2):
        features = AlloyDescriptor(('Al', 'Ni'), volume_order=order, reference_volume_ang3=13.0).transform(scan)
        fit = LinearRegression().fit(features[:180], energies[:180])
        errors[order] = np.abs(fit.predict(features) - energies).max()
    assert errors[2] < 1e-9
    assert errors[0] > errors[1] > 1e-3


def test_recorded_cells():
    runs = recorded_runs('alloy')
    row = named(StructureSet.from_structures([runs[name].structure for name in ('hea-00-fcc-0', 'hea-00-bcc-0')]))
    assert row['phase_bcc'].tolist() == [0, 1]
    np.testing.assert_allclose(row['volume_ang3_per_atom'], [3.3**3 / 4, 2.62**3 / 2])
    for element, amount in {'Co': 2, 'Cr': 1, 'Fe': 1, 'Ni': 2, 'Al': 2}.items():
        np.testing.assert_allclose(row[f'fraction_{element}'], amount / 8)


def test_refused_structures(cells):
    others = generate_alloys(AlloyParameters(count=1, seed=1, elements=('Co', 'Cr', 'Fe', 'Ni'), phases=('fcc',)))
    with pytest.raises(DescriptorError, match=r'structure 1 \(alloy-0000\) has the element Al; known are Co, Cr, Fe'):
        AlloyDescriptor(['Co', 'Cr', 'Fe', 'Ni']).transform(StructureSet.concatenate([others, cells]))
    with pytest.raises(DescriptorError, match=r'structure 1 \(Al\) is none of the known phases'):
        AlloyDescriptor().transform(StructureSet.concatenate([cells.select([0]), isolated_atoms(['Al'])]))
    with pytest.raises(DescriptorError, match=r'structure 0 .* has the element N; known are Co'):
        AlloyDescriptor().transform(generate_flakes(FlakeParameters('h', 1, count=1, seed=0)))
    with pytest.raises(DescriptorError, match='from a StructureSet, not ndarray'):
        AlloyDescriptor().transform(np.zeros((2, 3)))


@pytest.mark.parametrize(
    ('params', 'message'),
    [
        ({'elements': []}, r'elements=\[\] .* at least 1 item'),
        ({'elements': 'CoNi'}, "elements='CoNi' .* not allowed as a Sequence"),
        ({'elements': ['Co', 'Xx']}, 'no such element: Xx'),
        ({'elements': ['Co', 3]}, r"elements=\['Co', 3\] .* valid string"),
        ({'elements': ['Co', 'Co']}, 'repeated in elements: Co, Co'),
        ({'volume_order': -1}, 'volume_order=-1 .* greater than or equal to 0'),
        ({'volume_order': 1.0}, 'volume_order=1.0 .* valid integer'),
        ({'reference_volume_ang3': 0}, 'reference_volume_ang3=0 .* greater than 0'),
        ({'reference_volume_ang3': float('inf')}, 'reference_volume_ang3=inf .* finite number'),
    ],
)
def test_refused_parameters(params, message):
    with pytest.raises(DescriptorError, match=message):
        make_descriptor('alloy', **params)


def test_follows_the_habits_of_scikit_learn(cells):
    descriptor = make_descriptor('alloy', elements=FIVE, volume_order=1)
    copy = clone(descriptor)
    assert copy.get_params() == descriptor.get_params()
    np.testing.assert_array_equal(copy.fit_transform(cells), descriptor.transform(cells))
    assert AlloyDescriptor().transform(cells.select([])).shape == (0, 37)
    identity = descriptor_identity(AlloyDescriptor())
    assert identity['name'] == 'alloy'
    assert identity['params'] == {'elements': FIVE, 'volume_order': 0, 'reference_volume_ang3': 11.5}
