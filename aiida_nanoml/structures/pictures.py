"""Drawings of structures as SVG, for notebooks and pages."""

from __future__ import annotations

import itertools
from html import escape
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from aiida_nanoml.structures.neighbours import near_pairs

if TYPE_CHECKING:
    from aiida_nanoml.structures.structure_set import Structure

COLOURS = {
    1: '#d8d8d8', 5: '#e8899a', 6: '#444444', 7: '#3b6fd4', 8: '#d43a2f', 9: '#5fb04a', 13: '#a9a3a3', 14: '#c9a66b',
    15: '#e08a2e', 16: '#d9c02b', 17: '#3f9f3f', 22: '#8f9aa6', 23: '#7f8fa8', 24: '#6f85b0', 25: '#9a78b8',
    26: '#c46a33', 27: '#b0708f', 28: '#5f9f6f', 29: '#b87333', 30: '#7d80b0',
}  # fmt: skip
"""Colour of each element by its atomic number; others are drawn in ``OTHER_COLOUR``."""

OTHER_COLOUR = '#b07d2b'

LONGEST_BOND_ANG = 1.8
"""Atoms nearer than this are joined by a line, hydrogen only to what is nearer than ``LONGEST_TO_HYDROGEN_ANG``."""

LONGEST_TO_HYDROGEN_ANG = 1.4

SIDE_PX = 72
MOST_ATOMS = 600
_MARGIN = 0.08
_SAME_DEPTH_ANG = 0.1
"""Atoms whose depths differ by less keep their order: a flat flake has no front."""


def draw_structure(structure: Structure, side_px: int = SIDE_PX, title: str = '') -> str:
    """Draw a structure along the direction in which it is thinnest; what is nearer to the viewer is drawn later.

    The handedness is kept. Of a periodic structure, the atoms of one cell and the edges of the cell are drawn.

    :param side_px: width and height in pixels.
    :param title: what screen readers say, and a pointer shows.
    :returns: an SVG element; of a structure with more than ``MOST_ATOMS`` atoms it holds their number.
    """
    named = f' role="img" aria-label="{escape(title)}"' if title else ''
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{side_px}" height="{side_px}"{named}>'
    head += f'<title>{escape(title)}</title>' if title else ''
    if len(structure) > MOST_ATOMS:
        return f'{head}<text x="4" y="{side_px // 2}" font-size="11">{len(structure)} atoms</text></svg>'
    corners = _cell_corners(structure)
    axes = _viewing_axes(structure.positions)
    seen = np.concatenate([structure.positions, corners]) @ axes
    low, high = seen[:, :2].min(axis=0), seen[:, :2].max(axis=0)
    scale = side_px * (1 - 2 * _MARGIN) / max(float((high - low).max()), LONGEST_BOND_ANG)
    places = side_px / 2 + scale * (seen[:, :2] - (low + high) / 2) * (1, -1)
    atoms, edges = places[: len(structure)], _edges(places[len(structure) :])
    depths = np.rint(seen[: len(structure), 2] / _SAME_DEPTH_ANG)
    # A line ends at the middle of its atoms: both of them lie above it.
    parts = [(min(depths[a], depths[b]), 0, _line(*atoms[a], *atoms[b])) for a, b in _bonds(structure)]
    parts += [
        (depth, 1, _circle(x, y, scale * (0.25 if number == 1 else 0.45), number))
        for (x, y), depth, number in zip(atoms.tolist(), depths, structure.numbers.tolist(), strict=True)
    ]
    parts.sort(key=lambda part: part[:2])
    drawn = ''.join(part for _, _, part in parts)
    return f'{head}<g stroke="#999999">{"".join(edges)}{drawn}</g></svg>'


def _viewing_axes(positions: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the axes (3, 3) as columns: to the right, up, and towards the viewer, in the order of decreasing spread.

    The largest component of each of the first two is positive, and the third makes the axes right-handed.
    """
    centred = positions - positions.mean(axis=0)
    vectors = np.linalg.eigh(centred.T @ centred)[1][:, :0:-1]
    signs = np.sign(vectors[np.abs(vectors).argmax(axis=0), (0, 1)])
    right, up = (vectors * signs).T
    return np.stack([right, up, np.cross(right, up)], axis=1)


def _bonds(structure: Structure) -> list[tuple[int, int]]:
    left, right, distances = near_pairs(structure.positions, np.array([0, len(structure)]), LONGEST_BOND_ANG)
    hydrogen = (structure.numbers[left] == 1) | (structure.numbers[right] == 1)
    joined = distances < np.where(hydrogen, LONGEST_TO_HYDROGEN_ANG, LONGEST_BOND_ANG)
    return list(zip(left[joined].tolist(), right[joined].tolist(), strict=True))


def _cell_corners(structure: Structure) -> NDArray[np.float64]:
    """Return the corners (8, 3) of the cell of a periodic structure; none of an isolated one."""
    if not structure.pbc.any():
        return np.empty((0, 3))
    return np.array(list(itertools.product((0.0, 1.0), repeat=3))) @ structure.cell


def _edges(corners: NDArray[np.float64]) -> list[str]:
    """Return the lines between corners that differ in one of three binary digits."""
    pairs = ((a, b) for a, b in itertools.combinations(range(len(corners)), 2) if (a ^ b).bit_count() == 1)
    return [_line(*corners[a], *corners[b]) for a, b in pairs]


def _line(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _circle(x: float, y: float, radius: float, number: int) -> str:
    colour = COLOURS.get(number, OTHER_COLOUR)
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}" fill="{colour}" stroke="none"/>'
