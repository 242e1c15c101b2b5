"""``aiida-nanoml density``."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from aiida import orm

from aiida_nanoml.actions import density_warmstart
from aiida_nanoml.actions.registry import action_class
from aiida_nanoml.data.densities import DensitySetData
from aiida_nanoml.data.structures import StructureSetData
from aiida_nanoml.engines import get_engine
from aiida_nanoml.engines.label_set import LabelSource
from aiida_nanoml.engines.siesta.mesh import choose_mesh, read_mesh
from aiida_nanoml.structures import Structure, StructureSet
from aiida_nanoml.workflows.siesta_warmstart import SiestaWarmstartWorkChain, run_parameters
from tests.densities.recorded import recorded_density

SOURCE = LabelSource('siesta', '4.1-b4-133', 'LDA-CA/DZP (SIESTA)', 'paper', {'mesh_cutoff_ry': 60.0})
QUICK = ('--set', 'spacing_ang=0.25', '--set', 'epochs=4', '--set', 'points_per_epoch=4096', '--set', 'copies=2')


def densities_of(*names: str, label: str = '', model: str | None = None, scale: float = 1.0) -> DensitySetData:
    found = [recorded_density(name) for name in names]
    structures = StructureSet.from_structures([density.structure for density in found], names=names)
    scaled = [type(density)(density.structure, density.free, scale * density.difference) for density in found]
    return DensitySetData(structures, scaled, SOURCE, model, label=label).store()


def test_from_densities_to_a_prediction_and_its_pictures(cli, cli_json, code, tmp_path: Path) -> None:
    densities_of('z-0000', label='known')
    unseen = densities_of('z-0001', label='unseen')
    trained = cli_json('density', 'train', 'known', '--test', 'unseen', '--group', 'C4v', *QUICK, '--name', 'dense')
    assert trained['parameters']['group'] == 'C4v'
    assert trained['metrics']['test']['nmae'] < trained['metrics']['test']['nmae_free']
    assert orm.load_node(trained['process']).outputs.model.uuid == trained['uuid']

    shown = cli('density', 'show', 'dense').stdout
    assert 'C4v,' in shown
    assert 'free weights in place of' in shown
    assert f'{100 * trained["metrics"]["test"]["nmae_free"]:.3f} %' in shown
    drawn = cli_json('density', 'plot', 'dense', '-o', tmp_path / 'errors.png')
    assert (drawn['drawn'], drawn['n_rows']) == ('errors', 2)

    judged = cli_json('density', 'predict', 'dense', 'unseen', '--name', 'judged')
    assert judged['model'] == trained['uuid']
    assert judged['rows']['nmae'] == [pytest.approx(trained['metrics']['test']['nmae'], rel=1e-3)]
    text = cli('density', 'plot', 'judged', '-o', tmp_path / 'maps.svg').stdout
    assert 'error' in text
    assert 'Predicted difference' in (tmp_path / 'maps.svg').read_text()

    alone = [Structure(structure.numbers, structure.positions) for structure in unseen.structures]
    StructureSetData(StructureSet.from_structures(alone, unseen.structures.names), label='flakes').store()
    printed = cli('density', 'predict', 'dense', 'flakes', '--name', 'predicted').stdout
    assert 'predicted by model' in printed
    assert 'learnt from LDA-CA/DZP (SIESTA) 4.1-b4-133, protocol paper' in printed
    assert printed.endswith('next: aiida-nanoml density plot predicted --row 0 -o maps.png\n')
    assert cli_json('density', 'plot', 'predicted', '-o', tmp_path / 'alone.png')['drawn'] == 'density'
    compared = cli_json('density', 'plot', 'predicted', '--against', 'unseen', '-o', tmp_path / 'later.png')
    assert compared['nmae'] == pytest.approx(judged['rows']['nmae'][0], rel=0.05)


def test_densities_are_listed(cli, cli_json, aiida_profile) -> None:
    densities_of('z-0000', 'h-0000', label='listed')
    found = cli_json('density', 'show', 'listed')
    assert found['names'] == ['z-0000', 'h-0000']
    assert (found['kind'], found['model_fingerprint']) == ('computed', None)
    assert found['meshes'] == [list(recorded_density(name).shape) for name in ('z-0000', 'h-0000')]
    text = cli('density', 'show', 'listed').stdout
    assert 'LDA-CA/DZP (SIESTA) 4.1-b4-133, protocol paper' in text
    assert f'{found["electrons"][1]:.3f}' in text


def test_a_prediction_is_drawn_against_what_became_known(cli, cli_json, aiida_profile, tmp_path: Path) -> None:
    """A prediction of half the difference has half the error of the free atoms."""
    known = densities_of('z-0001', 'z-0000', label='became-known')
    densities_of('z-0000', label='half', model='ab' * 32, scale=0.5)
    output = tmp_path / 'maps.svg'
    drawn = cli_json('density', 'plot', 'half', '--against', 'became-known', '-o', output)
    assert drawn['nmae'] == pytest.approx(drawn['nmae_free'] / 2, rel=1e-4)
    assert drawn['nmae_free'] == pytest.approx(recorded_density('z-0000').nmae(0.0), rel=1e-6)
    assert 'predicted by model abababababab, learnt from LDA-CA/DZP (SIESTA)' in output.read_text()

    again = ('density', 'plot', 'half', '-o', output)
    assert 'exists already' in cli(*again, status=1).stderr
    assert 'counted from 0' in cli(*again, '--force', '--row', 1, status=2).stderr
    assert (
        '--against takes densities of an engine'
        in cli(*again, '--force', '--against', densities_of('z-0000', model='cd' * 32).uuid, status=1).stderr
    )
    other = densities_of('h-0000')
    assert 'has no density of z-0000' in cli(*again, '--force', '--against', other.uuid, status=1).stderr
    assert known.n_densities == 2


def test_export_to_other_programs(cli_json, cli, aiida_profile, tmp_path: Path) -> None:
    from ase.io.cube import read_cube
    from ase.units import Bohr

    densities_of('z-0001', 'z-0000', label='exported')
    density = recorded_density('z-0000')
    cube, start = tmp_path / 'flake.cube', tmp_path / 'DeltaRho.IN.grid.nc'
    made = cli_json('density', 'export', 'exported', '--row', 1, '--quantity', 'difference', '-o', cube)
    assert made['electrons'] == pytest.approx(0, abs=0.02)
    with cube.open() as file:
        assert read_cube(file)['data'] / Bohr**3 == pytest.approx(density.difference, rel=1e-4, abs=1e-6)
    cli('density', 'export', 'exported', '--row', 1, '-o', start)
    mesh = read_mesh(start.read_bytes(), start.name)
    assert mesh.values.shape[1:] == choose_mesh(density.structure.cell, 60.0)
    np.testing.assert_allclose(mesh.cell, density.structure.cell, atol=1e-4)
    cli('density', 'export', 'exported', '--row', 1, '--mesh-cutoff', 20, '-o', start, '--force')
    assert read_mesh(start.read_bytes(), start.name).values.shape[1:] == choose_mesh(density.structure.cell, 20.0)
    for arguments, reason in (
        (('-o', tmp_path / 'flake.txt'), 'ends neither with .cube nor with .nc'),
        (('-o', tmp_path / 'other.cube', '--mesh-cutoff', 20), 'goes with a .nc file'),
        (('-o', tmp_path / 'flake.nc', '--quantity', 'total'), 'leave out --quantity'),
    ):
        assert reason in cli('density', 'export', 'exported', *arguments, status=2).stderr
    assert not (tmp_path / 'other.cube').exists()


def test_what_a_density_saves_is_told(cli, siesta_code, siesta_pseudos, methanimine_density) -> None:
    cli('pseudos', 'install')
    ask = ('density', 'warmstart', methanimine_density.uuid, '--code', siesta_code.full_label, '--rows', 0)
    text = cli(*ask, '--name', 'saved').stdout
    assert '11 from free atoms, 2 from the densities: 82 % saved' in text
    process = orm.load_node(label='saved')
    assert process.process_label == 'SiestaWarmstartWorkChain'
    found = density_warmstart.DensityWarmstartResult(process).to_dict()
    assert (found['rows']['iterations_atoms'], found['rows']['iterations_density']) == ([11], [2])
    assert found['summary'] == process.outputs.summary.get_dict()


@pytest.mark.skipif(get_engine('pyscf').missing() is not None, reason='PySCF is not installed')
def test_one_command_from_structures_to_judged_predictions(cli_json, code) -> None:
    def molecules(*lengths: float) -> str:
        pairs = [Structure(np.array([7, 7]), np.array([[0.0, 0, 0], [length, 0, 0]])) for length in lengths]
        return StructureSetData(StructureSet.from_structures(pairs)).store().uuid

    mesh = ('--engine', 'pyscf', '--protocol', 'fast', '--mesh-spacing', 0.25)
    made = cli_json('density', 'run', molecules(1.1, 1.2), '--unseen', molecules(1.15), *mesh, *QUICK, '--name', 'n2')
    assert made['metrics']['unseen']['nmae'] < made['metrics']['unseen']['nmae_free']
    assert orm.load_node(made['predictions']['unseen']).label == 'n2-unseen'
    assert orm.load_node(made['process']).outputs.model.label == 'n2'


def test_runs_take_the_parameters_behind_the_densities(methanimine_density) -> None:
    _, overrides = run_parameters(methanimine_density, None, {'mesh_cutoff_ry': 45.0})
    assert overrides['vacuum_ang'] == methanimine_density.label_source.parameters['vacuum_ang']
    assert overrides['mesh_cutoff_ry'] == 45.0
    assert run_parameters(methanimine_density, 'paper', {}) == ('paper', {})


def test_exit_statuses_are_those_of_the_workflow() -> None:
    codes = SiestaWarmstartWorkChain.exit_codes
    assert codes.ERROR_RUN_FAILED.status == density_warmstart.RUN_FAILED
    assert codes.ERROR_ENERGIES_DIFFER.status == density_warmstart.ENERGIES_DIFFER


def test_memory_is_estimated_from_the_meshes(aiida_profile) -> None:
    known = densities_of('z-0000')
    train = action_class('density_train')
    estimates = [
        train(densities=known, settings={'points_per_epoch': points}).estimate() for points in (60_000, 200_000)
    ]
    # A training with these settings was measured: 1333 and 2641 MB.
    assert [estimate.memory_mb for estimate in estimates] == pytest.approx([1333, 2641], rel=0.25)
    assert all(estimate.seconds is None for estimate in estimates)
