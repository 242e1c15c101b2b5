"""Reader of the standard output of CP2K: energy, convergence, electrons, forces and stress, or why there are none."""

from __future__ import annotations

import re
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from aiida_nanoml.engines.run_text import fortran_number, positive_numbers
from aiida_nanoml.errors import EvaluationError, FailureCode
from aiida_nanoml.text import quoted
from aiida_nanoml.units import BOHR_ANG, GPA_PER_EV_PER_ANG3, HARTREE_EV

LARGEST_ENERGY_HARTREE = 1e7
LARGEST_STEP_EV = 0.03
"""By so much an atom, the energy may change from the last step of the self-consistency to its end."""

LARGEST_FORCE_HARTREE_PER_BOHR = 1e3
LARGEST_STRESS_GPA = 1e6

_ENERGY = re.compile(
    r'^ ?ENERGY\| Total FORCE_EVAL \( *(\S+) *\) energy (?:\[?\(?)(a\.u\.|hartree)(?:\)?\]?) *:? +(\S+) *$', re.M
)
_CONVERGED = re.compile(r'^ *\*\*\* SCF run converged in +(\d{1,6}) (?:steps|iterations) \*\*\*', re.M)
_NOT_CONVERGED = re.compile(r'SCF run NOT converged|SCF_NOT_CONVERGED|Outer SCF loop FAILED|outer SCF loop FAILED')
_STEPS = 'Update method'
_STEP = re.compile(
    r'^ {1,8}\d{1,6} \S{1,30} {1,8}\S{1,12} {1,10}[\d.]{1,12} {1,10}(\S{1,30}) {1,20}\S+ {1,4}\S+ *$', re.M
)
_OUT_OF_TIME = 'SCF run terminated - exceeded requested execution time'
_LEFT_LOOP = re.compile(r'Leaving inner SCF loop after reaching +(\d{1,6}) steps')
_VERSION = re.compile(r'^ ?CP2K\| version string: +CP2K version (\S+)', re.M)
_VERSION_LINE = re.compile(r'^ ?CP2K version (\d\S*)', re.M)
_ELECTRONS = re.compile(r'^ ?Number of electrons: +(\d{1,7}) *$', re.M)
_ENDED = re.compile(r'PROGRAM ENDED AT')
_ABORT = re.compile(r'\[ABORT\]|CPABORT|\*\*\* ERROR in|^ *\*+ *ERROR|exited? with error|Program stopped', re.M)

FORCES_HEADING = re.compile(r'ATOMIC FORCES in \[a\.u\.\]|FORCES\| Atomic forces \[hartree/bohr\]')
"""Heading of the forces, up to version 2024 and from 2025 on."""

_FORCES_ROWS = (
    re.compile(r'^ *(\d{1,7}) +\d{1,7} +[A-Za-z]\S* +(\S+) +(\S+) +(\S+) *$', re.M),
    re.compile(r'^ *FORCES\| +(\d{1,7}) +(\S+) +(\S+) +(\S+) +\S+ *$', re.M),
)
_FORCES_END = re.compile(r'SUM OF ATOMIC FORCES|FORCES\| Sum')

_SYMPTOMS = (
    (
        re.compile(r'no space left on device|disk quota exceeded|file size limit exceeded', re.I),
        (FailureCode.DISK_FULL, 'the disk is full: {found}'),
    ),
    (
        re.compile(
            r'out of memory|cannot allocate memory|std::bad_alloc|oom[-_ ]?kill|insufficient virtual memory'
            r'|Allocation would exceed memory limit|The memory allocation for .*failed',
            re.I,
        ),
        (FailureCode.OUT_OF_MEMORY, 'the memory did not suffice: {found}'),
    ),
    (
        re.compile(r'The requested atomic potential .{0,400}?not found', re.S),
        (FailureCode.MISSING_PSEUDOPOTENTIAL, '{found}'),
    ),
    (
        re.compile(r'The requested basis set .{0,400}?(?:not found|not f)', re.S),
        (FailureCode.BASIS_ERROR, '{found}'),
    ),
    (
        re.compile(r'DUE TO TIME LIMIT|CANCELLED.{0,80}TIME LIMIT|requested walltime', re.I),
        (FailureCode.WALL_TIME, 'the wall time was over'),
    ),
    (_NOT_CONVERGED, (FailureCode.NOT_CONVERGED, 'no self-consistency within the allowed iterations')),
)
"""Patterns in a run that did not end well, and the failures that they show; the first match wins."""

_SIGN = re.compile(r'^(?:\[ABORT\]|\\___/|/ {3}\\|___|\||O/\||/\| \||/ \\)(?=\s|$)\s*')
"""Piece of the picture that stands to the left of the words with which CP2K stops itself."""

