"""Predict charge densities with a density model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from aiida_nanoml.actions.base import Estimate, JobAction, Result, Step, record, step
from aiida_nanoml.actions.density_common import (
    METRIC_HEAD,
    PROCESSES,
    mesh_text,
    metric_row,
    origin_line,
    percent,
)
from aiida_nanoml.actions.describe import SHOWN_ROWS, identity_line, shortened
from aiida_nanoml.actions.fields import DensityModel, StructuresOrDensities, argument, option
from aiida_nanoml.actions.nodes import type_name
from aiida_nanoml.actions.session import Session
from aiida_nanoml.text import aligned

if TYPE_CHECKING:
    from aiida.engine import ProcessBuilder
    from aiida.orm import ProcessNode


class DensityPredict(JobAction):
    """Predict the densities of structures with a trained MODEL, or evaluate it on known DENSITIES.

    Known densities are predicted on their own meshes. Isolated structures are put into boxes.
    """

    action: ClassVar[str] = 'density_predict'
    command: ClassVar[tuple[str, ...]] = ('density', 'predict')
    makes: ClassVar[Mapping[str, str]] = {'': 'nanoml.densities'}
    example: ClassVar[str] = 'aiida-nanoml density predict dense flakes --name predicted'

    model: DensityModel = argument('Density model.')
    rows: StructuresOrDensities = argument(
        'Structures to predict, or known densities to evaluate on.', metavar='STRUCTURES|DENSITIES'
    )
    spacing: float | None = option(
        None, 'Distance of mesh points.', unit='Å', gt=0, le=2, shown='that of the densities behind the model'
    )
    vacuum: float | None = option(
        None,
        'Distance of the images of isolated structures.',
        unit='Å',
        gt=0,
        le=1000,
        shown='that of the densities behind the model',
    )
    processes: int | None = PROCESSES

    def builder(self, session: Session) -> ProcessBuilder:
        """Return the prediction."""
        from aiida.orm import Float

        from aiida_nanoml.calculations.density_predict import DensityPredictCalculation

        rows = self.load('rows')
        builder = DensityPredictCalculation.get_builder()
        builder.code = self.worker()
        builder.model = self.load('model')
        builder['known' if type_name(rows) == 'nanoml.densities' else 'structures'] = rows
        for key, value in (('spacing_ang', self.spacing), ('vacuum_ang', self.vacuum)):
            if value is not None:
                builder[key] = Float(value)
        builder.metadata.options = self.job_options(self.processes)
        return builder

    def output_names(self) -> dict[str, str]:
        """Return the label of the predictions."""
        return {'densities': self.name}

    def collect(self, process: ProcessNode, session: Session) -> Result:
        """Return the predictions."""
        return DensityPredictResult(process)

    def estimate(self) -> Estimate:
        """Return the memory, from the largest mesh."""
        from aiida_nanoml.learning.density.architecture import DensitySettings
        from aiida_nanoml.learning.density.memory import prediction_memory_mb
        from aiida_nanoml.structures import place

        model, rows = self.load('model'), self.load('rows')
        card = model.card
        vacuum = self.vacuum or card.vacuum_ang or 0.0
        known = type_name(rows) == 'nanoml.densities'
        cells = [(one if known else place(one, vacuum)).cell for one in rows.structures]
        settings = DensitySettings.from_dict(model.base.attributes.get('parameters'))
        memory = prediction_memory_mb(settings, cells, self.spacing or card.source_spacing_ang, self.processes or 1)
        basis = 'memory from the largest mesh; no seconds: they depend on the computer'
        return Estimate(1, None, memory, basis)


@dataclass(frozen=True)
class DensityPredictResult(Result):
    """Predicted densities, and their errors where they are known.

    :param process: the prediction.
    """

    process: ProcessNode

    def to_dict(self) -> dict[str, Any]:
        """Return names, mean errors, and all columns by row."""
        node, results = self.process.outputs.densities, self._results()
        names = node.structures.names.tolist()
        model = self.process.inputs.model.uuid
        return record(node, process=self.process.uuid, model=model, names=names, **results, rows=self._columns())

    def lines(self) -> dict[str, object]:
        """Return source, overlap with the training, and speed."""
        node, results = self.process.outputs.densities, self._results()
        n_points, seconds = node.base.attributes.get('n_points'), results['seconds']
        return {
            'densities': identity_line(node),
            'source': origin_line(node),
            'learnt from': f'{results["learnt_from"]} of {node.n_densities} structures',
            'time': f'{seconds:.2f} s for {n_points} mesh points, {n_points / seconds / 1e6:.1f} million a second',
        }

    def table(self) -> str:
        """Return mean errors, and the first rows."""
        node, columns = self.process.outputs.densities, self._columns()
        names, electrons, shapes = node.structures.names.tolist(), node.electrons.tolist(), node.shapes.tolist()
        evaluated = 'nmae' in columns
        table = [['row', 'name', 'mesh', 'electrons', 'charge defect'] + ['NMAE', 'free atoms'] * evaluated]
        for row in range(min(SHOWN_ROWS, len(names))):
            defect = f'{columns["charge_defect"][row]:+.4f}'
            errors = [percent(columns[key][row]) for key in ('nmae', 'nmae_free')] if evaluated else []
            table.append([str(row), names[row], mesh_text(shapes[row]), f'{electrons[row]:.3f}', defect, *errors])
        text = shortened(table, len(names))
        return (
            f'{aligned([METRIC_HEAD, metric_row("known", self._results()["metrics"])])}\n{text}' if evaluated else text
        )

    def next_step(self) -> Step:
        """Draw the first density."""
        return step('density_plot', node=self.process.outputs.densities, row=0, output='maps.png')

    def _results(self) -> dict[str, Any]:
        return dict(self.process.outputs.results.get_dict())

    def _columns(self) -> dict[str, list[Any]]:
        errors = self.process.outputs.errors
        return {name: errors.get_array(name).tolist() for name in errors.get_arraynames()}
