"""Forms of all actions: what a page shows of a field, and what becomes of what a browser sends back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from aiida_nanoml.actions.base import Action, command_line, fill
from aiida_nanoml.actions.fields import FieldSpec, fields_of
from aiida_nanoml.actions.registry import action_class, action_names
from aiida_nanoml.web.forms import Form, read_form, widgets_of, write_form

pytestmark = pytest.mark.usefixtures('third_party_path')


def any_path(spec: FieldSpec, path: str) -> None:
    """Take every path."""


def read(action: str, *form: tuple[str, str]) -> tuple[dict[str, Any], dict[str, str]]:
    return read_form(action_class(action), form, any_path)


def sent_back(action: type[Action], form: Form = ()) -> Form:
    """Return what a browser sends when nothing of a page is touched."""
    sent = []
    for _, widgets in widgets_of(action, form, {}, lambda spec: [(one, one) for one in spec.choices]):
        for widget in widgets:
            if widget.kind == 'flag':
                sent += [(widget.name, 'false'), *([(widget.name, 'true')] if widget.values == ('true',) else [])]
            else:
                sent += [(widget.name, value) for value in widget.values or ('',)]
    return sent


def test_an_untouched_form_gives_nothing() -> None:
    for name in (*action_names(), 'largest', 'order'):
        action = action_class(name)
        values, errors = read_form(action, sent_back(action), any_path)
        assert values == {}, name
        assert set(errors) == {spec.name for spec in fields_of(action) if spec.required}, name
        assert set(errors.values()) <= {'this is needed'}


EXAMPLES: dict[str, dict[str, Any]] = {
    'label': {
        'structures': 'flakes',
        'parameters': {'accuracy': 0.001, 'names': ['a', 'b'], 'on': True},
        'time_limit': 60.5,
        'batch_size': 20,
        'densities': True,
    },
    'generate_flakes': {'family': 's', 'size': (9, 6), 'count': 3, 'seed': 1},
    'delete_nodes': {'nodes': ('12', 'a name'), 'yes': True},
    'import_structures': {'file': Path('inner/flakes.extxyz')},
    'largest': {'structures': '<b>', 'spacing': 2.5},
    'rmatrix_plot': {'node': '4', 'output': Path('t.png'), 'log_scale': False},
    'order': {'way': 'by_mass', 'first': 3, 'second': 4},
}


@pytest.mark.parametrize('name', EXAMPLES)
def test_fields_come_back_through_a_form(name: str) -> None:
    action, fields = action_class(name), EXAMPLES[name]
    form = write_form(action, fields)
    values, errors = read_form(action, sent_back(action, form), any_path)
    assert errors == {}
    assert values == fields
    filled = fill(action, values)
    assert fill(action, read_form(action, write_form(action, values), any_path)[0]) == filled
    assert command_line(action, values)


@pytest.mark.parametrize(
    ('field', 'text', 'message'),
    [
        ('time_limit', '1,5', "'1,5' is not a number"),
        ('batch_size', '2.5', "'2.5' is not a whole number"),
        ('mode', 'both', "'both' is none of batch, single"),
        ('densities', 'maybe', "'maybe' is neither true nor false"),
        ('parameters', 'accuracy', "'accuracy' is not of the form KEY=VALUE"),
        ('parameters', 'a=1\nb: 2', "'b: 2' is not of the form KEY=VALUE"),
    ],
)
def test_a_wrong_value_is_told_at_its_field(field: str, text: str, message: str) -> None:
    values, errors = read('label', ('structures', '1'), (field, text))
    assert errors == {field: message}
    assert values == {'structures': '1'}


def test_two_values_of_one_field_are_refused() -> None:
    assert read('label', ('structures', '1'), ('structures', '2'))[1] == {'structures': 'give one value'}


def test_all_errors_are_told_at_once() -> None:
    _, errors = read('label', ('time_limit', 'x'), ('batch_size', 'y'), ('colour', 'red'))
    assert set(errors) == {
        'structures',
        'time_limit',
        'batch_size',
        '',
    }
    assert errors[''] == "there is no field 'colour'"


def test_several_values_stand_in_lines_or_inputs() -> None:
    assert read('delete_nodes', ('nodes', '3'), ('nodes', ''), ('nodes', '4'))[0] == {'nodes': ('3', '4')}
    assert read('label', ('structures', '1'), ('parameters', 'a=1e-3\r\n\r\nb=[1, x]\r\n'))[0]['parameters'] == {
        'a': 1e-3,
        'b': [1, 'x'],
    }
