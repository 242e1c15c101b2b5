"""Runs of programs through other plugins of AiiDA: their structures, and their labels."""

from __future__ import annotations

import tempfile
from pathlib import Path

from aiida import orm

from aiida_nanoml.calculations.functions.base import calculation_function
from aiida_nanoml.calculations.functions.siesta import PSEUDO, node_of_structure, structure_of_node
from aiida_nanoml.calculations.program import engine_of_inputs, label_of_run, read_run
from aiida_nanoml.data.labels import LabelSetData
from aiida_nanoml.engines.cp2k.engine import Cp2kEngine
from aiida_nanoml.engines.cp2k.input_writing import to_box
from aiida_nanoml.errors import EngineError


@calculation_function
def box_for_cp2k(structure: orm.StructureData, parameters: orm.Dict) -> orm.StructureData:
    """Return a structure in the box that the engine ``cp2k`` computes it in, which its solver may want to be a cube.

    :param structure: isolated, or periodic; that one stays as it is.
    :param parameters: all parameters of the engine.
    """
    settings = Cp2kEngine.Parameters.model_validate(parameters.get_dict())
    return node_of_structure(to_box(structure_of_node(structure), settings), structure.label)


@calculation_function
def read_program_run(
    retrieved: orm.FolderData, structure: orm.StructureData, run: orm.Dict, **pseudos: orm.SinglefileData
) -> LabelSetData:
    """Read the label of a run that another plugin made.

    :param retrieved: files of the run.
    :param structure: what was computed.
    :param run: ``engine``, ``protocol`` and ``parameters`` that were requested; ``files``, where the engine looks for
        each of the files, by name; and ``recovery``, what was changed after an earlier run failed.
    :param pseudos: pseudopotentials of the run, as ``pseudo_C`` for each element.
    :returns: one row, which has the reason if the run gave no label.
    :raises EngineError: the output does not name the version of its program.
    """
    inputs = {name: orm.Str(run[name]) for name in ('engine', 'protocol')} | {
        'parameters': orm.Dict(run['parameters']),
        'pseudos': {name.removeprefix(PSEUDO): node for name, node in pseudos.items()},
    }
    names = set(retrieved.base.repository.list_object_names())
    with engine_of_inputs(inputs) as engine, tempfile.TemporaryDirectory(prefix=f'{engine.name}-') as name:
        folder = Path(name)
        for file, target in run['files'].items():
            if file in names:
                (folder / target).parent.mkdir(exist_ok=True)
                (folder / target).write_bytes(retrieved.base.repository.get_object_content(file, mode='rb'))
        version = engine.version_of_run(folder)
        if version is None:
            raise EngineError(f'the output of {engine.program} does not name its version: the run did not begin')
        found = structure_of_node(structure)
        return LabelSetData(
            label_of_run(engine, run['protocol'], version, found, read_run(engine, folder, found), run['recovery'])
        )
