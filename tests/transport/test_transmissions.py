"""Resonances, energies that resolve them, and many potentials at the same energies."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from aiida_nanoml.errors import TransportError
from aiida_nanoml.transport.potential import PotentialSet
from aiida_nanoml.transport.presets import barrier, double_barrier, layers, step
from aiida_nanoml.transport.resonances import adaptive_energies, find_resonances
from aiida_nanoml.transport.rmatrix import solve
from aiida_nanoml.transport.settings import TransmissionSettings
from aiida_nanoml.transport.transmissions import transmit
from tests.transport import reference


def test_a_resonance_is_the_pole_of_the_exact_s_matrix() -> None:
    found = find_resonances(solve(double_barrier(), 0, 0.3, 512), 0, 0.3)
    first = reference.double_barrier_pole(0.3, 4.0, 8.0, 0.067, found.energies[0] - 0.4j * found.widths[0])
    assert found.energies[0] == pytest.approx(first.real, rel=1e-8)
    assert found.widths[0] == pytest.approx(-2 * first.imag, rel=1e-6)


def test_a_narrow_resonance_has_the_shape_of_breit_and_wigner() -> None:
    rmatrix = solve(double_barrier(width=8.0), 0, 0.3, 256)
    found = find_resonances(rmatrix, 0, 0.3)
    energy, width = found.energies[0], found.widths[0]
    assert width < 1e-5
    offsets = np.linspace(-3, 3, 13)
    shape = rmatrix.scatter(energy + offsets * width).transmission
    np.testing.assert_allclose(shape, 1 / (1 + 4 * offsets**2), atol=1e-3)
    assert found.lifetimes[0] == pytest.approx(6.582119569e-16 / width)


def test_two_wells_far_apart_have_two_resonances() -> None:
    """Both poles lie nearer to each other than a search from one of them can see."""
    one = [(4, 0.3, 0.067), (8, 0.0, 0.067), (4, 0.3, 0.067)]
    far = layers([*one, (2, 0.3, 0.067), *one])
    single = find_resonances(solve(double_barrier(), 0, 0.1, 256), 0, 0.1)
    found = find_resonances(solve(far, 0, 0.1, 512), 0, 0.1)
    assert (len(single), len(found)) == (1, 2)
    assert 0 < found.energies[1] - found.energies[0] < 1e-3
    assert found.energies.mean() == pytest.approx(single.energies[0], abs=1e-3)


def test_resonances_that_are_too_narrow_have_no_width() -> None:
    found = find_resonances(solve(double_barrier(width=25.0), 0, 0.05, 512), 0, 0.05)
    assert found.widths[0] == 0
    assert np.isinf(found.lifetimes[0])


def test_a_step_has_no_resonance() -> None:
    potentials = PotentialSet([step()])
    assert len(transmit(potentials, TransmissionSettings(0.0, 0.5)).resonances[0]) == 0


@given(st.floats(0.15, 0.4), st.floats(2, 5), st.floats(4, 10))
@settings(max_examples=20, deadline=None)
def test_resonances_do_not_depend_on_the_range_in_which_they_are_sought(
    height: float, width: float, separation: float
) -> None:
    potential = double_barrier(round(height, 3), round(width, 2), round(separation, 2))
    rmatrix = solve(potential, 0, 1.0, 128)
    whole = find_resonances(rmatrix, 0, 1.0)
    parts = [find_resonances(rmatrix, low, high) for low, high in ((0, 0.2), (0.2, 0.55), (0.55, 1.0))]
    np.testing.assert_allclose(np.concatenate([part.energies for part in parts]), whole.energies, atol=1e-9)
    np.testing.assert_allclose(np.concatenate([part.widths for part in parts]), whole.widths, atol=1e-9)


@given(st.lists(st.tuples(st.integers(1, 6), st.floats(-0.1, 0.5)), min_size=1, max_size=6), st.floats(0, 0.2))
@settings(max_examples=30, deadline=None, derandomize=True)
def test_as_many_resonances_are_found_as_the_argument_principle_counts(
    sequence: list[tuple[int, float]], right: float
) -> None:
    """The phase of det(1 - iK) turns once for each pole of the S-matrix inside of a rectangle below the real axis."""
    potential = layers([(thickness, energy, 0.067) for thickness, energy in sequence], right=right)
    low, high, shallow, deep = 0.35, 0.9, 1e-4, 0.035  # none too broad for its distance to the edge
    rmatrix = solve(potential, low, high, 64)
    corners = [low - 1j * shallow, low - 1j * deep, high - 1j * deep, high - 1j * shallow, low - 1j * shallow]
    path = np.concatenate([np.linspace(*pair, 4000, endpoint=False) for pair in itertools.pairwise(corners)])
    matrix, _ = rmatrix.background(path, np.empty((len(path), 0), dtype=np.intp))
    roots = np.sqrt(rmatrix.wave_factors(path))
    values = np.linalg.det(np.eye(2) - 1j * roots[:, :, None] * matrix * roots[:, None, :])
    turns = np.angle(np.roll(values, -1) / values).sum() / (2 * np.pi)
    found = find_resonances(rmatrix, low, high)
    inside = (found.widths / 2 > shallow) & (found.widths / 2 < deep)
    known = found.energies - 0.5j * found.widths
    borders = np.abs(known[:, None] - path).min(initial=1.0)
    assume(borders > 1e-3)
    assert inside.sum() == round(turns)


def test_many_levels_are_sought_in_parts() -> None:
    """A barrier of a micrometre has hundreds of levels: no pole is lost or doubled where parts meet."""
    rmatrix = solve(barrier(0.1, 1000.0, 0.067), 0.1, 0.5, 1500)
    found = find_resonances(rmatrix, 0.101, 0.5)
    assert len(found) > 150
    spacings = np.diff(np.sqrt(found.energies - 0.1))
    np.testing.assert_allclose(spacings, spacings.mean(), rtol=0.02)


def test_the_grid_is_refined_where_a_resonance_is() -> None:
    grid = np.linspace(0, 0.1, 51)
    rmatrix = solve(double_barrier(width=8.0), 0, 0.1, 256)
    found = find_resonances(rmatrix, 0, 0.1)
    energies = adaptive_energies(grid, found)
    assert set(grid) <= set(energies)
    assert (np.diff(energies) > 0).all()
    assert (energies[0], energies[-1]) == (0, 0.1)
    assert rmatrix.scatter(grid).transmission.max() < 0.1
    assert rmatrix.scatter(energies).transmission.max() > 0.99


def test_many_potentials_share_their_energies() -> None:
    potentials = PotentialSet([barrier(), double_barrier(), step()])
    seen: list[tuple[int, int]] = []
    found = transmit(
        potentials,
        TransmissionSettings(0.01, 0.4, n_energies=30, n_basis=128, resolve=True),
        lambda done, of: seen.append((done, of)),
    )
    assert seen == [(1, 3), (2, 3), (3, 3)]
    assert len(found.energies) > 30
    arrays = found.to_arrays()
    assert arrays['transmission'].shape == (3, len(found.energies))
    assert set(arrays['resonance_rows']) <= {0, 1, 2}
    for row, potential in enumerate(potentials):
        errors = np.abs(arrays['transmission'][row] - reference.transmission(potential, found.energies))
        assert errors.max() < 1e-4
    assert (found.truncation_errors < 1e-3).all()


@pytest.mark.parametrize(
    ('changes', 'reason'),
    [
        ({'lowest': 'low'}, 'must be numbers'),
        ({'lowest': None}, 'lowest energy is nan'),
        ({'highest': 1e9}, 'must be between'),
        ({'n_energies': 0}, 'whole number from 1'),
        ({'n_energies': True}, 'n_energies is True'),
        ({'n_energies': 1}, 'must be equal'),
        ({'n_basis': 1}, 'whole number from 2'),
        ({'resolve': 'yes'}, 'true or false'),
        ({'tolerance': -1}, 'tolerance is -1'),
        ({'correction': 'buttel'}, "no correction 'buttel'"),
    ],
)
def test_settings_that_cannot_be_used_are_refused(changes: dict, reason: str) -> None:
    with pytest.raises(TransportError, match=reason):
        TransmissionSettings.from_dict({'lowest': 0.0, 'highest': 0.5} | changes)


def test_settings_come_back_equal() -> None:
    made = TransmissionSettings(0, 0.5, n_basis=64, resolve=True)
    assert TransmissionSettings.from_dict(made.to_dict()) == made
    assert TransmissionSettings(0.2, 0.2, n_energies=1).energies.tolist() == [0.2]
