"""Workchain from flakes to predicted charge densities: densities of an engine, a trained network, predictions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiida import orm
from aiida.engine import ExitCode, ProcessBuilder, ToContext
from aiida.engine.processes.workchains.workchain import WorkChainSpec

from aiida_nanoml.calculations.base import validate_code
from aiida_nanoml.calculations.density_predict import DensityPredictCalculation
from aiida_nanoml.calculations.density_train import DensityTrainCalculation
from aiida_nanoml.calculations.functions.structures import generate_flake_set, generate_flake_sets, merge_structures
from aiida_nanoml.data.densities import DensitySetData
from aiida_nanoml.data.labels import LabelSetData
from aiida_nanoml.data.structures import StructureSetData
from aiida_nanoml.errors import NanomlError
from aiida_nanoml.structures import FlakeParameters
from aiida_nanoml.workflows.base import NanomlWorkChain, validate_options
from aiida_nanoml.workflows.builders import elements_of, label_inputs
from aiida_nanoml.workflows.label import LabelWorkChain
from aiida_nanoml.workflows.protocols import protocol_inputs

TRAINING = 'training'
PARTS = ('unseen', 'larger')
"""Sets to evaluate the network on: flakes like the training flakes, and others, usually larger ones."""

TRAINING_OUTPUTS = ('model', 'metrics', 'errors', 'history', 'figures')


class DensityWorkChain(NanomlWorkChain):
    """Compute densities of flakes with an engine, train a network on them, and predict flakes that it did not see.

    Either `flakes` are generated (and, to be predicted only, `larger` ones), or sets of structures are given. All are
    computed by the engine, so that every prediction is compared with the density of the engine.
    """

    @classmethod
    def define(cls, spec: WorkChainSpec) -> None:
        """Define inputs, outline, outputs and exit codes."""
        super().define(spec)
        spec.input_namespace(
            'flakes', valid_type=orm.Dict, dynamic=True, required=False, help='Parameters of the flakes of each family.'
        )
        spec.input(
            'n_unseen',
            valid_type=orm.Int,
            required=False,
            help='Number of flakes of each family that are predicted only.',
        )
        spec.input_namespace(
            'larger',
            valid_type=orm.Dict,
            dynamic=True,
            required=False,
            help='Parameters of further flakes that are predicted only.',
        )
        spec.input('structures', valid_type=StructureSetData, required=False, help='Structures to learn from.')
        spec.input_namespace(
            'judged',
            valid_type=StructureSetData,
            dynamic=True,
            required=False,
            help='Structures that are predicted only: `unseen`, `larger`, or both.',
        )
        spec.expose_inputs(LabelWorkChain, namespace='label', exclude=('structures', 'code', 'options'))
        spec.inputs['label'].help = 'How structures are labelled, by an engine that computes densities.'
        spec.inputs['label']['densities'].default = lambda: orm.Bool(True)
        spec.input('code', valid_type=orm.AbstractCode, validator=validate_code, help='The executable nanoml-worker.')
        spec.expose_inputs(DensityTrainCalculation, include=('settings',))
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
            cls.run_train,
            cls.inspect_train,
            cls.run_predict,
            cls.inspect_predictions,
        )
        spec.output('structures', valid_type=StructureSetData, help='The training structures.')
        spec.output('labels', valid_type=LabelSetData, help='Their labels.')
        spec.output('densities', valid_type=DensitySetData, help='Their densities.')
        spec.expose_outputs(DensityTrainCalculation, include=TRAINING_OUTPUTS)
        spec.output_namespace(
            'judged',
            dynamic=True,
            valid_type=(orm.Data,),
            help='By part: `structures`, `labels`, `densities` of the engine, `predictions`, `results`, `errors`, '
            '`figures`.',
        )
        spec.exit_code(401, 'ERROR_LABEL_FAILED', message='Labelling failed: {reason}')
        spec.exit_code(402, 'ERROR_TRAIN_FAILED', message='The training failed: {reason}')
        spec.exit_code(403, 'ERROR_PREDICT_FAILED', message='The prediction failed: {reason}')

    @classmethod
    def get_builder_from_protocol(
        cls,
        code: orm.AbstractCode,
        flakes: Mapping[str, Mapping[str, Any]] | None = None,
        larger: Mapping[str, Mapping[str, Any]] | None = None,
        structures: StructureSetData | None = None,
        judged: Mapping[str, StructureSetData] | None = None,
        engine: str = 'siesta',
        protocol: str | None = None,
        overrides: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        engine_code: orm.InstalledCode | None = None,
        pseudo_family: str | None = None,
    ) -> ProcessBuilder:
        """Return a builder with the inputs of a protocol.

        :param code: the executable ``nanoml-worker``.
        :param flakes: parameters of the flakes to generate, by a name for each set.
        :param larger: parameters of flakes that are predicted only.
        :param structures: structures to learn from, in place of flakes.
        :param judged: structures that are predicted only, by part: ``unseen``, ``larger``.
        :param engine: registered name of an engine that computes densities.
        :param protocol: ``fast``, ``balanced`` or ``stringent``.
        :param overrides: inputs that replace those of the protocol; under ``label``, those of ``nanoml.label``.
        :param options: scheduler options of each job.
        :param engine_code: the program of an engine that runs one, on the computer of ``code``.
        :param pseudo_family: label of the family that has the pseudopotentials of the elements; None: the default one.
        :raises ProtocolError: unknown protocol or override.
        :raises EngineError: the family does not exist or lacks an element.
        """
        inputs = protocol_inputs('density', protocol, overrides)
        builder = cls.get_builder()
        builder.label = label_inputs(
            engine,
            overrides={**inputs['label'], 'densities': True},
            elements=elements_of(structures, *(judged or {}).values()),
            engine_code=engine_code,
            pseudo_family=pseudo_family,
        )
        builder.code = code
        if flakes is not None:
            builder.flakes = {name: orm.Dict(dict(parameters)) for name, parameters in flakes.items()}
            builder.n_unseen = orm.Int(inputs['n_unseen'])
        if larger is not None:
            builder.larger = {name: orm.Dict(dict(parameters)) for name, parameters in larger.items()}
        if structures is not None:
            builder.structures = structures
        if judged is not None:
            builder.judged = dict(judged)
        builder.settings = orm.Dict(inputs['settings'])
        builder.options = orm.Dict(dict(options or {}))
        return builder

    def setup(self) -> ExitCode | None:
        """Generate the flakes, or take the given structures.

        - ``ctx.sets``: structures by part: ``training``, ``unseen``, ``larger``.
        """
        if 'structures' in self.inputs:
            self.ctx.sets = {TRAINING: self.inputs.structures, **self.inputs.get('judged', {})}
            return None
        made: dict[str, dict[str, StructureSetData]] = {TRAINING: {}, 'unseen': {}, 'larger': {}}
        for name, parameters in self.inputs.flakes.items():
            sets, exit_code = self.run_function(
                generate_flake_sets, parameters=parameters, n_unseen=self.inputs.n_unseen
            )
            if exit_code is not None:
                return exit_code
            made[TRAINING][name], made['unseen'][name] = sets['structures'], sets['unseen']
        for name, parameters in self.inputs.get('larger', {}).items():
            made['larger'][name], exit_code = self.run_function(generate_flake_set, parameters=parameters)
            if exit_code is not None:
                return exit_code
        self.ctx.sets = {}
        for part, sets in made.items():
            if len(sets) == 1:
                (self.ctx.sets[part],) = sets.values()
            elif sets:
                self.ctx.sets[part], exit_code = self.run_function(merge_structures, **sets)
                if exit_code is not None:
                    return exit_code
        return None

    def run_labels(self) -> ToContext:
        """Compute the densities of all structures, those to learn from and those to evaluate on, at the same time."""
        children = {}
        for part, structures in self.ctx.sets.items():
            inputs = self.exposed_inputs(LabelWorkChain, namespace='label')
            inputs |= {'structures': structures, 'code': self.inputs.code, 'options': self.inputs.options}
            children[f'label_{part}'] = self.submit(LabelWorkChain, **inputs)
        return ToContext(**children)

    def inspect_labels(self) -> ExitCode | None:
        """Check the labellings, and output the densities to learn from."""
        for part in self.ctx.sets:
            labelled = self.ctx[f'label_{part}']
            if not labelled.is_finished_ok:
                return self.failed(self.exit_codes.ERROR_LABEL_FAILED, labelled)
        labelled = self.ctx[f'label_{TRAINING}'].outputs
        self.out('structures', self.ctx.sets[TRAINING])
        self.out('labels', labelled.labels)
        self.out('densities', labelled.densities)
        return None

    def run_train(self) -> ToContext:
        """Train the network; the first part to evaluate on is its test set."""
        inputs = {'code': self.inputs.code, 'densities': self.ctx[f'label_{TRAINING}'].outputs.densities}
        if self._evaluated_parts():
            inputs['test'] = self.ctx[f'label_{self._evaluated_parts()[0]}'].outputs.densities
        if 'settings' in self.inputs:
            inputs['settings'] = self.inputs.settings
        return ToContext(training=self.submit(DensityTrainCalculation, **inputs, metadata=self.job_metadata('train')))

    def inspect_train(self) -> ExitCode | None:
        """Check the training, and output its results."""
        training = self.ctx.training
        if not training.is_finished_ok:
            return self.failed(self.exit_codes.ERROR_TRAIN_FAILED, training)
        for name in TRAINING_OUTPUTS:
            self.out(name, training.outputs[name])
        return None

    def run_predict(self) -> ToContext:
        """Predict every part to evaluate on."""
        children = {}
        for part in self._evaluated_parts():
            known = self.ctx[f'label_{part}'].outputs.densities
            inputs = {'code': self.inputs.code, 'model': self.ctx.training.outputs.model, 'known': known}
            metadata = self.job_metadata(f'predict {part}')
            children[f'predict_{part}'] = self.submit(DensityPredictCalculation, **inputs, metadata=metadata)
        return ToContext(**children)

    def inspect_predictions(self) -> ExitCode | None:
        """Check the predictions, and output them beside the densities of the engine."""
        for part in self._evaluated_parts():
            predicted = self.ctx[f'predict_{part}']
            if not predicted.is_finished_ok:
                return self.failed(self.exit_codes.ERROR_PREDICT_FAILED, predicted)
            labelled = self.ctx[f'label_{part}'].outputs
            self.out(f'judged.{part}.structures', self.ctx.sets[part])
            self.out(f'judged.{part}.labels', labelled.labels)
            self.out(f'judged.{part}.densities', labelled.densities)
            self.out(f'judged.{part}.predictions', predicted.outputs.densities)
            for name in ('results', 'errors', 'figures'):
                self.out(f'judged.{part}.{name}', predicted.outputs[name])
            metrics = predicted.outputs.results['metrics']
            self.report(
                f'{part}: NMAE {metrics["nmae"]:.4f} of {metrics["n"]} densities, free atoms {metrics["nmae_free"]:.4f}'
            )
        return None

    def _evaluated_parts(self) -> list[str]:
        return [part for part in self.ctx.sets if part != TRAINING]


def validate_inputs(inputs: dict[str, Any], _: Any) -> str | None:
    """Check for inputs that exclude each other, flakes that cannot be generated, and labels without densities."""
    flakes, judged = inputs.get('flakes') or {}, inputs.get('judged') or {}
    if bool(flakes) == ('structures' in inputs):
        return 'give either flakes to generate or structures'
    if flakes and judged:
        return '`judged` goes with `structures`; generated flakes take `n_unseen` and `larger`'
    if not flakes and inputs.get('larger'):
        return '`larger` goes with `flakes`; structures take `judged`'
    if flakes and 'n_unseen' not in inputs:
        return 'generated flakes need `n_unseen`, the number of flakes of each family to predict'
    if unknown := sorted(set(judged) - set(PARTS)):
        return f'`judged` has the parts {", ".join(PARTS)}, not {", ".join(unknown)}'
    for namespace in ('flakes', 'larger'):
        for name, parameters in (inputs.get(namespace) or {}).items():
            try:
                FlakeParameters.from_dict(parameters.get_dict())
            except NanomlError as error:
                return f'{namespace}.{name}: {error}'
    label = inputs.get('label') or {}
    if 'densities' in label and not label['densities'].value:
        return '`label.densities` must be true: the network learns from densities'
    return None
