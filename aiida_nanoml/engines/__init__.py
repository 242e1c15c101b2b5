"""Electronic-structure engines: one file per engine, found through the entry-point group ``aiida_nanoml.engines``."""

from __future__ import annotations

from aiida_nanoml.engines.base import Engine, EngineParameters, Label
from aiida_nanoml.engines.registry import engine_names, get_engine

__all__ = ['Engine', 'EngineParameters', 'Label', 'engine_names', 'get_engine']
