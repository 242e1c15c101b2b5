"""Figures: the file that an action draws, its format and width, and what it shows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import model_validator

from aiida_nanoml.actions.base import FileAction, Result, record
from aiida_nanoml.actions.errors import InputError
from aiida_nanoml.actions.fields import OUTPUT, option, output_option
from aiida_nanoml.learning.plot_style import FORMATS, Width

if TYPE_CHECKING:
    from aiida.orm import Node

FIGURE_HELP = 'File to write; its ending chooses the format: .png, .pdf or .svg.'


Format = Literal['png', 'pdf', 'svg']
FORMAT: Any = option(None, 'Format of a figure whose name has no such ending; the ending is added.', group=OUTPUT)
WIDTH: Any = option(None, 'Columns of a journal: 3.375 or 7 inches.', shown='as the figure needs', group=OUTPUT)


def size_of(width: Width | None) -> dict[str, Any]:
    """Return the width as an argument, where one is chosen; each figure has its own otherwise."""
    return {} if width is None else {'width': width}


class FormatAction(FileAction):
    """An action that draws a figure, in a chosen format."""

    figure_field: ClassVar[str] = 'output'
    """Field of the file of the figure."""

    format: Format | None = FORMAT

    @model_validator(mode='after')
    def check_format(self) -> Self:
        """Check that name and format of the figure agree."""
        path, ending = self._path, self._ending()
        if path is None and any(getattr(self, name, None) for name in ('format', 'width')):
            both = '{format} and {width} are those' if isinstance(self, FigureAction) else '{format} is that'
            raise InputError(f'{both} of a figure: name its file with {{{self.figure_field}}}')
        if path is not None and not ending and self.format is None:
            raise InputError(f'{path} has no ending .png, .pdf or .svg: add one, or choose {{format}}')
        if ending and self.format not in (None, ending):
            raise InputError(f'{path} ends in .{ending}, not in .{self.format}: leave out {{format}}, or rename it')
        return self

    @property
    def _path(self) -> Path | None:
        path: Path | None = getattr(self, self.figure_field)
        return path

    def _ending(self) -> str:
        ending = self._path.suffix.removeprefix('.').lower() if self._path is not None else ''
        return ending if ending in FORMATS else ''

    @property
    def file(self) -> Path:
        """The file of the figure, with its ending."""
        path = self._path or Path()
        return path if self._ending() else path.with_name(f'{path.name}.{self.format}')


class FigureAction(FormatAction):
    """An action that draws a figure, in a format and a width that journals take."""

    output: Path | None = output_option(FIGURE_HELP)
    width: Width | None = WIDTH

    @property
    def size(self) -> dict[str, Any]:
        """The width, where one is chosen; each figure has its own otherwise."""
        return size_of(self.width)


@dataclass(frozen=True)
class Figure(Result):
    """A figure.

    :param node: what was drawn.
    :param file: the figure.
    :param drawn: what it shows, in types of JSON: its kind, numbers of rows, errors.
    """

    node: Node
    file: Path
    drawn: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return node, file and what is drawn."""
        return record(self.node, file=str(self.file), **self.drawn)

    def lines(self) -> dict[str, object]:
        """Return the file and what is drawn."""
        return {'file': self.file, **self.drawn}
