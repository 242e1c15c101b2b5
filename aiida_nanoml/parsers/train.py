"""Parser of trainings: model, metrics, predictions, history and figures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aiida import orm
from numpy.typing import NDArray

from aiida_nanoml.data.model import ModelData
from aiida_nanoml.data.prediction import PredictionData
from aiida_nanoml.parsers.base import WorkerParser
from aiida_nanoml.worker.schemas import CALIBRATION_FILE, LEARNING_CURVE_FILE, MODEL_FOLDER, PARITY_FILES, Report


class TrainParser(WorkerParser):
    """Model, metrics, fitted values, history and figures of a training."""

    def parse_results(self, report: Report, arrays: Mapping[str, NDArray[Any]], folder: Path) -> None:
        """Make the output nodes."""
        model = ModelData(folder / MODEL_FOLDER)
        dataset = self.node.inputs.dataset.dataset
        columns = self.predicted_columns(arrays)
        columns |= {'hashes': dataset.hashes, 'names': dataset.names, 'families': dataset.families}
        self.out('model', model)
        self.out('metrics', orm.Dict(report.content['metrics']))
        self.out('fitted', PredictionData(columns, model.base.attributes.all))
        history = self.make_history_node(arrays)
        if history is not None:
            self.out('history', history)
        figures = orm.FolderData()
        for pattern in (PARITY_FILES, LEARNING_CURVE_FILE, CALIBRATION_FILE):
            for path in folder.glob(pattern):
                figures.base.repository.put_object_from_file(str(path), path.name)
        self.out('figures', figures)
