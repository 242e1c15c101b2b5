"""Figures of transmissions: the potential beside T(E), and T over the energy and a parameter.

They are drawn as those of :mod:`aiida_nanoml.learning.plots`: functions return axes, and draw on those that they are
given. They take plain arrays, so that what was stored can be drawn without solving anything again.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import isotonic_regression

from aiida_nanoml.errors import TransportError
from aiida_nanoml.learning.plot_style import BLUE, GREY, RED, SMALL, Canvas, Width, drawing, thin_out
from aiida_nanoml.transport.potential import Floats, Potential

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LEAST = 1e-30
"""Transmissions below this are not drawn on a logarithmic scale."""

LOG_BELOW = 1e-3
"""The scale is logarithmic when the median of the transmission is below this."""

MOST_LABELS = 6
"""Resonances that get a label, where there is room for as many; the narrowest ones, when there are more."""

MOST_LINES = 6
"""Values of a parameter that are drawn as lines; more become a map."""

MOST_ROWS = 500
"""Energies that a map shows as they are; of more, means over evenly spaced intervals are shown."""

INTERVALS = 2000
"""Parts of an axis, finer than a figure shows; a curve keeps at most four points in each of them."""

LINE_STYLES = ('-', (0, (5, 1.5)), (0, (1.2, 1.2)), (0, (6, 1.5, 1.2, 1.5)), (0, (3, 1.2)), (0, (8, 3)))

CLOSED: dict[str, Any] = {'facecolor': '#f4f4f4', 'edgecolor': '#b8b8b8', 'hatch': '/////', 'linewidth': 0.0}
"""How the energies at which a lead is closed are shaded."""

CLOSED_LABEL = 'closed lead'

MOST_DIGITS = 12
"""Decimals of a label beyond which equal energies are left equal."""


def plot_transmission(
    potential: Potential,
    energies: ArrayLike,
    transmission: ArrayLike,
    resonances: tuple[ArrayLike, ArrayLike] | None = None,
    note: str = '',
    log_scale: bool | None = None,
    *,
    width: Width = 'double',
    ax: Axes | None = None,
) -> list[Axes]:
    """Draw a potential and, on the same axis of the energy, its transmission.

    V(x) stands at the left, continued into both leads, T(E) at the right with E upwards. The axis ends one range of the
    given energies above and below them at most: of a potential beyond, the extreme is written instead.

    A resonance is a horizontal line in the potential, over the stretches in which a classical particle of its energy
    would be caught, or over the whole region if there are none, and a triangle beside T(E), open where its width is
    below the step of the energies, so that the curve does not show its height. The narrowest :data:`MOST_LABELS` are
    labelled.

    :param potential: its name and mass become the title.
    :param energies: (n,) in eV, ascending.
    :param transmission: (n,) probabilities.
    :param resonances: (m,) energies and (m,) widths in eV; those outside of the energies are left out.
    :param note: second line of the title, for example ``'512 cosines, correction coupled'``.
    :param log_scale: whether T has a logarithmic scale; None: when its median is below :data:`LOG_BELOW`.
    :param width: of a figure of its own, in columns of a journal.
    :param ax: axes in whose place the panels are drawn; ``None``: a figure of its own.
    :returns: the axes of V(x) and of T(E).
    :raises TransportError: arrays that do not fit or are not finite, energies that do not ascend, transmissions that
        are no probabilities, or a logarithmic scale for no transmission above :data:`LEAST`.
    """
    grid, probabilities = _check_transmissions(energies, transmission, None)
    found = _pair(resonances, 'the energies of the resonances', 'their widths')
    if (found[1] < 0).any():
        raise TransportError(f'the width of a resonance is {found[1].min():g} eV: it must not be negative')
    found = found[:, (grid[0] <= found[0]) & (found[0] <= grid[-1])]
    logarithmic = _is_logarithmic(grid, probabilities, log_scale)
    low, high = _energy_limits(potential, grid)
    with drawing(ax, width, 3.9, panels=2) as canvas:
        left, right = canvas.panels
        right.sharey(left)
        right.tick_params(labelleft=False)
        left.set_ylim(low, high)
        _draw_potential(left, potential, found[0])
        _draw_transmission(right, float(potential.leads.max()), grid, probabilities, logarithmic)
        _mark_resonances(right, grid, *found)
        canvas.add_legend(columns=5)
        _write_title(canvas, _title(potential), note)
        canvas.fit_texts()
        _name_resonances(right, *found)
    return canvas.panels


def plot_scan(
    parameter_title: str,
    values: ArrayLike,
    energies: ArrayLike,
    transmissions: ArrayLike,
    resonances: tuple[ArrayLike, ArrayLike] | None = None,
    title: str = '',
    note: str = '',
    log_scale: bool | None = None,
    *,
    width: Width = 'single',
    ax: Axes | None = None,
) -> Axes:
    """Draw the transmission over the energy and a parameter.

    Up to :data:`MOST_LINES` values are lines T(E), more are a map, and a single energy is one line over the parameter.
    In a map each value and energy fills the space up to the middle between it and its neighbours; of more than
    :data:`MOST_ROWS` energies, means over as many even intervals are shown, in which no narrow peak is lost.
    Resonances are short lines in a map, and ticks above the curves, one row of ticks for each value.

    :param parameter_title: what is varied, with its unit: ``'Separation (nm)'``.
    :param values: (p,) of the parameter, in any order, each once.
    :param energies: (n,) in eV, ascending.
    :param transmissions: (p, n) probabilities.
    :param resonances: (m,) values of the parameter and (m,) energies in eV; energies outside are left out.
    :param title: first line of the title.
    :param note: second line of the title.
    :param log_scale: as of :func:`plot_transmission`.
    :param width: of a figure of its own, in columns of a journal.
    :param ax: axes to draw on; ``None``: a figure of its own.
    :returns: the axes of the lines or of the map.
    :raises TransportError: as of :func:`plot_transmission`; a value that is there twice, or a resonance of a value that
        was not computed.
    """
    parameter, order = _sort_parameter(values)
    grid, probabilities = _check_transmissions(energies, transmissions, len(parameter))
    probabilities = probabilities[order]
    found = _pair(resonances, 'the values of the parameter at resonances', 'the energies of the resonances')
    strange = found[0][~np.isin(found[0], parameter)]
    if len(strange):
        raise TransportError(f'there are resonances for {strange[0]:g}, which is no value of the parameter')
    found = found[:, (grid[0] <= found[1]) & (found[1] <= grid[-1])]
    logarithmic = _is_logarithmic(grid, probabilities, log_scale)
    with drawing(ax, width, 3.2 if width == 'single' else 4.4) as canvas:
        axes = canvas.panels[0]
        if len(grid) == 1:
            _draw_parameter(axes, parameter, probabilities, logarithmic)
            axes.set_xlabel(parameter_title, parse_math=False)
            title = '\n'.join(filter(None, [title, f'E = {grid[0]:g} eV']))
        elif len(parameter) <= MOST_LINES:
            _draw_lines(axes, parameter, grid, probabilities, found, logarithmic)
            canvas.add_legend(columns=4, title=parameter_title)
        else:
            _draw_map(canvas.figure, axes, parameter, grid, probabilities, found, logarithmic)
            axes.set_xlabel(parameter_title, parse_math=False)
            canvas.add_legend(columns=2)
        _write_title(canvas, title, note)
    return canvas.axes


def _numbers(given: Any, title: str, shape: tuple[int, ...] | None = None) -> Floats:
    """Return finite numbers of a shape; None: one row of any length."""
    try:
        array = np.array(given, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise TransportError(f'{title} must be numbers: {error}') from error
    if array.ndim != 1 if shape is None else array.shape != shape:
        wanted = 'one row' if shape is None else f'of the shape {shape}'
        raise TransportError(f'{title} must be {wanted}; the shape is {array.shape}')
    if not np.isfinite(array).all():
        raise TransportError(f'{title} must be finite; {array[~np.isfinite(array)][0]} is among them')
    return array


def _sort_parameter(values: ArrayLike) -> tuple[Floats, NDArray[np.int64]]:
    """Return the values of a parameter in ascending order, and their order; each must be there once."""
    parameter = _numbers(values, 'the values of the parameter')
    if not len(parameter):
        raise TransportError('there is no value of the parameter: there is nothing to draw')
    order = np.argsort(parameter, kind='stable')
    parameter = parameter[order]
    if (np.diff(parameter) == 0).any():
        raise TransportError(f'the parameter has a value twice: {parameter[1:][np.diff(parameter) == 0][0]:g}')
    return parameter, order


def _draw_transmission(axes: Any, threshold: float, grid: Floats, probabilities: Floats, logarithmic: bool) -> None:
    """Draw T(E) with E upwards, and shade the energies below a threshold (eV), where a lead is closed."""
    low, high = axes.get_ylim()
    if threshold > low:
        axes.axhspan(low, min(threshold, high), **CLOSED, zorder=0, label=CLOSED_LABEL)
    places, heights = _curve(grid, probabilities[0], logarithmic)
    marker = 'o' if len(grid) == 1 else ''
    axes.plot(heights, places, color=BLUE, linewidth=1.2, marker=marker, markersize=5, label='T(E)')
    _scale_transmission(axes, 'x', probabilities, logarithmic)
    axes.set_xlabel('Transmission')


def _check_transmissions(energies: Any, transmissions: Any, n_values: int | None) -> tuple[Floats, Floats]:
    """Check energies (n,) and transmissions (p, n), and return them; without a number of values, expect one row."""
    grid = _numbers(energies, 'the energies')
    if not len(grid):
        raise TransportError('there is no energy: there is nothing to draw')
    if (np.diff(grid) <= 0).any():
        place = int(np.flatnonzero(np.diff(grid) <= 0)[0])
        raise TransportError(f'the energies must ascend: {grid[place + 1]:g} eV follows {grid[place]:g} eV')
    shape = (len(grid),) if n_values is None else (n_values, len(grid))
    probabilities = _numbers(transmissions, 'the transmissions', shape).reshape(-1, len(grid))
    strange = probabilities[(probabilities < 0) | (probabilities > 1 + 1e-6)]
    if len(strange):
        raise TransportError(f'a transmission is {strange[0]:g}: a probability lies between 0 and 1')
    return grid, probabilities


def _pair(pair: tuple[ArrayLike, ArrayLike] | None, first: str, second: str) -> Floats:
    """Return two rows of numbers (2, m); without a pair, m is zero."""
    if pair is None:
        return np.empty((2, 0))
    one = _numbers(pair[0], first)
    return np.stack([one, _numbers(pair[1], second, one.shape)])


def _is_logarithmic(grid: Floats, probabilities: Floats, wanted: bool | None) -> bool:
    drawable = bool((probabilities >= LEAST).any())
    if wanted and not drawable:
        raise TransportError(f'no transmission reaches {LEAST:g}: there is nothing to draw on a logarithmic scale')
    if wanted is not None or not drawable:
        return bool(wanted)
    # Energies are dense at resonances: the median is that of evenly spaced ones.
    even = np.concatenate([np.interp(np.linspace(grid[0], grid[-1], 1001), grid, row) for row in probabilities])
    open_ones = even[even > 0]
    return bool(len(open_ones) and np.median(open_ones) < LOG_BELOW)


def _energy_limits(potential: Potential, grid: Floats) -> tuple[float, float]:
    """Return the ends of the axis of the energy, in eV."""
    everything = np.concatenate([potential.leads, potential.values])
    reach = grid[-1] - grid[0] if len(grid) > 1 else np.inf
    low = max(min(grid[0], everything.min()), grid[0] - reach)
    high = min(max(grid[-1], everything.max()), grid[-1] + reach)
    margin = 0.04 * (high - low) or max(0.1 * abs(high), 0.01)
    return float(low - margin), float(high + margin)


def _curve(places: Floats, probabilities: Floats, logarithmic: bool) -> tuple[Floats, Floats]:
    """Return the part of a curve that can be drawn, with gaps for the rest."""
    kept, shown = thin_out(places, probabilities, INTERVALS)
    return kept, np.where(shown >= LEAST, shown, np.nan) if logarithmic else shown


def _draw_potential(axes: Any, potential: Potential, resonances: Floats) -> None:
    low, high = axes.get_ylim()
    length, pad = potential.length, 0.15 * potential.length
    first = np.concatenate([[True], np.diff(potential.values) != 0])
    begins, cells = thin_out(potential.edges[:-1][first], potential.values[first], INTERVALS)
    places = np.concatenate([[-pad], begins, [length, length + pad]])
    values = np.concatenate([[potential.left], cells, [potential.right, potential.right]])
    axes.plot(places, values, drawstyle='steps-post', color='black', linewidth=1.3, label='V(x)', zorder=3)
    inside = slice(1, -1)
    axes.fill_between(places[inside], low, values[inside], step='post', color='#e4e4e4', linewidth=0, zorder=0)
    for begin, end, edge in ((-pad, 0.0, potential.left), (length, length + pad, potential.right)):
        if edge > low:
            axes.fill_between([begin, end], low, edge, **CLOSED, zorder=0, label=CLOSED_LABEL)
    for end in (0.0, length):
        axes.axvline(end, color=GREY, linewidth=0.6, linestyle=(0, (1, 2)), zorder=1)
    stretches = [(energy, *ends) for energy in resonances for ends in _stretches(potential, energy)]
    if stretches:
        axes.hlines(*np.transpose(stretches), colors=RED, linewidths=1.0, label='resonance', zorder=2)
    everything = np.concatenate([potential.values, potential.leads])
    if everything.max() > high:
        _note_extreme(axes, f'V up to {everything.max():g} eV', high, 'top')
    if everything.min() < low:
        _note_extreme(axes, f'V down to {everything.min():g} eV', low, 'bottom')
    axes.set_xlim(-pad, length + pad)
    axes.set_xlabel('x (nm)')
    axes.set_ylabel('Energy (eV)')


def _note_extreme(axes: Any, text: str, energy: float, side: str) -> None:
    axes.annotate(
        text.replace('-', '−'),
        (0.5, energy),
        xycoords=axes.get_yaxis_transform(),
        xytext=(0, -4 if side == 'top' else 4),
        textcoords='offset points',
        ha='center',
        va=side,
        fontsize=SMALL,
        bbox={'boxstyle': 'round,pad=0.2', 'facecolor': 'white', 'edgecolor': 'none', 'alpha': 0.9},
        zorder=4,
    )


def _stretches(potential: Potential, energy: float) -> list[tuple[float, float]]:
    """Return where a classical particle would be caught, in nm; the whole region where it would not.

    Stretches too short to be seen are left out.
    """
    allowed = np.concatenate([[potential.left], potential.values, [potential.right]]) < energy
    turns = np.flatnonzero(np.diff(allowed))
    # Turns are at edges of cells; a stretch begins at one and ends at the next.
    begins = turns[~allowed[turns]]
    ends = turns[allowed[turns]]
    ends = ends[ends > begins[0]] if len(begins) else ends[:0]
    stretches = potential.edges[np.stack([begins[: len(ends)], ends], axis=1)]
    seen = np.ptp(stretches, axis=1) > potential.length / INTERVALS
    return list(map(tuple, stretches[seen])) or [(0.0, potential.length)]


def _mark_resonances(axes: Any, grid: Floats, energies: Floats, widths: Floats) -> None:
    """Put triangles at the right of the axes."""
    if len(grid) > 1:
        after = np.clip(np.searchsorted(grid, energies), 1, len(grid) - 1)
        resolved = grid[after] - grid[after - 1] < widths
    else:
        resolved = np.zeros(len(energies), dtype=np.bool_)
    beside = axes.get_yaxis_transform()
    for which, colour, label in ((resolved, RED, None), (~resolved, 'white', 'narrower than the energy step')):
        if which.any():
            axes.plot(
                np.full(which.sum(), 1.02),
                energies[which],
                transform=beside,
                clip_on=False,
                linestyle='none',
                marker='<',
                markersize=4.5,
                markerfacecolor=colour,
                markeredgecolor=RED,
                markeredgewidth=0.8,
                label=label,
            )


def _name_resonances(axes: Any, energies: Floats, widths: Floats) -> None:
    """Put energies and widths beside the triangles, as many as have room."""
    beside = axes.get_yaxis_transform()
    height = 72 * axes.get_window_extent().height / axes.get_figure(root=True).dpi
    gap = 2.6 * SMALL / height
    named = np.sort(np.argsort(widths, kind='stable')[: min(MOST_LABELS, int(1 / gap))])
    named = named[np.argsort(energies[named], kind='stable')]
    low, high = axes.get_ylim()
    places = _spread_apart((energies[named] - low) / (high - low), gap)
    for row, place, text in zip(named, places, _energy_texts(energies[named], high - low), strict=True):
        axes.annotate(
            f'{text} eV\n{_width_text(widths[row])}',
            (1.045, energies[row]),
            xycoords=beside,
            xytext=(1.13, place),
            textcoords='axes fraction',
            va='center',
            fontsize=SMALL,
            linespacing=1.1,
            arrowprops={'arrowstyle': '-', 'linewidth': 0.5, 'color': GREY, 'shrinkA': 1, 'relpos': (0, 0.5)},
            annotation_clip=False,
        )


def _spread_apart(places: Floats, gap: float) -> Floats:
    """Move ascending places between 0 and 1 as little as possible, to be a gap apart."""
    if not len(places):
        return places
    shifts = gap * np.arange(len(places))
    nearest = isotonic_regression(places - shifts).x
    moved: Floats = np.clip(nearest, 0.5 * gap, 1 - 0.5 * gap - shifts[-1]) + shifts
    return moved


def _energy_texts(energies: Floats, span: float) -> list[str]:
    """Write energies with the digits that the axis shows, and more where two would read the same."""
    digits = max(0, 3 - math.floor(math.log10(span)))
    while True:
        texts = [f'{energy:.{digits}f}' for energy in energies]
        if len(set(texts)) == len(set(energies.tolist())) or digits > MOST_DIGITS:
            return texts
        digits += 1


def _width_text(width: float) -> str:
    from matplotlib.ticker import EngFormatter

    return f'Γ = {EngFormatter("eV")(float(f"{width:.3g}"))}' if width > 0 else 'Γ below rounding'


def _scale_transmission(axes: Any, axis: str, probabilities: Floats, logarithmic: bool, strip: float = 0.0) -> None:
    """Set scale and limits of the transmission; a strip, a fraction of the axis, is left free at its end."""
    if not logarithmic:
        axes.set(**{f'{axis}lim': (-0.02, -0.02 + 1.05 / (1 - strip)), f'{axis}ticks': np.linspace(0, 1, 6)})
        return
    from matplotlib.ticker import FixedLocator, NullFormatter

    low, high = _decades(probabilities)
    step = math.ceil((high - low) / 6)
    axes.set(
        **{
            f'{axis}scale': 'log',
            f'{axis}lim': (10.0**low, 10.0 ** (low + 1.02 * (high - low) / (1 - strip))),
            f'{axis}ticks': 10.0 ** np.arange(high, low - 1, -step),
        }
    )
    between = np.arange(2, 10) if step == 1 else [10]
    minor = np.outer(10.0 ** np.arange(low, high), between).ravel().tolist()
    ticks = getattr(axes, f'{axis}axis')
    ticks.set_minor_locator(FixedLocator(minor))
    ticks.set_minor_formatter(NullFormatter())


def _decades(probabilities: Floats) -> tuple[int, int]:
    """Return the powers of ten around all transmissions that can be drawn."""
    drawn = np.log10(probabilities[probabilities >= LEAST])
    low = math.floor(drawn.min())
    # A transmission of one may be above it by rounding.
    return low, max(math.ceil(drawn.max() - 1e-6), low + 1)


def _draw_lines(
    axes: Any, parameter: Floats, grid: Floats, probabilities: Floats, resonances: Floats, logarithmic: bool
) -> None:
    import matplotlib as mpl

    colours = mpl.colormaps['viridis'](np.linspace(0, 0.78, len(parameter)))
    height = 0.035
    strip = height * len(parameter) if resonances.size else 0.0
    _scale_transmission(axes, 'y', probabilities, logarithmic, strip)
    for row, (value, colour, style) in enumerate(zip(parameter, colours, LINE_STYLES, strict=False)):
        curve = _curve(grid, probabilities[row], logarithmic)
        axes.plot(*curve, color=colour, linestyle=style, linewidth=1.3, label=f'{value:g}')
        own = resonances[1][resonances[0] == value]
        if len(own):
            bottom = 1 - strip + height * row
            axes.vlines(
                own,
                bottom + 0.15 * height,
                bottom + 0.85 * height,
                transform=axes.get_xaxis_transform(),
                colors=[colour],
                linewidths=1.3,
            )
    if strip:
        axes.plot([], [], color='black', linestyle='none', marker='|', label='resonances')
    axes.set_xlim(grid[0], grid[-1])
    axes.set_xlabel('Energy (eV)')
    axes.set_ylabel('Transmission')


def _draw_map(
    figure: Any,
    axes: Any,
    parameter: Floats,
    grid: Floats,
    probabilities: Floats,
    resonances: Floats,
    logarithmic: bool,
) -> None:
    from matplotlib.colors import LogNorm, Normalize

    columns = _edges(parameter)
    if len(grid) > MOST_ROWS:
        rows = np.linspace(grid[0], grid[-1], MOST_ROWS + 1)
        probabilities = _means(grid, probabilities, rows)
    else:
        rows = _edges(grid)
    norm = Normalize(0, 1)
    if logarithmic:
        low, high = _decades(probabilities)
        norm = LogNorm(10.0**low, 10.0**high)
    shown = np.ma.masked_less(probabilities, LEAST if logarithmic else 0.0)
    mesh = axes.pcolormesh(columns, rows, shown.T, norm=norm, cmap='Blues', rasterized=True)
    figure.colorbar(mesh, ax=axes, label='Transmission', pad=0.02)
    if logarithmic and shown.mask.any():
        everywhere = columns[[0, -1]]
        axes.fill_between(everywhere, *rows[[0, -1]], **CLOSED, zorder=-1, label=f'{CLOSED_LABEL}, or T < {LEAST:g}')
    if resonances.size:
        middles = parameter.searchsorted(resonances[0])
        axes.hlines(
            resonances[1],
            0.75 * resonances[0] + 0.25 * columns[middles],
            0.75 * resonances[0] + 0.25 * columns[middles + 1],
            colors=RED,
            linewidths=1.0,
            label='resonances',
        )
    axes.set(xlim=(columns[0], columns[-1]), ylim=(rows[0], rows[-1]))
    axes.set_ylabel('Energy (eV)')


def _draw_parameter(axes: Any, parameter: Floats, probabilities: Floats, logarithmic: bool) -> None:
    """Draw one transmission for each value of the parameter."""
    curve = _curve(parameter, probabilities[:, 0], logarithmic)
    axes.plot(*curve, color=BLUE, linewidth=1.0, marker='o', markersize=4)
    _scale_transmission(axes, 'y', probabilities, logarithmic)
    axes.set_ylabel('Transmission')


def _edges(centres: Floats) -> Floats:
    """Return the ends of cells that meet in the middle between their centres; the outer two are symmetric."""
    middles = (centres[1:] + centres[:-1]) / 2
    edges: Floats = np.concatenate([[2 * centres[0] - middles[0]], middles, [2 * centres[-1] - middles[-1]]])
    return edges


def _means(grid: Floats, probabilities: Floats, borders: Floats) -> Floats:
    """Return the mean of each transmission between neighbouring borders, (p, n_borders - 1)."""
    places = np.union1d(grid, borders)
    values = np.array([np.interp(places, grid, row) for row in probabilities])
    pieces = 0.5 * (values[:, 1:] + values[:, :-1]) * np.diff(places)
    # Not the difference of two cumulative sums: what is small beside a peak would be lost.
    sums = np.add.reduceat(pieces, np.searchsorted(places, borders[:-1]), axis=1)
    means: Floats = sums / np.diff(borders)
    return means


def _title(potential: Potential) -> str:
    masses = [*potential.masses, *potential.lead_masses]
    lightest, heaviest = min(masses), max(masses)
    mass = f'{lightest:g}' if lightest == heaviest else f'{lightest:g} to {heaviest:g}'
    parts = [f'm* = {mass} m₀', f'{potential.length:g} nm']
    return ', '.join(filter(None, [potential.name, *parts]))


def _write_title(canvas: Canvas, title: str, note: str) -> None:
    # Names are written as they are: a dollar sign does not begin a formula.
    canvas.write_title('\n'.join(line for line in (*title.split('\n'), note) if line.strip()), parse_math=False)
