"""Calculation job to train and evaluate all models of a study on one data set."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any

from aiida import orm
from aiida.common.datastructures import CalcInfo
from aiida.common.folders import Folder
from aiida.engine import CalcJobProcessSpec

from aiida_nanoml.calculations.base import WorkerCalculation, optional_value, write_npz
from aiida_nanoml.calculations.train import TrainCalculation, validate_dataset
from aiida_nanoml.data.dataset import DatasetData
from aiida_nanoml.errors import NanomlError
from aiida_nanoml.worker.schemas import DATASET_FILE, JOURNAL_FILE, RESULTS_FILE, StudyJob


class StudyCalculation(WorkerCalculation):
    """Train and evaluate the models of a study on one data set; a model that fails does not affect the others."""

    TASK = 'study'
    _TEMPORARY_FILES = (RESULTS_FILE, JOURNAL_FILE)

    @classmethod
    def define(cls, spec: CalcJobProcessSpec) -> None:
        """Define inputs, outputs and exit codes."""
        super().define(spec)
        spec.expose_inputs(TrainCalculation, include=('kind', 'hyperparameters', 'allow_leakage'))
        spec.input('dataset', valid_type=DatasetData, validator=validate_dataset, help='A data set with a split.')
        spec.input('study', valid_type=orm.Str, serializer=orm.to_aiida_type, help='Registered name of the study.')
        spec.input(
            'settings',
            valid_type=orm.Dict,
            required=False,
            serializer=orm.to_aiida_type,
            help='Settings that replace those of the study.',
        )
        spec.input(
            'seed',
            valid_type=orm.Int,
            default=lambda: orm.Int(0),
            serializer=orm.to_aiida_type,
            validator=validate_seed,
            help='Seed of the models.',
        )
        spec.input(
            'parent_folder',
            valid_type=orm.RemoteData,
            required=False,
            help='Folder of a killed job with the same inputs: the worker continues from its journal.',
        )
        spec.inputs.validator = validate_inputs
        spec.output('rows', valid_type=orm.ArrayData, help='A row for each point, and family; failed ones included.')

    def job_content(self) -> StudyJob:
        """Return study, settings, model and seed."""
        return StudyJob(
            **study_inputs(self.inputs),
            seed=self.inputs.seed.value,
            target=self.inputs.dataset.target,
            feature_names=self.inputs.dataset.base.attributes.get('feature_names'),
            allow_leakage=optional_value(self.inputs, 'allow_leakage', False),
        )

    def write_arrays(self, folder: Folder) -> list[str]:
        """Write the data set."""
        write_npz(folder, DATASET_FILE, self.inputs.dataset.arrays)
        return [DATASET_FILE]

    def prepare_for_submission(self, folder: Folder) -> CalcInfo:
        """Write the job folder, and copy the journal of a killed job into it."""
        calcinfo = super().prepare_for_submission(folder)
        if 'parent_folder' in self.inputs:
            parent = self.inputs.parent_folder
            # A pattern, as a job that was killed early has no journal yet.
            journal = str(PurePosixPath(parent.get_remote_path()) / f'{JOURNAL_FILE}*')
            calcinfo.remote_copy_list = [(parent.computer.uuid, journal, '.')]
        return calcinfo


def study_inputs(inputs: Any) -> dict[str, Any]:
    """Return study, settings, kind and hyperparameters of the inputs of a process."""
    return {
        'study': inputs['study'].value,
        'settings': optional_value(inputs, 'settings', {}),
        'kind': inputs['kind'].value,
        'hyperparameters': optional_value(inputs, 'hyperparameters', {}),
    }


def study_of_inputs(inputs: Any) -> Any:
    """Make the study of the inputs of a process.

    :raises NanomlError: unknown study, setting, kind or hyperparameter.
    """
    from aiida_nanoml.learning.studies import make_study

    wanted = study_inputs(inputs)
    return make_study(wanted['study'], wanted['settings'], wanted['kind'], wanted['hyperparameters'])


def validate_seed(seed: orm.Int, _: Any) -> str | None:
    """Check that a seed is not negative."""
    return None if seed.value >= 0 else f'seed is {seed.value}: it must be at least 0'


def validate_inputs(inputs: dict[str, Any], _: Any) -> str | None:
    """Check study, settings, model and number of targets, before anything is submitted."""
    if not {'study', 'kind'} <= set(inputs):
        return None  # the ports themselves complain
    try:
        study = study_of_inputs(inputs)
        if 'dataset' in inputs:
            study.model.make(0).check_targets(1 + len(inputs['dataset'].others))
    except NanomlError as error:
        return str(error)
    return None
