"""Lattice scans whose equations of state are known."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from aiida_nanoml.alloys.curves import Curves, constants_from_volumes, fit_curves, volumes_per_atom
from aiida_nanoml.alloys.equation_of_state import birch_energies, birch_pressures
from aiida_nanoml.structures import Structure, StructureSet, atomic_numbers

FACTORS = np.linspace(0.94, 1.06, 9)
PRIMITIVE = {
    'fcc': np.array([[0.0, 1, 1], [1, 0, 1], [1, 1, 0]]) / 2,
    'bcc': np.array([[-1.0, 1, 1], [1, -1, 1], [1, 1, -1]]) / 2,
}
ATOMS = {'fcc': 4, 'bcc': 2}

# energy (eV), volume (Å³), bulk modulus (GPa) and its derivative, by alloy and phase
Known = Mapping[tuple[str, str], tuple[float, float, float, float]]

IRON: Known = {('alloy-0001', 'fcc'): (-3.50, 11.2, 180.0, 4.5), ('alloy-0001', 'bcc'): (-3.53, 11.6, 165.0, 5.0)}


def primitive_cell(phase: str, volume_ang3: float, element: str = 'Fe') -> Structure:
    """One atom in the primitive cell of a phase."""
    constant = np.cbrt(ATOMS[phase] * volume_ang3)
    return Structure(atomic_numbers([element]), np.zeros((1, 3)), constant * PRIMITIVE[phase], np.ones(3, dtype=bool))


def make_scan(
    known: Known, factors: np.ndarray = FACTORS, element: str = 'Fe'
) -> tuple[StructureSet, np.ndarray, np.ndarray]:
    """Cells at ``factors`` of the known lattice constants, their energies (eV per atom) and pressures (GPa)."""
    cells, names, phases, energies, pressures = [], [], [], [], []
    for (name, phase), (energy, volume, modulus, derivative) in known.items():
        volumes = volume * factors**3
        cells += [primitive_cell(phase, v, element) for v in volumes.tolist()]
        names += [name] * len(factors)
        phases += [phase] * len(factors)
        energies.append(birch_energies(volumes, energy, volume, modulus, derivative))
        pressures.append(birch_pressures(volumes, volume, modulus, derivative))
    return StructureSet.from_structures(cells, names, phases), np.concatenate(energies), np.concatenate(pressures)


def fitted(known: Known, factors: np.ndarray = FACTORS, element: str = 'Fe') -> Curves:
    """Curves of a scan with known equations of state."""
    structures, energies, _ = make_scan(known, factors, element)
    return fit_curves(structures, energies)


def scan_points(structures: StructureSet, energies: np.ndarray, curves: Curves) -> dict[str, np.ndarray]:
    """Columns of the points of a scan."""
    return {
        'curve': curves.curve_of_row,
        'lattice_constant_ang': constants_from_volumes(volumes_per_atom(structures), structures.families),
        'energy_ev': energies,
    }
