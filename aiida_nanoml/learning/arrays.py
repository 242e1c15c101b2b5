"""Checks of feature matrices and target vectors, for every entry into this package.

The checks are those of scikit-learn, the errors :class:`~aiida_nanoml.errors.DatasetError`, a ``ValueError``, too.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import numpy.typing as npt

from aiida_nanoml.errors import DatasetError, DatasetTypeError, ModelError

Floats = npt.NDArray[np.float64]

SINGLE_PRECISION = 1e-5
"""A spread that is a smaller share of the size of a column is off by more than half a per cent in single precision."""

LARGEST_SINGLE, SMALLEST_SINGLE = 1e37, 1e-37

_ROUNDING = 1e-10


def as_features(X: npt.ArrayLike, name: str = 'X') -> Floats:
    """Return a feature matrix as finite ``float64``.

    :param X: (n, n_features) numbers.
    :param name: what to call the matrix in an error.
    :raises DatasetError: wrong number of dimensions, no row or column, not numeric, NaN or infinity.
    """
    features = _as_floats(X, name, ensure_2d=True)
    _require_finite(features, name)
    return features


def as_targets(y: npt.ArrayLike, name: str = 'y', n_rows: int | None = None) -> Floats:
    """Return one target as finite ``float64``.

    :param y: (n,) numbers in the unit of the target.
    :param name: what to call the vector in an error.
    :param n_rows: required length.
    :raises DatasetError: not one-dimensional, empty, wrong length, not numeric, NaN or infinity.
    """
    targets = _as_floats(y, name, ensure_2d=False)
    if targets.ndim != 1:
        raise DatasetError(f'{name} must have the shape (rows,), got {targets.shape}')
    _require_rows(targets, name, n_rows)
    _require_finite(targets, name)
    return targets


def as_target_columns(y: npt.ArrayLike, name: str = 'y', n_rows: int | None = None) -> Floats:
    """Return one target or several as columns of finite ``float64``.

    :param y: (n,) or (n, n_targets) numbers, each column in the unit of its target. As scikit-learn does, it warns of a
        single column (n, 1).
    :param name: what to call the columns in an error.
    :param n_rows: required length.
    :returns: (n, n_targets).
    :raises DatasetError: another shape, empty, wrong length, not numeric, NaN or infinity.
    """
    if y is None:
        raise DatasetError(f'a model requires {name} to be passed, but the target {name} is None')
    targets = _as_floats(y, name, ensure_2d=False)
    if targets.ndim == 2 and targets.shape[1] == 1:
        _warn_of_column(name)
    columns = targets[:, None] if targets.ndim == 1 else targets
    _require_rows(columns, name, n_rows)
    _require_finite(columns, name)
    return columns


def require_width(features: Floats, n_features: int) -> None:
    """Check that features have the number of columns that a model was trained on.

    :param features: (n, any) matrix.
    :param n_features: number of features that the model was trained on.
    :raises ModelError: the numbers differ.
    """
    if features.shape[1] != n_features:
        raise ModelError(
            f'the model was trained on {n_features} features, these rows have {features.shape[1]}: '
            'compute them with the descriptor named in the model card'
        )


def constant_columns(features: Floats) -> npt.NDArray[np.bool_]:
    """Return which columns are the same in all rows, but for rounding.

    :param features: (n, n_features) matrix.
    :returns: (n_features,).
    """
    return np.asarray(np.ptp(features, axis=0) <= _ROUNDING * np.abs(features).max(axis=0))


def lost_in_single_precision(features: Floats) -> npt.NDArray[np.bool_]:
    """Return which columns vary, but by so little of their size that single precision rounds it away.

    A column 1,000,000 + 0.01 z has steps of 0.06 in single precision.

    :param features: (n, n_features) matrix.
    :returns: (n_features,).
    """
    size, spread = np.abs(features).max(axis=0), features.std(axis=0)
    lost = (spread < SINGLE_PRECISION * size) | (size > LARGEST_SINGLE) | (spread < SMALLEST_SINGLE)
    return np.asarray(lost & ~constant_columns(features))


def _as_floats(values: Any, name: str, ensure_2d: bool) -> Floats:
    from sklearn.utils import check_array

    try:
        checked = check_array(
            values, ensure_2d=ensure_2d, ensure_all_finite=False, ensure_min_samples=0, input_name=name
        )
        array = np.ascontiguousarray(checked, dtype=np.float64)
    except (TypeError, ValueError) as error:
        refusal = DatasetTypeError if isinstance(error, TypeError) else DatasetError
        raise refusal(f'{name} must be an array of real numbers: {error}') from error
    if not len(array):
        raise DatasetError(f'{name} has no rows: at least one row is needed')
    return array


def _require_rows(array: Floats, name: str, n_rows: int | None) -> None:
    if n_rows is not None and len(array) != n_rows:
        raise DatasetError(f'{name} has {len(array)} rows, the features have {n_rows}')


def _warn_of_column(name: str) -> None:
    from sklearn.exceptions import DataConversionWarning

    # The words that scikit-learn's own tests look for.
    message = f'A column-vector {name} was passed when a 1d array was expected: pass {name}.ravel()'
    warnings.warn(message, DataConversionWarning, stacklevel=4)


def _require_finite(array: Floats, name: str) -> None:
    bad = np.argwhere(~np.isfinite(array))
    if len(bad):
        where = ', '.join(f'{axis} {index}' for axis, index in zip(('row', 'column'), bad[0], strict=False))
        value = 'NaN' if np.isnan(array[tuple(bad[0])]) else 'infinity'
        raise DatasetError(f'{name} holds {len(bad)} values that are not finite, the first at {where}: {value}')
