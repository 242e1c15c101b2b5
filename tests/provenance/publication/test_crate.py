"""The RO-Crate: what its profiles require, and what is told of runs."""

from __future__ import annotations

import json
import shutil

import pytest
from rocrate.rocrate import ROCrate

from aiida_nanoml.errors import ProvenanceError
from aiida_nanoml.provenance.publication.crate import PROFILES, check_crate


@pytest.fixture(scope='module')
def entities(published):
    """Entities by their identifiers."""
    content = json.loads((published.folder / 'ro-crate-metadata.json').read_text(encoding='utf-8'))
    return {entity['@id']: entity for entity in content['@graph']}


def targets(entity, name):
    value = entity.get(name, [])
    return [target['@id'] for target in (value if isinstance(value, list) else [value])]


def kinds(entity):
    return entity['@type'] if isinstance(entity['@type'], list) else [entity['@type']]


def of_kind(entities, kind):
    return [entity for entity in entities.values() if kind in kinds(entity)]


def test_the_library_reads_it_again(published):
    crate = ROCrate(published.folder)
    assert crate.name == 'Gaps'
    assert crate.mainEntity.id == 'workflow.cwl'
    assert {entity.id for entity in crate.data_entities} >= {'archive.aiida', 'README.md', 'references.bib'}


def test_the_root_names_profiles_licence_author_and_date(entities):
    root = entities['./']
    assert set(targets(root, 'conformsTo')) == set(PROFILES)
    assert targets(entities['ro-crate-metadata.json'], 'conformsTo') == [
        'https://w3id.org/ro/crate/1.1',
        'https://w3id.org/workflowhub/workflow-ro-crate/1.0',
    ]
    assert entities[targets(root, 'license')[0]]['identifier'] == 'CC-BY-4.0'
    assert targets(root, 'author') == ['https://orcid.org/0000-0002-1825-0097']
    assert len(root['datePublished']) == 10
    assert root['description'].startswith('DFT: 12 structures of LDA-CA/DZP (SIESTA)')


def test_every_action_has_what_it_ran_who_and_when(entities):
    actions = of_kind(entities, 'CreateAction')
    assert {entity['@id'] for entity in actions} == set(targets(entities['./'], 'mentions'))
    for action in actions:
        for tool in targets(action, 'instrument'):
            assert {'SoftwareApplication', 'ComputationalWorkflow'} & set(kinds(entities[tool]))
        assert kinds(entities[targets(action, 'agent')[0]]) == ['Person']
        assert action['startTime'] <= action['endTime']
        assert targets(action, 'result')
    labelling = entities['#run-LabelCalculation']
    assert labelling['name'] == '2 runs of LabelCalculation'
    assert len(labelling['identifier']) == 2
    codes = [entities[tool] for tool in targets(labelling, 'instrument')]
    assert (codes[0]['name'], codes[0]['softwareVersion']) == ('SIESTA', '4.1.5')
    assert codes[-1]['description'] == 'executable /opt/nanoml-worker on cluster.example.org'


def test_steps_tools_and_engine_hang_together(entities):
    workflow = entities['workflow.cwl']
    assert set(kinds(workflow)) == {'File', 'SoftwareSourceCode', 'ComputationalWorkflow', 'HowTo'}
    steps = {entity['@id'] for entity in of_kind(entities, 'HowToStep')}
    assert steps == set(targets(workflow, 'step'))
    tools = set(targets(workflow, 'hasPart'))
    for step in steps:
        assert targets(entities[step], 'workExample')[0] in tools
    controls = of_kind(entities, 'ControlAction')
    assert {targets(control, 'instrument')[0] for control in controls} == steps
    [organised] = of_kind(entities, 'OrganizeAction')
    assert entities[targets(organised, 'instrument')[0]]['name'] == 'aiida-core'
    assert set(targets(organised, 'object')) == {control['@id'] for control in controls}
    for parameter in of_kind(entities, 'FormalParameter'):
        assert parameter['additionalType']
        assert targets(parameter, 'workExample')[0] in entities


@pytest.mark.parametrize(
    ('damage', 'fault'),
    [
        (
            lambda graph: graph.remove(next(found for found in graph if found['@id'] == '#aiida-core')),
            'refers to #aiida-core',
        ),
        (lambda graph: graph.append(dict(graph[0])), 'two entities have one @id'),
        (lambda graph: graph[0].pop('license'), 'the root has no license'),
    ],
)
def test_a_crate_that_does_not_hold_together_is_found_out(published, tmp_path, damage, fault):
    folder = shutil.copytree(published.folder, tmp_path / 'damaged')
    path = folder / 'ro-crate-metadata.json'
    content = json.loads(path.read_text(encoding='utf-8'))
    content['@graph'].sort(key=lambda entity: entity['@id'] != './')
    damage(content['@graph'])
    path.write_text(json.dumps(content), encoding='utf-8')
    with pytest.raises(ProvenanceError, match=fault):
        check_crate(folder)


def test_files_that_are_missing_or_not_told_of_are_found_out(published, tmp_path):
    folder = shutil.copytree(published.folder, tmp_path / 'damaged')
    (folder / 'references.bib').rename(folder / 'other.bib')
    with pytest.raises(ProvenanceError, match=r'no file references\.bib; other\.bib is not in the crate'):
        check_crate(folder)
