"""Commands that keep order: list, relabel, delete, groups; output that nobody reads to its end."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiida import orm
from click.shell_completion import BashComplete, ShellComplete
from click.testing import Result

from aiida_nanoml.actions.delete_nodes import DeleteNodes
from aiida_nanoml.actions.errors import ActionError
from aiida_nanoml.actions.session import Session
from aiida_nanoml.calculations.functions.structures import merge_structures
from aiida_nanoml.calculations.local_worker import make_code, make_localhost
from aiida_nanoml.cli import root
from aiida_nanoml.cli.commands import COMMANDS, SECTIONS
from aiida_nanoml.data.labels import LabelSetData
from aiida_nanoml.data.structures import StructureSetData
from aiida_nanoml.engines.label_set import LabelSet

PROGRAM = Path(sys.executable).with_name('aiida-nanoml')


@pytest.fixture
def merged(make_chains: Callable[..., Any]) -> StructureSetData:
    """A set that was made of two others, which have names as it has."""
    sets = {}
    for number in range(2):
        node = StructureSetData(make_chains(number + 2), label=f'part {number}').store()
        sets[f'structures_{number:03d}'] = node
    made = merge_structures(**sets)
    made.label = 'both'
    return made


def test_list_shows_the_newest_first(merged: StructureSetData, cli: Callable[..., Result], cli_json: Any) -> None:
    found = cli_json('list')
    assert [node['label'] for node in found['nodes']] == ['both', 'part 1', 'part 0']
    assert found['nodes'][0]['content'] == '2 structures'
    assert [node['label'] for node in cli_json('list', 'structures', '--name', 'PART', '--limit', 1)['nodes']] == [
        'part 1'
    ]
    assert cli_json('list', '--name', '%')['nodes'] == [], 'a sign of SQL is a sign like any other'
    assert cli_json('list', 'models')['n_nodes'] == 0
    assert cli_json('list', '--days', 1)['n_nodes'] == 3
    assert cli_json('list', 'processes', '--unnamed')['nodes'][0]['content'] == 'finished'
    assert '… 1 more: --limit 3 shows all' in cli('list', '--limit', 2).stdout


def test_relabel(merged: StructureSetData, cli: Callable[..., Result], cli_json: Any) -> None:
    assert cli_json('relabel', 'both', 'all')['before'] == 'both'
    error = cli('relabel', 'all', 'part 0', status=2).stderr
    assert 'the name part 0 belongs to a set of structures, pk ' in error
    assert '--replace-name' in error
    cli('relabel', 'all', 'part 0', '--replace-name')
    assert cli_json('structures', 'show', 'part 0')['uuid'] == merged.uuid
    assert 'would be read as a PK' in cli('relabel', 'part 1', '007', status=2).stderr


def test_delete_shows_what_depends_and_asks(
    merged: StructureSetData, cli: Callable[..., Result], cli_json: Any
) -> None:
    found = cli_json('delete', 'part 0', '--dry-run')
    assert {node['label'] for node in found['nodes'] if node['type'] == 'nanoml.structures'} == {'part 0', 'both'}
    assert found['n_nodes'] == 3
    assert found['deleted'] is False
    shown = cli('delete', 'part 0', '--dry-run')
    assert 'both (pk ' in shown.stdout
    with pytest.raises(ActionError, match='only --yes deletes'):
        DeleteNodes(nodes=('part 0',)).run(Session())
    assert orm.QueryBuilder().append(orm.Node).count() == 4
    assert cli_json('delete', 'part 0', '--yes')['deleted'] is True
    assert [node['label'] for node in cli_json('list')['nodes']] == ['part 1']


def test_groups(merged: StructureSetData, cli: Callable[..., Result], cli_json: Any) -> None:
    assert cli_json('groups', 'add', 'paper', 'both', 'part 0')['n_nodes'] == 2
    assert [group['name'] for group in cli_json('groups', 'list')['groups']] == ['paper']
    assert [node['label'] for node in cli_json('list', '--group', 'paper')['nodes']] == ['both', 'part 0']
    assert cli_json('groups', 'remove', 'paper', 'both')['n_nodes'] == 1
    assert cli_json('groups', 'remove', 'paper', 'part 0')['n_nodes'] == 0
    assert "there is no group 'paper'" in cli('list', '--group', 'paper', status=2).stderr


def test_every_command_is_in_one_section() -> None:
    shown = [name for section in SECTIONS.values() for name in section]
    assert sorted(shown) == sorted(COMMANDS)


def test_help_shows_the_sections(cli: Callable[..., Result]) -> None:
    text = cli('--help').stdout
    places = [text.index(f'\n{title}:\n') for title in SECTIONS]
    assert places == sorted(places)


def test_who_reads_may_stop() -> None:
    done = subprocess.run(
        ['bash', '-c', '"$0" actions schema label | true; exit "${PIPESTATUS[0]}"', PROGRAM],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, '')


def completed(*words: str) -> list[str]:
    """Return what a shell proposes for the last word of a command."""
    shell = ShellComplete(root, {}, 'aiida-nanoml', '_AIIDA_NANOML_COMPLETE')
    return [item.value for item in shell.get_completions(list(words[:-1]), words[-1])]


def test_the_shell_completes_names_of_nodes_of_the_right_kind(
    make_chains: Callable[..., Any], flake_labels: LabelSet
) -> None:
    structures = make_chains(2, 3)
    for label in ('flakes', 'fl_a', 'f%', 'two words', ''):
        StructureSetData(structures, label=label).store()
    again = StructureSetData(structures, label='flakes').store()
    LabelSetData(flake_labels, label='flake-gaps').store()
    make_code(make_localhost())

    assert completed('label', '') == ['flakes', 'f%', 'fl_a'], 'the newest first, without blanks, each name once'
    assert completed('label', 'fl_') == ['fl_a'], 'signs of SQL are signs like any other'
    assert completed('label', 'F') == []
    assert completed('dataset', 'build', 'flakes', '--labels', 'fl') == ['flake-gaps']
    assert completed('dataset', 'build', 'flakes', 'f%', 'fla') == ['flakes'], 'each of several arguments'
    assert completed('trace', 'fla') == ['flake-gaps', 'flakes'], 'any kind'
    assert completed('train', '') == []
    assert completed('label', 'flakes', '--code', 'nano') == ['nanoml-worker@localhost']
    assert completed('label', 'flakes', '--code', 'nanoml-worker@other') == []
    shell = BashComplete(root, {}, 'aiida-nanoml', '_AIIDA_NANOML_COMPLETE')
    (item,) = shell.get_completions(['label'], 'flake')
    assert (shell.format_completion(item), item.help) == ('plain,flakes', f'pk {again.pk}')


def test_completion_is_silent_without_a_profile(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_profile() -> None:
        raise ActionError('no profile')

    monkeypatch.setattr('aiida_nanoml.actions.nodes.load_storage', no_profile)
    assert completed('label', 'fl') == []
