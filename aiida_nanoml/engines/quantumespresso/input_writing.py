"""Input of pw.x that a structure and parameters need."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from aiida_nanoml.engines.quantumespresso.parameters import QuantumEspressoParameters
from aiida_nanoml.structures import Structure, place
from aiida_nanoml.units import BOLTZMANN_EV_PER_K, RYDBERG_EV

PREFIX = 'pwscf'
"""How the names of the files of a run begin."""

FEWEST_EMPTY = 4
EMPTY_SHARE = 0.2
EMPTY_SHARE_OF_SPINS = 0.5
"""Empty levels beside the filled ones: at least four, and a share of the filled ones, more where a spin may have more
electrons than the other: iron has levels for a moment of 4 Bohr magnetons an atom."""


@dataclass(frozen=True)
class Species:
    """What pw.x reads for an element.

    :param file: name of the pseudopotential.
    :param valence_charge: electrons that it leaves.
    :param fine: whether it has a partial core, or is ultrasoft or PAW.
    """

    file: str
    valence_charge: float
    fine: bool


def input_namelists(
    placed: Structure, parameters: QuantumEspressoParameters, species: Mapping[str, Species]
) -> dict[str, dict[str, str]]:
    """Return the namelists of an input: the value of each word, as pw.x reads it.

    :param placed: the structure in its box.
    :param species: by element, of all elements of the structure.
    """
    elements = list(dict.fromkeys(placed.symbols))
    n_electrons = sum(species[element].valence_charge for element in placed.symbols)
    fine = any(species[element].fine for element in elements)
    namelists: dict[str, dict[str, str]] = {
        'control': {
            'calculation': "'scf'",
            'prefix': f"'{PREFIX}'",
            'outdir': "'./'",
            'pseudo_dir': "'./'",
            'disk_io': "'low'",
            'tprnfor': '.true.',
            'tstress': '.true.',
        },
        'system': {
            'ibrav': '0',
            'nat': str(len(placed)),
            'ntyp': str(len(elements)),
            'ecutwfc': _decimal(parameters.cutoff_ry),
            'ecutrho': _decimal(parameters.density_cutoff_ry(fine=fine)),
            'nbnd': str(_count_bands(n_electrons, parameters.spin == 'polarized')),
            **_occupations(parameters),
            **_spin(parameters, len(elements)),
        },
        'electrons': {
            'conv_thr': _decimal(parameters.energy_tolerance_ry),
            'electron_maxstep': str(parameters.max_scf_iterations),
            'mixing_beta': _decimal(parameters.mixing_weight),
        },
    }
    for word, value in sorted(parameters.extra.items()):
        namelist, _, name = word.partition('.')
        if name:
            namelists[namelist][name] = value
    return namelists


def write_input(structure: Structure, parameters: QuantumEspressoParameters, species: Mapping[str, Species]) -> str:
    """Write the input of one structure.

    :param structure: isolated ones are placed in a box with the vacuum of the parameters.
    :param species: by element, of all elements of the structure.
    """
    placed = place(structure, parameters.vacuum_ang)
    elements = list(dict.fromkeys(placed.symbols))
    lines = []
    for namelist, values in input_namelists(placed, parameters, species).items():
        lines += [f'&{namelist.upper()}', *(f'  {name} = {value}' for name, value in values.items()), '/']
    lines += ['ATOMIC_SPECIES', *(f'{element:2} 1.0 {species[element].file}' for element in elements)]
    lines += ['CELL_PARAMETERS angstrom', *(_row(vector) for vector in placed.cell.tolist())]
    atoms = zip(placed.symbols, placed.positions.tolist(), strict=True)
    lines += ['ATOMIC_POSITIONS angstrom', *(f'{element:2} {_row(position)}' for element, position in atoms)]
    lines += _k_points(parameters, placed)
    if 'hubbard' in parameters.extra:
        lines += parameters.extra['hubbard'].splitlines()
    return '\n'.join(lines) + '\n'


def _count_bands(n_electrons: float, polarized: bool) -> int:
    filled = math.ceil(n_electrons / 2)
    share = EMPTY_SHARE_OF_SPINS if polarized else EMPTY_SHARE
    return filled + max(FEWEST_EMPTY, math.ceil(share * filled))


def _occupations(parameters: QuantumEspressoParameters) -> dict[str, str]:
    if not parameters.electronic_temperature_kelvin:
        return {'occupations': "'fixed'"}
    width = parameters.electronic_temperature_kelvin * BOLTZMANN_EV_PER_K / RYDBERG_EV
    return {'occupations': "'smearing'", 'smearing': "'fermi-dirac'", 'degauss': f'{width:.12g}'}


def _spin(parameters: QuantumEspressoParameters, n_species: int) -> dict[str, str]:
    if parameters.spin == 'none':
        return {}
    value = _decimal(parameters.starting_magnetization)
    return {'nspin': '2'} | {f'starting_magnetization({number})': value for number in range(1, n_species + 1)}


def _k_points(parameters: QuantumEspressoParameters, structure: Structure) -> list[str]:
    if 'k_points' in parameters.extra:
        return parameters.extra['k_points'].splitlines()
    sampled = parameters.mesh(structure)
    if sampled is None:
        return ['K_POINTS gamma']
    divisions, steps = sampled
    return ['K_POINTS automatic', ' '.join(map(str, [*divisions, *(1 if step else 0 for step in steps)]))]


def _row(values: list[float]) -> str:
    return ' '.join(f'{value:18.10f}' for value in values)


def _decimal(value: float) -> str:
    return f'{value:.10g}'
