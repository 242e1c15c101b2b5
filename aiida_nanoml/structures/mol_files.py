"""Records of MOL and SDF files: ASE reads one of them, without its charge."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING

from aiida_nanoml.structures.file_checks import describe_unknown
from aiida_nanoml.text import quoted

if TYPE_CHECKING:
    from ase import Atoms

MOL_SUFFIXES = ('.sdf', '.sd', '.mol')

_CODES = {1: 3, 2: 2, 3: 1, 5: -1, 6: -2, 7: -3}
"""Charge that a code in the line of an atom stands for; 4 is a radical."""

_COUNTS = re.compile(r'([ \d]{3})[ \d]{3}.*V2000')


def read_mol(content: str, index: str | int) -> tuple[list[Atoms], list[float]]:
    """Read the records of a file in the format V2000.

    :param index: which records: ASE's index.
    :returns: the atoms, named by the first line of their record if it has any, and the net charges.
    :raises ValueError: a record is not what it should be; it is named by its number, from 1 on.
    """
    from ase.io.formats import string2index

    records = _records(content)
    chosen = string2index(index) if isinstance(index, str) else index
    numbers = range(len(records))[chosen]
    found = [
        _read_record(records[number], number + 1) for number in ([numbers] if isinstance(numbers, int) else numbers)
    ]
    return [atoms for atoms, _ in found], [charge for _, charge in found]


def _records(content: str) -> list[str]:
    records = re.split(r'^\$\$\$\$.*\n?', content.replace('\r\n', '\n'), flags=re.MULTILINE)
    return [record for record in records if record.strip()]


def _read_record(record: str, number: int) -> tuple[Atoms, float]:
    from ase.io.sdf import read_sdf

    lines = record.split('\n')
    counts = _COUNTS.match(lines[3]) if len(lines) > 3 else None
    if counts is None or not counts[1].strip():
        head = quoted(lines[3].strip()) if len(lines) > 3 else 'nothing'
        raise ValueError(f'record {number}: numbers of atoms and bonds in the format V2000 are expected, not {head}')
    n_atoms, first = int(counts[1]), 4
    rows = 0
    while first + rows < len(lines) and _is_atom(lines[first + rows]):
        rows += 1
    if rows != n_atoms or not n_atoms:
        raise ValueError(f'record {number}: {n_atoms} atoms are announced, {rows} follow')
    try:
        atoms = read_sdf(io.StringIO(record))
    except KeyError as error:
        symbol = str(error.args[0])
        raise ValueError(f'record {number}: {quoted(symbol)} is {describe_unknown(symbol)}') from error
    if any(line.startswith('M  ISO') for line in lines):
        raise ValueError(f'record {number}: isotopes are stated (M  ISO), which a set cannot keep: take the line out')
    name = lines[0].strip()
    if name:
        atoms.info['name'] = name
    return atoms, _charge(lines, n_atoms)


def _is_atom(line: str) -> bool:
    words = line.split()
    return len(words) >= 4 and words[3][:1].isalpha()


def _charge(lines: list[str], n_atoms: int) -> float:
    """Return the net charge: that of the lines ``M  CHG``, without any that of the codes in the lines of the atoms."""
    stated = [line.split()[3:] for line in lines if line.startswith('M  CHG')]
    if stated:
        return float(sum(int(charge) for words in stated for charge in words[1::2]))
    codes = [line.split() for line in lines[4 : 4 + n_atoms]]
    return float(sum(_CODES.get(int(words[5]), 0) for words in codes if len(words) > 5 and words[5].isdigit()))
