"""Fields that several actions share, and nodes by PK, UUID or label."""

from __future__ import annotations

import re

import pytest

from aiida_nanoml.actions.common import descriptor_choice
from aiida_nanoml.actions.errors import InputError
from aiida_nanoml.actions.fields import comma_separated
from aiida_nanoml.actions.nodes import load_data
from aiida_nanoml.actions.train import Train
from aiida_nanoml.calculations.functions.structures import merge_structures
from aiida_nanoml.data.structures import StructureSetData


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
    choice = descriptor_choice(text, dict(settings))
    assert choice == (expected if 'name' in expected else {'name': choice['name'], 'params': expected})
    assert choice['name'] == ('combined' if '+' in text else text)


@pytest.mark.parametrize(('text', 'key'), [('a+b', 'seed'), ('a+b', 'c.seed'), ('a', 'b.seed')])
def test_a_setting_of_no_descriptor_is_refused(text, key):
    with pytest.raises(
        InputError, match=f'descriptor_settings {key}: a parameter of {text.replace("+", ".")} is written'
    ):
        descriptor_choice(text, {key: 1})


def test_numbers_separated_by_commas():
    read = comma_separated(int, '300,50,25')['parse']
    assert read('300,50,25') == (300, 50, 25)
    with pytest.raises(ValueError, match=re.escape("'300;50' is not a list of whole numbers such as 300,50,25")):
        read('300;50')


def test_processes_are_cores_of_one_task():
    assert Train(dataset='gaps', wallclock=60, queue='short').job_options(4) == {
        'resources': {'num_machines': 1, 'num_mpiprocs_per_machine': 1, 'num_cores_per_mpiproc': 4},
        'max_wallclock_seconds': 60,
        'queue_name': 'short',
    }
    assert Train(dataset='gaps').job_options() == {}


def test_a_process_stands_for_the_one_node_that_it_made(aiida_profile_clean, make_chains):
    """A process that was submitted has the label; its result has none."""
    sets = {f'structures_{number:03d}': StructureSetData(make_chains(number + 2)) for number in range(2)}
    merged, process = merge_structures.run_get_node(**sets)
    process.label = 'merging'
    assert load_data('merging', ('nanoml.structures',)).uuid == merged.uuid
    with pytest.raises(InputError, match='which has finished, not a set of labels'):
        load_data('merging', ('nanoml.labels',))


def test_an_empty_identifier_is_refused(aiida_profile_clean):
    with pytest.raises(InputError, match='cannot be empty') as caught:
        load_data(' ', ('nanoml.structures',), 'structures')
    assert caught.value.field == 'structures'


def test_names_of_fields_become_those_of_the_face():
    error = InputError('choose either {lattice} or {size}, not both')
    assert str(error) == 'choose either lattice or size, not both'
    assert error.render(lambda name: f'--{name}') == 'choose either --lattice or --size, not both'


def test_training_says_why_few_rows_are_not_learnt_by_a_network(dataset_node, corrected_node) -> None:
    reason = Train(dataset=dataset_node).reason(dataset_node)
    n_rows = dataset_node.base.attributes.get('split')['train']
    assert reason.startswith(f'{n_rows} training rows, fewer than 100: the best of ridge, svm and forest by cross-val')
    assert reason.endswith('; --model fast trains a network')
    assert Train(dataset=corrected_node).reason(corrected_node).endswith('; --model correction trains a network')
    assert Train(dataset=corrected_node, alone=True).reason(corrected_node).endswith('; --model fast trains a network')
    assert Train(dataset=dataset_node, kind='ridge').reason(dataset_node) == ''
    assert Train(dataset=dataset_node, epochs=3).reason(dataset_node) == '', 'these mean a network'
