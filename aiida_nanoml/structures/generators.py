"""Registry of generators of structures: of this package and of others, each a class with typed parameters."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar

from aiida_nanoml.errors import StructureError
from aiida_nanoml.parameters import Count, Natural, check_parameters
from aiida_nanoml.plugins import Registry, subclass_of
from aiida_nanoml.structures.alloys import AlloyParameters, Length, Order, Texts, composition_section, generate_alloys
from aiida_nanoml.structures.cubic import PHASES
from aiida_nanoml.structures.flakes import FlakeParameters, generate_flakes
from aiida_nanoml.structures.structure_set import StructureSet


class Generator(ABC):
    """A generator of structures: a class whose annotated constructor is the only list of its parameters.

    The annotations must be types of JSON, with bounds if needed (:mod:`aiida_nanoml.parameters`). The same parameters
    must always generate the same structures: a random generator has a parameter ``seed``. A package registers a
    subclass in the entry-point group ``aiida_nanoml.generators``.
    """

    name: ClassVar[str]
    """Name of the entry point."""

    description: ClassVar[str]
    """What is generated, in one line."""

    @abstractmethod
    def generate(self) -> StructureSet:
        """Generate the structures.

        :raises StructureError: if there are no such structures.
        """


@dataclass(frozen=True)
class FlakeGenerator(FlakeParameters, Generator):
    """Generator of C-BN nanoflakes; parameters as of :class:`~aiida_nanoml.structures.FlakeParameters`.

    >>> flakes = FlakeGenerator(family='z', size=2, count=3, seed=0).generate()
    >>> len(flakes), flakes.counts.tolist()
    (3, [36, 36, 36])
    """

    name: ClassVar[str] = 'flakes'
    description: ClassVar[str] = 'C-BN nanoflakes: pieces of the honeycomb lattice with random domains of boron nitride'

    def generate(self) -> StructureSet:
        """Generate the flakes, see :func:`~aiida_nanoml.structures.generate_flakes`."""
        return generate_flakes(self)


@dataclass(frozen=True)
class AlloyGenerator(AlloyParameters, Generator):
    """Generator of alloy cells; parameters as of :class:`~aiida_nanoml.structures.AlloyParameters`.

    >>> cells = AlloyGenerator(count=1, seed=0, elements=('Co', 'Al')).generate()
    >>> cells.families.tolist(), cells.names.tolist()
    (['fcc', 'bcc'], ['alloy-0000', 'alloy-0000'])
    """

    name: ClassVar[str] = 'alloys'
    description: ClassVar[str] = 'cells of high-entropy alloys in each phase, of one composition or of drawn ones'

    def generate(self) -> StructureSet:
        """Generate the cells, see :func:`~aiida_nanoml.structures.generate_alloys`."""
        return generate_alloys(self)


@dataclass(frozen=True)
class AlloySectionGenerator(Generator):
    """Generator of alloy cells over a section of composition space.

    Parameters as of :func:`~aiida_nanoml.structures.composition_section`.

    >>> section = AlloySectionGenerator(('Co', 'Al'), x='Co', y='Al', steps=2, n_atoms=8, seed=0, phases=('bcc',))
    >>> section.generate().formulas
    ['Al8', 'Al4Co4', 'Co8']
    """

    elements: Texts
    x: str
    y: str
    steps: Count
    n_atoms: Count
    seed: Natural
    phases: Texts = tuple(PHASES)
    order: Order = 'random'
    sqs_iterations: Count = 200
    lattice_constants: Mapping[str, Length] | None = None

    name: ClassVar[str] = 'alloy_section'
    description: ClassVar[str] = 'cells of alloys over a section of composition space, for a map of phases'

    def generate(self) -> StructureSet:
        """Generate the cells, see :func:`~aiida_nanoml.structures.composition_section`."""
        return composition_section(**{field.name: getattr(self, field.name) for field in fields(self)})


GENERATORS: Registry[type[Generator]] = Registry(
    'aiida_nanoml.generators', 'generator', StructureError, subclass_of(Generator, named=True)
)
"""The generators of structures, see :class:`Generator`."""


def generator_names() -> list[str]:
    """Return the names of all registered generators, in alphabetical order."""
    return GENERATORS.names()


def make_generator(name: str, parameters: Mapping[str, Any]) -> Generator:
    """Make a generator.

    :param name: one of :func:`generator_names`.
    :param parameters: arguments of its constructor.
    :raises StructureError: if there is no such generator, it cannot be loaded, or a parameter is unknown, missing or
        wrong.
    """
    kind = GENERATORS.load(name)
    return kind(**check_parameters(kind, parameters, what='parameter', error=StructureError))
