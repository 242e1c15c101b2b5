"""E(a): the scans of many alloys in both phases, their equations of state, and where they need more points."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aiida_nanoml.alloys.equation_of_state import (
    MINIMUM_POINTS,
    Floats,
    birch_energies,
    birch_pressures,
    fit_birch_murnaghan,
)
from aiida_nanoml.errors import AlloyError
from aiida_nanoml.structures import PHASES, StructureSet
from aiida_nanoml.structures.cubic import constants_from_volumes, volumes_per_atom

OK = 'ok'
TOO_FEW_POINTS = 'too_few_points'
MINIMUM_BELOW = 'minimum_below'
MINIMUM_ABOVE = 'minimum_above'
FIT_FAILED = 'fit_failed'
POOR_FIT = 'poor_fit'

USABLE = (OK, POOR_FIT)
"""Statuses of curves that have an equation of state."""

LARGEST_RESIDUAL_EV = 0.005
"""A fit that leaves more than this (root mean square, eV per atom) is called poor: a point is off its curve."""


@dataclass(frozen=True)
class Curves:
    """C curves E(a), one for each alloy and phase, and which rows of the scan belong to them.

    :param names: (C,) the alloy.
    :param phases: (C,) ``'fcc'`` or ``'bcc'``.
    :param formulas: (C,) content of a cell.
    :param status: (C,) ``'ok'``; ``'poor_fit'``: there is an equation of state, but it leaves more than
        :data:`LARGEST_RESIDUAL_EV`; ``'minimum_below'`` or ``'minimum_above'``: the energy still falls at the smallest
        or largest lattice constant; ``'too_few_points'``; ``'fit_failed'``.
    :param messages: (C,) a sentence where the status is not ``'ok'``.
    :param n_points: (C,) points with an energy.
    :param n_missing: (C,) points without.
    :param lattice_constant_ang: (C,) at the minimum, Å; NaN, like the next five, without an equation of state.
    :param volume_ang3: (C,) at the minimum, Å³ per atom.
    :param energy_ev: (C,) at the minimum, eV per atom.
    :param bulk_modulus_gpa: (C,) GPa.
    :param bulk_modulus_derivative: (C,).
    :param residual_ev: (C,) root mean square of what the fit leaves, eV per atom.
    :param curve_of_row: (n,) curve of each row of the scan.
    """

    names: NDArray[np.str_]
    phases: NDArray[np.str_]
    formulas: NDArray[np.str_]
    status: NDArray[np.str_]
    messages: NDArray[np.str_]
    n_points: NDArray[np.int64]
    n_missing: NDArray[np.int64]
    lattice_constant_ang: Floats
    volume_ang3: Floats
    energy_ev: Floats
    bulk_modulus_gpa: Floats
    bulk_modulus_derivative: Floats
    residual_ev: Floats
    curve_of_row: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.names)

    @property
    def usable(self) -> NDArray[np.bool_]:
        """(C,) whether a curve has an equation of state."""
        return np.isin(self.status, USABLE)

    def energies(self, rows: NDArray[np.int64], volumes_ang3: Floats) -> Floats:
        """Return the energy of curves by their equations of state; ``rows`` and ``volumes_ang3`` are broadcast.

        :param rows: numbers of curves.
        :param volumes_ang3: Å³ per atom.
        :returns: eV per atom, NaN without an equation of state.
        """
        return birch_energies(
            volumes_ang3,
            self.energy_ev[rows],
            self.volume_ang3[rows],
            self.bulk_modulus_gpa[rows],
            self.bulk_modulus_derivative[rows],
        )

    def pressures(self, rows: NDArray[np.int64], volumes_ang3: Floats) -> Floats:
        """Return the pressure -dE/dV of curves in GPa; arguments as of :meth:`energies`."""
        return birch_pressures(
            volumes_ang3, self.volume_ang3[rows], self.bulk_modulus_gpa[rows], self.bulk_modulus_derivative[rows]
        )

    def counts(self) -> dict[str, int]:
        """Return the number of curves by status."""
        found, counts = np.unique(self.status, return_counts=True)
        return {str(status): int(count) for status, count in zip(found, counts, strict=True)}

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Return all columns by name."""
        return {column.name: getattr(self, column.name) for column in fields(self)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Curves:
        """Rebuild the curves from :meth:`to_arrays`.

        :raises AlloyError: a column is missing.
        """
        try:
            return cls(**{column.name: arrays[column.name] for column in fields(cls)})
        except KeyError as error:
            raise AlloyError(f'the curves lack the column {error}') from error


def fit_curves(structures: StructureSet, energies_ev: Floats) -> Curves:
    """Fit an equation of state to each alloy and phase of a scan.

    :param structures: n cells; ``names`` are those of the alloys, ``families`` the phase, volumes the lattice constant.
    :param energies_ev: (n,) energy per atom in eV, with one zero for all phases of an alloy; NaN if unknown.
    :raises AlloyError: no rows, lengths that differ, or a row without a name or of an unknown phase.
    """
    energies = np.asarray(energies_ev, dtype=np.float64)
    if energies.shape != (len(structures),) or not len(structures):
        raise AlloyError(f'{len(structures)} cells and {energies.shape} energies do not make a scan')
    _check_rows(structures)
    keys = np.char.add(np.char.add(structures.names, '\0'), structures.families)
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    order = np.argsort(np.argsort(first))  # curves in the order in which they first appear
    curve_of_row = order[inverse]
    heads = np.sort(first)
    volumes = volumes_per_atom(structures)
    members = np.split(np.argsort(curve_of_row, kind='stable'), np.cumsum(np.bincount(curve_of_row))[:-1])
    formulas = np.array(structures.select(heads).formulas)
    results = [_fit(volumes[rows], energies[rows]) for rows in members]
    numbers = np.array([numbers for _, _, numbers in results], dtype=np.float64)
    phases = structures.families[heads]
    known = np.array([np.isfinite(energies[rows]).sum() for rows in members], dtype=np.int64)
    return Curves(
        names=structures.names[heads],
        phases=phases,
        formulas=formulas,
        status=np.array([status for status, _, _ in results]),
        messages=np.array([message for _, message, _ in results]),
        n_points=known,
        n_missing=np.array([len(rows) for rows in members], dtype=np.int64) - known,
        lattice_constant_ang=constants_from_volumes(numbers[:, 1], phases),
        volume_ang3=numbers[:, 1],
        energy_ev=numbers[:, 0],
        bulk_modulus_gpa=numbers[:, 2],
        bulk_modulus_derivative=numbers[:, 3],
        residual_ev=numbers[:, 4],
        curve_of_row=curve_of_row,
    )


def extension(
    structures: StructureSet, energies_ev: Floats, curves: Curves, points: int = 2
) -> tuple[NDArray[np.int64], Floats]:
    """Choose the lattice constants to add to a scan that ends before its minimum.

    The scan continues beyond that end by its mean step, unless a point there was tried and gave no energy.

    :param structures: n cells, the scan that gave the curves.
    :param energies_ev: (n,) eV per atom, NaN if unknown.
    :param curves: from :func:`fit_curves`.
    :param points: number of lattice constants to add to a curve.
    :returns: (k,) a row of the scan to scale, and (k,) lattice constants in Å.
    """
    rows, constants = [], []
    everything = constants_from_volumes(volumes_per_atom(structures), structures.families)
    finite = np.isfinite(energies_ev)
    for curve in np.flatnonzero(np.isin(curves.status, (MINIMUM_BELOW, MINIMUM_ABOVE))).tolist():
        members = np.flatnonzero(curves.curve_of_row == curve)
        tried, known = everything[members], everything[members[finite[members]]]
        step = np.ptp(known) / (len(known) - 1)
        if curves.status[curve] == MINIMUM_BELOW:
            wanted = known.min() - step * np.arange(1, points + 1)
            blocked = tried.min() < known.min()
        else:
            wanted = known.max() + step * np.arange(1, points + 1)
            blocked = tried.max() > known.max()
        if blocked:
            continue
        wanted = wanted[wanted > 0]
        rows += [int(members[0])] * len(wanted)
        constants += wanted.tolist()
    return np.array(rows, dtype=np.int64), np.array(constants, dtype=np.float64)


def refinement(structures: StructureSet, points: int) -> tuple[NDArray[np.int64], Floats]:
    """Divide the range of each curve evenly, for a model that is asked at many lattice constants.

    :param structures: n cells, a scan.
    :param points: lattice constants of each curve, at least 4.
    :returns: (C * points,) a row of the scan to scale, and (C * points,) lattice constants in Å.
    :raises AlloyError: too few points, a curve with one lattice constant only, or rows as :func:`fit_curves` refuses.
    """
    if points < MINIMUM_POINTS:
        raise AlloyError(
            f'{points} lattice constants are too few for an equation of state, {MINIMUM_POINTS} are needed'
        )
    curves = fit_curves(structures, np.full(len(structures), np.nan))
    constants = constants_from_volumes(volumes_per_atom(structures), structures.families)
    heads = np.unique(curves.curve_of_row, return_index=True)[1]
    low, high = np.full(len(curves), np.inf), np.full(len(curves), -np.inf)
    np.minimum.at(low, curves.curve_of_row, constants)
    np.maximum.at(high, curves.curve_of_row, constants)
    short = np.flatnonzero(low == high)
    if len(short):
        raise AlloyError(f'{curves.names[short[0]]} has one lattice constant of the phase {curves.phases[short[0]]}')
    return np.repeat(heads, points), np.linspace(low, high, points).T.ravel()


def at_minimum(values: Mapping[str, Floats], volumes_ang3: Floats, curves: Curves) -> dict[str, Floats]:
    """Interpolate what was computed at the points of a scan to the minima of its curves.

    :param values: (n,) numbers by name, NaN where a point has none.
    :param volumes_ang3: (n,) Å³ per atom.
    :param curves: of the same n rows.
    :returns: (C,) linear interpolations in the volume between the two points around the minimum; NaN where a curve has
        no minimum or no points around it.
    """
    found = {name: np.full(len(curves), np.nan) for name in values}
    order = np.argsort(curves.curve_of_row, kind='stable')
    ends = np.cumsum(np.bincount(curves.curve_of_row, minlength=len(curves)))
    for curve, members in enumerate(np.split(order, ends[:-1])):
        for name, column in values.items():
            rows = members[np.isfinite(column[members])]
            rows = rows[np.argsort(volumes_ang3[rows])]
            if len(rows) and curves.usable[curve]:
                found[name][curve] = np.interp(
                    curves.volume_ang3[curve], volumes_ang3[rows], column[rows], left=np.nan, right=np.nan
                )
    return found


def at_curve(values: Floats, curves: Curves) -> Floats:
    """Return the mean of what is known at the points of each curve.

    :param values: (n,), NaN where a point has none.
    :returns: (C,), NaN for a curve without any.
    """
    known = np.isfinite(values)
    rows = curves.curve_of_row[known]
    sums = np.bincount(rows, weights=values[known], minlength=len(curves))
    counts = np.bincount(rows, minlength=len(curves))
    return np.asarray(np.where(counts > 0, sums / np.maximum(counts, 1), np.nan))


def _check_rows(structures: StructureSet) -> None:
    nameless = np.flatnonzero(structures.names == '')
    if len(nameless):
        raise AlloyError(f'row {nameless[0]} of the scan has no name of an alloy: name the cells with name_alloys')
    strange = np.flatnonzero(~np.isin(structures.families, list(PHASES)))
    if len(strange):
        row = int(strange[0])
        raise AlloyError(
            f'row {row} ({structures.names[row]}) has the phase {str(structures.families[row])!r}; '
            f'the known ones are {", ".join(PHASES)}: recognise the phases with name_alloys'
        )


def _fit(volumes: Floats, energies: Floats) -> tuple[str, str, tuple[float, ...]]:
    """Fit one curve: status, message, and energy, volume, bulk modulus, its derivative and residual."""
    nothing = (np.nan,) * 5
    finite = np.isfinite(energies)
    known, found = volumes[finite], energies[finite]
    if len(np.unique(known)) < MINIMUM_POINTS:
        return (
            TOO_FEW_POINTS,
            f'{len(np.unique(known))} of {len(volumes)} points have an energy, {MINIMUM_POINTS} are needed',
            nothing,
        )
    lowest = known[np.argmin(found)]
    if lowest in (known.min(), known.max()):
        below = lowest == known.min()
        end = 'smallest' if below else 'largest'
        return (
            MINIMUM_BELOW if below else MINIMUM_ABOVE,
            f'the energy still falls at the {end} volume, {lowest:.3f} Å³ per atom',
            nothing,
        )
    try:
        fit = fit_birch_murnaghan(known, found)
    except AlloyError as error:
        return FIT_FAILED, str(error), nothing
    numbers = (fit.energy_ev, fit.volume_ang3, fit.bulk_modulus_gpa, fit.bulk_modulus_derivative, fit.residual_ev)
    if fit.residual_ev > LARGEST_RESIDUAL_EV:
        return (
            POOR_FIT,
            f'the fit leaves {1e3 * fit.residual_ev:.1f} meV per atom, more than {1e3 * LARGEST_RESIDUAL_EV:g}',
            numbers,
        )
    return OK, '', numbers
