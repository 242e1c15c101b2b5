"""Transmissions as calculation jobs, with the real worker, and the functions that make potentials."""

from __future__ import annotations

import io
import json
from typing import Any

import numpy as np
import pytest
from aiida import orm
from aiida.engine import run_get_node
from aiida.manage.caching import enable_caching
from aiida.plugins import CalculationFactory

from aiida_nanoml.calculations.functions.base import INPUT_REFUSED
from aiida_nanoml.calculations.functions.potentials import (
    generate_potential,
    import_potential,
    vary_generated_potential,
    vary_given_potential,
)
from aiida_nanoml.data.potentials import PotentialSetData
from aiida_nanoml.provenance.lineage import trace
from aiida_nanoml.transport.files import EXAMPLE, read_input
from aiida_nanoml.transport.potential import PotentialSet
from aiida_nanoml.transport.presets import make_potential
from aiida_nanoml.transport.rmatrix import solve

Rmatrix = CalculationFactory('nanoml.rmatrix')
SETTINGS = {'lowest': 0.001, 'highest': 0.4, 'n_energies': 200, 'n_basis': 128}


@pytest.fixture
def potentials_node(aiida_profile) -> PotentialSetData:
    made = [make_potential('barrier', {}), make_potential('double_barrier', {})]
    return PotentialSetData(PotentialSet(made)).store()


@pytest.fixture
def inputs(code: orm.InstalledCode, potentials_node: PotentialSetData) -> dict[str, Any]:
    return {'code': code, 'potentials': potentials_node, 'settings': orm.Dict(SETTINGS)}


def test_many_potentials_in_one_job_and_from_the_cache(inputs: dict[str, Any], potentials_node) -> None:
    outputs, node = run_get_node(Rmatrix, **inputs)
    assert node.is_finished_ok, node.exit_message
    _, energies, unit = outputs['transmission'].get_x()
    assert unit == 'eV'
    assert len(energies) == SETTINGS['n_energies']
    for potential, (_, column, _) in zip(potentials_node.potentials, outputs['transmission'].get_y(), strict=True):
        found = solve(potential, energies[0], energies[-1], SETTINGS['n_basis']).scatter(energies)
        np.testing.assert_allclose(column, found.transmission, atol=1e-12)
    resonances = outputs['resonances'].arrays
    narrowest = resonances['widths'].argmin()
    assert resonances['rows'][narrowest] == 1, 'the double barrier'
    assert outputs['scattering'].get_array('s_matrix').shape == (2, len(energies), 2, 2)
    results = outputs['results'].get_dict()
    assert results['largest_unitarity_defect'] < 1e-12
    assert 0 < results['largest_truncation_error'] < 1e-4
    assert results['settings']['n_basis'] == SETTINGS['n_basis']
    assert 'results.npz' not in outputs['retrieved'].list_object_names(), 'results are kept once'
    assert 'potentials.npz' not in node.base.repository.list_object_names(), 'the graph holds the input'
    with enable_caching(identifier='aiida.calculations:nanoml.rmatrix'):
        again, second = run_get_node(Rmatrix, **inputs)
    assert second.base.caching.get_cache_source() == node.uuid
    assert again['transmission'].base.caching.get_hash() == outputs['transmission'].base.caching.get_hash()


def test_a_transmission_leads_back_to_what_its_potential_was_made_of(code: orm.InstalledCode) -> None:
    potentials = generate_potential(orm.Str('barrier'), orm.Dict({'height': 0.2}))
    outputs, job = run_get_node(Rmatrix, code=code, potentials=potentials, settings=SETTINGS)
    lineage = trace(outputs['transmission'])
    assert [step.pk for step in lineage.transmission_jobs] == [job.pk]
    [origin] = lineage.potentials
    assert (origin.node.pk, origin.function) == (potentials.pk, 'generate_potential')
    assert origin.inputs == {'preset': 'barrier', 'parameters': {'height': 0.2}}
    lines = lineage.render().splitlines()
    assert [len(line) - len(line.lstrip()) for line in lines[:4]] == [0, 2, 4, 0]
    assert lineage.dft.startswith('this transmission has no provenance to DFT')
    assert "made by generate_potential: parameters {'height': 0.2}, preset barrier" in lines[2]
    assert json.dumps(lineage.to_dict())


