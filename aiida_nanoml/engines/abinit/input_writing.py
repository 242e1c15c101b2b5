"""Writing the input of ABINIT."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from aiida_nanoml.engines.abinit.parameters import K_POINTS, AbinitParameters
from aiida_nanoml.structures import Structure, place
from aiida_nanoml.structures.elements import SYMBOLS
from aiida_nanoml.units import BOHR_ANG, BOLTZMANN_HARTREE_PER_K

LEAST_EMPTY = 6
EMPTY_SHARE = 0.15
"""Levels above the filled ones: at least so many, and so many for each filled one; the last two need not converge."""

_DIELECTRIC_CONSTANT_ISOLATED = 4.0
_D_BLOCKS = ((21, 30), (39, 48), (72, 80))


def write_input(structure: Structure, parameters: AbinitParameters, valence_charges: Mapping[int, float]) -> str:
    """Write the input for one structure.

    ABINIT looks for no symmetry: whether it finds one must not depend on noise in the positions.

    :param structure: an isolated one is placed in a box.
    :param valence_charges: electrons that the pseudopotential of each element brings, by atomic number.
    :returns: the text, no line of which is longer than ABINIT reads (264 characters).
    """
    boxed = place(structure, parameters.vacuum_ang)
    numbers = boxed.numbers.tolist()
    kinds = sorted(set(numbers))
    moments = [_initial_moment(number) for number in numbers] if parameters.spin == 'polarized' else []
    n_electrons = sum(valence_charges[number] for number in numbers)
    lines = [
        'pp_dirpath "."',
        f'pseudos "{", ".join(f"{SYMBOLS[number]}.psp8" for number in kinds)}"',
        f'natom {len(numbers)}',
        f'ntypat {len(kinds)}',
        *_wrapped('znucl', kinds),
        *_wrapped('typat', [kinds.index(number) + 1 for number in numbers]),
        'acell 1 1 1',
        *_vectors('rprim', boxed.cell / BOHR_ANG),
        *_vectors('xcart', boxed.positions / BOHR_ANG),
        *_k_points(structure, parameters),
        f'ecut {parameters.cutoff_hartree!r}',
        f'ixc {parameters.ixc}',
        f'nband {count_levels(n_electrons, sum(moments))}',
        f'nsppol {2 if moments else 1}',
        *([] if 'spinat' in parameters.extra else _vectors('spinat', np.array([[0, 0, moment] for moment in moments]))),
        *_occupations(parameters),
        f'nstep {parameters.max_scf_iterations}',
        *([] if parameters.potential_residual is None else [f'tolvrs {parameters.potential_residual!r}']),
        'nsym 1',
        'chksymbreak 0',
        'optforces 1',
        'optstress 1',
        'prtwf 0',
        'prtden 0',
        'prteig 1',
        'prtgsr 0',
        'prtebands 0',
        *([] if structure.pbc.any() else [f'diemac {_DIELECTRIC_CONSTANT_ISOLATED}']),
        *(
            line
            for name, value in parameters.extra.items()
            if name != 'occopt'
            for line in _wrapped(name, value.split())
        ),
    ]
    return '\n'.join(line for line in lines) + '\n'


def count_levels(n_electrons: float, moment: float) -> int:
    """Return how many levels are computed for each k-point and spin.

    :param n_electrons: valence electrons.
    :param moment: spin moment that the run begins with, in Bohr magnetons.
    """
    filled = math.ceil((n_electrons + moment) / 2)
    return filled + max(LEAST_EMPTY, math.ceil(EMPTY_SHARE * filled))


def _initial_moment(number: int) -> float:
    """Return the spin moment that an atom begins with; without one, ABINIT finds no spin."""
    return 3.0 if any(first <= number <= last for first, last in _D_BLOCKS) else 1.0


def _occupations(parameters: AbinitParameters) -> list[str]:
    temperature = parameters.electronic_temperature_kelvin
    if not temperature:
        return ['occopt 1']
    return [f'occopt {parameters.extra.get("occopt", "3")}', f'tsmear {temperature * BOLTZMANN_HARTREE_PER_K:.12e}']


def _k_points(structure: Structure, parameters: AbinitParameters) -> list[str]:
    if K_POINTS & set(parameters.extra):
        return []
    mesh = parameters.mesh(structure)
    if mesh is None:
        return ['kptopt 0', 'nkpt 1', 'kpt 0 0 0']
    divisions, shift = mesh
    # Two k-points that time reversal joins are one; no other symmetry is used.
    return ['kptopt 2', *_wrapped('ngkpt', divisions), 'nshiftk 1', *_wrapped('shiftk', [repr(step) for step in shift])]


def _wrapped(name: str, words: list[object] | list[int] | list[str], width: int = 20) -> list[str]:
    rows = [' '.join(map(str, words[start : start + width])) for start in range(0, len(words), width)]
    return [f'{name} {rows[0]}', *(f'  {row}' for row in rows[1:])]


def _vectors(name: str, rows: np.ndarray) -> list[str]:
    return [name, *(f'  {" ".join(f"{value:.12f}" for value in row)}' for row in rows.tolist())] if len(rows) else []
