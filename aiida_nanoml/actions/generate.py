"""Generate structures with any registered generator, that of another package too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from aiida_nanoml.actions.base import NamedAction, Result
from aiida_nanoml.actions.common import settings_option
from aiida_nanoml.actions.fields import argument
from aiida_nanoml.actions.session import Session
from aiida_nanoml.actions.show_structures import StructuresResult


def generators() -> list[str]:
    """Return the names of all registered generators."""
    from aiida_nanoml.structures.generators import generator_names

    return generator_names()


class Generate(NamedAction):
    """Generate structures with GENERATOR, one of this package or of another one.

    Flakes and alloys have commands of their own, with an option for each parameter: `flakes generate`, `alloys
    generate`, `alloys section`.
    """

    action: ClassVar[str] = 'generate'
    command: ClassVar[tuple[str, ...]] = ('structures', 'generate')
    makes: ClassVar[Mapping[str, str]] = {'': 'nanoml.structures'}
    example: ClassVar[str] = (
        'aiida-nanoml structures generate flakes --set family=z --set size=2 --set count=5 --set seed=1 --name flakes'
    )

    generator: str = argument('Registered name of the generator.', choices=generators)
    parameters: dict[str, Any] = settings_option('Parameter of the generator; repeatable.')

    def perform(self, session: Session) -> Result:
        """Check the parameters, and generate."""
        from aiida.orm import Dict, Str

        from aiida_nanoml.calculations.functions.structures import generate_structures
        from aiida_nanoml.structures.generators import make_generator

        make_generator(self.generator, self.parameters)
        node = session.run_function(
            generate_structures, generator=Str(self.generator), parameters=Dict(self.parameters)
        )
        node.label = self.name
        return StructuresResult(node, {'generator': self.generator, 'parameters': self.parameters})
