"""``aiida-nanoml reproduce``."""

from __future__ import annotations

import pytest
from aiida import load_profile, orm
from aiida.common.links import LinkType
from aiida.tools.archive import create_archive

from aiida_nanoml.calculations.functions.structures import generate_flake_set
from aiida_nanoml.data.structures import StructureSetData
from aiida_nanoml.structures import FlakeParameters, generate_flakes

PARAMETERS = {'family': 'z', 'size': 2, 'count': 3, 'seed': 7}


@pytest.fixture
def mistaken(aiida_profile) -> StructureSetData:
    """Flakes that are recorded as drawn with another seed than they were."""
    process = orm.CalcFunctionNode(process_type='aiida.calculations:nanoml.generate_flake_set')
    process.set_process_label('generate_flake_set')
    process.base.links.add_incoming(orm.Dict(PARAMETERS).store(), LinkType.INPUT_CALC, 'parameters')
    process.store()
    node = StructureSetData(generate_flakes(FlakeParameters(**PARAMETERS | {'seed': 8})))
    node.base.links.add_incoming(process, LinkType.CREATE, 'result')
    node.label = 'mistaken'
    node.store()
    process.set_process_state('finished')
    process.set_exit_status(0)
    process.seal()
    return node


def test_a_result_that_comes_out_otherwise_ends_with_status_1(mistaken, cli):
    result = cli('reproduce', 'mistaken', '--tolerance', '1e-9', status=1)
    lines = result.stdout.splitlines()
    assert lines[0] == f'nanoml.structures mistaken (uuid {mistaken.uuid})'
    assert any(line.strip().startswith('result.hashes: 3 of 3 differ') for line in lines)
    assert lines[-2].startswith('differs: ')
    assert lines[-1] == f'next: aiida-nanoml trace {mistaken.uuid}'
    assert '1 of 1: generate_flake_set' in result.stderr


def test_a_node_of_an_archive_is_reproduced_without_its_profile(cli_json, aiida_profile, tmp_path):
    node = generate_flake_set(orm.Dict(PARAMETERS))
    archive, uuid = create_archive([node], tmp_path / 'paper.aiida'), node.uuid
    try:
        content = cli_json('reproduce', uuid[:13], '--archive', archive, '--from', 'start')
    finally:
        load_profile(aiida_profile, allow_switch=True)
    assert (content['uuid'], content['verdict'], content['since']) == (uuid, 'identical', 'start')
    assert {one['verdict'] for one in content['steps'][0]['quantities']} == {'identical'}
    assert content['machine']['python']


def test_what_cannot_be_reproduced_is_told_in_one_line(cli, structures_node):
    assert 'stored without a process' in cli('reproduce', structures_node.pk, status=1).stderr
    assert "'dft' is not one of" in cli('reproduce', structures_node.pk, '--from', 'dft', status=2).stderr
