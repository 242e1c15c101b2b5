"""Densities and potentials on the mesh of SIESTA: its files, both ways, and the mesh that it chooses.

SIESTA writes a quantity on its mesh as unformatted Fortran (``aiida.RHO``) and, where it was built with NetCDF, also as
classic NetCDF (``Rho.grid.nc``). It reads NetCDF only: a self-consistency that begins with a given density needs an
executable that was built with it.
"""

from __future__ import annotations

import io
import itertools
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from aiida_nanoml.densities.density import MOST_POINTS, Density, Values
from aiida_nanoml.densities.resampling import resample_values
from aiida_nanoml.errors import DensityError
from aiida_nanoml.structures import Structure
from aiida_nanoml.text import agree, counted
from aiida_nanoml.units import SIESTA_BOHR_ANG

EXTENTS_ANG = (1e-2, 1e6)
"""Lattice vectors shorter or longer than these (Å) are a mistake of reading."""

PLACE_TOLERANCE_ANG = 1e-3
"""Lattice vectors and atoms that differ by less (Å) are the same: a file may hold them in single precision."""

CHARGE_TOLERANCE = 1e-3
"""Share of the electrons by which the integral over a coarse mesh may be wrong. SIESTA's own meshes keep it to 1e-5."""

DEFORMATION_FILE = 'DeltaRho.IN.grid.nc'
"""Name under which SIESTA looks for the density to begin with, less that of the free atoms."""

DEFORMATION_KEY = 'SCF.Read.Deformation.Charge.NetCDF'
"""Key of its input that makes it do so."""

SUB_POINTS = 2
"""Points of the mesh along a vector within a point of the coarse mesh, SIESTA's default."""

_HEADER = struct.Struct('<i9dii4ii')
"""Two records of Fortran, each between its lengths: the cell in Bohr; points along each vector, and components."""

_NEIGHBOURS = np.array([steps for steps in itertools.product((-1, 0, 1), repeat=3) if any(steps)])


@dataclass(frozen=True, eq=False)
class Mesh:
    """What a mesh file of SIESTA holds.

    :param cell: (3, 3) lattice vectors as rows in Å.
    :param values: (components, n1, n2, n3) in the unit of the file: electrons/Bohr³ for a density, Ry for a potential;
        one component, or one for each direction of the spin.
    """

    cell: NDArray[np.float64]
    values: Values


def read_mesh(content: bytes, name: str) -> Mesh:
    """Read the content of a mesh file: unformatted Fortran, or classic NetCDF, whatever its name.

    :param content: of the file.
    :param name: of the file, for messages.
    :raises DensityError: it is no mesh of SIESTA, is not whole, or is damaged.
    """
    if content[:4] == b'\x89HDF':
        raise DensityError(
            f'{name} is NetCDF-4, which rests on HDF5; SIESTA and this reader take classic NetCDF: '
            'convert it with `nccopy -k classic`'
        )
    mesh = _read_netcdf(content, name) if content[:3] == b'CDF' else _read_records(content, name)
    extents = np.abs(mesh.cell).max(axis=1)
    if not ((EXTENTS_ANG[0] <= extents) & (extents <= EXTENTS_ANG[1])).all():
        raise DensityError(f'{name} is no mesh of SIESTA: it does not begin with a cell and the points along it')
    _check_finite(name, mesh.values)
    return mesh


def _check_finite(name: str, values: NDArray[Any]) -> None:
    n_bad = int(np.count_nonzero(~np.isfinite(values)))
    if n_bad:
        raise DensityError(f'{name} has {counted(n_bad, "value")} that {agree(n_bad, "is", "are")} not finite')


