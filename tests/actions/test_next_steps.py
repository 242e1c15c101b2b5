"""What is printed as a next step, or as a remedy in a message, is a command that can be pasted."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click
import pytest

import aiida_nanoml
from aiida_nanoml.actions.base import Step, fill
from aiida_nanoml.actions.fields import FieldSpec, fields_of
from aiida_nanoml.actions.registry import action_class
from tests.actions.test_contract import command_of

PACKAGE = Path(aiida_nanoml.__file__).parent
NASTY = 'it\'s $HOME `x` "flake" ünïcode'
UNKNOWN = object()
COMMAND = re.compile(r'`aiida-nanoml ([a-z][^`]*)`')
WORD = 'word'
"""What stands in a message where a value is put in."""


def literal(node: ast.expr) -> Any:
    try:
        return ast.literal_eval(node)
    except ValueError:
        return UNKNOWN


def steps_in_source() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Return place, action and fields of every call of ``step`` in the actions."""
    for path in sorted((PACKAGE / 'actions').glob('*.py')):
        source = path.read_text(encoding='utf-8')
        for call in ast.walk(ast.parse(source)) if 'step(' in source else ():
            if not (isinstance(call, ast.Call) and getattr(call.func, 'id', '') == 'step' and call.args):
                continue
            action = literal(call.args[0])
            if isinstance(action, str):
                fields = {word.arg: literal(word.value) for word in call.keywords if word.arg is not None}
                yield f'{path.name}:{call.lineno}', action, fields


def messages_in_source() -> Iterator[tuple[str, str]]:
    """Return place and text of every command in backticks, with a word in the place of each value."""
    for path in sorted(PACKAGE.rglob('*.py')):
        source = path.read_text(encoding='utf-8')
        if '`aiida-nanoml' not in source:
            continue
        tree = ast.parse(source)
        whole = [node for node in ast.walk(tree) if isinstance(node, ast.JoinedStr)]
        inside = {id(part) for one in whole for part in ast.walk(one)} - {id(one) for one in whole}
        texts = [
            (node.lineno, ''.join(part.value if isinstance(part, ast.Constant) else WORD for part in node.values))
            for node in whole
        ]
        texts += [
            (node.lineno, node.value)
            for node in ast.walk(tree)
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inside
        ]
        for line, text in texts:
            for command in COMMAND.findall(' '.join(text.split())):
                yield f'{path.relative_to(PACKAGE)}:{line}', command


def sample(spec: FieldSpec, folder: Path) -> Any:
    """Return a value that a field takes, the worst to quote."""
    if spec.kind == 'path':
        path = folder / f'{NASTY.replace("/", "")}.png'  # figures need an ending
        if spec.display.exists == 'folder':
            path.mkdir(exist_ok=True)
        elif spec.display.exists == 'file':
            path.touch()
        value: Any = path
    elif spec.choices:
        value = spec.choices[0]
    elif spec.display.parse is not None:
        return spec.default
    elif spec.kind in ('integer', 'number'):
        value = (spec.minimum or 0) + 1
    elif spec.kind == 'flag':
        value = True
    elif spec.kind == 'mapping':
        return {'key': NASTY}
    else:
        value = NASTY
    return (value,) * (1 if spec.repeatable else spec.length) if spec.repeatable or spec.length > 1 else value


STEPS = list(steps_in_source())
MESSAGES = list(messages_in_source())


def test_steps_and_messages_are_found() -> None:
    assert len(STEPS) > 40
    assert len(MESSAGES) > 10


@pytest.mark.parametrize(('place', 'action', 'fields'), STEPS, ids=[f'{place} {action}' for place, action, _ in STEPS])
def test_a_next_step_is_read_as_it_was_meant(place: str, action: str, fields: dict[str, Any], tmp_path: Path) -> None:
    kind = action_class(action)
    specs = {spec.name: spec for spec in fields_of(kind)}
    assert set(fields) <= set(specs), f'{place} gives fields that {action} does not have'
    missing = {name for name, spec in specs.items() if spec.required} - set(fields)
    assert not missing, f'{place} leaves out {missing}'
    chosen = {
        name: sample(specs[name], tmp_path) if value is UNKNOWN or specs[name].kind == 'path' else value
        for name, value in fields.items()
    }
    chosen = {name: value for name, value in chosen.items() if value is not None}
    assert read(Step(action, chosen).command(), kind) == fill(kind, chosen)


def read(line: str, kind: Any) -> Any:
    """Return the action that the command line makes of a command."""
    command, arguments = command_of(shlex.split(line))
    context = command.make_context(command.name, arguments, resilient_parsing=False)
    specs = {spec.name: spec for spec in fields_of(kind)}
    given: Mapping[str, Any] = {
        name: dict(value) if specs[name].kind == 'mapping' else value
        for name, value in context.params.items()
        if name in specs and context.get_parameter_source(name) is not click.core.ParameterSource.DEFAULT
    }
    return fill(kind, getattr(command, 'preset', {}) | given)


@pytest.mark.parametrize(('place', 'line'), MESSAGES, ids=[f'{place} {line}' for place, line in MESSAGES])
def test_a_command_in_a_message_can_be_read(place: str, line: str) -> None:
    words = [word for word in shlex.split(line) if word != '…']
    command, arguments = command_of(words)
    command.make_parser(click.Context(command)).parse_args(arguments)
