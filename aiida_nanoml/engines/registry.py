"""Which engines there are: built-in and third-party ones alike come from one entry-point group."""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points

from aiida_nanoml.engines.base import Engine
from aiida_nanoml.errors import EngineError

ENTRY_POINT_GROUP = 'aiida_nanoml.engines'


def engine_names() -> list[str]:
    """Give the names of all registered engines, sorted; an engine may still lack the library that it needs.

    Nothing is imported, so that a broken engine disturbs nobody.
    """
    return sorted(entry_points(group=ENTRY_POINT_GROUP).names)


def get_engine(name: str) -> type[Engine]:
    """Load an engine.

    :param name: name of an entry point in the group ``aiida_nanoml.engines``.
    :raises EngineError: the name is unknown (the known ones are listed) or claimed by two packages, the module cannot
        be imported, or what it holds is no :class:`~aiida_nanoml.engines.base.Engine` of that name.
    """
    found = {point.value: point for point in entry_points(group=ENTRY_POINT_GROUP, name=name)}
    if not found:
        known = ', '.join(engine_names()) or 'none (is aiida-nanoml installed?)'
        raise EngineError(f'there is no engine {name!r}; registered engines: {known}')
    if len(found) > 1:
        raise EngineError(f'engine {name!r} is claimed by {" and ".join(sorted(found))}; uninstall one of them')
    return _load(next(iter(found.values())))


def _load(point: EntryPoint) -> type[Engine]:
    try:
        engine = point.load()
    except Exception as error:  # a third party's module may fail in any way
        raise EngineError(
            f'engine {point.name!r} ({point.value}) cannot be loaded: {type(error).__name__}: {error}'
        ) from error
    if not (isinstance(engine, type) and issubclass(engine, Engine)):
        raise EngineError(f'engine {point.name!r}: {point.value} is not a subclass of aiida_nanoml.engines.Engine')
    if engine.name != point.name:
        raise EngineError(f'engine {point.name!r}: {point.value} calls itself {engine.name!r}; the names must agree')
    return engine
