"""Figures of alloys: curves E(a), stress against strain, maps of the phases, and parity of their energy difference.

They are drawn as those of :mod:`aiida_nanoml.learning.plots`: functions return axes, and draw on those that they are
given. Each phase keeps one colour and one marker in all of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from aiida_nanoml.alloys.curves import POOR_FIT, Curves
from aiida_nanoml.alloys.equation_of_state import Floats
from aiida_nanoml.alloys.phases import UNDECIDED, equilibrium_phases
from aiida_nanoml.errors import AlloyError
from aiida_nanoml.learning.arrays import as_targets
from aiida_nanoml.learning.plot_style import BLUE, DASHES, GREY, KNOWN_STYLES, RED, SMALL, Width, drawing
from aiida_nanoml.structures import PHASES

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = {phase: KNOWN_STYLES[phase].colour for phase in PHASES}

MARKERS = {phase: KNOWN_STYLES[phase].marker for phase in PHASES}

DIFFERENCE = 'E(fcc) − E(bcc)'

NAMED = 5
"""Alloys that an error names when the wanted one is not there."""

Scan = tuple[Curves, Mapping[str, npt.NDArray[Any]]]
"""Curves, and the columns of the points that they were fitted to."""


def plot_curves(
    curves: Curves,
    points: Mapping[str, npt.NDArray[Any]],
    alloy: str,
    engine_label: str,
    model: Scan | None = None,
    model_label: str = '',
    *,
    width: Width = 'double',
    ax: Axes | None = None,
) -> list[Axes]:
    """Draw E(a) of both phases of an alloy: points, equations of state and their minima.

    fcc and bcc stand side by side, since their lattice constants differ, with one axis for the energy above the lowest
    minimum of the engine, or above its lowest point where no phase has a minimum. A curve without an equation of state
    is shown by its points, with its status in the panel.

    :param curves: of the engine.
    :param points: columns (n,) of its scan: ``curve``, number of the curve; ``lattice_constant_ang``, Å; ``energy_ev``,
        eV per atom, NaN if unknown.
    :param alloy: name of the alloy.
    :param engine_label: engine and protocol of the points: ``'PBE (SIESTA), balanced'``.
    :param model: curves and points of a model, drawn dashed. Its energies must have the zero of those of the engine:
        nothing is shifted here.
    :param model_label: what the model is called.
    :param width: of a figure of its own, in columns of a journal.
    :param ax: axes in whose place the panels are drawn; ``None``: a figure of its own.
    :returns: the axes of fcc and of bcc.
    :raises AlloyError: no such alloy, no energy of it, an empty label, or columns that are missing or do not match.
    """
    _require_labels(engine_label, model, model_label)
    columns = ('energy_ev',)
    scans = [_curves_of((curves, points), alloy, 'the engine', columns)]
    if model is not None:
        scans.append(_curves_of(model, alloy, model_label, columns))
    zero, zero_name = _zero(scans[0], alloy)
    with drawing(ax, width, 3.9 if width == 'double' else 4.6, panels=len(PHASES)) as canvas:
        panels = canvas.panels
        panels[1].sharey(panels[0])
        panels[1].tick_params(labelleft=False)
        for axes, phase in zip(panels, PHASES, strict=True):
            notes = []
            for number, scan in enumerate(scans):
                _draw_curve(axes, scan[phase], phase, zero, by_model=number > 0)
                note = _minimum_note(scan[phase])
                notes.append(note if width == 'double' else note.replace(', ', '\n'))
            if model is not None:
                notes = [f'{whose}: {note}' for whose, note in zip(('engine', 'model'), notes, strict=True)]
            _finish_panel(axes, phase, notes, empty=not any(len(scan[phase].columns['energy_ev']) for scan in scans))
        low, high = panels[0].get_ylim()
        lines = len(scans) * (1 if width == 'double' else 2)
        panels[0].set_ylim(low, high + (0.08 + 0.07 * lines) * (high - low))
        panels[0].set_ylabel(f'Energy (meV/atom)\nabove the {zero_name}')
        verdicts = [_verdict(curves, alloy, engine_label)]
        if model is not None:
            verdicts.append(_verdict(model[0], alloy, model_label))
        canvas.write_title('\n'.join([_title(curves, alloy), *verdicts]))
        canvas.add_legend(_curve_handles(model_label))
    return panels


def _finish_panel(axes: Any, phase: str, notes: list[str], *, empty: bool) -> None:
    """Write title, notes and axes of a panel of E(a)."""
    from matplotlib.ticker import MaxNLocator

    axes.text(0.5, 0.97, '\n'.join(notes), transform=axes.transAxes, ha='center', va='top', fontsize=SMALL)
    axes.axhline(0, color=GREY, linewidth=0.6, zorder=0)
    axes.set_title(phase)
    axes.set_xlabel('Lattice constant (Å)')
    axes.margins(x=0.06)
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    if empty:
        axes.set_xticks([])


def plot_stress_strain(
    curves: Curves,
    points: Mapping[str, npt.NDArray[Any]],
    alloy: str,
    engine_label: str,
    model: Scan | None = None,
    model_label: str = '',
    *,
    width: Width = 'single',
    ax: Axes | None = None,
) -> Axes:
    """Draw the pressure under isotropic strain a/a0 - 1 of both phases of an alloy.

    Each curve is strained from its own minimum. Lines are -dE/dV of its equation of state, markers the pressure by the
    stress that the engine itself gives. A curve without an equation of state has no strain: its status is written
    instead.

    :param curves: of the engine.
    :param points: columns (n,) of its scan: ``curve``, ``lattice_constant_ang`` and ``energy_ev`` as of
        :func:`plot_curves`; ``stress_pressure_gpa``, GPa, NaN if unknown.
    :param alloy: name of the alloy.
    :param engine_label: engine and protocol of the points.
    :param model: curves and points of a model, drawn dashed; its points need no stress.
    :param model_label: what the model is called.
    :param width: of a figure of its own, in columns of a journal.
    :param ax: axes to draw on; ``None``: a figure of its own.
    :returns: the axes.
    :raises AlloyError: no such alloy, no equation of state of either phase by the engine, an empty label, or columns
        that are missing or do not match.
    """
    _require_labels(engine_label, model, model_label)
    scan = _curves_of((curves, points), alloy, 'the engine', ('energy_ev', 'stress_pressure_gpa'))
    predicted = _curves_of(model, alloy, model_label, ('energy_ev',)) if model is not None else {}
    if not any(curve.usable for curve in scan.values()):
        states = ', '.join(f'{phase}: {curve.status}' for phase, curve in scan.items())
        raise AlloyError(f'{alloy} has no equation of state to strain ({states}): draw its curves E(a)')
    with drawing(ax, width, 3.6) as canvas:
        axes = canvas.panels[0]
        axes.axhline(0, color=GREY, linewidth=0.6, zorder=0)
        axes.axvline(0, color=GREY, linewidth=0.6, zorder=0)
        for phase, curve in scan.items():
            _draw_pressure(axes, curve, phase, f'{phase}, −dE/dV: {_modulus_note(curve)}', linestyle='-')
            if curve.usable:
                _mark_stress(axes, curve, phase)
            if phase in predicted:
                _draw_pressure(
                    axes, predicted[phase], phase, f'{phase}, model: {_modulus_note(predicted[phase])}', DASHES
                )
        axes.set_xlabel('Isotropic strain a/a$_0$ − 1 (%)')
        axes.set_ylabel('Pressure (GPa)')
        named = [_title(curves, alloy), engine_label, *([model_label] if predicted else [])]
        canvas.write_title('\n'.join(named))
        canvas.add_legend(columns=2)
    return canvas.axes


def _mark_stress(axes: Any, curve: _Curve, phase: str) -> None:
    """Mark the pressure by the stress of the engine at the strains of a curve."""
    known = np.isfinite(curve.columns['stress_pressure_gpa'])
    axes.plot(
        100 * curve.strains(curve.columns['lattice_constant_ang'][known]),
        curve.columns['stress_pressure_gpa'][known],
        color=COLOURS[phase],
        marker=MARKERS[phase],
        markersize=5,
        markeredgecolor='white',
        markeredgewidth=0.5,
        linestyle='none',
        label=f'{phase}, stress by the engine' if known.any() else None,
    )


def plot_phase_map(
    x: npt.ArrayLike,
    y: npt.ArrayLike,
    energy_difference_ev: npt.ArrayLike,
    x_label: str,
    y_label: str,
    title: str,
    engine_label: str,
    known: tuple[npt.ArrayLike, npt.ArrayLike, npt.ArrayLike] | None = None,
    *,
    width: Width = 'single',
    ax: Axes | None = None,
) -> Axes:
    """Draw which phase is stable in a section of composition space, by E(fcc) - E(bcc).

    The difference is interpolated between neighbouring compositions, and the boundary of the phases is where it
    vanishes. Nothing is interpolated across undecided compositions, and nothing at all where the compositions span no
    area: then each is a square of its own. Alloys of one composition are averaged.

    :param x: (k,) fractions along the first axis.
    :param y: (k,) fractions along the second axis.
    :param energy_difference_ev: (k,) E(fcc) - E(bcc), eV per atom; NaN where undecided.
    :param x_label: what ``x`` is.
    :param y_label: what ``y`` is.
    :param title: above the figure.
    :param engine_label: engine and protocol of the energies, or of those that the model learnt from.
    :param known: (m,) fractions x and y and (m,) phases of compositions that the engine has computed.
    :param width: of a figure of its own, in columns of a journal.
    :param ax: axes to draw on; ``None``: a figure of its own.
    :returns: the axes of the map.
    :raises AlloyError: an empty label, no composition or none decided, or an unknown phase.
    :raises DatasetError: fractions that are not finite, or lengths that do not match.
    """
    _require_labels(engine_label)
    across = as_targets(x, 'x')
    places = np.column_stack([across, as_targets(y, 'y', n_rows=len(across))])
    difference = 1e3 * np.asarray(energy_difference_ev, dtype=np.float64)
    if difference.shape != (len(places),):
        raise AlloyError(f'{len(places)} compositions and {difference.shape} energy differences do not make a map')
    if not np.isfinite(difference).any():
        raise AlloyError('the phase of every composition is undecided: there is nothing to map')
    marked = _known_phases(known) if known is not None else []
    places, difference = _average(places, difference)
    decided = np.isfinite(difference)
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import BoundaryNorm
    from matplotlib.ticker import MaxNLocator

    limit = max(float(np.abs(difference[decided]).max()), 0.1)
    levels = MaxNLocator(14, symmetric=True).tick_values(-limit, limit)
    with drawing(ax, width, 3.4 if width == 'single' else 5.4) as canvas:
        axes = canvas.panels[0]
        mapping = ScalarMappable(BoundaryNorm(levels, 256), 'RdBu_r')
        _draw_differences(axes, places, difference, mapping, levels)
        if not decided.all():
            axes.scatter(*places[~decided].T, c=GREY, marker='x', s=24, linewidths=1.0, label=UNDECIDED)
        for phase, of_phase in marked:
            style = {'c': COLOURS[phase], 'marker': MARKERS[phase], 'edgecolors': 'white', 'linewidths': 1.2}
            axes.scatter(*of_phase.T, **style, s=42, label=f'{phase} by the engine', zorder=4)
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        canvas.write_title(f'{title}\n{engine_label}')
        margin = np.maximum(0.03 * np.ptp(places, axis=0), 0.02)
        (left, bottom), (right, top) = places.min(axis=0) - margin, places.max(axis=0) + margin
        axes.set(xlim=(left, right), ylim=(bottom, top))
        bar = canvas.figure.colorbar(mapping, ax=axes, label=f'{DIFFERENCE} (meV/atom)', spacing='proportional')
        bar.ax.set_title('bcc', fontsize=SMALL)
        bar.ax.set_xlabel('fcc', fontsize=SMALL)
        canvas.add_legend(columns=2)
    return canvas.axes


def _draw_differences(axes: Any, places: Floats, difference: Floats, mapping: Any, levels: Any) -> None:
    """Draw energy differences over compositions: interpolated if they span an area, else a square for each."""
    decided = np.isfinite(difference)
    triangles = _triangulation(places, decided)
    if triangles is None:
        colours = mapping.to_rgba(difference[decided])
        axes.scatter(*places[decided].T, c=colours, marker='s', s=90, linewidths=0.5, edgecolors='black')
        return
    axes.tricontourf(triangles, difference, levels=levels, cmap=mapping.cmap, norm=mapping.norm)
    size = float(np.clip(600 / len(places), 0.5, 6))
    axes.scatter(*places[decided].T, c='black', s=size, linewidths=0)
    if difference[decided].min() < 0 < difference[decided].max():
        axes.tricontour(triangles, difference, levels=[0.0], colors='black', linewidths=1.5)
        axes.plot([], [], color='black', linewidth=1.5, label='phase boundary')


def plot_phase_parity(
    reference_ev: npt.ArrayLike,
    predicted_ev: npt.ArrayLike,
    title: str,
    engine_label: str,
    *,
    width: Width = 'single',
    ax: Axes | None = None,
) -> Axes:
    """Draw predicted against computed E(fcc) - E(bcc): its sign is the phase, and two quadrants are wrong.

    :param reference_ev: (n,) differences of the engine, eV per atom.
    :param predicted_ev: (n,) differences of the model, eV per atom.
    :param title: above the figure.
    :param engine_label: engine and protocol of the reference.
    :param width: of a figure of its own, in columns of a journal.
    :param ax: axes to draw on; ``None``: a figure of its own.
    :returns: the axes.
    :raises AlloyError: an empty label.
    :raises DatasetError: no alloy, numbers that are not finite, or lengths that do not match.
    """
    _require_labels(engine_label)
    reference = 1e3 * as_targets(reference_ev, 'computed energy differences')
    predicted = 1e3 * as_targets(predicted_ev, 'predicted energy differences', n_rows=len(reference))
    right = (reference < 0) == (predicted < 0)
    limit = 1.08 * max(float(np.abs([reference, predicted]).max()), 1.0)
    from matplotlib.patches import Rectangle

    with drawing(ax, width, 4.2 if width == 'single' else 6.5) as canvas:
        axes = canvas.panels[0]
        for corner in ((-limit, 0.0), (0.0, -limit)):
            axes.add_patch(Rectangle(corner, limit, limit, color='#f0f0f0', linewidth=0, zorder=0))
        axes.axhline(0, color='black', linewidth=0.6, zorder=1)
        axes.axvline(0, color='black', linewidth=0.6, zorder=1)
        axes.plot([-limit, limit], [-limit, limit], color='black', linewidth=0.8, linestyle=DASHES, zorder=1)
        size = float(np.clip(18 * np.sqrt(300 / len(right)), 4, 24))
        for which, colour, marker, name in ((right, BLUE, 'o', 'right'), (~right, RED, 'X', 'wrong')):
            axes.scatter(
                reference[which],
                predicted[which],
                s=size if marker == 'o' else 1.8 * size,
                c=colour,
                marker=marker,
                alpha=0.8,
                linewidths=0.4,
                edgecolors='white',
                label=f'{name} phase, n = {int(which.sum())}',
                zorder=2,
            )
        error = float(np.mean(np.abs(predicted - reference)))
        corner_style = {'transform': axes.transAxes, 'fontsize': SMALL}
        axes.text(0.02, 0.98, 'fcc taken for bcc', ha='left', va='top', **corner_style)
        axes.text(0.98, 0.02, 'bcc taken for fcc', ha='right', va='bottom', **corner_style)
        axes.set(xlim=(-limit, limit), ylim=(-limit, limit), aspect='equal')
        axes.set_xlabel(f'{DIFFERENCE} (meV/atom),\n{engine_label}')
        axes.set_ylabel(f'Predicted {DIFFERENCE} (meV/atom)')
        canvas.write_title(title)
        judged = f'phase right: {right.mean():.1%}, MAE = {error:.3g} meV/atom, n = {len(right)}'
        canvas.add_legend(columns=2, title=judged)
    return canvas.axes


@dataclass(frozen=True)
class _Curve:
    """One curve, ready to be drawn.

    :param curves: what it belongs to.
    :param number: its number there, -1 where the phase was not scanned.
    :param phase: ``'fcc'`` or ``'bcc'``.
    :param columns: (m,) its points that have an energy, by lattice constant.
    """

    curves: Curves
    number: int
    phase: str
    columns: dict[str, Floats]

    @property
    def usable(self) -> bool:
        """Whether there is an equation of state."""
        return self.number >= 0 and bool(self.curves.usable[self.number])

    @property
    def status(self) -> str:
        """Status in words."""
        return 'not scanned' if self.number < 0 else str(self.curves.status[self.number]).replace('_', ' ')

    def of(self, column: str) -> float:
        """Return a number of the minimum."""
        return float(getattr(self.curves, column)[self.number])

    def strains(self, constants_ang: Floats) -> Floats:
        """Return the strain from the minimum."""
        return constants_ang / self.of('lattice_constant_ang') - 1

    def line(self) -> tuple[Floats, Floats]:
        """Return lattice constants over the range of the points, and volumes per atom."""
        known = self.columns['lattice_constant_ang']
        constants = np.linspace(known[0], known[-1], num=201)
        return constants, constants**3 / PHASES[self.phase]


def _require_labels(engine_label: str, model: Scan | None = None, model_label: str = '') -> None:
    if not engine_label.strip():
        raise AlloyError('a figure of alloys must say which engine and protocol gave the energies')
    if model is not None and not model_label.strip():
        raise AlloyError('a figure that shows a model must say which one')


def _curves_of(scan: Scan, alloy: str, whose: str, columns: tuple[str, ...]) -> dict[str, _Curve]:
    """Select what belongs to one alloy in a scan, by phase."""
    curves, points = scan
    wanted = ('curve', 'lattice_constant_ang', *columns)
    missing = [name for name in wanted if name not in points]
    if missing:
        raise AlloyError(f'the points of {whose} lack the column {", ".join(missing)}')
    shapes = {np.shape(points[name]) for name in wanted}
    if shapes != {curves.curve_of_row.shape}:
        raise AlloyError(
            f'the points of {whose} do not belong to its curves, fitted to {len(curves.curve_of_row)} rows'
        )
    if alloy not in curves.names:
        some = np.unique(curves.names)
        more = ' and others' if len(some) > NAMED else ''
        raise AlloyError(f'{whose} has no alloy {alloy!r}; there is {", ".join(some[:NAMED].tolist())}{more}')
    found = {}
    for phase in PHASES:
        numbers = np.flatnonzero((curves.names == alloy) & (curves.phases == phase))
        number = int(numbers[0]) if len(numbers) else -1
        rows = np.flatnonzero((np.asarray(points['curve']) == number) & np.isfinite(points['energy_ev']))
        rows = rows[np.argsort(np.asarray(points['lattice_constant_ang'])[rows])]
        found[phase] = _Curve(
            curves, number, phase, {name: np.asarray(points[name], dtype=np.float64)[rows] for name in wanted}
        )
    return found


def _zero(scan: Mapping[str, _Curve], alloy: str) -> tuple[float, str]:
    """Return the zero of the energy axis, and what it is."""
    minima = [curve.of('energy_ev') for curve in scan.values() if curve.usable]
    if minima:
        return min(minima), 'lowest minimum'
    energies = np.concatenate([curve.columns['energy_ev'] for curve in scan.values()])
    if not len(energies):
        raise AlloyError(f'no point of {alloy} has an energy: there is nothing to draw')
    return float(energies.min()), 'lowest point'


def _draw_curve(axes: Any, curve: _Curve, phase: str, zero: float, by_model: bool) -> None:
    colour = COLOURS[phase]
    if not by_model or not curve.usable:
        axes.plot(
            curve.columns['lattice_constant_ang'],
            1e3 * (curve.columns['energy_ev'] - zero),
            color=colour,
            marker='x' if by_model else MARKERS[phase],
            markersize=4.5,
            markeredgecolor=colour if by_model else 'white',
            markeredgewidth=0.5 if not by_model else 0.9,
            linestyle='none',
            zorder=3,
        )
    if not curve.usable:
        return
    constants, volumes = curve.line()
    energies = curve.curves.energies(np.array(curve.number), volumes)
    axes.plot(
        constants, 1e3 * (energies - zero), color=colour, linewidth=1.2, linestyle=DASHES if by_model else '-', zorder=2
    )
    axes.plot(
        curve.of('lattice_constant_ang'),
        1e3 * (curve.of('energy_ev') - zero),
        color='white' if by_model else colour,
        marker='D',
        markersize=7,
        markeredgecolor='black',
        markeredgewidth=0.9,
        linestyle='none',
        zorder=5 if by_model else 4,
    )


def _draw_pressure(axes: Any, curve: _Curve, phase: str, label: str, linestyle: Any) -> None:
    if not curve.usable:
        axes.plot([], [], color=COLOURS[phase], linewidth=1.2, linestyle=linestyle, label=label)
        return
    constants, volumes = curve.line()
    axes.plot(
        100 * curve.strains(constants),
        curve.curves.pressures(np.array(curve.number), volumes),
        color=COLOURS[phase],
        linewidth=1.2,
        linestyle=linestyle,
        label=label,
    )


def _minimum_note(curve: _Curve) -> str:
    return f'a = {curve.of("lattice_constant_ang"):.3f} Å, {_modulus_note(curve)}' if curve.usable else curve.status


def _modulus_note(curve: _Curve) -> str:
    if not curve.usable:
        return curve.status
    doubt = ' (poor fit)' if curve.curves.status[curve.number] == POOR_FIT else ''
    return f'B = {curve.of("bulk_modulus_gpa"):.0f} GPa{doubt}'


def _title(curves: Curves, alloy: str) -> str:
    formulas = np.unique(curves.formulas[curves.names == alloy])
    return f'{", ".join(formulas.tolist())} ({alloy})'


def _verdict(curves: Curves, alloy: str, label: str) -> str:
    phases = equilibrium_phases(curves)
    row = int(np.flatnonzero(phases.names == alloy)[0])
    if not phases.decided[row]:
        return f'{label}: {UNDECIDED}'
    difference = f'{1e3 * phases.energy_difference_ev[row]:+.1f}\N{NO-BREAK SPACE}meV/atom'
    return f'{label}: {phases.phases[row]}, {DIFFERENCE} = {difference}'


def _curve_handles(model_label: str) -> list[Any]:
    from matplotlib.lines import Line2D

    engine = [
        Line2D([], [], color='black', linewidth=1.2, label='equation of state'),
        Line2D([], [], color='black', marker='D', markersize=6, linestyle='none', label='its minimum'),
    ]
    points = Line2D([], [], color='black', marker='o', markersize=4.5, linestyle='none', label='points of the engine')
    if not model_label:
        return [*engine, points]
    open_marker: dict[str, Any] = {
        'color': 'white',
        'markeredgecolor': 'black',
        'marker': 'D',
        'markersize': 6,
        'linestyle': 'none',
    }
    model = [
        Line2D([], [], color='black', linewidth=1.2, linestyle=DASHES, label=model_label),
        Line2D([], [], label='its minimum', **open_marker),
    ]
    return [engine[0], model[0], engine[1], model[1], points]  # a legend is filled column by column


def _known_phases(known: tuple[npt.ArrayLike, npt.ArrayLike, npt.ArrayLike]) -> list[tuple[str, Floats]]:
    """Return the compositions of each phase that occurs; undecided ones are left out."""
    x = as_targets(known[0], 'x of the known phases')
    places = np.column_stack([x, as_targets(known[1], 'y of the known phases', n_rows=len(x))])
    phases = np.asarray(known[2])
    if phases.shape != x.shape:
        raise AlloyError(f'{len(x)} known compositions and {phases.shape} phases do not match')
    strange = sorted(set(phases.tolist()) - {*PHASES, UNDECIDED})
    if strange:
        raise AlloyError(f'{strange[0]!r} is no phase; the known ones are {", ".join(PHASES)}')
    return [(phase, places[phases == phase]) for phase in PHASES if (phases == phase).any()]


def _average(places: Floats, values: Floats) -> tuple[Floats, Floats]:
    """Return the mean of what is known at each place; NaN if nothing is."""
    _, first, inverse = np.unique(places.round(9), axis=0, return_index=True, return_inverse=True)
    known = np.isfinite(values)
    sums = np.bincount(inverse[known], weights=values[known], minlength=len(first))
    counts = np.bincount(inverse[known], minlength=len(first))
    return places[first], np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def _triangulation(places: Floats, decided: npt.NDArray[np.bool_]) -> Any:
    """Return triangles between decided places; None if these are fewer than four, or have no area."""
    if len(places) < 4 or np.linalg.matrix_rank(places - places.mean(axis=0), tol=1e-6) < 2:
        return None
    from matplotlib.tri import Triangulation

    triangles = Triangulation(*places.T)
    undecided = ~decided[triangles.triangles].all(axis=1)
    if undecided.all():
        return None
    triangles.set_mask(undecided)
    return triangles
