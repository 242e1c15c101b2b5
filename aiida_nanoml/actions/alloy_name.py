"""Recognise the phases of cells from elsewhere, and name their alloys."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from aiida_nanoml.actions.base import NamedAction, Result
from aiida_nanoml.actions.fields import Structures, argument
from aiida_nanoml.actions.session import Session
from aiida_nanoml.actions.show_structures import StructuresResult


class AlloyName(NamedAction):
    """Recognise the phases of STRUCTURES from elsewhere, such as imported runs, and name their alloys.

    Cells that are scalings of each other are one scan; scans of different phases with one composition are one alloy.
    """

    action: ClassVar[str] = 'alloy_name'
    command: ClassVar[tuple[str, ...]] = ('alloys', 'name')
    makes: ClassVar[Mapping[str, str]] = {'': 'nanoml.structures'}
    example: ClassVar[str] = 'aiida-nanoml alloys name imported --name cells'

    structures: Structures = argument('Cells of alloys.')

    def perform(self, session: Session) -> Result:
        """Name the alloys."""
        from aiida_nanoml.calculations.functions.alloys import name_alloy_set

        node = session.run_function(name_alloy_set, structures=self.load('structures'))
        node.label = self.name
        return StructuresResult(node, {}, 'alloy_scan')
