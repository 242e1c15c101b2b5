"""Alloys from lattice scans: equations of state, equilibrium phases, and how well a model reproduces them."""

from __future__ import annotations

from aiida_nanoml.alloys.curves import Curves, extension, fit_curves
from aiida_nanoml.alloys.equation_of_state import EquationOfState, fit_birch_murnaghan
from aiida_nanoml.alloys.phases import Phases, compare_phases, equilibrium_phases

__all__ = [
    'Curves',
    'EquationOfState',
    'Phases',
    'compare_phases',
    'equilibrium_phases',
    'extension',
    'fit_birch_murnaghan',
    'fit_curves',
]
