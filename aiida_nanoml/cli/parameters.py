"""Commands of click made from actions: the only place where fields become options."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource
from click.shell_completion import CompletionItem
from click.types import StringParamType

from aiida_nanoml.actions.base import NOT_KNOWN, Action, fill, first_sentence
from aiida_nanoml.actions.errors import ActionError, InputError
from aiida_nanoml.actions.fields import GROUPS, FieldSpec, NodeType, fields_of, read_setting
from aiida_nanoml.actions.nodes import names_beginning_with
from aiida_nanoml.actions.registry import action_class
from aiida_nanoml.cli.terminal import TerminalSession

JSON = click.Option(['--json', 'as_json'], is_flag=True, help='Print one JSON object.')
ESTIMATE = click.Option(['--estimate', 'estimates'], is_flag=True, help='Print what it would cost, and do nothing.')


METAVARS = {'integer': 'INTEGER', 'number': 'NUMBER', 'node': 'NODE'}
UNITS = {'s': 'seconds'}
"""Units that people read in words."""


class KeyValue(click.ParamType):
    """``KEY=VALUE``."""

    name = 'KEY=VALUE'

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Divide at the first ``=``."""
        try:
            return read_setting(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class Parsed(click.ParamType):
    """A text that the field itself reads."""

    def __init__(self, spec: FieldSpec) -> None:
        self.name = spec.display.metavar or 'TEXT'
        self._parse = spec.display.parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Read the value."""
        if not isinstance(value, str) or self._parse is None:
            return value
        try:
            return self._parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class NodeName(StringParamType):
    """A node by name, PK or UUID; the shell completes names of nodes of the right kind."""

    def __init__(self, wanted: NodeType) -> None:
        self._wanted = wanted

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Return the names that begin with what was typed; none without a profile."""
        try:
            names = names_beginning_with(incomplete, self._wanted.entry_points, self._wanted.code)
        except ActionError:
            return []
        # Shells divide what they are given at blanks.
        return [CompletionItem(name, help=f'pk {pk}') for name, pk in names.items() if not re.search(r'\s', name)]


class ActionCommand(click.Command):
    """A command that fills an action; its help shows the options by group."""

    _params: list[click.Parameter] | None = None

    def __init__(self, action: type[Action], name: str, preset: Mapping[str, Any] | None = None) -> None:
        self.action = action
        self.preset = dict(preset or {})
        text = action.describe(self.preset)
        super().__init__(
            name,
            callback=self._run,
            help=_keep_lists(text),
            short_help=action.short if action.short and not self.preset else first_sentence(text),
            epilog=example(action.examples(self.preset)),
        )

    @cached_property
    def _specs(self) -> list[FieldSpec]:
        return [spec for spec in fields_of(self.action) if spec.name not in self.preset]

    @property
    def params(self) -> list[click.Parameter]:
        """Return the parameters; made when they are asked for, since choices and defaults may import much."""
        if self._params is None:
            estimate = [ESTIMATE] if self.action.estimate is not Action.estimate else []
            self._params = [*map(parameter_of, self._specs), *estimate, JSON]
        return self._params

    @params.setter
    def params(self, value: list[click.Parameter]) -> None:
        """Forget them: click sets an empty list before anybody asks."""
        self._params = value or None

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options by group."""
        group_of = {spec.name: spec.display.group for spec in self._specs}
        rows: dict[str, list[tuple[str, str]]] = {group: [] for group in GROUPS}
        for param in self.get_params(ctx):
            line = param.get_help_record(ctx)
            if line is not None:
                rows[group_of.get(str(param.name), 'output')].append(line)
        for group, lines in rows.items():
            if lines:
                with formatter.section(GROUPS[group]):
                    formatter.write_dl(lines)

    def _run(self, as_json: bool, estimates: bool = False, **values: Any) -> None:
        ctx = click.get_current_context()
        mappings = {spec.name for spec in self._specs if spec.kind == 'mapping'}
        given = {
            name: dict(value) if name in mappings else value
            for name, value in values.items()
            if ctx.get_parameter_source(name) is not ParameterSource.DEFAULT
        }
        try:
            action = fill(self.action, self.preset | given)
            result = (action.estimate() or NOT_KNOWN) if estimates else action.run(TerminalSession())
        except InputError as error:
            raise self._usage_error(error, ctx) from error
        click.echo(result.to_json() if as_json else result.render())
        if result.failure is not None:
            raise click.ClickException(result.failure)
        if result.exit_status:
            ctx.exit(result.exit_status)

    def _usage_error(self, error: InputError, ctx: click.Context) -> click.UsageError:
        names = {spec.name: spec.option for spec in self._specs}
        text = error.render(lambda name: names.get(name, name))
        param = next((param for param in self.params if param.name == error.field), None)
        return click.UsageError(text, ctx) if param is None else click.BadParameter(text, ctx, param)


def action_command(name: str, command: str, preset: Mapping[str, Any] | None = None) -> click.Command:
    """Return the command of an action.

    :param name: name of the action.
    :param command: last word of the command.
    :param preset: fields that the command decides.
    """
    return ActionCommand(action_class(name), command, preset)


def parameter_of(spec: FieldSpec) -> click.Parameter:
    """Return the argument or the option of a field."""
    kind = _type_of(spec)
    several = spec.repeatable or spec.kind == 'mapping'
    if spec.display.positional:
        count = -1 if several else spec.length
        metavar = spec.display.metavar or (spec.name.upper() if spec.choices else None)
        if metavar is not None and not spec.required:
            metavar = f'[{metavar}]'
        return click.Argument([spec.name], type=kind, nargs=count, required=spec.required, metavar=metavar)
    shown = spec.shown_default
    settings: dict[str, Any] = {
        'help': _help_of(spec) + ('' if shown is None else f'  [default: {shown}]'),
        'required': spec.required,
    }
    if spec.kind == 'flag':
        return click.Option([*spec.options, spec.name], is_flag=True, default=spec.default, **settings)
    if several:
        settings['multiple'] = True
    elif not spec.required:
        formatted = spec.display.parse is not None and spec.default is not None
        settings['default'] = spec.display.format(spec.default) if formatted else spec.default
    metavar = spec.display.metavar or METAVARS.get(spec.kind)
    return click.Option([*spec.options, spec.name], type=kind, nargs=spec.length, metavar=metavar, **settings)


def example(text: str) -> str:
    """Return the end of a help page: examples that run."""
    lines = '\n'.join(f'  {line}' for line in text.splitlines())
    return f'\b\nExample:\n{lines}'


def _keep_lists(text: str) -> str:
    """Mark paragraphs with indented lines, which click would otherwise wrap."""
    paragraphs = text.split('\n\n')
    return '\n\n'.join(f'\b\n{one}' if '\n  ' in one else one for one in paragraphs)


def _help_of(spec: FieldSpec) -> str:
    unit = spec.display.unit
    return spec.help if unit is None else f'{spec.help.removesuffix(".")}, in {UNITS.get(unit, unit)}.'


def _type_of(spec: FieldSpec) -> click.ParamType | None:
    if spec.display.parse is not None:
        return Parsed(spec)
    if spec.kind == 'mapping':
        return KeyValue()
    if spec.kind == 'path':
        return _path_of(spec)
    if spec.node is not None:
        return NodeName(spec.node)
    if spec.choices:
        return click.Choice(spec.choices)
    if spec.kind in ('integer', 'number') and spec.minimum is None and spec.maximum is None:
        return click.INT if spec.kind == 'integer' else click.FLOAT
    if spec.kind in ('integer', 'number'):
        kind = click.IntRange if spec.kind == 'integer' else click.FloatRange
        return kind(spec.minimum, spec.maximum, spec.excludes_minimum, spec.excludes_maximum)
    return click.BOOL if spec.kind == 'flag' else click.STRING


def _path_of(spec: FieldSpec) -> click.Path:
    wanted = spec.display.exists or ''
    return click.Path(
        path_type=Path,
        exists=wanted in ('file', 'folder'),
        dir_okay=not wanted.endswith('file'),
        file_okay=not wanted.endswith('folder'),
    )
