"""Figures of densities: maps in the plane of the atoms, and the errors of many structures.

They are drawn as those of :mod:`aiida_nanoml.learning.plots`: functions return axes, and draw on those that they are
given.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from aiida_nanoml.densities.density import Density, Values
from aiida_nanoml.errors import DensityError
from aiida_nanoml.learning.plot_style import (
    BLACK,
    SMALL,
    Width,
    drawing,
    label_log_axis,
    shorten_name,
    styles_of,
    width_inches,
)
from aiida_nanoml.structures import Structure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Floats = NDArray[np.float64]

MARGIN_ANG = 2.0
"""Border around the atoms in a map, in Å."""

PIXEL_ANG = 0.04
"""Distance of the points at which a map is evaluated, in Å."""

MOST_PIXELS = 1000
"""Points along the longer side of a map: of large structures they lie farther apart."""

IN_PLANE_ANG = 0.5
"""Atoms nearer to the plane than this (Å) get a filled mark, those farther away an open one."""

MARKED_ANG = 2.0
"""Atoms farther from the plane than this (Å) get no mark."""

MOST_NAMES = 40
"""Structures whose names are written below their errors."""

MOST_LETTERS = 20
"""Letters of a name below its error; of longer ones the middle is left out."""

_SPREAD_ANG = 0.1
"""Atoms that spread less than this (root mean square, Å) along a direction do not say how a plane lies."""


class Plane(NamedTuple):
    """A rectangle in space.

    :param centre: (3,) point of the plane in Å.
    :param u: (3,) unit vector to the right.
    :param v: (3,) unit vector upwards, perpendicular to ``u``.
    :param extent: left, right, bottom and top border in Å, counted from the centre.
    """

    centre: Floats
    u: Floats
    v: Floats
    extent: tuple[float, float, float, float]


def molecular_plane(structure: Structure) -> Plane:
    """Choose the plane in which a structure is drawn.

    A molecule is drawn in the plane that fits its atoms best by least squares, its own one if it is flat. Where atoms
    in a line, or a single one, leave this open, lattice vectors decide. A molecule that the border of the box cuts is
    put together before. What is periodic is drawn in the plane of the first two lattice vectors that it is periodic
    along, in the layer with most atoms; the rectangle holds one cell. The first lattice vector, as far as it lies in
    the plane, points to the right.

    :param structure: in a box; positions in Å.
    :raises DensityError: the structure has no cell.
    """
    cell = structure.cell
    if not abs(np.linalg.det(cell)) > 0:
        raise DensityError('the structure has no cell: a map needs three lattice vectors')
    if structure.pbc.any():
        return _plane_of_cell(structure)
    places = _together(structure)
    centre = places.mean(axis=0)
    variances, directions = np.linalg.eigh((places - centre).T @ (places - centre) / len(places))
    spanned = directions.T[variances > _SPREAD_ANG**2][-2:]
    for vector in cell:
        if len(spanned) < 2:
            rest = vector - spanned.T @ (spanned @ vector)
            if np.linalg.norm(rest) > 0.5 * np.linalg.norm(vector):
                spanned = np.concatenate([spanned, rest[None] / np.linalg.norm(rest)])
    u, v = _upright(np.cross(*spanned), cell)
    right, up = (places - centre) @ u, (places - centre) @ v
    return Plane(
        centre,
        u,
        v,
        (
            float(right.min()) - MARGIN_ANG,
            float(right.max()) + MARGIN_ANG,
            float(up.min()) - MARGIN_ANG,
            float(up.max()) + MARGIN_ANG,
        ),
    )


def plane_values(values: ArrayLike, cell: ArrayLike, plane: Plane, right: ArrayLike, up: ArrayLike) -> Floats:
    """Evaluate periodic values in a plane, by cubic splines.

    :param values: (n1, n2, n3) on the mesh of a box.
    :param cell: (3, 3) lattice vectors of the box as rows in Å.
    :param plane: only its centre and directions count.
    :param right: (p,) places along ``u`` in Å, counted from the centre.
    :param up: (q,) places along ``v`` in Å.
    :returns: (q, p), in the unit of the values.
    """
    from scipy.ndimage import map_coordinates

    mesh = np.asarray(values)
    across, along = np.meshgrid(np.asarray(right, dtype=np.float64), np.asarray(up, dtype=np.float64))
    places = plane.centre + across[..., None] * plane.u + along[..., None] * plane.v
    indices = (places @ np.linalg.inv(np.asarray(cell, dtype=np.float64))) * mesh.shape
    found: Floats = map_coordinates(mesh, np.moveaxis(indices, -1, 0), output=np.float64, order=3, mode='grid-wrap')
    return found


def plot_density_maps(
    density: Density,
    title: str,
    source: str,
    predicted: Values | None = None,
    *,
    width: Width = 'double',
    ax: Axes | None = None,
) -> list[Axes]:
    """Draw a density and its difference to the free atoms in the plane of the atoms, and a prediction beside it.

    The density is coloured by its square root, so that bonds and cores are both seen. The predicted difference has the
    colours of the known one, the error has its own.

    :param density: computed, or predicted where only a prediction is there.
    :param title: above the figure.
    :param source: engine and protocol, or the model with what it learnt from: ``'SIESTA 4.1 / paper'``.
    :param predicted: (n1, n2, n3) predicted difference to the same free-atom density, in electrons/Å³.
    :param width: of a figure of its own, in columns of a journal.
    :param ax: axes in whose place the panels are drawn; ``None``: a figure of its own.
    :returns: the axes of the maps.
    :raises DensityError: there is no source, the meshes differ, or the box is flat.
    """
    if not source.strip():
        raise DensityError('a map of a density must say which engine and protocol it comes from')
    if predicted is not None and np.shape(predicted) != density.shape:
        raise DensityError(f'the prediction has the mesh {np.shape(predicted)}, the density {density.shape}')
    from matplotlib.colors import PowerNorm
    from matplotlib.ticker import MultipleLocator

    cell = density.structure.cell
    plane = molecular_plane(density.structure)
    left, right, bottom, top = plane.extent
    wide, tall = right - left, top - bottom
    pixel = max(PIXEL_ANG, max(wide, tall) / MOST_PIXELS)
    axes_places = (
        np.linspace(left, right, round(wide / pixel) + 1),
        np.linspace(bottom, top, round(tall / pixel) + 1),
    )

    def cut(values: Values) -> Floats:
        return plane_values(values, cell, plane, *axes_places)

    total, difference = cut(density.total), cut(density.difference)
    shown: list[tuple[str, Floats, float]] = [('Difference to free atoms', difference, float(np.abs(difference).max()))]
    if predicted is not None:
        guess = cut(predicted)
        limit = max(float(np.abs(guess).max()), shown[0][2])
        error = guess - difference
        nmae, nmae_free = density.nmae(predicted), density.nmae(0.0)
        shown = [
            (shown[0][0], difference, limit),
            ('Predicted difference', guess, limit),
            (
                f'Error of the prediction\nNMAE {_percent(nmae)}, free atoms {_percent(nmae_free)}',
                error,
                float(np.abs(error).max()),
            ),
        ]
    panels = 1 + len(shown)
    rows = 1 if panels == 2 else 2
    # Beside a narrow map, its scale would take half of the width.
    narrow = width == 'single'
    panel_width = width_inches(width) / 2 - (0.35 if narrow else 0.95)
    scale: dict[str, Any] = {'location': 'bottom' if narrow else 'right', 'fraction': 0.05, 'pad': 0.03}
    tick = min(step for step in (1, 2, 5, 10, 20, 50, 100, 200) if 8 * step >= max(wide, tall) or step == 200)
    inches = rows * (panel_width * tall / wide + (1.1 if narrow else 0.6)) + 0.9
    with drawing(ax, width, inches, panels, rows) as canvas:
        figure, axes = canvas.figure, canvas.panels
        limits: dict[str, Any] = {'extent': plane.extent, 'origin': 'lower', 'interpolation': 'bilinear'}
        image = axes[0].imshow(total, norm=PowerNorm(0.5, 0.0, float(total.max())), cmap='viridis', **limits)
        figure.colorbar(image, ax=axes[0], label='electrons/Å³', **scale)
        axes[0].set_title('Density')
        for panel, (name, values, limit) in zip(axes[1:], shown, strict=True):
            # A difference of nothing would have no scale.
            edge = limit or 1.0
            image = panel.imshow(values, vmin=-edge, vmax=edge, cmap='RdBu_r', **limits)
            figure.colorbar(image, ax=panel, label='electrons/Å³', **scale)
            panel.set_title(name)
        handles = [_mark_atoms(panel, density.structure, plane, light=panel is axes[0]) for panel in axes][-1]
        for number, panel in enumerate(axes):
            panel.set(xlim=(left, right), ylim=(bottom, top))
            for axis in (panel.xaxis, panel.yaxis):
                axis.set_major_locator(MultipleLocator(tick))
            if number % 2 == 0:
                panel.set_ylabel('Å')
            if number >= panels - 2:
                panel.set_xlabel('Å')
        canvas.write_title(f'{title}\n{source}', parse_math=False)
        canvas.add_legend(handles, columns=len(handles))
    return canvas.panels


def plot_nmae(
    names: Sequence[str],
    nmae: ArrayLike,
    nmae_free: ArrayLike,
    parts: Sequence[str],
    title: str,
    source: str,
    *,
    width: Width = 'double',
    ax: Axes | None = None,
) -> Axes:
    """Draw the error of every structure beside that of the superposition of free atoms.

    Structures are drawn by part, and within each part by error. The mean of a part is a line.

    :param names: (n,) names of the structures.
    :param nmae: (n,) normalised mean absolute errors of the predictions, without unit.
    :param nmae_free: (n,) those of the free atoms.
    :param parts: (n,) part of each structure, for example train or test; parts come in the order of their first row.
    :param title: above the figure.
    :param source: engine and protocol of the densities.
    :param width: of a figure of its own, in columns of a journal.
    :param ax: axes to draw on; ``None``: a figure of its own.
    :returns: the axes.
    :raises DensityError: there are no structures, no source, the lengths differ, or an error is not positive.
    """
    errors, free = (np.asarray(values, dtype=np.float64) for values in (nmae, nmae_free))
    if not len(names) or not len(names) == len(parts) == errors.size == free.size:
        raise DensityError(
            f'{len(names)} names, {len(parts)} parts, {errors.size} errors and {free.size} of free atoms '
            'do not belong together'
        )
    if not source.strip():
        raise DensityError('a figure of errors must say which engine and protocol gave the densities')
    if not ((errors > 0) & (free > 0) & np.isfinite(errors + free)).all():
        raise DensityError('an error is zero, negative or no number: it has no place on a logarithmic axis')
    kinds = list(dict.fromkeys(parts))
    order = np.lexsort([errors, np.array([kinds.index(part) for part in parts])])
    with drawing(ax, width, 3.6 if width == 'double' else 4.2) as canvas:
        axes = canvas.panels[0]
        size = 4.0 if len(names) <= MOST_NAMES else 2.5
        places = np.arange(len(names))
        axes.plot(places, 100 * free[order], color=BLACK, marker='x', markersize=size, linestyle='none',
                  label=f'free atoms, mean {_percent(free.mean())}')  # fmt: skip
        for number, kind in enumerate(kinds):
            mine = np.array([parts[row] == kind for row in order])
            found = errors[order][mine]
            colour, marker, _ = styles_of(kinds)[kind]
            ratio = free[order][mine].mean() / found.mean()
            caption = f'{kind}, mean {_percent(found.mean())}, n = {len(found)}, {ratio:.1f} × below free atoms'
            axes.plot(places[mine], 100 * found, color=colour, marker=marker, markersize=1.2 * size, linestyle='none',
                      label=caption)  # fmt: skip
            ends = places[mine][0] - 0.4, places[mine][-1] + 0.4
            axes.hlines(100 * found.mean(), *ends, colors=colour, linewidths=0.9)
            if number:
                axes.axvline(ends[0] - 0.1, color='#b8b8b8', linewidth=0.6, linestyle=(0, (1, 2)))
        axes.set_yscale('log')
        everything = 100 * np.concatenate([errors, free])
        axes.set_ylim(everything.min() / 1.5, everything.max() * 1.5)
        label_log_axis(axes.yaxis)
        axes.set_xlim(-0.8, len(names) - 0.2)
        axes.tick_params(axis='x', length=0)
        if len(names) <= MOST_NAMES:
            shown = [shorten_name(names[row], MOST_LETTERS) for row in order]
            axes.set_xticks(places, shown, rotation=90, fontsize=SMALL, parse_math=False)
        else:
            axes.set_xticks([])
            axes.set_xlabel(f'{len(names)} structures')
        axes.set_ylabel('NMAE (%)')
        canvas.write_title(f'{title}\n{source}', parse_math=False)
        canvas.add_legend(columns=2)
    return canvas.axes


def _together(structure: Structure) -> Floats:
    """Positions (n, 3) in Å of a molecule that the border of its box may cut, put together."""
    fractions = structure.positions @ np.linalg.inv(structure.cell)
    for axis in range(3):
        inside = fractions[:, axis] % 1.0
        ordered = np.sort(inside)
        gaps = np.diff(ordered, append=ordered[0] + 1.0)
        # Gaps that are equal but for rounding leave the molecule as it stands.
        start = ordered[(int(np.argmax(gaps > gaps.max() - 1e-6)) + 1) % len(ordered)]
        fractions[:, axis] = (inside - start + 1e-9) % 1.0 + start
    together: Floats = fractions @ structure.cell
    return together


def _plane_of_cell(structure: Structure) -> Plane:
    """The plane of two lattice vectors, periodic ones first, through most atoms; its rectangle holds one cell."""
    first, second = structure.cell[np.argsort(~structure.pbc, kind='stable')[:2]]
    normal = np.cross(first, second)
    normal /= np.linalg.norm(normal)
    heights = structure.positions @ normal
    near = np.abs(heights[:, None] - heights[None]) < IN_PLANE_ANG
    layer = heights[near[near.sum(axis=1).argmax()]].mean()
    u = first / np.linalg.norm(first)
    v = np.cross(normal, u)
    centre = layer * normal + (first + second) / 2
    corners = np.array([a * first + b * second for a, b in itertools.product((-0.5, 0.5), repeat=2)])
    right, up = corners @ u, corners @ v
    return Plane(centre, u, v, (float(right.min()), float(right.max()), float(up.min()), float(up.max())))


def _upright(normal: Floats, cell: Floats) -> tuple[Floats, Floats]:
    """Directions to the right and upwards in the plane of a normal: as the lattice vectors lie."""
    normal = normal * np.sign(normal[np.argmax(np.abs(normal))])
    in_plane = cell - np.outer(cell @ normal, normal)
    shares = np.linalg.norm(in_plane, axis=1) / np.linalg.norm(cell, axis=1)
    # The first one that lies in the plane more than it leaves it.
    first = in_plane[np.argmax(shares > 0.5)]
    u = first / np.linalg.norm(first)
    return u, np.cross(normal, u)


def _mark_atoms(axes: Any, structure: Structure, plane: Plane, light: bool) -> list[Any]:
    """Mark the atoms near the plane, with their periodic images; a handle of each element for a legend."""
    shifts = np.array(list(itertools.product((-1, 0, 1), repeat=3))) @ structure.cell
    places = (structure.positions[None] + shifts[:, None]).reshape(-1, 3) - plane.centre
    symbols = np.tile(structure.symbols, len(shifts))
    normal = np.cross(plane.u, plane.v)
    right, up, off = places @ plane.u, places @ plane.v, np.abs(places @ normal)
    left, end, bottom, top = plane.extent
    inside = (right > left) & (right < end) & (up > bottom) & (up < top) & (off < MARKED_ANG)
    size = float(np.clip(40 / max(end - left, top - bottom), 1.2, 5.0))
    colour = 'white' if light else 'black'
    handles = []
    for number, symbol in enumerate(sorted(set(structure.symbols))):
        marker = 'os^DvPX*'[number % 8]
        for flat in (True, False):
            chosen = inside & (symbols == symbol) & ((off <= IN_PLANE_ANG) == flat)
            style = {'color': colour, 'marker': marker, 'markersize': size, 'linestyle': 'none', 'markeredgewidth': 0.7}
            style |= {'markerfacecolor': colour if flat else 'none'}
            axes.plot(right[chosen], up[chosen], **style)
        handles += axes.plot([], [], color='black', marker=marker, markersize=5, linestyle='none', label=symbol)
    return handles


def _percent(share: float) -> str:
    return f'{100 * share:.3g} %'
