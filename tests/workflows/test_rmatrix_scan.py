"""Scans of one parameter of a potential."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from aiida import orm
from aiida.engine import run_get_node
from aiida.plugins import WorkflowFactory

from aiida_nanoml.data.potentials import PotentialSetData
from aiida_nanoml.transport.potential import PotentialSet
from aiida_nanoml.transport.presets import barrier, make_potential
from aiida_nanoml.transport.rmatrix import solve

Scan = WorkflowFactory('nanoml.rmatrix_scan')
SETTINGS = {'lowest': 0.001, 'highest': 0.3, 'n_energies': 60, 'n_basis': 96}


def test_a_preset_is_scanned_and_drawn(code: orm.InstalledCode) -> None:
    widths = [2.0, 4.0, 8.0]
    outputs, node = run_get_node(Scan.get_builder_for(code, 'barrier', 'width', widths, SETTINGS, {'height': 0.2}))
    assert node.is_finished_ok, node.exit_message
    energies = outputs['transmission'].get_x()[1]
    columns = [column for _, column, _ in outputs['transmission'].get_y()]
    for width, column in zip(widths, columns, strict=True):
        expected = solve(barrier(0.2, width), energies[0], energies[-1], 96).scatter(energies)
        np.testing.assert_allclose(column, expected.transmission, atol=1e-10)
    assert set(outputs['files'].list_object_names()) == {'transmission.csv', 'resonances.csv', 'transmission.png'}
    table = outputs['files'].get_object_content('transmission.csv').splitlines()
    assert table[0] == 'energy (eV),width (nm) = 2.0,width (nm) = 4.0,width (nm) = 8.0'
    assert len(table) == 1 + len(energies)
    assert outputs['potentials'].base.attributes.get('names')[0] == 'barrier, width = 2 nm'
    assert [called.process_label for called in node.called] == [
        'vary_generated_potential',
        'RmatrixCalculation',
        'tabulate_transmissions',
    ]


def test_a_basis_that_is_too_small_is_doubled(code: orm.InstalledCode) -> None:
    potential = PotentialSetData(PotentialSet([make_potential('double_barrier', {})]))
    builder = Scan.get_builder_for(code, potential, 'bias', [0.0, 0.1], SETTINGS | {'n_basis': 11})
    outputs, node = run_get_node(builder)
    assert node.is_finished_ok, node.exit_message
    jobs = [called for called in node.called if called.process_label == 'RmatrixCalculation']
    assert [job.exit_status for job in jobs] == [511] * (len(jobs) - 1) + [0]
    assert len(jobs) > 1
    assert outputs['results'].get_dict()['settings']['n_basis'] == 11 * 2 ** (len(jobs) - 1)


def test_a_basis_that_cannot_carry_the_energies_is_doubled_first(code: orm.InstalledCode) -> None:
    outputs, node = run_get_node(Scan.get_builder_for(code, 'barrier', 'width', [4.0, 9.0], SETTINGS | {'n_basis': 2}))
    assert node.is_finished_ok, node.exit_message
    assert outputs['results'].get_dict()['settings']['n_basis'] > 2


def test_what_is_not_converged_in_the_end_is_kept(code: orm.InstalledCode) -> None:
    builder = Scan.get_builder_for(code, 'double_barrier', 'width', [4.0], SETTINGS | {'n_basis': 11})
    builder.max_jobs = orm.Int(1)
    outputs, node = run_get_node(builder)
    assert node.exit_status == Scan.exit_codes.ERROR_NOT_CONVERGED.status
    assert {'transmission', 'files'} <= set(outputs)


def test_a_job_that_fails_ends_the_scan(code: orm.InstalledCode) -> None:
    _, node = run_get_node(
        Scan.get_builder_for(code, 'barrier', 'width', [4000.0], SETTINGS | {'highest': 5000.0, 'n_basis': 20})
    )
    assert node.exit_status == Scan.exit_codes.ERROR_JOB_FAILED.status
    assert 'choose lower energies or a shorter region' in node.exit_message


@pytest.mark.parametrize(
    ('changes', 'reason'),
    [
        ({'preset': None}, 'either a preset or a potential'),
        ({'preset': 'moat'}, "no potential 'moat'"),
        ({'scan': {'parameter': 'colour', 'values': [1.0]}}, "'colour' cannot be varied"),
        ({'scan': {'parameter': 'width', 'values': []}}, 'at least one'),
        ({'scan': {'parameter': 'width', 'values': [1.0, 2.0, 1.0]}}, 'value 1.0 is in the scan twice'),
        ({'scan': {'parameter': 'width', 'values': [-1.0]}}, 'thickness of a layer is -1'),
        ({'parameters': {'depth': 1.0}}, 'unknown: depth'),
    ],
)
def test_what_cannot_be_scanned_is_refused_before(code, changes: dict[str, Any], reason: str) -> None:
    inputs = {
        'code': code,
        'preset': 'barrier',
        'scan': {'parameter': 'width', 'values': [4.0]},
        'settings': SETTINGS,
    } | changes
    with pytest.raises(ValueError, match=reason):
        run_get_node(Scan, **{name: value for name, value in inputs.items() if value is not None})
