"""Standard deviations of predictions, calibrated on rows that a model did not learn from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from aiida_nanoml.learning.arrays import Floats, as_targets

LEVELS = (0.68, 0.95)
"""Probabilities of the intervals that are calibrated."""

MIN_ROWS = 20
"""With fewer rows, the conformal quantile of 95 % lies beyond their largest error."""

_SMALLEST_EV = 1e-6


class Calibration(BaseModel):
    """Standard deviation and intervals of predictions, learnt from rows with a known target.

    The variance is a sum of what the model itself does not know, of errors that grow with the gap, and of a constant,

    .. math:: \\sigma^2 = a^2 s^2 + b^2 \\max(E, 0)^2 + c^2,

    for the spread s and the predicted value E, a gap for example. The coefficients maximise the Gaussian likelihood of
    the errors, as in Janet, Duan, Yang, Nandy and Kulik, Chem. Sci. 10, 7913 (2019), who scale a distance in the same
    way. Errors of gaps have longer tails than a Gaussian. The intervals are therefore value ± factor · σ, the factor
    being the quantile of abs(error) / σ in the calibration rows (split conformal prediction: Lei, G'Sell, Rinaldo,
    Tibshirani and Wasserman, J. Am. Stat. Assoc. 113, 1094 (2018)).
    """

    model_config = ConfigDict(extra='forbid', frozen=True)

    part: Literal['validation', 'held-out'] = Field(description='rows that were used: validation, or held-out of folds')
    rows: int = Field(ge=MIN_ROWS, description='number of these rows')
    spread: float = Field(ge=0, description='coefficient a of the spread')
    gap: float = Field(ge=0, description='coefficient b of the predicted value, above zero')
    constant_ev: float = Field(ge=0, description='constant c, in the unit of the target, for the gap eV')
    factor_68: float = Field(gt=0, description='half width of the 68 % interval in standard deviations')
    factor_95: float = Field(gt=0, description='half width of the 95 % interval in standard deviations')

    @classmethod
    def fit(
        cls,
        y: npt.ArrayLike,
        values: npt.ArrayLike,
        spread: npt.ArrayLike,
        part: Literal['validation', 'held-out'] = 'validation',
    ) -> Calibration | None:
        """Learn from rows that the model was not trained on.

        :param y: (n,) known values, in the unit of the target.
        :param values: (n,) predicted values, in the same unit.
        :param spread: (n,) spread of the model, in the same unit; NaN where it has none.
        :param part: what the rows are.
        :returns: ``None`` for fewer than :data:`MIN_ROWS` rows.
        :raises DatasetError: lengths that differ, NaN or infinity in ``y`` or ``values``.
        """
        if len(np.atleast_1d(y)) < MIN_ROWS:
            return None
        known = as_targets(y)
        predicted = as_targets(values, 'values', n_rows=len(known))
        errors = np.abs(predicted - known)
        weights = _likeliest(_terms(predicted, np.asarray(spread, dtype=np.float64)), errors)
        a, b, c = (float(np.sqrt(weight)) for weight in weights)
        fitted = cls(part=part, rows=len(known), spread=a, gap=b, constant_ev=c, factor_68=1.0, factor_95=1.0)
        ratios = np.sort(errors / fitted.std(predicted, spread))
        quantiles = [float(ratios[int(np.ceil((len(ratios) + 1) * level)) - 1]) for level in LEVELS]
        # A hair more, so that rounding leaves the row at the bound inside.
        low, high = np.maximum(quantiles, 1e-6) * (1 + 1e-9)
        return fitted.model_copy(update={'factor_68': float(low), 'factor_95': float(high)})

    def std(self, values: npt.ArrayLike, spread: npt.ArrayLike) -> Floats:
        """Compute the standard deviation of the error.

        :param values: (n,) predicted values, in the same unit.
        :param spread: (n,) spread of the model, in the same unit; NaN where it has none.
        :returns: (n,), in the same unit, above zero.
        """
        terms = _terms(np.asarray(values, dtype=np.float64), np.asarray(spread, dtype=np.float64))
        variance = np.array([self.spread**2, self.gap**2, self.constant_ev**2]) @ terms
        return np.asarray(np.sqrt(np.maximum(variance, _SMALLEST_EV**2)))

    def half_widths(self, std: npt.ArrayLike) -> tuple[Floats, Floats]:
        """Half widths of the intervals of 68 % and 95 % around a prediction.

        :param std: (n,) from :meth:`std`.
        :returns: twice (n,), in the unit of ``std``.
        """
        deviations = np.asarray(std, dtype=np.float64)
        return self.factor_68 * deviations, self.factor_95 * deviations


def interval_metrics(
    y: npt.ArrayLike, columns: Mapping[str, npt.NDArray[Any]], calibration: Calibration | None
) -> dict[str, float | int | None]:
    """Count the known values that lie in the predicted intervals.

    :param y: (n,) known values, in the unit of the target.
    :param columns: ``value``, ``std`` and ``outside`` of the predictions, each (n,).
    :param calibration: that gave ``std``; ``None``: there is none.
    :returns: ``coverage_68`` and ``coverage_95`` (shares of the rows; ``None`` without calibration) and ``outside``
        (rows out of the training domain).
    :raises DatasetError: lengths that differ, NaN or infinity.
    """
    known = as_targets(y)
    errors = np.abs(as_targets(columns['value'], 'value', n_rows=len(known)) - known)
    coverage: list[float | None] = [None] * len(LEVELS)
    if calibration is not None:
        coverage = [float(np.mean(errors <= width)) for width in calibration.half_widths(columns['std'])]
    return {
        'coverage_68': coverage[0],
        'coverage_95': coverage[1],
        'outside': int(np.count_nonzero(columns['outside'])),
    }


def _terms(values: Floats, spread: Floats) -> Floats:
    """Return the terms that the coefficients multiply, (3, n): squares of the unit, the last without unit."""
    return np.array([np.nan_to_num(spread) ** 2, np.maximum(values, 0.0) ** 2, np.ones_like(values)])


def _likeliest(terms: Floats, errors: Floats) -> Floats:
    """Weights (3,), not negative, of the terms in the variance under which the errors are likeliest."""
    from scipy.optimize import minimize

    squares = errors**2
    mean_square = max(float(squares.mean()), _SMALLEST_EV**2)
    sizes = terms.mean(axis=1)
    used = sizes > 0
    scaled = terms[used] / sizes[used, None]

    def cost(weights: Floats) -> tuple[float, Floats]:
        variance = weights @ scaled + 1e-9
        ratio = squares / mean_square / variance
        return float(np.mean(np.log(variance) + ratio)), np.asarray(scaled @ ((1.0 - ratio) / variance) / len(ratio))

    n_terms = len(scaled)
    # The cost has more than one minimum: once from the middle, and once from next to each single term.
    starts = [np.full(n_terms, 1.0 / n_terms), *(0.02 + 0.94 * np.eye(n_terms))]
    found = [minimize(cost, start, jac=True, method='L-BFGS-B', bounds=[(0, None)] * n_terms) for start in starts]
    weights = np.zeros(len(terms))
    weights[used] = min(found, key=lambda result: result.fun).x * mean_square / sizes[used]
    return weights
