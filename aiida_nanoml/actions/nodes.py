"""Nodes by PK, UUID or label, and the default code: what actions refer to."""

from __future__ import annotations

from typing import Any

from aiida_nanoml.actions.errors import ActionError, InputError
from aiida_nanoml.worker import WORKER

NO_PROFILE = 'Make a profile with `verdi presto`, or everything that is needed with `aiida-nanoml doctor --fix`.'

TITLES = {
    'nanoml.structures': 'a set of structures',
    'nanoml.labels': 'a set of labels',
    'nanoml.dataset': 'a data set',
    'nanoml.model': 'a model',
    'nanoml.prediction': 'predictions',
    'nanoml.potentials': 'potentials',
    'nanoml.densities': 'densities',
    'nanoml.density_model': 'a density model',
}


def load_storage() -> None:
    """Open the storage of the profile that was chosen, or of the default one.

    :raises ActionError: there is no profile, or its storage cannot be opened.
    """
    from aiida.cmdline.utils.decorators import load_backend_if_not_loaded
    from aiida.common import exceptions

    try:
        load_backend_if_not_loaded()
    except (exceptions.ConfigurationError, exceptions.IntegrityError, exceptions.LockedProfileError) as error:
        raise ActionError(f'{one_line(error)} {NO_PROFILE}') from error


def load_data(identifier: str, entry_points: tuple[str, ...], field: str | None = None) -> Any:
    """Load a data node of one of the given types; of a process, the one such node that it made.

    A process that was submitted has the label that its result would have got.

    :param identifier: PK, UUID or label.
    :param entry_points: names in the group ``aiida.data``.
    :param field: name of the field, for the error.
    :raises InputError: there is no such node, or it has another type.
    """
    from aiida.common import exceptions
    from aiida.orm.utils.loaders import DataEntityLoader
    from aiida.plugins import DataFactory

    _check_not_empty(identifier, field)
    load_storage()
    classes = tuple(DataFactory(name) for name in entry_points)
    try:
        return DataEntityLoader.load_entity(identifier, sub_classes=classes)
    except (exceptions.NotExistent, exceptions.MultipleObjectsError, ValueError) as error:
        made = _made_by(identifier, classes)
        if len(made) == 1:
            return made[0]
        expected = ' or '.join(f'{TITLES.get(name, name)} ({name})' for name in entry_points)
        raise InputError(f'expected {expected}, {_describe_found(identifier, error)}', field) from error


def load_any_node(identifier: str, field: str | None = None) -> Any:
    """Load a node of any type, data or process.

    A label that one process shares with data means the process: runs are named after their structures.

    :param identifier: PK, UUID or label.
    :raises InputError: there is no such node, or several.
    """
    from aiida.common import exceptions
    from aiida.orm import ProcessNode, QueryBuilder
    from aiida.orm.utils.loaders import NodeEntityLoader

    _check_not_empty(identifier, field)
    load_storage()
    try:
        return NodeEntityLoader.load_entity(identifier)
    except exceptions.MultipleObjectsError as error:
        named = QueryBuilder().append(ProcessNode, filters={'label': identifier}).all(flat=True)
        if len(named) == 1:
            return named[0]
        raise InputError(one_line(error), field) from error
    except (exceptions.NotExistent, ValueError) as error:
        raise InputError(one_line(error), field) from error


def load_code(identifier: str, field: str | None = None) -> Any:
    """Load a code by PK, UUID or ``label@computer``.

    :raises InputError: there is no such code, or several.
    """
    from aiida.common import exceptions
    from aiida.orm.utils.loaders import CodeEntityLoader

    _check_not_empty(identifier, field)
    load_storage()
    try:
        return CodeEntityLoader.load_entity(identifier)
    except (exceptions.NotExistent, exceptions.MultipleObjectsError, ValueError) as error:
        raise InputError(one_line(error), field) from error


def default_code() -> Any:
    """Return the only code named ``nanoml-worker``.

    :raises ActionError: there is none, or there are several.
    """
    from aiida.orm import AbstractCode, QueryBuilder

    load_storage()
    query = QueryBuilder().append(AbstractCode, filters={'label': WORKER})
    codes = [code for code in query.all(flat=True) if not code.is_hidden]
    if not codes:
        raise ActionError(
            f'there is no code {WORKER}: make it with `aiida-nanoml doctor --fix`, or name another one with --code'
        )
    if len(codes) > 1:
        known = ', '.join(sorted(f'{code.full_label} (pk {code.pk})' for code in codes))
        raise ActionError(f'there are several codes {WORKER}, choose one with --code: {known}')
    return codes[0]


def type_name(node: Any) -> str:
    """Return the type of a node: ``nanoml.model`` for data, ``LabelWorkChain`` for a process."""
    from aiida.orm import ProcessNode

    if isinstance(node, ProcessNode):
        return str(node.process_label or type(node).__name__)
    entry_point = node.entry_point
    return str(entry_point.name) if entry_point else type(node).__name__


def one_line(error: BaseException) -> str:
    """Return the message of an error in one line."""
    return ' '.join(str(error).split()) or type(error).__name__


def _check_not_empty(identifier: str, field: str | None) -> None:
    if not identifier.strip():
        raise InputError('the identifier of a node cannot be empty', field)


def _made_by(identifier: str, classes: tuple[type, ...]) -> list[Any]:
    """Return the nodes of the wanted types that a process returned or created outside its namespaces."""
    from aiida.common import exceptions
    from aiida.common.links import LinkType
    from aiida.orm import ProcessNode
    from aiida.orm.utils.loaders import NodeEntityLoader

    try:
        process = NodeEntityLoader.load_entity(identifier)
    except (exceptions.NotExistent, exceptions.MultipleObjectsError, ValueError):
        return []
    if not isinstance(process, ProcessNode) or not process.is_finished_ok:
        return []
    links = process.base.links.get_outgoing(node_class=classes, link_type=(LinkType.CREATE, LinkType.RETURN)).all()
    return [link.node for link in links if '__' not in link.link_label]


def _describe_found(identifier: str, error: Exception) -> str:
    from aiida.common import exceptions
    from aiida.orm.utils.loaders import NodeEntityLoader

    try:
        found = NodeEntityLoader.load_entity(identifier)
    except (exceptions.MultipleObjectsError, ValueError):
        return f'but {identifier!r} is not clear: {one_line(error)}'
    except exceptions.NotExistent:
        return f'but there is no node {identifier!r}'
    return f'but {identifier} is of the type {type_name(found)}'
