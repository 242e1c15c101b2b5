"""What an action is: typed fields, an estimate of the cost, a way to run, and a result that prints itself.

An action is a frozen pydantic model. A face fills its fields, calls :meth:`Action.run`, and shows the :class:`Result`::

    result = Label(structures='flakes', engine='xtb', protocol='fast', name='labels').run()
    print(result.render())
"""

from __future__ import annotations

import inspect
import json
import shlex
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator, model_validator

from aiida_nanoml.actions.codes import default_code, load_code
from aiida_nanoml.actions.errors import ActionError, InputError, StoppedError
from aiida_nanoml.actions.fields import JOB, OUTPUT, Code, FieldSpec, FlatSchema, fields_of, option
from aiida_nanoml.actions.names import NameClaim, check_name
from aiida_nanoml.actions.nodes import load_any_node, load_data, load_storage, type_name
from aiida_nanoml.actions.session import Session
from aiida_nanoml.plugins import Registry
from aiida_nanoml.text import aligned, duration
from aiida_nanoml.worker import WORKER

if TYPE_CHECKING:
    from aiida.engine import ProcessBuilder
    from aiida.orm import Node, ProcessNode


@dataclass(frozen=True)
class Step:
    """An action that usually follows, with some of its fields.

    :param action: name of the action.
    :param fields: values by name of the field.
    """

    action: str
    fields: Mapping[str, Any] = field(default_factory=dict)

    def command(self) -> str:
        """Return the command that does it, without the name of the program, ready to be pasted."""
        return command_line(ACTIONS.load(self.action), self.fields)


def step(action: str, **fields: Any) -> Step:
    """Return the step with these fields; nodes may be given as they are: they are named by label, else by PK."""
    return Step(action, {name: value for name, value in fields.items() if value is not None})


def command_line(action: type[Action], fields: Mapping[str, Any]) -> str:
    """Return the command, without the name of the program, that fills an action.

    :param action: class of the action.
    :param fields: values by name of the field, options in this order; fields that are left out keep their defaults.
    """
    words = [*action.command]
    if action.choice_field is not None and action.choice_field in fields:
        words.append(choice_word(fields[action.choice_field]))
    specs = {spec.name: spec for spec in fields_of(action) if spec.name != action.choice_field}
    for spec in specs.values():
        if spec.display.positional and spec.name in fields:
            value = fields[spec.name]
            words += [text_of(spec, one) for one in (value if spec.repeatable else [value])]
    for name, value in fields.items():
        if name in specs and not specs[name].display.positional:
            words += _option_words(specs[name], value)
    return shlex.join(words)


def _option_words(spec: FieldSpec, value: Any) -> list[str]:
    if spec.kind == 'flag':
        on, _, off = spec.options[0].partition('/')
        return [on] if value else [off] if off else []
    option = spec.options[0]
    if spec.kind == 'mapping':
        return [word for key, one in value.items() for word in (option, f'{key}={json.dumps(one)}')]
    if spec.length > 1:
        return [option, *(text_of(spec, one) for one in value)]
    return [word for one in (value if spec.repeatable else [value]) for word in (option, text_of(spec, one))]


def choice_word(choice: str) -> str:
    """Return the last word of the command of a choice, see :attr:`Action.choice_field`."""
    return choice.replace('_', '-')


def text_of(spec: FieldSpec, value: Any) -> str:
    """Return one value of a field as people type it; of a node its label, else its PK."""
    if hasattr(value, 'pk'):
        return str(getattr(value, 'label', '') or value.pk)
    return spec.display.format(value) if spec.display.parse else str(value)


class Result(ABC):
    """What an action made. It knows its own JSON, its lines and table for people, and the next step."""

    exit_status: int = 0
    """Of a command that prints it: 1 if what was found is an error."""

    failure: str | None = None
    """What is wrong although there is a result, such as a transmission that is not converged."""

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """Return everything, in types of JSON."""

    @abstractmethod
    def lines(self) -> Mapping[str, object] | str:
        """Return what a person wants to see, as rows of a table or as text."""

    def table(self) -> str:
        """Return a table that is printed below the lines."""
        return ''

    def next_step(self) -> Step | None:
        """Return what usually follows."""
        return None

    def render(self) -> str:
        """Return lines, table and next step as text."""
        lines = self.lines()
        parts = [lines if isinstance(lines, str) else aligned(list(lines.items())), self.table()]
        following = self.next_step()
        if following is not None:
            parts.append(f'next: aiida-nanoml {following.command()}')
        return '\n'.join(part for part in parts if part)

    def to_json(self) -> str:
        """Return one JSON object in one line."""
        return json.dumps(self.to_dict(), allow_nan=False)


