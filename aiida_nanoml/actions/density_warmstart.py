"""Measure what a charge density to start from saves SIESTA."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from aiida_nanoml.actions.base import Estimate, JobAction, Result, Step, record, step
from aiida_nanoml.actions.common import PSEUDO_FAMILY, settings_option
from aiida_nanoml.actions.describe import SHOWN_ROWS, shortened, without_nan
from aiida_nanoml.actions.fields import ENGINE, JOB, Code, Densities, argument, comma_separated, option
from aiida_nanoml.actions.session import Session, failure_of

if TYPE_CHECKING:
    from aiida.engine import ProcessBuilder
    from aiida.orm import ProcessNode

RUN_FAILED, ENERGIES_DIFFER = 401, 511
"""Exit statuses of a comparison that has a table all the same."""

STARTS = ('atoms', 'density')

WALLCLOCK_S = 3600


class DensityWarmstart(JobAction):
    """Run SIESTA from free atoms and from DENSITIES, and compare iterations and seconds of both.

    Both must end at the same energy.
    """

    action: ClassVar[str] = 'density_warmstart'
    command: ClassVar[tuple[str, ...]] = ('density', 'warmstart')
    example: ClassVar[str] = 'aiida-nanoml density warmstart predicted --code siesta@localhost --rows 0,1 --name saved'
    short: ClassVar[str | None] = 'Measure what a density saves SIESTA'
    labelled: ClassVar[bool] = True
    accepted: ClassVar[tuple[int, ...]] = (RUN_FAILED, ENERGIES_DIFFER)

    densities: Densities = argument('Densities to start from.')
    code: Code = option(..., 'SIESTA, built with NetCDF.', group=JOB)
    rows: tuple[Annotated[int, Field(ge=0)], ...] | None = option(
        None, 'Rows to run, counted from 0.', shown='all', **comma_separated(int, '0,1')
    )
    protocol: str | None = option(
        None, 'Protocol of the runs.', group=ENGINE, shown='the parameters behind the densities'
    )
    settings: dict[str, Any] = settings_option(
        'Parameter of SIESTA that replaces that of the protocol; repeatable.', group=ENGINE
    )
    pseudo_family: str | None = PSEUDO_FAMILY
    processes: int | None = option(None, 'MPI processes of a run.', ge=1, group=JOB)
    wallclock: int | None = option(None, 'Wall time of a run.', unit='s', ge=1, group=JOB, shown=str(WALLCLOCK_S))

    def builder(self, session: Session) -> ProcessBuilder:
        """Return the comparison."""
        from aiida_nanoml.workflows.siesta_warmstart import SiestaWarmstartWorkChain, run_parameters

        densities = self.load('densities')
        protocol, overrides = run_parameters(densities, self.protocol, self.settings)
        resources = {'num_machines': 1, 'num_mpiprocs_per_machine': self.processes or 1}
        return SiestaWarmstartWorkChain.get_builder_from_protocol(
            self.load('code'),
            densities,
            None if self.rows is None else list(self.rows),
            pseudo_family=self.pseudo_family,
            protocol=protocol,
            overrides=overrides,
            options={'resources': resources, 'max_wallclock_seconds': WALLCLOCK_S} | self.job_options(),
        )

    def estimate(self) -> Estimate:
        """Return the runs, two for each structure, one after the other; their time is not known before."""
        count = self.load('densities').n_densities if self.rows is None else len(self.rows)
        limit = self.wallclock or WALLCLOCK_S
        return Estimate(2 * count, None, None, f'no seconds: it is them that are measured; {limit} s a run at most')

    def collect(self, process: ProcessNode, session: Session) -> Result:
        """Return the comparison, which may lack runs that failed."""
        return DensityWarmstartResult(process)


@dataclass(frozen=True)
class DensityWarmstartResult(Result):
    """Iterations, seconds and energies of runs from free atoms and from densities.

    :param process: the comparison.
    """

    process: ProcessNode

    @property
    def failure(self) -> str | None:  # type: ignore[override]
        """Return why runs failed, or that energies differ."""
        return failure_of(self.process)

    def to_dict(self) -> dict[str, Any]:
        """Return the summary, and all columns by row."""
        columns = {name: without_nan(column) for name, column in self._columns().items()}
        return record(self.process, summary=self._summary(), rows=columns)

    def lines(self) -> dict[str, object]:
        """Return what is saved."""
        summary = self._summary()
        shares = {
            key: '-' if summary[f'{key}_saved'] is None else f'{round(100 * summary[f"{key}_saved"])} %'
            for key in ('iterations', 'scf_s', 'wall_s')
        }
        return {
            'process': f'pk {self.process.pk}, uuid {self.process.uuid}',
            'structures': summary['n_structures'],
            'iterations': f'{summary["iterations_atoms"]} from free atoms, {summary["iterations_density"]} from the '
            f'densities: {shares["iterations"]} saved',
            'seconds': f'{shares["scf_s"]} of the self-consistency saved, {shares["wall_s"]} of the whole run',
            'energies': f'differ by up to {summary["energy_difference_max_ev"]:.1e} eV',
        }

    def table(self) -> str:
        """Return the first structures."""
        columns = self._columns()
        table = [['row', 'name', 'iterations', 'from density', 'SCF (s)', 'from density', 'difference (eV)']]
        for number in range(min(SHOWN_ROWS, len(columns['rows']))):
            iterations = [str(columns[f'iterations_{start}'][number]) for start in STARTS]
            seconds = [f'{columns[f"scf_s_{start}"][number]:.1f}' for start in STARTS]
            difference = f'{columns["energy_difference_ev"][number]:.1e}'
            names = [str(columns['rows'][number]), columns['names'][number]]
            table.append([*names, *iterations, *seconds, difference])
        return shortened(table, len(columns['rows']))

    def next_step(self) -> Step:
        """Trace the table."""
        return step('trace', node=self.process.outputs.table.pk)

    def _summary(self) -> dict[str, Any]:
        return dict(self.process.outputs.summary.get_dict())

    def _columns(self) -> dict[str, list[Any]]:
        table = self.process.outputs.table
        return {name: table.get_array(name).tolist() for name in table.get_arraynames()}
