"""Line charts as figures that a page can hold: points, ticks and marks in the units of the drawing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from aiida_nanoml.learning.plot_style import thin_out

Floats = NDArray[np.float64]

WIDTH, HEIGHT = 640, 360
LEFT, RIGHT, TOP, BOTTOM = 72, 24, 14, 48
"""Space around the axes, for labels."""

COLUMNS = 600
"""Parts of the horizontal axis; a curve keeps at most four points in each of them."""

LEAST_SHARE = 1e-30
"""Values below this share of the largest are not drawn on a logarithmic axis."""

MOST_TICKS = 7


@dataclass(frozen=True)
class Axis:
    """One axis.

    :param label: quantity with its unit.
    :param low: smallest value, or its exponent on a logarithmic axis.
    :param high: largest value.
    :param begin: where ``low`` is in the drawing.
    :param end: where ``high`` is.
    :param logarithmic: whether equal steps are equal factors.
    """

    label: str
    low: float
    high: float
    begin: float
    end: float
    logarithmic: bool = False

    def places(self, values: ArrayLike) -> Floats:
        """Return where values are in the drawing."""
        numbers = np.asarray(values, dtype=np.float64)
        if self.logarithmic:
            numbers = np.log10(np.maximum(numbers, 10.0**self.low))
        return self.begin + (numbers - self.low) * ((self.end - self.begin) / (self.high - self.low))

    @property
    def ticks(self) -> list[tuple[float, str]]:
        """Return place and text of each tick."""
        step = _step(self.high - self.low)
        if self.logarithmic:
            step = max(1.0, round(step))
        values = np.arange(math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9) + 1) * step
        digits = max(0, -math.floor(math.log10(step)))
        shown = [f'1e{round(value)}' if self.logarithmic else f'{value + 0.0:.{digits}f}' for value in values]
        places = self.begin + (values - self.low) * ((self.end - self.begin) / (self.high - self.low))
        return list(zip(places.round(1).tolist(), shown, strict=True))


@dataclass(frozen=True)
class LineChart:
    """A curve between two axes.

    :param title: what is shown, for those who cannot see it.
    :param points: of the curve, as an SVG polyline takes them.
    :param marks: place on the horizontal axis and text of each mark.
    """

    title: str
    x: Axis
    y: Axis
    points: str
    marks: Sequence[tuple[float, str]] = ()
    width: int = WIDTH
    height: int = HEIGHT


def line_chart(
    title: str,
    x: tuple[str, ArrayLike],
    y: tuple[str, ArrayLike],
    marks: Sequence[tuple[float, str]] = (),
    *,
    steps: bool = False,
    logarithmic: bool = False,
) -> LineChart:
    """Return a chart of a curve.

    :param x: label, and (n,) ascending values.
    :param y: label, and (n,) finite values, or (n - 1,) with ``steps``.
    :param marks: value on the horizontal axis and text of each mark.
    :param steps: each value of y holds between two values of x.
    :param logarithmic: whether the vertical axis is.
    :raises ValueError: nothing to draw, or no positive value for a logarithmic axis.
    """
    across, up = np.asarray(x[1], dtype=np.float64), np.asarray(y[1], dtype=np.float64)
    if steps:
        across, up = np.repeat(across, 2)[1:-1], np.repeat(up, 2)
    if not len(across) or not np.isfinite(up).all():
        raise ValueError(f'there is nothing to draw of {title}: no values, or some that are not finite')
    horizontal = Axis(x[0], *limits(across, 0.0), LEFT, WIDTH - RIGHT)
    vertical = Axis(y[0], *limits(up, 0.04, logarithmic=logarithmic), HEIGHT - BOTTOM, TOP, logarithmic)
    across, up = thin_out(across, up, COLUMNS)
    places = np.stack([horizontal.places(across), vertical.places(up)], axis=1).round(1)
    inside = [(value, text) for value, text in marks if horizontal.low <= value <= horizontal.high]
    return LineChart(
        title,
        horizontal,
        vertical,
        ' '.join(f'{right:g},{down:g}' for right, down in places.tolist()),
        [(round(float(horizontal.places(value)), 1), text) for value, text in inside],
    )


def limits(values: Floats, margin: float, *, logarithmic: bool = False) -> tuple[float, float]:
    """Return the ends of an axis that shows all values.

    :param margin: share of the range that is left free at each end.
    :returns: smallest and largest value, or their exponents on a logarithmic axis.
    :raises ValueError: no positive value for a logarithmic axis.
    """
    low, high = float(values.min()), float(values.max())
    if logarithmic:
        if high <= 0:
            raise ValueError('a logarithmic axis needs a value above zero')
        least = max(float(values[values > 0].min()), high * LEAST_SHARE)
        low, high = math.floor(math.log10(least)), math.ceil(math.log10(high))
        return (low, high) if low < high else (low - 1, high)
    if high - low < 1e-12 * max(1.0, abs(low)):
        return low - 0.5, high + 0.5
    return low - margin * (high - low), high + margin * (high - low)


def _step(width: float) -> float:
    """Return a round distance of ticks."""
    raw = width / MOST_TICKS
    power = 10.0 ** math.floor(math.log10(raw))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * (1 - 1e-9))
