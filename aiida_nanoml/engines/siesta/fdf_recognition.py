"""Structure, parameters and protocol of an input that was written by anyone."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from aiida_nanoml.engines.siesta.engine import SiestaEngine
from aiida_nanoml.engines.siesta.fdf import LENGTHS_ANG, Fdf, read_numbers
from aiida_nanoml.engines.siesta.geometry import FARTHEST_ANG, Geometry
from aiida_nanoml.engines.siesta.k_points import MOST_POINTS, KMesh, mesh_of_cutoff, monkhorst_pack_mesh
from aiida_nanoml.engines.siesta.mesh import SUB_POINTS
from aiida_nanoml.engines.siesta.parameters import (
    AUTHORS,
    MESHES,
    OWNED,
    SIESTA_DEFAULTS,
    STRUCTURAL,
    USUAL_VACUUM_ANG,
    SiestaParameters,
    canonical,
    is_housekeeping,
    is_relaxing,
)
from aiida_nanoml.errors import EngineError, StructureError
from aiida_nanoml.structures import Structure
from aiida_nanoml.structures.elements import SYMBOLS
from aiida_nanoml.structures.vacuum import MINIMUM_VACUUM_ANG, gather_atoms, measure_vacuum

Floats = NDArray[np.float64]

_BASIS_SIZES = {
    **dict.fromkeys(('minimal', 'sz'), 'SZ'),
    **dict.fromkeys(('szp', 'szp1', 'szsp', 'sz1p'), 'SZP'),
    'dz': 'DZ',
    **dict.fromkeys(('standard', 'dzp', 'dzp1', 'dz1p', 'dzsp'), 'DZP'),
    'tz': 'TZ',
    **dict.fromkeys(('tzp', 'tzp1', 'tz1p', 'tzsp'), 'TZP'),
}
_SPINS = {
    **dict.fromkeys(('none', 'nonpolarized', 'nonpolarised', 'np'), 'none'),
    **dict.fromkeys(('polarized', 'polarised', 'collinear', 'colinear', 'p'), 'polarized'),
    **dict.fromkeys(('noncollinear', 'noncolinear', 'nc'), 'non-collinear'),
    **dict.fromkeys(('spinorbit', 'so', 'soc'), 'spin-orbit'),
    **dict.fromkeys(('spinorbit+offsite', 'so+offsite', 'soc+offsite'), 'spin-orbit'),
}
_AUTHORS_ALSO = {'PZ': 'CA', 'LYP': 'BLYP'}
"""Other names of authors that SIESTA knows, in capitals."""

_STANDING_STILL = frozenset({'cg', 'broyden', 'fire'})
"""Kinds of run that move no atoms unless a number of steps is given."""

_MOVING = _STANDING_STILL | {
    'verlet',
    'nose',
    'parrinellorahman',
    'noseparrinellorahman',
    'anneal',
    'zmatrix',
}
"""Kinds of run that end in a geometry of their own, to which the label belongs."""

_MOST_ATOMS = 1_000_000

_OTHER_GEOMETRY = ('UseSaveData', 'MD.UseSaveXV', 'MD.UseSaveZM', 'UseStructFile', 'MD.UseStructFile')
"""Flags by which SIESTA takes the geometry from a file of an earlier run, whatever the input says."""


@dataclass(frozen=True)
class _Lattice:
    """Lattice of an input.

    :param constant_ang: lattice constant in Å; None: SIESTA makes a box of its own.
    :param vectors: (3, 3) lattice vectors as rows in Å; zero without a constant.
    """

    constant_ang: float | None
    vectors: Floats


def _cartesian(unit: str) -> Callable[[Floats, _Lattice], Floats]:
    return lambda points, lattice: points * LENGTHS_ANG[unit]


def _in_lattice_constants(points: Floats, lattice: _Lattice) -> Floats:
    if lattice.constant_ang is None:
        raise StructureError('scaled coordinates need a LatticeConstant')
    return points * lattice.constant_ang


def _fractional(points: Floats, lattice: _Lattice) -> Floats:
    if lattice.constant_ang is None:
        raise StructureError('scaled coordinates need a LatticeConstant')
    return np.asarray(points @ lattice.vectors, dtype=np.float64)


_COORDINATES: dict[str, Callable[[Floats, _Lattice], Floats]] = {
    'bohr': _cartesian('bohr'),
    'notscaledcartesianbohr': _cartesian('bohr'),
    'ang': _cartesian('ang'),
    'notscaledcartesianang': _cartesian('ang'),
    'latticeconstant': _in_lattice_constants,
    'scaledcartesian': _in_lattice_constants,
    'fractional': _fractional,
    'scaledbylatticevectors': _fractional,
}
"""How coordinates (n, 3) become positions in Å, for each AtomicCoordinatesFormat."""


def read_structure(fdf: Fdf) -> Structure:
    """Read the structure of an input.

    The input does not say what repeats. A direction counts as open where the images are at least
    :data:`~aiida_nanoml.structures.vacuum.MINIMUM_VACUUM_ANG` apart and the k-points do not sample it. An
    isolated structure is put together where the faces of the cell cut it.

    :raises StructureError: something is missing or not understood; ghost atoms, Z-matrices, and geometries that come
        from a file of an earlier run.
    """
    flag = geometry_flag(fdf)
    if flag is not None:
        raise StructureError(f'{flag} takes the geometry from a file of an earlier run: only the output says which one')
    return structure_of_geometry(fdf, read_geometry(fdf))


def geometry_flag(fdf: Fdf) -> str | None:
    """Return the flag by which SIESTA takes the geometry from a file of an earlier run; None without one."""
    return next((flag for flag in _OTHER_GEOMETRY if fdf.get_flag(flag)), None)


def read_geometry(fdf: Fdf) -> Geometry:
    """Read cell and atoms of an input, whatever flags say about files that replace them.

    :raises StructureError: as :func:`read_structure` does.
    """
    try:
        lattice = _read_lattice(fdf)
        species, positions = _read_atoms(fdf, lattice)
    except EngineError as error:
        raise StructureError(str(error)) from error
    if lattice.constant_ang is None:
        return Geometry(None, positions, species)
    try:
        return _repeat(fdf, Geometry(lattice.vectors, positions, species))
    except EngineError as error:
        raise StructureError(str(error)) from error


def structure_of_geometry(fdf: Fdf, geometry: Geometry, mesh: KMesh | None = None) -> Structure:
    """Return the structure with the cell and the atoms of a geometry, and the species of an input.

    :param mesh: that the run used; None: that of the input.
    :raises StructureError: a species that is not defined, or no real atom; a mesh that is not understood.
    """
    numbers = _atomic_numbers(fdf, geometry.species)
    if geometry.cell is None:
        return Structure(numbers, geometry.positions)
    try:
        sampled = (mesh or read_mesh(fdf, geometry.cell)).sampled()
    except EngineError as error:
        raise StructureError(str(error)) from error
    vacuum, whole = gather_atoms(geometry.positions, geometry.cell)
    pbc = (vacuum < MINIMUM_VACUUM_ANG) | sampled
    return Structure(numbers, whole if not pbc.any() else geometry.positions, geometry.cell, pbc)


def read_parameters(fdf: Fdf, known: Sequence[SiestaParameters] = ()) -> SiestaParameters:
    """Read the parameters of an input; what it does not say has the default value of SIESTA 4.1.

    :param known: parameters that the input may realise: the first that ask for the same is returned, so that a
        ``k_length_ang`` or ``k_density`` is recognised in the meshes of different cells. After these, the protocols
        are tried.
    :raises EngineError: atoms that move, a value that is not understood, non-collinear spin, or a box that is left to
        SIESTA.
    :raises StructureError: as :func:`read_structure` does.
    """
    structure = read_structure(fdf)
    if moves_atoms(fdf):
        raise EngineError(
            f'the run moves atoms (MD.TypeOfRun {fdf.get("MD.TypeOfRun", "cg").lower()}): a label belongs to a given '
            'geometry; make a single point of the final structure'
        )
    spin = read_spin(fdf)
    if spin not in ('none', 'polarized'):
        raise EngineError(f'{spin} spin is not supported by the engine siesta; it is read from finished runs only')
    return parameters_of_structure(fdf, structure, known=known)


def parameters_of_structure(
    fdf: Fdf, structure: Structure, mesh: KMesh | None = None, known: Sequence[SiestaParameters] = ()
) -> SiestaParameters:
    """Read the parameters with which one structure was computed, wherever it came from.

    :param structure: the one to which energy and levels belong.
    :param mesh: that the run used; None: that of the input.
    :param known: as of :func:`read_parameters`.
    :raises EngineError: a value that is not understood, or a box that is left to SIESTA.
    """
    found = _read_explicit_parameters(fdf, structure, mesh or read_mesh(fdf, structure.cell))
    for candidate in (*known, *_protocol_parameters().values()):
        if _effective_values(candidate, structure) == _effective_values(found, structure):
            return candidate
    return found


def moves_atoms(fdf: Fdf) -> bool:
    """Return whether a run may end in another geometry than it began with.

    :raises EngineError: it does something else, such as computing force constants.
    """
    kind = fdf.get('MD.TypeOfRun', 'cg').lower()
    if canonical(kind) not in _MOVING or fdf.get('Lua.Script') is not None:
        raise EngineError(
            f'the run moves atoms (MD.TypeOfRun {kind}) as no relaxation and no dynamics do: make a single point of '
            'the structure that is meant'
        )
    return kind not in _STANDING_STILL or bool(fdf.get_number('MD.NumCGsteps', 'MD.Steps'))


def read_mesh_settings(fdf: Fdf) -> tuple[float, int]:
    """Read what decides about the mesh of a run that is to begin with a given density.

    :returns: ``MeshCutoff`` in Ry, and ``MeshSubDivisions``; what the input does not say has the default value of
        SIESTA 4.1.
    :raises EngineError: the run has spin, whose directions the density does not contain, or a mesh of its own.
    """
    if read_spin(fdf) != 'none':
        raise EngineError('a run with spin cannot begin with a density that has no directions of spin')
    if 'Mesh.Sizes' in fdf:
        raise EngineError('a run whose mesh is given by Mesh.Sizes cannot begin with a density: give a MeshCutoff')
    return _read_cutoff_ry(fdf), fdf.get_integer('MeshSubDivisions', SUB_POINTS)


def match_protocol(parameters: SiestaParameters) -> str:
    """Return the name of the protocol that has these parameters; ``custom`` if none has."""
    return next((name for name, known in _protocol_parameters().items() if known == parameters), 'custom')


@cache
def _protocol_parameters() -> dict[str, SiestaParameters]:
    protocols = SiestaEngine.protocols()
    return {name: SiestaParameters.model_validate(protocol['parameters']) for name, protocol in protocols.items()}


def _effective_values(parameters: SiestaParameters, structure: Structure) -> dict[str, Any]:
    """Return the parameters as they act on one structure: with its mesh, and no vacuum where it is periodic."""
    values = parameters.model_dump()
    for name in (*MESHES, 'k_shift'):
        values.pop(name, None)
    if parameters.k_supercell is None:
        values['k_points'] = monkhorst_pack_mesh(parameters, structure)
    else:
        values['k_points'] = (parameters.k_supercell, parameters.k_shift)
    if structure.pbc.any():
        del values['vacuum_ang']
    return values


def _read_explicit_parameters(fdf: Fdf, structure: Structure, mesh: KMesh) -> SiestaParameters:
    functional = fdf.get('XC.Functional', SIESTA_DEFAULTS.xc_functional).upper().replace('LSD', 'LDA')
    given = fdf.get('XC.Authors', SIESTA_DEFAULTS.xc_authors).upper()
    given = _AUTHORS_ALSO.get(given, given)
    size = fdf.get('PAO.BasisSize', SIESTA_DEFAULTS.basis_size)
    shift = fdf.get_quantity('PAO.EnergyShift', 'eV')
    temperature = fdf.get_quantity('ElectronicTemperature', 'K', SIESTA_DEFAULTS.electronic_temperature_kelvin)
    parameters: dict[str, Any] = {
        'xc_functional': functional,
        'xc_authors': next((name for name in AUTHORS.get(functional, ()) if name.upper() == given), given),
        'basis_size': _BASIS_SIZES.get(size.lower(), size),
        'energy_shift_ev': shift if shift is None else round(shift, 6),
        'split_norm': fdf.get_number('PAO.SplitNorm'),
        'mesh_cutoff_ry': _read_cutoff_ry(fdf),
        'electronic_temperature_kelvin': round(temperature, 6),
        'mixing_weight': fdf.get_number('SCF.Mixer.Weight', 'DM.MixingWeight', default=SIESTA_DEFAULTS.mixing_weight),
        'mixing_history': fdf.get_number('SCF.Mixer.History', 'DM.NumberPulay', default=SIESTA_DEFAULTS.mixing_history),
        'max_scf_iterations': fdf.get_number('MaxSCFIterations', default=SIESTA_DEFAULTS.max_scf_iterations),
        'density_tolerance': fdf.get_number('SCF.DM.Tolerance', 'DM.Tolerance'),
        'spin': read_spin(fdf),
        'k_grid': mesh.divisions if fdf.get_block('kgrid.MonkhorstPack') is not None or not mesh.is_gamma else None,
        'k_length_ang': None,
        'k_density': None,
        'k_supercell': None if mesh.divisions else [list(row) for row in mesh.supercell],
        'k_shift': list(mesh.shift),
        'vacuum_ang': _read_vacuum(structure),
        'extra_fdf': _read_further_input(fdf),
    }
    try:
        return SiestaParameters.model_validate(parameters)
    except ValidationError as error:
        faults = '; '.join(f'{".".join(map(str, fault["loc"]))}: {fault["msg"]}' for fault in error.errors())
        raise EngineError(f'the fdf input cannot be expressed as parameters of the engine siesta: {faults}') from error


def _read_further_input(fdf: Fdf) -> dict[str, str]:
    """Return the values and blocks that can change the label and that no parameter represents."""

    def matters(key: str) -> bool:
        known = key in OWNED or key in STRUCTURAL or is_housekeeping(key) or is_relaxing(key)
        # Lines of a block whose head is misspelt are keys that SIESTA never asks for.
        return not known and key[:1].isalpha()

    values = {key: value or 'T' for key, value in fdf.values.items() if matters(key)}
    return values | {key: '\n'.join(lines) + '\n' for key, lines in fdf.blocks.items() if matters(key)}


def _read_lattice(fdf: Fdf) -> _Lattice:
    if fdf.get_block('Zmatrix') is not None:
        raise StructureError('the fdf input describes the structure by the block Zmatrix: only the output gives it')
    if fdf.get_block('LatticeParameters') is not None and fdf.get_block('LatticeVectors') is not None:
        raise StructureError('the fdf input gives LatticeVectors and LatticeParameters, of which SIESTA takes one only')
    constant = fdf.get_quantity('LatticeConstant', 'Ang')
    if constant is None:
        return _Lattice(None, np.zeros((3, 3)))
    if fdf.get_block('LatticeParameters') is not None:
        vectors = _vectors_of_parameters(fdf.get_table('LatticeParameters', 6)[0])
    elif fdf.get_block('LatticeVectors') is not None:
        vectors = fdf.get_table('LatticeVectors', 3)
        if len(vectors) != 3:
            raise StructureError(f'the fdf input gives {len(vectors)} lattice vectors instead of 3')
    else:
        vectors = np.eye(3)
    if not (np.abs(vectors) < FARTHEST_ANG / max(abs(constant), 1.0)).all():
        raise StructureError(f'the fdf input has a lattice vector of more than {FARTHEST_ANG:g} Å')
    return _Lattice(constant, constant * vectors)


def _vectors_of_parameters(parameters: Floats) -> Floats:
    """Return the lattice vectors (3, 3) of three lengths and three angles in degrees, (6,)."""
    lengths, angles = parameters[:3], np.radians(parameters[3:])
    cosines, sine = np.cos(angles), math.sin(angles[2])
    slant = (cosines[0] - cosines[1] * cosines[2]) / sine
    vectors = np.array(
        [
            [lengths[0], 0.0, 0.0],
            [lengths[1] * cosines[2], lengths[1] * sine, 0.0],
            lengths[2] * np.array([cosines[1], slant, math.sqrt(max(0.0, 1 - cosines[1] ** 2 - slant**2))]),
        ]
    )
    vectors[np.abs(vectors) < 1e-14] = 0.0
    return vectors


def _read_atoms(fdf: Fdf, lattice: _Lattice) -> tuple[NDArray[np.int64], Floats]:
    """Read the species (n,) and the positions (n, 3) in Å."""
    rows = fdf.get_table('AtomicCoordinatesAndAtomicSpecies', 4)
    announced = fdf.get_integer('NumberOfAtoms')
    if announced is not None:
        rows = rows[:announced]
        if len(rows) < announced:
            raise StructureError(f'the fdf input announces {announced} atoms and gives {len(rows)}')
    if not len(rows):
        raise StructureError('the fdf input has no atoms')
    points = rows[:, :3].copy()
    if fdf.get('AtomicCoordinatesOrigin') is not None:
        raise StructureError('AtomicCoordinatesOrigin is read as a block of three numbers only')
    if fdf.get_block('AtomicCoordinatesOrigin') is not None:
        points += fdf.get_table('AtomicCoordinatesOrigin', 3)[0]
    form = fdf.get('AtomicCoordinatesFormat', SIESTA_DEFAULTS.coordinates_format)
    to_positions = _COORDINATES.get(canonical(form))
    if to_positions is None:
        raise StructureError(f'AtomicCoordinatesFormat {form!r} is not known')
    if not (np.abs(rows[:, 3]) < _MOST_ATOMS).all() or np.any(rows[:, 3] != np.round(rows[:, 3])):
        raise StructureError('the fdf input has an atom whose species is no index')
    with np.errstate(over='ignore', invalid='ignore'):
        positions = to_positions(points, lattice)
    if not (np.abs(positions) < FARTHEST_ANG).all():
        raise StructureError(f'the fdf input has an atom more than {FARTHEST_ANG:g} Å away')
    return rows[:, 3].astype(np.int64), positions


def _repeat(fdf: Fdf, geometry: Geometry) -> Geometry:
    """Repeat a cell as the block ``SuperCell`` asks: SIESTA takes diagonal ones only, first direction fastest."""
    if fdf.get_block('SuperCell') is None or geometry.cell is None:
        return geometry
    matrix = fdf.get_table('SuperCell', 3)
    if matrix.shape != (3, 3) or np.any(matrix != np.diag(np.diag(matrix))) or np.diag(matrix).min() < 1:
        raise StructureError('the block SuperCell of the fdf input is not diagonal, which SIESTA refuses')
    if not np.diag(matrix).prod() * len(geometry.species) <= _MOST_ATOMS:
        raise StructureError(f'the block SuperCell of the fdf input asks for more than {_MOST_ATOMS} atoms')
    counts = np.diag(matrix).astype(np.int64)
    k, j, i = np.meshgrid(*(np.arange(count) for count in counts[::-1]), indexing='ij')
    shifts = np.stack([i.ravel(), j.ravel(), k.ravel()], axis=1) @ geometry.cell
    positions = (shifts[:, None, :] + geometry.positions[None, :, :]).reshape(-1, 3)
    return Geometry(counts[:, None] * geometry.cell, positions, np.tile(geometry.species, len(shifts)))


def _atomic_numbers(fdf: Fdf, species: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Return the atomic number of each atom, (n,), by the index of its species."""
    numbers = read_species(fdf)
    for index in np.unique(species).tolist():
        if index not in numbers:
            raise StructureError(f'the fdf input has atoms of the undefined species {index}')
        number = numbers[index]
        atom = int(np.flatnonzero(species == index)[0]) + 1
        if number <= 0:
            raise StructureError(
                f'atom {atom} is a ghost: species {index} (atomic number {number}) has orbitals without an atom'
            )
        if number >= len(SYMBOLS):
            raise StructureError(
                f'atom {atom} is synthetic: species {index} (atomic number {number}), which is not read here'
            )
    return np.array([numbers[index] for index in species.tolist()], dtype=np.uint8)


