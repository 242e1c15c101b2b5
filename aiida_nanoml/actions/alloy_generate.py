"""Generate cells of alloys in their candidate phases."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import Field

from aiida_nanoml.actions.alloy_common import SYMBOLS, CellFields
from aiida_nanoml.actions.base import NamedAction, Result
from aiida_nanoml.actions.fields import option
from aiida_nanoml.actions.session import Session
from aiida_nanoml.actions.show_structures import StructuresResult


def parse_fractions(text: str) -> dict[str, float]:
    """Read ``EL=X,EL=X,…``.

    :raises ValueError: the text has another form.
    """
    try:
        return {word.split('=')[0].strip(): float(word.split('=')[1]) for word in text.split(',')}
    except (IndexError, ValueError):
        raise ValueError(f'{text!r} is not a list of fractions such as Co=0.25,Cr=0.25,Ni=0.5') from None


def format_fractions(fractions: dict[str, float]) -> str:
    """Write fractions as they are read."""
    return ','.join(f'{element}={share!r}' for element, share in fractions.items())


Fraction = Annotated[float, Field(ge=0, le=1)]


class AlloyGenerate(CellFields, NamedAction):
    """Generate cells of alloys: for each alloy one in every candidate phase, at the lattice constant of its elements.

    Without --composition, compositions are drawn evenly from all that fit the cell.
    """

    action: ClassVar[str] = 'alloy_generate'
    command: ClassVar[tuple[str, ...]] = ('alloys', 'generate')
    makes: ClassVar[Mapping[str, str]] = {'': 'nanoml.structures'}
    example: ClassVar[str] = (
        'aiida-nanoml alloys generate --elements Al,Cu,Ni --atoms 8 --count 6 --seed 1 --name cells'
    )
    short: ClassVar[str | None] = 'Generate cells of alloys in their candidate phases'

    count: int = option(..., 'Number of alloys; each has a cell in every phase.', ge=1, le=1_000_000)
    composition: dict[str, Fraction] | None = option(
        None,
        'Fractions of all alloys.',
        shown='drawn for each',
        parse=parse_fractions,
        format=format_fractions,
        metavar='EL=X,…',
    )
    rounded: bool = option(False, 'Take the nearest composition that fits the cell.', options=('--round',))
    phases: tuple[str, ...] = option(('fcc', 'bcc'), 'Candidate phases.', **SYMBOLS | {'metavar': 'PHASE,…'})

    def perform(self, session: Session) -> Result:
        """Generate the cells."""
        from aiida.orm import Dict

        from aiida_nanoml.calculations.functions.alloys import generate_alloy_set
        from aiida_nanoml.structures import AlloyParameters

        parameters = AlloyParameters.from_dict(self.parameters()).to_dict()
        node = session.run_function(generate_alloy_set, parameters=Dict(parameters))
        node.label = self.name
        return StructuresResult(node, {'parameters': parameters}, 'alloy_scan')

    def parameters(self) -> dict[str, Any]:
        """Return the fields of :class:`~aiida_nanoml.structures.AlloyParameters`."""
        return {
            'elements': list(self.elements),
            'n_atoms': self.n_atoms,
            'count': self.count,
            'seed': self.seed,
            'composition': self.composition,
            'round_composition': self.rounded,
            'phases': list(self.phases),
            'order': self.order,
        }
