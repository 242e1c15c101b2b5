"""Small structures that every engine can treat within seconds."""

from __future__ import annotations

import numpy as np
import pytest

from aiida_nanoml.structures import Structure, flake_lattice


def hexagon(numbers: list[int], bond: float, xh: list[float]) -> Structure:
    """Six-ring of bond length ``bond`` with one H on each atom, ``xh`` away (Å)."""
    angles = np.arange(6) * np.pi / 3
    directions = np.stack([np.cos(angles), np.sin(angles), np.zeros(6)], axis=1)
    radii = bond + np.array(xh)
    return Structure(np.array([*numbers, *[1] * 6]), np.concatenate([bond * directions, radii[:, None] * directions]))


@pytest.fixture(scope='session')
def benzene() -> Structure:
    return hexagon([6] * 6, 1.397, [1.084] * 6)


@pytest.fixture(scope='session')
def borazine() -> Structure:
    return hexagon([5, 7] * 3, 1.43, [1.19, 1.01] * 3)


@pytest.fixture(scope='session')
def methyl() -> Structure:
    """CH3: seven valence electrons."""
    angles = np.arange(3) * 2 * np.pi / 3
    hydrogens = 1.079 * np.stack([np.cos(angles), np.sin(angles), np.zeros(3)], axis=1)
    return Structure(np.array([6, 1, 1, 1]), np.concatenate([np.zeros((1, 3)), hydrogens]))


@pytest.fixture(scope='session')
def coronene() -> Structure:
    return flake_lattice('z', 2)
