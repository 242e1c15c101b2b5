"""``aiida-nanoml taint`` and what ``trace`` writes."""

from __future__ import annotations

import csv
import json
import zipfile

import pytest

from aiida_nanoml.calculations.functions.datasets import assemble_dataset
from aiida_nanoml.data.structures import StructureSetData
from aiida_nanoml.provenance.lineage import TABLE
from tests.provenance.conftest import QUADRUPLETS


@pytest.fixture
def rows(structures_node: StructureSetData, labels_node):
    from aiida import orm

    made = assemble_dataset(structures_node, labels_node, orm.Dict(QUADRUPLETS))
    made.label = 'rows'
    return made


def test_what_rests_on_labels(cli, cli_json, rows, labels_node):
    found = cli_json('taint', labels_node.uuid)
    assert [touched['node']['uuid'] for touched in found['datasets']] == [rows.uuid]
    assert found['datasets'][0]['rows'] == {'': [12, 12]}
    text = cli('taint', labels_node.uuid).stdout
    assert f'data set: nanoml.dataset rows pk {rows.pk}: 12 of 12 rows' in text
    assert '  1. assemble_dataset' in text
    assert cli('taint', 'rows').stdout.endswith('nothing rests on it\n')


def test_a_label_shared_with_a_process_means_the_process(cli_json, cli, rows):
    """Runs are named after their structures."""
    rows.creator.label = 'rows'
    assert [step['type'] for step in cli_json('taint', 'rows')['wrong']] == ['assemble_dataset']
    rows.creator.inputs.labels.label = rows.creator.inputs.structures.label = 'twice'
    refused = cli('taint', 'twice', status=2).stderr
    for node in (rows.creator.inputs.labels, rows.creator.inputs.structures):
        assert f'pk {node.pk} of ' in refused
    assert 'aiida-nanoml relabel' in refused


def test_it_is_said_what_is_wrong(cli, rows):
    assert 'either NODE, or both' in cli('taint', status=2).stderr
    assert 'either NODE, or both' in cli('taint', 'rows', '--engine', 'xtb', status=2).stderr
    assert 'either NODE, or both' in cli('taint', '--engine', 'xtb', status=2).stderr
    error = cli('taint', '--engine', 'xtb', '--engine-version', '0.0', status=1).stderr
    assert error == "Error: no labels here are from xtb '0.0'; versions of xtb: none\n"


def test_every_node_is_a_row_of_a_table(cli, rows, tmp_path):
    path = tmp_path / 'nodes.csv'
    cli('trace', 'rows', '--csv', path)
    with path.open() as file:
        found = list(csv.DictReader(file))
    assert list(found[0]) == list(TABLE)
    assert {row['type'] for row in found} == {
        'nanoml.structures',
        'nanoml.labels',
        'core.dict',
        'assemble_dataset',
        'nanoml.dataset',
    }
    [last] = [row for row in found if row['uuid'] == rows.uuid]
    assert (last['made_by'], last['label']) == (rows.creator.uuid, 'rows')
    assert 'exists already' in cli('trace', 'rows', '--csv', path, status=1).stderr


def test_the_picture_is_written_once(cli, rows, tmp_path):
    path = tmp_path / 'lineage.svg'
    assert '4 boxes' in cli('trace', 'rows', '--graph', path).stderr
    assert 'assemble dataset' in path.read_text()
    assert 'exists already' in cli('trace', 'rows', '--graph', path, status=1).stderr
    cli('trace', 'rows', '--graph', tmp_path / 'lineage', '--format', 'pdf')
    assert (tmp_path / 'lineage.pdf').read_bytes().startswith(b'%PDF')
    assert (
        '--format is that of a figure: name its file with --graph'
        in cli('trace', 'rows', '--format', 'pdf', status=2).stderr
    )


def test_an_archive_answers_as_its_profile_did(cli, cli_json, rows, labels_node, aiida_profile, tmp_path):
    from aiida import load_profile
    from aiida.tools.archive import create_archive

    path, uuid = tmp_path / 'rows.aiida', labels_node.uuid
    create_archive([rows], path)
    traced, touched = cli_json('trace', 'rows'), cli_json('taint', uuid)
    try:
        assert cli_json('trace', 'rows', '--archive', path) == traced
        assert cli_json('taint', uuid, '--archive', path) == touched
        assert cli('trace', 'rows', '--archive', path).stdout.endswith(f' --archive {path}\n')
    finally:
        load_profile(aiida_profile, allow_switch=True)


def test_an_archive_that_cannot_be_read_says_why(cli, rows, aiida_profile, tmp_path):
    from aiida import load_profile
    from aiida.tools.archive import create_archive

    path, older, text = tmp_path / 'rows.aiida', tmp_path / 'older.aiida', tmp_path / 'text.aiida'
    create_archive([rows], path)
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(older, 'w') as target:
        for name in source.namelist():
            content = source.read(name)
            if name == 'metadata.json':
                content = json.dumps(json.loads(content) | {'export_version': 'main_0000'}).encode()
            target.writestr(name, content)
    text.write_text('not an archive')
    try:
        error = cli('trace', 'rows', '--archive', older, status=1).stderr
        assert f'verdi archive migrate {older} NEW' in ' '.join(error.split())
        assert 'is no archive of AiiDA' in cli('trace', 'rows', '--archive', text, status=1).stderr
        assert 'does not exist' in cli('trace', 'rows', '--archive', tmp_path / 'missing.aiida', status=2).stderr
    finally:
        load_profile(aiida_profile, allow_switch=True)
