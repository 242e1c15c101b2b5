"""Names of nodes: one belongs to one node of its type, and is marked where it was given, not copied from the cache."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aiida.orm import Node

NAMED_BY = 'nanoml_named_by'
"""Extra of a node that was given a name: the action and its fields. A copy from the cache has the label without it."""


def give_name(node: Node, name: str, request: Mapping[str, Any] | None = None) -> None:
    """Give a node a name, and take it from all others of its type.

    :param request: the action and its fields.
    """
    for other in with_label(type(node), name):
        if other.pk != node.pk:
            take_name(other)
    node.label = name
    node.base.extras.set(NAMED_BY, dict(request or {}))


def take_name(node: Node) -> None:
    """Leave a node without a name."""
    node.label = ''
    if NAMED_BY in node.base.extras:
        node.base.extras.delete(NAMED_BY)


def with_label(node_class: type[Node], name: str) -> list[Node]:
    """Return all nodes of a class that have a label, the newest first; of its subclasses for :class:`Node` only."""
    from aiida.orm import Node, QueryBuilder

    # A name of an array would be looked for among sets of labels otherwise: they are arrays, too.
    query = QueryBuilder().append(node_class, subclassing=node_class is Node, filters={'label': name}, tag='node')
    return list(query.order_by({'node': [{'id': 'desc'}]}).all(flat=True))


def same_name(node_class: type[Node], name: str) -> list[Node]:
    """Return the nodes of a class that were given a name, the newest first.

    Copies from the cache have the label of what they were copied from: they count only where nothing else has it.
    """
    from aiida.orm import Data

    found = with_label(node_class, name)
    kept = [node for node in found if not isinstance(node, Data)]
    for kind in {type(node) for node in found if isinstance(node, Data)}:
        kept += _that_were_named([node for node in found if type(node) is kind])
    return sorted(kept, key=lambda node: -node.pk)


def _that_were_named(nodes: list[Node]) -> list[Node]:
    """Return those of some data nodes of one label and type that did not get it from the cache."""
    if len(nodes) < 2:
        return nodes
    given = [node for node in nodes if NAMED_BY in node.base.extras]
    return given or [node for node in nodes if not _is_copy(node)] or nodes


def _is_copy(node: Node) -> bool:
    creator = node.creator
    return creator is not None and creator.base.caching.is_created_from_cache
