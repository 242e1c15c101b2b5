"""Calculation job ``nanoml.predict``."""

from __future__ import annotations

from typing import Any

from aiida.common.folders import Folder
from aiida.engine import CalcJobProcessSpec

from aiida_nanoml.calculations.base import WorkerCalculation, write_npz
from aiida_nanoml.data.dataset import DatasetData
from aiida_nanoml.data.model import ModelData
from aiida_nanoml.data.prediction import PredictionData
from aiida_nanoml.data.structures import StructureSetData
from aiida_nanoml.worker.schemas import DATASET_FILE, MODEL_FOLDER, RESULTS_FILE, STRUCTURES_FILE, PredictJob


class PredictCalculation(WorkerCalculation):
    """Apply a trained model to structures, or to the features of a data set."""

    TASK = 'predict'
    RETRIEVED = (RESULTS_FILE,)

    @classmethod
    def define(cls, spec: CalcJobProcessSpec) -> None:
        """Define inputs, outputs and exit codes."""
        super().define(spec)
        spec.input('model', valid_type=ModelData, help='The trained model.')
        spec.input('structures', valid_type=StructureSetData, required=False, help='Structures to predict.')
        spec.input(
            'dataset', valid_type=DatasetData, required=False, help='Features to predict, in place of structures.'
        )
        spec.inputs.validator = validate_inputs
        spec.output('predictions', valid_type=PredictionData, help='One row for each structure or row of features.')

    def job(self) -> PredictJob:
        """Return the descriptor of the given features, if features are given."""
        if 'dataset' in self.inputs:
            return PredictJob(descriptor=self.inputs.dataset.base.attributes.get('descriptor'))
        return PredictJob()

    def write_arrays(self, folder: Folder) -> list[str]:
        """Write the model and the rows to predict."""
        model_files = []
        model = self.inputs.model.base.repository
        for name in model.list_object_names():
            with model.open(name, 'rb') as handle:
                folder.get_subfolder(MODEL_FOLDER, create=True).create_file_from_filelike(handle, name, mode='wb')
            model_files.append(f'{MODEL_FOLDER}/{name}')
        if 'dataset' in self.inputs:
            write_npz(folder, DATASET_FILE, self.inputs.dataset.arrays)
            return [*model_files, DATASET_FILE]
        write_npz(folder, STRUCTURES_FILE, self.inputs.structures.structures.to_arrays())
        return [*model_files, STRUCTURES_FILE]


def validate_inputs(inputs: dict[str, Any], _: Any) -> str | None:
    """Refuse rows that the model cannot take before anything is submitted."""
    if ('structures' in inputs) == ('dataset' in inputs):
        return 'give either structures or a dataset to predict'
    if 'dataset' in inputs and 'model' in inputs:
        given = inputs['dataset'].base.attributes.get('descriptor')
        trained = inputs['model'].base.attributes.get('descriptor')
        if given != trained:
            return (
                f'the features come from the descriptor {given}, the model was trained on {trained}: build the '
                'features with the descriptor of the model, or predict from structures'
            )
    return None
