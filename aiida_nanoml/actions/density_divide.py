"""Divide charge densities into those to learn from and those to test on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from aiida_nanoml.actions.base import NamedAction, Result, Step, record, step
from aiida_nanoml.actions.common import MAX_SEED
from aiida_nanoml.actions.describe import identity_line
from aiida_nanoml.actions.fields import Densities, argument, option
from aiida_nanoml.actions.session import Session

if TYPE_CHECKING:
    from aiida_nanoml.data.densities import DensitySetData


class DensityDivide(NamedAction):
    """Divide DENSITIES at random into those to learn from and those to test on."""

    action: ClassVar[str] = 'density_divide'
    command: ClassVar[tuple[str, ...]] = ('density', 'divide')
    makes: ClassVar[Mapping[str, str]] = {'-train': 'nanoml.densities', '-test': 'nanoml.densities'}
    example: ClassVar[str] = 'aiida-nanoml density divide labels-densities --test 4 --seed 0 --name flakes'

    densities: Densities = argument('Densities to divide.')
    n_test: int = option(..., 'Number of densities to test on.', options=('--test',), ge=1)
    seed: int = option(..., 'Random seed of the draw.', ge=0, le=MAX_SEED)

    def perform(self, session: Session) -> Result:
        """Divide them, and label both parts."""
        from aiida.orm import Int

        from aiida_nanoml.calculations.functions.densities import divide_densities

        densities = self.load('densities')
        inputs = {'densities': densities, 'n_test': Int(self.n_test), 'seed': Int(self.seed)}
        made = session.run_function(divide_densities, **inputs)
        for part, node in made.items():
            node.label = f'{self.name}-{part}' if self.name else ''
        return DensityDivideResult(densities, made)


@dataclass(frozen=True)
class DensityDivideResult(Result):
    """Both parts of a division.

    :param densities: what was divided.
    :param parts: ``train`` and ``test``.
    """

    densities: DensitySetData
    parts: dict[str, DensitySetData]

    def to_dict(self) -> dict[str, Any]:
        """Return both nodes and their numbers of densities."""
        return {part: record(node, n_densities=node.n_densities) for part, node in self.parts.items()}

    def lines(self) -> dict[str, object]:
        """Return both nodes and their shares."""
        total = self.densities.n_densities
        return {part: f'{identity_line(node)}, {node.n_densities} of {total}' for part, node in self.parts.items()}

    def next_step(self) -> Step:
        """Train a network."""
        return step('density_train', densities=self.parts['train'], test=self.parts['test'])
