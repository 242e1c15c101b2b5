"""Flakes that are the same molecule."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiida_nanoml.errors import DescriptorError
from aiida_nanoml.features.isomers import isomer_groups
from aiida_nanoml.structures import FlakeParameters, Structure, StructureSet, generate_flakes

C, H = 6, 1


@pytest.fixture(scope='module')
def coronene(flakes: StructureSet) -> Structure:
    """C24H12, from a flake on its lattice."""
    flake = flakes[0]
    return Structure(np.where(flake.numbers == H, H, C), flake.positions)


def substituted(molecule: Structure, elements: dict[int, int]) -> Structure:
    numbers = molecule.numbers.copy()
    numbers[list(elements)] = list(elements.values())
    return Structure(numbers, molecule.positions)


def ring(n_atoms: int, bond: float) -> np.ndarray:
    angles = 2 * np.pi * np.arange(n_atoms) / n_atoms
    radius = bond / (2 * np.sin(np.pi / n_atoms))
    return radius * np.stack([np.cos(angles), np.sin(angles), 0 * angles], axis=1)


def with_hydrogen(carbons: np.ndarray) -> Structure:
    """Put hydrogen on each carbon with two neighbours."""
    lengths = np.linalg.norm(carbons[:, None] - carbons, axis=2)
    added = []
    for atom, row in enumerate(lengths):
        near = np.flatnonzero((row > 0.1) & (row < 1.7))
        if len(near) == 2:
            away = 2 * carbons[atom] - carbons[near].sum(axis=0)
            added.append(carbons[atom] + 1.09 * away / np.linalg.norm(away))
    return Structure(np.array([C] * len(carbons) + [H] * len(added)), np.vstack([carbons, added]))


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_the_same_molecule_is_found_however_it_lies(flakes, data):
    row = data.draw(st.integers(0, len(flakes) - 1))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    flake = flakes[row]
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]  # half of these are reflections
    order = rng.permutation(len(flake))
    moved = flake.positions @ turn.T + rng.uniform(-50, 50, 3) + rng.uniform(-0.05, 0.05, flake.positions.shape)
    found = isomer_groups(
        StructureSet.concatenate(
            [flakes, StructureSet.from_structures([Structure(flake.numbers[order], moved[order])])]
        )
    )
    assert found.tolist() == [*range(len(flakes)), row]


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_groups_do_not_depend_on_the_order_of_the_structures(flakes, seed):
    rng = np.random.default_rng(seed)
    copies = [
        Structure(flake.numbers, flake.positions + rng.uniform(-0.1, 0.1, flake.positions.shape))
        for flake in (*flakes, *flakes)
    ]
    order = rng.permutation(len(copies))
    found = isomer_groups(StructureSet.from_structures([copies[row] for row in order]))
    together = found[:, None] == found
    assert np.array_equal(together, (order % len(flakes))[:, None] == order % len(flakes))


def test_boron_in_coronene_has_three_places(coronene):
    """On the inner ring, on the rim without hydrogen, on the rim with it."""
    heavy = np.flatnonzero(coronene.numbers == C)
    found = isomer_groups(StructureSet.from_structures([substituted(coronene, {atom: 5}) for atom in heavy]))
    assert sorted(np.unique(found, return_counts=True)[1]) == [6, 6, 12]


def test_all_isomers_of_coronene_with_boron_and_nitrogen_are_told_apart(coronene):
    """Burnside: 552 pairs of places, 12 of which each of three mirrors leaves alone; (552 + 3 · 12) / 12 = 49."""
    heavy = np.flatnonzero(coronene.numbers == C)
    molecules = [substituted(coronene, {one: 5, other: 7}) for one in heavy for other in heavy if one != other]
    assert len(np.unique(isomer_groups(StructureSet.from_structures(molecules)))) == 49


def test_naphthalene_is_not_fulvalene():
    """The classic pair that colour refinement alone cannot tell apart: C10H8, each atom with the same neighbours."""
    hexagon, pentagon = ring(6, 1.4), ring(5, 1.4)
    shared = hexagon[:2].mean(axis=0)
    naphthalene = with_hydrogen(np.vstack([hexagon, (2 * shared - hexagon)[2:]]))
    inner = pentagon[0]
    bond = inner / np.linalg.norm(inner) * 1.4
    fulvalene = with_hydrogen(np.vstack([pentagon, 2 * inner + bond - pentagon]))
    assert len(naphthalene) == len(fulvalene) == 18
    found = isomer_groups(StructureSet.from_structures([naphthalene, fulvalene]), tolerance_ang=100.0)
    assert found.tolist() == [0, 1]


def test_the_tolerance_bounds_the_differences_of_distances():
    """Two molecules of hydrogen, 5 Å apart and farther: the bonds are the same."""
    pair = np.array([[0.0, 0, 0], [0.74, 0, 0], [0, 5, 0], [0.74, 5, 0]])
    apart = [Structure(np.full(4, H), pair + np.outer([0, 0, 1, 1], [0, shift, 0])) for shift in (0.0, 0.5, 2.0)]
    found = StructureSet.from_structures(apart)
    assert isomer_groups(found).tolist() == [0, 0, 2]
    assert isomer_groups(found, tolerance_ang=0.4).tolist() == [0, 1, 2]
    assert isomer_groups(found, tolerance_ang=3.0).tolist() == [0, 0, 0]


def test_other_bonds_or_other_elements_are_other_molecules(coronene):
    lost = Structure(coronene.numbers[:-1], coronene.positions[:-1])
    stretched = Structure(coronene.numbers, coronene.positions * 1.5)
    nitrogen = substituted(coronene, {int(np.flatnonzero(coronene.numbers == C)[0]): 7})
    assert isomer_groups(StructureSet.from_structures([coronene, lost, stretched, nitrogen])).tolist() == [0, 1, 2, 3]


def test_small_sets():
    atoms = StructureSet.from_structures([Structure(np.array([n]), np.zeros((1, 3))) for n in (6, 7, 6)])
    assert isomer_groups(atoms).tolist() == [0, 1, 0]
    assert isomer_groups(atoms.select(slice(0))).tolist() == []


def test_what_cannot_be_compared_is_refused(flakes, alloy_cells):
    with pytest.raises(DescriptorError, match='periodic'):
        isomer_groups(alloy_cells)
    with pytest.raises(DescriptorError, match='at least 0 Å'):
        isomer_groups(flakes, tolerance_ang=float('nan'))


def test_thousands_of_flakes_take_seconds():
    flakes = generate_flakes(FlakeParameters(family='h', size=2, count=600, seed=1))
    twice = StructureSet.concatenate([flakes, flakes])
    start = time.process_time()
    found = isomer_groups(twice)
    assert time.process_time() - start < 5.0
    assert np.array_equal(found, np.tile(np.arange(len(flakes)), 2))
