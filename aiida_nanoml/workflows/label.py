"""Workflow ``nanoml.label``."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from aiida import orm
from aiida.common import AttributeDict
from aiida.engine import ProcessBuilder, while_
from aiida.engine.processes.workchains.workchain import WorkChainSpec
from aiida.plugins import WorkflowFactory

from aiida_nanoml.calculations.base import validate_resources
from aiida_nanoml.calculations.functions.densities import merge_densities
from aiida_nanoml.calculations.functions.labels import merge_labels
from aiida_nanoml.calculations.functions.siesta import place_structures
from aiida_nanoml.calculations.label import LabelCalculation, validate_inputs
from aiida_nanoml.calculations.pseudopotentials import program_inputs
from aiida_nanoml.data.densities import DensitySetData
from aiida_nanoml.data.labels import LabelSetData
from aiida_nanoml.data.structures import StructureSetData
from aiida_nanoml.engines.label_set import FINISHED, LabelSet
from aiida_nanoml.engines.registry import get_engine
from aiida_nanoml.errors import MACHINE, REFUSED, DatasetError, DensityError, FailureCode, NanomlError
from aiida_nanoml.worker import WORKER
from aiida_nanoml.workflows.protocols import protocol_inputs, protocol_names
from aiida_nanoml.workflows.rolling import RollingWorkChain

SINGLE_RUNS = {'siesta': 'nanoml.siesta'}
"""Workflows that run one structure of an engine with recovery from errors."""

MODES = ('batch', 'single')

MERGE_WIDTH = 100
"""The cost of a calculation function grows with the square of its links: merging goes through a tree of this width."""


class LabelWorkChain(RollingWorkChain):
    """Label structures in batches, never with more than ``max_concurrent`` jobs at a time.

    Rows that failed for no fault of their own are labelled again. Where the engine has a workflow for single runs,
    rows that failed go there, to be recovered. Finished batches stay usable whatever happens later: with caching on, a
    second run takes them from the graph, and ``known`` takes labels that exist already.
    """

    @classmethod
    def define(cls, spec: WorkChainSpec) -> None:
        """Define inputs, outline, outputs and exit codes."""
        super().define(spec)
        spec.expose_inputs(LabelCalculation, exclude=('rows', 'parent_folder', 'metadata'))
        spec.input_namespace(
            'known',
            valid_type=LabelSetData,
            dynamic=True,
            help='Labels that exist already: structures that are finished there are not labelled again.',
        )
        spec.input_namespace(
            'known_densities',
            valid_type=DensitySetData,
            dynamic=True,
            help='Densities that exist already. Where some are wanted, a label that is known does not do without one.',
        )
        spec.input_namespace(
            'interrupted',
            valid_type=orm.RemoteData,
            dynamic=True,
            help='Folders of batches that were killed before their results came back: they go on from their journals.',
        )
        for name, text in (
            ('options', 'Options of each batch: resources, wall time, queue, …'),
            ('single_options', 'Options of each single run; those that are absent follow from the batches.'),
        ):
            spec.input(name, valid_type=orm.Dict, default=lambda: orm.Dict({}), help=text,
                       serializer=orm.to_aiida_type, validator=validate_options)  # fmt: skip
        for name, default, text in (
            ('batch_size', 100, 'Structures in one job.'),
            ('max_concurrent', 4, 'Jobs that are at the computer at the same time; the others wait here.'),
            ('max_rounds', 3, 'Times that a row may be in a job that finishes nothing.'),
        ):
            spec.input(name, valid_type=orm.Int, default=lambda value=default: orm.Int(value), help=text,
                       serializer=orm.to_aiida_type, validator=validate_positive)  # fmt: skip
        spec.input(
            'mode',
            valid_type=orm.Str,
            default=lambda: orm.Str('batch'),
            serializer=orm.to_aiida_type,
            validator=validate_mode,
            help='`batch`: many structures in a job, failed ones in single runs; `single`: a run for each structure.',
        )
        spec.input(
            'retry',
            valid_type=orm.Bool,
            default=lambda: orm.Bool(False),
            serializer=orm.to_aiida_type,
            help='Label again what failed in `known`, too.',
        )
        spec.inputs['code'].required = False  # single runs have no worker
        spec.inputs.validator = validate_workflow
        spec.outline(
            cls.setup,
            while_(cls.has_work)(
                cls.submit_jobs,
                cls.collect_jobs,
            ),
            cls.merge,
            cls.finalize,
        )
        spec.output('labels', valid_type=LabelSetData, help='One row for each distinct structure, failed or not.')
        spec.output(
            'densities', valid_type=DensitySetData, required=False, help='One for each structure that was labelled.'
        )
        spec.exit_code(400, 'ERROR_BATCHES_FAILED', message='Batches failed and gave no labels: {reason}')
        spec.exit_code(410, 'ERROR_MERGE_REFUSED', message='The batches cannot be joined: {reason}')
        spec.exit_code(420, 'ERROR_STEP_REFUSED', message='A step refused its input: {reason}')
        spec.exit_code(510, 'ERROR_NO_ROW_FINISHED', message='No structure could be labelled: {reason}')

    @classmethod
    def get_builder_from_protocol(
        cls,
        code: orm.AbstractCode | None,
        structures: StructureSetData,
        engine: str = 'xtb',
        protocol: str | None = None,
        overrides: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        engine_code: orm.InstalledCode | None = None,
        pseudo_family: str | None = None,
    ) -> ProcessBuilder:
        """Return a builder with the inputs of a protocol.

        :param code: the executable ``nanoml-worker``; for an engine that runs a program, this program does as well.
        :param structures: the structures to label.
        :param engine: registered name of the engine.
        :param protocol: ``fast``, ``balanced``, ``stringent`` or another one of the engine.
        :param overrides: inputs that replace those of the protocol.
        :param options: scheduler options of each batch.
        :param engine_code: the program of an engine that runs one. Without ``code``, the worker on its computer is
            taken; where there is none, each structure has a run of its own.
        :param pseudo_family: label of the family that has the pseudopotentials of the elements; None: the default one.
        :raises ProtocolError: unknown protocol or override.
        :raises EngineError: the family does not exist or lacks an element.
        """
        builder = cls.get_builder()
        builder.structures = structures
        for name, value in label_inputs(engine, protocol, overrides).items():
            builder[name] = value
        builder.options = orm.Dict(dict(options or {}))
        if get_engine(engine).runs_program and engine_code is None and code is not None and not _is_worker(code):
            code, engine_code = None, code
        if code is None and engine_code is not None:
            code = _worker_beside(engine_code)
            if code is None and not (overrides or {}).get('mode'):
                builder.mode = orm.Str('single')
        if code is not None:
            builder.code = code
        for name, value in program_inputs(
            engine_code, pseudo_family, structures.base.attributes.get('elements')
        ).items():
            builder[name] = value
        return builder

    @classmethod
    def get_builder_to_resume(cls, node: orm.WorkChainNode) -> ProcessBuilder:
        """Return a builder that goes on where a workflow of this kind ended, with the same inputs.

        What its jobs labelled is known; jobs that were killed go on from their journals.

        :param node: the workflow, which ended: finished, failed, killed or excepted.
        """
        builder = node.get_builder_restart()
        builder.interrupted = {}
        labels, densities = [*builder.known.values()], [*builder.known_densities.values()]
        for job in sorted(node.called, key=lambda called: called.pk):
            if 'labels' in job.outputs and not isinstance(job, orm.CalcFunctionNode):
                labels.append(job.outputs.labels)
                densities.extend([job.outputs.densities] if 'densities' in job.outputs else [])
            elif isinstance(job, orm.CalcJobNode) and 'remote_folder' in job.outputs:
                builder.interrupted[f'job_{len(builder.interrupted):03d}'] = job.outputs.remote_folder
        if labels:
            builder.known = {'labels': join_labels(labels)}
        if densities:
            builder.known_densities = {'densities': join_densities(densities)}
        return builder

    def setup(self) -> None:
        """Take every distinct structure once, without those that are labelled already."""
        hashes = self.inputs.structures.structures.hashes
        done: set[str] = set()
        known_densities = [node for _, node in sorted(self.inputs.get('known_densities', {}).items())]
        dense = [digest for node in known_densities for digest in node.hashes.tolist()]
        for node in self.inputs.get('known', {}).values():
            labels = node.labels
            lasting = ~np.isin(labels.status, list(MACHINE)) & (labels.finished | (not self.inputs.retry.value))
            if self._wants_densities():
                lasting &= ~labels.finished | np.isin(labels.hashes, dense)
            done |= set(labels.hashes[lasting].tolist())
        rows = [row for row in np.sort(np.unique(hashes, return_index=True)[1]).tolist() if hashes[row] not in done]
        self.ctx.interrupted = []
        for _, folder in sorted(self.inputs.get('interrupted', {}).items()):
            batch = folder.creator.inputs.rows.get_list()
            if not set(batch) <= set(rows):
                continue  # labelled since, in part: the rest is cheaper anew
            self.ctx.interrupted.append({'uuid': folder.uuid, 'rows': batch})
            rows = [row for row in rows if row not in set(batch)]
        single = self.inputs.mode.value == 'single'
        self.ctx.batch_rows = [] if single else rows
        self.ctx.single_rows = rows if single else []
        self.ctx.placed = {}
        self.ctx.running = []
        self.ctx.rounds = dict.fromkeys(range(len(hashes)), 0)
        self.ctx.known_uuids = [node.uuid for _, node in sorted(self.inputs.get('known', {}).items())]
        self.ctx.made = []
        self.ctx.known_density_uuids = [node.uuid for node in known_densities]
        self.ctx.made_densities = []
        self.ctx.failure = 'there is nothing to label'
        if done:
            self.report(f'{len(rows)} structures to label anew, {len(done)} are known')

    def has_work(self) -> bool:
        """Whether rows wait for a job, or jobs run."""
        return bool(self.ctx.interrupted or self.ctx.batch_rows or self.ctx.single_rows or self.ctx.running)

    def submit_jobs(self) -> Any:
        """Fill the free places with jobs, then wait until one of them ends."""
        while len(self.ctx.running) < self.inputs.max_concurrent.value:
            if self.ctx.interrupted:
                killed = self.ctx.interrupted.pop(0)
                self._submit_batch(killed['rows'], orm.load_node(killed['uuid']))
            elif self.ctx.batch_rows:
                n_batches = -(-len(self.ctx.batch_rows) // self.inputs.batch_size.value)
                size = -(-len(self.ctx.batch_rows) // n_batches)
                rows, self.ctx.batch_rows = self.ctx.batch_rows[:size], self.ctx.batch_rows[size:]
                self._submit_batch(rows)
            elif self.ctx.single_rows and not any(job['batch'] for job in self.ctx.running):
                # Later than all batches, so that the failures of all of them are placed in one step.
                refusal = self._submit_single()
                if refusal is not None:
                    return refusal
            else:
                break
        return self.wait_for_any(job['uuid'] for job in self.ctx.running)

    def _submit_batch(self, rows: list[int], parent_folder: orm.RemoteData | None = None) -> None:
        inputs = AttributeDict(self.exposed_inputs(LabelCalculation))
        inputs.rows = orm.List(rows)
        if parent_folder is not None:
            inputs.parent_folder = parent_folder
        inputs.metadata = {'options': self.inputs.options.get_dict(), 'label': f'label {len(rows)} structures'}
        self._started(self.submit(LabelCalculation, **inputs), rows, batch=True)

    def _submit_single(self) -> Any:
        row = self.ctx.single_rows[0]
        if row not in self.ctx.placed:
            refusal = self._place(self.ctx.single_rows[:MERGE_WIDTH])
            if refusal is not None:
                return refusal
        self.ctx.single_rows = self.ctx.single_rows[1:]
        workflow = WorkflowFactory(SINGLE_RUNS[self.inputs.engine.value])
        builder = workflow.get_builder_from_protocol(
            self.inputs.engine_code,
            orm.load_node(self.ctx.placed[row]),
            pseudos=dict(self.inputs.pseudos),
            protocol=self.inputs.protocol.value,
            overrides=self._overrides(),
            options=self._single_options(),
        )
        builder.metadata.label = f'label structure {row}'
        self._started(self.submit(builder), [row], batch=False)
        return None

    def _place(self, rows: list[int]) -> Any:
        engine = get_engine(self.inputs.engine.value)
        settings = engine.parameters(self.inputs.protocol.value, self._overrides())
        placed, node = place_structures.run_get_node(
            structures=self.inputs.structures, rows=orm.List(rows), vacuum_ang=orm.Float(settings.vacuum_ang)
        )
        if not node.is_finished_ok:
            return self.exit_codes.ERROR_STEP_REFUSED.format(reason=node.exit_message)
        for row, name in zip(rows, sorted(placed), strict=True):
            self.ctx.placed[row] = placed[name].uuid
        return None

    def _wants_densities(self) -> bool:
        return 'densities' in self.inputs and self.inputs.densities.value

    def _overrides(self) -> dict[str, Any]:
        return self.inputs.parameters.get_dict() if 'parameters' in self.inputs else {}

    def _single_options(self) -> dict[str, Any]:
        """Options of the batches, with the cores and the time of one structure."""
        processes = self.inputs.program_processes.value if 'program_processes' in self.inputs else 1
        resources = {'num_machines': 1, 'num_mpiprocs_per_machine': processes}
        options: dict[str, Any] = self.inputs.options.get_dict() | {
            'resources': resources,
            'max_wallclock_seconds': max(600, math.ceil(2 * self.inputs.time_limit_s.value)),
            'withmpi': processes > 1,
        }
        return options | self.inputs.single_options.get_dict()

    def _started(self, node: orm.ProcessNode, rows: list[int], *, batch: bool) -> None:
        waiting = len(self.ctx.batch_rows) + len(self.ctx.single_rows)
        self.report(f'{node.process_label}<{node.pk}>: {len(rows)} structures, {waiting} wait')
        self.ctx.running.append({'uuid': node.uuid, 'rows': rows, 'batch': batch})

    def collect_jobs(self) -> None:
        """Keep what the ended jobs labelled, and queue again what failed in them."""
        running = []
        for job in self.ctx.running:
            node = orm.load_node(job['uuid'])
            if not node.is_terminated:
                running.append(job)
                continue
            if not node.is_finished_ok:
                self.ctx.failure = f'{node.process_label}<{node.pk}> {node.exit_message or "failed"}'
                self.report(self.ctx.failure)
            labels = node.outputs.labels if 'labels' in node.outputs else None
            if labels is not None:
                self.ctx.made.append([node.pk, labels.uuid])
            if 'densities' in node.outputs:
                self.ctx.made_densities.append([node.pk, node.outputs.densities.uuid])
            if job['batch']:
                self._queue_again(job['rows'], labels)
        self.ctx.running = running

    def _queue_again(self, rows: list[int], labels: LabelSetData | None) -> None:
        statuses = [FailureCode.INTERRUPTED] * len(rows) if labels is None else labels.get_array('status').tolist()
        single = self.inputs.engine.value in SINGLE_RUNS and not self._wants_densities()  # those give none
        retried = MACHINE - {FailureCode.TIME_LIMIT} if single else MACHINE
        progress = any(status != FailureCode.INTERRUPTED for status in statuses)
        again, alone = [], []
        for row, status in zip(rows, statuses, strict=True):
            if status in retried:
                # A job that got through some rows brings the others forward: only a fruitless round counts.
                self.ctx.rounds[row] += not (progress and status == FailureCode.INTERRUPTED)
                if self.ctx.rounds[row] < self.inputs.max_rounds.value:
                    again.append(row)
                    continue
            if single and status != FINISHED and status not in REFUSED:
                alone.append(row)
        if again:
            self.report(f'{len(again)} structures are labelled again')
            self.ctx.batch_rows = again + self.ctx.batch_rows
        if alone:
            self.report(f'{len(alone)} structures go to single runs')
            self.ctx.single_rows = self.ctx.single_rows + alone

    def merge(self) -> Any:
        """Join what all jobs made, in the order of their submission and not of their ends, which chance decides."""
        nodes, densities = (
            [orm.load_node(uuid) for uuid in (*known, *(uuid for _, uuid in sorted(made)))]
            for known, made in (
                (self.ctx.known_uuids, self.ctx.made),
                (self.ctx.known_density_uuids, self.ctx.made_densities),
            )
        )
        if not nodes:
            return self.exit_codes.ERROR_BATCHES_FAILED.format(reason=self.ctx.failure)
        try:
            self.ctx.labels = join_labels(nodes)
            if self._wants_densities() and densities:
                self.ctx.densities = join_densities(densities)
        except (DatasetError, DensityError) as error:
            return self.exit_codes.ERROR_MERGE_REFUSED.format(reason=str(error))
        return None

    def finalize(self) -> Any:
        """Hand out the labels, even when some rows failed."""
        labels = self.ctx.labels
        self.out('labels', labels)
        if 'densities' in self.ctx:
            self.out('densities', self.ctx.densities)
        attributes = labels.base.attributes
        self.report(
            f'{attributes.get("n_finished")} of {attributes.get("n_rows")} structures labelled; '
            f'{attributes.get("failures")}'
        )
        if attributes.get('n_finished') == 0:
            messages = LabelSet.from_arrays(labels.label_source, labels.arrays).messages
            return self.exit_codes.ERROR_NO_ROW_FINISHED.format(reason=str(messages[0]))
        return None


def join_labels(nodes: Sequence[LabelSetData]) -> LabelSetData:
    """Join stored label sets through a tree of calculation functions.

    :param nodes: at least one; a single one is returned as it is.
    :raises DatasetError: they come from different engines, versions or protocols.
    """
    return _join(merge_labels, 'labels', nodes, DatasetError)


def join_densities(nodes: Sequence[DensitySetData]) -> DensitySetData:
    """Do the same with stored densities.

    :param nodes: at least one; a single one is returned as it is.
    :raises DensityError: they come from different engines, versions or protocols.
    """
    return _join(merge_densities, 'densities', nodes, DensityError)


def _join(function: Any, prefix: str, nodes: Sequence[orm.Data], refusal: type[NanomlError]) -> Any:
    level = list(nodes)
    while len(level) > 1:
        merged = []
        for start in range(0, len(level), MERGE_WIDTH):
            group = level[start : start + MERGE_WIDTH]
            if len(group) == 1:
                merged.extend(group)
                continue
            joined, process = function.run_get_node(
                **{f'{prefix}_{number:03d}': node for number, node in enumerate(group)}
            )
            if not process.is_finished_ok:
                raise refusal(process.exit_message)
            merged.append(joined)
        level = merged
    return level[0]


def label_inputs(
    engine: str, protocol: str | None = None, overrides: Mapping[str, Any] | None = None
) -> dict[str, orm.Data]:
    """Return the inputs of the workflow that a protocol decides.

    :param engine: registered name of the engine.
    :param protocol: ``fast``, ``balanced``, ``stringent``, or another one that the engine has.
    :param overrides: inputs that replace those of the protocol.
    :raises ProtocolError: unknown protocol or override.
    """
    own = (
        protocol is not None and protocol not in protocol_names('label') and protocol in get_engine(engine).protocols()
    )
    inputs = protocol_inputs('label', None if own else protocol, overrides)
    nodes: dict[str, orm.Data] = {
        'engine': orm.Str(engine),
        'protocol': orm.Str(protocol if own else inputs['engine_protocol']),
        'time_limit_s': orm.Float(inputs['time_limit_s']),
        'mode': orm.Str(inputs['mode']),
    }
    if inputs['parameters']:
        nodes['parameters'] = orm.Dict(inputs['parameters'])
    if inputs['program_processes'] is not None:
        nodes['program_processes'] = orm.Int(inputs['program_processes'])
    if inputs['densities']:
        nodes['densities'] = orm.Bool(inputs['densities'])
    if inputs['mesh_spacing_ang'] is not None:
        nodes['mesh_spacing_ang'] = orm.Float(inputs['mesh_spacing_ang'])
    return nodes | {name: orm.Int(inputs[name]) for name in ('batch_size', 'max_concurrent', 'max_rounds')}


def define_options(spec: WorkChainSpec) -> None:
    """Define the options of the jobs of a workflow."""
    spec.input('options', valid_type=orm.Dict, default=lambda: orm.Dict({}), serializer=orm.to_aiida_type,
               validator=validate_options, help='Options of each job: resources, wall time, queue, …')  # fmt: skip


def validate_options(options: orm.Dict, port: Any) -> str | None:
    """Refuse options that no job can have."""
    return validate_resources(options.get_dict().get('resources'), port)


def validate_positive(number: orm.Int, _: Any) -> str | None:
    """Refuse numbers below one."""
    return None if number.value >= 1 else f'must be at least 1, got {number.value}'


def validate_mode(mode: orm.Str, _: Any) -> str | None:
    """Refuse unknown modes."""
    return None if mode.value in MODES else f'the mode is one of {", ".join(MODES)}, not {mode.value!r}'


def validate_workflow(inputs: dict[str, Any], port: Any) -> str | None:
    """Refuse what no batch takes, and single runs of an engine that has none."""
    engine, mode = inputs.get('engine'), inputs.get('mode')
    if engine is not None and mode is not None and mode.value == 'single' and engine.value not in SINGLE_RUNS:
        return f'the engine {engine.value} has no single runs: use the mode batch'
    if mode is not None and mode.value == 'single' and 'densities' in inputs and inputs['densities'].value:
        return 'densities come out of batches: name the code of the worker on the computer of the program'
    if 'code' in port and 'code' not in inputs and mode is not None and mode.value == 'batch':
        return 'batches are run by the worker: name its code with `code`, or use the mode single'
    return validate_inputs(inputs, port)


def _is_worker(code: orm.AbstractCode) -> bool:
    return code.label == WORKER or PurePosixPath(str(getattr(code, 'filepath_executable', ''))).name == WORKER


def _worker_beside(program: orm.InstalledCode) -> orm.AbstractCode | None:
    query = orm.QueryBuilder().append(orm.Computer, filters={'id': program.computer.pk}, tag='computer')
    query.append(orm.AbstractCode, with_computer='computer', filters={'label': WORKER}, tag='code')
    codes = query.order_by({'code': {'ctime': 'desc'}}).all(flat=True)
    return next((code for code in codes if not code.is_hidden), None)
