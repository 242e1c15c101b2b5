"""Common style of figures: colours and markers, widths of journals, text that fits, drawing without pyplot.

Every function that draws takes ``ax``, axes to draw on, makes a figure where there are none, and returns its axes.
Nothing is written until :func:`save_figure`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from aiida_nanoml.errors import DatasetError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Width = Literal['single', 'double']

WIDTHS: dict[str, float] = {'single': 3.375, 'double': 7.0}
"""Widths of figures in inches: one column of a journal, and two."""

FORMATS = ('png', 'pdf', 'svg')
"""Endings of files that figures can be written to."""

# Okabe and Ito's palette, which colour-blind readers can distinguish; markers differ as well, for print without colour.
GREY, ORANGE, BLUE, GREEN = '#8a8a8a', '#E69F00', '#0072B2', '#009E73'
PURPLE, RED, SKY, BLACK = '#CC79A7', '#D55E00', '#56B4E9', '#000000'

DASHES = (0, (4, 1.5))


class Style(NamedTuple):
    """How one thing looks wherever it is drawn.

    :param colour: of markers and lines.
    :param marker: in matplotlib's letters.
    :param size: area of a marker in square points.
    """

    colour: str
    marker: str
    size: float


KNOWN_STYLES: dict[str, Style] = {
    'train': Style(GREY, 'o', 12.0),
    'validation': Style(ORANGE, '^', 16.0),
    'test': Style(BLUE, 's', 12.0),
    'held-out': Style(GREEN, 'D', 14.0),
    'unseen': Style(PURPLE, 'v', 18.0),
    's': Style(BLUE, 's', 12.0),
    'h': Style(RED, 'o', 14.0),
    'fcc': Style(BLUE, 'o', 14.0),
    'bcc': Style(RED, 's', 12.0),
    'random': Style(GREY, 'o', 12.0),
}
"""Parts of a split, families of flakes, phases, and choice by chance: each looks the same in every figure."""

_OTHER_STYLES = (
    Style(BLUE, 's', 12.0),
    Style(RED, 'o', 14.0),
    Style(GREEN, 'D', 14.0),
    Style(ORANGE, '^', 16.0),
    Style(PURPLE, 'v', 18.0),
    Style(SKY, 'P', 18.0),
    Style(BLACK, '*', 22.0),
)

_FONT = 'DejaVu Sans'

RC = {
    'font.family': 'sans-serif',
    'font.sans-serif': [_FONT],
    'font.size': 8.0,
    'axes.labelsize': 8.0,
    'axes.titlesize': 8.0,
    'figure.titlesize': 8.0,
    'legend.fontsize': 7.0,
    'legend.title_fontsize': 7.0,
    'xtick.labelsize': 7.0,
    'ytick.labelsize': 7.0,
    'axes.linewidth': 0.7,
    'xtick.direction': 'in',
    'ytick.direction': 'in',
    'xtick.top': True,
    'ytick.right': True,
    'mathtext.default': 'regular',
    'hatch.linewidth': 0.5,
    # Journals take no outlined and no Type 3 fonts; text stays text.
    'pdf.fonttype': 42,
    'svg.fonttype': 'none',
    'svg.hashsalt': 'aiida-nanoml',
}

SMALL = 7.0
"""Size in points of notes within a figure."""

_UNDATED = {'.svg': {'Date': None}, '.pdf': {'CreationDate': None}}
_SHARE = 0.94
"""Of the room that lines take at most: on a screen with few dots, letters are wider than they are measured."""
_FITTINGS = 3
"""How often texts are wrapped: more lines make the axes smaller."""


def styles_of(names: Iterable[str]) -> dict[str, Style]:
    """Return a colour and a marker for each name: that of :data:`KNOWN_STYLES`, or one that no other name has.

    :param names: parts, families, methods: what is drawn in one figure.
    """
    wanted = list(dict.fromkeys(names))
    found = {name: KNOWN_STYLES[name] for name in wanted if name in KNOWN_STYLES}
    taken = {style.colour for style in found.values()}
    free = [style for style in _OTHER_STYLES if style.colour not in taken] or list(_OTHER_STYLES)
    others = [name for name in wanted if name not in found]
    found |= {name: free[number % len(free)] for number, name in enumerate(others)}
    return {name: found[name] for name in wanted}


def width_inches(width: Width) -> float:
    """Return the width of columns of a journal in inches.

    :raises DatasetError: there is no such width.
    """
    if width not in WIDTHS:
        raise DatasetError(f'the width of a figure is {" or ".join(WIDTHS)}, not {width!r}')
    return WIDTHS[width]


@dataclass
class Canvas:
    """Axes that a function draws on.

    :param panels: the axes, row by row.
    :param frame: axes of the caller in whose place the panels lie; ``None``: the figure is ours.
    """

    panels: list[Any]
    frame: Any = None
    _heading: Any = None

    @property
    def figure(self) -> Any:
        """The figure, or the part of one that the axes lie in."""
        return self.panels[0].get_figure()

    @property
    def axes(self) -> Axes:
        """The first of the panels."""
        first: Axes = self.panels[0]
        return first

    def write_title(self, text: str, **style: Any) -> None:
        """Write a title above all panels."""
        if self.frame is None:
            self._heading = self.figure.suptitle(text, **style)
        elif len(self.panels) == 1:
            self.panels[0].set_title(text, **style)
        else:
            self.frame.set_title(text, pad=20.0, **style)

    def add_legend(self, handles: Sequence[Any] | None = None, columns: int = 3, title: str = '') -> Any:
        """Put the legend below the panels, where it hides no data; in a figure of others it lies in the first panel.

        :param handles: what it names; ``None``: all that has a label, each label once.
        :param columns: most columns; fewer where the texts are too long.
        :param title: above it.
        """
        if handles is None:
            by_label = {
                label: handle
                for axes in self.panels
                for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
            }
            handles, labels = list(by_label.values()), list(by_label)
        else:
            labels = [str(handle.get_label()) for handle in handles]
        if not labels:
            return None
        if self.frame is not None:
            return self.panels[0].legend(handles, labels, frameon=False, title=title or None)
        room = 72 * self.figure.get_figwidth() - 12
        size = RC['legend.fontsize']
        # Beside each text stand its handle, two font sizes wide, and gaps.
        beside = 4.5 * float(size)  # type: ignore[arg-type]
        widest = max(text_width(label, size) for label in labels) + beside
        columns = max(1, min(columns, len(labels), int(room // widest)))
        legend = self.figure.legend(
            handles,
            [wrap_text(label, room - beside, size) for label in labels],
            loc='outside lower center',
            ncols=columns,
            frameon=False,
            title=wrap_text(title, room, size) or None,
            columnspacing=1.2,
            handletextpad=0.5,
            borderaxespad=0.2,
        )
        for text in (*legend.get_texts(), legend.get_title()):
            text.set_parse_math(False)
        return legend

    def fit_texts(self) -> None:
        """Wrap titles and labels of axes to their axes, and the title of our own figure to its width."""
        texts = {text: text.get_text() for text, _ in self._texts_and_rooms()}
        for _ in range(_FITTINGS):
            if self.frame is None:
                self.figure.get_layout_engine().execute(self.figure)  # what drawing would begin with
                for axes in self.figure.axes:
                    axes.apply_aspect()
            changed = False
            for text, room in self._texts_and_rooms():
                wrapped = wrap_text(texts[text], _SHARE * room, text.get_fontsize())
                changed |= wrapped != text.get_text()
                text.set_text(wrapped)
            if not changed:
                return

    def _texts_and_rooms(self) -> list[tuple[Any, float]]:
        """Return the texts to wrap, and their rooms in points."""
        points = 72 / self.figure.dpi
        found = []
        for axes in self.figure.axes if self.frame is None else self.panels:
            extent = axes.get_window_extent()
            across, along = points * extent.width, points * extent.height
            if axes not in self.panels:  # the scale of colours, which is narrow
                across = along = max(across, along)
            found += [(axes.title, across), (axes.xaxis.label, across), (axes.yaxis.label, along)]
        if self._heading is not None:
            found.append((self._heading, points * self.figure.bbox.width - 8))
        return [(text, room) for text, room in found if text.get_text()]


@contextmanager
def drawing(ax: Axes | None, width: Width | float, height: float, panels: int = 1, rows: int = 1) -> Iterator[Canvas]:
    """Give axes to draw on, in the common style; then wrap titles and labels of axes to the room that they have.

    :param ax: axes of the caller; several panels are put in their place. ``None``: a new figure, made without pyplot:
        no global state, no display.
    :param width: of a new figure, in columns of a journal or in inches.
    :param height: of a new figure, in inches.
    :param panels: number of axes.
    :param rows: rows that the panels are divided into.
    :raises DatasetError: there is no such width, or axes of the caller that lie in no grid cannot hold several panels.
    """
    import matplotlib as mpl

    with mpl.rc_context(RC):
        if ax is None:
            canvas = Canvas(_new_panels(width_inches(width) if isinstance(width, str) else width, height, panels, rows))
        elif panels == 1:
            canvas = Canvas([ax], ax)
        else:
            canvas = Canvas(_panels_within(ax, panels, rows), ax)
        yield canvas
        canvas.fit_texts()


def _new_panels(width: float, height: float, panels: int, rows: int) -> list[Any]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout='constrained')
    FigureCanvasAgg(figure)
    return [figure.add_subplot(rows, -(-panels // rows), number) for number in range(1, panels + 1)]


def _panels_within(ax: Any, panels: int, rows: int) -> list[Any]:
    place = ax.get_subplotspec()
    if place is None:
        raise DatasetError(f'the figure has {panels} panels: give axes that `add_subplot` or `subplots` has made')
    ax.set_axis_off()
    grid = place.subgridspec(rows, -(-panels // rows), wspace=0.3, hspace=0.45)
    return [ax.get_figure().add_subplot(grid[number]) for number in range(panels)]


def text_width(text: str, size: Any) -> float:
    """Return the width of a text in points.

    :param size: of the font, in points.
    """
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    font = FontProperties(family=_FONT, size=size)
    widths = [text_to_path.get_text_width_height_descent(line, font, False)[0] for line in text.split('\n')]
    return float(max(widths))


def wrap_text(text: str, room: float, size: Any) -> str:
    """Break the lines of a text at spaces so that none is wider than the room; longer words are broken anywhere.

    :param room: in points.
    :param size: of the font, in points.
    """
    return '\n'.join(line for paragraph in text.split('\n') for line in _wrap_line(paragraph, room, size))


def _wrap_line(text: str, room: float, size: Any) -> list[str]:
    lines = ['']
    for word in re.split(' +', text):
        longer = f'{lines[-1]} {word}'.strip()
        if text_width(longer, size) <= room:
            lines[-1] = longer
            continue
        lines += [word] if lines[-1] else []
        lines[-1] = word
        while text_width(lines[-1], size) > room and len(lines[-1]) > 1:
            fits = len(lines[-1]) - 1
            while fits > 1 and text_width(lines[-1][:fits], size) > room:
                fits -= 1
            lines[-1:] = [lines[-1][:fits], lines[-1][fits:]]
    return lines


def thin_out(
    places: NDArray[np.float64], values: NDArray[np.float64], intervals: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Leave out points of a long curve that make no difference to the eye.

    The first, last, lowest and highest point in each interval remain (U. Jugel, Z. Jerzak, G. Hackenbroich, V. Markl,
    Proc. VLDB Endow. 7, 797 (2014)).

    :param places: (n,) ascending.
    :param values: (n,).
    :param intervals: parts of the axis, as fine as what is drawn can show.
    """
    if len(places) <= 4 * intervals:
        return places, values
    parts = np.floor((places - places[0]) * (intervals / (places[-1] - places[0])))
    first = np.flatnonzero(np.diff(parts, prepend=-1))
    last = np.append(first[1:], len(places)) - 1
    by_value = np.lexsort([values, parts])
    kept = np.unique(np.concatenate([first, last, by_value[first], by_value[last]]))
    return places[kept], values[kept]


