"""Calculation job to label a batch of structures with one engine."""

from __future__ import annotations

import math
from pathlib import PurePosixPath
from typing import Any

from aiida import orm
from aiida.common.datastructures import CalcInfo
from aiida.common.folders import Folder
from aiida.engine import CalcJobProcessSpec
from aiida_pseudo.data.pseudo.pseudo import PseudoPotentialData

from aiida_nanoml.calculations.base import WorkerCalculation, count_processes, optional_value, validate_rows, write_npz
from aiida_nanoml.calculations.pseudopotentials import validate_pseudos
from aiida_nanoml.data.densities import DensitySetData
from aiida_nanoml.data.labels import LabelSetData
from aiida_nanoml.data.structures import StructureSetData
from aiida_nanoml.engines.base import Engine, EngineParameters
from aiida_nanoml.engines.registry import get_engine
from aiida_nanoml.errors import EngineError, NanomlError
from aiida_nanoml.worker.schemas import DENSITIES_FOLDER, JOURNAL_FILE, RESULTS_FILE, STRUCTURES_FILE, LabelJob

MESH_SPACING = 'mesh_spacing_ang'
"""Input of the job, and field of ``Engine.Runtime`` of engines that do not choose the mesh of a density themselves."""


class LabelCalculation(WorkerCalculation):
    """Label a batch of structures with one engine; a row that fails does not affect the others."""

    TASK = 'label'
    _TEMPORARY_FILES = (RESULTS_FILE, JOURNAL_FILE)

    @classmethod
    def define(cls, spec: CalcJobProcessSpec) -> None:
        """Define inputs, outputs and exit codes."""
        super().define(spec)
        spec.input('structures', valid_type=StructureSetData, help='The structures, of which `rows` are labelled.')
        spec.input('rows', valid_type=orm.List, required=False, help='Indices of the rows to label; all if absent.')
        spec.input('engine', valid_type=orm.Str, serializer=orm.to_aiida_type, help='Registered name of the engine.')
        spec.input('protocol', valid_type=orm.Str, serializer=orm.to_aiida_type, help='Protocol of the engine.')
        spec.input(
            'parameters',
            valid_type=orm.Dict,
            required=False,
            serializer=orm.to_aiida_type,
            help='Parameters of the engine that replace those of the protocol.',
        )
        spec.input(
            'time_limit_s',
            valid_type=orm.Float,
            default=lambda: orm.Float(600.0),
            serializer=orm.to_aiida_type,
            help='Wall time in seconds that one structure may take.',
        )
        spec.input(
            'engine_code',
            valid_type=orm.InstalledCode,
            required=False,
            help='The program that the engine runs, such as SIESTA, on the computer of `code`.',
        )
        spec.input_namespace(
            'pseudos',
            valid_type=PseudoPotentialData,
            dynamic=True,
            help='Pseudopotentials by element, for engines that need them.',
        )
        spec.input(
            'program_processes',
            valid_type=orm.Int,
            required=False,
            serializer=orm.to_aiida_type,
            help='MPI processes of the program for one structure; one if absent. The job shares its cores among as '
            'many structures as fit.',
        )
        spec.input(
            'densities',
            valid_type=orm.Bool,
            required=False,
            serializer=orm.to_aiida_type,
            help='Keep the density of each structure, too, if the engine computes one.',
        )
        spec.input(
            'mesh_spacing_ang',
            valid_type=orm.Float,
            required=False,
            serializer=orm.to_aiida_type,
            help='Mesh spacing of a density in Å, for engines that let it be chosen; that of the engine if absent.',
        )
        spec.input(
            'parent_folder',
            valid_type=orm.RemoteData,
            required=False,
            help='Folder of a killed job with the same rows: the worker continues from its journal.',
        )
        spec.inputs.validator = validate_inputs
        spec.output('labels', valid_type=LabelSetData, help='One row for each structure, failed ones included.')
        spec.output(
            'densities', valid_type=DensitySetData, required=False, help='One for each structure that was labelled.'
        )
        spec.exit_code(510, 'ERROR_NO_ROW_FINISHED', message='No structure could be labelled: {reason}')

    def job_content(self) -> LabelJob:
        """Return engine, protocol, parameters and time limit."""
        return LabelJob(
            engine=self.inputs.engine.value,
            protocol=self.inputs.protocol.value,
            parameters=optional_value(self.inputs, 'parameters', {}),
            time_limit_s=self.inputs.time_limit_s.value,
            runtime=self._runtime(),
            densities=optional_value(self.inputs, 'densities', False),
        )

    def prepare_for_submission(self, folder: Folder) -> CalcInfo:
        """Write the job folder, with journal and pseudopotentials, and share the cores among runs of a program."""
        calcinfo = super().prepare_for_submission(folder)
        keeps_densities = optional_value(self.inputs, 'densities', False)
        if 'parent_folder' in self.inputs:
            parent = self.inputs.parent_folder
            # A pattern, as a job that was killed early has no journal yet.
            names = (JOURNAL_FILE, DENSITIES_FOLDER) if keeps_densities else (JOURNAL_FILE,)
            calcinfo.remote_copy_list = [
                (parent.computer.uuid, str(PurePosixPath(parent.get_remote_path()) / f'{name}*'), '.') for name in names
            ]
        if keeps_densities:
            calcinfo.retrieve_temporary_list.append(DENSITIES_FOLDER)
        if 'engine_code' not in self.inputs:
            return calcinfo
        calcinfo.local_copy_list = [
            (pseudo.uuid, pseudo.filename, self._pseudo_path(element, pseudo))
            for element, pseudo in self.inputs.get('pseudos', {}).items()
        ]
        runs = max(1, count_processes(self.options.resources) // self._program_processes())
        calcinfo.codes_info[0].cmdline_params = [self.TASK, '--processes', str(runs)]
        return calcinfo

    def _runtime(self) -> dict[str, Any]:
        """Return what the engine must know of this computer: the program, its launcher, files and mesh."""
        runtime: dict[str, Any] = {}
        if MESH_SPACING in self.inputs:
            runtime[MESH_SPACING] = self.inputs[MESH_SPACING].value
        if 'engine_code' in self.inputs:
            runtime['executable'] = str(self.inputs.engine_code.filepath_executable)
            runtime['launcher'] = launcher(self.inputs.engine_code, self._program_processes())
        if pseudos := self.inputs.get('pseudos'):
            runtime['pseudopotentials'] = {
                element: self._pseudo_path(element, pseudo) for element, pseudo in pseudos.items()
            }
        return runtime

    def _program_processes(self) -> int:
        return int(optional_value(self.inputs, 'program_processes', 1))

    @staticmethod
    def _pseudo_path(element: str, pseudo: PseudoPotentialData) -> str:
        return f'pseudos/{element}{PurePosixPath(pseudo.filename).suffix}'

    def write_arrays(self, folder: Folder) -> list[str]:
        """Write the chosen structures."""
        structures = self.inputs.structures.structures
        if 'rows' in self.inputs:
            structures = structures.select(self.inputs.rows.get_list())
        write_npz(folder, STRUCTURES_FILE, structures.to_arrays())
        return [STRUCTURES_FILE]


def launcher(code: orm.InstalledCode, processes: int) -> list[str]:
    """Return the command, before the program itself, that launches a program inside an allocation.

    :param code: the program; its computer knows the command that starts MPI programs.
    :param processes: MPI processes of one run. Without MPI, of one process, a program is started directly.
    """
    if not (code.with_mpi or (code.with_mpi is None and processes > 1)):
        return []
    words = [word.format(tot_num_mpiprocs=processes) for word in code.computer.get_mpirun_command()]
    if PurePosixPath(words[0]).name != 'srun':
        return words
    # Steps run side by side in an allocation of Slurm only when each takes just the cores that it needs, which are one
    # a process whatever the job says, and none reserves the memory of the job.
    shared = [
        option
        for option in ('--exact', '--cpus-per-task=1', '--mem=0')
        if not any(word.startswith(option.partition('=')[0]) for word in words)
    ]
    return [words[0], *shared, *words[1:]]


def validate_inputs(inputs: dict[str, Any], _: Any) -> str | None:
    """Check engine, program, densities, rows and time limit, before anything is submitted."""
    if 'engine' not in inputs or 'protocol' not in inputs:
        return None  # the ports themselves complain
    try:
        engine = get_engine(inputs['engine'].value)
        parameters = engine.parameters(inputs['protocol'].value, optional_value(inputs, 'parameters', {}))
    except NanomlError as error:
        return str(error)
    return (
        _validate_program(inputs, engine)
        or _validate_pseudos(inputs, engine, parameters)
        or _validate_densities(inputs, engine)
        or _validate_rows(inputs)
        or _validate_time_limit(inputs)
    )


def _validate_program(inputs: dict[str, Any], engine: type[Engine]) -> str | None:
    """Check that a program is given if the engine runs one, and that it is on the computer of the worker."""
    given = [name for name in ('engine_code', 'pseudos', 'program_processes') if inputs.get(name)]
    if not engine.runs_program:
        return f'the engine {engine.name} runs no program: leave out {", ".join(given)}' if given else None
    if 'engine_code' not in inputs:
        return f'the engine {engine.name} runs a program: name its code, such as {engine.name}@cluster'
    program, code = inputs['engine_code'], inputs.get('code')
    if code is not None and code.computer is not None and program.computer.pk != code.computer.pk:
        return f'{program.full_label} and {code.full_label} must be on one computer'
    processes = optional_value(inputs, 'program_processes', 1)
    return None if processes >= 1 else f'program_processes must be at least 1, got {processes}'


def _validate_pseudos(inputs: dict[str, Any], engine: type[Engine], parameters: EngineParameters) -> str | None:
    """Check that the program has a pseudopotential of each element that it can use, if it takes any."""
    if 'engine_code' not in inputs:
        return None
    pseudos = inputs.get('pseudos') or {}
    elements = inputs['structures'].base.attributes.get('elements') if 'structures' in inputs else ()
    return validate_pseudos(pseudos, elements, engine(parameters))


def _validate_densities(inputs: dict[str, Any], engine: type[Engine]) -> str | None:
    """Check that the engine computes densities if they are requested, and that a mesh spacing is of use."""
    requested = optional_value(inputs, 'densities', False)
    if requested:
        try:
            engine.require('density')
        except EngineError as error:
            return str(error)
    if MESH_SPACING not in inputs:
        return None
    if not requested:
        return f'{MESH_SPACING} is of use for densities only: ask for them, or leave it out'
    if MESH_SPACING not in engine.Runtime.model_fields:
        return f'the engine {engine.name} chooses the mesh of a density itself: leave out {MESH_SPACING}'
    if not 0 < inputs[MESH_SPACING].value < math.inf:
        return f'{MESH_SPACING} must be positive, got {inputs[MESH_SPACING].value}'
    return None


def _validate_rows(inputs: dict[str, Any]) -> str | None:
    if 'rows' not in inputs or 'structures' not in inputs:
        return None
    return validate_rows(inputs['rows'].get_list(), inputs['structures'].n_structures)


def _validate_time_limit(inputs: dict[str, Any]) -> str | None:
    limit = optional_value(inputs, 'time_limit_s', 1.0)
    return None if limit > 0 else f'time_limit_s must be positive, got {limit}'
