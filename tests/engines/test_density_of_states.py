"""Density of states: what it must sum up to, and limits that are known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from aiida_nanoml.engines.density_of_states import density_of_states, dos_at_fermi
from aiida_nanoml.errors import EngineError

LEVELS = arrays(np.float64, (2, 3, 4), elements=st.floats(-5.0, 5.0))
WEIGHTS = arrays(np.float64, (2, 3), elements=st.floats(0.01, 1.0)).map(lambda weights: 2 * weights / weights.sum())


@given(levels=LEVELS, weights=WEIGHTS, width=st.floats(0.05, 0.5))
def test_the_integral_is_the_number_of_states(levels: np.ndarray, weights: np.ndarray, width: float) -> None:
    energies = np.linspace(-9.0, 9.0, 2001)
    states = np.trapezoid(density_of_states(levels, weights, energies, width), energies)
    assert states == pytest.approx(2.0 * 4, rel=1e-6)


@given(levels=LEVELS, weights=WEIGHTS, shift=st.floats(-20.0, 20.0))
def test_the_zero_of_energy_does_not_matter(levels: np.ndarray, weights: np.ndarray, shift: float) -> None:
    assert dos_at_fermi(levels + shift, weights, 0.3 + shift) == pytest.approx(dos_at_fermi(levels, weights, 0.3))


@given(levels=arrays(np.float64, (3, 4), elements=st.floats(-1.0, 1.0)))
def test_two_equal_spins_are_a_restricted_run(levels: np.ndarray) -> None:
    weights = np.array([0.5, 0.25, 0.25])
    restricted = dos_at_fermi(levels, 2 * weights, 0.0)
    assert dos_at_fermi([levels, levels], [weights, weights], 0.0) == pytest.approx(restricted)


def test_a_level_at_the_fermi_level_is_the_top_of_its_gaussian() -> None:
    assert dos_at_fermi([[1.5]], [2.0], 1.5, 0.2) == pytest.approx(2.0 / (0.2 * np.sqrt(np.pi)))
    assert dos_at_fermi([[1.5]], [2.0], 1.7, 0.2) == pytest.approx(2.0 / (0.2 * np.sqrt(np.pi)) / np.e)


@pytest.mark.parametrize('width', [0.1, 0.3, 1.0])
def test_a_band_of_even_levels_has_the_density_of_the_band(width: float) -> None:
    """2 electrons for each of 100 levels in 1 eV, whatever the width."""
    assert dos_at_fermi(np.arange(-1000, 1000)[None] / 100, [2.0], 0.003, width) == pytest.approx(200.0)


@pytest.mark.parametrize(
    ('levels', 'weights', 'width', 'reason'),
    [
        ([[1.0, 2.0]], [1.0, 1.0], 0.1, 'shape|needs levels'),
        (1.0, 2.0, 0.1, 'needs levels'),
        ([[np.nan]], [2.0], 0.1, 'finite'),
        ([[1.0]], [2.0], 0.0, 'must be positive'),
        ([[1.0]], [2.0], np.nan, 'must be positive'),
    ],
)
def test_what_has_no_density_is_refused(levels: list, weights: list, width: float, reason: str) -> None:
    with pytest.raises(EngineError, match=reason):
        dos_at_fermi(levels, weights, 0.0, width)
