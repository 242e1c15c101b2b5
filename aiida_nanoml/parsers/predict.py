"""Parser of prediction jobs: predictions with their uncertainty."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from aiida_nanoml.data.prediction import PredictionData
from aiida_nanoml.errors import DatasetError
from aiida_nanoml.parsers.base import WorkerParser
from aiida_nanoml.worker.schemas import Report


class PredictParser(WorkerParser):
    """Predictions with their standard deviation and distance to the training set."""

    def parse_results(self, report: Report, arrays: Mapping[str, NDArray[Any]], folder: Path) -> None:
        """Make the prediction node, which must have one row for each row that was sent."""
        inputs = self.node.inputs
        rows = inputs.structures.structures if 'structures' in inputs else inputs.dataset.dataset
        if len(arrays['value']) != len(rows):
            raise DatasetError(f'{len(arrays["value"])} predictions for {len(rows)} rows')
        columns = self.predicted_columns(arrays)
        columns |= {'hashes': rows.hashes, 'names': rows.names, 'families': rows.families}
        self.out('predictions', PredictionData(columns, inputs.model.base.attributes.all))
