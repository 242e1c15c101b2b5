"""Lattice scans of alloys: an embedded potential for what happens, recorded runs of SIESTA for what it means."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from aiida import orm
from aiida.engine import run_get_node
from aiida.plugins import WorkflowFactory

from aiida_nanoml.alloys import fit_birch_murnaghan
from aiida_nanoml.calculations.functions.alloys import curves_of
from aiida_nanoml.calculations.pseudopotentials import install_family
from aiida_nanoml.data.structures import StructureSetData
from aiida_nanoml.errors import EngineError, StructureError
from aiida_nanoml.structures import StructureSet, name_alloys
from tests.stand_in.fixtures import recorded_runs

AlloyScanWorkChain = WorkflowFactory('nanoml.alloy_scan')
ALLOYS = {'elements': ['Al', 'Cu', 'Ni'], 'n_atoms': 8, 'count': 3, 'seed': 1}
GPA = 160.21766208


def make_builder(code: orm.InstalledCode, scan: dict[str, Any] | None = None, **inputs: Any) -> Any:
    overrides = {'scan': scan} if scan else {}
    given = {'alloys': ALLOYS, 'engine': 'ase', 'protocol': 'fast'} | inputs
    overrides |= given.pop('overrides', {})
    return AlloyScanWorkChain.get_builder_from_protocol(code, overrides=overrides, **given)


def called(node: orm.WorkChainNode, label: str) -> list[orm.ProcessNode]:
    return [child for child in node.called_descendants if child.process_label == label]


def phases_counted(phases: orm.ArrayData) -> dict[str, int]:
    found = phases.get_array('phases').tolist()
    return {phase: found.count(phase) for phase in sorted(set(found))}


def test_scans_give_curves_phases_and_cohesion_with_provenance(code: orm.InstalledCode) -> None:
    outputs, node = run_get_node(make_builder(code))
    assert node.is_finished_ok, node.exit_message
    curves, scan = curves_of(outputs['curves']), outputs['structures'].structures
    assert len(curves) == 6
    assert set(curves.status.tolist()) == {'ok'}
    labels = outputs['labels'].labels
    energies = labels.energies['energy_ev'][[labels.hashes.tolist().index(value) for value in scan.hashes]]
    rows = np.flatnonzero(curves.curve_of_row == 3)
    volumes = np.abs(np.linalg.det(scan.cells[rows])) / 8
    fit = fit_birch_murnaghan(volumes, energies[rows] / 8)
    assert curves.volume_ang3[3] == pytest.approx(fit.volume_ang3)

    phases = outputs['phases']
    lower = np.array([curves.energy_ev[pair].argmin() for pair in phases.get_array('curves')])
    assert phases.get_array('phases').tolist() == np.array(['fcc', 'bcc'])[lower].tolist()
    assert outputs['summary']['phases'] == phases_counted(phases)

    atoms = outputs['atoms'].labels
    one = dict(zip(atoms.hashes.tolist(), atoms.energies['energy_ev'].tolist(), strict=True))
    assert len(one) == 3
    points = outputs['points']
    assert (points.get_array('cohesive_energy_ev') > 2.0).all()
    np.testing.assert_allclose(
        outputs['curves'].get_array('cohesive_energy_ev')[curves.curve_of_row] + curves.energy_ev[curves.curve_of_row],
        points.get_array('cohesive_energy_ev') + points.get_array('energy_ev'),
    )
    # The potential's own stress is the slope of its energy.
    np.testing.assert_allclose(points.get_array('pressure_gpa'), points.get_array('stress_pressure_gpa'), atol=1.5)

    ancestors = orm.QueryBuilder().append(orm.ArrayData, filters={'uuid': phases.uuid}, tag='end')
    ancestors.append(orm.CalcJobNode, with_descendants='end', project='process_type')
    assert len(ancestors.all()) >= 2, 'of the points and of the atoms, which another scan may have labelled'
    assert called(node, 'LabelCalculation')


def test_one_sided_scans_go_on_until_they_hold_the_minimum(code: orm.InstalledCode) -> None:
    short = make_builder(code, {'factors': [0.9, 0.92, 0.94, 0.96]}, overrides={'max_extensions': 0, 'cohesive': False})
    outputs, node = run_get_node(short)
    assert node.exit_status == AlloyScanWorkChain.exit_codes.ERROR_NO_CURVE.status
    assert 'the energy still falls at the largest volume' in node.exit_message
    assert set(curves_of(outputs['curves']).status.tolist()) == {'minimum_above'}
    assert np.isnan(curves_of(outputs['curves']).energy_ev).all(), 'nothing is extrapolated'

    long = make_builder(code, {'factors': [0.9, 0.92, 0.94, 0.96]}, overrides={'max_extensions': 4, 'cohesive': False})
    outputs, node = run_get_node(long)
    assert node.is_finished_ok, node.exit_message
    curves = curves_of(outputs['curves'])
    assert set(curves.status.tolist()) == {'ok'}
    assert (curves.n_points > 4).all()
    scan = outputs['structures'].structures
    constants = outputs['points'].get_array('lattice_constant_ang')
    assert len(set(scan.hashes.tolist())) == len(scan)
    assert (curves.lattice_constant_ang < [constants[curves.curve_of_row == row].max() for row in range(6)]).all()
    whole, _ = run_get_node(make_builder(code, overrides={'cohesive': False}))
    np.testing.assert_allclose(curves.lattice_constant_ang, curves_of(whole['curves']).lattice_constant_ang, atol=0.02)


def test_points_that_fail_do_not_disturb_the_others(code: orm.InstalledCode) -> None:
    """At 0.55 times the lattice constant atoms are refused as too close: the curve keeps its other points."""
    factors = [0.55, 0.96, 0.98, 1.0, 1.02, 1.04]
    outputs, node = run_get_node(make_builder(code, {'factors': factors}, overrides={'cohesive': False}))
    assert node.is_finished_ok, node.exit_message
    assert outputs['summary']['failures'] == {'atoms_too_close': 6}
    curves = curves_of(outputs['curves'])
    assert curves.n_missing.tolist() == [1] * 6
    assert curves.n_points.tolist() == [5] * 6
    assert set(curves.status.tolist()) == {'ok'}


def test_too_few_points_are_told_and_kept(code: orm.InstalledCode) -> None:
    factors = [0.98, 1.0, 1.02]
    outputs, node = run_get_node(make_builder(code, {'factors': factors}, overrides={'cohesive': False}))
    assert node.exit_status == AlloyScanWorkChain.exit_codes.ERROR_NO_CURVE.status
    assert '3 of 3 points have an energy, 4 are needed' in node.exit_message
    assert outputs['labels'].base.attributes.get('n_finished') == 18
    assert np.isfinite(outputs['points'].get_array('energy_ev')).all()


def test_isolated_atoms_are_computed_once(code: orm.InstalledCode) -> None:
    first, _ = run_get_node(make_builder(code))
    other = ALLOYS | {'elements': ['Cu', 'Ni'], 'seed': 2}
    outputs, node = run_get_node(make_builder(code, alloys=other))
    assert node.is_finished_ok, node.exit_message
    assert len(called(node, 'LabelCalculation')) == 1, 'of the points only'
    known = first['atoms'].labels
    assert set(outputs['atoms'].labels.hashes.tolist()) <= set(known.hashes.tolist())


def test_an_element_without_parameters_is_named(code: orm.InstalledCode) -> None:
    outputs, node = run_get_node(make_builder(code, alloys=ALLOYS | {'elements': ['Al', 'Cr', 'Ni']}))
    assert node.exit_status in (0, AlloyScanWorkChain.exit_codes.ERROR_NO_CURVE.status)
    assert outputs['labels'].base.attributes.get('failures')['unsupported_element'] > 0
    assert 'atoms' not in outputs
    assert any('there are no cohesive energies' in entry.message for entry in orm.Log.collection.get_logs_for(node))


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'alloys': None}, 'give either alloys to generate or cells'),
        (
            {'scan': {'lattice_constants': {'fcc': [3.4, 3.5, 3.6, 3.7]}}},
            "no list of lattice constants of the phase 'bcc'",
        ),
        ({'scan': {'factors': [0.9, -1.0]}}, 'must be positive numbers'),
        ({'scan': {'factors': ['a', 1.0]}}, 'must be'),
        ({'scan': {'lattice_constants': {'fcc': [3.5, None], 'bcc': [2.8]}}}, 'must be'),
        ({'scan': {'steps': 3}}, 'a scan is given by'),
    ],
)
def test_scans_that_cannot_be_made_are_refused(code: orm.InstalledCode, change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run_get_node(make_builder(code, **change))


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'phases': ['fcc', 'hcp']}, 'hcp'),
        ({'composition': {'Al': 0.3, 'Cu': 0.3, 'Ni': 0.4}}, '8 atoms'),
        ({'n_atoms': 9}, 'n_atoms'),
        ({'elements': ['Al', 'Xx']}, 'Xx'),
    ],
)
def test_alloys_that_cannot_be_generated_are_refused(code: orm.InstalledCode, change: dict, message: str) -> None:
    with pytest.raises(StructureError, match=message):
        make_builder(code, alloys=ALLOYS | change)


def test_an_element_without_pseudopotential_is_refused(code, siesta_code) -> None:
    install_family()
    with pytest.raises(EngineError, match='Ti'):
        AlloyScanWorkChain.get_builder_from_protocol(
            code, alloys=ALLOYS | {'elements': ['Ni', 'Ti']}, engine='siesta', engine_code=siesta_code
        )


def test_recorded_scans_of_siesta_give_their_phases(code: orm.InstalledCode, siesta_code: orm.InstalledCode) -> None:
    """Two alloys, both phases, five lattice constants each; the isolated atoms with the same protocol."""
    install_family()
    runs = {name: run for name, run in recorded_runs('alloy').items() if name.startswith('hea-')}
    assert len(runs) == 20
    named = name_alloys(StructureSet.from_structures([run.structure for run in runs.values()]))
    cells = named.select(np.unique(np.char.add(named.names, named.families), return_index=True)[1])
    constants = {
        'fcc': [3.3, 3.3875, 3.475, 3.5625, 3.65],
        'bcc': [2.62, 2.69, 2.76, 2.83, 2.9],
    }
    builder = AlloyScanWorkChain.get_builder_from_protocol(
        code,
        cells=StructureSetData(cells),
        engine='siesta',
        protocol='paper_alloys',
        engine_code=siesta_code,
        overrides={'scan': {'lattice_constants': constants}, 'label': {'batch_size': 10}},
    )
    outputs, node = run_get_node(builder)
    assert node.is_finished_ok, node.exit_message
    assert outputs['summary']['n_points'] == 20
    labels, scan = outputs['labels'].labels, outputs['structures'].structures
    totals = dict(zip(labels.hashes.tolist(), labels.energies['energy_ev'].tolist(), strict=True))
    recorded = {StructureSet.from_structures([run.structure]).hashes[0]: run for run in runs.values()}
    assert set(scan.hashes.tolist()) == set(recorded)
    for identity, run in recorded.items():
        # The recorded number is the total energy, a label has the free energy at 1,000 K.
        assert totals[identity] == pytest.approx(run.about['energy_ev'], abs=0.5)

    phases = outputs['phases']
    assert phases.get_array('phases').tolist() == ['fcc', 'fcc']
    assert (phases.get_array('energy_difference_ev') < 0).all()
    curves = curves_of(outputs['curves'])
    assert set(curves.status.tolist()) <= {'ok', 'poor_fit'}
    fcc = curves.phases == 'fcc'
    assert ((curves.lattice_constant_ang[fcc] > 3.4) & (curves.lattice_constant_ang[fcc] < 3.6)).all()
    assert ((curves.lattice_constant_ang[~fcc] > 2.7) & (curves.lattice_constant_ang[~fcc] < 2.85)).all()
    assert ((curves.bulk_modulus_gpa > 100) & (curves.bulk_modulus_gpa < 350)).all()
    assert (outputs['curves'].get_array('cohesive_energy_ev') > 3).all()
    assert (outputs['curves'].get_array('dos_fermi_per_ev') > 0.3).all()
    points = outputs['points']
    difference = points.get_array('pressure_gpa') - points.get_array('stress_pressure_gpa')
    assert np.abs(difference).mean() < 15, 'two ways to one pressure, on a coarse mesh'
