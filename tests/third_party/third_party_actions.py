"""Two actions as another package would provide them: one command, and one command for each choice."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

from pydantic import model_validator

from aiida_nanoml.actions.base import Action, Result, Session, Step, step
from aiida_nanoml.actions.errors import InputError
from aiida_nanoml.actions.fields import Structures, argument, option


class Largest(Action):
    """List the structures of STRUCTURES with the most atoms."""

    action: ClassVar[str] = 'largest'
    command: ClassVar[tuple[str, ...]] = ('structures', 'largest')
    example: ClassVar[str] = 'aiida-nanoml structures largest flakes --count 3'

    structures: Structures = argument('Structures to look at.')
    count: int = option(10, 'Number of structures to list.', ge=1, le=1000)
    spacing: float = option(1.4, 'Distance that an atom takes.', unit='Å', gt=0, le=10)
    longest: float | None = option(None, 'Length that no structure may exceed.', unit='Å', gt=0)

    @model_validator(mode='after')
    def _check_length(self) -> Self:
        if self.longest is not None and self.longest < self.spacing:
            raise InputError('{longest} must not be below {spacing}', 'longest')
        return self

    def perform(self, session: Session) -> Result:
        """Sort the structures."""
        structures = self.load('structures').structures
        counts = dict(zip(structures.names.tolist(), structures.counts.tolist(), strict=True))
        names = sorted(counts, key=lambda name: (-counts[name], name))[: self.count]
        return Sizes({name: counts[name] for name in names}, self.structures)


class Order(Action):
    """Compare the sizes of two structures in a way that is chosen."""

    action: ClassVar[str] = 'order'
    command: ClassVar[tuple[str, ...]] = ('order',)
    choice_field: ClassVar[str | None] = 'way'
    example: ClassVar[str] = 'aiida-nanoml order by-atoms 3 4'

    way: Literal['by_atoms', 'by_mass'] = option(..., 'What is compared.')
    first: int = argument('Size of the first structure.', ge=1)
    second: int = argument('Size of the second structure.', ge=1)

    @classmethod
    def describe(cls, preset: Mapping[str, Any]) -> str:
        """Return the help of one way, or of both."""
        return f'Compare two structures {preset["way"].replace("_", " ")}.' if preset else super().describe(preset)

    @classmethod
    def examples(cls, preset: Mapping[str, Any]) -> str:
        """Return an example of one way."""
        return f'aiida-nanoml order {preset.get("way", "by_atoms").replace("_", "-")} 3 4'

    def needs_storage(self) -> bool:
        """Return that no profile is needed."""
        return False

    def perform(self, session: Session) -> Result:
        """Compare both."""
        return Sizes({self.way: self.second - self.first}, None)


@dataclass(frozen=True)
class Sizes(Result):
    """Numbers by name.

    :param sizes: the numbers.
    :param structures: where they come from.
    """

    sizes: Mapping[str, int]
    structures: str | None

    def to_dict(self) -> dict[str, Any]:
        """Return the numbers."""
        return {'sizes': dict(self.sizes)}

    def lines(self) -> Mapping[str, object]:
        """Return the numbers."""
        return dict(self.sizes)

    def next_step(self) -> Step:
        """Look at the structures, or compare in the other way."""
        if self.structures is None:
            return step('order', way='by_mass', first=1, second=2)
        return step('show_structures', node=self.structures)
