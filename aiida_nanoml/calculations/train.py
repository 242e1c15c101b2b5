"""Calculation job to train a model on a data set."""

from __future__ import annotations

from typing import Any

from aiida import orm
from aiida.common.folders import Folder
from aiida.engine import CalcJobProcessSpec

from aiida_nanoml.calculations.base import WorkerCalculation, optional_value, write_npz
from aiida_nanoml.data.dataset import DatasetData
from aiida_nanoml.data.model import ModelData
from aiida_nanoml.data.prediction import BASELINE, PredictionData
from aiida_nanoml.errors import DatasetError, NanomlError
from aiida_nanoml.worker.schemas import (
    CALIBRATION_FILE,
    DATASET_FILE,
    LEARNING_CURVE_FILE,
    MODEL_FOLDER,
    PARITY_FILES,
    RESULTS_FILE,
    TrainJob,
)


class TrainCalculation(WorkerCalculation):
    """Train a model on the training rows of a data set and evaluate it on all parts of its split."""

    TASK = 'train'
    _TEMPORARY_FILES = (RESULTS_FILE, MODEL_FOLDER, PARITY_FILES, LEARNING_CURVE_FILE, CALIBRATION_FILE)

    @classmethod
    def define(cls, spec: CalcJobProcessSpec) -> None:
        """Define inputs, outputs and exit codes."""
        super().define(spec)
        spec.input('dataset', valid_type=DatasetData, validator=validate_dataset, help='A data set with a split.')
        spec.input('kind', valid_type=orm.Str, serializer=orm.to_aiida_type, help='Kind of model, for example `fast`.')
        spec.input(
            'hyperparameters',
            valid_type=orm.Dict,
            required=False,
            serializer=orm.to_aiida_type,
            help='Hyperparameters that replace those of the kind.',
        )
        spec.input(
            'alone',
            valid_type=orm.Bool,
            required=False,
            serializer=orm.to_aiida_type,
            help='Learn the target itself, although the data set has a baseline.',
        )
        spec.input(
            'folds',
            valid_type=orm.Int,
            required=False,
            serializer=orm.to_aiida_type,
            validator=validate_folds,
            help='Number of folds of a cross-validation, which predicts every row with a model not trained on it.',
        )
        spec.input(
            'allow_leakage',
            valid_type=orm.Bool,
            required=False,
            serializer=orm.to_aiida_type,
            help='Allow train/test leakage: duplicated structures, or features selected on training rows.',
        )
        spec.inputs.validator = validate_inputs
        spec.output('model', valid_type=ModelData, help='The trained model.')
        spec.output('metrics', valid_type=orm.Dict, help='Errors and coverage by part, and by part and family.')
        spec.output('fitted', valid_type=PredictionData, help='Predictions for every row of the data set.')
        spec.output('history', valid_type=orm.XyData, required=False, help='Losses of every epoch (networks).')
        spec.output('figures', valid_type=orm.FolderData, help='Parity plot, calibration, learning curve.')

    def job_content(self) -> TrainJob:
        """Return kind, hyperparameters, features and targets."""
        attributes = self.inputs.dataset.base.attributes
        return TrainJob(
            target=self.inputs.dataset.target,
            kind=self.inputs.kind.value,
            hyperparameters=optional_value(self.inputs, 'hyperparameters', {}),
            feature_names=attributes.get('feature_names'),
            descriptor=attributes.get('descriptor'),
            labels=attributes.get('labels'),
            baseline=self._baseline_source(),
            folds=optional_value(self.inputs, 'folds'),
            allow_leakage=optional_value(self.inputs, 'allow_leakage', False),
        )

    def write_arrays(self, folder: Folder) -> list[str]:
        """Write the data set."""
        arrays = self.inputs.dataset.arrays
        if self._baseline_source() is None:
            arrays = {name: column for name, column in arrays.items() if name != BASELINE}
        write_npz(folder, DATASET_FILE, arrays)
        return [DATASET_FILE]

    def _baseline_source(self) -> dict[str, Any] | None:
        return None if optional_value(self.inputs, 'alone', False) else self.inputs.dataset.baseline_source


def validate_dataset(dataset: DatasetData, _: Any) -> str | None:
    """Check that a data set has training rows."""
    if not dataset.base.attributes.get('split').get('train'):
        return 'the data set has no training rows: split it first, for example with the function nanoml.split_dataset'
    return None


def validate_folds(folds: orm.Int | None, _: Any) -> str | None:
    """Check that there are three folds or more: one to predict, one for validation, the others to learn from."""
    if folds is not None and folds.value < 3:
        return f'folds is {folds.value}: a cross-validation needs 3 or more'
    return None


def validate_inputs(inputs: dict[str, Any], _: Any) -> str | None:
    """Check kind, hyperparameters, number of targets and leakage, before anything is submitted."""
    from aiida_nanoml.learning.registry import make_model

    if 'kind' not in inputs:
        return None  # the port itself complains
    try:
        model = make_model(inputs['kind'].value, **optional_value(inputs, 'hyperparameters', {}))
        if 'dataset' in inputs:
            model.check_targets(1 + len(inputs['dataset'].others))
            if not optional_value(inputs, 'allow_leakage', False):
                check_dataset_leakage(inputs['dataset'], 'folds' in inputs)
    except NanomlError as error:
        return str(error)
    return None


def check_dataset_leakage(dataset: DatasetData, folds: bool) -> None:
    """Check a data set for leakage between training and test rows.

    :param folds: whether there is a cross-validation, which predicts training rows as well.
    :raises DatasetError: a structure is in two parts of the split, or a cross-validation would test on rows that the
        columns were learnt or selected on.
    """
    from aiida_nanoml.learning.splits import check_leakage

    rows = dataset.dataset
    check_leakage(rows.hashes, rows.split, rows.names)
    if folds and (dataset.learnt_rows is not None or dataset.selection is not None):
        raise DatasetError(
            'the columns of the data set were learnt or selected on its training rows, which a cross-validation tests '
            'on: train without folds and look at the test rows, or allow leakage'
        )
