"""Figures for publication: parity, learning curves, calibration, rounds of active learning.

Functions return axes, and draw on those that they are given;
:func:`~aiida_nanoml.learning.plot_style.save_figure` writes them. Figures are drawn without pyplot: no global state, no
display.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from aiida_nanoml.errors import DatasetError
from aiida_nanoml.learning.arrays import Floats, as_targets
from aiida_nanoml.learning.dataset import GAP
from aiida_nanoml.learning.metrics import regression_metrics
from aiida_nanoml.learning.plot_style import (
    BLACK,
    BLUE,
    DASHES,
    RED,
    Canvas,
    Style,
    Width,
    drawing,
    label_log_axis,
    shorten_name,
    styles_of,
    width_inches,
)
from aiida_nanoml.learning.targets import TARGETS, Target
from aiida_nanoml.learning.uncertainty import LEVELS, Calibration

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CROWDED = 50
"""Rows beyond which a parity plot has a panel of errors."""

SHADED = 500
"""Rows of a part beyond which their density is shaded in place of a marker for each."""


def plot_parity(
    parts: Mapping[str, tuple[npt.ArrayLike, npt.ArrayLike]],
    title: str,
    engine_label: str,
    baseline: tuple[npt.ArrayLike, npt.ArrayLike] | None = None,
    target: Target = TARGETS[GAP],
    *,
    width: Width = 'single',
    ax: Axes | None = None,
) -> Axes:
    """Draw predicted against reference values, with R², MAE and n of every part in the legend.

    A figure of its own has a panel of errors if there are more than :data:`CROWDED` rows. Of parts with more than
    :data:`SHADED` rows the density is shaded. Predicted gaps below zero, which no material has, are ringed and counted.

    :param parts: (n,) reference and (n,) predicted values in the unit of the target by name, for example of the splits;
        later ones on top.
    :param title: above the figure.
    :param engine_label: engine and protocol of the reference, for the axis: ``'GFN1-xTB (tblite), balanced'``.
    :param baseline: reference values and baseline of the rows of the last part, when the predictions correct a
        baseline: what it is worth without the model, drawn as crosses.
    :param target: what was predicted, for the axes.
    :param width: of a figure of its own, in columns of a journal.
    :param ax: axes to draw on; ``None``: a figure of its own.
    :returns: the axes of the predictions.
    :raises DatasetError: no part, an empty label, or arrays that do not match.
    """
    if not parts:
        raise DatasetError('a parity plot needs at least one part')
    _require_label(engine_label, 'a parity plot', 'reference')
    checked = {}
    for name, (y, y_pred) in parts.items():
        reference = as_targets(y, f'reference values of {name}')
        checked[name] = reference, as_targets(y_pred, f'predicted values of {name}', n_rows=len(reference))
    alone = {}
    if baseline is not None:
        reference = as_targets(baseline[0], 'reference values of the baseline')
        alone['baseline alone'] = reference, as_targets(baseline[1], 'the baseline', n_rows=len(reference))
    everything = np.concatenate([values for pair in (checked | alone).values() for values in pair])
    margin = 0.04 * max(float(np.ptp(everything)), 0.1)
    limits = float(everything.min()) - margin, float(everything.max()) + margin
    crowded = ax is None and sum(len(reference) for reference, _ in checked.values()) > CROWDED
    stacked = width == 'single'

    height = (1.1 if stacked else 0.6) * width_inches(width)
    with drawing(ax, width, height, panels=1 + crowded, rows=1 + (crowded and stacked)) as canvas:
        axes = canvas.panels[0]
        axes.plot(limits, limits, color='black', linewidth=0.8, zorder=1)
        styles = styles_of(checked)
        for number, (name, (reference, predicted)) in enumerate(checked.items()):
            label = _caption(name, regression_metrics(reference, predicted), target)
            _draw_cloud(axes, reference, predicted, styles[name], label, 2 + number, (45, 25))
        for name, (reference, predicted) in alone.items():
            label = _caption(name, regression_metrics(reference, predicted), target)
            _draw_crosses(axes, reference, predicted, label, 2 + len(checked))
        if target.name == GAP:
            _ring_negative(axes, checked)
        axes.set(xlim=limits, ylim=limits)
        x_label = f'{target.noun[0].upper()}{target.noun[1:]}, {engine_label} ({target.unit})'
        axes.set_xlabel(x_label)
        axes.set_ylabel(f'Predicted {target.noun} ({target.unit})')
        _place_ticks(axes.xaxis, axes.yaxis)
        canvas.write_title(title)
        if crowded:
            _draw_errors(canvas.panels[1], checked, alone, target)
            canvas.panels[1].set(xlim=limits, xlabel=x_label)
            _place_ticks(canvas.panels[1].xaxis)
            if stacked:
                axes.get_gridspec().set_height_ratios((3, 1))
                axes.set_xlabel('')
                axes.tick_params(labelbottom=False)
        canvas.add_legend(columns=1 if stacked else 2)
        if ax is None:
            _make_square(canvas, axes, share=0.75 if crowded and stacked else 1.0)
        else:
            axes.set_aspect('equal')
    return canvas.axes


def _draw_cloud(
    axes: Any, x: Floats, y: Floats, style: Style, label: str, zorder: int, hexagons: tuple[int, int]
) -> None:
    """Draw a marker for each row, or, of many rows, how dense they lie."""
    few = len(x) <= SHADED
    axes.scatter(
        x if few else [],
        y if few else [],
        s=style.size * _shrink(len(x)) if few else style.size,
        c=style.colour,
        marker=style.marker,
        alpha=0.75,
        linewidths=0.3,
        edgecolors='white',
        label=label,
        zorder=zorder,
    )
    if not few:
        colours = _shades(style.colour)
        axes.hexbin(x, y, gridsize=hexagons, bins='log', mincnt=1, cmap=colours, linewidths=0.1, zorder=zorder)


def _shades(colour: str) -> Any:
    """Return colours from a tint of one to a darker one."""
    from matplotlib.colors import LinearSegmentedColormap, to_rgb

    middle = np.array(to_rgb(colour))
    return LinearSegmentedColormap.from_list('shades', [0.3 * middle + 0.7, middle, 0.45 * middle])


def _draw_crosses(axes: Any, x: Floats, y: Floats, label: str | None, zorder: int) -> None:
    axes.scatter(x, y, s=12.0 * _shrink(len(x)), c=BLACK, marker='x', linewidths=0.6, label=label, zorder=zorder)


def _ring_negative(axes: Any, parts: Mapping[str, tuple[Floats, Floats]]) -> None:
    """Ring and count predictions below zero."""
    reference, predicted = (np.concatenate(columns) for columns in zip(*parts.values(), strict=True))
    below = predicted < 0
    if below.any():
        label = f'below zero: {below.sum()} of {len(below)} predicted gaps'
        axes.axhline(0, color=RED, linewidth=0.6, linestyle=DASHES, zorder=1)
        axes.scatter(
            reference[below],
            predicted[below],
            s=34 * _shrink(10 * int(below.sum())),
            facecolors='none',
            edgecolors=RED,
            linewidths=0.8,
            label=label,
            zorder=9,
        )


def _draw_errors(
    axes: Any,
    parts: Mapping[str, tuple[Floats, Floats]],
    alone: Mapping[str, tuple[Floats, Floats]],
    target: Target,
) -> None:
    """Draw predicted minus reference values over the reference."""
    axes.axhline(0, color='black', linewidth=0.8, zorder=1)
    styles = styles_of(parts)
    for number, (name, (reference, predicted)) in enumerate(parts.items()):
        _draw_cloud(axes, reference, predicted - reference, styles[name], '', 2 + number, (45, 13))
    for reference, predicted in alone.values():
        _draw_crosses(axes, reference, predicted - reference, None, 2 + len(parts))
    errors = np.concatenate([predicted - reference for reference, predicted in (*parts.values(), *alone.values())])
    edge = 1.08 * max(float(np.abs(errors).max()), 1e-3)
    axes.set(ylim=(-edge, edge), ylabel=f'Error ({target.unit})')


def _place_ticks(*everything: Any) -> None:
    from matplotlib.ticker import AutoMinorLocator, MaxNLocator

    for axis in everything:
        axis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
        axis.set_minor_locator(AutoMinorLocator(2))


def _make_square(canvas: Canvas, axes: Any, share: float) -> None:
    """Change the height of a figure until axes, which take a share of the height of all panels, are square."""
    figure = canvas.figure
    for _ in range(2):
        canvas.fit_texts()
        extent = axes.get_window_extent()
        figure.set_figheight(figure.get_figheight() + (extent.width - extent.height) / figure.dpi / share)


def plot_learning_curve(
    history: Mapping[str, Sequence[float]],
    title: str,
    loss_label: str = 'Loss',
    *,
    width: Width = 'single',
    ax: Axes | None = None,
) -> Axes:
    """Draw the losses of training and validation over the epochs, to see over-fitting.

    The best epoch of the validation is marked.

    :param history: ``loss`` and optionally ``val_loss``, one number an epoch, in the unit that ``loss_label`` says.
    :param title: above the figure.
    :param loss_label: what the loss is, for the axis: ``DenseNetwork.loss_label``.
    :param width: as of :func:`plot_parity`.
    :param ax: as of :func:`plot_parity`.
    :returns: the axes.
    :raises DatasetError: no ``loss``, lengths that differ, NaN or infinity.
    """
    if 'loss' not in history or not len(history['loss']):
        raise DatasetError('the history has no loss: only networks have learning curves')
    losses = as_targets(history['loss'], 'loss')
    validation = as_targets(history['val_loss'], 'val_loss', n_rows=len(losses)) if 'val_loss' in history else None
    epochs = np.arange(1, len(losses) + 1)
    styles = styles_of(('train', 'validation'))
    with drawing(ax, width, 2.6) as canvas:
        axes = canvas.panels[0]
        axes.plot(epochs, losses, color=styles['train'].colour, linewidth=1.2, label='train')
        if validation is not None:
            best = int(np.argmin(validation))
            colour, marker, _ = styles['validation']
            axes.plot(epochs, validation, color=colour, linewidth=1.2, linestyle=DASHES, label='validation')
            axes.plot(
                epochs[best],
                validation[best],
                marker=marker,
                color=colour,
                markersize=6,
                markeredgecolor='black',
                markeredgewidth=0.6,
                linestyle='none',
                label=f'lowest validation loss: {validation[best]:.2g}, epoch {epochs[best]}',
            )
        if min(losses.min(), np.inf if validation is None else validation.min()) > 0:
            axes.set_yscale('log')
            label_log_axis(axes.yaxis)
        axes.set_xlim(0, len(losses) + 1)
        axes.set_xlabel('Epoch')
        axes.set_ylabel(loss_label)
        canvas.write_title(title)
        canvas.add_legend(columns=2)
    return canvas.axes


def plot_calibration(
    parts: Mapping[str, tuple[npt.ArrayLike, npt.ArrayLike]],
    calibration: Calibration,
    title: str,
    engine_label: str,
    unit: str = TARGETS[GAP].unit,
    *,
    width: Width = 'single',
    ax: Axes | None = None,
) -> Axes:
    """Draw errors against predicted standard deviations, with the bounds of the intervals and how many rows they hold.

    :param parts: (n,) standard deviations and (n,) errors without sign by name, both in ``unit``; later ones on top.
    :param calibration: gives the intervals.
    :param title: above the figure.
    :param engine_label: engine and protocol of the reference, for the axis.
    :param unit: of what was predicted.
    :param width: as of :func:`plot_parity`.
    :param ax: as of :func:`plot_parity`.
    :returns: the axes.
    :raises DatasetError: no part, an empty label, or arrays that do not match.
    """
    if not parts:
        raise DatasetError('a calibration plot needs at least one part')
    _require_label(engine_label, 'a calibration plot', 'reference')
    checked = {}
    for name, (std, error) in parts.items():
        deviations = as_targets(std, f'standard deviations of {name}')
        checked[name] = deviations, as_targets(error, f'errors of {name}', n_rows=len(deviations))
    widest = max(float(deviations.max()) for deviations, _ in checked.values())
    styles = styles_of(checked)
    with drawing(ax, width, 3.1) as canvas:
        axes = canvas.panels[0]
        ends = np.array([0.0, 1.04 * widest])
        for bound, dashes, level in zip(calibration.half_widths(ends), ('-', DASHES), LEVELS, strict=True):
            axes.plot(ends, bound, color='black', linewidth=0.9, linestyle=dashes, label=f'{level:.0%} interval')
        for number, (name, (deviations, error)) in enumerate(checked.items()):
            inside = [np.mean(error <= bound) for bound in calibration.half_widths(deviations)]
            label = f'{name}, n = {len(error)}: they hold {inside[0]:.0%} and {inside[1]:.0%}'
            _draw_cloud(axes, deviations, error, styles[name], label, 2 + number, (45, 20))
        axes.set_xlim(*ends)
        axes.set_ylim(0, None)
        axes.set_xlabel(f'Predicted standard deviation ({unit})')
        axes.set_ylabel(f'Error against {engine_label} ({unit})')
        canvas.write_title(title)
        canvas.add_legend(columns=2)
    return canvas.axes


def plot_rounds(
    curves: Mapping[str, tuple[npt.ArrayLike, npt.ArrayLike]],
    title: str,
    engine_label: str,
    target: float | None = None,
    *,
    width: Width = 'single',
    ax: Axes | None = None,
) -> Axes:
    """Draw the error against the number of labels learnt from, a curve for each way to choose what is labelled.

    :param curves: (n,) numbers of labels and (n,) mean absolute errors in eV by name.
    :param title: above the figure.
    :param engine_label: engine and protocol of the labels, for the axis.
    :param target: error in eV that was aimed at, drawn as a line.
    :param width: as of :func:`plot_parity`.
    :param ax: as of :func:`plot_parity`.
    :returns: the axes.
    :raises DatasetError: no curve, an empty label, or arrays that do not match.
    """
    if not curves:
        raise DatasetError('a figure of rounds needs at least one curve')
    _require_label(engine_label, 'a figure of rounds', 'labels')
    with drawing(ax, width, 2.6) as canvas:
        axes = canvas.panels[0]
        for (name, (counts, errors)), style in zip(curves.items(), styles_of(curves).values(), strict=True):
            labels = as_targets(counts, f'numbers of labels of {name}')
            axes.plot(
                labels,
                as_targets(errors, f'errors of {name}', n_rows=len(labels)),
                color=style.colour,
                marker=style.marker,
                markersize=4,
                linewidth=1.2,
                label=name,
            )
        if target is not None:
            axes.axhline(target, color='black', linewidth=0.8, linestyle=DASHES, label='target')
        axes.set_ylim(bottom=0)
        axes.set_xlabel(f'Labels learnt from, {engine_label}')
        axes.set_ylabel('Mean absolute error (eV)')
        canvas.write_title(title)
        canvas.add_legend()
    return canvas.axes


MOST_MODELS = 40
"""Models in a panel of :func:`plot_test_errors`: of more, the best are drawn."""


def plot_test_errors(
    panels: Mapping[str, Sequence[tuple[str, float, float]]], *, width: Width = 'double', ax: Axes | None = None
) -> list[Axes]:
    """Draw the test error of models beside each other, the best on top; in one panel only what can be compared.

    :param panels: by what the error is, with its unit: name of the model, error, and its standard error (0: unknown).
    :param width: as of :func:`plot_parity`.
    :param ax: axes in whose place the panels are drawn; ``None``: a figure of its own.
    :returns: the axes of each panel.
    :raises DatasetError: there is no model.
    """
    if not any(panels.values()):
        raise DatasetError('a figure of test errors needs at least one model')
    shown = {title: sorted(models, key=lambda model: model[1])[:MOST_MODELS] for title, models in panels.items()}
    heights = [0.8 + 0.18 * len(models) for models in shown.values()]
    with drawing(ax, width, sum(heights), panels=len(shown), rows=len(shown)) as canvas:
        canvas.panels[0].get_gridspec().set_height_ratios(heights)
        for axes, (title, models) in zip(canvas.panels, shown.items(), strict=True):
            names, errors, deviations = zip(*models, strict=True)
            places = np.arange(len(models))
            axes.errorbar(errors, places, xerr=deviations, fmt='o', color=BLUE, markersize=4, elinewidth=0.9)
            axes.set_yticks(
                places, [shorten_name(name, int(8 * width_inches(width))) for name in names], parse_math=False
            )
            axes.set_ylim(len(models) - 0.5, -0.5)
            axes.set_xlim(left=0)
            axes.tick_params(axis='y', length=0)
            left_out = len(panels[title]) - len(models)
            axes.set_xlabel(title + (f'; the best {len(models)}, {left_out} more' if left_out else ''))
    return list(canvas.panels)


def _require_label(engine_label: str, figure: str, what: str) -> None:
    if not engine_label.strip():
        raise DatasetError(f'{figure} must say which engine and protocol gave the {what}')


def _shrink(n_points: int) -> float:
    """Smaller markers when there are many, so that clouds stay readable."""
    return float(np.clip(np.sqrt(300 / n_points), 0.15, 1.0))


def _caption(name: str, metrics: Mapping[str, float | int | None], target: Target) -> str:
    r2 = 'n/a' if metrics['r2'] is None else f'{metrics["r2"]:.3f}'
    return f'{name}: R² = {r2}, MAE = {metrics["mae"]:.{target.digits}f} {target.unit}, n = {metrics["n"]}'
