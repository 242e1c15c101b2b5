"""Small drawings of structures as SVG, for notebooks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from aiida_nanoml.structures.neighbours import near_pairs

if TYPE_CHECKING:
    from aiida_nanoml.structures.structure_set import Structure

COLOURS = {1: '#bbbbbb', 5: '#e8899a', 6: '#444444', 7: '#3b6fd4'}
"""Colours of H, B, C and N; other elements are drawn in ``OTHER_COLOUR``."""

OTHER_COLOUR = '#b07d2b'

LONGEST_BOND_ANG = 1.8
"""Atoms nearer than this are joined by a line."""

SIDE_PX = 72
MOST_ATOMS = 600
_MARGIN = 0.08


def draw_thumbnail(structure: Structure) -> str:
    """Draw a structure along the direction in which it is thinnest.

    :returns: an SVG element of ``SIDE_PX`` pixels; of structures with more than ``MOST_ATOMS`` atoms their
        number.
    """
    size = f'width="{SIDE_PX}" height="{SIDE_PX}"'
    if len(structure) > MOST_ATOMS:
        text = f'<text x="4" y="{SIDE_PX // 2}" font-size="11">{len(structure)} atoms</text>'
        return f'<svg xmlns="http://www.w3.org/2000/svg" {size}>{text}</svg>'
    points = _projected(structure.positions)
    extent = max(float(np.ptp(points, axis=0).max()), LONGEST_BOND_ANG)
    scale = SIDE_PX * (1 - 2 * _MARGIN) / extent
    places = SIDE_PX / 2 + scale * (points - (points.min(axis=0) + points.max(axis=0)) / 2)
    left, right, _ = near_pairs(structure.positions, np.array([0, len(structure)]), LONGEST_BOND_ANG)
    lines = ''.join(
        '<line x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}"/>'.format(*places[a], *places[b])
        for a, b in zip(left.tolist(), right.tolist(), strict=True)
    )
    circles = ''.join(
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{scale * (0.25 if number == 1 else 0.45):.1f}" '
        f'fill="{COLOURS.get(number, OTHER_COLOUR)}"/>'
        for (x, y), number in zip(places.tolist(), structure.numbers.tolist(), strict=True)
    )
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}><g stroke="#999999">{lines}</g>{circles}</svg>'


def _projected(positions: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the places (A, 2) of atoms in the plane of the two directions in which they are spread most."""
    centred = positions - positions.mean(axis=0)
    flat: NDArray[np.float64] = centred @ np.linalg.eigh(centred.T @ centred)[1][:, :0:-1]
    return flat
