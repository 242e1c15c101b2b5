"""Calculation job ``nanoml.label``."""

from __future__ import annotations

import math
from pathlib import PurePosixPath
from typing import Any

from aiida import orm
from aiida.common.datastructures import CalcInfo
from aiida.common.folders import Folder
from aiida.engine import CalcJobProcessSpec
from aiida_pseudo.data.pseudo import PsfData, PsmlData

from aiida_nanoml.calculations.base import WorkerCalculation, count_processes, validate_rows, write_npz
from aiida_nanoml.data.densities import DensitySetData
from aiida_nanoml.data.labels import LabelSetData
from aiida_nanoml.data.structures import StructureSetData
from aiida_nanoml.engines.base import Engine
from aiida_nanoml.engines.registry import get_engine
from aiida_nanoml.errors import EngineError, NanomlError
from aiida_nanoml.worker.schemas import DENSITIES_FOLDER, JOURNAL_FILE, RESULTS_FILE, STRUCTURES_FILE, LabelJob

MESH_SPACING = 'mesh_spacing_ang'
"""Input of a job, and field of the runtime of an engine that leaves the mesh of a density open."""


class LabelCalculation(WorkerCalculation):
    """Label a batch of structures with one engine; a row that fails does not disturb the others."""

    TASK = 'label'
    RETRIEVED = (RESULTS_FILE, JOURNAL_FILE)

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
            valid_type=(PsfData, PsmlData),
            dynamic=True,
            help='Pseudopotentials by element, where the engine takes some.',
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
            help='Keep the density of each structure, too, where the engine gives one.',
        )
        spec.input(
            MESH_SPACING,
            valid_type=orm.Float,
            required=False,
            serializer=orm.to_aiida_type,
            help='Distance of the mesh points of a density in Å, where the engine leaves it open; its own if absent.',
        )
        spec.input(
            'parent_folder',
            valid_type=orm.RemoteData,
            required=False,
            help='Folder of a job with the same rows that was killed: the worker goes on from its journal.',
        )
        spec.inputs.validator = validate_inputs
        spec.output('labels', valid_type=LabelSetData, help='One row for each structure, failed ones included.')
        spec.output(
            'densities', valid_type=DensitySetData, required=False, help='One for each structure that was labelled.'
        )
        spec.exit_code(510, 'ERROR_NO_ROW_FINISHED', message='No structure could be labelled: {reason}')

    def job(self) -> LabelJob:
        """Return engine, protocol, parameters and time limit."""
        return LabelJob(
            engine=self.inputs.engine.value,
            protocol=self.inputs.protocol.value,
            parameters=self.inputs.parameters.get_dict() if 'parameters' in self.inputs else {},
            time_limit_s=self.inputs.time_limit_s.value,
            runtime=self._runtime(),
            densities=self._wants_densities(),
        )

    def prepare_for_submission(self, folder: Folder) -> CalcInfo:
        """Write the job folder; where a program is run, bring its pseudopotentials and share the cores among runs."""
        calcinfo = super().prepare_for_submission(folder)
        if 'parent_folder' in self.inputs:
            parent = self.inputs.parent_folder
            # A pattern, as a job that was killed early has no journal yet.
            names = (JOURNAL_FILE, DENSITIES_FOLDER) if self._wants_densities() else (JOURNAL_FILE,)
            calcinfo.remote_copy_list = [
                (parent.computer.uuid, str(PurePosixPath(parent.get_remote_path()) / f'{name}*'), '.') for name in names
            ]
        if self._wants_densities():
            calcinfo.retrieve_temporary_list.append(DENSITIES_FOLDER)
        if 'engine_code' not in self.inputs:
            return calcinfo
        calcinfo.local_copy_list = [
            (pseudo.uuid, pseudo.filename, self._pseudo_path(element, pseudo))
            for element, pseudo in self.inputs.pseudos.items()
        ]
        runs = max(1, count_processes(self.options.resources) // self._program_processes())
        calcinfo.codes_info[0].cmdline_params = [self.TASK, '--processes', str(runs)]
        return calcinfo

    def _wants_densities(self) -> bool:
        return 'densities' in self.inputs and self.inputs.densities.value

    def _runtime(self) -> dict[str, Any]:
        mesh = {MESH_SPACING: self.inputs[MESH_SPACING].value} if MESH_SPACING in self.inputs else {}
        if 'engine_code' not in self.inputs:
            return mesh
        return mesh | {
            'executable': str(self.inputs.engine_code.filepath_executable),
            'launcher': launcher(self.inputs.engine_code, self._program_processes()),
            'pseudopotentials': {
                element: self._pseudo_path(element, pseudo) for element, pseudo in self.inputs.pseudos.items()
            },
        }

    def _program_processes(self) -> int:
        return self.inputs.program_processes.value if 'program_processes' in self.inputs else 1

    @staticmethod
    def _pseudo_path(element: str, pseudo: PsfData | PsmlData) -> str:
        return f'pseudos/{element}{PurePosixPath(pseudo.filename).suffix}'

    def write_arrays(self, folder: Folder) -> list[str]:
        """Write the chosen structures."""
        structures = self.inputs.structures.structures
        if 'rows' in self.inputs:
            structures = structures.select(self.inputs.rows.get_list())
        write_npz(folder, STRUCTURES_FILE, structures.to_arrays())
        return [STRUCTURES_FILE]


def launcher(code: orm.InstalledCode, processes: int) -> list[str]:
    """Return the words that start a program inside an allocation, before the program itself.

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
    """Refuse unknown engines, protocols and parameters, and rows that are not there, before anything is submitted."""
    if 'engine' not in inputs or 'protocol' not in inputs:
        return None  # the ports themselves complain
    parameters = inputs['parameters'].get_dict() if 'parameters' in inputs else {}
    try:
        engine = get_engine(inputs['engine'].value)
        engine.parameters(inputs['protocol'].value, parameters)
    except NanomlError as error:
        return str(error)
    for refusal in (_validate_program(inputs, engine), _validate_densities(inputs, engine)):
        if refusal:
            return refusal
    if 'rows' in inputs and 'structures' in inputs:
        refusal = validate_rows(inputs['rows'].get_list(), inputs['structures'].n_structures)
        if refusal:
            return refusal
    if 'time_limit_s' in inputs and not inputs['time_limit_s'].value > 0:
        return f'time_limit_s must be positive, got {inputs["time_limit_s"].value}'
    return None


def _validate_densities(inputs: dict[str, Any], engine: type[Engine]) -> str | None:
    """Refuse densities of an engine without, and a mesh that nobody asked for or that the engine chooses itself."""
    wanted = 'densities' in inputs and inputs['densities'].value
    if wanted:
        try:
            engine.require('density')
        except EngineError as error:
            return str(error)
    if MESH_SPACING not in inputs:
        return None
    if not wanted:
        return f'{MESH_SPACING} is of use for densities only: ask for them, or leave it out'
    if MESH_SPACING not in engine.Runtime.model_fields:
        return f'the engine {engine.name} chooses the mesh of a density itself: leave out {MESH_SPACING}'
    if not 0 < inputs[MESH_SPACING].value < math.inf:
        return f'{MESH_SPACING} must be positive, got {inputs[MESH_SPACING].value}'
    return None


def _validate_program(inputs: dict[str, Any], engine: type[Engine]) -> str | None:
    """Refuse a program or pseudopotentials that are missing, do not fit the engine, or stand on another computer."""
    given = [name for name in ('engine_code', 'pseudos', 'program_processes') if inputs.get(name)]
    if not engine.runs_program:
        return f'the engine {engine.name} runs no program: leave out {", ".join(given)}' if given else None
    if 'engine_code' not in inputs:
        return f'the engine {engine.name} runs a program: name its code, such as {engine.name}@cluster'
    program, code = inputs['engine_code'], inputs.get('code')
    if code is not None and code.computer is not None and program.computer.pk != code.computer.pk:
        return f'{program.full_label} and {code.full_label} must be on one computer'
    if 'program_processes' in inputs and inputs['program_processes'].value < 1:
        return f'program_processes must be at least 1, got {inputs["program_processes"].value}'
    pseudos = inputs.get('pseudos') or {}
    for element, pseudo in pseudos.items():
        if pseudo.element != element:
            return f'the pseudopotential {pseudo.filename} of {element} is one of {pseudo.element}'
    if 'structures' in inputs:
        missing = sorted(set(inputs['structures'].base.attributes.get('elements')) - set(pseudos))
        if missing:
            return f'no pseudopotential for {", ".join(missing)}: name a family that has them (--pseudo-family)'
    return None
