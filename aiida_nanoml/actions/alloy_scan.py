"""Scan the lattice constants of alloys."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from aiida_nanoml.actions.alloy_common import (
    SCAN_NAMES,
    SCAN_PARTS,
    ScanAction,
    flagged_line,
    phase_table,
    uuids_of,
)
from aiida_nanoml.actions.base import Estimate, Result, Step, part_names, record, step
from aiida_nanoml.actions.describe import counts, source_line
from aiida_nanoml.actions.fields import Structures, argument
from aiida_nanoml.actions.session import Session

if TYPE_CHECKING:
    from aiida.engine import ProcessBuilder
    from aiida.orm import ProcessNode

    from aiida_nanoml.provenance.alloys import AlloyScan as Scan


class AlloyScan(ScanAction):
    """Compute E(a) of CELLS with an engine, fit equations of state, and find the equilibrium phases.

    A scan whose energy still falls at an end is extended beyond it. A point that fails does not disturb the others.
    With --name NAME, the results are named NAME-structures, NAME-labels, NAME-atoms, NAME-curves and so on.
    """

    action: ClassVar[str] = 'alloy_scan'
    command: ClassVar[tuple[str, ...]] = ('alloys', 'scan')
    makes: ClassVar[Mapping[str, str]] = SCAN_NAMES
    example: ClassVar[str] = 'aiida-nanoml alloys scan cells --engine ase --protocol fast --name scan'
    short: ClassVar[str | None] = 'Scan the lattice constants of cells'
    follow: ClassVar[str] = 'alloy_phase'
    labelled: ClassVar[bool] = True

    cells: Structures = argument('A cell for each alloy and phase.')

    def builder(self, session: Session) -> ProcessBuilder:
        """Return the scan."""
        from aiida_nanoml.workflows.alloy_scan import AlloyScanWorkChain

        arguments = self.scan_arguments()
        return AlloyScanWorkChain.get_builder_from_protocol(cells=self.load('cells'), **arguments)

    def output_names(self) -> dict[str, str]:
        """Return the labels of the results."""
        return part_names(SCAN_PARTS, self.name)

    def collect(self, process: ProcessNode, session: Session) -> Result:
        """Return the scan."""
        return AlloyScanResult(process)

    def estimate(self) -> Estimate:
        """Return jobs and seconds of the points."""
        return self.estimate_points(self.load('cells').structures)


@dataclass(frozen=True)
class AlloyScanResult(Result):
    """A scan of alloys.

    :param process: the workflow that made it.
    """

    process: ProcessNode

    @property
    def scan(self) -> Scan:
        """Return curves, points and phases."""
        from aiida_nanoml.provenance.alloys import AlloyScan as Scan

        outputs = self.process.outputs
        return Scan(outputs.curves, outputs.points, outputs.phases, outputs.structures)

    def to_dict(self) -> dict[str, Any]:
        """Return nodes, summary, and a row for each alloy."""
        nodes = uuids_of(self.process.outputs, SCAN_PARTS)
        return record(self.process, **nodes, **self._summary(), table=self.scan.rows())

    def lines(self) -> dict[str, object]:
        """Return source, failures, curves and phases."""
        summary = self._summary()
        return {
            'scan': f'{self.process.label or self.process.process_label} pk {self.process.pk}, '
            f'uuid {self.process.uuid}',
            'source': source_line(summary['labels']),
            'points': f'{summary["n_points"] - summary["n_failed"]} of {summary["n_points"]}, '
            f'failures: {counts(summary["failures"])}',
            'curves': counts(summary['curves']),
            'phases': counts(summary['phases']),
            **flagged_line(summary['flagged']),
        }

    def table(self) -> str:
        """Return the first alloys."""
        return phase_table(self.scan)

    def next_step(self) -> Step:
        """Build a data set."""
        outputs = self.process.outputs
        atoms = outputs.atoms if 'atoms' in outputs else None
        return step(
            'build_dataset',
            structures=[outputs.structures],
            labels=[outputs.labels],
            atoms=atoms,
            target='energy_per_atom' if atoms is None else 'cohesive_energy',
            descriptor='alloy',
            group='alloy',
        )

    def _summary(self) -> dict[str, Any]:
        return dict(self.process.outputs.summary.get_dict())