_TAIL = 20_000


def read_version(text: str) -> str | None:
    """Read the version of CP2K from its output, or from what it says to ``--version``; None if there is none."""
    found = _VERSION.search(text) or _VERSION_LINE.search(text)
    return found[1] if found else None


def is_finished(text: str) -> bool:
    """Return whether an output comes to its end."""
    return _ENDED.search(text) is not None


def check_finished(text: str, errors: str) -> None:
    """Check that a run came to its end.

    :param text: standard output.
    :param errors: standard error.
    :raises EvaluationError: with what it shows of the cause.
    """
    if _ENDED.search(text) and not _ABORT.search(text):
        return
    seen = f'{text[-_TAIL:]}\n{errors}'
    for pattern, (code, sentence) in _SYMPTOMS:
        if found := pattern.search(seen):
            raise EvaluationError(code, sentence.format(found=_plain(found[0])))
    if reason := read_abort(text):
        raise EvaluationError(FailureCode.ENGINE_FAILURE, f'CP2K stopped itself: {reason}')
    if not text.strip():
        last = (errors.strip().splitlines() or [''])[-1].strip()
        raise EvaluationError(FailureCode.ENGINE_FAILURE, 'CP2K wrote nothing' + (f': {last[:300]}' if last else ''))
    if _ENDED.search(text):
        raise EvaluationError(FailureCode.ENGINE_FAILURE, 'CP2K stopped itself and does not say why')
    raise EvaluationError(
        FailureCode.TRUNCATED,
        'the output ends before "PROGRAM ENDED": the run was killed, its machine failed, or the disk was full',
    )


def read_abort(text: str) -> str:
    """Return what CP2K said when it stopped itself, in one line; empty if it did not."""
    lines = text[-_TAIL:].splitlines()
    for number, line in enumerate(lines):
        if '[ABORT]' not in line and 'CPABORT' not in line and '*** ERROR in' not in line:
            continue
        words: list[str] = []
        for near in lines[max(0, number - 1) : number + 10]:
            words += _SIGN.sub('', near.strip().strip('*').strip()).split()
            if re.search(r'\w+\.F:\d+', near):
                break
        return ' '.join(words)[:300]
    return ''


def read_energy(text: str) -> float:
    """Read the last total energy, in eV.

    :raises EvaluationError: ``'engine_failure'``: there is none, or it is no number.
    """
    found = list(_ENERGY.finditer(text))
    if not found:
        raise EvaluationError(FailureCode.ENGINE_FAILURE, 'CP2K printed no total energy')
    return to_number(found[-1][3], 'the energy', LARGEST_ENERGY_HARTREE) * HARTREE_EV


def check_energies(text: str, energy_ev: float, n_atoms: int) -> float:
    """Check the energy of the calculation against that of its last self-consistency.

    :returns: the difference in eV; 0 where only one is printed.
    :raises EvaluationError: ``'inconsistent'``.
    """
    found = re.findall(r'^ +Total energy: +(\S+) *$', text, re.M)
    if not found:
        return 0.0
    other = to_number(found[-1], 'the energy after the self-consistency', LARGEST_ENERGY_HARTREE) * HARTREE_EV
    # At its end the energy is that of the density which the levels make, no longer of the mixed one.
    if abs(other - energy_ev) > LARGEST_STEP_EV * n_atoms:
        raise EvaluationError(
            FailureCode.INCONSISTENT,
            f'the energy is {energy_ev:.6f} eV, and {other:.6f} eV after the self-consistency',
        )
    return energy_ev - other


def read_iterations(text: str) -> int:
    """Return the iterations of the last self-consistency.

    :raises EvaluationError: ``'not_converged'``, or ``'wall_time'``.
    """
    if stopped_in_time(text):
        raise EvaluationError(FailureCode.WALL_TIME, 'CP2K stopped because its time was over')
    converged = list(_CONVERGED.finditer(text))
    failed = [found.start() for pattern in (_NOT_CONVERGED, _LEFT_LOOP) for found in pattern.finditer(text)]
    if not converged or (failed and max(failed) > converged[-1].start()):
        steps = _LEFT_LOOP.findall(text)
        raise EvaluationError(
            FailureCode.NOT_CONVERGED,
            'no self-consistency within the allowed iterations' + (f' ({steps[-1]})' if steps else ''),
        )
    return int(converged[-1][1])


def read_scf_changes(text: str) -> list[float]:
    """Return the change of the density matrix in each iteration of the last self-consistency."""
    return positive_numbers(_STEP, text[text.rfind(_STEPS) :])


