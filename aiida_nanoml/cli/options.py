"""Arguments and options that commands share."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
from aiida.cmdline.params import types

from aiida_nanoml.cli.groups import NO_PROFILE, one_line
from aiida_nanoml.worker import WORKER

TITLES = {
    'nanoml.structures': 'a set of structures',
    'nanoml.labels': 'a set of labels',
    'nanoml.dataset': 'a data set',
    'nanoml.model': 'a model',
    'nanoml.prediction': 'predictions',
    'nanoml.potentials': 'potentials',
    'nanoml.densities': 'densities',
    'nanoml.density_model': 'a density model',
    'core.array.xy': 'the history of a training',
}


TARGETS = ('gap', 'energy_per_atom', 'cohesive_energy', 'dos_fermi', 'pressure', 'magnetic_moment')
GROUPS = ('structure', 'alloy', 'composition')


def load_storage() -> None:
    """Open the storage of the profile that was chosen, or of the default one.

    :raises ClickException: there is no profile, or its storage cannot be opened.
    """
    from aiida.cmdline.utils.decorators import load_backend_if_not_loaded
    from aiida.common import exceptions

    try:
        load_backend_if_not_loaded()
    except (exceptions.ConfigurationError, exceptions.IntegrityError, exceptions.LockedProfileError) as error:
        raise click.ClickException(f'{one_line(error)} {NO_PROFILE}') from error


class DataNode(types.DataParamType):  # type: ignore[misc]
    """A stored node of one of the given types, by PK, UUID or label; of a process, the one such node that it made.

    A process that was handed to the daemon bears the label that its result would have got.

    :param entry_points: names in the group ``aiida.data``.
    """

    name = 'node'

    def __init__(self, *entry_points: str) -> None:
        super().__init__(sub_classes=tuple(f'aiida.data:{name}' for name in entry_points))
        self._names = entry_points
        self._expected = ' or '.join(f'{TITLES.get(name, name)} ({name})' for name in entry_points)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Load the node, or say what was expected and what was found."""
        load_storage()
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter as error:
            made = self._made_by(value)
            if len(made) == 1:
                return made[0]
            self.fail(f'expected {self._expected}, {_found(value, error)}', param, ctx)

    def _made_by(self, value: Any) -> list[Any]:
        """Give the nodes of the wanted types that a process returned or created outside its namespaces."""
        from aiida.common import exceptions
        from aiida.common.links import LinkType
        from aiida.orm import ProcessNode
        from aiida.orm.utils.loaders import NodeEntityLoader
        from aiida.plugins import DataFactory

        try:
            node = NodeEntityLoader.load_entity(value)
        except (exceptions.NotExistent, exceptions.MultipleObjectsError, ValueError):
            return []
        if not isinstance(node, ProcessNode) or not node.is_finished_ok:
            return []
        wanted = tuple(DataFactory(name) for name in self._names)
        links = node.base.links.get_outgoing(node_class=wanted, link_type=(LinkType.CREATE, LinkType.RETURN)).all()
        return [link.node for link in links if '__' not in link.link_label]


class AnyNode(click.ParamType):
    """A stored node of any type, data or process, by PK, UUID or label.

    A label that one process shares with data means the process: runs are named after their structures.
    """

    name = 'node'

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Load the node."""
        from aiida.common import exceptions
        from aiida.orm.utils.loaders import NodeEntityLoader

        load_storage()
        try:
            return NodeEntityLoader.load_entity(value)
        except exceptions.MultipleObjectsError as error:
            from aiida.orm import ProcessNode, QueryBuilder

            named = QueryBuilder().append(ProcessNode, filters={'label': value}).all(flat=True)
            if len(named) == 1:
                return named[0]
            self.fail(one_line(error), param, ctx)
        except (exceptions.NotExistent, ValueError) as error:
            self.fail(one_line(error), param, ctx)


def _found(value: str, error: click.BadParameter) -> str:
    from aiida.common import exceptions
    from aiida.orm.utils.loaders import NodeEntityLoader

    from aiida_nanoml.cli.output import type_name

    try:
        node = NodeEntityLoader.load_entity(value)
    except (exceptions.MultipleObjectsError, ValueError):
        return f'but {value!r} is not clear: {one_line(error)}'
    except exceptions.NotExistent:
        return f'but there is no node {value!r}'
    return f'but {value} is of the type {type_name(node)}'


class KeyValue(click.ParamType):
    """``KEY=VALUE``; the value is read as YAML, so that numbers, lists and truth values keep their type."""

    name = 'KEY=VALUE'

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Divide at the first ``=``."""
        import yaml

        key, equals, text = value.partition('=')
        if not equals or not key.strip():
            self.fail(f'{value!r} is not of the form KEY=VALUE', param, ctx)
        try:
            content = yaml.safe_load(text)
        except yaml.YAMLError as error:
            self.fail(f'the value of {key} cannot be read: {one_line(error)}', param, ctx)
        if re.fullmatch(r'\s*[-+]?\d+[eE][-+]?\d+\s*', text):
            content = float(text)  # YAML 1.1 takes a number without a point, such as 1e-3, for a text
        return key.strip(), content


