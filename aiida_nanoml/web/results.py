"""What pages show of models and predictions; asked in the database's thread."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from aiida_nanoml.web.figures import LossPlot, ParityPlot, loss_plot, parity_plot
from aiida_nanoml.web.graph import LINKS_SHOWN, NodeLink, link_to, load
from aiida_nanoml.web.rows import structure_sets

if TYPE_CHECKING:
    from aiida_nanoml.learning.verdict import Verdict

WORST_SHOWN = 10


@dataclass(frozen=True)
class Judgement:
    """A verdict in words.

    :param remedies: what would help.
    """

    grade: str
    text: str
    remedies: tuple[str, ...]


@dataclass(frozen=True)
class RowLine:
    """A row of a data set with a large error.

    :param row: of the data set.
    :param values: predicted and known value, and their difference.
    """

    row: int
    name: str
    part: str
    values: tuple[str, str, str]


@dataclass(frozen=True)
class ModelPage:
    """What is shown of a model beside its node.

    :param facts: texts by name.
    :param tables: name, heading and rows of the metrics; the first one is of the target itself.
    :param dataset: UUID of the training data; empty if no training in the graph made the model.
    :param linked: whether the rows of the data set rest on structures that have pages.
    :param parity: predicted against known values; None: they are not in the graph.
    :param worst: the rows with the largest errors.
    :param losses: over the epochs; None: it has none.
    :param resting: predictions that rest on it.
    :param n_resting: nodes that rest on it.
    """

    facts: dict[str, str]
    verdict: Judgement
    tables: list[tuple[str, list[list[str]]]]
    dataset: str
    linked: bool
    parity: ParityPlot | None
    worst: list[RowLine]
    losses: LossPlot | None
    resting: list[NodeLink]
    n_resting: int


def describe_model(uuid: str) -> ModelPage:
    """Return what a page shows of a model.

    :raises PageError: there is none.
    """
    from aiida_nanoml.actions.describe import metric_rows
    from aiida_nanoml.actions.show_model import ShowModelResult
    from aiida_nanoml.learning.targets import find_target
    from aiida_nanoml.learning.verdict import judge_model
    from aiida_nanoml.provenance.taint import taint

    node = load(uuid, 'nanoml.model')
    card = node.card
    target = find_target(card.target)
    resting = taint(node)
    training = node.creator
    trained = training is not None and training.process_label == 'TrainCalculation' and training.is_finished_ok
    dataset = training.inputs.dataset if trained else None
    parity, worst = (None, []) if dataset is None else _parity(dataset, training.outputs.fitted, target)
    return ModelPage(
        facts={name: str(text) for name, text in ShowModelResult(node).lines().items() if name != 'model'},
        verdict=judgement(judge_model(card.metrics, target, card.kind)),
        tables=metric_rows(card.metrics, card.target, card.others) if card.metrics else [],
        dataset='' if dataset is None else dataset.uuid,
        linked=dataset is not None and next(structure_sets(dataset), None) is not None,
        parity=parity,
        worst=worst,
        losses=_losses(training) if trained else None,
        resting=[link_to(load(found.uuid)) for found in resting.predictions[:LINKS_SHOWN]],
        n_resting=resting.n_nodes,
    )


def judgement(verdict: Verdict) -> Judgement:
    """Return a verdict in words."""
    return Judgement(verdict.grade, str(verdict).partition(': ')[2], verdict.remedies)


def _parity(dataset: Any, fitted: Any, target: Any) -> tuple[ParityPlot, list[RowLine]]:
    """Return the parity plot of a training, and the rows with the largest errors."""
    known, predicted = dataset.get_array('y'), fitted.get_array('value')
    parts, names = dataset.get_array('split').tolist(), dataset.get_array('names').tolist()
    error = predicted - known
    worst = [
        RowLine(
            row,
            names[row] or f'row {row}',
            parts[row],
            (
                f'{predicted[row]:.{target.digits}f}',
                f'{known[row]:.{target.digits}f}',
                f'{error[row]:+.{target.digits}f}',
            ),
        )
        for row in np.argsort(-np.abs(error), kind='stable')[:WORST_SHOWN].tolist()
    ]
    return parity_plot(known, predicted, parts, names, target.unit, target.digits), worst


def _losses(training: Any) -> LossPlot | None:
    if 'history' not in training.outputs:
        return None
    return loss_plot({name: values.tolist() for name, values, _ in training.outputs.history.get_y()})
