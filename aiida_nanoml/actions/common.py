"""Fields that several actions share: engine, targets, split, descriptor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel

from aiida_nanoml.actions.base import given
from aiida_nanoml.actions.errors import InputError
from aiida_nanoml.actions.fields import ENGINE, JOB, LEARNING, SPLIT, Code, Labels, option

MAX_SEED = 2**32 - 1

TARGETS = ('gap', 'energy_per_atom', 'cohesive_energy', 'dos_fermi', 'pressure', 'magnetic_moment')
Target = Literal['gap', 'energy_per_atom', 'cohesive_energy', 'dos_fermi', 'pressure', 'magnetic_moment']
Group = Literal['structure', 'alloy', 'composition']


def engine_names() -> list[str]:
    """Return the registered engines."""
    from aiida_nanoml.engines.registry import ENGINES

    return list(ENGINES.names())


def descriptor_names() -> list[str]:
    """Return the registered descriptors."""
    from aiida_nanoml.features.registry import DESCRIPTORS

    return list(DESCRIPTORS.names())


DESCRIPTOR_HELP = 'Registered name of the descriptor, or several joined by +.'
DESCRIPTOR_SETTINGS_HELP = 'Parameter of the descriptor; of one of several, PART.KEY=VALUE; repeatable.'

TARGET_SCALE = 4.0
"""Factor between gaps in eV and the numbers in exchange files."""

PSEUDO_FAMILY: Any = option(
    None, 'Family of pseudopotentials.', group=ENGINE, shown='ours, see `aiida-nanoml pseudos list`'
)


ENGINE_CODE: Any = option(
    None, 'Program that the engine runs, such as siesta@cluster, if --code names the worker.', group=ENGINE
)


def settings_option(text: str, *options: str, group: str = '') -> Any:
    """Declare a field of free ``KEY=VALUE`` pairs.

    :param options: names on the command line, ``--set`` if there is none.
    """
    return option({}, text, options=options or ('--set',), group=group)


def protocol_default(workflow: str, key: str) -> Any:
    """Return a function that reads a default from a protocol file: help shows it from there.

    :param workflow: name of the YAML file.
    :param key: name of the input, with dots for nested ones.
    """

    def read() -> Any:
        from aiida_nanoml.workflows.protocols import protocol_inputs

        value: Any = protocol_inputs(workflow, None)
        for part in key.split('.'):
            value = value[part]
        return value

    return read


class EngineFields(BaseModel):
    """Which engine labels, with which settings."""

    engine: str = option('xtb', 'Registered name of the engine.', group=ENGINE, suggestions=engine_names)
    protocol: str = option('balanced', 'fast, balanced, stringent, or another one of the engine.', group=ENGINE)
    engine_code: Code | None = ENGINE_CODE
    pseudo_family: str | None = PSEUDO_FAMILY

    def check_engine(self, parameters: Mapping[str, Any]) -> None:
        """Check engine, protocol and parameters before anything is stored.

        :raises EngineError: one of them is unknown; the message lists the valid ones.
        """
        from aiida_nanoml.engines.registry import get_engine

        get_engine(self.engine).parameters(self.protocol, dict(parameters))


class BatchFields(BaseModel):
    """How labelling is divided into jobs."""

    batch_size: int | None = option(
        None, 'Structures in one job.', ge=1, group=JOB, shown=protocol_default('label', 'batch_size')
    )
    max_concurrent: int | None = option(
        None, 'Jobs at the same time.', ge=1, group=JOB, shown=protocol_default('label', 'max_concurrent')
    )

    def batches(self) -> dict[str, int]:
        """Return what was chosen, by the name of the input of the workflow."""
        return given(batch_size=self.batch_size, max_concurrent=self.max_concurrent)


class TargetFields(BaseModel):
    """What is learnt, and what a split keeps together."""

    target: Target = option('gap', 'What is learnt.', group=LEARNING)
    other: tuple[Target, ...] = option((), 'Target to learn beside it; repeatable.', group=LEARNING)
    atoms: Labels | None = option(None, 'Labels of the isolated atoms, for cohesive energies.', group=LEARNING)
    group: Group = option(
        'structure',
        'What stays in one part of a split: equal structures, all cells of an alloy (of one name), or all cells of a '
        'composition.',
        group=SPLIT,
    )

    def chosen_targets(self) -> dict[str, Any]:
        """Return what is learnt, as data sets want it; empty for the gap alone."""
        return {} if (self.target, *self.other) == ('gap',) else {'target': self.target, 'others': list(self.other)}

    def chosen_group(self) -> dict[str, str]:
        """Return what a split keeps together, as data sets want it; empty for equal structures."""
        return {} if self.group == 'structure' else {'group': self.group}


class SplitFields(BaseModel):
    """Shares of a split."""

    validation: float = option(0.2, 'Share of validation rows.', ge=0, lt=1, group=SPLIT)
    test: float = option(0.2, 'Share of test rows.', ge=0, lt=1, group=SPLIT)
    seed: int = option(0, 'Random seed of the split.', ge=0, le=MAX_SEED, group=SPLIT)
    no_by_family: bool = option(False, 'Do not keep the same shares in every family.', group=SPLIT)

    def shares(self) -> dict[str, Any]:
        """Return shares and seed, as splits want them."""
        return {'validation': self.validation, 'test': self.test, 'seed': self.seed}


def descriptor_choice(text: str, settings: Mapping[str, Any], field: str = 'descriptor_settings') -> dict[str, Any]:
    """Return the choice of a descriptor, ``name`` and ``params``.

    Atoms outside the classes of quadruplets are dropped and counted, unless the settings say something else.

    :param text: registered name, or several joined by ``+``.
    :param settings: parameters by name; of a combination, by ``PART.NAME``.
    :param field: name of the field that has the settings, for messages.
    :raises InputError: a setting does not name its part, or one that is not there.
    """
    parts = [name.strip() for name in text.split('+')]
    params: dict[str, dict[str, Any]] = {name: {} for name in parts}
    if 'quadruplets' in params:
        params['quadruplets']['unknown'] = 'drop'
    for key, value in settings.items():
        part, dot, parameter = key.rpartition('.')
        if not dot and len(parts) == 1:
            part = parts[0]
        if part not in params:
            raise InputError(
                f'{{{field}}} {key}: a parameter of {text} is written '
                + ('NAME=VALUE' if len(parts) == 1 else f'PART.NAME=VALUE, where PART is {" or ".join(parts)}'),
                field,
            )
        params[part][parameter] = value
    if len(parts) == 1:
        return {'name': parts[0], 'params': params[parts[0]]}
    return {'name': 'combined', 'params': {'parts': [{'name': name, 'params': params[name]} for name in parts]}}
