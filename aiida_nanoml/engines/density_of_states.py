"""Density of electronic states from levels at several k-points."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from aiida_nanoml.errors import EngineError

DOS_WIDTH_EV = 0.2
"""Gaussian width in eV that smooths the few k-points of a scan, and keeps the bands of d electrons."""


def density_of_states(
    levels_ev: ArrayLike, level_weights: ArrayLike, energies_ev: ArrayLike, width_ev: float = DOS_WIDTH_EV
) -> NDArray[np.float64]:
    """Return the density of states of a whole cell, of both spins together.

    Each level is a Gaussian, exp(-(x/w)^2) / (w sqrt(pi)) with the width w: the scheme of order N = 0 of the source.

    Source: Methfessel and Paxton, Phys. Rev. B 40, 3616 (1989).

    :param levels_ev: levels ``(..., L)`` in eV, a row for each spin and k-point.
    :param level_weights: electrons that a level of each row holds, ``(...)``; they sum up to 2.
    :param energies_ev: where the density is wanted, ``(E,)`` in eV on the scale of the levels.
    :param width_ev: width w in eV.
    :returns: states for each eV, ``(E,)``.
    :raises EngineError: shapes that do not fit, numbers that are not finite, or a width that is not positive.
    """
    levels = np.asarray(levels_ev, dtype=np.float64)
    weights = np.asarray(level_weights, dtype=np.float64)
    energies = np.asarray(energies_ev, dtype=np.float64)
    if levels.ndim == 0 or levels.shape[:-1] != weights.shape or energies.ndim != 1:
        raise EngineError(
            f'a density of states needs levels (..., L), weights (...) and energies (E,), not {levels.shape}, '
            f'{weights.shape} and {energies.shape}'
        )
    if not all(np.isfinite(numbers).all() for numbers in (levels, weights, energies)):
        raise EngineError('a level, a weight or an energy of a density of states is not a finite number')
    if not (np.isfinite(width_ev) and width_ev > 0):
        raise EngineError(f'the width of a density of states must be positive, in eV; got {width_ev!r}')
    rows = levels.reshape(weights.size, levels.shape[-1])
    # All energies at once would need an array with as many levels for each of them.
    sums = [np.exp(-(((energy - rows) / width_ev) ** 2)).sum(axis=1) @ weights.ravel() for energy in energies]
    return np.asarray(np.array(sums, dtype=np.float64) / (width_ev * np.sqrt(np.pi)))


def dos_at_fermi(
    levels_ev: ArrayLike, level_weights: ArrayLike, fermi_ev: float, width_ev: float = DOS_WIDTH_EV
) -> float:
    """Return the density of states at the Fermi level in states for each eV of the whole cell, both spins together.

    :param levels_ev: levels ``(..., L)`` in eV.
    :param level_weights: electrons that a level of each row holds, ``(...)``.
    :param fermi_ev: Fermi level in eV on the scale of the levels.
    :param width_ev: Gaussian width in eV, see :func:`density_of_states`.
    :raises EngineError: as :func:`density_of_states` does.
    """
    return float(density_of_states(levels_ev, level_weights, [fermi_ev], width_ev)[0])
