"""Densities as Gaussian cube files, which programs that draw molecules read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from aiida_nanoml.densities.density import Density
from aiida_nanoml.units import BOHR_ANG


def write_cube(path: Path, density: Density, values: ArrayLike, title: str) -> None:
    """Write values on the mesh of a density as a cube file, lengths in bohr and densities in electrons/bohr³.

    :param path: file to write; one that is there is replaced.
    :param density: gives structure and mesh.
    :param values: (n1, n2, n3) in electrons/Å³: its ``total``, ``free`` or ``difference``.
    :param title: first line of the file, before the unit.
    """
    structure = density.structure
    mesh = np.asarray(values, dtype=np.float64).reshape(density.shape) * BOHR_ANG**3
    lines = [
        f'{" ".join(title.split())}, electrons/Bohr^3',
        'OUTER LOOP: X, MIDDLE LOOP: Y, INNER LOOP: Z',
        _row(len(structure), np.zeros(3)),
        *(_row(n, vector / n / BOHR_ANG) for n, vector in zip(mesh.shape, structure.cell, strict=True)),
        *(
            _row(number, np.array([0.0, *place]))
            for number, place in zip(structure.numbers.tolist(), structure.positions / BOHR_ANG, strict=True)
        ),
    ]
    # Six values a line; each row along the third vector begins a new one.
    n = mesh.shape[2]
    form = ''.join('%13.5E' + '\n' * (column % 6 == 5 or column == n - 1) for column in range(n))
    with path.open('w', encoding='ascii', errors='replace') as file:
        file.write('\n'.join(lines) + '\n')
        for plane in mesh:
            file.write(form * len(plane) % tuple(plane.ravel().tolist()))


def _row(first: int, numbers: NDArray[np.float64]) -> str:
    return f'{first:5d}' + ''.join(f'{number:12.6f}' for number in numbers)
