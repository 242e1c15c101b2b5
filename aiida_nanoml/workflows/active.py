"""Workflow ``nanoml.active``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from aiida import orm
from aiida.engine import ProcessBuilder, ToContext, WorkChain, if_, while_
from aiida.engine.processes.workchains.workchain import WorkChainSpec
from numpy.typing import NDArray

from aiida_nanoml.calculations.base import validate_code
from aiida_nanoml.calculations.functions.active import choose_structures, hold_out, tabulate_rounds
from aiida_nanoml.calculations.functions.datasets import assemble_dataset
from aiida_nanoml.calculations.functions.structures import merge_structures
from aiida_nanoml.calculations.functions.validation import compare_with_labels
from aiida_nanoml.calculations.predict import PredictCalculation, baseline_values
from aiida_nanoml.calculations.pseudopotentials import program_inputs
from aiida_nanoml.calculations.train import TrainCalculation
from aiida_nanoml.calculations.train import validate_inputs as validate_model
from aiida_nanoml.data.dataset import DatasetData
from aiida_nanoml.data.labels import LabelSetData
from aiida_nanoml.data.model import ModelData
from aiida_nanoml.data.prediction import PredictionData
from aiida_nanoml.data.structures import StructureSetData
from aiida_nanoml.errors import NanomlError
from aiida_nanoml.learning.acquisition import STRATEGIES
from aiida_nanoml.workflows.label import LabelWorkChain, define_options, label_inputs
from aiida_nanoml.workflows.protocols import protocol_inputs, protocol_names

RANDOM = 'random'

STOPS = ('target_mae', 'target_std', 'budget', 'max_rounds')
"""Inputs that end the rounds, in the order in which they are looked at; an exhausted pool comes last."""


class ActiveWorkChain(WorkChain):
    """Label the structures of a pool that teach most, round by round, until the model is good enough.

    Each round chooses structures, labels them, trains on all labels so far, predicts the pool and the held-out
    structures, and compares the latter with their labels, which are made first and never learnt from. A structure is
    asked for once, even if its label fails or has an odd electron count. Labels that are known cost nothing.
    """

    @classmethod
    def define(cls, spec: WorkChainSpec) -> None:
        """Define inputs, outline, outputs and exit codes."""
        super().define(spec)
        spec.input('pool', valid_type=StructureSetData, help='The candidates.')
        spec.input('held_out', valid_type=StructureSetData, required=False, help='Structures to judge the model by.')
        spec.input('initial', valid_type=StructureSetData, required=False, help='Structures to begin with.')
        for name, kind, help_text in (
            ('n_held_out', orm.Int, 'Structures of the pool to hold out at random, where none are given.'),
            ('n_initial', orm.Int, 'Structures to begin with, drawn at random, where none are given.'),
            ('n_per_round', orm.Int, 'Structures to label in each further round.'),
            ('target_mae', orm.Float, 'Stop at this mean absolute error of the held-out structures, eV.'),
            (
                'target_std',
                orm.Float,
                'Stop at this mean standard deviation over the rest of the pool, eV; it takes calibrated models.',
            ),
            ('budget', orm.Int, 'Stop when this many structures were asked for; held-out ones come on top.'),
            ('max_rounds', orm.Int, 'Stop after this many rounds, the first one included.'),
        ):
            spec.input(name, valid_type=kind, required=name == 'n_per_round', serializer=orm.to_aiida_type,
                       validator=validate_limit, help=help_text)  # fmt: skip
        spec.input('strategy', valid_type=orm.Str, serializer=orm.to_aiida_type, validator=validate_strategy,
                   help=f'How structures are chosen: {", ".join(STRATEGIES)}.')  # fmt: skip
        spec.input('seed', valid_type=orm.Int, default=lambda: orm.Int(0), serializer=orm.to_aiida_type,
                   help='Of everything that is drawn at random.')  # fmt: skip
        spec.input('compare', valid_type=orm.Bool, default=lambda: orm.Bool(False), serializer=orm.to_aiida_type,
                   help='Afterwards learn from as many structures that are drawn at random.')  # fmt: skip
        spec.expose_inputs(
            LabelWorkChain,
            namespace='label',
            exclude=('structures', 'code', 'options', 'interrupted', 'retry'),
            namespace_options={'help': 'Engine, protocol and batches; labels that are `known`.'},
        )
        spec.input('code', valid_type=orm.AbstractCode, validator=validate_code, help='The executable nanoml-worker.')
        spec.input('descriptor', valid_type=orm.Dict, serializer=orm.to_aiida_type,
                   help='`name` and `params` of the descriptor.')  # fmt: skip
        spec.input('validation', valid_type=orm.Float, default=lambda: orm.Float(0.2), serializer=orm.to_aiida_type,
                   help='Share of the labels that the training watches.')  # fmt: skip
        spec.input('baseline', valid_type=LabelSetData, required=False,
                   help='Labels of pool and held-out structures from a cheaper engine, to be corrected.')  # fmt: skip
        spec.expose_inputs(TrainCalculation, include=('kind', 'hyperparameters'))
        define_options(spec)
        spec.inputs.validator = validate_inputs
        spec.outline(
            cls.prepare,
            cls.label_held_out,
            cls.take_held_out,
            while_(cls.goes_on)(
                cls.choose,
                cls.label,
                cls.train,
                cls.predict,
                cls.judge,
            ),
            if_(cls.compares)(cls.run_random),
            cls.finalize,
        )
        spec.output('structures', valid_type=StructureSetData, help='Structures of the pool that were asked for.')
        spec.output('held_out', valid_type=StructureSetData)
        spec.output('labels', valid_type=LabelSetData, help='Of all structures that were asked for or are known.')
        spec.output('dataset', valid_type=DatasetData, help='What the last model learnt from.')
        spec.output('model', valid_type=ModelData)
        spec.output('metrics', valid_type=orm.Dict, help='Of the last model, for the held-out structures.')
        spec.output('predictions', valid_type=PredictionData, help='Of the last model, held-out ones too.')
        spec.output('table', valid_type=orm.ArrayData, help='One row for each round.')
        spec.output('figures', valid_type=orm.FolderData, help='Error against labels, and the table as CSV.')
        spec.output('summary', valid_type=orm.Dict, help='Why the rounds ended, and the last of them.')
        spec.output('random_table', valid_type=orm.ArrayData, required=False, help='Rounds of the random choice.')
        spec.exit_code(401, 'ERROR_LABEL_FAILED', message='Labelling failed, {reason}')
        spec.exit_code(402, 'ERROR_TRAIN_FAILED', message='The training failed, {reason}')
        spec.exit_code(403, 'ERROR_PREDICT_FAILED', message='The prediction failed, {reason}')
        spec.exit_code(404, 'ERROR_RANDOM_FAILED', message='The random choice to compare with failed, {reason}')
        spec.exit_code(520, 'ERROR_STEP_REFUSED', message='A step refused its input: {reason}')

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
        """Return a builder with the inputs of a protocol; when to stop is still to be set.

        :param code: the executable ``nanoml-worker``.
        :param pool: the candidates.
        :param held_out: structures to judge the model by; None: some of the pool, at random.
        :param initial: structures to begin with; None: some of the pool, at random.
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
        elements = {symbol for node in (pool, held_out) if node for symbol in node.base.attributes.get('elements')}
        builder.label = label_inputs(engine, protocol, inputs['label']) | program_inputs(
            engine_code, pseudo_family, elements
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
        builder.kind = orm.Str(inputs['kind'])
        if inputs['hyperparameters']:
            builder.hyperparameters = orm.Dict(inputs['hyperparameters'])
        builder.options = orm.Dict(dict(options or {}))
        return builder

    def prepare(self) -> Any:
        """Divide pool and held-out structures."""
        self.ctx.pool, self.ctx.held_out = self.inputs.pool, self.inputs.get('held_out')
        self.ctx.known = dict(self.inputs.label.get('known', {}))
        self.ctx.rounds = []
        self.ctx.asked = self.ctx.stopped_by = None
        if self.ctx.held_out is None:
            drawn, node = hold_out.run_get_node(
                pool=self.inputs.pool, parameters=self._parameters(count=self.inputs.n_held_out.value)
            )
            if not node.is_finished_ok:
                return self._refused(node)
            self.ctx.pool, self.ctx.held_out = drawn['pool'], drawn['held_out']
        self.ctx.everything, node = merge_structures.run_get_node(held_out=self.ctx.held_out, pool=self.ctx.pool)
        return None if node.is_finished_ok else self._refused(node)

    def label_held_out(self) -> ToContext:
        """Label the structures that the model is judged by."""
        return ToContext(labelling=self._submit_labelling(self.ctx.held_out))

    def take_held_out(self) -> Any:
        """Keep their labels apart."""
        failure = self._take_labels()
        if failure is None:
            self.ctx.held_out_labels = self.ctx.labels
            self.out('held_out', self.ctx.held_out)
        return failure

    def goes_on(self) -> bool:
        """Whether no reason to stop holds yet."""
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

    def choose(self) -> Any:
        """Choose what to label; the first time what was given, or a random choice."""
        if not self.ctx.rounds and 'initial' in self.inputs:
            self.ctx.chosen = self.ctx.asked = self.inputs.initial
            return None
        inputs: dict[str, Any] = {'pool': self.ctx.pool}
        if self.ctx.rounds:
            last = self.ctx.rounds[-1]
            strategy, count = self.inputs.strategy.value, self.inputs.n_per_round.value
            inputs |= {'asked': self.ctx.asked, 'predictions': last['predictions'], 'dataset': last['dataset']}
        else:
            strategy, count = RANDOM, self.inputs.n_initial.value
        if 'budget' in self.inputs:
            count = min(count, self.inputs.budget.value - (self.ctx.asked.n_structures if self.ctx.asked else 0))
        if strategy == RANDOM:
            inputs = {name: inputs[name] for name in ('pool', 'asked') if name in inputs}
        parameters = self._parameters(strategy=strategy, count=count)
        self.ctx.chosen, node = choose_structures.run_get_node(**inputs, parameters=parameters)
        if not node.is_finished_ok:
            return self._refused(node)
        if not self.ctx.rounds:
            self.ctx.asked = self.ctx.chosen
            return None
        self.ctx.asked, node = merge_structures.run_get_node(asked=self.ctx.asked, chosen=self.ctx.chosen)
        return None if node.is_finished_ok else self._refused(node)

    def label(self) -> ToContext:
        """Label what was chosen and is not known."""
        return ToContext(labelling=self._submit_labelling(self.ctx.chosen))

    def train(self) -> Any:
        """Train on everything that was asked for."""
        failure = self._take_labels()
        if failure is not None:
            return failure
        split = {'validation': self.inputs.validation.value, 'test': 0.0, 'seed': self.inputs.seed.value}
        inputs = {'baseline': self.inputs.baseline} if 'baseline' in self.inputs else {}
        self.ctx.dataset, node = assemble_dataset.run_get_node(
            structures=self.ctx.asked,
            labels=self.ctx.labels,
            descriptor=self.inputs.descriptor,
            split=orm.Dict(split | {'by_family': False}),
            **inputs,
        )
        if not node.is_finished_ok:
            return self._refused(node)
        given = self.exposed_inputs(TrainCalculation) | {'code': self.inputs.code, 'dataset': self.ctx.dataset}
        return ToContext(training=self.submit(TrainCalculation, **given, metadata=self._metadata('train')))

    def predict(self) -> Any:
        """Predict the pool and the held-out structures."""
        if not self.ctx.training.is_finished_ok:
            return self._failed(self.exit_codes.ERROR_TRAIN_FAILED, self.ctx.training)
        inputs = {'model': self.ctx.training.outputs.model, 'structures': self.ctx.everything, 'code': self.inputs.code}
        if 'baseline' in self.inputs:
            inputs['baseline'] = self.inputs.baseline
        return ToContext(prediction=self.submit(PredictCalculation, **inputs, metadata=self._metadata('predict')))

    def judge(self) -> Any:
        """Compare the predictions of the held-out structures with their labels."""
        if not self.ctx.prediction.is_finished_ok:
            return self._failed(self.exit_codes.ERROR_PREDICT_FAILED, self.ctx.prediction)
        predictions = self.ctx.prediction.outputs.predictions
        compared, node = compare_with_labels.run_get_node(
            predictions=predictions, labels=self.ctx.held_out_labels, structures=self.ctx.held_out
        )
        if not node.is_finished_ok:
            return self._refused(node)
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
            f'round {len(self.ctx.rounds)}: {self.ctx.asked.n_structures} structures asked for, MAE of the held-out '
            f'ones {compared["metrics"]["all"]["mae"]:.4f} eV, {len(self._left())} left'
        )
        return None

    def compares(self) -> bool:
        """Whether a random choice was asked for, too."""
        return bool(self.inputs.compare.value)

    def run_random(self) -> ToContext:
        """Do the same with structures drawn at random, from the same first ones to the same number."""
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

    def finalize(self) -> Any:
        """Hand out the last round and the table of all."""
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
                return self._failed(self.exit_codes.ERROR_RANDOM_FAILED, self.ctx.random)
            nodes['random'] = self.ctx.random.outputs.table
            self.out('random_table', nodes['random'])
        made, node = tabulate_rounds.run_get_node(parameters=orm.Dict(parameters), pool=self.ctx.pool, **nodes)
        if not node.is_finished_ok:
            return self._refused(node)
        for name in ('table', 'figures', 'summary'):
            self.out(name, made[name])
        self.report(f'stopped by {self.ctx.stopped_by}')
        return None

    def _submit_labelling(self, structures: StructureSetData) -> orm.WorkChainNode:
        inputs = self.exposed_inputs(LabelWorkChain, namespace='label') | {'known': self.ctx.known}
        inputs |= {'structures': structures, 'code': self.inputs.code, 'options': self.inputs.options}
        return self.submit(LabelWorkChain, **inputs)

    def _take_labels(self) -> Any:
        """Take what was labelled, with all that was known before; single failures are no reason to give up."""
        if not self.ctx.labelling.is_finished_ok:
            return self._failed(self.exit_codes.ERROR_LABEL_FAILED, self.ctx.labelling)
        self.ctx.labels = self.ctx.labelling.outputs.labels
        self.ctx.known = {'labels': self.ctx.labels}
        return None

    def _left(self) -> NDArray[np.str_]:
        """Content hashes of the structures of the pool that were not asked for."""
        hashes = np.unique(self.ctx.pool.structures.hashes)
        return hashes[~np.isin(hashes, self.ctx.asked.structures.hashes)]

    def _parameters(self, **wanted: Any) -> orm.Dict:
        return orm.Dict(wanted | {'seed': self.inputs.seed.value})

    def _metadata(self, task: str) -> dict[str, Any]:
        return {'options': self.inputs.options.get_dict(), 'label': f'{task} for {self.node.uuid[:8]}'}

    def _failed(self, code: Any, node: orm.ProcessNode) -> Any:
        if 'labels' in self.ctx:
            self.out('labels', self.ctx.labels)  # whatever happens, they cost most
        return code.format(reason=f'{node.process_label}<{node.pk}>: {node.exit_message or node.exception or "killed"}')

    def _refused(self, node: orm.ProcessNode) -> Any:
        return self._failed(self.exit_codes.ERROR_STEP_REFUSED, node)


