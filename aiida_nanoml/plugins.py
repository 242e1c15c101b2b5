"""Plug-ins: one registry for each kind, filled from one entry-point group.

Engines, descriptors, selectors, models, generators, studies and actions are found in the same way, whether this
package or another one brings them. Nothing is imported before it is asked for: a broken plug-in disturbs nobody.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import EntryPoint, EntryPoints, entry_points
from typing import Any, Generic, TypeVar

from aiida_nanoml.errors import NanomlError

T = TypeVar('T')


@dataclass(frozen=True)
class Registry(Generic[T]):
    """The plug-ins of one kind.

    :param group: entry-point group, for example ``aiida_nanoml.engines``.
    :param what: what a plug-in is called in messages, for example ``engine``.
    :param error: the error to raise.
    :param check: returns what is wrong with a loaded object of a name, or None.
    """

    group: str
    what: str
    error: type[NanomlError]
    check: Callable[[str, Any], str | None] = lambda name, found: None

    def names(self) -> list[str]:
        """Return the names of all registered plug-ins, sorted; one of them may still fail to load."""
        return sorted(self._points)

    def load(self, name: str) -> T:
        """Load a plug-in.

        :param name: name of an entry point in the group.
        :raises NanomlError: ``error``, if the name is unknown (the known ones are listed) or claimed by two packages,
            the module cannot be imported, or what it holds is no plug-in of this kind.
        """
        found = self._points.get(name)
        if not found:
            _entry_points.cache_clear()  # a package may have been installed meanwhile
            found = self._points.get(name)
        if not found:
            known = ', '.join(self.names()) or 'none (is aiida-nanoml installed?)'
            raise self.error(f'there is no {self.what} {name!r}; registered: {known}')
        if len(found) > 1:
            claims = ' and '.join(sorted(point.value for point in found))
            raise self.error(f'the {self.what} {name!r} is claimed by {claims}; uninstall one of them')
        (point,) = found
        try:
            loaded: T = point.load()
        except Exception as fault:  # a module of another package may fail in any way
            raise self.error(
                f'the {self.what} {name!r} ({point.value}) cannot be loaded: {type(fault).__name__}: {fault}'
            ) from fault
        wrong = self.check(name, loaded)
        if wrong:
            raise self.error(f'the {self.what} {name!r} ({point.value}) {wrong}')
        return loaded

    def name_of(self, plugin: T) -> str | None:
        """Return the name under which a class is registered, or None."""
        path = f'{getattr(plugin, "__module__", "")}:{getattr(plugin, "__qualname__", "")}'
        for name, found in sorted(self._points.items()):
            if any(point.value == path or _loads_as(point, plugin) for point in found):
                return name
        return None

    @property
    def _points(self) -> dict[str, list[EntryPoint]]:
        """Return the entry points by name; the same target registered twice counts once."""
        points: dict[str, dict[str, EntryPoint]] = {}
        for point in _entry_points(self.group, tuple(sys.path)):
            points.setdefault(point.name, {})[point.value] = point
        return {name: list(found.values()) for name, found in points.items()}


@lru_cache(maxsize=32)
def _entry_points(group: str, path: tuple[str, ...]) -> EntryPoints:
    """Return the entry points of a group; to find them, the metadata of every package on the path are read."""
    return entry_points(group=group)


def subclass_of(base: type, *, named: bool = False) -> Callable[[str, Any], str | None]:
    """Return a check that a plug-in is a subclass.

    :param base: the base class.
    :param named: its attribute ``name`` must be the name of the entry point.
    """

    def check(name: str, found: Any) -> str | None:
        if not (isinstance(found, type) and issubclass(found, base)):
            return f'is not a subclass of {base.__module__}.{base.__qualname__}'
        if named and getattr(found, 'name', None) != name:
            return f'calls itself {getattr(found, "name", None)!r}; the names must agree'
        return None

    return check


def _loads_as(point: EntryPoint, plugin: Any) -> bool:
    """Return whether an entry point leads to a class by another path than where the class is defined."""
    if point.module.partition('.')[0] != str(getattr(plugin, '__module__', '')).partition('.')[0]:
        return False
    try:
        return point.load() is plugin
    except Exception:  # a broken entry point of another package is no reason to fail here
        return False
