"""Checks of files of structures from elsewhere: what their readers would lose without a word, or hang on."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from aiida_nanoml.errors import StructureError
from aiida_nanoml.structures.elements import SYMBOLS
from aiida_nanoml.structures.stated import NO_STRUCTURE, XYZ_SUFFIXES, Stated
from aiida_nanoml.text import first_of, quoted

if TYPE_CHECKING:
    from ase import Atoms

COUNTED_SUFFIXES = ('.vasp', '.xv', '.xsf', '.poscar')
COUNTED_NAMES = ('POSCAR', 'CONTCAR')
"""Formats that begin with the number of atoms or of mesh points, and how their files are called."""

CHARGES = ('charge', 'total_charge', 'net_charge', 'molecular_charge')
CHARGE_COLUMNS = ('charges', 'charge', 'formal_charge', 'formal_charges')
MULTIPLICITIES = ('multiplicity', 'spin_multiplicity', 'mult')
"""How files call the net charge, the charges of atoms, and the spin multiplicity of a structure."""

_NOT_KEPT = 'of hydrogen, which a set cannot keep: write H, which has the same levels'
ISOTOPES = {'D': f'the isotope 2 {_NOT_KEPT}', 'T': f'the isotope 3 {_NOT_KEPT}'}

NEUTRAL = 0.001
"""Net charges that are named: those below are numerical noise; those of atoms, summed up, are rounded."""
NEUTRAL_SUM = 0.25

_HEAD_LINES = 12
_PROPERTIES = re.compile(r'\bProperties *= *"?([^\s"]+)')
_INTEGER = re.compile(r'[+-]?\d+', re.ASCII)
_FLOAT = re.compile(r'[+-]?\d*\.?\d*(?:[eEdD][+-]?\d+)?', re.ASCII)


def check_announced(path: Path) -> None:
    """Check that a file does not announce more atoms than it can hold.

    Readers make arrays of as many atoms, or look for as many lines.

    :raises StructureError: with the line.
    """
    if path.suffix.lower() in XYZ_SUFFIXES:
        _check_xyz(path, path.read_text(encoding='utf-8', errors='replace').split('\n'))
    elif path.suffix.lower() == '.gen':
        _check_gen(path, path.read_text(encoding='utf-8', errors='replace').split('\n'))
    elif path.suffix.lower() == '.cube':
        _check_counts(path)
        _check_cube(path, path.read_text(encoding='utf-8', errors='replace').split('\n'))
    elif path.suffix.lower() in COUNTED_SUFFIXES or path.name.upper().startswith(COUNTED_NAMES):
        _check_counts(path)


def _check_counts(path: Path) -> None:
    """Check that the numbers at the beginning of a file are not larger than the file."""
    size = path.stat().st_size
    with path.open(encoding='utf-8', errors='replace') as handle:
        for number, line in zip(range(1, _HEAD_LINES + 1), handle, strict=False):
            words = line.split()
            if not all(_FLOAT.fullmatch(word) for word in words):
                continue
            for word in words:
                if _INTEGER.fullmatch(word) and (len(word) > 18 or abs(int(word)) > size):
                    reason = f'{quoted(word)} atoms or points are announced, the file has {size} bytes'
                    raise _unreadable(path, number - 1, reason)


def _check_xyz(path: Path, lines: list[str]) -> None:
    """Check the numbers of atoms of all frames; what follows an empty line would be left out."""
    while lines and not lines[-1].strip():
        lines.pop()
    head = 0
    while head < len(lines):
        word = lines[head].strip()
        if not word:
            raise _unreadable(path, head, 'an empty line, and content after it that is no structure')
        if not _INTEGER.fullmatch(word):
            return  # the reader names what it expects
        n_atoms = int(word) if len(word) <= 18 else len(lines) + 1
        rest = max(0, len(lines) - head - 2)
        if not 1 <= n_atoms <= rest:
            raise _unreadable(path, head, f'{quoted(word)} atoms are announced, {rest} lines follow')
        _check_columns(path, lines, head + 1)
        head += n_atoms + 2
        while head < len(lines) and lines[head].startswith('VEC'):
            head += 1


def _check_columns(path: Path, lines: list[str], comment: int) -> None:
    """Check that the comment of a frame does not announce more columns than its first atom has."""
    found = _PROPERTIES.search(lines[comment])
    widths = found[1].split(':')[2::3] if found else []
    known = [int(width) for width in widths if _INTEGER.fullmatch(width) and len(width) <= 18]
    n_words = len(lines[comment + 1].split())
    if len(known) < len(widths) or sum(known) > n_words or min(known, default=1) < 1:
        raise _unreadable(path, comment, f'Properties announce the columns {", ".join(widths)}, {n_words} words follow')


def _check_gen(path: Path, lines: list[str]) -> None:
    """Check that as many atoms follow as are announced: the reader would take fewer."""
    words = lines[0].split() if lines else []
    if not words or not _INTEGER.fullmatch(words[0]):
        return  # the reader names what it expects
    found = 0
    while found + 2 < len(lines) and lines[found + 2].split()[:1] == [str(found + 1)]:
        found += 1
    if words[0] != str(found):
        raise _unreadable(path, 0, f'{quoted(words[0])} atoms are announced, {found} follow')


def _check_cube(path: Path, lines: list[str]) -> None:
    """Check that the labels of orbitals follow that a negative number of atoms announces: the reader waits for them."""
    try:
        n_atoms = int(lines[2].split()[0])
    except (IndexError, ValueError):
        return  # the reader names what it expects
    if n_atoms >= 0:
        return
    head = 6 - n_atoms
    labels = ' '.join(lines[head:]).split()
    try:
        announced = int(labels[0]) if labels else 1
    except ValueError:
        return
    if announced >= max(len(labels), 1):
        raise _unreadable(path, head, f'{announced} labels of orbitals are announced, {max(len(labels) - 1, 0)} follow')


def _unreadable(path: Path, index: int, reason: str) -> StructureError:
    return StructureError(f'{path} cannot be read as structures: line {index + 1}: {reason}')


def name_unknown_element(path: Path, symbol: str) -> str:
    """Describe a symbol that is no element, with its line where the file is a text that has it as a word."""
    with path.open(encoding='utf-8', errors='replace') as handle:
        for number, line in enumerate(handle, start=1):
            found = [word for word in line.split() if word.lower() == symbol.lower()]
            if found:
                return f'{quoted(found[0])} on line {number} is {describe_unknown(symbol)}'
    return f'{quoted(symbol)} is {describe_unknown(symbol)}'


def describe_unknown(symbol: str) -> str:
    """Say what a symbol is that is no element."""
    return ISOTOPES.get(symbol.upper(), 'no element that is known here')


def check_definite(atoms: Atoms, said: Stated) -> None:
    """Check that a structure is what a set can hold: atoms of elements on every site, without a net charge.

    :param atoms: as ASE read them.
    :param said: what the file says beside that.
    :raises StructureError: ghost atoms, isotopes, shared or partly filled sites, a net charge, or a spin state.
    """
    for index, number in enumerate(atoms.numbers.tolist()):
        if not 0 < number < len(SYMBOLS):
            kind = 'is a ghost' if number < 0 else 'is no element'
            raise StructureError(
                f'atom {index} {kind} (atomic number {number}): a set holds atoms only; remove it'
                + (' where only its basis functions were meant' if number < 0 else '')
            )
    heavy = np.flatnonzero((atoms.numbers == 1) & (atoms.get_masses() > 1.5))
    if len(heavy):
        raise StructureError(f'atom {heavy[0]} is {ISOTOPES["D"]}')
    _check_occupancy(atoms)
    stated = {**_parameters(atoms), **atoms.info}
    of_atoms = max(map(_total, _charges_of_atoms(atoms)), key=abs)
    charges = [said.charge, *(_number(stated.get(key)) for key in CHARGES)]
    net = max([*charges, of_atoms if abs(of_atoms) > NEUTRAL_SUM else 0.0], key=abs)
    check_neutral(net, said.place)
    multiplicity = max(said.multiplicity, *(_number(stated.get(key)) for key in MULTIPLICITIES))
    if multiplicity > 1 + int(atoms.numbers.sum()) % 2:
        raise StructureError(
            f'the spin multiplicity {multiplicity:g} is stated{said.place}, which a set of structures cannot keep; '
            'take it out of the file if the lowest one is meant'
        )


def _charges_of_atoms(atoms: Atoms) -> list[Any]:
    """Return the columns of charges: initial ones, those of a calculation, and others that are called so."""
    computed = getattr(atoms.calc, 'results', {}).get('charges')
    columns = [atoms.get_initial_charges(), *(atoms.arrays[name] for name in CHARGE_COLUMNS if name in atoms.arrays)]
    return columns if computed is None else [*columns, computed]


def _total(charges: Any) -> float:
    values = np.asarray(charges)
    return float(values.sum()) if values.ndim == 1 and values.dtype.kind in 'if' else 0.0


def check_neutral(net: float, place: str = '') -> None:
    """Check that a net charge that a file states is none.

    :param place: where it is stated, for the message.
    :raises StructureError: it is one.
    """
    if abs(net) > NEUTRAL:
        raise StructureError(
            f'a net charge of {net:+g} is stated{place}, which a set of structures cannot keep: it would be treated as '
            'neutral; take the charge out of the file if the neutral structure is meant'
        )


def _check_occupancy(atoms: Atoms) -> None:
    """Check that every site is filled by one kind of atom."""
    sites = atoms.info.get('occupancy')
    for site, shares in sites.items() if isinstance(sites, Mapping) else ():
        if len(shares) > 1 or any(not abs(_number(share) - 1.0) <= 1e-3 for share in shares.values()):
            content = [f'{symbol} {share}' for symbol, share in shares.items()]
            what = 'is shared by' if len(shares) > 1 else 'is partly filled by'
            raise StructureError(f'site {site} {what} {first_of(content, 8)}: {NO_STRUCTURE}')
    filled = atoms.arrays.get('occupancy')
    partly = np.flatnonzero((filled > 1e-3) & (filled < 1 - 1e-3)) if filled is not None else np.empty(0)
    if len(partly):
        raise StructureError(
            f'atom {partly[0]} is there by {filled[partly[0]]:g} only: a mean site is no structure; keep one of its '
            'places'
        )


def _parameters(atoms: Atoms) -> dict[str, Any]:
    """Return the parameters of the calculation whose input the file is."""
    found = getattr(atoms.calc, 'parameters', None)
    return dict(found) if isinstance(found, Mapping) else {}


def _number(value: Any) -> float:
    if isinstance(value, bool):
        return 0.0  # a word of a comment that stands alone
    try:
        return float(value)
    except (TypeError, ValueError):
        return 0.0
