"""Arguments and options that commands share."""

from __future__ import annotations

import click
import pytest
from aiida import orm

from aiida_nanoml.calculations.functions.structures import merge_structures
from aiida_nanoml.cli.options import DataNode, KeyValue, Numbers, descriptor_choice, job_options
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


@pytest.mark.parametrize(
    ('text', 'settings', 'expected'),
    [
        ('clusters', [], {'name': 'clusters', 'params': {}}),
        ('clusters', [('seed', 3), ('clusters.binary', False)], {'seed': 3, 'binary': False}),
        ('quadruplets', [], {'unknown': 'drop'}),
        ('quadruplets', [('unknown', 'error')], {'unknown': 'error'}),
        (
            'shells+clusters',
            [('clusters.seed', 3)],
            {'parts': [{'name': 'shells', 'params': {}}, {'name': 'clusters', 'params': {'seed': 3}}]},
        ),
    ],
)
def test_descriptor_and_its_settings(text, settings, expected):
    choice = descriptor_choice(text, settings)
    assert choice == (expected if 'name' in expected else {'name': choice['name'], 'params': expected})
    assert choice['name'] == ('combined' if '+' in text else text)


@pytest.mark.parametrize(('text', 'key'), [('a+b', 'seed'), ('a+b', 'c.seed'), ('a', 'b.seed')])
def test_a_setting_of_no_descriptor_is_refused(text, key):
    with pytest.raises(click.UsageError, match=f'--set {key}: a parameter of {text.replace("+", ".")} is written'):
        descriptor_choice(text, [(key, 1)])


def test_numbers():
    assert Numbers().convert('300,50,25', None, None) == [300, 50, 25]
    with pytest.raises(click.BadParameter, match='300,50,25'):
        Numbers().convert('300;50', None, None)


def test_processes_are_cores_of_one_task():
    assert job_options(60, 'short', 4) == {
        'resources': {'num_machines': 1, 'num_mpiprocs_per_machine': 1, 'num_cores_per_mpiproc': 4},
        'max_wallclock_seconds': 60,
        'queue_name': 'short',
    }
    assert job_options(None, None) == {}


def test_node_by_pk_uuid_and_label(cli_json, structures_node):
    structures_node.label = f'set {structures_node.uuid}'
    found = [cli_json('structures', 'show', key) for key in (structures_node.pk, structures_node.uuid)]
    found.append(cli_json('structures', 'show', structures_node.label))
    assert [content['uuid'] for content in found] == [structures_node.uuid] * 3
    assert found[0]['type'] == 'nanoml.structures'


def test_node_of_another_type_is_named(cli, structures_node):
    error = cli('dataset', 'show', structures_node.pk, status=2).stderr
    assert 'expected a data set (nanoml.dataset)' in error
    assert f'{structures_node.pk} is of the type nanoml.structures' in error


def test_missing_node(cli):
    assert "there is no node 'nothing-like-it'" in cli('dataset', 'show', 'nothing-like-it', status=2).stderr


def test_ambiguous_label(cli, flakes):
    from aiida_nanoml.data.structures import StructureSetData

    for _ in range(2):
        StructureSetData(flakes, label='twice').store()
    assert "'twice' is not clear" in cli('structures', 'show', 'twice', status=2).stderr


def test_missing_code_says_how_to_make_one(aiida_profile_clean, cli, flakes):
    from aiida_nanoml.data.structures import StructureSetData

    node = StructureSetData(flakes).store()
    error = cli('label', node.pk, status=1).stderr
    assert 'aiida-nanoml doctor --fix' in error


def test_several_codes_are_listed(aiida_profile_clean, cli, flakes, code):
    from aiida_nanoml.data.structures import StructureSetData

    node = StructureSetData(flakes).store()
    computer = orm.Computer('other', 'other.host', 'Other', 'core.local', 'core.direct', '/elsewhere').store()
    orm.InstalledCode(label='nanoml-worker', computer=computer, filepath_executable='/elsewhere/nanoml-worker').store()
    error = cli('label', node.pk, status=1).stderr
    assert 'nanoml-worker@localhost' in error
    assert 'nanoml-worker@other' in error
    assert '--code' in error


def test_a_process_stands_for_the_one_node_that_it_made(make_chains):
    """A process handed to the daemon bears the label; its result has none."""
    sets = {f'structures_{number:03d}': StructureSetData(make_chains(number + 2)) for number in range(2)}
    merged, process = merge_structures.run_get_node(**sets)
    process.label = 'merging'
    assert DataNode('nanoml.structures').convert('merging', None, None).uuid == merged.uuid
    with pytest.raises(click.BadParameter, match='expected a set of labels'):
        DataNode('nanoml.labels').convert('merging', None, None)
