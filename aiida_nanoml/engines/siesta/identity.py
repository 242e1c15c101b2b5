"""Identification of the pseudopotentials of a finished run: its output compared with files.

A run whose pseudopotential files are gone still says in its output how they were generated. With a psf file these are
the configuration and its radii, the program, the valence charge, and the radii beyond which each potential is that of
a point charge; with a psml file it is the file's own UUID. A file that agrees in all of this is taken for the one that
was used; one that differs in anything is refused.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import PurePath
from typing import Any
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from aiida_nanoml.engines.run_text import fortran_number
from aiida_nanoml.errors import EngineError
from aiida_nanoml.text import quoted

POINT_CHARGE_TOLERANCE_RY_BOHR = 1e-4
"""SIESTA takes a potential for that of a point charge where r V differs by less than this from -2 Z."""

_FILE = re.compile(r'^ *Reading pseudopotential information in (?:un)?formatted form from +(\S+)')
_PSML = re.compile(r'^ *Reading pseudopotential information in PSML from:')
_SPECIES = re.compile(r'^-+ *Processing specs for species: *(\S+)')
_UUID = re.compile(r'^ *PSML uuid: *(\S+)')
_SHELL = re.compile(r'^ *(\d[spdfg])\( *(\d+\.\d+)\) +rc: *(\d+\.\d+)')
_RELATIVISTIC = re.compile(r'^ *Pseudopotential generated from a (?:fully )?relativistic')
_ATOM = re.compile(r'^ *atom: Called for +(\S+) +\(Z = *(-?\d+)')
_METHOD = re.compile(r'^ *read_vps: (?!Pseudopotential generation method)(.*)')
_CHARGE = re.compile(r'^ *Total valence charge: +(\d+\.\d+)')
_RADIUS = re.compile(r'^ *V l=(\d) = -2\*Zval/r beyond r= *(\d+\.\d+)')
_TELLING = re.compile(
    'Reading pseudopotential|Processing specs|PSML uuid|rc:|Pseudopotential generated|atom: Called|read_vps:'
    '|Total valence charge|Zval/r beyond|^prinput:'
)
"""What only lines hold that one of these patterns may match: most lines are told apart by one search."""

MOST_MOMENTA = 6
MOST_POINTS = 100_000
LARGEST_NUMBER = 1e8
"""A psf file with more potentials or points, or with larger numbers, is none."""

_PSF_COUNT = re.compile(r'\d{1,9}', re.ASCII)
_PSF_SHELL = re.compile(r'(\d[spdfg]) *(\d+\.\d+)[^/]*?r= *(\d+\.\d+)/')


@dataclass
class UsedPseudopotential:
    """What an output contains about the pseudopotential of one species; what is missing is empty.

    :param species: label of the species.
    :param file: name of the file.
    :param shells: orbital, occupation and cutoff radius in bohr of the configuration, as they are printed.
    :param relativistic: whether the atom was treated relativistically.
    :param method: program and scheme.
    :param valence_charge: number of valence electrons.
    :param radii_bohr: by angular momentum, where the potential becomes that of a point charge.
    :param uuid: identity of a psml file.
    """

    species: str
    file: str = ''
    shells: tuple[tuple[str, ...], ...] = ()
    relativistic: bool = False
    method: str = ''
    valence_charge: float | None = None
    radii_bohr: dict[int, str] = field(default_factory=dict)
    uuid: str = ''

    @property
    def is_known(self) -> bool:
        """Whether the output contains enough to recognise the file."""
        return bool(self.uuid or (self.shells and self.radii_bohr))


@lru_cache(maxsize=4)
def used_pseudopotentials(output: str) -> dict[str, UsedPseudopotential]:
    """Read what the output of a run contains about its pseudopotentials.

    :param output: text of the output.
    :returns: by label of the species.
    """
    found: dict[str, UsedPseudopotential] = {}
    current: UsedPseudopotential | None = None
    file_follows = False
    for line in output.splitlines():
        if file_follows and current is not None:
            current.file, file_follows = line.strip(), False
        elif _TELLING.search(line) is None:
            continue
        elif match := _FILE.match(line):
            current = found.setdefault(PurePath(match[1]).stem, UsedPseudopotential(PurePath(match[1]).stem))
            current.file = match[1]
        elif match := (_SPECIES.match(line) or _ATOM.match(line)):
            current = found.setdefault(match[1], UsedPseudopotential(match[1]))
        elif current is None:
            continue
        elif _PSML.match(line):
            file_follows = True
        elif match := _UUID.match(line):
            current.uuid = match[1].lower()
        elif match := _SHELL.match(line):
            current.shells += (match.groups(),)
        elif _RELATIVISTIC.match(line):
            current.relativistic = True
        elif match := _METHOD.match(line):
            current.method = ' '.join(match[1].split())
        elif match := _CHARGE.match(line):
            current.valence_charge = float(match[1])
        elif match := _RADIUS.match(line):
            current.radii_bohr[int(match[1])] = match[2]
        elif line.startswith('prinput:'):
            break
    return found


@dataclass(frozen=True)
class PseudopotentialFile:
    """A pseudopotential file as far as an output can distinguish it from others.

    :param file_format: ``'psf'`` or ``'psml'``.
    :param printed: what SIESTA would print about it.
    """

    file_format: str
    printed: UsedPseudopotential


def read_pseudopotential(content: str, file_format: str) -> PseudopotentialFile:
    """Read of a pseudopotential file what SIESTA prints about it.

    :param content: text of the file.
    :param file_format: ``'psf'`` or ``'psml'``.
    :raises EngineError: the file cannot be read.
    """
    if file_format == 'psml':
        return PseudopotentialFile('psml', UsedPseudopotential('', uuid=_psml_uuid(content)))
    return PseudopotentialFile('psf', _read_psf(content))


def disagreement(used: UsedPseudopotential, file: PseudopotentialFile) -> str | None:
    """Compare a pseudopotential file with an output.

    :param used: from :func:`used_pseudopotentials`.
    :param file: from :func:`read_pseudopotential`.
    :returns: what speaks against the file, in words that follow its name; None if it is the one that was used.
    """
    if not used.is_known:
        return 'cannot be recognised: the output does not say how the pseudopotential was made'
    here = file.printed
    if (file.file_format == 'psml') != bool(used.uuid):
        return f'is of the format {file.file_format}, the output names {"psml" if used.uuid else "psf"}'
    if file.file_format == 'psml':
        return None if here.uuid == used.uuid else f'has the UUID {here.uuid or "(none)"}, the output {used.uuid}'
    charge = here.valence_charge if used.valence_charge is None else used.valence_charge
    configuration = sum(float(shell[1]) for shell in here.shells)
    if charge == configuration < (here.valence_charge or 0.0):
        charge = here.valence_charge  # generated as a cation: SIESTA prints the charge of the configuration
    for name, ours, theirs in (
        ('shells', here.shells, used.shells),
        ('treatment of relativity', here.relativistic, used.relativistic),
        ('method', here.method, used.method or here.method),
        ('valence charge', here.valence_charge, charge),
        ('radii', {momentum: here.radii_bohr.get(momentum) for momentum in used.radii_bohr}, used.radii_bohr),
    ):
        if ours != theirs:
            return f'differs in the {name}: {_words(ours)}, and {_words(theirs)} in the output'
    return None


def _words(value: Any) -> str:
    if isinstance(value, dict):
        return ', '.join(f'l={momentum} {radius} bohr' for momentum, radius in value.items())
    if isinstance(value, tuple):
        return ' '.join(f'{shell} {occupation} rc {radius}' for shell, occupation, radius in value)
    return str(value)


def _psml_uuid(content: str) -> str:
    # A document type is where an XML file can name others, or grow without end; a psml file has none.
    if '<!DOCTYPE' in content or '<!ENTITY' in content:
        raise EngineError('a psml file with a document type is refused')
    try:
        root = ElementTree.fromstring(content)  # noqa: S314 - see above
    except (ElementTree.ParseError, ValueError) as error:
        raise EngineError(f'not a psml file: {error}') from error
    return str(root.get('uuid', '')).lower()


def _read_psf(content: str) -> UsedPseudopotential:
    """Read of a psf file what SIESTA prints about it.

    :raises EngineError: the file is no psf file, or not whole; it names the line.
    """
    lines = content.splitlines()
    if len(lines) < 6:
        raise EngineError('not a psf file: it ends before the grid')
    head = lines[0].split()
    if len(head) < 3:
        raise EngineError('line 1: not a psf file: element, functional and relativity are expected')
    n_down, n_up, n_points, charge = _psf_sizes(lines[3].split())
    if 4 * (len(lines) - 5) < n_points:
        raise EngineError(f'line 4: {n_points} points are announced, the file has {len(lines)} lines')
    blocks = _PsfBlocks(lines, n_points)
    grid = blocks.headed()
    if grid[0] <= 0 or np.any(np.diff(grid) <= 0):
        raise EngineError(f'line 6: the radial grid of {n_points} points does not ascend')
    radii: dict[int, str] = {}
    for number in range(n_down + n_up):
        momentum = blocks.momentum()
        potential = blocks.numbers()
        if number < n_down:
            beyond = np.flatnonzero(np.abs(potential + 2.0 * charge) > POINT_CHARGE_TOLERANCE_RY_BOHR)
            radii[momentum] = f'{grid[beyond[-1]]:.4f}' if beyond.size else '0.0000'
    for _ in ('core', 'valence'):
        blocks.headed()
    return UsedPseudopotential(
        species=head[0],
        shells=tuple(match.groups() for match in _PSF_SHELL.finditer(lines[2][:1000])),
        relativistic=head[2] == 'rel',
        method=' '.join((lines[1][1:11] + lines[1][21:]).split()),  # the second field is the date
        valence_charge=charge,
        radii_bohr=radii,
    )


def _psf_sizes(words: list[str]) -> tuple[int, int, int, float]:
    """Return the numbers of potentials of both spins, of points, and the charge of the core."""
    if len(words) < 6 or not all(_PSF_COUNT.fullmatch(word) for word in words[:3]):
        raise EngineError('line 4: not a psf file: the numbers of potentials and of points are expected')
    n_down, n_up, n_points = map(int, words[:3])
    charge = _finite(words[5], 4)
    if not (1 <= n_down <= MOST_MOMENTA and n_up <= n_down and 2 <= n_points <= MOST_POINTS and 0 < charge < 120):
        raise EngineError(
            f'line 4: {n_down} and {n_up} potentials on {n_points} points of a core of charge {charge:g} are no '
            'pseudopotential'
        )
    return n_down, n_up, n_points, charge


def _finite(word: str, line: int) -> float:
    value = fortran_number(word.strip())
    if value is None or abs(value) > LARGEST_NUMBER:
        raise EngineError(f'line {line}: {quoted(word.strip())} is no finite number')
    return value


class _PsfBlocks:
    """Blocks of numbers of a psf file, one after the other.

    :param lines: of the file; the first block begins in the fifth, with its heading.
    :param n_points: numbers in each block.
    """

    def __init__(self, lines: list[str], n_points: int) -> None:
        self._lines = lines
        self._n_points = n_points
        self._next = 4

    def _pass_heading(self) -> None:
        if self._next >= len(self._lines):
            raise EngineError(f'line {self._next + 1}: the file ends where a heading is expected: it is cut')
        if not re.search(r'[A-DF-Za-df-z]', self._lines[self._next]):
            raise EngineError(f'line {self._next + 1}: {quoted(self._lines[self._next].strip())} is no heading')
        self._next += 1

    def momentum(self) -> int:
        """Return the angular momentum that stands between the heading and the numbers of a potential."""
        self._pass_heading()
        word = self._lines[self._next].strip() if self._next < len(self._lines) else ''
        if not _PSF_COUNT.fullmatch(word) or int(word) >= MOST_MOMENTA:
            raise EngineError(f'line {self._next + 1}: {quoted(word)} is no angular momentum')
        self._next += 1
        return int(word)

    def headed(self) -> NDArray[np.float64]:
        """Return the numbers of the next block, below its heading."""
        self._pass_heading()
        return self.numbers()

    def numbers(self) -> NDArray[np.float64]:
        """Return the numbers of a block, four in a line of 20 characters each."""
        start, n_lines = self._next, -(-self._n_points // 4)
        rows = self._lines[start : start + n_lines]
        # A number that is cut is still a number: only the width of its field shows a cut. Without an exponent, the
        # field ends with four blanks.
        end = 20 * (self._n_points - 4 * (n_lines - 1)) - 4
        if len(rows) < n_lines or len(rows[-1].rstrip()) not in (end, end + 4):
            raise EngineError(f'line {len(self._lines)}: the file ends within a block of {self._n_points} numbers')
        text = ''.join(row.ljust(80)[:80] for row in rows)
        words = [text[first : first + 20] for first in range(0, 20 * self._n_points, 20)]
        try:
            numbers = np.array(words, dtype=np.float64)
        except ValueError:
            numbers = np.full(1, np.nan)
        if not np.all(np.abs(numbers) <= LARGEST_NUMBER):
            numbers = np.array([_finite(word, start + 1 + index // 4) for index, word in enumerate(words)])
        self._next += n_lines
        return numbers