def read_density(
    rho: bytes, delta_rho: bytes, structure: Structure, names: tuple[str, str] = ('aiida.RHO', 'aiida.DRHO')
) -> Density:
    """Make a density of the files that ``SaveRho`` and ``SaveDeltaRho`` leave.

    The density of the free atoms is the difference of the two. Components of a collinear spin are added up.

    :param rho: content of the file of the self-consistent density.
    :param delta_rho: content of the file of its difference to the density of the free atoms.
    :param structure: the structure of the run, in its box, as SIESTA got it.
    :param names: of the two files, for messages.
    :raises DensityError: a file cannot be read; the two, or the cell of the structure, do not belong together; there
        are more than two components; or the difference has a charge.
    """
    meshes = [read_mesh(content, name) for content, name in zip((rho, delta_rho), names, strict=True)]
    for mesh, name in zip(meshes, names, strict=True):
        if len(mesh.values) > 2:
            raise DensityError(f'{name} has {len(mesh.values)} components: only collinear spin can be added up')
        if not np.allclose(mesh.cell, structure.cell, rtol=0, atol=PLACE_TOLERANCE_ANG):
            raise DensityError(
                f'{name} belongs to another box: its lattice vectors are {_rounded(mesh.cell)} Å, those of the '
                f'structure {_rounded(structure.cell)} Å'
            )
    shapes = [mesh.values.shape for mesh in meshes]
    if shapes[0] != shapes[1]:
        raise DensityError(
            f'{names[0]} has the mesh {shapes[0][1:]} with {shapes[0][0]} components, {names[1]} {shapes[1][1:]} with '
            f'{shapes[1][0]}: they are of two runs'
        )
    # Damaged numbers overflow; the density says how many are not finite.
    with np.errstate(over='ignore', invalid='ignore'):
        total, difference = (_electrons_per_ang3(mesh.values) for mesh in meshes)
        density = Density(structure, total - difference, difference)
    electrons, charge = density.charge(total), density.charge(difference)
    if not electrons > 0 or abs(charge) > CHARGE_TOLERANCE * electrons:
        raise DensityError(
            f'{names[1]} integrates to {charge:.4g} electrons, {names[0]} to {electrons:.6g}: the free atoms are '
            'neutral, so that the files are of two runs, or the structure is charged'
        )
    return density


def write_deformation(difference: ArrayLike, cell: ArrayLike) -> bytes:
    """Write the density to begin a self-consistency with: the content of :data:`DEFORMATION_FILE`.

    SIESTA adds the density of its free atoms. It takes the file for a calculation without spin only, and only if the
    mesh is the one that it chooses itself (:func:`choose_mesh`).

    :param difference: (n1, n2, n3) density less that of the free atoms, in electrons/Å³.
    :param cell: (3, 3) lattice vectors as rows in Å.
    :raises DensityError: a value is not finite, or there is no mesh or no cell.
    """
    from scipy.io import netcdf_file

    values = np.asarray(difference, dtype=np.float32)
    vectors = _checked_cell(cell)
    if values.ndim != 3 or not 0 < values.size <= MOST_POINTS:
        raise DensityError(f'the difference has the shape {values.shape}, a mesh has three dimensions')
    _check_finite('the difference', values)
    buffer = io.BytesIO()
    file = netcdf_file(buffer, 'w')
    for name, length in zip(('xyz', 'abc', 'spin', 'n1', 'n2', 'n3'), (3, 3, 1, *values.shape), strict=True):
        file.createDimension(name, length)
    file.createVariable('cell', 'f4', ('abc', 'xyz'))[:] = vectors / SIESTA_BOHR_ANG
    grid = file.createVariable('gridfunc', 'f4', ('spin', 'n3', 'n2', 'n1'))
    grid[0] = values.T * np.float32(SIESTA_BOHR_ANG**3)
    file.flush()
    return buffer.getvalue()


