"""Fields of actions: declared once with type, bounds, default, unit and help, and read by every face.

A field is ``batch_size: int | None = option(None, 'Structures in one job.', ge=1, group=JOB)``, or, as an argument,
``structures: Structures = argument('Structures to label.')``. :func:`fields_of` reads the fields of an action as
:class:`FieldSpec`, from which the command line makes its options and the documentation its tables.
"""

from __future__ import annotations

import re
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types
from pydantic import BaseModel, BeforeValidator, Field, GetJsonSchemaHandler
from pydantic.fields import FieldInfo
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

ENGINE, FEATURES, LEARNING, SPLIT, JOB, OUTPUT = 'engine', 'features', 'learning', 'split', 'job', 'output'

GROUPS: Mapping[str, str] = types.MappingProxyType(
    {
        '': 'Options',
        ENGINE: 'Engine',
        FEATURES: 'Features',
        LEARNING: 'Learning',
        SPLIT: 'Split',
        JOB: 'Jobs',
        OUTPUT: 'Output',
    }
)
"""Titles of the groups of fields, in the order in which faces show them."""

Kind = Literal['text', 'integer', 'number', 'flag', 'path', 'node', 'mapping']


@dataclass(frozen=True)
class Display:
    """What a face needs to know of a field beside its type: it also writes unit and group into the JSON Schema.

    :param options: names on the command line, such as ``('-o', '--output')``; None: the name of the field.
    :param positional: it is an argument, and not an option.
    :param unit: unit of a number.
    :param group: key of :data:`GROUPS`.
    :param metavar: what the help shows in place of a value.
    :param choices: returns the values allowed, where they are known only when they are asked for.
    :param suggestions: returns values that a form offers, where others are possible, too.
    :param parse: reads the value, or each of several, from a text; raises ValueError.
    :param format: writes a value as the text that ``parse`` reads.
    :param repeatable: with ``parse``: there are several texts, each of which is one value.
    :param shown: the default in words, or a function that returns it, where None stands for it.
    :param exists: of a path: it must exist as ``'file'`` or ``'folder'``, or is written as ``'new file'`` or
        ``'new folder'``.
    """

    options: tuple[str, ...] | None = None
    positional: bool = False
    unit: str | None = None
    group: str = ''
    metavar: str | None = None
    choices: Callable[[], Sequence[str]] | None = None
    suggestions: Callable[[], Sequence[str]] | None = None
    parse: Callable[[str], Any] | None = None
    format: Callable[[Any], str] = str
    repeatable: bool = False
    shown: str | Callable[[], Any] | None = None
    exists: Literal['file', 'folder', 'new file', 'new folder'] | None = None

    def __call__(self, schema: dict[str, Any]) -> None:
        """Add unit, group and choices to the JSON Schema of the field."""
        if self.unit is not None:
            schema['unit'] = self.unit
        if self.group:
            schema['group'] = GROUPS[self.group]
        if self.choices is not None:
            allowed = list(self.choices())
            place = schema.get('items', schema)
            place['enum'] = [*allowed, None] if 'null' in place.get('type', ()) else allowed


def argument(text: str, default: Any = ..., **settings: Any) -> Any:
    """Declare a positional field.

    :param text: one sentence of help.
    :param default: value if it is left out; none: it is required.
    :param settings: as for :func:`option`.
    """
    return option(default, text, positional=True, **settings)


def option(default: Any, text: str, **settings: Any) -> Any:
    """Declare a field.

    :param default: value if it is left out; ``...``: it is required.
    :param text: one sentence of help, which is the description in the JSON Schema.
    :param settings: fields of :class:`Display`, and bounds of pydantic such as ``ge=1``.
    """
    display = {name: settings.pop(name) for name in list(settings) if name in Display.__dataclass_fields__}
    return Field(default, description=text, json_schema_extra=Display(**display), **settings)


def output_option(text: str, *, required: bool = False, exists: str = 'new file') -> Any:
    """Declare the file or folder that an action writes, ``-o`` on the command line.

    :param required: otherwise nothing is written if it is left out.
    :param exists: ``new file`` or ``new folder``.
    """
    default = ... if required else None
    return option(default, text, options=('-o', '--output'), exists=exists, group=OUTPUT)


@dataclass(frozen=True)
class NodeType:
    """A field that refers to a stored node.

    :param entry_points: names in the group ``aiida.data`` of which the node must have one; none: any node or process.
    :param code: the node is a code.
    """

    entry_points: tuple[str, ...] = ()
    code: bool = False

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """Name the types of the node in the JSON Schema."""
        found = handler(schema)
        found['format'] = 'aiida-node'
        found['node_types'] = ['core.code'] if self.code else list(self.entry_points)
        return found


