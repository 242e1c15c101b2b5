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
from aiida_nanoml.engines.siesta.fdf import LENGTHS_ANG, Fdf
from aiida_nanoml.engines.siesta.k_points import monkhorst_pack_mesh
from aiida_nanoml.engines.siesta.mesh import SUB_POINTS
from aiida_nanoml.engines.siesta.parameters import (
    AUTHORS,
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
    **dict.fromkeys(('none', 'nonpolarized', 'nonpolarised'), 'none'),
    **dict.fromkeys(('polarized', 'polarised', 'collinear', 'colinear', 'p'), 'polarized'),
}
_STANDING_STILL = frozenset({'cg', 'broyden', 'fire'})
"""Kinds of run that move no atoms unless a number of steps is given."""


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

    :raises StructureError: something is missing or not understood; ghost atoms, Z-matrices and supercells.
    """
    try:
        lattice = _read_lattice(fdf)
        numbers, positions = _read_atoms(fdf, lattice)
        sampled = _read_sampled_directions(fdf)
    except EngineError as error:
        raise StructureError(str(error)) from error
    if lattice.constant_ang is None:
        return Structure(numbers, positions)
    vacuum, whole = gather_atoms(positions, lattice.vectors)
    pbc = (vacuum < MINIMUM_VACUUM_ANG) | sampled
    return Structure(numbers, whole if not pbc.any() else positions, lattice.vectors, pbc)


def read_parameters(fdf: Fdf, known: Sequence[SiestaParameters] = ()) -> SiestaParameters:
    """Read the parameters of an input; what it does not say has the default value of SIESTA 4.1.

    :param known: parameters that the input may realise: the first that ask for the same is returned, so that a
        ``k_length_ang`` or ``k_density`` is recognised in the meshes of different cells. After these, the protocols
        are tried.
    :raises EngineError: atoms that move, a value that is not understood, non-collinear spin, a mesh that is not
        diagonal, or a box that is left to SIESTA.
    :raises StructureError: as :func:`read_structure` does.
    """
    structure = read_structure(fdf)
    _check_no_motion(fdf)
    found = _read_explicit_parameters(fdf, structure)
    for candidate in (*known, *_protocol_parameters().values()):
        if _effective_values(candidate, structure) == _effective_values(found, structure):
            return candidate
    return found


def read_mesh_settings(fdf: Fdf) -> tuple[float, int]:
    """Read what decides about the mesh of a run that is to begin with a given density.

    :returns: ``MeshCutoff`` in Ry, and ``MeshSubDivisions``; what the input does not say has the default value of
        SIESTA 4.1.
    :raises EngineError: the run has spin, whose directions the density does not contain, or a mesh of its own.
    """
    if _read_spin(fdf) != 'none':
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
    del values['k_grid'], values['k_length_ang'], values['k_density'], values['k_shift']
    values['k_points'] = monkhorst_pack_mesh(parameters, structure)
    if structure.pbc.any():
        del values['vacuum_ang']
    return values


def _read_explicit_parameters(fdf: Fdf, structure: Structure) -> SiestaParameters:
    functional = fdf.get('XC.Functional', SIESTA_DEFAULTS.xc_functional).upper().replace('LSD', 'LDA')
    given = fdf.get('XC.Authors', SIESTA_DEFAULTS.xc_authors).upper().replace('PZ', 'CA')
    size = fdf.get('PAO.BasisSize', SIESTA_DEFAULTS.basis_size)
    shift = fdf.get_quantity('PAO.EnergyShift', 'eV')
    temperature = fdf.get_quantity('ElectronicTemperature', 'K', SIESTA_DEFAULTS.electronic_temperature_kelvin)
    mesh, displacement = _read_k_grid(fdf)
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
        'spin': _read_spin(fdf),
        'k_grid': mesh,
        'k_length_ang': None,
        'k_density': None,
        'k_shift': displacement,
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
        return not (key in OWNED or key in STRUCTURAL or is_housekeeping(key) or is_relaxing(key))

    values = {key: value or 'T' for key, value in fdf.values.items() if matters(key)}
    return values | {key: '\n'.join(lines) + '\n' for key, lines in fdf.blocks.items() if matters(key)}


def _check_no_motion(fdf: Fdf) -> None:
    kind = fdf.get('MD.TypeOfRun', 'cg').lower()
    if kind not in _STANDING_STILL or fdf.get_number('MD.NumCGsteps', 'MD.Steps') or fdf.get('Lua.Script') is not None:
        raise EngineError(
            f'the run moves atoms (MD.TypeOfRun {kind}): a label belongs to a given geometry; '
            'make a single point of the final structure'
        )


def _read_lattice(fdf: Fdf) -> _Lattice:
    for name in ('Zmatrix', 'SuperCell'):
        if fdf.get_block(name) is not None:
            raise StructureError(f'the fdf input describes the structure by the block {name}, which is not read here')
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


def _read_atoms(fdf: Fdf, lattice: _Lattice) -> tuple[NDArray[np.uint8], Floats]:
    """Read atomic numbers (n,) and positions (n, 3) in Å."""
    species = _read_species(fdf)
    rows = fdf.get_table('AtomicCoordinatesAndAtomicSpecies', 4)
    announced = fdf.get_integer('NumberOfAtoms')
    if announced is not None:
        rows = rows[:announced]
        if len(rows) < announced:
            raise StructureError(f'the fdf input announces {announced} atoms and gives {len(rows)}')
    if not len(rows):
        raise StructureError('the fdf input has no atoms')
    undefined = sorted({int(number) for number in rows[:, 3]} - set(species))
    if undefined:
        raise StructureError(f'the fdf input has atoms of the undefined species {undefined[0]}')
    points = rows[:, :3].copy()
    if fdf.get('AtomicCoordinatesOrigin') is not None:
        raise StructureError('AtomicCoordinatesOrigin is read as a block of three numbers only')
    if fdf.get_block('AtomicCoordinatesOrigin') is not None:
        points += fdf.get_table('AtomicCoordinatesOrigin', 3)[0]
    form = fdf.get('AtomicCoordinatesFormat', SIESTA_DEFAULTS.coordinates_format)
    to_positions = _COORDINATES.get(canonical(form))
    if to_positions is None:
        raise StructureError(f'AtomicCoordinatesFormat {form!r} is not known')
    numbers = np.array([species[int(number)] for number in rows[:, 3]], dtype=np.uint8)
    return numbers, to_positions(points, lattice)


def _read_species(fdf: Fdf) -> dict[int, int]:
    """Read the atomic number of each species, by its index."""
    numbers: dict[int, int] = {}
    for line in fdf.get_block('ChemicalSpeciesLabel') or ():
        words = line.split()
        try:
            index, number = int(words[0]), int(words[1])
        except (IndexError, ValueError) as error:
            raise StructureError(f'a line of ChemicalSpeciesLabel is not understood: {line!r}') from error
        if number <= 0:
            raise StructureError(f'species {index} is a ghost (atomic number {number}): orbitals without an atom')
        if number >= len(SYMBOLS):
            raise StructureError(f'species {index} is synthetic (atomic number {number}), which is not read here')
        numbers[index] = number
    if not numbers:
        raise StructureError('the fdf input has no block ChemicalSpeciesLabel')
    return numbers


def _read_k_grid(fdf: Fdf) -> tuple[list[int] | None, list[float]]:
    """Read the divisions and displacements of a diagonal mesh; None for the Gamma point alone."""
    if fdf.get_block('kgrid_Monkhorst_Pack') is None:
        return None, [0.0, 0.0, 0.0]
    rows = fdf.get_table('kgrid_Monkhorst_Pack', 4)
    if rows.shape[0] != 3 or np.any(rows[:, :3] != np.diag(np.diag(rows[:, :3]))):
        raise EngineError('the block kgrid_Monkhorst_Pack of the fdf input is not diagonal, which is not supported')
    return [int(n) for n in np.diag(rows[:, :3])], rows[:, 3].tolist()


def _read_sampled_directions(fdf: Fdf) -> NDArray[np.bool_]:
    """Return for each direction whether the k-points sample it, (3,)."""
    if fdf.get('kgrid_cutoff') is not None:
        return np.ones(3, dtype=bool)
    if fdf.get_block('kgrid_Monkhorst_Pack') is None:
        return np.zeros(3, dtype=bool)
    rows = fdf.get_table('kgrid_Monkhorst_Pack', 4)
    return np.asarray((np.abs(rows[:, :3]).max(axis=1) > 1) | (rows[:, 3] != 0))


def _read_cutoff_ry(fdf: Fdf) -> float:
    return round(fdf.get_quantity('MeshCutoff', 'Ry', SIESTA_DEFAULTS.mesh_cutoff_ry), 6)


def _read_spin(fdf: Fdf) -> str:
    if any(fdf.get_flag(key) for key in ('NonCollinearSpin', 'SpinSpiral', 'SpinOrbit')):
        raise EngineError('non-collinear spin is not supported by the engine siesta')
    spin = fdf.get('Spin')
    if spin is None:
        return 'polarized' if fdf.get_flag('SpinPolarized') else 'none'
    if canonical(spin) not in _SPINS:
        raise EngineError(f'the fdf input has Spin {spin!r}; the engine siesta supports none and polarized')
    return _SPINS[canonical(spin)]


def _read_vacuum(structure: Structure) -> float:
    if structure.pbc.any():
        return USUAL_VACUUM_ANG
    vacuum = measure_vacuum(structure)
    if not np.isfinite(vacuum).all():
        raise EngineError('the fdf input leaves the cell to SIESTA, so that the vacuum is not known; give a cell')
    return round(float(vacuum.min()), 3)