def validate_limit(number: orm.Int | orm.Float | None, _: Any) -> str | None:
    """Refuse numbers that are not positive."""
    return None if number is None or number.value > 0 else f'must be above 0, got {number.value}'


def validate_strategy(strategy: orm.Str, _: Any) -> str | None:
    """Refuse unknown strategies."""
    if strategy.value in STRATEGIES:
        return None
    return f'the strategy is one of {", ".join(STRATEGIES)}, not {strategy.value!r}'


def validate_inputs(inputs: dict[str, Any], _: Any) -> str | None:
    """Refuse what would be found out only after labels were paid for."""
    for given, number in (('held_out', 'n_held_out'), ('initial', 'n_initial')):
        if (given in inputs) == (number in inputs):
            return f'give either `{given}` or `{number}`'
    if not any(name in inputs for name in STOPS):
        return f'say when to stop: {", ".join(STOPS)}'
    refusal = _validate_structures(inputs) or validate_model(inputs, None)
    if refusal is not None or 'descriptor' not in inputs:
        return refusal
    from aiida_nanoml.features.registry import make_descriptor

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


def _validate_structures(inputs: dict[str, Any]) -> str | None:
    """Refuse to learn from what the model is judged by, and labels of another engine."""
    if 'held_out' in inputs:
        held_out = inputs['held_out'].structures
        for name in ('pool', 'initial'):
            if name in inputs:
                common = np.isin(held_out.hashes, inputs[name].structures.hashes)
                if common.any():
                    return (
                        f'{common.sum()} held-out structures are in `{name}` as well, the first is '
                        f'{str(held_out.names[common][0])!r}: the model would be judged by what it learnt'
                    )
    label = inputs.get('label') or {}
    for name, known in (label.get('known') or {}).items():
        source = known.label_source
        if (source.engine, source.protocol) != (label['engine'].value, label['protocol'].value):
            return (
                f'label.known.{name} is from {source}, new labels would be from {label["engine"].value}, protocol '
                f'{label["protocol"].value}: they cannot be learnt together'
            )
    return None
