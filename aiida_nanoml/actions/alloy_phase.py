"""Show the equilibrium phases of alloys, or predict them with a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self, cast

from pydantic import Field, model_validator

from aiida_nanoml.actions.alloy_common import (
    PREDICTED_NAMES,
    PREDICTED_PARTS,
    SHOWN_ALLOYS,
    evaluation_lines,
    phase_table,
)
from aiida_nanoml.actions.base import FOREGROUND, Estimate, NamedAction, Result, Step, record, step
from aiida_nanoml.actions.codes import default_code
from aiida_nanoml.actions.describe import called, source_line
from aiida_nanoml.actions.errors import ActionError, InputError
from aiida_nanoml.actions.fields import JOB, OUTPUT, AnyNode, Code, ModelNode, argument, option
from aiida_nanoml.actions.nodes import type_name
from aiida_nanoml.actions.session import Session
from aiida_nanoml.worker import WORKER

if TYPE_CHECKING:
    from aiida.orm import Dict

    from aiida_nanoml.data.prediction import PredictionData
    from aiida_nanoml.data.structures import StructureSetData
    from aiida_nanoml.provenance.alloys import AlloyScan

Factor = Annotated[float, Field(gt=0, le=10)]


class AlloyPhase(NamedAction):
    """Show the equilibrium phases of NODE: a scan, or what a model predicted.

    With --model, NODE is a scan, with whose curves those of the model are compared, or a set of cells, for example a
    section of composition space. With --name NAME, the predictions are named NAME-curves, NAME-points and NAME-phases.
    """

    action: ClassVar[str] = 'alloy_phase'
    command: ClassVar[tuple[str, ...]] = ('alloys', 'phase')
    makes: ClassVar[Mapping[str, str]] = PREDICTED_NAMES | {'': 'core.dict'}
    example: ClassVar[str] = 'aiida-nanoml alloys phase scan --model model --unseen --name phases'
    short: ClassVar[str | None] = 'Show equilibrium phases, or let a model predict them'

    node: AnyNode = argument('Scan, study or predicted phases; with a model also cells.')
    model: ModelNode | None = option(None, 'Predict the phases by the curves of this model.')
    unseen: bool = option(False, 'With --model: only alloys of which it learnt no point.')
    points: int = option(25, 'Lattice constants of each predicted curve.', ge=4, le=10_000)
    factors: tuple[Factor, Factor] = option(
        (0.94, 1.06),
        'Smallest and largest lattice constant of the predicted curves of cells, in units of theirs.',
        options=('--range',),
    )
    rows: int = option(SHOWN_ALLOYS, 'Alloys to print.', ge=1, group=OUTPUT)
    code: Code | None = option(None, f'The executable {WORKER}.', group=JOB, shown=f'the only code named {WORKER}')
    foreground: bool = FOREGROUND

    @model_validator(mode='after')
    def _check_model(self) -> Self:
        """Check that what concerns a model goes with one."""
        if self.unseen and self.model is None:
            raise InputError('{unseen} goes with {model}')
        return self

    def perform(self, session: Session) -> Result:
        """Find the phases, or predict them."""
        from aiida_nanoml.provenance.alloys import find_scans

        node = self.load('node')
        if self.model is None:
            scan, predicted = find_scans(node)
            return AlloyPhaseResult(cast('AlloyScan', predicted or scan), self.rows)
        cells = type_name(node) == 'nanoml.structures'
        known = None if cells else find_scans(node)[0]
        if known is None and not cells:
            raise ActionError(f'pk {node.pk} is what a model predicted: give a scan, or cells, with --model')
        result = self._predict(session, node, known)
        if self.name:
            for part in PREDICTED_PARTS:
                getattr(result.scan, part).label = f'{self.name}-{part}'
            if result.metrics is not None:
                result.metrics.label = self.name
        return result

    def estimate(self) -> Estimate | None:
        """Return the seconds of the prediction; None: nothing is predicted."""
        from aiida_nanoml.actions.costs import estimate_prediction
        from aiida_nanoml.calculations.functions.alloys import curves_of
        from aiida_nanoml.provenance.alloys import find_scans

        if self.model is None:
            return None
        node = self.load('node')
        if type_name(node) == 'nanoml.structures':
            n_curves = node.n_structures
        else:
            known = find_scans(node)[0]
            n_curves = 0 if known is None else len(curves_of(known.curves).status)
        return estimate_prediction(self.load('model'), n_curves * self.points)

    def _predict(self, session: Session, node: Any, known: AlloyScan | None) -> AlloyPhaseResult:
        """Predict the curves, and compare them with those of the engine if there are any."""
        from aiida_nanoml.calculations.functions.alloys import compare_scans, predict_phases
        from aiida_nanoml.calculations.predict import PredictCalculation
        from aiida_nanoml.provenance.alloys import AlloyScan

        fine = self._fine_scan(session, node, known)
        builder = PredictCalculation.get_builder()
        builder.model, builder.structures = self.load('model'), fine
        builder.code = self.load('code') or default_code()
        predictions = session.run(builder, foreground=self.foreground).outputs.predictions
        made = session.run_function(predict_phases, predictions=predictions, structures=fine)
        scan = AlloyScan(made['curves'], made['points'], made['phases'], fine)
        metrics = None
        if known is not None:
            metrics = session.run_function(compare_scans, curves=known.curves, predicted=scan.curves)
        return AlloyPhaseResult(scan, self.rows, metrics, predictions)

    def _fine_scan(self, session: Session, node: Any, known: AlloyScan | None) -> StructureSetData:
        """Return the points at which the model is evaluated."""
        from aiida.orm import Dict, Int

        from aiida_nanoml.calculations.functions.alloys import refine_scan, scan_alloys

        if known is not None:
            seen = {'dataset': self.load('model').creator.inputs.dataset} if self.unseen else {}
            fine: StructureSetData = session.run_function(
                refine_scan, structures=known.structures, points=Int(self.points), **seen
            )
            return fine
        if self.unseen:
            raise InputError('{unseen} needs a scan: cells are not known to the model')
        low, high = self.factors
        steps = [low + (high - low) * number / (self.points - 1) for number in range(self.points)]
        cells: StructureSetData = session.run_function(scan_alloys, structures=node, scan=Dict({'factors': steps}))
        return cells


@dataclass(frozen=True)
class AlloyPhaseResult(Result):
    """Equilibrium phases.

    :param scan: of an engine, or predicted.
    :param shown: alloys that are printed.
    :param metrics: comparison of the prediction with the engine.
    :param predictions: of the points, if they were made just now.
    """

    scan: AlloyScan
    shown: int
    metrics: Dict | None = None
    predictions: PredictionData | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return nodes, metrics, and a row for each alloy."""
        scan = self.scan
        return record(
            scan.phases,
            curves=scan.curves.uuid,
            points=scan.points.uuid,
            predicted=scan.predicted,
            labels=scan.source,
            metrics=None if self.metrics is None else self.metrics.get_dict(),
            table=scan.rows(),
            **self._counts(),
        )

    def lines(self) -> dict[str, object]:
        """Return source, metrics, and points outside of the training."""
        scan, numbers = self.scan, self._counts()
        lines: dict[str, object] = {
            'phases': f'{called(scan.phases)} pk {scan.phases.pk}, uuid {scan.phases.uuid}',
            'from': ('a model that learnt ' if scan.predicted else '') + source_line(scan.source),
        }
        if self.metrics is not None:
            lines |= evaluation_lines(self.metrics.get_dict())
        if numbers:
            lines['outside'] = f'{numbers["n_outside"]} of {numbers["n_points"]} points are beyond what it learnt'
        return lines

    def table(self) -> str:
        """Return the first alloys."""
        return phase_table(self.scan, self.shown)

    def next_step(self) -> Step:
        """Draw the curves."""
        return step('alloy_plot', node=self.scan.phases, output='curves.png')

    def _counts(self) -> dict[str, Any]:
        if self.predictions is None:
            return {}
        attributes = self.predictions.base.attributes
        return {'n_points': attributes.get('n_rows'), 'n_outside': attributes.get('n_outside')}
