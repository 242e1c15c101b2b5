"""Calculation job to compute transmissions of one-dimensional potentials by the R-matrix method."""

from __future__ import annotations

from typing import Any

from aiida import orm
from aiida.common.folders import Folder
from aiida.engine import CalcJobProcessSpec

from aiida_nanoml.calculations.base import WorkerCalculation, write_npz
from aiida_nanoml.data.potentials import PotentialSetData
from aiida_nanoml.errors import NanomlError
from aiida_nanoml.transport.settings import TransmissionSettings
from aiida_nanoml.worker.schemas import POTENTIALS_FILE, RESULTS_FILE, RmatrixJob


class RmatrixCalculation(WorkerCalculation):
    """Compute the transmissions of one-dimensional potentials, all at the same energies, by the R-matrix method."""

    TASK = 'rmatrix'
    _TEMPORARY_FILES = (RESULTS_FILE,)

    @classmethod
    def define(cls, spec: CalcJobProcessSpec) -> None:
        """Define inputs, outputs and exit codes."""
        super().define(spec)
        spec.input('potentials', valid_type=PotentialSetData, help='One potential or many.')
        spec.input(
            'settings',
            valid_type=orm.Dict,
            serializer=orm.to_aiida_type,
            validator=validate_settings,
            help='`lowest` and `highest` energy in eV; if wanted `n_energies`, `n_basis`, `correction`, `resolve`, '
            '`tolerance`.',
        )
        spec.output('transmission', valid_type=orm.XyData, help='T(E), one column for each potential; energies in eV.')
        spec.output(
            'scattering',
            valid_type=orm.ArrayData,
            help='`s_matrix`, `reflection` and `phase` (rad) at all energies, and `levels`, the Wigner-Eisenbud '
            'energies (eV); one row for each potential.',
        )
        spec.output(
            'resonances',
            valid_type=orm.ArrayData,
            help='Poles of the S-matrix: `rows` of the potentials, `energies` and `widths` in eV.',
        )
        spec.output('results', valid_type=orm.Dict, help='Settings, estimated errors, unitarity, constants.')
        spec.exit_code(
            511,
            'ERROR_NOT_CONVERGED',
            message='Transmissions are not converged with this basis; they are kept: {reason}',
        )

    def job_content(self) -> RmatrixJob:
        """Return energies, basis and correction."""
        return RmatrixJob(settings=self.inputs.settings.get_dict())

    def write_arrays(self, folder: Folder) -> list[str]:
        """Write the potentials."""
        write_npz(folder, POTENTIALS_FILE, self.inputs.potentials.potentials.to_arrays())
        return [POTENTIALS_FILE]


def validate_settings(settings: orm.Dict, _: Any) -> str | None:
    """Check the settings of the transmissions."""
    try:
        TransmissionSettings.from_dict(settings.get_dict())
    except NanomlError as error:
        return str(error)
    return None
