"""Equilibrium phases of alloys: the lower of the minima, and how well a model finds it."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aiida_nanoml.alloys.curves import Curves
from aiida_nanoml.alloys.equation_of_state import Floats
from aiida_nanoml.errors import AlloyError
from aiida_nanoml.structures import PHASES

UNDECIDED = 'undecided'
"""Phase of an alloy of which a candidate has no equation of state."""

STRAINS = np.linspace(-0.04, 0.04, 17)
"""Strains at which two stress-strain curves are compared."""


@dataclass(frozen=True)
class Phases:
    """M alloys and their equilibrium phases.

    :param names: (M,) the alloy.
    :param formulas: (M,) content of a cell.
    :param phases: (M,) the phase with the lower minimum; ``'undecided'`` where a candidate has no equation of state.
    :param energy_difference_ev: (M,) E(fcc) - E(bcc) at the minima, eV per atom; NaN where undecided.
    :param curves: (M, 2) number of the fcc and of the bcc curve; -1 if there is none.
    """

    names: NDArray[np.str_]
    formulas: NDArray[np.str_]
    phases: NDArray[np.str_]
    energy_difference_ev: Floats
    curves: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.names)

    @property
    def decided(self) -> NDArray[np.bool_]:
        """(M,) whether both phases have an equation of state."""
        return np.asarray(self.phases != UNDECIDED)

    def counts(self) -> dict[str, int]:
        """Return the number of alloys by phase."""
        found, counts = np.unique(self.phases, return_counts=True)
        return {str(phase): int(count) for phase, count in zip(found, counts, strict=True)}

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Return all columns by name."""
        return {column.name: getattr(self, column.name) for column in fields(self)}


def equilibrium_phases(curves: Curves) -> Phases:
    """Compare the minima of the phases of each alloy.

    :param curves: with at most one curve for each alloy and phase; the energies of the phases have one zero.
    :returns: alloys in the order of the curves.
    :raises AlloyError: the two phases of an alloy have different compositions.
    """
    names, first = np.unique(curves.names, return_index=True)
    order = np.argsort(first)
    names, first = names[order], first[order]
    numbers = np.full((len(names), len(PHASES)), -1, dtype=np.int64)
    row_of = {name: row for row, name in enumerate(names.tolist())}
    for column, phase in enumerate(PHASES):
        found = np.flatnonzero(curves.phases == phase)
        numbers[[row_of[name] for name in curves.names[found].tolist()], column] = found
    both = (numbers >= 0).all(axis=1)
    fcc, bcc = numbers[:, 0], numbers[:, 1]
    compositions = np.array([_reduced_formula(formula) for formula in curves.formulas.tolist()])
    mixed = np.flatnonzero(both & (compositions[fcc] != compositions[bcc]))
    if len(mixed):
        row = mixed[0]
        raise AlloyError(
            f'the phases of {names[row]} have different compositions, {curves.formulas[fcc[row]]} and '
            f'{curves.formulas[bcc[row]]}: their energies cannot be compared'
        )
    decided = both & curves.usable[fcc] & curves.usable[bcc]
    difference = np.where(decided, curves.energy_ev[fcc] - curves.energy_ev[bcc], np.nan)
    phases = np.where(decided, np.where(difference < 0, 'fcc', 'bcc'), UNDECIDED)
    return Phases(names, curves.formulas[first], phases, difference, numbers)


def compare_phases(reference: Curves, predicted: Curves) -> dict[str, Any]:
    """Compare the curves of a model with those of the engine that it learnt from.

    :param reference: curves of the engine.
    :param predicted: curves of the model, of the same alloys; others are left out. Energies may have another zero
        for each composition, as long as both phases have the same.
    :returns: ``n_alloys`` (decided in both), ``accuracy`` of the phase, ``confusion`` (``{reference: {predicted:
        n}}``), ``energy_difference_mae_ev`` (of E(fcc) - E(bcc), eV per atom), ``lattice_constant_mae_ang``,
        ``bulk_modulus_mae_gpa``, ``pressure_mae_gpa`` (of P at equal strains of :data:`STRAINS`, each curve strained
        from its own minimum), ``n_curves``, and ``n_undecided`` (alloys of both without a decision in one of
        them).
    :raises AlloyError: an alloy has different compositions in both, or none is decided in both.
    """
    ours, theirs = equilibrium_phases(reference), equilibrium_phases(predicted)
    row_of = {name: row for row, name in enumerate(theirs.names.tolist())}
    known = np.array([row_of.get(name, -1) for name in ours.names.tolist()], dtype=np.int64)
    for row in np.flatnonzero(known >= 0).tolist():
        a, b = ours.formulas[row], theirs.formulas[known[row]]
        if _reduced_formula(a) != _reduced_formula(b):
            raise AlloyError(f'{ours.names[row]} is {a} in the scan of the engine and {b} in that of the model')
    decided = (known >= 0) & ours.decided & theirs.decided[known]
    if not decided.any():
        raise AlloyError('no alloy has an equation of state of both phases in both scans: there is nothing to compare')
    rows, others = np.flatnonzero(decided), known[decided]
    expected, found = ours.phases[rows], theirs.phases[others]
    a, b = ours.curves[rows].ravel(), theirs.curves[others].ravel()
    strained = (1 + STRAINS[:, None]) ** 3
    pressure = reference.pressures(a, strained * reference.volume_ang3[a]) - predicted.pressures(
        b, strained * predicted.volume_ang3[b]
    )
    return {
        'n_alloys': len(rows),
        'n_curves': len(a),
        'n_undecided': int(np.sum(known >= 0)) - len(rows),
        'accuracy': float(np.mean(expected == found)),
        'confusion': {
            phase: {other: int(np.sum((expected == phase) & (found == other))) for other in PHASES} for phase in PHASES
        },
        'energy_difference_mae_ev': float(
            np.mean(np.abs(ours.energy_difference_ev[rows] - theirs.energy_difference_ev[others]))
        ),
        'lattice_constant_mae_ang': float(
            np.mean(np.abs(reference.lattice_constant_ang[a] - predicted.lattice_constant_ang[b]))
        ),
        'bulk_modulus_mae_gpa': float(np.mean(np.abs(reference.bulk_modulus_gpa[a] - predicted.bulk_modulus_gpa[b]))),
        'pressure_mae_gpa': float(np.mean(np.abs(pressure))),
    }


def fractions(formulas: NDArray[np.str_], element: str) -> Floats:
    """Return the atomic fraction of an element.

    :param formulas: (M,) such as ``'Al2CoCrFe3Ni'``.
    :param element: chemical symbol.
    :returns: (M,).
    """
    amounts = [_amounts(formula) for formula in formulas.tolist()]
    return np.array([found.get(element, 0) / sum(found.values()) for found in amounts], dtype=np.float64)


def _amounts(formula: str) -> dict[str, int]:
    return {symbol: int(count or 1) for symbol, count in re.findall(r'([A-Z][a-z]?)(\d*)', formula)}


def _reduced_formula(formula: str) -> str:
    """Return the composition as a formula, whatever the size of the cell."""
    amounts = _amounts(formula)
    divisor = math.gcd(*amounts.values())
    return ''.join(f'{symbol}{count // divisor}' for symbol, count in amounts.items())
