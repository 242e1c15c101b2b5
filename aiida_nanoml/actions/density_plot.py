"""Draw a charge density, the error of a prediction, or the errors of a density model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from aiida_nanoml.actions.base import Result
from aiida_nanoml.actions.density_common import DensityNode, RowField, network_group, origin_line, percent
from aiida_nanoml.actions.fields import Densities, argument, option, output_option
from aiida_nanoml.actions.figures import FIGURE_HELP, Figure, FigureAction
from aiida_nanoml.actions.nodes import type_name
from aiida_nanoml.actions.session import Session
from aiida_nanoml.learning.plot_style import save_figure

if TYPE_CHECKING:
    from aiida_nanoml.data.densities import DensitySetData
    from aiida_nanoml.data.density_model import DensityModelData


class DensityPlot(RowField, FigureAction):
    """Draw a density of NODE in the plane of the atoms, or the errors of a density model.

    A prediction of known densities is drawn beside the known density, with its error; --against names densities that
    became known later.
    """

    action: ClassVar[str] = 'density_plot'
    command: ClassVar[tuple[str, ...]] = ('density', 'plot')
    example: ClassVar[str] = 'aiida-nanoml density plot predicted --row 1 --against known -o maps.png'

    node: DensityNode = argument('Densities, or a density model.')
    output: Path = output_option(FIGURE_HELP, required=True)
    against: Densities | None = option(None, 'Known densities to compare a prediction with.')

    def perform(self, session: Session) -> Result:
        """Draw the figure."""
        self.check_overwriting(self.file)
        found = self.load('node')
        if type_name(found) == 'nanoml.density_model':
            return DensityFigure(found, self.file, self._draw_errors(found))
        return DensityFigure(found, self.file, self._draw_maps(found))

    def _draw_maps(self, found: DensitySetData) -> dict[str, Any]:
        from aiida_nanoml.densities.resampling import resample_values
        from aiida_nanoml.engines.siesta.mesh import check_same_place
        from aiida_nanoml.learning.density.plots import plot_density_maps
        from aiida_nanoml.provenance.densities import known_density

        density = self.read_density(found)
        title = f'{self.name_in(found)}, {found.structures.formulas[self.row]}'
        known = known_density(found, self.row, self.load('against'))
        if known is None:
            save_figure(plot_density_maps(density, title, origin_line(found), **self.size), self.file)
            return {'drawn': 'density', 'row': self.row}
        reference, against = known
        check_same_place(reference.structure, density.structure)
        # The free atoms of a model differ a little from those of the engine: compare the whole densities.
        predicted = resample_values(density.total, reference.shape) - reference.free
        source = f'{origin_line(against)}\n{origin_line(found)}'
        save_figure(plot_density_maps(reference, title, source, predicted, **self.size), self.file)
        errors = {'nmae': reference.nmae(predicted), 'nmae_free': reference.nmae(0.0)}
        return {'drawn': 'error', 'row': self.row, **errors}

    def _draw_errors(self, model: DensityModelData) -> dict[str, Any]:
        from aiida_nanoml.learning.density.plots import plot_nmae
        from aiida_nanoml.provenance.densities import training_errors

        errors = training_errors(model)
        names, parts, nmae, free = (errors.get_array(key).tolist() for key in ('names', 'parts', 'nmae', 'nmae_free'))
        title = f'Density network {network_group(model)}'
        drawn = plot_nmae(names, nmae, free, parts, title, str(model.label_source), **self.size)
        save_figure(drawn, self.file)
        return {'drawn': 'errors', 'n_rows': len(names)}


@dataclass(frozen=True)
class DensityFigure(Figure):
    """A figure of densities, whose errors are shown as percentages."""

    def lines(self) -> dict[str, object]:
        """Return file and errors."""
        shown = {key: percent(value) if key.startswith('nmae') else value for key, value in self.drawn.items()}
        return {'file': self.file, **shown}
