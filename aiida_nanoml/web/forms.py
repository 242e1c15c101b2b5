"""Forms made from the fields of actions: what a page shows of a field, and what a browser sends back.

A form is a list of pairs of texts. A field that is empty, or not there, is not given: its default stays where it is.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiida_nanoml.actions.base import Action, text_of
from aiida_nanoml.actions.fields import GROUPS, FieldSpec, fields_of, read_setting

Form = Sequence[tuple[str, str]]
"""Names and values, in the order in which a browser sends them."""

ON, OFF = 'true', 'false'
ARGUMENTS = 'What'
"""Heading of the fields that are arguments of the command."""

CheckPath = Callable[[FieldSpec, str], None]
"""Checks that a path of a field can be used; raises a ValueError that says why not."""

Choices = Callable[[FieldSpec], Sequence[tuple[str, str]]]
"""Returns the values that a field offers, each with the text that is shown."""


@dataclass(frozen=True)
class Widget:
    """A field as a page shows it.

    :param kind: ``flag``, ``choice``, ``lines`` for one value in each line, or ``text``.
    :param label: what the field is called.
    :param values: texts that are filled in.
    :param options: values and texts of a choice.
    :param error: what is wrong with it.
    """

    spec: FieldSpec
    kind: str
    label: str
    values: tuple[str, ...]
    options: tuple[tuple[str, str], ...]
    error: str

    @property
    def name(self) -> str:
        """Return the name that the browser sends."""
        return self.spec.name

    @property
    def several(self) -> bool:
        """Return whether several values can be chosen."""
        return self.spec.repeatable

    @property
    def filled(self) -> bool:
        """Return whether it differs from what it is without a choice."""
        return self.values != ((ON if self.spec.default else OFF,) if self.kind == 'flag' else ('',) * len(self.values))

    @property
    def hint(self) -> str:
        """Return help, bounds and default in one line."""
        spec = self.spec
        parts = [spec.help]
        if spec.kind == 'mapping':
            parts.append('Write KEY=VALUE, one in each line.')
        elif self.kind == 'lines':
            parts.append('One in each line.')
        low, high = ('' if bound is None else f'{bound:g}' for bound in (spec.minimum, spec.maximum))
        if low:
            parts.append(f'{"Above" if spec.excludes_minimum else "At least"} {low}.')
        if high:
            parts.append(f'{"Below" if spec.excludes_maximum else "At most"} {high}.')
        if spec.shown_default is not None and spec.kind != 'flag':
            parts.append(f'Default: {spec.shown_default}.')
        return ' '.join(parts)

    @property
    def input_mode(self) -> str:
        """Return the keyboard that a telephone shows."""
        return {'integer': 'numeric', 'number': 'decimal'}.get(self.spec.kind, 'text')

    @property
    def placeholder(self) -> str:
        """Return what an empty input shows: the default, or how a value is written."""
        return self.spec.shown_default or self.spec.display.metavar or ''


def label_of(spec: FieldSpec) -> str:
    """Return what pages call a field."""
    return spec.name.replace('_', ' ')


def name_in(action: type[Action]) -> Callable[[str], str]:
    """Return a function from the name of a field to what pages call it, for messages."""
    labels = {spec.name: f'“{label_of(spec)}”' for spec in fields_of(action)}
    return lambda name: labels.get(name, name)


def read_form(action: type[Action], form: Form, check_path: CheckPath) -> tuple[dict[str, Any], dict[str, str]]:
    """Read what a browser sent.

    :returns: values of the fields that were given, and what is wrong by the name of the field.
    """
    sent: dict[str, list[str]] = {}
    for name, text in form:
        sent.setdefault(name, []).append(text)
    values: dict[str, Any] = {}
    errors: dict[str, str] = {}
    for spec in fields_of(action):
        try:
            given, value = _read_field(spec, sent.pop(spec.name, []), check_path)
        except ValueError as error:
            errors[spec.name] = str(error)
            continue
        if given:
            values[spec.name] = value
        elif spec.required:
            errors[spec.name] = 'this is needed'
    if sent:
        errors[''] = f'there is no field {min(sent)!r}'
    return values, errors


def write_form(action: type[Action], fields: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the form that gives these fields; nodes may be given as they are."""
    form: list[tuple[str, str]] = []
    for spec in fields_of(action):
        if spec.name not in fields:
            continue
        value = fields[spec.name]
        if spec.kind == 'flag':
            texts = [ON if value else OFF]
        elif spec.kind == 'mapping':
            texts = [f'{key}={json.dumps(one)}' for key, one in value.items()]
        elif spec.repeatable or spec.length > 1:
            texts = [text_of(spec, one) for one in value]
        else:
            texts = [text_of(spec, value)]
        form += [(spec.name, text) for text in texts]
    return form


