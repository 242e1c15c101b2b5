"""Commands and options of earlier versions still exist and mean the same, so that scripts of users continue to work.

``options_before.json`` was written by ``option_tree.py`` before the options were generated from actions.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.option_tree import option_tree

BEFORE: dict[str, list[dict[str, Any]]] = json.loads(
    Path(__file__).with_name('options_before.json').read_text(encoding='utf-8')
)
KEPT = ('kind', 'place', 'nargs', 'multiple', 'required', 'is_flag')
"""What must not change of an argument or option; names in Python and texts may."""

CHANGED: dict[tuple[str, str], str] = {
    (
        'quickstart',
        '--count',
    ): '200 flakes of each family are enough for the better inputs, and take two thirds of the time'
}
"""Reason of each change on purpose, by command and option ('' for the whole command); CHANGELOG has it, too."""


@pytest.fixture(scope='module')
def now() -> dict[str, list[dict[str, Any]]]:
    return option_tree()


def differences(before: dict[str, Any], now: list[dict[str, Any]]) -> list[str]:
    """Return how a parameter of before differs from what a command takes now; arguments are found by their place."""
    name = '/'.join(before['opts'])
    if before['kind'] == 'argument':
        found = [parameter for parameter in now if parameter['place'] == before['place']]
    else:
        found = [parameter for parameter in now if set(before['opts']) & set(parameter['opts'])]
    if len(found) != 1:
        return [f'{name} is found {len(found)} times']
    [one] = found
    changes = [f'{name}: {key} {before[key]} -> {one[key]}' for key in KEPT if before[key] != one[key]]
    if before['kind'] == 'option':
        changes += [f'{name} is no longer called {word}' for word in before['opts'] if word not in one['opts']]
    if before['shown'] and before['default'] != one['default']:
        changes.append(f'{name}: default {before["default"]} -> {one["default"]}')
    changes += [f'{name}: no longer takes {choice}' for choice in before['choices'] if choice not in one['choices']]
    return changes


@pytest.mark.parametrize('path', BEFORE, ids=lambda path: path or 'aiida-nanoml')
def test_command_takes_what_it_took(path: str, now: dict[str, list[dict[str, Any]]]) -> None:
    if (path, '') in CHANGED:
        return
    assert path in now, f'the command {path} is gone'
    changes = [
        change
        for parameter in BEFORE[path]
        if not any((path, word) in CHANGED for word in parameter['opts'])
        for change in differences(parameter, now[path])
    ]
    new = [
        one['opts']
        for one in now[path]
        if one['required']
        and not any(
            one['opts'] == parameter['opts'] or (one['place'] is not None and one['place'] == parameter['place'])
            for parameter in BEFORE[path]
        )
    ]
    assert changes == []
    assert new == [], 'what is new must not be required'


def test_every_change_is_one(now: dict[str, list[dict[str, Any]]]) -> None:
    """A reason for a change that does not exist would hide a later one."""
    for path, word in CHANGED:
        if word:
            [before] = [parameter for parameter in BEFORE[path] if word in parameter['opts']]
            assert differences(before, now[path]), f'{path} {word} has not changed'
        else:
            assert path not in now, f'{path} is still there'


def test_a_lost_option_is_noticed() -> None:
    [seed] = [parameter for parameter in BEFORE['flakes generate'] if parameter['opts'] == ['--seed']]
    assert differences(seed, []) == ['--seed is found 0 times']
    assert differences(seed, [seed | {'required': not seed['required'], 'opts': ['--seed', '-s']}]) == [
        f'--seed: required {seed["required"]} -> {not seed["required"]}'
    ]
    assert differences(seed, [seed]) == []
