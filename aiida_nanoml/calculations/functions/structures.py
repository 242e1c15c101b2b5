"""Structures: generate, import and merge them."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from aiida import orm

from aiida_nanoml.calculations.functions.base import calculation_function
from aiida_nanoml.data.structures import StructureSetData
from aiida_nanoml.errors import EngineError, StructureError
from aiida_nanoml.structures import (
    FlakeParameters,
    StructureSet,
    generate_flakes,
    isolate,
    make_generator,
    read_structures,
)
from aiida_nanoml.structures.file_checks import check_neutral
from aiida_nanoml.units import BOHR_ANG


@calculation_function
def generate_flake_set(parameters: orm.Dict) -> StructureSetData:
    """Generate C-BN flakes.

    :param parameters: fields of :class:`~aiida_nanoml.structures.FlakeParameters`.
    :raises StructureError: the parameters cannot be used.
    """
    return StructureSetData(generate_flakes(FlakeParameters.from_dict(parameters.get_dict())))


@calculation_function
def generate_flake_sets(parameters: orm.Dict, n_unseen: orm.Int) -> dict[str, StructureSetData]:
    """Generate flakes to learn from and flakes to predict, all distinct up to the symmetry of the bare flake.

    :param parameters: fields of :class:`~aiida_nanoml.structures.FlakeParameters`; ``count`` is the number to
        learn from.
    :param n_unseen: number of flakes to predict; they continue the series of the seed.
    :returns: ``structures`` and ``unseen``.
    :raises StructureError: the parameters cannot be used.
    """
    if n_unseen.value < 1:
        raise StructureError(f'n_unseen must be at least 1, got {n_unseen.value}')
    wanted = FlakeParameters.from_dict(parameters.get_dict())
    both = FlakeParameters.from_dict(wanted.to_dict() | {'count': wanted.count + n_unseen.value})
    flakes = generate_flakes(both)
    return {
        'structures': StructureSetData(flakes.select(slice(wanted.count))),
        'unseen': StructureSetData(flakes.select(slice(wanted.count, None))),
    }


@calculation_function
def generate_structures(generator: orm.Str, parameters: orm.Dict) -> StructureSetData:
    """Generate structures with any registered generator, also of another package.

    :param generator: one of :func:`~aiida_nanoml.structures.generator_names`.
    :param parameters: arguments of its constructor.
    :raises StructureError: there is no such generator, or the parameters cannot be used.
    """
    return StructureSetData(make_generator(generator.value, parameters.get_dict()).generate())


@calculation_function
def import_structures(
    file: orm.SinglefileData,
    family: orm.Str | None = None,
    isolated: orm.Bool | None = None,
    bohr: orm.Bool | None = None,
) -> StructureSetData:
    """Read structures from a file in any format that ASE reads, or from an input of SIESTA.

    :param file: the file; the format follows from its name.
    :param family: family of all structures, in place of what the file says.
    :param isolated: whether structures in a box are taken as isolated, where their images are far enough apart.
    :param bohr: whether lengths in the file are in bohr, although its format says Å.
    :raises StructureError: the file cannot be read, or a structure is not physical.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / Path(file.filename).name
        path.write_bytes(file.get_content(mode='rb'))
        try:
            found = _read_input(path) if path.suffix.lower() == '.fdf' else read_structures(path)
        except StructureError as error:
            raise StructureError(str(error).replace(f'{folder}/', '')) from error
    if bohr is not None and bohr.value:
        scaled = {name: found.to_arrays()[name] * BOHR_ANG for name in ('positions', 'cells')}
        found = StructureSet.from_arrays(found.to_arrays() | scaled)
    if isolated is not None and isolated.value:
        found = isolate(found)
    if family is not None:
        found = StructureSet.from_arrays(found.to_arrays() | {'families': np.full(len(found), family.value)})
    return StructureSetData(found)


def _read_input(path: Path) -> StructureSet:
    """Read the structure of an input of SIESTA; a direction with 5 Å of vacuum and one k-point does not repeat."""
    from aiida_nanoml.engines.siesta.fdf import read_fdf
    from aiida_nanoml.engines.siesta.fdf_recognition import read_structure

    try:
        fdf = read_fdf(path.read_text(encoding='utf-8', errors='replace'))
        check_neutral(fdf.get_number('NetCharge', default=0.0))
        structure = read_structure(fdf)
    except (StructureError, EngineError) as error:
        raise StructureError(f'{path}: {error}') from error
    return StructureSet.from_structures([structure], np.array([path.stem]))


@calculation_function
def merge_structures(**sets: StructureSetData) -> StructureSetData:
    """Join sets of structures in the order of their link labels."""
    return StructureSetData(StructureSet.concatenate([sets[key].structures for key in sorted(sets)]))
