"""What pages show of models and predictions; asked in the database's thread."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from aiida_nanoml.errors import NanomlError
from aiida_nanoml.text import capitalised
from aiida_nanoml.web.figures import LossPlot, ParityPlot, loss_plot, parity_plot
from aiida_nanoml.web.graph import LINKS_SHOWN, NodeLink, link_to, load
from aiida_nanoml.web.lineages import Branch, lineage_tree
from aiida_nanoml.web.rows import pictures_of, require_row, structure_sets, structure_url

if TYPE_CHECKING:
    from aiida_nanoml.learning.verdict import Verdict

WORST_SHOWN = 10
PREDICTIONS_SHOWN = 200
NEAREST_SHOWN = 4
PICTURE_PX, SMALL_PX = 240, 150


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


@dataclass(frozen=True)
class PredictedRow:
    """A predicted row.

    :param value: in the unit of the target.
    :param std: standard deviation of the error, in words.
    :param distance: to the nearest training row; 1 is typical.
    """

    row: int
    name: str
    value: str
    std: str
    distance: str
    outside: bool


@dataclass(frozen=True)
class NearRow:
    """A training row near a predicted one.

    :param known: its value.
    :param distance: 1 is typical.
    :param picture: SVG; empty where no structure stands behind the row.
    :param url: page of its structure; empty likewise.
    """

    name: str
    known: str
    distance: str
    picture: str
    url: str


@dataclass(frozen=True)
class LookedAt:
    """A predicted row with its picture and its nearest training rows.

    :param unknown: why no training rows are known; empty if they are.
    """

    predicted: PredictedRow
    picture: str
    url: str
    nearest: list[NearRow]
    unknown: str


@dataclass(frozen=True)
class PredictionPage:
    """What is shown of predictions beside their node.

    :param facts: texts by name.
    :param verdict: None: no job made them.
    :param unit: of the target.
    :param rows: the first ones.
    :param statements: sentences about labels and runs behind them.
    """

    facts: dict[str, str]
    verdict: Judgement | None
    unit: str
    rows: list[PredictedRow]
    n_rows: int
    looked_at: LookedAt
    statements: tuple[str, ...]
    lineage: list[list[Branch]]


def describe_model(uuid: str) -> ModelPage:
    """Return what a page shows of a model.

    :raises PageError: there is none.
    """
    from aiida_nanoml.actions.describe import metric_rows
    from aiida_nanoml.actions.show_model import ShowModelResult
    from aiida_nanoml.learning.targets import find_target
    from aiida_nanoml.learning.verdict import judge_model
    from aiida_nanoml.provenance.progress import losses_of
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
        losses=loss_plot(losses_of(training)) if trained else None,
        resting=[link_to(load(found.uuid)) for found in resting.predictions[:LINKS_SHOWN]],
        n_resting=resting.n_nodes,
    )


def describe_prediction(uuid: str, row: int = 0) -> PredictionPage:
    """Return what a page shows of predictions.

    :param row: that is looked at closely.
    :raises PageError: there are no such predictions, or there is no such row.
    """
    from aiida_nanoml.actions.predict import PredictResult
    from aiida_nanoml.learning.targets import find_target
    from aiida_nanoml.provenance.lineage import trace

    node = load(uuid, 'nanoml.prediction')
    columns, job = node.arrays, node.creator
    require_row(row, len(columns['value']))
    target = find_target(node.base.attributes.get('target'))
    made = job is not None and job.process_label == 'PredictCalculation'
    lines = dict(PredictResult(job, node).lines()) if made else {}
    grade, _, text = str(lines.pop('verdict', '')).partition(': ')
    remedies = tuple(filter(None, str(lines.pop('to improve', '')).split('; ')))
    lines.pop('predictions', None)
    source = node.base.attributes.get('labels')
    lineage = trace(node)
    return PredictionPage(
        facts={'target': f'{target.title} in {target.unit}', 'labels': _source(source)}
        | {name: str(value) for name, value in lines.items()},
        verdict=Judgement(grade, text, remedies) if grade else None,
        unit=target.unit,
        rows=[_predicted(columns, one, target) for one in range(min(PREDICTIONS_SHOWN, len(columns['value'])))],
        n_rows=len(columns['value']),
        looked_at=_closely(node, row, target),
        statements=(capitalised(lineage.statement), capitalised(lineage.dft)),
        lineage=lineage_tree(lineage),
    )


def _source(source: dict[str, Any]) -> str:
    from aiida_nanoml.actions.describe import source_line

    return source_line(source) if source else 'unknown'


def _predicted(columns: dict[str, Any], row: int, target: Any) -> PredictedRow:
    std = columns['std'][row]
    return PredictedRow(
        row,
        str(columns['names'][row]) or f'row {row}',
        f'{columns["value"][row]:.{target.digits}f}',
        f'± {std:.{target.digits}f}' if np.isfinite(std) else 'not calibrated',
        f'{columns["distance"][row]:.2f}',
        bool(columns['outside'][row]),
    )


def _closely(node: Any, row: int, target: Any) -> LookedAt:
    """Return a row with its picture and the nearest training rows."""
    columns = node.arrays
    predicted = _predicted(columns, row, target)
    picture, url = _picture(node, str(columns['hashes'][row]), PICTURE_PX)
    try:
        return LookedAt(predicted, picture, url, _nearest(node, row, target), '')
    except NanomlError as error:
        return LookedAt(predicted, picture, url, [], str(error))


def _nearest(node: Any, row: int, target: Any) -> list[NearRow]:
    """Return the training rows that are nearest to a predicted one.

    :raises NanomlError: they are not known.
    """
    from aiida_nanoml.errors import ModelError
    from aiida_nanoml.features.registry import describe
    from aiida_nanoml.learning.dataset import model_inputs
    from aiida_nanoml.learning.distance import TrainingDomain
    from aiida_nanoml.learning.model_files import DOMAIN_FILE

    job = node.creator
    model = None if job is None or job.process_label != 'PredictCalculation' else job.inputs.model
    training = None if model is None else model.creator
    if model is None or training is None or 'dataset' not in training.inputs:
        raise ModelError('the training of the model is not in this profile: its nearest rows are not known')
    learnt, corrects = training.inputs.dataset.dataset, model.card.baseline is not None
    if 'dataset' in job.inputs:
        given = job.inputs.dataset.dataset
        features, baseline = given.X[[row]], given.baseline[[row]] if corrects else None
    else:
        features = describe(model.card.descriptor, job.inputs.structures.structures[[row]])
        baseline = node.get_array('baseline')[[row]] if corrects else None
    with model.base.repository.as_path(DOMAIN_FILE) as path:
        domain = TrainingDomain.load(path)
    rows = np.flatnonzero(learnt.split == 'train')
    known = model_inputs(learnt.X, learnt.baseline if corrects else None)[rows]
    order, distances = domain.nearest(model_inputs(features, baseline)[0], known, NEAREST_SHOWN)
    found = []
    for one, distance in zip(rows[order].tolist(), distances.tolist(), strict=True):
        picture, url = _picture(training.inputs.dataset, str(learnt.hashes[one]), SMALL_PX)
        name = str(learnt.names[one]) or f'row {one}'
        found.append(NearRow(name, f'{learnt.y[one]:.{target.digits}f}', f'{distance:.2f}', picture, url))
    return found


def _picture(node: Any, digest: str, side_px: int) -> tuple[str, str]:
    """Return the drawing of the structure behind a row, and the address of its page; empty if there is none."""
    for one in structure_sets(node):
        structures = one.structures
        [rows] = np.nonzero(structures.hashes == digest)
        if rows.size:
            return pictures_of(structures, [int(rows[0])], side_px)[0], structure_url(one.uuid, int(rows[0]))
    return '', ''


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
