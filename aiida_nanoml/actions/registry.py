"""Actions by name: those of this package, and those that others register as entry points."""

from __future__ import annotations

from typing import Any

from aiida_nanoml.actions.base import Action
from aiida_nanoml.actions.errors import ActionError
from aiida_nanoml.plugins import Registry


def _check(name: str, found: Any) -> str | None:
    if not (isinstance(found, type) and issubclass(found, Action)):
        return 'is not a subclass of aiida_nanoml.actions.base.Action'
    if getattr(found, 'action', None) != name:
        return f'calls itself {getattr(found, "action", None)!r}; the names must agree'
    return None


ACTIONS: Registry[type[Action]] = Registry('aiida_nanoml.actions', 'action', ActionError, _check)
"""A package registers a subclass of :class:`~aiida_nanoml.actions.base.Action` under its name in this group."""


def action_names() -> list[str]:
    """Return the names of all registered actions, sorted."""
    return ACTIONS.names()


def action_class(name: str) -> type[Action]:
    """Load an action.

    :raises ActionError: the name is unknown or claimed twice, or the action cannot be loaded.
    """
    return ACTIONS.load(name)
