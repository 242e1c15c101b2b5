"""Label of a run of pw.x: HOMO and LUMO among its levels, and the check of its XML file by its standard output."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from aiida_nanoml.engines.base import Label, edges_at_fermi
from aiida_nanoml.engines.quantumespresso.output import ScfResult
from aiida_nanoml.engines.quantumespresso.xml import XmlRun
from aiida_nanoml.errors import EvaluationError, FailureCode
from aiida_nanoml.units import BOHR_ANG, RYDBERG_EV

_SAME_EV = 2e-4
"""Levels are printed with four digits."""

_SAME_ENERGY_EV = 3e-7
"""The energy is printed with eight digits, in Ry."""

_FULL = 1e-2
"""The highest level of a run may be filled to this share; beyond it, levels are missing."""


@dataclass(frozen=True)
class Levels:
    """Levels of a run, and what decides which are filled.

    :param levels_ev: (S, K, L).
    :param weights: (K,) with the sum 1; None where they are not known.
    :param n_electrons: in these levels.
    :param fermi_ev: Fermi level; None where occupations are fixed.
    :param of_spins: electrons of each spin where their numbers are fixed; None where they are not.
    :param spinors: each level holds one electron, whose spin has no direction of its own.
    """

    levels_ev: NDArray[np.float64]
    weights: NDArray[np.float64] | None
    n_electrons: int
    fermi_ev: float | None
    of_spins: tuple[int, int] | None = None
    spinors: bool = False

    @property
    def level_weights(self) -> NDArray[np.float64] | None:
        """Electrons that a level of each spin and k-point holds, (S, K)."""
        if self.weights is None:
            return None
        n_spins = len(self.levels_ev)
        full = 1.0 if self.spinors else 2.0
        return np.tile(full / n_spins * self.weights, (n_spins, 1))


def label_of_levels(
    energy_ev: float,
    levels: Levels,
    *,
    n_iterations: int | None,
    forces_ev_per_ang: NDArray[np.float64] | None,
    stress_ev_per_ang3: NDArray[np.float64] | None,
    magnetic_moment_bohr: float | None,
) -> Label:
    """Make the label of a run.

    HOMO and LUMO are counted where electrons fill whole levels at every k-point, and divided by the Fermi level where
    they do not. Where each spin has a fixed number of electrons, the higher HOMO and the lower LUMO of both count.

    :raises EvaluationError: ``'engine_failure'``: a number is not finite, no level is left empty, or an empty level
        is below a filled one.
    """
    n_spins, n_points, n_levels = levels.levels_ev.shape
    flat = levels.levels_ev.reshape(n_spins, n_points * n_levels)
    if n_points == 1 and not levels.spinors and levels.of_spins is None:
        label = Label.from_levels(
            energy_ev,
            flat,
            levels.n_electrons,
            n_iterations=n_iterations,
            forces_ev_per_ang=forces_ev_per_ang,
            stress_ev_per_ang3=stress_ev_per_ang3,
        )
    else:
        homo, lumo = _edges(levels)
        plain = Label.from_energy(energy_ev, forces_ev_per_ang=forces_ev_per_ang, stress_ev_per_ang3=stress_ev_per_ang3)
        label = replace(
            plain,
            homo_ev=homo,
            lumo_ev=lumo,
            gap_ev=lumo - homo,
            n_electrons=levels.n_electrons,
            open_shell=levels.n_electrons % 2 == 1,
            n_iterations=n_iterations,
            levels_ev=flat,
        )
    return replace(
        label,
        level_weights=levels.level_weights,
        fermi_ev=levels.fermi_ev,
        magnetic_moment_bohr=magnetic_moment_bohr,
    )


def _edges(levels: Levels) -> tuple[float, float]:
    by_spin = levels.levels_ev
    n_spins = len(by_spin)
    if levels.of_spins is not None:
        edges = [_counted_edges(band, count) for band, count in zip(by_spin, levels.of_spins, strict=True)]
        homo, lumo = max(edge[0] for edge in edges), min(edge[1] for edge in edges)
    else:
        filled, rest = divmod(levels.n_electrons, 1 if levels.spinors else 2)
        counted = n_spins == 1 and rest == 0
        homo, lumo = _counted_edges(by_spin[0], filled) if counted else (0.0, 0.0)
        if lumo <= homo and levels.fermi_ev is not None:
            return _edges_at_fermi(by_spin, levels.fermi_ev)
    if lumo <= homo:
        raise EvaluationError(
            FailureCode.ENGINE_FAILURE,
            'an empty level is below a filled one, and no Fermi level says which levels are filled: there is no gap',
        )
    return homo, lumo


def _counted_edges(levels: NDArray[np.float64], n_filled: int) -> tuple[float, float]:
    """Return the highest of the first levels of all k-points (K, L), and the lowest of the others."""
    if n_filled >= levels.shape[1]:
        raise _too_few(levels.shape[1])
    return float(levels[:, n_filled - 1].max()) if n_filled else -np.inf, float(levels[:, n_filled].min())


def _edges_at_fermi(levels: NDArray[np.float64], fermi_ev: float) -> tuple[float, float]:
    edges = edges_at_fermi(levels, fermi_ev)
    if edges is None:
        raise _too_few(levels.shape[2])
    return edges


def _too_few(n_levels: int) -> EvaluationError:
    return EvaluationError(
        FailureCode.ENGINE_FAILURE, f'{n_levels} levels leave no LUMO; the run needs more levels (nbnd)'
    )


def whole(n_electrons: float) -> int:
    """Return a number of electrons as an integer.

    :raises EvaluationError: ``'engine_failure'``: it is none.
    """
    if abs(n_electrons - round(n_electrons)) > 1e-4 or round(n_electrons) < 1:
        raise EvaluationError(
            FailureCode.ENGINE_FAILURE, f'{n_electrons:g} electrons are no whole number above zero: there is no gap'
        )
    return round(n_electrons)


def levels_of_xml(run: XmlRun) -> Levels:
    """Return the levels of an XML file, checked by their occupations.

    :raises EvaluationError: ``'inconsistent'``: the levels do not hold the electrons; ``'engine_failure'``: there are
        too few levels.
    """
    found = run.levels
    n_spins = len(found.levels_ev)
    full = 1.0 if found.spinors else 2.0 / n_spins
    held = full * np.einsum('skl,k->s', found.occupations, found.weights)
    if abs(float(held.sum()) - found.n_electrons) > 0.01 + 1e-5 * found.n_electrons:
        raise EvaluationError(
            FailureCode.INCONSISTENT,
            f'the levels hold {held.sum():.4f} electrons, the run has {found.n_electrons:g}',
        )
    filled = full * float(np.einsum('skl,skl,k->', found.occupations, found.levels_ev, found.weights))
    if abs(filled - run.band_energy_ev) > _SAME_EV:
        raise EvaluationError(
            FailureCode.INCONSISTENT,
            f'the filled levels add up to {filled:.5f} eV, the run has the sum {run.band_energy_ev:.5f} eV',
        )
    if run.moment_bohr is not None and abs(held[0] - held[-1] - run.moment_bohr) > 1e-2:
        raise EvaluationError(
            FailureCode.INCONSISTENT,
            f'the spin moment is {run.moment_bohr:.4f}, that of the levels {held[0] - held[-1]:.4f} Bohr magnetons',
        )
    if (np.abs(found.occupations[:, :, -1]) > _FULL).any():
        raise _too_few(found.levels_ev.shape[2])
    n_electrons = whole(found.n_electrons)
    of_spins = None
    if n_spins == 2 and found.fermi_ev is None:
        of_spins = whole_spins(float(held[0]), float(held[1]))
    return Levels(found.levels_ev, found.weights, n_electrons, found.fermi_ev, of_spins, found.spinors)


def label_of_run(run: XmlRun) -> Label:
    """Make the label of the last step of a run from its XML file.

    :raises EvaluationError: as :func:`levels_of_xml` and :func:`label_of_levels` do.
    """
    return label_of_levels(
        run.last.energy_ev,
        levels_of_xml(run),
        n_iterations=run.n_iterations,
        forces_ev_per_ang=run.forces_ev_per_ang,
        stress_ev_per_ang3=run.stress_ev_per_ang3,
        magnetic_moment_bohr=run.moment_bohr,
    )


def whole_spins(up: float, down: float) -> tuple[int, int]:
    """Return the electrons of both spins as integers.

    :raises EvaluationError: ``'engine_failure'``: they are none.
    """
    if any(abs(count - round(count)) > 1e-3 for count in (up, down)):
        raise EvaluationError(
            FailureCode.ENGINE_FAILURE,
            f'the spins have {up:.4f} and {down:.4f} electrons: HOMO and LUMO of each cannot be counted',
        )
    return round(up), round(down)


def check_agreement(run: XmlRun, printed: ScfResult, name: str) -> None:
    """Check that an XML file and the standard output are of one run.

    :param name: of the standard output, for messages.
    :raises EvaluationError: ``'inconsistent'``, with the two numbers.
    """
    _same('the total energy', run.last.energy_ev, printed.energy_ev, _SAME_ENERGY_EV, 'eV', name)
    if (run.levels.fermi_ev is None) != (printed.fermi_ev is None) and printed.has_edges:
        raise EvaluationError(
            FailureCode.INCONSISTENT, f'only one of the XML file and {name} has a Fermi level: they are of two runs'
        )
    if run.levels.fermi_ev is not None and printed.fermi_ev is not None:
        _same('the Fermi level', run.levels.fermi_ev, printed.fermi_ev, _SAME_EV, 'eV', name)
    _same('the number of iterations', run.n_iterations, printed.n_iterations, 0, '', name)
    arrays = (
        ('a level', run.levels.levels_ev, printed.levels_ev, _SAME_EV, 'eV'),
        ('a force', run.forces_ev_per_ang, printed.forces_ev_per_ang, 3e-8 * RYDBERG_EV / BOHR_ANG, 'eV/Å'),
        ('the stress', run.stress_ev_per_ang3, printed.stress_ev_per_ang3, 3e-8 * RYDBERG_EV / BOHR_ANG**3, 'eV/Å³'),
    )
    for what, ours, theirs, tolerance, unit in arrays:
        if ours is None or theirs is None:
            continue
        if ours.shape != theirs.shape:
            raise EvaluationError(
                FailureCode.INCONSISTENT,
                f'{what} has the shape {ours.shape} in the XML file and {theirs.shape} in {name}',
            )
        worst = np.unravel_index(int(np.argmax(np.abs(ours - theirs))), ours.shape)
        _same(what, float(ours[worst]), float(theirs[worst]), tolerance, unit, name)


def _same(what: str, ours: float, theirs: float, tolerance: float, unit: str, name: str) -> None:
    if abs(ours - theirs) > tolerance + 1e-12 * abs(ours):
        raise EvaluationError(
            FailureCode.INCONSISTENT,
            f'{what} is {ours:.8g} {unit} in the XML file and {theirs:.8g} {unit} in {name}: they are of two runs, or '
            'a number was changed',
        )
