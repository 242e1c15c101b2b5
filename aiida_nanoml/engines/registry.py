"""Registries of engines and of readers of finished runs: built-in ones, and those of other packages."""

from __future__ import annotations

from aiida_nanoml.engines.base import Engine
from aiida_nanoml.engines.finished_runs import RunReader
from aiida_nanoml.errors import EngineError
from aiida_nanoml.plugins import Registry, subclass_of

ENGINES: Registry[type[Engine]] = Registry(
    'aiida_nanoml.engines', 'engine', EngineError, subclass_of(Engine, named=True)
)

RUN_READERS: Registry[type[RunReader]] = Registry(
    'aiida_nanoml.run_readers', 'run reader', EngineError, subclass_of(RunReader, named=True)
)


def engine_names() -> list[str]:
    """Return the names of all registered engines, sorted; an engine may still lack the library that it needs.

    Nothing is imported, so that a broken engine disturbs nobody.
    """
    return ENGINES.names()


def get_engine(name: str) -> type[Engine]:
    """Load an engine.

    :param name: name of an entry point in the group ``aiida_nanoml.engines``.
    :raises EngineError: the name is unknown (the known ones are listed) or claimed by two packages, the module cannot
        be imported, or what it holds is no :class:`~aiida_nanoml.engines.base.Engine` of that name.
    """
    return ENGINES.load(name)
