"""Input of CP2K that a structure and parameters need."""

from __future__ import annotations

import re
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aiida_nanoml.engines.cp2k.parameters import FUNCTIONALS, Cp2kParameters
from aiida_nanoml.engines.program import WALL_TIME_SHARE
from aiida_nanoml.structures import Structure, place
from aiida_nanoml.structures.elements import SYMBOLS

Section = dict[str, Any]
"""Part of an input: keywords with their values, and sections; the parameter of a section stands under ``''``, its rows
without keyword under ``*``."""

PROJECT = 'aiida'
LEVELS_FILE = 'aiida-levels-1_0.MOLog'
FORCES_FILE = 'aiida-forces-1_0.xyz'
STRESS_FILE = 'aiida-stress-1_0.stress_tensor'


def write_input(
    structure: Structure,
    parameters: Cp2kParameters,
    wall_time_s: float | None = None,
    *,
    keeps_orbitals: bool = False,
    continued: bool = False,
) -> str:
    """Write the input of one structure: what :func:`input_tree` returns, as text."""
    tree = input_tree(structure, parameters, wall_time_s, keeps_orbitals=keeps_orbitals, continued=continued)
    return '\n'.join(_lines(tree, 0)) + '\n'


def input_tree(
    structure: Structure,
    parameters: Cp2kParameters,
    wall_time_s: float | None = None,
    *,
    keeps_orbitals: bool = False,
    continued: bool = False,
) -> Section:
    """Return the sections of the input of one structure.

    :param structure: isolated ones are placed in a box with the vacuum of the parameters.
    :param wall_time_s: seconds after which the machine ends the run: CP2K stops itself before; None: never.
    :param keeps_orbitals: whether the run leaves orbitals for another one to begin with.
    :param continued: whether it begins with such orbitals.
    :returns: sections by name; the files of the run are named ``aiida-*``.
    """
    placed = to_box(structure, parameters)
    periodic = ''.join(name for name, repeats in zip('XYZ', periodicity(placed, parameters), strict=True) if repeats)
    tree: Section = {
        'GLOBAL': {'PROJECT': PROJECT, 'RUN_TYPE': 'ENERGY_FORCE', 'PRINT_LEVEL': 'MEDIUM'},
        'FORCE_EVAL': {
            'METHOD': 'QUICKSTEP',
            'DFT': _dft(placed, parameters, periodic or 'NONE'),
            'PRINT': {'FORCES': {'': 'ON', 'FILENAME': 'forces', 'NDIGITS': '12'}},
            'SUBSYS': _subsystem(placed, parameters, periodic or 'NONE'),
        },
    }
    if placed.pbc.any():
        tree['FORCE_EVAL']['STRESS_TENSOR'] = 'ANALYTICAL'
        tree['FORCE_EVAL']['PRINT']['STRESS_TENSOR'] = {'': 'ON', 'FILENAME': 'stress'}
    if wall_time_s is not None:
        tree['GLOBAL']['WALLTIME'] = f'{WALL_TIME_SHARE * wall_time_s:.0f}'
    scf = tree['FORCE_EVAL']['DFT']['SCF']
    scf['PRINT'] = {'RESTART': {'': 'ON' if keeps_orbitals else 'OFF'}}
    scf['SCF_GUESS'] = 'RESTART' if continued else 'ATOMIC'
    for path, value in sorted(parameters.extra_input.items()):
        _insert(tree['FORCE_EVAL'], path, value)
    return tree


def to_box(structure: Structure, parameters: Cp2kParameters) -> Structure:
    """Return a structure in the box that it is computed in; that of the wavelet solver is a cube."""
    placed = place(structure, parameters.vacuum_ang)
    if structure.pbc.any() or parameters.poisson_solver != 'WAVELET':
        return placed
    edges = np.diag(placed.cell)
    cube = np.full(3, edges.max())
    return Structure(placed.numbers, placed.positions + (cube - edges) / 2, np.diag(cube), placed.pbc)


def periodicity(structure: Structure, parameters: Cp2kParameters) -> list[bool]:
    """Return for each direction whether the potential repeats.

    That of sheets and wires does, with vacuum between them, as their images are far apart.
    """
    return [bool(structure.pbc.any()) or parameters.poisson_solver == 'PERIODIC'] * 3


