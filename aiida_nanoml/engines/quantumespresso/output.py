"""Reader of the standard output of pw.x: whether a run came to a good end, and the numbers that it prints."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from aiida_nanoml.engines.run_text import RunText, positive_numbers
from aiida_nanoml.errors import EvaluationError, FailureCode
from aiida_nanoml.text import quoted
from aiida_nanoml.units import BOHR_ANG, GPA_PER_EV_PER_ANG3, RYDBERG_EV

DONE = 'JOB DONE.'
"""Last line of a run that came to its end, good or bad."""

LARGEST_RY = 1e8
LARGEST_FORCE_RY_PER_BOHR = 1e4
LARGEST_STRESS_RY_PER_BOHR3 = 1e3
LARGEST_LEVEL_EV = 1e5
"""Numbers beyond these are a mistake."""

HEADER = re.compile(r'^ *Program PWSCF +v\.? *(\S+)(?: +\(svn rev[^)\n]{0,40}\))? +starts', re.MULTILINE)
_ERROR = re.compile(
    r'^ *(?:Error in routine|from) +(\S.*?) *(?:\((-?\d+)\))? *:(?: error # *-?\d+)? *\n(.*)$', re.MULTILINE
)
_ENERGY = re.compile(r'^!+ +total energy += +(\S+) Ry', re.MULTILINE)
_CONVERGED = re.compile(r'^ *convergence has been achieved in +(\d{1,6}) iterations', re.MULTILINE)
_NOT_CONVERGED = re.compile(r'^ *convergence NOT achieved(?: after +(\d+) iterations)?', re.MULTILINE)
_FORCE = re.compile(r'^ *atom +(\d{1,7}) +type +(\d{1,3}) +force = *(.*)$')
_SCF_ERROR = re.compile(r'^ *estimated scf accuracy +< +(\S+) Ry', re.MULTILINE)
_CYCLE = re.compile(r'^ *Self-consistent Calculation', re.MULTILINE)
_NUMBER = r'-?\d+\.\d+(?:[eEdD][-+]?\d+)?'
_TERM = re.compile(rf' +((?!internal energy|Harris)[A-Za-z][^=\n]{{3,40}}?) *= *({_NUMBER}) Ry')
_SMALLEST_TERMS = frozenset(
    {'one-electron contribution', 'hartree contribution', 'xc contribution', 'ewald contribution'}
)
_KNOWN_TERMS = _SMALLEST_TERMS | {
    'smearing contrib. (-ts)',
    'one-center paw contrib.',
    'hubbard energy',
    'dispersion correction',
    'dft-d dispersion',
    'dft-d3 dispersion',
}
_STRESS = re.compile(r'^ *total +stress +\(Ry/bohr\*\*3\) +\(kbar\) +P= *(\S+) *$', re.MULTILINE)
_KBAR_PER_RY_PER_BOHR3 = 10 * GPA_PER_EV_PER_ANG3 * RYDBERG_EV / BOHR_ANG**3
_BANDS = re.compile(r'^ +k =(.*?)(?:\( *\d+ PWs\) *)?(?: *(?:bands|band energies) \(ev\):?) *\n', re.MULTILINE)

_SYMPTOMS = (
    (
        re.compile(r'no space left on device|disk quota exceeded|file size limit exceeded|disk full', re.I),
        (FailureCode.DISK_FULL, 'the disk is full: {found}'),
    ),
    (
        re.compile(r'^.*(?:error (?:while )?writing|cannot write|davcio.*writ).*$', re.I | re.M),
        (FailureCode.DISK_FULL, 'a file cannot be written: {found}'),
    ),
    (
        re.compile(
            r'oom[-_ ]?kill|out of memory|cannot allocate memory|exceeded (?:job |step )?memory limit|std::bad_alloc'
            r'|allocation would exceed memory|insufficient virtual memory|error allocating|cannot allocate',
            re.I,
        ),
        (FailureCode.OUT_OF_MEMORY, 'the memory did not suffice: {found}'),
    ),
    (
        re.compile(r'^.*(?:pseudopotential file|file \S+\.(?:upf|rrkj3|van|vdb)) .*not found.*$', re.I | re.M),
        (FailureCode.MISSING_PSEUDOPOTENTIAL, '{found}'),
    ),
    (
        re.compile(r'Maximum CPU time exceeded|due to time limit|walltime.*exceeded', re.I),
        (FailureCode.WALL_TIME, 'pw.x stopped because its time was over'),
    ),
)
"""What a run that did not end well wrote, and the failure that it shows; the first match wins."""


@dataclass(frozen=True)
class ScfResult:
    """What the standard output prints about the last self-consistency.

    :param energy_ev: total energy, with the heat of the electrons where levels are smeared.
    :param n_iterations: iterations to self-consistency.
    :param fermi_ev: Fermi level; None if there is none for both spins.
    :param spin_fermi_ev: Fermi levels of both spins, None if there is one.
    :param homo_ev: highest occupied level as it is printed; None if it is not.
    :param levels_ev: levels (S, K, L); None where not all are printed.
    :param forces_ev_per_ang: (A, 3), None without.
    :param stress_ev_per_ang3: (3, 3), derivative of the energy by the strain for each volume; None without.
    :param moment_bohr: total spin moment, None without.
    :param position: of the energy in the text.
    :param descends: whether the printed levels do not ascend, as with occupations that were given.
    """

    energy_ev: float
    n_iterations: int
    fermi_ev: float | None
    spin_fermi_ev: tuple[float, float] | None
    homo_ev: float | None
    levels_ev: NDArray[np.float64] | None
    forces_ev_per_ang: NDArray[np.float64] | None
    stress_ev_per_ang3: NDArray[np.float64] | None
    moment_bohr: float | None
    position: int = 0
    descends: bool = False

    @property
    def has_edges(self) -> bool:
        """Whether a Fermi level or the highest occupied level is printed."""
        return any(value is not None for value in (self.fermi_ev, self.spin_fermi_ev, self.homo_ev))


class Output:
    """The standard output of one run of pw.x.

    :param text: its content, from the header of the program on.
    :param name: of the file, for messages.
    """

    def __init__(self, text: str, name: str) -> None:
        self.text = text
        self.name = name
        self._file = RunText(name, text)

    @cached_property
    def version(self) -> str | None:
        """Version of pw.x, for example ``6.7MaX``; None if the text is no output of pw.x."""
        return read_version(self.text)

    @property
    def is_done(self) -> bool:
        """Whether the run came to an end that pw.x meant."""
        return DONE in self.text

    def check_end(self, messages: str = '') -> None:
        """Check that the run ended, and that its last self-consistency converged.

        :param messages: what the program wrote elsewhere: its standard error, its file CRASH.
        :raises EvaluationError: the reason why there is no result.
        """
        stopped = _NOT_CONVERGED.search(self.text, self._last_start)
        failed = _ERROR.search(self.text)
        if not self.is_done or failed or stopped or 'Maximum CPU time exceeded' in self.text:
            if stopped and not failed:
                after = f' after {stopped[1]} iterations' if stopped[1] else ''
                raise EvaluationError(FailureCode.NOT_CONVERGED, f'no self-consistency{after}')
            raise self._diagnose(messages)

    def _diagnose(self, messages: str) -> EvaluationError:
        everything = '\n'.join((self.text[-20000:], messages))
        for pattern, (code, sentence) in _SYMPTOMS:
            if found := pattern.search(everything):
                return EvaluationError(code, sentence.format(found=' '.join(found[0].split())))
        if failed := (_ERROR.search(self.text) or _ERROR.search(messages)):
            reason = ' '.join(failed[3].split()) or 'it gives no reason'
            return EvaluationError(
                FailureCode.ENGINE_FAILURE, f'pw.x stopped in {" ".join(failed[1].split())}: {reason}'
            )
        if not self.text.strip():
            last = messages.strip().splitlines()[-1:]
            return EvaluationError(FailureCode.ENGINE_FAILURE, ': '.join(['pw.x wrote nothing', *last]))
        return EvaluationError(
            FailureCode.TRUNCATED, f'{self.name} ends before "{DONE}": the run was killed or its machine failed'
        )

    @property
    def _last_start(self) -> int:
        """Where the last self-consistency begins."""
        return self.cycles[-1][0] if self.cycles else 0

    @cached_property
    def cycles(self) -> list[tuple[int, int]]:
        """Where each self-consistency begins, and where the next one does."""
        starts = [match.start() for match in _CYCLE.finditer(self.text)]
        return list(zip(starts, [*starts, len(self.text)][1:], strict=True))

    def has_exact_exchange(self, start: int, end: int) -> bool:
        """Return whether the exact exchange of a hybrid functional converged in a part of the text."""
        return self.text.find('EXX self-consistency reached', start, end) >= 0

    def last_result(self) -> ScfResult:
        """Read what is printed about the last self-consistency.

        :raises EvaluationError: there is none that converged, or a number is not what it should be.
        """
        return self.result(*(self.cycles[-1] if self.cycles else (0, len(self.text))))

    def result(self, start: int, end: int) -> ScfResult:
        """Read what is printed about a self-consistency.

        :param start: where it begins.
        :param end: where the next one begins.
        :raises EvaluationError: it did not converge, or a number is not what it should be.
        """
        energy = _last(_ENERGY, self.text, start, end)
        converged = _last(_CONVERGED, self.text, start, end)
        if _NOT_CONVERGED.search(self.text, start, end):
            raise EvaluationError(FailureCode.NOT_CONVERGED, f'{self.name}: no self-consistency')
        if energy is None:
            raise EvaluationError(FailureCode.TRUNCATED, f'{self.name} gives no total energy of a self-consistency')
        if converged is None:
            raise EvaluationError(FailureCode.NOT_CONVERGED, f'{self.name} does not say that the energy converged')
        value = self._file.number(energy[1], energy.start(1), 'the total energy', LARGEST_RY)
        self._check_terms(energy, value)
        before = self.text.rfind('End of self-consistent calculation', start, energy.start())
        fermi, spin_fermi, homo = self._fermi(before, energy.start())
        levels = self._levels(before, energy.start()) if before >= 0 else None
        descends = levels is not None and bool((np.diff(levels, axis=2) < -1e-3).any())
        return ScfResult(
            energy_ev=value * RYDBERG_EV,
            n_iterations=int(converged[1]),
            fermi_ev=fermi,
            spin_fermi_ev=spin_fermi,
            homo_ev=homo,
            levels_ev=levels,
            forces_ev_per_ang=self._forces(energy.end(), end),
            stress_ev_per_ang3=self._stress(energy.end(), end),
            moment_bohr=self._moment(energy.end(), end),
            position=energy.start(),
            descends=descends,
        )

    def _check_terms(self, energy: re.Match[str], value: float) -> None:
        """Check the energy by the sum of the terms that follow it, if all of them are known."""
        end = self.text.find('convergence has', energy.end())
        lines = self.text[energy.end() : end].splitlines()
        found = [match for line in lines if (match := _TERM.fullmatch(line.rstrip())) is not None]
        terms = {match[1].strip().lower(): float(match[2]) for match in found}
        total = sum(terms.values())
        if (
            'electric field' in self.text
            or len(terms) < len(_SMALLEST_TERMS)
            or not _SMALLEST_TERMS <= set(terms) <= _KNOWN_TERMS
        ):
            return
        if abs(total - value) > 1e-7 * len(terms) + 1e-9 * abs(value):
            raise EvaluationError(
                FailureCode.INCONSISTENT,
                f'{self._file.place(energy.start())}: the total energy is {value:.8f} Ry, its terms add up to '
                f'{total:.8f} Ry',
            )

    def _fermi(self, start: int, end: int) -> tuple[float | None, tuple[float, float] | None, float | None]:
        """Return the Fermi level, those of both spins, and the highest occupied level."""
        part = self.text[max(start, 0) : end]
        offset = max(start, 0)

        def value(match: re.Match[str], group: int, what: str) -> float:
            return self._file.number(match[group], offset + match.start(group), what, LARGEST_LEVEL_EV)

        if found := re.search(r'^ *the Fermi energy is +(\S+) ev', part, re.M):
            return value(found, 1, 'the Fermi level'), None, None
        if found := re.search(r'^ *the spin up/dw Fermi energies are +(\S+) +(\S+) ev', part, re.M):
            return None, (value(found, 1, 'a Fermi level'), value(found, 2, 'a Fermi level')), None
        if found := re.search(r'^ *highest occupied(?:, lowest unoccupied)? level \(ev\): +(\S+)', part, re.M):
            return None, None, value(found, 1, 'the highest level')
        return None, None, None

    def _levels(self, start: int, end: int) -> NDArray[np.float64] | None:
        """Return the levels (S, K, L); None where not all are printed."""
        spins: list[list[list[float]]] = [[]]
        marks = [
            (m.start(), 'spin', m) for m in re.compile(r'^ *-+ SPIN (UP|DOWN) -+', re.M).finditer(self.text, start, end)
        ]
        marks += [(m.start(), 'k', m) for m in _BANDS.finditer(self.text, start, end)]
        for _, kind, match in sorted(marks, key=lambda mark: mark[0]):
            if kind == 'spin':
                if spins[-1]:
                    spins.append([])
                continue
            row: list[float] = []
            position = match.end()
            while position < end:
                stop = self.text.find('\n', position)
                line = self.text[position:stop]
                if row and not line.strip():
                    break
                # Numbers of ten characters may touch each other.
                words = re.findall(r'-?[^\s-]+', line)
                row += [self._file.number(word, position, 'a level', LARGEST_LEVEL_EV) for word in words]
                position = stop + 1
            spins[-1].append(row)
        sizes = {len(row) for spin in spins for row in spin}
        if len(sizes) != 1 or len({len(spin) for spin in spins}) != 1 or len(spins) > 2:
            return None
        return np.array(spins, dtype=np.float64)

    def _forces(self, start: int, end: int) -> NDArray[np.float64] | None:
        part = self._file
        heading = self.text.find('Forces acting on atoms', start, end)
        if heading < 0:
            return None
        rows: list[list[float]] = []
        position = self.text.find('\n', heading) + 1
        while position and position < end:
            stop = self.text.find('\n', position)
            stop = len(self.text) if stop < 0 else stop
            line = self.text[position:stop]
            found = _FORCE.match(line)
            if found is None:
                if rows:
                    break
                if line.strip():
                    break
            else:
                words = found[3].split()
                if int(found[1]) != len(rows) + 1 or len(words) != 3:
                    raise EvaluationError(
                        FailureCode.ENGINE_FAILURE,
                        f'{part.place(position)}: {quoted(line.strip())} found where the force on atom '
                        f'{len(rows) + 1} is expected',
                    )
                rows.append([part.number(word, position, 'a force', LARGEST_FORCE_RY_PER_BOHR) for word in words])
            position = stop + 1
        if not rows:
            return None
        forces = np.array(rows)
        norm = re.compile(r'^ *Total force = +(\S+)', re.M).search(self.text, heading, end)
        if norm:
            total = part.number(norm[1], norm.start(1), 'the total force', 1e9)
            # Forces on atoms that are held are not part of the total.
            if float(np.sqrt((forces**2).sum())) - total < -2e-6 - 1e-5 * total or (
                abs(float(np.sqrt((forces**2).sum())) - total) > 2e-6 + 1e-5 * total and 'nstep' not in self.text
            ):
                raise EvaluationError(
                    FailureCode.INCONSISTENT,
                    f'{part.place(norm.start())}: the forces have the norm {np.sqrt((forces**2).sum()):.6f} Ry/bohr, '
                    f'the output says {total:.6f}',
                )
        return forces * (RYDBERG_EV / BOHR_ANG)

    def _stress(self, start: int, end: int) -> NDArray[np.float64] | None:
        part = self._file
        heading = _STRESS.search(self.text, start, end)
        if heading is None:
            return None
        rows = []
        position = heading.end() + 1
        for _ in range(3):
            stop = self.text.find('\n', position)
            words = self.text[position:stop].split()
            if len(words) != 6:
                raise EvaluationError(
                    FailureCode.ENGINE_FAILURE,
                    f'{part.place(position)}: a row of the stress has {len(words)} numbers in place of 6',
                )
            rows.append([part.number(word, position, 'the stress', LARGEST_STRESS_RY_PER_BOHR3) for word in words[:3]])
            position = stop + 1
        stress = np.array(rows)
        pressure = part.number(heading[1], heading.start(1), 'the pressure', 1e9)
        if abs(float(np.trace(stress)) / 3 * _KBAR_PER_RY_PER_BOHR3 - pressure) > 0.02 + 1e-4 * abs(pressure):
            raise EvaluationError(
                FailureCode.INCONSISTENT,
                f'{part.place(heading.start())}: the stress tensor has the pressure '
                f'{np.trace(stress) / 3 * _KBAR_PER_RY_PER_BOHR3:.2f} kBar, the output says {pressure:.2f}',
            )
        return stress * (-RYDBERG_EV / BOHR_ANG**3)

    def _moment(self, start: int, end: int) -> float | None:
        found = re.compile(r'^ *total magnetization += +(\S+) Bohr mag/cell *$', re.M).search(self.text, start, end)
        return None if found is None else self._file.number(found[1], found.start(1), 'the spin moment', 1e6)


def _last(pattern: re.Pattern[str], text: str, start: int, end: int) -> re.Match[str] | None:
    found = None
    for match in pattern.finditer(text, start, end):
        found = match
    return found


def read_scf_errors(text: str) -> list[float]:
    """Return the estimated error of the energy of each iteration of the last self-consistency in Ry."""
    cycles = list(_CYCLE.finditer(text))
    return positive_numbers(_SCF_ERROR, text[cycles[-1].start() :]) if cycles else []


def read_version(text: str) -> str | None:
    """Read the version of pw.x from its standard output; None if there is none."""
    found = HEADER.search(text)
    return found[1] if found else None
