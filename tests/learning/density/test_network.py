"""Density networks: exact symmetry, what is zero, what is refused, and a density that is learnt."""

from __future__ import annotations

import numpy as np
import pytest

from aiida_nanoml.densities import Density
from aiida_nanoml.densities.free_atoms import FreeAtoms
from aiida_nanoml.errors import DensityError, ModelError
from aiida_nanoml.learning.density.network import DensityNetwork, metrics_of
from aiida_nanoml.learning.density.symmetry import GROUPS, symmetry_operations
from aiida_nanoml.structures import Structure

SPACING = 0.25
SMALL = {'spacing_ang': SPACING, 'radius': 2.0, 'dilations': (1, 3), 'smoothing': (0.0, 1.0), 'floor': 1e-3}
LEARNT = {**SMALL, 'radius': 3.0, 'copies': 2, 'hidden_layers': 1, 'points_per_epoch': 8192, 'batch_size': 512}
WIDTHS = {5: 0.42, 7: 0.34}
ELECTRONS = {5: 3.0, 7: 5.0}
BONDED = 1.7


def placed(positions, numbers=(5, 7, 7), box=6.0):
    return Structure(np.array(numbers), np.asarray(positions), np.diag(np.broadcast_to(box, 3)))


def gaussian(structure, shape, centre, width, electrons):
    """A spherical Gaussian in a periodic box, in electrons/Å³."""
    grid = np.stack(np.meshgrid(*(np.arange(n) / n for n in shape), indexing='ij'), axis=-1)
    away = grid - np.asarray(centre) @ np.linalg.inv(structure.cell)
    away = (away - np.round(away)) @ structure.cell
    values = np.exp(-(away**2).sum(axis=-1) / (2 * width**2))
    values[values < np.exp(-12.5)] = 0.0
    return electrons * values / (values.sum() * np.linalg.det(structure.cell) / values.size)


def bonded_density(structure, spacing=SPACING):
    """Gaussian atoms, each bond taking a fifth of an electron from both ends to its middle."""
    shape = tuple(np.round(np.diag(structure.cell) / spacing).astype(int))
    atoms = list(zip(structure.numbers.tolist(), structure.positions, strict=True))
    free = sum(gaussian(structure, shape, place, WIDTHS[z], ELECTRONS[z]) for z, place in atoms)
    difference = np.zeros(shape)
    for row, (z, place) in enumerate(atoms):
        for other, there in atoms[row + 1 :]:
            if np.linalg.norm(there - place) < BONDED:
                difference += gaussian(structure, shape, (place + there) / 2, 0.38, 0.4)
                difference -= gaussian(structure, shape, place, WIDTHS[z], 0.2)
                difference -= gaussian(structure, shape, there, WIDTHS[other], 0.2)
    return Density(structure, free, difference)


BENT = placed([(2.1, 2.6, 2.9), (3.43, 2.75, 3.0), (1.5, 3.8, 2.75)])


@pytest.fixture(scope='module')
def bent():
    return bonded_density(BENT)


@pytest.fixture(scope='module')
def free_atoms(bent):
    return FreeAtoms.fit([bent])


def random_network(free_atoms, **settings):
    """A network with weights of chance: the symmetry of what it says is no merit of its training."""
    network = DensityNetwork(**{**SMALL, 'copies': 2, **settings})
    generator = np.random.default_rng(1)
    network.free_atoms_, network.scale_ = free_atoms, 0.05
    layers = network.architecture.layers
    network.weights_ = [
        generator.normal(0, 2 / np.sqrt(len(layer.weights)), layer.n_weights).astype(np.float32) for layer in layers
    ]
    network.biases_ = [generator.normal(0, 0.3, layer.n_biases).astype(np.float32) for layer in layers]
    return network


def turned_values(values, operation):
    """Values whose point ``operation @ i`` has what the point ``i`` had."""
    turned = np.empty_like(values)
    places = np.stack(np.unravel_index(np.arange(values.size), values.shape), axis=1)
    images = (places @ operation.astype(int).T) % np.array(values.shape)
    turned[tuple(images.T)] = values.ravel()
    return turned


