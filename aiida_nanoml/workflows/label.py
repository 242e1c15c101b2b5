"""Workchain to label structures in batches, with retries and recovery of failed rows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from aiida import orm
from aiida.common import AttributeDict
from aiida.common.exceptions import EntryPointError
from aiida.engine import ExitCode, ProcessBuilder, ToContext, while_
from aiida.engine.processes.workchains.workchain import WorkChainSpec
from aiida.plugins import WorkflowFactory

from aiida_nanoml.calculations.base import optional_value
from aiida_nanoml.calculations.functions.base import MERGE_WIDTH, merge_nodes
from aiida_nanoml.calculations.functions.densities import merge_densities
from aiida_nanoml.calculations.functions.labels import merge_labels
from aiida_nanoml.calculations.functions.siesta import place_structures
from aiida_nanoml.calculations.label import LabelCalculation, validate_inputs
from aiida_nanoml.data.densities import DensitySetData
from aiida_nanoml.data.labels import LabelSetData
from aiida_nanoml.data.structures import StructureSetData
from aiida_nanoml.engines.label_set import FINISHED, LabelSet
from aiida_nanoml.engines.registry import engine_names, get_engine
from aiida_nanoml.errors import MACHINE, REFUSED, DatasetError, DensityError, EngineError, FailureCode
from aiida_nanoml.workflows.base import validate_options, validate_positive
from aiida_nanoml.workflows.builders import label_inputs_with_codes
from aiida_nanoml.workflows.rolling import RollingWorkChain

MODES = ('batch', 'single')


class LabelWorkChain(RollingWorkChain):
    """Label structures in batches, never with more than ``max_concurrent`` jobs at a time.

    Rows that the machine failed are labelled again. If the engine has a workflow for single runs, rows that failed are
    submitted to it, to be recovered. Finished batches stay usable whatever happens later: with caching on, a second run
    takes them from the graph, and ``known`` takes labels that exist already.
    """

    @classmethod
    def define(cls, spec: WorkChainSpec) -> None:
        """Define inputs, outline, outputs and exit codes."""
        super().define(spec)
        spec.expose_inputs(LabelCalculation, exclude=('rows', 'parent_folder', 'metadata'))
        spec.inputs['code'].required = False  # single runs have no worker
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
            help='Densities that exist already; if some are requested, a known label without one is computed again.',
        )
        spec.input_namespace(
            'interrupted',
            valid_type=orm.RemoteData,
            dynamic=True,
            help='Folders of killed batches whose results were not retrieved: they are continued from their journals.',
        )
        spec.input(
            'options',
            valid_type=orm.Dict,
            default=lambda: orm.Dict({}),
            serializer=orm.to_aiida_type,
            validator=validate_options,
            help='Options of each batch: resources, wall time, queue, …',
        )
        spec.input(
            'single_options',
            valid_type=orm.Dict,
            default=lambda: orm.Dict({}),
            serializer=orm.to_aiida_type,
            validator=validate_options,
            help='Options of each single run; those that are absent are derived from the options of the batches.',
        )
        spec.input(
            'batch_size',
            valid_type=orm.Int,
            default=lambda: orm.Int(100),
            serializer=orm.to_aiida_type,
            validator=validate_positive,
            help='Number of structures in one job.',
        )
        spec.input(
            'max_concurrent',
            valid_type=orm.Int,
            default=lambda: orm.Int(4),
            serializer=orm.to_aiida_type,
            validator=validate_positive,
            help='Maximum number of jobs running at once.',
        )
        spec.input(
            'max_rounds',
            valid_type=orm.Int,
            default=lambda: orm.Int(3),
            serializer=orm.to_aiida_type,
            validator=validate_positive,
            help='Maximum number of jobs of a row that made no progress.',
        )
        spec.input(
            'mode',
            valid_type=orm.Str,
            default=lambda: orm.Str('batch'),
            serializer=orm.to_aiida_type,
            validator=validate_mode,
            help='`batch`: many structures in a job, failed ones in single runs; `single`: a run for each structure.',
        )
        spec.input(
            'single_run',
            valid_type=orm.Str,
            required=False,
            serializer=orm.to_aiida_type,
            validator=validate_single_run,
            help='Entry point of the workflow of single runs, such as `nanoml.quantumespresso`; that of the engine if '
            'absent.',
        )
        spec.input(
            'retry',
            valid_type=orm.Bool,
            default=lambda: orm.Bool(False),
            serializer=orm.to_aiida_type,
            help='Label again what failed in `known`, too.',
        )
        spec.inputs.validator = validate_workflow
        spec.outline(
            cls.setup,
            while_(cls.should_run_jobs)(
                cls.run_jobs,
                cls.inspect_jobs,
            ),
            cls.merge,
            cls.results,
        )
        spec.output('labels', valid_type=LabelSetData, help='One row for each distinct structure, failed or not.')
        spec.output(
            'densities', valid_type=DensitySetData, required=False, help='One for each structure that was labelled.'
        )
        spec.exit_code(400, 'ERROR_BATCHES_FAILED', message='Batches failed and gave no labels: {reason}')
        spec.exit_code(410, 'ERROR_MERGE_REFUSED', message='The batches cannot be joined: {reason}')
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
        inputs = label_inputs_with_codes(
            code,
            engine=engine,
            elements=structures.base.attributes.get('elements'),
            protocol=protocol,
            overrides=overrides,
            options=options,
            engine_code=engine_code,
            pseudo_family=pseudo_family,
        )
        builder = cls.get_builder()
        builder.structures = structures
        for name, value in inputs.items():
            builder[name] = value
        return builder

    @classmethod
    def get_builder_to_resume(cls, node: orm.WorkChainNode) -> ProcessBuilder:
        """Return a builder that continues a terminated workflow of this kind, with the same inputs.

        Labels of its jobs are known. Jobs that gave none, killed or left by a workflow that died, are continued
        from their journals, and so are folders that it was given and that none of its jobs took up.

        :param node: the workflow: finished, failed, killed or excepted.
        """
        builder = node.get_builder_restart()
        folders = {folder.uuid: folder for folder in builder.interrupted.values()}
        labels, densities = [*builder.known.values()], [*builder.known_densities.values()]
        for job in sorted(node.called, key=lambda called: called.pk):
            if isinstance(job, orm.CalcJobNode) and 'parent_folder' in job.inputs:
                folders.pop(job.inputs.parent_folder.uuid, None)
            if 'labels' in job.outputs and not isinstance(job, orm.CalcFunctionNode):
                labels.append(job.outputs.labels)
                densities.extend([job.outputs.densities] if 'densities' in job.outputs else [])
            elif isinstance(job, orm.CalcJobNode) and 'remote_folder' in job.outputs:
                folders[job.outputs.remote_folder.uuid] = job.outputs.remote_folder
        builder.interrupted = {
            f'job_{number:03d}': folder
            for number, folder in enumerate(folder for folder in folders.values() if not _has_vanished(folder))
        }
        if labels:
            builder.known = {'labels': join_labels(labels)}
        if densities:
            builder.known_densities = {'densities': join_densities(densities)}
        return builder

    def setup(self) -> None:
        """List the distinct structures that are not labelled yet, and initialise the context.

        - ``ctx.interrupted``: killed batches to continue, with ``uuid`` of the folder and ``rows``.
        - ``ctx.batch_rows``, ``ctx.single_rows``: rows that wait for a batch, or for a single run.
        - ``ctx.placed``: UUID of the structure in its box, by row, of rows that wait for a single run.
        - ``ctx.running``: jobs at the computer, with ``uuid``, ``rows`` and whether it is a ``batch``.
        - ``ctx.rounds``: jobs without progress, by row.
        - ``ctx.known_uuids``, ``ctx.known_density_uuids``: UUIDs of the known labels and densities.
        - ``ctx.made``, ``ctx.made_densities``: PK of each job and UUID of its labels or densities.
        - ``ctx.failure``: description of the last failure.
        """
        known = [node for _, node in sorted(self.inputs.get('known', {}).items())]
        known_densities = [node for _, node in sorted(self.inputs.get('known_densities', {}).items())]
        hashes = self.inputs.structures.structures.hashes
        done = self._already_labelled(known, known_densities)
        distinct = np.sort(np.unique(hashes, return_index=True)[1]).tolist()
        rows = [row for row in distinct if hashes[row] not in done]
        if done:
            self.report(f'{len(rows)} structures to label, {len(done)} are known')
        self.ctx.interrupted = []
        for _, folder in sorted(self.inputs.get('interrupted', {}).items()):
            batch = folder.creator.inputs.rows.get_list()
            if not set(batch) <= set(rows):
                continue  # labelled since, in part: it is cheaper to label the rest in a new job
            self.ctx.interrupted.append({'uuid': folder.uuid, 'rows': batch})
            rows = [row for row in rows if row not in set(batch)]
        single = self.inputs.mode.value == 'single'
        self.ctx.batch_rows = [] if single else rows
        self.ctx.single_rows = rows if single else []
        self.ctx.placed = {}
        self.ctx.running = []
        self.ctx.rounds = dict.fromkeys(range(len(hashes)), 0)
        self.ctx.known_uuids = [node.uuid for node in known]
        self.ctx.known_density_uuids = [node.uuid for node in known_densities]
        self.ctx.made = []
        self.ctx.made_densities = []
        self.ctx.failure = 'there is nothing to label'

    def _already_labelled(self, known: list[LabelSetData], known_densities: list[DensitySetData]) -> set[str]:
        """Return the hashes of structures that are not labelled again.

        These are finished, with a density if densities are requested. Failures of the structure itself count, too,
        unless ``retry`` is set; failures of the machine do not.
        """
        with_density = [digest for node in known_densities for digest in node.hashes.tolist()]
        done: set[str] = set()
        for node in known:
            labels = node.labels
            kept = labels.finished.copy()
            if self._wants_densities():
                kept &= np.isin(labels.hashes, with_density)
            if not self.inputs.retry.value:
                kept |= ~labels.finished & ~np.isin(labels.status, list(MACHINE))
            done |= set(labels.hashes[kept].tolist())
        return done

    def should_run_jobs(self) -> bool:
        """Return whether rows wait for a job, or jobs run."""
        return bool(self.ctx.interrupted or self.ctx.batch_rows or self.ctx.single_rows or self.ctx.running)

    def run_jobs(self) -> ToContext | ExitCode | None:
        """Submit jobs until ``max_concurrent`` run, then wait until one of them ends."""
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
                # After all batches, so that the failed structures of all of them are placed in one step.
                exit_code = self._submit_single()
                if exit_code is not None:
                    return exit_code
            else:
                break
        return self.wait_for_any(job['uuid'] for job in self.ctx.running)

    def _submit_batch(self, rows: list[int], parent_folder: orm.RemoteData | None = None) -> None:
        inputs = AttributeDict(self.exposed_inputs(LabelCalculation))
        inputs.rows = orm.List(rows)
        if parent_folder is not None:
            inputs.parent_folder = parent_folder
        inputs.metadata = {'options': self.inputs.options.get_dict(), 'label': f'label {len(rows)} structures'}
        self._add_running(self.submit(LabelCalculation, **inputs), rows, batch=True)

    def _submit_single(self) -> ExitCode | None:
        row = self.ctx.single_rows[0]
        if row not in self.ctx.placed:
            exit_code = self._place(self.ctx.single_rows[:MERGE_WIDTH])
            if exit_code is not None:
                return exit_code
        self.ctx.single_rows = self.ctx.single_rows[1:]
        engine = self.inputs.engine.value
        workflow = WorkflowFactory(optional_value(self.inputs, 'single_run') or get_engine(engine).single_run)
        try:
            builder = workflow.get_builder_from_protocol(
                self.inputs.engine_code,
                orm.load_node(self.ctx.placed[row]),
                engine=engine,
                pseudos=dict(self.inputs.get('pseudos', {})),
                protocol=self.inputs.protocol.value,
                overrides=optional_value(self.inputs, 'parameters', {}),
                options=self._single_options(),
            )
        except EngineError as error:
            self.ctx.failure = f'the single run of structure {row} was refused: {error}'
            self.report(self.ctx.failure)
            return None
        builder.metadata.label = f'label structure {row}'
        self._add_running(self.submit(builder), [row], batch=False)
        return None

    def _place(self, rows: list[int]) -> ExitCode | None:
        """Make a structure in its box of each row."""
        engine = get_engine(self.inputs.engine.value)
        settings = engine.parameters(self.inputs.protocol.value, optional_value(self.inputs, 'parameters', {}))
        placed, exit_code = self.run_function(
            place_structures,
            structures=self.inputs.structures,
            rows=orm.List(rows),
            vacuum_ang=orm.Float(settings.vacuum_ang),
        )
        if exit_code is not None:
            return exit_code
        for row, name in zip(rows, sorted(placed), strict=True):
            self.ctx.placed[row] = placed[name].uuid
        return None

    def _wants_densities(self) -> bool:
        return bool(optional_value(self.inputs, 'densities', False))

    def _single_options(self) -> dict[str, Any]:
        """Return the options of the batches, with the cores and the wall time of one structure."""
        processes = optional_value(self.inputs, 'program_processes', 1)
        resources = {'num_machines': 1, 'num_mpiprocs_per_machine': processes}
        options: dict[str, Any] = self.inputs.options.get_dict() | {
            'resources': resources,
            'max_wallclock_seconds': max(600, math.ceil(2 * self.inputs.time_limit_s.value)),
            'withmpi': processes > 1,
        }
        return options | self.inputs.single_options.get_dict()

    def _add_running(self, node: orm.ProcessNode, rows: list[int], *, batch: bool) -> None:
        waiting = len(self.ctx.batch_rows) + len(self.ctx.single_rows)
        self.report(f'{node.process_label}<{node.pk}>: {len(rows)} structures, {waiting} wait')
        self.ctx.running.append({'uuid': node.uuid, 'rows': rows, 'batch': batch})

    def inspect_jobs(self) -> None:
        """Keep the labels of the jobs that ended, and queue their failed rows again."""
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
        """Queue failed rows of a batch: failures of the machine for another batch, the others for single runs."""
        statuses = [FailureCode.INTERRUPTED] * len(rows) if labels is None else labels.get_array('status').tolist()
        single = _has_single_runs(self.inputs.engine.value) and not self._wants_densities()  # single runs keep none
        retried = MACHINE - {FailureCode.TIME_LIMIT} if single else MACHINE
        progress = any(status != FailureCode.INTERRUPTED for status in statuses)
        again, alone = [], []
        for row, status in zip(rows, statuses, strict=True):
            if status in retried:
                # A job that finished some rows brings the others forward: only a job without progress counts.
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
            self.report(f'{len(alone)} structures are queued for single runs')
            self.ctx.single_rows = self.ctx.single_rows + alone

    def merge(self) -> ExitCode | None:
        """Join the labels of all jobs, in the order of submission: the order in which they ended is random."""
        labels = [orm.load_node(uuid) for uuid in self._in_order(self.ctx.known_uuids, self.ctx.made)]
        densities = [
            orm.load_node(uuid) for uuid in self._in_order(self.ctx.known_density_uuids, self.ctx.made_densities)
        ]
        if not labels:
            return self.exit_codes.ERROR_BATCHES_FAILED.format(reason=self.ctx.failure)
        try:
            self.ctx.labels = join_labels(labels)
            if self._wants_densities() and densities:
                self.ctx.densities = join_densities(densities)
        except (DatasetError, DensityError) as error:
            return self.exit_codes.ERROR_MERGE_REFUSED.format(reason=str(error))
        return None

    @staticmethod
    def _in_order(known: list[str], made: list[list[Any]]) -> list[str]:
        return [*known, *(uuid for _, uuid in sorted(made))]

    def results(self) -> ExitCode | None:
        """Output the labels and densities, even if some rows failed."""
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
    return merge_nodes(merge_labels, 'labels', nodes, DatasetError)


def join_densities(nodes: Sequence[DensitySetData]) -> DensitySetData:
    """Join stored densities through a tree of calculation functions.

    :param nodes: at least one; a single one is returned as it is.
    :raises DensityError: they come from different engines, versions or protocols.
    """
    return merge_nodes(merge_densities, 'densities', nodes, DensityError)


def _has_vanished(folder: orm.RemoteData) -> bool:
    """Return whether a folder on this machine does not exist any more; of another machine, False."""
    return folder.computer.transport_type == 'core.local' and not Path(folder.get_remote_path()).is_dir()


def _has_single_runs(engine: str) -> bool:
    """Return whether an engine has a workflow for one structure; an unknown engine has none."""
    return engine in engine_names() and bool(get_engine(engine).single_run)


def validate_single_run(workflow: orm.Str, _: Any) -> str | None:
    """Check that the workflow of single runs is installed."""
    try:
        WorkflowFactory(workflow.value)
    except EntryPointError as error:
        return f'{workflow.value} cannot be used: {error.__cause__ or error}'
    return None


def validate_mode(mode: orm.Str, _: Any) -> str | None:
    """Check the mode."""
    return None if mode.value in MODES else f'the mode is one of {", ".join(MODES)}, not {mode.value!r}'


def validate_workflow(inputs: dict[str, Any], port: Any) -> str | None:
    """Check that the engine has single runs if they are requested, that batches have a worker, and the batches."""
    engine, mode = inputs.get('engine'), inputs.get('mode')
    if engine is not None and mode is not None and mode.value == 'single' and not _has_single_runs(engine.value):
        return f'the engine {engine.value} has no single runs: use the mode batch'
    if mode is not None and mode.value == 'single' and optional_value(inputs, 'densities', False):
        return 'densities come out of batches: name the code of the worker on the computer of the program'
    if 'code' in port and 'code' not in inputs and mode is not None and mode.value == 'batch':
        return 'batches are run by the worker: name its code with `code`, or use the mode single'
    return validate_inputs(inputs, port)
