"""Options made from fields: types, settings and the nodes that they refer to."""

from __future__ import annotations

import click
import pytest
from aiida import orm

from aiida_nanoml.cli.parameters import KeyValue
from aiida_nanoml.data.structures import StructureSetData


@pytest.mark.parametrize(
    ('text', 'expected'),
    [
        ('epochs=500', ('epochs', 500)),
        ('learning_rate=1e-3', ('learning_rate', 0.001)),
        ('alpha=0.5', ('alpha', 0.5)),
        ('hidden_layers=[64, 64]', ('hidden_layers', [64, 64])),
        ('standardize=false', ('standardize', False)),
        ('method=GFN2-xTB', ('method', 'GFN2-xTB')),
        ('expression=a=b', ('expression', 'a=b')),
        ('max_depth=null', ('max_depth', None)),
    ],
)
def test_setting_keeps_the_type(text, expected):
    key, value = KeyValue().convert(text, None, None)
    assert (key, value) == expected
    assert type(value) is type(expected[1])


@pytest.mark.parametrize('text', ['epochs', '=3', 'a=[1,', 'a=!!python/object/apply:os.system ["true"]'])
def test_setting_refuses_what_it_cannot_read(text):
    with pytest.raises(click.BadParameter):
        KeyValue().convert(text, None, None)


def test_node_by_pk_uuid_and_label(cli_json, structures_node):
    structures_node.label = f'set {structures_node.uuid}'
    found = [cli_json('structures', 'show', key) for key in (structures_node.pk, structures_node.uuid)]
    found.append(cli_json('structures', 'show', structures_node.label))
    assert [content['uuid'] for content in found] == [structures_node.uuid] * 3
    assert found[0]['type'] == 'nanoml.structures'


def test_node_of_another_type_is_named(cli, structures_node):
    error = cli('dataset', 'show', structures_node.pk, status=2).stderr
    assert f'{structures_node.pk} is a set of structures (pk {structures_node.pk}), not a data set' in error


def test_missing_node(cli):
    assert "there is no node 'nothing-like-it'" in cli('dataset', 'show', 'nothing-like-it', status=2).stderr


def test_ambiguous_label(cli, flakes):
    for _ in range(2):
        StructureSetData(flakes, label='twice').store()
    error = cli('structures', 'show', 'twice', status=2).stderr
    assert "the name 'twice' belongs to 2 sets of structures: pk " in error
    assert 'aiida-nanoml relabel' in error


def test_missing_code_says_how_to_make_one(aiida_profile_clean, cli, flakes):
    node = StructureSetData(flakes).store()
    error = cli('label', node.pk, status=1).stderr
    assert 'aiida-nanoml doctor --fix' in error


def test_several_codes_are_listed(aiida_profile_clean, cli, flakes, code):
    node = StructureSetData(flakes).store()
    computer = orm.Computer('other', 'other.host', 'Other', 'core.ssh', 'core.direct', '/elsewhere').store()
    computer.configure()
    orm.InstalledCode(label='nanoml-worker', computer=computer, filepath_executable='/elsewhere/nanoml-worker').store()
    error = cli('label', node.pk, status=1).stderr
    assert 'nanoml-worker@localhost' in error
    assert 'nanoml-worker@other' in error
    assert '--code' in error


def test_an_estimate_does_nothing(cli, cli_json, structures_node, code):
    before = orm.QueryBuilder().append(orm.Node).count()
    content = cli_json('label', structures_node.pk, '--protocol', 'fast', '--batch-size', 5, '--estimate')
    assert content == {
        'jobs': 3,
        'seconds': None,
        'memory_mb': None,
        'basis': 'no label of xtb with the protocol fast is known in this profile',
    }
    assert 'time    unknown' in cli('label', structures_node.pk, '--estimate').stdout
    assert orm.QueryBuilder().append(orm.Node).count() == before
