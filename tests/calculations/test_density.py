"""Density networks as calculation jobs, with the real worker."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from aiida import orm
from aiida.engine import run_get_node
from aiida.manage.caching import enable_caching
from aiida.plugins import CalculationFactory

from aiida_nanoml.calculations.density_predict import validate_inputs as validate_prediction
from aiida_nanoml.calculations.density_train import validate_inputs as validate_training
from aiida_nanoml.calculations.density_train import validate_settings
from aiida_nanoml.data.densities import COMPUTED, PREDICTED, DensitySetData
from aiida_nanoml.data.density_model import DensityModelData
from aiida_nanoml.data.structures import StructureSetData
from aiida_nanoml.engines.label_set import LabelSource
from aiida_nanoml.structures import StructureSet
from tests.densities.recorded import recorded_density
from tests.learning.density.networks import SOURCE, save_random_network

Train = CalculationFactory('nanoml.density_train')
Predict = CalculationFactory('nanoml.density_predict')
SETTINGS = {'spacing_ang': 0.25, 'epochs': 12, 'points_per_epoch': 8192, 'copies': 2}


def densities_of(*names: str, source: LabelSource = SOURCE, model: str | None = None) -> DensitySetData:
    densities = [recorded_density(name) for name in names]
    structures = StructureSet.from_structures([density.structure for density in densities], names=names)
    return DensitySetData(structures, densities, source, model).store()


@pytest.fixture
def trained(code: orm.InstalledCode) -> Callable[..., tuple[dict[str, Any], orm.CalcJobNode]]:
    def train(*names: str, test: tuple[str, ...] = (), **changes: Any) -> tuple[dict[str, Any], orm.CalcJobNode]:
        inputs = {'code': code, 'densities': densities_of(*names), 'settings': orm.Dict(SETTINGS | changes)}
        if test:
            inputs['test'] = densities_of(*test)
        return run_get_node(Train, **inputs)

    return train


def test_a_flake_that_was_not_learnt_is_predicted(trained, code: orm.InstalledCode) -> None:
    """From the training to the prediction of a structure alone, and of a known density; SIESTA's own numbers judge."""
    outputs, node = trained('z-0000', 'z-0001', test=('z-0002',))
    assert node.is_finished_ok, node.exit_message
    metrics = outputs['metrics'].get_dict()
    assert metrics['test']['n'] == 1
    assert metrics['test']['nmae_free'] == pytest.approx(0.1199, abs=1e-4)
    assert metrics['test']['ratio'] > 2, 'a network of some seconds halves the error of free atoms'
    errors = outputs['errors'].arrays
    assert errors['names'].tolist() == ['z-0000', 'z-0001', 'z-0002']
    assert errors['parts'].tolist() == ['train', 'train', 'test']
    assert errors['nmae'][2] == pytest.approx(metrics['test']['nmae'])
    assert {'learning_curve.png', 'nmae.png', 'worst_density.png'} == set(outputs['figures'].list_object_names())
    assert len(outputs['history'].get_x()[1]) == SETTINGS['epochs']
    model = outputs['model']
    assert model.base.attributes.get('elements') == ['B', 'C', 'H', 'N']
    assert model.base.attributes.get('source_spacing_ang') == pytest.approx(0.25, rel=0.01)
    assert model.base.attributes.get('vacuum_ang') == pytest.approx(10, abs=1e-3)
    assert model.base.attributes.get('n_free_weights') < model.base.attributes.get('n_weights') / 4

    known = densities_of('z-0002')
    judged, job = run_get_node(Predict, code=code, model=model, known=known)
    assert job.is_finished_ok, job.exit_message
    assert judged['results']['metrics']['nmae'] == pytest.approx(metrics['test']['nmae'], rel=1e-3)
    assert judged['results']['learnt_from'] == 0
    predicted = judged['densities']
    assert predicted.base.attributes.get('kind') == PREDICTED
    assert predicted.model_fingerprint == model.fingerprint
    assert predicted.label_source.compatible(SOURCE)
    difference = predicted.density(0).difference
    assert recorded_density('z-0002').nmae(difference) == pytest.approx(metrics['test']['nmae'], rel=0.02)
    assert predicted.density(0).charge(difference) == pytest.approx(0, abs=1e-2)

    bare = StructureSet.from_structures(
        [type(structure)(structure.numbers, structure.positions) for structure in known.structures],
        known.structures.names,
    )
    made, job = run_get_node(Predict, code=code, model=model, structures=StructureSetData(bare).store())
    assert job.is_finished_ok, job.exit_message
    np.testing.assert_allclose(made['densities'].structures.cells, known.structures.cells, atol=1e-6)
    np.testing.assert_allclose(made['densities'].density(0).difference, difference, atol=1e-4)
    assert 'nmae' not in made['errors'].arrays
    assert made['figures'].list_object_names() == ['density_00.png']


def test_the_same_training_comes_from_the_cache(trained) -> None:
    settings = {'epochs': 2, 'points_per_epoch': 2048}
    first, node = trained('z-0000', **settings)
    with enable_caching(identifier='aiida.calculations:nanoml.density_train'):
        second, again = trained('z-0000', **settings)
    assert again.base.caching.get_cache_source() == node.uuid
    assert second['model'].fingerprint == first['model'].fingerprint
    assert second['model'].base.caching.get_hash() == first['model'].base.caching.get_hash()


def test_what_cannot_be_learnt_from_is_refused(aiida_profile) -> None:
    one, two = densities_of('z-0000'), densities_of('z-0001')
    assert validate_training({'densities': one, 'test': two}, None) is None
    assert 'are also learnt from, the first is z-0000' in validate_training({'densities': one, 'test': one}, None)
    foreign = densities_of('z-0001', source=LabelSource('pyscf', '2', 'LDA', 'fast'))
    assert 'take one engine' in validate_training({'densities': one, 'test': foreign}, None)
    assert "group: Input should be 'none', 'C4'" in str(validate_settings(orm.Dict({'group': 'C5'}), None))
    assert 'batch_size is larger' in str(validate_settings(orm.Dict({'batch_size': 90_000}), None))
    predicted = densities_of('z-0002', model='f' * 64)
    builder = Train.get_builder()
    with pytest.raises(ValueError, match='predicted by the model ffff'):
        builder.densities = predicted
    assert one.base.attributes.get('kind') == COMPUTED


def test_what_cannot_be_predicted_is_refused(aiida_profile, tmp_path) -> None:
    save_random_network(tmp_path)
    model = DensityModelData(tmp_path).store()
    known = densities_of('z-0001')
    assert validate_prediction({'model': model, 'known': known}, None) is None
    assert 'either structures or known' in validate_prediction({'model': model}, None)
    refusal = validate_prediction({'model': model, 'known': known, 'spacing_ang': orm.Float(0.2)}, None)
    assert 'leave out spacing_ang' in refusal
    iron = StructureSetData(StructureSet.from_structures([type(known.structures[0])(np.array([26]), np.zeros((1, 3)))]))
    assert 'did not learn Fe: it knows B, C, H, N' in validate_prediction({'model': model, 'structures': iron}, None)
    foreign = densities_of('z-0001', source=LabelSource('pyscf', '2', 'LDA', 'fast'))
    assert 'take one engine' in validate_prediction({'model': model, 'known': foreign}, None)
