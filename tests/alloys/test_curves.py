import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiida_nanoml.alloys.curves import (
    FIT_FAILED,
    MINIMUM_ABOVE,
    MINIMUM_BELOW,
    OK,
    POOR_FIT,
    TOO_FEW_POINTS,
    Curves,
    at_curve,
    at_minimum,
    constants_from_volumes,
    extension,
    fit_curves,
    volumes_per_atom,
)
from aiida_nanoml.alloys.equation_of_state import EquationOfState, birch_energies, fit_birch_murnaghan
from aiida_nanoml.errors import AlloyError
from aiida_nanoml.structures import StructureSet
from aiida_nanoml.units import GPA_PER_EV_PER_ANG3
from tests.alloys.scans import FACTORS, IRON, fitted, make_scan, primitive_cell

materials = st.tuples(
    st.floats(-535, 10),  # all-electron and pseudopotential codes put the zero far away
    st.floats(8, 30),
    st.floats(20, 450),
    st.floats(2.5, 7),
)


@settings(deadline=None, max_examples=40)
@given(known=materials, n_points=st.integers(5, 15), width=st.floats(0.03, 0.08))
def test_fit_recovers_the_parameters(known, n_points, width):
    energy, volume, modulus, derivative = known
    volumes = volume * np.linspace(1 - width, 1 + width, n_points) ** 3
    fit = fit_birch_murnaghan(volumes, birch_energies(volumes, *known))
    assert fit.energy_ev == pytest.approx(energy, abs=1e-6)
    assert fit.volume_ang3 == pytest.approx(volume, rel=1e-6)
    assert fit.bulk_modulus_gpa == pytest.approx(modulus, rel=1e-6)
    assert fit.bulk_modulus_derivative == pytest.approx(derivative, abs=1e-6)
    assert fit.residual_ev < 1e-7


@settings(deadline=None, max_examples=40)
@given(known=materials, factor=st.floats(0.9, 1.1))
def test_pressure_is_the_slope_of_the_energy(known, factor):
    state = EquationOfState(*known, residual_ev=0.0)
    volume, step = state.volume_ang3 * factor**3, 1e-3
    low, high = (dataclasses.replace(state, energy_ev=0.0).energies([volume - step, volume + step])).tolist()
    assert state.pressures([volume])[0] == pytest.approx(
        -(high - low) / (2 * step) * GPA_PER_EV_PER_ANG3, rel=1e-4, abs=1e-4
    )


def test_bulk_modulus_is_the_curvature_at_the_minimum():
    state = EquationOfState(-3.5, 11.2, 180.0, 4.5, 0.0)
    step = 1e-3
    volumes = state.volume_ang3 + np.array([-step, 0, step])
    assert state.pressures(volumes)[1] == 0
    slope = np.ptp(state.pressures(volumes)[[0, 2]]) / (2 * step)
    assert state.volume_ang3 * slope == pytest.approx(180.0, rel=1e-5)
    moduli = [-v * np.diff(state.pressures([v - step, v + step]))[0] / (2 * step) for v in volumes[[0, 2]].tolist()]
    pressures = state.pressures(volumes[[0, 2]])
    assert np.diff(moduli)[0] / np.diff(pressures)[0] == pytest.approx(4.5, rel=1e-4)


@pytest.mark.parametrize(
    ('volumes', 'energies', 'message'),
    [
        ([10.0, 11, 12], [1.0, 0, 1], '3 points, an equation of state needs 4'),
        ([10.0, 11, 11, 12], [1.0, 0, 0, 1], '3 points'),
        ([10.0, 11, 12, 13], [1.0, 0, 0], 'do not make a scan'),
        ([[10.0, 11], [12, 13]], [[1.0, 0], [0, 1]], 'do not make a scan'),
        ([10.0, 11, 12, 13], [1.0, 0, np.nan, 1], 'not finite'),
        ([10.0, 11, 12, 13], [4.0, 3, 2, 1], 'minimum at|cannot be fitted'),
    ],
)
def test_points_that_cannot_be_fitted(volumes, energies, message):
    with pytest.raises(AlloyError, match=message):
        fit_birch_murnaghan(volumes, energies)


@pytest.mark.parametrize(('element', 'guess'), [('Al', 3.99), ('Cu', 3.59), ('Ag', 4.06)])
def test_metals_of_effective_medium_theory(element, guess):
    from ase.build import bulk
    from ase.calculators.emt import EMT
    from scipy.optimize import brentq

    def crystal(constant):
        made = bulk(element, 'fcc', a=constant)
        made.calc = EMT()
        return made

    def pressure(constant):
        return -np.trace(crystal(constant).get_stress(voigt=False)) / 3 * GPA_PER_EV_PER_ANG3

    crystals = [crystal(guess * factor) for factor in np.linspace(0.97, 1.03, 9).tolist()]
    structures = StructureSet.from_ase(crystals, ['pure'] * 9, ['fcc'] * 9)
    curves = fit_curves(structures, np.array([made.get_potential_energy() for made in crystals]))
    assert curves.status.tolist() == [OK]
    assert curves.formulas.tolist() == [element]
    expected = brentq(pressure, 0.98 * guess, 1.02 * guess)
    assert curves.lattice_constant_ang[0] == pytest.approx(expected, rel=5e-4)
    assert curves.energy_ev[0] == pytest.approx(crystal(expected).get_potential_energy(), abs=5e-4)
    modulus = -expected / 3 * (pressure(1.001 * expected) - pressure(0.999 * expected)) / (0.002 * expected)
    assert curves.bulk_modulus_gpa[0] == pytest.approx(modulus, rel=0.05)