def read_species(fdf: Fdf) -> dict[int, int]:
    """Read the atomic number of each species, by its index.

    :raises StructureError: there is none, or a line is not understood.
    """
    numbers: dict[int, int] = {}
    for line in fdf.get_block('ChemicalSpeciesLabel') or ():
        words = line.split()
        try:
            numbers[int(words[0])] = int(words[1])
        except (IndexError, ValueError) as error:
            raise StructureError(f'a line of ChemicalSpeciesLabel is not understood: {line!r}') from error
    if not numbers:
        raise StructureError('the fdf input has no block ChemicalSpeciesLabel')
    return numbers


def read_mesh(fdf: Fdf, cell: Floats) -> KMesh:
    """Read the mesh of k-points that an input asks for; without any, the Gamma point.

    As SIESTA does, a block counts before a list, and a list before a cutoff.

    :param cell: (3, 3) lattice vectors as rows in Å.
    :raises EngineError: a block or a list that is not understood, or k-points from a file.
    """
    if fdf.get_block('kgrid.MonkhorstPack') is not None:
        return KMesh.from_rows(_read_mesh_block(fdf))
    divisions = fdf.get_list('kgrid.MonkhorstPack')
    if divisions is not None:
        if len(divisions) != 3 or any(not 1 <= number < MOST_POINTS or number != int(number) for number in divisions):
            raise EngineError(f'the list kgrid.MonkhorstPack of the fdf input is no mesh: {divisions}')
        return KMesh.from_rows(np.column_stack([np.diag(divisions), np.zeros(3)]))
    if fdf.get('kgrid.MonkhorstPack') is not None:
        raise EngineError(
            f'kgrid.MonkhorstPack of the fdf input is no block and no list: {fdf.get("kgrid.MonkhorstPack")!r}'
        )
    cutoff = fdf.get_quantity('kgrid.Cutoff', 'Ang')
    if cutoff is not None and cutoff > 0:
        if abs(np.linalg.det(cell)) < 1e-6:
            raise EngineError('kgrid.Cutoff needs a cell, which the fdf input does not give')
        return mesh_of_cutoff(cutoff, cell)
    if fdf.get('kgrid.File') is not None:
        raise EngineError(
            'the k-points come from a file (kgrid.File), which no parameter of the engine siesta represents'
        )
    return KMesh.from_rows(np.eye(3, 4))


