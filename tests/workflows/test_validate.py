"""Predictions judged by labels that are made afterwards."""

from __future__ import annotations

import numpy as np
import pytest
from aiida import orm
from aiida.engine import run_get_node
from aiida.plugins import CalculationFactory, WorkflowFactory

from aiida_nanoml.calculations.functions.validation import time_saved
from aiida_nanoml.data.labels import LabelSetData
from aiida_nanoml.data.model import ModelData
from aiida_nanoml.data.structures import StructureSetData
from aiida_nanoml.engines.label_set import LabelSet
from aiida_nanoml.errors import DatasetError
from aiida_nanoml.structures import StructureSet
from aiida_nanoml.workflows.validate import choice_of

ValidateWorkChain = WorkflowFactory('nanoml.validate')


def test_named_and_drawn_predictions_are_labelled_and_judged(
    code: orm.InstalledCode, model_node: ModelData, flakes: StructureSet, flake_labels: LabelSet
) -> None:
    job = CalculationFactory('nanoml.predict').get_builder()
    job.code, job.model, job.structures = code, model_node, StructureSetData(flakes)
    made, _ = run_get_node(job)
    predictions, values = made['predictions'], made['predictions'].get_array('value')
    names = flakes.names[[9, 3]].tolist()
    builder = ValidateWorkChain.get_builder_from_predictions(code, predictions, choice={'names': names})
    assert (builder.engine.value, builder.protocol.value, builder.parameters) == ('xtb', 'fast', None)
    outputs, node = run_get_node(builder)
    assert node.is_finished_ok, node.exit_message
    assert outputs['chosen'].structures.names.tolist() == names
    assert outputs['labels'].base.attributes.get('n_rows') == 2
    metrics, gaps = outputs['metrics'].get_dict(), flake_labels.energies['gap_ev']
    assert metrics['all']['n'] == 2
    assert metrics['all']['mae'] == pytest.approx(np.abs(values - gaps)[[3, 9]].mean(), abs=1e-4)
    assert metrics['n_not_compared'] == 0, 'only the chosen ones were asked for'
    labels = outputs['labels'].labels
    assert metrics['label_s_each'] == pytest.approx(labels.wall_s.mean())
    assert metrics['speedup'] == pytest.approx(metrics['label_s_each'] / metrics['prediction_s_each'])

    # With labels that are known, nothing is computed.
    builder = ValidateWorkChain.get_builder_from_predictions(code, predictions, choice=choice_of('random', 5, seed=1))
    builder.known = {'labels': LabelSetData(flake_labels)}
    outputs, node = run_get_node(builder)
    assert node.is_finished_ok, node.exit_message
    assert outputs['metrics']['all']['n'] == 5
    assert not [job for job in node.called_descendants if isinstance(job, orm.CalcJobNode)]

    # This model neither is an ensemble nor was calibrated.
    _, node = run_get_node(
        ValidateWorkChain.get_builder_from_predictions(code, predictions, choice=choice_of('uncertain', 2))
    )
    assert node.exit_status == ValidateWorkChain.exit_codes.ERROR_STEP_REFUSED.status
    assert 'needs the std of every row' in node.exit_message
    _, node = run_get_node(ValidateWorkChain.get_builder_from_predictions(code, predictions, choice={'names': ['x']}))
    assert "there is no structure 'x'" in node.exit_message


def test_time_saved_counts_the_baseline() -> None:
    """Ten structures: 20 s a label; 1 s a prediction, and 3 s for the label that it corrects."""
    saved = time_saved(np.array([10.0, np.nan, 30.0]), 10.0, 10, np.array([2.0, 4.0]))
    assert saved == {'label_s_each': 20.0, 'prediction_s_each': 4.0, 'speedup': 5.0, 'saved_s': 160.0}
    assert time_saved(np.array([20.0]), 10.0, 10)['speedup'] == 20.0
    assert time_saved(np.array([np.nan]), 10.0, 10)['saved_s'] is None


def test_imported_gaps_have_no_engine(dataset_node, model_node: ModelData, split_flakes, aiida_profile) -> None:
    from aiida_nanoml.data.prediction import PREDICTED, PredictionData

    n_rows = len(split_flakes)
    columns = {name: np.ones(n_rows) for name in PREDICTED} | {'outside': np.zeros(n_rows, dtype=bool)}
    columns |= {name: getattr(split_flakes, name) for name in ('hashes', 'names', 'families')}
    attributes = model_node.base.attributes.all
    imported = attributes | {'labels': attributes['labels'] | {'engine': 'imported'}}
    with pytest.raises(DatasetError, match='no engine here can repeat them'):
        ValidateWorkChain.get_builder_from_predictions(None, PredictionData(columns, imported))
    with pytest.raises(DatasetError, match='give the structures behind them'):
        ValidateWorkChain.get_builder_from_predictions(None, PredictionData(columns, attributes))