def write_start(density: Density, structure: Structure, cutoff_ry: float, sub_points: int = SUB_POINTS) -> bytes:
    """Write the density to begin the run of a structure with, on the mesh that SIESTA chooses for it.

    :param density: of the same atoms at the same places in the same box; their order is free.
    :param structure: as SIESTA gets it.
    :param cutoff_ry: ``MeshCutoff`` of the run in Ry.
    :param sub_points: ``MeshSubDivisions`` of the run.
    :returns: the content of :data:`DEFORMATION_FILE`.
    :raises DensityError: the density belongs to another box or other atoms, or there is no such mesh.
    """
    check_same_place(density.structure, structure)
    shape = choose_mesh(structure.cell, cutoff_ry, sub_points)
    return write_deformation(resample_values(density.difference, shape), structure.cell)


def check_same_place(known: Structure, structure: Structure) -> None:
    """Check that a structure is where a density has it: its mesh belongs to the box.

    :param known: the structure of the density.
    :param structure: the one to run.
    :raises DensityError: the boxes differ, or an atom is where the other structure, repeated, has none of its
        element.
    """
    if not np.allclose(known.cell, structure.cell, rtol=0, atol=PLACE_TOLERANCE_ANG):
        raise DensityError(
            f'the density belongs to a box with the lattice vectors {_rounded(known.cell)} Å, the structure is in one '
            f'with {_rounded(structure.cell)} Å: place it with the same vacuum'
        )
    fractions = [one.positions @ np.linalg.inv(known.cell) for one in (known, structure)]
    steps = fractions[0][:, None] - fractions[1][None]
    distances = np.linalg.norm((steps - np.round(steps)) @ known.cell, axis=-1)
    same = (distances < PLACE_TOLERANCE_ANG) & (known.numbers[:, None] == structure.numbers[None])
    if len(known) != len(structure) or not (same.any(axis=0).all() and same.any(axis=1).all()):
        raise DensityError('the density belongs to other atoms than the structure, or these are elsewhere in the box')


def choose_mesh(cell_ang: ArrayLike, cutoff_ry: float, sub_points: int = SUB_POINTS) -> tuple[int, int, int]:
    """Compute the mesh that SIESTA 4.1 chooses for a cell.

    The numbers of points have no prime factors but 2, 3 and 5, are multiples of the sub-points, and carry all plane
    waves up to the cutoff (J. M. Soler et al., J. Phys.: Condens. Matter 14, 2745 (2002), section 5).

    :param cell_ang: (3, 3) lattice vectors as rows in Å.
    :param cutoff_ry: ``MeshCutoff`` in Ry.
    :param sub_points: ``MeshSubDivisions``.
    :returns: points along each lattice vector.
    :raises DensityError: the vectors span no volume, the cutoff is not positive, there are no sub-points, or the mesh
        has too many points.
    """
    if not 0 < cutoff_ry < np.inf or sub_points < 1:
        raise DensityError(f'a mesh needs a positive cutoff and sub-points; got {cutoff_ry} Ry and {sub_points}')
    reciprocal = 2 * np.pi * np.linalg.inv(_checked_cell(cell_ang) / SIESTA_BOHR_ANG).T
    estimate = 2 * np.sqrt(cutoff_ry) / np.linalg.norm(reciprocal, axis=1)
    if np.prod(estimate) > MOST_POINTS:
        raise DensityError(f'a cutoff of {cutoff_ry:g} Ry needs more than {MOST_POINTS} points in this cell')
    shape = estimate.astype(np.int64) + 1
    while True:
        shape = np.array([_next_allowed(int(n), sub_points) for n in shape])
        # The mesh carries waves up to the faces of its Brillouin zone; SIESTA takes 1e-8 Ry off.
        if (_shortest_vector(reciprocal * shape[:, None]) / 2) ** 2 - 1e-8 >= cutoff_ry:
            n1, n2, n3 = shape.tolist()
            return n1, n2, n3
        shape = shape + 1


