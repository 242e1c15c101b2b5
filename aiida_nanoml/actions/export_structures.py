"""Write a set of structures to a file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from aiida_nanoml.actions.base import FileAction, Result, record
from aiida_nanoml.actions.fields import Structures, argument, output_option
from aiida_nanoml.actions.session import Session

if TYPE_CHECKING:
    from aiida_nanoml.data.structures import StructureSetData


class ExportStructures(FileAction):
    """Write the structures of NODE to a file."""

    action: ClassVar[str] = 'export_structures'
    command: ClassVar[tuple[str, ...]] = ('structures', 'export')
    example: ClassVar[str] = 'aiida-nanoml structures export flakes -o flakes.extxyz'

    node: Structures = argument('Set of structures.')
    output: Path = output_option(
        'File to write; its ending chooses the format, .extxyz keeps everything.', required=True
    )

    def perform(self, session: Session) -> Result:
        """Write the file."""
        from aiida_nanoml.structures import write_structures

        node = self.load('node')
        self.check_overwriting(self.output)
        write_structures(node.structures, self.output)
        return ExportedStructures(node, self.output)


@dataclass(frozen=True)
class ExportedStructures(Result):
    """A file of structures.

    :param structures: the node that was written.
    :param file: the file.
    """

    structures: StructureSetData
    file: Path

    def to_dict(self) -> dict[str, Any]:
        """Return node and file."""
        return record(self.structures, n_structures=self.structures.n_structures, file=str(self.file))

    def lines(self) -> dict[str, object]:
        """Return the number of structures and the file."""
        return {'structures': self.structures.n_structures, 'file': self.file}
