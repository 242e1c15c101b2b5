"""Structures: sets of structures in flat arrays, the generators of C-BN nanoflakes and of alloys, and files."""

from aiida_nanoml.structures.alloys import AlloyParameters, composition_section, generate_alloys, isolated_atoms
from aiida_nanoml.structures.cubic import (
    PHASES,
    lattice_constants,
    name_alloys,
    phases_of,
    scale_cells,
    warren_cowley,
    with_lattice_constants,
)
from aiida_nanoml.structures.files import read_structures, write_structures
from aiida_nanoml.structures.flakes import (
    FAMILIES,
    FlakeParameters,
    flake_lattice,
    generate_flakes,
    lattice_formula,
    parse_lattice,
)
from aiida_nanoml.structures.generators import Generator, generator_names, make_generator
from aiida_nanoml.structures.structure_set import Structure, StructureSet, atomic_numbers, place
from aiida_nanoml.structures.vacuum import isolate

__all__ = [
    'FAMILIES',
    'PHASES',
    'AlloyParameters',
    'FlakeParameters',
    'Generator',
    'Structure',
    'StructureSet',
    'atomic_numbers',
    'composition_section',
    'flake_lattice',
    'generate_alloys',
    'generate_flakes',
    'generator_names',
    'isolate',
    'isolated_atoms',
    'lattice_constants',
    'lattice_formula',
    'make_generator',
    'name_alloys',
    'parse_lattice',
    'phases_of',
    'place',
    'read_structures',
    'scale_cells',
    'warren_cowley',
    'with_lattice_constants',
    'write_structures',
]
