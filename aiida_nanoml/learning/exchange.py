"""Plain-text exchange of features and gaps: ``x.dat`` and ``y.dat``.

``x.dat`` holds one row of numbers a structure, ``y.dat`` one number a structure: the gap divided by
``target_scale_ev``. Numbers are separated by white space; empty lines are ignored.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import numpy.typing as npt

from aiida_nanoml.errors import DatasetError
from aiida_nanoml.learning.arrays import Floats, as_features, as_targets


def read_xy(
    x_path: Path | str, y_path: Path | str | None = None, n_features: int = 26, target_scale_ev: float = 4.0
) -> tuple[Floats, Floats | None]:
    """Read features and, where given, gaps.

    :param x_path: text file of N rows of ``n_features`` numbers.
    :param y_path: text file of N numbers, gap / ``target_scale_ev``; ``None`` when there are no targets.
    :param n_features: required number of columns of ``x_path``.
    :param target_scale_ev: what the file's targets are multiplied by, eV.
    :returns: (N, n_features) features and (N,) gaps in eV, or ``None``.
    :raises DatasetError: unreadable file, wrong number of columns, something that is not a finite number, or different
        numbers of rows; the message names the file and the line.
    """
    scale = _checked_scale(target_scale_ev)
    rows = _read_numbers(Path(x_path))
    for line, row in rows:
        if len(row) != n_features:
            raise DatasetError(f'{x_path}, line {line}: {len(row)} numbers where {n_features} features are expected')
    features = np.array([row for _, row in rows], dtype=np.float64)
    if y_path is None:
        return features, None
    targets = [number for _, row in _read_numbers(Path(y_path)) for number in row]
    if len(targets) != len(rows):
        raise DatasetError(f'{x_path} has {len(rows)} rows but {y_path} has {len(targets)} numbers')
    return features, np.array(targets, dtype=np.float64) * scale


def write_xy(
    x_path: Path | str, y_path: Path | str, X: npt.ArrayLike, gap_ev: npt.ArrayLike, target_scale_ev: float = 4.0
) -> None:
    """Write features and gaps, with all their digits.

    :func:`read_xy` gives the same numbers back, to the last bit when ``target_scale_ev`` is a power of two, as 4 is.

    :param x_path: where the N rows of features go.
    :param y_path: where the N numbers gap / ``target_scale_ev`` go.
    :param X: (N, n_features) features.
    :param gap_ev: (N,) gaps, eV.
    :param target_scale_ev: what the gaps are divided by, eV.
    :raises DatasetError: shapes that do not match, NaN or infinity, or a scale that is not positive.
    """
    scale = _checked_scale(target_scale_ev)
    features = as_features(X)
    targets = as_targets(gap_ev, 'gap_ev', n_rows=len(features)) / scale
    Path(x_path).write_text(''.join(' '.join(map(repr, row)) + '\n' for row in features.tolist()), encoding='ascii')
    Path(y_path).write_text(''.join(f'{target!r}\n' for target in targets.tolist()), encoding='ascii')


def _checked_scale(target_scale_ev: float) -> float:
    if not (math.isfinite(target_scale_ev) and target_scale_ev > 0):
        raise DatasetError(f'the target scale must be a positive energy in eV, got {target_scale_ev}')
    return target_scale_ev


def _read_numbers(path: Path) -> list[tuple[int, list[float]]]:
    try:
        lines = path.read_text(encoding='utf-8').splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f'{path} cannot be read as text: {error}') from error
    rows = []
    for number, line in enumerate(lines, start=1):
        row = []
        for word in line.split():
            try:
                value = float(word)
            except ValueError:
                raise DatasetError(f'{path}, line {number}: {word!r} is not a number') from None
            if not math.isfinite(value):
                raise DatasetError(f'{path}, line {number}: {word!r} is not finite')
            row.append(value)
        if row:
            rows.append((number, row))
    if not rows:
        raise DatasetError(f'{path} holds no numbers')
    return rows
