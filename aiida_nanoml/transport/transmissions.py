"""Transmissions of one potential or many at the same energies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aiida_nanoml.transport.potential import Floats, PotentialSet
from aiida_nanoml.transport.resonances import Resonances, adaptive_energies, find_resonances
from aiida_nanoml.transport.rmatrix import Scattering, estimate_truncation, solve
from aiida_nanoml.transport.settings import TransmissionSettings


@dataclass(frozen=True, eq=False)
class Transmissions:
    """What was found for each of p potentials at n energies.

    :param energies: (n,) in eV, the same for all.
    :param scatterings: of each potential.
    :param resonances: of each potential.
    :param levels: (n_basis,) Wigner-Eisenbud energies in eV, of each potential.
    :param truncation_errors: (p,) estimated error by the finite basis, of the transmission on the regular grid.
    :param noise_floors: (p,) transmissions at or below are noise; zero if there are none.
    """

    energies: Floats
    scatterings: tuple[Scattering, ...]
    resonances: tuple[Resonances, ...]
    levels: tuple[Floats, ...]
    truncation_errors: Floats
    noise_floors: Floats

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Return everything in arrays; resonances of all potentials stand below each other, each with its row."""
        return {
            'energies': self.energies,
            'transmission': np.array([scattering.transmission for scattering in self.scatterings]),
            'reflection': np.array([scattering.reflection for scattering in self.scatterings]),
            'phase': np.array([scattering.phase for scattering in self.scatterings]),
            's_matrix': np.array([scattering.s_matrix for scattering in self.scatterings]),
            'unitarity_defects': np.array([scattering.unitarity_defect for scattering in self.scatterings]),
            'levels': np.array(self.levels),
            'truncation_errors': self.truncation_errors,
            'noise_floors': self.noise_floors,
            'resonance_rows': np.repeat(np.arange(len(self.resonances)), [len(found) for found in self.resonances]),
            'resonance_energies': np.concatenate([found.energies for found in self.resonances]),
            'resonance_widths': np.concatenate([found.widths for found in self.resonances]),
        }


def transmit(
    potentials: PotentialSet, settings: TransmissionSettings, progress: Callable[[int, int], None] | None = None
) -> Transmissions:
    """Compute the transmissions of all potentials.

    :param progress: called with the number of finished potentials and of all.
    :raises TransportError: the basis cannot carry the energies.
    """
    grid = settings.energies
    solved = []
    for done, potential in enumerate(potentials, start=1):
        rmatrix = solve(potential, settings.lowest, settings.highest, settings.n_basis, settings.correction)
        solved.append((rmatrix, find_resonances(rmatrix, settings.lowest, settings.highest)))
        if progress is not None:
            progress(done, len(potentials))
    energies = grid
    if settings.resolve:
        for _, resonances in solved:
            energies = adaptive_energies(energies, resonances)
    scatterings = tuple(rmatrix.scatter(energies) for rmatrix, _ in solved)
    costs = [
        estimate_truncation(potential, rmatrix, grid, settings.correction)
        for potential, (rmatrix, _) in zip(potentials, solved, strict=True)
    ]
    return Transmissions(
        energies,
        scatterings,
        tuple(resonances for _, resonances in solved),
        tuple(rmatrix.levels for rmatrix, _ in solved),
        np.array([cost.error for cost in costs]),
        np.array([cost.floor for cost in costs]),
    )
