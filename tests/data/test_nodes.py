"""What goes into a node comes out again; what cannot be used does not get stored."""

from __future__ import annotations

import inspect
import io
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from aiida import orm
from aiida.plugins import DataFactory

from aiida_nanoml.data.dataset import DatasetData
from aiida_nanoml.data.densities import DensitySetData
from aiida_nanoml.data.labels import LabelSetData
from aiida_nanoml.data.model import ModelData
from aiida_nanoml.data.potentials import PotentialSetData
from aiida_nanoml.data.prediction import COLUMNS, PredictionData
from aiida_nanoml.data.structures import StructureSetData
from aiida_nanoml.engines.label_set import LabelSet
from aiida_nanoml.errors import DatasetError, ModelError, NanomlError
from aiida_nanoml.learning.dataset import Dataset
from aiida_nanoml.learning.distance import TrainingDomain
from aiida_nanoml.learning.model_files import save_model
from aiida_nanoml.learning.registry import make_model
from aiida_nanoml.structures import StructureSet
from aiida_nanoml.text import ROWS_SHOWN
from aiida_nanoml.transport.potential import PotentialSet
from aiida_nanoml.transport.presets import make_potential, vary_preset

NODES = (
    'structures_node',
    'labels_node',
    'dataset_node',
    'model_node',
    'prediction_node',
    'potentials_node',
    'densities_node',
)
CLASSES = (StructureSetData, LabelSetData, DatasetData, ModelData, PredictionData, PotentialSetData, DensitySetData)


@pytest.fixture
def columns(split_flakes: Dataset) -> dict[str, np.ndarray]:
    n_rows = len(split_flakes)
    return {
        'hashes': split_flakes.hashes,
        'names': split_flakes.names,
        'families': split_flakes.families,
        'value': split_flakes.y + 0.1,
        'std': np.full(n_rows, np.nan),
        'spread': np.full(n_rows, np.nan),
        'distance': np.linspace(0, 2, n_rows),
        'outside': np.arange(n_rows) > n_rows - 3,
    }


@pytest.fixture
def prediction_node(model_node: ModelData, columns: dict[str, np.ndarray]) -> PredictionData:
    return PredictionData(columns, model_node.base.attributes.all).store()


@pytest.fixture
def potentials_node(aiida_profile) -> PotentialSetData:
    varied = vary_preset('double_barrier', {'bias': 0.1}, 'width', [2.0, 3.0])
    return PotentialSetData(
        PotentialSet([*varied, make_potential('layers', {'sequence': [[1, 0, 0.1], [2, 0.3, 0.2]]})])
    ).store()


@pytest.mark.parametrize('name', NODES)
def test_attributes_are_those_that_the_class_declares(name: str, request: pytest.FixtureRequest) -> None:
    node = orm.load_node(request.getfixturevalue(name).uuid)
    attributes = dict(node.base.attributes.all)
    model = type(node).AttributesModel
    own = set(vars(model)['__annotations__'])
    assert own <= set(model.model_fields)
    assert own <= set(attributes), 'declared but never set'
    arrays = {key for key in attributes if key.startswith('array|')} | {'default_array_name'}
    assert set(attributes) - arrays <= set(model.model_fields), 'set but not declared'
    assert all(model.model_fields[field].description for field in own)


@pytest.mark.parametrize('cls', CLASSES)
def test_data_classes_say_what_they_hold(cls: type) -> None:
    assert 'AttributesModel' in vars(cls)
    assert inspect.getdoc(cls)
    assert vars(cls)['__doc__']
    for name, member in vars(cls).items():
        if not name.startswith('_') and isinstance(member, property):
            assert member.__doc__, f'{cls.__name__}.{name} has no docstring'
    entry_point = cls.class_node_type.split('.')[1:3]
    assert DataFactory('.'.join(entry_point)) is cls


@pytest.mark.parametrize('name', NODES)
def test_stored_files_hold_no_objects(name: str, request: pytest.FixtureRequest) -> None:
    """Arrays of objects can only be read through pickle."""
    repository = request.getfixturevalue(name).base.repository
    assert repository.list_object_names()
    for path in repository.list_object_names():
        content = repository.get_object_content(path, mode='rb')
        if path.endswith('.npy'):
            assert np.load(io.BytesIO(content), allow_pickle=False).dtype.kind in 'fiubU'
        elif path.endswith('.npz'):
            with np.load(io.BytesIO(content), allow_pickle=False) as archive:
                assert all(archive[key].dtype.kind in 'fiubU' for key in archive.files)
        else:
            assert path.endswith(('.json', '.keras', '.skops'))


