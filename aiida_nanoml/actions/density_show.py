"""List charge densities, or describe a density model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from aiida_nanoml.actions.base import Action, Result, Step, record, step
from aiida_nanoml.actions.density_common import DensityModelResult, DensityNode, mesh_text, origin_line
from aiida_nanoml.actions.describe import SHOWN_ROWS, identity_line, shortened
from aiida_nanoml.actions.fields import argument
from aiida_nanoml.actions.nodes import type_name
from aiida_nanoml.actions.session import Session

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aiida_nanoml.data.densities import DensitySetData


class DensityShow(Action):
    """List the densities of NODE, or describe a density model and its errors."""

    action: ClassVar[str] = 'density_show'
    command: ClassVar[tuple[str, ...]] = ('density', 'show')
    example: ClassVar[str] = 'aiida-nanoml density show predicted'

    node: DensityNode = argument('Densities, or a density model.')

    def perform(self, session: Session) -> Result:
        """Read the node."""
        found = self.load('node')
        return DensityModelResult(found) if type_name(found) == 'nanoml.density_model' else DensitySetResult(found)


@dataclass(frozen=True)
class DensitySetResult(Result):
    """Densities.

    :param densities: their node.
    """

    densities: DensitySetData

    def to_dict(self) -> dict[str, Any]:
        """Return source, names, formulas, meshes and electrons."""
        found = self.densities
        structures = found.structures
        return record(
            found,
            kind=found.base.attributes.get('kind'),
            source=found.label_source.to_dict(),
            model_fingerprint=found.model_fingerprint,
            n_densities=found.n_densities,
            names=structures.names.tolist(),
            formulas=structures.formulas,
            meshes=found.shapes.tolist(),
            electrons=found.electrons.tolist(),
        )

    def lines(self) -> dict[str, object]:
        """Return node and source."""
        return {'densities': identity_line(self.densities), 'source': origin_line(self.densities)}

    def table(self) -> str:
        """Return the first densities with their meshes."""
        structures, shapes = self.densities.structures, self.densities.shapes.tolist()
        electrons = self.densities.electrons.tolist()
        table = [['row', 'name', 'formula', 'mesh', 'spacing (Å)', 'electrons']]
        for row in range(min(SHOWN_ROWS, len(shapes))):
            spacing = _spacing_text(structures.cells[row], shapes[row])
            names = [str(structures.names[row]), structures.formulas[row]]
            table.append([str(row), *names, mesh_text(shapes[row]), spacing, f'{electrons[row]:.3f}'])
        return shortened(table, len(shapes))

    def next_step(self) -> Step:
        """Draw the first density."""
        return step('density_plot', node=self.densities, row=0, output='maps.png')


def _spacing_text(cell: Any, shape: Sequence[int]) -> str:
    from aiida_nanoml.densities.density import mesh_spacing

    spacing = mesh_spacing(cell, tuple(shape))
    low, high = (f'{value:.3f}' for value in (spacing.min(), spacing.max()))
    return low if low == high else f'{low} to {high}'
