"""Reading the main output of ABINIT: one label for each data set, every number checked where it is printed twice."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from aiida_nanoml.engines.abinit.levels import PRINTED_HARTREE, Levels
from aiida_nanoml.engines.abinit.variables import AFTER, BEFORE, Variables, read_echo
from aiida_nanoml.engines.base import Label, edges_at_fermi
from aiida_nanoml.engines.run_text import RunText, positive_numbers
from aiida_nanoml.errors import EvaluationError, FailureCode
from aiida_nanoml.units import BOHR_ANG, HARTREE_EV

COMPLETED = 'Calculation completed.'
LARGEST_ENERGY_HARTREE = 1e8
LARGEST_FORCE = 1e4
LARGEST_STRESS = 1e3
LARGEST_RESIDUAL = 1e-6
"""Energies, forces and stresses in atomic units beyond these are a mistake. Levels with a larger residual
(Ha²) may be off by more than a millielectronvolt: the density can converge before the empty ones do."""

_FORCE_EV_PER_ANG = HARTREE_EV / BOHR_ANG
_STRESS_EV_PER_ANG3 = HARTREE_EV / BOHR_ANG**3
_STRESS_GPA = 29421.02

_VERSION = re.compile(r'^[.-]Version {1,3}(\d{1,2}\.\S{1,30}) {1,3}of ABINIT', re.MULTILINE)
_SECTION = re.compile(r'^== DATASET {1,5}(\d{1,5}) =+|^== END DATASET\(S\) =+', re.MULTILINE)
_STEP = re.compile(r'^ ETOT {0,5}(\d{1,5}|\*{1,5}) {1,4}(\S{1,40})', re.MULTILINE)
_RESIDUAL = re.compile(r'^ ETOT {0,5}\S{1,5}(?: {1,8}\S{1,40}){2} {1,8}(\S{1,30})', re.MULTILINE)
_SCF_RESIDUAL = re.compile(r'^ ETOT {0,5}\S{1,5}(?: {1,8}\S{1,40}){3} {1,8}(\S{1,30})', re.MULTILINE)
_CONVERGED = re.compile(r'^ At SCF step {1,6}(\d{1,6})', re.MULTILINE)
_UNCONVERGED = re.compile(r'was not enough SCF cycles to converge')
_TOTAL = re.compile(r'^total_energy {1,20}: {0,5}(\S{1,40})|^ {0,9}>{3,12} Etotal {0,3}= {0,5}(\S{1,40})', re.MULTILINE)
_DOUBLE_COUNTING = re.compile(
    r'^total_energy_dc {1,20}: {0,5}(\S{1,40})|^ {0,9}>{3,12} Etotal \(DC\) {0,3}= {0,5}(\S{1,40})', re.MULTILINE
)
_BAND_ENERGY = re.compile(r'^band_energy {1,20}: {0,5}(\S{1,40})|Band energy \(Ha\)= {0,5}(\S{1,40})', re.MULTILINE)
_FERMI = re.compile(r'^fermie {1,9}: {0,5}(\S{1,40})', re.MULTILINE)
_ELECTRONS = re.compile(r'^electrons: \{nelect: {0,5}([^,\s]{1,40}), charge: {0,5}([^,\s]{1,40}),', re.MULTILINE)
_PSEUDOPOTENTIAL = re.compile(
    r'^- pspini: atom type {1,4}(\d{1,4}) {1,4}psp file is (\S.{0,400})\n(?:.{0,400}\n){0,12}?'
    r'[- ] {0,3}(\S{1,20}) {1,20}(\S{1,20}) {1,20}(\S{1,20}) {1,40}znucl, zion, pspdat',
    re.MULTILINE,
)
_FORCES = '^ cartesian forces ({unit}) at end:[ \t]*\n'
_STRESS = re.compile(r'^ Cartesian components of stress tensor \(hartree/bohr\^3\)[ \t]*\n', re.MULTILINE)
_STRESS_GPA_HEAD = re.compile(r'^-Cartesian components of stress tensor \(GPa\) .*\n', re.MULTILINE)
_SIGMA = re.compile(r'sigma\(([123]) ([123])\)= {0,5}(\S{1,30})')
_SPINS = re.compile(r'^ ?Total spin up = {0,5}(\S{1,30}) {1,5}Total spin down = {0,5}(\S{1,30})', re.MULTILINE)
_MOMENT = re.compile(r'^ ?Magneti[sz]ation \(Bohr magneton\)= {0,5}(\S{1,30})', re.MULTILINE)

_ERROR = re.compile(
    r'^--- !(\w{0,30}(?:ERROR|Error|BUG|Bug))\n(?:.{0,300}\n){0,8}?message: \|\n((?: {4}.{0,300}\n| {0,3}\n){1,30})',
    re.MULTILINE,
)
_OLD_ERROR = re.compile(r'^ ?[a-zA-Z_0-9]{1,40} ?: ?(?:ERROR|BUG) -\n((?: {1,4}\S.{0,300}\n){1,10})', re.MULTILINE)
_CAUSES = (
    (FailureCode.DISK_FULL, re.compile(r'No space left on device|[Dd]isk quota exceeded'), 'the disk is full'),
    (FailureCode.DISK_FULL, re.compile(r'.*NetCDF: HDF error'), 'a file cannot be written, as on a full disk'),
    (
        FailureCode.OUT_OF_MEMORY,
        re.compile(
            r'[Ii]nsufficient virtual memory|[Ff]ailed to allocate|[Oo]ut of memory|[Cc]annot allocate memory|'
            r'Error allocating|'
            r'[Aa]llocation (?:would exceed|of .{0,80} failed)|std::bad_alloc|[Mm]emory allocation failed|'
            r'malloc.{0,40}fail'
        ),
        'the memory is exhausted',
    ),
)
_NO_PSEUDOPOTENTIAL = re.compile(
    r'[Ff]ile .{0,300}\bpsp.{0,200}does not exist|while opening file: (\S.{0,300})', re.MULTILINE
)


class NoGapError(EvaluationError):
    """A run whose energy can be trusted shows no gap, or none that can be trusted."""


@dataclass(frozen=True)
class Pseudopotential:
    """What an output tells of a pseudopotential.

    :param file: its path.
    :param nuclear_charge: atomic number.
    :param valence_charge: electrons that it brings.
    """

    file: str
    nuclear_charge: float
    valence_charge: float


@dataclass(frozen=True)
class DataSet:
    """One data set of a run.

    :param number: as the input numbers it; 0: the run has one only, and its variables carry no number.
    :param text: what the output says of it, with the name of the file.
    :param before: variables before the computation.
    :param after: variables after it; None: the run did not come so far.
    :param pseudopotentials: by the number of the kind of atom, from 1.
    """

    number: int
    text: RunText
    before: Variables
    after: Variables | None
    pseudopotentials: dict[int, Pseudopotential]


def read_version(output: str) -> str | None:
    """Return the version in the head of a main output or a log; None if ABINIT did not write it."""
    found = _VERSION.search(output[: 1 << 16])
    return found[1] if found else None


def read_residuals(output: str) -> list[float]:
    """Return the squared residual of the potential, or of the density, of each iteration in a main output or a log."""
    return positive_numbers(_SCF_RESIDUAL, output)


def read_data_sets(output: RunText) -> list[DataSet]:
    """Divide a main output into its data sets.

    :raises EvaluationError: ``'truncated'``: it ends before the first one.
    """
    before = read_echo(output, BEFORE)
    marks = list(_SECTION.finditer(output.text))
    if not any(mark[1] for mark in marks) and COMPLETED in output.text:
        raise EvaluationError(
            FailureCode.NO_OUTPUT, f'{output.name} holds no data set: nothing was computed, only checked'
        )
    if before is None or not any(mark[1] for mark in marks):
        raise EvaluationError(FailureCode.TRUNCATED, f'{output.name} ends before the computation begins')
    after = read_echo(output, AFTER)
    starts = [mark for mark in marks if mark[1]]
    several = len(starts) > 1 or 'ndtset' in before.values
    ends = [mark.start() for mark in marks[1:]] + [len(output.text)]
    found = []
    pseudopotentials: dict[int, Pseudopotential] = {}
    for mark, end in zip(marks, ends, strict=True):
        if not mark[1]:
            continue
        # Line numbers in messages stay those of the file.
        text = RunText(output.name, '\n' * output.text.count('\n', 0, mark.start()) + output.text[mark.start() : end])
        pseudopotentials = pseudopotentials | _read_pseudopotentials(text)
        found.append(DataSet(int(mark[1]) if several else 0, text, before, after, pseudopotentials))
    return found


def _read_pseudopotentials(text: RunText) -> dict[int, Pseudopotential]:
    found = {}
    for match in _PSEUDOPOTENTIAL.finditer(text.text):
        charges = [text.number(match[group], match.start(group), 'a charge', 200.0) for group in (3, 4)]
        found[int(match[1])] = Pseudopotential(match[2].strip(), *charges)
    return found


def check_finished(output: RunText, log: str = '', stderr: str = '') -> None:
    """Check that a run came to its end.

    :param log: standard output of the program.
    :param stderr: its standard error.
    :raises EvaluationError: it did not; with the reason, as far as the texts tell it.
    """
    texts = (log, stderr, output.text)
    errors = [error for text in texts for error in _ERROR.finditer(text)]
    old = [error for text in texts for error in _OLD_ERROR.finditer(text)]
    if COMPLETED in output.text and not errors:
        return
    everything = '\n'.join(text[-20000:] for text in texts)
    for code, pattern, sentence in _CAUSES:
        if cause := pattern.search(everything):
            raise EvaluationError(code, f'{sentence}: {_shorten(cause[0])}')
    said = [' '.join(error[2].split()) for error in errors] or [' '.join(error[1].split()) for error in old]
    if said:
        # The last message only counts what the ones before it say.
        message = next((text for text in said if not text.startswith('Checking consistency of input data')), said[0])
        if old and message.startswith('Checking consistency of input data'):
            message = ' '.join(old[0][1].split())
        missing = _NO_PSEUDOPOTENTIAL.search(message)
        if missing and ('psp' in message or 'pseudo' in message):
            raise EvaluationError(
                FailureCode.MISSING_PSEUDOPOTENTIAL, f'ABINIT finds no pseudopotential: {_shorten(message)}'
            )
        raise EvaluationError(FailureCode.ENGINE_FAILURE, f'ABINIT stopped itself: {_shorten(message)}')
    if not output.text.strip() and not log.strip():
        last = stderr.strip().splitlines()
        raise EvaluationError(
            FailureCode.ENGINE_FAILURE, 'ABINIT wrote nothing' + (f': {_shorten(last[-1])}' if last else '')
        )
    raise EvaluationError(
        FailureCode.TRUNCATED, f'{output.name} ends before "{COMPLETED}": the run was killed or its machine failed'
    )


def _shorten(text: str, length: int = 240) -> str:
    text = ' '.join(text.split())
    return text if len(text) <= length else text[: length - 1] + '…'


def read_label(data_set: DataSet, levels: Levels | None, *, n_electrons: int) -> Label:
    """Make the label of a data set.

    :param levels: None where they are not known completely: the label has none, and no gap.
    :param n_electrons: valence electrons.
    :raises EvaluationError: the self-consistency did not converge, a number is none, or two contradict each other.
    """
    n_iterations = check_converged(data_set)
    energy = _read_energy(data_set)
    forces, stress = _read_forces(data_set), _read_stress(data_set)
    moment = _read_moment(data_set.text, n_electrons)
    if levels is None:
        label = Label.from_energy(
            energy, forces_ev_per_ang=forces, stress_ev_per_ang3=stress, magnetic_moment_bohr=moment
        )
        return replace(label, n_electrons=n_electrons, open_shell=n_electrons % 2 == 1, n_iterations=n_iterations)
    held = 2.0 / len(levels.levels_hartree) / data_set.before.integer('nspinor', data_set.number, 1)
    fermi = read_fermi(data_set, levels)
    _check_filling(data_set, levels, held, fermi, n_electrons)
    _check_residual(data_set, levels)
    levels_ev = levels.levels_hartree * HARTREE_EV
    n_spins, n_points, _n_levels = levels_ev.shape
    homo, lumo = _read_edges(data_set, levels, held, fermi, n_electrons)
    weights = None if levels.weights is None else np.tile(held * levels.weights, (n_spins, 1))
    return Label(
        energy_ev=energy,
        homo_ev=homo * HARTREE_EV,
        lumo_ev=lumo * HARTREE_EV,
        gap_ev=lumo * HARTREE_EV - homo * HARTREE_EV,
        n_electrons=n_electrons,
        open_shell=n_electrons % 2 == 1,
        n_iterations=n_iterations,
        forces_ev_per_ang=forces,
        stress_ev_per_ang3=stress,
        levels_ev=np.sort(levels_ev.reshape(n_spins, -1), axis=1) if n_points == 1 else levels_ev.reshape(n_spins, -1),
        level_weights=weights,
        fermi_ev=None if math.isnan(fermi) else fermi * HARTREE_EV,
        magnetic_moment_bohr=moment,
    )


def check_converged(data_set: DataSet) -> int:
    """Return the number of iterations of the last self-consistency, which ABINIT calls completed either way.

    :raises EvaluationError: ``'not_converged'``; ``'truncated'`` without any iteration.
    """
    text = data_set.text.text
    steps = list(_STEP.finditer(text))
    if not steps:
        raise EvaluationError(
            FailureCode.TRUNCATED,
            f'{data_set.text.name} holds no self-consistency: there is no energy of the ground state',
        )
    converged = _CONVERGED.search(text, steps[-1].end())
    if converged is None or _UNCONVERGED.search(text, steps[-1].end()):
        raise EvaluationError(
            FailureCode.NOT_CONVERGED, f'the self-consistency did not converge ({steps[-1][1]} iterations)'
        )
    if steps[-1][1].isdigit() and int(converged[1]) != int(steps[-1][1]):
        raise EvaluationError(
            FailureCode.INCONSISTENT,
            f'{data_set.text.place(converged.start())}: step {converged[1]} converged, the last one is {steps[-1][1]}',
        )
    return int(converged[1])


def _check_residual(data_set: DataSet, levels: Levels) -> None:
    residual = _last(_RESIDUAL, data_set.text, 'the residual of the levels', 1e6)
    if residual is not None and levels.levels_hartree.shape[1] == 1 and residual > LARGEST_RESIDUAL:
        raise NoGapError(
            FailureCode.NOT_CONVERGED,
            f'the levels did not converge (squared residual {residual:g} Ha², more than {LARGEST_RESIDUAL:g}); lower '
            'potential_residual',
        )


def _last(pattern: re.Pattern[str], text: RunText, what: str, largest: float) -> float | None:
    """Return the number of the last match of a pattern, in the group that took part."""
    found = list(pattern.finditer(text.text))
    if not found:
        return None
    group = next(number for number, word in enumerate(found[-1].groups(), 1) if word)
    return text.number(found[-1][group], found[-1].start(group), what, largest)


def _read_energy(data_set: DataSet) -> float:
    """Return the free energy in eV: that of the last iteration, as the end of the output repeats it."""
    text = data_set.text
    last = list(_STEP.finditer(text.text))[-1]
    energy = text.number(last[2], last.start(2), 'the energy', LARGEST_ENERGY_HARTREE)
    sums = [
        total
        for pattern in (_TOTAL, _DOUBLE_COUNTING)
        if (total := _last(pattern, text, 'the total energy', LARGEST_ENERGY_HARTREE)) is not None
    ]
    at_end = data_set.after.number('etotal', data_set.number) if data_set.after else None
    if not sums and at_end is None:
        raise EvaluationError(
            FailureCode.TRUNCATED, f'{text.name} gives the energy of the iterations only: the run did not end'
        )
    # With PAW, the direct energy and that with double counting differ as far as the density did not converge.
    nearest = [min(sums, key=lambda total: abs(total - energy))] if sums else []
    for what, other in [*(('the sum of its terms', total) for total in nearest), ('etotal at the end', at_end)]:
        if other is not None and abs(other - energy) > 2e-8 * abs(energy) + 2e-5:
            raise EvaluationError(
                FailureCode.INCONSISTENT,
                f'{text.place(last.start())}: the last iteration has {energy:.8f} Ha, {what} is {other:.8f} Ha',
            )
    return energy * HARTREE_EV


def read_fermi(data_set: DataSet, levels: Levels) -> float:
    """Return the Fermi level in Ha, NaN where it is not printed.

    :raises EvaluationError: ``'inconsistent'``: the levels come with another one.
    """
    fermi = _last(_FERMI, data_set.text, 'the Fermi level', LARGEST_ENERGY_HARTREE)
    if fermi is None:
        return levels.fermi_hartree
    if abs(fermi - levels.fermi_hartree) > PRINTED_HARTREE:
        raise EvaluationError(
            FailureCode.INCONSISTENT,
            f'the Fermi level is {fermi:.6f} Ha in {data_set.text.name} and {levels.fermi_hartree:.6f} Ha beside the '
            'levels: they are those of another run',
        )
    return fermi


def count_electrons(data_set: DataSet, kinds: list[int]) -> int:
    """Return the number of valence electrons.

    :param kinds: kind of each atom, from 1.
    :raises EvaluationError: ``'inconsistent'``: the output counts other electrons than the pseudopotentials bring;
        ``'engine_failure'``: it tells neither, or no whole number.
    """
    text = data_set.text
    charge = data_set.before.number('charge', data_set.number) or data_set.before.number('cellcharge', data_set.number)
    brought = None
    if all(kind in data_set.pseudopotentials for kind in kinds):
        brought = sum(data_set.pseudopotentials[kind].valence_charge for kind in kinds) - (charge or 0.0)
    found = _ELECTRONS.search(text.text)
    counted = text.number(found[1], found.start(1), 'the number of electrons', 1e7) if found else None
    if counted is not None and brought is not None and abs(counted - brought) > 1e-4:
        raise EvaluationError(
            FailureCode.INCONSISTENT,
            f'{text.name} counts {counted:g} electrons, the pseudopotentials that it names bring {brought:g}',
        )
    n_electrons = counted if counted is not None else brought
    if n_electrons is None or abs(n_electrons - round(n_electrons)) > 1e-4 or round(n_electrons) < 1:
        raise EvaluationError(
            FailureCode.ENGINE_FAILURE,
            f'{text.name} counts {"no" if n_electrons is None else f"{n_electrons:g}"} electrons: a whole number above '
            'zero is needed',
        )
    return round(n_electrons)


def _check_filling(data_set: DataSet, levels: Levels, held: float, fermi: float, n_electrons: int) -> None:
    """Check that the levels hold the electrons, and that their energies add up to the energy of the bands."""
    if levels.weights is None:
        return
    temperature = data_set.before.number('tsmear', data_set.number)
    scheme = data_set.before.integer('occopt', data_set.number, 1)
    energies = levels.levels_hartree
    if scheme == 3 and temperature and not math.isnan(fermi):
        filled = 0.5 + 0.5 * np.tanh((fermi - energies) / (2 * temperature))
    elif scheme == 1 and len(energies) == 1:
        filled = np.clip(n_electrons / held - np.arange(energies.shape[2]), 0.0, 1.0) * np.ones_like(energies)
    else:
        return
    weighted = filled * (held * levels.weights)[:, None]
    # The Fermi level is printed with five to nine digits only.
    slope = 0.0 if scheme == 1 else float((weighted * (1 - filled)).sum()) / float(temperature or 1.0) * PRINTED_HARTREE
    electrons = float(weighted.sum())
    if abs(electrons - n_electrons) > 1e-3 + 1e-4 * n_electrons + slope:
        raise EvaluationError(
            FailureCode.INCONSISTENT,
            f'the levels hold {electrons:.3f} electrons, {data_set.text.name} counts {n_electrons}: they are those of '
            'another run, or there are too few',
        )
    printed = _last(_BAND_ENERGY, data_set.text, 'the energy of the bands', LARGEST_ENERGY_HARTREE)
    total = float((weighted * energies).sum())
    near = abs(fermi) if not math.isnan(fermi) else 0.0
    if printed is not None and abs(total - printed) > 1e-4 + PRINTED_HARTREE * n_electrons + slope * near:
        raise EvaluationError(
            FailureCode.INCONSISTENT,
            f'the filled levels add up to {total:.5f} Ha, the energy of the bands is {printed:.5f} Ha in '
            f'{data_set.text.name}: a level was changed, or they are those of another run',
        )
    if scheme == 3 and float(filled[..., -1].max()) > 1e-2:
        raise NoGapError(
            FailureCode.ENGINE_FAILURE,
            'the highest level holds electrons: there are too few levels for the temperature',
        )


def _read_edges(data_set: DataSet, levels: Levels, held: float, fermi: float, n_electrons: int) -> tuple[float, float]:
    """Return HOMO and LUMO in Ha."""
    energies = levels.levels_hartree
    n_spins, n_points, _ = energies.shape
    if data_set.before.integer('occopt', data_set.number, 1) in (0, 2):
        raise NoGapError(
            FailureCode.ENGINE_FAILURE, 'the input fixes the occupation of each level: the gap is not known'
        )
    if data_set.before.integer('occopt', data_set.number, 1) == 1 and (n_spins == 2 or n_points > 1):
        return _edges_of_fixed(data_set, energies, held, n_electrons)
    if data_set.before.number('spinmagntarget', data_set.number) is None and n_points == 1:
        ordered = np.sort(energies, axis=None)
        homo = math.ceil(n_electrons / held - 1e-9) - 1
        if not 0 <= homo < len(ordered) - 1:
            raise NoGapError(FailureCode.ENGINE_FAILURE, _no_lumo(n_electrons, len(ordered)))
        return float(ordered[homo]), float(ordered[homo + 1])
    return _edges_at_fermi(energies, fermi)


def _no_lumo(n_electrons: int, n_levels: int) -> str:
    return f'{n_electrons} electrons in {n_levels} levels leave no HOMO or no LUMO; compute more levels'


def _edges_of_fixed(
    data_set: DataSet, energies: NDArray[np.float64], held: float, n_electrons: int
) -> tuple[float, float]:
    """Return HOMO and LUMO in Ha where each k-point has the same filled levels, and each spin its own number."""
    n_spins, _, n_levels = energies.shape
    moment = data_set.before.number('spinmagntarget', data_set.number) or 0.0
    counts = [n_electrons / held] if n_spins == 1 else [(n_electrons + moment) / 2, (n_electrons - moment) / 2]
    if any(abs(count - round(count)) > 1e-6 for count in counts) or not all(0 <= count < n_levels for count in counts):
        raise NoGapError(FailureCode.ENGINE_FAILURE, _no_lumo(n_electrons, n_levels))
    filled = [float(band[:, round(count) - 1].max()) for band, count in zip(energies, counts, strict=True) if count]
    empty = [float(band[:, round(count)].min()) for band, count in zip(energies, counts, strict=True)]
    if not filled or min(empty) < max(filled):
        raise NoGapError(FailureCode.ENGINE_FAILURE, 'the occupations are fixed, and bands overlap: there is no gap')
    return max(filled), min(empty)


def _edges_at_fermi(energies: NDArray[np.float64], fermi: float) -> tuple[float, float]:
    """Return the highest level that does not exceed the Fermi level, and the lowest one above it."""
    if math.isnan(fermi):
        raise NoGapError(FailureCode.ENGINE_FAILURE, 'the Fermi level is not printed: HOMO and LUMO are not known')
    edges = edges_at_fermi(energies, fermi + PRINTED_HARTREE)
    if edges is None:
        raise NoGapError(
            FailureCode.ENGINE_FAILURE, 'all levels are on one side of the Fermi level; compute more levels'
        )
    return edges


def _read_moment(text: RunText, n_electrons: int) -> float | None:
    """Return the spin moment, which is the difference of the electrons of both spins; None without spin."""
    moment = _last(_MOMENT, text, 'the spin moment', n_electrons + 1e-3)
    spins = list(_SPINS.finditer(text.text))
    if moment is None or not spins:
        return moment
    up, down = (text.number(spins[-1][group], spins[-1].start(group), 'a number of electrons', 1e7) for group in (1, 2))
    if abs(up - down - moment) > 1e-4 or abs(up + down - n_electrons) > 1e-2:
        raise EvaluationError(
            FailureCode.INCONSISTENT,
            f'{text.place(spins[-1].start())}: {up:g} and {down:g} electrons of both spins do not make a moment of '
            f'{moment:g} with {n_electrons} electrons',
        )
    return moment


def _read_forces(data_set: DataSet) -> NDArray[np.float64] | None:
    """Read the forces (A, 3) in eV/Å; None if the output does not give them."""
    n_atoms = data_set.before.integer('natom', data_set.number, 1)
    found = [_read_force_block(data_set.text, unit, n_atoms) for unit in ('hartree/bohr', 'eV/Angstrom')]
    atomic, printed = found
    if atomic is None:
        return None
    forces = atomic * _FORCE_EV_PER_ANG
    if printed is not None and (np.abs(forces - printed) > 1e-6 + 1e-5 * np.abs(printed)).any():
        raise EvaluationError(
            FailureCode.INCONSISTENT,
            f'{data_set.text.name}: the forces in hartree/bohr and in eV/Å contradict each other',
        )
    return forces


def _read_force_block(text: RunText, unit: str, n_atoms: int) -> NDArray[np.float64] | None:
    heads = list(
        re.finditer(_FORCES.format(unit=unit).replace('(', r'\(').replace(')', r'\)'), text.text, re.MULTILINE)
    )
    if not heads:
        return None
    position = heads[-1].end()
    rows = []
    for number in range(1, n_atoms + 1):
        end = text.text.find('\n', position)
        words = text.text[position : end if end >= 0 else len(text.text)].split()
        if len(words) != 4 or words[0] != str(number):
            raise EvaluationError(
                FailureCode.ENGINE_FAILURE, f'{text.place(position)}: the force on atom {number} is expected'
            )
        rows.append([text.number(word, position, 'a force', LARGEST_FORCE * 100) for word in words[1:]])
        position = end + 1 if end >= 0 else len(text.text)
    if re.match(rf' {{0,9}}{n_atoms + 1} ', text.text[position : position + 20]):
        raise EvaluationError(
            FailureCode.INCONSISTENT, f'{text.place(position)}: forces on more than {n_atoms} atoms, which natom counts'
        )
    return np.array(rows)


def _read_stress(data_set: DataSet) -> NDArray[np.float64] | None:
    """Read the stress (3, 3) in eV/Å³; None if the output does not give it."""
    text = data_set.text
    heads = list(_STRESS.finditer(text.text))
    if not heads:
        return None
    stress = _read_tensor(text, heads[-1].end(), LARGEST_STRESS)
    gigapascal = list(_STRESS_GPA_HEAD.finditer(text.text))
    if gigapascal and gigapascal[-1].start() > heads[-1].start():
        other = _read_tensor(text, gigapascal[-1].end(), LARGEST_STRESS * _STRESS_GPA)
        if (np.abs(stress * _STRESS_GPA - other) > 1e-6 + 1e-4 * np.abs(other)).any():
            raise EvaluationError(
                FailureCode.INCONSISTENT,
                f'{text.place(heads[-1].start())}: the stress in hartree/bohr^3 and in GPa differ',
            )
    return stress * _STRESS_EV_PER_ANG3


def _read_tensor(text: RunText, position: int, largest: float) -> NDArray[np.float64]:
    tensor = np.full((3, 3), np.nan)
    end = position
    for _ in range(3):
        end = text.text.find('\n', end) + 1 or len(text.text)
    for found in _SIGMA.finditer(text.text, position, end):
        row, column = int(found[1]) - 1, int(found[2]) - 1
        value = text.number(found[3], found.start(3), 'a component of the stress', largest)
        tensor[row, column] = tensor[column, row] = value
    if np.isnan(tensor).any():
        raise EvaluationError(
            FailureCode.ENGINE_FAILURE, f'{text.place(position)}: six components of the stress are expected'
        )
    return tensor
