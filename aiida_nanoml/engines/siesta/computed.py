"""The geometry that a run computed, where its input alone does not give it, or where another file replaced it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from aiida_nanoml.engines.base import Label
from aiida_nanoml.engines.finished_runs import RunFolderError
from aiida_nanoml.engines.run_text import RunText
from aiida_nanoml.engines.siesta.fdf import Fdf
from aiida_nanoml.engines.siesta.fdf_recognition import (
    geometry_flag,
    moves_atoms,
    parameters_of_structure,
    read_geometry,
    read_mesh,
    read_species,
    read_spin,
    structure_of_geometry,
)
from aiida_nanoml.engines.siesta.geometry import (
    SAME_ANG,
    Course,
    Geometry,
    prints_next_geometry,
    read_course,
    read_geometry_files,
    refine,
)
from aiida_nanoml.engines.siesta.k_points import KMesh, read_printed_mesh
from aiida_nanoml.engines.siesta.output import read_step
from aiida_nanoml.engines.siesta.parameters import SIESTA_DEFAULTS, SiestaParameters, canonical
from aiida_nanoml.engines.siesta.run_checks import SPECIES
from aiida_nanoml.errors import EngineError, FailureCode, StructureError
from aiida_nanoml.structures import Structure

_PRINTED_DEFAULTS = (
    ('MeshCutoff', 'Mesh Cutoff', 'Ry', SIESTA_DEFAULTS.mesh_cutoff_ry),
    ('ElectronicTemperature', 'Electronic Temperature', 'K', SIESTA_DEFAULTS.electronic_temperature_kelvin),
)
"""Keys that decide about the label, how the output prints their values, and the default of SIESTA 4.1."""

_SPIN_COMPONENTS: dict[str, tuple[float, ...]] = {
    'none': (1,),
    'polarized': (2,),
    'non-collinear': (4,),
    'spin-orbit': (4, 8),
}
"""Spin components that an output counts, by the spin of the input."""

XV_PREVAILS = '! Info in XV file prevails over previous structure input'
"""What an output says where the geometry is not that of its input."""

NOT_RELAXED = 'the geometry was not relaxed within the allowed steps: the label belongs to the last one'


@dataclass(frozen=True)
class RunTexts:
    """Texts of a run.

    :param fdf: content of the input.
    :param input: name of the input, for messages.
    :param output: name of the standard output.
    :param read: returns the text of a file of the run by name.
    """

    fdf: Fdf
    input: str
    output: str
    read: Callable[[str], str | None]

    @property
    def prefix(self) -> str:
        """``SystemLabel``, how the names of the other files begin."""
        return self.fdf.get('SystemLabel') or 'siesta'


@dataclass(frozen=True)
class Computed:
    """What a run computed.

    :param structure: to which its energy, forces and levels belong.
    :param parameters: of the engine.
    :param note: what the user should know; empty if there is nothing to say.
    """

    structure: Structure
    parameters: SiestaParameters
    note: str


def is_given_elsewhere(fdf: Fdf) -> bool:
    """Return whether the geometry of a run may be another one than its input gives."""
    if geometry_flag(fdf) is not None or 'Zmatrix' in fdf or fdf.get('AtomicCoordinatesOrigin') is not None:
        return True
    try:
        return moves_atoms(fdf)
    except EngineError:
        return True


def read_computed(run: RunTexts) -> Computed:
    """Read structure and parameters of a run.

    The geometry is that of the last step, as the output prints it; that of the input, with all its digits, where both
    agree.

    :raises EngineError: a value of the input that is not understood, or a run that does something else.
    :raises StructureError: a structure that cannot be read, ghost atoms among others.
    :raises RunFolderError: ``'input_changed'``, input and output contradict each other.
    """
    output = run.read(run.output) or ''
    _check_species(run, output)
    _check_settings(run, output)
    course = read_course(output, run.fdf.get_quantity('LatticeConstant', 'Ang'))
    moves = moves_atoms(run.fdf)
    given = _given_geometry(run, course)
    geometry = _last_geometry(run, course, output) if moves else _single_geometry(run, course, given)
    mesh = _used_mesh(run, read_printed_mesh(output), geometry)
    structure = structure_of_geometry(run.fdf, geometry, mesh)
    parameters = parameters_of_structure(_with_printed_defaults(run.fdf, output), structure, mesh)
    unrelaxed = moves and (course.relaxed is False or 'GEOM_NOT_CONV' in output + (run.read('MESSAGES') or ''))
    return Computed(structure, parameters, NOT_RELAXED if unrelaxed else '')


def read_computed_steps(run: RunTexts) -> dict[int, tuple[Structure, Label]]:
    """Read structure and label of each step of a run but the last, with energy and forces only.

    Steps whose geometry is not printed, or whose density did not converge, are left out.

    :returns: by the number of the step, from 0.
    :raises EvaluationError: a number of a step is not what it should be.
    """
    output = run.read(run.output) or ''
    course = read_course(output, run.fdf.get_quantity('LatticeConstant', 'Ang'))
    printed = read_printed_mesh(output)
    steps = {}
    for number, (geometry, (start, end)) in enumerate(zip(course.steps[:-1], course.spans, strict=False)):
        label = read_step(RunText(f'{run.output}, step {number}', output[start:end])) if geometry else None
        if geometry is None or label is None:
            continue
        mesh = _used_mesh(run, printed, geometry)
        steps[number] = (structure_of_geometry(run.fdf, geometry, mesh), label)
    return steps


def _with_printed_defaults(fdf: Fdf, output: str) -> Fdf:
    """Return an input with what it leaves to SIESTA, where that is another value than the default of version 4.1.

    :param output: which prints the values that are used.
    """
    used = {}
    for key, pattern, unit, default in _PRINTED_DEFAULTS:
        found = re.search(rf'^redata: {pattern} *= *(\d+\.\d+) +{unit}\b', output, re.MULTILINE)
        if key not in fdf and found is not None and abs(float(found[1]) - default) > 1e-3 * default:
            used[canonical(key)] = f'{found[1]} {unit}'
    return replace(fdf, values={**fdf.values, **used})


def _check_species(run: RunTexts, output: str) -> None:
    """Check that the elements of input and output are the same.

    :raises RunFolderError: ``'input_changed'``.
    """
    asked = read_species(run.fdf)
    for match in SPECIES.finditer(output):
        index, printed = int(match[1]), int(match[2] or match[5])
        if index in asked and asked[index] != printed:
            raise RunFolderError(
                FailureCode.INPUT_CHANGED,
                f'species {index} has the atomic number {asked[index]} in {run.input} and {printed} in {run.output}',
            )


def _check_settings(run: RunTexts, output: str) -> None:
    """Check that the output has the settings that the input asks for, where it prints them.

    :raises RunFolderError: ``'input_changed'``.
    """
    asked: dict[str, tuple[float, ...]] = {'the number of spin components': _SPIN_COMPONENTS[read_spin(run.fdf)]}
    for key, _, unit, _ in _PRINTED_DEFAULTS:
        value = run.fdf.get_quantity(key, unit)
        asked |= {} if value is None else {key: (value,)}
    asked['NetCharge'] = (float(run.fdf.get_number('NetCharge', default=0.0)),)
    patterns = {
        key: rf'{printed} *= *(\d{{1,12}}\.\d{{1,12}}) +{unit}\b' for key, printed, unit, _ in _PRINTED_DEFAULTS
    }
    patterns |= {
        'the number of spin components': r'Number of spin components *=? *(\d)\b',
        'NetCharge': r'Net charge of the system *= *(-?\d{1,6}\.\d{1,12}) +\|e\|',
    }
    for key, values in asked.items():
        found = re.search(rf'^redata: {patterns[key]}', output, re.MULTILINE)
        if found and all(abs(float(found[1]) - value) > 1e-3 * max(1.0, abs(value)) for value in values):
            raise RunFolderError(
                FailureCode.INPUT_CHANGED, f'{key} is {values[0]:g} in {run.input} and {found[1]} in {run.output}'
            )


def _given_geometry(run: RunTexts, course: Course) -> Geometry | None:
    """Return the geometry of the input, if it is the one with which the run began."""
    try:
        given = read_geometry(run.fdf)
    except StructureError:
        if course.first is None and not _any_file(run):
            raise
        return None
    if course.first is None or given.difference(course.first) <= _tolerance(given):
        return given if course.first is None or given.cell is not None else replace(given, cell=course.first.cell)
    if geometry_flag(run.fdf) is None and XV_PREVAILS not in (run.read(run.output) or ''):
        raise RunFolderError(FailureCode.INPUT_CHANGED, _contradiction(run, given, course.first))
    return None


def _single_geometry(run: RunTexts, course: Course, given: Geometry | None) -> Geometry:
    """Return the geometry of a run that moves no atoms."""
    flag = geometry_flag(run.fdf)
    if given is not None and (course.first is not None or flag is None):
        return given
    if course.first is not None:
        return refine(course.first, run.read, run.prefix)
    found = next(read_geometry_files(run.read, run.prefix), None)
    if found is None:
        raise StructureError(
            f'{flag} takes the geometry from a file of an earlier run, and neither {run.output} nor a .STRUCT_OUT or '
            '.XV gives it'
        )
    return found


def _last_geometry(run: RunTexts, course: Course, output: str) -> Geometry:
    """Return the geometry of the last step of a run that moves atoms."""
    if course.last is not None:
        return refine(course.last, run.read, run.prefix)
    if not prints_next_geometry(output):
        text = run.read(f'{run.prefix}.STRUCT_OUT')
        found = None if text is None else next(read_geometry_files(run.read, run.prefix), None)
        if found is not None:
            return found
    raise StructureError(
        f'{run.output} does not give the geometry of the last step, nor does {run.prefix}.STRUCT_OUT; SIESTA prints it '
        'with WriteCoorStep T'
    )


def _used_mesh(run: RunTexts, printed: KMesh | None, geometry: Geometry) -> KMesh:
    """Return the mesh of k-points that a run used.

    :param printed: as the output gives it.
    :raises RunFolderError: ``'input_changed'``, that of the output contradicts a block of the input.
    """
    if printed is None:
        return read_mesh(run.fdf, np.zeros((3, 3)) if geometry.cell is None else geometry.cell)
    if run.fdf.get_block('kgrid.MonkhorstPack') is not None:
        asked = read_mesh(run.fdf, np.zeros((3, 3)))
        if asked.supercell != printed.supercell or np.abs(np.subtract(asked.shift, printed.shift)).max() > 2e-3:
            raise RunFolderError(
                FailureCode.INPUT_CHANGED,
                f'{run.output} has the k-points of another mesh than {run.input}: {printed} for {asked}',
            )
        return asked
    return printed


def _any_file(run: RunTexts) -> bool:
    return next(read_geometry_files(run.read, run.prefix), None) is not None


def _tolerance(geometry: Geometry) -> float:
    # The bohr of SIESTA differs between versions in the seventh digit.
    return max(SAME_ANG, 2e-6 * float(np.abs(geometry.positions).max()))


def _contradiction(run: RunTexts, given: Geometry, printed: Geometry) -> str:
    """Describe the first difference between the geometry of the input and that of the output."""
    if given.species.tolist() != printed.species.tolist():
        return (
            f'{run.input} has {len(given.species)} atoms and {run.output} {len(printed.species)}, or other species: '
            'the run computed another geometry'
        )
    off = np.abs(given.positions - printed.positions).max(axis=1)
    if off.max() <= _tolerance(given):
        return f'{run.output} has other lattice vectors than {run.input}: the run computed another geometry'
    atom = int(np.argmax(off > _tolerance(given)))
    places = [' '.join(f'{value:.4f}' for value in one.positions[atom]) for one in (given, printed)]
    return (
        f'atom {atom + 1} is at {places[0]} Å in {run.input} and at {places[1]} Å in {run.output}: the run computed '
        'another geometry'
    )
