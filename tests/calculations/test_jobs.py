"""Calculation jobs on a real computer with the real worker, and input that is refused before anything is submitted."""

from __future__ import annotations

import json
import math
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aiida import orm
from aiida.engine import run_get_node
from aiida.manage.caching import enable_caching
from aiida.plugins import CalculationFactory

from aiida_nanoml.data.dataset import DatasetData
from aiida_nanoml.data.labels import LabelSetData
from aiida_nanoml.data.model import ModelData
from aiida_nanoml.data.structures import StructureSetData
from aiida_nanoml.engines.label_set import LabelSet
from aiida_nanoml.learning.dataset import Dataset
from aiida_nanoml.structures import StructureSet

Label, Train, Predict = (CalculationFactory(f'nanoml.{task}') for task in ('label', 'train', 'predict'))


@pytest.fixture
def label_inputs(paced_code: orm.InstalledCode, make_chains: Callable[..., StructureSet]) -> dict[str, Any]:
    structures = StructureSetData(make_chains(2, 4, 6)).store()
    return {'code': paced_code, 'structures': structures, 'engine': orm.Str('paced'), 'protocol': orm.Str('quick')}


def test_real_flakes_are_labelled_and_taken_from_the_cache(
    code: orm.InstalledCode, structures_node, flake_labels: LabelSet
) -> None:
    metadata = {'options': {'resources': {'num_machines': 1, 'num_cores_per_mpiproc': 2}}}
    inputs = {'code': code, 'structures': structures_node, 'engine': 'xtb', 'protocol': 'fast', 'metadata': metadata}
    outputs, node = run_get_node(Label, **inputs)
    assert node.is_finished_ok, node.exit_message
    labels = outputs['labels'].labels
    assert labels.source == flake_labels.source
    np.testing.assert_allclose(labels.energies['gap_ev'], flake_labels.energies['gap_ev'], atol=1e-6)
    assert 'array' not in ' '.join(node.outputs.retrieved.list_object_names()), 'results are kept once'
    assert set(node.base.repository.list_object_names()).isdisjoint({'structures.npz'}), 'the graph holds the input'
    assert '--processes' in node.base.repository.get_object_content('_aiidasubmit.sh')

    with enable_caching(identifier='aiida.calculations:nanoml.label'):
        again, second = run_get_node(Label, **inputs)
    assert second.base.caching.is_created_from_cache
    assert second.base.caching.get_cache_source() == node.uuid
    assert again['labels'].base.caching.get_hash() == outputs['labels'].base.caching.get_hash()

    with enable_caching(identifier='aiida.calculations:nanoml.label'):
        _, other = run_get_node(Label, **(inputs | {'protocol': 'balanced'}), rows=orm.List([0]))
    assert not other.base.caching.is_created_from_cache


def test_rows_and_parameters_reach_the_worker(label_inputs: dict) -> None:
    parameters = {'fail': [6]}
    outputs, node = run_get_node(Label, **label_inputs, rows=orm.List([2, 0]), parameters=parameters, time_limit_s=9.0)
    assert node.is_finished_ok, node.exit_message
    labels = outputs['labels'].labels
    assert labels.status.tolist() == ['not_converged', 'ok']
    assert labels.source.parameters['fail'] == [6]
    job = json.loads(node.base.repository.get_object_content('job.json'))
    assert job == {
        'task': 'label', 'engine': 'paced', 'protocol': 'quick', 'parameters': parameters, 'time_limit_s': 9.0,
        'runtime': {}, 'densities': False,
    }  # fmt: skip


def test_a_killed_worker_gives_exit_status_400_and_its_rows(label_inputs: dict, tmp_path: Path) -> None:
    parameters = {'kill_worker': [4], 'killed_marker': str(tmp_path / 'killed')}
    outputs, node = run_get_node(Label, **label_inputs, parameters=parameters)
    assert (tmp_path / 'killed').exists()
    assert node.exit_status == Label.exit_codes.ERROR_INTERRUPTED.status
    assert 'killed after 1 of 3 structures' in node.exit_message
    assert outputs['labels'].labels.status.tolist() == ['ok', 'interrupted', 'interrupted']