def label_log_axis(axis: Any) -> None:
    """Write plain numbers at 1, 2 and 5, or at the powers of ten where there are several, on an axis of any direction.

    :param axis: ``axes.xaxis`` or ``axes.yaxis``, with its limits and its logarithmic scale.
    """
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    low, high = axis.get_view_interval()
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high < 100 * low else (1.0,)))
    axis.set_major_formatter(StrMethodFormatter('{x:g}'))
    axis.set_minor_formatter(NullFormatter())


def shorten_name(name: str, most: int) -> str:
    """Leave out the middle of a name that has too many letters."""
    return name if len(name) <= most else f'{name[: most // 2]}…{name[-(most // 2) :]}'


def save_figure(drawn: Axes | Sequence[Axes], path: Path | str, dpi: float = 300) -> None:
    """Write a figure without a date: the same figure gives the same file.

    :param drawn: axes that a function returned, or their list.
    :param path: file to write; its ending chooses the format, one of :data:`FORMATS`.
    :param dpi: dots per inch of a PNG file.
    :raises DatasetError: there is no such format.
    """
    import matplotlib as mpl

    ending = Path(path).suffix.lower()
    if ending.removeprefix('.') not in FORMATS:
        raise DatasetError(
            f'{path}: the format {ending or "without an ending"} is not supported: {", ".join(FORMATS)} are'
        )
    figure: Any = (drawn[0] if isinstance(drawn, Sequence) else drawn).get_figure(root=True)
    # Ticks are made, and fonts are found, only when a figure is written.
    with mpl.rc_context(RC):
        figure.savefig(path, dpi=dpi, metadata=_UNDATED.get(ending))
