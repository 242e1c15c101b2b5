"""Densities in a job folder, one file a structure, and metrics of predictions of them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aiida_nanoml.densities.density import Density, read_density
from aiida_nanoml.structures import StructureSet
from aiida_nanoml.worker.schemas import density_file

Metrics = dict[str, float | int]

MEASURES = ('nmae', 'nmae_free', 'rmse', 'max_error', 'charge_defect')
"""Measures of the prediction of one density."""


class DensityFiles:
    """Densities of a job, read one at a time.

    :param structures: in their boxes.
    :param folder: holds the file of each.
    """

    def __init__(self, structures: StructureSet, folder: Path) -> None:
        self.structures = structures
        self._folder = folder

    def __len__(self) -> int:
        return len(self.structures)

    def __getitem__(self, row: int) -> Density:
        return read_density(self._folder / density_file(row), self.structures[row])


def mean_metrics(rows: Iterable[Metrics]) -> Metrics:
    """Average what was found for each density: means, and the largest of what is a largest error.

    :param rows: of :func:`~aiida_nanoml.learning.density.network.metrics_of`.
    """
    found = list(rows)
    means: Metrics = {name: float(np.mean([row[name] for row in found])) for name in ('nmae', 'nmae_free', 'rmse')}
    return {
        **means,
        'ratio': means['nmae_free'] / means['nmae'] if means['nmae'] else float('inf'),
        'worst_nmae': float(np.max([row['nmae'] for row in found])),
        'max_error': float(np.max([row['max_error'] for row in found])),
        'largest_charge_defect': float(np.max([abs(row['charge_defect']) for row in found])),
        'n': len(found),
    }


def columns_of(rows: Iterable[Metrics]) -> dict[str, NDArray[Any]]:
    """Return the measures of each density as columns (n,)."""
    found = list(rows)
    return {name: np.array([row[name] for row in found], dtype=np.float64) for name in MEASURES}
