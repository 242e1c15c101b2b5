"""Reader of the files of a finished run of SIESTA: its label, or the reason why there is none."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from aiida_nanoml.engines.base import Label, edges_at_fermi
from aiida_nanoml.engines.run_text import RunText, last_match
from aiida_nanoml.engines.siesta.levels import has_spinors, read_levels, read_weights
from aiida_nanoml.engines.siesta.other_levels import find_levels
from aiida_nanoml.engines.siesta.run_checks import (
    FORCES_HEADING,
    IONS_KINETIC,
    LARGEST_ENERGY_EV,
    LARGEST_FORCE_EV_PER_ANG,
    LARGEST_STRESS_EV_PER_ANG3,
    STRESS_HEADING,
    RunFiles,
    check_agreement,
)
from aiida_nanoml.errors import EvaluationError, FailureCode
from aiida_nanoml.text import quoted

COMPLETED = 'Job completed'

_BASIS = re.compile(
    r'see manual for new split options|minimum split_norm parameter.*'
    r'|polarization: iteration to find the polarization.*|polarization: rc for the polarization.*',
    re.I,
)
_NOT_CONVERGED = (FailureCode.NOT_CONVERGED, 'no self-consistency within the allowed iterations')
_NOT_RELAXED = (FailureCode.GEOMETRY_NOT_CONVERGED, 'the geometry was not relaxed within the allowed steps')

_SYMPTOMS = (
    (
        'output',
        re.compile(r'no space left on device|disk quota exceeded|file system full|file size limit exceeded', re.I),
        (FailureCode.DISK_FULL, 'the disk is full: {found}'),
    ),
    (
        'stderr',  # SIESTA does not notice a full disk and exits normally
        re.compile(COMPLETED),
        (FailureCode.DISK_FULL, 'the run came to its end, but its files are cut: the disk was full'),
    ),
    (
        'output',
        re.compile(
            r'oom[-_ ]?kill|out of memory|cannot allocate memory|exceeded (?:job |step )?memory limit|std::bad_alloc'
            r'|allocation would exceed memory|insufficient virtual memory|^.*alloc.*error.*memory'
            r'|alloc_err: allocate error',
            re.I | re.M,
        ),
        (FailureCode.OUT_OF_MEMORY, 'the memory did not suffice: {found}'),
    ),
    (
        'output',
        re.compile(r'pseudopotential file not found.*|no pseudopotential (?:file|information).*', re.I),
        (FailureCode.MISSING_PSEUDOPOTENTIAL, '{found}'),
    ),
    ('output', _BASIS, (FailureCode.BASIS_ERROR, 'the basis cannot be made with these options')),
    (
        'output',
        re.compile(r'OUT_OF_TIME|wall time exhaustion|due to time limit|walltime.*exceeded', re.I),
        (FailureCode.WALL_TIME, 'SIESTA stopped because its wall time was over'),
    ),
    (
        'output',
        re.compile(r'Requested End of Run'),
        (
            FailureCode.ENGINE_FAILURE,
            'SIESTA stopped before the self-consistency, as its input asks: there is no result',
        ),
    ),
    ('output', re.compile('SCF_NOT_CONV'), _NOT_CONVERGED),
    ('output', re.compile('GEOM_NOT_CONV'), _NOT_RELAXED),
)
"""Where a pattern is searched for in a run that did not end well, the pattern, and the failure that it shows.

