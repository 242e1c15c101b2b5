"""Steps of the quickstart that both of its parts take, and its second model: the best inputs on the same flakes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from aiida_nanoml.actions.quickstart_runs import Runs
from aiida_nanoml.text import aligned, counted

if TYPE_CHECKING:
    from aiida.orm import Dict, ProcessNode

    from aiida_nanoml.data.dataset import DatasetData

COUNTED = 'quadruplets'
"""Inputs of the first model, the 26 counts of the source."""

BEST = 'tight_binding+shells'
"""Inputs of the second model, the best ones in the documentation (Results)."""

BEST_DESCRIPTOR: Mapping[str, Any] = MappingProxyType(
    {'name': 'combined', 'params': {'parts': [{'name': 'tight_binding'}, {'name': 'shells'}]}}
)


@dataclass(frozen=True)
class BestModel:
    """The second model, on the flakes and labels of the first one.

    :param training: its training.
    :param prediction: the job that predicts the unseen flakes.
    :param validation: errors on these, which were labelled.
    """

    training: ProcessNode
    prediction: ProcessNode
    validation: Dict


def learn_best(code: Any, first: ProcessNode, runs: Runs) -> BestModel:
    """Train a network on the best inputs, with the flakes, labels and split of the first model.

    :param first: process of the first model, with the unseen flakes and their labels.
    :raises ActionError: a step failed.
    """
    from aiida_nanoml.calculations.functions.validation import compare_with_labels

    outputs = first.outputs
    runs.session.note(f'\nthe same flakes once more, described by {BEST}')
    dataset = build_dataset(outputs.structures, outputs.labels, BEST_DESCRIPTOR, runs, split=first.inputs.split)
    training = train(code, dataset, 'fast', runs)
    prediction = predict(code, training.outputs.model, first, runs)
    predictions, labels = prediction.outputs.predictions, outputs.validation.labels
    made = runs.run_function(compare_with_labels, predictions=predictions, labels=labels)
    return BestModel(training, prediction, made['metrics'])


def headline(first: ProcessNode, best: BestModel, families: Mapping[str, Any]) -> dict[str, Any]:
    """Return R² and MAE of both models on the test rows of each family, and on the unseen flakes.

    :param first: process of the first model.
    :param families: names of the families.
    """
    trained = {COUNTED: first.outputs.metrics.get_dict(), BEST: best.training.outputs.metrics.get_dict()}
    unseen = {COUNTED: first.outputs.validation.metrics['all'], BEST: best.validation['all']}
    return {
        name: {
            **{family: _errors(metrics[f'test/{family}']) for family in families},
            'unseen': _errors(unseen[name]),
        }
        for name, metrics in trained.items()
    }


def draw_both(path: Path, first: ProcessNode, best: BestModel, engine_label: str) -> None:
    """Draw predicted against labelled gaps of both models, training and test rows, side by side.

    :param path: file to write.
    :param engine_label: engine and protocol of the labels.
    """
    from aiida_nanoml.learning.plot_style import drawing, save_figure
    from aiida_nanoml.learning.plots import plot_parity

    trained = {COUNTED: (first.outputs.dataset, first.outputs.fitted)}
    trained[BEST] = best.training.inputs.dataset, best.training.outputs.fitted
    with drawing(None, 'double', 3.6, panels=2) as canvas:
        for ax, (name, (node, fitted)) in zip(canvas.panels, trained.items(), strict=True):
            known, predicted = node.dataset, fitted.get_array('value')
            rows = {part: known.split == part for part in ('train', 'test')}
            parts = {part: (known.y[chosen], predicted[chosen]) for part, chosen in rows.items()}
            plot_parity(parts, name, engine_label, ax=ax)
    save_figure(canvas.panels, path)


def _errors(metrics: Mapping[str, Any]) -> dict[str, Any]:
    return {'r2': metrics['r2'], 'mae_ev': metrics['mae'], 'n': metrics['n']}


def headline_table(found: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the two models side by side."""
    groups = next(iter(found.values()))
    heads = [f'{group} ({values["n"]})' for group, values in groups.items()]
    rows = [['inputs', *(f'{what}, {head}' for head in heads for what in ('R2', 'MAE (eV)'))]]
    for name, errors in found.items():
        cells = [cell for values in errors.values() for cell in (_r2(values['r2']), f'{values["mae_ev"]:.3f}')]
        rows.append([name, *cells])
    return aligned(rows)


def _r2(value: float | None) -> str:
    return '-' if value is None else f'{value:.3f}'


def build_dataset(
    structures: Any,
    labels: Any,
    descriptor: Mapping[str, Any],
    runs: Runs,
    *,
    split: Dict,
    baseline: Any = None,
) -> DatasetData:
    """Build a data set.

    :raises ActionError: it cannot be built.
    """
    from aiida.orm import Dict

    from aiida_nanoml.calculations.functions.datasets import assemble_dataset

    further = {} if baseline is None else {'baseline': baseline}
    dataset: DatasetData = runs.run_function(
        assemble_dataset,
        structures=structures,
        labels=labels,
        descriptor=Dict(dict(descriptor)),
        split=split,
        **further,
    )
    return dataset


def train(
    code: Any, dataset: DatasetData, kind: str, runs: Runs, folds: int | None = None, alone: bool = False
) -> ProcessNode:
    """Train a model.

    :param folds: also cross-validate with this many folds; None: do not.
    :param alone: learn the target itself, although the data set has a baseline.
    :raises ActionError: the training failed.
    """
    from aiida.orm import Bool, Int, Str
    from aiida.plugins import CalculationFactory

    builder = CalculationFactory('nanoml.train').get_builder()
    builder.code, builder.dataset, builder.kind = code, dataset, Str(kind)
    if folds is not None:
        builder.folds, builder.alone = Int(folds), Bool(alone)
    return runs.run(builder)


def predict(code: Any, model: Any, first: ProcessNode, runs: Runs, corrects: bool = False) -> ProcessNode:
    """Predict the unseen flakes of the first model.

    :param corrects: whether the model corrects the labels of these.
    :raises ActionError: the prediction failed.
    """
    from aiida.plugins import CalculationFactory

    builder = CalculationFactory('nanoml.predict').get_builder()
    builder.code, builder.model, builder.structures = code, model, unseen_flakes(first)
    if corrects:
        builder.baseline = first.outputs.validation.labels
    return runs.run(builder)


def lineage_line(predictions: Any) -> str:
    """Return what some predictions rest on, in one line."""
    from aiida_nanoml.provenance.lineage import trace

    lineage = trace(predictions)
    origins = [
        f'{counted(one.n_structures, "structure")} in {counted(one.n_jobs, "job")} of {one.title} / {one.protocol}'
        for one in lineage.labelling
    ]
    return f'rests on {" and ".join(origins)}; {lineage.dft}'


def unseen_flakes(first: ProcessNode) -> Any:
    """Return the flakes that no model of the quickstart learns from."""
    return first.outputs.predictions.creator.inputs.structures