@dataclass(frozen=True)
class Estimate(Result):
    """What an action will cost.

    :param jobs: number of jobs at the computer.
    :param seconds: wall time in all; None: not known.
    :param memory_mb: memory of the largest job; None: not known.
    :param basis: where the figures come from.
    """

    jobs: int
    seconds: float | None
    memory_mb: float | None
    basis: str

    def to_dict(self) -> dict[str, Any]:
        """Return all figures."""
        return {'jobs': self.jobs, 'seconds': self.seconds, 'memory_mb': self.memory_mb, 'basis': self.basis}

    def lines(self) -> dict[str, object]:
        """Return all figures with their units."""
        return {
            'jobs': self.jobs,
            'time': 'unknown' if self.seconds is None else duration(self.seconds),
            'memory': 'unknown' if self.memory_mb is None else f'{self.memory_mb:.0f} MB',
            'basis': self.basis,
        }


NOT_KNOWN = Estimate(0, None, None, 'nothing like it was done in this profile')
"""Estimate of an action that returns none."""


class Action(BaseModel, ABC):
    """Something that can be asked of the package."""

    model_config = ConfigDict(frozen=True, extra='forbid', allow_inf_nan=False, hide_input_in_errors=True)

    action: ClassVar[str]
    """Name in the registry."""

    command: ClassVar[tuple[str, ...]]
    """Words of the command."""

    example: ClassVar[str]
    """Commands that run, a line each."""

    choice_field: ClassVar[str | None] = None
    """Field whose choices have a command each: the choice is the last word of the command."""

    in_terminal_only: ClassVar[bool] = False
    """Whether it makes sense on a command line alone, such as one that sets up a profile of its own."""

    short: ClassVar[str | None] = None
    """Help in the list of commands; None: the first sentence of the docstring."""

    def run(self, session: Session | None = None) -> Result:
        """Do it.

        :param session: how processes are run, and where notes and progress go; None: in silence.
        :raises InputError: a field has a value that cannot be used.
        :raises NanomlError: it could not be done; the message says what to do.
        """
        if self.needs_storage():
            load_storage()
        return self.perform(session or Session())

    @abstractmethod
    def perform(self, session: Session) -> Result:
        """Do it; the profile is open."""

    def estimate(self) -> Estimate | None:
        """Return what it will cost; None: next to nothing."""
        return None

    def needs_storage(self) -> bool:
        """Return whether it needs a profile."""
        return True

    def load(self, name: str) -> Any:
        """Load the node, or the code, that a field refers to; None where the field is empty.

        :raises InputError: there is no such node, or it has another type.
        """
        value = getattr(self, name)
        return None if value is None else self._load_one(name, value)

    def load_all(self, name: str) -> list[Any]:
        """Load the nodes that a field refers to."""
        return [self._load_one(name, value) for value in getattr(self, name)]

    def _load_one(self, name: str, identifier: str) -> Any:
        wanted = next(spec.node for spec in fields_of(type(self)) if spec.name == name)
        if wanted is None:
            raise TypeError(f'the field {name} refers to no node')
        if wanted.code:
            return load_code(identifier, name)
        return (
            load_data(identifier, wanted.entry_points, name) if wanted.entry_points else load_any_node(identifier, name)
        )

    @classmethod
    def describe(cls, preset: Mapping[str, Any]) -> str:
        """Return the help: the docstring, in which arguments are written in capitals.

        :param preset: fields that a face decides for its user.
        """
        return inspect.getdoc(cls) or ''

    @classmethod
    def examples(cls, preset: Mapping[str, Any]) -> str:
        """Return commands that run, a line each.

        :param preset: fields that a face decides for its user.
        """
        return cls.example

    @classmethod
    def json_schema(cls) -> dict[str, Any]:
        """Return the JSON Schema of the fields, with units, bounds and descriptions.

        Rules across fields are not in it: a value that fits the schema may still be refused by the action.
        """
        found = cls.model_json_schema(schema_generator=FlatSchema)
        found['title'] = cls.action
        return found


