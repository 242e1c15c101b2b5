"""Actions of another package: they are listed, have a schema, and become commands without a change here."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from click.testing import CliRunner

from aiida_nanoml.actions.base import fill
from aiida_nanoml.actions.errors import InputError
from aiida_nanoml.actions.registry import action_class
from aiida_nanoml.cli import root

pytestmark = pytest.mark.usefixtures('third_party_path')


@pytest.fixture
def cli() -> Callable[..., str]:
    """Call a command and return what it prints."""

    def call(*arguments: str, status: int = 0) -> str:
        result = CliRunner().invoke(root, list(arguments))
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == status, result.output
        return result.stdout if status == 0 else result.stderr

    return call


def test_it_is_listed_with_its_command(cli) -> None:
    listed = {entry['name']: entry for entry in json.loads(cli('actions', 'list', '--json'))['actions']}
    assert listed['largest']['command'] == 'aiida-nanoml structures largest'
    assert listed['largest']['help'] == 'List the structures of STRUCTURES with the most atoms'
    assert 'order' in listed


def test_it_has_a_command_in_a_group_of_ours(cli) -> None:
    assert 'largest' in cli('structures', '--help')
    page = ' '.join(cli('structures', 'largest', '--help').split())
    assert 'Number of structures to list. [default: 10] [1<=x<=1000]' in page
    assert 'Distance that an atom takes, in Å. [default: 1.4]' in page
    assert 'aiida-nanoml structures largest flakes --count 3' in page


def test_its_schema_has_bounds_and_units(cli) -> None:
    schema = json.loads(cli('actions', 'schema', 'largest', '--json'))
    assert schema['title'] == 'largest'
    assert schema['required'] == ['structures']
    spacing = schema['properties']['spacing']
    assert (spacing['exclusiveMinimum'], spacing['maximum'], spacing['unit']) == (0, 10, 'Å')
    assert spacing['description'] == 'Distance that an atom takes.'


def test_it_runs(cli, structures_node) -> None:
    printed = json.loads(cli('structures', 'largest', structures_node.uuid, '--count', '2', '--json'))
    structures = structures_node.structures
    assert list(printed['sizes'].values()) == sorted(structures.counts.tolist(), reverse=True)[:2]
    last = cli('structures', 'largest', structures_node.uuid).splitlines()[-1]
    assert last == f'next: aiida-nanoml structures show {structures_node.uuid}'


def test_a_rule_across_fields_has_the_names_of_each_face(cli) -> None:
    fields = {'structures': '1', 'longest': 1.0}
    with pytest.raises(InputError, match=r'^longest must not be below spacing$'):
        fill(action_class('largest'), fields)
    refused = cli('structures', 'largest', '1', '--longest', '1', status=2)
    assert "Invalid value for '--longest': --longest must not be below --spacing" in refused


def test_each_choice_has_a_command(cli) -> None:
    assert 'order' in cli('--help')
    assert [line.split()[0] for line in cli('order', '--help').splitlines() if line.startswith('  by-')] == [
        'by-atoms',
        'by-mass',
    ]
    page = cli('order', 'by-mass', '--help')
    assert 'Compare two structures by mass.' in page
    assert '--way' not in page
    printed = cli('order', 'by-atoms', '3', '5').splitlines()
    assert printed[0].split() == ['by_atoms', '2']
    assert printed[-1] == 'next: aiida-nanoml order by-mass 1 2'
    assert 'No such command' in cli('order', 'by-colour', '3', '5', status=2)
