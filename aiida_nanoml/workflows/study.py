"""Workchain to run a study: all its models, on a data set for each seed, and a table with means over the seeds."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Mapping
from typing import Any

from aiida import orm
from aiida.engine import ExitCode, ProcessBuilder, ToContext, while_
from aiida.engine.processes.workchains.workchain import WorkChainSpec

from aiida_nanoml.calculations.base import optional_value, validate_code
from aiida_nanoml.calculations.functions.datasets import assemble_dataset
from aiida_nanoml.calculations.functions.studies import family_structures, tabulate_study
from aiida_nanoml.calculations.study import StudyCalculation, study_inputs, study_of_inputs
from aiida_nanoml.data.labels import LabelSetData
from aiida_nanoml.data.structures import StructureSetData
from aiida_nanoml.errors import NanomlError
from aiida_nanoml.learning.splits import split_parameters
from aiida_nanoml.learning.targets import choose_targets
from aiida_nanoml.workflows.base import failure_of, validate_options, validate_positive
from aiida_nanoml.workflows.rolling import RollingWorkChain

DEFAULT_SPLIT = {'validation': 0.2, 'test': 0.2, 'by_family': True}
SPLIT_PARAMETERS = (*DEFAULT_SPLIT, 'group')
ATTEMPTS = 3
"""Maximum number of jobs of a data set that were killed."""

RESTARTED = (
    StudyCalculation.exit_codes.ERROR_REPORT_MISSING.status,
    StudyCalculation.exit_codes.ERROR_INTERRUPTED.status,
)
"""Exit statuses of a job that was killed."""


class StudyWorkChain(RollingWorkChain):
    """Train models against features, families, rows or hyperparameters, over repeated seeds, and compare their errors.

    Every seed has a split and, if the descriptor draws or learns something, columns of its own: a data set, on which
    one job trains all models of the study. A study of single families has a data set for each.
    """

    @classmethod
    def define(cls, spec: WorkChainSpec) -> None:
        """Define inputs, outline, outputs and exit codes."""
        super().define(spec)
        spec.expose_inputs(StudyCalculation, include=('study', 'settings', 'kind', 'hyperparameters', 'allow_leakage'))
        spec.input('structures', valid_type=StructureSetData, help='Labelled structures.')
        spec.input('labels', valid_type=LabelSetData, help='Labels of these structures.')
        spec.input(
            'baseline',
            valid_type=LabelSetData,
            required=False,
            help='Labels from a cheaper engine: models learn the correction to it.',
        )
        spec.input('code', valid_type=orm.AbstractCode, validator=validate_code, help='The executable nanoml-worker.')
        spec.input('descriptor', valid_type=orm.Dict, help='`name` and `params` of the descriptor.')
        spec.input(
            'split',
            valid_type=orm.Dict,
            default=lambda: orm.Dict(DEFAULT_SPLIT),
            validator=validate_split,
            serializer=orm.to_aiida_type,
            help='Shares, `group` and `by_family` of the splits.',
        )
        spec.input(
            'targets',
            valid_type=orm.Dict,
            required=False,
            validator=validate_targets,
            serializer=orm.to_aiida_type,
            help='`target` and `others`; the gap if absent.',
        )
        spec.input(
            'atoms',
            valid_type=LabelSetData,
            required=False,
            help='Labels of isolated atoms, for cohesive energies.',
        )
        spec.input(
            'seeds',
            valid_type=orm.List,
            default=lambda: orm.List([0, 1, 2]),
            validator=validate_seeds,
            serializer=orm.to_aiida_type,
            help='Seeds of the repetitions: of the split, the descriptor and the models.',
        )
        spec.input(
            'max_concurrent',
            valid_type=orm.Int,
            default=lambda: orm.Int(2),
            validator=validate_positive,
            serializer=orm.to_aiida_type,
            help='Maximum number of jobs running at once.',
        )
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
            while_(cls.should_run_jobs)(
                cls.run_jobs,
                cls.inspect_jobs,
            ),
            cls.results,
        )
        spec.output('table', valid_type=orm.ArrayData, help='All rows: an array for each column.')
        spec.output('summary', valid_type=orm.ArrayData, help='Means and standard deviations over the seeds.')
        spec.output('files', valid_type=orm.FolderData, help='The figure, and the tables as CSV.')
        spec.exit_code(401, 'ERROR_JOB_FAILED', message='Jobs of the study failed; the table lacks them: {reason}')
        spec.exit_code(402, 'ERROR_NO_ROWS', message='No job of the study gave results: {reason}')

    @classmethod
    def get_builder_for(
        cls,
        study: str,
        code: orm.AbstractCode,
        structures: StructureSetData,
        labels: LabelSetData,
        settings: Mapping[str, Any] | None = None,
        descriptor: Mapping[str, Any] | None = None,
        kind: str | None = None,
        hyperparameters: Mapping[str, Any] | None = None,
        targets: Mapping[str, Any] | None = None,
    ) -> ProcessBuilder:
        """Return a builder with the defaults of the study.

        :param study: registered name of the study.
        :param code: the executable ``nanoml-worker``.
        :param structures: labelled structures.
        :param labels: their labels.
        :param settings: settings that replace those of the study.
        :param descriptor: ``name`` and ``params``; None: that of the study.
        :param kind: kind of model; None: one that trains in seconds, or `alloy` for other targets than the gap.
        :param hyperparameters: hyperparameters that replace those of the kind.
        :param targets: ``target`` and ``others``; None: the gap.
        :raises DatasetError: there is no such study.
        """
        from aiida_nanoml.learning.studies import STUDIES
        from aiida_nanoml.learning.studies.base import DEFAULT_KIND

        builder = cls.get_builder()
        builder.study = orm.Str(study)
        builder.code = code
        builder.structures = structures
        builder.labels = labels
        builder.descriptor = orm.Dict(dict(descriptor or STUDIES.load(study).descriptor))
        builder.kind = orm.Str(kind or ('alloy' if targets else DEFAULT_KIND))
        if targets:
            builder.targets = orm.Dict(dict(targets))
        if settings:
            builder.settings = orm.Dict(dict(settings))
        if hyperparameters:
            builder.hyperparameters = orm.Dict(dict(hyperparameters))
        return builder

    def setup(self) -> None:
        """List the data sets that are needed: one for each seed and, if the study wants it, each family.

        - ``ctx.waiting``: tasks without a job, with ``seed`` and ``family``; of a killed job also ``dataset``,
          ``attempts`` and ``parent``, the folder of the job.
        - ``ctx.running``: tasks with a job, with ``uuid`` and ``dataset`` beside these.
        - ``ctx.families``: UUIDs of the structures by family, made for the first task of each.
        - ``ctx.rows``: UUIDs of the results.
        - ``ctx.failures``, ``ctx.refusals``: descriptions of failed jobs, and of data sets that cannot be made.
        """
        study = study_of_inputs(self.inputs)
        families = self.inputs.structures.base.attributes.get('families') if study.one_family else ['']
        self.ctx.families = {}
        self.ctx.waiting = [{'seed': seed, 'family': family} for seed in self.inputs.seeds for family in families]
        self.ctx.running = []
        self.ctx.rows = []
        self.ctx.failures = []
        self.ctx.refusals = []

    def should_run_jobs(self) -> bool:
        """Return whether data sets wait for a job, or jobs run."""
        return bool(self.ctx.waiting or self.ctx.running)

    def run_jobs(self) -> ToContext | None:
        """Submit jobs until ``max_concurrent`` run, then wait until one of them ends."""
        while self.ctx.waiting and len(self.ctx.running) < self.inputs.max_concurrent.value:
            task = self.ctx.waiting[0]
            self.ctx.waiting = self.ctx.waiting[1:]
            if 'dataset' not in task:
                reason = self._assemble(task)
                if reason is not None:
                    self.report(reason)
                    self.ctx.refusals = [*self.ctx.refusals, reason]
                    continue
            self.ctx.running = [*self.ctx.running, task | {'uuid': self._submit_study(task).uuid}]
        if not self.ctx.running:
            return None
        return self.wait_for_any(task['uuid'] for task in self.ctx.running)

    def _submit_study(self, task: dict[str, Any]) -> orm.CalcJobNode:
        inputs = {name: self.inputs[name] for name in self.inputs if name in StudyCalculation.spec().inputs}
        inputs |= {'dataset': orm.load_node(task['dataset']), 'seed': orm.Int(task['seed'])}
        if 'parent' in task:
            inputs['parent_folder'] = orm.load_node(task['parent'])
        label = f'{self.inputs.study.value}, seed {task["seed"]}' + (task['family'] and f', {task["family"]}')
        inputs['metadata'] = {'options': self.inputs.options.get_dict(), 'label': label}
        node = self.submit(StudyCalculation, **inputs)
        self.report(f'{node.process_label}<{node.pk}>: {label}')
        return node

    def _assemble(self, task: dict[str, Any]) -> str | None:
        """Make the data set of a task.

        :returns: the reason why it cannot be made; None: it was made.
        """
        structures, reason = self._structures_of(task['family'])
        if reason is not None:
            return reason
        dataset, reason = self.try_function(
            assemble_dataset,
            structures=structures,
            labels=self.inputs.labels,
            descriptor=orm.Dict(with_seed(self.inputs.descriptor.get_dict(), task['seed'])),
            split=orm.Dict(completed_split(self.inputs.split.get_dict()) | {'seed': task['seed']}),
            baseline=self.inputs.get('baseline'),
            targets=self.inputs.get('targets'),
            atoms=self.inputs.get('atoms'),
        )
        if reason is None:
            task['dataset'] = dataset.uuid
        return reason

    def _structures_of(self, family: str) -> tuple[StructureSetData | None, str | None]:
        """Return the structures of a family; all of them if there is no other family, or none is named."""
        structures = self.inputs.structures
        if not family or list(rows_by_family(structures)) == [family]:
            return structures, None
        if family not in self.ctx.families:
            found, reason = self.try_function(family_structures, structures=structures, family=orm.Str(family))
            if reason is not None:
                return None, reason
            self.ctx.families = self.ctx.families | {family: found.uuid}
        return orm.load_node(self.ctx.families[family]), None

    def inspect_jobs(self) -> None:
        """Keep the rows of jobs that ended; continue killed jobs from their journals."""
        running, waiting = [], self.ctx.waiting
        for task in self.ctx.running:
            node = orm.load_node(task['uuid'])
            if not node.is_terminated:
                running.append(task)
                continue
            attempts = task.get('attempts', 0) + 1
            if node.exit_status in RESTARTED and attempts < ATTEMPTS and 'remote_folder' in node.outputs:
                self.report(f'{failure_of(node)}; it is continued')
                again = {key: task[key] for key in ('seed', 'family', 'dataset')}
                waiting = [again | {'attempts': attempts, 'parent': node.outputs.remote_folder.uuid}, *waiting]
                continue
            if 'rows' in node.outputs:
                self.ctx.rows = [*self.ctx.rows, node.outputs.rows.uuid]
            if not node.is_finished_ok:
                self.report(failure_of(node))
                self.ctx.failures = [*self.ctx.failures, failure_of(node)]
        self.ctx.running, self.ctx.waiting = running, waiting

    def results(self) -> ExitCode | None:
        """Output all rows as one table, and its figure."""
        if not self.ctx.rows:
            if self.ctx.refusals:
                return self.exit_codes.ERROR_STEP_REFUSED.format(reason=self.ctx.refusals[0])
            return self.exit_codes.ERROR_NO_ROWS.format(reason=self.ctx.failures[0])
        nodes = [orm.load_node(uuid) for uuid in self.ctx.rows]
        rows = {f'rows_{number:03d}': node for number, node in enumerate(sorted(nodes, key=_task_order))}
        made, exit_code = self.run_function(tabulate_study, study=orm.Dict(study_inputs(self.inputs)), **rows)
        if exit_code is not None:
            return exit_code
        self.out_many(made)
        if self.ctx.failures:
            return self.exit_codes.ERROR_JOB_FAILED.format(reason=self.ctx.failures[0])
        if self.ctx.refusals:
            return self.exit_codes.ERROR_STEP_REFUSED.format(reason=self.ctx.refusals[0])
        return None


def _task_order(rows: orm.ArrayData) -> tuple[int, int]:
    """Return the sort key of results that does not depend on which job ended first: seed, then submission."""
    return rows.base.attributes.get('seed'), rows.creator.pk


def with_seed(descriptor: dict[str, Any], seed: int) -> dict[str, Any]:
    """Return a descriptor with the seed of a repetition, if it takes one and none was chosen.

    :param descriptor: ``name`` and ``params``; parts of a combination are treated alike.
    """
    from aiida_nanoml.features.registry import make_descriptor

    params = dict(descriptor.get('params') or {})
    if isinstance(params.get('parts'), list):
        params['parts'] = [with_seed(part, seed) for part in params['parts']]
        return {'name': descriptor['name'], 'params': params}
    known = inspect.signature(type(make_descriptor(descriptor['name'], **params))).parameters
    return {'name': descriptor['name'], 'params': ({'seed': seed} if 'seed' in known else {}) | params}


def rows_by_family(structures: StructureSetData) -> Counter[str]:
    """Return the number of structures of each family."""
    return Counter(structures.get_array('families').tolist())


def validate_seeds(seeds: orm.List, _: Any) -> str | None:
    """Check that seeds are different whole numbers from 0."""
    values = seeds.get_list()
    if not values or any(type(seed) is not int or seed < 0 for seed in values) or len(set(values)) != len(values):
        return f'seeds must be different whole numbers from 0, at least one; got {values}'
    return None


def validate_split(split: orm.Dict, _: Any) -> str | None:
    """Check the parameters of the split, which has no seed: every repetition has its own."""
    unknown = sorted(set(split.get_dict()) - set(SPLIT_PARAMETERS))
    if unknown:
        return f'a split of a study has no parameter {", ".join(unknown)}; it has {", ".join(SPLIT_PARAMETERS)}'
    try:
        completed_split(split.get_dict())
    except NanomlError as error:
        return str(error)
    return None


def completed_split(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters of a split, but for the seed, with their defaults.

    :raises DatasetError: an unknown parameter or group.
    """
    wanted = split_parameters(given)
    return {name: wanted[name] for name in DEFAULT_SPLIT} | ({'group': given['group']} if 'group' in given else {})


def validate_targets(targets: orm.Dict | None, _: Any) -> str | None:
    """Check that the targets are known."""
    try:
        choose_targets({} if targets is None else targets.get_dict())
    except NanomlError as error:
        return str(error)
    return None


def validate_inputs(inputs: dict[str, Any], _: Any) -> str | None:
    """Check settings, model, number of rows and families, before anything is computed."""
    if not {'study', 'kind', 'structures', 'descriptor'} <= set(inputs):
        return None  # the ports themselves complain
    descriptor = inputs['descriptor'].get_dict()
    if not isinstance(descriptor.get('name'), str) or set(descriptor) - {'name', 'params'}:
        return f'a descriptor is chosen by `name` and `params`, got {descriptor}'
    try:
        split = completed_split(optional_value(inputs, 'split', {}))
        with_seed(descriptor, 0)
        study = study_of_inputs(inputs)
        _, others = choose_targets(optional_value(inputs, 'targets', {}))
        study.model.make(0).check_targets(1 + len(others))
        study.check(rows_by_family(inputs['structures']), 1 - float(split['validation']) - float(split['test']))
    except NanomlError as error:
        return str(error)
    return None
