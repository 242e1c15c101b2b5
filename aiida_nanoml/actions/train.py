"""Train a model on a data set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from aiida_nanoml.actions.base import Estimate, JobAction, Result, Step, given, record, step
from aiida_nanoml.actions.common import MAX_SEED, settings_option
from aiida_nanoml.actions.describe import identity_line, interval_line, metric_table, source_line, verdict_lines
from aiida_nanoml.actions.errors import InputError
from aiida_nanoml.actions.fields import DatasetNode, argument, comma_separated, option
from aiida_nanoml.actions.session import Session
from aiida_nanoml.learning.registry import CORRECTION_KIND, FEW_ROWS, FEW_ROWS_KIND, GAP_KIND
from aiida_nanoml.text import counted

if TYPE_CHECKING:
    from aiida.engine import ProcessBuilder
    from aiida.orm import ProcessNode

    from aiida_nanoml.data.dataset import DatasetData
    from aiida_nanoml.data.model import ModelData
    from aiida_nanoml.learning.verdict import Verdict

Neurons = Annotated[int, Field(ge=1)]

FEW_ROWS_FOLDS = 5
"""Folds of a model for few rows: a test part of some rows would say little."""

NAMED = ('epochs', 'batch_size', 'hidden_layers', 'learning_rate', 'seed')
"""Hyperparameters that have a field of their own."""


def model_kinds() -> list[str]:
    """Return the names of all kinds of model."""
    from aiida_nanoml.learning.registry import MODELS

    return MODELS.names()


class Train(JobAction):
    """Train a model on the training rows of DATASET and evaluate it on all parts of its split.

    The kinds fast, paper, transfer, correction and alloy are dense networks; the others are models of scikit-learn.
    With a baseline in DATASET, a model learns the correction to it. All targets of DATASET are learnt by one model:
    alloy, linear, ridge, tree and forest can learn several, and other networks with --set target_scale=null.
    """

    action: ClassVar[str] = 'train'
    command: ClassVar[tuple[str, ...]] = ('train',)
    makes: ClassVar[Mapping[str, str]] = {'': 'nanoml.model'}
    example: ClassVar[str] = 'aiida-nanoml train gaps --model fast --epochs 50 --name gap-model'

    dataset: DatasetNode = argument('Data set to learn from.')
    kind: str | None = option(
        None,
        'Kind of model.',
        options=('--model',),
        choices=model_kinds,
        shown=(
            f'{FEW_ROWS_KIND} with fewer than {FEW_ROWS} training rows, else fast; with a baseline: correction; for '
            'others than the gap: alloy'
        ),
    )
    alone: bool = option(False, 'Learn the target itself, although DATASET has a baseline.')
    folds: int | None = option(
        None, 'Also cross-validate with this many folds.', ge=3, shown=f'{FEW_ROWS_FOLDS} for few_rows, else none'
    )
    allow_leakage: bool = option(False, 'Accept structures that are in two parts of the split.')
    epochs: int | None = option(None, 'Largest number of passes over the training rows.', ge=1)
    batch_size: int | None = option(None, 'Rows of one step.', ge=1)
    hidden_layers: tuple[Neurons, ...] | None = option(
        None, 'Neurons of each hidden layer, for example 300,50,25.', **comma_separated(int, '300,50,25')
    )
    learning_rate: float | None = option(None, 'Learning rate of Adam.', gt=0)
    seed: int | None = option(
        None, 'Random seed of the initial weights and of the order of the rows.', ge=0, le=MAX_SEED
    )
    hyperparameters: dict[str, Any] = settings_option('Any other hyperparameter of the model; repeatable.')

    def builder(self, session: Session) -> ProcessBuilder:
        """Return the training."""
        from aiida.orm import Bool, Dict, Int, Str

        from aiida_nanoml.calculations.train import TrainCalculation

        dataset = self.load('dataset')
        builder = TrainCalculation.get_builder()
        builder.code = self.worker()
        builder.dataset = dataset
        kind = self._kind_for(dataset)
        builder.kind = Str(kind)
        hyperparameters = self.all_hyperparameters()
        if hyperparameters:
            builder.hyperparameters = Dict(hyperparameters)
        if self.alone:
            builder.alone = Bool(True)
        folds = self._folds_for(kind, dataset)
        if folds is not None:
            builder.folds = Int(folds)
        if self.allow_leakage:
            builder.allow_leakage = Bool(True)
        builder.metadata.options = self.job_options()
        return builder

    def _kind_for(self, dataset: DatasetData) -> str:
        """Return the kind that was chosen, or the usual one for the targets of the data set."""
        from aiida_nanoml.learning.registry import default_kind

        corrects = dataset.baseline_source is not None and not self.alone
        # Hyperparameters that are given mean a network.
        n_rows = None if self.all_hyperparameters() else dataset.base.attributes.get('split').get('train')
        return self.kind or default_kind(dataset.target, 1 + len(dataset.others), corrects, n_rows)

    def reason(self, dataset: DatasetData) -> str:
        """Say why few rows are not learnt by a network; empty where the kind was chosen, or is one."""
        if self.kind is not None or self._kind_for(dataset) != FEW_ROWS_KIND:
            return ''
        corrects = dataset.baseline_source is not None and not self.alone
        n_rows = dataset.base.attributes.get('split').get('train')
        return (
            f'{counted(n_rows, "training row")}, fewer than {FEW_ROWS}: the best of ridge, svm and forest by '
            f'cross-validation; --model {CORRECTION_KIND if corrects else GAP_KIND} trains a network'
        )

    def _folds_for(self, kind: str, dataset: DatasetData) -> int | None:
        """Return the number of folds; None: the model is not cross-validated."""
        attributes = dataset.base.attributes
        # Columns that were learnt from training rows would know the rows that a fold leaves out.
        possible = attributes.get('n_rows') >= FEW_ROWS_FOLDS and not attributes.get('learnt_rows')
        return FEW_ROWS_FOLDS if self.folds is None and kind == FEW_ROWS_KIND and possible else self.folds

    def estimate(self) -> Estimate:
        """Return one job, and its seconds if such models were trained in this profile."""
        from aiida_nanoml.actions.costs import estimate_training

        dataset = self.load('dataset')
        n_rows = dataset.base.attributes.get('n_rows')
        kind = self._kind_for(dataset)
        return estimate_training(n_rows, kind, self.all_hyperparameters(), self._folds_for(kind, dataset))

    def all_hyperparameters(self) -> dict[str, Any]:
        """Return the hyperparameters that were chosen, in types of JSON.

        :raises InputError: one of them is given twice.
        """
        named = given(**{name: getattr(self, name) for name in NAMED})
        twice = sorted(set(named) & set(self.hyperparameters))
        if twice:
            raise InputError(f'{", ".join(twice)} is given twice, as an option and with {{hyperparameters}}')
        if self.hidden_layers is not None:
            named['hidden_layers'] = list(self.hidden_layers)
        return named | self.hyperparameters

    def output_names(self) -> dict[str, str]:
        """Return the label of the model."""
        return {'model': self.name}

    def collect(self, process: ProcessNode, session: Session) -> Result:
        """Return the model and its metrics."""
        reason = self.reason(process.inputs.dataset)
        return TrainResult(process, process.outputs.model, process.outputs.metrics.get_dict(), reason)


@dataclass(frozen=True)
class TrainResult(Result):
    """A trained model.

    :param process: the training.
    :param model: the model.
    :param metrics: errors by part of the split.
    :param reason: why the kind was taken, if nobody chose it.
    """

    process: ProcessNode
    model: ModelData
    metrics: dict[str, Any]
    reason: str = ''

    def to_dict(self) -> dict[str, Any]:
        """Return what the model is and its metrics."""
        dataset, attributes = self.process.inputs.dataset, self.model.base.attributes
        keys = ('fingerprint', 'baseline', 'calibration', 'domain_limit', 'parameters')
        return record(
            self.model,
            process=self.process.uuid,
            kind=self.process.inputs.kind.value,
            target=dataset.target,
            others=list(dataset.others),
            metrics=self.metrics,
            verdict=self._verdict.to_dict(),
            **{key: attributes.get(key) for key in keys},
        )

    def lines(self) -> dict[str, object]:
        """Return the model, what it corrects, and the coverage of its intervals."""
        baseline = self.model.base.attributes.get('baseline')
        part = 'held-out' if 'folds' in self.process.inputs else 'test'
        return {
            'model': identity_line(self.model),
            'kind': self.process.inputs.kind.value,
            **({'since': self.reason} if self.reason else {}),
            **({'corrects': source_line(baseline)} if baseline else {}),
            'fingerprint': self.model.base.attributes.get('fingerprint')[:12],
            **interval_line(self.metrics, part),
            **verdict_lines(self._verdict),
        }

    @cached_property
    def _verdict(self) -> Verdict:
        from aiida_nanoml.learning.targets import find_target
        from aiida_nanoml.learning.verdict import judge_model

        inputs = self.process.inputs
        return judge_model(self.metrics, find_target(inputs.dataset.target), inputs.kind.value)

    def table(self) -> str:
        """Return the metrics by part of the split."""
        dataset = self.process.inputs.dataset
        return metric_table(self.metrics, target=dataset.target, others=dataset.others)

    def next_step(self) -> Step:
        """Draw predicted against computed values; of a model that is not usable, train the kind that may be."""
        from aiida_nanoml.learning.verdict import NOT_USABLE, OTHER_KIND

        if self._verdict.grade == NOT_USABLE and OTHER_KIND in self._verdict.remedies:
            return step('train', dataset=self.process.inputs.dataset, kind=FEW_ROWS_KIND)
        return step('plot', node=self.model, output='parity.png')