def test_densities_come_back_one_file_a_structure(label_inputs: dict) -> None:
    outputs, node = run_get_node(
        Label, **label_inputs, rows=orm.List([2, 0, 1]), parameters={'fail': [2]}, densities=True
    )
    assert node.is_finished_ok, node.exit_message
    densities, chains = outputs['densities'], label_inputs['structures'].structures
    assert densities.hashes.tolist() == chains.hashes[[2, 1]].tolist()
    assert densities.label_source == outputs['labels'].label_source
    assert [density.charge(density.total) for density in densities.iter_densities()] == pytest.approx([6, 4], rel=1e-6)
    assert 'densities' not in node.outputs.retrieved.list_object_names(), 'results are kept once'
    assert 'densities' not in run_get_node(Label, **label_inputs, densities=False)[0]


def test_a_job_goes_on_with_the_densities_of_a_killed_one(label_inputs: dict, tmp_path: Path) -> None:
    parameters = {'kill_worker': [4], 'killed_marker': str(tmp_path / 'killed')}
    outputs, node = run_get_node(Label, **label_inputs, parameters=parameters, densities=True)
    assert node.exit_status == Label.exit_codes.ERROR_INTERRUPTED.status
    assert outputs['densities'].n_densities == 1
    folder = node.outputs.remote_folder
    again, node = run_get_node(Label, **label_inputs, parameters=parameters, densities=True, parent_folder=folder)
    assert node.is_finished_ok, node.exit_message
    assert again['densities'].hashes.tolist() == again['labels'].labels.hashes.tolist()
    first = Path(folder.get_remote_path()) / 'densities' / '00000.npz'
    assert again['densities'].base.repository.get_object_content('00000.npz', mode='rb') == first.read_bytes()


def test_a_missing_executable_is_named(code_factory, label_inputs: dict) -> None:
    missing = code_factory(Path('/nowhere/nanoml-worker'), 'missing-worker')
    _, node = run_get_node(Label, **(label_inputs | {'code': missing}))
    assert node.exit_status == Label.exit_codes.ERROR_REPORT_MISSING.status
    assert '/nowhere/nanoml-worker' in node.exit_message
    assert 'No such file' in node.exit_message


def test_a_model_is_trained_and_predicts(
    code: orm.InstalledCode, dataset_node: DatasetData, structures_node: StructureSetData, flakes: StructureSet
) -> None:
    outputs, node = run_get_node(Train, code=code, dataset=dataset_node, kind='ridge')
    assert node.is_finished_ok, node.exit_message
    assert set(outputs) >= {'model', 'metrics', 'fitted', 'figures'}
    assert 'history' not in outputs
    assert outputs['model'].base.attributes.get('labels') == dataset_node.base.attributes.get('labels')
    assert set(outputs['metrics'].get_dict()) == {
        'train', 'train/z', 'validation', 'validation/z', 'test', 'test/z'
    }  # fmt: skip

    predicted, node = run_get_node(Predict, code=code, model=outputs['model'], structures=structures_node)
    assert node.is_finished_ok, node.exit_message
    values = predicted['predictions'].get_array('value')
    np.testing.assert_allclose(values, outputs['fitted'].get_array('value'))
    assert predicted['predictions'].get_array('names').tolist() == flakes.names.tolist()
    for folder in (node.base.repository, node.outputs.retrieved.base.repository):
        assert not [name for name in folder.list_object_names() if name.endswith(('.npz', '.skops'))]


