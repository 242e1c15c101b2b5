"""Generate alloys, scan them, train a network, and evaluate its phases."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from aiida_nanoml.actions.alloy_common import (
    PREDICTED_NAMES,
    PREDICTED_PARTS,
    SCAN_NAMES,
    SCAN_PARTS,
    CellFields,
    ScanAction,
    evaluation_lines,
    uuids_of,
)
from aiida_nanoml.actions.base import Estimate, Result, Step, given, part_names, record, step
from aiida_nanoml.actions.common import protocol_default
from aiida_nanoml.actions.describe import counts, source_line
from aiida_nanoml.actions.errors import InputError
from aiida_nanoml.actions.fields import LEARNING, SPLIT, option
from aiida_nanoml.actions.session import Session

if TYPE_CHECKING:
    from aiida.engine import ProcessBuilder
    from aiida.orm import ProcessNode


class AlloyStudy(CellFields, ScanAction):
    """Generate alloys, scan them, train a network, and evaluate it on alloys that it did not see.

    Its phases, lattice constants and stress-strain curves come from its own curves E(a).
    """

    action: ClassVar[str] = 'alloy_study'
    command: ClassVar[tuple[str, ...]] = ('alloys', 'study')
    makes: ClassVar[Mapping[str, str]] = {
        **SCAN_NAMES,
        '-dataset': 'nanoml.dataset',
        '-model': 'nanoml.model',
        '-metrics': 'core.dict',
        **{f'-predicted{ending}': kind for ending, kind in PREDICTED_NAMES.items()},
    }
    example: ClassVar[str] = (
        'aiida-nanoml alloys study --elements Al,Cu,Ni --count 12 --seed 1 --engine ase --protocol fast --epochs 200 '
        '--name study'
    )
    short: ClassVar[str | None] = 'The whole study: scans, a network, and its phases'
    follow: ClassVar[str] = 'alloy_phase'
    labelled: ClassVar[bool] = True

    count: int = option(..., 'Number of alloys; each has a cell in every phase.', ge=1, le=1_000_000)
    target: Literal['cohesive_energy', 'energy_per_atom'] | None = option(
        None, 'What the network learns.', group=LEARNING, shown=protocol_default('alloy', 'targets.target')
    )
    others: tuple[str, ...] = option(
        (),
        'Target that it learns beside it; repeatable.',
        options=('--other',),
        group=LEARNING,
        shown='pressure, unless a target is given',
    )
    kind: str | None = option(
        None, 'Kind of model.', options=('--model',), group=LEARNING, shown=protocol_default('alloy', 'kind')
    )
    epochs: int | None = option(
        None, 'Largest number of passes over the training rows.', ge=1, le=1_000_000, group=LEARNING
    )
    validation: float | None = option(
        None, 'Share of validation rows.', ge=0, lt=1, group=SPLIT, shown=protocol_default('alloy', 'split.validation')
    )
    test: float | None = option(
        None, 'Share of test rows.', ge=0, lt=1, group=SPLIT, shown=protocol_default('alloy', 'split.test')
    )

    def check(self) -> None:
        """Check that the program of the engine is named: the code is that of the worker."""
        from aiida_nanoml.engines.registry import get_engine

        if get_engine(self.engine).runs_program and self.engine_code is None:
            raise InputError(
                f'the engine {self.engine} runs a program: name it by {{engine_code}}; {{code}} is the worker'
            )

    def builder(self, session: Session) -> ProcessBuilder:
        """Return the study."""
        from aiida_nanoml.workflows.alloy import AlloyWorkChain

        arguments = self.scan_arguments()
        scan = arguments.pop('overrides')
        arguments['code'] = arguments['code'] or self.worker()
        overrides = {'scan': scan, 'split': self._split(), **self._targets()}
        overrides |= given(kind=self.kind, hyperparameters=None if self.epochs is None else {'epochs': self.epochs})
        return AlloyWorkChain.get_builder_from_protocol(alloys=self._alloys(), overrides=overrides, **arguments)

    def output_names(self) -> dict[str, str]:
        """Return the labels of the results."""
        predicted = part_names(PREDICTED_PARTS, f'{self.name}-predicted' if self.name else '')
        made = part_names((*SCAN_PARTS, 'dataset', 'model', 'metrics'), self.name)
        return made | {f'predicted.{part}': label for part, label in predicted.items()}

    def collect(self, process: ProcessNode, session: Session) -> Result:
        """Return the study."""
        return AlloyStudyResult(process)

    def estimate(self) -> Estimate:
        """Return jobs and seconds of the points, and one job each to train and to predict."""
        from aiida_nanoml.structures import AlloyParameters, generate_alloys

        # The arrangement of the atoms does not matter for the costs, and takes long to optimise.
        cells = generate_alloys(AlloyParameters.from_dict(self._alloys() | {'order': 'random'}))
        points = self.estimate_points(cells)
        return replace(points, jobs=points.jobs + 2, basis=f'{points.basis}; without training and prediction')

    def _alloys(self) -> dict[str, Any]:
        names = ('n_atoms', 'count', 'seed', 'order')
        return {'elements': list(self.elements)} | {name: getattr(self, name) for name in names}

    def _split(self) -> dict[str, Any]:
        return given(validation=self.validation, test=self.test, seed=self.seed)

    def _targets(self) -> dict[str, Any]:
        if self.target is None and not self.others:
            return {}
        return {'targets': {'target': self.target or 'cohesive_energy', 'others': list(self.others)}}


@dataclass(frozen=True)
class AlloyStudyResult(Result):
    """A study: a scan, a model, and its predictions for alloys that it did not see.

    :param process: the workflow that made it.
    """

    process: ProcessNode

    def to_dict(self) -> dict[str, Any]:
        """Return nodes, summary and metrics."""
        outputs = self.process.outputs
        return record(
            self.process,
            **uuids_of(outputs, (*SCAN_PARTS, 'dataset', 'model')),
            summary=outputs.summary.get_dict(),
            metrics=outputs.metrics.get_dict(),
            predicted=outputs.predicted.metrics.get_dict(),
        )

    def lines(self) -> dict[str, object]:
        """Return source, curves, and how well the model finds phases."""
        outputs = self.process.outputs
        summary, metrics = outputs.summary.get_dict(), outputs.metrics.get_dict()
        attributes = outputs.model.base.attributes
        test = metrics.get('test', metrics['train'])
        return {
            'study': f'{self.process.label or self.process.process_label} pk {self.process.pk}, '
            f'uuid {self.process.uuid}',
            'source': source_line(summary['labels']),
            'curves': counts(summary['curves']),
            'phases': counts(summary['phases']),
            'model': f'{attributes.get("kind")}, {attributes.get("target")}: MAE {test["mae"]:.4f} '
            f'{attributes.get("unit")} on {test["n"]} test points',
            **evaluation_lines(outputs.predicted.metrics.get_dict()),
        }

    def next_step(self) -> Step:
        """Draw the phases of model and engine."""
        return step('alloy_plot', node=self.process, figure='parity', output='parity.png')
