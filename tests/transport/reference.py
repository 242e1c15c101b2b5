"""Independent answers to check the solver with: composition of scattering matrices, and closed forms."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.constants import electron_volt, hbar, m_e, nano
from scipy.special import airy

from aiida_nanoml.transport.potential import Potential

INERTIA = hbar**2 / m_e / electron_volt / nano**2
"""ħ²/m0 in eV nm²."""

Pair = tuple[float, float]


def wave_numbers(above: ArrayLike, mass: float) -> Any:
    """Return k in 1/nm at energies above a potential, positive imaginary where they are below it."""
    return np.sqrt(2 * mass / INERTIA * np.asarray(above, dtype=np.complex128))


def scattering(potential: Potential, energies: ArrayLike) -> Any:
    """Return the S-matrix (n, 2, 2) of unit fluxes, by composition of the steps and of the ways between them.

    No wave grows in it: a barrier may be as thick as it likes. Rows and columns of closed leads are zero. In a cell
    whose potential is the energy itself, where k is zero, the energy is taken 1e-11 eV higher.
    """
    wanted = np.asarray(energies, dtype=np.float64)
    heights = np.concatenate([[potential.left], potential.values, [potential.right]])
    masses = np.concatenate([[potential.left_mass], potential.masses, [potential.right_mass]])
    ends = np.concatenate([potential.edges, [potential.length]])
    last = np.append(np.flatnonzero((np.diff(heights) != 0) | (np.diff(masses) != 0)), len(heights) - 1)

    k = wave_numbers(wanted - potential.left, potential.left_mass)
    before = k / potential.left_mass
    # Reflection from the left, transmission (the same both ways), reflection from the right.
    left, through, right = np.zeros_like(k), np.exp(1j * k * ends[last[0]]), np.zeros_like(k)
    for previous, cell in itertools.pairwise(last):
        above = wanted - heights[cell]
        if cell != last[-1]:
            above = np.where(np.abs(above) < 1e-11, 1e-11, above)
        k = wave_numbers(above, masses[cell])
        admittance = k / masses[cell]
        there = (before - admittance) / (before + admittance)
        crossing = 2 * np.sqrt(before) * np.sqrt(admittance) / (before + admittance)
        way = np.exp(1j * k * (ends[cell] - ends[previous]))
        repeated = 1 / (1 - right * there)
        left, through, right = (
            left + through**2 * there * repeated,
            through * crossing * way * repeated,
            (crossing**2 * right * repeated - there) * way**2,
        )
        before = admittance
    matrix = np.array([[left, through], [through, right]]).transpose(2, 0, 1)
    open_leads = wanted[:, None] > potential.leads
    return matrix * (open_leads[:, :, None] & open_leads[:, None, :])


def transmission(potential: Potential, energies: ArrayLike) -> Any:
    """Return T (n,) of :func:`scattering`."""
    return np.abs(scattering(potential, energies)[:, 0, 1]) ** 2


def step_transmission(energies: ArrayLike, heights: Pair, masses: Pair) -> Any:
    """Return T (n,) of one step, of the potential or of the mass, at energies above both sides."""
    first, second = (
        wave_numbers(np.asarray(energies) - height, mass).real / mass
        for height, mass in zip(heights, masses, strict=True)
    )
    return 4 * first * second / (first + second) ** 2


def barrier_transmission(energies: ArrayLike, height: float, width: float, mass: float) -> Any:
    """Return T (n,) of a rectangular barrier, or of a well (a negative height), between leads at zero.

    Below and above the top it is 1/(1 + V² sinh²(qa)/(4E(V - E))) with q² = 2m(V - E)/ħ².
    """
    above = np.asarray(energies, dtype=np.float64)
    q = wave_numbers(height - above, mass)
    ratio = np.divide(np.sinh(q * width), q, out=np.full_like(q, width), where=q != 0).real
    return 1 / (1 + height**2 * ratio**2 * mass / (2 * INERTIA * above))


def ramp_transmission(energies: ArrayLike, heights: Pair, length: float, mass: float) -> Any:
    """Return T (n,) of an even slope between two leads at the heights of its ends, by Airy's functions."""
    above = np.asarray(energies, dtype=np.float64)
    slope = (heights[1] - heights[0]) / length
    scale = np.cbrt(2 * mass * slope / INERTIA)
    (left, left_slope, left_b, left_b_slope), (right, right_slope, right_b, right_b_slope) = (
        airy(scale * (height - above) / slope) for height in heights
    )
    first, second = (wave_numbers(above - height, mass) / scale for height in heights)
    # With incoming waves of both ends dψ/dz -+ iqψ, and the Wronskian 1/π of Ai and Bi.
    at_left = left_slope + 1j * first * left, left_b_slope + 1j * first * left_b
    at_right = right_slope - 1j * second * right, right_b_slope - 1j * second * right_b
    determinant = at_left[0] * at_right[1] - at_left[1] * at_right[0]
    return 4 * first.real * second.real / np.abs(np.pi * determinant) ** 2


def double_barrier_pole(height: float, width: float, separation: float, mass: float, guess: complex) -> complex:
    """Return the pole E - iΓ/2 of two equal barriers nearest to a guess: r² exp(2ikw) = 1 with the reflection r of one.

    Newton's method with a numerical derivative, on the complex plane.
    """

    def condition(energy: complex) -> complex:
        k, q = (np.sqrt(2 * mass / INERTIA * above + 0j) for above in (energy, height - energy))
        reflected = (k**2 + q**2) / (k**2 - q**2 + 2j * k * q / np.tanh(q * width))
        return complex(reflected**2 * np.exp(2j * k * separation) - 1)

    energy = complex(guess)
    for _ in range(50):
        step = 1e-5 * abs(energy)
        change = condition(energy) * 2 * step / (condition(energy + step) - condition(energy - step))
        energy -= change
        if abs(change) < 1e-15 * abs(energy):
            break
    return energy