def _read_mesh_block(fdf: Fdf) -> Floats:
    """Read the rows (3, 4) of the mesh: of each vector its integers and its displacement, zero if it is left out.

    A line with one or two numbers gives the diagonal, and the displacement.
    """
    rows = np.zeros((3, 4))
    lines = fdf.get_block('kgrid.MonkhorstPack') or ()
    if len(lines) < 3:
        raise EngineError(f'the block kgrid_Monkhorst_Pack of the fdf input has {len(lines)} lines instead of 3')
    for axis, line in enumerate(lines[:3]):
        numbers = read_numbers(line)
        if not numbers:
            raise EngineError(f'the block kgrid_Monkhorst_Pack of the fdf input has no numbers in line {axis + 1}')
        if len(numbers) in (1, 2):
            rows[axis, axis], rows[axis, 3] = numbers[0], [*numbers, 0.0][1]
        else:
            rows[axis] = ([*numbers, 0.0] if len(numbers) == 3 else numbers)[:4]
    if not (np.abs(rows) < MOST_POINTS).all():
        raise EngineError(f'the block kgrid_Monkhorst_Pack of the fdf input has a number above {MOST_POINTS}')
    if np.any(rows[:, :3] != np.round(rows[:, :3])) or abs(np.linalg.det(rows[:, :3])) < 0.5:
        raise EngineError('the block kgrid_Monkhorst_Pack of the fdf input is no mesh of integers with a volume')
    return rows


