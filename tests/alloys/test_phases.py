import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiida_nanoml.alloys.curves import fit_curves
from aiida_nanoml.alloys.equation_of_state import birch_pressures
from aiida_nanoml.alloys.phases import STRAINS, UNDECIDED, Phases, compare_phases, equilibrium_phases, fractions
from aiida_nanoml.errors import AlloyError
from aiida_nanoml.structures import StructureSet
from tests.alloys.scans import IRON, fitted, make_scan


def alloys(*differences_ev, names=None):
    """Alloys with known E(fcc) - E(bcc), all else equal."""
    known = {}
    for row, difference in enumerate(differences_ev):
        name = names[row] if names else f'alloy-{row:04d}'
        known[name, 'fcc'] = (-3.5 + difference, 11.2, 180.0, 4.5)
        known[name, 'bcc'] = (-3.5, 11.6, 165.0, 5.0)
    return known


def test_the_lower_minimum_wins():
    phases = equilibrium_phases(fitted(alloys(0.03, -0.02, names=['z', 'a'])))
    assert phases.names.tolist() == ['z', 'a']
    assert phases.formulas.tolist() == ['Fe', 'Fe']
    assert phases.phases.tolist() == ['bcc', 'fcc']
    assert phases.energy_difference_ev == pytest.approx([0.03, -0.02], abs=1e-8)
    assert phases.curves.tolist() == [[0, 1], [2, 3]]
    assert phases.decided.all()
    assert phases.counts() == {'bcc': 1, 'fcc': 1}
    assert np.array_equal(Phases(**phases.to_arrays()).curves, phases.curves)


def test_the_order_of_the_phases_does_not_matter():
    known = alloys(0.03, -0.02)
    phases = equilibrium_phases(fitted(dict(reversed(known.items()))))
    assert phases.names.tolist() == ['alloy-0001', 'alloy-0000']
    assert phases.phases.tolist() == ['fcc', 'bcc']
    assert phases.curves.tolist() == [[1, 0], [3, 2]]


def test_an_alloy_without_both_minima_is_undecided():
    known = alloys(0.03, -0.02, 0.01)
    del known['alloy-0001', 'bcc']
    structures, energies, _ = make_scan(known)
    curve = fit_curves(structures, energies).curve_of_row
    energies[np.flatnonzero(curve == 4)[:6]] = np.nan  # bcc of the last alloy
    curves = fit_curves(structures, energies)
    phases = equilibrium_phases(curves)
    assert phases.phases.tolist() == ['bcc', UNDECIDED, UNDECIDED]
    assert phases.decided.tolist() == [True, False, False]
    assert phases.energy_difference_ev == pytest.approx([0.03, np.nan, np.nan], nan_ok=True)
    assert phases.curves.tolist() == [[0, 1], [2, -1], [3, 4]]


def test_phases_of_different_composition_are_refused():
    fcc = make_scan({('a', 'fcc'): IRON['alloy-0001', 'fcc']}, element='Fe')
    bcc = make_scan({('a', 'bcc'): IRON['alloy-0001', 'bcc']}, element='Co')
    curves = fit_curves(StructureSet.concatenate([fcc[0], bcc[0]]), np.concatenate([fcc[1], bcc[1]]))
    with pytest.raises(AlloyError, match='phases of a have different compositions, Fe and Co'):
        equilibrium_phases(curves)


def test_identical_curves_are_without_error():
    curves = fitted(alloys(0.03, -0.02, 0.01))
    assert compare_phases(curves, curves) == {
        'n_alloys': 3,
        'n_curves': 6,
        'n_undecided': 0,
        'accuracy': 1.0,
        'confusion': {'fcc': {'fcc': 1, 'bcc': 0}, 'bcc': {'fcc': 0, 'bcc': 2}},
        'energy_difference_mae_ev': 0.0,
        'lattice_constant_mae_ang': 0.0,
        'bulk_modulus_mae_gpa': 0.0,
        'pressure_mae_gpa': 0.0,
    }


