"""Potentials by name, and with one parameter at several values."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiida_nanoml.errors import TransportError
from aiida_nanoml.transport.potential import Potential
from aiida_nanoml.transport.presets import (
    PRESETS,
    SLOPED_CELLS,
    UNITS,
    change_potential,
    double_barrier,
    layers,
    make_potential,
    preset_parameters,
    vary_potential,
    vary_preset,
)
from aiida_nanoml.transport.rmatrix import solve
from tests.transport import reference


@pytest.mark.parametrize('name', [name for name in PRESETS if name != 'layers'])
def test_every_preset_works_by_its_defaults(name: str) -> None:
    potential = make_potential(name, {})
    assert potential.name == name
    assert potential.has_one_mass
    assert set(preset_parameters(name)) <= set(UNITS), 'every parameter has a unit'


def test_layers_keep_their_thickness_and_leads_their_masses() -> None:
    potential = layers([(2.5, 0.1, 0.05), (1.25, -0.2, 0.06), (4, 0.3, 0.07)], left=0.01, right=0.02)
    starts = np.flatnonzero(np.diff(potential.values, prepend=np.nan) != 0)
    assert potential.edges[starts].tolist() == pytest.approx([0, 2.5, 3.75])
    assert potential.length == 7.75
    assert potential.values[starts].tolist() == [0.1, -0.2, 0.3]
    assert potential.leads.tolist() == [0.01, 0.02]
    assert potential.lead_masses.tolist() == [0.05, 0.07]


@given(st.lists(st.integers(1, 160), min_size=1, max_size=5))
def test_borders_of_layers_are_borders_of_cells(hundredths: list[int]) -> None:
    """Thicknesses in steps of 0.01 nm, 8 nm together, always have a common cell."""
    potential = layers([(number / 100, float(row), 0.1) for row, number in enumerate(hundredths)])
    counts = np.bincount(potential.values.astype(int))
    np.testing.assert_allclose(counts * potential.length / len(potential), np.array(hundredths) / 100, rtol=1e-12)


@given(st.lists(st.tuples(st.floats(0.01, 9), st.floats(-1, 1), st.floats(0.01, 1)), min_size=1, max_size=6))
def test_layers_without_a_common_cell_keep_their_means(sequence: list[tuple[float, float, float]]) -> None:
    thicknesses, heights, masses = np.array(sequence).T
    potential = layers(sequence)
    assert potential.length == pytest.approx(thicknesses.sum())
    assert potential.values.mean() == pytest.approx(np.average(heights, weights=thicknesses), abs=1e-9)
    assert potential.masses.mean() == pytest.approx(np.average(masses, weights=thicknesses))
    assert set(np.unique(potential.values)) >= set(heights), 'but where a layer ends, values are those of the layers'


def test_layers_without_a_common_cell_transmit_as_they_should() -> None:
    """Thirds of a nanometre, beside the same potential on cells of a thirtieth."""
    found = double_barrier(width=1 / 3, separation=7.7)
    exact = Potential(np.repeat([0.3, 0.0, 0.3], [10, 231, 10]), 251 / 30, 0.067, 0.0, 0.0)
    energies = np.linspace(0.01, 0.5, 99)
    assert found.has_one_mass
    ours = solve(found, 0.01, 0.5).scatter(energies).transmission
    np.testing.assert_allclose(ours, reference.transmission(exact, energies), atol=1e-7)


def test_a_bias_is_a_fine_staircase_down_to_the_right_lead() -> None:
    potential = make_potential('double_barrier', {'bias': 0.2})
    assert potential.leads.tolist() == pytest.approx([0, -0.2])
    assert len(potential) >= SLOPED_CELLS
    flat = double_barrier()
    middle = np.searchsorted(potential.edges, flat.length / 2) - 1
    assert potential.values[middle] == pytest.approx(-0.1, abs=1e-4)


def test_changes_of_a_given_potential() -> None:
    potential = double_barrier()
    assert set(change_potential(potential, 'mass', 0.1).masses) == {0.1}
    assert change_potential(potential, 'scale', 2).values.max() == pytest.approx(0.6)
    assert change_potential(potential, 'bias', 0.1).right == pytest.approx(-0.1)
    found = vary_potential(potential.changed(name='diode'), 'scale', [0.5, 1.0])
    assert found.names == ['diode, scale = 0.5', 'diode, scale = 1']
    assert vary_preset('barrier', {}, 'height', [0.1, 0.2]).names[1] == 'barrier, height = 0.2 eV'


@pytest.mark.parametrize(
    ('name', 'parameters', 'reason'),
    [
        ('moat', {}, "no potential 'moat'"),
        ('barrier', {'depth': 1}, 'unknown: depth'),
        ('layers', {}, 'missing: sequence'),
        ('layers', {'sequence': []}, 'rows of three'),
        ('layers', {'sequence': [[1, 2]]}, 'rows of three'),
        ('layers', {'sequence': 5}, 'cannot be made'),
        ('layers', {'sequence': [[1, 'high', 0.1]]}, 'must be numbers'),
        ('barrier', {'width': 0}, 'thickness of a layer is 0'),
        ('barrier', {'width': float('nan')}, 'thickness of a layer is nan'),
        ('barrier', {'width': 'wide'}, 'must be numbers'),
        ('barrier', {'height': float('inf')}, 'potential of a layer is inf'),
        ('barrier', {'mass': -1}, 'effective mass of a layer is -1'),
        ('barrier', {'bias': 'much'}, 'must be numbers'),
    ],
)
def test_what_cannot_be_made_is_refused(name: str, parameters: dict, reason: str) -> None:
    with pytest.raises(TransportError, match=reason):
        make_potential(name, parameters)


def test_what_cannot_be_varied_is_refused() -> None:
    with pytest.raises(TransportError, match="'sequence' cannot be varied"):
        vary_preset('layers', {}, 'sequence', [1.0])
    with pytest.raises(TransportError, match='no parameter'):
        vary_potential(double_barrier(), 'width', [1.0])
    with pytest.raises(TransportError, match='must be numbers'):
        vary_potential(double_barrier(), 'bias', ['some'])  # type: ignore[list-item]
