"""Parser of trainings of density networks: network, errors, history and figures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aiida import orm
from numpy.typing import NDArray

from aiida_nanoml.data.density_model import DensityModelData
from aiida_nanoml.parsers.base import WorkerParser
from aiida_nanoml.worker.densities import MEASURES
from aiida_nanoml.worker.schemas import FIGURES_FOLDER, MODEL_FOLDER, Report


class DensityTrainParser(WorkerParser):
    """Network, errors, history and figures of a training."""

    def parse_results(self, report: Report, arrays: Mapping[str, NDArray[Any]], folder: Path) -> None:
        """Make the output nodes."""
        self.out('model', DensityModelData(folder / MODEL_FOLDER))
        self.out('metrics', orm.Dict(report.content['metrics']))
        errors = orm.ArrayData()
        for name in (*MEASURES, 'parts', 'names'):
            errors.set_array(name, arrays[name])
        self.out('errors', errors)
        self.out('history', self.make_history_node(arrays))
        self.out('figures', orm.FolderData(tree=(folder / FIGURES_FOLDER).absolute()))
