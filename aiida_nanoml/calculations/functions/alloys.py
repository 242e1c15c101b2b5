"""Alloys: generation, lattice scans, equations of state, phases, and comparison of models with the engine."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import numpy as np
from aiida import orm
from numpy.typing import NDArray

from aiida_nanoml.alloys.curves import (
    OK,
    Curves,
    at_curve,
    at_minimum,
    extension,
    fit_curves,
    refinement,
)
from aiida_nanoml.alloys.phases import Phases, compare_phases, equilibrium_phases
from aiida_nanoml.calculations.functions.base import calculation_function
from aiida_nanoml.data.dataset import DatasetData
from aiida_nanoml.data.labels import LabelSetData
from aiida_nanoml.data.prediction import PredictionData
from aiida_nanoml.data.structures import StructureSetData
from aiida_nanoml.engines.label_set import LabelSet, LabelSource
from aiida_nanoml.errors import AlloyError, DatasetError, StructureError
from aiida_nanoml.learning.dataset import positions_of
from aiida_nanoml.learning.targets import evaluate_target
from aiida_nanoml.structures import (
    AlloyParameters,
    StructureSet,
    composition_section,
    generate_alloys,
    isolated_atoms,
    name_alloys,
    scale_cells,
    with_lattice_constants,
)
from aiida_nanoml.structures.cubic import constants_from_volumes, volumes_per_atom

SHOWN = 20
"""Maximum number of flagged curves in a summary."""

SIGNS = {'energy_per_atom': 1.0, 'cohesive_energy': -1.0}
"""Targets of models with curves E(a), and their sign as an energy."""


@calculation_function
def generate_alloy_set(parameters: orm.Dict) -> StructureSetData:
    """Generate cells of alloys, one for each alloy and phase.

    :param parameters: fields of :class:`~aiida_nanoml.structures.AlloyParameters`.
    :raises StructureError: the parameters cannot be used.
    """
    return StructureSetData(generate_alloys(AlloyParameters.from_dict(parameters.get_dict())))


@calculation_function
def generate_alloy_section(parameters: orm.Dict) -> StructureSetData:
    """Generate cells over a section of composition space, for a phase map.

    :param parameters: arguments of :func:`~aiida_nanoml.structures.composition_section`.
    :raises StructureError: an argument is unknown, missing, or cannot be used.
    """
    given = parameters.get_dict()
    known = inspect.signature(composition_section).parameters
    strange = sorted(set(given) - set(known))
    missing = sorted(key for key, port in known.items() if port.default is port.empty and key not in given)
    if strange or missing:
        raise StructureError(
            f'a section has the parameters {", ".join(known)}; unknown: {", ".join(strange) or "none"}, '
            f'missing: {", ".join(missing) or "none"}'
        )
    return StructureSetData(composition_section(**given))


@calculation_function
def name_alloy_set(structures: StructureSetData) -> StructureSetData:
    """Recognise the phases of cells from elsewhere, and name the alloys.

    :raises StructureError: a structure is neither fcc nor bcc.
    """
    return StructureSetData(name_alloys(structures.structures))


@calculation_function
def scan_alloys(structures: StructureSetData, scan: orm.Dict) -> StructureSetData:
    """Return each cell at several lattice constants.

    :param structures: one cell for each alloy and phase.
    :param scan: ``factors`` of the lattice constant of each cell, or ``lattice_constants`` in Å by phase.
    :raises StructureError: neither or both are given, or a phase has no lattice constants.
    """
    return StructureSetData(scanned(structures.structures, scan.get_dict()))


@calculation_function
def extend_scan(structures: StructureSetData, labels: LabelSetData, points: orm.Int) -> dict[str, StructureSetData]:
    """Add lattice constants beyond the end at which the energy of a curve still falls.

    :param structures: all points so far.
    :param labels: their labels.
    :param points: number of lattice constants to add to such a curve.
    :returns: ``structures``, the added points only; nothing if no curve needs any.
    :raises AlloyError: a point has no name or an unknown phase.
    """
    scan = structures.structures
    found = labels.labels.distinct()
    energies = evaluate_target('energy_per_atom', found.select(_rows_of(scan, found)), scan)
    rows, constants = extension(scan, energies, fit_curves(scan, energies), points.value)
    if not len(rows):
        return {}
    return {'structures': StructureSetData(with_lattice_constants(scan.select(rows), constants))}


@calculation_function
def isolated_atom_set(elements: orm.List) -> StructureSetData:
    """Return the isolated atoms that cohesive energies refer to.

    :param elements: chemical symbols.
    :raises StructureError: a symbol is not that of an element.
    """
    return StructureSetData(isolated_atoms(elements.get_list()))


@calculation_function
def analyse_scan(
    structures: StructureSetData, labels: LabelSetData, settings: orm.Dict, atoms: LabelSetData | None = None
) -> dict[str, orm.Data]:
    """Fit equations of state, find the equilibrium phases, and interpolate what else is known to the minima.

    :param structures: all points of the scan.
    :param labels: their labels; points without an energy are counted.
    :param settings: ``dos_width_ev``, the Gaussian width of the density of states.
    :param atoms: labels of the isolated atoms from the same engine and protocol, for cohesive energies.
    :returns: ``curves`` (arrays of :class:`~aiida_nanoml.alloys.curves.Curves`, and at the minima
        ``cohesive_energy_ev``, ``dos_fermi_per_ev`` and ``magnetic_moment_bohr``, each per atom, NaN where unknown);
        ``points`` (a row for each point: ``curve``, ``lattice_constant_ang``, ``volume_ang3``, ``strain`` from the
        minimum, ``energy_ev``, ``pressure_gpa`` by -dE/dV and ``stress_pressure_gpa`` by the engine's own stress);
        ``phases`` (arrays of :class:`~aiida_nanoml.alloys.phases.Phases`); ``summary``.
    :raises AlloyError: labels and atoms come from different sources, or rows cannot be distinguished.
    :raises DatasetError: an isolated atom has no label.
    """
    width = _positive(settings.get_dict(), 'dos_width_ev')
    scan, found = structures.structures, labels.labels.distinct()
    source = found.source if atoms is None else found.source.joined(atoms.label_source)
    rows = found.select(_rows_of(scan, found))
    energies = evaluate_target('energy_per_atom', rows, scan)
    missing = np.full(len(scan), np.nan)
    curves = fit_curves(scan, energies)
    phases = equilibrium_phases(curves)
    volumes = volumes_per_atom(scan)
    cohesive = evaluate_target('cohesive_energy', rows, scan, atoms.labels) if atoms is not None else missing
    others = {
        'dos_fermi_per_ev': rows.dos_fermi(width) / scan.counts,
        'magnetic_moment_bohr': rows.numbers.get('magnetic_moment_bohr', missing) / scan.counts,
    }
    minima = at_minimum(others, volumes, curves)
    # The energy of the atoms does not depend on the volume: the fit gives the cohesive energy at the minimum, too.
    minima['cohesive_energy_ev'] = at_curve(cohesive + energies, curves) - curves.energy_ev
    others['cohesive_energy_ev'] = cohesive
    points = _points(scan, energies, curves) | others
    points['stress_pressure_gpa'] = evaluate_target('pressure', rows, scan)
    attributes = {'labels': source.to_dict(), 'dos_width_ev': width}
    summary = _summary(curves, phases) | {
        'labels': source.to_dict(),
        'n_points': len(scan),
        'n_failed': int(np.sum(~np.isfinite(energies))),
        'failures': found.failures,
        'labelling_s': float(np.nansum(found.wall_s)),
    }
    return {
        'curves': _array_node(curves.to_arrays() | minima, attributes),
        'points': _array_node(points, attributes),
        'phases': _array_node(phases.to_arrays(), attributes),
        'summary': orm.Dict(summary),
    }


@calculation_function
def refine_scan(structures: StructureSetData, points: orm.Int, dataset: DatasetData | None = None) -> StructureSetData:
    """Divide the range of each curve evenly, for the curves that a model predicts.

    :param structures: the points of a scan.
    :param points: lattice constants of each curve.
    :param dataset: only the alloys of which no point was learnt from or watched: all rows are test rows.
    :raises AlloyError: a curve has one lattice constant only, or no alloy was kept for the test.
    """
    scan = structures.structures
    if dataset is not None:
        rows = dataset.dataset
        seen = np.isin(scan.hashes, rows.hashes[rows.split != 'test'])
        tested = np.isin(scan.hashes, rows.hashes[rows.split == 'test'])
        kept = np.setdiff1d(scan.names[tested], scan.names[seen])
        if not len(kept):
            raise AlloyError('no alloy is in the test part with all of its points: split the data set by alloy')
        scan = scan.select(np.isin(scan.names, kept))
    rows, constants = refinement(scan, points.value)
    return StructureSetData(with_lattice_constants(scan.select(rows), constants))


@calculation_function
def predict_phases(predictions: PredictionData, structures: StructureSetData) -> dict[str, orm.Data]:
    """Find the equilibrium phases by the curves E(a) that a model predicts.

    :param predictions: of a model that learnt the energy or the cohesive energy per atom.
    :param structures: the predicted points.
    :returns: ``curves`` (arrays of :class:`~aiida_nanoml.alloys.curves.Curves` and, if it was learnt,
        ``cohesive_energy_ev``), ``points`` (``curve``,
        ``lattice_constant_ang``, ``volume_ang3``, ``strain``, ``energy_ev`` with the zero of the target, and
        ``pressure_gpa``) and ``phases`` (arrays of :class:`~aiida_nanoml.alloys.phases.Phases`).
    :raises AlloyError: the model predicts no energy, or a point has no name or an unknown phase.
    :raises DatasetError: a point was not predicted.
    """
    attributes = predictions.base.attributes
    target = attributes.get('target')
    if target not in SIGNS:
        raise AlloyError(f'the model predicts {target}; curves E(a) need one of {", ".join(SIGNS)}')
    scan = structures.structures
    positions = positions_of(scan.hashes, predictions.get_array('hashes'))
    if (positions < 0).any():
        raise DatasetError(f'{int(np.sum(positions < 0))} of {len(scan)} points were not predicted')
    energies = SIGNS[target] * predictions.get_array('value')[positions]
    curves = fit_curves(scan, energies)
    made = {'labels': attributes.get('labels'), 'target': target}
    cohesive = {'cohesive_energy_ev': -curves.energy_ev} if target == 'cohesive_energy' else {}
    return {
        'curves': _array_node(curves.to_arrays() | cohesive, made),
        'points': _array_node(_points(scan, energies, curves), made),
        'phases': _array_node(equilibrium_phases(curves).to_arrays(), made),
    }


@calculation_function
def compare_scans(curves: orm.ArrayData, predicted: orm.ArrayData) -> orm.Dict:
    """Compare the curves of a model with those of the engine that it learnt from.

    :param curves: of the engine, from :func:`analyse_scan`.
    :param predicted: of the model, from :func:`predict_phases`.
    :returns: see :func:`~aiida_nanoml.alloys.phases.compare_phases`.
    :raises AlloyError: the model learnt labels from another engine or protocol, or no alloy can be compared.
    """
    learnt, given = (LabelSource.from_dict(node.base.attributes.get('labels')) for node in (predicted, curves))
    if not learnt.compatible(given):
        raise AlloyError(f'the model learnt from {learnt}, the curves are from {given}: they cannot be compared')
    return orm.Dict(compare_phases(curves_of(curves), curves_of(predicted)))


def scanned(structures: StructureSet, scan: dict[str, Any]) -> StructureSet:
    """Return each cell at several lattice constants; arguments and errors as of :func:`scan_alloys`."""
    if set(scan) == {'factors'}:
        return scale_cells(structures, scan['factors'])
    if set(scan) != {'lattice_constants'} or not isinstance(scan['lattice_constants'], dict):
        raise StructureError(
            'a scan is given by `factors` or by `lattice_constants`, a list for each phase; '
            f'got {", ".join(sorted(scan)) or "nothing"}'
        )
    constants = scan['lattice_constants']
    phases = structures.families.tolist()
    absent = sorted(phase for phase in set(phases) if not isinstance(constants.get(phase), list))
    if absent:
        raise StructureError(f'the scan has no list of lattice constants of the phase {", ".join(map(repr, absent))}')
    rows = np.repeat(np.arange(len(structures)), [len(constants[phase]) for phase in phases])
    return with_lattice_constants(structures.select(rows), [value for phase in phases for value in constants[phase]])


def curves_of(node: orm.ArrayData) -> Curves:
    """Read the curves that :func:`analyse_scan` or :func:`predict_phases` made."""
    return Curves.from_arrays(node.arrays)


def _points(scan: StructureSet, energies: NDArray[np.float64], curves: Curves) -> dict[str, NDArray[Any]]:
    volumes = volumes_per_atom(scan)
    return {
        'curve': curves.curve_of_row,
        'lattice_constant_ang': constants_from_volumes(volumes, scan.families),
        'volume_ang3': volumes,
        'strain': np.cbrt(volumes / curves.volume_ang3[curves.curve_of_row]) - 1,
        'energy_ev': energies,
        'pressure_gpa': curves.pressures(curves.curve_of_row, volumes),
    }


def _rows_of(scan: StructureSet, labels: LabelSet) -> NDArray[np.int64]:
    positions = positions_of(scan.hashes, labels.hashes)
    unlabelled = np.flatnonzero(positions < 0)
    if len(unlabelled):
        raise DatasetError(
            f'{len(unlabelled)} of {len(scan)} points have no label, the first is row {unlabelled[0]} '
            f'({scan.names[unlabelled[0]]}): label them, or take only the labelled ones'
        )
    return positions


def _summary(curves: Curves, phases: Phases) -> dict[str, Any]:
    flagged = np.flatnonzero(curves.status != OK)
    return {
        'n_alloys': len(phases),
        'phases': phases.counts(),
        'n_curves': len(curves),
        'curves': curves.counts(),
        'flagged': {
            f'{curves.names[row]} {curves.phases[row]}': str(curves.messages[row]) for row in flagged[:SHOWN].tolist()
        },
    }


def _positive(settings: dict[str, Any], name: str) -> float:
    value = settings.get(name)
    if set(settings) != {name} or isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise AlloyError(f'the settings of the analysis are {name}, a number above zero; got {settings}')
    return float(value)


def _array_node(arrays: Mapping[str, NDArray[Any]], attributes: dict[str, Any]) -> orm.ArrayData:
    node = orm.ArrayData()
    for name, column in arrays.items():
        node.set_array(name, column)
    node.base.attributes.set_many(attributes)
    return node