def turned(structure, operation):
    length = structure.cell[0, 0]
    return Structure(structure.numbers, (structure.positions @ operation.T) % length, structure.cell)


@pytest.mark.parametrize(('group', 'points'), [(group, 'rings' if group == 'C12v' else 'mesh') for group in GROUPS])
def test_a_turned_structure_has_the_turned_density(free_atoms, group, points):
    network = random_network(free_atoms, group=group, points=points)
    kept = network.predict(BENT).density.difference
    assert np.abs(kept).max() > 0.01
    on_the_mesh = [matrix for matrix in symmetry_operations(group) if np.abs(matrix - np.round(matrix)).max() < 1e-9]
    assert len(on_the_mesh) == {'none': 1, 'C4': 4, 'C4v': 8, 'C12v': 8, 'D4h': 16, 'Oh': 48}[group]
    for operation in on_the_mesh[:: max(1, len(on_the_mesh) // 12)]:
        found = network.predict(turned(BENT, np.round(operation))).density.difference
        np.testing.assert_allclose(found, turned_values(kept, np.round(operation)), atol=1e-5 * np.abs(kept).max())


def test_weights_without_ties_do_not_turn(free_atoms):
    quarter = symmetry_operations('C4')[1]
    network = random_network(free_atoms, group='none')
    found = network.predict(turned(BENT, quarter)).density.difference
    expected = turned_values(network.predict(BENT).density.difference, quarter)
    assert np.abs(found - expected).mean() > 0.3 * np.abs(expected).mean()


@pytest.mark.parametrize('points', ['mesh', 'rings'])
def test_a_structure_that_moves_by_whole_mesh_points_takes_its_density_along(free_atoms, points):
    network = random_network(free_atoms, group='C4v', points=points)
    moved = placed((BENT.positions + SPACING * np.array([9, -3, 14])) % 6.0)
    kept, found = (network.predict(structure).density for structure in (BENT, moved))
    np.testing.assert_allclose(found.free, np.roll(kept.free, (9, -3, 14), (0, 1, 2)), atol=1e-5)
    np.testing.assert_allclose(found.difference, np.roll(kept.difference, (9, -3, 14), (0, 1, 2)), atol=1e-5)


def test_the_difference_is_zero_where_there_is_no_density(free_atoms):
    predicted = random_network(free_atoms).predict(BENT).density
    empty = predicted.free <= SMALL['floor']
    assert 0.3 < empty.mean() < 0.95
    assert not predicted.difference[empty].any()
    assert predicted.difference[~empty].all()


def test_threads_change_nothing(free_atoms):
    network = random_network(free_atoms)
    one, two = (network.predict(BENT, threads=threads).density.difference for threads in (1, 2))
    np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize('shape', [None, (30, 25, 27)])
def test_the_predicted_difference_has_no_charge(free_atoms, shape):
    network = random_network(free_atoms)
    neutral = network.predict(BENT, shape)
    assert neutral.density.shape == (shape or (24, 24, 24))
    assert abs(neutral.density.charge(neutral.density.difference)) < 1e-4
    charged = random_network(free_atoms, neutral=False).predict(BENT, shape)
    assert charged.charge_defect == pytest.approx(charged.density.charge(charged.density.difference), rel=1e-4)
    assert abs(charged.charge_defect) > 0.01
    assert neutral.charge_defect == pytest.approx(charged.charge_defect)


def test_the_free_atoms_of_another_mesh_are_superposed_on_it(free_atoms):
    shape = (30, 30, 30)
    predicted = random_network(free_atoms).predict(BENT, shape).density
    np.testing.assert_array_equal(predicted.free, free_atoms.superpose(BENT, shape))


def test_a_box_that_the_mesh_does_not_fit_is_refused(free_atoms):
    network = random_network(free_atoms)
    with pytest.raises(DensityError, match='spacing within'):
        network.predict(placed(BENT.positions, box=(6.0, 6.0, 2.63)))
    oblique = Structure(BENT.numbers, BENT.positions, [[6.0, 0, 0], [3.0, 5.2, 0], [0, 0, 6.0]])
    with pytest.raises(DensityError, match='not perpendicular'):
        network.predict(oblique)
    assert random_network(free_atoms, group='none').predict(oblique).density.shape == (24, 24, 24)
    with pytest.raises(DensityError, match='has no cell'):
        network.predict(Structure(BENT.numbers, BENT.positions))


def test_an_element_that_was_not_learnt_is_refused(free_atoms):
    with pytest.raises(DensityError, match='no free atom of C: only of B, N'):
        random_network(free_atoms).predict(placed(BENT.positions, numbers=(5, 6, 7)))


def test_a_network_must_be_trained():
    with pytest.raises(ModelError, match='not trained'):
        DensityNetwork(**SMALL).predict(BENT)
    with pytest.raises(DensityError, match='no densities'):
        DensityNetwork(**SMALL).fit([])


@pytest.mark.parametrize(
    ('settings', 'said'),
    [
        ({'symmetry': 'C4'}, 'symmetry: Extra inputs'),
        ({'group': 'C5'}, 'group: '),
        ({'group': 'C12v'}, "needs points='rings'"),
        ({'group': 'Oh', 'points': 'rings'}, "needs points='mesh'"),
        ({'dilations': (1, 2)}, 'one value for each scale'),
        ({'radius': (3.0, 2.0)}, 'as does radius'),
        ({'radius': 0.5}, 'radius.* greater than or equal to 1'),
        ({'dilations': (0, 1, 2, 3)}, 'at least 1'),
        ({'batch_size': 2000, 'points_per_epoch': 1000}, 'larger than points_per_epoch'),
    ],
)
def test_settings_that_cannot_be_used_are_refused(settings, said):
    with pytest.raises(ModelError, match=said):
        DensityNetwork(**settings)


def test_one_density_is_learnt(bent):
    epochs = []
    network = DensityNetwork(**LEARNT, epochs=12).fit([bent], [bent], lambda epoch, of: epochs.append((epoch, of)))
    assert epochs == [(epoch, 12) for epoch in range(1, 13)]
    assert len(network.history_['loss']) == len(network.history_['val_loss']) == 12
    assert network.history_['val_loss'][-1] < 0.25 * network.history_['val_loss'][0]
    found = metrics_of(bent, network.predict(BENT))
    assert found['ratio'] > 5
    assert found['nmae'] < 0.01


def test_the_same_seed_gives_the_same_weights(bent):
    settings = {**LEARNT, 'epochs': 1, 'points_per_epoch': 1024}
    trained = [DensityNetwork(**settings, seed=seed).fit([bent]).weights_ for seed in (0, 0, 1)]
    for one, same, changed in zip(*trained, strict=True):
        np.testing.assert_array_equal(one, same)
        assert np.abs(one - changed).max() > 1e-3


def test_rings_know_a_bond_that_the_mesh_does_not():
    """Turned by 30 degrees, a bond lies between the points of the mesh, but on those of rings."""
    centre = np.array([3.0, 3.0, 2.5])
    straight, turned_bond = (
        bonded_density(
            placed(
                centre + np.multiply.outer([-0.65, 0.65], [np.cos(angle), np.sin(angle), 0]), (5, 7), (6.0, 6.0, 5.0)
            )
        )
        for angle in (0.0, np.pi / 6)
    )
    ratios = {}
    for group, points in (('C4v', 'mesh'), ('C12v', 'rings')):
        network = DensityNetwork(**LEARNT, group=group, points=points, epochs=12).fit([straight])
        ratios[points] = [
            metrics_of(density, network.predict(density.structure))['ratio'] for density in (straight, turned_bond)
        ]
    assert min(ratios['mesh'][0], ratios['rings'][0]) > 5
    assert ratios['rings'][1] > 3
    assert ratios['mesh'][1] < 2
