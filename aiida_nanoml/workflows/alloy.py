"""Workflow ``nanoml.alloy``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiida import orm
from aiida.engine import ProcessBuilder, ToContext, WorkChain
from aiida.engine.processes.workchains.workchain import WorkChainSpec

from aiida_nanoml.calculations.base import validate_code
from aiida_nanoml.calculations.functions.alloys import SIGNS, compare_scans, predict_phases, refine_scan
from aiida_nanoml.calculations.functions.datasets import assemble_dataset
from aiida_nanoml.calculations.predict import PredictCalculation
from aiida_nanoml.calculations.train import TrainCalculation
from aiida_nanoml.data.dataset import DatasetData
from aiida_nanoml.data.model import ModelData
from aiida_nanoml.data.prediction import PredictionData
from aiida_nanoml.data.structures import StructureSetData
from aiida_nanoml.workflows.alloy_scan import AlloyScanWorkChain
from aiida_nanoml.workflows.label import define_options, validate_positive
from aiida_nanoml.workflows.protocols import protocol_inputs, protocol_names

SCAN_OUTPUTS = ('cells', 'structures', 'labels', 'atoms', 'curves', 'points', 'phases', 'summary')


class AlloyWorkChain(WorkChain):
    """Alloys from generation to predicted phases: scans, data set, a trained network, and its own curves E(a).

    The network is judged on alloys of which it saw no point: their lattice constants, phases and pressures by its own
    curves stand beside those of the engine.
    """

    @classmethod
    def define(cls, spec: WorkChainSpec) -> None:
        """Define inputs, outline, outputs and exit codes."""
        super().define(spec)
        spec.expose_inputs(
            AlloyScanWorkChain, namespace='scan', namespace_options={'help': 'The alloys, and how they are scanned.'}
        )
        spec.input('code', valid_type=orm.AbstractCode, validator=validate_code, help='The executable nanoml-worker.')
        spec.input('targets', valid_type=orm.Dict, validator=validate_targets, serializer=orm.to_aiida_type,
                   help='`target`, an energy per atom, and `others` that the network learns beside it.')  # fmt: skip
        spec.input('descriptor', valid_type=orm.Dict, serializer=orm.to_aiida_type,
                   help='`name` and `params` of the descriptor.')  # fmt: skip
        spec.input('split', valid_type=orm.Dict, serializer=orm.to_aiida_type,
                   help='Shares, seed and `group` of the split: all points of an alloy stay together.')  # fmt: skip
        spec.expose_inputs(TrainCalculation, include=('kind', 'hyperparameters'))
        spec.input('points', valid_type=orm.Int, serializer=orm.to_aiida_type, validator=validate_positive,
                   help='Lattice constants at which the network is asked, for each alloy and phase.')  # fmt: skip
        define_options(spec)
        spec.outline(cls.scan, cls.assemble, cls.train, cls.predict, cls.compare)
        spec.expose_outputs(AlloyScanWorkChain)
        spec.output('dataset', valid_type=DatasetData, help='Features, targets and split.')
        spec.output('model', valid_type=ModelData, help='The trained network.')
        spec.output('metrics', valid_type=orm.Dict, help='Errors of the targets, by part and phase.')
        spec.output('fitted', valid_type=PredictionData, help='Predictions for every row of the data set.')
        spec.output('history', valid_type=orm.XyData, required=False, help='Losses of every epoch.')
        spec.output('figures', valid_type=orm.FolderData, help='Parity, calibration, learning curve.')
        spec.output('predicted.structures', valid_type=StructureSetData, help='Points of the test alloys.')
        spec.output('predicted.predictions', valid_type=PredictionData, help='What the network says about them.')
        spec.output('predicted.curves', valid_type=orm.ArrayData, help='Equations of state of the network.')
        spec.output('predicted.points', valid_type=orm.ArrayData, help='Energies and pressures by the network.')
        spec.output('predicted.phases', valid_type=orm.ArrayData, help='Equilibrium phases by the network.')
        spec.output('predicted.metrics', valid_type=orm.Dict, help='Its curves and phases against the engine.')
        spec.exit_code(401, 'ERROR_SCAN_FAILED', message='The scan failed, {reason}')
        spec.exit_code(402, 'ERROR_TRAIN_FAILED', message='The training failed, {reason}')
        spec.exit_code(403, 'ERROR_PREDICT_FAILED', message='The prediction failed, {reason}')
        spec.exit_code(520, 'ERROR_STEP_REFUSED', message='A step refused its input: {reason}')

    @classmethod
    def get_builder_from_protocol(
        cls,
        code: orm.AbstractCode,
        alloys: Mapping[str, Any] | None = None,
        cells: StructureSetData | None = None,
        engine: str = 'ase',
        protocol: str | None = None,
        overrides: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        engine_code: orm.InstalledCode | None = None,
        pseudo_family: str | None = None,
    ) -> ProcessBuilder:
        """Return a builder with the inputs of a protocol.

        :param code: the executable ``nanoml-worker``.
        :param alloys: parameters of the alloys to generate.
        :param cells: cells to scan, in place of alloys.
        :param engine: registered name of the engine.
        :param protocol: ``fast``, ``balanced``, ``stringent``, or another one that the engine has.
        :param overrides: inputs that replace those of the protocol; under ``scan``, those of ``nanoml.alloy_scan``.
        :param options: scheduler options of each job.
        :param engine_code: the program of an engine that runs one, on the computer of ``code``.
        :param pseudo_family: label of the family that has the pseudopotentials of the elements; None: the default one.
        :raises ProtocolError: unknown protocol or override.
        :raises EngineError: the family does not exist or lacks an element.
        :raises StructureError: the alloys cannot be generated.
        """
        known = protocol in protocol_names('alloy')
        inputs = protocol_inputs('alloy', protocol if known else None, overrides)
        scan = AlloyScanWorkChain.get_builder_from_protocol(
            code, alloys, cells, engine, protocol, inputs['scan'], options, engine_code, pseudo_family
        )
        builder = cls.get_builder()
        builder.scan = {name: scan[name] for name in scan if name != 'metadata'}
        builder.code = code
        for name in ('targets', 'descriptor', 'split'):
            builder[name] = orm.Dict(inputs[name])
        if inputs['descriptor'] == {'name': 'alloy', 'params': {}}:
            elements = list(scan.alloys['elements'] if alloys is not None else cells.base.attributes.get('elements'))
            builder.descriptor = orm.Dict({'name': 'alloy', 'params': {'elements': elements}})
        builder.kind = orm.Str(inputs['kind'])
        hyperparameters = inputs['hyperparameters']
        if inputs['kind'] != protocol_inputs('alloy', None)['kind']:
            hyperparameters = (overrides or {}).get('hyperparameters', {})  # those of the protocol fit its own kind
        if hyperparameters:
            builder.hyperparameters = orm.Dict(hyperparameters)
        builder.points = orm.Int(inputs['points'])
        builder.options = orm.Dict(dict(options or {}))
        return builder

    def scan(self) -> ToContext:
        """Scan the alloys."""
        inputs = self.exposed_inputs(AlloyScanWorkChain, namespace='scan')
        return ToContext(scanned=self.submit(AlloyScanWorkChain, **inputs))

    def assemble(self) -> Any:
        """Build the data set."""
        scanned = self.ctx.scanned
        self.out_many({name: scanned.outputs[name] for name in SCAN_OUTPUTS if name in scanned.outputs})
        if not scanned.is_finished_ok:
            return self._failed(self.exit_codes.ERROR_SCAN_FAILED, scanned)
        inputs = {'atoms': scanned.outputs.atoms} if 'atoms' in scanned.outputs else {}
        return self._make(
            'dataset',
            assemble_dataset,
            structures=scanned.outputs.structures,
            labels=scanned.outputs.labels,
            descriptor=self.inputs.descriptor,
            split=self.inputs.split,
            targets=self.inputs.targets,
            **inputs,
        )

    def train(self) -> ToContext:
        """Train the network."""
        self.out('dataset', self.ctx.dataset)
        inputs = self.exposed_inputs(TrainCalculation)
        inputs |= {'code': self.inputs.code, 'dataset': self.ctx.dataset}
        return ToContext(training=self.submit(TrainCalculation, **inputs, metadata=self._metadata('train')))

    def predict(self) -> Any:
        """Ask the network at many lattice constants of the alloys that it did not see."""
        training = self.ctx.training
        if not training.is_finished_ok:
            return self._failed(self.exit_codes.ERROR_TRAIN_FAILED, training)
        for name in ('model', 'metrics', 'fitted', 'history', 'figures'):
            if name in training.outputs:
                self.out(name, training.outputs[name])
        refusal = self._make(
            'fine',
            refine_scan,
            structures=self.ctx.scanned.outputs.structures,
            points=self.inputs.points,
            dataset=self.ctx.dataset,
        )
        if refusal is not None:
            return refusal
        inputs = {'model': training.outputs.model, 'structures': self.ctx.fine, 'code': self.inputs.code}
        return ToContext(prediction=self.submit(PredictCalculation, **inputs, metadata=self._metadata('predict')))

    def compare(self) -> Any:
        """Find the phases by the curves of the network, and set them against those of the engine."""
        prediction = self.ctx.prediction
        if not prediction.is_finished_ok:
            return self._failed(self.exit_codes.ERROR_PREDICT_FAILED, prediction)
        self.out('predicted.structures', self.ctx.fine)
        self.out('predicted.predictions', prediction.outputs.predictions)
        refusal = self._make(
            'predicted',
            predict_phases,
            predictions=prediction.outputs.predictions,
            structures=self.ctx.fine,
        )
        if refusal is not None:
            return refusal
        for name, node in self.ctx.predicted.items():
            self.out(f'predicted.{name}', node)
        refusal = self._make(
            'compared',
            compare_scans,
            curves=self.ctx.scanned.outputs.curves,
            predicted=self.ctx.predicted['curves'],
        )
        if refusal is not None:
            return refusal
        self.out('predicted.metrics', self.ctx.compared)
        metrics = self.ctx.compared.get_dict()
        self.report(f'{metrics["n_alloys"]} unseen alloys, {metrics["accuracy"]:.1%} of the phases are right')
        return None

    def _make(self, name: str, function: Any, **inputs: Any) -> Any:
        made, node = function.run_get_node(**inputs)
        if not node.is_finished_ok:
            return self._failed(self.exit_codes.ERROR_STEP_REFUSED, node)
        self.ctx[name] = made
        return None

    def _metadata(self, task: str) -> dict[str, Any]:
        return {'options': self.inputs.options.get_dict(), 'label': f'{task} for {self.node.uuid[:8]}'}

    def _failed(self, code: Any, node: orm.ProcessNode) -> Any:
        return code.format(reason=f'{node.process_label}<{node.pk}>: {node.exit_message or node.exception or "killed"}')


def validate_targets(targets: orm.Dict, _: Any) -> str | None:
    """Refuse a target that gives no curve E(a)."""
    target = targets.get_dict().get('target')
    return None if target in SIGNS else f'the target is {target!r}; curves E(a) need one of {", ".join(SIGNS)}'