def stopped_in_time(text: str) -> bool:
    """Return whether CP2K ended the self-consistency because its time was over."""
    return _OUT_OF_TIME in text


def read_electrons(text: str) -> int:
    """Return the number of electrons of the last calculation, both spins together.

    :raises EvaluationError: ``'engine_failure'``: it is not printed.
    """
    spins = read_electrons_by_spin(text)
    if not spins:
        raise EvaluationError(FailureCode.ENGINE_FAILURE, 'CP2K printed no number of electrons')
    return sum(spins)


def read_electrons_by_spin(text: str) -> list[int]:
    """Return the number of electrons of each spin with which the last calculation began; empty if not printed."""
    blocks = list(re.finditer(r'^ ?(?:DFT\| )?Spin +(\d) *$', text, re.M))
    counts = [int(count) for count in _ELECTRONS.findall(text)]
    if not blocks:
        return counts[-1:]
    spins = blocks[-1][1] == '2'
    return counts[-2:] if spins else counts[-1:]


def read_forces(text: str, n_atoms: int) -> NDArray[np.float64]:
    """Read the last table of forces, (A, 3) in eV/Å.

    :raises EvaluationError: ``'engine_failure'``: it is not there, cut, or holds what is no number.
    """
    headings = list(FORCES_HEADING.finditer(text))
    rest = text[headings[-1].end() :] if headings else ''
    rows = _FORCES_ROWS['|' in headings[-1][0]].findall(rest) if headings else []
    if [int(row[0]) for row in rows[:n_atoms]] != list(range(1, n_atoms + 1)) or not _FORCES_END.search(rest):
        raise EvaluationError(FailureCode.ENGINE_FAILURE, f'CP2K printed no forces of all {n_atoms} atoms')
    values = to_numbers((word for row in rows[:n_atoms] for word in row[1:]), 'a force', LARGEST_FORCE_HARTREE_PER_BOHR)
    return values.reshape(n_atoms, 3) * (HARTREE_EV / BOHR_ANG)


def read_stress(text: str) -> NDArray[np.float64]:
    """Read the last stress tensor, (3, 3) in eV/Å³, as the derivative of the energy by the strain for each volume.

    CP2K prints the opposite sign, in GPa or bar.

    :raises EvaluationError: ``'engine_failure'``: it is not there, cut, not symmetric, or holds what is no number.
    """
    found = list(re.finditer(r'stress tensor \[(GPa|bar)\]', text, re.I))
    found = [one for one in found if 'igen' not in text[text.rfind('\n', 0, one.start()) : one.start()]]
    rows: list[tuple[str, str, str]] = []
    if found:
        rest = text[found[-1].end() : found[-1].end() + 2000]
        rows = [
            (row[1], row[2], row[3])
            for row in re.findall(r'^ *(?:STRESS\|)? +([xyzXYZ]) +(\S+) +(\S+) +(\S+) *$', rest, re.M)[:3]
        ]
    if len(rows) != 3:
        raise EvaluationError(FailureCode.ENGINE_FAILURE, 'CP2K printed no stress tensor')
    unit = GPA_PER_EV_PER_ANG3 * (1e4 if found[-1][1].lower() == 'bar' else 1.0)
    limit = LARGEST_STRESS_GPA * unit / GPA_PER_EV_PER_ANG3
    stress = to_numbers((word for row in rows for word in row), 'a stress', limit).reshape(3, 3)
    if np.abs(stress - stress.T).max() > 1e-4 * max(1.0, float(np.abs(stress).max())):
        raise EvaluationError(FailureCode.INCONSISTENT, 'the stress tensor is not symmetric')
    return np.asarray(-(stress + stress.T) / 2 / unit)


def to_numbers(words: Iterable[str], what: str, limit: float) -> NDArray[np.float64]:
    """Convert words to numbers as :func:`to_number` does."""
    return np.array([to_number(word, what, limit) for word in words])


def to_number(word: str, what: str, limit: float) -> float:
    """Convert a word of an output to a number.

    :param what: how to call it in a message.
    :param limit: greater ones are none.
    :raises EvaluationError: ``'engine_failure'``: stars, NaN, or beyond the limit.
    """
    value = fortran_number(word)
    if value is None:
        raise EvaluationError(FailureCode.ENGINE_FAILURE, f'{what} is {quoted(word)}, which is no number')
    if not abs(value) <= limit:
        raise EvaluationError(FailureCode.ENGINE_FAILURE, f'{what} is {quoted(word)}, which cannot be')
    return value


def _plain(text: str) -> str:
    """Return a text of several framed lines as one line."""
    lines = (_SIGN.sub('', line.strip().strip('*').strip()) for line in text.splitlines())
    return ' '.join(' '.join(lines).split())[:300]
