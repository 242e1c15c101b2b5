"""Transmissions of one potential or many at the same energies: what is asked for, and what is found."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aiida_nanoml.errors import TransportError
from aiida_nanoml.transport.potential import ENERGIES, Floats, PotentialSet, checked_number
from aiida_nanoml.transport.resonances import Resonances, adaptive_energies, find_resonances
from aiida_nanoml.transport.rmatrix import CORRECTIONS, MOST_COSINES, Scattering, solve, truncation_error

MOST_ENERGIES = 1_000_000
"""Energies on the regular grid."""


@dataclass(frozen=True)
class TransmissionSettings:
    """What is asked for.

    :param lowest: first energy, in eV.
    :param highest: last energy, in eV.
    :param n_energies: number of evenly spaced energies.
    :param n_basis: number of cosines.
    :param correction: one of :data:`~aiida_nanoml.transport.rmatrix.CORRECTIONS`.
    :param resolve: whether energies are added where a resonance is narrow.
    :param tolerance: estimated error of a transmission beyond which a potential is not converged.
    :raises TransportError: a setting that cannot be used.
    """

    lowest: float
    highest: float
    n_energies: int = 1000
    n_basis: int = 512
    correction: str = CORRECTIONS[0]
    resolve: bool = False
    tolerance: float = 1e-3

    def __post_init__(self) -> None:
        lowest = checked_number(self.lowest, ENERGIES, 'the lowest energy', 'eV')
        highest = checked_number(self.highest, ENERGIES, 'the highest energy', 'eV')
        for name, (low, high) in {'n_energies': (1, MOST_ENERGIES), 'n_basis': (2, MOST_COSINES)}.items():
            value = getattr(self, name)
            if type(value) is not int or not low <= value <= high:
                raise TransportError(f'{name} is {value!r}: it must be a whole number from {low} to {high}')
        if self.n_energies == 1 and lowest != highest:
            raise TransportError('one energy has no range: the lowest and the highest energy must be equal')
        if self.n_energies > 1 and not lowest < highest:
            raise TransportError(f'the lowest energy, {lowest:g} eV, must be below the highest, {highest:g} eV')
        if self.correction not in CORRECTIONS:
            raise TransportError(f'there is no correction {self.correction!r}: choose {", ".join(CORRECTIONS)}')
        if type(self.resolve) is not bool:
            raise TransportError(f'resolve is {self.resolve!r}: it must be true or false')
        checked_number(self.tolerance, (0.0, 1.0), 'the tolerance', '')

    @classmethod
    def from_dict(cls, settings: Mapping[str, Any]) -> TransmissionSettings:
        """Make settings from their names.

        :raises TransportError: a name is unknown or missing, or a setting cannot be used.
        """
        known = [field.name for field in fields(cls)]
        strange = sorted(set(settings) - set(known))
        missing = [name for name in known[:2] if name not in settings]
        if strange or missing:
            raise TransportError(
                f'a transmission has the settings {", ".join(known)}; unknown: {", ".join(strange) or "none"}, '
                f'missing: {", ".join(missing) or "none"}'
            )
        return cls(**settings)

    def to_dict(self) -> dict[str, Any]:
        """Return all settings by name."""
        return asdict(self)

    @property
    def energies(self) -> Floats:
        """(n_energies,) the regular grid, in eV."""
        return np.linspace(self.lowest, self.highest, self.n_energies)


@dataclass(frozen=True, eq=False)
class Transmissions:
    """What was found for each of p potentials at n energies.

    :param energies: (n,) in eV, the same for all.
    :param scatterings: of each potential.
    :param resonances: of each potential.
    :param levels: (n_basis,) Wigner-Eisenbud energies in eV, of each potential.
    :param truncation_errors: (p,) estimated error by the finite basis, of the transmission on the regular grid.
    """

    energies: Floats
    scatterings: tuple[Scattering, ...]
    resonances: tuple[Resonances, ...]
    levels: tuple[Floats, ...]
    truncation_errors: Floats

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
            'resonance_rows': np.repeat(np.arange(len(self.resonances)), [len(found) for found in self.resonances]),
            'resonance_energies': np.concatenate([found.energies for found in self.resonances]),
            'resonance_widths': np.concatenate([found.widths for found in self.resonances]),
        }


def transmit(
    potentials: PotentialSet, settings: TransmissionSettings, progress: Callable[[int, int], None] | None = None
) -> Transmissions:
    """Compute the transmissions of all potentials.

    :param progress: called with the number of finished potentials and of all.
    :raises TransportError: the basis cannot carry the energies, or there are too many levels to look for resonances.
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
    regular = np.searchsorted(energies, grid)
    errors = [
        truncation_error(potential, grid, scattering.transmission[regular], settings.n_basis, settings.correction)
        for potential, scattering in zip(potentials, scatterings, strict=True)
    ]
    return Transmissions(
        energies,
        scatterings,
        tuple(resonances for _, resonances in solved),
        tuple(rmatrix.levels for rmatrix, _ in solved),
        np.array(errors),
    )
