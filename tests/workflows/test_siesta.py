"""Single runs of SIESTA: real output through the stand-in, each failure to its cure or its final code."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import pytest
from aiida import orm
from aiida.engine import run_get_node
from aiida.engine.utils import instantiate_process

from aiida_nanoml.calculations.functions.siesta import node_of_structure, place_structures
from aiida_nanoml.calculations.siesta import SiestaCalculation
from aiida_nanoml.data.structures import StructureSetData
from aiida_nanoml.engines.label_set import LabelSet
from aiida_nanoml.engines.siesta.fdf import read_fdf
from aiida_nanoml.engines.siesta.fdf_recognition import read_parameters
from aiida_nanoml.structures import StructureSet
from aiida_nanoml.workflows.siesta import (
    SiestaWorkChain,
    energy_shift_ry,
    read_output,
    scf_residuals,
    shared,
    temperature_kelvin,
)
from tests.stand_in.fixtures import RecordedRun, recorded_runs

RUNS = recorded_runs()
FLAKES = recorded_runs('flake')
COARSE = {'mesh_cutoff_ry': 100.0}


@pytest.fixture
def start(siesta_code, siesta_pseudos: dict[str, orm.SinglefileData]):
    """Make a builder for the structure of a recorded run."""

    def make(run: RecordedRun, overrides: dict[str, Any] | None = None, **kwargs: Any):
        return SiestaWorkChain.get_builder_from_protocol(
            kwargs.pop('code', siesta_code),
            node_of_structure(run.structure),
            pseudos=siesta_pseudos,
            overrides=overrides,
            **kwargs,
        )

    return make


def finish(builder) -> tuple[dict[str, Any], orm.WorkChainNode]:
    outputs, node = run_get_node(builder)
    return outputs, node


def label_of(node: orm.WorkChainNode) -> LabelSet:
    return node.outputs.labels.labels


def codes(node: orm.WorkChainNode) -> list[int]:
    return [call.exit_status for call in sorted(node.called, key=lambda called: called.pk)]


def test_a_flake_gets_the_recorded_label(start) -> None:
    run = FLAKES['h-0000']
    _, node = finish(start(run))
    assert (node.exit_status, codes(node)) == (0, [0])
    labels = label_of(node)
    assert labels.energies['gap_ev'][0] == pytest.approx(run.about['gap_ev'], abs=1e-6)
    assert labels.energies['homo_ev'][0] == pytest.approx(run.about['homo_ev'], abs=1e-6)
    assert labels.messages[0] == ''
    assert labels.status[0] == 'ok'
    assert labels.source.protocol == 'paper'
    assert sorted(labels.source.pseudopotentials) == ['B', 'C', 'H', 'N']
    assert labels.vectors['levels_ev'][0].shape == (636,)
    assert labels.vectors['forces_ev_per_ang'][0].shape == (180,)
    assert labels.vectors['stress_ev_per_ang3'][0].shape == (9,)


def test_the_label_belongs_to_the_row_that_it_came_from(siesta_code, siesta_pseudos) -> None:
    """The set knows isolated flakes without a box, SIESTA needs one: the hash is the same."""
    chosen = [FLAKES['s-0010'], FLAKES['h-0010']]
    bare = StructureSet.from_structures(
        [type(run.structure)(run.structure.numbers, run.structure.positions) for run in chosen]
    )
    assert not bare.cells.any()
    placed = place_structures(StructureSetData(bare), orm.List([1, 0]), orm.Float(10.0))
    assert sorted(placed) == ['row_0000', 'row_0001']
    for row, run in enumerate(chosen):
        builder = SiestaWorkChain.get_builder_from_protocol(siesta_code, placed[f'row_{row:04d}'], siesta_pseudos)
        _, node = finish(builder)
        assert label_of(node).hashes.tolist() == [bare.hashes[row]]
        assert label_of(node).energies['gap_ev'][0] == pytest.approx(run.about['gap_ev'], abs=1e-6)


def test_a_periodic_cell_with_k_points(start, tmp_path: Path) -> None:
    run = RUNS['hea-00-fcc-0']
    settings = read_parameters(read_fdf(run.fdf)).model_dump()
    builder = start(run, settings)
    assert builder.structure.pbc == (True, True, True)
    assert builder.kpoints.get_kpoints_mesh() == ([2, 4, 4], [0.5, 0.5, 0.5])
    _, node = finish(builder)
    assert node.is_finished_ok
    energies = re.findall(r'FreeEng = +(\S+)', (run.unpack(tmp_path) / 'aiida.out').read_text())
    assert label_of(node).energies['energy_ev'][0] == pytest.approx(float(energies[-1]), abs=1e-5)
    assert label_of(node).dos_fermi()[0] == pytest.approx(9.3, abs=0.1)


def test_one_run_costs_eight_nodes_and_shares_the_rest(start) -> None:
    """A campaign of 1,000 single runs makes 8,000 nodes."""
    finish(start(FLAKES['h-0001']))
    before = orm.QueryBuilder().append(orm.Node).count()
    finish(start(FLAKES['h-0007']))
    assert orm.QueryBuilder().append(orm.Node).count() - before == 8


def test_the_basis_orbitals_become_nodes_if_asked_for(start) -> None:
    builder = start(RUNS['z-C24H12'], COARSE)
    builder.settings = orm.Dict({'additional_retrieve_list': ['*.ion.xml']})
    outputs, _ = finish(builder)
    assert list(outputs['ion_files']) == ['H']
    plain, _ = finish(start(RUNS['z-C24H12'], COARSE))
    assert 'ion_files' not in plain


CURES = [
    pytest.param(
        'scf-oscillates',
        {},
        [450, 0],
        'recovered: mixing weight 0.05, Pulay history 8',
        id='mixing with care',
    ),
    pytest.param(
        'scf-oscillates-40',
        {'max_scf_iterations': 40},
        [450, 450, 0],
        'recovered: mixing weight 0.05, Pulay history 8, electronic temperature 300 K',
        id='smearing the occupations',
    ),
    pytest.param(
        'scf-not-converged',
        COARSE | {'max_scf_iterations': 4},
        [450, 450, 0],
        'recovered: iterations 16, going on from the density matrix',
        id='going on',
    ),
    pytest.param(
        'split-norm-too-small',
        COARSE | {'split_norm': 0.001},
        [449, 0],
        'recovered: split norm 0.06579',
        id='split norm',
    ),
    pytest.param(
        'polarization',
        COARSE | {'energy_shift_ev': 1e-4},
        [448, 0],
        'recovered: energy shift 0.02 Ry',
        id='polarization',
    ),
]


@pytest.mark.parametrize(('name', 'overrides', 'expected', 'message'), CURES)
def test_a_failure_is_cured(start, name: str, overrides: dict, expected: list[int], message: str) -> None:
    _, node = finish(start(RUNS[name], overrides))
    assert codes(node) == expected
    assert node.is_finished_ok
    labels = label_of(node)
    assert (labels.status[0], labels.messages[0]) == ('ok', message)


def test_a_metal_that_does_not_converge_goes_on_at_its_temperature(start) -> None:
    _, node = finish(start(RUNS['iron-spin'], {'spin': 'polarized', 'max_scf_iterations': 5}, protocol='metal_fast'))
    assert codes(node) == [450, 0]
    labels = label_of(node)
    assert labels.messages.tolist() == ['recovered: iterations 10, going on from the density matrix']
    assert labels.numbers['magnetic_moment_bohr'][0] == pytest.approx(5.75, abs=1e-3)
    assert (labels.source.protocol, labels.source.parameters['k_density']) == ('metal_fast', 128.0)
    assert [temperature_kelvin(job.inputs.parameters.get_dict()) for job in jobs(node)] == pytest.approx([1000.0] * 2)


@pytest.mark.parametrize(
    ('given', 'expected'),
    [
        ('1000 K', 1000.0),
        ('0.1 eV', 1160.45),
        ('25 meV', 290.11),
        ('0.002 Ry', 315.78),
        ('2 keV', math.inf),
        (None, 300.0),
    ],
)
def test_the_temperature_is_read_in_any_unit(given: str | None, expected: float) -> None:
    """A hot metal must not be cooled because its temperature stands there as an energy."""
    settings = {} if given is None else {'electronic-temperature': given}
    assert temperature_kelvin(settings) == pytest.approx(expected, abs=0.01)


def test_a_relaxation_goes_on_and_gives_no_label(start) -> None:
    builder = start(RUNS['relaxation-1'], COARSE)
    builder.parameters = orm.Dict(builder.parameters.get_dict() | {'md-type-of-run': 'CG', 'md-num-cg-steps': 4})
    outputs, node = finish(builder)
    assert codes(node) == [451, 451, 451, 0]
    assert 'labels' not in outputs
    heights = [site.position[2] for site in outputs['output_structure'].sites]
    assert heights[1] - heights[0] == pytest.approx(0.79, abs=0.03)  # between experiment, 0.74 Å, and where it began


def test_more_wall_time_is_given(start) -> None:
    _, node = finish(start(RUNS['z-C24H12'], COARSE, options={'max_wallclock_seconds': 12}))
    assert codes(node) == [400, 0]
    assert label_of(node).messages.tolist() == ['recovered: wall time 24 s']
    assert [job.get_option('max_wallclock_seconds') for job in jobs(node)] == [12, 24]


def test_more_memory_is_given(start, broken_siesta_code) -> None:
    code = broken_siesta_code('out-of-memory')
    _, node = finish(start(RUNS['z-C24H12'], COARSE, code=code, options={'max_memory_kb': 2_000_000}))
    assert codes(node) == [410, 0]
    assert label_of(node).messages.tolist() == ['recovered: memory 4000000 kB']
    assert [job.get_option('max_memory_kb') for job in jobs(node)] == [2_000_000, 4_000_000]


def test_fewer_tasks_share_the_memory_of_a_machine(start, broken_siesta_code) -> None:
    code = broken_siesta_code('out-of-memory')
    resources = {'num_machines': 1, 'num_mpiprocs_per_machine': 2}
    _, node = finish(start(RUNS['z-C24H12'], COARSE, code=code, options={'resources': resources}))
    assert codes(node) == [410, 0]
    assert label_of(node).messages.tolist() == ['recovered: resources 2 machines with 1 tasks each']


def test_the_same_run_is_submitted_again_after_it_was_killed(start, broken_siesta_code) -> None:
    _, node = finish(start(RUNS['z-C24H12'], COARSE, code=broken_siesta_code('killed-in-scf')))
    assert codes(node) == [310, 0]
    assert label_of(node).messages.tolist() == ['recovered: run again after an output that ended in the middle']
    first, second = jobs(node)
    assert first.inputs.parameters.uuid == second.inputs.parameters.uuid


HOPELESS = [
    pytest.param('disk-full', {}, ['ERROR_DISK_FULL'], 'ERROR_DISK_FULL', 'the disk was full', id='disk full'),
    pytest.param('missing-pseudopotential', {}, ['ERROR_PSEUDOPOTENTIAL'], 'ERROR_RUN_REFUSED', 'N.psf', id='refused'),
    pytest.param(
        'out-of-memory', {}, ['ERROR_OUT_OF_MEMORY'], 'ERROR_MEMORY_EXHAUSTED', 'allocate error', id='no more memory'
    ),
    pytest.param(
        'walltime-soft',
        {},
        ['ERROR_WALL_TIME'] * 3,
        'ERROR_WALL_TIME_EXHAUSTED',
        'after: wall time 14400 s',
        id='no more time',
    ),
    pytest.param(
        'killed-in-scf',
        {},
        ['ERROR_OUTPUT_TRUNCATED'] * 2,
        'ERROR_MACHINE_FAILED',
        'after: run again',
        id='killed twice',
    ),
    pytest.param(
        None,
        {'mixing_weight': 0.3},
        ['ERROR_OUTPUT_MISSING'] * 2,
        'ERROR_MACHINE_FAILED',
        'no recorded run',
        id='no output',
    ),
]


@pytest.mark.parametrize(('failure', 'overrides', 'expected', 'end', 'reason'), HOPELESS)
def test_what_cannot_be_cured_ends_with_its_reason(
    start, broken_siesta_code, failure: str | None, overrides: dict, expected: list[str], end: str, reason: str
) -> None:
    kwargs = {} if failure is None else {'code': broken_siesta_code(failure, always=True)}
    _, node = finish(start(RUNS['z-C24H12'], COARSE | overrides, **kwargs))
    assert codes(node) == [SiestaCalculation.exit_codes[name].status for name in expected]
    assert node.exit_status == SiestaWorkChain.exit_codes[end].status
    assert reason in node.exit_message
    if failure is not None:
        labels = label_of(node)
        assert not labels.finished[0]
        assert labels.messages[0]


def test_no_self_consistency_after_all_cures(start) -> None:
    careful = {
        'mixing_weight': 0.05,
        'mixing_history': 8,
        'electronic_temperature_kelvin': 300.0,
        'max_scf_iterations': 10,
    }
    _, node = finish(start(RUNS['scf-hopeless'], careful))
    assert codes(node) == [SiestaCalculation.exit_codes.SCF_NOT_CONV.status]
    assert node.exit_status == SiestaWorkChain.exit_codes.ERROR_SCF_NOT_CONVERGED.status
    assert '10 iterations' in node.exit_message
    assert label_of(node).status.tolist() == ['not_converged']


def jobs(node: orm.WorkChainNode) -> list[orm.CalcJobNode]:
    return sorted(node.called, key=lambda called: called.pk)


def test_a_node_failure_is_answered_twice(start, aiida_manager) -> None:
    """Only the scheduler knows of it: the handlers see a job that ended so."""
    process = instantiate_process(aiida_manager.get_runner(), start(RUNS['z-C24H12'], COARSE))
    process.setup()
    process.prepare_inputs()
    process.ctx.children = []
    seen = []
    for iteration in range(1, 4):
        job = orm.CalcJobNode(process_type='aiida.calculations:nanoml.siesta').store()
        job.set_process_state('finished')
        job.set_exit_status(SiestaCalculation.exit_codes.ERROR_NODE_FAILURE.status)
        process.ctx.children.append(job)
        process.ctx.iteration = iteration
        process.node.base.extras.set(process._considered_handlers_extra, [[]] * iteration)
        seen.append(process.inspect_process().status)
    assert seen == [0, 0, 414]
    assert process.ctx.inputs.metadata['options']['recovery'] == 'run again after the failure of a machine'


def test_equal_inputs_are_stored_once(aiida_profile) -> None:
    first = shared(orm.Dict({'mesh-cutoff': '150 Ry', 'weight': 0.1})).store()
    assert shared(orm.Dict({'weight': 0.1, 'mesh-cutoff': '150 Ry'})).uuid == first.uuid
    assert shared(orm.Dict({'weight': 0.2, 'mesh-cutoff': '150 Ry'})).uuid != first.uuid


def test_residuals_are_those_of_the_last_cycle(tmp_path: Path) -> None:
    text = (RUNS['scf-not-converged'].unpack(tmp_path) / 'aiida.out').read_text()
    assert scf_residuals(text) == [12.464350, 8.384596, 3.147152, 2.686469]
    assert scf_residuals(text + text.replace('2.686469', '1.0'))[-1] == 1.0
    assert scf_residuals('') == []


@pytest.mark.parametrize(
    ('basis', 'expected'),
    [
        ({'pao-energy-shift': '0.0001 eV'}, 0.0001 / 13.605693),
        ({'pao-energy-shift': '5 mRy'}, 0.005),
        ({'pao-energy-shift': 0.01}, 0.01),
        ({'pao-basis-size': 'DZP'}, None),
        ({'pao-energy-shift': '1 keV'}, None),
    ],
)
def test_the_energy_shift_is_read_in_any_unit(basis: dict, expected: float | None) -> None:
    assert energy_shift_ry(basis) == pytest.approx(expected)


METHANIMINE = {'mesh_cutoff_ry': 30.0, 'vacuum_ang': 5.5}


def test_a_run_begins_with_a_density(start, methanimine_density) -> None:
    """The label is that of the run that began with free atoms, and took 11 iterations."""
    run = RUNS['methanimine']
    _, usual = finish(start(run, METHANIMINE))
    _, node = finish(start(run, METHANIMINE, start=methanimine_density))
    assert (node.exit_status, codes(node)) == (0, [0])
    for found, name in ((usual, 'methanimine'), (node, 'methanimine-started')):
        cycle = read_output(jobs(found)[0])
        assert f'SCF cycle converged after {RUNS[name].about["n_iterations"]} iterations' in cycle
    energies = [label_of(found).energies['energy_ev'][0] for found in (usual, node)]
    assert energies[1] == pytest.approx(energies[0], abs=1e-5)
    assert label_of(node).source == label_of(usual).source
    assert 'DeltaRho.IN.grid.nc' not in jobs(node)[0].base.repository.list_object_names()


def test_siesta_without_netcdf_passes_over_the_density(start, broken_siesta_code, methanimine_density) -> None:
    code = broken_siesta_code('methanimine-start-ignored', always=True)
    _, node = finish(start(RUNS['methanimine'], METHANIMINE, code=code, start=methanimine_density))
    assert codes(node) == [SiestaCalculation.exit_codes.ERROR_START.status]
    assert node.exit_status == SiestaWorkChain.exit_codes.ERROR_RUN_REFUSED.status
    assert 'built without NetCDF' in node.exit_message
    assert label_of(node).finished.tolist() == [True]
