"""Settings of a transmission: energies, basis, correction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from aiida_nanoml.errors import TransportError
from aiida_nanoml.transport.potential import ENERGIES, Floats, check_names, checked_number

CORRECTIONS = ('coupled', 'buttle', 'none')
"""What stands for the functions beyond the basis, the best first."""

MOST_COSINES = 8192
"""Largest basis: its matrices take 3 GB."""

MOST_ENERGIES = 1_000_000
"""Energies on the regular grid."""


@dataclass(frozen=True)
class TransmissionSettings:
    """What is asked for.

    :param lowest: first energy, in eV.
    :param highest: last energy, in eV.
    :param n_energies: number of evenly spaced energies.
    :param n_basis: number of cosines.
    :param correction: one of :data:`CORRECTIONS`.
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
        check_names('a transmission has the settings', settings, known, known[:2])
        return cls(**settings)

    def to_dict(self) -> dict[str, Any]:
        """Return all settings by name."""
        return asdict(self)

    @property
    def energies(self) -> Floats:
        """(n_energies,) the regular grid, in eV."""
        return np.linspace(self.lowest, self.highest, self.n_energies)
