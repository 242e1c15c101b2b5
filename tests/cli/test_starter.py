"""``aiida-nanoml starter``: real gaps for whoever has no SIESTA."""

from __future__ import annotations

import json
import re
import zipfile
from dataclasses import replace
from importlib.resources import files

import numpy as np
import pytest
from aiida import orm

from aiida_nanoml.actions.label import LabelResult
from aiida_nanoml.actions.starter import ARCHIVE, DENSITIES_ARCHIVE, GROUP
from aiida_nanoml.data.labels import LabelSetData
from aiida_nanoml.engines import get_engine
from aiida_nanoml.engines.label_set import LabelSource
from aiida_nanoml.provenance.lineage import trace
from aiida_nanoml.structures import StructureSet
from tests.densities.recorded import recorded_density
from tests.stand_in.fixtures import recorded_runs

N_RUNS = 85
ARCHIVES = [files('aiida_nanoml.starter') / name for name in (ARCHIVE, DENSITIES_ARCHIVE)]


def test_the_starter_is_imported_once_with_every_run(aiida_profile_clean, cli_json, cli, tmp_path):
    answer = cli_json('starter')
    assert (answer['status'], answer['n_structures'], answer['families']) == ('imported', N_RUNS, ['h', 's'])
    structures, labels = (orm.load_node(answer[kind]) for kind in ('structures', 'labels'))
    assert (structures.label, labels.label) == ('starter-structures', 'starter-labels')
    assert set(structures.structures.hashes) == set(labels.labels.hashes)
    assert answer['source']['protocol'] == 'paper'
    source = labels.label_source
    assert source.compatible(replace(source, parameters=get_engine('siesta').parameters('paper').model_dump()))
    gaps = dict(zip(labels.labels.hashes, labels.labels.energies['gap_ev'], strict=True))
    for name, run in recorded_runs('flake').items():
        if not name.startswith('z-'):
            digest = StructureSet.from_structures([run.structure]).hashes[0]
            assert gaps[digest] == pytest.approx(run.about['gap_ev'], abs=1e-6), name

    (origin,) = trace(labels).labelling
    assert (origin.n_jobs, origin.version) == (N_RUNS, '4.1-b4-133')
    process = orm.load_node(origin.jobs[0].uuid)
    assert process.is_imported
    assert {'aiida.fdf', 'aiida.out', 'aiida.EIG'} <= set(process.outputs.retrieved.list_object_names())

    number = orm.QueryBuilder().append(orm.Node).count()
    again = cli_json('starter')
    assert (again['status'], again['uuid']) == ('present', answer['uuid'])
    assert orm.QueryBuilder().append(orm.Node).count() == number
    assert cli('starter').stdout.endswith(
        'next: aiida-nanoml dataset build starter-structures --labels starter-labels --name starter\n'
    )
    cheaper = LabelSource('xtb', '0.8.0', 'GFN1-xTB (tblite)', 'fast', {})
    cheap = LabelSetData(replace(labels.labels, source=cheaper), label='cheap').store()
    build = 'dataset build starter-structures --labels'
    assert LabelResult(process, cheap, structures).next_step().command() == f'{build} starter-labels --baseline cheap'
    assert LabelResult(process, labels, structures).next_step().command() == f'{build} starter-labels'

    folder = recorded_runs('flake')['h-0000'].unpack(tmp_path)
    (run,) = cli_json('siesta', 'import', folder)['runs']
    assert (run['status'], run['uuid'] in {job.uuid for job in origin.jobs}) == ('present', True)


def test_a_lost_group_is_brought_back(aiida_profile_clean, cli_json):
    answer = cli_json('starter')
    orm.Group.collection.delete(orm.load_group(GROUP).pk)
    assert cli_json('starter')['uuid'] == answer['uuid']


def test_densities_are_imported_once_with_what_they_were_read_from(aiida_profile_clean, cli_json, cli):
    answer = cli_json('starter', '--densities')
    assert answer['status'] == 'imported'
    small, large = orm.load_node(answer['densities']), orm.load_node(answer['large'])
    assert (small.label, large.label) == ('starter-densities', 'starter-densities-large')
    names = [name for node in (small, large) for name in node.structures.names.tolist()]
    assert names == ['z-0000', 'z-0001', 'z-0002', 'z-0003', 'z-0005', 'z-0006', 'h-0000', 's-0000']
    known = recorded_density('z-0001')
    np.testing.assert_array_equal(small.density(1).difference, known.difference)
    assert large.electrons == pytest.approx([186, 236], rel=1e-4)
    assert small.creator.process_label == 'import_siesta_densities'
    assert all(len(run['files']) > 2 for run in small.creator.inputs.runs['runs'])
    assert cli_json('starter', '--densities') == answer | {'status': 'present'}
    assert 'next: aiida-nanoml density train starter-densities --test' in cli('starter', '--densities').stdout


@pytest.mark.parametrize('path', ARCHIVES, ids=lambda path: path.name)
def test_the_archive_is_small_and_neutral(path):
    """It comes with the package: nobody's name, address or machine is in it."""
    content = path.read_bytes()
    assert len(content) < 6_000_000
    with zipfile.ZipFile(path) as archive:
        metadata = json.loads(archive.read('metadata.json'))
        database = archive.read('db.sqlite3')
        texts = [archive.read(name) for name in archive.namelist() if name.startswith('repo/')]
    assert metadata['export_version'] == 'main_0001'
    assert set(re.findall(rb'[\w.]{3,}@[\w-]{3,}', database)) == {b'aiida@localhost'}
    for text in (database, *texts):
        for word in (b'/root', b'/home/', b'/tmp/', b'/work/'):
            assert word not in text
