"""Workchain from flakes to predicted gaps: labels, features, a trained model, predictions and their validation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiida import orm
from aiida.engine import ExitCode, ProcessBuilder, ToContext, if_
from aiida.engine.processes.workchains.workchain import WorkChainSpec

from aiida_nanoml.calculations.base import validate_code
from aiida_nanoml.calculations.functions.datasets import assemble_dataset
from aiida_nanoml.calculations.functions.structures import generate_flake_sets, merge_structures
from aiida_nanoml.calculations.functions.validation import compare_with_labels
from aiida_nanoml.calculations.predict import PredictCalculation
from aiida_nanoml.calculations.train import TrainCalculation
from aiida_nanoml.data.dataset import DatasetData
from aiida_nanoml.data.labels import LabelSetData
from aiida_nanoml.data.model import ModelData
from aiida_nanoml.data.prediction import PredictionData
from aiida_nanoml.data.structures import StructureSetData
from aiida_nanoml.errors import NanomlError
from aiida_nanoml.structures import FlakeParameters
from aiida_nanoml.workflows.base import NanomlWorkChain, validate_options
from aiida_nanoml.workflows.builders import elements_of, label_inputs, model_inputs
from aiida_nanoml.workflows.label import LabelWorkChain
from aiida_nanoml.workflows.protocols import protocol_inputs


class GapWorkChain(NanomlWorkChain):
    """Generate and label flakes, train a model on their features, predict unseen flakes, and validate the predictions.

    Either `flakes` are generated, or `structures` (and, to predict, `unseen`) are given. With `baseline`, everything is
    labelled with a cheaper engine too, and the model learns the correction to it.
    """

    @classmethod
    def define(cls, spec: WorkChainSpec) -> None:
        """Define inputs, outline, outputs and exit codes."""
        super().define(spec)
        spec.input_namespace(
            'flakes', valid_type=orm.Dict, dynamic=True, required=False, help='Parameters of the flakes of each family.'
        )
        spec.input(
            'n_unseen', valid_type=orm.Int, required=False, help='Number of flakes of each family kept for prediction.'
        )
        spec.input('structures', valid_type=StructureSetData, required=False, help='Structures to learn from.')
        spec.input('unseen', valid_type=StructureSetData, required=False, help='Structures to predict.')
        spec.expose_inputs(
            LabelWorkChain,
            namespace='label',
            exclude=('structures', 'code', 'options'),
            namespace_options={'help': 'Engine, protocol and batches.'},
        )
        spec.expose_inputs(
            LabelWorkChain,
            namespace='baseline',
            exclude=('structures', 'code', 'options'),
            namespace_options={'required': False, 'populate_defaults': False, 'help': 'The cheaper engine, if any.'},
        )
        spec.input('code', valid_type=orm.AbstractCode, validator=validate_code, help='The executable nanoml-worker.')
        spec.input('descriptor', valid_type=orm.Dict, help='`name` and `params` of the descriptor.')
        spec.input('split', valid_type=orm.Dict, help='Shares, seed and `by_family` of the split.')
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
            cls.run_labels,
            cls.inspect_labels,
            cls.assemble,
            cls.run_train,
            cls.inspect_train,
            if_(cls.should_run_predict)(
                cls.run_predict,
                cls.inspect_prediction,
            ),
            cls.results,
        )
        spec.output('structures', valid_type=StructureSetData, help='Structures that the model learns from.')
        spec.output('labels', valid_type=LabelSetData, help='Their labels.')
        spec.output('dataset', valid_type=DatasetData, help='Features, gaps and split.')
        spec.output('model', valid_type=ModelData, help='The trained model.')
        spec.output('metrics', valid_type=orm.Dict, help='Errors by part, and by part and family.')
        spec.output('fitted', valid_type=PredictionData, help='Predictions for every row of the data set.')
        spec.output('history', valid_type=orm.XyData, required=False, help='Losses of every epoch.')
        spec.output('figures', valid_type=orm.FolderData, help='Parity plot, calibration, learning curve.')
        spec.output('predictions', valid_type=PredictionData, required=False, help='For the unseen structures.')
        spec.output('baseline.labels', valid_type=LabelSetData, required=False, help='From the cheaper engine.')
        spec.output('validation.labels', valid_type=LabelSetData, required=False, help='Of the unseen structures.')
        spec.output('validation.baseline', valid_type=LabelSetData, required=False, help='From the cheaper engine.')
        spec.output('validation.metrics', valid_type=orm.Dict, required=False, help='Errors on the unseen structures.')
        spec.output('validation.table', valid_type=orm.ArrayData, required=False, help='One row for each of them.')
        spec.exit_code(401, 'ERROR_LABEL_FAILED', message='Labelling failed: {reason}')
        spec.exit_code(402, 'ERROR_TRAIN_FAILED', message='The training failed: {reason}')
        spec.exit_code(403, 'ERROR_PREDICT_FAILED', message='The prediction failed: {reason}')

    @classmethod
    def get_builder_from_protocol(
        cls,
        code: orm.AbstractCode,
        flakes: Mapping[str, Mapping[str, Any]] | None = None,
        structures: StructureSetData | None = None,
        unseen: StructureSetData | None = None,
        engine: str = 'xtb',
        protocol: str | None = None,
        overrides: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        engine_code: orm.InstalledCode | None = None,
        pseudo_family: str | None = None,
        baseline: str | None = None,
        baseline_protocol: str | None = None,
    ) -> ProcessBuilder:
        """Return a builder with the inputs of a protocol.

        :param code: the executable ``nanoml-worker``.
        :param flakes: parameters of the flakes to generate, by a name for each set.
        :param structures: structures to learn from, in place of flakes.
        :param unseen: structures to predict, in place of flakes.
        :param engine: registered name of the engine.
        :param protocol: ``fast``, ``balanced`` or ``stringent``.
        :param overrides: inputs that replace those of the protocol; under ``label`` and ``baseline``, those of
            ``nanoml.label``.
        :param options: scheduler options of each job.
        :param engine_code: the program of an engine that runs one, on the computer of ``code``.
        :param pseudo_family: label of the family that has the pseudopotentials of the elements; None: the default one.
        :param baseline: registered name of a cheaper engine, which the model corrects; None: no baseline.
        :param baseline_protocol: its protocol; None: its default one.
        :raises ProtocolError: unknown protocol or override.
        :raises EngineError: the family does not exist or lacks an element.
        """
        inputs = protocol_inputs('gap', protocol, overrides)
        builder = cls.get_builder()
        builder.label = label_inputs(
            engine,
            protocol,
            inputs['label'],
            elements=elements_of(structures, unseen),
            engine_code=engine_code,
            pseudo_family=pseudo_family,
        )
        if baseline is not None:
            builder.baseline = label_inputs(baseline, baseline_protocol, inputs['baseline'])
            inputs['kind'] = (overrides or {}).get('kind', 'correction')
        builder.code = code
        if flakes is not None:
            builder.flakes = {name: orm.Dict(dict(parameters)) for name, parameters in flakes.items()}
            builder.n_unseen = orm.Int(inputs['n_unseen'])
        if structures is not None:
            builder.structures = structures
        if unseen is not None:
            builder.unseen = unseen
        builder.descriptor = orm.Dict(inputs['descriptor'])
        builder.split = orm.Dict(inputs['split'])
        usual = protocol_inputs('gap', protocol)['kind']
        for name, node in model_inputs(inputs, protocol_kind=usual, overrides=overrides).items():
            builder[name] = node
        builder.options = orm.Dict(dict(options or {}))
        return builder

    def setup(self) -> ExitCode | None:
        """Generate the flakes, or take the given structures.

        - ``ctx.structures``, ``ctx.unseen``: structures to learn from, and to predict.
        """
        if 'structures' in self.inputs:
            self.ctx.structures = self.inputs.structures
            self.ctx.unseen = self.inputs.get('unseen')
            return None
        sets = {}
        for name, parameters in self.inputs.flakes.items():
            sets[name], exit_code = self.run_function(
                generate_flake_sets, parameters=parameters, n_unseen=self.inputs.n_unseen
            )
            if exit_code is not None:
                return exit_code
        for part in ('structures', 'unseen'):
            parts = {name: made[part] for name, made in sets.items()}
            self.ctx[part], exit_code = self.run_function(merge_structures, **parts)
            if exit_code is not None:
                return exit_code
        return None

    def run_labels(self) -> ToContext:
        """Label the structures to learn from and, at the same time, the unseen ones to validate the predictions."""
        sets = {'': self.ctx.structures} | ({} if self.ctx.unseen is None else {'unseen_': self.ctx.unseen})
        children = {}
        for prefix, structures in sets.items():
            children[f'{prefix}labels'] = self._submit_labelling('label', structures)
            if 'baseline' in self.inputs:
                children[f'{prefix}baseline'] = self._submit_labelling('baseline', structures)
        self.ctx.labelled = list(children)
        return ToContext(**children)

    def _submit_labelling(self, namespace: str, structures: StructureSetData) -> orm.WorkChainNode:
        inputs = self.exposed_inputs(LabelWorkChain, namespace=namespace)
        inputs |= {'structures': structures, 'code': self.inputs.code, 'options': self.inputs.options}
        return self.submit(LabelWorkChain, **inputs)

    def inspect_labels(self) -> ExitCode | None:
        """Check the labellings, and output the labels."""
        for child in self.ctx.labelled:
            if not self.ctx[child].is_finished_ok:
                return self.failed(self.exit_codes.ERROR_LABEL_FAILED, self.ctx[child])
        self.out('structures', self.ctx.structures)
        self.out('labels', self.ctx.labels.outputs.labels)
        if 'baseline' in self.ctx:
            self.out('baseline.labels', self.ctx.baseline.outputs.labels)
        return None

    def assemble(self) -> ExitCode | None:
        """Build the data set."""
        self.ctx.dataset, exit_code = self.run_function(
            assemble_dataset,
            structures=self.ctx.structures,
            labels=self.ctx.labels.outputs.labels,
            descriptor=self.inputs.descriptor,
            split=self.inputs.split,
            **self._baseline('baseline'),
        )
        if exit_code is not None:
            return exit_code
        self.out('dataset', self.ctx.dataset)
        attributes = self.ctx.dataset.base.attributes
        self.report(f'data set of {attributes.get("n_rows")} rows, excluded: {attributes.get("excluded") or "none"}')
        return None

    def run_train(self) -> ToContext:
        """Train the model."""
        inputs = self.exposed_inputs(TrainCalculation)
        inputs |= {'code': self.inputs.code, 'dataset': self.ctx.dataset}
        return ToContext(training=self.submit(TrainCalculation, **inputs, metadata=self.job_metadata('train')))

    def inspect_train(self) -> ExitCode | None:
        """Check the training."""
        if self.ctx.training.is_finished_ok:
            return None
        return self.failed(self.exit_codes.ERROR_TRAIN_FAILED, self.ctx.training)

    def should_run_predict(self) -> bool:
        """Return whether there are structures to predict."""
        return self.ctx.unseen is not None

    def run_predict(self) -> ToContext:
        """Predict the unseen structures."""
        inputs = {'model': self.ctx.training.outputs.model, 'structures': self.ctx.unseen, 'code': self.inputs.code}
        inputs |= self._baseline('unseen_baseline')
        return ToContext(prediction=self.submit(PredictCalculation, **inputs, metadata=self.job_metadata('predict')))

    def inspect_prediction(self) -> ExitCode | None:
        """Compare the predictions with the labels of the unseen structures."""
        if not self.ctx.prediction.is_finished_ok:
            return self.failed(self.exit_codes.ERROR_PREDICT_FAILED, self.ctx.prediction)
        labels = self.ctx.unseen_labels.outputs.labels
        compared, exit_code = self.run_function(
            compare_with_labels,
            predictions=self.ctx.prediction.outputs.predictions,
            labels=labels,
            report=self.ctx.prediction.outputs.retrieved,
            **self._baseline('unseen_baseline'),
        )
        if exit_code is not None:
            return exit_code
        self.out('predictions', self.ctx.prediction.outputs.predictions)
        self.out('validation.labels', labels)
        if 'unseen_baseline' in self.ctx:
            self.out('validation.baseline', self.ctx.unseen_baseline.outputs.labels)
        self.out('validation.metrics', compared['metrics'])
        self.out('validation.table', compared['table'])
        return None

    def results(self) -> None:
        """Output the results of the training."""
        for name in ('model', 'metrics', 'fitted', 'history', 'figures'):
            if name in self.ctx.training.outputs:
                self.out(name, self.ctx.training.outputs[name])

    def _baseline(self, child: str) -> dict[str, LabelSetData]:
        return {'baseline': self.ctx[child].outputs.labels} if child in self.ctx else {}


def validate_inputs(inputs: dict[str, Any], _: Any) -> str | None:
    """Check for inputs that exclude each other, and for flakes that cannot be generated."""
    flakes = inputs.get('flakes') or {}
    if bool(flakes) == ('structures' in inputs):
        return 'give either flakes to generate or structures'
    if 'unseen' in inputs and flakes:
        return '`unseen` goes with `structures`; generated flakes take `n_unseen`'
    if flakes and 'n_unseen' not in inputs:
        return 'generated flakes need `n_unseen`, the number of flakes of each family to predict'
    for name, parameters in flakes.items():
        try:
            FlakeParameters.from_dict(parameters.get_dict())
        except NanomlError as error:
            return f'flakes.{name}: {error}'
    return None
