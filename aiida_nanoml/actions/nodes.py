"""Nodes by label, PK or UUID: what actions refer to."""

from __future__ import annotations

import re
from typing import Any

from aiida_nanoml.actions.errors import ActionError, InputError
from aiida_nanoml.actions.names import KINDS, SHOWN, listed, title, when
from aiida_nanoml.data.names import same_name

NO_PROFILE = 'Make a profile with `verdi presto`, or everything that is needed with `aiida-nanoml doctor --fix`.'

_UUID = re.compile(r'[0-9a-fA-F]{8}(-?[0-9a-fA-F]+)*-?')
"""A UUID, or enough digits of one that no word is taken for it."""

LARGEST_PK = 2**31 - 1


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

    :param identifier: label, PK, or UUID or the first 8 or more digits of one; a label is taken first.
    :param entry_points: names in the group ``aiida.data``.
    :param field: name of the field, for the error.
    :raises InputError: there is no such node, several have the label, or it has another type.
    """
    from aiida.orm import ProcessNode
    from aiida.plugins import DataFactory

    _check_not_empty(identifier, field)
    load_storage()
    classes = tuple(DataFactory(name) for name in entry_points)
    named = [node for one in classes for node in same_name(one, identifier)]
    if len(named) == 1:
        return named[0]
    if named:
        raise InputError(_describe_several(identifier, named), field)
    others = _find(identifier)
    found = [node for node in others if isinstance(node, classes)]
    if len(found) == 1 and len(others) == 1:
        return found[0]
    for process in (node for node in others if isinstance(node, ProcessNode)):
        made = _made_by(process, classes)
        if len(made) == 1:
            return made[0]
    raise InputError(_describe_wrong(identifier, entry_points, others), field)


def load_any_node(identifier: str, field: str | None = None) -> Any:
    """Load a node of any type, data or process.

    A label that processes share with data means the newest process: runs are named after their structures.

    :param identifier: label, PK, or UUID or the first 8 or more digits of one; a label is taken first.
    :raises InputError: there is no such node, or several.
    """
    from aiida.orm import ProcessNode

    _check_not_empty(identifier, field)
    load_storage()
    found = _find(identifier)
    processes = [node for node in found if isinstance(node, ProcessNode)]
    if processes and processes[0].label == identifier:
        return processes[0]
    if not found:
        raise InputError(f'there is no node {identifier!r}: `aiida-nanoml list` shows what there is', field)
    if len(found) > 1:
        raise InputError(_describe_several(identifier, found), field)
    return found[0]


def names_beginning_with(beginning: str, entry_points: tuple[str, ...], code: bool = False) -> dict[str, int]:
    """Return the names of nodes that begin with a text, the newest first, with their PKs.

    Types are compared by what is written in the profile: no class is imported, since a shell waits for the answer.

    :param entry_points: of the wanted types, in the group ``aiida.data``; none: any of this package.
    :param code: codes are wanted, as ``code@computer``.
    """
    from aiida.orm import Computer, Node, QueryBuilder

    load_storage()
    pattern = re.sub(r'([\\%_])', r'\\\1', beginning.partition('@')[0] if code else beginning) + '%'
    filters: dict[str, Any] = {'and': [{'label': {'like': pattern}}, {'label': {'!==': ''}}]}
    kinds = ['core.code'] if code else entry_points or ['nanoml']
    filters['or'] = [{'node_type': {'like': f'data.{kind}.%'}} for kind in kinds]
    query = QueryBuilder().append(Node, filters=filters, project=['label', 'id'], tag='node')
    if code:
        query.append(Computer, with_node='node', project='label')
    found: dict[str, int] = {}
    for label, pk, *computer in query.order_by({'node': [{'id': 'desc'}]}).iterall():
        name = '@'.join([label, *computer])
        if name.startswith(beginning):
            found.setdefault(name, pk)
    return found


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


def _find(identifier: str) -> list[Any]:
    """Return the nodes that were given a label, the newest first; none: the node of a PK, UUID or beginning of one."""
    from aiida.orm import Node, QueryBuilder

    named = same_name(Node, identifier)
    if named:
        return named
    if identifier.isdecimal():
        filters: dict[str, Any] = {'id': int(identifier)}
        if int(identifier) > LARGEST_PK:
            return []
    elif _UUID.fullmatch(identifier):
        filters = {'uuid': {'like': f'{_with_dashes(identifier.lower())}%'}}
    else:
        return []
    query = QueryBuilder().append(Node, filters=filters, tag='node')
    return list(query.order_by({'node': [{'id': 'desc'}]}).limit(SHOWN).all(flat=True))


def _with_dashes(digits: str) -> str:
    plain = digits.replace('-', '')
    parts = (plain[:8], plain[8:12], plain[12:16], plain[16:20], plain[20:])
    return '-'.join(part for part in parts if part)


def _made_by(process: Any, classes: tuple[type, ...]) -> list[Any]:
    """Return the nodes of the wanted types that a process returned or created outside its namespaces."""
    from aiida.common.links import LinkType

    if not process.is_finished_ok:
        return []
    links = process.base.links.get_outgoing(node_class=classes, link_type=(LinkType.CREATE, LinkType.RETURN)).all()
    return [link.node for link in links if '__' not in link.link_label]


def _describe_several(identifier: str, nodes: list[Any]) -> str:
    kinds = {type_name(node) for node in nodes}
    what = KINDS[kinds.pop()][1] if len(kinds) == 1 and kinds <= set(KINDS) else 'nodes'
    listed_nodes = listed(nodes) if what != 'nodes' else ', '.join(f'{type_name(node)} {when(node)}' for node in nodes)
    if _UUID.fullmatch(identifier) and nodes[0].label != identifier:
        return f'the UUIDs of several nodes begin with {identifier}: {listed_nodes}'
    return (
        f'the name {identifier!r} belongs to {len(nodes)} {what}: {listed_nodes}; give a PK, or rename one with '
        f'`aiida-nanoml relabel {nodes[-1].pk} NEW`'
    )


def _describe_wrong(identifier: str, entry_points: tuple[str, ...], found: list[Any]) -> str:
    """Return why a node is none of the wanted types, and the newest ones that are."""
    from aiida.orm import ProcessNode, QueryBuilder
    from aiida.plugins import DataFactory

    wanted = ' or '.join(map(title, entry_points))
    if len(found) == 1 and isinstance(found[0], ProcessNode):
        process = found[0]
        state = 'has finished' if process.is_finished_ok else f'is {process.process_state.value}'
        text = f'{identifier} is a process, {process.process_label} (pk {process.pk}), which {state}, not {wanted}'
    elif found:
        kinds = ' and '.join(dict.fromkeys(f'{title(type_name(node))} (pk {node.pk})' for node in found))
        text = f'{identifier} is {kinds}, not {wanted}'
    else:
        text = f'there is no node {identifier!r}, where {wanted} is wanted'
    query = QueryBuilder().append(tuple(map(DataFactory, entry_points)), filters={'label': {'!==': ''}}, tag='node')
    newest = query.order_by({'node': [{'id': 'desc'}]}).limit(SHOWN).all(flat=True)
    known = ', '.join(f'{node.label} (pk {node.pk})' for node in newest)
    several = ' and '.join(KINDS[name][1] for name in entry_points if name in KINDS)
    return f'{text}; newest {several}: {known}' if known and several else text
