"""Parser of predictions of densities, with their errors if they are known."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from aiida import orm
from numpy.typing import NDArray

from aiida_nanoml.data.densities import DensitySetData
from aiida_nanoml.errors import DensityError
from aiida_nanoml.parsers.base import WorkerParser
from aiida_nanoml.structures import StructureSet
from aiida_nanoml.worker.files import read_arrays
from aiida_nanoml.worker.schemas import (
    FIGURES_FOLDER,
    PREDICTED_FOLDER,
    PREDICTED_STRUCTURES_FILE,
    Report,
    density_file,
)


class DensityPredictParser(WorkerParser):
    """Predicted densities, and their errors where they are known."""

    def parse_results(self, report: Report, arrays: Mapping[str, NDArray[Any]], folder: Path) -> None:
        """Make the output nodes; there must be one density for each structure that was sent."""
        inputs = self.node.inputs
        sent = inputs.known if 'known' in inputs else inputs.structures
        structures = StructureSet.from_arrays(read_arrays(folder / PREDICTED_STRUCTURES_FILE))
        if not np.array_equal(structures.hashes, sent.structures.hashes):
            raise DensityError('the predicted densities belong to other structures than those that were sent')
        files = [folder / PREDICTED_FOLDER / density_file(row) for row in range(len(structures))]
        model = inputs.model
        self.out('densities', DensitySetData(structures, files, model.label_source, model.fingerprint))
        errors = orm.ArrayData()
        for name, column in arrays.items():
            errors.set_array(name, column)
        self.out('errors', errors)
        self.out(
            'results',
            orm.Dict(
                {
                    'n_densities': len(structures),
                    'largest_charge_defect': float(np.abs(arrays['charge_defect']).max()),
                    'seconds': float(arrays['seconds'].sum()),
                    **report.content,
                }
            ),
        )
        self.out('figures', orm.FolderData(tree=(folder / FIGURES_FOLDER).absolute()))
