"""Figures: the file that an action draws, and what it shows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiida_nanoml.actions.base import Result, record

if TYPE_CHECKING:
    from aiida.orm import Node

FIGURE_HELP = 'File to write; its ending chooses the format: .png, .pdf or .svg.'


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