def test_lattice_constants_of_the_conventional_cell():
    structures = StructureSet.from_structures([primitive_cell('fcc', 4.0**3 / 4), primitive_cell('bcc', 3.0**3 / 2)])
    volumes = volumes_per_atom(structures)
    assert volumes == pytest.approx([16.0, 13.5])
    assert constants_from_volumes(volumes, np.array(['fcc', 'bcc'])) == pytest.approx([4.0, 3.0])


KNOWN = {
    ('b', 'bcc'): (-3.53, 11.6, 165.0, 5.0),
    ('b', 'fcc'): (-3.50, 11.2, 180.0, 4.5),
    ('a', 'fcc'): (-4.00, 16.5, 78.0, 4.6),
}


def test_curves_keep_the_order_in_which_they_appear():
    structures, energies, _ = make_scan(KNOWN)
    curves = fit_curves(structures, energies)
    assert list(zip(curves.names.tolist(), curves.phases.tolist(), strict=True)) == list(KNOWN)
    assert curves.curve_of_row.tolist() == np.repeat([0, 1, 2], len(FACTORS)).tolist()
    assert curves.counts() == {OK: 3}
    assert curves.usable.all()
    assert curves.n_points.tolist() == [len(FACTORS)] * 3
    assert not curves.n_missing.any()
    found = np.column_stack(
        [curves.energy_ev, curves.volume_ang3, curves.bulk_modulus_gpa, curves.bulk_modulus_derivative]
    )
    assert found == pytest.approx(np.array(list(KNOWN.values())), rel=1e-5)
    volumes = volumes_per_atom(structures)
    assert curves.energies(curves.curve_of_row, volumes) == pytest.approx(energies, abs=1e-8)


@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 10**6))
def test_the_order_of_the_rows_does_not_matter(seed):
    structures, energies, pressures = make_scan(KNOWN)
    shuffled = np.random.Generator(np.random.PCG64(seed)).permutation(len(structures))
    curves = fit_curves(structures.select(shuffled), energies[shuffled])
    ordered = fitted(KNOWN)
    position = {key: row for row, key in enumerate(KNOWN)}
    same = [position[key] for key in zip(curves.names.tolist(), curves.phases.tolist(), strict=True)]
    assert curves.names[curves.curve_of_row].tolist() == structures.names[shuffled].tolist()
    assert curves.phases[curves.curve_of_row].tolist() == structures.families[shuffled].tolist()
    for name in ('energy_ev', 'lattice_constant_ang', 'bulk_modulus_gpa', 'n_points'):
        assert getattr(curves, name) == pytest.approx(getattr(ordered, name)[same], rel=1e-6)
    volumes = volumes_per_atom(structures)[shuffled]
    assert curves.pressures(curves.curve_of_row, volumes) == pytest.approx(pressures[shuffled], abs=1e-3)


def test_arrays_and_back():
    curves = fitted(KNOWN)
    again = Curves.from_arrays(curves.to_arrays())
    assert again.to_arrays().keys() == curves.to_arrays().keys()
    for name, column in curves.to_arrays().items():
        assert np.array_equal(again.to_arrays()[name], column)
    with pytest.raises(AlloyError, match=r'lack the column .*energy_ev'):
        Curves.from_arrays({name: column for name, column in curves.to_arrays().items() if name != 'energy_ev'})


def test_a_point_off_the_curve():
    structures, energies, _ = make_scan(IRON)
    energies[2] += 0.030
    curves = fit_curves(structures, energies)
    assert curves.status.tolist() == [POOR_FIT, OK]
    assert 'meV per atom, more than 5' in curves.messages[0]
    assert curves.usable.all()
    assert curves.residual_ev[0] > 0.005
    assert np.isfinite(curves.energy_ev).all()


def test_points_without_an_energy():
    structures, energies, _ = make_scan(IRON)
    energies[[0, 1, 2, 5, 6, 7]] = np.nan  # three are left
    energies[[9, 13]] = np.nan
    curves = fit_curves(structures, energies)
    assert curves.status.tolist() == [TOO_FEW_POINTS, OK]
    assert curves.messages[0] == '3 of 9 points have an energy, 4 are needed'
    assert curves.n_points.tolist() == [3, 7]
    assert curves.n_missing.tolist() == [6, 2]
    assert curves.usable.tolist() == [False, True]
    assert np.isnan([curves.energy_ev[0], curves.lattice_constant_ang[0], curves.bulk_modulus_gpa[0]]).all()
    assert np.isnan(curves.energies(np.array([0]), np.array([11.0]))).all()


