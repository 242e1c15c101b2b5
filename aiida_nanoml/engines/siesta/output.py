"""Reader of the files of a finished run of SIESTA: its label, or the reason why there is none."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from aiida_nanoml.engines.base import Label
from aiida_nanoml.errors import EvaluationError, FailureCode

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
    ('output', re.compile('SCF_NOT_CONV'), _NOT_CONVERGED),
    ('output', re.compile('GEOM_NOT_CONV'), _NOT_RELAXED),
)
"""Where a pattern is searched for in a run that did not end well, the pattern, and the failure that it shows.

The first match wins, so the most specific causes come first: a full disk or memory also ends a self-consistency.
``output`` stands for the messages, the end of the standard output and the standard error together.
"""

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
    """

    label: Label
    version: str
    wall_s: float
    scf_s: float
    n_iterations: int
    warnings: tuple[str, ...]


def read_run(
    read: Callable[[str], str | None],
    *,
    prefix: str = 'aiida',
    output: str = 'aiida.out',
    scheduler_stderr: str = '',
) -> Run:
    """Read the files of a run.

    The energy is the free energy at the end of the run. HOMO and LUMO are counted as
    :meth:`~aiida_nanoml.engines.base.Label.from_levels` does. With several k-points HOMO is the highest level at any of
    them that does not exceed the Fermi level, and LUMO the lowest above it. Several k-points have weights only where
    the run left the file of k-points.

    Of a folder: ``read_run(lambda name: (folder / name).read_text() if (folder / name).is_file() else None)``.

    :param read: returns the text of a file of the run by name, None if there is no such file.
    :param prefix: the system label of the run.
    :param output: name of the file with the standard output.
    :param scheduler_stderr: what the scheduler or the launcher said.
    :raises EvaluationError: with a code of :data:`~aiida_nanoml.errors.RUN`, or ``'missing_pseudopotential'``.
    """
    text = read(output) or ''
    messages = read('MESSAGES') or ''
    n_iterations = _count_iterations(text, messages, scheduler_stderr)
    levels, fermi = _read_levels(read(f'{prefix}.EIG'), prefix)
    energy = _last_number(r'^siesta: FreeEng\s*=\s*(\S+)', text, 'the free energy')
    electrons = _last_number(r'^Total number of electrons:\s*(\S+)', text, 'the number of electrons')
    if abs(electrons - round(electrons)) > 1e-4:
        raise EvaluationError(
            FailureCode.ENGINE_FAILURE, f'SIESTA counts {electrons:g} electrons, which is no whole number'
        )
    label = replace(
        _make_label(energy, levels, fermi, round(electrons), n_iterations, text),
        level_weights=_read_weights(read(f'{prefix}.KP'), prefix, levels.shape),
        fermi_ev=fermi,
        magnetic_moment_bohr=_read_moment(text) if len(levels) == 2 else None,
    )
    timings = read('time.json') or ''
    warnings = tuple(line.partition(':')[2].strip() for line in messages.splitlines() if line.startswith('WARNING'))
    return Run(
        label=label,
        version=read_version(text) or 'unknown',
        wall_s=_wall_time(text, timings),
        scf_s=_scf_time(timings),
        n_iterations=n_iterations,
        warnings=warnings,
    )


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


def _count_iterations(text: str, messages: str, stderr: str) -> int:
    """Return the number of iterations of the last self-consistency.

    :raises EvaluationError: the run failed.
    """
    if not (COMPLETED in text[-2000:] or COMPLETED in messages):
        raise _diagnose(text, messages, stderr)
    converged = re.findall(r'^SCF cycle converged after\s+(\d+) iterations', text, re.M)
    # A run whose self-consistency need not converge calls itself completed either way.
    if 'SCF_NOT_CONV' in messages or not converged:
        raise _failure(*_NOT_CONVERGED, text)
    if 'GEOM_NOT_CONV' in messages:
        raise _failure(*_NOT_RELAXED, text)
    return int(converged[-1])


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


def _read_levels(eig: str | None, prefix: str) -> tuple[NDArray[np.float64], float]:
    """Read the levels (S, K, L) of S spins, K k-points and L levels each, and the Fermi level, both in eV."""
    # A number that is cut is still a number: only the end of the last line shows a cut.
    if not eig or not eig.endswith('\n') or len(eig.split(maxsplit=4)) < 4:
        raise EvaluationError(FailureCode.TRUNCATED, f'the file {prefix}.EIG with the levels is absent or not whole')
    if len(eig.split()) < _count_words(eig):
        # sisl would never stop reading.
        raise EvaluationError(FailureCode.TRUNCATED, f'the file {prefix}.EIG with the levels ends in the middle')
    from sisl.io.siesta.eig import eigSileSiesta

    # sisl reads files only, and counts from the Fermi level.
    with tempfile.NamedTemporaryFile('w', suffix='.EIG', encoding='ascii') as file:
        file.write(eig)
        file.flush()
        try:
            source = eigSileSiesta(Path(file.name))
            fermi = float(source.read_fermi_level())
            levels = np.asarray(source.read_data(), dtype=np.float64) + fermi
        except Exception as error:  # whatever the library raises on a file that ends early
            raise EvaluationError(FailureCode.TRUNCATED, f'the file {prefix}.EIG cannot be read: {error}') from error
    return np.round(levels, 9), fermi


