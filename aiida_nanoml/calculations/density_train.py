"""Calculation job ``nanoml.density_train``."""

from __future__ import annotations

from typing import Any

from aiida import orm
from aiida.common.datastructures import CalcInfo
from aiida.common.folders import Folder
from aiida.engine import CalcJobProcessSpec

from aiida_nanoml.calculations.base import WorkerCalculation, write_npz
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
    """Train a density network on densities of one engine and protocol, and judge it on others."""

    TASK = 'density_train'
    RETRIEVED = (RESULTS_FILE, MODEL_FOLDER, FIGURES_FOLDER)

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
            help='Densities of other structures, to judge the network by.',
        )
        define_settings(spec)
        spec.inputs.validator = validate_inputs
        define_training(spec)

    def job(self) -> DensityTrainJob:
        """Return settings, and what made the densities."""
        return DensityTrainJob(
            settings=self.inputs.settings.get_dict() if 'settings' in self.inputs else {},
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
        """Write the job folder."""
        calcinfo = super().prepare_for_submission(folder)
        calcinfo.local_copy_list = copies_of(self.inputs.densities, DENSITIES_FOLDER)
        if 'test' in self.inputs:
            calcinfo.local_copy_list += copies_of(self.inputs.test, TEST_DENSITIES_FOLDER)
        return calcinfo


def define_settings(spec: Any) -> None:
    """Define the input that says what the network is; a job and a workflow have it in common."""
    spec.input(
        'settings',
        valid_type=orm.Dict,
        required=False,
        serializer=orm.to_aiida_type,
        validator=validate_settings,
        help='What differs from the defaults of the network, such as `group`, `copies`, `epochs`, `seed`.',
    )


def define_training(spec: Any) -> None:
    """Define the outputs of a training; a job and a workflow have them in common."""
    spec.output('model', valid_type=DensityModelData, help='The trained network.')
    spec.output('metrics', valid_type=orm.Dict, help='Mean errors of the parts `train` and `test`.')
    spec.output(
        'errors',
        valid_type=orm.ArrayData,
        help='Errors of each density that was judged: `nmae`, `nmae_free` of the free-atom superposition, `rmse` and '
        '`max_error` in electrons/Å³, `charge_defect` in electrons, `parts`, `names`.',
    )
    spec.output('history', valid_type=orm.XyData, help='Mean absolute error of every epoch.')
    spec.output('figures', valid_type=orm.FolderData, help='Learning curve, errors, and maps of the worst density.')


def copies_of(densities: DensitySetData, folder: str) -> list[tuple[str, str, str]]:
    """Return what copies the files of densities into a folder of a job.

    :returns: UUID of the node, file in it, file in the job.
    """
    return [
        (densities.uuid, density_file(row), f'{folder}/{density_file(row)}') for row in range(densities.n_densities)
    ]


def validate_computed(densities: DensitySetData | None, _: Any) -> str | None:
    """Refuse predicted densities: a network would learn from another one, or be judged by it."""
    if densities is not None and densities.base.attributes.get('kind') != COMPUTED:
        return f'the densities are predicted by the model {densities.model_fingerprint}: take densities of an engine'
    return None


def validate_settings(settings: orm.Dict | None, _: Any) -> str | None:
    """Refuse settings that cannot be used."""
    from aiida_nanoml.learning.density.architecture import DensitySettings

    if settings is None:
        return None
    try:
        DensitySettings.from_dict(settings.get_dict())
    except NanomlError as error:
        return str(error)
    return None


def validate_inputs(inputs: dict[str, Any], _: Any) -> str | None:
    """Refuse densities to test on that are of another origin, or of structures that are learnt from."""
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