def k_points(
    structure: Structure, parameters: Cp2kParameters
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Return the k-points of a structure, one of each pair that differs in sign only.

    :returns: points (K, 3) in units of the reciprocal vectors, and their weights (K,), which sum up to 1; None for the
        Gamma point alone.
    """
    mesh = parameters.mesh(structure)
    if mesh is None:
        return None
    divisions, shift = mesh
    weights: dict[tuple[float, ...], float] = {}
    for index in product(*map(range, divisions)):
        point = [(i + step) / n for i, step, n in zip(index, shift, divisions, strict=True)]
        folded = [round(x - np.floor(x + 0.5 - 1e-9), 12) for x in point]
        mirrored = [round(-x - np.floor(-x + 0.5 - 1e-9), 12) for x in folded]
        key = tuple(max(folded, mirrored))
        weights[key] = weights.get(key, 0.0) + 1 / float(np.prod(divisions))
    return np.array(list(weights)), np.array(list(weights.values()))


def _dft(structure: Structure, parameters: Cp2kParameters, periodic: str) -> Section:
    solver = 'PERIODIC' if structure.pbc.any() else parameters.poisson_solver
    dft: Section = {
        'BASIS_SET_FILE_NAME': parameters.basis_file,
        'POTENTIAL_FILE_NAME': parameters.pseudopotential_file,
        'UKS': 'F' if parameters.spin == 'none' else 'T',
        'QS': {'METHOD': 'GPW', 'EPS_DEFAULT': _number(parameters.eps_default)},
        'MGRID': {
            'CUTOFF': f'[Ry] {_number(parameters.cutoff_ry)}',
            'REL_CUTOFF': f'[Ry] {_number(parameters.rel_cutoff_ry)}',
        },
        'POISSON': {'PERIODIC': periodic, 'POISSON_SOLVER': solver},
        'SCF': _scf(parameters),
        'XC': {'XC_FUNCTIONAL': _functional(parameters)},
        'PRINT': {
            'MO': {
                'EIGENVALUES': 'T',
                'OCCUPATION_NUMBERS': 'T',
                'NDIGITS': '12',
                'FILENAME': 'levels',
                'EACH': {'QS_SCF': '0'},
            }
        },
    }
    points = k_points(structure, parameters)
    if points is not None:
        rows = [
            ' '.join(f'{value:.12f}' for value in (*point, weight))
            for point, weight in zip(points[0].tolist(), points[1].tolist(), strict=True)
        ]
        dft['KPOINTS'] = {
            'SCHEME': 'GENERAL',
            'UNITS': 'B_VECTOR',
            'KPOINT': rows,
            'SYMMETRY': 'F',
            'FULL_GRID': 'T',
            'WAVEFUNCTIONS': 'COMPLEX',
            'PARALLEL_GROUP_SIZE': '-1',
        }
    return dft


def _scf(parameters: Cp2kParameters) -> Section:
    scf: Section = {
        'EPS_SCF': _number(parameters.scf_tolerance),
        'MAX_SCF': str(parameters.max_scf_iterations),
        'ADDED_MOS': ' '.join([str(parameters.added_levels)] * (1 if parameters.spin == 'none' else 2)),
        'DIAGONALIZATION': {'': 'ON', 'ALGORITHM': 'STANDARD'},
        'MIXING': {
            'METHOD': {'density_matrix': 'DIRECT_P_MIXING', 'broyden': 'BROYDEN_MIXING'}[parameters.mixing],
            'ALPHA': _number(parameters.mixing_weight),
        },
    }
    if parameters.electronic_temperature_kelvin:
        scf['SMEAR'] = {
            '': 'ON',
            'METHOD': 'FERMI_DIRAC',
            'ELECTRONIC_TEMPERATURE': f'[K] {_number(parameters.electronic_temperature_kelvin)}',
        }
    return scf


def _functional(parameters: Cp2kParameters) -> Section:
    if parameters.functional not in FUNCTIONALS or parameters.extra_functional:
        return {}
    name, *parametrisation = FUNCTIONALS[parameters.functional][0]
    return {name: {'PARAMETRIZATION': parametrisation[0]}} if parametrisation else {'': name}


def _subsystem(structure: Structure, parameters: Cp2kParameters, periodic: str) -> Section:
    cell: Section = {name: _vector(row) for name, row in zip('ABC', structure.cell.tolist(), strict=True)}
    atoms = zip(structure.numbers.tolist(), structure.positions.tolist(), strict=True)
    kinds: list[Section] = []
    for number in sorted(set(structure.numbers.tolist())):
        element = SYMBOLS[number]
        kind: Section = {
            '': element,
            'ELEMENT': element,
            'BASIS_SET': parameters.basis_of(element),
            'POTENTIAL': parameters.pseudopotential_of(element),
        }
        if element in parameters.initial_moments_bohr:
            kind['MAGNETIZATION'] = _number(parameters.initial_moments_bohr[element])
        kinds.append(kind)
    return {
        'CELL': cell | {'PERIODIC': periodic},
        'COORD': {'*': [f'{SYMBOLS[number]} {_vector(position)}' for number, position in atoms]},
        'KIND': kinds,
    }


def _vector(values: list[float]) -> str:
    return ' '.join(f'{value:.12f}' for value in values)


def _number(value: float) -> str:
    return f'{value:.12g}'


def _insert(tree: Section, path: str, value: str) -> None:
    """Put a keyword into a tree; a section that is there repeatedly has its index in brackets."""
    *sections, keyword = path.split('/')
    for name in sections:
        tree = tree.setdefault(name, {})
    tree['' if keyword == '_' else keyword] = value


def _lines(tree: Section, depth: int) -> list[str]:
    indent = '  ' * depth
    lines: list[str] = []
    for name, value in tree.items():
        title = re.sub(r'\[\d+\]$', '', name)
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, dict):
                lines.append(f'{indent}&{title} {item.get("", "")}'.rstrip())
                lines += [*_lines(item, depth + 1), f'{indent}&END {title}']
            elif name != '':
                lines.append(indent + (item if name == '*' else f'{title} {item}'))
    return lines
