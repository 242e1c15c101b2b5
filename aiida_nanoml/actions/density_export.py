"""Write a charge density as a file for other programs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import model_validator

from aiida_nanoml.actions.base import FileAction, Result, record
from aiida_nanoml.actions.density_common import RowField, origin_line
from aiida_nanoml.actions.errors import ActionError, InputError
from aiida_nanoml.actions.fields import Densities, argument, option, output_option
from aiida_nanoml.actions.session import Session

if TYPE_CHECKING:
    from aiida_nanoml.data.densities import DensitySetData


class DensityExport(RowField, FileAction):
    """Write a density of NODE as a file for other programs.

    A .nc is the difference to free atoms on the mesh that SIESTA chooses: put it into the folder of a run of this
    structure in this box under the name DeltaRho.IN.grid.nc.
    """

    action: ClassVar[str] = 'density_export'
    command: ClassVar[tuple[str, ...]] = ('density', 'export')
    example: ClassVar[str] = 'aiida-nanoml density export predicted --row 1 -o flake.cube'

    node: Densities = argument('Densities.')
    output: Path = output_option('File to write: .cube, or .nc for the density that SIESTA begins with.', required=True)
    quantity: Literal['total', 'difference', 'free'] | None = option(
        None, 'What a .cube holds: the density, its difference to free atoms, or that of the free atoms.', shown='total'
    )
    mesh_cutoff: float | None = option(
        None, 'MeshCutoff of the run that reads a .nc.', unit='Ry', gt=0, le=10_000, shown='as labelled'
    )

    @model_validator(mode='after')
    def _check_format(self) -> Self:
        """Check that the options fit to the ending of the file."""
        if self.output.suffix == '.cube':
            if self.mesh_cutoff is not None:
                raise InputError('{mesh_cutoff} goes with a .nc file')
        elif self.output.suffix != '.nc':
            raise InputError(f'{self.output} ends neither with .cube nor with .nc', 'output')
        elif self.quantity not in (None, 'difference'):
            raise InputError('a .nc file holds the difference: leave out {quantity}')
        return self

    def perform(self, session: Session) -> Result:
        """Write the file."""
        from aiida_nanoml.densities.cube import write_cube
        from aiida_nanoml.engines.siesta.mesh import write_start

        self.check_overwriting(self.output)
        node = self.load('node')
        density = self.read_density(node)
        if self.output.suffix == '.nc':
            self.output.write_bytes(write_start(density, density.structure, self._cutoff(node)))
            return DensityExportResult(node, self.output, self.row, 'difference', density.charge(density.difference))
        quantity = self.quantity or 'total'
        values = getattr(density, quantity)
        title = f'{self.name_in(node)}, {quantity} density, {origin_line(node)}'
        write_cube(self.output, density, values, title)
        return DensityExportResult(node, self.output, self.row, quantity, density.charge(values))

    def _cutoff(self, node: DensitySetData) -> float:
        """Return the mesh cutoff in Ry: the given one, or that of the runs behind the densities."""
        found = node.label_source.parameters.get('mesh_cutoff_ry') if self.mesh_cutoff is None else self.mesh_cutoff
        if found is None:
            raise ActionError(f'{node.label_source} has no mesh cutoff: give that of the run with --mesh-cutoff')
        return float(found)


@dataclass(frozen=True)
class DensityExportResult(Result):
    """A density in a file.

    :param node: the densities.
    :param file: what was written.
    :param row: which density.
    :param quantity: what the file holds.
    :param electrons: its integral.
    """

    node: DensitySetData
    file: Path
    row: int
    quantity: str
    electrons: float

    def to_dict(self) -> dict[str, Any]:
        """Return node, file, quantity and electrons."""
        numbers = {'row': self.row, 'quantity': self.quantity, 'electrons': self.electrons}
        return record(self.node, file=str(self.file), **numbers)

    def lines(self) -> dict[str, object]:
        """Return file, quantity and electrons."""
        structures = self.node.structures
        name = str(structures.names[self.row]) or structures.formulas[self.row]
        return {'file': self.file, 'density': f'{self.quantity} of {name}, {self.electrons:.4f} electrons'}
