"""Levels of a run whose file of levels is gone: what its output, its XML file or its bands hold."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aiida_nanoml.engines.run_text import RunText, last_match
from aiida_nanoml.engines.siesta.levels import LARGEST_LEVEL_EV

Floats = NDArray[np.float64]

_PRINTED_HEADING = r'^siesta: Eigenvalues \(eV\):\n +ik +is +eps *\n'
_PRINTED_ROW = re.compile(r' *(\d+) +([12])((?: *-?\d+\.\d{4})+) *$')
_PRINTED_REST = re.compile(r'(?: *-?\d+\.\d{4})+ *$')
_PRINTED_LEVEL = re.compile(r'-?\d+\.\d{4}')
_FERMI = r'^siesta: +Fermi(?: energy)? += +(\S+)'
_SPINS = re.compile(r'^redata: Number of spin components +=? +(\d+)', re.MULTILINE)
_XML_LEVELS = re.compile(r'dictRef="siesta:eigenenergies"[^>]{0,99}>\s{0,99}<array[^>]{0,199}>([^<]*)<')


@dataclass(frozen=True)
class FoundLevels:
    """Levels that are not those of a file of levels.

    :param levels: (S, K, L) in eV.
    :param fermi_ev: Fermi level.
    :param name: of the file that holds them.
    :param of_mesh: whether the k-points are those of the run, and not those along bands.
    """

    levels: Floats
    fermi_ev: float
    name: str
    of_mesh: bool


def find_levels(read: Callable[[str], str | None], prefix: str, output: RunText) -> FoundLevels | None:
    """Find the levels of a run without a file of levels; None if no other file holds them whole.

    :param read: returns the text of a file of the run by name.
    :param prefix: the system label.
    :param output: the standard output.
    """
    fermi = output.last(_FERMI, 'the Fermi energy', LARGEST_LEVEL_EV)
    spins = _SPINS.search(output.text)
    n_spins = int(spins[1]) if spins else 1
    if n_spins > 2:
        return None
    if fermi is not None:
        xml = RunText(f'{prefix}.xml', read(f'{prefix}.xml') or '')
        for name, levels in ((xml.name, _read_xml(xml.text, n_spins)), (output.name, _read_printed(output.text))):
            if levels is not None and len(levels) == n_spins:
                return FoundLevels(levels, fermi, name, of_mesh=True)
    bands = f'{prefix}.bands'
    return _read_bands(bands, read(bands) or '', n_spins)


def _read_xml(text: str, n_spins: int) -> Floats | None:
    section = text.rfind('title="Eigenvalues"')
    if section < 0:
        return None
    rows = [_numbers(found) for found in _XML_LEVELS.findall(text, section)]
    # With two spins and several k-points, versions differ in what comes first.
    if not rows or len({len(row) for row in rows}) != 1 or not len(rows[0]) or (n_spins == 2 and len(rows) != 2):
        return None
    return _checked(np.array(rows).reshape(n_spins, -1, len(rows[0])))


def _read_printed(text: str) -> Floats | None:
    """Read what ``WriteEigenvalues`` prints: four digits, which fill their fields."""
    heading = last_match(_PRINTED_HEADING, text)
    if heading is None:
        return None
    rows: dict[tuple[int, int], list[float]] = {}
    last: list[float] | None = None
    for line in text[heading.end() :].splitlines():
        if start := _PRINTED_ROW.match(line):
            last = rows.setdefault((int(start[2]), int(start[1])), [])
            last += map(float, _PRINTED_LEVEL.findall(start[3]))
        elif last is not None and _PRINTED_REST.match(line):
            last += map(float, _PRINTED_LEVEL.findall(line))
        else:
            break
    spins, points = ({key[axis] for key in rows} for axis in (0, 1))
    if not rows or len(rows) != len(spins) * len(points) or len({len(row) for row in rows.values()}) != 1:
        return None
    ordered = np.array([rows[key] for key in sorted(rows)])
    return _checked(ordered.reshape(len(spins), len(points), -1))


def _read_bands(name: str, text: str, n_spins: int) -> FoundLevels | None:
    """Read bands along lines or at points: their Fermi level, ranges, numbers, and of each point place and levels."""
    words = text.split()
    for head, place in ((5, 1), (3, 3)):  # along lines, ranges of length and energy; at points, that of the energy
        try:
            n_bands, spins, n_points = (int(word) for word in words[head : head + 3])
            row = place + n_bands * spins
            values = _numbers(' '.join(words[head + 3 : head + 3 + n_points * row]))
            fermi = float(words[0])
        except (ValueError, IndexError):
            continue
        if spins != n_spins or n_bands < 2 or n_points < 1 or len(values) != n_points * row:
            continue
        levels = values.reshape(n_points, row)[:, place:].reshape(n_points, spins, n_bands).swapaxes(0, 1)
        checked = _checked(np.ascontiguousarray(levels))
        if checked is not None and np.isfinite(fermi):
            return FoundLevels(checked, fermi, name, of_mesh=False)
    return None


def _numbers(text: str) -> Floats:
    try:
        return np.array(text.split(), dtype=np.float64)
    except ValueError:
        return np.empty(0)


def _checked(levels: Floats) -> Floats | None:
    """Return levels that are finite, in a range of levels, and ascend; else None."""
    fine = levels.shape[-1] > 1 and bool(np.isfinite(levels).all()) and np.abs(levels).max() < LARGEST_LEVEL_EV
    return levels if fine and bool((np.diff(levels, axis=2) > -1e-4).all()) else None