def test_a_basis_that_is_too_small_is_told_and_what_was_computed_is_kept(inputs: dict[str, Any]) -> None:
    outputs, node = run_get_node(Rmatrix, **(inputs | {'settings': orm.Dict(SETTINGS | {'n_basis': 13})}))
    assert node.exit_status == Rmatrix.exit_codes.ERROR_NOT_CONVERGED.status
    assert 'double_barrier' in node.exit_message
    assert '13 cosines' in node.exit_message
    assert {'transmission', 'scattering', 'resonances', 'results'} <= set(outputs)


def test_a_basis_that_cannot_carry_the_energies_ends_the_job(inputs: dict[str, Any]) -> None:
    _, node = run_get_node(Rmatrix, **(inputs | {'settings': orm.Dict(SETTINGS | {'highest': 900.0})}))
    assert node.exit_status == Rmatrix.exit_codes.ERROR_INPUT_REFUSED.status
    assert 'take at least' in node.exit_message


@pytest.mark.parametrize(
    ('settings', 'reason'),
    [
        ({'highest': 0.1}, 'missing: lowest'),
        ({'lowest': 0.2, 'highest': 0.1}, 'must be below'),
        ({'lowest': float('nan'), 'highest': 0.1}, 'lowest energy is nan'),
        ({'lowest': 0.0, 'highest': 0.1, 'n_basis': 0.5}, 'n_basis is 0.5'),
        ({'lowest': 0.0, 'highest': 0.1, 'unit': 'Ry'}, 'unknown: unit'),
    ],
)
def test_settings_that_cannot_be_used_are_refused_before(inputs, settings: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        run_get_node(Rmatrix, **(inputs | {'settings': settings}))


def test_a_potential_of_a_file_comes_with_its_settings(aiida_profile) -> None:
    made = import_potential(orm.SinglefileData(EXAMPLE))
    expected = read_input(EXAMPLE)
    assert made['potentials'].potentials[0].name == 'barrier'
    np.testing.assert_array_equal(made['potentials'].potentials[0].values, expected.values)
    assert made['settings'].get_dict() == {'lowest': 0.0003, 'highest': 0.3, 'n_energies': 1000, 'n_basis': 512}


def test_a_file_that_cannot_be_read_names_the_line(aiida_profile) -> None:
    content = EXAMPLE.read_bytes().replace(b'Nb 512', b'Nb many')
    _, node = import_potential.run_get_node(orm.SinglefileData(io.BytesIO(content), filename='barrier.txt'))
    assert node.exit_status == INPUT_REFUSED
    assert "barrier.txt, line 3: Nb is 'many'" in node.exit_message


def test_potentials_by_name_and_scans_of_them(aiida_profile) -> None:
    barrier = generate_potential(orm.Str('barrier'), orm.Dict({'height': 0.2}))
    assert barrier.n_potentials == 1
    assert set(barrier.potentials[0].values) == {0.2}
    scan = orm.Dict({'parameter': 'width', 'values': [2.0, 4.0]})
    widths = vary_generated_potential(orm.Str('barrier'), orm.Dict({'height': 0.2}), scan)
    assert [potential.length for potential in widths.potentials] == [2.0, 4.0]
    assert widths.base.attributes.get('names') == ['barrier, width = 2 nm', 'barrier, width = 4 nm']
    biased = vary_given_potential(barrier, orm.Dict({'parameter': 'bias', 'values': [0.0, 0.3]}))
    assert [potential.right for potential in biased.potentials] == pytest.approx([0.0, -0.3])
    _, node = vary_given_potential.run_get_node(widths, scan)
    assert (node.exit_status, 'has 2' in node.exit_message) == (500, True)
    _, node = generate_potential.run_get_node(orm.Str('barrier'), orm.Dict({'heigth': 0.2}))
    assert 'unknown: heigth' in node.exit_message
