"""Calculation job to apply a trained model to structures or features."""

from __future__ import annotations

from typing import Any

import numpy as np
from aiida.common.folders import Folder
from aiida.engine import CalcJobProcessSpec
from numpy.typing import NDArray

from aiida_nanoml.calculations.base import WorkerCalculation, write_npz
from aiida_nanoml.data.dataset import DatasetData
from aiida_nanoml.data.labels import LabelSetData
from aiida_nanoml.data.model import ModelData
from aiida_nanoml.data.prediction import BASELINE, PredictionData
from aiida_nanoml.data.structures import StructureSetData
from aiida_nanoml.errors import DatasetError, NanomlError
from aiida_nanoml.learning.dataset import GAP
from aiida_nanoml.learning.targets import find_values
from aiida_nanoml.worker.schemas import (
    BASELINE_FILE,
    DATASET_FILE,
    MODEL_FOLDER,
    RESULTS_FILE,
    STRUCTURES_FILE,
    PredictJob,
)


class PredictCalculation(WorkerCalculation):
    """Apply a trained model to structures, or to the features of a data set."""

    TASK = 'predict'
    _TEMPORARY_FILES = (RESULTS_FILE,)

    @classmethod
    def define(cls, spec: CalcJobProcessSpec) -> None:
        """Define inputs, outputs and exit codes."""
        super().define(spec)
        spec.input('model', valid_type=ModelData, help='The trained model.')
        spec.input('structures', valid_type=StructureSetData, required=False, help='Structures to predict.')
        spec.input(
            'dataset', valid_type=DatasetData, required=False, help='Features to predict, in place of structures.'
        )
        spec.input(
            'baseline',
            valid_type=LabelSetData,
            required=False,
            help='Labels of the structures from the engine that the model corrects.',
        )
        spec.inputs.validator = validate_inputs
        spec.output('predictions', valid_type=PredictionData, help='One row for each structure or row of features.')

    def job_content(self) -> PredictJob:
        """Return the descriptor of the features, if a data set is given, and the source of the baseline."""
        if 'dataset' in self.inputs:
            dataset = self.inputs.dataset
            return PredictJob(descriptor=dataset.base.attributes.get('descriptor'), baseline=dataset.baseline_source)
        return PredictJob(baseline=self.inputs.baseline.label_source.to_dict() if 'baseline' in self.inputs else None)

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
        if 'baseline' not in self.inputs:
            return [*model_files, STRUCTURES_FILE]
        write_npz(folder, BASELINE_FILE, {BASELINE: self._baseline_values()})
        return [*model_files, STRUCTURES_FILE, BASELINE_FILE]

    def _baseline_values(self) -> NDArray[np.float64]:
        target = self.inputs.model.base.attributes.get('target')
        return baseline_values(self.inputs.structures, self.inputs.baseline, target)


def baseline_values(structures: StructureSetData, baseline: LabelSetData, target: str = GAP) -> NDArray[np.float64]:
    """Return the baseline of each structure.

    :param target: what the model that corrects the baseline predicts. For cohesive energies, the isolated atoms are
        looked for among the labels.
    :returns: shape (n,), in the unit of the target.
    :raises DatasetError: a structure has no finished label, or the label lacks the target.
    """
    rows = structures.structures
    values = find_values(target, baseline.labels, rows.hashes, rows)
    missing = rows.names[np.isnan(values)]
    if len(missing):
        raise DatasetError(
            f'{len(missing)} of {len(rows)} structures have no finished label in the baseline, the first is '
            f'{str(missing[0])!r}: label them, or predict only the labelled structures'
        )
    return values


def validate_inputs(inputs: dict[str, Any], _: Any) -> str | None:
    """Check that the model can be applied to the structures or features, before anything is submitted."""
    if ('structures' in inputs) == ('dataset' in inputs):
        return 'give either structures or a dataset to predict'
    if 'model' not in inputs:
        return None  # the port itself complains
    if 'dataset' in inputs:
        given = inputs['dataset'].base.attributes.get('descriptor')
        trained = inputs['model'].base.attributes.get('descriptor')
        if given != trained:
            from aiida_nanoml.features.registry import mismatch

            return (
                f'{mismatch(given or {}, trained or {})}: build the features with the descriptor of the model, or '
                'predict from structures'
            )
    return _validate_baseline(inputs)


def _validate_baseline(inputs: dict[str, Any]) -> str | None:
    from aiida_nanoml.worker.predict import check_baseline

    learnt, given = inputs['model'].base.attributes.get('baseline', None), None
    target = inputs['model'].base.attributes.get('target')
    if 'baseline' in inputs:
        if 'dataset' in inputs:
            return 'a dataset brings its own baseline: give a baseline with structures only'
        if learnt is None:
            return 'the model learnt the target itself: it takes no baseline'
        given = inputs['baseline'].label_source.to_dict()
    elif 'dataset' in inputs:
        given = inputs['dataset'].baseline_source
        if learnt is not None and inputs['dataset'].target != target:
            return f'the model corrects the target {target}, the baseline of the dataset is {inputs["dataset"].target}'
    try:
        check_baseline(learnt, given)
        if 'baseline' in inputs:
            baseline_values(inputs['structures'], inputs['baseline'], target)
    except NanomlError as error:
        return str(error)
    return None
