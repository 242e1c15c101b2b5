"""Resonances of a scattering region: poles of its S-matrix in the lower half of the complex energy plane."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from aiida_nanoml.transport.potential import Floats
from aiida_nanoml.transport.rmatrix import Complexes, RMatrix, inverses
from aiida_nanoml.units import HBAR_EV_S

BROADEST = 0.5
"""Width of a pole, in units of its distance to the edge of the lead, above which it is background and no resonance."""

_TOGETHER = 24
"""Levels whose coupling through the leads is diagonalised at once."""

_NEIGHBOURS = 8
"""Levels beyond both ends of a range that are taken in: open leads shift them."""

_EXPANSIONS = 3
"""Energies in a range at which the coupling is expanded: what one of them throws away, another one finds."""

_STEPS = 30

_PRECISION = 1e-9
"""Relative to the width, what the last step of a search may be."""


@dataclass(frozen=True, eq=False)
class Resonances:
    """Poles of the S-matrix at E - iΓ/2, by ascending energy.

    :param energies: (m,) E in eV.
    :param widths: (m,) Γ in eV; zero where it is below the rounding of the levels,
        :attr:`~aiida_nanoml.transport.rmatrix.RMatrix.rounding`.
    """

    energies: Floats
    widths: Floats

    def __len__(self) -> int:
        return len(self.energies)

    @property
    def lifetimes(self) -> Floats:
        """(m,) ħ/Γ in s; infinite where the width is zero."""
        with np.errstate(divide='ignore'):
            lifetimes: Floats = HBAR_EV_S / self.widths
        return lifetimes


def find_resonances(rmatrix: RMatrix, lowest: float, highest: float) -> Resonances:
    """Find the resonances in a range of energies.

    The levels of the range, coupled through the leads, are diagonalised together (effective Hamiltonian: C. Mahaux,
    H. A. Weidenmüller, Shell-Model Approach to Nuclear Reactions, North-Holland, 1969); each eigenvalue is then refined
    to a zero of det(1 - iK) at its own complex energy.

    :param rmatrix: of :func:`~aiida_nanoml.transport.rmatrix.solve`.
    :param lowest: in eV.
    :param highest: in eV.
    :returns: those with a width below :data:`BROADEST` of their distance to the nearest edge of an open lead.
    """
    begin, end = np.searchsorted(rmatrix.levels, [lowest, highest])
    borders = np.array([lowest, *rmatrix.levels[begin + _TOGETHER : end : _TOGETHER], highest])
    poles = np.concatenate([_poles(rmatrix, *pair) for pair in itertools.pairwise(borders)])
    widths = -2 * poles.imag
    widths[np.abs(widths) < rmatrix.rounding] = 0.0
    distances = poles.real[:, None] - rmatrix.potential.leads
    edges = np.where(distances > 0, distances, np.inf).min(axis=1)
    kept = np.isfinite(edges) & (widths >= 0) & (widths < BROADEST * edges)
    return Resonances(poles.real[kept], widths[kept])


def adaptive_energies(energies: ArrayLike, resonances: Resonances, points: int = 41) -> Floats:
    """Add energies to a grid where the transmission changes fast.

    :param energies: (n,) in eV.
    :param resonances: each gets points over 14 of its widths, dense at its energy, as far as they lie in the grid.
    :param points: number of points for each resonance.
    :returns: (m,) all energies, ascending, each once.
    """
    grid = np.asarray(energies, dtype=np.float64)
    spread = np.tan(np.linspace(-1.5, 1.5, points)) / 2
    added = (resonances.energies[:, None] + resonances.widths[:, None] * spread).ravel()
    added = added[(grid.min() <= added) & (added <= grid.max())]
    everything: Floats = np.unique(np.concatenate([grid, added]))
    return everything


def _poles(rmatrix: RMatrix, lowest: float, highest: float) -> Complexes:
    """Return the poles whose energy lies in a range, by ascending energy."""
    begin, end = np.searchsorted(rmatrix.levels, [lowest, highest])
    chosen = np.arange(max(0, begin - _NEIGHBOURS), min(len(rmatrix.levels), end + _NEIGHBOURS))
    change = 1e-4 * (highest - lowest) + 1e-9
    starts = [_eigenvalues(rmatrix, chosen, energy, change) for energy in np.linspace(lowest, highest, _EXPANSIONS)]
    found = _refine_poles(rmatrix, np.concatenate(starts))
    return found[(lowest <= found.real) & (found.real <= highest)]


def _eigenvalues(rmatrix: RMatrix, chosen: NDArray[np.intp], energy: float, change: float) -> Complexes:
    """Return the eigenvalues of the effective Hamiltonian of some levels.

    Its coupling to the leads, and to the other levels through them, is taken as linear in the energy: with leads fixed
    at one energy, a pole at which a region would fit them without reflection is thrown far away.

    :param energy: around which to expand, in eV.
    :param change: step of the derivative, in eV.
    """
    at = np.array([energy, energy + change])
    background, _ = rmatrix.background(at, np.stack([chosen, chosen]))
    roots = np.sqrt(rmatrix.wave_factors(at))
    inner: Complexes = inverses(np.eye(2) - 1j * roots[:, :, None] * background * roots[:, None, :])
    leads = roots[:, :, None] * inner * roots[:, None, :]
    slope = (leads[1] - leads[0]) / change
    ends = rmatrix.amplitudes[chosen]
    effective = np.diag(rmatrix.levels[chosen]) - 1j * ends @ (leads[0] - energy * slope) @ ends.T
    metric = np.eye(len(chosen)) + 1j * ends @ slope @ ends.T
    try:
        eigenvalues: Complexes = np.linalg.eigvals(np.linalg.solve(metric, effective)).astype(np.complex128)
    except np.linalg.LinAlgError:  # the leads fit the region at this very energy
        return np.empty(0, dtype=np.complex128)
    return eigenvalues


def _refine_poles(rmatrix: RMatrix, poles: Complexes) -> Complexes:
    """Refine poles by Newton's method; those that do not converge, or come to the place of another, are left out."""
    first = np.clip(np.searchsorted(rmatrix.levels, poles.real) - 1, 0, len(rmatrix.levels) - 2)
    skip = np.stack([first, first + 1], axis=1)
    moving = np.arange(len(poles))
    for _ in range(_STEPS):
        if not len(moving):
            break
        current = poles[moving]
        change = 1e-4 * np.abs(current.imag) + 1e4 * rmatrix.rounding
        value = _determinant(rmatrix, current, skip[moving])
        slope = (_determinant(rmatrix, current + change, skip[moving]) - value) / change
        with np.errstate(divide='ignore', invalid='ignore'):
            steps: Complexes = value / slope
        # A pole that is thrown out of all bounds does not come back.
        steps[~np.isfinite(steps)] = 0.0
        poles[moving] -= steps
        moving = moving[np.abs(steps) > np.maximum(rmatrix.rounding, _PRECISION * np.abs(current.imag))]
    found: Complexes = np.delete(poles, moving)
    found = found[np.argsort(found.real, kind='stable')]
    apart = np.abs(np.diff(found)) > np.maximum(10 * rmatrix.rounding, 1e3 * _PRECISION * np.abs(found[1:].imag))
    distinct: Complexes = found[np.concatenate([np.ones(min(1, len(found)), dtype=bool), apart])]
    return distinct


def _determinant(rmatrix: RMatrix, energies: Complexes, skip: NDArray[np.intp]) -> Complexes:
    """Return det(1 - iK), times the distances to the skipped levels, which are its poles nearby."""
    background, distances = rmatrix.background(energies, skip)
    roots = np.sqrt(rmatrix.wave_factors(energies))
    rest = np.eye(2) - 1j * roots[:, :, None] * background * roots[:, None, :]
    coupling = roots[:, :, None] * rmatrix.amplitudes[skip].transpose(0, 2, 1)
    poles = distances[:, :, None] * np.eye(2) - 1j * coupling.transpose(0, 2, 1) @ inverses(rest) @ coupling
    product: Complexes = np.linalg.det(rest) * np.linalg.det(poles)
    return product
