"""Densities of free atoms: found in superpositions of known ones, and superposed again."""

from __future__ import annotations

import numpy as np
import pytest

from aiida_nanoml.densities import Density
from aiida_nanoml.densities.free_atoms import FreeAtoms
from aiida_nanoml.errors import DensityError
from aiida_nanoml.structures import Structure
from tests.densities.recorded import recorded_density

WIDTHS = {1: 0.45, 6: 0.5, 7: 0.42}
ELECTRONS = {1: 1.0, 6: 4.0, 7: 5.0}


def gaussian_density(structure: Structure, shape: tuple[int, int, int]) -> Density:
    """Superpose Gaussian atoms, with all images that come near, and no difference."""
    fractions = np.stack(np.meshgrid(*(np.arange(n) / n for n in shape), indexing='ij'), axis=-1)
    images = np.stack(np.meshgrid(*[(-1, 0, 1)] * 3, indexing='ij'), axis=-1).reshape(-1, 3) @ structure.cell
    values = np.zeros(shape)
    for number, position in zip(structure.numbers.tolist(), structure.positions, strict=True):
        width = WIDTHS[number]
        for image in images:
            squares = ((fractions @ structure.cell - position - image) ** 2).sum(axis=-1)
            values += ELECTRONS[number] * np.exp(-squares / (2 * width**2)) / (width * np.sqrt(2 * np.pi)) ** 3
    return Density(structure, values, np.zeros(shape))


@pytest.fixture(scope='module')
def density() -> Density:
    cell = np.array([[6.0, 0.0, 0.0], [1.0, 6.5, 0.0], [0.0, 0.5, 7.0]])
    positions = [[1.0, 1.0, 1.1], [2.4, 1.2, 1.0], [6.2, 5.5, 6.6], [3.1, 4.0, 3.3]]
    return gaussian_density(Structure(np.array([6, 7, 1, 6]), np.array(positions), cell), (30, 33, 35))


def test_atoms_are_found_in_their_superposition(density: Density) -> None:
    atoms = FreeAtoms.fit([density])
    assert atoms.elements == ('C', 'H', 'N')
    assert atoms.residual < 1e-4
    assert atoms.electrons == pytest.approx({'C': 4, 'H': 1, 'N': 5}, rel=1e-3)
    radii = np.array([0.3, 0.5, 1.0, 1.5])
    expected = 4 * np.exp(-(radii**2) / 0.5) / (0.5 * np.sqrt(2 * np.pi)) ** 3
    assert atoms.radial('C', radii) == pytest.approx(expected, rel=1e-2)


def test_a_superposition_counts_the_images_and_is_the_same_on_every_mesh(density: Density) -> None:
    atoms = FreeAtoms.fit([density])
    again = atoms.superpose(density.structure, density.shape)
    assert np.abs(again - density.free).sum() < 2e-4 * density.free.sum()
    finer = atoms.superpose(density.structure, (60, 66, 70))
    np.testing.assert_allclose(finer[::2, ::2, ::2], again, atol=1e-6)


def test_recorded_atoms_hold_their_valence_electrons_and_serve_a_larger_flake() -> None:
    atoms = FreeAtoms.fit(recorded_density(f'z-000{number}') for number in range(3))
    assert atoms.residual < 5e-4
    assert atoms.electrons == pytest.approx({'H': 1, 'B': 3, 'C': 4, 'N': 5}, rel=2e-3)
    flake = recorded_density('h-0000')
    found = atoms.superpose(flake.structure, flake.shape)
    assert np.abs(found - flake.free).sum() < 1e-3 * flake.free.sum()


def test_arrays_keep_the_atoms(density: Density) -> None:
    atoms = FreeAtoms.fit([density])
    again = FreeAtoms.from_arrays(atoms.to_arrays())
    np.testing.assert_array_equal(
        again.superpose(density.structure, (12, 13, 14)), atoms.superpose(density.structure, (12, 13, 14))
    )
    with pytest.raises(DensityError, match='cannot be read'):
        FreeAtoms.from_arrays(atoms.to_arrays() | {'coefficients': np.zeros((3, 2))})


def test_what_is_no_superposition_is_refused(density: Density) -> None:
    with pytest.raises(DensityError, match='there are no densities'):
        FreeAtoms.fit([])
    turned = Density(density.structure, density.free[::-1].copy(), density.difference)
    with pytest.raises(DensityError, match='unexplained'):
        FreeAtoms.fit([turned])
    with pytest.raises(DensityError, match='no free atom of B: only of C, H, N'):
        FreeAtoms.fit([density]).superpose(Structure(np.array([5]), np.zeros((1, 3)), np.eye(3)), (4, 4, 4))
