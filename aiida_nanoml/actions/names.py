"""Names of nodes: given once in each kind, found again exactly, and moved where that is asked for."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from aiida_nanoml.actions.errors import InputError
from aiida_nanoml.data.names import NAMED_BY, give_name, same_name, take_name, with_label

if TYPE_CHECKING:
    from aiida.orm import Node, ProcessNode

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
            if nodes:
                give_name((made or nodes)[0], name, self._request)

    def promise(self, process: ProcessNode) -> None:
        """Take the names from the nodes that had them: the results of a process get them when it ends."""
        process.base.extras.set(NAMED_BY, self._request)
        for name in self._names:
            for node in self._all(name):
                if node.pk in self._before:
                    take_name(node)

    def _all(self, name: str) -> list[Node]:
        return with_label(_class_of(self._names[name]), name)


def _class_of(kind: str) -> type[Node]:
    from aiida.plugins import DataFactory

    found: type[Node] = DataFactory(kind)
    return found


def _requests(node: Node) -> list[Any]:
    """Return the requests that a node, or a submitted process that returned it, was named by."""
    from aiida.common.links import LinkType

    links = node.base.links.get_incoming(link_type=(LinkType.CREATE, LinkType.RETURN)).all()
    return [one.base.extras.get(NAMED_BY, None) for one in (node, *(link.node for link in links))]


def when(node: Node) -> str:
    """Return the PK of a node and when it was made."""
    return f'pk {node.pk} of {node.ctime.astimezone():%Y-%m-%d %H:%M}'


def listed(nodes: Sequence[Node]) -> str:
    """Return PK and time of some nodes, for a message."""
    rest = len(nodes) - SHOWN
    return ', '.join(map(when, nodes[:SHOWN])) + (f' and {rest} more' if rest > 0 else '')
