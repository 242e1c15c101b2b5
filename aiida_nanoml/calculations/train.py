"""Calculation job ``nanoml.train``."""

from __future__ import annotations

from typing import Any

from aiida import orm
from aiida.common.folders import Folder
from aiida.engine import CalcJobProcessSpec

from aiida_nanoml.calculations.base import WorkerCalculation, write_npz
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
    """Train a model on the training rows of a data set and judge it on all parts of its split."""

    TASK = 'train'
    RETRIEVED = (RESULTS_FILE, MODEL_FOLDER, PARITY_FILES, LEARNING_CURVE_FILE, CALIBRATION_FILE)

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
            help='Also predict every row with a model that did not see it, in a cross-validation of this many folds.',
        )
        spec.input(
            'allow_leakage',
            valid_type=orm.Bool,
            required=False,
            serializer=orm.to_aiida_type,
            help='Accept that models are judged on structures, or by columns, that training rows have decided on.',
        )
        spec.inputs.validator = validate_inputs
        spec.output('model', valid_type=ModelData, help='The trained model.')
        spec.output('metrics', valid_type=orm.Dict, help='Errors and coverage by part, and by part and family.')
        spec.output('fitted', valid_type=PredictionData, help='Predictions for every row of the data set.')
        spec.output('history', valid_type=orm.XyData, required=False, help='Losses of every epoch (networks).')
        spec.output('figures', valid_type=orm.FolderData, help='Parity plot, calibration, learning curve.')

    def job(self) -> TrainJob:
        """Return kind, hyperparameters and what the features and targets are."""
        attributes = self.inputs.dataset.base.attributes
        return TrainJob(
            target=self.inputs.dataset.target,
            kind=self.inputs.kind.value,
            hyperparameters=self.inputs.hyperparameters.get_dict() if 'hyperparameters' in self.inputs else {},
            feature_names=attributes.get('feature_names'),
            descriptor=attributes.get('descriptor'),
            labels=attributes.get('labels'),
            baseline=self._baseline_source(),
            folds=self.inputs.folds.value if 'folds' in self.inputs else None,
            allow_leakage='allow_leakage' in self.inputs and self.inputs.allow_leakage.value,
        )

    def write_arrays(self, folder: Folder) -> list[str]:
        """Write the data set."""
        arrays = self.inputs.dataset.arrays
        if self._baseline_source() is None:
            arrays = {name: column for name, column in arrays.items() if name != BASELINE}
        write_npz(folder, DATASET_FILE, arrays)
        return [DATASET_FILE]

    def _baseline_source(self) -> dict[str, Any] | None:
        alone = 'alone' in self.inputs and self.inputs.alone.value
        return None if alone else self.inputs.dataset.baseline_source


def validate_dataset(dataset: DatasetData, _: Any) -> str | None:
    """Refuse a data set that was not split."""
    if not dataset.base.attributes.get('split').get('train'):
        return 'the data set has no training rows: split it first, for example with the function nanoml.split_dataset'
    return None


def validate_folds(folds: orm.Int | None, _: Any) -> str | None:
    """Refuse fewer than three folds: one is predicted, one watched, and the others are learnt from."""
    if folds is not None and folds.value < 3:
        return f'folds is {folds.value}: a cross-validation needs 3 or more'
    return None


def validate_inputs(inputs: dict[str, Any], _: Any) -> str | None:
    """Refuse unknown kinds of model and hyperparameters, and leakage, before anything is submitted."""
    from aiida_nanoml.learning.registry import make_model

    if 'kind' not in inputs:
        return None  # the port itself complains
    hyperparameters = inputs['hyperparameters'].get_dict() if 'hyperparameters' in inputs else {}
    try:
        model = make_model(inputs['kind'].value, **hyperparameters)
        if 'dataset' in inputs:
            model.check_targets(1 + len(inputs['dataset'].others))
        if 'dataset' in inputs and not ('allow_leakage' in inputs and inputs['allow_leakage'].value):
            check_dataset_leakage(inputs['dataset'], 'folds' in inputs)
    except NanomlError as error:
        return str(error)
    return None


def check_dataset_leakage(dataset: DatasetData, folds: bool) -> None:
    """Refuse a data set on which a model would be judged better than it is.

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
