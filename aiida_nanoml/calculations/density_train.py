"""Calculation job to train a network that predicts charge densities."""

from __future__ import annotations

from typing import Any

from aiida import orm
from aiida.common.datastructures import CalcInfo
from aiida.common.folders import Folder
from aiida.engine import CalcJobProcessSpec

from aiida_nanoml.calculations.base import WorkerCalculation, optional_value, write_npz
from aiida_nanoml.data.densities import COMPUTED, DensitySetData
from aiida_nanoml.data.density_model import DensityModelData
from aiida_nanoml.errors import NanomlError
from aiida_nanoml.worker.schemas import (
    DENSITIES_FOLDER,
    FIGURES_FOLDER,
    MODEL_FOLDER,
    RESULTS_FILE,
    STRUCTURES_FILE,
    TEST_DENSITIES_FOLDER,
    TEST_STRUCTURES_FILE,
    DensityTrainJob,
    density_file,
)


class DensityTrainCalculation(WorkerCalculation):
    """Train a density network on densities of one engine and protocol, and evaluate it on others."""

    TASK = 'density_train'
    _TEMPORARY_FILES = (RESULTS_FILE, MODEL_FOLDER, FIGURES_FOLDER)

    @classmethod
    def define(cls, spec: CalcJobProcessSpec) -> None:
        """Define inputs and outputs."""
        super().define(spec)
        spec.input('densities', valid_type=DensitySetData, validator=validate_computed, help='Densities to learn from.')
        spec.input(
            'test',
            valid_type=DensitySetData,
            required=False,
            validator=validate_computed,
            help='Densities of other structures, to evaluate the network on.',
        )
        spec.input(
            'settings',
            valid_type=orm.Dict,
            required=False,
            serializer=orm.to_aiida_type,
            validator=validate_settings,
            help='Settings that differ from the defaults of the network, such as `group`, `copies`, `epochs`, `seed`.',
        )
        spec.inputs.validator = validate_inputs
        spec.output('model', valid_type=DensityModelData, help='The trained network.')
        spec.output('metrics', valid_type=orm.Dict, help='Mean errors of the parts `train` and `test`.')
        spec.output(
            'errors',
            valid_type=orm.ArrayData,
            help='Errors of each density that was evaluated: `nmae`, `nmae_free` of the free-atom superposition, '
            '`rmse` and `max_error` in electrons/Å³, `charge_defect` in electrons, `parts`, `names`.',
        )
        spec.output('history', valid_type=orm.XyData, help='Mean absolute error of every epoch.')
        spec.output('figures', valid_type=orm.FolderData, help='Learning curve, errors, and maps of the worst density.')

    def job_content(self) -> DensityTrainJob:
        """Return the settings, and the source of the densities."""
        return DensityTrainJob(
            settings=optional_value(self.inputs, 'settings', {}),
            labels=self.inputs.densities.label_source.to_dict(),
            tested='test' in self.inputs,
        )

    def write_arrays(self, folder: Folder) -> list[str]:
        """Write the structures; their densities are copied file by file."""
        write_npz(folder, STRUCTURES_FILE, self.inputs.densities.structures.to_arrays())
        if 'test' not in self.inputs:
            return [STRUCTURES_FILE]
        write_npz(folder, TEST_STRUCTURES_FILE, self.inputs.test.structures.to_arrays())
        return [STRUCTURES_FILE, TEST_STRUCTURES_FILE]

    def prepare_for_submission(self, folder: Folder) -> CalcInfo:
        """Write the job folder, and copy the densities into it."""
        calcinfo = super().prepare_for_submission(folder)
        calcinfo.local_copy_list = copies_of(self.inputs.densities, DENSITIES_FOLDER)
        if 'test' in self.inputs:
            calcinfo.local_copy_list += copies_of(self.inputs.test, TEST_DENSITIES_FOLDER)
        return calcinfo


def copies_of(densities: DensitySetData, folder: str) -> list[tuple[str, str, str]]:
    """Return entries of ``local_copy_list`` that copy the files of densities into a folder of a job.

    :returns: UUID of the node, file in it, file in the job.
    """
    return [
        (densities.uuid, density_file(row), f'{folder}/{density_file(row)}') for row in range(densities.n_densities)
    ]


def validate_computed(densities: DensitySetData | None, _: Any) -> str | None:
    """Check that densities are computed: a network must not learn from another one, nor be evaluated on its output."""
    if densities is not None and densities.base.attributes.get('kind') != COMPUTED:
        return f'the densities are predicted by the model {densities.model_fingerprint}: take densities of an engine'
    return None


def validate_settings(settings: orm.Dict | None, _: Any) -> str | None:
    """Check the settings of the network."""
    from aiida_nanoml.learning.density.architecture import DensitySettings

    if settings is None:
        return None
    try:
        DensitySettings.from_dict(settings.get_dict())
    except NanomlError as error:
        return str(error)
    return None


def validate_inputs(inputs: dict[str, Any], _: Any) -> str | None:
    """Check that test densities have the source of the training densities, and other structures."""
    from aiida_nanoml.worker.density_train import check_unseen

    if 'densities' not in inputs or 'test' not in inputs:
        return None
    training, test = inputs['densities'], inputs['test']
    if not training.label_source.compatible(test.label_source):
        return (
            f'the densities to learn from are from {training.label_source}, those to test on from '
            f'{test.label_source}: take one engine, version, protocol and parameters'
        )
    try:
        check_unseen(training.structures, test.structures)
    except NanomlError as error:
        return str(error)
    return None
