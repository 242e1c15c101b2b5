"""Constants, against those of scipy, which come from another table."""

from __future__ import annotations

import pytest
from scipy import constants

from aiida_nanoml import units


@pytest.mark.parametrize(
    ('name', 'expected', 'tolerance'),
    [
        ('BOHR_ANG', constants.value('Bohr radius') * 1e10, 2e-9),
        ('HARTREE_EV', constants.value('Hartree energy in eV'), 1e-11),
        ('RYDBERG_EV', constants.value('Rydberg constant times hc in eV'), 1e-11),
        ('BOLTZMANN_EV_PER_K', constants.k / constants.e, 1e-10),
        ('BOLTZMANN_HARTREE_PER_K', constants.value('kelvin-hartree relationship'), 1e-9),
        ('HBAR_EV_S', constants.hbar / constants.e, 1e-15),
        ('HBAR2_OVER_2M0_EV_NM2', constants.hbar**2 / (2 * constants.m_e) / constants.e * 1e18, 2e-9),
        ('COULOMB_EV_ANG', constants.e / (4e-10 * constants.pi * constants.epsilon_0), 1e-7),
        ('GPA_PER_EV_PER_ANG3', constants.e * 1e21, 1e-8),
        # Rounded by the programs that they belong to.
        ('SIESTA_BOHR_ANG', constants.value('Bohr radius') * 1e10, 1e-6),
        ('SIESTA_RYDBERG_EV', constants.value('Rydberg constant times hc in eV'), 1e-5),
        ('TBLITE_BOLTZMANN_HARTREE_PER_K', constants.value('kelvin-hartree relationship'), 1e-6),
    ],
)
def test_constant(name, expected, tolerance):
    assert getattr(units, name) == pytest.approx(expected, rel=tolerance)


def test_every_constant_is_compared():
    (mark,) = test_constant.pytestmark
    compared = {case[0] for case in mark.args[1]}
    assert compared == {name for name in vars(units) if name.isupper()}
