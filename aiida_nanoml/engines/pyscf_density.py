"""Valence densities of Gaussian orbitals on a mesh, with PySCF."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from aiida_nanoml.densities.density import MOST_POINTS, Density
from aiida_nanoml.errors import DensityError, EvaluationError, FailureCode
from aiida_nanoml.structures import Structure, place
from aiida_nanoml.units import BOHR_ANG

SLAB_VALUES = 8_000_000
"""Values of the basis functions that are held at a time: 64 MB."""

RADIAL_POINTS, ANGULAR_POINTS = 100, 434
"""Integration grid of a free atom."""


def density_on_mesh(
    molecule: Any,
    functional: str,
    density_matrix: NDArray[np.float64],
    structure: Structure,
    spacing_ang: float,
    vacuum_ang: float,
) -> Density:
    """Evaluate the density of an isolated molecule, and that of its free atoms, on the mesh of a box.

    The charge of the mesh is not mended: it differs from the number of electrons by what the vacuum cuts off and by
    what the mesh is too coarse for.

    :param molecule: of PySCF; its coordinates are those of the structure.
    :param functional: exchange and correlation of the free atoms, by its name in PySCF.
    :param density_matrix: (K, K) of both spins together, over the K basis functions of the molecule.
    :param structure: isolated; positions in Å.
    :param spacing_ang: distance of neighbouring points along each lattice vector, in Å. It is kept exactly, so that
        the meshes of all structures are alike: the box is a whole number of spacings long.
    :param vacuum_ang: least distance between the images in Å.
    :returns: the density; its structure is in its box.
    :raises EvaluationError: ``'not_converged'`` if a free atom is not.
    :raises DensityError: the mesh has too many points.
    """
    from pyscf.dft.numint import eval_ao
    from scipy.linalg import block_diag

    placed = place(structure, vacuum_ang)
    shape = np.ceil(np.diag(placed.cell) / spacing_ang).astype(np.int64)
    if shape.prod(dtype=np.float64) > MOST_POINTS:
        raise DensityError(f'a spacing of {spacing_ang:g} Å needs more than {MOST_POINTS} points in this box')
    boxed = Structure(placed.numbers, placed.positions, np.diag(shape * spacing_ang), placed.pbc)
    atoms = _free_atoms(molecule, functional)
    matrices = density_matrix, block_diag(*(atoms[molecule.atom_symbol(atom)] for atom in range(molecule.natm)))
    axes = [np.arange(n) * spacing_ang for n in shape]
    plane = np.stack(np.meshgrid(*axes[1:], indexing='ij'), axis=-1).reshape(-1, 2)
    corner = structure.positions[0] - boxed.positions[0]
    values = np.empty((2, shape[0] * len(plane)), dtype=np.float32)
    n_points = max(1, SLAB_VALUES // molecule.nao)
    for start in range(0, values.shape[1], n_points):
        rows = np.arange(start, min(start + n_points, values.shape[1]))
        points = np.column_stack([axes[0][rows // len(plane)], plane[rows % len(plane)]])
        orbitals = eval_ao(molecule, (points + corner) / BOHR_ANG)
        for matrix, slab in zip(matrices, values[:, rows[0] : rows[-1] + 1], strict=True):
            slab[:] = np.einsum('pk,pk->p', orbitals @ matrix, orbitals)
    total, free = values.reshape(2, *shape) / np.float32(BOHR_ANG**3)
    return Density(boxed, free, total - free)


def _free_atoms(molecule: Any, functional: str) -> dict[str, NDArray[np.float64]]:
    """Return the density matrix of the neutral, spherical atom of each element, in the basis of the molecule.

    Its open shells are filled evenly over their orbitals and both spins, as in the spin-restricted molecule.
    """
    from pyscf import gto
    from pyscf.data.elements import NRSRHFS_CONFIGURATION
    from pyscf.scf.atom_ks import AtomSphAverageRKS

    matrices = {}
    for symbol in sorted({molecule.atom_symbol(atom) for atom in range(molecule.natm)}):
        atom = gto.M(
            atom=[(symbol, (0.0, 0.0, 0.0))], basis=molecule.basis, pseudo=molecule.pseudo, spin=None, verbose=0
        )
        field = AtomSphAverageRKS(atom, xc=functional)
        field.atomic_configuration = NRSRHFS_CONFIGURATION
        field.init_guess = '1e'  # the usual one knows no pseudopotentials
        field.grids.atom_grid = (RADIAL_POINTS, ANGULAR_POINTS)
        field.kernel()
        if not field.converged:
            raise EvaluationError(FailureCode.NOT_CONVERGED, f'no self-consistency of the free atom {symbol}')
        matrices[symbol] = field.make_rdm1()
    return matrices