def widgets_of(
    action: type[Action], form: Form, errors: Mapping[str, str], choices: Choices
) -> list[tuple[str, list[Widget]]]:
    """Return the fields as a page shows them, by group: arguments first."""
    sent: dict[str, list[str]] = {}
    for name, text in form:
        sent.setdefault(name, []).append(text)
    groups: dict[str, list[Widget]] = {}
    for spec in fields_of(action):
        title = ARGUMENTS if spec.display.positional else GROUPS[spec.display.group]
        widget = _widget(spec, sent.get(spec.name, []), errors.get(spec.name, ''), choices)
        groups.setdefault(title, []).append(widget)
    return list(groups.items())


def _widget(spec: FieldSpec, texts: Iterable[str], error: str, choices: Choices) -> Widget:
    given = tuple(text for text in texts if text)
    options: tuple[tuple[str, str], ...] = ()
    if spec.kind == 'flag' and spec.default is None:
        kind, options = 'choice', ((ON, 'yes'), (OFF, 'no'))
    elif spec.kind == 'flag':
        kind, given = 'flag', given[-1:] or (ON if spec.default else OFF,)
    elif spec.kind == 'node' or spec.choices or (spec.kind == 'path' and spec.display.exists in ('file', 'folder')):
        kind, options = 'choice', tuple(choices(spec))
        known = {value for value, _ in options}
        options += tuple((text, text) for text in dict.fromkeys(given) if text not in known)
    elif spec.kind == 'mapping' or (spec.repeatable and spec.length == 1):
        kind, given = 'lines', ('\n'.join(given),)
    else:
        kind = 'text'
        given = (given + ('',) * spec.length)[: spec.length]
    return Widget(spec, kind, label_of(spec), given, options, error)


def _read_field(spec: FieldSpec, texts: list[str], check_path: CheckPath) -> tuple[bool, Any]:
    """Return whether a field is given, and its value."""
    if spec.kind == 'flag':
        value = _read_flag(texts[-1]) if texts and texts[-1] else spec.default
        return value != spec.default, value
    if spec.kind == 'mapping' or (spec.repeatable and spec.kind not in ('node', 'path') and not spec.choices):
        texts = [line for text in texts for line in text.splitlines()]
    words = [text.strip() for text in texts]
    if not any(words):
        return False, None
    if spec.kind == 'mapping':
        return True, dict(read_setting(word) for word in words if word)
    if spec.length > 1:
        if len(words) != spec.length or not all(words):
            raise ValueError(f'{spec.length} values are needed')
        return True, tuple(_read_one(spec, word, check_path) for word in words)
    values = [_read_one(spec, word, check_path) for word in words if word]
    if spec.repeatable:
        return True, tuple(values)
    if len(values) > 1:
        raise ValueError('give one value')
    return True, values[0]


def _read_flag(text: str) -> bool:
    if text not in (ON, OFF):
        raise ValueError(f'{text!r} is neither {ON} nor {OFF}')
    return text == ON


def _read_one(spec: FieldSpec, text: str, check_path: CheckPath) -> Any:
    if spec.display.parse is not None:
        return spec.display.parse(text)
    if spec.kind == 'path':
        check_path(spec, text)
        return Path(text)
    if spec.choices and text not in spec.choices:
        raise ValueError(f'{text!r} is none of {", ".join(spec.choices)}')
    if spec.kind == 'integer':
        try:
            return int(text)
        except ValueError:
            raise ValueError(f'{text!r} is not a whole number') from None
    if spec.kind == 'number':
        try:
            return float(text)
        except ValueError:
            raise ValueError(f'{text!r} is not a number') from None
    return text
