"""Label of a run of CP2K from its energy and its levels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from aiida_nanoml.engines.base import Label, edges_at_fermi
from aiida_nanoml.engines.cp2k.levels import Levels
from aiida_nanoml.errors import EvaluationError, FailureCode


def make_label(
    energy_ev: float,
    levels: Levels,
    weights: NDArray[np.float64],
    n_electrons: int,
    n_iterations: int | None,
) -> Label:
    """Make the label of a run.

    At the Gamma point HOMO and LUMO are counted as :meth:`~aiida_nanoml.engines.base.Label.from_levels` does. With
    several k-points HOMO is the highest level at any of them that does not exceed the Fermi level, and LUMO the lowest
    above it.

    :param energy_ev: total energy in eV.
    :param weights: of the k-points (K,), with sum 1.
    :param n_electrons: both spins together.
    :raises EvaluationError: ``'engine_failure'``: no level is left empty.
    """
    n_spins, n_points, n_levels = levels.levels_ev.shape
    fermi = _fermi_level(levels)
    moment = None
    if n_spins == 2:
        moment = float(np.einsum('kl,k->', levels.occupations[0] - levels.occupations[1], weights))
    flat = levels.levels_ev.reshape(n_spins, n_points * n_levels)
    if n_points == 1:
        label = Label.from_levels(energy_ev, flat, n_electrons, n_iterations=n_iterations)
    else:
        if fermi is None:
            raise EvaluationError(FailureCode.ENGINE_FAILURE, 'CP2K printed no Fermi level of several k-points')
        edges = edges_at_fermi(flat, fermi)
        if edges is None:
            raise EvaluationError(
                FailureCode.ENGINE_FAILURE, 'all levels lie on one side of the Fermi level; compute more levels'
            )
        homo, lumo = edges
        label = Label(
            energy_ev=energy_ev,
            homo_ev=homo,
            lumo_ev=lumo,
            gap_ev=lumo - homo,
            n_electrons=n_electrons,
            open_shell=n_electrons % 2 == 1,
            n_iterations=n_iterations,
            levels_ev=flat,
        )
    return replace(
        label,
        level_weights=np.tile(weights * (2 / n_spins), (n_spins, 1)),
        fermi_ev=fermi,
        magnetic_moment_bohr=moment,
    )


def _fermi_level(levels: Levels) -> float | None:
    """Return the Fermi level; that of the spin that reaches higher, where each has its own; None if not printed."""
    return None if np.isnan(levels.fermi_ev).any() else float(levels.fermi_ev.max())
