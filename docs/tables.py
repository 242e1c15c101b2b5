"""Sphinx directives that read tables from the code: attributes, ports, hyperparameters, targets, fields of actions."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Iterator
from types import GenericAlias, UnionType
from typing import Any, ClassVar

from aiida.engine.processes.ports import PortNamespace
from aiida.plugins import CalculationFactory, DataFactory, WorkflowFactory
from docutils import nodes
from docutils.parsers.rst import Directive
from sphinx.application import Sphinx

from aiida_nanoml.actions.base import Action, first_sentence
from aiida_nanoml.actions.fields import FieldSpec, fields_of, format_value
from aiida_nanoml.actions.registry import action_class, action_names
from aiida_nanoml.cli.commands import SECTIONS
from aiida_nanoml.learning.registry import hyperparameters
from aiida_nanoml.learning.targets import TARGETS

CODE = re.compile(r'(`[^`]+`|(?<![\w-])--[a-z][\w-]*)')
"""Names in backquotes, and options, of a help text."""

OPTION = re.compile(r'(?<![`\w-])(--[a-z][\w-]*)')


class NodeAttributes(Directive):
    """What a data node, given by its entry point, keeps in its attributes."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Make the table."""
        model = DataFactory(self.arguments[0]).AttributesModel
        own = inspect.get_annotations(model)
        fields = ((name, field) for name, field in model.model_fields.items() if name in own)
        rows = ((name, _type_name(field.annotation), field.description) for name, field in fields)
        return [_table(('attribute', 'type', 'meaning'), rows)]


class Hyperparameters(Directive):
    """Hyperparameters of the given kinds of model side by side."""

    required_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        """Make the table."""
        kinds = self.arguments[0].split()
        values = [hyperparameters(kind) for kind in kinds]
        rows = ((name, *(_show(column[name]) for column in values)) for name in values[0])
        return [_table(('hyperparameter', *kinds), rows)]


class TargetTable(Directive):
    """What can be learnt from labels."""

    def run(self) -> list[nodes.Node]:
        """Make the table."""
        rows = ((target.name, target.unit, target.description) for target in TARGETS.values())
        return [_table(('target', 'unit', 'meaning'), rows)]


class Actions(Directive):
    """All actions of this package, each with a table of its fields."""

    heads: ClassVar[tuple[str, ...]] = ('field', 'option', 'type', 'default', 'meaning')

    def run(self) -> list[nodes.Node]:
        """Make a section for each action."""
        return [self._section(action_class(name)) for name in action_names()]

    def _section(self, action: type[Action]) -> nodes.section:
        section = nodes.section(ids=[f'action-{action.action.replace("_", "-")}'])
        section += nodes.title(text=action.action)
        command = f'aiida-nanoml {" ".join(action.command)}'
        choice = '' if action.choice_field is None else f' {action.choice_field.upper()}'
        section += nodes.paragraph('', '', nodes.literal(text=command + choice))
        section += _paragraph(f'{first_sentence(action.describe({}))}.')
        section += _table(self.heads, map(_field_row, fields_of(action)))
        return section


class CheatSheet(Directive):
    """One example of each command, by the sections of the help."""

    def run(self) -> list[nodes.Node]:
        """Make a table for each section."""
        actions = [action_class(name) for name in action_names()]
        made: list[nodes.Node] = []
        for title, commands in SECTIONS.items():
            found = [action for name in commands for action in actions if action.command[:1] == (name,)]
            rows = [(_first_command(action.example), first_sentence(action.describe({}))) for action in found]
            made += [nodes.rubric(text=title), _table(('example', 'what it does'), rows)]
        return made


def _first_command(example: str) -> str:
    return example.replace(' \\\n', ' ').partition('\n')[0]


def _field_row(spec: FieldSpec) -> tuple[str, ...]:
    unit = '' if spec.display.unit is None else f', in {spec.display.unit}'
    default = 'required' if spec.required else spec.shown_default or ''
    return spec.name, spec.option, _field_type(spec), default, f'{spec.help.removesuffix(".")}{unit}.'


