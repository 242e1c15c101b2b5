"""Base class of the calculation jobs that run a task of ``nanoml-worker``, and what their inputs have in common."""

from __future__ import annotations

import io
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from aiida import orm
from aiida.common.datastructures import CalcInfo, CodeInfo
from aiida.common.folders import Folder
from aiida.engine import CalcJob, CalcJobProcessSpec, ExitCode
from pydantic import BaseModel

from aiida_nanoml.calculations.output_names import NamedOutputs
from aiida_nanoml.worker.schemas import ERROR_FILE, JOB_FILE, OUTPUT_FILE, REPORT_FILE

RUN_FAILURES = {
    'ERROR_OUTPUT_MISSING': (300, 'The run left no output: {reason}'),
    'ERROR_OUTPUT_INVALID': (301, 'The output of the run cannot be read: {reason}'),
    'ERROR_OUTPUT_TRUNCATED': (310, 'The output ends in the middle: {reason}'),
    'ERROR_WALL_TIME': (400, 'The wall time did not suffice: {reason}'),
    'ERROR_OUT_OF_MEMORY': (410, 'The memory did not suffice: {reason}'),
    'ERROR_DISK_FULL': (420, 'The files could not be written: {reason}'),
    'ERROR_NODE_FAILURE': (430, 'A machine failed during the run: {reason}'),
    'ERROR_STOPPED': (500, 'The program stopped itself: {reason}'),
}
"""Exit codes of the run of a program for one structure, whatever the program: status and message."""


class WorkerCalculation(NamedOutputs, CalcJob):
    """Run one task of ``nanoml-worker`` in one job on one machine."""

    TASK: ClassVar[str]
    """Command of ``nanoml-worker``, and name of the calculation and its parser."""

    _TEMPORARY_FILES: ClassVar[tuple[str, ...]] = ()
    """Files and folders that the parser turns into nodes: retrieved for it, and not stored."""

    @classmethod
    def define(cls, spec: CalcJobProcessSpec) -> None:
        """Define the inputs and exit codes that all tasks share."""
        super().define(spec)
        spec.input(
            'code',
            valid_type=orm.AbstractCode,
            validator=validate_code,
            help='The executable nanoml-worker on some computer.',
        )
        options = spec.inputs['metadata']['options']
        options['parser_name'].default = f'nanoml.{cls.TASK}'
        options['resources'].default = lambda: {'num_machines': 1, 'num_mpiprocs_per_machine': 1}
        options['resources'].validator = validate_resources
        options['withmpi'].default = False
        # A full disk or a killed node passes: the same job is run again, not taken from the cache with its failure.
        spec.exit_code(300, 'ERROR_REPORT_MISSING', message='The job left no report: {reason}', invalidates_cache=True)
        spec.exit_code(
            301,
            'ERROR_REPORT_INVALID',
            message='The report of the job cannot be read: {reason}',
            invalidates_cache=True,
        )
        spec.exit_code(
            302,
            'ERROR_RESULTS_INVALID',
            message='The results of the job cannot be read: {reason}',
            invalidates_cache=True,
        )
        spec.exit_code(
            400, 'ERROR_INTERRUPTED', message='The job was stopped before its end; what was finished is kept: {reason}'
        )
        spec.exit_code(
            410, 'ERROR_WORKER_FAILED', message='The worker failed unexpectedly: {reason}', invalidates_cache=True
        )
        spec.exit_code(500, 'ERROR_INPUT_REFUSED', message='The worker refused its input: {reason}')

    @abstractmethod
    def job_content(self) -> BaseModel:
        """Return the content of ``job.json``."""

    @abstractmethod
    def write_arrays(self, folder: Folder) -> list[str]:
        """Write the input arrays and return their file names, which are not stored again: they are input nodes."""

    def prepare_for_submission(self, folder: Folder) -> CalcInfo:
        """Write ``job.json`` and the arrays; retrieve report, output and error stream, the others temporarily."""
        with folder.open(JOB_FILE, 'w', encoding='utf-8') as handle:
            handle.write(self.job_content().model_dump_json(indent=2) + '\n')
        codeinfo = CodeInfo()
        codeinfo.code_uuid = self.inputs.code.uuid
        codeinfo.cmdline_params = [self.TASK, '--processes', str(count_processes(self.options.resources))]
        codeinfo.stdout_name = OUTPUT_FILE
        codeinfo.stderr_name = ERROR_FILE
        calcinfo = CalcInfo()
        calcinfo.codes_info = [codeinfo]
        calcinfo.provenance_exclude_list = self.write_arrays(folder)
        calcinfo.retrieve_list = [REPORT_FILE, OUTPUT_FILE, ERROR_FILE]
        calcinfo.retrieve_temporary_list = list(self._TEMPORARY_FILES)
        return calcinfo


def define_run_failures(spec: CalcJobProcessSpec) -> None:
    """Define the option ``recovery`` of the run of a program for one structure, and :data:`RUN_FAILURES`."""
    spec.input(
        'metadata.options.recovery',
        valid_type=str,
        required=False,
        help='What was changed after an earlier run failed; it is stored in the message of the label.',
    )
    for name, (status, message) in RUN_FAILURES.items():
        spec.exit_code(status, name, message=message)


def run_failure(name: str) -> ExitCode:
    """Return the exit code of one of :data:`RUN_FAILURES`, for a handler of it."""
    return ExitCode(*RUN_FAILURES[name])


def optional_value(inputs: Mapping[str, Any], name: str, default: Any = None) -> Any:
    """Return the value of an optional input: a mapping of a ``Dict``, else a number, text or boolean.

    :param inputs: inputs of a process or a builder, or those that a validator is given.
    :param name: name of the input.
    :param default: returned if the input is absent.
    """
    node = inputs.get(name)
    if node is None:
        return default
    return node.get_dict() if isinstance(node, orm.Dict) else node.value


def count_processes(resources: Mapping[str, Any]) -> int:
    """Return the number of processes that a job may run: MPI slots times cores of each."""
    return int(resources.get('num_mpiprocs_per_machine') or 1) * int(resources.get('num_cores_per_mpiproc') or 1)


def validate_code(code: orm.AbstractCode, _: Any) -> str | None:
    """Check that the computer is configured: AiiDA would try to connect for minutes, then pause the job."""
    computer = code.computer
    if computer is None or computer.is_configured:
        return None
    return (
        f'the computer {computer.label!r} of {code.full_label} is not configured: run `verdi computer configure '
        f'{computer.transport_type} {computer.label}`'
    )


def validate_resources(resources: Any, _: Any) -> str | None:
    """Check that one machine is requested: the worker uses the cores of one."""
    if isinstance(resources, Mapping) and int(resources.get('num_machines', 1)) != 1:
        return f'num_machines is {resources["num_machines"]}: one job uses one machine; submit more batches instead'
    return None


def validate_rows(rows: Sequence[Any], n_rows: int) -> str | None:
    """Return what is wrong with a choice of rows: it needs at least one, each exists, none comes twice.

    :param rows: indices, counted from 0.
    :param n_rows: number of rows to choose from.
    """
    outside = [row for row in rows if type(row) is not int or not 0 <= row < n_rows]
    if outside:
        return f'row {outside[0]!r} does not exist: there are {n_rows} rows, counted from 0'
    if not rows or len(set(rows)) != len(rows):
        return f'rows must be at least one index, without repetition; got {list(rows[:10])}'
    return None


def write_npz(folder: Folder, name: str, arrays: Mapping[str, Any]) -> None:
    """Write arrays into a compressed NPZ file of a job folder."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    buffer.seek(0)
    folder.create_file_from_filelike(buffer, name, mode='wb')