def _read_weights(kp: str | None, prefix: str, shape: tuple[int, ...]) -> NDArray[np.float64] | None:
    """Return the electrons that a level holds, (S, K); None if several k-points have no known weights.

    :param kp: the file of k-points: their number, and of each its number, three coordinates and the weight.
    :param shape: (S, K, L) of the levels.
    """
    n_spins, n_points = shape[:2]
    if kp:
        try:
            words = np.array(kp.split(), dtype=np.float64)
            points = words[1:].reshape(n_points, 5)
        except ValueError as error:
            raise EvaluationError(
                FailureCode.TRUNCATED,
                f'the file {prefix}.KP does not give the {n_points} k-points that {prefix}.EIG has',
            ) from error
        weights = points[:, 4] / points[:, 4].sum()
    elif n_points == 1:
        weights = np.ones(1)
    else:
        return None
    return np.tile(2 / n_spins * weights, (n_spins, 1))


def _read_moment(text: str) -> float | None:
    # Its length and the three components, of which collinear spin has the last.
    found = re.findall(r'^ *spin moment: S , \{S\} =(?: +\S+){3} +(\S+)$', text, re.M)
    return float(found[-1]) if found else None


def _count_words(eig: str) -> int:
    """Return the number of words in a complete file of levels: the head, and an index and the levels of each point."""
    try:
        n_levels, n_spins, n_points = (int(word) for word in eig.split(maxsplit=4)[1:4])
    except ValueError:
        return 0
    return 4 + n_points * (1 + n_spins * n_levels)


def _make_label(
    energy: float, levels: NDArray[np.float64], fermi: float, n_electrons: int, n_iterations: int, text: str
) -> Label:
    forces, stress = _read_forces(text), _read_stress(text)
    n_spins, n_points, n_levels = levels.shape
    flat = levels.reshape(n_spins, n_points * n_levels)
    if n_points == 1:
        return Label.from_levels(
            energy,
            flat,
            n_electrons,
            n_iterations=n_iterations,
            forces_ev_per_ang=forces,
            stress_ev_per_ang3=stress,
        )
    below, above = flat[flat <= fermi], flat[flat > fermi]
    if not (len(below) and len(above)):
        raise EvaluationError(
            FailureCode.ENGINE_FAILURE, 'all levels are on one side of the Fermi level; use a larger basis'
        )
    homo, lumo = float(below.max()), float(above.min())
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


def _read_forces(text: str) -> NDArray[np.float64] | None:
    # Small forces are written once only, without the prefix.
    blocks = re.findall(r'^siesta: Atomic forces \(eV/Ang\):\n((?:(?:siesta:)?\s+\d+(?:\s+\S+){3}\n)+)', text, re.M)
    return np.array([line.split()[-3:] for line in blocks[-1].splitlines()], dtype=np.float64) if blocks else None


def _read_stress(text: str) -> NDArray[np.float64] | None:
    blocks = re.findall(
        r'^siesta: Stress tensor \((?:static|total)\) \(eV/Ang\*\*3\):\n((?:siesta:(?:\s+\S+){3}\n){3})', text, re.M
    )
    return np.array([line.split()[1:4] for line in blocks[0].splitlines()], dtype=np.float64) if blocks else None


def _last_number(pattern: str, text: str, what: str) -> float:
    found = re.findall(pattern, text, re.M)
    try:
        return float(found[-1])
    except (IndexError, ValueError) as error:
        raise EvaluationError(FailureCode.TRUNCATED, f'the output does not give {what}') from error


def _wall_time(text: str, timings: str) -> float:
    found = re.search(r'"_time":\s*([\d.]+)', timings) or re.search(
        r'^timer: Elapsed wall time \(sec\)\s*=\s*([\d.]+)', text, re.M
    )
    if found:
        return float(found.group(1))
    start, end = (_clock(word, text) for word in ('Start', 'End'))
    return (end - start).total_seconds() if start and end else float('nan')


def _scf_time(timings: str) -> float:
    found = re.search(r'"IterSCF":\s*\{\s*"_calls":\s*\d+,\s*"_time":\s*([\d.]+)', timings)
    return float(found.group(1)) if found else float('nan')


def _clock(word: str, text: str) -> datetime | None:
    found = re.search(rf'^>> {word} of run:\s+(\d+)-([A-Z]{{3}})-(\d+)\s+(\d+):(\d+):(\d+)', text, re.M)
    if not found or found.group(2) not in _MONTHS:
        return None
    day, month, year, hour, minute, second = found.groups()
    return datetime(int(year), _MONTHS.index(month) + 1, int(day), int(hour), int(minute), int(second))
