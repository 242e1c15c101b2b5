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


def methyl_radical() -> Structure:
    """CH3: seven valence electrons."""
    angles = np.arange(3) * 2 * np.pi / 3
    hydrogens = 1.079 * np.stack([np.cos(angles), np.sin(angles), np.zeros(3)], axis=1)
    return Structure(np.array([6, 1, 1, 1]), np.concatenate([np.zeros((1, 3)), hydrogens]))


def cubic(numbers: list[int], places: list[list[float]], lattice_constant_ang: float) -> Structure:
    """Cubic crystal with atoms at fractional ``places``."""
    cell = np.eye(3) * lattice_constant_ang
    return Structure(np.array(numbers), np.array(places) @ cell, cell=cell, pbc=np.ones(3, dtype=bool))


BENZENE = hexagon([6] * 6, 1.397, [1.084] * 6)
BORAZINE = hexagon([5, 7] * 3, 1.43, [1.19, 1.01] * 3)
METHYL = methyl_radical()
FCC_ALUMINIUM = cubic([13] * 4, [[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]], 4.05)
B2_NICKEL_ALUMINIUM = cubic([28, 13], [[0, 0, 0], [0.5, 0.5, 0.5]], 2.89)


@pytest.fixture(scope='session')
def benzene() -> Structure:
    return BENZENE


@pytest.fixture(scope='session')
def borazine() -> Structure:
    return BORAZINE


@pytest.fixture(scope='session')
def methyl() -> Structure:
    return METHYL


@pytest.fixture(scope='session')
def coronene() -> Structure:
    return flake_lattice('z', 2)