def _read_records(content: bytes, name: str) -> Mesh:
    """Read unformatted Fortran: not by sisl, which never ends, or takes all memory, if the file is another one."""
    if len(content) < _HEADER.size:
        raise DensityError(f'{name} is no mesh of SIESTA: it ends after {len(content)} bytes, within the header')
    first, *vectors, second, third, n1, n2, n3, n_components, fourth = _HEADER.unpack_from(content)
    if (first, second, third, fourth) != (72, 72, 16, 16) or min(n1, n2, n3, n_components) < 1:
        raise DensityError(f'{name} is no mesh of SIESTA: it does not begin with a cell and the points along it')
    size = _HEADER.size + n_components * n3 * n2 * (4 * n1 + 8)
    if len(content) != size:
        raise DensityError(
            f'{name} has {len(content)} bytes, a mesh of {n1} x {n2} x {n3} points has {size}: it is not whole'
        )
    # One record a row of the mesh: its length stands at both ends.
    rows = np.frombuffer(content, '<f4', offset=_HEADER.size).reshape(n_components, n3, n2, n1 + 2)
    if (rows.view('<i4')[..., [0, -1]] != 4 * n1).any():
        raise DensityError(f'{name} is damaged: its rows do not have {n1} points')
    return Mesh(SIESTA_BOHR_ANG * np.reshape(vectors, (3, 3)), rows[..., 1:-1].transpose(0, 3, 2, 1))


def _read_netcdf(content: bytes, name: str) -> Mesh:
    from scipy.io import netcdf_file

    try:
        with np.errstate(all='ignore'):
            file = netcdf_file(io.BytesIO(content), 'r')
            cell, values = (file.variables[key][:] for key in ('cell', 'gridfunc'))
    except Exception as error:  # a damaged header fails anywhere in the reader
        raise DensityError(f'{name} is no mesh of SIESTA that can be read: {type(error).__name__} {error}') from error
    if cell.shape != (3, 3) or values.ndim != 4 or not values.size or {cell.dtype.kind, values.dtype.kind} != {'f'}:
        raise DensityError(
            f'{name} is no mesh of SIESTA: `cell` has the shape {cell.shape}, `gridfunc` {values.shape}; '
            '(3, 3) and (components, n3, n2, n1) are needed'
        )
    with np.errstate(all='ignore'):  # numbers that overflow are refused as not finite
        vectors, grid = cell.astype(np.float64), values.astype(np.float32)
    return Mesh(SIESTA_BOHR_ANG * vectors, grid.transpose(0, 3, 2, 1))


def _electrons_per_ang3(values: Values) -> Values:
    """Add up the components of a density in electrons/Bohr³."""
    total: Values = np.ascontiguousarray(values[0] if len(values) == 1 else values.sum(axis=0))
    return total / np.float32(SIESTA_BOHR_ANG**3)


def _checked_cell(cell: ArrayLike) -> NDArray[np.float64]:
    vectors = np.asarray(cell, dtype=np.float64)
    if vectors.shape != (3, 3) or not np.isfinite(vectors).all() or not abs(np.linalg.det(vectors)) > 0:
        raise DensityError('a mesh needs three lattice vectors that span a volume')
    return vectors


def _rounded(cell: NDArray[np.float64]) -> str:
    return str(np.round(cell, 4).tolist())


def _next_allowed(n: int, sub_points: int) -> int:
    while n % sub_points or not _is_smooth(n):
        n += 1
    return n


def _is_smooth(n: int) -> bool:
    for prime in (2, 3, 5):
        while n % prime == 0:
            n //= prime
    return n == 1


def _shortest_vector(lattice: NDArray[np.float64]) -> float:
    """Return the length of the shortest vector of a lattice, whose basis are the rows."""
    basis = lattice.copy()
    while True:
        vectors = _NEIGHBOURS @ basis
        squares = np.sum(vectors**2, axis=1)
        for row in np.argsort(-np.sum(basis**2, axis=1)):
            # With a coefficient of one, the new vector and the other two span the same lattice.
            candidates = np.flatnonzero(_NEIGHBOURS[:, row])
            best = candidates[np.argmin(squares[candidates])]
            if squares[best] < np.sum(basis[row] ** 2) * (1 - 1e-9):
                basis[row] = vectors[best]
                break
        else:
            return float(np.sqrt(squares.min()))
