"""Scans of alloys in the graph: those of an engine, and those that a model predicted."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from aiida_nanoml.errors import AlloyError

if TYPE_CHECKING:
    from aiida.orm import ArrayData, Node, ProcessNode

    from aiida_nanoml.data.structures import StructureSetData

WORKFLOWS = ('AlloyScanWorkChain', 'AlloyWorkChain')

COLUMNS = (
    'lattice_constant_ang',
    'energy_ev',
    'bulk_modulus_gpa',
    'cohesive_energy_ev',
    'dos_fermi_per_ev',
    'magnetic_moment_bohr',
)
"""What is known of a curve, if the engine computes it."""


@dataclass(frozen=True)
class AlloyScan:
    """The results of :func:`~aiida_nanoml.calculations.functions.alloys.analyse_scan` or ``predict_phases``.

    :param curves: node of the equations of state.
    :param points: node of the points.
    :param phases: node of the phases.
    :param structures: node of the scanned points.
    """

    curves: ArrayData
    points: ArrayData
    phases: ArrayData
    structures: StructureSetData

    @property
    def target(self) -> str | None:
        """Return what the model predicts; None: an engine made the scan."""
        target: str | None = self.curves.base.attributes.get('target', None)
        return target

    @property
    def predicted(self) -> bool:
        """Return whether a model made the scan, and not an engine."""
        return self.target is not None

    @property
    def source(self) -> dict[str, Any]:
        """Return the origin of the labels; for a model, of those that it learnt from."""
        source: dict[str, Any] = self.curves.base.attributes.get('labels')
        return source

    def rows(self) -> list[dict[str, Any]]:
        """Return a row for each alloy: phase, difference, and what is known of its curves; None for unknown numbers."""
        from aiida_nanoml.calculations.functions.alloys import curves_of

        curves, phases = curves_of(self.curves), self.phases.arrays
        known = self.curves.get_arraynames()
        arrays = {name: self.curves.get_array(name) for name in COLUMNS if name in known}
        rows = []
        for number, name in enumerate(phases['names'].tolist()):
            row: dict[str, Any] = {
                'alloy': name,
                'formula': str(phases['formulas'][number]),
                'phase': str(phases['phases'][number]),
                'energy_difference_ev': _none_for_nan(phases['energy_difference_ev'][number]),
            }
            for curve in phases['curves'][number].tolist():
                if curve >= 0:
                    found = {key: _none_for_nan(column[curve]) for key, column in arrays.items()}
                    row[str(curves.phases[curve])] = {'status': str(curves.status[curve]), **found}
            rows.append(row)
        return rows


def find_scans(node: Node) -> tuple[AlloyScan | None, AlloyScan | None]:
    """Return the scan of an engine and that of a model that belong to a node.

    :param node: a scan, a study, or anything that one of them or a prediction of phases made.
    :raises AlloyError: it is none of these, or did not finish.
    """
    from aiida.orm import ProcessNode

    process = node if isinstance(node, ProcessNode) else node.creator
    while process is not None:
        found = _scans_of_process(process)
        if found != (None, None):
            return found
        process = process.caller
    raise AlloyError(
        f'pk {node.pk} is no scan of alloys that finished, and no phases that a model predicted: make one with '
        '`aiida-nanoml alloys scan` or `alloys phase --model`'
    )


def paired_differences(scan: AlloyScan, model: AlloyScan) -> tuple[np.ndarray, np.ndarray]:
    """Return E(fcc) - E(bcc) of the alloys whose phase is decided in both, of engine and model, in eV per atom.

    :returns: two arrays (n,).
    :raises AlloyError: there is no such alloy.
    """
    known, found = scan.phases.arrays, model.phases.arrays
    row_of = {name: row for row, name in enumerate(known['names'].tolist())}
    rows = np.array([row_of.get(name, -1) for name in found['names'].tolist()])
    reference = np.where(rows >= 0, known['energy_difference_ev'][rows], np.nan)
    both = np.isfinite(reference) & np.isfinite(found['energy_difference_ev'])
    if not both.any():
        raise AlloyError('no alloy has a decided phase in both')
    return reference[both], found['energy_difference_ev'][both]


def _scans_of_process(process: ProcessNode) -> tuple[AlloyScan | None, AlloyScan | None]:
    outputs = process.outputs
    if process.process_label in WORKFLOWS and 'curves' in outputs:
        scan = AlloyScan(outputs.curves, outputs.points, outputs.phases, outputs.structures)
        if 'predicted' not in outputs:
            return scan, None
        found = outputs.predicted
        return scan, AlloyScan(found.curves, found.points, found.phases, found.structures)
    if process.process_label not in ('predict_phases', 'analyse_scan') or not process.is_finished_ok:
        return None, None
    made = AlloyScan(outputs.curves, outputs.points, outputs.phases, process.inputs.structures)
    return (None, made) if process.process_label == 'predict_phases' else (made, None)


def _none_for_nan(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
