"""Predict targets with a trained model."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from aiida_nanoml.actions.base import Estimate, JobAction, Result, Step, record, step
from aiida_nanoml.actions.describe import (
    SHOWN_ROWS,
    identity_line,
    shortened,
    source_line,
    verdict_lines,
    without_nan,
)
from aiida_nanoml.actions.fields import Labels, ModelNode, StructuresOrDataset, argument, option
from aiida_nanoml.actions.nodes import type_name
from aiida_nanoml.actions.session import Session

if TYPE_CHECKING:
    from aiida.engine import ProcessBuilder
    from aiida.orm import ProcessNode
    from numpy.typing import NDArray

    from aiida_nanoml.data.prediction import PredictionData
    from aiida_nanoml.learning.targets import Target
    from aiida_nanoml.learning.uncertainty import Calibration
    from aiida_nanoml.learning.verdict import Verdict


class Predict(JobAction):
    """Predict the targets of structures, or of the rows of a data set, with a trained MODEL.

    A model that corrects a baseline needs it: the column of DATASET, or with --baseline the labels of STRUCTURES from
    the engine that it corrects.

    The standard deviation is that of the error, calibrated on rows that the model did not learn from. The distance to
    the training set shows how far a row is from what the model has seen; 1 is typical. A row is outside when it is
    beyond what the training set covers: its standard deviation may be too small.
    """

    action: ClassVar[str] = 'predict'
    command: ClassVar[tuple[str, ...]] = ('predict',)
    makes: ClassVar[Mapping[str, str]] = {'': 'nanoml.prediction'}
    example: ClassVar[str] = 'aiida-nanoml predict gap-model flakes --name predictions'

    model: ModelNode = argument('Trained model.')
    rows: StructuresOrDataset = argument('Structures, or a data set, to predict.', metavar='STRUCTURES|DATASET')
    baseline: Labels | None = option(None, 'Labels of STRUCTURES that the model corrects.')

    def builder(self, session: Session) -> ProcessBuilder:
        """Return the prediction."""
        from aiida_nanoml.calculations.predict import PredictCalculation

        model, rows, baseline = (self.load(name) for name in ('model', 'rows', 'baseline'))
        builder = PredictCalculation.get_builder()
        builder.code = self.worker()
        builder.model = model
        builder['structures' if type_name(rows) == 'nanoml.structures' else 'dataset'] = rows
        if baseline is not None:
            builder.baseline = baseline
        builder.metadata.options = self.job_options()
        return builder

    def output_names(self) -> dict[str, str]:
        """Return the label of the predictions."""
        return {'predictions': self.name}

    def collect(self, process: ProcessNode, session: Session) -> Result:
        """Return the predictions."""
        return PredictResult(process, process.outputs.predictions)

    def estimate(self) -> Estimate:
        """Return one job, and the seconds that such jobs took in this profile."""
        from aiida_nanoml.actions.costs import estimate_prediction

        rows = self.load('rows')
        return estimate_prediction(self.load('model'), rows.base.attributes.get(_size_of(rows)))


def _size_of(rows: Any) -> str:
    return 'n_structures' if type_name(rows) == 'nanoml.structures' else 'n_rows'


@dataclass(frozen=True)
class PredictResult(Result):
    """Predictions with their uncertainty.

    :param process: the job.
    :param predictions: a row for each structure.
    """

    process: ProcessNode
    predictions: PredictionData

    def to_dict(self) -> dict[str, Any]:
        """Return all columns; None where there is no calibration or no spread."""
        node, target = self.predictions, self._target
        by_target = dict.fromkeys(('value', 'std', 'spread', 'baseline'), target) | self._others
        columns = {name: without_nan(column.tolist()) for name, column in self._columns.items()}
        return record(
            node,
            process=self.process.uuid,
            model=self.process.inputs.model.uuid,
            n_rows=len(columns['names']),
            max_distance=node.base.attributes.get('max_distance'),
            names=columns['names'],
            target=target.name,
            others=node.others,
            **{f'{name}_{found.suffix}': columns.get(name) for name, found in by_target.items()},
            distance=columns['distance'],
            outside=columns['outside'],
            verdict=self._verdict.to_dict(),
            open_shell=self._odd_electrons,
            calibration=node.base.attributes.get('calibration'),
            baseline=node.base.attributes.get('baseline'),
        )

    def lines(self) -> dict[str, object]:
        """Return ranges, intervals and how many rows are outside."""
        node, columns = self.predictions, self._columns
        corrects = {'corrects': source_line(node.base.attributes.get('baseline'))} if 'baseline' in columns else {}
        outside = columns['outside']
        return {
            'predictions': identity_line(node),
            self._target.noun: f'{_range(columns["value"], self._target)}, {len(outside)} rows',
            **{target.noun: _range(columns[name], target) for name, target in self._others.items()},
            **corrects,
            'intervals': _intervals(node.calibration),
            'distance': f'up to {columns["distance"].max():.2f} (1: typical of the training set)',
            'outside': f'{outside.sum()} of {len(outside)} rows are beyond what the training set covers',
            **self._open_shell_line(),
            **verdict_lines(self._verdict),
        }

    @cached_property
    def _verdict(self) -> Verdict:
        from aiida_nanoml.learning.verdict import judge_model, judge_predictions

        trained = self.process.inputs.model.base.attributes
        model = judge_model(trained.get('metrics'), self._target, trained.get('kind'))
        columns, calibrated = self._columns, self.predictions.calibration is not None
        return judge_predictions(model, self._target, columns['value'], columns['outside'], calibrated)

    def _open_shell_line(self) -> dict[str, object]:
        n_odd = sum(self._odd_electrons or ())
        if not n_odd:
            return {}
        return {
            'open shell': f'{n_odd}: an odd number of electrons, which the model has never seen; counted as outside',
        }

    @cached_property
    def _odd_electrons(self) -> list[bool] | None:
        """Return whether each structure has an odd number of electrons; None: the target has a meaning nevertheless."""
        if 'structures' not in self.process.inputs or not self._target.closed_shell:
            return None
        odd: list[bool] = self.process.inputs.structures.structures.has_odd_electrons.tolist()
        return odd

    def table(self) -> str:
        """Return the first rows."""
        columns, unit = self._columns, self._target.unit
        further = ({'baseline': self._target} if 'baseline' in columns else {}) | self._others
        heads = ['name', f'{self._target.noun} ({unit})', f'std ({unit})', 'distance', 'domain']
        heads += [f'{"baseline" if name == "baseline" else kind.noun} ({kind.unit})' for name, kind in further.items()]
        rows = [
            [
                str(columns['names'][row]),
                _cell(columns['value'][row], self._target),
                _cell(columns['std'][row], self._target),
                f'{columns["distance"][row]:.2f}',
                'outside' if columns['outside'][row] else 'inside',
                *(_cell(columns[name][row], kind) for name, kind in further.items()),
            ]
            for row in range(min(SHOWN_ROWS, len(columns['names'])))
        ]
        return shortened([heads, *rows], len(columns['names']))

    def next_step(self) -> Step:
        """Look where the predictions come from."""
        return step('trace', node=self.predictions)

    @cached_property
    def _columns(self) -> dict[str, NDArray[Any]]:
        return dict(self.predictions.arrays)

    @cached_property
    def _target(self) -> Target:
        from aiida_nanoml.learning.targets import find_target

        return find_target(self.predictions.base.attributes.get('target'))

    @cached_property
    def _others(self) -> dict[str, Target]:
        """Return the further targets by the name of their column."""
        from aiida_nanoml.learning.dataset import COMPANION_VALUE
        from aiida_nanoml.learning.targets import find_target

        return {f'{COMPANION_VALUE}{name}': find_target(name) for name in self.predictions.others}


def _cell(value: float, target: Target) -> str:
    return '-' if math.isnan(value) else f'{value:.{target.digits}f}'


def _range(values: Any, target: Target) -> str:
    return f'{values.min():.{target.digits}f} to {values.max():.{target.digits}f} {target.unit}'


def _intervals(calibration: Calibration | None) -> str:
    if calibration is None:
        return 'not calibrated: the model was trained with fewer than 20 validation rows, and without --folds'
    return (
        f'68 %: ± {calibration.factor_68:.2f} std, 95 %: ± {calibration.factor_95:.2f} std, by {calibration.rows} '
        f'{calibration.part} rows'
    )
