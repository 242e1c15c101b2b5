"""Workchain to compute transmissions of a potential at several values of one parameter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from aiida import orm
from aiida.engine import ExitCode, ProcessBuilder, ToContext, while_
from aiida.engine.processes.workchains.workchain import WorkChainSpec

from aiida_nanoml.calculations.base import optional_value, validate_code
from aiida_nanoml.calculations.functions.potentials import (
    only_potential,
    scanned_potentials,
    tabulate_transmissions,
    vary_generated_potential,
    vary_given_potential,
)
from aiida_nanoml.calculations.rmatrix import RmatrixCalculation
from aiida_nanoml.data.potentials import PotentialSetData
from aiida_nanoml.errors import NanomlError
from aiida_nanoml.transport.settings import MOST_COSINES, TransmissionSettings
from aiida_nanoml.workflows.base import NanomlWorkChain, failure_of, validate_options, validate_positive

EITHER = 'give either a preset or a potential'
OUTPUTS = ('transmission', 'scattering', 'resonances', 'results')


class RmatrixScanWorkChain(NanomlWorkChain):
    """Transmissions of a potential at several values of one parameter: a map T(E, parameter).

    The potential is made by name, or given. All values are computed in one job; if the basis is too small for one of
    them, the job is repeated with twice the basis.
    """

    @classmethod
    def define(cls, spec: WorkChainSpec) -> None:
        """Define inputs, outline, outputs and exit codes."""
        super().define(spec)
        spec.input('code', valid_type=orm.AbstractCode, validator=validate_code, help='The executable nanoml-worker.')
        spec.input(
            'preset',
            valid_type=orm.Str,
            required=False,
            serializer=orm.to_aiida_type,
            help='Name of the potential: barrier, well, double_barrier, step, ramp or layers.',
        )
        spec.input(
            'parameters',
            valid_type=orm.Dict,
            required=False,
            serializer=orm.to_aiida_type,
            help='Parameters of the preset that differ from its defaults.',
        )
        spec.input('potential', valid_type=PotentialSetData, required=False, help='A potential instead of a preset.')
        spec.input(
            'scan',
            valid_type=orm.Dict,
            serializer=orm.to_aiida_type,
            help='`parameter` and `values`; of a given potential mass, bias or scale.',
        )
        spec.expose_inputs(RmatrixCalculation, include=('settings',))
        spec.input(
            'max_jobs',
            valid_type=orm.Int,
            default=lambda: orm.Int(3),
            validator=validate_positive,
            serializer=orm.to_aiida_type,
            help='Maximum number of jobs, each with twice the basis of the one before.',
        )
        spec.input(
            'options',
            valid_type=orm.Dict,
            default=lambda: orm.Dict({}),
            serializer=orm.to_aiida_type,
            validator=validate_options,
            help='Options of each job: resources, wall time, queue, …',
        )
        spec.inputs.validator = validate_inputs
        spec.outline(
            cls.setup,
            while_(cls.should_run_job)(
                cls.run_job,
                cls.inspect_job,
            ),
            cls.results,
        )
        spec.output('potentials', valid_type=PotentialSetData, help='One potential for each value.')
        spec.output('files', valid_type=orm.FolderData, help='The map, and the tables as CSV.')
        spec.expose_outputs(RmatrixCalculation, include=OUTPUTS)
        spec.exit_code(401, 'ERROR_JOB_FAILED', message='The job failed: {reason}')
        spec.exit_code(
            511,
            'ERROR_NOT_CONVERGED',
            message='Transmissions are not converged with this basis; they are kept: {reason}',
        )

    @classmethod
    def get_builder_for(
        cls,
        code: orm.AbstractCode,
        potential: str | PotentialSetData,
        parameter: str,
        values: Sequence[float],
        settings: Mapping[str, Any],
        parameters: Mapping[str, Any] | None = None,
    ) -> ProcessBuilder:
        """Return a builder of a scan.

        :param code: the executable ``nanoml-worker``.
        :param potential: name of a preset, or a node with one potential.
        :param parameter: name of the parameter that is varied.
        :param values: values of the parameter, in its unit.
        :param settings: ``lowest`` and ``highest`` energy in eV, and others of
            :class:`~aiida_nanoml.transport.settings.TransmissionSettings`.
        :param parameters: parameters of the preset that differ from its defaults.
        """
        builder = cls.get_builder()
        builder.code = code
        if isinstance(potential, str):
            builder.preset = orm.Str(potential)
            builder.parameters = orm.Dict(dict(parameters or {}))
        else:
            builder.potential = potential
        builder.scan = orm.Dict({'parameter': parameter, 'values': [float(value) for value in values]})
        builder.settings = orm.Dict(dict(settings))
        return builder

    def setup(self) -> ExitCode | None:
        """Make a potential for each value.

        - ``ctx.potentials``: the potentials.
        - ``ctx.n_basis``: number of cosines of the next job.
        - ``ctx.jobs``: number of jobs so far.
        - ``ctx.wants_job``: whether another job is needed and allowed.
        """
        if 'potential' in self.inputs:
            potentials, exit_code = self.run_function(
                vary_given_potential, potential=self.inputs.potential, scan=self.inputs.scan
            )
        else:
            parameters = self.inputs.parameters if 'parameters' in self.inputs else orm.Dict({})
            potentials, exit_code = self.run_function(
                vary_generated_potential, preset=self.inputs.preset, parameters=parameters, scan=self.inputs.scan
            )
        if exit_code is not None:
            return exit_code
        self.out('potentials', potentials)
        self.ctx.potentials = potentials
        settings = TransmissionSettings.from_dict(self.inputs.settings.get_dict())
        self.ctx.n_basis = self._first_basis(settings, potentials)
        self.ctx.jobs = 0
        self.ctx.wants_job = True
        return None

    def _first_basis(self, settings: TransmissionSettings, potentials: PotentialSetData) -> int:
        """Return the basis, doubled until it represents the energies in every potential, if there is such a basis."""
        from aiida_nanoml.transport.rmatrix import cosines_needed

        bounds = [settings.lowest, settings.highest]
        needed = max(cosines_needed(potential, bounds) for potential in potentials.potentials)
        n_basis = settings.n_basis
        while n_basis < needed <= MOST_COSINES:
            n_basis = min(2 * n_basis, MOST_COSINES)
        if n_basis != settings.n_basis:
            self.report(f'{settings.n_basis} cosines cannot represent the energies: {n_basis} are used')
        return n_basis

    def should_run_job(self) -> bool:
        """Return whether there is no converged result yet, and another job is allowed."""
        return bool(self.ctx.wants_job)

    def run_job(self) -> ToContext:
        """Compute the transmissions at all values."""
        settings = self.inputs.settings
        if TransmissionSettings.from_dict(settings.get_dict()).n_basis != self.ctx.n_basis:
            settings = orm.Dict(settings.get_dict() | {'n_basis': self.ctx.n_basis})
        node = self.submit(
            RmatrixCalculation,
            code=self.inputs.code,
            potentials=self.ctx.potentials,
            settings=settings,
            metadata={'options': self.inputs.options.get_dict(), 'label': f'{self.ctx.n_basis} cosines'},
        )
        self.report(f'{node.process_label}<{node.pk}>: {self.ctx.n_basis} cosines')
        self.ctx.jobs += 1
        return ToContext(job=node)

    def inspect_job(self) -> ExitCode | None:
        """Double the basis if it is too small; return an exit code if the job failed otherwise."""
        job = self.ctx.job
        unconverged = job.exit_status == RmatrixCalculation.exit_codes.ERROR_NOT_CONVERGED.status
        if not job.is_finished_ok and not unconverged:
            return self.failed(self.exit_codes.ERROR_JOB_FAILED, job)
        self.ctx.n_basis = min(2 * self.ctx.n_basis, MOST_COSINES)
        grows = self.ctx.n_basis > job.outputs.results.get_dict()['settings']['n_basis']
        self.ctx.wants_job = unconverged and grows and self.ctx.jobs < self.inputs.max_jobs.value
        if self.ctx.wants_job:
            self.report(f'{failure_of(job)}; the basis is doubled')
        return None

    def results(self) -> ExitCode | None:
        """Output the results of the last job, with tables and a figure."""
        job = self.ctx.job
        found = {name: job.outputs[name] for name in OUTPUTS}
        self.out_many(found)
        drawn = {name: found[name] for name in OUTPUTS if name != 'scattering'}
        files, exit_code = self.run_function(
            tabulate_transmissions, scan=self.inputs.scan, potentials=self.ctx.potentials, **drawn
        )
        if exit_code is not None:
            return exit_code
        self.out('files', files)
        if not job.is_finished_ok:
            return self.exit_codes.ERROR_NOT_CONVERGED.format(reason=job.exit_message)
        return None


def validate_inputs(inputs: Mapping[str, Any], _: Any) -> str | None:
    """Check that the scan can be made, before anything is stored."""
    if 'scan' not in inputs:
        return None  # the port itself complains
    if ('preset' in inputs) == ('potential' in inputs):
        return EITHER
    if 'potential' in inputs and 'parameters' in inputs:
        return 'a given potential has no parameters of a preset: leave them out'
    try:
        if 'potential' in inputs:
            scanned_potentials(inputs['scan'].get_dict(), only_potential(inputs['potential']))
        else:
            parameters = optional_value(inputs, 'parameters', {})
            scanned_potentials(inputs['scan'].get_dict(), inputs['preset'].value, parameters)
    except NanomlError as error:
        return str(error)
    return None
