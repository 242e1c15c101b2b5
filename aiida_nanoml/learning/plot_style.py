"""Common style of figures: colours, fonts, drawing without pyplot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from aiida_nanoml.errors import DatasetError

# Okabe and Ito's palette, which colour-blind readers can distinguish; markers differ as well, for print without colour.
STYLES = (
    ('#9a9a9a', 'o', 12.0),
    ('#E69F00', '^', 18.0),
    ('#0072B2', 's', 13.0),
    ('#009E73', 'D', 20.0),
    ('#CC79A7', 'v', 24.0),
    ('#D55E00', 'P', 26.0),
)
RC = {
    'font.family': 'sans-serif',
    'font.sans-serif': ['DejaVu Sans'],
    'font.size': 9.0,
    'axes.labelsize': 10.0,
    'axes.titlesize': 10.0,
    'legend.fontsize': 8.0,
    'xtick.labelsize': 8.5,
    'ytick.labelsize': 8.5,
    'axes.linewidth': 0.8,
    'xtick.direction': 'in',
    'ytick.direction': 'in',
    'xtick.top': True,
    'ytick.right': True,
    'mathtext.default': 'regular',
    'svg.hashsalt': 'aiida-nanoml',
}


_UNDATED = {'.svg': {'Date': None}, '.pdf': {'CreationDate': None}}


def new_figure(width: float, height: float, panels: int | None = None, rows: int = 1) -> tuple[Any, Any]:
    """Make a figure without pyplot: no global state, no display.

    :param width: in inches.
    :param height: in inches.
    :param panels: number of axes side by side; ``None``: one.
    :param rows: rows that the panels are divided into.
    :returns: the figure and its axes; with ``panels``, a list of axes.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout='constrained')
    FigureCanvasAgg(figure)
    if panels is None:
        return figure, figure.add_subplot()
    columns = -(-panels // rows)
    return figure, [figure.add_subplot(rows, columns, number) for number in range(1, panels + 1)]


def save_figure(figure: Any, path: Path | str) -> None:
    """Write a figure without a date: the same figure gives the same file.

    :param path: its ending chooses the format (png, pdf, svg).
    :raises DatasetError: there is no such format.
    """
    try:
        figure.savefig(path, dpi=300, metadata=_UNDATED.get(Path(path).suffix))
    except ValueError as error:
        raise DatasetError(f'{path}: {error}') from error
