"""Plain-text exchange of features and gaps: ``x.dat`` and ``y.dat``.

``x.dat`` holds one row of numbers a structure, ``y.dat`` one number a structure: the gap divided by
``target_scale_ev``. They are read as :mod:`aiida_nanoml.number_tables` says, and written between white space.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from aiida_nanoml.errors import DatasetError
from aiida_nanoml.learning.arrays import Floats, as_features, as_targets
from aiida_nanoml.number_tables import read_numbers

TARGET_UNITS: Mapping[str, float] = MappingProxyType({'ev': 1.0, 'mev': 0.001, 'gap/4ev': 4.0})
"""What targets of a unit are multiplied by, in eV."""

HIGHEST_GAP_EV = 15.0
"""No structure has a gap above this, but for noble gases and small molecules of fluorine and helium."""


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
    x_path = Path(x_path)
    y_path = None if y_path is None else Path(y_path)
    x_content, y_content = (None if path is None else _read_content(path) for path in (x_path, y_path))
    return parse_xy(x_content or b'', y_content, str(x_path), str(y_path), n_features, target_scale_ev)


def parse_xy(
    x_content: bytes, y_content: bytes | None, x_name: str, y_name: str, n_features: int, target_scale_ev: float
) -> tuple[Floats, Floats | None]:
    """Read features and, where given, gaps from the contents of their files.

    :param x_name: what to call the file of features in an error, ``y_name`` that of the gaps.
    :returns: as of :func:`read_xy`.
    :raises DatasetError: as of :func:`read_xy`.
    """
    scale = _checked_scale(target_scale_ev)
    rows = read_numbers(x_content, x_name, DatasetError)
    for line, row in rows:
        if len(row) != n_features:
            raise DatasetError(f'{x_name}, line {line}: {len(row)} numbers where {n_features} features are expected')
    features = np.array([row for _, row in rows], dtype=np.float64)
    if y_content is None:
        return features, None
    targets: list[float] = []
    for line, row in read_numbers(y_content, y_name, DatasetError):
        if not all(math.isfinite(number * scale) for number in row):
            raise DatasetError(f'{y_name}, line {line}: a target times {scale:g} eV is not finite')
        targets += [number * scale for number in row]
    if len(targets) != len(rows):
        raise DatasetError(f'{x_name} has {len(rows)} rows but {y_name} has {len(targets)} numbers')
    return features, np.array(targets, dtype=np.float64)


def check_gaps(gaps_ev: Floats, name: str, target_scale_ev: float) -> None:
    """Check that targets were read in their unit.

    :param gaps_ev: (N,) in eV.
    :param name: what to call their file.
    :param target_scale_ev: what the numbers of the file were multiplied by, eV.
    :raises DatasetError: a gap is above :data:`HIGHEST_GAP_EV` or far below zero, or all of them are next to nothing.
    """
    highest, lowest = float(gaps_ev.max()), float(gaps_ev.min())
    if highest <= HIGHEST_GAP_EV and lowest >= -1.0 and (highest > 0.01 or target_scale_ev >= 1.0):
        return
    raise DatasetError(
        f'{name}: the gaps are {lowest:g} to {highest:g} eV, if they are given in units of {target_scale_ev:g} eV, '
        f'which is implausible: choose the unit that they have, {", ".join(TARGET_UNITS)}'
    )


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


def _read_content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DatasetError(f'{path} cannot be read as text: {error}') from error