def _identifier(value: Any) -> Any:
    """Return the UUID of a node, or an identifier as it is."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return getattr(value, 'uuid', value)


def node(*entry_points: str) -> Any:
    """Return the type of a field that refers to a node by PK, UUID or label; a loaded node is taken as well."""
    return Annotated[str, BeforeValidator(_identifier), NodeType(entry_points)]


AnyNode = node()
Structures = node('nanoml.structures')
Labels = node('nanoml.labels')
DatasetNode = node('nanoml.dataset')
ModelNode = node('nanoml.model')
Predictions = node('nanoml.prediction')
Densities = node('nanoml.densities')
DensityModel = node('nanoml.density_model')
AnyModel = node('nanoml.model', 'nanoml.density_model')
StructuresOrDataset = node('nanoml.structures', 'nanoml.dataset')
StructuresOrDensities = node('nanoml.structures', 'nanoml.densities')
Code = Annotated[str, BeforeValidator(_identifier), NodeType(code=True)]


@dataclass(frozen=True)
class FieldSpec:
    """A field as faces see it.

    :param name: name of the field in Python and in messages.
    :param kind: type of one value.
    :param help: one sentence.
    :param required: it has no default.
    :param default: value if it is left out.
    :param repeatable: any number of values.
    :param length: number of values of a tuple; 1 otherwise.
    :param minimum: lower bound.
    :param maximum: upper bound.
    :param excludes_minimum: the lower bound itself is not allowed.
    :param excludes_maximum: the upper bound itself is not allowed.
    :param literals: the values allowed, of a literal type.
    :param node: what a node must be.
    :param display: options, unit, group and the like.
    """

    name: str
    kind: Kind
    help: str
    required: bool
    default: Any
    repeatable: bool
    length: int
    minimum: float | None
    maximum: float | None
    excludes_minimum: bool
    excludes_maximum: bool
    literals: tuple[str, ...]
    node: NodeType | None
    display: Display

    @property
    def choices(self) -> tuple[str, ...]:
        """Return the values allowed; none: any."""
        return tuple(self.display.choices()) if self.display.choices is not None else self.literals

    @property
    def options(self) -> tuple[str, ...]:
        """Return the names on the command line, long ones last; empty for an argument."""
        if self.display.positional:
            return ()
        return self.display.options or (f'--{self.name.replace("_", "-")}',)

    @property
    def option(self) -> str:
        """Return the name that messages of the command line use."""
        if self.display.positional:
            return self.display.metavar or self.name.upper()
        return self.options[-1].partition('/')[0]

    @property
    def shown_default(self) -> str | None:
        """Return the default as help shows it; None: there is nothing to show."""
        shown = self.display.shown() if callable(self.display.shown) else self.display.shown
        if shown is not None:
            return format_value(shown)
        if self.required or self.default is None or self.default is False or self.default in ('', (), {}):
            return None
        if self.kind == 'flag':
            return self.options[-1].removeprefix('--').partition('/')[0]
        return self.display.format(self.default) if self.display.parse else format_value(self.default)


def fields_of(action: type[BaseModel]) -> list[FieldSpec]:
    """Return the fields of an action: arguments first, then options by group."""
    order = {group: place for place, group in enumerate(GROUPS)}
    specs = [_read_field(name, info) for name, info in action.model_fields.items()]
    return sorted(specs, key=lambda spec: (not spec.display.positional, order[spec.display.group]))


def read_setting(text: str) -> tuple[str, Any]:
    """Read ``KEY=VALUE``; the value is read as YAML, so that numbers, lists and truth values keep their type.

    :raises ValueError: it is not of this form, or the value is no YAML.
    """
    import yaml

    key, equals, content = text.partition('=')
    if not equals or not key.strip():
        raise ValueError(f'{text!r} is not of the form KEY=VALUE')
    try:
        value = yaml.safe_load(content)
    except yaml.YAMLError as error:
        raise ValueError(f'the value of {key} cannot be read: {" ".join(str(error).split())}') from None
    except RecursionError:
        raise ValueError(f'the value of {key} cannot be read: it is nested too deeply') from None
    if re.fullmatch(r'\s*[-+]?\d+[eE][-+]?\d+\s*', content):
        value = float(content)  # YAML 1.1 takes a number without a point, such as 1e-3, for a text
    return key.strip(), value


def format_value(value: Any) -> str:
    """Write a value as people type it."""
    if isinstance(value, float):
        return f'{value:g}'
    if isinstance(value, tuple | list):
        return ', '.join(map(format_value, value))
    return str(value)


def _read_field(name: str, info: FieldInfo) -> FieldSpec:
    display = info.json_schema_extra
    if not isinstance(display, Display) or not info.description:
        raise TypeError(f'the field {name} has no help: declare it with option() or argument()')
    inner, metadata = _unwrap(info.annotation, list(info.metadata))
    repeatable, length = False, 1
    if display.parse is None and get_origin(inner) is tuple:
        parts = get_args(inner)
        repeatable, length = parts[-1] is Ellipsis, 1 if parts[-1] is Ellipsis else len(parts)
        inner, metadata = _unwrap(parts[0], metadata)
    elif display.parse is not None:
        repeatable = display.repeatable
    literals = tuple(map(str, get_args(inner))) if get_origin(inner) is Literal else ()
    bounds = {type(item): item for item in metadata if isinstance(item, annotated_types.BaseMetadata)}
    lower = bounds.get(annotated_types.Ge) or bounds.get(annotated_types.Gt)
    upper = bounds.get(annotated_types.Le) or bounds.get(annotated_types.Lt)
    return FieldSpec(
        name=name,
        kind='node' if any(isinstance(item, NodeType) for item in metadata) else _kind_of(inner, display),
        help=info.description,
        required=info.is_required(),
        default=None if info.is_required() else info.get_default(call_default_factory=True),
        repeatable=repeatable,
        length=length,
        minimum=None if lower is None else getattr(lower, 'ge', getattr(lower, 'gt', None)),
        maximum=None if upper is None else getattr(upper, 'le', getattr(upper, 'lt', None)),
        excludes_minimum=isinstance(lower, annotated_types.Gt),
        excludes_maximum=isinstance(upper, annotated_types.Lt),
        literals=literals,
        node=next((item for item in metadata if isinstance(item, NodeType)), None),
        display=display,
    )


def _unwrap(annotation: Any, metadata: list[Any]) -> tuple[Any, list[Any]]:
    """Return a type without None and Annotated, and what was annotated."""
    while True:
        if get_origin(annotation) is Annotated:
            annotation, *more = get_args(annotation)
            for item in more:
                metadata = metadata + (item.metadata if isinstance(item, FieldInfo) else [item])
        elif get_origin(annotation) in (Union, types.UnionType):
            parts = [part for part in get_args(annotation) if part is not type(None)]
            if len(parts) != 1:
                return str, metadata
            annotation = parts[0]
        else:
            return annotation, metadata


def _kind_of(annotation: Any, display: Display) -> Kind:
    if display.parse is not None:
        return 'text'
    if get_origin(annotation) in (dict, Mapping) or annotation is dict:
        return 'mapping'
    kinds: dict[Any, Kind] = {bool: 'flag', int: 'integer', float: 'number', Path: 'path'}
    return kinds.get(annotation, 'text')


class FlatSchema(GenerateJsonSchema):
    """JSON Schema in which an optional field keeps its bounds beside its type, where forms look for them."""

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        """Write ``type: [integer, null]`` in place of ``anyOf``."""
        inner = self.generate_inner(schema['schema'])
        if isinstance(inner.get('type'), str) and 'const' not in inner:
            flat = inner | {'type': [inner['type'], 'null']}
            if 'enum' in inner:
                flat['enum'] = [*inner['enum'], None]
            return flat
        return super().nullable_schema(schema)


def comma_separated(convert: Callable[[str], Any], example: str) -> dict[str, Any]:
    """Return the settings of a field whose values are separated by commas.

    :param convert: reads one value, raises ValueError.
    :param example: how values are written, for the message.
    """

    def parse(text: str) -> tuple[Any, ...]:
        try:
            return tuple(convert(word.strip()) for word in text.split(',') if word.strip())
        except ValueError:
            what = {int: 'whole numbers', float: 'numbers'}.get(convert, 'values')  # type: ignore[call-overload]
            raise ValueError(f'{text!r} is not a list of {what} such as {example}') from None

    metavar = {int: 'N,N,…', float: 'X,X,…'}.get(convert, 'NAME,…')  # type: ignore[call-overload]
    return {'parse': parse, 'format': lambda value: ','.join(map(format_value, value)), 'metavar': metavar}
