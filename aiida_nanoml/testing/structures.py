"""Small structures that engines are tested with, by what they are good for."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from aiida_nanoml.engines.base import Engine
from aiida_nanoml.structures import Structure, flake_lattice


def hexagon(numbers: list[int], bond_ang: float, bonds_to_hydrogen_ang: list[float]) -> Structure:
    """Make a six-membered ring with a hydrogen atom on each of its atoms.

    :param numbers: six atomic numbers.
    :param bond_ang: bond length of the ring in Å.
    :param bonds_to_hydrogen_ang: bond length of each hydrogen atom in Å.
    """
    angles = np.arange(6) * np.pi / 3
    directions = np.stack([np.cos(angles), np.sin(angles), np.zeros(6)], axis=1)
    radii = bond_ang + np.array(bonds_to_hydrogen_ang)
    positions = np.concatenate([bond_ang * directions, radii[:, None] * directions])
    return Structure(np.array([*numbers, *[1] * 6]), positions)


def methyl_radical() -> Structure:
    """Make CH3, which has seven valence electrons."""
    angles = np.arange(3) * 2 * np.pi / 3
    hydrogens = 1.079 * np.stack([np.cos(angles), np.sin(angles), np.zeros(3)], axis=1)
    return Structure(np.array([6, 1, 1, 1]), np.concatenate([np.zeros((1, 3)), hydrogens]))


def cubic(numbers: list[int], places: list[list[float]], lattice_constant_ang: float) -> Structure:
    """Make a cubic crystal.

    :param places: fractional coordinates of its atoms.
    :param lattice_constant_ang: in Å.
    """
    cell = np.eye(3) * lattice_constant_ang
    return Structure(np.array(numbers), np.array(places) @ cell, cell=cell, pbc=np.ones(3, dtype=bool))


def _primitive_fcc(number: int, lattice_constant_ang: float) -> Structure:
    cell = lattice_constant_ang / 2 * np.array([[0.0, 1.0, 1.0], [1.0, 0.0, 1.0], [1.0, 1.0, 0.0]])
    return Structure(np.array([number]), np.zeros((1, 3)), cell=cell, pbc=np.ones(3, dtype=bool))


BENZENE = hexagon([6] * 6, 1.397, [1.084] * 6)
BORAZINE = hexagon([5, 7] * 3, 1.43, [1.19, 1.01] * 3)
CORONENE = flake_lattice('z', 2)
METHYL = methyl_radical()
HYDROGEN_CYANIDE = Structure(np.array([1, 6, 7]), np.array([[0.0, 0.0, -1.066], [0.0, 0.0, 0.0], [0.0, 0.0, 1.153]]))
METHANIMINE = Structure(
    np.array([6, 7, 1, 1, 1]),
    np.array([[0.0, 0.0, 0.0], [1.27, 0.0, 0.0], [-0.53, 0.95, 0.0], [-0.6, -0.9, 0.0], [1.62, 0.96, 0.0]]),
)
FCC_ALUMINIUM = cubic([13] * 4, [[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]], 4.05)
B2_NICKEL_ALUMINIUM = cubic([28, 13], [[0, 0, 0], [0.5, 0.5, 0.5]], 2.89)


@dataclass(frozen=True)
class Samples:
    """Structures for one engine, those left out whose elements it does not treat.

    :param molecules: isolated structures; the last one has an odd number of electrons where there are several.
    :param gaps: pairs of molecules, of which the first has the smaller gap, by at least so many eV.
    :param crystals: periodic structures.
    """

    molecules: dict[str, Structure]
    gaps: tuple[tuple[Structure, Structure, float], ...]
    crystals: dict[str, Structure]


def samples_for(engine: Engine) -> Samples:
    """Choose the structures: small ones for an engine that starts a program for each."""
    if engine.runs_program:
        molecules = {'hydrogen cyanide': HYDROGEN_CYANIDE, 'methanimine': METHANIMINE, 'methyl': METHYL}
        gaps: tuple[tuple[Structure, Structure, float], ...] = ((METHANIMINE, HYDROGEN_CYANIDE, 1.0),)
        crystals = {'fcc Al': _primitive_fcc(13, 4.05)}
    else:
        molecules = {'benzene': BENZENE, 'borazine': BORAZINE, 'methyl': METHYL}
        gaps = ((BENZENE, BORAZINE, 0.0), (CORONENE, BENZENE, 1.0))
        crystals = {'fcc Al': FCC_ALUMINIUM, 'B2 NiAl': B2_NICKEL_ALUMINIUM}

    def treats(structure: Structure) -> bool:
        return all(map(engine.supports, set(structure.numbers.tolist())))

    return Samples(
        molecules={name: structure for name, structure in molecules.items() if treats(structure)},
        gaps=tuple(pair for pair in gaps if treats(pair[0]) and treats(pair[1])),
        crystals={name: structure for name, structure in crystals.items() if treats(structure)},
    )
