"""Workchain to validate predictions: label some of the predicted structures, and compare."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from aiida import orm
from aiida.engine import ExitCode, ProcessBuilder, ToContext
from aiida.engine.processes.workchains.workchain import WorkChainSpec

from aiida_nanoml.calculations.functions.active import choose_structures
from aiida_nanoml.calculations.functions.validation import compare_with_labels
from aiida_nanoml.data.labels import LabelSetData
from aiida_nanoml.data.prediction import PredictionData
from aiida_nanoml.data.structures import StructureSetData
from aiida_nanoml.engines.label_set import IMPORTED, LabelSource
from aiida_nanoml.engines.registry import get_engine
from aiida_nanoml.errors import DatasetError
from aiida_nanoml.workflows.base import NanomlWorkChain
from aiida_nanoml.workflows.builders import label_inputs
from aiida_nanoml.workflows.label import LabelWorkChain, validate_workflow

CHOICES = {'all': '', 'random': 'random', 'uncertain': 'std'}
"""Ways to choose what is labelled, and the strategy of each."""


class ValidateWorkChain(NanomlWorkChain):
    """Label some of the predicted structures with the engine that the model learnt from, and compare."""

    @classmethod
    def define(cls, spec: WorkChainSpec) -> None:
        """Define inputs, outline, outputs and exit codes."""
        super().define(spec)
        spec.input('predictions', valid_type=PredictionData, help='The predictions to validate.')
        spec.input(
            'choice',
            valid_type=orm.Dict,
            required=False,
            serializer=orm.to_aiida_type,
            help='`strategy`, `count` and `seed`, or `names`, of those to label; all if absent.',
        )
        spec.input(
            'report',
            valid_type=orm.FolderData,
            required=False,
            help='Retrieved files of the prediction job, which state the time that it took.',
        )
        spec.input(
            'baseline',
            valid_type=LabelSetData,
            required=False,
            help='Labels that a correction started from; their time is counted.',
        )
        spec.input(
            'atoms',
            valid_type=LabelSetData,
            required=False,
            help='Labels of isolated atoms, for cohesive energies.',
        )
        spec.expose_inputs(LabelWorkChain, exclude=('interrupted',))
        spec.inputs['structures'].help = 'The predicted structures, in any order.'
        spec.inputs.validator = validate_workflow
        spec.outline(cls.setup, cls.run_labels, cls.inspect_labels, cls.results)
        spec.output('chosen', valid_type=StructureSetData, help='The structures that were labelled.')
        spec.output('labels', valid_type=LabelSetData, help='Their labels.')
        spec.output('metrics', valid_type=orm.Dict, help='Errors, coverage, and the time saved.')
        spec.output('table', valid_type=orm.ArrayData, help='One row for each structure that was compared.')
        spec.exit_code(401, 'ERROR_LABEL_FAILED', message='Labelling failed: {reason}')

    @classmethod
    def get_builder_from_predictions(
        cls,
        code: orm.AbstractCode | None,
        predictions: PredictionData,
        structures: StructureSetData | None = None,
        choice: Mapping[str, Any] | None = None,
        overrides: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        engine_code: orm.InstalledCode | None = None,
        pseudo_family: str | None = None,
    ) -> ProcessBuilder:
        """Return a builder with engine, protocol and parameters of the labels that the model learnt from.

        :param code: the executable ``nanoml-worker``.
        :param predictions: the predictions to validate.
        :param structures: the predicted structures; None: those of the prediction job.
        :param choice: which of them to label, see the input of the same name; None: all.
        :param overrides: inputs of ``nanoml.label`` that replace those of its protocol; not the engine's parameters.
        :param options: scheduler options of each batch.
        :param engine_code: the program of an engine that runs one.
        :param pseudo_family: label of the family that has the pseudopotentials of the elements; None: the default one.
        :raises DatasetError: the model learnt from imported gaps, or the predicted structures are unknown.
        :raises EngineError: the engine or its pseudopotentials are missing.
        """
        source = LabelSource.from_dict(predictions.base.attributes.get('labels'))
        if source.engine == IMPORTED:
            raise DatasetError(f'the model learnt from imported gaps ({source}): no engine here can repeat them')
        usual = get_engine(source.engine).parameters(source.protocol).model_dump(mode='json')
        changed = {key: value for key, value in source.parameters.items() if usual.get(key) != value}
        job = predictions.creator
        if structures is None:
            if job is None or 'structures' not in job.inputs:
                raise DatasetError('the predictions were made from features: give the structures behind them')
            structures = job.inputs.structures
        given = dict(overrides or {}) | {'parameters': changed}
        builder = cls.get_builder()
        inputs = label_inputs(
            source.engine,
            source.protocol,
            given,
            elements=structures.base.attributes.get('elements'),
            engine_code=engine_code,
            pseudo_family=pseudo_family,
        )
        for name, node in inputs.items():
            builder[name] = node
        if code is not None:
            builder.code = code
        builder.predictions, builder.structures = predictions, structures
        builder.options = orm.Dict(dict(options or {}))
        if choice is not None:
            builder.choice = orm.Dict(dict(choice))
        if job is not None:
            builder.report = job.outputs.retrieved
            if 'baseline' in job.inputs:
                builder.baseline = job.inputs.baseline
        return builder

    def setup(self) -> ExitCode | None:
        """Choose the structures to label, ``ctx.chosen``."""
        self.ctx.chosen = self.inputs.structures
        if 'choice' in self.inputs:
            self.ctx.chosen, exit_code = self.run_function(
                choose_structures,
                pool=self.inputs.structures,
                parameters=self.inputs.choice,
                predictions=self.inputs.predictions,
            )
            if exit_code is not None:
                return exit_code
        self.out('chosen', self.ctx.chosen)
        return None

    def run_labels(self) -> ToContext:
        """Label them."""
        inputs = self.exposed_inputs(LabelWorkChain) | {'structures': self.ctx.chosen}
        return ToContext(labelling=self.submit(LabelWorkChain, **inputs))

    def inspect_labels(self) -> ExitCode | None:
        """Output the labels, and check the labelling."""
        if 'labels' in self.ctx.labelling.outputs:
            self.out('labels', self.ctx.labelling.outputs.labels)
        if self.ctx.labelling.is_finished_ok:
            return None
        return self.failed(self.exit_codes.ERROR_LABEL_FAILED, self.ctx.labelling)

    def results(self) -> ExitCode | None:
        """Compare predictions and labels, and output metrics and table."""
        compared, exit_code = self.run_function(
            compare_with_labels,
            predictions=self.inputs.predictions,
            labels=self.ctx.labelling.outputs.labels,
            structures=self.ctx.chosen,
            report=self.inputs.get('report'),
            baseline=self.inputs.get('baseline'),
            atoms=self.inputs.get('atoms'),
        )
        if exit_code is not None:
            return exit_code
        self.out_many(compared)
        return None


def choice_of(how: str, count: int, seed: int = 0, names: Sequence[str] = ()) -> dict[str, Any] | None:
    """Return the input ``choice``.

    :param how: key of :data:`CHOICES`.
    :param count: how many, for ``random`` and ``uncertain``.
    :param seed: random seed of ``random``.
    :param names: label these structures, and ignore the other arguments.
    :returns: None to label all predictions.
    """
    if names:
        return {'names': list(names)}
    return {'strategy': CHOICES[how], 'count': count, 'seed': seed} if CHOICES[how] else None
