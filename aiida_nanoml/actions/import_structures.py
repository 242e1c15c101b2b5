"""Read structures from a file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from aiida_nanoml.actions.base import NamedAction, Result
from aiida_nanoml.actions.fields import argument, option
from aiida_nanoml.actions.session import Session
from aiida_nanoml.actions.show_structures import StructuresResult


class ImportStructures(NamedAction):
    """Read structures from FILE, in any format that ASE reads, or an input of SIESTA (.fdf).

    Extended XYZ keeps names and families.
    """

    action: ClassVar[str] = 'import_structures'
    command: ClassVar[tuple[str, ...]] = ('structures', 'import')
    makes: ClassVar[Mapping[str, str]] = {'': 'nanoml.structures'}
    example: ClassVar[str] = 'aiida-nanoml structures import flakes.extxyz --name more-flakes'
    short: ClassVar[str] = 'Read structures from a file.'

    file: Path = argument('File to read.', exists='file')
    family: str | None = option(None, 'Family of all structures.', shown='what the file says')
    isolated: bool = option(
        False, 'Take periodic structures whose images are 5 Å apart or more as isolated: a molecule in a box.'
    )

    bohr: bool = option(False, 'Lengths in the file are in bohr, although its format says Å.')

    def perform(self, session: Session) -> Result:
        """Store the file, and read it."""
        from aiida.orm import Bool, SinglefileData, Str

        from aiida_nanoml.calculations.functions.structures import import_structures

        inputs = {'file': SinglefileData(self.file.absolute())}
        if self.family is not None:
            inputs['family'] = Str(self.family)
        if self.isolated:
            inputs['isolated'] = Bool(True)
        if self.bohr:
            inputs['bohr'] = Bool(True)
        node = session.run_function(import_structures, **inputs)
        node.label = self.name
        return StructuresResult(node, {'filename': self.file.name})
