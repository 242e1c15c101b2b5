"""Errors of predictions: R², MAE and RMSE."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from aiida_nanoml.learning.arrays import as_targets


def regression_metrics(y: npt.ArrayLike, y_pred: npt.ArrayLike) -> dict[str, float | int | None]:
    """Compute the coefficient of determination, the mean absolute and the root mean square error.

    :param y: (n,) reference values.
    :param y_pred: (n,) predicted values, in the same unit.
    :returns: ``r2`` (no unit; ``None`` if it is not defined: fewer than two rows, or all references equal), ``mae``
        and ``rmse`` (in the unit of the values), ``n`` (rows).
    :raises DatasetError: shapes that do not match, no row, NaN or infinity.
    """
    reference = as_targets(y, 'y')
    error = as_targets(y_pred, 'y_pred', n_rows=len(reference)) - reference
    constant = bool(np.all(reference == reference[0]))
    total = float(np.sum((reference - reference.mean()) ** 2))
    return {
        'r2': None if constant or total == 0.0 else 1.0 - float(np.sum(error**2)) / total,
        'mae': float(np.mean(np.abs(error))),
        'rmse': float(np.sqrt(np.mean(error**2))),
        'n': len(reference),
    }


def mae_standard_error(metrics: Mapping[str, Any]) -> float | None:
    """Compute the standard error of a mean absolute error: its scatter over other rows of the same kind.

    The absolute errors have the mean ``mae`` and the mean square ``rmse²``, so that their variance is known.

    :param metrics: of :func:`regression_metrics`.
    :returns: in the unit of the values; ``None`` if it is not defined: fewer than two rows, or no such metrics.
    """
    n, mae, rmse = (metrics.get(name) for name in ('n', 'mae', 'rmse'))
    if n is None or mae is None or rmse is None or n < 2:
        return None
    return math.sqrt(max(0.0, rmse**2 - mae**2) / (n - 1))
