"""Draw curves, stress and strain, phase maps, or a parity of alloys."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, cast

from pydantic import model_validator

from aiida_nanoml.actions.base import Result
from aiida_nanoml.actions.describe import source_line
from aiida_nanoml.actions.errors import ActionError, InputError
from aiida_nanoml.actions.fields import AnyNode, argument, option, output_option
from aiida_nanoml.actions.figures import FIGURE_HELP, Figure, FigureAction
from aiida_nanoml.actions.nodes import type_name
from aiida_nanoml.actions.session import Session
from aiida_nanoml.learning.plot_style import save_figure

if TYPE_CHECKING:
    from aiida_nanoml.provenance.alloys import AlloyScan


class AlloyPlot(FigureAction):
    """Draw NODE: a scan, what a model predicted, or a whole study.

    Curves and stress are those of one alloy, with the model beside the engine where both are known.
    """

    action: ClassVar[str] = 'alloy_plot'
    command: ClassVar[tuple[str, ...]] = ('alloys', 'plot')
    example: ClassVar[str] = 'aiida-nanoml alloys plot scan --figure curves --alloy alloy-0000 -o curves.png'
    short: ClassVar[str | None] = 'Draw curves, stress-strain, a phase map or a parity'

    node: AnyNode = argument('Scan, predicted phases, or study.')
    figure: Literal['curves', 'stress', 'map', 'parity'] = option(
        'curves',
        'E(a) of an alloy, its stress-strain curves, a map of phases, or E(fcc) - E(bcc) of model and engine.',
    )
    alloy: str | None = option(None, 'Name of the alloy, for curves and stress.', shown='the first')
    predicted: AnyNode | None = option(None, 'What a model predicted, to draw beside NODE.')
    x: str | None = option(None, 'Element along the first axis of a map.')
    y: str | None = option(None, 'Element along the second axis of a map.')
    output: Path = output_option(FIGURE_HELP, required=True)

    @model_validator(mode='after')
    def _check_axes(self) -> Self:
        """Check that a map has axes."""
        if self.figure == 'map' and not (self.x and self.y):
            raise InputError('a map needs the elements of its axes: {x} and {y}')
        return self

    def perform(self, session: Session) -> Result:
        """Draw the figure."""
        from aiida_nanoml.provenance.alloys import find_scans

        self.check_overwriting(self.file)
        node = self.load('node')
        scan, model = find_scans(node)
        if self.predicted is not None:
            found = self.load('predicted')
            model = find_scans(found)[1]
            if model is None:
                raise ActionError(f'{type_name(found)} pk {found.pk} was not predicted by a model')
        if self.figure == 'map':
            drawn = self._draw_map(cast('AlloyScan', model or scan), scan if model else None)
        elif self.figure == 'parity':
            drawn = self._draw_parity(scan, model)
        else:
            drawn = self._draw_alloy(cast('AlloyScan', scan or model), model if scan else None)
        return Figure(node, self.file, drawn)

    def _draw_alloy(self, scan: AlloyScan, model: AlloyScan | None) -> dict[str, Any]:
        """Draw curves, or stress and strain, of one alloy."""
        from aiida_nanoml.alloys.plots import plot_curves, plot_stress_strain
        from aiida_nanoml.calculations.functions.alloys import curves_of

        curves, points = curves_of(scan.curves), dict(scan.points.arrays)
        beside, label = None, ''
        if model is not None:
            beside, label = (curves_of(model.curves), model.points.arrays), f'model, from {source_line(model.source)}'
            if model.target == 'cohesive_energy':
                # The model counts energies from the isolated atoms.
                curves = replace(curves, energy_ev=-scan.curves.get_array('cohesive_energy_ev'))
                points |= {'energy_ev': -points['cohesive_energy_ev']}
        alloy = self.alloy or str((curves if beside is None else beside[0]).names[0])
        draw = plot_curves if self.figure == 'curves' else plot_stress_strain
        drawn: Any = draw(curves, points, alloy, source_line(scan.source), beside, label, **self.size)
        save_figure(drawn, self.file)
        return {'drawn': self.figure, 'alloy': alloy}

    def _draw_map(self, scan: AlloyScan, known: AlloyScan | None) -> dict[str, Any]:
        """Draw the phases of a scan over two fractions, and the phases of known alloys as markers."""
        from aiida_nanoml.alloys.phases import fractions
        from aiida_nanoml.alloys.plots import plot_phase_map

        def axes(formulas: Any) -> tuple[Any, Any]:
            return fractions(formulas, str(self.x)), fractions(formulas, str(self.y))

        arrays = scan.phases.arrays
        markers = None
        if known is not None:
            found = known.phases.arrays
            markers = (*axes(found['formulas']), found['phases'])
        drawn = plot_phase_map(
            *axes(arrays['formulas']),
            arrays['energy_difference_ev'],
            f'Fraction of {self.x}',
            f'Fraction of {self.y}',
            'E(fcc) - E(bcc)' + (' by the model' if scan.predicted else ''),
            source_line(scan.source),
            markers,
            **self.size,
        )
        save_figure(drawn, self.file)
        return {'drawn': 'map', 'n_alloys': len(arrays['names'])}

    def _draw_parity(self, scan: AlloyScan | None, model: AlloyScan | None) -> dict[str, Any]:
        """Draw the difference of the phases by the model against that by the engine."""
        from aiida_nanoml.alloys.plots import plot_phase_parity
        from aiida_nanoml.provenance.alloys import paired_differences

        if scan is None or model is None:
            raise ActionError('a parity needs a scan and what a model predicted for its alloys: give --predicted')
        known, predicted = paired_differences(scan, model)
        title = 'Difference of the phases, predicted and computed'
        save_figure(plot_phase_parity(known, predicted, title, source_line(scan.source), **self.size), self.file)
        return {'drawn': 'parity', 'n_alloys': len(known)}
