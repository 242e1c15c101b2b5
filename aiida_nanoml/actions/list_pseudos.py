"""List the families of pseudopotentials that engines can read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from aiida_nanoml.actions.base import Action, Result, Step, step
from aiida_nanoml.actions.install_pseudos import family_record
from aiida_nanoml.actions.session import Session
from aiida_nanoml.text import aligned


class ListPseudos(Action):
    """List the families of psf, psml, upf and psp8 files, ours and those that were made with `aiida-pseudo install`."""

    action: ClassVar[str] = 'list_pseudos'
    command: ClassVar[tuple[str, ...]] = ('pseudos', 'list')
    example: ClassVar[str] = 'aiida-nanoml pseudos list'

    def perform(self, session: Session) -> Result:
        """Find the families."""
        from aiida_nanoml.calculations.pseudopotentials import find_families

        return FamilyList([family_record(family) for family in find_families()])


@dataclass(frozen=True)
class FamilyList(Result):
    """Families of pseudopotentials.

    :param families: what each one holds.
    """

    families: list[dict[str, Any]]

    def to_dict(self) -> dict[str, Any]:
        """Return all families."""
        return {'families': self.families}

    def lines(self) -> str:
        """Return a table of the families."""
        if not self.families:
            return 'no family of pseudopotentials is installed'
        rows = [[found['label'], found['format'], ' '.join(found['elements'])] for found in self.families]
        return aligned([['label', 'format', 'elements'], *rows])

    def next_step(self) -> Step | None:
        """Install ours where there is none."""
        return None if self.families else step('install_pseudos')