def _read_cutoff_ry(fdf: Fdf) -> float:
    return round(fdf.get_quantity('MeshCutoff', 'Ry', SIESTA_DEFAULTS.mesh_cutoff_ry), 6)


def read_spin(fdf: Fdf) -> str:
    """Read the spin that an input asks for: ``none``, ``polarized``, ``non-collinear`` or ``spin-orbit``.

    :raises EngineError: a spiral, or a word that is not known.
    """
    if any(fdf.get_flag(key) for key in ('SpinSpiral', 'Spin.Spiral')) or 'Spin.Spiral' in fdf:
        raise EngineError('a spin spiral is not supported by the engine siesta')
    spin = fdf.get('Spin')
    if spin is None:
        old = (('SpinOrbit', 'spin-orbit'), ('NonCollinearSpin', 'non-collinear'), ('SpinPolarized', 'polarized'))
        return next((value for key, value in old if fdf.get_flag(key)), 'none')
    if canonical(spin) not in _SPINS:
        raise EngineError(f'the fdf input has Spin {spin!r}, which the engine siesta does not support')
    return _SPINS[canonical(spin)]


def _read_vacuum(structure: Structure) -> float:
    if structure.pbc.any():
        return USUAL_VACUUM_ANG
    vacuum = measure_vacuum(structure)
    if not np.isfinite(vacuum).all():
        raise EngineError('the fdf input leaves the cell to SIESTA, so that the vacuum is not known; give a cell')
    return round(float(vacuum.min()), 3)
