"""Names of nodes: given once in each kind, found again exactly, and moved where that is asked for."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from aiida_nanoml.actions.errors import InputError

if TYPE_CHECKING:
    from aiida.orm import Node, ProcessNode

NAMED_BY = 'nanoml_named_by'
"""Extra of a node that was given a name: the action and its fields. A copy from the cache has the label without it."""

LONGEST = 200
"""Characters of a name; AiiDA keeps 255, and actions add endings such as ``-densities``."""

KINDS = {
    'nanoml.structures': ('a set of structures', 'sets of structures'),
    'nanoml.labels': ('a set of labels', 'sets of labels'),
    'nanoml.dataset': ('a data set', 'data sets'),
    'nanoml.model': ('a model', 'models'),
    'nanoml.prediction': ('predictions', 'predictions'),
    'nanoml.potentials': ('potentials', 'potentials'),
    'nanoml.densities': ('densities', 'densities'),
    'nanoml.density_model': ('a density model', 'density models'),
    'core.dict': ('metrics', 'metrics'),
    'core.array': ('a table', 'tables'),
    'core.array.xy': ('transmissions', 'transmissions'),
    'core.folder': ('files', 'files'),
}
"""What a node of a type is called, one and several, by the entry point of the type."""

SHOWN = 5
"""Nodes that a message lists."""


def title(kind: str) -> str:
    """Return what a node of a type is called."""
    return KINDS[kind][0] if kind in KINDS else f'a node of the type {kind}'


def check_name(name: str) -> None:
    """Check that a name can be found again, and pasted.

    :raises InputError: it looks like a PK or an option, or has characters that cannot be seen.
    """
    if re.fullmatch(r'\d+', name):
        raise InputError(f'{{name}} {name} would be read as a PK: choose a name with a letter, such as n{name}', 'name')
    if name.startswith('-'):
        raise InputError(f'{{name}} {name} would be read as an option: choose a name that begins otherwise', 'name')
    if name != name.strip() or not name.isprintable():
        raise InputError(f'{{name}} {name!r} has blanks at an end, or characters that cannot be seen', 'name')
    if len(name) > LONGEST:
        raise InputError(f'{{name}} has {len(name)} characters, more than {LONGEST}', 'name')


def same_name(node_class: type[Node], name: str) -> list[Node]:
    """Return the nodes of a class that were given a name, the newest first.

    Copies from the cache have the label of what they were copied from: they count only where nothing else has it.
    """
    from aiida.orm import Data, QueryBuilder

    any_class = node_class.__name__ == 'Node'  # otherwise a name of an array would be looked for among sets of labels
    query = QueryBuilder().append(node_class, subclassing=any_class, filters={'label': name}, tag='node')
    found = query.order_by({'node': [{'id': 'desc'}]}).all(flat=True)
    kept = [node for node in found if not isinstance(node, Data)]
    for kind in {type(node) for node in found if isinstance(node, Data)}:
        kept += _that_were_named([node for node in found if type(node) is kind])
    return sorted(kept, key=lambda node: -node.pk)


def _that_were_named(nodes: list[Node]) -> list[Node]:
    """Return those of some nodes of one label and type that did not get it from the cache."""
    if len(nodes) < 2:
        return nodes
    given = [node for node in nodes if NAMED_BY in node.base.extras]
    return given or [node for node in nodes if not is_copy(node)] or nodes


def is_copy(node: Node) -> bool:
    """Return whether a node was copied from the cache, with its label."""
    from aiida.orm import Data

    creator = node.creator if isinstance(node, Data) else None
    return creator is not None and creator.base.caching.is_created_from_cache


class NameClaim:
    """The names that the results of one action get.

    :param names: type of the node that gets a name, by the name.
    :param request: the action and its fields.
    """

    def __init__(self, names: Mapping[str, str], request: Mapping[str, Any]) -> None:
        self._names = dict(names)
        self._request = dict(request)
        self._before = {node.pk for name in self._names for node in self._all(name)}

    def check_free(self, *, replace: bool) -> list[str]:
        """Check that names are free, or belong to results of the same request, which a new result may replace.

        :param replace: a name may be moved from anything.
        :returns: what will happen to nodes that have the names now, a sentence each.
        :raises InputError: a name belongs to something else.
        """
        moved = []
        for name, kind in self._names.items():
            for node in same_name(_class_of(kind), name):
                same = self._request in _requests(node)
                if not (replace or same):
                    raise InputError(
                        f'the name {name} belongs to {title(kind)}, {when(node)}: choose another {{name}}, or move it '
                        'with {replace_name}',
                        'name',
                    )
                result = 'result of the same command' if same else 'result'
                moved.append(f'the name {name} moves from pk {node.pk} to the {result}')
        return moved

    def settle(self) -> None:
        """Leave each name to the newest result that has it, and take it from all other nodes of the type."""
        for name in self._names:
            nodes = self._all(name)
            made = [node for node in nodes if node.pk not in self._before]
            for node in nodes:
                if made and node.pk != made[0].pk:
                    _take_name(node)
            if nodes:
                (made or nodes)[0].base.extras.set(NAMED_BY, self._request)

    def promise(self, process: ProcessNode) -> None:
        """Take the names from the nodes that had them: the results of a process get them when it ends."""
        for name in self._names:
            for node in self._all(name):
                if node.pk in self._before:
                    _take_name(node)
        process.base.extras.set(NAMED_BY, self._request)

    def _all(self, name: str) -> list[Node]:
        """Return all nodes of a name and its type, the newest first."""
        from aiida.orm import QueryBuilder

        kind = _class_of(self._names[name])
        query = QueryBuilder().append(kind, subclassing=False, filters={'label': name}, tag='node')
        return list(query.order_by({'node': [{'id': 'desc'}]}).all(flat=True))


def _class_of(kind: str) -> type[Node]:
    from aiida.plugins import DataFactory

    found: type[Node] = DataFactory(kind)
    return found


def _requests(node: Node) -> list[Any]:
    """Return the requests that a node, or a submitted process that returned it, was named by."""
    from aiida.common.links import LinkType

    links = node.base.links.get_incoming(link_type=(LinkType.CREATE, LinkType.RETURN)).all()
    return [one.base.extras.get(NAMED_BY, None) for one in (node, *(link.node for link in links))]


def _take_name(node: Node) -> None:
    node.label = ''
    if NAMED_BY in node.base.extras:
        node.base.extras.delete(NAMED_BY)


def when(node: Node) -> str:
    """Return the PK of a node and when it was made."""
    return f'pk {node.pk} of {node.ctime.astimezone():%Y-%m-%d %H:%M}'


def listed(nodes: Sequence[Node]) -> str:
    """Return PK and time of some nodes, for a message."""
    rest = len(nodes) - SHOWN
    return ', '.join(map(when, nodes[:SHOWN])) + (f' and {rest} more' if rest > 0 else '')
