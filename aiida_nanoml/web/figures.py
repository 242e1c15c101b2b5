"""Figures of models, drawn within a page: a point of a parity plot can be a link."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aiida_nanoml.web.charts import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Axis, limits

SIDE = 560
"""Width and height of a parity plot."""

MOST_LINKS = 500
"""Points that are links; more of them make a page heavy."""


@dataclass(frozen=True)
class Point:
    """A point of one row.

    :param row: of the data set.
    :param part: of the split.
    :param title: what a pointer shows, and a screen reader says.
    """

    x: float
    y: float
    row: int
    part: str
    title: str


@dataclass(frozen=True)
class ParityPlot:
    """Predicted against known values of one row each.

    :param points: those that are links: of many the rows that the model did not learn from, the largest errors first.
    :param others: by part of the split, a path of dots with all other points, one for each pixel.
    :param n_rows: of the data set.
    """

    x: Axis
    y: Axis
    points: tuple[Point, ...]
    others: dict[str, str]
    n_rows: int
    width: int = SIDE
    height: int = SIDE


@dataclass(frozen=True)
class LossPlot:
    """Losses over the epochs.

    :param curves: as SVG polylines take them, by name.
    :param last: name and last value of each curve.
    """

    x: Axis
    y: Axis
    curves: dict[str, str]
    last: dict[str, str]
    width: int = WIDTH
    height: int = HEIGHT


def parity_plot(
    known: NDArray[np.float64],
    predicted: NDArray[np.float64],
    parts: Sequence[str],
    names: Sequence[str],
    unit: str,
    digits: int,
) -> ParityPlot:
    """Return a parity plot.

    :param known: (n,) values.
    :param predicted: (n,) values.
    :param parts: (n,) part of the split of each row; empty without one.
    :param names: (n,) names of the rows.
    :param unit: of the values.
    :param digits: decimals of values in titles.
    """
    low, high = limits(np.concatenate([known, predicted]), 0.04)
    # Both axes have the same length.
    x = Axis(f'known in {unit}', low, high, LEFT, SIDE - RIGHT)
    y = Axis(f'predicted in {unit}', low, high, SIDE - BOTTOM, SIDE - BOTTOM - (SIDE - RIGHT - LEFT))
    xs, ys = x.places(known).round(1), y.places(predicted).round(1)
    learnt = np.array([part == 'train' for part in parts])
    order = np.lexsort((-np.abs(predicted - known), learnt))
    linked, rest = order[:MOST_LINKS], order[MOST_LINKS:]
    points = [
        Point(
            float(xs[row]),
            float(ys[row]),
            int(row),
            parts[row],
            f'{names[row] or f"row {row}"}: predicted {predicted[row]:.{digits}f}, known {known[row]:.{digits}f} {unit}'
            + (f' ({parts[row]})' if parts[row] else ''),
        )
        for row in linked
    ]
    others = {}
    for part in sorted(set(parts)):
        rows = [row for row in rest if parts[row] == part]
        if rows:
            others[part] = _dots(xs[rows], ys[rows])
    return ParityPlot(x, y, tuple(points), others, len(known))


def loss_plot(losses: Mapping[str, Sequence[float]]) -> LossPlot | None:
    """Return curves of losses over the epochs, from 1 on, on a logarithmic axis; None: there are none above 0.

    :param losses: by name, one for each epoch; what is not above 0 is left out.
    """
    drawn = {
        name: [(epoch, value) for epoch, value in enumerate(values, 1) if 0 < value < math.inf]
        for name, values in losses.items()
    }
    levels = np.array([value for points in drawn.values() for _, value in points])
    if not levels.size:
        return None
    epochs = max(len(values) for values in losses.values())
    x = Axis('epoch', *limits(np.array([1.0, max(epochs, 2)]), 0.0), LEFT, WIDTH - RIGHT)
    y = Axis('loss', *limits(levels, 0.0, logarithmic=True), HEIGHT - BOTTOM, TOP, True)
    curves = {}
    for name, points in drawn.items():
        across, up = (np.array([point[part] for point in points], dtype=float) for part in (0, 1))
        places = zip(x.places(across).round(1).tolist(), y.places(up).round(1).tolist(), strict=True)
        curves[name] = ' '.join(f'{right:g},{down:g}' for right, down in places)
    return LossPlot(x, y, curves, {name: f'{values[-1]:.4g}' for name, values in losses.items() if values})


def _dots(xs: NDArray[np.float64], ys: NDArray[np.float64]) -> str:
    """Return a path that draws a dot at each pixel where there is a point."""
    pixels = np.unique(np.rint(np.stack([xs, ys], axis=1)).astype(int), axis=0)
    return ''.join(f'M{x} {y}h0' for x, y in pixels.tolist())
