"""Second part of the quickstart: gaps of SIESTA, learnt alone and as a correction to the engine of the first part."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiida_nanoml.actions.describe import metric_table, source_line
from aiida_nanoml.actions.files import write_file
from aiida_nanoml.actions.quickstart_models import build_dataset, lineage_line, predict, train
from aiida_nanoml.actions.quickstart_runs import Runs
from aiida_nanoml.actions.starter import starter_sets
from aiida_nanoml.learning.registry import FEW_ROWS_KIND
from aiida_nanoml.text import aligned

if TYPE_CHECKING:
    from aiida.orm import ProcessNode

    from aiida_nanoml.data.dataset import DatasetData

DESCRIPTOR = {'name': 'quadruplets', 'params': {'classes': 22, 'unknown': 'drop'}}
"""Counts only: columns that are learnt cannot be cross-validated."""

FOLDS = 5
HELD_OUT = 'held-out'
FIGURE = 'Energy_gap_correction.png'
SHOWN = 5


@dataclass(frozen=True)
class SiestaPart:
    """What the second part made.

    :param dataset: gaps of SIESTA, with those of the first engine as baseline.
    :param trained: the training of the ``correction``, and that of the gap ``alone``.
    :param better: the one with the smaller error on rows that it did not see.
    :param prediction: the job that predicts the unseen flakes of the first part with the better one.
    """

    dataset: DatasetData
    trained: dict[str, ProcessNode]
    better: str
    prediction: ProcessNode

    def summarise(self, folder: Path) -> dict[str, Any]:
        """Copy the parity plot of the better model, and return the figures in types of JSON.

        :param folder: where the plot goes.
        """
        better = self.trained[self.better]
        [name] = [name for name in better.outputs.figures.base.repository.list_object_names() if 'prediction' in name]
        write_file(better.outputs.figures, name, folder / FIGURE)
        attributes = self.dataset.base.attributes
        return {
            'labels': source_line(attributes.get('labels')),
            'baseline': source_line(attributes.get('baseline')),
            'n_rows': attributes.get('n_rows'),
            'folds': FOLDS,
            'better': self.better,
            'metrics': {name: training.outputs.metrics.get_dict() for name, training in self.trained.items()},
            'verdicts': self.verdicts(),
            'model_uuid': better.outputs.model.uuid,
            'prediction_uuid': self.prediction.outputs.predictions.uuid,
            'figure': str(folder / FIGURE),
        }

    def report(self) -> str:
        """Return both models beside each other, some predictions, and where these come from."""
        attributes = self.dataset.base.attributes
        source = source_line(attributes.get('labels'))
        predictions = self.prediction.outputs.predictions
        names, gaps, deviations = (predictions.get_array(name)[:SHOWN] for name in ('names', 'value', 'std'))
        table: list[list[object]] = [['unseen flake', 'gap (eV)', 'std (eV)']]
        table += [[name, f'{gap:.3f}', f'{std:.3f}'] for name, gap, std in zip(names, gaps, deviations, strict=True)]
        return '\n'.join(
            [
                f'Gap of {source}: {attributes.get("n_rows")} flakes, each predicted by a model that did not see',
                f'it ({FOLDS} folds): from the features alone, and as a correction to the baseline',
                metric_table(self._held_out_metrics()),
                f'baseline: {source_line(attributes.get("baseline"))}',
                *(f'verdict on the correction of {family}: {verdict}' for family, verdict in self.verdicts().items()),
                '',
                f'Gap of {source}, by the better one: {self.better}',
                aligned(table),
                lineage_line(predictions),
            ]
        )

    def verdicts(self) -> dict[str, str]:
        """Return the verdict on the correction of each family."""
        from aiida_nanoml.learning.targets import find_target
        from aiida_nanoml.learning.verdict import judge_model

        metrics, target = self.trained['correction'].outputs.metrics.get_dict(), find_target(self.dataset.target)
        found = {}
        for part in metrics:
            if part.startswith(f'{HELD_OUT}/'):
                of_family = {HELD_OUT: metrics[part], f'baseline/{HELD_OUT}': metrics[f'baseline/{part}']}
                found[part.removeprefix(f'{HELD_OUT}/')] = str(judge_model(of_family, target, FEW_ROWS_KIND))
        return found

    def _held_out_metrics(self) -> dict[str, Any]:
        """Return the metrics of rows that were not seen: of the gap alone, the baseline and the correction."""
        found = {name: training.outputs.metrics.get_dict() for name, training in self.trained.items()}
        rows = {}
        for part, values in found['correction'].items():
            if part.split('/')[0] == HELD_OUT:
                family = part.removeprefix(HELD_OUT).replace('/', ' ')
                rows[f'alone{family}'] = found['alone'][part]
                rows[f'baseline{family}'] = found['correction'][f'baseline/{part}']
                rows[f'correction{family}'] = values
        return rows


def learn_from_siesta(engine: str, protocol: str, code: Any, first: ProcessNode, jobs: int, runs: Runs) -> SiestaPart:
    """Import the starter data, train on them both ways, and predict the unseen flakes of the first part.

    :param engine: of the first part; with ``protocol`` it is the baseline.
    :param first: process of the first part, with the unseen flakes and their labels.
    :param jobs: jobs at the same time.
    :raises ActionError: a step failed.
    """
    from aiida.orm import Dict

    from aiida_nanoml.workflows.label import LabelWorkChain

    sets, _ = starter_sets()
    structures, labels = sets['structures'], sets['labels']
    runs.session.note(
        f'\n{structures.n_structures} flakes with gaps of {labels.label_source}, every run among them, were imported'
    )
    batches = {'batch_size': -(-structures.n_structures // jobs), 'max_concurrent': jobs}
    builder = LabelWorkChain.get_builder_from_protocol(
        code, structures, engine=engine, protocol=protocol, overrides=batches
    )
    baseline = runs.run(builder)
    split = Dict({'by_family': True})
    dataset = build_dataset(structures, labels, DESCRIPTOR, runs, split=split, baseline=baseline.outputs.labels)
    trained = {
        name: train(code, dataset, FEW_ROWS_KIND, runs, folds=FOLDS, alone=name == 'alone')
        for name in ('correction', 'alone')
    }
    better = min(trained, key=lambda name: trained[name].outputs.metrics[HELD_OUT]['mae'])
    prediction = predict(code, trained[better].outputs.model, first, runs, corrects=better == 'correction')
    return SiestaPart(dataset, trained, better, prediction)
