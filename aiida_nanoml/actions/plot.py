"""Draw a figure of a model or of predictions."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Self

from pydantic import model_validator

from aiida_nanoml.actions.base import Result
from aiida_nanoml.actions.errors import InputError
from aiida_nanoml.actions.fields import AnyNode, argument, option, output_option
from aiida_nanoml.actions.figures import FIGURE_HELP, Figure, FigureAction
from aiida_nanoml.actions.nodes import type_name
from aiida_nanoml.actions.session import Session


class Plot(FigureAction):
    """Draw NODE: predicted against computed values, their errors against standard deviations, or the learning curve.

    NODE is a model, a training, predictions of rows whose values are known (a data set, or predictions that were
    validated), the history of a training, or a workflow that made a model.
    """

    action: ClassVar[str] = 'plot'
    command: ClassVar[tuple[str, ...]] = ('plot',)
    example: ClassVar[str] = 'aiida-nanoml plot gap-model -o parity.png'

    node: AnyNode = argument('Node to draw.')
    learning_curve: bool = option(False, 'Of a model or training: losses over the epochs.')
    calibration: bool = option(False, 'Errors against predicted standard deviations.')
    output: Path = output_option(FIGURE_HELP, required=True)

    @model_validator(mode='after')
    def check_choice(self) -> Self:
        """Check that one figure is chosen."""
        if self.learning_curve and self.calibration:
            raise InputError('choose {learning_curve} or {calibration}: a file holds one figure')
        return self

    def perform(self, session: Session) -> Result:
        """Draw the figure."""
        from aiida_nanoml.provenance import drawing

        node = self.load('node')
        self.check_overwriting(self.file)
        if self.calibration:
            drawn = drawing.draw_calibration(node, self.file, **self.size)
        elif self.learning_curve or type_name(node) == drawing.HISTORY:
            drawn = drawing.draw_learning_curve(node, self.file, **self.size)
        else:
            drawn = drawing.draw_parity(node, self.file, **self.size)
        return Figure(node, self.file, drawn)
