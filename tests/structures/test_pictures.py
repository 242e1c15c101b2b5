"""Drawings of structures: what is where, what lies above what, and what screen readers say."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import numpy as np
import pytest

from aiida_nanoml.structures import Structure, StructureSet
from aiida_nanoml.structures.pictures import COLOURS, MOST_ATOMS, OTHER_COLOUR, draw_structure

BORON, CARBON, NITROGEN = (COLOURS[number] for number in (5, 6, 7))


def parts(drawn: str) -> list[tuple[str, dict[str, str]]]:
    return [(part.tag.rpartition('}')[2], part.attrib) for part in ElementTree.fromstring(drawn).iter()]  # noqa: S314


def circles(drawn: str) -> list[tuple[float, float, str]]:
    found = (attributes for tag, attributes in parts(drawn) if tag == 'circle')
    return [(float(one['cx']), float(one['cy']), one['fill']) for one in found]


def test_a_chain_lies_from_left_to_right() -> None:
    chain = Structure(np.array([5, 6, 7]), np.array([[0.0, 0, 0], [1.4, 0, 0], [2.8, 0, 0]]))
    drawn = draw_structure(chain, 100)
    # 2.8 Å take 84 of 100 pixels, in the middle
    assert circles(drawn) == [(8.0, 50.0, BORON), (50.0, 50.0, CARBON), (92.0, 50.0, NITROGEN)]
    lines = [attributes for tag, attributes in parts(drawn) if tag == 'line']
    assert [(one['x1'], one['x2']) for one in lines] == [('8.0', '50.0'), ('50.0', '92.0')]


def test_what_is_nearer_to_the_viewer_is_drawn_later() -> None:
    # Spread most along x, then y: the viewer looks down on the plane from above.
    plane = np.array([[0.0, 0, 0], [5, 0, 0], [5, 2, 0], [0, 2, 0]])
    drawn = draw_structure(Structure(np.array([5, 6, 6, 6, 6, 7]), np.array([[2.5, 1, 1.2], *plane, [2.5, 1, -1.2]])))
    assert [fill for *_, fill in circles(drawn)] == [NITROGEN, *[CARBON] * 4, BORON]


def test_the_handedness_is_kept() -> None:
    """Seen from the front, B, C, N and H of a flat molecule go round in the same sense, however it is turned."""
    flat = np.array([[0.0, 0, 0], [3, 0, 0], [3, 1.5, 0], [0, 1.5, 0.0]])
    height = np.array([[1.5, 0.75, 0.4]])
    numbers = np.array([5, 6, 7, 1, 8])
    senses = set()
    for angle in (0.0, 0.7, 2.0, 4.0):
        turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
        tilt = turn[[2, 0, 1]][:, [2, 0, 1]]
        drawn = draw_structure(Structure(numbers, np.concatenate([flat, height]) @ turn.T @ tilt.T))
        places = {fill: np.array([x, -y]) for x, y, fill in circles(drawn)}
        order = [fill for *_, fill in circles(drawn)]
        along, up = places[CARBON] - places[BORON], places[NITROGEN] - places[CARBON]
        sense = np.sign(along[0] * up[1] - along[1] * up[0])
        senses.add(sense * (1 if order[-1] == COLOURS[8] else -1))
    assert senses == {1.0}


def test_hydrogen_is_joined_to_what_is_near_alone() -> None:
    positions = np.array([[0.0, 0, 0], [1.1, 0, 0], [1.1, 1.6, 0], [0.0, 1.6, 0]])
    drawn = draw_structure(Structure(np.array([6, 1, 1, 6]), positions))
    assert sum(tag == 'line' for tag, _ in parts(drawn)) == 3, 'C-H twice and C-C, not H-H'


def test_a_cell_has_twelve_edges() -> None:
    cell = Structure(np.array([92]), np.zeros((1, 3)), np.diag([4.0, 3.0, 2.0]), np.ones(3, bool))
    drawn = draw_structure(cell)
    assert sum(tag == 'line' for tag, _ in parts(drawn)) == 12
    assert [fill for *_, fill in circles(drawn)] == [OTHER_COLOUR]


def test_it_has_a_name_that_cannot_break_out(make_chains) -> None:
    drawn = draw_structure(make_chains(3)[0], title='"><script>x</script>')
    assert '<script' not in drawn
    [(_, svg), *_] = parts(drawn)
    assert svg['aria-label'] == '"><script>x</script>'
    assert svg['role'] == 'img'
    assert re.search('<title>&quot;&gt;', drawn)


@pytest.mark.parametrize('number', [1, 2])
def test_few_atoms_are_drawn(number: int) -> None:
    structure = Structure(np.full(number, 6), np.arange(number)[:, None] * [[1.4, 0, 0]])
    for x, y, _ in circles(draw_structure(structure, 50)):
        assert 0 < x < 50
        assert y == 25.0


def test_of_many_atoms_the_number_is_told() -> None:
    line = Structure(np.full(MOST_ATOMS + 1, 6), np.arange(MOST_ATOMS + 1)[:, None] * [[1.4, 0, 0]])
    assert f'{MOST_ATOMS + 1} atoms' in draw_structure(line)
    assert '<svg' in StructureSet.from_structures([line])[0]._repr_html_()
