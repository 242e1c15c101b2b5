"""The solver against closed forms, an independent composition of scattering matrices, and what must hold of any S."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiida_nanoml.errors import TransportError
from aiida_nanoml.transport.potential import MOST_CELLS, Potential, PotentialSet
from aiida_nanoml.transport.resonances import find_resonances
from aiida_nanoml.transport.rmatrix import Scattering, Truncation, cosines_needed, estimate_truncation, solve
from aiida_nanoml.transport.settings import CORRECTIONS
from tests.transport.reference import (
    INERTIA,
    barrier_transmission,
    double_barrier_pole,
    ramp_transmission,
    scattering,
    step_transmission,
    transmission,
)

MASS = 0.067
GRID = np.linspace(0.0005, 0.3, 400)
ALMOST = 1e-16
"""Potential in eV of ends that would belong to the leads, and make it too easy, if it were zero."""


def scattered(
    potential: Potential, energies: Any = GRID, n_basis: int = 256, correction: str = 'coupled'
) -> Scattering:
    """Solve for the very energies."""
    return solve(potential, np.min(energies), np.max(energies), n_basis, correction).scatter(energies)


def estimated(
    potential: Potential, energies: Any = GRID, n_basis: int = 256, correction: str = 'coupled'
) -> Truncation:
    """Estimate what the basis costs."""
    rmatrix = solve(potential, np.min(energies), np.max(energies), n_basis, correction)
    return estimate_truncation(potential, rmatrix, energies, correction)


def in_layers(*layers: tuple[int, float, float], cell: float = 0.5, **leads: float) -> Potential:
    """Put layers of (cells, eV, m0) side by side, between leads at zero."""
    counts = [layer[0] for layer in layers]
    values, masses = (np.repeat([layer[column] for layer in layers], counts) for column in (1, 2))
    return Potential(values, cell * sum(counts), masses, **({'left': 0.0, 'right': 0.0} | leads))


def mid_barrier(height: float = 0.1) -> Potential:
    """A barrier of 10 nm in the middle of 50 nm, whose ends are not quite those of the leads: else they would be."""
    return in_layers((40, ALMOST, 0.023), (20, height, 0.023), (40, ALMOST, 0.023))


def two_barriers(width: int) -> Potential:
    """Barriers of so many half nanometres at both ends of the region, with 8 nm between them."""
    return in_layers((width, 0.3, MASS), (16, 0.0, MASS), (width, 0.3, MASS))


def largest_error(potential: Potential, energies: Any = GRID, n_basis: int = 256) -> float:
    found = scattered(potential, energies, n_basis)
    return float(np.abs(found.transmission - transmission(potential, energies)).max())


heights = st.floats(-0.3, 0.4)
potentials = st.builds(
    Potential,
    st.lists(heights, min_size=1, max_size=6),
    st.floats(3, 20),
    st.just(MASS),
    heights,
    heights,
)


# The reference itself


@pytest.mark.parametrize('height', [0.1, 0.25, -0.2])
def test_composition_agrees_with_the_closed_form(height):
    potential = mid_barrier(height)
    assert transmission(potential, GRID) == pytest.approx(barrier_transmission(GRID, height, 10.0, 0.023), abs=1e-13)


@settings(deadline=None, max_examples=40)
@given(potential=potentials)
def test_composition_is_unitary(potential):
    """Flux is conserved, at energies at the very heights of the cells as well (k = 0 in them)."""
    for matrix in scattering(potential, np.concatenate([potential.values, potential.leads, GRID])):
        both = np.abs(matrix) ** 2
        is_open = both.sum(axis=0) > 0
        assert both.sum(axis=0)[is_open] == pytest.approx(1.0, abs=1e-9)


# Known answers


@pytest.mark.parametrize('height', [0.1, -0.1])
@pytest.mark.parametrize('n_basis', [511, 512])
def test_barrier_that_fills_the_region_is_exact(height, n_basis):
    """The mean potential, in which the tail is summed, is the whole potential; at the energy of the top as well."""
    energies = np.append(GRID, 0.1)
    found = scattered(Potential(np.full(1024, height), 10.0, 0.023, 0.0, 0.0), energies, n_basis)
    assert found.transmission == pytest.approx(barrier_transmission(energies, height, 10.0, 0.023), abs=1e-13)
    assert found.unitarity_defect < 1e-13


def test_the_example_of_a_barrier_of_a_hundred_nanometres():
    """From 4e-23 below to one above the barrier."""
    found = scattered(Potential(np.full(1024, 0.1), 100.0, 0.023, 0.0, 0.0), n_basis=512)
    expected = barrier_transmission(GRID, 0.1, 100.0, 0.023)
    assert found.transmission == pytest.approx(expected, abs=1e-12)
    tunnelling = (GRID > 0.02) & (GRID < 0.09)
    assert found.transmission[tunnelling] == pytest.approx(expected[tunnelling], rel=1e-4)


@pytest.mark.parametrize(('correction', 'largest'), [('coupled', 3e-9), ('buttle', 5e-7), ('none', 2e-2)])
def test_corrections(correction, largest):
    found = scattered(mid_barrier(), n_basis=512, correction=correction)
    error = np.abs(found.transmission - barrier_transmission(GRID, 0.1, 10.0, 0.023)).max()
    assert error < largest
    assert error > largest / 100, 'the bound says what the correction is worth'


def test_orders_of_convergence():
    """Without correction the error falls with the basis, with the corrections with its third power."""
    expected = barrier_transmission(GRID, 0.1, 10.0, 0.023)
    for correction, order in zip(CORRECTIONS, (3, 3, 1), strict=True):
        first, last = (
            np.abs(scattered(mid_barrier(), n_basis=n_basis, correction=correction).transmission - expected).max()
            for n_basis in (64, 512)
        )
        assert np.log(first / last) / np.log(8) == pytest.approx(order, abs=0.5)


def test_step_of_the_potential_and_of_the_mass():
    above = np.linspace(0.1001, 0.5, 300)
    step = Potential([0.0], 3.0, MASS, right=0.1)
    assert scattered(step, above).transmission == pytest.approx(
        step_transmission(above, (0.0, 0.1), (MASS, MASS)), abs=1e-10
    )
    mass = Potential([0.0], 3.0, MASS, right_mass=0.2)
    assert scattered(mass, above).transmission == pytest.approx(
        step_transmission(above, (0.0, 0.0), (MASS, 0.2)), abs=1e-10
    )
    inside = in_layers((6, 0.0, MASS), (6, 0.1, 0.2), right=0.1)
    assert scattered(inside, above).transmission == pytest.approx(
        step_transmission(above, (0.0, 0.1), (MASS, 0.2)), abs=1e-6
    )


@pytest.mark.parametrize('drop', [0.1, -0.1])
def test_ramp_against_airy_functions(drop):
    potential = Potential(np.zeros(8192), 10.0, MASS).biased(drop)
    energies = max(0.0, -drop) + GRID
    expected = ramp_transmission(energies, (0.0, -drop), 10.0, MASS)
    # The staircase itself is 2.4e-9 away from the slope.
    assert scattered(potential, energies).transmission == pytest.approx(expected, abs=1e-8)


def test_a_well_with_resonances_above_it():
    potential = in_layers((10, 0.0, MASS), (40, -0.2, MASS), (10, 0.0, MASS))
    found = scattered(potential, n_basis=512).transmission
    assert found == pytest.approx(barrier_transmission(GRID, -0.2, 20.0, MASS), abs=1e-7)


@pytest.mark.parametrize(('width', 'place', 'breadth'), [(8, 1e-9, 1e-6), (20, 1e-9, 1e-4), (28, 1e-8, 1e-3)])
def test_resonance_of_a_double_barrier(width, place, breadth):
    """Widths of 3e-4, 1e-7 and 5e-10 eV."""
    rmatrix = solve(two_barriers(width), 0.01, 0.29, 512)
    found = find_resonances(rmatrix, 0.01, 0.29)
    assert len(found) == 2
    energy, gamma = found.energies[0], found.widths[0]
    pole = double_barrier_pole(0.3, width / 2, 8.0, MASS, complex(energy, -gamma / 2))
    assert energy == pytest.approx(pole.real, abs=place)
    assert gamma == pytest.approx(-2 * pole.imag, rel=breadth)
    # The line of Breit and Wigner, on the top and down its flanks.
    offsets = np.array([-2.0, -0.5, 0.0, 0.5, 2.0])
    line = rmatrix.scatter(energy + offsets * gamma).transmission
    assert line == pytest.approx(1 / (1 + 4 * offsets**2), abs=0.02)
    assert line[2] == pytest.approx(1.0, abs=1e-4)


def test_resonance_narrower_than_the_rounding_of_the_levels():
    """A pole is kept apart from the background: the top of a line of 2e-13 eV is one still."""
    rmatrix = solve(two_barriers(40), 0.01, 0.25, 512)
    found = find_resonances(rmatrix, 0.01, 0.25)
    assert found.widths[0] == 0.0
    assert rmatrix.scatter(found.energies[:1]).transmission == pytest.approx(1.0, abs=1e-6)


def test_thick_barriers():
    energies = np.array([0.05, 0.1, 0.2])
    full = in_layers((60, 0.3, MASS))
    expected = barrier_transmission(energies, 0.3, 30.0, MASS)
    assert expected[0] < 2e-17
    assert scattered(full, energies).transmission == pytest.approx(expected, rel=1e-3)
    # With flat ends the amplitude is as wrong as the basis makes it, some 1e-9: transmissions of its square are noise.
    within = in_layers((20, 0.0, MASS), (40, 0.3, MASS), (20, 0.0, MASS))
    expected = barrier_transmission(energies, 0.3, 20.0, MASS)
    assert scattered(within, energies, 512).transmission == pytest.approx(expected, rel=5e-3, abs=1e-17)
    thicker = in_layers((20, 0.0, MASS), (80, 0.3, MASS), (20, 0.0, MASS))
    assert scattered(thicker, energies, 512).transmission == pytest.approx(0.0, abs=1e-13)


# The reference, where no closed form exists


HETEROSTRUCTURE = ((20, 0.0, 0.067), (8, 0.3, 0.092), (12, 0.0, 0.067), (6, 0.25, 0.085), (20, -0.05, 0.06))


@pytest.mark.parametrize('bias', [0.0, 0.08, -0.1])
def test_mass_that_depends_on_the_position(bias):
    potential = in_layers(*HETEROSTRUCTURE, right=-0.05).biased(bias)
    found, expected = scattered(potential, n_basis=512), scattering(potential, GRID)
    assert found.transmission == pytest.approx(transmission(potential, GRID), abs=1e-5)
    both = found.open_leads.all(axis=1)
    assert np.abs(found.s_matrix[both] - expected[both]).max() < 1e-5
    assert found.unitarity_defect < 1e-12


def test_masses_of_the_leads():
    potential = in_layers((20, 0.05, MASS), right=0.02, left_mass=0.02, right_mass=0.5)
    assert largest_error(potential, np.linspace(0.021, 0.3, 300)) < 1e-7


def test_strong_contrast_of_masses():
    assert largest_error(in_layers((6, 0.1, 0.01), (6, 0.1, 1.0), (6, 0.1, 0.01)), n_basis=512) < 1e-4


@pytest.mark.parametrize('n_basis', [32, 64])
def test_masses_and_heights_that_the_basis_can_only_just_carry(n_basis):
    potential = Potential([12.9, 11.9, -3.0], 6.16, [0.0288, 0.0792, 0.774], 0.0, 0.0)
    energies = np.linspace(0.01, 3.0, 100)
    found = scattered(potential, energies, n_basis)
    error = np.abs(found.transmission - transmission(potential, energies)).max()
    assert error <= max(1e-6, 5 * estimated(potential, energies, n_basis).error)


@pytest.mark.parametrize('height', [10.0, -10.0, -50.0])
def test_heights_of_many_electronvolt(height):
    potential = Potential([0.0, 0.0, height, 0.0, 0.0], 5.0, 1.0, 0.0, 0.0)
    assert largest_error(potential, np.linspace(0.01, 1.0, 200), 512) < 1e-6


def test_fields_of_random_cells():
    values = np.random.default_rng(0).uniform(0.0, 0.3, 64)
    assert largest_error(Potential(values, 30.0, 0.023, 0.0, 0.0), n_basis=512) < 1e-7


def test_long_region():
    values = np.concatenate([np.zeros(500), np.full(20, 0.1), np.zeros(480)])
    assert largest_error(Potential(values, 1000.0, MASS, 0.0, 0.0), np.linspace(0.001, 0.2, 200), 512) < 1e-4


@settings(deadline=None, max_examples=60)
@given(potential=potentials, n_basis=st.sampled_from([128, 191, 256]))
def test_random_potentials_agree_with_the_composition(potential, n_basis):
    energies = np.linspace(0.0005, 0.3, 60)
    found = scattered(potential, energies, n_basis)
    error = np.abs(found.transmission - transmission(potential, energies)).max()
    assert error <= max(1e-6, 5 * estimated(potential, energies, n_basis).error)
    assert found.unitarity_defect < 1e-12


# Invariants


@settings(deadline=None, max_examples=40)
@given(potential=potentials)
def test_flux_is_conserved_and_both_ways_are_the_same(potential):
    found = scattered(potential, n_basis=64)
    reflection, s_matrix = found.reflection, found.s_matrix
    assert found.unitarity_defect < 1e-12
    assert np.abs(s_matrix - s_matrix.transpose(0, 2, 1)).max() < 1e-13
    for lead in (0, 1):
        is_open = found.open_leads[:, lead]
        assert np.isnan(reflection[~is_open, lead]).all()
        assert (reflection + found.transmission[:, None])[is_open, lead] == pytest.approx(1.0, abs=1e-12)
    assert (found.transmission[~found.open_leads.all(axis=1)] == 0).all()


def mirrored(potential: Potential) -> Potential:
    return potential.changed(
        values=potential.values[::-1],
        mass=potential.masses[::-1],
        left=potential.right,
        right=potential.left,
        left_mass=potential.right_mass,
        right_mass=potential.left_mass,
    )


@settings(deadline=None, max_examples=30)
@given(values=st.lists(heights, min_size=2, max_size=5), right=heights, right_mass=st.floats(0.03, 0.3))
def test_mirror(values, right, right_mass):
    """Transmission has no side, and reflection goes with the lead."""
    masses = np.linspace(0.05, 0.08, len(values))
    potential = Potential(values, 8.0, masses, 0.0, right, 0.1, right_mass)
    found, turned = (scattered(one, n_basis=64) for one in (potential, mirrored(potential)))
    assert found.transmission == pytest.approx(turned.transmission, abs=1e-10)
    assert found.reflection == pytest.approx(turned.reflection[:, ::-1], abs=1e-10, nan_ok=True)


@settings(deadline=None, max_examples=30)
@given(potential=potentials, shift=st.floats(-100, 100))
def test_only_differences_of_energies_matter(potential, shift):
    moved = potential.changed(
        values=potential.values + shift, left=potential.left + shift, right=potential.right + shift
    )
    # Not at an edge of a lead, where rounding decides whether it is open.
    clear = GRID[(np.abs(GRID[:, None] - potential.leads) > 1e-5).all(axis=1)]
    found, same = scattered(potential, clear, 64), scattered(moved, clear + shift, 64)
    assert found.transmission == pytest.approx(same.transmission, abs=1e-6)


@settings(deadline=None, max_examples=30)
@given(potential=potentials, factor=st.floats(0.5, 3))
def test_lengths_scale_as_the_square_root_of_inverse_energies(potential, factor):
    small = potential.changed(
        values=potential.values / factor**2,
        left=potential.left / factor**2,
        right=potential.right / factor**2,
        length=potential.length * factor,
    )
    clear = GRID[(np.abs(GRID[:, None] - potential.leads) > 1e-5).all(axis=1)]
    found, same = scattered(potential, clear, 64), scattered(small, clear / factor**2, 64)
    assert found.transmission == pytest.approx(same.transmission, abs=1e-7)


def test_a_heavier_particle_in_a_lower_potential_is_the_same():
    potential = mid_barrier()
    heavy = potential.scaled(0.25).with_mass(4 * 0.023)
    assert scattered(heavy, GRID / 4).transmission == pytest.approx(scattered(potential).transmission, abs=1e-10)


def test_the_phase_has_no_jumps():
    """Without a potential it is that of the way through the region, over many turns."""
    free = scattered(Potential([0.0], 30.0, MASS), np.linspace(0.01, 0.3, 500))
    assert (np.diff(free.phase) > 0).all()
    wave_numbers = np.sqrt(2 * MASS * free.energies / INERTIA)
    assert free.phase - free.phase[0] == pytest.approx(30.0 * (wave_numbers - wave_numbers[0]), rel=1e-9, abs=1e-9)


# Edges, poles


def test_a_narrow_resonance_beside_a_closed_lead():
    """The electron can only leave to the right, through 2 nm of 1 eV: unitary also where its phase turns."""
    potential = Potential([0.0, 1.0], 4.0, 1.0, 0.1, 0.0, 0.023, 0.023)
    rmatrix = solve(potential, 0.0, 0.1, 64)
    found = find_resonances(rmatrix, 0.0, 0.1)
    assert 0 < found.widths[0] < 1e-6
    offsets = np.linspace(-20, 20, 81)
    near = rmatrix.scatter(found.energies[0] + offsets * found.widths[0])
    assert near.unitarity_defect < 1e-12
    phase = np.unwrap(np.angle(near.s_matrix[:, 1, 1]))
    expected = 2 * np.arctan(2 * offsets)
    np.testing.assert_allclose(phase - phase[40], expected, atol=1e-3)


def test_closed_leads():
    """T = 0 and R = 1 on the open side; the edge of a lead itself is closed."""
    potential = in_layers((8, 0.2, MASS), (8, 0.0, MASS), right=0.1)
    energies = np.array([-0.1, 0.0, 1e-6, 0.05, 0.1, np.nextafter(0.1, 1), 0.1 + 1e-9, 0.2])
    found = scattered(potential, energies)
    assert found.open_leads.sum(axis=1).tolist() == [0, 0, 1, 1, 1, 2, 2, 2]
    assert (found.transmission[:5] == 0).all()
    assert found.reflection[2:5, 0] == pytest.approx(1.0, abs=1e-12)
    assert np.isnan(found.reflection[:5, 1]).all()
    assert np.isnan(found.phase[:5]).all()
    assert np.isfinite(found.phase[5:]).all()
    # Beyond the edge the transmission rises as the square root.
    assert found.transmission == pytest.approx(transmission(potential, energies), rel=1e-6, abs=1e-15)


def test_reflection_phase_below_a_closed_lead():
    """The waves decay in it, which the phase of the reflected wave shows."""
    potential = in_layers((8, 0.0, MASS), (4, 0.15, MASS), right=0.3)
    energies = np.linspace(0.01, 0.29, 100)
    found = scattered(potential, energies, 512)
    assert found.s_matrix[:, 0, 0] == pytest.approx(scattering(potential, energies)[:, 0, 0], abs=1e-7)


def test_energies_next_to_zero():
    potential = in_layers((6, 0.0, MASS), (6, 0.2, MASS), (6, 0.0, MASS))
    energies = np.geomspace(1e-15, 1e-2, 60)
    found = scattered(potential, energies, 512)
    assert found.transmission == pytest.approx(transmission(potential, energies), rel=1e-6)


def test_energy_of_the_mean_potential():
    """There the waves of the mean potential have k = 0, and the mean barrier no height."""
    potential = in_layers((10, 0.1, MASS), (10, 0.3, MASS), right=0.1)
    mean = float(potential.values.mean())
    assert largest_error(potential, [mean, np.nextafter(mean, 1), np.nextafter(mean, 0)]) < 1e-7
    flat = Potential(np.full(7, 0.2), 8.0, MASS, 0.0, 0.0)
    assert largest_error(flat, [0.2, np.nextafter(0.2, 0)]) < 1e-9


def test_on_a_pole_and_beside_it():
    """The S-matrix is smooth where the R-matrix is infinite: on a level, and one unit of rounding beside it."""
    potential = in_layers((10, 0.3, MASS), (16, 0.0, MASS), (6, 0.3, MASS), (10, ALMOST, MASS))
    rmatrix = solve(potential, 0.001, 0.3, 512)
    levels = rmatrix.levels[(rmatrix.levels > 0.001) & (rmatrix.levels < 0.3)]
    assert len(levels) > 3
    on, above, below = (rmatrix.scatter(at) for at in (levels, np.nextafter(levels, 1), np.nextafter(levels, 0)))
    assert on.transmission == pytest.approx(transmission(potential, levels), abs=1e-6)
    for beside in (above, below):
        assert np.abs(beside.s_matrix - on.s_matrix).max() < 1e-9
    assert on.unitarity_defect < 1e-12


@pytest.mark.parametrize('apart', [20, 50, 100])
def test_levels_that_are_nearly_degenerate(apart):
    """Two wells far apart: levels that differ by 1e-6 eV, and by less than rounding."""
    well = ((30, 0.3, MASS), (16, 0.0, MASS))
    potential = in_layers(*well, (apart, 0.3, MASS), *well[::-1])
    rmatrix = solve(potential, 0.01, 0.25, 512)
    levels = rmatrix.levels[(rmatrix.levels > 0.01) & (rmatrix.levels < 0.25)]
    assert np.diff(levels).min() < 1e-4
    found = rmatrix.scatter(np.concatenate([levels, np.nextafter(levels, 1), levels + 1e-12, levels + 1e-3]))
    assert np.isfinite(found.s_matrix).all()
    assert found.unitarity_defect < 1e-12
    assert rmatrix.scatter(levels + 1e-3).transmission == pytest.approx(
        transmission(potential, levels + 1e-3), abs=1e-9
    )


def test_results_do_not_depend_on_the_company_of_an_energy():
    potential = mid_barrier()
    rmatrix = solve(potential, 0.0005, 0.3, 128)
    alone = np.concatenate([rmatrix.scatter([energy]).transmission for energy in GRID[:20].tolist()])
    assert rmatrix.scatter(GRID).transmission[:20] == pytest.approx(alone, abs=1e-15)
    backwards = rmatrix.scatter(GRID[::-1]).transmission
    assert backwards[::-1] == pytest.approx(rmatrix.scatter(GRID).transmission, abs=1e-15)


def test_more_energies_than_fit_in_a_block():
    potential = mid_barrier()
    rmatrix = solve(potential, 0.0005, 0.3, 1024)
    many = np.linspace(0.0005, 0.3, 9000)
    assert rmatrix.scatter(many).transmission[::1000] == pytest.approx(
        rmatrix.scatter(many[::1000]).transmission, abs=1e-14
    )


def test_energies_beyond_the_bounds_of_the_solution():
    """The bounds only say where the correction is best."""
    potential = mid_barrier()
    wide = solve(potential, 0.0, 100.0, 512).scatter(GRID).transmission
    assert wide == pytest.approx(transmission(potential, GRID), abs=1e-8)


def test_flat_ends_are_leads():
    """The same S-matrix, with its phases, whether flat ends count as leads or not; but exact at once if they do."""
    easy = in_layers((4, 0.0, 0.05), (8, 0.2, 0.07), (6, -0.1, 0.1), right=-0.1, right_mass=0.1)
    hard = easy.changed(values=easy.values + ALMOST * (easy.values == 0) + 1e-15 * (easy.values == -0.1))
    assert hard.without_flat_ends()[0] is hard
    region, cut = easy.without_flat_ends()
    assert (set(region.values), set(region.masses), region.length) == ({0.2}, {0.07}, 4.0)
    assert cut.tolist() == [2.0, 3.0]
    assert region.leads.tolist() == easy.leads.tolist()
    ours, theirs = (scattered(potential, n_basis=512) for potential in (easy, hard))
    np.testing.assert_allclose(ours.s_matrix, theirs.s_matrix, atol=1e-5)
    assert np.abs(ours.transmission - transmission(easy, GRID)).max() < 1e-10
    flat = Potential([0.1, 0.1], 5.0, MASS)
    assert flat.without_flat_ends()[0] is flat, 'something must remain'


def test_noise_is_told():
    """Below the square of the error of an amplitude, a transmission means nothing."""
    potential = in_layers((20, ALMOST, MASS), (70, 0.3, MASS), (20, ALMOST, MASS))
    found = scattered(potential, n_basis=128)
    exact = transmission(potential, GRID)
    floor = estimated(potential, n_basis=128).floor
    wrong = np.abs(found.transmission - exact) > exact
    assert wrong.any()
    assert not wrong[found.transmission > floor].any()
    assert floor < 1e-9
    filling = in_layers((50, 0.3, MASS))
    assert estimated(filling, n_basis=128).floor == 0.0


@pytest.mark.parametrize('n_basis', [256, 1024, 2048])
def test_the_error_and_its_estimate_fall_with_every_larger_basis(n_basis):
    potential = mid_barrier(1.0)
    found = scattered(potential, n_basis=n_basis)
    error = np.abs(found.transmission - transmission(potential, GRID)).max()
    assert error < 1e-6 * (256 / n_basis) ** 3
    assert error < estimated(potential, n_basis=n_basis).error < 100 * error


def test_a_basis_that_does_not_resolve_the_potential_is_not_judged():
    """A spike of 10,000 eV: half of the basis is as blind to it as the whole."""
    values = np.zeros(1001)
    values[500] = 1e4
    potential = Potential(values + ALMOST, 10.0, MASS, 0.0, 0.0)
    assert estimated(potential, n_basis=128).error == 1.0


# The basis


@pytest.mark.parametrize('n_basis', [3, 4, 5, 8, 9, 16, 33])
def test_small_bases(n_basis):
    """An odd number, or few: the correction still makes them good, and the estimate says how good."""
    potential = Potential([ALMOST, 0.1, ALMOST], 15.0, MASS, 0.0, 0.0)
    energies = np.linspace(0.001, 0.05, 100)
    found = scattered(potential, energies, n_basis)
    error = np.abs(found.transmission - transmission(potential, energies)).max()
    assert error < 10.0 * n_basis**-3.0
    assert error < 2 * estimated(potential, energies, n_basis).error
    assert found.unitarity_defect < 1e-12


def test_fewest_cosines():
    potential = Potential([0.1], 2.0, MASS, 0.0, 0.0)
    assert cosines_needed(potential, GRID) <= 2
    found = scattered(potential, GRID, 2)
    assert found.transmission == pytest.approx(barrier_transmission(GRID, 0.1, 2.0, MASS), abs=1e-12)
    assert estimated(potential, n_basis=2).error <= 1.0


@pytest.mark.parametrize('correction', CORRECTIONS)
def test_the_estimate_bounds_the_error(correction):
    for potential in (mid_barrier(), in_layers(*HETEROSTRUCTURE, right=-0.05)):
        found = scattered(potential, n_basis=128, correction=correction)
        error = np.abs(found.transmission - transmission(potential, GRID)).max()
        estimate = estimated(potential, n_basis=128, correction=correction).error
        assert error / 2 < estimate < 50 * error


def test_an_estimate_of_one_when_there_is_nothing_to_compare_with():
    potential = mid_barrier()
    n_basis = cosines_needed(potential, GRID)
    assert estimated(potential, n_basis=n_basis).error == 1.0


def test_levels_and_amplitudes_of_an_empty_region():
    """ħ²/2m (nπ/L)², with cosines of norm one at the ends."""
    found = solve(Potential([0.0], 10.0, MASS), 0.0, 0.3, 64, 'buttle')
    numbers = np.arange(64)
    assert found.levels == pytest.approx(INERTIA / 2 / MASS * (np.pi * numbers / 10) ** 2, rel=1e-12, abs=1e-9)
    assert np.abs(found.amplitudes) == pytest.approx(np.sqrt(np.where(numbers == 0, 0.1, 0.2))[:, None] * np.ones(2))


def test_solutions_repeat_to_the_bit():
    first, second = (scattered(in_layers(*HETEROSTRUCTURE)).transmission for _ in range(2))
    assert (first == second).all()


# Potentials


def test_leads_continue_the_region():
    potential = Potential([0.1, 0.2, 0.3], 3.0, [0.05, 0.06, 0.07])
    assert potential.leads.tolist() == [0.1, 0.3]
    assert potential.lead_masses.tolist() == [0.05, 0.07]
    assert len(potential) == 3
    assert potential.edges == pytest.approx([0, 1, 2, 3])
    assert not potential.has_one_mass
    assert potential.with_mass(0.1).has_one_mass
    assert not Potential([0.1], 1.0, 0.1, right_mass=0.2).has_one_mass


def test_values_cannot_be_changed_in_place():
    potential = Potential([0.1, 0.2], 3.0, 0.1)
    for array in (potential.values, potential.masses):
        with pytest.raises(ValueError, match='read-only'):
            array[0] = 1.0


def test_bias_drops_evenly_and_only_the_right_lead_moves():
    potential = Potential([0.0, 0.1, 0.1, 0.0], 4.0, MASS, name='a').biased(0.08)
    assert potential.values == pytest.approx([-0.01, 0.07, 0.05, -0.07])
    assert potential.leads.tolist() == pytest.approx([0.0, -0.08])
    assert potential.name == 'a'
    assert potential.biased(-0.08).values == pytest.approx([0.0, 0.1, 0.1, 0.0])


def test_scaling_keeps_the_left_lead():
    potential = Potential([0.1, 0.3], 4.0, MASS, 0.1, 0.2).scaled(-2.0)
    assert potential.values == pytest.approx([0.1, -0.3])
    assert potential.leads.tolist() == pytest.approx([0.1, -0.1])


def test_changes_keep_everything_else():
    potential = Potential([0.1, 0.3], 4.0, [0.1, 0.2], 0.0, 0.5, 0.3, 0.4, 'b')
    longer = potential.changed(length=5.0)
    assert longer.length == 5.0
    assert (longer.values == potential.values).all()
    assert (longer.masses == potential.masses).all()
    assert (longer.leads == potential.leads).all()
    assert (longer.lead_masses == potential.lead_masses).all()
    assert longer.name == 'b'


@settings(deadline=None, max_examples=20)
@given(rows=st.lists(potentials, min_size=1, max_size=4))
def test_a_set_makes_a_round_trip_through_arrays(rows):
    potential_set = PotentialSet([row.changed(name=f'row {number}') for number, row in enumerate(rows)])
    again = PotentialSet.from_arrays(potential_set.to_arrays())
    assert len(again) == len(rows)
    assert again.names == potential_set.names
    for first, second in zip(potential_set, again, strict=True):
        assert (first.values == second.values).all()
        assert (first.masses == second.masses).all()
        assert first.length == second.length
        assert (first.leads == second.leads).all()
        assert (first.lead_masses == second.lead_masses).all()


# Bad input


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ({'values': []}, 'one row of at least one number'),
        ({'values': [[0.1, 0.2], [0.3, 0.4]]}, r'one row of at least one number; its shape is \(2, 2\)'),
        ({'values': ['a']}, 'the potential must be numbers'),
        ({'values': [0.1, float('nan')]}, 'the potential is nan in cell 1'),
        ({'values': [0.1, 1e6]}, 'in cell 1: it must be between -100000 and 100000 eV'),
        ({'values': np.zeros(MOST_CELLS + 1)}, 'at most 1,000,000 cells, this one has 1,000,001'),
        ({'mass': 0.0}, 'the effective mass is 0: it must be between'),
        ({'mass': [0.1, 0.1, 0.1]}, '3 effective masses for 2 cells'),
        ({'mass': [0.1, -1.0]}, 'the effective mass is -1 in cell 1'),
        ({'length': 0.0}, 'the length of the region is 0'),
        ({'length': float('inf')}, 'the length of the region is inf'),
        ({'length': [1.0, 2.0]}, 'the length of the region must be one number, there are 2'),
        ({'left': float('nan')}, 'the potential of the left lead is nan'),
        ({'right': 2e5}, 'the potential of the right lead is 200000'),
        ({'left_mass': 0.0}, 'the effective mass of the left lead is 0'),
        ({'right_mass': -1.0}, 'the effective mass of the right lead is -1'),
    ],
)
def test_potentials_that_cannot_be(arguments, message):
    with pytest.raises(TransportError, match=message):
        Potential(**({'values': [0.1, 0.2], 'length': 5.0, 'mass': 0.1} | arguments))


@pytest.mark.parametrize(
    ('method', 'argument', 'message'),
    [
        ('biased', float('nan'), 'the bias is nan'),
        ('scaled', float('inf'), 'the factor is inf'),
        ('scaled', 1e6, 'the potential is'),
        ('with_mass', 0.0, 'the effective mass is 0'),
    ],
)
def test_changes_that_cannot_be(method, argument, message):
    with pytest.raises(TransportError, match=message):
        getattr(Potential([0.1, 0.7], 5.0, 0.1), method)(argument)


def test_sets_that_cannot_be():
    with pytest.raises(TransportError, match='there is no potential'):
        PotentialSet([])
    arrays = PotentialSet([Potential([0.1, 0.2], 5.0, 0.1), Potential([0.3], 5.0, 0.1)]).to_arrays()
    lacking = {name: array for name, array in arrays.items() if name not in ('leads', 'lengths')}
    with pytest.raises(TransportError, match='lack lengths, leads'):
        PotentialSet.from_arrays(lacking)
    for name, array in {
        'offsets': np.array([0, 2, 2]),
        'lengths': np.array([5.0]),
        'leads': np.zeros((2, 1)),
        'lead_masses': np.zeros((1, 2)),
        'masses': np.full(2, 0.1),
        'values': np.zeros(4),
    }.items():
        with pytest.raises(TransportError, match='do not belong together'):
            PotentialSet.from_arrays({**arrays, name: array})
    for offsets in ([1, 2, 3], [0, 1], [0.0, 2.0, 3.0], [0, 3, 3]):
        with pytest.raises(TransportError, match='do not belong together'):
            PotentialSet.from_arrays({**arrays, 'offsets': np.array(offsets)})


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ({'lowest': 0.3, 'highest': 0.1}, 'the lowest energy, 0.3 eV, is above the highest, 0.1 eV'),
        ({'lowest': float('nan')}, 'an energy is nan'),
        ({'highest': 1e9}, r'an energy is 1e\+09'),
        ({'correction': 'best'}, "there is no correction 'best': choose coupled, buttle, none"),
        ({'n_basis': 1}, 'the basis must have 2 to 8192 cosines, got 1'),
        ({'n_basis': 8193}, 'got 8193'),
        ({'n_basis': 8}, r'8 cosines are too few for energies from 0 to 0.3 eV .* take at least 18'),
        ({'highest': 9e4}, 'choose lower energies or a shorter region'),
    ],
)
def test_solutions_that_cannot_be(arguments, message):
    potential = Potential([ALMOST, 0.1, ALMOST], 40.0, MASS, 0.0, 0.0)
    with pytest.raises(TransportError, match=message):
        solve(potential, **({'lowest': 0.0, 'highest': 0.3} | arguments))


@pytest.mark.parametrize(
    ('energies', 'message'),
    [
        ([], r'one row of at least one number; the shape is \(0,\)'),
        (0.1, r'the shape is \(\)'),
        ([[0.1]], r'the shape is \(1, 1\)'),
        (['x'], 'energies must be numbers in eV'),
        ([None, [1.0]], 'energies must be numbers in eV'),
        ([0.1, float('nan')], 'an energy is nan'),
        ([0.1, 1e7], r'an energy is 1e\+07'),
        ([0.1, 1e4], '64 cosines are too few for energies from 0.1 to 10000 eV'),
    ],
)
def test_energies_that_cannot_be(energies, message):
    rmatrix = solve(Potential([0.0, 0.1], 20.0, MASS), 0.0, 0.3, 64)
    with pytest.raises(TransportError, match=message):
        rmatrix.scatter(energies)