def _check_action(name: str, found: Any) -> str | None:
    if not (isinstance(found, type) and issubclass(found, Action)):
        return 'is not a subclass of aiida_nanoml.actions.base.Action'
    if getattr(found, 'action', None) != name:
        return f'calls itself {getattr(found, "action", None)!r}; the names must agree'
    return None


ACTIONS: Registry[type[Action]] = Registry('aiida_nanoml.actions', 'action', ActionError, _check_action)
"""A package registers a subclass of :class:`Action` under its name in this entry-point group."""


def fill(action: type[Action], fields: Mapping[str, Any]) -> Action:
    """Make an action from fields.

    :raises InputError: a field is unknown, missing or has a value that cannot be used, or fields do not fit together.
    """
    try:
        return action(**fields)
    except ValidationError as error:
        first = error.errors()[0]
        cause = first.get('ctx', {}).get('error')
        if isinstance(cause, InputError):
            raise cause from None
        place = first['loc'][0] if first['loc'] else None
        raise InputError(first['msg'].removeprefix('Value error, '), None if place is None else str(place)) from None


class NamedAction(Action):
    """An action that makes nodes which can get names: one name belongs to one node of its kind."""

    makes: ClassVar[Mapping[str, str]] = {}
    """Type of each node that gets a name, by what is added to the name."""

    name: str = option('', 'Label of the result, to refer to it later.', group=OUTPUT)
    replace_name: bool = option(False, 'Move the name from the node that has it to the result.', group=OUTPUT)

    @field_validator('name')
    @classmethod
    def _check_name(cls, name: str) -> str:
        check_name(name)
        return name

    def run(self, session: Session | None = None) -> Result:
        """Check that the name is free, do it, and take the name from the node that has it so far."""
        if not self.name or not self.needs_storage():
            return super().run(session)
        load_storage()
        session = session or Session()
        claim = NameClaim({f'{self.name}{ending}': kind for ending, kind in self.makes.items()}, self.request())
        for text in claim.check_free(replace=self.replace_name):
            session.note(text)
        try:
            result = super().run(session)
        except StoppedError as error:
            if error.process is not None:
                claim.promise(error.process)
            raise
        if isinstance(result, Submitted):
            claim.promise(result.process)
        else:
            claim.settle()
        return result

    def request(self) -> dict[str, Any]:
        """Return action and fields: the same command again may give the name to its new result."""
        return {'action': self.action} | self.model_dump(
            mode='json', exclude={'replace_name', 'force', 'submit', 'foreground'}
        )


class FileAction(Action):
    """An action that writes files, and replaces none unless it is told to."""

    force: bool = option(False, 'Replace files that exist.', group=OUTPUT)

    def check_overwriting(self, path: Path | None) -> None:
        """Check that a file may be written.

        :raises ActionError: it exists and is not to be replaced, or its folder does not exist.
        """
        if path is None:
            return
        if path.exists() and not self.force:
            raise ActionError(f'{path} exists already: choose another name, or replace it with --force')
        if not path.parent.is_dir():
            raise ActionError(f'there is no folder {path.parent}: make it first')


class ArchiveAction(Action):
    """An action that asks the graph: that of a profile, or that of an archive as it is."""

    archive: Path | None = option(
        None, 'Ask this archive (.aiida) in place of the profile; nothing is imported.', exists='file', group=OUTPUT
    )

    def run(self, session: Session | None = None) -> Result:
        """Open the archive, and do it there."""
        if self.archive is not None:
            from aiida_nanoml.provenance.archives import open_archive

            open_archive(self.archive)
        return super().run(session)


FOREGROUND: bool = option(False, 'Run the process in this command, also if a daemon runs.', group=JOB)


def check_way(submit: bool, foreground: bool) -> None:
    """Check that a process is not both submitted and run in the foreground.

    :raises InputError: it is.
    """
    if submit and foreground:
        raise InputError('give either {submit} or {foreground}')


