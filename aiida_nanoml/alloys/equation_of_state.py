"""Equation of state: the energy of a crystal as a function of its volume."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from aiida_nanoml.errors import AlloyError
from aiida_nanoml.units import GPA_PER_EV_PER_ANG3

Floats = npt.NDArray[np.float64]


MINIMUM_POINTS = 4
"""An equation of state has four parameters."""


@dataclass(frozen=True)
class EquationOfState:
    """Third-order equation of state of Birch, Phys. Rev. 71, 809 (1947).

    :param energy_ev: energy at the minimum, eV per atom.
    :param volume_ang3: volume at the minimum, Å³ per atom.
    :param bulk_modulus_gpa: bulk modulus at the minimum, GPa.
    :param bulk_modulus_derivative: its derivative by the pressure, without unit.
    :param residual_ev: root mean square of what the fit leaves, eV per atom.
    """

    energy_ev: float
    volume_ang3: float
    bulk_modulus_gpa: float
    bulk_modulus_derivative: float
    residual_ev: float

    def energies(self, volumes_ang3: npt.ArrayLike) -> Floats:
        """Return the energy at given volumes.

        :param volumes_ang3: (m,) Å³ per atom.
        :returns: (m,) eV per atom.
        """
        return birch_energies(
            volumes_ang3, self.energy_ev, self.volume_ang3, self.bulk_modulus_gpa, self.bulk_modulus_derivative
        )

    def pressures(self, volumes_ang3: npt.ArrayLike) -> Floats:
        """Return the pressure -dE/dV at given volumes.

        :param volumes_ang3: (m,) Å³ per atom.
        :returns: (m,) GPa, positive under compression.
        """
        return birch_pressures(volumes_ang3, self.volume_ang3, self.bulk_modulus_gpa, self.bulk_modulus_derivative)


def birch_energies(
    volumes_ang3: npt.ArrayLike,
    energy_ev: npt.ArrayLike,
    volume_ang3: npt.ArrayLike,
    bulk_modulus_gpa: npt.ArrayLike,
    bulk_modulus_derivative: npt.ArrayLike,
) -> Floats:
    """Return the energy by the equation of state; all arguments are broadcast against each other.

    :param volumes_ang3: where, Å³ per atom.
    :param energy_ev: at the minimum, eV per atom.
    :param volume_ang3: of the minimum, Å³ per atom.
    :param bulk_modulus_gpa: at the minimum, GPa.
    :param bulk_modulus_derivative: at the minimum.
    :returns: eV per atom.
    """
    x = _compression(volumes_ang3, volume_ang3)
    scale = 9 / 16 * np.asarray(volume_ang3) * np.asarray(bulk_modulus_gpa) / GPA_PER_EV_PER_ANG3
    f = x - 1
    return np.asarray(energy_ev + scale * (f**3 * np.asarray(bulk_modulus_derivative) + f**2 * (6 - 4 * x)))


def birch_pressures(
    volumes_ang3: npt.ArrayLike,
    volume_ang3: npt.ArrayLike,
    bulk_modulus_gpa: npt.ArrayLike,
    bulk_modulus_derivative: npt.ArrayLike,
) -> Floats:
    """Return the pressure -dE/dV by the equation of state; all arguments are broadcast against each other.

    :returns: GPa.
    """
    x = _compression(volumes_ang3, volume_ang3)
    curvature = 1 + 0.75 * (np.asarray(bulk_modulus_derivative) - 4) * (x - 1)
    return np.asarray(1.5 * np.asarray(bulk_modulus_gpa) * (x**3.5 - x**2.5) * curvature)


def fit_birch_murnaghan(volumes_ang3: npt.ArrayLike, energies_ev: npt.ArrayLike) -> EquationOfState:
    """Fit the equation of state to the points of a scan, by :mod:`ase.eos`.

    :param volumes_ang3: (m,) Å³ per atom.
    :param energies_ev: (m,) eV per atom.
    :raises AlloyError: fewer than four different volumes, numbers that are not finite, or a fit that finds no minimum
        within the scan.
    """
    from ase.eos import EquationOfState as Fit

    volumes, energies = np.asarray(volumes_ang3, dtype=np.float64), np.asarray(energies_ev, dtype=np.float64)
    if volumes.shape != energies.shape or volumes.ndim != 1:
        raise AlloyError(f'{volumes.shape} volumes and {energies.shape} energies do not make a scan')
    if not (np.isfinite(volumes).all() and np.isfinite(energies).all()):
        raise AlloyError('a volume or an energy of the scan is not finite')
    if len(np.unique(volumes)) < MINIMUM_POINTS:
        raise AlloyError(
            f'{len(np.unique(volumes))} points, an equation of state needs {MINIMUM_POINTS}: add lattice constants'
        )
    lowest = energies.min()
    fit = Fit(volumes, energies - lowest, eos='birchmurnaghan')
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # four points leave nothing to estimate the errors from
        try:
            fit.fit(warn=False)
        except (RuntimeError, ValueError, FloatingPointError) as error:
            raise AlloyError(f'the equation of state cannot be fitted: {error}') from error
    energy, modulus, derivative, volume = (float(value) for value in fit.eos_parameters)
    found = EquationOfState(energy + float(lowest), volume, modulus * GPA_PER_EV_PER_ANG3, derivative, 0.0)
    inside = volumes.min() < volume < volumes.max() and modulus > 0
    residual = np.sqrt(np.mean((found.energies(volumes) - energies) ** 2)) if inside else np.nan
    if not np.isfinite(residual):
        raise AlloyError(
            f'the fit has its minimum at {volume:.3f} Å³ per atom with a bulk modulus of '
            f'{modulus * GPA_PER_EV_PER_ANG3:.3g} GPa, the scan goes from {volumes.min():.3f} to {volumes.max():.3f} Å³'
        )
    return EquationOfState(energy + float(lowest), volume, modulus * GPA_PER_EV_PER_ANG3, derivative, float(residual))


def _compression(volumes_ang3: npt.ArrayLike, volume_ang3: npt.ArrayLike) -> Floats:
    return np.asarray((np.asarray(volume_ang3) / np.asarray(volumes_ang3)) ** (2 / 3))