def _field_type(spec: FieldSpec) -> str:
    """Return the type of a field, its choices or its bounds."""
    kind = ', '.join(spec.choices) or (', '.join(spec.node.entry_points) if spec.node else '') or spec.kind
    bounds = []
    if spec.minimum is not None:
        bounds.append(f'{">" if spec.excludes_minimum else "≥"} {format_value(spec.minimum)}')
    if spec.maximum is not None:
        bounds.append(f'{"<" if spec.excludes_maximum else "≤"} {format_value(spec.maximum)}')
    several = ' …' if spec.repeatable else f' × {spec.length}' if spec.length > 1 else ''
    return ' '.join([kind + several, *bounds])


class ProcessPorts(Directive):
    """Inputs and outputs of a calculation job or workflow, given by its entry point."""

    required_arguments = 1
    heads: ClassVar[tuple[str, ...]] = ('name', 'type', 'required', 'meaning')

    def run(self) -> list[nodes.Node]:
        """Make both tables."""
        group, _, entry_point = self.arguments[0].partition(':')
        factory = {'aiida.calculations': CalculationFactory, 'aiida.workflows': WorkflowFactory}[group]
        spec = factory(entry_point).spec()
        made: list[nodes.Node] = []
        for title, ports in (('Inputs', spec.inputs), ('Outputs', spec.outputs)):
            made += [nodes.rubric(text=title), _table(self.heads, sorted(_ports(ports, '')))]
        return made


def _ports(namespace: PortNamespace, prefix: str) -> Iterator[tuple[str, str, str, str]]:
    for name, port in namespace.items():
        if name == 'metadata' or name in ('remote_folder', 'remote_stash', 'retrieved', 'monitors'):
            continue  # AiiDA's own, the same for every process
        path = f'{prefix}{name}'
        if isinstance(port, PortNamespace) and len(port):
            yield from _ports(port, f'{path}.')
            continue
        kind = _type_name(port.valid_type)
        if isinstance(port, PortNamespace):
            path, kind = f'{path}.…', kind or 'any'
        yield path, kind, 'yes' if port.required else 'no', port.help or ''


def _show(value: Any) -> str:
    if isinstance(value, tuple):
        return ', '.join(map(str, value))
    return {True: 'yes', False: 'no'}[value] if isinstance(value, bool) else f'{value}'


def _type_name(kind: Any) -> str:
    if isinstance(kind, tuple):
        return ' or '.join(_type_name(one) for one in kind if one is not type(None))
    if isinstance(kind, GenericAlias | UnionType) or not isinstance(kind, type):
        return '' if kind is None else str(kind).replace('typing.', '')
    return kind.__name__


def _table(heads: Iterable[str], rows: Iterable[Iterable[str | None]]) -> nodes.table:
    heads = tuple(heads)
    group = nodes.tgroup(cols=len(heads))
    group += [nodes.colspec(colwidth=1) for _ in heads]
    head, body = nodes.thead(), nodes.tbody()
    head += _row(nodes.paragraph(text=cell) for cell in heads)
    for first, *others in rows:
        code = nodes.paragraph('', '', nodes.literal(text=first or ''))
        body += _row([code, *(_paragraph(cell or '') for cell in others)])
    group += [head, body]
    table = nodes.table()
    table += group
    return table


def _paragraph(text: str) -> nodes.paragraph:
    """Make a paragraph in which names in backquotes and options are code."""
    paragraph = nodes.paragraph()
    for number, piece in enumerate(CODE.split(text)):
        paragraph += nodes.literal(text=piece.strip('`')) if number % 2 else nodes.Text(piece)
    return paragraph


def mark_options(app: Sphinx, context: Any, lines: list[str]) -> None:
    """Write the options that help texts name as code."""
    for number, line in enumerate(lines):
        if not line.startswith(('.. ', '    aiida-nanoml ')):
            lines[number] = OPTION.sub(r'``\1``', line)


def _row(cells: Iterable[nodes.paragraph]) -> nodes.row:
    row = nodes.row()
    row += [nodes.entry('', cell) for cell in cells]
    return row


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directives."""
    app.add_directive('node-attributes', NodeAttributes)
    app.add_directive('process-ports', ProcessPorts)
    app.add_directive('hyperparameters', Hyperparameters)
    app.add_directive('targets', TargetTable)
    app.add_directive('actions', Actions)
    app.add_directive('cheat-sheet', CheatSheet)
    for part in ('description', 'options', 'arguments'):
        app.connect(f'sphinx-click-process-{part}', mark_options)
    return {'parallel_read_safe': True, 'parallel_write_safe': True}
