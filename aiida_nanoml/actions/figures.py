"""Figures: the file that an action draws, its format and width, and what it shows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import model_validator

from aiida_nanoml.actions.base import FileAction, Result, record
from aiida_nanoml.actions.errors import InputError
from aiida_nanoml.actions.fields import OUTPUT, option, output_option
from aiida_nanoml.learning.plot_style import FORMATS

if TYPE_CHECKING:
    from aiida.orm import Node

FIGURE_HELP = 'File to write; its ending chooses the format: .png, .pdf or .svg.'


class FigureAction(FileAction):
    """An action that draws a figure, in a format and a width that journals take."""

    output: Path | None = output_option(FIGURE_HELP)
    format: Literal['png', 'pdf', 'svg'] | None = option(
        None, 'Format of a figure whose name has no such ending; the ending is added.', group=OUTPUT
    )
    width: Literal['single', 'double'] | None = option(
        None, 'Columns of a journal: 3.375 or 7 inches.', shown='as the figure needs', group=OUTPUT
    )

    @model_validator(mode='after')
    def check_format(self) -> Self:
        """Check that name and format of the figure agree."""
        ending = self._ending()
        if self.output is None and (self.format or self.width):
            raise InputError('{format} and {width} are those of a figure: name its file with {output}')
        if self.output is not None and not ending and self.format is None:
            raise InputError(f'{self.output} has no ending .png, .pdf or .svg: add one, or choose {{format}}')
        if ending and self.format not in (None, ending):
            raise InputError(
                f'{self.output} ends in .{ending}, not in .{self.format}: leave out {{format}}, or rename it'
            )
        return self

    def _ending(self) -> str:
        ending = self.output.suffix.removeprefix('.').lower() if self.output is not None else ''
        return ending if ending in FORMATS else ''

    @property
    def file(self) -> Path:
        """The file of the figure, with its ending."""
        path = self.output or Path()
        return path if self._ending() else path.with_name(f'{path.name}.{self.format}')

    @property
    def size(self) -> dict[str, Any]:
        """The width, where one is chosen; each figure has its own otherwise."""
        return {} if self.width is None else {'width': self.width}


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
