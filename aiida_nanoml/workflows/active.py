"""Workchain of active learning: label the structures of a pool that improve the model most, round by round."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from aiida import orm
from aiida.engine import ExitCode, ProcessBuilder, ToContext, if_, while_
from aiida.engine.processes.workchains.workchain import WorkChainSpec
from numpy.typing import NDArray

from aiida_nanoml.calculations.base import validate_code
from aiida_nanoml.calculations.functions.active import choose_structures, hold_out, tabulate_rounds
from aiida_nanoml.calculations.functions.datasets import assemble_dataset
from aiida_nanoml.calculations.functions.structures import merge_structures
from aiida_nanoml.calculations.functions.validation import compare_with_labels
from aiida_nanoml.calculations.predict import PredictCalculation, baseline_values
from aiida_nanoml.calculations.train import TrainCalculation
from aiida_nanoml.calculations.train import validate_inputs as validate_model
from aiida_nanoml.data.dataset import DatasetData
from aiida_nanoml.data.labels import LabelSetData
from aiida_nanoml.data.model import ModelData
from aiida_nanoml.data.prediction import PredictionData
from aiida_nanoml.data.structures import StructureSetData
from aiida_nanoml.errors import NanomlError
from aiida_nanoml.learning.acquisition import STRATEGIES
from aiida_nanoml.workflows.base import NanomlWorkChain, validate_options
from aiida_nanoml.workflows.builders import elements_of, label_inputs, model_inputs
from aiida_nanoml.workflows.label import LabelWorkChain
from aiida_nanoml.workflows.protocols import protocol_inputs, protocol_names

RANDOM = 'random'

STOPS = ('target_mae', 'target_std', 'budget', 'max_rounds')
"""Inputs that end the rounds, in the order in which they are checked; an exhausted pool is checked last."""


class ActiveWorkChain(NanomlWorkChain):
    """Label the structures of a pool that improve the model most, round by round, until the model is good enough.

    Each round chooses structures, labels them, trains on all labels so far, predicts the pool and the held-out
    structures, and compares the latter with their labels, which are made first and never learnt from. A structure is
    requested once, even if its label fails or has an odd electron count. Known labels are not computed again.
    """

    @classmethod
    def define(cls, spec: WorkChainSpec) -> None:
        """Define inputs, outline, outputs and exit codes."""
        super().define(spec)
        spec.input('pool', valid_type=StructureSetData, help='The candidates.')
        spec.input('held_out', valid_type=StructureSetData, required=False, help='Structures to evaluate the model on.')
        spec.input('initial', valid_type=StructureSetData, required=False, help='Structures of the first round.')
        spec.input(
            'n_held_out',
            valid_type=orm.Int,
            required=False,
            serializer=orm.to_aiida_type,
            validator=validate_limit,
            help='Number of structures of the pool to hold out at random, if `held_out` is absent.',
        )
        spec.input(
            'n_initial',
            valid_type=orm.Int,
            required=False,
            serializer=orm.to_aiida_type,
            validator=validate_limit,
            help='Number of structures of the first round, drawn at random, if `initial` is absent.',
        )
        spec.input(
            'n_per_round',
            valid_type=orm.Int,
            serializer=orm.to_aiida_type,
            validator=validate_limit,
            help='Number of structures to label in each further round.',
        )
        spec.input(
            'target_mae',
            valid_type=orm.Float,
            required=False,
            serializer=orm.to_aiida_type,
            validator=validate_limit,
            help='Stop at this mean absolute error of the held-out structures, eV.',
        )
        spec.input(
            'target_std',
            valid_type=orm.Float,
            required=False,
            serializer=orm.to_aiida_type,
            validator=validate_limit,
            help='Stop at this mean standard deviation over the rest of the pool, eV; needs calibrated models.',
        )
        spec.input(
            'budget',
            valid_type=orm.Int,
            required=False,
            serializer=orm.to_aiida_type,
            validator=validate_limit,
            help='Stop when this many structures were requested; held-out ones do not count.',
        )
        spec.input(
            'max_rounds',
            valid_type=orm.Int,
            required=False,
            serializer=orm.to_aiida_type,
            validator=validate_limit,
            help='Stop after this many rounds, including the first one.',
        )
        spec.input(
            'strategy',
            valid_type=orm.Str,
            serializer=orm.to_aiida_type,
            validator=validate_strategy,
            help=f'How structures are chosen: {", ".join(STRATEGIES)}.',
        )
        spec.input(
            'seed',
            valid_type=orm.Int,
            default=lambda: orm.Int(0),
            serializer=orm.to_aiida_type,
            help='Seed of all random draws.',
        )
        spec.input(
            'compare',
            valid_type=orm.Bool,
            default=lambda: orm.Bool(False),
            serializer=orm.to_aiida_type,
            help='Afterwards learn from the same number of structures drawn at random.',
        )
        spec.expose_inputs(
            LabelWorkChain,
            namespace='label',
            exclude=('structures', 'code', 'options', 'interrupted', 'retry'),
            namespace_options={'help': 'Engine, protocol and batches; labels that are `known`.'},
        )
        spec.input('code', valid_type=orm.AbstractCode, validator=validate_code, help='The executable nanoml-worker.')
        spec.input(
            'descriptor',
            valid_type=orm.Dict,
            serializer=orm.to_aiida_type,
            help='`name` and `params` of the descriptor.',
        )
        spec.input(
            'validation',
            valid_type=orm.Float,
            default=lambda: orm.Float(0.2),
            serializer=orm.to_aiida_type,
            help='Share of the labels that is used for validation in training.',
        )
        spec.input(
            'baseline',
            valid_type=LabelSetData,
            required=False,
            help='Labels of pool and held-out structures from a cheaper engine, to be corrected.',
        )
        spec.expose_inputs(TrainCalculation, include=('kind', 'hyperparameters'))
        spec.input(
            'options',
            valid_type=orm.Dict,
            default=lambda: orm.Dict({}),
            serializer=orm.to_aiida_type,
            validator=validate_options,
            help='Options of each job: resources, wall time, queue, …',
        )
        spec.inputs.validator = validate_inputs
        spec.outline(
            cls.setup,
            cls.run_held_out_labels,
            cls.inspect_held_out,
            while_(cls.should_continue)(
                cls.choose,
                cls.run_labels,
                cls.inspect_labels,
                cls.run_train,
                cls.inspect_train,
                cls.run_predict,
                cls.inspect_prediction,
            ),
            if_(cls.should_run_random)(
                cls.run_random,
            ),
            cls.results,
        )
        spec.output('structures', valid_type=StructureSetData, help='Structures of the pool that were requested.')
        spec.output('held_out', valid_type=StructureSetData, help='Structures that the model was evaluated on.')
        spec.output('labels', valid_type=LabelSetData, help='Labels of all structures that were requested or known.')
        spec.output('dataset', valid_type=DatasetData, help='Data set of the last model.')
        spec.output('model', valid_type=ModelData, help='The last model.')
        spec.output('metrics', valid_type=orm.Dict, help='Errors of the last model on the held-out structures.')
        spec.output('predictions', valid_type=PredictionData, help='Predictions of the last model, also held-out ones.')
        spec.output('table', valid_type=orm.ArrayData, help='One row for each round.')
        spec.output('figures', valid_type=orm.FolderData, help='Error versus number of labels, and the table as CSV.')
        spec.output('summary', valid_type=orm.Dict, help='Stopping reason and results of the last round.')
        spec.output('random_table', valid_type=orm.ArrayData, required=False, help='Rounds of the random choice.')
        spec.exit_code(401, 'ERROR_LABEL_FAILED', message='Labelling failed: {reason}')
        spec.exit_code(402, 'ERROR_TRAIN_FAILED', message='The training failed: {reason}')
        spec.exit_code(403, 'ERROR_PREDICT_FAILED', message='The prediction failed: {reason}')
        spec.exit_code(404, 'ERROR_RANDOM_FAILED', message='The random choice to compare with failed: {reason}')

    @classmethod
    def get_builder_from_protocol(
        cls,
        code: orm.AbstractCode,
        pool: StructureSetData,
        held_out: StructureSetData | None = None,
        initial: StructureSetData | None = None,
        engine: str = 'xtb',
        protocol: str | None = None,
        overrides: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        engine_code: orm.InstalledCode | None = None,
        pseudo_family: str | None = None,
    ) -> ProcessBuilder:
        """Return a builder with the inputs of a protocol; the stopping criteria are still to be set.

        :param code: the executable ``nanoml-worker``.
        :param pool: the candidates.
        :param held_out: structures to evaluate the model on; None: some of the pool, at random.
        :param initial: structures of the first round; None: some of the pool, at random.
        :param engine: registered name of the engine.
        :param protocol: ``fast``, ``balanced`` or ``stringent``, or another one of the engine.
        :param overrides: inputs that replace those of the protocol; under ``label``, those of ``nanoml.label``.
        :param options: scheduler options of each job.
        :param engine_code: the program of an engine that runs one, on the computer of ``code``.
        :param pseudo_family: label of the family that has the pseudopotentials of the elements; None: the default one.
        :raises ProtocolError: unknown protocol or override.
        :raises EngineError: the family does not exist or lacks an element.
        """
        known = protocol if protocol in protocol_names('active') else None
        inputs = protocol_inputs('active', known, overrides)
        builder = cls.get_builder()
        builder.code, builder.pool = code, pool
        builder.label = label_inputs(
            engine,
            protocol,
            inputs['label'],
            elements=elements_of(pool, held_out),
            engine_code=engine_code,
            pseudo_family=pseudo_family,
        )
        if held_out is None:
            builder.n_held_out = orm.Int(inputs['n_held_out'])
        else:
            builder.held_out = held_out
        if initial is None:
            builder.n_initial = orm.Int(inputs['n_initial'])
        else:
            builder.initial = initial
        builder.n_per_round = orm.Int(inputs['n_per_round'])
        builder.strategy, builder.seed = orm.Str(inputs['strategy']), orm.Int(inputs['seed'])
        builder.validation = orm.Float(inputs['validation'])
        builder.descriptor = orm.Dict(inputs['descriptor'])
        usual = protocol_inputs('active', known)['kind']
        for name, node in model_inputs(inputs, protocol_kind=usual, overrides=overrides).items():
            builder[name] = node
        builder.options = orm.Dict(dict(options or {}))
        return builder

    def setup(self) -> ExitCode | None:
        """Divide pool and held-out structures, and initialise the context.

        - ``ctx.pool``, ``ctx.held_out``, ``ctx.everything``: candidates, held-out structures, and both.
        - ``ctx.known``: namespace of the known labels, for the next labelling.
        - ``ctx.asked``, ``ctx.chosen``: structures requested so far, and in this round.
        - ``ctx.rounds``: ``asked``, ``dataset``, ``predictions`` and ``metrics`` of each round.
        - ``ctx.stopped_by``: the criterion that ended the rounds.
        """
        self.ctx.pool, self.ctx.held_out = self.inputs.pool, self.inputs.get('held_out')
        self.ctx.known = dict(self.inputs.label.get('known', {}))
        self.ctx.rounds = []
        self.ctx.asked = self.ctx.stopped_by = None
        if self.ctx.held_out is None:
            drawn, exit_code = self.run_function(
                hold_out, pool=self.inputs.pool, parameters=self._drawing(count=self.inputs.n_held_out.value)
            )
            if exit_code is not None:
                return exit_code
            self.ctx.pool, self.ctx.held_out = drawn['pool'], drawn['held_out']
        self.ctx.everything, exit_code = self.run_function(
            merge_structures, held_out=self.ctx.held_out, pool=self.ctx.pool
        )
        return exit_code

    def run_held_out_labels(self) -> ToContext:
        """Label the structures that the model is evaluated on."""
        return ToContext(labelling=self._submit_labelling(self.ctx.held_out))

    def inspect_held_out(self) -> ExitCode | None:
        """Keep the labels of the held-out structures apart."""
        exit_code = self.inspect_labels()
        if exit_code is None:
            self.ctx.held_out_labels = self.ctx.labels
            self.out('held_out', self.ctx.held_out)
        return exit_code

    def should_continue(self) -> bool:
        """Return whether no stopping criterion is met yet."""
        if not self.ctx.rounds:
            return True
        mae, n_asked = self.ctx.rounds[-1]['metrics']['all']['mae'], self.ctx.asked.n_structures
        limits = {name: self.inputs[name].value for name in STOPS if name in self.inputs}
        reached = {
            'target_mae': mae <= limits.get('target_mae', -1),
            'target_std': self.ctx.mean_std <= limits.get('target_std', -1),
            'budget': n_asked >= limits.get('budget', np.inf),
            'max_rounds': len(self.ctx.rounds) >= limits.get('max_rounds', np.inf),
            'pool': not len(self._left()),
        }
        self.ctx.stopped_by = next((name for name, holds in reached.items() if holds), None)
        return self.ctx.stopped_by is None

    def choose(self) -> ExitCode | None:
        """Choose structures to label; in the first round those that are given, or a random choice."""
        if not self.ctx.rounds and 'initial' in self.inputs:
            self.ctx.chosen = self.ctx.asked = self.inputs.initial
            return None
        self.ctx.chosen, exit_code = self._choose_first() if not self.ctx.rounds else self._choose_next()
        if exit_code is not None:
            return exit_code
        if not self.ctx.rounds:
            self.ctx.asked = self.ctx.chosen
            return None
        self.ctx.asked, exit_code = self.run_function(merge_structures, asked=self.ctx.asked, chosen=self.ctx.chosen)
        return exit_code

    def _choose_first(self) -> tuple[StructureSetData | None, ExitCode | None]:
        parameters = self._drawing(strategy=RANDOM, count=self._within_budget(self.inputs.n_initial.value))
        return self.run_function(choose_structures, pool=self.ctx.pool, parameters=parameters)

    def _choose_next(self) -> tuple[StructureSetData | None, ExitCode | None]:
        strategy = self.inputs.strategy.value
        count = self._within_budget(self.inputs.n_per_round.value)
        last = self.ctx.rounds[-1]
        learnt = {} if strategy == RANDOM else {name: last[name] for name in ('predictions', 'dataset')}
        return self.run_function(
            choose_structures,
            pool=self.ctx.pool,
            parameters=self._drawing(strategy=strategy, count=count),
            asked=self.ctx.asked,
            **learnt,
        )

    def _within_budget(self, count: int) -> int:
        if 'budget' not in self.inputs:
            return count
        return min(count, self.inputs.budget.value - (self.ctx.asked.n_structures if self.ctx.asked else 0))

    def run_labels(self) -> ToContext:
        """Label the chosen structures that are not known."""
        return ToContext(labelling=self._submit_labelling(self.ctx.chosen))

    def inspect_labels(self) -> ExitCode | None:
        """Keep the new labels and all that were known before; rows that failed are only counted."""
        if not self.ctx.labelling.is_finished_ok:
            return self.failed(self.exit_codes.ERROR_LABEL_FAILED, self.ctx.labelling)
        self.ctx.labels = self.ctx.labelling.outputs.labels
        self.ctx.known = {'labels': self.ctx.labels}
        return None

    def run_train(self) -> ToContext | ExitCode:
        """Train on all structures requested so far."""
        split = {'validation': self.inputs.validation.value, 'test': 0.0, 'seed': self.inputs.seed.value}
        self.ctx.dataset, exit_code = self.run_function(
            assemble_dataset,
            structures=self.ctx.asked,
            labels=self.ctx.labels,
            descriptor=self.inputs.descriptor,
            split=orm.Dict(split | {'by_family': False}),
            baseline=self.inputs.get('baseline'),
        )
        if exit_code is not None:
            return exit_code
        given = self.exposed_inputs(TrainCalculation) | {'code': self.inputs.code, 'dataset': self.ctx.dataset}
        return ToContext(training=self.submit(TrainCalculation, **given, metadata=self.job_metadata('train')))

    def inspect_train(self) -> ExitCode | None:
        """Check the training."""
        if self.ctx.training.is_finished_ok:
            return None
        return self.failed(self.exit_codes.ERROR_TRAIN_FAILED, self.ctx.training)

    def run_predict(self) -> ToContext:
        """Predict the pool and the held-out structures."""
        inputs = {'model': self.ctx.training.outputs.model, 'structures': self.ctx.everything, 'code': self.inputs.code}
        if 'baseline' in self.inputs:
            inputs['baseline'] = self.inputs.baseline
        return ToContext(prediction=self.submit(PredictCalculation, **inputs, metadata=self.job_metadata('predict')))

    def inspect_prediction(self) -> ExitCode | None:
        """Compare the predictions of the held-out structures with their labels."""
        if not self.ctx.prediction.is_finished_ok:
            return self.failed(self.exit_codes.ERROR_PREDICT_FAILED, self.ctx.prediction)
        predictions = self.ctx.prediction.outputs.predictions
        compared, exit_code = self.run_function(
            compare_with_labels,
            predictions=predictions,
            labels=self.ctx.held_out_labels,
            structures=self.ctx.held_out,
        )
        if exit_code is not None:
            return exit_code
        self.ctx.rounds.append(
            {
                'asked': self.ctx.asked,
                'dataset': self.ctx.dataset,
                'predictions': predictions,
                'metrics': compared['metrics'],
            }
        )
        std = predictions.get_array('std')[np.isin(predictions.get_array('hashes'), self._left())]
        self.ctx.mean_std = float(std.mean()) if len(std) else np.inf
        self.report(
            f'round {len(self.ctx.rounds)}: {self.ctx.asked.n_structures} structures requested, MAE of the held-out '
            f'ones {compared["metrics"]["all"]["mae"]:.4f} eV, {len(self._left())} left'
        )
        return None

    def should_run_random(self) -> bool:
        """Return whether a random choice is requested, too."""
        return bool(self.inputs.compare.value)

    def run_random(self) -> ToContext:
        """Run the same workchain with structures drawn at random, from the same first ones to the same number."""
        inputs: dict[str, Any] = {name: value for name, value in self.inputs.items() if name != 'metadata'}
        for name in ('n_held_out', 'n_initial', *STOPS):
            inputs.pop(name, None)
        inputs |= {
            'pool': self.ctx.pool,
            'held_out': self.ctx.held_out,
            'initial': self.ctx.rounds[0]['asked'],
            'strategy': orm.Str(RANDOM),
            'budget': orm.Int(self.ctx.asked.n_structures),
            'compare': orm.Bool(False),
            'label': {**self.inputs.label, 'known': {'labels': self.ctx.labels}},
        }
        return ToContext(random=self.submit(ActiveWorkChain, **inputs))

    def results(self) -> ExitCode | None:
        """Output the last round, and the table and figure of all."""
        last = self.ctx.rounds[-1]
        self.out('structures', self.ctx.asked)
        self.out('labels', self.ctx.labels)
        self.out('model', self.ctx.training.outputs.model)
        for name in ('dataset', 'metrics', 'predictions'):
            self.out(name, last[name])
        parameters = {
            'strategy': self.inputs.strategy.value,
            'stopped_by': self.ctx.stopped_by,
            'n_held_out': last['metrics']['all']['n'],
        }
        if 'target_mae' in self.inputs:
            parameters['target_mae'] = self.inputs.target_mae.value
        nodes = {f'{kind}_{number:03d}': made[kind] for number, made in enumerate(self.ctx.rounds) for kind in made}
        if 'random' in self.ctx:
            if not self.ctx.random.is_finished_ok:
                return self.failed(self.exit_codes.ERROR_RANDOM_FAILED, self.ctx.random)
            nodes['random'] = self.ctx.random.outputs.table
            self.out('random_table', nodes['random'])
        made, exit_code = self.run_function(
            tabulate_rounds, parameters=orm.Dict(parameters), pool=self.ctx.pool, **nodes
        )
        if exit_code is not None:
            return exit_code
        for name in ('table', 'figures', 'summary'):
            self.out(name, made[name])
        self.report(f'stopped by {self.ctx.stopped_by}')
        return None

    def _submit_labelling(self, structures: StructureSetData) -> orm.WorkChainNode:
        inputs = self.exposed_inputs(LabelWorkChain, namespace='label') | {'known': self.ctx.known}
        inputs |= {'structures': structures, 'code': self.inputs.code, 'options': self.inputs.options}
        return self.submit(LabelWorkChain, **inputs)

    def _left(self) -> NDArray[np.str_]:
        """Return the content hashes of the structures of the pool that were not requested."""
        hashes = np.unique(self.ctx.pool.structures.hashes)
        return hashes[~np.isin(hashes, self.ctx.asked.structures.hashes)]

    def _drawing(self, **parameters: Any) -> orm.Dict:
        """Return the parameters of a choice, with the seed."""
        return orm.Dict(parameters | {'seed': self.inputs.seed.value})

    def failed(self, code: ExitCode, reason: str | orm.ProcessNode) -> ExitCode:
        """Output the labels, which cost most, and return the exit code with its reason."""
        if 'labels' in self.ctx:
            self.out('labels', self.ctx.labels)
        return super().failed(code, reason)


def validate_limit(number: orm.Int | orm.Float | None, _: Any) -> str | None:
    """Check that a number is positive."""
    return None if number is None or number.value > 0 else f'must be above 0, got {number.value}'


def validate_strategy(strategy: orm.Str, _: Any) -> str | None:
    """Check the strategy."""
    if strategy.value in STRATEGIES:
        return None
    return f'the strategy is one of {", ".join(STRATEGIES)}, not {strategy.value!r}'


def validate_inputs(inputs: dict[str, Any], _: Any) -> str | None:
    """Check what would be found out only after labels were computed."""
    for given, number in (('held_out', 'n_held_out'), ('initial', 'n_initial')):
        if (given in inputs) == (number in inputs):
            return f'give either `{given}` or `{number}`'
    if not any(name in inputs for name in STOPS):
        return f'say when to stop: {", ".join(STOPS)}'
    return (
        _validate_held_out(inputs)
        or _validate_known(inputs.get('label') or {})
        or validate_model(inputs, None)
        or _validate_features(inputs)
    )


def _validate_held_out(inputs: dict[str, Any]) -> str | None:
    """Check that no held-out structure is learnt from."""
    if 'held_out' not in inputs:
        return None
    held_out = inputs['held_out'].structures
    for name in ('pool', 'initial'):
        if name in inputs:
            common = np.isin(held_out.hashes, inputs[name].structures.hashes)
            if common.any():
                return (
                    f'{common.sum()} held-out structures are in `{name}` as well, the first is '
                    f'{str(held_out.names[common][0])!r}: the model would be evaluated on what it learnt'
                )
    return None


def _validate_known(label: dict[str, Any]) -> str | None:
    """Check that known labels have engine and protocol of the new ones."""
    for name, known in (label.get('known') or {}).items():
        source = known.label_source
        if (source.engine, source.protocol) != (label['engine'].value, label['protocol'].value):
            return (
                f'label.known.{name} is from {source}, new labels would be from {label["engine"].value}, protocol '
                f'{label["protocol"].value}: they cannot be learnt together'
            )
    return None


def _validate_features(inputs: dict[str, Any]) -> str | None:
    """Check the descriptor, and that each structure has a baseline if there is one."""
    from aiida_nanoml.features.registry import make_descriptor

    if 'descriptor' not in inputs:
        return None  # the port itself complains
    chosen = inputs['descriptor'].get_dict()
    try:
        make_descriptor(chosen.get('name'), **chosen.get('params', {}))
        if 'baseline' in inputs:
            for name in ('pool', 'held_out'):
                if name in inputs:
                    baseline_values(inputs[name], inputs['baseline'])
    except NanomlError as error:
        return str(error)
    return None
