"""The importer ``nanoml.siesta``: a finished folder becomes a calculation that AiiDA did not run."""

from __future__ import annotations

import numpy as np
import pytest
from aiida import orm
from aiida.engine import run_get_node
from aiida.plugins import CalcJobImporterFactory, CalculationFactory
from aiida_pseudo.data.pseudo import PsfData

from aiida_nanoml.calculations.functions.siesta import collect_runs, structure_of_node
from aiida_nanoml.calculations.local_worker import make_localhost
from aiida_nanoml.calculations.pseudopotentials import OWN_FAMILIES, install_family
from aiida_nanoml.engines.pseudopotentials import bundled
from aiida_nanoml.errors import StructureError
from aiida_nanoml.structures import StructureSet
from tests.stand_in.fixtures import recorded_runs

FLAKE = recorded_runs('flake')['h-0000']


@pytest.fixture
def remote(aiida_profile_clean, tmp_path) -> orm.RemoteData:
    """The folder of a finished run."""
    return orm.RemoteData(remote_path=str(FLAKE.unpack(tmp_path)), computer=make_localhost())


def test_a_folder_becomes_a_calculation(remote):
    """What was run, the label and its source are those of the run; no code took part."""
    inputs = CalcJobImporterFactory('nanoml.siesta').parse_remote_data(remote)
    _, node = run_get_node(CalculationFactory('nanoml.siesta'), **inputs)
    assert node.is_finished_ok, node.exit_message
    assert node.is_imported
    assert 'code' not in node.inputs
    labels = node.outputs.labels.labels
    assert labels.energies['gap_ev'][0] == pytest.approx(FLAKE.about['gap_ev'], abs=1e-6)
    assert labels.hashes[0] == StructureSet.from_structures([FLAKE.structure]).hashes[0]
    assert (labels.source.engine, labels.source.version, labels.source.protocol) == ('siesta', '4.1-b4-133', 'paper')
    assert labels.source.pseudopotentials == {
        element: PsfData(bundled()[element]).md5 for element in ('B', 'C', 'H', 'N')
    }
    assert {'aiida.fdf', 'aiida.out', 'aiida.EIG', 'aiida.xml'} <= set(node.outputs.retrieved.list_object_names())
    assert node.outputs.retrieved.get_object_content('aiida.fdf') == FLAKE.fdf
    assert node.description == f'finished run, imported; pseudopotentials: {OWN_FAMILIES["psf"]}'
    assert structure_of_node(node.inputs.structure).pbc.tolist() == [False] * 3


def test_pseudopotentials_beside_the_run_come_first(remote, tmp_path):
    """The file that was used is there: no family is asked, and none is installed."""
    for element in ('B', 'C', 'H', 'N'):
        (tmp_path / 'h-0000' / f'{element}.psf').write_bytes(bundled()[element].read_bytes())
    inputs = CalcJobImporterFactory('nanoml.siesta').parse_remote_data(remote)
    assert {name: node.element for name, node in inputs['pseudos'].items()} == {name: name for name in 'BCHN'}
    assert inputs['metadata']['description'].endswith('folder')
    assert orm.QueryBuilder().append(orm.Group).count() == 0


@pytest.mark.parametrize(
    ('element', 'content', 'reason'),
    [
        ('C', bundled()['N'].read_text(encoding='utf-8'), 'C.psf in the folder differs in the shells'),
        ('C', 'no pseudopotential\n', 'C.psf cannot be read'),
    ],
)
def test_a_wrong_file_beside_the_run_is_refused(remote, tmp_path, element, content, reason):
    (tmp_path / 'h-0000' / f'{element}.psf').write_text(content, encoding='utf-8')
    with pytest.raises(StructureError, match=reason):
        CalcJobImporterFactory('nanoml.siesta').parse_remote_data(remote)


def test_a_family_that_does_not_fit_is_refused(remote, tmp_path):
    """Nothing is assumed: the output tells how its pseudopotentials were generated."""
    from aiida_pseudo.groups.family import PseudoPotentialFamily

    folder = tmp_path / 'family'
    folder.mkdir()
    for element in ('B', 'C', 'H', 'N'):
        content = bundled()[element].read_text(encoding='utf-8')
        (folder / f'{element}.psf').write_text(content.replace('r= 1.25', 'r= 1.30'), encoding='utf-8')
    PseudoPotentialFamily.create_from_folder(folder, 'other', pseudo_type=PsfData)
    with pytest.raises(StructureError, match=r"H.psf of the family 'other' differs in the shells: 1s 1.00 rc 1.30"):
        CalcJobImporterFactory('nanoml.siesta').parse_remote_data(remote, pseudo_family='other')
    with pytest.raises(ValueError, match='no family'):
        CalcJobImporterFactory('nanoml.siesta').parse_remote_data(remote, pseudo_family='absent')


def test_a_crystal_keeps_its_mesh(aiida_profile_clean, tmp_path):
    alloy = recorded_runs('alloy')['hea-00-bcc-0']
    install_family()
    remote = orm.RemoteData(remote_path=str(alloy.unpack(tmp_path)), computer=make_localhost())
    inputs = CalcJobImporterFactory('nanoml.siesta').parse_remote_data(remote)
    assert inputs['kpoints'].get_kpoints_mesh() == ([3, 3, 5], [0.5, 0.5, 0.5])
    _, node = run_get_node(CalculationFactory('nanoml.siesta'), **inputs)
    assert node.is_finished_ok, node.exit_message
    assert structure_of_node(node.inputs.structure).pbc.all()
    assert node.outputs.labels.label_source.pseudopotentials.keys() == {'Al', 'Co', 'Cr', 'Fe', 'Ni'}
    assert node.outputs.labels.label_source.protocol == 'paper_alloys'
    assert 'aiida.KP' in node.outputs.retrieved.list_object_names()
    assert node.outputs.labels.labels.dos_fermi()[0] == pytest.approx(11.9, abs=0.1)


def test_collecting_takes_single_structures_and_rows_of_sets(structures_node, labels_node, flakes):
    """The order is that of the request; names and families are given anew."""
    hashes = flakes.hashes[[5, 2]].tolist()
    made = collect_runs(
        rows=orm.Dict({'parts': [{'hashes': hashes, 'names': ['a', 'b'], 'families': ['z', '']}]}),
        structures_000=structures_node,
        labels_000=labels_node,
    )
    assert made['structures'].structures.hashes.tolist() == hashes
    assert made['structures'].structures.names.tolist() == ['a', 'b']
    assert np.isin(hashes, made['labels'].labels.hashes).all()
    assert len(made['labels'].labels) == 2