@settings(deadline=None, max_examples=20)
@given(zeros=st.lists(st.floats(-500, 500), min_size=3, max_size=3), order=st.permutations(range(6)))
def test_the_zero_of_each_alloy_and_the_order_do_not_matter(zeros, order):
    known = alloys(0.03, -0.02, 0.01)
    shift = dict(zip([f'alloy-{row:04d}' for row in range(3)], zeros, strict=True))
    items = [((name, phase), (known[name, phase][0] + shift[name], *known[name, phase][1:])) for name, phase in known]
    metrics = compare_phases(fitted(known), fitted(dict(items[row] for row in order)))
    assert metrics['accuracy'] == 1
    assert metrics['energy_difference_mae_ev'] == pytest.approx(0, abs=1e-8)
    assert metrics['lattice_constant_mae_ang'] == pytest.approx(0, abs=1e-6)
    assert metrics['pressure_mae_gpa'] == pytest.approx(0, abs=1e-3)


def test_errors_and_confusion_by_hand():
    reference = fitted(alloys(0.03, 0.01, -0.02, -0.04, -0.01))
    predicted = alloys(0.02, -0.01, -0.03, 0.01, -0.01)
    predicted['alloy-0000', 'fcc'] = (-3.48, 11.2 * 1.01**3, 190.0, 4.5)
    metrics = compare_phases(reference, fitted(predicted))
    assert metrics['confusion'] == {'fcc': {'fcc': 2, 'bcc': 1}, 'bcc': {'fcc': 1, 'bcc': 1}}
    assert metrics['accuracy'] == pytest.approx(3 / 5)
    assert metrics['energy_difference_mae_ev'] == pytest.approx((0.01 + 0.02 + 0.01 + 0.05 + 0) / 5, abs=1e-7)
    assert metrics['lattice_constant_mae_ang'] == pytest.approx(0.01 * np.cbrt(4 * 11.2) / 10, rel=1e-5)
    assert metrics['bulk_modulus_mae_gpa'] == pytest.approx(10 / 10, rel=1e-5)
    strained = 11.2 * (1 + STRAINS) ** 3
    expected = np.abs(birch_pressures(strained, 11.2, 10.0, 4.5)).mean() / 10  # pressures are proportional to B
    assert metrics['pressure_mae_gpa'] == pytest.approx(expected, rel=1e-4)


def test_alloys_of_one_scan_only_are_left_out():
    reference = alloys(0.03, -0.02, 0.01)
    predicted = alloys(0.03, -0.02, 0.01, -0.05)
    del predicted['alloy-0001', 'fcc']
    del predicted['alloy-0002', 'fcc'], predicted['alloy-0002', 'bcc']
    metrics = compare_phases(fitted(reference), fitted(predicted))
    assert (metrics['n_alloys'], metrics['n_curves'], metrics['n_undecided']) == (1, 2, 1)
    # The other way round: the engine lacks what the model has.
    metrics = compare_phases(fitted(predicted), fitted(reference))
    assert (metrics['n_alloys'], metrics['n_curves'], metrics['n_undecided']) == (1, 2, 1)
    with pytest.raises(AlloyError, match='nothing to compare'):
        compare_phases(fitted(reference), fitted(alloys(0.1, names=['another'])))


def test_cells_of_different_sizes_are_one_alloy_if_their_composition_is_the_same():
    curves = fitted(alloys(0.03, -0.02))
    whole = dataclasses.replace(curves, formulas=np.where(curves.phases == 'fcc', 'Co2Fe2', 'CoFe'))
    assert equilibrium_phases(whole).decided.all()
    other = dataclasses.replace(curves, formulas=np.where(curves.phases == 'fcc', 'Co2Fe2', 'CoFe2'))
    with pytest.raises(AlloyError, match='different compositions, Co2Fe2 and CoFe2'):
        equilibrium_phases(other)
    with pytest.raises(AlloyError, match='in the scan of the engine'):
        compare_phases(whole, dataclasses.replace(curves, formulas=np.full(len(curves), 'CoFe3')))


def test_fractions_count_atoms():
    np.testing.assert_allclose(fractions(np.array(['Al2CoCrFe3Ni', 'Ni8']), 'Al'), [0.25, 0.0])
    np.testing.assert_allclose(fractions(np.array(['Al2CoCrFe3Ni', 'Ni8']), 'Co'), [0.125, 0.0])
