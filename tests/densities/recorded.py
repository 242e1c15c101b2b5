"""Recorded densities of SIESTA, thinned: ``python -m tests.densities.recorded FOLDER NAME SPACING`` adds one.

``FOLDER`` holds a run with the system label ``aiida``, with ``SaveRho`` and ``SaveDeltaRho``.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from aiida_nanoml.densities import Density
from aiida_nanoml.densities.thinning import thin as thinned
from aiida_nanoml.engines.siesta.fdf import read_fdf
from aiida_nanoml.engines.siesta.fdf_recognition import read_structure
from aiida_nanoml.engines.siesta.mesh import read_density
from aiida_nanoml.structures import Structure

RECORDED = Path(__file__).resolve().parents[1] / 'recorded' / 'siesta_density'
NAMES = tuple(sorted(path.stem for path in RECORDED.glob('*.npz')))


def recorded_density(name: str) -> Density:
    """Give a recorded density by its name, one of :data:`NAMES`."""
    with np.load(RECORDED / f'{name}.npz', allow_pickle=False) as kept:
        structure = Structure(kept['numbers'], kept['positions'], kept['cell'])
        return Density(structure, kept['free'], kept['difference'])


def density_of_run(folder: Path) -> Density:
    """Read the density that a run left, on SIESTA's own mesh."""
    structure = read_structure(read_fdf((folder / 'aiida.fdf').read_text(encoding='utf-8')))
    return read_density((folder / 'aiida.RHO').read_bytes(), (folder / 'aiida.DRHO').read_bytes(), structure)


def thin(folder: Path, name: str, spacing: float) -> None:
    """Keep the density of a run on a coarser mesh, in steps.

    :param folder: the run.
    :param name: of the recording.
    :param spacing: of the mesh, in Å.
    """
    density = thinned(density_of_run(folder), spacing)
    structure = density.structure
    np.savez_compressed(
        RECORDED / f'{name}.npz',
        numbers=structure.numbers,
        positions=structure.positions,
        cell=structure.cell,
        free=density.free,
        difference=density.difference,
    )


if __name__ == '__main__':
    thin(Path(sys.argv[1]), sys.argv[2], float(sys.argv[3]))
