"""Structures: sets of structures in flat arrays, the generator of C-BN nanoflakes, and files."""

from aiida_nanoml.structures.files import read_structures, write_structures
from aiida_nanoml.structures.flakes import (
    FAMILIES,
    FlakeParameters,
    flake_lattice,
    generate_flakes,
    lattice_formula,
    parse_lattice,
)
from aiida_nanoml.structures.structure_set import Structure, StructureSet, atomic_numbers

__all__ = [
    'FAMILIES',
    'FlakeParameters',
    'Structure',
    'StructureSet',
    'atomic_numbers',
    'flake_lattice',
    'generate_flakes',
    'lattice_formula',
    'parse_lattice',
    'read_structures',
    'write_structures',
]
