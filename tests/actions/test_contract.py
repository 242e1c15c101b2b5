"""What every action keeps, whichever package it comes from: every face relies on it."""

from __future__ import annotations

import ast
import inspect
import re
import shlex
import sys
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click
import pytest
from pydantic import ValidationError

from aiida_nanoml.actions.base import Action, choice_word, fill
from aiida_nanoml.actions.errors import InputError
from aiida_nanoml.actions.fields import FieldSpec, fields_of
from aiida_nanoml.actions.registry import action_class, action_names
from aiida_nanoml.cli import root
from aiida_nanoml.cli.commands import COMMANDS, EACH, Group

THIRD_PARTY = str(Path(__file__).parents[1] / 'third_party')
FOREIGN = ('largest', 'order')
BOUNDS = {'minimum', 'exclusiveMinimum', 'maximum', 'exclusiveMaximum', 'enum', 'const'}
SENTENCE = re.compile(r'\S.*\.', re.DOTALL)
MENTION = re.compile(r'\{(\w+)\}')


@pytest.fixture(params=[*action_names(), *FOREIGN])
def action(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> type[Action]:
    """Return each registered action, and those of a package that is installed for the test."""
    if request.param in FOREIGN:
        monkeypatch.syspath_prepend(THIRD_PARTY)
    return action_class(request.param)


def presets(action: type[Action]) -> list[dict[str, Any]]:
    """Return what commands fill in beforehand: nothing, or each choice of an action with several commands."""
    if action.choice_field is None:
        return [{}]
    [spec] = [spec for spec in fields_of(action) if spec.name == action.choice_field]
    return [{spec.name: choice} for choice in spec.choices]


def numbers_in(schema: Any) -> Iterator[Mapping[str, Any]]:
    """Return all parts of a JSON Schema that describe a number."""
    if isinstance(schema, Mapping):
        kinds = schema.get('type', ())
        if {'number', 'integer'} & set([kinds] if isinstance(kinds, str) else kinds):
            yield schema
        for key, part in schema.items():
            if key not in ('default', 'enum'):
                yield from numbers_in(part)
    elif isinstance(schema, list):
        for part in schema:
            yield from numbers_in(part)


def table_paths(commands: Mapping[str, str | Group], path: tuple[str, ...] = ()) -> dict[str, list[tuple[str, ...]]]:
    """Return the commands of each action in the table."""
    found: dict[str, list[tuple[str, ...]]] = {}
    for word, entry in commands.items():
        here = path if word == EACH else (*path, word)
        below = table_paths(entry.commands, here) if isinstance(entry, Group) else {entry: [here]}
        for name, places in below.items():
            found.setdefault(name, []).extend(places)
    return found


def command_of(words: list[str]) -> tuple[click.Command, list[str]]:
    """Return the command that words call, and the words that are left for it."""
    command: click.Command = root
    while isinstance(command, click.Group):
        found = command.get_command(click.Context(command), words[0])
        assert found is not None, f'there is no command {words[0]}'
        command, words = found, words[1:]
    return command, words


def mentions(action: type[Action]) -> set[str]:
    """Return the fields that messages of an action, and of what it inherits, name in braces or as the faulty one."""
    found: set[str] = set()
    for cls in action.__mro__[:-1]:
        if not issubclass(cls, Action) and not hasattr(cls, 'model_fields'):
            continue
        if cls.__module__.startswith('pydantic'):
            continue
        for call in ast.walk(ast.parse(textwrap.dedent(inspect.getsource(cls)))):
            if isinstance(call, ast.Call) and getattr(call.func, 'id', None) == 'InputError':
                texts = [node.value for node in ast.walk(call.args[0]) if isinstance(node, ast.Constant)]
                found |= {name for text in texts if isinstance(text, str) for name in MENTION.findall(text)}
                found |= {node.value for node in call.args[1:] if isinstance(node, ast.Constant) and node.value}
    return found


def test_every_field_has_a_sentence_of_help(action: type[Action]) -> None:
    for spec in fields_of(action):
        assert SENTENCE.fullmatch(spec.help), f'{action.action}.{spec.name}: {spec.help!r} is no sentence'
    for preset in presets(action):
        assert SENTENCE.match(action.describe(preset)), f'{action.action} {preset} has no help'


def test_the_schema_describes_and_bounds_every_field(action: type[Action]) -> None:
    schema = action.json_schema()
    assert schema['title'] == action.action
    assert schema['additionalProperties'] is False
    assert set(schema['properties']) == {spec.name for spec in fields_of(action)}
    for name, content in schema['properties'].items():
        assert content.get('description'), f'{action.action}.{name} has no description'
        unbounded = [part for part in numbers_in(content) if not BOUNDS & set(part)]
        assert unbounded == [], f'{action.action}.{name} is a number without bounds'


def test_defaults_are_within_the_bounds(action: type[Action]) -> None:
    for spec in fields_of(action):
        values = spec.default if isinstance(spec.default, tuple) else (spec.default,)
        for value in values:
            if isinstance(value, int | float) and not isinstance(value, bool):
                assert within(spec, value), f'{action.action}.{spec.name}: {value}'


def within(spec: FieldSpec, value: float) -> bool:
    low = spec.minimum is None or value > spec.minimum or (value == spec.minimum and not spec.excludes_minimum)
    high = spec.maximum is None or value < spec.maximum or (value == spec.maximum and not spec.excludes_maximum)
    return low and high


def test_its_command_is_where_the_table_has_it(action: type[Action]) -> None:
    places = table_paths(COMMANDS).get(action.action, [action.command])
    assert action.command in places
    for preset in presets(action):
        words = [*action.command, *map(choice_word, preset.values())]
        command, left = command_of(words)
        assert not left
        assert getattr(command, 'action', None) is action
        assert getattr(command, 'preset', None) == preset


def test_its_examples_can_be_read(action: type[Action]) -> None:
    for preset in presets(action):
        lines = action.examples(preset).replace('\\\n', ' ').splitlines()
        assert any(line.split()[1 : 1 + len(action.command)] == [*action.command] for line in lines)
        for line in lines:
            program, *words = shlex.split(line)
            assert program == 'aiida-nanoml'
            command, arguments = command_of(words)
            command.make_parser(click.Context(command)).parse_args(arguments)


def test_it_is_frozen_and_refuses_unknown_fields(action: type[Action]) -> None:
    with pytest.raises(ValidationError, match='frozen'):
        action.model_construct().name = 'other'
    with pytest.raises(ValidationError) as error:
        action.model_validate({'no_such_field': 1})
    assert 'extra_forbidden' in {fault['type'] for fault in error.value.errors()}
    with pytest.raises(InputError):
        fill(action, {'no_such_field': 1})


def test_its_messages_name_fields_that_exist(action: type[Action]) -> None:
    assert mentions(action) <= set(action.model_fields)


def test_names_that_a_message_gives_are_found() -> None:
    """The test above must see them."""
    assert {'only', 'choose', 'count', 'labels', 'submit'} <= mentions(action_class('validate'))
    assert 'settings' in mentions(action_class('active'))


def test_every_action_of_the_table_is_registered() -> None:
    """Entries with a colon are commands made by hand; that each action has a command is checked above."""
    assert {name for name in table_paths(COMMANDS) if ':' not in name} <= set(action_names())


def test_an_action_is_read_without_its_heavy_libraries(action: type[Action]) -> None:
    """Reading the class must not import what only its work needs."""
    module = sys.modules[action.__module__]
    assert not {'aiida', 'tensorflow', 'sklearn', 'click'} & set(vars(module)), module.__name__
