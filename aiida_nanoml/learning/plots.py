"""Figures for publication: parity, learning curves, calibration, rounds of active learning.

Figures are drawn without pyplot: no global state, no display. The ending of the path chooses the format (png, pdf,
svg).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from aiida_nanoml.errors import DatasetError
from aiida_nanoml.learning.arrays import as_targets
from aiida_nanoml.learning.dataset import GAP
from aiida_nanoml.learning.metrics import regression_metrics
from aiida_nanoml.learning.plot_style import RC, STYLES, new_figure, save_figure
from aiida_nanoml.learning.targets import TARGETS, Target
from aiida_nanoml.learning.uncertainty import LEVELS, Calibration


def plot_parity(
    path: Path | str,
    parts: Mapping[str, tuple[npt.ArrayLike, npt.ArrayLike]],
    title: str,
    engine_label: str,
    baseline: tuple[npt.ArrayLike, npt.ArrayLike] | None = None,
    target: Target = TARGETS[GAP],
) -> None:
    """Draw predicted against reference values, with R², MAE and n of every part in the legend.

    :param path: file to write.
    :param parts: (n,) reference and (n,) predicted values by name, for example of the splits; later ones on top.
    :param title: above the figure.
    :param engine_label: engine and protocol of the reference, for the axis: ``'GFN1-xTB (tblite), balanced'``.
    :param baseline: reference values and baseline of the rows of the last part, when the predictions correct a
        baseline: what it is worth without the model, drawn as crosses.
    :param target: what was predicted, for the axes.
    :raises DatasetError: no part, an empty label, or arrays that do not match.
    """
    if not parts:
        raise DatasetError('a parity plot needs at least one part')
    if not engine_label.strip():
        raise DatasetError('a parity plot must say which engine and protocol gave the reference')
    import matplotlib as mpl
    from matplotlib.ticker import AutoMinorLocator, MaxNLocator

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

    with mpl.rc_context(RC):
        figure, axes = new_figure(4.2, 4.2)
        axes.plot(limits, limits, color='black', linewidth=0.8, zorder=1)
        for number, (name, (reference, predicted)) in enumerate(checked.items()):
            colour, marker, size = STYLES[number % len(STYLES)]
            axes.scatter(
                reference,
                predicted,
                s=size * _shrink(len(reference)),
                c=colour,
                marker=marker,
                alpha=0.75,
                linewidths=0.3,
                edgecolors='white',
                label=_caption(name, regression_metrics(reference, predicted), target),
                zorder=2 + number,
            )
        for name, (reference, predicted) in alone.items():
            axes.scatter(
                reference,
                predicted,
                s=14.0 * _shrink(len(reference)),
                c='black',
                marker='x',
                linewidths=0.6,
                label=_caption(name, regression_metrics(reference, predicted), target),
                zorder=2 + len(checked),
            )
        axes.set(xlim=limits, ylim=limits, aspect='equal')
        axes.set_xlabel(f'{target.noun[0].upper()}{target.noun[1:]}, {engine_label} ({target.unit})')
        axes.set_ylabel(f'Predicted {target.noun} ({target.unit})')
        axes.set_title(title, fontsize=RC['axes.titlesize'] if '\n' not in title else RC['legend.fontsize'])
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
            axis.set_minor_locator(AutoMinorLocator(2))
        axes.legend(loc='upper left', frameon=False, borderaxespad=0.4, handletextpad=0.2, markerscale=1.4)
        save_figure(figure, path)


def plot_learning_curve(
    path: Path | str, history: Mapping[str, Sequence[float]], title: str, loss_label: str = 'Loss'
) -> None:
    """Draw the losses of training and validation over the epochs, to see over-fitting.

    The best epoch of the validation is marked.

    :param path: file to write.
    :param history: ``loss`` and optionally ``val_loss``, one number an epoch.
    :param title: above the figure.
    :param loss_label: what the loss is, for the axis: ``DenseNetwork.loss_label``.
    :raises DatasetError: no ``loss``, lengths that differ, NaN or infinity.
    """
    if 'loss' not in history or not len(history['loss']):
        raise DatasetError('the history has no loss: only networks have learning curves')
    import matplotlib as mpl

    losses = as_targets(history['loss'], 'loss')
    validation = as_targets(history['val_loss'], 'val_loss', n_rows=len(losses)) if 'val_loss' in history else None
    epochs = np.arange(1, len(losses) + 1)
    with mpl.rc_context(RC):
        figure, axes = new_figure(4.8, 3.4)
        axes.plot(epochs, losses, color='#0072B2', linewidth=1.2, label='Training')
        if validation is not None:
            best = int(np.argmin(validation))
            axes.plot(epochs, validation, color='#D55E00', linewidth=1.2, linestyle=(0, (4, 1.5)), label='Validation')
            axes.plot(
                epochs[best],
                validation[best],
                marker='o',
                color='#D55E00',
                markersize=5,
                markeredgecolor='white',
                linestyle='none',
                label=f'Lowest validation loss: {validation[best]:.2g}, epoch {epochs[best]}',
            )
        if min(losses.min(), np.inf if validation is None else validation.min()) > 0:
            axes.set_yscale('log')
            _label_log_axis(axes)
        axes.set_xlim(0, len(losses) + 1)
        axes.set_xlabel('Epoch')
        axes.set_ylabel(loss_label)
        axes.set_title(title)
        axes.legend(frameon=False)
        save_figure(figure, path)


def plot_calibration(
    path: Path | str,
    parts: Mapping[str, tuple[npt.ArrayLike, npt.ArrayLike]],
    calibration: Calibration,
    title: str,
    engine_label: str,
    unit: str = TARGETS[GAP].unit,
) -> None:
    """Draw errors against predicted standard deviations, with the bounds of the intervals and how many rows they hold.

    :param path: file to write.
    :param parts: (n,) standard deviations and (n,) errors without sign by name; later ones on top.
    :param calibration: gives the intervals.
    :param title: above the figure.
    :param engine_label: engine and protocol of the reference, for the axis.
    :param unit: of what was predicted.
    :raises DatasetError: no part, an empty label, or arrays that do not match.
    """
    if not parts:
        raise DatasetError('a calibration plot needs at least one part')
    if not engine_label.strip():
        raise DatasetError('a calibration plot must say which engine and protocol gave the reference')
    import matplotlib as mpl

    checked = {}
    for name, (std, error) in parts.items():
        deviations = as_targets(std, f'standard deviations of {name}')
        checked[name] = deviations, as_targets(error, f'errors of {name}', n_rows=len(deviations))
    widest = max(float(deviations.max()) for deviations, _ in checked.values())
    with mpl.rc_context(RC):
        figure, axes = new_figure(4.8, 3.6)
        ends = np.array([0.0, 1.04 * widest])
        for width, dashes, level in zip(calibration.half_widths(ends), ('-', (0, (4, 1.5))), LEVELS, strict=True):
            axes.plot(ends, width, color='black', linewidth=0.9, linestyle=dashes, label=f'{level:.0%} interval')
        for number, (name, (deviations, error)) in enumerate(checked.items(), start=len(STYLES) - len(checked)):
            colour, marker, size = STYLES[1 + number % (len(STYLES) - 1)]
            inside = [np.mean(error <= width) for width in calibration.half_widths(deviations)]
            axes.scatter(
                deviations,
                error,
                s=size * _shrink(len(error)),
                c=colour,
                marker=marker,
                alpha=0.75,
                linewidths=0.3,
                edgecolors='white',
                label=f'{name}, n = {len(error)}: they hold {inside[0]:.0%} and {inside[1]:.0%}',
                zorder=2 + number,
            )
        axes.set_xlim(*ends)
        axes.set_ylim(0, None)
        axes.set_xlabel(f'Predicted standard deviation ({unit})')
        axes.set_ylabel(f'Error against {engine_label} ({unit})')
        axes.set_title(title, fontsize=RC['axes.titlesize'] if '\n' not in title else RC['legend.fontsize'])
        axes.legend(loc='upper left', frameon=False, handletextpad=0.4)
        save_figure(figure, path)


def plot_rounds(
    path: Path | str,
    curves: Mapping[str, tuple[npt.ArrayLike, npt.ArrayLike]],
    title: str,
    engine_label: str,
    target: float | None = None,
) -> None:
    """Draw the error against the number of labels learnt from, a curve for each way to choose what is labelled.

    :param path: file to write.
    :param curves: (n,) numbers of labels and (n,) mean absolute errors in eV by name.
    :param title: above the figure.
    :param engine_label: engine and protocol of the labels, for the axis.
    :param target: error in eV that was aimed at, drawn as a line.
    :raises DatasetError: no curve, an empty label, or arrays that do not match.
    """
    if not curves:
        raise DatasetError('a figure of rounds needs at least one curve')
    if not engine_label.strip():
        raise DatasetError('a figure of rounds must say which engine and protocol gave the labels')
    import matplotlib as mpl

    with mpl.rc_context(RC):
        figure, axes = new_figure(4.8, 3.4)
        for number, (name, (counts, errors)) in enumerate(curves.items()):
            labels = as_targets(counts, f'numbers of labels of {name}')
            colour, marker, _ = STYLES[1:][number % (len(STYLES) - 1)]
            axes.plot(
                labels,
                as_targets(errors, f'errors of {name}', n_rows=len(labels)),
                color=colour,
                marker=marker,
                markersize=4,
                linewidth=1.2,
                label=name,
            )
        if target is not None:
            axes.axhline(target, color='black', linewidth=0.8, linestyle=(0, (4, 1.5)), label='target')
        axes.set_ylim(bottom=0)
        axes.set_xlabel(f'Labels learnt from, {engine_label}')
        axes.set_ylabel('Mean absolute error (eV)')
        axes.set_title(title)
        axes.legend(frameon=False)
        save_figure(figure, path)


MOST_MODELS = 40
"""Models in a panel of :func:`plot_test_errors`: of more, the best are drawn."""


def plot_test_errors(path: Path | str, panels: Mapping[str, Sequence[tuple[str, float, float]]]) -> None:
    """Draw the test error of models beside each other, the best on top; in one panel only what can be compared.

    :param path: file to write.
    :param panels: by what the error is, with its unit: name of the model, error, and its standard error (0: unknown).
    :raises DatasetError: there is no model.
    """
    if not any(panels.values()):
        raise DatasetError('a figure of test errors needs at least one model')
    import matplotlib as mpl

    shown = {title: sorted(models, key=lambda model: model[1])[:MOST_MODELS] for title, models in panels.items()}
    heights = [0.9 + 0.2 * len(models) for models in shown.values()]
    with mpl.rc_context(RC):
        figure, all_axes = new_figure(6.2, sum(heights), panels=len(shown), rows=len(shown))
        all_axes[0].get_gridspec().set_height_ratios(heights)
        for axes, (title, models) in zip(all_axes, shown.items(), strict=True):
            names, errors, deviations = zip(*models, strict=True)
            places = np.arange(len(models))
            axes.errorbar(errors, places, xerr=deviations, fmt='o', color='#0072B2', markersize=4, elinewidth=0.9)
            axes.set_yticks(places, names)
            axes.set_ylim(len(models) - 0.5, -0.5)
            axes.set_xlim(left=0)
            axes.tick_params(axis='y', length=0)
            left_out = len(panels[title]) - len(models)
            axes.set_xlabel(title + (f'; the best {len(models)}, {left_out} more' if left_out else ''))
        save_figure(figure, path)


def _label_log_axis(axes: Any) -> None:
    """Plain numbers at 1, 2 and 5, or at the powers of ten where there are several."""
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    low, high = axes.get_ylim()
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high < 100 * low else (1.0,)))
    axes.yaxis.set_major_formatter(StrMethodFormatter('{x:g}'))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _shrink(n_points: int) -> float:
    """Smaller markers when there are many, so that clouds stay readable."""
    return float(np.clip(np.sqrt(300 / n_points), 0.15, 1.0))


def _caption(name: str, metrics: Mapping[str, float | int | None], target: Target) -> str:
    r2 = 'n/a' if metrics['r2'] is None else f'{metrics["r2"]:.3f}'
    return f'{name}: R² = {r2}, MAE = {metrics["mae"]:.{target.digits}f} {target.unit}, n = {metrics["n"]}'