class JobAction(NamedAction):
    """An action that runs jobs at a computer through one process.

    A subclass gives :meth:`builder` and :meth:`collect`.
    """

    follow: ClassVar[str] = 'trace'
    """Action that shows what becomes of a process that was submitted."""

    accepted: ClassVar[tuple[int, ...]] = ()
    """Exit statuses that :meth:`collect` reports itself."""

    labelled: ClassVar[bool] = False
    """Whether the process gets the label, and not only its result."""

    code: Code | None = option(None, f'The executable {WORKER}.', group=JOB, shown=f'the only code named {WORKER}')
    wallclock: int | None = option(None, 'Wall time of a job.', unit='s', ge=1, group=JOB)
    queue: str | None = option(None, 'Queue of the scheduler.', group=JOB)
    submit: bool = option(False, 'Submit the process to the daemon instead of waiting for it.', group=JOB)
    foreground: bool = FOREGROUND

    @model_validator(mode='after')
    def _check_way(self) -> Self:
        """Check that the process is either left to the daemon or kept from it."""
        check_way(self.submit, self.foreground)
        return self

    @abstractmethod
    def builder(self, session: Session) -> ProcessBuilder:
        """Return the process with all its inputs."""

    @abstractmethod
    def collect(self, process: ProcessNode, session: Session) -> Result:
        """Write files, and return the result."""

    def output_names(self) -> Mapping[str, str]:
        """Return the labels of the outputs, by their names; they get them when the process ends."""
        return {}

    def process_name(self) -> str:
        """Return the label of the process."""
        return self.name if self.labelled else ''

    def perform(self, session: Session) -> Result:
        """Run the process, by the daemon if it runs, or submit it."""
        self.check()
        builder = self.builder(session)
        builder.metadata.label = self.process_name()
        if self.submit:
            return Submitted(session.submit(builder, self.output_names()), self.follow)
        process = session.run(builder, self.accepted, names=self.output_names(), foreground=self.foreground)
        return self.collect(process, session)

    def check(self) -> None:
        """Check what can be checked before anything is stored, such as files that would be replaced."""

    def worker(self) -> Any:
        """Return the code of the worker that was chosen, or the only one."""
        return self.load('code') or default_code()

    def job_options(self, processes: int | None = None) -> dict[str, Any]:
        """Return the scheduler options of a job.

        :param processes: cores of the job.
        """
        options: dict[str, Any] = {}
        if processes is not None:
            options['resources'] = {
                'num_machines': 1,
                'num_mpiprocs_per_machine': 1,
                'num_cores_per_mpiproc': processes,
            }
        if self.wallclock is not None:
            options['max_wallclock_seconds'] = self.wallclock
        if self.queue is not None:
            options['queue_name'] = self.queue
        return options


@dataclass(frozen=True)
class Submitted(Result):
    """A process that the daemon runs.

    :param process: its node.
    :param follow: action that shows what becomes of it.
    """

    process: ProcessNode
    follow: str = 'trace'

    def to_dict(self) -> dict[str, Any]:
        """Return the identity of the process."""
        return record(self.process, state='submitted')

    def lines(self) -> Mapping[str, object]:
        """Return the process, and the command of AiiDA that follows it."""
        node = self.process
        return {type_name(node): f'pk {node.pk}, uuid {node.uuid}', 'follow it': f'verdi process status {node.pk}'}

    def next_step(self) -> Step:
        """Return the action that shows what becomes of it."""
        first = next(spec.name for spec in fields_of(ACTIONS.load(self.follow)) if spec.display.positional)
        return step(self.follow, **{first: self.process.pk})


def record(node: Node, **numbers: Any) -> dict[str, Any]:
    """Return the identity of a node and further values, in types of JSON."""
    return {'uuid': node.uuid, 'pk': node.pk, 'type': type_name(node), 'label': node.label} | numbers


def part_names(parts: Sequence[str], name: str) -> dict[str, str]:
    """Return the label NAME-part of each output; without a name they get none."""
    return {part: f'{name}-{part}' if name else '' for part in parts}


def given(**values: Any) -> dict[str, Any]:
    """Return the values that are not None."""
    return {name: value for name, value in values.items() if value is not None}


def first_sentence(text: str) -> str:
    """Return the first line of a docstring without its full stop."""
    return ' '.join(text.split('\n\n', maxsplit=1)[0].split()).rstrip('.')
