"""Transmissions in the graph: the job behind a node, and what it found."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiida_nanoml.errors import TransportError
from aiida_nanoml.transport.transmission import Transmission

if TYPE_CHECKING:
    from aiida.orm import CalcJobNode, Node, ProcessNode

JOB, SCAN = 'RmatrixCalculation', 'RmatrixScanWorkChain'


def find_transmission_job(node: Node) -> CalcJobNode:
    """Return the job of a transmission, of a scan, or the job itself.

    :raises TransportError: the node is none of these, or the job has no transmission.
    """
    from aiida.orm import ProcessNode

    process: Any = node if isinstance(node, ProcessNode) else node.creator
    if process is not None and process.process_label == SCAN and 'transmission' in process.outputs:
        process = process.outputs.transmission.creator
    if process is None or process.process_label != JOB or 'transmission' not in process.outputs:
        raise TransportError(f'{node.pk} is no transmission, and no process that made one')
    return process


def scan_of_job(job: CalcJobNode) -> ProcessNode | None:
    """Return the scan that called a job, or None."""
    caller = job.caller
    return caller if caller is not None and caller.process_label == SCAN else None


def read_transmission(job: CalcJobNode, row: int = 0) -> Transmission:
    """Read one transmission of a job.

    :param row: potential of the job, counted from 0.
    """
    outputs = job.outputs
    resonances, scattering = outputs.resonances.arrays, outputs.scattering
    mine = resonances['rows'] == row
    return Transmission(
        potential=job.inputs.potentials.potentials[row],
        settings=outputs.results.get_dict()['settings'],
        energies=outputs.transmission.get_x()[1],
        values=outputs.transmission.get_y()[row][1],
        resonance_energies=resonances['energies'][mine],
        resonance_widths=resonances['widths'][mine],
        truncation_error=float(scattering.get_array('truncation_errors')[row]),
        noise_floor=float(scattering.get_array('noise_floors')[row]),
        unitarity_defect=float(scattering.get_array('unitarity_defects')[row]),
        seconds=(job.mtime - job.ctime).total_seconds(),
    )
