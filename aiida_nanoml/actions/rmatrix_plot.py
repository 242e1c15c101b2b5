"""Draw a transmission, or the map of a scan."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from aiida_nanoml.actions.base import Result
from aiida_nanoml.actions.errors import InputError
from aiida_nanoml.actions.fields import AnyNode, argument, option, output_option
from aiida_nanoml.actions.figures import FIGURE_HELP, Figure, FigureAction
from aiida_nanoml.actions.rmatrix_common import draw_transmission
from aiida_nanoml.actions.session import Session

if TYPE_CHECKING:
    from aiida.orm import CalcJobNode


class RmatrixPlot(FigureAction):
    """Draw NODE, a transmission or the job or scan that made it: V(x) and T(E), or the map of a scan."""

    action: ClassVar[str] = 'rmatrix_plot'
    command: ClassVar[tuple[str, ...]] = ('rmatrix', 'plot')
    example: ClassVar[str] = 'aiida-nanoml rmatrix plot map -o map.png'

    node: AnyNode = argument('Transmission, job or scan.')
    output: Path = output_option(FIGURE_HELP, required=True)
    row: int | None = option(None, 'Draw one potential of many, counted from 0.', ge=0)
    log_scale: bool | None = option(None, 'Scale of T.', options=('--log/--linear',), shown='by its values')

    def perform(self, session: Session) -> Result:
        """Draw the figure."""
        from aiida_nanoml.provenance.transmissions import find_transmission_job, read_transmission

        self.check_overwriting(self.file)
        node = self.load('node')
        job = find_transmission_job(node)
        n_potentials = job.inputs.potentials.n_potentials
        if self.row is None and n_potentials > 1:
            self._draw_map(job)
        elif (self.row or 0) >= n_potentials:
            raise InputError(f'the job {job.pk} has {n_potentials} potentials, counted from 0', 'row')
        else:
            draw_transmission(read_transmission(job, self.row or 0), self.file, self.log_scale, **self.size)
        return Figure(node, self.file)

    def _draw_map(self, job: CalcJobNode) -> None:
        from aiida_nanoml.calculations.functions.potentials import draw_scan
        from aiida_nanoml.provenance.transmissions import scan_of_job

        scan, outputs = scan_of_job(job), job.outputs
        if scan is None:
            number = job.inputs.potentials.n_potentials
            raise InputError(f'the job {job.pk} has {number} potentials: choose one with {{row}}')
        drawn = (job.inputs.potentials, outputs.transmission, outputs.resonances, outputs.results)
        draw_scan(self.file, scan.inputs.scan.get_dict(), *drawn, self.log_scale, **self.size)