def test_a_corrupt_model_ends_with_exit_status_500(
    code: orm.InstalledCode, model_folder: Path, structures_node, tmp_path: Path
) -> None:
    folder = shutil.copytree(model_folder, tmp_path / 'model')
    content = (folder / 'estimator.skops').read_bytes()
    (folder / 'estimator.skops').write_bytes(content[: len(content) // 2])
    outputs, node = run_get_node(Predict, code=code, model=ModelData(folder), structures=structures_node)
    assert node.exit_status == Predict.exit_codes.ERROR_INPUT_REFUSED.status
    assert 'estimator.skops' in node.exit_message
    assert 'predictions' not in outputs


# What is refused before anything is submitted


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'engine': 'abacus'}, "no engine 'abacus'"),
        ({'protocol': 'perfect'}, "no protocol 'perfect'"),
        ({'parameters': {'cutoff_ry': 50}}, 'cutoff_ry'),
        ({'parameters': {'wait_s': 'long'}}, 'wait_s'),
        ({'rows': [0, 3]}, 'row 3 does not exist'),
        ({'rows': [-1]}, 'row -1 does not exist'),
        ({'rows': [1, 1]}, 'without repetition'),
        ({'rows': []}, 'at least one'),
        ({'rows': ['a']}, "row 'a' does not exist"),
        ({'rows': [1.0]}, 'row 1.0 does not exist'),
        ({'rows': [[1]]}, 'row'),
        ({'time_limit_s': 0.0}, 'must be positive'),
        ({'time_limit_s': float('nan')}, 'nan'),
        ({'metadata': {'options': {'resources': {'num_machines': 2}}}}, 'one job uses one machine'),
        ({'engine': 'xtb', 'protocol': 'fast', 'densities': True}, "engine 'xtb' computes no density"),
        ({'mesh_spacing_ang': 0.2}, 'of use for densities only'),
        ({'mesh_spacing_ang': 0.2, 'densities': False}, 'of use for densities only'),
        ({'mesh_spacing_ang': 0.2, 'densities': True}, 'paced chooses the mesh of a density itself'),
        ({'engine': 'pyscf', 'protocol': 'fast', 'densities': True, 'mesh_spacing_ang': 0.0}, 'must be positive'),
        ({'engine': 'pyscf', 'protocol': 'fast', 'densities': True, 'mesh_spacing_ang': math.nan}, 'must be positive'),
        ({'code': None}, 'code'),
        ({'structures': None}, 'structures'),
        ({'engine': None}, 'engine'),
        ({'structures': 3}, 'structures'),
    ],
)
def test_labelling_that_cannot_work_is_refused(label_inputs: dict, change: dict, message: str) -> None:
    inputs = {name: value for name, value in (label_inputs | change).items() if value is not None}
    if 'rows' in change:
        inputs['rows'] = orm.List(change['rows'])
    with pytest.raises((ValueError, TypeError), match=message):
        run_get_node(Label, **inputs)


def test_a_computer_that_is_not_configured_is_refused(label_inputs: dict, worker_command: Path) -> None:
    computer = orm.Computer('unconfigured', 'localhost', '', 'core.local', 'core.direct', workdir='/nowhere').store()
    elsewhere = orm.InstalledCode(computer=computer, filepath_executable=str(worker_command), label='elsewhere').store()
    with pytest.raises(ValueError, match='is not configured: run `verdi computer configure'):
        run_get_node(Label, **(label_inputs | {'code': elsewhere}))


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'kind': 'oracle'}, "'oracle'"),
        ({'hyperparameters': {'depth': 3}}, 'depth'),
        ({'hyperparameters': {'alpha': 'strong'}}, 'alpha'),
        ({'dataset': None}, 'dataset'),
        ({'kind': None}, 'kind'),
    ],
)
def test_training_that_cannot_work_is_refused(code, dataset_node: DatasetData, change: dict, message: str) -> None:
    inputs = {'code': code, 'dataset': dataset_node, 'kind': 'ridge'} | change
    with pytest.raises((ValueError, TypeError), match=message):
        run_get_node(Train, **{name: value for name, value in inputs.items() if value is not None})


def test_training_needs_a_split(
    code, flake_dataset: Dataset, flake_descriptor: dict, flake_labels: LabelSet, aiida_profile
) -> None:
    dataset = DatasetData(flake_dataset, flake_descriptor, flake_labels.source.to_dict())
    with pytest.raises(ValueError, match='split it first'):
        run_get_node(Train, code=code, dataset=dataset, kind='ridge')


def test_a_model_refuses_features_of_another_descriptor(
    code, model_node: ModelData, split_flakes: Dataset, flake_descriptor: dict, flake_labels: LabelSet
) -> None:
    other = flake_descriptor | {'params': {'classes': 26, 'unknown': 'error'}}
    dataset = DatasetData(split_flakes, other, flake_labels.source.to_dict())
    with pytest.raises(ValueError, match='the model was trained on'):
        run_get_node(Predict, code=code, model=model_node, dataset=dataset)


