"""What files of structures state and readers leave out: net charges, spins, and two elements in one place."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from aiida_nanoml.errors import StructureError
from aiida_nanoml.text import quoted

XYZ_SUFFIXES = ('.xyz', '.extxyz')
GAUSSIAN_SUFFIXES = ('.com', '.gjf')
INPUT_SUFFIXES = ('.pwi', '.in', '.inp', '.nw', '.nwi')
PDB_SUFFIXES = ('.pdb', '.ent')

SAME_PLACE_ANG = 0.1
"""Atoms that are closer than this share a site."""

NO_STRUCTURE = (
    'a mean site is no structure; an ordered cell is needed (for example a special quasi-random one, alloys generate)'
)

_NUMBER = r'[+-]?\d+(?:\.\d*)?(?!\w)'
_CHARGE = re.compile(
    rf"""(?<![\w])(?:(?:total|net|tot|molecular|mol)[ _-]?)?charge["']?\s*[:=]?\s*["']?(?P<value>{_NUMBER}[+-]?)""",
    re.IGNORECASE,
)
_MULTIPLICITY = re.compile(
    rf"""(?<![\w])(?:spin[ _-]?)?mult(?:iplicity)?["']?\s*[:=]?\s*["']?(?P<value>{_NUMBER})""", re.IGNORECASE
)
_PAIR = re.compile(r'\s*(?P<charge>[+-]?\d)\s*[ ,]\s*(?P<multiplicity>[1-9])\s*')
"""Charge and multiplicity, as inputs of Gaussian and ORCA have them; also the whole comment of an XYZ file."""


class Stated(NamedTuple):
    """What a file says of one structure.

    :param charge: net charge, 0 where nothing is said.
    :param multiplicity: of the spin, 0 where nothing is said.
    :param place: where two numbers alone are taken for both, in words.
    """

    charge: float = 0.0
    multiplicity: float = 0.0
    place: str = ''


def stated_of(path: Path, n_structures: int, index: str | int = ':') -> list[Stated]:
    """Return what a text file states of each structure.

    :param path: the file; what is looked for follows from its suffix.
    :param n_structures: number of structures that were read.
    :param index: ASE's index, by which they were chosen.
    """
    found = _stated_of_all(path)
    if len(found) != 1:
        found = found[_slice(index)]
    elif n_structures > 1:  # one input of several images
        found = found * n_structures
    return found if len(found) == n_structures else [Stated()] * n_structures


def _stated_of_all(path: Path) -> list[Stated]:
    suffix = path.suffix.lower()
    if suffix in XYZ_SUFFIXES:
        return [_in_words(comment, pair=True) for comment in _comments(_lines(path))]
    if suffix in PDB_SUFFIXES:
        return [_of_pdb(model) for model in _models(_lines(path))]
    if suffix in GAUSSIAN_SUFFIXES:
        return [_first_pair(_lines(path))]
    if suffix in INPUT_SUFFIXES:
        named = [_in_words(re.split('[!#]', line)[0]) for line in _lines(path)]
        return [max(named, key=lambda one: abs(one.charge), default=Stated())]
    return []


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding='utf-8', errors='replace').splitlines()


def _slice(index: str | int) -> slice:
    from ase.io.formats import string2index

    found = string2index(index) if isinstance(index, str) else index
    return found if isinstance(found, slice) else slice(found, found + 1 or None)


def _comments(lines: Sequence[str]) -> Iterator[str]:
    """Return the second line of each frame of an XYZ file."""
    head = 0
    while head + 1 < len(lines) and lines[head].strip().isdecimal():
        yield lines[head + 1]
        head += int(lines[head]) + 2
        while head < len(lines) and lines[head].startswith('VEC'):
            head += 1


def _in_words(text: str, pair: bool = False) -> Stated:
    """Return a charge and a multiplicity that a line names; with ``pair`` also two numbers that are all of it."""
    numbers = _PAIR.fullmatch(text) if pair else None
    if numbers is not None:
        return _of_pair(numbers)
    charge, multiplicity = _CHARGE.search(text), _MULTIPLICITY.search(text)
    return Stated(
        0.0 if charge is None else _signed(charge['value']),
        0.0 if multiplicity is None else float(multiplicity['value']),
    )


def _signed(text: str) -> float:
    """Read ``-2``, ``+1`` and ``2-``."""
    return float(text[-1] + text[:-1]) if text[-1] in '+-' else float(text)


def _first_pair(lines: Sequence[str]) -> Stated:
    for line in lines:
        found = _PAIR.fullmatch(line)
        if found is not None:
            return _of_pair(found)
    return Stated()


def _of_pair(found: re.Match[str]) -> Stated:
    place = f' in {quoted(found[0].strip())}, charge and multiplicity'
    return Stated(float(found['charge']), float(found['multiplicity']), place)


def _models(lines: Sequence[str]) -> Iterator[list[str]]:
    model: list[str] = []
    for line in lines:
        if line.startswith('ENDMDL'):
            yield model
            model = []
        elif line.startswith(('ATOM', 'HETATM')):
            model.append(line)
    if model:
        yield model


def _of_pdb(lines: Sequence[str]) -> Stated:
    """Sum up the charges in the last columns of atoms: ``1+`` or ``2-``."""
    charges = [line[78:80].strip() for line in lines]
    return Stated(sum(_signed(charge) for charge in charges if re.fullmatch(r'\d[+-]', charge)))


def check_places(path: Path) -> None:
    """Check that no two elements of a CIF file are in one place without an occupancy: ASE takes the first one alone.

    :param path: a file that ASE reads.
    :raises StructureError: with both sites.
    """
    from ase.io.cif import parse_cif

    for block in parse_cif(str(path)):
        if not block.has_structure() or block.get('_atom_site_occupancy') is not None:
            continue  # shares are checked where ASE gives them
        listed = block.get_unsymmetrized_structure()
        symbols, places = np.array(listed.get_chemical_symbols()), listed.get_scaled_positions()
        group, cell = block.get_spacegroup(True), listed.cell.array
        for first, symbol in enumerate(symbols):
            others = np.flatnonzero(symbols[first + 1 :] != symbol) + first + 1
            if not len(others):
                continue
            equivalent = group.equivalent_sites([places[first]])[0]
            apart = places[others][:, None, :] - equivalent[None, :, :]
            distances = np.linalg.norm((apart - np.round(apart)) @ cell, axis=-1).min(axis=1)
            if distances.min() < SAME_PLACE_ANG:
                second = others[distances.argmin()]
                raise StructureError(
                    f'site {first} is shared by {symbol} and {symbols[second]} (site {second}): {NO_STRUCTURE}'
                )
