"""Calculation job to run the program of an engine for one structure, with a label as output."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from aiida import orm
from aiida.common.datastructures import CalcInfo, CodeInfo
from aiida.common.folders import Folder
from aiida.engine import CalcJob, CalcJobProcessSpec
from aiida_pseudo.data.pseudo.pseudo import PseudoPotentialData

from aiida_nanoml.calculations.base import define_run_failures, optional_value, validate_code
from aiida_nanoml.calculations.functions.siesta import structure_of_node
from aiida_nanoml.calculations.pseudopotentials import validate_pseudos
from aiida_nanoml.data.labels import LabelSetData
from aiida_nanoml.engines.base import Label
from aiida_nanoml.engines.label_set import LabelSet, LabelSource
from aiida_nanoml.engines.program import ERROR_FILE, OUTPUT_FILE, ProgramEngine
from aiida_nanoml.engines.registry import get_engine
from aiida_nanoml.errors import EngineError, EvaluationError, FailureCode, NanomlError
from aiida_nanoml.structures import Structure, StructureSet
from aiida_nanoml.worker.labelled_rows import LabelledRow, tabulate


class ProgramCalculation(CalcJob):
    """Run the program of an engine for one structure: the run that the engine does in a batch, as a job of its own.

    The label is read by the engine, as in a batch. Every failure has an exit code.
    """

    @classmethod
    def define(cls, spec: CalcJobProcessSpec) -> None:
        """Define inputs, outputs and exit codes."""
        super().define(spec)
        define_run_failures(spec)
        spec.inputs['code'].validator = validate_code
        spec.inputs['code'].required = True
        spec.input('structure', valid_type=orm.StructureData, help='The structure; isolated ones get a box.')
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
            'changed_parameters',
            valid_type=orm.Dict,
            required=False,
            help='Parameters that replace the requested ones in this run, after an earlier one failed; the source of '
            'the label keeps the requested ones.',
        )
        spec.input_namespace(
            'pseudos',
            valid_type=PseudoPotentialData,
            dynamic=True,
            help='Pseudopotentials by element, for engines that need them.',
        )
        spec.input(
            'parent_folder',
            valid_type=orm.RemoteData,
            required=False,
            help='Folder of an earlier run of the structure that ended by itself, to begin with what it left.',
        )
        options = spec.inputs['metadata']['options']
        options['parser_name'].default = 'nanoml.program'
        options['output_filename'].default = OUTPUT_FILE
        options['max_wallclock_seconds'].default = 3600
        options['resources'].default = lambda: {'num_machines': 1, 'num_mpiprocs_per_machine': 1}
        options['withmpi'].default = False
        spec.inputs.validator = validate_inputs
        spec.output(
            'labels',
            valid_type=LabelSetData,
            required=False,
            help='The label of the structure in one row, with levels, forces and stress; also that of a failed run.',
        )
        spec.exit_code(440, 'ERROR_STOPPED_IN_TIME', message='The program stopped before the wall time ended: {reason}')
        spec.exit_code(450, 'ERROR_SCF_UNFINISHED', message='The self-consistency was still converging: {reason}')
        spec.exit_code(460, 'ERROR_SCF_NOT_CONVERGED', message='The self-consistency does not converge: {reason}')
        spec.exit_code(510, 'ERROR_PSEUDOPOTENTIAL', message='A pseudopotential cannot be used: {reason}')
        spec.exit_code(520, 'ERROR_BASIS', message='The basis cannot be made: {reason}')

    def prepare_for_submission(self, folder: Folder) -> CalcInfo:
        """Write the input of the engine; pseudopotentials and what an earlier run left are copied beside it."""
        options = self.inputs.metadata.options
        with engine_of_inputs(self.inputs) as engine:
            files = engine.files_alone(
                structure_of_node(self.inputs.structure),
                wall_time_s=options.max_wallclock_seconds,
                continued='parent_folder' in self.inputs,
            )
        for name, text in files.items():
            with folder.open(name, 'w', encoding='ascii') as handle:
                handle.write(text)
        codeinfo = CodeInfo()
        codeinfo.code_uuid = self.inputs.code.uuid
        codeinfo.cmdline_params = engine.arguments()
        codeinfo.stdin_name = engine.input_file or None
        codeinfo.stdout_name = options.output_filename
        codeinfo.stderr_name = ERROR_FILE
        calcinfo = CalcInfo()
        calcinfo.codes_info = [codeinfo]
        calcinfo.local_copy_list = [
            (pseudo.uuid, pseudo.filename, pseudo_name(element, pseudo))
            for element, pseudo in self.inputs.get('pseudos', {}).items()
        ]
        if 'parent_folder' in self.inputs:
            parent = self.inputs.parent_folder
            calcinfo.remote_copy_list = [
                (parent.computer.uuid, str(PurePosixPath(parent.get_remote_path()) / left), wanted)
                for left, wanted in engine.restart.items()
            ]
            for wanted in engine.restart.values():
                folder.get_subfolder(wanted.rpartition('/')[0], create=True)
        # With its whole path, where AiiDA would drop the folder.
        results = [(name, '.', len(PurePosixPath(name).parts)) for name in engine.results]
        calcinfo.retrieve_list = [options.output_filename, ERROR_FILE, *results]
        return calcinfo


@contextmanager
def engine_of_inputs(inputs: Mapping[str, Any], *, requested: bool = False) -> Iterator[ProgramEngine]:
    """Make the engine of a run, with its pseudopotentials in a temporary folder.

    :param inputs: those of the calculation.
    :param requested: whether it has the requested parameters, not those that the run has after an earlier one failed.
    :raises EngineError: the engine is unknown, runs no program, or has no such protocol or parameter.
    """
    engine = get_engine(inputs['engine'].value)
    if not issubclass(engine, ProgramEngine):
        raise EngineError(f'the engine {engine.name} runs no program: use the workflow nanoml.label')
    parameters = engine.parameters(inputs['protocol'].value, optional_value(inputs, 'parameters', {}))
    if not requested and 'changed_parameters' in inputs:
        changed = inputs['changed_parameters'].get_dict()
        parameters = engine.Parameters.model_validate(parameters.model_dump() | changed)
    with tempfile.TemporaryDirectory(prefix=f'{engine.name}-') as folder:
        files = {}
        for element, pseudo in (inputs.get('pseudos') or {}).items():
            path = Path(folder) / pseudo_name(element, pseudo)
            path.write_bytes(pseudo.get_content(mode='rb'))
            files[element] = str(path)
        yield engine(parameters, runtime={'pseudopotentials': files} if engine.pseudopotential_formats else None)


def read_run(engine: ProgramEngine, folder: Path, structure: Structure) -> Label | EvaluationError:
    """Read the label of a run, or return the reason why there is none.

    :param folder: holds what the program left.
    """
    try:
        return engine.read(folder, structure)
    except EvaluationError as error:
        return error
    except Exception as error:  # a file that another program cut or wrote must not end the daemon's step
        return EvaluationError(FailureCode.INCONSISTENT, f'{engine.title}: {type(error).__name__}: {error}')


def label_of_run(
    engine: ProgramEngine,
    protocol: str,
    version: str,
    structure: Structure,
    found: Label | EvaluationError,
    recovery: str,
) -> LabelSet:
    """Return the label of one structure as a set, with the requested parameters as its source.

    :param engine: with the requested parameters, and the pseudopotentials.
    :param found: as of :func:`read_run`.
    :param recovery: what was changed after an earlier run failed, for the message.
    """
    if isinstance(found, Label):
        row = LabelledRow.from_label(found, float('nan'), f'recovered: {recovery}' if recovery else '')
    else:
        tried = f' (after: {recovery})' if recovery else ''
        row = LabelledRow.from_error(EvaluationError(found.code, found.message + tried))
    source = LabelSource.of_engine(engine, protocol, version)
    return tabulate(source, StructureSet.from_structures([structure]), {0: row})


def pseudo_name(element: str, pseudo: PseudoPotentialData) -> str:
    """Return the name of the file of a pseudopotential beside the input."""
    return f'{element}{PurePosixPath(pseudo.filename).suffix}'


def validate_inputs(inputs: Mapping[str, Any], _: Any) -> str | None:
    """Check engine, parameters, pseudopotentials and structure, before anything is submitted."""
    if not {'engine', 'protocol', 'structure'} <= set(inputs):
        return None  # the ports themselves complain
    try:
        structure = structure_of_node(inputs['structure'])
        with engine_of_inputs(inputs) as engine:
            text = validate_pseudos(inputs.get('pseudos') or {}, set(structure.symbols), engine)
            if text is None:
                engine.check(structure)
    except NanomlError as error:
        return str(error)
    except EvaluationError as error:
        return f'{error.code}: {error.message}'
    return text
