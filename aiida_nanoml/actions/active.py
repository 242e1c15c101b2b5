"""Label the structures of a pool that teach most, round by round, and train on them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pydantic import model_validator

from aiida_nanoml.actions.base import Estimate, JobAction, Result, Step, given, record, step
from aiida_nanoml.actions.common import (
    DESCRIPTOR_HELP,
    MAX_SEED,
    BatchFields,
    EngineFields,
    descriptor_choice,
    descriptor_names,
    protocol_default,
    settings_option,
)
from aiida_nanoml.actions.describe import identity_line, source_line, without_nan
from aiida_nanoml.actions.errors import InputError
from aiida_nanoml.actions.fields import FEATURES, LEARNING, Labels, Structures, argument, option
from aiida_nanoml.actions.figures import FigureAction
from aiida_nanoml.actions.session import Session
from aiida_nanoml.actions.train import model_kinds
from aiida_nanoml.text import aligned

if TYPE_CHECKING:
    from aiida.engine import ProcessBuilder
    from aiida.orm import ProcessNode

PARTS = ('engine', 'descriptor', 'model')
REASONS = {
    'target_mae': 'the error of the held-out structures reached the target',
    'target_std': 'the mean standard deviation over the pool reached the target',
    'budget': 'the budget is spent',
    'max_rounds': 'all rounds are done',
    'pool': 'nothing is left in the pool',
}
"""Why the rounds ended, by the name in the summary."""

SHOWN = {'n_asked': 'asked', 'n_learnt': 'learnt', 'n_failed': 'failed', 'n_open_shell': 'open shell', 'n_left': 'left'}
ENERGIES = {'mae': 'MAE (eV)', 'r2': 'R2', 'mean_std': 'std (eV)'}


def strategies() -> list[str]:
    """Return the names of the strategies, the usual one first."""
    from aiida_nanoml.learning.acquisition import STRATEGIES

    usual = protocol_default('active', 'strategy')()
    return [usual, *(name for name in STRATEGIES if name != usual)]


class Active(EngineFields, BatchFields, JobAction, FigureAction):
    """Label the structures of POOL that teach most, round by round, and train on them.

    Each round chooses structures, labels them, trains, and evaluates the model on held-out structures, which are never
    learnt from. The rounds end by --rounds, --budget, --target-mae or --target-std: the first one that holds counts.
    """

    action: ClassVar[str] = 'active'
    command: ClassVar[tuple[str, ...]] = ('active',)
    makes: ClassVar[Mapping[str, str]] = {'': 'nanoml.model'}
    example: ClassVar[str] = 'aiida-nanoml active flakes --engine xtb --protocol fast --budget 100 --name gap-model'

    pool: Structures = argument('Structures to choose from.')
    held_out: Structures | None = option(None, 'Structures that the model is evaluated on.')
    n_held_out: int | None = option(
        None,
        'Without --held-out: structures of POOL to hold out, drawn at random.',
        ge=1,
        shown=protocol_default('active', 'n_held_out'),
    )
    initial: Structures | None = option(None, 'Structures of the first round.')
    n_initial: int | None = option(
        None,
        'Without --initial: structures of POOL for the first round, drawn at random.',
        ge=1,
        shown=protocol_default('active', 'n_initial'),
    )
    per_round: int | None = option(
        None, 'Structures of each further round.', ge=1, shown=protocol_default('active', 'n_per_round')
    )
    strategy: str | None = option(
        None, 'How structures are chosen.', choices=strategies, shown=protocol_default('active', 'strategy')
    )
    rounds: int | None = option(None, 'Stop after this many rounds, the first one included.', ge=1)
    budget: int | None = option(None, 'Stop when this many structures were asked for.', ge=1)
    target_mae: float | None = option(None, 'Stop at this error of the held-out structures.', unit='eV', gt=0)
    target_std: float | None = option(None, 'Stop at this mean standard deviation of the pool.', unit='eV', gt=0)
    compare: bool = option(False, 'Afterwards learn from as many structures drawn at random.')
    known: tuple[Labels, ...] = option((), 'Labels that exist; repeatable.')
    baseline: Labels | None = option(None, 'Labels of all structures that the model corrects.', group=LEARNING)
    descriptor: str = option('quadruplets', DESCRIPTOR_HELP, group=FEATURES, suggestions=descriptor_names)
    kind: str | None = option(
        None,
        'Kind of model.',
        options=('--model',),
        choices=model_kinds,
        group=LEARNING,
        shown='fast; with --baseline: correction',
    )
    settings: dict[str, Any] = settings_option('engine.KEY=VALUE, descriptor.KEY=VALUE or model.KEY=VALUE; repeatable.')
    validation: float | None = option(
        None,
        'Share of the labels that the training is validated on.',
        ge=0,
        lt=1,
        group=LEARNING,
        shown=protocol_default('active', 'validation'),
    )
    seed: int = option(0, 'Random seed of all draws.', ge=0, le=MAX_SEED)

    @model_validator(mode='after')
    def _check_fields(self) -> Self:
        if not self.stops():
            raise InputError('say when to stop: {rounds}, {budget}, {target_mae} or {target_std}')
        for name in ('held_out', 'initial'):
            if getattr(self, name) is not None and getattr(self, f'n_{name}') is not None:
                raise InputError(f'give either {{{name}}} or {{n_{name}}}')
        self.split_settings()
        return self

    def stops(self) -> dict[str, float]:
        """Return the limits that were chosen, by the name of the input of the workflow."""
        return given(max_rounds=self.rounds, budget=self.budget, target_mae=self.target_mae, target_std=self.target_std)

    def split_settings(self) -> dict[str, dict[str, Any]]:
        """Return the settings by the part that they belong to, ``engine``, ``descriptor`` or ``model``.

        :raises InputError: a setting names none of them.
        """
        parts: dict[str, dict[str, Any]] = {part: {} for part in PARTS}
        for key, value in self.settings.items():
            part, dot, rest = key.partition('.')
            if not dot or part not in parts:
                raise InputError(
                    f'{{settings}} {key}: write engine.KEY=VALUE, descriptor.KEY=VALUE or model.KEY=VALUE', 'settings'
                )
            parts[part][rest] = value
        return parts

    def check(self) -> None:
        """Check that the figure would replace nothing, and the settings of the engine."""
        self.check_overwriting(self.output and self.file)
        self.check_engine(self.split_settings()['engine'])

    def builder(self, session: Session) -> ProcessBuilder:
        """Return the workflow."""
        from aiida.orm import Bool

        from aiida_nanoml.workflows.active import ActiveWorkChain

        nodes = {name: self.load(name) for name in ('pool', 'held_out', 'initial', 'engine_code', 'baseline')}
        builder = ActiveWorkChain.get_builder_from_protocol(
            self.worker(),
            nodes['pool'],
            held_out=nodes['held_out'],
            initial=nodes['initial'],
            engine=self.engine,
            protocol=self.protocol,
            overrides=self._overrides(),
            options=self.job_options(),
            engine_code=nodes['engine_code'],
            pseudo_family=self.pseudo_family,
        )
        for stop, limit in self.stops().items():
            builder[stop] = limit
        builder.compare = Bool(self.compare)
        if self.known:
            builder.label.known = {f'known_{number:03d}': node for number, node in enumerate(self.load_all('known'))}
        if nodes['baseline'] is not None:
            builder.baseline = nodes['baseline']
        return builder

    def output_names(self) -> dict[str, str]:
        """Return the label of the model."""
        return {'model': self.name}

    def collect(self, process: ProcessNode, session: Session) -> Result:
        """Draw the figure."""
        if self.output is not None:
            from aiida_nanoml.calculations.functions.active import draw_rounds
            from aiida_nanoml.learning.plot_style import save_figure

            save_figure(draw_rounds(process.outputs.table, **self.size), self.file)
        return ActiveResult(process)

    def estimate(self) -> Estimate:
        """Return jobs and seconds of the labels if neither error nor deviation ends the rounds before."""
        from aiida_nanoml.actions.costs import estimate_some_labels

        pool = self.load('pool').structures
        held_out, rounds = self._plan(len(pool))
        batches = self._batches_of_protocol()
        settings = {
            'engine': self.engine,
            'protocol': self.protocol,
            'batch_size': batches['batch_size'],
            'n_places': batches['max_concurrent'],
        }
        repeats = 2 if self.compare else 1
        labelled = [held_out, *rounds * repeats]
        found = [estimate_some_labels(pool, count, **settings) for count in labelled]
        seconds = [one.seconds for one in found]
        total = None if None in seconds else sum(second or 0.0 for second in seconds)
        jobs = sum(one.jobs for one in found) + 2 * len(rounds) * repeats
        basis = f'at most {sum(labelled)} structures in {len(rounds)} rounds; the time is that of the labels: '
        return Estimate(jobs, total, None, basis + found[0].basis)

    def _plan(self, n_pool: int) -> tuple[int, list[int]]:
        """Return how many structures are held out, and at most asked for in each round."""
        from aiida_nanoml.workflows.protocols import protocol_inputs

        inputs = protocol_inputs('active', self._protocol_of_rounds(), self._numbers())
        held_out = inputs['n_held_out'] if self.held_out is None else self.load('held_out').n_structures
        left = n_pool - (held_out if self.held_out is None else 0)
        first = inputs['n_initial'] if self.initial is None else self.load('initial').n_structures
        left = max(0, min(left, self.budget or left))
        rounds = [min(first, left)]
        while sum(rounds) < left and len(rounds) < (self.rounds or math.inf):
            rounds.append(min(inputs['n_per_round'], left - sum(rounds)))
        return held_out, rounds

    def _protocol_of_rounds(self) -> str | None:
        from aiida_nanoml.workflows.protocols import protocol_names

        return self.protocol if self.protocol in protocol_names('active') else None

    def _batches_of_protocol(self) -> dict[str, Any]:
        from aiida_nanoml.workflows.protocols import protocol_inputs

        return protocol_inputs('label', None, self.batches())

    def _numbers(self) -> dict[str, Any]:
        return given(
            n_held_out=self.n_held_out,
            n_initial=self.n_initial,
            n_per_round=self.per_round,
            validation=self.validation,
        )

    def _overrides(self) -> dict[str, Any]:
        """Return what replaces the inputs of the protocol."""
        parts = self.split_settings()
        kind = self.kind or (None if self.baseline is None else 'correction')
        return (
            self._numbers()
            | given(strategy=self.strategy, kind=kind)
            | {
                'seed': self.seed,
                'hyperparameters': parts['model'],
                'descriptor': descriptor_choice(self.descriptor, parts['descriptor'], 'settings'),
                'label': self.batches() | {'parameters': parts['engine']},
            }
        )


@dataclass(frozen=True)
class ActiveResult(Result):
    """A model, and the rounds that led to it.

    :param process: the workflow.
    """

    process: ProcessNode

    def to_dict(self) -> dict[str, Any]:
        """Return the rounds as columns, and why they ended."""
        rounds = {key: without_nan(column) for key, column in self._rounds.items()}
        return record(self.process.outputs.model, process=self.process.uuid, rounds=rounds, **self._summary)

    def lines(self) -> dict[str, object]:
        """Return the model, its labels, and why the rounds ended."""
        summary = self._summary
        lines: dict[str, object] = {
            'model': identity_line(self.process.outputs.model),
            'labels': source_line(summary['labels']),
            'held out': f'{summary["n_held_out"]} structures',
            'strategy': summary['strategy'],
            'stopped': f'{REASONS[summary["stopped_by"]]} ({summary["stopped_by"]})',
        }
        if 'random_mae' in summary:
            lines['at random'] = f'MAE {summary["random_mae"]:.3f} eV from {summary["random_n_learnt"]} labels'
        return lines

    def table(self) -> str:
        """Return a row for each round."""
        table = self._rounds
        rows: list[list[str]] = [['round', *SHOWN.values(), *ENERGIES.values()]]
        for number in range(len(table['mae'])):
            energies = [table[key][number] for key in ENERGIES]
            shown = ['-' if math.isnan(value) else f'{value:.3f}' for value in energies]
            rows.append([str(number + 1), *(str(table[key][number]) for key in SHOWN), *shown])
        return aligned(rows)

    def next_step(self) -> Step:
        """Look where the model comes from."""
        return step('trace', node=self.process.outputs.model)

    @cached_property
    def _rounds(self) -> dict[str, list[Any]]:
        return {key: column.tolist() for key, column in self.process.outputs.table.arrays.items()}

    @cached_property
    def _summary(self) -> Mapping[str, Any]:
        summary: Mapping[str, Any] = self.process.outputs.summary.get_dict()
        return summary
