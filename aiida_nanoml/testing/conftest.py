"""Choice of the engines that are tested, and fixtures for one engine with its fast protocol."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from aiida_nanoml.engines import Engine, Label, engine_names, get_engine
from aiida_nanoml.structures import Structure
from aiida_nanoml.structures.vacuum import MINIMUM_VACUUM_ANG
from aiida_nanoml.testing.structures import Samples, samples_for

MOTIONS = 4
"""Random motions that an engine is tried with; one that starts a program is tried with a single one."""

_RUNNING: dict[str, Callable[[type[Engine]], bool]] = {
    'engine': lambda kind: True,
    'gap_engine': lambda kind: 'gap' in kind.properties,
    'crystal_engine': lambda kind: kind.periodic,
    'density_engine': lambda kind: 'density' in kind.properties,
}
"""Fixtures with an engine that computes, and what an engine must declare to be one."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give each test the engines that it is about: those that were named, else all that can be used here."""
    if 'engine_name' not in metafunc.fixturenames:
        return
    named = metafunc.config.getoption('--engine')
    wanted = {fixture for fixture in _RUNNING if fixture in metafunc.fixturenames}
    parameters = []
    for name in named or engine_names():
        kind = get_engine(name)
        if not all(_RUNNING[fixture](kind) for fixture in wanted):
            continue
        missing = kind.missing() if wanted else None
        marks = [] if missing is None else [pytest.mark.skip(reason=missing)]
        if missing is None or named:
            seeds = range(1 if kind.runs_program else MOTIONS) if 'seed' in metafunc.fixturenames else [None]
            parameters += [(pytest.param(name, marks=marks), seed) for seed in seeds]
    if 'seed' in metafunc.fixturenames:
        rows = [pytest.param(*name.values, seed, marks=name.marks) for name, seed in parameters]
        metafunc.parametrize(('engine_name', 'seed'), rows)
    else:
        metafunc.parametrize('engine_name', [name for name, _ in parameters])


def fast(name: str, **parameters: Any) -> Engine:
    """Make an engine with its fast protocol, and the least vacuum where the box is part of the numbers.

    The laws hold in any box, and a small one is cheap.
    """
    chosen = get_engine(name)
    if chosen.box_dependent and 'vacuum_ang' in chosen.Parameters.model_fields:
        parameters = {'vacuum_ang': MINIMUM_VACUUM_ANG} | parameters
    return chosen(chosen.parameters('fast', parameters))


@pytest.fixture(scope='session')
def label_of() -> Callable[[Engine, Structure], Label]:
    """Compute labels, each once: a program can take seconds for one."""
    known: dict[tuple[object, ...], Label] = {}

    def evaluate(engine: Engine, structure: Structure) -> Label:
        arrays = (structure.numbers, structure.positions, structure.cell, structure.pbc)
        key = (engine.name, engine.settings.model_dump_json(), *(array.tobytes() for array in arrays))
        if key not in known:
            known[key] = engine.evaluate(structure)
        return known[key]

    return evaluate


@pytest.fixture
def declared_engine(engine_name: str) -> Engine:
    """An engine that may lack its program or library, for what it says of itself."""
    return fast(engine_name)


@pytest.fixture
def engine(engine_name: str) -> Engine:
    """The engine."""
    return fast(engine_name)


@pytest.fixture
def gap_engine(engine_name: str) -> Engine:
    """An engine that finds levels."""
    return fast(engine_name)


@pytest.fixture
def crystal_engine(engine_name: str) -> Engine:
    """An engine that takes periodic structures."""
    return fast(engine_name)


@pytest.fixture
def density_engine(engine_name: str) -> Engine:
    """An engine that is asked for densities."""
    chosen = fast(engine_name)
    return type(chosen)(chosen.settings, density=True)


@pytest.fixture
def samples(engine_name: str) -> Samples:
    """Structures that the engine treats."""
    return samples_for(fast(engine_name))


@pytest.fixture
def molecule(samples: Samples) -> Structure:
    """An isolated structure that the engine treats."""
    return next(iter(samples.molecules.values()))


@pytest.fixture
def crystal(samples: Samples) -> Structure:
    """A crystal that the engine treats, of two elements if it can, without the symmetry that hides a wrong sign."""
    structure = list(samples.crystals.values())[-1]
    generator = np.random.default_rng(5)
    deformation = np.eye(3) + generator.uniform(-0.03, 0.03, (3, 3))
    shaken = structure.positions + generator.uniform(-0.08, 0.08, structure.positions.shape)
    return Structure(structure.numbers, shaken @ deformation, cell=structure.cell @ deformation, pbc=structure.pbc)