def test_points_that_are_given_twice_count_once():
    structures, energies, _ = make_scan({('a', 'fcc'): IRON['alloy-0001', 'fcc']}, np.array([0.97, 1.0, 1.0, 1.03]))
    assert fit_curves(structures, energies).status.tolist() == [TOO_FEW_POINTS]


def test_a_minimum_that_no_fit_finds():
    structures, _, _ = make_scan({('a', 'fcc'): IRON['alloy-0001', 'fcc']}, np.linspace(0.9, 1.1, 7))
    curves = fit_curves(structures, np.array([0.0, 0.1, 0.2, -0.001, 0.4, 0.3, 0.1]))
    assert curves.status.tolist() == [FIT_FAILED]
    assert curves.messages[0]
    assert np.isnan(curves.energy_ev).all()


@pytest.mark.parametrize(
    ('factors', 'status', 'wanted'),
    [
        (np.linspace(1.02, 1.08, 4), MINIMUM_BELOW, [1.00, 0.98]),
        (np.linspace(0.92, 0.98, 4), MINIMUM_ABOVE, [1.00, 1.02]),
    ],
)
def test_a_scan_on_one_side_is_extended(factors, status, wanted):
    known = {('a', 'fcc'): IRON['alloy-0001', 'fcc']}
    structures, energies, _ = make_scan(known, factors)
    curves = fit_curves(structures, energies)
    assert curves.status.tolist() == [status]
    assert 'still falls' in curves.messages[0]
    constant = np.cbrt(4 * 11.2)
    rows, constants = extension(structures, energies, curves)
    assert curves.curve_of_row[rows].tolist() == [0, 0]
    assert constants == pytest.approx(constant * np.array(wanted))
    assert len(extension(structures, energies, curves, points=5)[1]) == 5
    # With what was asked for, the minimum is found.
    more = np.concatenate([factors, wanted])
    assert fitted(known, more).status.tolist() == [OK]


@pytest.mark.parametrize(('factors', 'failed'), [(np.linspace(1.0, 1.08, 5), 0), (np.linspace(0.92, 1.0, 5), 4)])
def test_an_end_that_failed_is_not_tried_again(factors, failed):
    structures, energies, _ = make_scan({('a', 'bcc'): IRON['alloy-0001', 'bcc']}, factors)
    energies[failed] = np.nan
    curves = fit_curves(structures, energies)
    assert curves.status[0] in (MINIMUM_BELOW, MINIMUM_ABOVE)
    rows, constants = extension(structures, energies, curves)
    assert len(rows) == len(constants) == 0


def test_a_failure_elsewhere_does_not_end_a_scan():
    structures, energies, _ = make_scan({('a', 'bcc'): IRON['alloy-0001', 'bcc']}, np.linspace(1.02, 1.12, 6))
    energies[-1] = np.nan
    _, constants = extension(structures, energies, fit_curves(structures, energies))
    assert constants == pytest.approx(np.cbrt(2 * 11.6) * np.array([1.00, 0.98]))


def test_finished_curves_want_no_points():
    structures, energies, _ = make_scan(IRON)
    rows, constants = extension(structures, energies, fit_curves(structures, energies))
    assert rows.dtype == np.int64
    assert len(rows) == len(constants) == 0


def test_rows_that_are_no_scan_are_refused():
    structures, energies, _ = make_scan(IRON)
    fcc = [structures[row] for row in range(4)]
    with pytest.raises(AlloyError, match='18 cells and \\(17,\\) energies'):
        fit_curves(structures, energies[1:])
    with pytest.raises(AlloyError, match='do not make a scan'):
        fit_curves(structures.select([]), np.array([]))
    with pytest.raises(AlloyError, match='row 2 of the scan has no name'):
        fit_curves(StructureSet.from_structures(fcc, ['a', 'a', '', 'a'], ['fcc'] * 4), energies[:4])
    with pytest.raises(AlloyError, match="row 1 \\(a\\) has the phase 'hcp'; the known ones are fcc, bcc"):
        fit_curves(StructureSet.from_structures(fcc, ['a'] * 4, ['fcc', 'hcp', 'fcc', 'fcc']), energies[:4])


def test_what_is_known_at_points_at_the_minimum_and_along_a_curve():
    structures, energies, _ = make_scan(IRON)
    volumes = volumes_per_atom(structures)
    energies[9:15] = np.nan
    curves = fit_curves(structures, energies)
    moment = 0.2 * volumes - 1
    holes = np.where(np.arange(len(moment)) % 2 == 0, moment, np.nan)
    beyond = np.where(volumes > 11.3, moment, np.nan)
    found = at_minimum({'moment': moment, 'holes': holes, 'beyond': beyond}, volumes, curves)
    assert found['moment'] == pytest.approx([0.2 * 11.2 - 1, np.nan], nan_ok=True)
    assert found['holes'] == pytest.approx([0.2 * 11.2 - 1, np.nan], nan_ok=True)
    assert np.isnan(found['beyond']).all()
    constant = np.where(np.arange(18) < 9, np.nan, 2.5)
    constant[10] = np.nan
    assert at_curve(constant, curves) == pytest.approx([np.nan, 2.5], nan_ok=True)