class Numbers(click.ParamType):
    """Whole numbers separated by commas, for example ``300,50,25``."""

    name = 'N,N,…'

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Read the numbers."""
        if isinstance(value, list):
            return value
        try:
            return [int(word) for word in value.split(',')]
        except ValueError:
            self.fail(f'{value!r} is not a list of whole numbers such as 300,50,25', param, ctx)


class WorkerCode(types.CodeParamType):  # type: ignore[misc]
    """The code ``nanoml-worker``, by PK, UUID or ``label@computer``; a missing value takes the only one there is."""

    name = 'code'

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Load the code."""
        load_storage()
        return super().convert(value, param, ctx)


def default_code() -> Any:
    """Return the only code named ``nanoml-worker``.

    :raises ClickException: there is none, or there are several.
    """
    from aiida.orm import AbstractCode, QueryBuilder

    load_storage()
    query = QueryBuilder().append(AbstractCode, filters={'label': WORKER})
    codes = [code for code in query.all(flat=True) if not code.is_hidden]
    if not codes:
        raise click.ClickException(
            f'there is no code {WORKER}: make it with `aiida-nanoml doctor --fix`, or name another one with --code'
        )
    if len(codes) > 1:
        known = ', '.join(sorted(f'{code.full_label} (pk {code.pk})' for code in codes))
        raise click.ClickException(f'there are several codes {WORKER}, choose one with --code: {known}')
    return codes[0]


JSON = click.option('--json', 'as_json', is_flag=True, help='Print one JSON object.')
NAME = click.option('--name', default='', help='Label of what is made, to name it by later.')
FORCE = click.option('--force', is_flag=True, help='Replace files that are there.')
SUBMIT = click.option('--submit', is_flag=True, help='Hand the process to the daemon instead of waiting for it.')
CODE = click.option(
    '--code', type=WorkerCode(), help=f'The executable nanoml-worker; default: the only code named {WORKER}.'
)


WALLCLOCK = click.option('--wallclock', type=click.IntRange(1), help='Wall time of a job in seconds.')
QUEUE = click.option('--queue', help='Queue of the scheduler.')


def setting(help_text: str) -> Callable[[Any], Any]:
    """Make the option ``--set KEY=VALUE``, which can be repeated."""
    return click.option('--set', 'settings', type=KeyValue(), multiple=True, help=help_text)


def descriptor_choice(text: str, settings: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """Make the choice of a descriptor, ``name`` and ``params``, from the options of the command line.

    Atoms outside the classes of quadruplets are dropped and counted, unless the settings say something else.

    :param text: registered name, or several joined by ``+``.
    :param settings: parameters by name; of a combination, by ``PART.NAME``.
    :raises UsageError: a setting does not say which part it is of, or names one that is not there.
    """
    names = [name.strip() for name in text.split('+')]
    params: dict[str, dict[str, Any]] = {name: {} for name in names}
    if 'quadruplets' in params:
        params['quadruplets']['unknown'] = 'drop'
    for key, value in settings:
        part, dot, parameter = key.rpartition('.')
        if not dot and len(names) == 1:
            part = names[0]
        if part not in params:
            raise click.UsageError(
                f'--set {key}: a parameter of {text} is written '
                + ('NAME=VALUE' if len(names) == 1 else f'PART.NAME=VALUE, where PART is {" or ".join(names)}')
            )
        params[part][parameter] = value
    if len(names) == 1:
        return {'name': names[0], 'params': params[names[0]]}
    return {'name': 'combined', 'params': {'parts': [{'name': name, 'params': params[name]} for name in names]}}


def output_file(help_text: str) -> Callable[[Any], Any]:
    """Make the option ``-o``, the file to write."""
    return click.option(
        '-o', '--output', type=click.Path(path_type=Path, dir_okay=False), required=True, help=help_text
    )


def example(text: str) -> str:
    """Make the end of a help page: an example that runs."""
    lines = '\n'.join(f'  {line}' for line in text.splitlines())
    return f'\b\nExample:\n{lines}'


def job_options(wallclock: int | None, queue: str | None, processes: int | None = None) -> dict[str, Any]:
    """Make the scheduler options of a job from the options of the command line."""
    options: dict[str, Any] = {}
    if processes is not None:
        options['resources'] = {
            'num_machines': 1,
            'num_mpiprocs_per_machine': 1,
            'num_cores_per_mpiproc': processes,
        }
    if wallclock is not None:
        options['max_wallclock_seconds'] = wallclock
    if queue is not None:
        options['queue_name'] = queue
    return options


def target_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say what is learnt, and what a split keeps together."""
    for option in (
        click.option(
            '--group',
            type=click.Choice(GROUPS),
            default=GROUPS[0],
            show_default=True,
            help='What stays in one part of a split: equal structures, all cells of an alloy (of one name), or all '
            'cells of a composition.',
        ),
        click.option(
            '--atoms', type=DataNode('nanoml.labels'), help='Labels of the isolated atoms, for cohesive energies.'
        ),
        click.option(
            '--other', type=click.Choice(TARGETS), multiple=True, help='Target to learn beside it; repeatable.'
        ),
        click.option(
            '--target', type=click.Choice(TARGETS), default=TARGETS[0], show_default=True, help='What is learnt.'
        ),
    ):
        command = option(command)
    return command


def chosen_targets(target: str, other: Sequence[str]) -> dict[str, Any]:
    """Say what is learnt, as data sets want it; empty for the gap alone."""
    return {} if (target, *other) == TARGETS[:1] else {'target': target, 'others': list(other)}


def chosen_group(group: str) -> dict[str, str]:
    """Say what a split keeps together, as data sets want it; empty for equal structures."""
    return {} if group == GROUPS[0] else {'group': group}
