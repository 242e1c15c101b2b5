"""Levels of a run: the text file ``_EIG``, and the files in netCDF that hold them with all digits."""

from __future__ import annotations

import io
import math
import re
from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aiida_nanoml.engines.run_text import RunText
from aiida_nanoml.errors import EvaluationError, FailureCode
from aiida_nanoml.units import HARTREE_EV

LARGEST_LEVEL_HARTREE = 1e6
PRINTED_HARTREE = 6e-6
"""Levels are printed with five digits: two values of one level differ by less."""

_MOST_LEVELS = 1 << 26

_BLOCK = re.compile(
    r'^ Eigenvalues \( {0,3}(hartree|eV) {0,3}\) for nkpt= {0,9}(\d{1,9}|\*{1,9}) {1,3}k points'
    r'(?:, {0,2}SPIN {1,2}(UP|DOWN))?:?',
    re.MULTILINE,
)
_POINT = re.compile(
    r'^ kpt# {0,9}(\d{1,9}|\*{1,9}), nband= {0,9}(\d{1,9}), wtk= {0,9}(\S{1,20}), '
    r'kpt= {0,9}(\S.{0,60}?) \(reduced coord\)',
    re.MULTILINE,
)
_FERMI = re.compile(r'^ Fermi(?: \(or HOMO\))? energy \( {0,3}(hartree|eV) {0,3}\) ?= {0,20}(\S{1,30})', re.MULTILINE)


@dataclass(frozen=True)
class Levels:
    """Levels of a data set.

    :param levels_hartree: (S, K, L).
    :param weights: of the k-points, (K,); None where the file does not tell them.
    :param k_points: (K, 3), reduced.
    :param fermi_hartree: Fermi level, NaN where the file does not tell it.
    """

    levels_hartree: NDArray[np.float64]
    weights: NDArray[np.float64] | None
    k_points: NDArray[np.float64]
    fermi_hartree: float = math.nan


def read_eig(file: RunText) -> Levels | None:
    """Read levels as they are printed, in a file ``_EIG`` or in the main output.

    :returns: those of the last geometry; None where levels of some k-points are left out, or none is there.
    :raises EvaluationError: ``'engine_failure'``: a number is none, levels do not ascend, or spins differ in k-points.
    """
    blocks = [block for block in _BLOCK.finditer(file.text) if block[1] == 'hartree']
    factor = 1.0
    if not blocks:
        blocks, factor = list(_BLOCK.finditer(file.text)), HARTREE_EV
    blocks = blocks[-2:] if blocks and blocks[-1][3] == 'DOWN' else blocks[-1:]
    spins = [block[3] for block in blocks]
    if spins not in ([None], ['UP', 'DOWN']):
        return None
    n_points = [block[2] for block in blocks]
    if len(set(n_points)) != 1 or not n_points[0].isdigit():
        return None
    ends = [block.start() for block in blocks[1:]] + [len(file.text)]
    found = [_read_block(file, block.end(), end, int(block[2])) for block, end in zip(blocks, ends, strict=True)]
    if any(part is None for part in found):
        return None
    parts = [part for part in found if part is not None]
    if len(parts) == 2 and not (
        parts[0][0].shape == parts[1][0].shape
        and np.array_equal(parts[0][1], parts[1][1])
        and np.array_equal(parts[0][2], parts[1][2])
    ):
        raise EvaluationError(FailureCode.INCONSISTENT, f'{file.name}: the two spins have different k-points or levels')
    weights = parts[0][1]
    return Levels(
        np.stack([part[0] for part in parts]) / factor,
        weights,
        parts[0][2],
        _read_fermi(file),
    )


def _read_fermi(file: RunText) -> float:
    found = next(iter(deque(_FERMI.finditer(file.text), maxlen=1)), None)
    if found is None or '*' in found[2]:
        return math.nan
    value = file.number(found[2], found.start(2), 'the Fermi level', LARGEST_LEVEL_HARTREE)
    return value if found[1] == 'hartree' else value / HARTREE_EV


def _read_block(
    file: RunText, start: int, end: int, n_points: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]] | None:
    """Read levels (K, L), weights (K,) and k-points (K, 3) of one spin; None if not all are printed."""
    points = list(_POINT.finditer(file.text, start, end))
    counts = {int(point[2]) for point in points}
    if len(points) != n_points or len(counts) != 1 or n_points * max(counts) > _MOST_LEVELS:
        return None
    count = counts.pop()
    rows, weights, k_points = [], [], []
    for number, point in enumerate(points, 1):
        if point[1].isdigit() and int(point[1]) != number:
            raise EvaluationError(
                FailureCode.ENGINE_FAILURE, f'{file.place(point.start())}: k-point {number} is expected, not {point[1]}'
            )
        row: list[float] = []
        position = file.text.find('\n', point.end()) + 1
        while position and position < end and len(row) < count:
            stop = file.text.find('\n', position)
            stop = len(file.text) if stop < 0 else stop
            words = split_fixed(file.text[position:stop])
            if not words:
                break
            row += [file.number(word, position, 'a level', LARGEST_LEVEL_HARTREE * HARTREE_EV) for word in words]
            position = stop + 1
        if len(row) != count:
            raise EvaluationError(
                FailureCode.ENGINE_FAILURE,
                f'{file.place(point.start())}: {count} levels are announced, {len(row)} are there',
            )
        rows.append(row)
        weights.append(file.number(point[3], point.start(3), 'the weight of a k-point', 1.0))
        words = split_fixed(point[4], 8)
        if len(words) != 3:
            raise EvaluationError(
                FailureCode.ENGINE_FAILURE, f'{file.place(point.start())}: a k-point is expected as three numbers'
            )
        k_points.append([file.number(word, point.start(4), 'a k-point', 1e3) for word in words])
    levels = np.array(rows, dtype=np.float64)
    check_ascending(levels, file.name)
    return levels, np.array(weights), np.array(k_points)


