"""Recorded runs of pw.x, and the structures that they computed."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from aiida_nanoml.engines.quantumespresso.engine import QuantumEspressoEngine
from aiida_nanoml.structures import Structure
from aiida_nanoml.testing.recordings import recordings_of
from aiida_nanoml.testing.structures import HYDROGEN_CYANIDE, METHYL

_FOLDERS = (
    Path(__file__).parents[2] / 'recorded' / 'quantumespresso',
    *(recording.folder.parent for recording in recordings_of(QuantumEspressoEngine)),
)
XML = 'pwscf.save/data-file-schema.xml'

HYDROGEN = Structure(np.array([1, 1]), np.array([[0, 0, 0], [0, 0, 0.74]]))
BORANE = Structure(
    np.array([5, 1, 1, 1]),
    np.concatenate([np.zeros((1, 3)), 1.19 * np.array([[1, 0, 0], [-0.5, 3**0.5 / 2, 0], [-0.5, -(3**0.5) / 2, 0]])]),
)
ALUMINIUM = Structure(
    np.array([13]),
    np.zeros((1, 3)),
    cell=2.025 * np.array([[0.0, 1, 1], [1, 0, 1], [1, 1, 0]]),
    pbc=np.ones(3, dtype=bool),
)
CHAIN = Structure(HYDROGEN.numbers, HYDROGEN.positions + 2, cell=np.diag([4.0, 4.0, 5.0]), pbc=np.ones(3, dtype=bool))

STRUCTURES = {
    'aluminium': ALUMINIUM,
    'h2-fixed': HYDROGEN,
    'h2-polarized-mesh': CHAIN,
    'hcn': HYDROGEN_CYANIDE,
    'methyl-fixed-spin': METHYL,
    'methyl-polarized': METHYL,
    'not-converged': HYDROGEN_CYANIDE,
    'missing-pseudopotential': HYDROGEN,
    'wrong-input': HYDROGEN,
    'too-few-bands': HYDROGEN,
    'out-of-memory': METHYL,
    'disk-full': HYDROGEN_CYANIDE,
    'killed': METHYL,
}


def folder_of(name: str) -> Path:
    """Return the folder of a recorded run."""
    return next(folder / name for folder in _FOLDERS if (folder / name).is_dir())


def texts(name: str) -> dict[str, str]:
    """Return the files of a recorded run by their names."""
    folder = folder_of(name)
    return {
        str(path.relative_to(folder)): path.read_text(encoding='utf-8')
        for path in sorted(folder.rglob('*'))
        if path.is_file()
    }
