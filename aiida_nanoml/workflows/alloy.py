"""Workchain from alloys to predicted phases: lattice scans, a trained network, and its own curves E(a)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiida import orm
from aiida.engine import ExitCode, ProcessBuilder, ToContext
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
from aiida_nanoml.workflows.base import NanomlWorkChain, validate_options, validate_positive
from aiida_nanoml.workflows.builders import model_inputs
from aiida_nanoml.workflows.protocols import protocol_inputs, protocol_names

SCAN_OUTPUTS = ('cells', 'structures', 'labels', 'atoms', 'curves', 'points', 'phases', 'summary')


TRAINING_OUTPUTS = ('model', 'metrics', 'fitted', 'history', 'figures')


class AlloyWorkChain(NanomlWorkChain):
    """Scan alloys, train a network on the points, and find the phases of unseen alloys by its own curves E(a).

    The network is evaluated on alloys of which it saw no point: their lattice constants, phases and pressures by its
    own curves are compared with those of the engine.
    """

    @classmethod
    def define(cls, spec: WorkChainSpec) -> None:
        """Define inputs, outline, outputs and exit codes."""
        super().define(spec)
        spec.expose_inputs(
            AlloyScanWorkChain, namespace='scan', namespace_options={'help': 'The alloys, and how they are scanned.'}
        )
        spec.input('code', valid_type=orm.AbstractCode, validator=validate_code, help='The executable nanoml-worker.')
        spec.input(
            'targets',
            valid_type=orm.Dict,
            validator=validate_targets,
            serializer=orm.to_aiida_type,
            help='`target`, an energy per atom, and `others` that the network learns beside it.',
        )
        spec.input(
            'descriptor',
            valid_type=orm.Dict,
            serializer=orm.to_aiida_type,
            help='`name` and `params` of the descriptor.',
        )
        spec.input(
            'split',
            valid_type=orm.Dict,
            serializer=orm.to_aiida_type,
            help='Shares, seed and `group` of the split: all points of an alloy stay together.',
        )
        spec.expose_inputs(TrainCalculation, include=('kind', 'hyperparameters'))
        spec.input(
            'points',
            valid_type=orm.Int,
            serializer=orm.to_aiida_type,
            validator=validate_positive,
            help='Number of lattice constants to predict for each alloy and phase.',
        )
        spec.input(
            'options',
            valid_type=orm.Dict,
            default=lambda: orm.Dict({}),
            serializer=orm.to_aiida_type,
            validator=validate_options,
            help='Options of each job: resources, wall time, queue, …',
        )
        spec.outline(
            cls.run_scan,
            cls.inspect_scan,
            cls.assemble,
            cls.run_train,
            cls.inspect_train,
            cls.refine,
            cls.run_predict,
            cls.inspect_prediction,
        )
        spec.expose_outputs(AlloyScanWorkChain)
        spec.output('dataset', valid_type=DatasetData, help='Features, targets and split.')
        spec.output('model', valid_type=ModelData, help='The trained network.')
        spec.output('metrics', valid_type=orm.Dict, help='Errors of the targets, by part and phase.')
        spec.output('fitted', valid_type=PredictionData, help='Predictions for every row of the data set.')
        spec.output('history', valid_type=orm.XyData, required=False, help='Losses of every epoch.')
        spec.output('figures', valid_type=orm.FolderData, help='Parity plot, calibration, learning curve.')
        spec.output('predicted.structures', valid_type=StructureSetData, help='Points of the test alloys.')
        spec.output('predicted.predictions', valid_type=PredictionData, help='Predictions for these points.')
        spec.output('predicted.curves', valid_type=orm.ArrayData, help='Equations of state by the network.')
        spec.output('predicted.points', valid_type=orm.ArrayData, help='Energies and pressures by the network.')
        spec.output('predicted.phases', valid_type=orm.ArrayData, help='Equilibrium phases by the network.')
        spec.output('predicted.metrics', valid_type=orm.Dict, help='Its curves and phases against the engine.')
        spec.exit_code(401, 'ERROR_SCAN_FAILED', message='The scan failed: {reason}')
        spec.exit_code(402, 'ERROR_TRAIN_FAILED', message='The training failed: {reason}')
        spec.exit_code(403, 'ERROR_PREDICT_FAILED', message='The prediction failed: {reason}')

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
            code,
            alloys,
            cells,
            engine=engine,
            protocol=protocol,
            overrides=inputs['scan'],
            options=options,
            engine_code=engine_code,
            pseudo_family=pseudo_family,
        )
        builder = cls.get_builder()
        builder.scan = {name: scan[name] for name in scan if name != 'metadata'}
        builder.code = code
        for name in ('targets', 'descriptor', 'split'):
            builder[name] = orm.Dict(inputs[name])
        if inputs['descriptor'] == {'name': 'alloy', 'params': {}}:
            elements = list(scan.alloys['elements'] if alloys is not None else cells.base.attributes.get('elements'))
            builder.descriptor = orm.Dict({'name': 'alloy', 'params': {'elements': elements}})
        usual = protocol_inputs('alloy', None)['kind']
        for name, node in model_inputs(inputs, protocol_kind=usual, overrides=overrides).items():
            builder[name] = node
        builder.points = orm.Int(inputs['points'])
        builder.options = orm.Dict(dict(options or {}))
        return builder

    def run_scan(self) -> ToContext:
        """Scan the alloys."""
        inputs = self.exposed_inputs(AlloyScanWorkChain, namespace='scan')
        return ToContext(scanned=self.submit(AlloyScanWorkChain, **inputs))

    def inspect_scan(self) -> ExitCode | None:
        """Output what the scan found, and check it."""
        scanned = self.ctx.scanned
        self.out_many({name: scanned.outputs[name] for name in SCAN_OUTPUTS if name in scanned.outputs})
        return None if scanned.is_finished_ok else self.failed(self.exit_codes.ERROR_SCAN_FAILED, scanned)

    def assemble(self) -> ExitCode | None:
        """Build the data set."""
        scanned = self.ctx.scanned.outputs
        self.ctx.dataset, exit_code = self.run_function(
            assemble_dataset,
            structures=scanned.structures,
            labels=scanned.labels,
            descriptor=self.inputs.descriptor,
            split=self.inputs.split,
            targets=self.inputs.targets,
            atoms=scanned.atoms if 'atoms' in scanned else None,
        )
        if exit_code is None:
            self.out('dataset', self.ctx.dataset)
        return exit_code

    def run_train(self) -> ToContext:
        """Train the network."""
        inputs = self.exposed_inputs(TrainCalculation)
        inputs |= {'code': self.inputs.code, 'dataset': self.ctx.dataset}
        return ToContext(training=self.submit(TrainCalculation, **inputs, metadata=self.job_metadata('train')))

    def inspect_train(self) -> ExitCode | None:
        """Check the training, and output its results."""
        training = self.ctx.training
        if not training.is_finished_ok:
            return self.failed(self.exit_codes.ERROR_TRAIN_FAILED, training)
        for name in TRAINING_OUTPUTS:
            if name in training.outputs:
                self.out(name, training.outputs[name])
        return None

    def refine(self) -> ExitCode | None:
        """Make many lattice constants of the alloys that the network did not see."""
        self.ctx.fine, exit_code = self.run_function(
            refine_scan,
            structures=self.ctx.scanned.outputs.structures,
            points=self.inputs.points,
            dataset=self.ctx.dataset,
        )
        return exit_code

    def run_predict(self) -> ToContext:
        """Predict these points."""
        inputs = {'model': self.ctx.training.outputs.model, 'structures': self.ctx.fine, 'code': self.inputs.code}
        return ToContext(prediction=self.submit(PredictCalculation, **inputs, metadata=self.job_metadata('predict')))

    def inspect_prediction(self) -> ExitCode | None:
        """Find the phases by the curves of the network, and compare them with those of the engine."""
        prediction = self.ctx.prediction
        if not prediction.is_finished_ok:
            return self.failed(self.exit_codes.ERROR_PREDICT_FAILED, prediction)
        self.out('predicted.structures', self.ctx.fine)
        self.out('predicted.predictions', prediction.outputs.predictions)
        predicted, exit_code = self.run_function(
            predict_phases, predictions=prediction.outputs.predictions, structures=self.ctx.fine
        )
        if exit_code is not None:
            return exit_code
        for name, node in predicted.items():
            self.out(f'predicted.{name}', node)
        compared, exit_code = self.run_function(
            compare_scans, curves=self.ctx.scanned.outputs.curves, predicted=predicted['curves']
        )
        if exit_code is not None:
            return exit_code
        self.out('predicted.metrics', compared)
        metrics = compared.get_dict()
        self.report(f'{metrics["n_alloys"]} unseen alloys, {metrics["accuracy"]:.1%} of the phases are right')
        return None


def validate_targets(targets: orm.Dict, _: Any) -> str | None:
    """Check that the target gives curves E(a)."""
    target = targets.get_dict().get('target')
    return None if target in SIGNS else f'the target is {target!r}; curves E(a) need one of {", ".join(SIGNS)}'
