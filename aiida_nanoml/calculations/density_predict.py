"""Calculation job to predict charge densities with a trained network."""

from __future__ import annotations

from typing import Any

from aiida import orm
from aiida.common.datastructures import CalcInfo
from aiida.common.folders import Folder
from aiida.engine import CalcJobProcessSpec

from aiida_nanoml.calculations.base import WorkerCalculation, write_npz
from aiida_nanoml.calculations.density_train import copies_of, validate_computed
from aiida_nanoml.data.densities import DensitySetData
from aiida_nanoml.data.density_model import DensityModelData
from aiida_nanoml.data.structures import StructureSetData
from aiida_nanoml.worker.schemas import (
    DENSITIES_FOLDER,
    FIGURES_FOLDER,
    MODEL_FOLDER,
    PREDICTED_FOLDER,
    PREDICTED_STRUCTURES_FILE,
    RESULTS_FILE,
    STRUCTURES_FILE,
    DensityPredictJob,
)


class DensityPredictCalculation(WorkerCalculation):
    """Predict the densities of structures, or predict known densities and compute the errors."""

    TASK = 'density_predict'
    _TEMPORARY_FILES = (RESULTS_FILE, PREDICTED_FOLDER, PREDICTED_STRUCTURES_FILE, FIGURES_FOLDER)

    @classmethod
    def define(cls, spec: CalcJobProcessSpec) -> None:
        """Define inputs and outputs."""
        super().define(spec)
        spec.input('model', valid_type=DensityModelData, help='The trained network.')
        spec.input('structures', valid_type=StructureSetData, required=False, help='Structures to predict.')
        spec.input(
            'known',
            valid_type=DensitySetData,
            required=False,
            validator=validate_computed,
            help='Known densities to predict on their own meshes, in place of structures.',
        )
        spec.input(
            'spacing_ang',
            valid_type=orm.Float,
            required=False,
            serializer=orm.to_aiida_type,
            validator=validate_length,
            help='Mesh spacing of the predicted densities in Å; that of the training densities if absent.',
        )
        spec.input(
            'vacuum_ang',
            valid_type=orm.Float,
            required=False,
            serializer=orm.to_aiida_type,
            validator=validate_length,
            help='Distance between the images of isolated structures in Å; as in the training densities if absent.',
        )
        spec.inputs.validator = validate_inputs
        spec.output('densities', valid_type=DensitySetData, help='Predicted densities, in the order of the structures.')
        spec.output('results', valid_type=orm.Dict, help='Charge defects and seconds; mean errors of known densities.')
        spec.output(
            'errors',
            valid_type=orm.ArrayData,
            help='`charge_defect` (electrons) and `seconds` of each structure; of known densities also `nmae`, '
            '`nmae_free`, `rmse` and `max_error` (electrons/Å³).',
        )
        spec.output('figures', valid_type=orm.FolderData, help='Maps of the first ten densities.')

    def job_content(self) -> DensityPredictJob:
        """Return mesh spacing and vacuum, if given."""
        given = {name: self.inputs[name].value for name in ('spacing_ang', 'vacuum_ang') if name in self.inputs}
        return DensityPredictJob(known='known' in self.inputs, **given)

    def write_arrays(self, folder: Folder) -> list[str]:
        """Write the structures; model and densities are copied file by file."""
        rows = self.inputs.known if 'known' in self.inputs else self.inputs.structures
        write_npz(folder, STRUCTURES_FILE, rows.structures.to_arrays())
        return [STRUCTURES_FILE]

    def prepare_for_submission(self, folder: Folder) -> CalcInfo:
        """Write the job folder, and copy the model and the known densities into it."""
        calcinfo = super().prepare_for_submission(folder)
        model = self.inputs.model
        calcinfo.local_copy_list = [
            (model.uuid, name, f'{MODEL_FOLDER}/{name}') for name in model.base.repository.list_object_names()
        ]
        if 'known' in self.inputs:
            calcinfo.local_copy_list += copies_of(self.inputs.known, DENSITIES_FOLDER)
        return calcinfo


def validate_length(value: orm.Float | None, _: Any) -> str | None:
    """Check that a length is positive."""
    if value is not None and not value.value > 0:
        return f'a length must be positive, got {value.value} Å'
    return None


def validate_inputs(inputs: dict[str, Any], _: Any) -> str | None:
    """Check that the model can predict the structures or densities, before anything is submitted."""
    if ('structures' in inputs) == ('known' in inputs):
        return 'give either structures or known densities to predict'
    if 'known' in inputs and ('spacing_ang' in inputs or 'vacuum_ang' in inputs):
        return 'known densities have their meshes and boxes: leave out spacing_ang and vacuum_ang'
    if 'model' not in inputs:
        return None  # the port itself complains
    model = inputs['model']
    rows = inputs['known'] if 'known' in inputs else inputs['structures']
    unknown = sorted(set(rows.base.attributes.get('elements')) - set(model.base.attributes.get('elements')))
    if unknown:
        return (
            f'the model did not learn {", ".join(unknown)}: it knows {", ".join(model.base.attributes.get("elements"))}'
        )
    if 'known' in inputs and not model.label_source.compatible(inputs['known'].label_source):
        return (
            f'the model learnt from {model.label_source}, the known densities are from '
            f'{inputs["known"].label_source}: take one engine, version, protocol and parameters'
        )
    return None
