"""The input of ABINIT, and the parameters that decide about it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from aiida_nanoml.engines.abinit.engine import AbinitEngine
from aiida_nanoml.engines.abinit.input_writing import count_levels, write_input
from aiida_nanoml.engines.abinit.parameters import AbinitParameters, functional_of
from aiida_nanoml.errors import EngineError
from aiida_nanoml.structures import Structure
from aiida_nanoml.testing.structures import BENZENE, BORAZINE, METHYL
from aiida_nanoml.units import BOHR_ANG

CHARGES = {1: 1.0, 5: 3.0, 6: 4.0, 7: 5.0, 13: 3.0, 26: 8.0}
ALUMINIUM = Structure(
    np.array([13]),
    np.zeros((1, 3)),
    cell=2.025 * np.array([[0.0, 1.0, 1.0], [1.0, 0.0, 1.0], [1.0, 1.0, 0.0]]),
    pbc=np.ones(3, dtype=bool),
)


def parameters(protocol: str = 'fast', **overrides: Any) -> AbinitParameters:
    made = AbinitEngine.parameters(protocol, overrides)
    assert isinstance(made, AbinitParameters)
    return made


def words_of(text: str) -> dict[str, list[str]]:
    """Returns the words of each variable."""
    found: dict[str, list[str]] = {}
    name = ''
    for line in text.splitlines():
        if not line.startswith(' '):
            name, *rest = line.split()
            assert name not in found, 'ABINIT takes no variable twice'
            found[name] = rest
        else:
            found[name] += line.split()
    return found


def test_an_isolated_structure_is_put_into_a_box_in_bohr() -> None:
    words = words_of(write_input(BORAZINE, parameters(vacuum_ang=10.0), CHARGES))
    cell = np.array(words['rprim'], dtype=float).reshape(3, 3) * BOHR_ANG
    positions = np.array(words['xcart'], dtype=float).reshape(12, 3) * BOHR_ANG
    np.testing.assert_allclose(cell, np.diag(np.ptp(BORAZINE.positions, axis=0) + 10.0), atol=1e-9)
    np.testing.assert_allclose(positions.min(axis=0), 5.0, atol=1e-9)
    given = BORAZINE.positions
    np.testing.assert_allclose(np.ptp(positions, axis=0), np.ptp(given, axis=0), atol=1e-9)
    assert words['pseudos'] == ['"H.psp8,', 'B.psp8,', 'N.psp8"']
    assert words['znucl'] == ['1', '5', '7']
    assert words['typat'] == ['2', '3'] * 3 + ['1'] * 6
    assert (words['kptopt'], words['nkpt'], words['kpt']) == (['0'], ['1'], ['0', '0', '0'])
    assert words['nband'] == ['21'], '15 filled levels and 6 empty ones'
    assert words['nsym'] == ['1'], 'noise in the positions must not decide about symmetry'


def test_lines_are_as_short_as_abinit_wants_them() -> None:
    big = Structure(np.full(400, 6), np.arange(1200.0).reshape(400, 3))
    text = write_input(big, parameters(spin='polarized'), CHARGES)
    assert max(map(len, text.splitlines())) <= 264
    assert len(words_of(text)['typat']) == 400


def test_spin_begins_with_moments_and_has_a_functional_that_knows_it() -> None:
    words = words_of(write_input(METHYL, parameters(spin='polarized'), CHARGES))
    assert words['nsppol'] == ['2']
    assert words['ixc'] == ['-1009'], "ABINIT's own code of Perdew and Zunger knows no spin"
    assert words['spinat'] == ['0.000000000000', '0.000000000000', '1.000000000000'] * 4
    assert words['nband'] == ['12']
    assert words_of(write_input(METHYL, parameters(), CHARGES))['ixc'] == ['2']
    iron = Structure(np.array([26]), np.zeros((1, 3)), cell=np.eye(3) * 2.8, pbc=np.ones(3, dtype=bool))
    assert words_of(write_input(iron, parameters(spin='polarized'), CHARGES))['spinat'][-1] == '3.000000000000'


def test_crystals_have_a_mesh() -> None:
    words = words_of(write_input(ALUMINIUM, parameters('metal', k_density=64.0), CHARGES))
    assert words['ngkpt'] == ['4', '4', '4']
    assert words['shiftk'] == ['0.5', '0.5', '0.5']
    assert words['kptopt'] == ['2']
    assert float(words['tsmear'][0]) == pytest.approx(1000 * 3.166811563e-6)
    assert 'diemac' not in words
    np.testing.assert_allclose(np.array(words['rprim'], dtype=float) * BOHR_ANG, ALUMINIUM.cell.ravel(), atol=1e-9)


def test_occupations_may_be_fixed_or_filled_otherwise() -> None:
    assert 'tsmear' not in (
        words := words_of(write_input(BENZENE, parameters(electronic_temperature_kelvin=0.0), CHARGES))
    )
    assert words['occopt'] == ['1']
    cold = words_of(write_input(BENZENE, parameters(extra={'occopt': '4'}), CHARGES))
    assert cold['occopt'] == ['4']


def test_further_variables_are_written_as_they_are() -> None:
    words = words_of(write_input(BENZENE, parameters(extra={'vdw_xc': '7', 'charge': '1.0'}), CHARGES))
    assert (words['vdw_xc'], words['charge']) == (['7'], ['1.0'])


@pytest.mark.parametrize(
    ('extra', 'message'),
    [
        ({'ecut': '5'}, 'another parameter stands for it'),
        ({'natom': '5'}, 'belongs to the structure'),
        ({'occopt': '3'}, 'another parameter stands for it'),
        ({'VDW_xc': '5'}, 'is no name of a variable'),
        ({'vdw_xc': '5\nnatom 3'}, 'one line of numbers and words'),
        ({'vdw_xc': ''}, 'one line of numbers and words'),
        ({'vdw_xc': '"a"'}, 'one line of numbers and words'),
    ],
)
def test_variables_that_would_contradict_a_parameter_are_refused(extra: dict[str, str], message: str) -> None:
    with pytest.raises(EngineError, match=message):
        parameters(extra=extra)


def test_one_criterion_ends_the_cycle() -> None:
    text = write_input(BENZENE, parameters(potential_residual=None, extra={'toldfe': '1e-8'}), CHARGES)
    assert 'tolvrs' not in words_of(text)
    assert words_of(text)['toldfe'] == ['1e-8']
    for extra, residual in (({}, None), ({'toldfe': '1e-8'}, 1e-8), ({'toldfe': '1e-8', 'tolwfr': '1e-8'}, None)):
        with pytest.raises(EngineError, match='give potential_residual, or leave it None'):
            parameters(extra=extra, potential_residual=residual)


def test_a_mesh_that_is_not_diagonal() -> None:
    extra = {'kptopt': '2', 'kptrlatt': '2 -2 2 -2 2 2 -2 -2 2', 'nshiftk': '1', 'shiftk': '0.5 0.5 0.5'}
    words = words_of(write_input(ALUMINIUM, parameters(extra=extra), CHARGES))
    assert words['kptrlatt'] == extra['kptrlatt'].split()
    assert 'ngkpt' not in words
    with pytest.raises(EngineError, match='k-points in extra take the place'):
        parameters('metal', extra=extra)


@pytest.mark.parametrize(
    ('ixc', 'name'),
    [
        *[
            (2, 'LDA-CA'),
            (-1009, 'LDA-CA'),
            (7, 'LDA-PW92'),
            (-1012, 'LDA-PW92'),
            (11, 'GGA-PBE'),
            (-101130, 'GGA-PBE'),
        ],
        *[(-116133, 'GGA-PBEsol'), (41, 'HYB-PBE0'), (-428, 'HYB-HSE06'), (5, 'IXC-5'), (-202231, 'LIBXC-202_231')],
    ],
)
def test_codes_of_functionals(ixc: int, name: str) -> None:
    assert functional_of(ixc) == name
    made = parameters(functional=name)
    assert functional_of(made.ixc) == name, 'the code that is written means the same'
    engine = AbinitEngine(made)
    assert (engine.functional is None) == (made.kind_and_authors[0] not in ('LDA', 'GGA'))


def test_unknown_functionals_are_refused() -> None:
    with pytest.raises(EngineError, match='functional'):
        parameters(functional='GGA-PBX')


def test_there_are_empty_levels() -> None:
    assert count_levels(2, 0) == 7
    assert count_levels(1000, 0) == 575
    assert count_levels(7, 4) == 12