def test_structures_come_back_equal(structures_node: StructureSetData, flakes: StructureSet) -> None:
    node = orm.load_node(structures_node.uuid)
    assert node.structures == flakes
    assert node.structures.hashes.tolist() == flakes.hashes.tolist()
    assert node.n_structures == len(flakes)
    assert node.base.attributes.get('families') == ['z']
    assert node.base.attributes.get('n_atoms') == len(flakes.numbers)
    assert set(node.base.attributes.get('elements')) <= {'B', 'C', 'H', 'N'}
    assert len(node.base.attributes.get('formulas')) <= 10


def test_potentials_come_back_equal(potentials_node: PotentialSetData) -> None:
    node = orm.load_node(potentials_node.uuid)
    made = node.potentials
    assert node.n_potentials == len(made) == 3
    assert made.names == ['double_barrier, width = 2 nm', 'double_barrier, width = 3 nm', 'layers']
    assert made[2].lead_masses.tolist() == [0.1, 0.2]
    assert [potential.right for potential in made] == [-0.1, -0.1, 0.0]
    assert node.base.attributes.get('n_cells') == sum(map(len, made))
    for name, array in made.to_arrays().items():
        np.testing.assert_array_equal(node.get_array(name), array)


def test_labels_come_back_equal(labels_node: LabelSetData, flake_labels: LabelSet) -> None:
    node = orm.load_node(labels_node.uuid)
    assert node.label_source == flake_labels.source
    for name, column in flake_labels.to_arrays().items():
        np.testing.assert_array_equal(node.labels.to_arrays()[name], column)
    assert node.base.attributes.get('n_finished') == len(flake_labels)
    assert node.base.attributes.get('failures') == {}
    assert set(node.base.attributes.get('units').values()) == {'eV', 's'}


def test_failed_labels_are_counted_by_reason(flake_labels: LabelSet, aiida_profile) -> None:
    arrays = {name: column.copy() for name, column in flake_labels.to_arrays().items()}
    arrays['status'] = arrays['status'].astype('<U20')
    arrays['status'][:3] = ['not_converged', 'time_limit', 'not_converged']
    arrays['open_shell'][[0, 5]] = True
    node = LabelSetData(LabelSet.from_arrays(flake_labels.source, arrays)).store()
    assert node.base.attributes.get('failures') == {'not_converged': 2, 'time_limit': 1}
    assert node.base.attributes.get('n_finished') == len(flake_labels) - 3
    assert node.base.attributes.get('n_open_shell') == 1, 'failed rows have no shell'


def test_data_sets_come_back_equal(dataset_node: DatasetData, split_flakes: Dataset) -> None:
    node = orm.load_node(dataset_node.uuid)
    for name, column in split_flakes.to_arrays().items():
        np.testing.assert_array_equal(node.dataset.to_arrays()[name], column)
    assert node.dataset.feature_names == split_flakes.feature_names
    assert node.base.attributes.get('split') == {'test': 2, 'train': 8, 'validation': 2}
    assert sum(node.base.attributes.get('split').values()) == node.base.attributes.get('n_rows')


def test_a_baseline_comes_with_its_origin(
    corrected_node: DatasetData, corrected_flakes: Dataset, split_flakes: Dataset, cheap_labels: LabelSet
) -> None:
    node = orm.load_node(corrected_node.uuid)
    np.testing.assert_array_equal(node.dataset.baseline, corrected_flakes.baseline)
    assert node.baseline_source == cheap_labels.source.to_dict()
    for rows, source in ((corrected_flakes, None), (split_flakes, cheap_labels.source.to_dict())):
        with pytest.raises(DatasetError, match='give both or none'):
            DatasetData(rows, baseline=source)


@pytest.mark.parametrize('name', ['dataset_node', 'model_node', 'prediction_node'])
def test_nodes_from_before_there_were_baselines_load(name: str, request: pytest.FixtureRequest) -> None:
    old = request.getfixturevalue(name).clone()
    old.base.attributes.delete('baseline')
    node = orm.load_node(old.store().uuid)
    if name == 'dataset_node':
        assert node.baseline_source is None
        assert node.dataset.baseline is None
    elif name == 'model_node':
        assert node.card.baseline is None
    else:
        assert 'baseline' not in node.get_arraynames()


