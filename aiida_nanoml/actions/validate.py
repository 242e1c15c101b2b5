"""Compare predictions with labels, and label some of the structures for that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import model_validator

from aiida_nanoml.actions.base import Estimate, JobAction, Result, Step, record, step
from aiida_nanoml.actions.common import ENGINE_CODE, MAX_SEED, PSEUDO_FAMILY, BatchFields
from aiida_nanoml.actions.describe import identity_line, interval_line, metric_table, verdict_lines
from aiida_nanoml.actions.errors import InputError
from aiida_nanoml.actions.fields import Code, Labels, Predictions, Structures, argument, option
from aiida_nanoml.actions.session import Session

if TYPE_CHECKING:
    from aiida.engine import ProcessBuilder
    from aiida.orm import ArrayData, Dict, ProcessNode

    from aiida_nanoml.data.prediction import PredictionData
    from aiida_nanoml.learning.verdict import Verdict

DEFAULT_CHOICE, DEFAULT_COUNT = 'uncertain', 10


class Validate(BatchFields, JobAction):
    """Compare PREDICTIONS with labels, and report the error and the time saved.

    With LABELS of the same structures, these are taken. Without, some structures are chosen and labelled now, with the
    engine, protocol and parameters of the labels that the model learnt from.
    """

    action: ClassVar[str] = 'validate'
    command: ClassVar[tuple[str, ...]] = ('validate',)
    makes: ClassVar[Mapping[str, str]] = {'': 'core.dict'}
    example: ClassVar[str] = 'aiida-nanoml validate predictions labels'

    predictions: Predictions = argument('Predictions to evaluate.')
    labels: Labels | None = argument('Labels to compare with.', None)
    choose: Literal['uncertain', 'random', 'all'] | None = option(
        None, 'Which structures to label.', shown=DEFAULT_CHOICE
    )
    count: int | None = option(None, 'Number of structures to label.', ge=1, shown=str(DEFAULT_COUNT))
    only: tuple[str, ...] = option((), 'Label the structure of this name; repeatable.', metavar='NAME')
    seed: int = option(0, 'Random seed of --choose random.', ge=0, le=MAX_SEED)
    structures: Structures | None = option(None, 'Structures behind the features.', shown='what was predicted')
    atoms: Labels | None = option(None, 'Labels of the isolated atoms, for cohesive energies.')
    known: tuple[Labels, ...] = option((), 'Labels that exist; repeatable.')
    engine_code: Code | None = ENGINE_CODE
    pseudo_family: str | None = PSEUDO_FAMILY

    @model_validator(mode='after')
    def _check_choice(self) -> Self:
        chosen = self.choose is not None or self.count is not None
        if self.labels is not None and (chosen or self.only or self.known or self.submit):
            raise InputError(
                'with {labels} nothing is chosen and labelled: leave out {labels}, or {choose}, {count}, {only}, '
                '{known} and {submit}'
            )
        if self.only and chosen:
            raise InputError('give either {only} or {choose} with {count}')
        return self

    def perform(self, session: Session) -> Result:
        """Compare with the labels that were given, or label first."""
        return super().perform(session) if self.labels is None else self._compare(session)

    def builder(self, session: Session) -> ProcessBuilder:
        """Return the workflow that labels and compares."""
        from aiida_nanoml.workflows.validate import ValidateWorkChain

        predictions, structures, atoms = (self.load(name) for name in ('predictions', 'structures', 'atoms'))
        builder = ValidateWorkChain.get_builder_from_predictions(
            self.worker(),
            predictions,
            structures=structures,
            choice=self._choice(),
            overrides=self.batches(),
            options=self.job_options(),
            engine_code=self.load('engine_code'),
            pseudo_family=self.pseudo_family,
        )
        if atoms is not None:
            builder.atoms = atoms
        if self.known:
            builder.known = {f'known_{number:03d}': node for number, node in enumerate(self.load_all('known'))}
        return builder

    def output_names(self) -> dict[str, str]:
        """Return the label of the metrics."""
        return {'metrics': self.name}

    def collect(self, process: ProcessNode, session: Session) -> Result:
        """Return metrics and table."""
        return ValidateResult(self.load('predictions'), process.outputs.metrics, process.outputs.table)

    def estimate(self) -> Estimate | None:
        """Return jobs and seconds of the labels; None if the labels are given."""
        if self.labels is not None:
            return None
        from aiida_nanoml.actions.costs import estimate_some_labels
        from aiida_nanoml.calculations.functions.validation import predicted_structures
        from aiida_nanoml.engines.label_set import LabelSource
        from aiida_nanoml.workflows.protocols import protocol_inputs

        predictions = self.load('predictions')
        source = LabelSource.from_dict(predictions.base.attributes.get('labels'))
        node = self.load('structures') or predicted_structures(predictions)
        if node is None:
            return None
        choice, inputs = self._choice(), protocol_inputs('label', None, self.batches())
        count = node.n_structures if choice is None else len(choice.get('names', ())) or choice['count']
        return estimate_some_labels(
            node.structures,
            min(count, node.n_structures),
            engine=source.engine,
            protocol=source.protocol,
            batch_size=inputs['batch_size'],
            n_places=inputs['max_concurrent'],
        )

    def _choice(self) -> dict[str, Any] | None:
        from aiida_nanoml.workflows.validate import choice_of

        return choice_of(self.choose or DEFAULT_CHOICE, self.count or DEFAULT_COUNT, self.seed, self.only)

    def _compare(self, session: Session) -> Result:
        from aiida_nanoml.calculations.functions.validation import compare_with_labels, comparison_inputs

        predictions, labels, structures, atoms = (
            self.load(name) for name in ('predictions', 'labels', 'structures', 'atoms')
        )
        further = comparison_inputs(predictions, structures, atoms)
        made = session.run_function(compare_with_labels, predictions=predictions, labels=labels, **further)
        made['metrics'].label = self.name
        return ValidateResult(predictions, made['metrics'], made['table'])


@dataclass(frozen=True)
class ValidateResult(Result):
    """Errors of predictions.

    :param predictions: what was evaluated.
    :param metrics: errors, coverage and times.
    :param rows: predicted and labelled value of each structure.
    """

    predictions: PredictionData
    metrics: Dict
    rows: ArrayData

    def to_dict(self) -> dict[str, Any]:
        """Return the metrics."""
        verdict = self._verdict.to_dict()
        return record(self.metrics, table=self.rows.uuid, metrics=self.metrics.get_dict(), verdict=verdict)

    def lines(self) -> dict[str, object]:
        """Return coverage, the verdict, and the time saved unless the predictions are not usable."""
        from aiida_nanoml.learning.verdict import NOT_USABLE

        metrics = self.metrics.get_dict()
        lines: dict[str, object] = {
            'metrics': identity_line(self.metrics),
            'labelling': f'{metrics["labelling_s"]:.1f} s',
            'not compared': metrics['n_not_compared'],
            **interval_line(self._parts(), 'all'),
        }
        if metrics.get('speedup') is not None and self._verdict.grade != NOT_USABLE:
            lines['time'] = (
                f'{metrics["label_s_each"]:.3g} s a label, {metrics["prediction_s_each"]:.3g} s a prediction: '
                f'{metrics["speedup"]:.3g} times as fast'
            )
        return lines | verdict_lines(self._verdict)

    def table(self) -> str:
        """Return the metrics by family."""
        return metric_table(self._parts(), target=self.predictions.base.attributes.get('target'))

    def next_step(self) -> Step:
        """Draw predicted against computed values."""
        return step('plot', node=self.predictions, output='validation.png')

    @cached_property
    def _verdict(self) -> Verdict:
        from aiida_nanoml.learning.targets import find_target
        from aiida_nanoml.learning.verdict import judge_validation

        target = find_target(self.predictions.base.attributes.get('target'))
        return judge_validation(self._parts(), target, self.rows.get_array('predicted'))

    def _parts(self) -> dict[str, Any]:
        return {key: value for key, value in self.metrics.get_dict().items() if isinstance(value, dict)}
