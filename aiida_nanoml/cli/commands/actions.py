"""Commands ``actions list`` and ``actions schema``: what can be asked of the package, for programs."""

from __future__ import annotations

import json
from typing import Any

import click

from aiida_nanoml.actions.base import first_sentence
from aiida_nanoml.actions.registry import action_class, action_names
from aiida_nanoml.cli.parameters import example
from aiida_nanoml.text import aligned


@click.command('list', epilog=example('aiida-nanoml actions list'))
@click.option('--json', 'as_json', is_flag=True, help='Print one JSON object.')
def list_(as_json: bool) -> None:
    """List all actions, those of other packages too, with the command of each."""
    rows: list[dict[str, Any]] = []
    for name in action_names():
        action = action_class(name)
        command = f'aiida-nanoml {" ".join(action.command)}'
        rows.append({'name': name, 'command': command, 'help': first_sentence(action.describe({}))})
    if as_json:
        click.echo(json.dumps({'actions': rows}))
        return
    click.echo(aligned([[row['name'], row['command'], row['help']] for row in rows]))
    click.echo('next: aiida-nanoml actions schema label')


@click.command(epilog=example('aiida-nanoml actions schema label'))
@click.argument('name')
@click.option('--json', 'as_json', is_flag=True, help='Print it in one line.')
def schema(name: str, as_json: bool) -> None:
    """Print the JSON Schema of the action NAME: its fields with types, bounds, units, defaults and help.

    Rules across fields are not in it: a value that fits the schema may still be refused.
    """
    click.echo(json.dumps(action_class(name).json_schema(), indent=None if as_json else 2, ensure_ascii=False))
