"""Input of SIESTA that a structure and parameters need."""

from __future__ import annotations

from typing import Any

import numpy as np

from aiida_nanoml.engines.siesta.k_points import monkhorst_pack_mesh
from aiida_nanoml.engines.siesta.parameters import SiestaParameters, canonical
from aiida_nanoml.structures import Structure, place
from aiida_nanoml.structures.elements import SYMBOLS


def to_keywords(parameters: SiestaParameters) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what aiida-siesta wants as its ``parameters`` and ``basis``, without structure and k-points.

    :returns: fdf keys with values; a block has a key with ``%block`` and a value that ends with its last line.
    """
    general: dict[str, Any] = {
        'xc-functional': parameters.xc_functional,
        'xc-authors': parameters.xc_authors,
        'mesh-cutoff': f'{_decimal(parameters.mesh_cutoff_ry)} Ry',
        'electronic-temperature': f'{_decimal(parameters.electronic_temperature_kelvin)} K',
        'scf-mixer-weight': parameters.mixing_weight,
        'scf-mixer-history': parameters.mixing_history,
        'max-scf-iterations': parameters.max_scf_iterations,
        'write-forces': True,
    }
    if parameters.density_tolerance is not None:
        general['scf-dm-tolerance'] = _decimal(parameters.density_tolerance)
    if parameters.spin != 'none':
        general['spin'] = parameters.spin
    basis: dict[str, Any] = {'pao-basis-size': parameters.basis_size}
    if parameters.energy_shift_ev is not None:
        basis['pao-energy-shift'] = f'{_decimal(parameters.energy_shift_ev)} eV'
    if parameters.split_norm is not None:
        basis['pao-split-norm'] = _decimal(parameters.split_norm)
    for key, value in sorted(parameters.extra_fdf.items()):
        # aiida-siesta takes the keys of the basis, and only these, apart from the others.
        target = basis if 'pao' in key else general
        if '\n' in value:
            target[f'%block {key}'] = f'\n{value.strip()}\n%endblock {key}'
        else:
            target[key] = value
    return general, basis


def write_fdf(structure: Structure, parameters: SiestaParameters, *, densities: bool = False) -> str:
    """Write the input of one structure in the layout of aiida-siesta.

    :param structure: isolated ones are placed in a box with the vacuum of the parameters.
    :param densities: whether SIESTA saves its density on the mesh, and the difference to that of the free atoms.
    :returns: the text of the file; the files of a run are named ``aiida.*``.
    """
    placed = place(structure, parameters.vacuum_ang)
    species = list(dict.fromkeys(placed.numbers.tolist()))
    general, basis = to_keywords(parameters)
    head = general | {
        'system-name': 'aiida',
        'system-label': 'aiida',
        'use-tree-timer': 'T',
        'xml-write': 'T',
        'number-of-species': len(species),
        'number-of-atoms': len(placed),
        'geometry-must-converge': 'T',
        'lattice-constant': '1.0 Ang',
        'atomic-coordinates-format': 'Ang',
    }
    if densities:
        head |= {'save-rho': 'T', 'save-delta-rho': 'T'}
    lines = sorted(f'{key if key.startswith("%") else canonical(key)} {value}' for key, value in head.items())
    lines += ['#', '# -- Basis Set Info follows', '#', *(f'{key} {value}' for key, value in basis.items())]
    lines += ['#', '# -- Structural Info follows', '#', *_structure_lines(placed, species)]
    mesh = _mesh_rows(parameters, placed)
    if mesh is not None:
        lines += ['#', '# -- K-points Info follows', '#', *_mesh_lines(*mesh)]
    return '\n'.join(lines) + '\n'


def _structure_lines(structure: Structure, species: list[int]) -> list[str]:
    """Write the blocks of species, lattice vectors and atoms.

    :param species: atomic number of each species.
    """
    lines = ['%block chemicalspecieslabel']
    lines += [f'{index:5} {number:5} {SYMBOLS[number]:>6}' for index, number in enumerate(species, start=1)]
    lines += ['%endblock chemicalspecieslabel', '%block lattice-vectors']
    lines += [' '.join(f'{value:18.10f}' for value in vector) for vector in structure.cell.tolist()]
    lines += ['%endblock lattice-vectors', '%block atomiccoordinatesandatomicspecies']
    atoms = zip(structure.numbers.tolist(), structure.positions.tolist(), strict=True)
    for atom, (number, position) in enumerate(atoms, start=1):
        point = ' '.join(f'{value:18.10f}' for value in position)
        lines.append(f'{point} {species.index(number) + 1:4} {SYMBOLS[number]:>6} {atom:6}')
    return [*lines, '%endblock atomiccoordinatesandatomicspecies']


def _mesh_rows(parameters: SiestaParameters, structure: Structure) -> tuple[list[list[int]], list[float]] | None:
    """Return the vectors of the mesh of k-points, and their displacements; None for the Gamma point alone."""
    if parameters.k_supercell is not None:
        return parameters.k_supercell, parameters.k_shift
    sampled = monkhorst_pack_mesh(parameters, structure)
    return None if sampled is None else (np.diag(sampled[0]).tolist(), sampled[1])


def _mesh_lines(rows: list[list[int]], shift: list[float]) -> list[str]:
    """Write the block of k-points."""
    lines = ['%block kgrid_monkhorst_pack']
    lines += [
        ' '.join(f'{number:6}' for number in row) + f' {step:18.10f}' for row, step in zip(rows, shift, strict=True)
    ]
    return [*lines, '%endblock kgrid_monkhorst_pack']


def _decimal(value: float) -> str:
    return f'{value:.10g}'
