"""Fields and results that the actions on charge densities share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from aiida_nanoml.actions.base import Result, Step, record, step
from aiida_nanoml.actions.common import settings_option
from aiida_nanoml.actions.describe import identity_line
from aiida_nanoml.actions.errors import InputError
from aiida_nanoml.actions.fields import JOB, LEARNING, node, option
from aiida_nanoml.text import aligned

if TYPE_CHECKING:
    from aiida.orm import ProcessNode

    from aiida_nanoml.data.densities import DensitySetData
    from aiida_nanoml.data.density_model import DensityModelData
    from aiida_nanoml.densities import Density

METRIC_HEAD = ('', 'densities', 'NMAE', 'worst', 'free atoms', 'ratio')

DensityNode = node('nanoml.densities', 'nanoml.density_model')

PROCESSES: Any = option(None, 'Cores of the job.', ge=1, group=JOB)


def symmetry_groups() -> Sequence[str]:
    """Return the names of the point groups that can tie weights."""
    from aiida_nanoml.learning.density.symmetry import GROUPS

    return GROUPS


def default_group() -> str:
    """Return the point group of a network of which nothing is said."""
    from aiida_nanoml.learning.density.architecture import DensitySettings

    return str(DensitySettings.model_fields['group'].default)


class NetworkFields(BaseModel):
    """Settings of a density network."""

    group: str | None = option(
        None,
        'Symmetry that ties the weights; none: they are free.',
        choices=symmetry_groups,
        shown=default_group,
        group=LEARNING,
    )
    settings: dict[str, Any] = settings_option(
        'Any other setting of the network, such as epochs, copies or seed; repeatable.', group=LEARNING
    )

    def network_settings(self) -> dict[str, Any]:
        """Return the settings that were chosen.

        :raises InputError: the group is given twice.
        """
        if self.group is None:
            return self.settings
        if 'group' in self.settings:
            raise InputError('group is given twice, as {group} and with {settings}')
        return self.settings | {'group': self.group}


class RowField(BaseModel):
    """Which density of many."""

    row: int = option(0, 'Which density, counted from 0.', ge=0)

    def read_density(self, node: DensitySetData) -> Density:
        """Read the density of the row.

        :raises InputError: there is no such row.
        """
        if self.row >= node.n_densities:
            raise InputError(f'pk {node.pk} has {node.n_densities} densities, counted from 0', 'row')
        return node.density(self.row)

    def name_in(self, node: DensitySetData) -> str:
        """Return the name of the structure of the row, or its formula."""
        structures = node.structures
        return str(structures.names[self.row]) or structures.formulas[self.row]


@dataclass(frozen=True)
class DensityModelResult(Result):
    """A density model: what it is, and how good it is.

    :param model: its node.
    :param process: what trained it just now.
    :param predictions: predictions of the structures that it is evaluated on, by part.
    :param further_metrics: errors of these predictions, by part; the card has the others.
    """

    model: DensityModelData
    process: ProcessNode | None = None
    predictions: Mapping[str, DensitySetData] | None = None
    further_metrics: Mapping[str, Mapping[str, Any]] | None = None

    @property
    def metrics(self) -> dict[str, Any]:
        """Return the errors by part."""
        return dict(self.model.card.metrics) | dict(self.further_metrics or {})

    def to_dict(self) -> dict[str, Any]:
        """Return the card of the model, processes and predictions."""
        numbers: dict[str, Any] = {} if self.process is None else {'process': self.process.uuid}
        if self.predictions is not None:
            numbers['predictions'] = {part: node.uuid for part, node in self.predictions.items()}
        return record(self.model, **numbers, **self.model.card.model_dump(mode='json') | {'metrics': self.metrics})

    def lines(self) -> dict[str, object]:
        """Return network, source, elements and fingerprint."""
        card = self.model.card
        return {
            'model': identity_line(self.model),
            'network': f'{network_group(self.model)}, {card.n_free_weights} free weights in place of {card.n_weights}',
            'densities': self.model.label_source,
            'elements': ', '.join(f'{symbol} {electrons:.3f} e' for symbol, electrons in card.electrons.items()),
            'fingerprint': card.fingerprint[:12],
        }

    def table(self) -> str:
        """Return the errors by part."""
        return aligned([METRIC_HEAD, *(metric_row(part, found) for part, found in self.metrics.items())])

    def next_step(self) -> Step:
        """Draw a prediction or the errors; of a model that was only shown, trace it."""
        if self.process is None:
            return step('trace', node=self.model)
        if self.predictions:
            return step('density_plot', node=next(iter(self.predictions.values())), output='density.png')
        return step('density_plot', node=self.model, output='errors.png' if self.predictions is None else 'density.png')


def network_group(model: DensityModelData) -> str:
    """Return the point group of a density model."""
    return str(model.base.attributes.get('parameters')['group'])


def metric_row(name: str, found: Mapping[str, Any]) -> list[str]:
    """Return the mean errors of some densities as a row of a table."""
    return [
        name,
        str(found['n']),
        percent(found['nmae']),
        percent(found['worst_nmae']),
        percent(found['nmae_free']),
        f'{found["ratio"]:.1f}',
    ]


def percent(share: float) -> str:
    """Return a share in percent."""
    return f'{100 * share:.3f} %'


def mesh_text(shape: Sequence[int]) -> str:
    """Return the points of a mesh along its vectors."""
    return ' x '.join(map(str, shape))


def origin_line(node: DensitySetData) -> str:
    """Return which engine or model made densities."""
    source = str(node.label_source)
    fingerprint = node.model_fingerprint
    return source if fingerprint is None else f'predicted by model {fingerprint[:12]}, learnt from {source}'
