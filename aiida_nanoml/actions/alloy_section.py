"""Generate cells of alloys over a section of composition space."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from aiida_nanoml.actions.alloy_common import CellFields
from aiida_nanoml.actions.base import NamedAction, Result
from aiida_nanoml.actions.fields import option
from aiida_nanoml.actions.session import Session
from aiida_nanoml.actions.show_structures import StructuresResult


class AlloySection(CellFields, NamedAction):
    """Generate cells over a section of composition space, for a phase map by a model.

    A composition that does not fit the cell is replaced by the nearest one that does.
    """

    action: ClassVar[str] = 'alloy_section'
    command: ClassVar[tuple[str, ...]] = ('alloys', 'section')
    makes: ClassVar[Mapping[str, str]] = {'': 'nanoml.structures'}
    example: ClassVar[str] = (
        'aiida-nanoml alloys section --elements Al,Cu,Ni --x Al --y Cu --steps 4 --seed 1 --name section'
    )
    short: ClassVar[str | None] = 'Generate cells over a section of composition space'

    x: str = option(..., 'Element along the first axis.')
    y: str = option(..., 'Element along the second axis; the others share the rest equally.')
    steps: int = option(10, 'Steps from 0 to 1 on each axis.', ge=1, le=1000)
    n_atoms: int = option(32, 'Atoms of a cell.', options=('--atoms',), ge=8, le=108)

    def perform(self, session: Session) -> Result:
        """Generate the cells."""
        from aiida.orm import Dict

        from aiida_nanoml.calculations.functions.alloys import generate_alloy_section

        names = ('x', 'y', 'steps', 'n_atoms', 'seed', 'order')
        parameters = {'elements': list(self.elements)} | {name: getattr(self, name) for name in names}
        node = session.run_function(generate_alloy_section, parameters=Dict(parameters))
        node.label = self.name
        return StructuresResult(node, {'parameters': parameters}, 'alloy_phase')
