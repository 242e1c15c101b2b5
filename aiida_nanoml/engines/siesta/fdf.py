"""SIESTA's input: reading any finished input, and writing the one that a structure and parameters need."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from aiida_nanoml.engines.siesta.mesh import SUB_POINTS
from aiida_nanoml.engines.siesta.parameters import (
    AUTHORS,
    MINIMUM_VACUUM_ANG,
    OWNED,
    STRUCTURAL,
    USUAL_VACUUM_ANG,
    SiestaParameters,
    canonical,
    is_housekeeping,
    is_relaxing,
)
from aiida_nanoml.errors import EngineError, StructureError
from aiida_nanoml.structures import Structure, place
from aiida_nanoml.structures.elements import SYMBOLS
from aiida_nanoml.units import BOHR_ANG, BOLTZMANN_EV_PER_K, HARTREE_EV, RYDBERG_EV

_LENGTHS_ANG = {'ang': 1.0, 'bohr': BOHR_ANG, 'nm': 10.0, 'pm': 0.01, 'cm': 1e8, 'm': 1e10}
_ENERGIES_EV = {
    'ev': 1.0,
    'mev': 1e-3,
    'ry': RYDBERG_EV,
    'mry': RYDBERG_EV / 1e3,
    'hartree': HARTREE_EV,
    'ha': HARTREE_EV,
    'mha': HARTREE_EV / 1e3,
    'k': BOLTZMANN_EV_PER_K,
}

_COMMENT = re.compile(r'[#;!].*')
_SEPARATORS = re.compile(r'[\s=:,]+')
_SCALES = {
    'bohr': 'bohr',
    'notscaledcartesianbohr': 'bohr',
    'ang': 'ang',
    'notscaledcartesianang': 'ang',
    'latticeconstant': 'lattice',
    'scaledcartesian': 'lattice',
    'fractional': 'fractional',
    'scaledbylatticevectors': 'fractional',
}
_BASIS_SIZES = {
    **dict.fromkeys(('minimal', 'sz'), 'SZ'),
    **dict.fromkeys(('szp', 'szp1', 'szsp', 'sz1p'), 'SZP'),
    'dz': 'DZ',
    **dict.fromkeys(('standard', 'dzp', 'dzp1', 'dz1p', 'dzsp'), 'DZP'),
    'tz': 'TZ',
    **dict.fromkeys(('tzp', 'tzp1', 'tz1p', 'tzsp'), 'TZP'),
}
_TRUE = frozenset({'', 't', 'true', '.true.', 'yes', 'y'})
_STEP_COUNTS = ('mdnumcgsteps', 'mdsteps')
_STANDING_STILL = frozenset({'cg', 'broyden', 'fire'})


@dataclass(frozen=True)
class Fdf:
    """Content of an input, by canonical key (lower case, without ``-``, ``_`` and ``.``).

    :param values: value of each key as one text; ``''`` for a key that stands alone.
    :param blocks: lines of each block, without comments and empty lines.
    """

    values: Mapping[str, str]
    blocks: Mapping[str, tuple[str, ...]]


def read_fdf(text: str) -> Fdf:
    """Read an input.

    As SIESTA does, the first of several lines with one key counts.

    :param text: content of the file.
    :raises EngineError: a block that does not end, or input that is elsewhere (``%include``, ``<``).
    """
    values: dict[str, str] = {}
    blocks: dict[str, tuple[str, ...]] = {}
    lines = iter(enumerate(text.splitlines(), start=1))
    for number, raw in lines:
        line = _COMMENT.sub('', raw).strip()
        if not line:
            continue
        if '<' in line or line.lower().startswith('%include'):
            raise EngineError(f'line {number} of the fdf input refers to another file: {line!r}; put it into one file')
        if not line.startswith('%'):
            key, _, value = _SEPARATORS.sub(' ', line).partition(' ')
            values.setdefault(canonical(key), value.strip().strip('"\'`'))
            continue
        words = line.split()
        if words[0].lower() != '%block' or len(words) != 2:
            raise EngineError(f'line {number} of the fdf input is not understood: {line!r}')
        content = []
        for _, inner in lines:
            bare = _COMMENT.sub('', inner).strip()
            if bare.lower().startswith('%endblock'):
                break
            if bare:
                content.append(bare)
        else:
            raise EngineError(f'the block {words[1]!r} of the fdf input, line {number}, does not end')
        blocks.setdefault(canonical(words[1]), tuple(content))
    return Fdf(values, blocks)


def structure_of(fdf: Fdf) -> Structure:
    """Give the structure of an input.

    The input does not say what repeats. A direction counts as open where the images are at least
    :data:`~aiida_nanoml.engines.siesta.parameters.MINIMUM_VACUUM_ANG` apart and the k-points do not sample it. An
    isolated structure is put together where the faces of the cell cut it.

    :raises StructureError: something is missing or not understood; ghost atoms, Z-matrices and supercells.
    """
    for name in ('zmatrix', 'supercell'):
        if name in fdf.blocks:
            raise StructureError(f'the fdf input describes the structure by the block {name}, which is not read here')
    constant = _physical(fdf, 'latticeconstant', _LENGTHS_ANG, default_unit='bohr')
    cell = _read_cell(fdf, constant)
    numbers = _read_species(fdf)
    rows = _numeric_block(fdf, 'atomiccoordinatesandatomicspecies', 4)
    announced = fdf.values.get('numberofatoms')
    if announced is not None:
        rows = rows[: _integer('NumberOfAtoms', announced)]
        if len(rows) < int(announced):
            raise StructureError(f'the fdf input announces {announced} atoms and gives {len(rows)}')
    if not len(rows):
        raise StructureError('the fdf input has no atoms')
    unknown = sorted({int(species) for species in rows[:, 3]} - set(numbers))
    if unknown:
        raise StructureError(f'the fdf input has atoms of the undefined species {unknown[0]}')
    points = rows[:, :3].copy()
    if 'atomiccoordinatesorigin' in fdf.values:
        raise StructureError('AtomicCoordinatesOrigin is read as a block of three numbers only')
    if 'atomiccoordinatesorigin' in fdf.blocks:
        points += _numeric_block(fdf, 'atomiccoordinatesorigin', 3)[0]
    scale = _SCALES.get(canonical(fdf.values.get('atomiccoordinatesformat', 'bohr')))
    if scale is None:
        raise StructureError(f'AtomicCoordinatesFormat {fdf.values["atomiccoordinatesformat"]!r} is not known')
    if scale in _LENGTHS_ANG:
        positions = points * _LENGTHS_ANG[scale]
    elif constant is None:
        raise StructureError('scaled coordinates need a LatticeConstant')
    else:
        positions = points @ cell if scale == 'fractional' else points * constant
    atomic_numbers = np.array([numbers[int(species)] for species in rows[:, 3]], dtype=np.uint8)
    if constant is None:
        return Structure(atomic_numbers, positions)
    vacuum, whole = _vacuum(positions, cell)
    pbc = (vacuum < MINIMUM_VACUUM_ANG) | _sampled(fdf)
    return Structure(atomic_numbers, whole if not pbc.any() else positions, cell, pbc)


def parameters_of(fdf: Fdf, known: Sequence[SiestaParameters] = ()) -> SiestaParameters:
    """Give the parameters of an input; what it does not say has the default value of SIESTA 4.1.

    :param known: parameters that the input may realise: the first that ask for the same is returned, so that a
        ``k_length_ang`` or ``k_density`` is recognised in the meshes of different cells. After these, the protocols
        are tried.
    :raises EngineError: atoms that move, a value that is not understood, non-collinear spin, a mesh that is not
        diagonal, or a box that is left to SIESTA.
    """
    structure = structure_of(fdf)
    _check_no_motion(fdf)
    found = _explicit_parameters(fdf, structure)
    for candidate in (*known, *_protocol_parameters().values()):
        if _realised(candidate, structure) == _realised(found, structure):
            return candidate
    return found


def read_mesh_settings(fdf: Fdf) -> tuple[float, int]:
    """Give what decides about the mesh of a run that is to begin with a given density.

    :returns: ``MeshCutoff`` in Ry, and ``MeshSubDivisions``; what the input does not say has the default value of
        SIESTA 4.1.
    :raises EngineError: the run has spin, whose directions the density does not tell, or a mesh of its own.
    """
    if _read_spin(fdf) != 'none':
        raise EngineError('a run with spin cannot begin with a density that does not tell its directions')
    if 'meshsizes' in fdf.values or 'meshsizes' in fdf.blocks:
        raise EngineError('a run whose mesh is given by Mesh.Sizes cannot begin with a density: give a MeshCutoff')
    sub_points = fdf.values.get('meshsubdivisions')
    return (
        _read_cutoff_ry(fdf),
        SUB_POINTS if sub_points is None else _integer('MeshSubDivisions', sub_points),
    )


def protocol_of(parameters: SiestaParameters) -> str:
    """Name the protocol that has these parameters; ``custom`` if none has."""
    return next((name for name, known in _protocol_parameters().items() if known == parameters), 'custom')


def keywords(parameters: SiestaParameters) -> tuple[dict[str, Any], dict[str, Any]]:
    """Give what aiida-siesta wants as its ``parameters`` and ``basis``; structure and k-points stand elsewhere.

    :returns: fdf keys with values; a block has a key with ``%block`` and a value that ends with its last line.
    """
    general: dict[str, Any] = {
        'xc-functional': parameters.xc_functional,
        'xc-authors': parameters.xc_authors,
        'mesh-cutoff': f'{_number(parameters.mesh_cutoff_ry)} Ry',
        'electronic-temperature': f'{_number(parameters.electronic_temperature_kelvin)} K',
        'scf-mixer-weight': parameters.mixing_weight,
        'scf-mixer-history': parameters.mixing_history,
        'max-scf-iterations': parameters.max_scf_iterations,
        'write-forces': True,
    }
    if parameters.density_tolerance is not None:
        general['scf-dm-tolerance'] = _number(parameters.density_tolerance)
    if parameters.spin == 'polarized':
        general['spin'] = 'polarized'
    basis: dict[str, Any] = {'pao-basis-size': parameters.basis_size}
    if parameters.energy_shift_ev is not None:
        basis['pao-energy-shift'] = f'{_number(parameters.energy_shift_ev)} eV'
    if parameters.split_norm is not None:
        basis['pao-split-norm'] = _number(parameters.split_norm)
    for key, value in sorted(parameters.extra_fdf.items()):
        # aiida-siesta takes the keys of the basis, and only these, apart from the others.
        target = basis if 'pao' in key else general
        if '\n' in value:
            target[f'%block {key}'] = f'\n{value.strip()}\n%endblock {key}'
        else:
            target[key] = value
    return general, basis


def k_points(parameters: SiestaParameters, structure: Structure) -> tuple[list[int], list[float]] | None:
    """Give the diagonal Monkhorst-Pack mesh of a structure; its open directions get one point.

    With ``k_density`` each of the d periodic directions gets round(c / length) points, at least one, where c to the
    power of d is ``k_density`` / (number of atoms) times the product of the d lengths. All scalings of one cell have
    the same mesh.

    :param structure: cell in Å.
    :returns: divisions and displacements along each vector; None for the Gamma point alone.
    """
    pbc = structure.pbc.tolist()
    lengths = np.linalg.norm(structure.cell, axis=1)
    if parameters.k_grid is not None:
        wanted = list(parameters.k_grid)
        shift = list(parameters.k_shift)
    elif parameters.k_length_ang is not None:
        wanted = _divisions(parameters.k_length_ang, lengths, pbc)
    elif parameters.k_density is not None and structure.pbc.any():
        repeated = lengths[structure.pbc]
        points = parameters.k_density / len(structure.numbers)
        wanted = _divisions((points * float(repeated.prod())) ** (1 / len(repeated)), lengths, pbc)
    else:
        return None
    if parameters.k_grid is None:
        # A single displaced point would be at the edge of the zone: worse than Gamma.
        shift = [step if n > 1 else 0.0 for n, step in zip(wanted, parameters.k_shift, strict=True)]
    mesh = [n if repeats else 1 for n, repeats in zip(wanted, pbc, strict=True)]
    shift = [step if repeats else 0.0 for step, repeats in zip(shift, pbc, strict=True)]
    return None if mesh == [1, 1, 1] and not any(shift) else (mesh, shift)


def write_fdf(structure: Structure, parameters: SiestaParameters, *, densities: bool = False) -> str:
    """Write the input of one structure in the layout of aiida-siesta.

    :param structure: isolated ones are placed in a box with the vacuum of the parameters.
    :param densities: whether SIESTA saves its density on the mesh, and the difference to that of the free atoms.
    :returns: the text of the file; the files of a run are named ``aiida.*``.
    """
    placed = place(structure, parameters.vacuum_ang)
    general, basis = keywords(parameters)
    species = list(dict.fromkeys(placed.numbers.tolist()))
    head = general | {
        'system-name': 'aiida',
        'system-label': 'aiida',
        'use-tree-timer': 'T',
        'xml-write': 'T',
        'number-of-species': len(species),
        'number-of-atoms': len(placed),
        'geometry-must-converge': 'T',
        'lattice-constant': '1.0 Ang',
        'atomic-coordinates-format': 'Ang',
    }
    if densities:
        head |= {'save-rho': 'T', 'save-delta-rho': 'T'}
    lines = sorted(f'{key if key.startswith("%") else canonical(key)} {value}' for key, value in head.items())
    lines += ['#', '# -- Basis Set Info follows', '#', *(f'{key} {value}' for key, value in basis.items())]
    lines += ['#', '# -- Structural Info follows', '#', '%block chemicalspecieslabel']
    lines += [f'{index:5} {number:5} {SYMBOLS[number]:>6}' for index, number in enumerate(species, start=1)]
    lines += ['%endblock chemicalspecieslabel', '%block lattice-vectors']
    lines += [' '.join(f'{value:18.10f}' for value in vector) for vector in placed.cell.tolist()]
    lines += ['%endblock lattice-vectors', '%block atomiccoordinatesandatomicspecies']
    for atom, (number, position) in enumerate(zip(placed.numbers.tolist(), placed.positions.tolist(), strict=True), 1):
        point = ' '.join(f'{value:18.10f}' for value in position)
        lines.append(f'{point} {species.index(number) + 1:4} {SYMBOLS[number]:>6} {atom:6}')
    lines.append('%endblock atomiccoordinatesandatomicspecies')
    sampled = k_points(parameters, placed)
    if sampled is not None:
        mesh, shift = sampled
        lines += ['#', '# -- K-points Info follows', '#', '%block kgrid_monkhorst_pack']
        for axis in range(3):
            row = ' '.join(f'{mesh[axis] if column == axis else 0:6}' for column in range(3))
            lines.append(f'{row} {shift[axis]:18.10f}')
        lines.append('%endblock kgrid_monkhorst_pack')
    return '\n'.join(lines) + '\n'


def read_energy_ev(text: str) -> float:
    """Read an energy, or a temperature as one, the way SIESTA does: a number and a unit, Ry where there is none.

    :raises EngineError: it is not understood.
    """
    return _quantity(text, _ENERGIES_EV, 'ry', 'an energy')


def vacuum_of(structure: Structure) -> NDArray[np.float64]:
    """Give the distance in Å between the images of a structure along each direction of its cell, (3,).

    It is measured across the faces of the cell; infinite without a cell.

    :raises StructureError: a cell without volume.
    """
    if not structure.cell.any():
        return np.full(3, np.inf)
    return _vacuum(structure.positions, structure.cell)[0]


@cache
def _protocol_parameters() -> dict[str, SiestaParameters]:
    from aiida_nanoml.engines.siesta.engine import SiestaEngine  # the engine is built on this module

    protocols = SiestaEngine.protocols()
    return {name: SiestaParameters.model_validate(protocol['parameters']) for name, protocol in protocols.items()}


def _divisions(length: float, lengths: NDArray[np.float64], pbc: Sequence[bool]) -> list[int]:
    # Noise in the lengths must not decide where the quotient lies halfway.
    return [
        max(1, math.floor(round(length / own, 6) + 0.5)) if repeats else 1
        for own, repeats in zip(lengths.tolist(), pbc, strict=True)
    ]


def _realised(parameters: SiestaParameters, structure: Structure) -> dict[str, Any]:
    """Give the parameters as they act on one structure: with its mesh, and no vacuum where it is periodic."""
    values = parameters.model_dump()
    del values['k_grid'], values['k_length_ang'], values['k_density'], values['k_shift']
    values['k_points'] = k_points(parameters, structure)
    if structure.pbc.any():
        del values['vacuum_ang']
    return values


def _explicit_parameters(fdf: Fdf, structure: Structure) -> SiestaParameters:
    values = fdf.values
    functional = values.get('xcfunctional', 'LDA').upper().replace('LSD', 'LDA')
    given = values.get('xcauthors', 'PZ').upper().replace('PZ', 'CA')
    authors = next((name for name in AUTHORS.get(functional, ()) if name.upper() == given), given)
    size = values.get('paobasissize', 'standard')
    temperature = _physical(fdf, 'electronictemperature', _ENERGIES_EV, default_unit='ry')
    shift = _physical(fdf, 'paoenergyshift', _ENERGIES_EV, default_unit='ry')
    mesh, displacement = _read_mesh(fdf)
    parameters: dict[str, Any] = {
        'xc_functional': functional,
        'xc_authors': authors,
        'basis_size': _BASIS_SIZES.get(size.lower(), size),
        'energy_shift_ev': shift if shift is None else round(shift, 6),
        'split_norm': _optional(fdf, 'paosplitnorm'),
        'mesh_cutoff_ry': _read_cutoff_ry(fdf),
        'electronic_temperature_kelvin': 300.0 if temperature is None else round(temperature / BOLTZMANN_EV_PER_K, 6),
        'mixing_weight': _optional(fdf, 'scfmixerweight', 'dmmixingweight', default=0.25),
        'mixing_history': _optional(fdf, 'scfmixerhistory', 'dmnumberpulay', default=2),
        'max_scf_iterations': _optional(fdf, 'maxscfiterations', default=1000),
        'density_tolerance': _optional(fdf, 'scfdmtolerance', 'dmtolerance'),
        'spin': _read_spin(fdf),
        'k_grid': mesh,
        'k_length_ang': None,
        'k_density': None,
        'k_shift': displacement,
        'vacuum_ang': _read_vacuum(structure),
        'extra_fdf': _extra(fdf),
    }
    try:
        return SiestaParameters.model_validate(parameters)
    except ValidationError as error:
        faults = '; '.join(f'{".".join(map(str, fault["loc"]))}: {fault["msg"]}' for fault in error.errors())
        raise EngineError(f'the fdf input cannot be expressed as parameters of the engine siesta: {faults}') from error


def _extra(fdf: Fdf) -> dict[str, str]:
    def is_extra(key: str) -> bool:
        return not (key in OWNED or key in STRUCTURAL or is_housekeeping(key) or is_relaxing(key))

    extra = {key: value or 'T' for key, value in fdf.values.items() if is_extra(key)}
    return extra | {key: '\n'.join(lines) + '\n' for key, lines in fdf.blocks.items() if is_extra(key)}


def _check_no_motion(fdf: Fdf) -> None:
    kind = fdf.values.get('mdtypeofrun', 'cg').lower()
    if kind not in _STANDING_STILL or _optional(fdf, *_STEP_COUNTS) or 'luascript' in fdf.values:
        raise EngineError(
            f'the run moves atoms (MD.TypeOfRun {kind}): a label belongs to a given geometry; '
            'make a single point of the final structure'
        )


def _read_cell(fdf: Fdf, constant: float | None) -> NDArray[np.float64]:
    if constant is None:
        return np.zeros((3, 3))
    if 'latticeparameters' in fdf.blocks:
        rows = _numeric_block(fdf, 'latticeparameters', 6)
        lengths, angles = rows[0, :3], np.radians(rows[0, 3:])
        cosines, sine = np.cos(angles), math.sin(angles[2])
        slant = (cosines[0] - cosines[1] * cosines[2]) / sine
        cell = np.array(
            [
                [lengths[0], 0.0, 0.0],
                [lengths[1] * cosines[2], lengths[1] * sine, 0.0],
                lengths[2] * np.array([cosines[1], slant, math.sqrt(max(0.0, 1 - cosines[1] ** 2 - slant**2))]),
            ]
        )
        cell[np.abs(cell) < 1e-14] = 0.0
    elif 'latticevectors' in fdf.blocks:
        cell = _numeric_block(fdf, 'latticevectors', 3)
        if len(cell) != 3:
            raise StructureError(f'the fdf input gives {len(cell)} lattice vectors instead of 3')
    else:
        cell = np.eye(3)
    return np.asarray(constant * cell, dtype=np.float64)


def _read_species(fdf: Fdf) -> dict[int, int]:
    numbers: dict[int, int] = {}
    for line in fdf.blocks.get('chemicalspecieslabel', ()):
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


def _read_mesh(fdf: Fdf) -> tuple[list[int] | None, list[float]]:
    if 'kgridmonkhorstpack' not in fdf.blocks:
        return None, [0.0, 0.0, 0.0]
    rows = _numeric_block(fdf, 'kgridmonkhorstpack', 4)
    if rows.shape[0] != 3 or np.any(rows[:, :3] != np.diag(np.diag(rows[:, :3]))):
        raise EngineError('the block kgrid_Monkhorst_Pack of the fdf input is not diagonal, which is not supported')
    return [int(n) for n in np.diag(rows[:, :3])], rows[:, 3].tolist()


def _sampled(fdf: Fdf) -> NDArray[np.bool_]:
    if 'kgridcutoff' in fdf.values:
        return np.ones(3, dtype=bool)
    if 'kgridmonkhorstpack' not in fdf.blocks:
        return np.zeros(3, dtype=bool)
    rows = _numeric_block(fdf, 'kgridmonkhorstpack', 4)
    return np.asarray((np.abs(rows[:, :3]).max(axis=1) > 1) | (rows[:, 3] != 0))


def _read_cutoff_ry(fdf: Fdf) -> float:
    cutoff = _physical(fdf, 'meshcutoff', _ENERGIES_EV, default_unit='ry')
    return 300.0 if cutoff is None else round(cutoff / _ENERGIES_EV['ry'], 6)


def _read_spin(fdf: Fdf) -> str:
    for key in ('noncollinearspin', 'spinspiral', 'spinorbit'):
        if key in fdf.values and fdf.values[key].lower() in _TRUE:
            raise EngineError('non-collinear spin is not supported by the engine siesta')
    spin = fdf.values.get('spin')
    if spin is not None:
        kinds = {**dict.fromkeys(('none', 'nonpolarized', 'nonpolarised'), 'none')}
        kinds |= dict.fromkeys(('polarized', 'polarised', 'collinear', 'colinear', 'p'), 'polarized')
        if canonical(spin) not in kinds:
            raise EngineError(f'the fdf input has Spin {spin!r}; the engine siesta supports none and polarized')
        return kinds[canonical(spin)]
    return 'polarized' if fdf.values.get('spinpolarized', 'false').lower() in _TRUE else 'none'


def _read_vacuum(structure: Structure) -> float:
    if structure.pbc.any():
        return USUAL_VACUUM_ANG
    vacuum = vacuum_of(structure)
    if not np.isfinite(vacuum).all():
        raise EngineError('the fdf input leaves the cell to SIESTA, so that the vacuum is not known; give a cell')
    return round(float(vacuum.min()), 3)


def _vacuum(positions: NDArray[np.float64], cell: NDArray[np.float64]) -> tuple[NDArray[np.float64], Any]:
    """Measure the widest empty slab along each direction, and put the atoms together on one side of it."""
    volume = abs(float(np.linalg.det(cell)))
    if volume < 1e-6:
        raise StructureError('the lattice vectors span no volume')
    fractions = positions @ np.linalg.inv(cell)
    heights = volume / np.linalg.norm(np.cross(np.roll(cell, -1, axis=0), np.roll(cell, -2, axis=0)), axis=1)
    vacuum = np.empty(3)
    for axis in range(3):
        wrapped = fractions[:, axis] - np.floor(fractions[:, axis])
        ordered = np.sort(wrapped)
        gaps = np.diff(ordered, append=ordered[0] + 1.0)
        extent = float(np.ptp(fractions[:, axis]))
        if 1.0 - extent >= gaps.max() - 1e-9:  # nothing is cut
            vacuum[axis] = (1.0 - extent) * heights[axis]
            continue
        widest = int(np.argmax(gaps))
        vacuum[axis] = gaps[widest] * heights[axis]
        first = ordered[(widest + 1) % len(ordered)]
        fractions[:, axis] = np.where(wrapped < first - 1e-12, wrapped + 1.0, wrapped)
    return vacuum, fractions @ cell


def _numeric_block(fdf: Fdf, name: str, columns: int) -> NDArray[np.float64]:
    if name not in fdf.blocks:
        raise StructureError(f'the fdf input has no block {name}')
    rows = []
    for line in fdf.blocks[name]:
        # SIESTA takes the numbers of a line and passes over words between them.
        numbers = [number for number in map(_float, _SEPARATORS.split(line)) if number is not None]
        if len(numbers) < columns:
            raise StructureError(f'a line of the block {name} has fewer than {columns} numbers: {line!r}')
        rows.append(numbers[:columns])
    return np.array(rows, dtype=np.float64).reshape(-1, columns)


def _float(word: str) -> float | None:
    try:
        value = float(re.sub('[dD]', 'e', word))
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _integer(name: str, text: str) -> int:
    try:
        return int(text.split(maxsplit=1)[0])
    except (ValueError, IndexError) as error:
        raise StructureError(f'{name} of the fdf input is no integer: {text!r}') from error


def _physical(fdf: Fdf, key: str, units: Mapping[str, float], default_unit: str) -> float | None:
    text = fdf.values.get(key)
    return None if text is None else _quantity(text, units, default_unit, key)


def _quantity(text: str, units: Mapping[str, float], default_unit: str, what: str) -> float:
    words = text.split()
    value = _float(words[0]) if words else None
    unit = words[1].lower() if len(words) > 1 else default_unit
    if value is None or unit not in units:
        raise EngineError(f'the value of {what} in the fdf input is not understood: {text!r}')
    return value * units[unit]


def _optional(fdf: Fdf, *keys: str, default: float | None = None) -> float | None:
    """Give the number of the first of several spellings that the input has; a whole number as an integer."""
    for key in keys:
        if key in fdf.values:
            words = fdf.values[key].split()
            value = _float(words[0]) if words else None
            if value is None:
                raise EngineError(f'the value of {key} in the fdf input is no number: {fdf.values[key]!r}')
            return int(value) if value.is_integer() else value
    return default


def _number(value: float) -> str:
    return f'{value:.10g}'