def test_a_model_says_what_it_is_without_its_files(model_node: ModelData, flake_descriptor: dict) -> None:
    attributes = orm.load_node(model_node.uuid).base.attributes
    assert attributes.get('kind') == 'ridge'
    assert attributes.get('unit') == 'eV'
    assert attributes.get('descriptor') == flake_descriptor
    assert orm.load_node(model_node.uuid).card.fingerprint == attributes.get('fingerprint')


def test_predictions_keep_their_columns(prediction_node: PredictionData, columns: dict[str, np.ndarray]) -> None:
    node = orm.load_node(prediction_node.uuid)
    for name in COLUMNS:
        np.testing.assert_array_equal(node.get_array(name), columns[name])
    assert node.base.attributes.get('max_distance') == 2.0
    assert node.base.attributes.get('n_outside') == 2
    assert node.calibration is None


def test_predictions_as_a_data_frame(prediction_node: PredictionData, columns: dict[str, np.ndarray]) -> None:
    frame = prediction_node.to_dataframe()
    called = {'hashes': 'hash', 'names': 'name', 'families': 'family'}
    assert frame.columns.tolist() == [called.get(name, name) for name in COLUMNS]
    for name, column in columns.items():
        np.testing.assert_array_equal(frame[called.get(name, name)], column)
    shown = prediction_node._repr_html_()
    assert f'{len(frame)} predictions (eV)' in shown
    assert shown.count('<tr>') == 1 + ROWS_SHOWN


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'value': np.array([1.0, np.nan])}, 'common length'),
        ({'value': np.full(12, np.nan)}, 'prediction 0: value is not a finite'),
        ({'distance': np.full(12, np.inf)}, 'distance is not a finite'),
        ({'names': None}, 'lack the columns names'),
        ({'outside': np.zeros(12)}, 'must be true or false'),
    ],
)
def test_predictions_that_cannot_be_used_are_refused(
    columns: dict[str, np.ndarray], model_node: ModelData, change: dict, message: str
) -> None:
    changed = {name: column for name, column in (columns | change).items() if column is not None}
    with pytest.raises(DatasetError, match=message):
        PredictionData(changed, model_node.base.attributes.all)


@pytest.mark.parametrize(
    ('cls', 'name'),
    [
        (StructureSetData, 'positions'),
        (LabelSetData, 'gap_ev'),
        (DatasetData, 'X'),
        (PredictionData, 'value'),
        (PotentialSetData, 'masses'),
    ],
)
def test_an_array_spoilt_before_storing_is_found(
    cls: type, name: str, request: pytest.FixtureRequest, aiida_profile
) -> None:
    node = request.getfixturevalue(NODES[CLASSES.index(cls)])
    copy = node.clone()
    spoilt = copy.get_array(name).copy()
    spoilt[0] = np.nan
    copy.set_array(name, spoilt)
    with pytest.raises(NanomlError):
        copy.store()


@pytest.mark.parametrize('cls', CLASSES)
def test_an_empty_node_cannot_be_stored(cls: type, aiida_profile) -> None:
    with pytest.raises(NanomlError):
        cls().store()


def test_a_model_needs_its_card(tmp_path: Path, model_folder: Path) -> None:
    with pytest.raises(ModelError, match='missing'):
        ModelData(tmp_path)
    folder = shutil.copytree(model_folder, tmp_path / 'model')
    (folder / 'model.json').write_text('{}')
    with pytest.raises(ModelError, match='kind'):
        ModelData(folder)


def test_equal_trainings_give_equal_hashes_although_archives_carry_a_date(
    tmp_path: Path, split_flakes: Dataset, flake_labels: LabelSet, flake_descriptor: dict, model_node: ModelData
) -> None:
    X, y = split_flakes.part('train')
    card = {'kind': 'fast', 'descriptor': flake_descriptor, 'labels': flake_labels.source.to_dict()}
    nodes = []
    for name in ('first', 'second'):
        model = make_model('fast', epochs=1, members=1, seed=0).fit(X, y, split_flakes.part('validation'))
        save_model(model, tmp_path / name, card, TrainingDomain().fit(X))
        nodes.append(ModelData(tmp_path / name).store())
        time.sleep(1.1)  # the date of an archive counts in seconds
    archives = [(tmp_path / name / 'network.keras').read_bytes() for name in ('first', 'second')]
    assert archives[0] != archives[1], 'archives no longer carry a date: the special hash can go'
    assert nodes[0].base.caching.get_hash() == nodes[1].base.caching.get_hash()
    assert nodes[0].base.caching.get_hash() != model_node.base.caching.get_hash()
