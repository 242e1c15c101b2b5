"""Estimate of the memory that the R-matrix of a potential needs."""

from __future__ import annotations

from aiida_nanoml.transport.potential import Potential
from aiida_nanoml.transport.rmatrix import ENERGY_BLOCK, coupled_functions

LIBRARIES_MB = 70.0
"""Resident memory of a worker before it reads anything."""

INNER_MATRICES = 3.5
"""Matrices (n_basis, n_basis) that exist at the same time: the Hamiltonian and the workspace of its solution."""

OUTER_MATRICES, OUTER_MATRICES_OF_MASSES = 2, 10
"""Matrices (n_basis, n_coupled) that exist at the same time; more, with their transforms, where the mass varies."""

_DOUBLE = 8


def transmission_memory_mb(
    potential: Potential, n_basis: int, correction: str, n_energies: int, n_potentials: int = 1
) -> float:
    """Return the largest memory of a transmission, in MB.

    The numbers of matrices were measured with 1024 and 2048 cosines, to a tenth.

    :param potential: one of the potentials, which are solved one after another.
    :param n_basis: number of cosines.
    :param correction: as of :func:`~aiida_nanoml.transport.rmatrix.solve`.
    :param n_energies: number of energies.
    """
    uniform = potential.masses.max() == potential.masses.min()
    outer = (OUTER_MATRICES if uniform else OUTER_MATRICES_OF_MASSES) * coupled_functions(n_basis, correction)
    solving = n_basis * (INNER_MATRICES * n_basis + outer)
    scattering = 3 * min(ENERGY_BLOCK, n_basis * n_energies)
    results = 20 * n_potentials * n_energies
    return LIBRARIES_MB + (solving + scattering + results) * _DOUBLE / 1e6