The first match wins, so the most specific causes come first: a full disk or memory also ends a self-consistency.
``output`` stands for the messages, the end of the standard output and the standard error together.
"""

_ENDED = re.compile(rf'^ *{COMPLETED}|^>> End of run:', re.M)
_END_WITHIN = 1 << 16
_OLD_ITERATION = re.compile(r'^siesta: +(\d{1,6})(?: *-?\d+\.\d{4}){3} *(\d+\.\d{4}) *-?\d+\.\d{4}', re.M)
_SECONDS = r'(\d{1,12}(?:\.\d{0,12})?)(?![\d.])'
_MONTHS = ('JAN', 'FEB', 'MAR', 'APR', 'MAY', 'JUN', 'JUL', 'AUG', 'SEP', 'OCT', 'NOV', 'DEC')


@dataclass(frozen=True)
class Run:
    """A finished single point.

    :param label: energy, levels, forces, stress and moment.
    :param version: version of SIESTA, for example ``4.1-b4-133``.
    :param wall_s: seconds that SIESTA took; NaN if it does not report them.
    :param scf_s: seconds of these that the self-consistency took; NaN if SIESTA does not report them.
    :param n_iterations: iterations to self-consistency.
    :param warnings: what SIESTA warned of in ``MESSAGES``.
    :param note: what the user should know about the label; empty if there is nothing to say.
    """

    label: Label
    version: str
    wall_s: float
    scf_s: float
    n_iterations: int
    warnings: tuple[str, ...]
    note: str = ''


def read_run(
    read: Callable[[str], str | None],
    *,
    prefix: str = 'aiida',
    output: str = 'aiida.out',
    scheduler_stderr: str = '',
    imported: bool = False,
) -> Run:
    """Read the files of a run.

    The energy is the free energy at the end of the run. HOMO and LUMO are counted as
    :meth:`~aiida_nanoml.engines.base.Label.from_levels` does. With several k-points HOMO is the highest level at any of
    them that does not exceed the Fermi level, and LUMO the lowest above it. Several k-points have weights only where
    the run left the file of k-points. Where the spin is fixed, each spin has electrons, HOMO and LUMO of its own: the
    higher HOMO and the lower LUMO count.

    Of a folder: ``read_run(lambda name: (folder / name).read_text() if (folder / name).is_file() else None)``.

    :param read: returns the text of a file of the run by name, None if there is no such file.
    :param prefix: the system label of the run.
    :param output: name of the file with the standard output.
    :param scheduler_stderr: what the scheduler or the launcher said.
    :param imported: the run was made by anyone: it may end in a geometry that is not relaxed, and lack the file of
        levels; then they are read from what else holds them, or left unknown.
    :raises EvaluationError: with a code of :data:`~aiida_nanoml.errors.RUN`, or ``'missing_pseudopotential'``.
    """
    text = read(output) or ''
    messages = read('MESSAGES') or ''
    n_iterations = _count_iterations(text, messages, scheduler_stderr, unrelaxed=imported)
    names = {'output': output, 'eig': f'{prefix}.EIG', 'xml': f'{prefix}.xml', 'kp': f'{prefix}.KP'}
    files = RunFiles(**{kind: RunText(name, read(name) or '') for kind, name in names.items()})
    if imported and not files.eig.text:
        label, note = _label_without_file(read, prefix, files, n_iterations)
    else:
        levels, fermi = read_levels(files.eig)
        label, note = _label_of_levels(files, levels, fermi, n_iterations, has_spinors(files.eig)), ''
        check_agreement(files, label, levels, fermi)
    timings = read('time.json') or ''
    warnings = tuple(line.partition(':')[2].strip() for line in messages.splitlines() if line.startswith('WARNING'))
    return Run(
        label=label,
        version=read_version(text) or 'unknown',
        wall_s=_wall_time(text, timings),
        scf_s=_scf_time(timings),
        n_iterations=n_iterations,
        warnings=warnings,
        note=note,
    )


def read_step(output: RunText) -> Label | None:
    """Read energy and forces of a step of a relaxation or a dynamics run; None if its density did not converge.

    The energy is that printed after the self-consistency, less the heat of the electrons in its last iteration.

    :param output: the part of the standard output that belongs to the step.
    :raises EvaluationError: ``'engine_failure'``: a number is not what it should be.
    """
    energy = output.last(r'^siesta: E_KS\(eV\) = *(\S+)', 'the energy', LARGEST_ENERGY_EV)
    iteration = last_match(r'^ *scf: +\d+ +\S+ +(-?\d+\.\d+) +(-?\d+\.\d+) ', output.text)
    if energy is None or iteration is None or 'SCF cycle converged' not in output.text:
        return None
    return Label.from_energy(energy + float(iteration[2]) - float(iteration[1]), forces_ev_per_ang=_read_forces(output))


def read_version(text: str) -> str | None:
    """Read the version of SIESTA from its standard output; None if there is none.

    :param text: the beginning of the output is enough.
    """
    found = re.search(r'^\s*(?:Siesta )?Version\s*:\s*(?:siesta-)?v?(\d\S*)', text, re.I | re.M)
    return found.group(1) if found else None


def find_start_failure(text: str) -> str | None:
    """Return why a run did not begin with the density that its input asks for; None if it did, or ended before.

    An executable without NetCDF reports nothing, and begins with the free atoms.

    :param text: the standard output of the run.
    """
    if 'Reading DeltaRho from file' in text:
        refusal = re.search(r'Mesh mismatch|Nspin mismatch|netCDF error: .*', text)
        return f'SIESTA refused it: {refusal.group(0)}' if refusal else None
    if re.search(r'^\s*scf:', text, re.M):
        return (
            'the executable was built without NetCDF, and began with the free atoms; the label is right, but nothing '
            'was saved: use an executable whose output begins with "NetCDF support"'
        )
    return None


def _label_of_levels(
    files: RunFiles, levels: NDArray[np.float64], fermi: float, n_iterations: int, spinors: bool
) -> Label:
    """Return the label of a run with its levels.

    :param levels: (S, K, L) in eV.
    :param spinors: each level holds one electron, whose spin has no direction of its own.
    """
    n_electrons = _read_electrons(files.output)
    energy = _read_energy(files.output)
    weights = _weights(files.kp, levels.shape)
    return replace(
        _make_label(energy, levels, fermi, n_electrons, n_iterations, files, spinors),
        level_weights=weights / 2 if weights is not None and spinors else weights,
        fermi_ev=fermi,
        magnetic_moment_bohr=_read_moment(files.output, n_electrons) if len(levels) == 2 else None,
    )


def _label_without_file(
    read: Callable[[str], str | None], prefix: str, files: RunFiles, n_iterations: int
) -> tuple[Label, str]:
    """Return the label of a run without a file of levels, and where its gap comes from."""
    found = find_levels(read, prefix, files.output)
    gone = f'{files.eig.name} is ' + ('not there' if read(files.eig.name) is None else 'empty')
    if found is not None:
        along_bands = replace(files, kp=RunText(files.kp.name, ''))
        known = files if found.of_mesh else along_bands
        label = _label_of_levels(known, found.levels, found.fermi_ev, n_iterations, spinors=False)
        if found.of_mesh:
            check_agreement(replace(files, eig=RunText(found.name, '')), label, found.levels, found.fermi_ev)
            return label, f'{gone}: the levels are those of {found.name}'
        bands = replace(label, levels_ev=None, level_weights=None)
        check_agreement(files, bands)
        return bands, f'{gone}: the gap is that along the bands of {found.name}'
    energy = Label.from_energy(
        _read_energy(files.output),
        forces_ev_per_ang=_read_forces(files.output),
        stress_ev_per_ang3=_read_stress(files.output),
    )
    n_electrons = _read_electrons(files.output)
    label = replace(energy, n_electrons=n_electrons, open_shell=n_electrons % 2 == 1, n_iterations=n_iterations)
    check_agreement(files, label)
    return label, f'{gone}, and no other file holds the levels: the gap is not known'


def is_finished(text: str) -> bool:
    """Return whether an output comes to its end; before version 4, that is its time, which other lines may follow."""
    return _ENDED.search(text, max(0, len(text) - _END_WITHIN)) is not None


def _count_iterations(text: str, messages: str, stderr: str, *, unrelaxed: bool) -> int:
    """Return the number of iterations of the last self-consistency.

    :param unrelaxed: a geometry that is not relaxed is no failure.
    :raises EvaluationError: the run failed.
    """
    if not (is_finished(text) or COMPLETED in messages):
        raise _diagnose(text, messages, stderr)
    converged = [int(number) for number in re.findall(r'^SCF cycle converged after\s+(\d{1,9}) iterations', text, re.M)]
    # A run whose self-consistency need not converge calls itself completed either way.
    if 'SCF_NOT_CONV' in messages or 'SCF_NOT_CONV' in text or not (converged := converged or _converged_of_old(text)):
        raise _failure(*_NOT_CONVERGED, text)
    if 'GEOM_NOT_CONV' in messages and not unrelaxed:
        raise _failure(*_NOT_RELAXED, text)
    return converged[-1]


def _converged_of_old(text: str) -> list[int]:
    """Return the iterations of the last self-consistency of a version that does not say that it converged.

    Before version 4, the change of the density in the last iteration says it.
    """
    rows = _OLD_ITERATION.findall(text)
    tolerance = re.findall(r'^redata: DM Tolerance for SCF *= *(\d+\.\d+)', text, re.M)
    if not rows or not tolerance or float(rows[-1][1]) > float(tolerance[-1]):
        return []
    return [int(rows[-1][0])]


def _diagnose(text: str, messages: str, stderr: str) -> EvaluationError:
    """Find out why a run did not come to its end."""
    texts = {'output': '\n'.join((messages, text[-20000:], stderr)), 'stderr': stderr}
    for where, pattern, (code, sentence) in _SYMPTOMS:
        if found := pattern.search(texts[where]):
            return _failure(code, sentence.format(found=' '.join(found.group(0).split())), text)
    fatal = [line.partition(':')[2].strip() for line in messages.splitlines() if line.startswith('FATAL')]
    if any(fatal) or 'Stopping Program from Node' in texts['output']:
        return _failure(FailureCode.ENGINE_FAILURE, next(filter(None, fatal), 'SIESTA stopped itself'), text)
    if not text.strip():
        last = _last_line(stderr)
        return EvaluationError(FailureCode.ENGINE_FAILURE, 'SIESTA wrote nothing' + (f': {last}' if last else ''))
    sentence = f'the output ends before "{COMPLETED}": the run was killed or its machine failed'
    return _failure(FailureCode.TRUNCATED, sentence, text)


def _failure(code: FailureCode, sentence: str, text: str) -> EvaluationError:
    """Make an error that adds to a sentence the detail of the standard output which explains it, if any."""
    detail = _find_detail(code, text)
    return EvaluationError(code, f'{sentence} ({detail})' if detail else sentence)


def _find_detail(code: FailureCode, text: str) -> str:
    match code:
        case FailureCode.NOT_CONVERGED:
            steps = re.findall(r'^\s*scf:\s+(\d+)', text, re.M)
            return f'{steps[-1]} iterations' if steps else ''
        case FailureCode.BASIS_ERROR:
            hints = [*_BASIS.findall(text), *re.findall(r'^.*split_norm.*$', text, re.M)]
            return ' '.join(hints[-1].split()) if hints else ''
        case FailureCode.MISSING_PSEUDOPOTENTIAL:
            return ''  # the sentence is what SIESTA wrote
        case _:
            return _last_line(text)


def _last_line(text: str) -> str:
    """Return the last line that says something: no bare numbers, no back trace, no closing formula."""
    idle = re.compile(r'^[^A-Za-z]*$|\*{5}|^#\d|^\s*at \.\./|Stopping Program|ABNORMAL_TERMINATION|Backtrace')
    lines = [line for line in text.splitlines() if not idle.search(line)]
    return ' '.join(lines[-1].split())[:160] if lines else ''


def _read_energy(output: RunText) -> float:
    energy = output.last(r'^siesta: FreeEng\s*=[ \t]*(\S*)', 'the free energy', LARGEST_ENERGY_EV)
    if energy is None:
        raise EvaluationError(FailureCode.TRUNCATED, f'{output.name} does not give the free energy')
    # In a molecular dynamics run, SIESTA adds the kinetic energy of the ions: it is none of the structure.
    kinetic = output.last(IONS_KINETIC, 'the kinetic energy of the ions', LARGEST_ENERGY_EV)
    return energy - kinetic if kinetic else energy


def _read_electrons(output: RunText) -> int:
    electrons = output.last(r'^Total number of electrons:[ \t]*(\S*)', 'the number of electrons', 1e7)
    if electrons is None:
        raise EvaluationError(FailureCode.TRUNCATED, f'{output.name} does not give the number of electrons')
    if abs(electrons - round(electrons)) > 1e-4 or round(electrons) < 1:
        raise EvaluationError(
            FailureCode.ENGINE_FAILURE,
            f'{output.name} counts {electrons:g} electrons, which is no whole number above zero',
        )
    return round(electrons)


def _weights(kp: RunText, shape: tuple[int, ...]) -> NDArray[np.float64] | None:
    """Return the electrons that a level holds, (S, K); None if several k-points have no known weights.

    :param shape: (S, K, L) of the levels.
    """
    n_spins, n_points = shape[:2]
    if kp.text:
        weights = read_weights(kp, n_points)
    elif n_points == 1:
        weights = np.ones(1)
    else:
        return None
    return np.tile(2 / n_spins * weights, (n_spins, 1))


def _read_moment(output: RunText, n_electrons: int) -> float | None:
    # Its length and the three components, of which collinear spin has the last.
    pattern = r'^(?: *spin moment: S , \{S\} =(?: +\S+){3}|siesta: Total spin polarization \(Qup-Qdown\) =) +(\S+) *$'
    return output.last(pattern, 'the spin moment', n_electrons + 1e-3)


def _make_label(
    energy: float,
    levels: NDArray[np.float64],
    fermi: float,
    n_electrons: int,
    n_iterations: int,
    files: RunFiles,
    spinors: bool,
) -> Label:
    forces, stress = _read_forces(files.output), _read_stress(files.output)
    n_spins, n_points, n_levels = levels.shape
    flat = levels.reshape(n_spins, n_points * n_levels)
    fixed = _read_fixed_spin(files.output) if n_spins == 2 else None
    if n_points == 1 and fixed is None and not spinors:
        return Label.from_levels(
            energy,
            flat,
            n_electrons,
            n_iterations=n_iterations,
            forces_ev_per_ang=forces,
            stress_ev_per_ang3=stress,
        )
    if fixed is not None:
        weights = _weights(files.kp, levels.shape)
        homo, lumo = _edges_of_spins(levels, weights, n_electrons, fixed)
    elif n_points == 1:
        homo, lumo = _edge_of_counted(flat[0], np.ones(n_levels), n_electrons)
    else:
        homo, lumo = _edges_at_fermi(flat, fermi)
    return Label(
        energy_ev=energy,
        homo_ev=homo,
        lumo_ev=lumo,
        gap_ev=lumo - homo,
        n_electrons=n_electrons,
        open_shell=n_electrons % 2 == 1,
        n_iterations=n_iterations,
        forces_ev_per_ang=forces,
        stress_ev_per_ang3=stress,
        levels_ev=flat,
    )


def _edges_at_fermi(levels: NDArray[np.float64], fermi: float) -> tuple[float, float]:
    """Return the highest level that does not exceed the Fermi level, and the lowest one above it."""
    edges = edges_at_fermi(levels, fermi)
    if edges is None:
        raise EvaluationError(
            FailureCode.ENGINE_FAILURE, 'all levels are on one side of the Fermi level; use a larger basis'
        )
    return edges


def _edges_of_spins(
    levels: NDArray[np.float64], weights: NDArray[np.float64] | None, n_electrons: int, spin: float
) -> tuple[float, float]:
    """Return HOMO and LUMO of a run in which each spin has a fixed number of electrons.

    :param levels: (2, K, L).
    :param weights: (2, K), those of the k-points; None if they are not known.
    :param spin: difference of the two numbers of electrons.
    :raises EvaluationError: ``'engine_failure'``: the numbers are no whole ones, k-points have no weights, or an empty
        level is below a filled one.
    """
    counts = [(n_electrons + spin) / 2, (n_electrons - spin) / 2]
    if weights is None or any(abs(count - round(count)) > 1e-6 or count < 0 for count in counts):
        raise EvaluationError(
            FailureCode.ENGINE_FAILURE,
            f'the spin is fixed at {spin:g} for {n_electrons} electrons: HOMO and LUMO of each spin cannot be counted',
        )
    edges = [
        _edge_of_counted(band.ravel(), np.repeat(share, levels.shape[2]), round(count))
        for band, share, count in zip(levels, weights, counts, strict=True)
    ]
    homo, lumo = max(edge[0] for edge in edges), min(edge[1] for edge in edges)
    if lumo < homo:
        raise EvaluationError(
            FailureCode.ENGINE_FAILURE,
            f'the spin is fixed at {spin:g}, and an empty level of one spin ({lumo:.4f} eV) is below a filled one of '
            f'the other ({homo:.4f} eV): there is no gap',
        )
    return homo, lumo


def _edge_of_counted(
    levels: NDArray[np.float64], weights: NDArray[np.float64], n_electrons: int
) -> tuple[float, float]:
    """Return the highest filled and the lowest empty level where electrons fill levels from below.

    :param levels: (N,) in eV.
    :param weights: electrons that each level holds, (N,).
    :returns: minus infinity as the first where there is no electron.
    """
    order = np.argsort(levels, kind='stable')
    filled = np.cumsum(weights[order])
    homo = int(np.searchsorted(filled, n_electrons - 1e-4)) if n_electrons else -1
    if homo + 1 >= len(levels):
        raise EvaluationError(
            FailureCode.ENGINE_FAILURE,
            f'{n_electrons} electrons in {len(levels)} levels leave no LUMO; use a larger basis',
        )
    return float(levels[order[homo]]) if homo >= 0 else -np.inf, float(levels[order[homo + 1]])


def _read_fixed_spin(output: RunText) -> float | None:
    """Return the difference of the numbers of electrons of both spins where it is fixed; None where it is not."""
    fixed = last_match(r'^redata: Fix the spin of the system *= *([TF])', output.text)
    if fixed is None or fixed[1] == 'F':
        return None
    spin = output.last(r'^redata: (?:Value of the )?[Tt]otal [Ss]pin.*?= *(\S+)', 'the total spin', 1e6)
    return 0.0 if spin is None else spin


def _read_forces(output: RunText) -> NDArray[np.float64] | None:
    """Read the forces (A, 3) in eV/Å; None if the output does not give them."""
    # Small forces are written once only, without the prefix.
    header = last_match(FORCES_HEADING, output.text)
    if header is None or output.text.startswith('---', header.end()):
        return None  # without WriteForces only their sum and the largest one follow
    return _read_rows(output, header.end(), None, 'a force', LARGEST_FORCE_EV_PER_ANG)


def _read_stress(output: RunText) -> NDArray[np.float64] | None:
    """Read the stress (3, 3) in eV/Å³; None if the output does not give it."""
    header = last_match(STRESS_HEADING, output.text)
    if header is None:
        return None
    return _read_rows(output, header.end(), 3, 'a component of the stress', LARGEST_STRESS_EV_PER_ANG3)


def _read_rows(output: RunText, start: int, n_rows: int | None, what: str, largest: float) -> NDArray[np.float64]:
    """Read rows of three numbers.

    :param start: where the first row begins.
    :param n_rows: number of rows; None: rows are numbered, and the next line of another kind ends them.
    :raises EvaluationError: ``'engine_failure'``: a row or a number is not what it should be.
    """
    rows: list[list[float]] = []
    position = start
    while n_rows is None or len(rows) < n_rows:
        end = output.text.find('\n', position)
        line = output.text[position : end if end >= 0 else len(output.text)]
        words = line.removeprefix('siesta:').split()
        if n_rows is None:
            if not words or words[0] != str(len(rows) + 1):
                break
            words = words[1:]
        if len(words) != 3:
            raise EvaluationError(
                FailureCode.ENGINE_FAILURE,
                f'{output.place(position)}: {what} is expected as three numbers, the line is {quoted(line.strip())}',
            )
        rows.append([output.number(word, position, what, largest) for word in words])
        position = end + 1 if end >= 0 else len(output.text)
    if not rows:
        raise EvaluationError(FailureCode.ENGINE_FAILURE, f'{output.place(start)}: no {what} follows the heading')
    return np.array(rows, dtype=np.float64)


def _wall_time(text: str, timings: str) -> float:
    found = re.search(rf'"_time":\s*{_SECONDS}', timings) or re.search(
        rf'^timer: Elapsed wall time \(sec\)\s*=\s*{_SECONDS}', text, re.M
    )
    if found:
        return float(found.group(1))
    start, end = (_clock(word, text) for word in ('Start', 'End'))
    return (end - start).total_seconds() if start and end else float('nan')


def _scf_time(timings: str) -> float:
    found = re.search(r'"IterSCF":\s*\{\s*"_calls":\s*\d+,\s*"_time":\s*' + _SECONDS, timings)
    return float(found.group(1)) if found else float('nan')


def _clock(word: str, text: str) -> datetime | None:
    found = re.search(
        rf'^>> {word} of run:\s+(\d{{1,2}})-([A-Z]{{3}})-(\d{{4}})\s+(\d{{1,2}}):(\d{{1,2}}):(\d{{1,2}})', text, re.M
    )
    if not found or found.group(2) not in _MONTHS:
        return None
    day, month, year, hour, minute, second = found.groups()
    try:
        return datetime(int(year), _MONTHS.index(month) + 1, int(day), int(hour), int(minute), int(second))
    except (ValueError, OverflowError):
        return None  # a time is no result: without it, the label is as good
