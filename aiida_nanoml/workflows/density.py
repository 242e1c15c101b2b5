"""Workflow ``nanoml.density``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiida import orm
from aiida.engine import ProcessBuilder, ToContext, WorkChain
from aiida.engine.processes.workchains.workchain import WorkChainSpec

from aiida_nanoml.calculations.base import validate_code
from aiida_nanoml.calculations.density_predict import DensityPredictCalculation
from aiida_nanoml.calculations.density_train import DensityTrainCalculation, define_settings, define_training
from aiida_nanoml.calculations.functions.structures import generate_flake_set, generate_flake_sets, merge_structures
from aiida_nanoml.calculations.pseudopotentials import program_inputs
from aiida_nanoml.data.densities import DensitySetData
from aiida_nanoml.data.labels import LabelSetData
from aiida_nanoml.data.structures import StructureSetData
from aiida_nanoml.errors import NanomlError
from aiida_nanoml.structures import FlakeParameters
from aiida_nanoml.workflows.gap import FLAKE_ELEMENTS
from aiida_nanoml.workflows.label import LabelWorkChain, define_options, label_inputs
from aiida_nanoml.workflows.protocols import protocol_inputs

TRAINING = 'training'
PARTS = ('unseen', 'larger')
"""What the network is judged on: flakes like those that it learnt from, and others, as a rule larger ones."""


class DensityWorkChain(WorkChain):
    """Flakes, their densities by an engine, a network, and predictions of flakes that it did not learn from.

    Either `flakes` are generated (and, to be predicted only, `larger` ones), or sets of structures are given. All are
    computed by the engine, so that every prediction is judged, and drawn beside what it should be.
    """

    @classmethod
    def define(cls, spec: WorkChainSpec) -> None:
        """Define inputs, outline, outputs and exit codes."""
        super().define(spec)
        spec.input_namespace(
            'flakes', valid_type=orm.Dict, dynamic=True, required=False, help='Parameters of the flakes of each family.'
        )
        spec.input(
            'n_unseen', valid_type=orm.Int, required=False, help='Flakes of each family that are predicted only.'
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
        define_settings(spec)
        define_options(spec)
        spec.inputs.validator = validate_inputs
        spec.outline(cls.prepare_structures, cls.label, cls.train, cls.predict, cls.finalize)
        spec.output('structures', valid_type=StructureSetData, help='The structures that were learnt from.')
        spec.output('labels', valid_type=LabelSetData, help='Their labels.')
        spec.output('densities', valid_type=DensitySetData, help='Their densities.')
        define_training(spec)
        spec.output_namespace(
            'judged',
            dynamic=True,
            valid_type=(orm.Data,),
            help='By part: `structures`, `labels`, `densities` of the engine, `predictions`, `results`, `errors`, '
            '`figures`.',
        )
        spec.exit_code(401, 'ERROR_LABEL_FAILED', message='Labelling failed, {reason}')
        spec.exit_code(402, 'ERROR_TRAIN_FAILED', message='The training failed, {reason}')
        spec.exit_code(403, 'ERROR_PREDICT_FAILED', message='The prediction failed, {reason}')
        spec.exit_code(520, 'ERROR_STEP_REFUSED', message='A step refused its input: {reason}')

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
        given = [node for node in (structures, *(judged or {}).values()) if node is not None]
        elements = {symbol for node in given for symbol in node.base.attributes.get('elements')} or FLAKE_ELEMENTS
        program = program_inputs(engine_code, pseudo_family, elements)
        builder.label = label_inputs(engine, None, {**inputs['label'], 'densities': True}) | program
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

    def prepare_structures(self) -> Any:
        """Generate the flakes, or take the given structures."""
        if 'structures' in self.inputs:
            self.ctx.sets = {TRAINING: self.inputs.structures, **self.inputs.get('judged', {})}
            return None
        made: dict[str, dict[str, StructureSetData]] = {TRAINING: {}, 'unseen': {}, 'larger': {}}
        for name, parameters in self.inputs.flakes.items():
            sets, node = generate_flake_sets.run_get_node(parameters=parameters, n_unseen=self.inputs.n_unseen)
            if not node.is_finished_ok:
                return self._refused(node)
            made[TRAINING][name], made['unseen'][name] = sets['structures'], sets['unseen']
        for name, parameters in self.inputs.get('larger', {}).items():
            made['larger'][name], node = generate_flake_set.run_get_node(parameters=parameters)
            if not node.is_finished_ok:
                return self._refused(node)
        self.ctx.sets = {}
        for part, sets in made.items():
            if len(sets) == 1:
                (self.ctx.sets[part],) = sets.values()
            elif sets:
                self.ctx.sets[part], node = merge_structures.run_get_node(**sets)
                if not node.is_finished_ok:
                    return self._refused(node)
        return None

    def label(self) -> ToContext:
        """Compute the densities of all structures, those to learn from and those to judge by at the same time."""
        children = {}
        for part, structures in self.ctx.sets.items():
            inputs = self.exposed_inputs(LabelWorkChain, namespace='label')
            inputs |= {'structures': structures, 'code': self.inputs.code, 'options': self.inputs.options}
            children[f'label_{part}'] = self.submit(LabelWorkChain, **inputs)
        return ToContext(**children)

    def train(self) -> Any:
        """Train the network; the first set to judge by is watched."""
        for part in self.ctx.sets:
            labelled = self.ctx[f'label_{part}']
            if not labelled.is_finished_ok:
                return self._failed(self.exit_codes.ERROR_LABEL_FAILED, labelled)
        done = self.ctx[f'label_{TRAINING}'].outputs
        self.out('structures', self.ctx.sets[TRAINING])
        self.out('labels', done.labels)
        self.out('densities', done.densities)
        inputs = {'code': self.inputs.code, 'densities': done.densities}
        if self._judged():
            inputs['test'] = self.ctx[f'label_{self._judged()[0]}'].outputs.densities
        if 'settings' in self.inputs:
            inputs['settings'] = self.inputs.settings
        return ToContext(training=self.submit(DensityTrainCalculation, **inputs, metadata=self._metadata('train')))

    def predict(self) -> Any:
        """Predict every set to judge by."""
        training = self.ctx.training
        if not training.is_finished_ok:
            return self._failed(self.exit_codes.ERROR_TRAIN_FAILED, training)
        for name in ('model', 'metrics', 'errors', 'history', 'figures'):
            self.out(name, training.outputs[name])
        children = {}
        for part in self._judged():
            known = self.ctx[f'label_{part}'].outputs.densities
            inputs = {'code': self.inputs.code, 'model': training.outputs.model, 'known': known}
            metadata = self._metadata(f'predict {part}')
            children[f'predict_{part}'] = self.submit(DensityPredictCalculation, **inputs, metadata=metadata)
        return ToContext(**children)

    def finalize(self) -> Any:
        """Hand out the predictions beside what was predicted."""
        for part in self._judged():
            predicted = self.ctx[f'predict_{part}']
            if not predicted.is_finished_ok:
                return self._failed(self.exit_codes.ERROR_PREDICT_FAILED, predicted)
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

    def _judged(self) -> list[str]:
        return [part for part in self.ctx.sets if part != TRAINING]

    def _metadata(self, task: str) -> dict[str, Any]:
        return {'options': self.inputs.options.get_dict(), 'label': f'{task} for {self.node.uuid[:8]}'}

    def _failed(self, code: Any, node: orm.ProcessNode) -> Any:
        return code.format(reason=f'{node.process_label}<{node.pk}>: {node.exit_message or node.exception or "killed"}')

    def _refused(self, node: orm.ProcessNode) -> Any:
        return self._failed(self.exit_codes.ERROR_STEP_REFUSED, node)


def validate_inputs(inputs: dict[str, Any], _: Any) -> str | None:
    """Refuse inputs that exclude each other, flakes that cannot be made, and labels without densities."""
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