def test_a_prediction_needs_structures_or_features(code, model_node, structures_node, dataset_node) -> None:
    for inputs in ({}, {'structures': structures_node, 'dataset': dataset_node}):
        with pytest.raises(ValueError, match='either structures or a dataset'):
            run_get_node(Predict, code=code, model=model_node, **inputs)


# Corrections to a baseline


def test_a_correction_is_trained_and_predicts(
    code, corrected_node: DatasetData, structures_node, baseline_node: LabelSetData, corrected_flakes: Dataset
) -> None:
    outputs, node = run_get_node(Train, code=code, dataset=corrected_node, kind='ridge', folds=3)
    assert node.is_finished_ok, node.exit_message
    assert outputs['model'].base.attributes.get('baseline') == corrected_node.baseline_source
    assert {'held-out', 'baseline/held-out', 'baseline/test/z'} <= set(outputs['metrics'].get_dict())
    for fitted in (
        outputs['fitted'],
        run_get_node(Predict, code=code, model=outputs['model'], dataset=corrected_node)[0]['predictions'],
        run_get_node(Predict, code=code, model=outputs['model'], structures=structures_node, baseline=baseline_node)[0][
            'predictions'
        ],
    ):
        np.testing.assert_allclose(fitted.get_array('value'), corrected_flakes.y, atol=1e-9)
        np.testing.assert_array_equal(fitted.get_array('baseline'), corrected_flakes.baseline)
        assert fitted.base.attributes.get('baseline') == corrected_node.baseline_source

    outputs, node = run_get_node(Train, code=code, dataset=corrected_node, kind='ridge', alone=True)
    assert node.is_finished_ok, node.exit_message
    assert outputs['model'].base.attributes.get('baseline') is None
    assert not [part for part in outputs['metrics'].get_dict() if part.startswith('baseline')]
    assert 'baseline' not in outputs['fitted'].get_arraynames()
    assert outputs['model'].base.attributes.get('n_features') == corrected_flakes.X.shape[1]


def test_a_baseline_that_the_model_does_not_correct_is_refused(
    code,
    correction_node: ModelData,
    model_node: ModelData,
    structures_node,
    dataset_node: DatasetData,
    corrected_node: DatasetData,
    baseline_node: LabelSetData,
    cheap_labels: LabelSet,
    flakes: StructureSet,
) -> None:
    other = LabelSetData(replace(cheap_labels, source=replace(cheap_labels.source, protocol='stringent')))
    some = LabelSetData(cheap_labels.select(np.arange(10)))
    for inputs, message in (
        ({'structures': structures_node}, 'the model corrects the values of Cheap 1.0, protocol fast: label'),
        ({'dataset': dataset_node}, 'the model corrects the values of Cheap 1.0, protocol fast: label'),
        ({'structures': structures_node, 'baseline': other}, 'the baseline is from Cheap 1.0, protocol stringent'),
        ({'structures': structures_node, 'baseline': some}, f'the first is {str(flakes.names[10])!r}'),
        ({'dataset': corrected_node, 'baseline': baseline_node}, 'a dataset brings its own baseline'),
        ({'structures': structures_node, 'baseline': baseline_node, 'model': model_node}, 'it takes no baseline'),
    ):
        with pytest.raises(ValueError, match=re.escape(message)):
            run_get_node(Predict, **({'code': code, 'model': correction_node} | inputs))


def test_two_folds_are_refused(code, dataset_node: DatasetData) -> None:
    with pytest.raises(ValueError, match='3 or more'):
        run_get_node(Train, code=code, dataset=dataset_node, kind='ridge', folds=2)


def test_accidents_are_not_taken_from_the_cache() -> None:
    """A job that a full disk ended would end in the same way for ever; finished rows of a stopped one are of use."""
    codes = CalculationFactory('nanoml.label').spec().exit_codes
    assert {code.status for code in codes.values() if code.invalidates_cache} >= {300, 301, 302, 410}
    assert not codes.ERROR_INTERRUPTED.invalidates_cache
