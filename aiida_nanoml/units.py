"""Physical constants and conversions of units, each in one place.

The values are those of CODATA 2018 (E. Tiesinga et al., Rev. Mod. Phys. 93, 025010 (2021)) unless another source is
named. A constant with a prefix such as ``SIESTA_`` is the rounded one of a program: it serves for numbers that this
program wrote or will read, and for nothing else. Stored results depend on these digits: a newer adjustment of the
constants is no reason to change them.
"""

from __future__ import annotations

BOHR_ANG = 0.529177210903
"""One bohr in Å."""

HARTREE_EV = 27.211386245988
"""One hartree in eV."""

RYDBERG_EV = HARTREE_EV / 2
"""One rydberg in eV."""

BOLTZMANN_EV_PER_K = 8.617333262e-5
"""Boltzmann constant in eV/K, exact in the SI and cut to ten digits."""

BOLTZMANN_HARTREE_PER_K = 3.166811563e-6
"""Boltzmann constant in hartree/K."""

HBAR_EV_S = 6.582119569509067e-16
"""Reduced Planck constant in eV s, exact in the SI."""

HBAR2_OVER_2M0_EV_NM2 = 0.03809982110968584
"""ħ²/(2 m0) in eV nm², with the electron mass of CODATA 2022 (that of 2018 gives 1.4e-9 more)."""

COULOMB_EV_ANG = 14.399645
"""e²/(4π ε0) in eV Å: the energy of two elementary charges at a distance of 1 Å is this many eV."""

GPA_PER_EV_PER_ANG3 = 160.21766208
"""One eV/Å³ in GPa (CODATA 2014, as in SIESTA; 2018 gives 8e-9 more)."""

SIESTA_BOHR_ANG = 0.529177
"""One bohr in Å, as SIESTA 4.1 rounds it (4e-7 less): lengths in its files are converted back to those of its input."""

SIESTA_RYDBERG_EV = 13.60580
"""One rydberg in eV, as SIESTA 4.1 rounds it (8e-6 more): energies are those of its output, where the Fermi level
stands."""

TBLITE_BOLTZMANN_HARTREE_PER_K = 3.166808578545117e-6
"""Boltzmann constant in hartree/K, as tblite has it: a temperature handed to tblite is the one that it takes."""
