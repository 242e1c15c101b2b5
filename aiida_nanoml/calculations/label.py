"""Calculation job ``nanoml.label``."""

from __future__ import annotations

from typing import Any

from aiida import orm
from aiida.common.folders import Folder
from aiida.engine import CalcJobProcessSpec

from aiida_nanoml.calculations.base import WorkerCalculation, write_npz
from aiida_nanoml.data.labels import LabelSetData
from aiida_nanoml.data.structures import StructureSetData
from aiida_nanoml.engines.registry import get_engine
from aiida_nanoml.errors import NanomlError
from aiida_nanoml.worker.schemas import JOURNAL_FILE, RESULTS_FILE, STRUCTURES_FILE, LabelJob


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
        spec.inputs.validator = validate_inputs
        spec.output('labels', valid_type=LabelSetData, help='One row for each structure, failed ones included.')
        spec.exit_code(510, 'ERROR_NO_ROW_FINISHED', message='No structure could be labelled: {reason}')

    def job(self) -> LabelJob:
        """Return engine, protocol, parameters and time limit."""
        return LabelJob(
            engine=self.inputs.engine.value,
            protocol=self.inputs.protocol.value,
            parameters=self.inputs.parameters.get_dict() if 'parameters' in self.inputs else {},
            time_limit_s=self.inputs.time_limit_s.value,
        )

    def write_arrays(self, folder: Folder) -> list[str]:
        """Write the chosen structures."""
        structures = self.inputs.structures.structures
        if 'rows' in self.inputs:
            structures = structures.select(self.inputs.rows.get_list())
        write_npz(folder, STRUCTURES_FILE, structures.to_arrays())
        return [STRUCTURES_FILE]


def validate_inputs(inputs: dict[str, Any], _: Any) -> str | None:
    """Refuse unknown engines, protocols and parameters, and rows that are not there, before anything is submitted."""
    if 'engine' not in inputs or 'protocol' not in inputs:
        return None  # the ports themselves complain
    parameters = inputs['parameters'].get_dict() if 'parameters' in inputs else {}
    try:
        get_engine(inputs['engine'].value).parameters(inputs['protocol'].value, parameters)
    except NanomlError as error:
        return str(error)
    if 'rows' in inputs and 'structures' in inputs:
        rows = inputs['rows'].get_list()
        n_structures = inputs['structures'].n_structures
        outside = [row for row in rows if type(row) is not int or not 0 <= row < n_structures]
        if outside:
            return f'row {outside[0]!r} does not exist: there are {n_structures} structures, counted from 0'
        if not rows or len(set(rows)) != len(rows):
            return 'rows must be a list of at least one index, without repetition'
    if 'time_limit_s' in inputs and not inputs['time_limit_s'].value > 0:
        return f'time_limit_s must be positive, got {inputs["time_limit_s"].value}'
    return None
