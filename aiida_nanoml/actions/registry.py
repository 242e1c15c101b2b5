"""Actions by name: those of this package, and those that others register as entry points."""

from __future__ import annotations

from aiida_nanoml.actions.base import ACTIONS, Action


def action_names() -> list[str]:
    """Return the names of all registered actions, sorted."""
    return ACTIONS.names()


def action_class(name: str) -> type[Action]:
    """Load an action.

    :raises ActionError: the name is unknown or claimed twice, or the action cannot be loaded.
    """
    return ACTIONS.load(name)
