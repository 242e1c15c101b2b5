"""What looks wrong in structures from elsewhere is told."""

from __future__ import annotations

import numpy as np
import pytest
from ase.build import bulk, molecule

from aiida_nanoml.structures import StructureSet
from aiida_nanoml.structures.questions import find_peculiarities


@pytest.mark.parametrize(
    'name', ['C6H6', 'H2O', 'NaCl', 'SiH4', 'CH3CH2OH', 'CH3Cl', 'PH3', 'CO', 'N2', 'HCN', 'F2', 'CS2']
)
def test_lengths_in_bohr_are_noticed(name: str) -> None:
    atoms = molecule(name)
    assert not find_peculiarities(StructureSet.from_ase([atoms])).looks_like_bohr
    atoms.positions /= 0.529177
    assert find_peculiarities(StructureSet.from_ase([atoms])).looks_like_bohr


def test_a_molecule_in_a_box_is_noticed_and_a_crystal_is_none() -> None:
    boxed = molecule('C6H6', vacuum=4.0)
    boxed.pbc = True
    tight = molecule('C6H6', vacuum=2.0)
    tight.pbc = True
    found = find_peculiarities(StructureSet.from_ase([boxed, tight, bulk('Al'), molecule('C6H6')]))
    assert (found.n_boxed, found.n_repeated, found.n_odd) == (1, 0, 0)


def test_repeated_structures_and_odd_electrons_are_counted() -> None:
    found = find_peculiarities(StructureSet.from_ase([molecule('CH3'), molecule('CH4'), molecule('CH3')]))
    assert (found.n_repeated, found.n_odd) == (1, 2)


def test_single_atoms_have_no_bonds() -> None:
    found = find_peculiarities(StructureSet.from_ase([molecule('H')]))
    assert np.isnan(found.bond_ratio)
    assert not found.looks_like_bohr
