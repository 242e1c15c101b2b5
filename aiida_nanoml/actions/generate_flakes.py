"""Generate C-BN nanoflakes with random domains of boron nitride."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from aiida_nanoml.actions.base import NamedAction, Result
from aiida_nanoml.actions.common import MAX_SEED
from aiida_nanoml.actions.errors import InputError
from aiida_nanoml.actions.fields import comma_separated, option
from aiida_nanoml.actions.session import Session
from aiida_nanoml.actions.show_structures import StructuresResult

Domains = Annotated[int, Field(ge=0, le=1000)]
Side = Annotated[int, Field(ge=1, le=1000)]
DomainShape = Literal['growth', 'rectangle']
Share = Annotated[float, Field(ge=0, le=1)]


class GenerateFlakes(NamedAction):
    """Generate flakes with random domains of boron nitride, distinct up to the symmetry of the bare flake."""

    action: ClassVar[str] = 'generate_flakes'
    command: ClassVar[tuple[str, ...]] = ('flakes', 'generate')
    makes: ClassVar[Mapping[str, str]] = {'': 'nanoml.structures'}
    example: ClassVar[str] = 'aiida-nanoml flakes generate --family h --size 2 --count 60 --seed 1 --name flakes'
    short: ClassVar[str] = 'Generate flakes with random domains of boron nitride.'

    family: str | None = option(None, 'h: hexagonal, armchair edges; s: square; z: hexagonal, zigzag edges.')
    size: tuple[Side, ...] | None = option(
        None,
        'Size of the lattice: one number, two for the family s (9,6).',
        **comma_separated(int, '9,6'),
    )
    lattice: str | None = option(None, 'Formula of the bare flake in place of family and size, for example C42H18.')
    count: int = option(..., 'Number of flakes.', ge=1)
    seed: int = option(..., 'Random seed of all draws: the same seed gives the same flakes.', ge=0, le=MAX_SEED)
    shape: DomainShape = option('growth', 'Shape of the domains.')
    domains: tuple[Domains, Domains] = option((1, 4), 'Smallest and largest number of domains.')
    bn_fraction: tuple[Share, Share] = option((0.0, 1.0), 'Smallest and largest share of boron nitride.')
    unbalanced: bool = option(False, 'Allow an odd number of electrons.')

    @model_validator(mode='after')
    def check_lattice(self) -> Self:
        """Check that the lattice is given once."""
        if self.lattice is not None and self.size is not None:
            raise InputError('choose either {lattice} or {size}, not both')
        if self.lattice is None and (self.family is None or self.size is None):
            raise InputError('give {family} and {size}, or {lattice}')
        return self

    def parameters(self) -> Any:
        """Return the parameters of the generator.

        :raises StructureError: there is no such lattice, or a parameter is wrong.
        """
        from aiida_nanoml.structures import FlakeParameters

        family, size = self._lattice()
        return FlakeParameters(
            family=family,
            size=size,
            count=self.count,
            seed=self.seed,
            shape=self.shape,
            n_domains=self.domains,
            bn_fraction=self.bn_fraction,
            balanced=not self.unbalanced,
        )

    def perform(self, session: Session) -> Result:
        """Generate the flakes."""
        from aiida.orm import Dict

        from aiida_nanoml.calculations.functions.structures import generate_flake_set

        parameters = self.parameters().to_dict()
        node = session.run_function(generate_flake_set, parameters=Dict(parameters))
        node.label = self.name
        return StructuresResult(node, {'parameters': parameters})

    def _lattice(self) -> tuple[str, Any]:
        from aiida_nanoml.structures import parse_lattice

        if self.lattice is not None:
            return parse_lattice(self.lattice if self.family is None else f'{self.family}-{self.lattice}')
        size = self.size or ()
        return str(self.family), size[0] if len(size) == 1 else size
