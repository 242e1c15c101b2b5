"""The transmission of one potential, with the estimates of its errors."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from aiida_nanoml.transport.potential import Floats, Potential, PotentialSet
from aiida_nanoml.transport.settings import TransmissionSettings
from aiida_nanoml.transport.transmissions import transmit


@dataclass(frozen=True, eq=False)
class Transmission:
    """T(E) of one potential.

    :param potential: that was solved.
    :param settings: all settings by name.
    :param energies: (n,) in eV.
    :param values: (n,) transmissions.
    :param resonance_energies: (r,) in eV.
    :param resonance_widths: (r,) in eV.
    :param truncation_error: estimated error by the finite basis.
    :param noise_floor: transmissions at or below are noise; zero where there are none.
    :param unitarity_defect: largest deviation of S†S from one.
    :param seconds: time that it took.
    """

    potential: Potential
    settings: dict[str, Any]
    energies: Floats
    values: Floats
    resonance_energies: Floats
    resonance_widths: Floats
    truncation_error: float
    noise_floor: float
    unitarity_defect: float
    seconds: float


def compute_transmission(potential: Potential, settings: TransmissionSettings) -> Transmission:
    """Compute the transmission of a potential in this process.

    :raises TransportError: the basis cannot carry the energies.
    """
    begin = time.perf_counter()
    found = transmit(PotentialSet([potential]), settings)
    scattering, resonances = found.scatterings[0], found.resonances[0]
    return Transmission(
        potential=potential,
        settings=settings.to_dict(),
        energies=found.energies,
        values=scattering.transmission,
        resonance_energies=resonances.energies,
        resonance_widths=resonances.widths,
        truncation_error=float(found.truncation_errors[0]),
        noise_floor=float(found.noise_floors[0]),
        unitarity_defect=scattering.unitarity_defect,
        seconds=time.perf_counter() - begin,
    )
