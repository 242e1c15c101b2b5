"""The published folder: whole, checked, and the same elsewhere."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys

import pytest
import yaml
from aiida import orm
from aiida.tools.archive.abstract import get_format

from aiida_nanoml.data.labels import LabelSetData
from aiida_nanoml.errors import ProvenanceError
from aiida_nanoml.provenance.graph import ProvenanceGraph
from aiida_nanoml.provenance.publication import AuditFailedError, publish
from aiida_nanoml.provenance.publication.archive import check_archive, write_archive
from aiida_nanoml.provenance.publication.steps import Given, Step, Steps, abstract_workflow

PREDICTION = 'gaps_&_more'

ELSEWHERE = """
import json, sys
from aiida import load_profile, orm
from aiida.tools.archive import import_archive
from aiida_nanoml.actions.installation import make_profile
from aiida_nanoml.provenance.graph import ProvenanceGraph
from aiida_nanoml.provenance.lineage import starts, trace
load_profile(make_profile('elsewhere').name)
orm.Int(1).store()  # so that PKs are others
import_archive(sys.argv[1], create_group=False)
node = orm.load_node(sys.argv[2])
graph = ProvenanceGraph.ancestors(starts(node))
hashes = {record.uuid: orm.load_node(pk).base.caching.compute_hash() for pk, record in graph.nodes.items()}
print(json.dumps({'lineage': trace(node).to_dict(), 'hashes': hashes}))
"""


def without_pks(value):
    """A lineage without what each profile gives anew."""
    if isinstance(value, dict):
        return {key: without_pks(entry) for key, entry in value.items() if key != 'pk'}
    if isinstance(value, list | tuple):
        return [without_pks(entry) for entry in value]
    return re.sub(r'pk \d+', 'pk', value) if isinstance(value, str) else value


def rows(folder, name):
    [path] = folder.glob(f'tables/{name}*.csv')
    with path.open(encoding='utf-8') as stream:
        return list(csv.DictReader(stream))


def test_an_import_elsewhere_gives_the_same_trace_and_the_same_hashes(published, tmp_path):
    (tmp_path / '.aiida').mkdir()
    environment = os.environ | {'AIIDA_PATH': str(tmp_path)}
    done = subprocess.run(
        [
            sys.executable,
            '-W',
            'ignore',
            '-c',
            ELSEWHERE,
            published.folder / 'archive.aiida',
            published.publication.nodes[0],
        ],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found['hashes'] == published.hashes
    assert without_pks(found['lineage']) == without_pks(json.loads(json.dumps(published.lineage)))
    told = json.loads((published.folder / 'lineage.json').read_text(encoding='utf-8'))
    assert without_pks(told) == without_pks(found['lineage'])


def test_the_archive_holds_what_the_node_rests_on_and_nothing_foreign(published):
    with get_format().open(published.folder / 'archive.aiida', 'r') as reader:
        found = set(reader.querybuilder().append(orm.Node, project='uuid').all(flat=True))
        groups = reader.querybuilder().append(orm.Group).count()
    assert set(published.hashes) <= found
    assert not found & published.foreign
    assert groups == 0
    contents = published.publication.contents
    assert (contents.n_nodes, contents.n_ancestors) == (len(found), len(published.hashes))


def test_every_file_has_its_checksum_and_is_told_of(published):
    lines = (published.folder / 'SHA256SUMS').read_text(encoding='utf-8').splitlines()
    sums = {name: digest for digest, name in (line.split('  ') for line in lines)}
    there = {path.relative_to(published.folder).as_posix() for path in published.folder.rglob('*') if path.is_file()}
    assert set(sums) == there - {'SHA256SUMS'}
    assert set(published.publication.files) == there
    for name, digest in sums.items():
        assert hashlib.sha256((published.folder / name).read_bytes()).hexdigest() == digest
    page = (published.folder / 'README.md').read_text(encoding='utf-8')
    assert {name for name in there if f'`{name}`' not in page} == {'README.md', 'figures/COMMANDS.md'}
    assert 'sha256sum -c SHA256SUMS' in page


def test_tables_hold_the_numbers_with_their_units(published, flake_labels):
    predicted, labelled = rows(published.folder, 'predictions'), rows(published.folder, 'labels')
    assert [float(row['gap_ev (eV)']) for row in labelled] == flake_labels.energies['gap_ev'].tolist()
    gaps = {row['structure sha256']: float(row['gap_ev (eV)']) for row in labelled}
    for row in predicted:
        assert float(row['gap (eV)']) == pytest.approx(gaps[row['structure sha256']] + 0.1)
    assert len(rows(published.folder, 'structures')) == 12
    assert {row['part'] for row in rows(published.folder, 'dataset')} == {'train', 'validation', 'test'}
    assert {(row['element'], row['md5']) for row in rows(published.folder, 'pseudopotentials')} == {
        ('C', 'c' * 32),
        ('H', '0' * 32),
    }
    runs = rows(published.folder, 'runs')
    assert [row['process'] for row in runs].count('LabelCalculation') == 2
    assert {row['computer'] for row in runs if row['process'].endswith('Calculation')} == {'cluster'}
    assert {(row['process'], row['seed']) for row in rows(published.folder, 'seeds')} == {
        ('generate_flake_set', '7'),
        ('split_dataset', '0'),
    }


def test_figures_come_with_the_command_that_makes_them(published):
    page = (published.folder / 'figures' / 'COMMANDS.md').read_text(encoding='utf-8')
    assert len(published.publication.figures) == 2
    [stored, drawn] = published.publication.figures
    assert (published.folder / 'figures' / stored).read_bytes() == b'a picture'
    assert (published.folder / 'figures' / drawn).read_bytes().startswith(b'\x89PNG')
    assert f'--learning-curve -o {stored}' in page
    assert f'aiida-nanoml plot {published.publication.nodes[0]} -o {drawn}' in page


def test_the_steps_are_a_workflow_whose_every_source_is_there(published):
    workflow = yaml.safe_load((published.folder / 'workflow.cwl').read_text(encoding='utf-8'))
    known = set(workflow['inputs'])
    for key, step in workflow['steps'].items():
        for port in step['in'].values():
            sources = port['source'] if isinstance(port['source'], list) else [port['source']]
            assert set(sources) <= known
        known |= {f'{key}/{output}' for output in step['out']}
    assert workflow['steps']['LabelCalculation']['label'] == '2 x LabelCalculation'
    assert [output['outputSource'] for output in workflow['outputs'].values()] == ['PredictCalculation/predictions']


def cwl_ids(workflow: dict) -> list[str]:
    """Return the identifiers that a reader of the Common Workflow Language makes, which must differ."""
    found = [*workflow['inputs'], *workflow['outputs'], *workflow['steps']]
    for key, step in workflow['steps'].items():
        found += [f'{key}/run/{port}' for ports in ('inputs', 'outputs') for port in step['run'][ports]]
        found += [f'{key}/{port}' for port in (*step['in'], *step['out'])]
    return found


def test_identifiers_of_the_workflow_differ(published):
    """A process may have an input and an output of one name, and data from outside the name of a process."""
    ids = cwl_ids(yaml.safe_load((published.folder / 'workflow.cwl').read_text(encoding='utf-8')))
    assert len(ids) == len(set(ids))

    def step(key: str, sources: dict[str, tuple[str, ...]], *outputs: str) -> Step:
        text = {'name': key, 'process_type': '', 'user': '', 'computer': '', 'began': '', 'ended': ''}
        found = {'codes': (), 'exit_status': 0, 'origin': None, 'imported': False, 'cached': False, 'pks': (1,)}
        return Step(key=key, sources=sources, outputs=outputs, **text, **found)

    collect = step('collect', {'labels': ('collect', 'rows'), 'rows': ('rows',)}, 'labels', 'structures')
    train = step('train', {'labels': ('collect/labels',), 'structures': ('collect/structures',)}, 'model', 'labels')
    given = (Given('collect', 'nanoml.labels', (2,)), Given('rows', 'core.list', (3, 4)))
    made = Steps((collect, train), given, ('train/labels', 'train/model'))
    workflow = yaml.safe_load(abstract_workflow(made, 'title'))
    ids = cwl_ids(workflow)
    assert len(ids) == len(set(ids))
    assert workflow['steps']['train']['in'] == {
        'labels': {'source': 'collect/labels_out'},
        'structures': {'source': 'collect/structures'},
    }
    assert workflow['steps']['collect']['in']['labels']['source'] == ['collect_in', 'rows']
    assert [output['outputSource'] for output in workflow['outputs'].values()] == ['train/labels_out', 'train/model']


def test_licence_and_authors_are_told(published):
    text = (published.folder / 'LICENSE').read_text(encoding='utf-8')
    assert text.startswith('SPDX-License-Identifier: CC-BY-4.0\n')
    assert 'Ada Lovelace <ada@example.org>, 0000-0002-1825-0097' in text
    assert 'https://creativecommons.org/licenses/by/4.0/' in text


def test_an_archive_without_a_node_or_with_another_is_found_out(structures_node, tmp_path):
    write_archive([structures_node], tmp_path / 'flakes.aiida')
    more = ProvenanceGraph.ancestors([structures_node.pk, orm.Int(1).store().pk])
    with pytest.raises(ProvenanceError, match='incomplete: 1 node is missing'):
        check_archive(tmp_path / 'flakes.aiida', more)
    graph = ProvenanceGraph.ancestors([structures_node.pk])
    assert check_archive(tmp_path / 'flakes.aiida', graph).n_nodes == 1
    structures_node.backend_entity.set_attribute('n_structures', 13)  # nothing else changes what is stored
    with pytest.raises(ProvenanceError, match='1 node differs'):
        check_archive(tmp_path / 'flakes.aiida', graph)


def test_models_without_provenance_are_published_and_say_so(model_node, tmp_path):
    with pytest.raises(AuditFailedError, match=f'was tested on no rows; see `aiida-nanoml audit {model_node.pk}`'):
        publish([model_node], tmp_path / 'model')
    assert list(tmp_path.iterdir()) == []
    made = publish([model_node], tmp_path / 'model', despite_audit=True)
    assert made.dft == f'this model has no provenance to DFT, because no process made the model pk {model_node.pk}'
    text = (tmp_path / 'model' / 'DATA_STATEMENT.md').read_text(encoding='utf-8')
    assert 'This model has no provenance to DFT' in text
    assert 'Verdict of aiida-nanoml on this model: with care: it was tested on no rows.' in text
    assert f'An audit of {model_node.uuid} by aiida-nanoml found 2 errors' in text
    assert f'errors: nanoml.model pk {model_node.pk} was tested on no rows; ' in text
    assert made.authors == (str(orm.User.collection.get_default().email),)
    crate = json.loads((tmp_path / 'model' / 'ro-crate-metadata.json').read_text(encoding='utf-8'))
    assert not [entity for entity in crate['@graph'] if entity['@type'] == 'CreateAction']


def test_a_run_is_published_with_what_it_made(generated, record_process, flake_labels, tmp_path):
    labels = LabelSetData(flake_labels)
    job = record_process('nanoml.label', {'structures': generated}, {'labels': labels})
    made = publish([job], tmp_path / 'run', despite_audit=True)  # the made-up job lacks inputs
    assert made.nodes == (labels.uuid, job.uuid)
    assert 'GFN1-xTB (tblite)' in made.dft
    assert len(rows(tmp_path / 'run', 'labels')) == 12


def test_what_was_published_is_replaced_but_nothing_else(structures_node, tmp_path):
    folder = tmp_path / 'flakes'
    publish([structures_node], folder)
    with pytest.raises(ProvenanceError, match='not empty'):
        publish([structures_node], folder)
    publish([structures_node], folder, title='Again', force=True)
    assert (folder / 'README.md').read_text(encoding='utf-8').startswith('# Again')
    (folder / 'notes.txt').write_text('mine')
    with pytest.raises(ProvenanceError, match=r'1 file that no publication wrote, such as notes\.txt'):
        publish([structures_node], folder, force=True)
    assert (folder / 'notes.txt').read_text() == 'mine'
    assert [path.name for path in tmp_path.iterdir()] == ['flakes']


def test_a_process_that_has_not_ended_leaves_nothing_behind(structures_node, record_process, tmp_path, labels_node):
    from aiida.common.links import LinkType

    running = orm.CalcFunctionNode()
    running.base.links.add_incoming(structures_node, LinkType.INPUT_CALC, 'structures')
    running.store()
    made = orm.Dict({'a': 1})
    made.base.links.add_incoming(running, LinkType.CREATE, 'result')
    made.store()
    with pytest.raises(ProvenanceError, match='has not ended'):
        publish([running], tmp_path / 'run')
    with pytest.raises(ProvenanceError, match=f'has not ended.*{running.pk}'):
        publish([made], tmp_path / 'made')
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_published_is_told(code, structures_node, tmp_path):
    with pytest.raises(ProvenanceError, match=r'\(InstalledCode\) is no result'):
        publish([code], tmp_path / 'code')
    with pytest.raises(ProvenanceError, match='not stored'):
        publish([orm.Int(1)], tmp_path / 'int')
    with pytest.raises(ProvenanceError, match=r'unknown licence .* known: CC-BY-4\.0'):
        publish([structures_node], tmp_path / 'flakes', licence='mine')
    with pytest.raises(ProvenanceError, match='no folder'):
        publish([structures_node], tmp_path / 'nowhere' / 'flakes')
    with pytest.raises(ProvenanceError, match='at least one'):
        publish([], tmp_path / 'nothing')
    shutil.copy(__file__, tmp_path / 'file')
    with pytest.raises(ProvenanceError, match='is a file'):
        publish([structures_node], tmp_path / 'file')
