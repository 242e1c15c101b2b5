"""Identification of the pseudopotentials of a finished run: its output compared with files.

A run whose pseudopotential files are gone still says in its output how they were generated. With a psf file these are
the configuration and its radii, the program, the valence charge, and the radii beyond which each potential is that of
a point charge; with a psml file it is the file's own UUID. A file that agrees in all of this is taken for the one that
was used; one that differs in anything is refused.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import PurePath
from typing import Any
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from aiida_nanoml.errors import EngineError

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
    except ElementTree.ParseError as error:
        raise EngineError(f'not a psml file: {error}') from error
    return str(root.get('uuid', '')).lower()


def _read_psf(content: str) -> UsedPseudopotential:
    """Read of a psf file what SIESTA prints about it."""
    lines = content.splitlines()
    try:
        element, _, relativity = lines[0].split()[:3]
        n_down, _, n_points, _, _, charge = (float(word) for word in lines[3].split()[:6])
        grid = _block(lines, 5, int(n_points))
        radii = {}
        start = 5 + _length(lines, 5)
        for _ in range(int(n_down)):
            momentum = int(lines[start + 1])
            potential = _block(lines, start + 2, int(n_points))
            beyond = np.flatnonzero(np.abs(potential + 2.0 * charge) > POINT_CHARGE_TOLERANCE_RY_BOHR)
            radii[momentum] = f'{grid[beyond[-1]]:.4f}' if beyond.size else '0.0000'
            start += 2 + _length(lines, start + 2)
    except (IndexError, ValueError) as error:
        raise EngineError(f'not a psf file: {error}') from error
    return UsedPseudopotential(
        species=element,
        shells=tuple(match.groups() for match in _PSF_SHELL.finditer(lines[2])),
        relativistic=relativity == 'rel',
        method=' '.join((lines[1][1:11] + lines[1][21:]).split()),  # the second field is the date
        valence_charge=charge,
        radii_bohr=radii,
    )


def _length(lines: list[str], start: int) -> int:
    """Return the number of lines of a block of numbers, up to the words that head the next one."""
    return next(n for n, line in enumerate(lines[start:]) if re.search(r'[A-DF-Za-df-z]', line))


def _block(lines: list[str], start: int, n_points: int) -> NDArray[np.float64]:
    text = ''.join(line.ljust(80)[:80] for line in lines[start : start + _length(lines, start)])
    numbers = [text[first:last] for first, last in pairwise(range(0, 20 * (n_points + 1), 20))]
    return np.array(numbers, dtype=np.float64)
