"""What a density saves SIESTA: recorded runs of a molecule from both starts."""

from __future__ import annotations

import numpy as np
import pytest
from aiida import orm
from aiida.engine import run_get_node
from aiida.engine.utils import instantiate_process

from aiida_nanoml.calculations.functions.base import INPUT_REFUSED
from aiida_nanoml.calculations.functions.starts import compare_starts, summarise_starts
from aiida_nanoml.data.densities import DensitySetData
from aiida_nanoml.engines.label_set import LabelSource
from aiida_nanoml.errors import EngineError
from aiida_nanoml.provenance.lineage import trace
from aiida_nanoml.structures import StructureSet
from aiida_nanoml.workflows.siesta_warmstart import SiestaWarmstartWorkChain
from tests.densities.recorded import recorded_density
from tests.stand_in.fixtures import recorded_runs

RUNS = recorded_runs()
SETTINGS = {'mesh_cutoff_ry': 30.0, 'vacuum_ang': 5.5}


@pytest.fixture
def warmstart(siesta_code, siesta_pseudos, methanimine_density):
    def make(**kwargs):
        given = {'code': siesta_code, 'densities': methanimine_density, 'pseudos': siesta_pseudos, **kwargs}
        return SiestaWarmstartWorkChain.get_builder_from_protocol(overrides=SETTINGS, **given)

    return make


def test_the_exact_density_saves_nine_of_eleven_iterations(warmstart, methanimine_density) -> None:
    outputs, node = run_get_node(warmstart())
    assert node.is_finished_ok, node.exit_message
    table, summary = outputs['table'], outputs['summary'].get_dict()
    counts = [RUNS[name].about['n_iterations'] for name in ('methanimine', 'methanimine-started')]
    assert counts == [11, 2]
    assert [table.get_array(f'iterations_{start}').tolist() for start in ('atoms', 'density')] == [[11], [2]]
    assert summary['iterations_saved'] == pytest.approx(9 / 11)
    assert summary['scf_s_saved'] > 0.5
    assert summary['energy_difference_max_ev'] < 1e-5
    assert table.get_array('hashes').tolist() == methanimine_density.hashes.tolist()
    assert table.get_array('names').tolist() == ['CH2NH']
    assert (table.get_array('scf_s_atoms') < table.get_array('wall_s_atoms')).all()
    runs = {called.label: called for called in node.called if called.label.startswith('structure')}
    assert sorted(runs) == ['structure 0 from atoms', 'structure 0 from density']
    assert runs['structure 0 from density'].inputs.start.uuid == methanimine_density.uuid
    assert 'start' not in runs['structure 0 from atoms'].inputs
    lineage = trace(table)
    (origin,) = (found for found in lineage.labelling if found.parameters)
    assert (origin.engine, origin.n_jobs) == ('siesta', 2)
    assert {orm.load_node(job.pk).caller.label for job in origin.jobs} == set(runs)
    assert 'nanoml.labels' not in {claim.node.type for claim in lineage.claims}


def test_an_executable_without_netcdf_is_told(warmstart, broken_siesta_code) -> None:
    code = broken_siesta_code('methanimine-start-ignored', always=True)
    outputs, node = run_get_node(warmstart(code=code))
    assert node.exit_status == SiestaWarmstartWorkChain.exit_codes.ERROR_NO_ROW_FINISHED.status
    assert 'from density' in node.exit_message
    assert 'built without NetCDF' in node.exit_message
    assert 'table' not in outputs


def test_energies_that_differ_are_an_error_with_a_table(warmstart) -> None:
    builder = warmstart()
    builder.energy_tolerance_ev = orm.Float(-1.0)
    outputs, node = run_get_node(builder)
    assert node.exit_status == SiestaWarmstartWorkChain.exit_codes.ERROR_ENERGIES_DIFFER.status
    assert 'row 0 differ by' in node.exit_message
    assert outputs['table'].get_array('rows').tolist() == [0]


def flakes(*names: str) -> DensitySetData:
    densities = [recorded_density(name) for name in names]
    structures = StructureSet.from_structures([density.structure for density in densities], names=names)
    return DensitySetData(structures, densities, LabelSource('siesta', '4.1-b4-133', 'LDA-CA/DZP (SIESTA)', 'paper'))


def test_rows_are_chosen_and_refused(warmstart, aiida_manager) -> None:
    densities = flakes('z-0000', 'z-0001').store()
    builder = warmstart(densities=densities, rows=[1])
    process = instantiate_process(aiida_manager.get_runner(), builder)
    process.setup()
    assert [(task['row'], task['start']) for task in process.ctx.waiting] == [(1, 'atoms'), (1, 'density')]
    boxed = orm.load_node(process.ctx.structures['row_0001'])
    assert boxed.cell == pytest.approx(densities.structures[1].cell)
    assert boxed.label == 'z-0001'
    for rows, reason in (
        ([2], 'row 2 does not exist: there are 2'),
        ([0, 0], 'without repetition'),
        ([], 'at least one'),
        (['0'], "row '0' does not exist"),
    ):
        builder.rows = orm.List(rows)
        with pytest.raises(ValueError, match=reason):
            instantiate_process(aiida_manager.get_runner(), builder)


def test_what_cannot_run_is_refused(warmstart, siesta_pseudos, aiida_manager) -> None:
    builder = warmstart(pseudos={element: siesta_pseudos[element] for element in 'CH'})
    with pytest.raises(ValueError, match='no pseudopotential for N'):
        instantiate_process(aiida_manager.get_runner(), builder)
    builder = warmstart()
    builder.siesta.parameters = orm.Dict(builder.siesta.parameters.get_dict() | {'spin': 'polarized'})
    with pytest.raises(ValueError, match='a run with spin cannot begin'):
        instantiate_process(aiida_manager.get_runner(), builder)
    with pytest.raises(EngineError, match='no_such'):
        SiestaWarmstartWorkChain.get_builder_from_protocol(
            builder.siesta.code, builder.densities, pseudos=siesta_pseudos, overrides={'no_such': 1}
        )


def test_a_comparison_needs_both_runs(methanimine_density, tmp_path) -> None:
    retrieved = orm.FolderData(tree=RUNS['methanimine'].unpack(tmp_path))
    _, node = compare_starts.run_get_node(densities=methanimine_density, row_0000_atoms=retrieved)
    assert node.exit_status == INPUT_REFUSED
    assert 'a run from atoms and one from density' in node.exit_message
    _, node = compare_starts.run_get_node(
        densities=methanimine_density, row_0000_atoms=retrieved, row_0000_density=orm.FolderData()
    )
    assert node.exit_status == INPUT_REFUSED
    assert 'the run of row 0 from density cannot be read' in node.exit_message


def test_the_summary() -> None:
    columns = {
        'iterations_atoms': [10, 30],
        'iterations_density': [8, 12],
        'scf_s_atoms': [1.0, 3.0],
        'scf_s_density': [0.5, 0.5],
        'wall_s_atoms': [2.0, np.nan],
        'wall_s_density': [1.0, 2.0],
        'energy_difference_ev': [1e-5, -2e-5],
    }
    assert summarise_starts(columns) == pytest.approx(
        {
            'n_structures': 2,
            'iterations_atoms': 40,
            'iterations_density': 20,
            'iterations_saved': 0.5,
            'scf_s_saved': 0.75,
            'wall_s_saved': None,
            'iterations_saved_least': 0.2,
            'energy_difference_max_ev': 2e-5,
        }
    )
