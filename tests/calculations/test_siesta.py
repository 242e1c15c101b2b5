"""What is sent to SIESTA, and what is refused before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aiida import orm
from aiida.common.folders import SandboxFolder
from aiida.engine.utils import instantiate_process
from aiida_pseudo.data.pseudo import PsfData

from aiida_nanoml.calculations.functions.base import INPUT_REFUSED
from aiida_nanoml.calculations.functions.siesta import node_of_structure, place_structures
from aiida_nanoml.calculations.siesta import SiestaCalculation
from aiida_nanoml.data.densities import DensitySetData
from aiida_nanoml.data.structures import StructureSetData
from aiida_nanoml.engines.registry import get_engine
from aiida_nanoml.engines.siesta.fdf import read_fdf
from aiida_nanoml.engines.siesta.fdf_recognition import read_parameters
from aiida_nanoml.engines.siesta.fdf_writing import to_keywords
from aiida_nanoml.engines.siesta.mesh import choose_mesh, read_mesh
from aiida_nanoml.structures import Structure, StructureSet
from aiida_nanoml.units import SIESTA_BOHR_ANG
from tests.stand_in.fixtures import PSEUDOPOTENTIALS, recorded_runs

RUNS = recorded_runs('flake')
METHANIMINE = recorded_runs()['methanimine']


@pytest.fixture
def inputs(siesta_code: orm.InstalledCode, siesta_pseudos: dict) -> dict[str, Any]:
    structure = node_of_structure(RUNS['h-0000'].structure)
    general, basis = to_keywords(get_engine('siesta').parameters('paper'))
    return {
        'code': siesta_code,
        'structure': structure,
        'parameters': orm.Dict(general),
        'basis': orm.Dict(basis),
        'pseudos': {kind.name: siesta_pseudos[kind.symbol] for kind in structure.kinds},
        'metadata': {'options': {'max_wallclock_seconds': 600}},
    }


def prepare(aiida_manager, inputs: dict[str, Any]) -> tuple[str, Any]:
    process = instantiate_process(aiida_manager.get_runner(), SiestaCalculation, **inputs)
    with SandboxFolder() as folder:
        calcinfo = process.prepare_for_submission(folder)
        return Path(folder.get_abs_path('aiida.fdf')).read_text(encoding='utf-8'), calcinfo


def test_the_input_is_that_of_the_recorded_run(aiida_manager, inputs: dict[str, Any]) -> None:
    text, calcinfo = prepare(aiida_manager, inputs)
    written, recorded = read_fdf(text), read_fdf(RUNS['h-0000'].fdf)
    assert read_parameters(written) == read_parameters(recorded)
    assert written.blocks == recorded.blocks
    assert written.values['maxwalltime'] == '600'
    assert {'aiida.EIG', 'aiida.KP'} <= set(calcinfo.retrieve_list)
    assert '*.ion.xml' not in calcinfo.retrieve_list


def test_siesta_is_told_a_wall_time_in_any_case(aiida_manager, inputs: dict[str, Any]) -> None:
    inputs['metadata'] = {'options': {}}
    text, _ = prepare(aiida_manager, inputs)
    assert read_fdf(text).values['maxwalltime'] == '3600'


def test_basis_orbitals_are_retrieved_on_request(aiida_manager, inputs: dict[str, Any]) -> None:
    inputs['settings'] = orm.Dict({'additional_retrieve_list': ['*.ion.xml', 'aiida.RHO']})
    assert {'*.ion.xml', 'aiida.RHO', 'aiida.EIG'} <= set(prepare(aiida_manager, inputs)[1].retrieve_list)


def moved(structure: Structure) -> Structure:
    positions = structure.positions.copy()
    positions[1] = positions[0] + [0.0, 0.0, 0.6]
    return Structure(structure.numbers, positions, structure.cell, structure.pbc)


def boxed(structure: Structure, height: float) -> Structure:
    cell = structure.cell.copy()
    cell[2, 2] = height
    return Structure(structure.numbers, structure.positions, cell, structure.pbc)


def half_periodic(structure: Structure) -> Structure:
    return Structure(structure.numbers, structure.positions, boxed(structure, 3.0).cell, np.array([True, True, False]))


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (moved, r'atoms 0 \(C\) and 1 \(B\) are 0\.600 Å apart'),
        (lambda structure: boxed(structure, 4.0), r'along lattice vector 3, but there its images are only 4\.00 Å'),
        (half_periodic, r'along lattice vector 3, but there its images are only 3\.00 Å'),
    ],
)
def test_structures_that_are_not_physical_are_refused(aiida_manager, inputs: dict, change, message: str) -> None:
    inputs['structure'] = node_of_structure(change(RUNS['h-0000'].structure))
    with pytest.raises(ValueError, match=message):
        instantiate_process(aiida_manager.get_runner(), SiestaCalculation, **inputs)


def test_two_atoms_in_one_place_are_refused(aiida_manager, inputs: dict[str, Any]) -> None:
    """SIESTA itself calls such a run completed."""
    structure = orm.StructureData(cell=np.diag([12.0, 12.0, 12.0]).tolist(), pbc=[False] * 3)
    for _ in range(2):
        structure.append_atom(symbols='C', position=[6.0, 6.0, 6.0])
    inputs |= {'structure': structure, 'pseudos': {'C': inputs['pseudos']['C']}}
    with pytest.raises(ValueError, match=r'less than 0\.5 Å'):
        instantiate_process(aiida_manager.get_runner(), SiestaCalculation, **inputs)


def test_a_mixture_of_elements_is_refused(aiida_manager, inputs: dict[str, Any]) -> None:
    structure = orm.StructureData(cell=np.diag([12.0, 12.0, 12.0]).tolist(), pbc=[False] * 3)
    structure.append_atom(symbols=['C', 'N'], weights=[0.5, 0.5], position=[6.0, 6.0, 6.0], name='CN')
    inputs |= {'structure': structure, 'pseudos': {'CN': inputs['pseudos']['C']}}
    with pytest.raises(ValueError, match=r'one element a kind|alchemical'):
        instantiate_process(aiida_manager.get_runner(), SiestaCalculation, **inputs)


def test_a_missing_pseudopotential_is_named(aiida_manager, inputs: dict[str, Any]) -> None:
    del inputs['pseudos']['N']
    with pytest.raises(ValueError, match='there is no pseudopotential for N; there are: B, C, H'):
        instantiate_process(aiida_manager.get_runner(), SiestaCalculation, **inputs)


def test_the_pseudopotential_of_another_element_is_refused(aiida_manager, inputs: dict, siesta_pseudos: dict) -> None:
    inputs['pseudos']['N'] = siesta_pseudos['C']
    with pytest.raises(ValueError, match=r'C\.psf is for C, but the kind N is N'):
        instantiate_process(aiida_manager.get_runner(), SiestaCalculation, **inputs)


def test_functionals_are_not_mixed(aiida_manager, inputs: dict[str, Any], tmp_path) -> None:
    inputs['parameters'] = orm.Dict(inputs['parameters'].get_dict() | {'xc-functional': 'GGA', 'xc-authors': 'PBE'})
    with pytest.raises(ValueError, match='made with LDA-CA, but the parameters say GGA-PBE'):
        instantiate_process(aiida_manager.get_runner(), SiestaCalculation, **inputs)


def test_one_pseudopotential_of_another_functional_is_refused(aiida_manager, inputs: dict, tmp_path) -> None:
    text = (PSEUDOPOTENTIALS / 'N.psf').read_text()
    assert text.startswith(' N  ca')
    (tmp_path / 'N.psf').write_text(text.replace(' N  ca', ' N  pb', 1))
    inputs['pseudos']['N'] = PsfData.get_or_create(tmp_path / 'N.psf').store()
    with pytest.raises(ValueError, match='of N was made with GGA-PBE, but the parameters say LDA-CA'):
        instantiate_process(aiida_manager.get_runner(), SiestaCalculation, **inputs)


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        ({'protocol': 'paper'}, 'exactly the keys'),
        ({'protocol': 'paper', 'parameters': {'mesh_cutoff_ry': 150.0}}, 'Field required'),
    ],
)
def test_a_source_that_no_label_can_carry_is_refused(aiida_manager, inputs: dict, content: dict, message: str) -> None:
    inputs['source'] = orm.Dict(content)
    with pytest.raises(ValueError, match=message):
        instantiate_process(aiida_manager.get_runner(), SiestaCalculation, **inputs)


def test_structures_are_placed_in_boxes(aiida_profile) -> None:
    flake = RUNS['h-0000'].structure
    crystal = Structure(np.array([6]), np.zeros((1, 3)), 3.0 * np.eye(3), np.ones(3, dtype=bool))
    whole = StructureSet.from_structures([Structure(flake.numbers, flake.positions), crystal], names=['one', 'two'])
    placed = place_structures(StructureSetData(whole), orm.List([0, 1]), orm.Float(10.0))
    assert placed['row_0000'].cell[2][2] == pytest.approx(10.0)
    assert placed['row_0000'].pbc == (False, False, False)
    assert placed['row_0000'].label == 'one'
    assert min(site.position[2] for site in placed['row_0000'].sites) == pytest.approx(5.0)
    assert placed['row_0001'].cell == crystal.cell.tolist()
    assert placed['row_0000'].creator.process_type.endswith('place_structures')


@pytest.mark.parametrize(('rows', 'vacuum'), [([], 10.0), ([5], 10.0), ([0, 0], 10.0), ([True], 10.0), ([0], 0.0)])
def test_rows_and_vacuum_that_cannot_be_are_refused(aiida_profile, rows: list, vacuum: float) -> None:
    whole = StructureSetData(StructureSet.from_structures([RUNS['h-0000'].structure]))
    _, node = place_structures.run_get_node(whole, orm.List(rows), orm.Float(vacuum))
    assert node.exit_status == INPUT_REFUSED


@pytest.fixture
def started(inputs: dict[str, Any], siesta_pseudos: dict, methanimine_density: DensitySetData) -> dict[str, Any]:
    """The inputs of the run that begins with the recorded density."""
    structure = node_of_structure(METHANIMINE.structure)
    general, basis = to_keywords(read_parameters(read_fdf(METHANIMINE.fdf)))
    return inputs | {
        'structure': structure,
        'parameters': orm.Dict(general),
        'basis': orm.Dict(basis),
        'pseudos': {kind.name: siesta_pseudos[kind.symbol] for kind in structure.kinds},
        'start': methanimine_density,
    }


def test_a_run_begins_with_a_density(aiida_manager, started: dict[str, Any], methanimine_density) -> None:
    process = instantiate_process(aiida_manager.get_runner(), SiestaCalculation, **started)
    with SandboxFolder() as folder:
        calcinfo = process.prepare_for_submission(folder)
        fdf = read_fdf(Path(folder.get_abs_path('aiida.fdf')).read_text(encoding='utf-8'))
        mesh = read_mesh(Path(folder.get_abs_path('DeltaRho.IN.grid.nc')).read_bytes(), 'DeltaRho.IN.grid.nc')
    assert fdf.values['scfreaddeformationchargenetcdf'] == 'T'
    assert read_parameters(fdf) == read_parameters(read_fdf(METHANIMINE.fdf))
    assert calcinfo.provenance_exclude_list == ['DeltaRho.IN.grid.nc']
    difference = methanimine_density.density(0).difference
    assert mesh.values[0] / SIESTA_BOHR_ANG**3 == pytest.approx(difference, abs=1e-6)


def test_the_density_is_put_onto_the_mesh_of_the_run(aiida_manager, started: dict[str, Any]) -> None:
    started['parameters'] = orm.Dict(started['parameters'].get_dict() | {'mesh-cutoff': '50 Ry', 'MeshSubDivisions': 4})
    process = instantiate_process(aiida_manager.get_runner(), SiestaCalculation, **started)
    with SandboxFolder() as folder:
        process.prepare_for_submission(folder)
        mesh = read_mesh(Path(folder.get_abs_path('DeltaRho.IN.grid.nc')).read_bytes(), 'DeltaRho.IN.grid.nc')
    assert mesh.values.shape[1:] == choose_mesh(METHANIMINE.structure.cell, 50.0, 4) == (36, 36, 24)


def in_another_box(structure: Structure) -> Structure:
    return Structure(structure.numbers, structure.positions, structure.cell + np.diag([0.0, 0.0, 2.0]))


def beside(structure: Structure) -> Structure:
    return Structure(structure.numbers, structure.positions + np.array([0.0, 0.0, 0.2]), structure.cell)


@pytest.mark.parametrize(
    ('structure', 'parameters', 'reason'),
    [
        (lambda: RUNS['h-0000'].structure, {}, 'none of the 1 densities is of this structure'),
        (lambda: in_another_box(METHANIMINE.structure), {}, 'place it with the same vacuum'),
        (lambda: beside(METHANIMINE.structure), {}, 'are elsewhere in the box'),
        (None, {'spin': 'polarized'}, 'a run with spin cannot begin'),
        (None, {'SpinPolarized': True}, 'a run with spin cannot begin'),
        (None, {'mesh-sizes': '[24 30 18]'}, 'given by Mesh.Sizes'),
        (None, {'%block mesh-sizes': '\n 24 30 18\n%endblock mesh-sizes'}, 'given by Mesh.Sizes'),
        (None, {'mesh-cutoff': '1e9 Ry'}, 'needs more than'),
        (None, {'mesh-cutoff': '30 Acre'}, 'not understood'),
    ],
)
def test_a_density_that_does_not_fit_is_refused(
    aiida_manager, started: dict[str, Any], siesta_pseudos: dict, structure, parameters: dict, reason: str
) -> None:
    started['parameters'] = orm.Dict(started['parameters'].get_dict() | parameters)
    if structure is not None:
        started['structure'] = node_of_structure(structure())
        started['pseudos'] = {kind.name: siesta_pseudos[kind.symbol] for kind in started['structure'].kinds}
    with pytest.raises(ValueError, match=f'start: .*{reason}'):
        instantiate_process(aiida_manager.get_runner(), SiestaCalculation, **started)
