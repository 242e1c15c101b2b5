"""What every figure of the package fulfils, whatever it shows."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from aiida_nanoml.actions.compare import Compare
from aiida_nanoml.actions.plot import Plot
from aiida_nanoml.errors import DatasetError
from aiida_nanoml.learning.plot_style import KNOWN_STYLES, WIDTHS, save_figure, styles_of, text_width, wrap_text
from tests.figures import FIGURES, LONG_NAME, SIESTA, parity, words


def figure_of(drawn: Any) -> Figure:
    return (drawn[0] if isinstance(drawn, list) else drawn).get_figure(root=True)


@pytest.mark.parametrize(
    ('name', 'width'),
    [*((name, 'single') for name in FIGURES), *((name, 'double') for name in ('crowded parity', 'test errors'))],
)
def test_nothing_is_cut_off_at_the_edge(name: str, width: str) -> None:
    """The outermost pixels are background, and the figure is as wide as a journal wants."""
    figure = figure_of(FIGURES[name](width=width))
    assert figure.get_figwidth() == WIDTHS[width]
    figure.set_dpi(60)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())
    assert (pixels[[0, -1]] == 255).all(), 'something reaches the lower or the upper edge'
    assert (pixels[:, [0, -1]] == 255).all(), 'something reaches the left or the right edge'
    assert (pixels < 255).any()


@pytest.mark.parametrize('name', FIGURES)
def test_axes_of_others_are_drawn_on(name: str) -> None:
    """What is returned lies in the figure that was given, at the place of its axes."""
    figure = Figure(figsize=(9, 7))
    here, there = figure.add_subplot(1, 2, 1), figure.add_subplot(1, 2, 2)
    drawn = FIGURES[name](ax=here)
    panels = drawn if isinstance(drawn, list) else [drawn]
    assert all(axes.get_figure(root=True) is figure for axes in panels)
    assert all(axes.get_position().x1 < there.get_position().x0 for axes in panels)
    assert not there.has_data()


def test_text_stays_text_in_fonts_that_journals_take(tmp_path: Path) -> None:
    axes = parity(20)
    save_figure(axes, tmp_path / 'a.svg')
    text = ' '.join(re.findall(r'<text[^>]*>(.*?)</text>', (tmp_path / 'a.svg').read_text(encoding='utf-8')))
    assert 'Predicted gap (eV)' in text
    save_figure(axes, tmp_path / 'a.pdf')
    content = (tmp_path / 'a.pdf').read_bytes()
    assert b'/Type3' not in content
    assert b'/FontFile2' in content


def test_gaps_below_zero_are_counted_and_many_rows_are_shaded() -> None:
    few, many = words(parity(85)), words(parity(3000))
    assert not [text for text in few if 'below zero' in text]
    (remark,) = [text for text in many if 'below zero' in text]
    assert re.fullmatch(r'below zero: \d+ of 3000 predicted gaps', remark)


def test_one_look_for_one_thing() -> None:
    assert styles_of(['test', 'train'])['test'] == styles_of(['rows', 'test'])['test'] == KNOWN_STYLES['test']
    styles = styles_of(['validation', 'mixed', 'random', 'other'])
    assert list(styles) == ['validation', 'mixed', 'random', 'other']
    assert len({style.colour for style in styles.values()}) == 4
    parts = [KNOWN_STYLES[name] for name in ('train', 'validation', 'test', 'held-out', 'unseen')]
    assert len({style.colour for style in parts}) == len({style.marker for style in parts}) == len(parts)


@pytest.mark.parametrize('text', [SIESTA, LONG_NAME, f'{LONG_NAME}\n{SIESTA} (eV)'])
def test_wrapped_lines_fit_and_keep_their_letters(text: str) -> None:
    wrapped = wrap_text(text, 100, 8)
    assert all(text_width(line, 8) <= 100 for line in wrapped.split('\n'))
    assert ''.join(wrapped.split()) == ''.join(text.split())


def test_what_cannot_be_drawn(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="single or double, not 'triple'"):
        parity(20, width='triple')
    with pytest.raises(DatasetError, match='not supported'):
        save_figure(parity(20), tmp_path / 'a.xyz')
    with pytest.raises(DatasetError, match='has 2 panels'):
        FIGURES['curves'](ax=Figure().add_axes((0, 0, 1, 1)))


@pytest.mark.parametrize(
    ('given', 'file'),
    [({'output': 'a.pdf'}, 'a.pdf'), ({'output': 'a', 'format': 'svg'}, 'a.svg'),
     ({'output': 'v1.2', 'format': 'png'}, 'v1.2.png'), ({'output': 'a.PNG', 'format': 'png'}, 'a.PNG')],
)  # fmt: skip
def test_name_and_format_make_the_file(given: dict[str, str], file: str) -> None:
    assert Plot(node='model', **given).file == Path(file)
    assert Plot(node='model', **given).size == {}
    assert Plot(node='model', width='double', **given).size == {'width': 'double'}


@pytest.mark.parametrize(
    ('given', 'message'),
    [({'output': 'a'}, 'a has no ending'), ({'output': 'a.png', 'format': 'pdf'}, 'ends in .png, not in .pdf')],
)
def test_name_and_format_that_do_not_agree(given: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Plot(node='model', **given)
    with pytest.raises(ValueError, match='are those of a figure'):
        Compare(everything=True, width='single')
