"""The root group: lazy commands, help pages, faults in one line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click
import pytest
from aiida.cmdline.commands.cmd_data import verdi_data

from aiida_nanoml.cli import COMMANDS, root


def walk(command: click.Command, path: tuple[str, ...] = ()):
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            yield from walk(command.get_command(context, name), (*path, name))
    else:
        yield path, command


COMMAND_PATHS = dict(walk(root))


def test_commands_of_the_usual_way_are_there():
    expected = {'flakes', 'structures', 'label', 'dataset', 'train', 'model', 'predict', 'validate', 'plot', 'trace'}
    assert expected <= set(COMMANDS)
    assert {('flakes', 'generate'), ('dataset', 'import'), ('model', 'export')} <= set(COMMAND_PATHS)


@pytest.mark.parametrize('path', COMMAND_PATHS, ids=' '.join)
def test_help_has_an_example_that_parses(path, cli):
    text = cli(*path, '--help').output
    assert 'Example:' in text
    assert f'aiida-nanoml {" ".join(path)}' in text


@pytest.mark.parametrize('path', [path for path in COMMAND_PATHS if path[0] != 'quickstart'], ids=' '.join)
def test_every_command_speaks_json(path):
    assert '--json' in {name for option in COMMAND_PATHS[path].params for name in option.opts}


def test_verdi_offers_the_same_group():
    assert verdi_data.get_command(click.Context(verdi_data), 'nanoml') is root


def test_help_imports_nothing_heavy():
    program = (
        'import sys\n'
        'from click.testing import CliRunner\n'
        'from aiida_nanoml.cli import root\n'
        'assert CliRunner().invoke(root, ["--help"]).exit_code == 0\n'
        'heavy = {"tensorflow", "sklearn", "pymatgen", "ase", "tblite", "matplotlib", "scipy", "aiida.orm"}\n'
        'print(sorted(heavy & set(sys.modules)))\n'
    )
    result = subprocess.run([sys.executable, '-c', program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == '[]'


def test_verdi_help_does_not_import_the_commands():
    program = (
        'import sys\n'
        'from click.testing import CliRunner\n'
        'from aiida.cmdline.commands.cmd_verdi import verdi\n'
        'CliRunner().invoke(verdi, ["--help"])\n'
        'print("aiida_nanoml" in sys.modules)\n'
    )
    result = subprocess.run([sys.executable, '-c', program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == 'False'


def test_no_profile_is_one_line_that_says_what_to_do(tmp_path: Path, monkeypatch):
    monkeypatch.setenv('AIIDA_PATH', str(tmp_path))
    command = [str(Path(sys.executable).with_name('aiida-nanoml')), 'structures', 'show', '1']
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert 'Traceback' not in result.stderr
    assert 'verdi presto' in result.stderr
    assert result.stdout == ''


def test_unknown_profile_is_refused(cli):
    assert 'profile `nowhere` does not exist' in cli('-p', 'nowhere', 'trace', '1', status=2).stderr


def test_unknown_command_is_refused(cli):
    assert "No such command 'flake'" in cli('flake', status=2).stderr