def split_fixed(line: str, width: int = 10) -> list[str]:
    """Split a line of numbers, which stand without a blank between them where they fill their fields."""
    words = line.split()
    if all(word.count('.') <= 1 for word in words):
        return words
    return [line[start : start + width].strip() for start in range(0, len(line.rstrip()), width)]


def check_ascending(levels: NDArray[np.float64], name: str) -> None:
    """Check that levels ascend, but for what is printed of two that are the same.

    :param levels: (..., L) in Ha.
    :raises EvaluationError: ``'engine_failure'``.
    """
    falling = np.argwhere(np.diff(levels, axis=-1) < -1e-4)
    if len(falling):
        raise EvaluationError(
            FailureCode.ENGINE_FAILURE,
            f'{name}: level {falling[0][-1] + 2} is below the level before it: levels ascend',
        )


def read_netcdf(content: bytes, name: str) -> dict[str, NDArray[Any]]:
    """Read the variables of a netCDF file that tell levels, energy or structure.

    :param content: of the file, in netCDF-4 or in the classic format.
    :raises EvaluationError: ``'engine_failure'``: the file is damaged, or it is no netCDF.
    """
    try:
        return _read_hdf5(content) if content.startswith(b'\x89HDF') else _read_classic(content)
    except Exception as error:  # h5py and SciPy raise whatever a damaged file makes them
        raise EvaluationError(
            FailureCode.ENGINE_FAILURE, f'{name} is damaged, or no netCDF file: {type(error).__name__}'
        ) from error


_WANTED = {
    'eigenvalues': 'levels',
    'Eigenvalues': 'levels',
    'reduced_coordinates_of_kpoints': 'k_points',
    'Kptns': 'k_points',
    'kpoint_weights': 'weights',
    'number_of_states': 'counts',
    'NBandK': 'counts',
    'etotal': 'energy',
    'fermie': 'fermi',
    'reduced_atom_positions': 'positions',
    'md5_pseudos': 'md5',
    'atomic_numbers': 'atomic_numbers',
}


def _read_hdf5(content: bytes) -> dict[str, NDArray[Any]]:
    import h5py

    with h5py.File(io.BytesIO(content), 'r') as file:
        found = {}
        for name, ours in _WANTED.items():
            if name in file and isinstance(file[name], h5py.Dataset) and file[name].size <= _MOST_LEVELS:
                found[ours] = np.asarray(file[name][()])
        return found


def _read_classic(content: bytes) -> dict[str, NDArray[Any]]:
    from scipy.io import netcdf_file

    with netcdf_file(io.BytesIO(content), 'r', mmap=False) as file:
        return {ours: np.array(file.variables[name].data) for name, ours in _WANTED.items() if name in file.variables}


def levels_of_netcdf(values: dict[str, NDArray[Any]], name: str) -> Levels | None:
    """Return the levels in a netCDF file; None if it holds none, or not as many at each k-point.

    :raises EvaluationError: ``'engine_failure'``: they do not ascend or are not finite.
    """
    levels, k_points, counts = (values.get(key) for key in ('levels', 'k_points', 'counts'))
    if levels is None or k_points is None:
        return None
    if (
        levels.ndim != 3
        or k_points.shape != (levels.shape[1], 3)
        or levels.dtype.kind != 'f'
        or k_points.dtype.kind != 'f'
        or not levels.size
    ):
        raise EvaluationError(FailureCode.ENGINE_FAILURE, f'{name}: levels and k-points do not fit each other')
    # ABINIT 9.6 leaves out the counts of the second spin.
    if counts is not None and ((counts != levels.shape[2]) & (counts > 0)).any():
        return None
    levels = np.asarray(levels, dtype=np.float64)
    if not np.isfinite(levels).all() or np.abs(levels).max() > LARGEST_LEVEL_HARTREE:
        raise EvaluationError(FailureCode.ENGINE_FAILURE, f'{name}: a level is no finite number')
    check_ascending(levels, name)
    weights = values.get('weights')
    fitting = weights is not None and weights.shape == (levels.shape[1],) and np.isfinite(weights).all()
    return Levels(
        levels,
        np.asarray(weights, dtype=np.float64) if fitting else None,
        np.asarray(k_points, dtype=np.float64),
    )
