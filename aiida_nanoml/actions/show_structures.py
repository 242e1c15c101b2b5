"""Show what a set of structures holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from aiida_nanoml.actions.base import Action, Result, Step, record, step
from aiida_nanoml.actions.describe import identity_line
from aiida_nanoml.actions.fields import Structures, argument, fields_of
from aiida_nanoml.actions.session import Session

if TYPE_CHECKING:
    from aiida_nanoml.data.structures import StructureSetData
    from aiida_nanoml.structures.questions import Peculiarities

SHOWN_NAMES = 3


class ShowStructures(Action):
    """Show what the set of structures NODE holds."""

    action: ClassVar[str] = 'show_structures'
    command: ClassVar[tuple[str, ...]] = ('structures', 'show')
    example: ClassVar[str] = 'aiida-nanoml structures show flakes'

    node: Structures = argument('Set of structures.')

    def perform(self, session: Session) -> Result:
        """Load the set."""
        return StructuresResult(self.load('node'))


@dataclass(frozen=True)
class StructuresResult(Result):
    """A set of structures.

    :param structures: the node.
    :param more: further content of the JSON object.
    :param following: action that usually takes these structures.
    """

    structures: StructureSetData
    more: Mapping[str, Any] = field(default_factory=dict)
    following: str = 'label'

    def to_dict(self) -> dict[str, Any]:
        """Return counts, elements, formulas, families, and how many structures are periodic or have a cell."""
        return record(self.structures, **self._numbers(), **self.more)

    def lines(self) -> dict[str, object]:
        """Return counts, elements, families, and the first formulas and names."""
        numbers, names = self._numbers(), self.structures.structures.names.tolist()
        return {
            'structures': identity_line(self.structures),
            'number': f'{numbers["n_structures"]} ({numbers["n_atoms"]} atoms)',
            'periodic': f'{numbers["n_periodic"]} of {numbers["n_structures"]}',
            **self._peculiar_lines(),
            'elements': ' '.join(numbers['elements']),
            'families': ' '.join(numbers['families']) or 'unknown',
            'formulas': _first(numbers['formulas']),
            'names': _first(names),
        }

    def _peculiar_lines(self) -> dict[str, str]:
        """Return what is peculiar, and what may be meant by it; nothing where all is as usual."""
        numbers, found = self._numbers(), self._peculiarities
        lines = {}
        if numbers['n_with_cell'] > numbers['n_periodic']:
            lines['cells'] = f'{numbers["n_with_cell"]} of {numbers["n_structures"]}'
        if found.n_boxed:
            lines['in a box'] = f'{found.n_boxed}, 5 Å or more between images: a molecule? import it with --isolated'
        if found.looks_like_bohr:
            lines['bonds'] = f'{found.bond_ratio:.2f} times as long as usual: lengths in bohr? import them with --bohr'
        if found.n_repeated:
            lines['repeated'] = f'{found.n_repeated} equal to an earlier one'
        if found.n_odd:
            lines['open shell'] = f'{found.n_odd}: an odd number of electrons; data sets of gaps leave such rows out'
        return lines

    @cached_property
    def _peculiarities(self) -> Peculiarities:
        from aiida_nanoml.structures.questions import find_peculiarities

        return find_peculiarities(self.structures.structures)

    def next_step(self) -> Step:
        """Label the structures, or what else usually follows."""
        from aiida_nanoml.actions.registry import action_class

        first = next(spec.name for spec in fields_of(action_class(self.following)) if spec.display.positional)
        return step(self.following, **{first: self.structures})

    def _numbers(self) -> dict[str, Any]:
        keys = ('n_structures', 'n_atoms', 'elements', 'formulas', 'families')
        pbc, cells = (self.structures.get_array(name) for name in ('pbc', 'cells'))
        return {key: self.structures.base.attributes.get(key) for key in keys} | {
            'n_periodic': int(pbc.any(axis=1).sum()),
            'n_with_cell': int(cells.any(axis=(1, 2)).sum()),
            'n_in_box': self._peculiarities.n_boxed,
            'n_repeated': self._peculiarities.n_repeated,
            'n_odd_electrons': self._peculiarities.n_odd,
            'looks_like_bohr': self._peculiarities.looks_like_bohr,
        }


def _first(texts: list[str]) -> str:
    return ' '.join(texts[:SHOWN_NAMES]) + (' …' if len(texts) > SHOWN_NAMES else '')
