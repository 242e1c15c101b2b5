"""Potentials from tables of two columns, x and V, as spreadsheets and other programs write them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np

from aiida_nanoml.errors import TransportError
from aiida_nanoml.number_tables import read_numbers
from aiida_nanoml.transport.potential import Potential
from aiida_nanoml.units import BOHR_ANG, HARTREE_EV, RYDBERG_EV

LENGTH_UNITS: Mapping[str, float] = MappingProxyType({'nm': 1.0, 'ang': 0.1, 'bohr': BOHR_ANG / 10})
"""Units of x, in nm."""

ENERGY_UNITS: Mapping[str, float] = MappingProxyType({'ev': 1.0, 'mev': 0.001, 'ry': RYDBERG_EV, 'hartree': HARTREE_EV})
"""Units of V, in eV."""

LARGEST_STEP_EV = 50.0
"""A potential that rises or falls by more is no barrier of a device: its unit may be another one."""

EVENNESS = 1e-3
"""Largest difference of two steps of x, in units of their mean: what rounding to a few digits leaves."""


def read_profile(content: bytes, name: str, mass: float, length_unit: str = 'nm', energy_unit: str = 'ev') -> Potential:
    """Read a table of two columns, x and V(x): each row is the middle of a cell, the first and last continue as leads.

    :param content: of the file, as :mod:`aiida_nanoml.number_tables` reads it.
    :param name: what to call the file in errors, and the potential.
    :param mass: effective mass in m0.
    :param length_unit: of x, one of :data:`LENGTH_UNITS`.
    :param energy_unit: of V, one of :data:`ENERGY_UNITS`.
    :raises TransportError: no table of two columns, or x that does not rise in even steps, with the line.
    """
    rows = read_numbers(content, name, TransportError)
    for line, row in rows:
        if len(row) != 2:
            raise TransportError(f'{name}, line {line}: {len(row)} numbers where x and V are expected')
    if len(rows) < 2:
        raise TransportError(f'{name} has one row: a potential needs at least two')
    places, values = np.array([row for _, row in rows], dtype=np.float64).T
    steps = np.diff(places)
    mean = float(steps.mean())
    uneven = np.flatnonzero(~(np.abs(steps - mean) <= EVENNESS * abs(mean)) | (steps <= 0))
    if len(uneven):
        first = int(uneven[0])
        raise TransportError(
            f'{name}, line {rows[first + 1][0]}: x rises by {steps[first]:g}, by {mean:g} on average: it must rise in '
            'even steps'
        )
    length = mean * len(values) * LENGTH_UNITS[length_unit]
    return Potential(values * ENERGY_UNITS[energy_unit], length, mass, name=Path(name).stem)


def is_steep(potential: Potential) -> bool:
    """Return whether a potential rises or falls by so much that its unit may be another one."""
    ends = np.concatenate([potential.values, potential.leads])
    return float(np.ptp(ends)) > LARGEST_STEP_EV
