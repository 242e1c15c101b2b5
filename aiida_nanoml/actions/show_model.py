"""Show what a model is and how good it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from aiida_nanoml.actions.base import Action, Result, Step, record, step
from aiida_nanoml.actions.describe import identity_line, interval_line, metric_table, source_line
from aiida_nanoml.actions.fields import ModelNode, argument
from aiida_nanoml.actions.session import Session

if TYPE_CHECKING:
    from aiida_nanoml.data.model import ModelData


class ShowModel(Action):
    """Show what the model NODE is, what it was trained on and how good it is."""

    action: ClassVar[str] = 'show_model'
    command: ClassVar[tuple[str, ...]] = ('model', 'show')
    example: ClassVar[str] = 'aiida-nanoml model show gap-model'

    node: ModelNode = argument('Model to show.')

    def perform(self, session: Session) -> Result:
        """Read the node."""
        return ShowModelResult(self.load('node'))


@dataclass(frozen=True)
class ShowModelResult(Result):
    """A trained model.

    :param model: its node.
    """

    model: ModelData

    def to_dict(self) -> dict[str, Any]:
        """Return the card of the model."""
        return record(self.model, **self.model.card.model_dump(mode='json'))

    def lines(self) -> dict[str, object]:
        """Return what it predicts from what, and with which settings it was trained."""
        card = self.model.card
        targets = [f'{name} in {unit}' for name, unit in {card.target: card.unit, **card.others}.items()]
        return {
            'model': identity_line(self.model),
            'kind': card.kind,
            'fingerprint': card.fingerprint,
            'predicts': f'{", ".join(targets)} from {card.n_features} features',
            'labels': source_line(card.labels) if card.labels else 'unknown',
            **({'corrects': source_line(card.baseline)} if card.baseline else {}),
            'descriptor': (card.descriptor or {}).get('name', 'unknown'),
            **interval_line(card.metrics, 'test'),
            'settings': ', '.join(f'{key} {value}' for key, value in card.parameters.items()) or 'none',
            'made with': ', '.join(f'{key} {value}' for key, value in card.versions.items()),
        }

    def table(self) -> str:
        """Return the metrics by part of the split."""
        card = self.model.card
        return metric_table(card.metrics, target=card.target, others=card.others) if card.metrics else ''

    def next_step(self) -> Step:
        """Look where the model comes from."""
        return step('trace', node=self.model)
