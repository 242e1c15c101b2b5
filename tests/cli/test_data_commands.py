"""Commands that make, show and export data without a job."""

from __future__ import annotations

import json

import numpy as np
import pytest
from aiida import orm

from aiida_nanoml.actions.base import fill
from aiida_nanoml.actions.errors import InputError
from aiida_nanoml.actions.import_dataset import ImportDataset
from aiida_nanoml.actions.label import LabelResult
from aiida_nanoml.data.labels import LabelSetData
from aiida_nanoml.data.structures import StructureSetData
from aiida_nanoml.engines.label_set import ENERGIES, LabelSet, LabelSource
from aiida_nanoml.errors import DatasetError
from aiida_nanoml.learning.exchange import read_xy
from aiida_nanoml.structures import FlakeParameters, StructureSet, generate_flakes, isolate, read_structures


def test_generated_flakes_are_those_of_the_seed(cli_json):
    content = cli_json('flakes', 'generate', '--family', 'z', '--size', 2, '--count', 5, '--seed', 3, '--name', 'five')
    node = orm.load_node(content['uuid'])
    expected = generate_flakes(FlakeParameters(family='z', size=2, count=5, seed=3))
    assert node.label == 'five'
    assert content['n_structures'] == 5
    assert node.structures == expected
    assert node.creator.process_label == 'generate_flake_set'


def test_periodicity_is_shown_and_a_box_is_taken_away_on_demand(cli_json, cli, tmp_path):
    from ase.build import molecule
    from ase.io import write

    boxed = molecule('CH4', vacuum=5.0)
    boxed.pbc = True
    write(tmp_path / 'methane.vasp', boxed)
    content = cli_json('structures', 'import', tmp_path / 'methane.vasp')
    assert (content['n_periodic'], content['n_with_cell']) == (1, 1)
    content = cli_json('structures', 'import', tmp_path / 'methane.vasp', '--isolated')
    assert (content['n_periodic'], content['n_with_cell']) == (0, 1)
    node = orm.load_node(content['uuid'])
    bare = isolate(read_structures(tmp_path / 'methane.vasp'))
    assert node.structures.hashes.tolist() == bare.hashes.tolist()
    assert 'periodic    0 of 1' in cli('structures', 'show', node.uuid).output


def test_options_of_the_generator_arrive(cli_json):
    content = cli_json(
        'flakes', 'generate', '--lattice', 'C54H20', '--count', 2, '--seed', 1, '--shape', 'rectangle',
        '--domains', 2, 3, '--bn-fraction', 0.2, 0.4, '--unbalanced',
    )  # fmt: skip
    parameters = content['parameters']
    assert (parameters['family'], parameters['size']) == ('s', [9, 6])
    assert (parameters['shape'], parameters['n_domains']) == ('rectangle', [2, 3])
    assert (parameters['bn_fraction'], parameters['balanced']) == ([0.2, 0.4], False)
    structures = orm.load_node(content['uuid']).structures
    shares = [np.isin(structure.numbers, (5, 7)).sum() / 54 for structure in structures]
    assert all(0.2 <= share <= 0.4 for share in shares)


@pytest.mark.parametrize(
    ('arguments', 'status', 'said'),
    [
        (('--family', 'x', '--size', 2), 1, "family 'x'"),
        (('--family', 'h'), 2, '--lattice'),
        (('--lattice', 'C42H18', '--size', 2), 2, 'not both'),
        (('--family', 's', '--size', '9;6'), 2, 'such as 9,6'),
        (('--lattice', 'C1H1'), 1, 'C1H1'),
    ],
)
def test_flakes_that_cannot_be_made(cli, arguments, status, said):
    assert said in cli('flakes', 'generate', *arguments, '--count', 1, '--seed', 1, status=status).stderr


def test_structures_survive_export_and_import(cli, cli_json, structures_node, tmp_path):
    path = tmp_path / 'flakes.extxyz'
    cli('structures', 'export', structures_node.pk, '-o', path)
    imported = orm.load_node(cli_json('structures', 'import', path)['uuid']).structures
    assert (imported.hashes == structures_node.structures.hashes).all()
    assert imported.families.tolist() == structures_node.structures.families.tolist()


def test_family_of_imported_structures(cli, cli_json, structures_node, tmp_path):
    path = tmp_path / 'flakes.extxyz'
    cli('structures', 'export', structures_node.pk, '-o', path)
    content = cli_json('structures', 'import', path, '--family', 'relaxed')
    assert content['families'] == ['relaxed']


def test_unreadable_structures_are_one_line(cli, tmp_path):
    path = tmp_path / 'broken.xyz'
    path.write_text('three\natoms\n')
    error = cli('structures', 'import', path, status=1).stderr
    assert error.count('\n') == 1
    assert 'exit status 500' in error


def test_export_replaces_only_with_force(cli, structures_node, tmp_path):
    path = tmp_path / 'flakes.extxyz'
    path.write_text('mine')
    assert '--force' in cli('structures', 'export', structures_node.pk, '-o', path, status=1).stderr
    assert path.read_text() == 'mine'
    cli('structures', 'export', structures_node.pk, '-o', path, '--force')
    assert len(read_structures(path)) == structures_node.n_structures


def test_export_into_a_missing_folder(cli, structures_node, tmp_path):
    path = tmp_path / 'nowhere' / 'flakes.extxyz'
    assert 'there is no folder' in cli('structures', 'export', structures_node.pk, '-o', path, status=1).stderr


def test_dataset_of_several_sets(cli_json, flakes, flake_labels):
    from aiida_nanoml.data.labels import LabelSetData
    from aiida_nanoml.data.structures import StructureSetData

    halves = [slice(0, 6), slice(4, 12)]  # two structures in both
    structures = [StructureSetData(flakes.select(half)).store().pk for half in halves]
    labels = [LabelSetData(flake_labels.select(np.arange(12)[half])).store().pk for half in halves]
    content = cli_json(
        'dataset', 'build', *structures, '--labels', labels[0], '--labels', labels[1],
        '--set', 'classes=26', '--validation', 0.25, '--test', 0.25, '--seed', 4,
    )  # fmt: skip
    dataset = orm.load_node(content['uuid'])
    assert content['n_rows'] == 12
    assert content['split'] == {'test': 3, 'train': 6, 'validation': 3}
    assert content['n_features'] == 30
    assert content['excluded'] == {'repeated': 2}
    position = {value: row for row, value in enumerate(flake_labels.hashes)}
    expected = [flake_labels.energies['gap_ev'][position[value]] for value in dataset.dataset.hashes]
    assert dataset.dataset.y.tolist() == expected


def test_dataset_of_two_descriptors_side_by_side(cli, cli_json, structures_node, labels_node, third_party_path):
    build = 'dataset', 'build', structures_node.pk, '--labels', labels_node.pk, '--descriptor', 'quadruplets+formulas'
    content = cli_json(*build, '--set', 'quadruplets.classes=26')
    node = orm.load_node(content['uuid'])
    assert node.dataset.feature_names[0] == 'quadruplets/C|CCC'
    assert content['learnt_rows'] == 8
    assert content['descriptor'] == 'combined'
    assert content['electronic'] is False
    made = node.base.attributes.get('descriptor')['params']['parts']
    assert made[0] == {'name': 'quadruplets', 'params': {'classes': 26, 'unknown': 'drop'}}
    assert len(made[1]['params']['known']) == content['n_features'] - 30
    assert 'structure only), learnt on 8 training rows' in cli('dataset', 'show', node.pk).stdout
    error = cli(*build, '--set', 'classes=26', status=2).stderr
    assert 'PART.NAME=VALUE, where PART is quadruplets or formulas' in error


def test_features_are_selected_by_training_rows(cli, cli_json, dataset_node):
    content = cli_json('dataset', 'select', dataset_node.pk, '--by', 'random', '--set', 'n_features=5', '--name', 'few')
    assert content['n_features'] == 5
    assert content['selection'] == {'name': 'random', 'params': {'n_features': 5, 'seed': 0}, 'n_before': 27}
    assert content['split'] == {'train': 8, 'validation': 2, 'test': 2}
    assert 'selection  random n_features=5 seed=0: 5 of 27 columns' in cli('dataset', 'show', 'few').stdout
    refused = cli('dataset', 'select', dataset_node.pk, '--by', 'vt', '--set', 'p=0.5', status=1).stderr
    assert 'the largest variance is' in refused
    assert (
        "no selector 'pca'; registered: mit, random"
        in cli('dataset', 'select', dataset_node.pk, '--by', 'pca', status=1).stderr
    )


def test_dataset_refuses_structures_without_labels(cli, structures_node, flake_labels):
    from aiida_nanoml.data.labels import LabelSetData

    some = LabelSetData(flake_labels.select(np.arange(3))).store()
    error = cli('dataset', 'build', structures_node.pk, '--labels', some.pk, status=1).stderr
    assert '9 of 12 structures have no label' in error


def test_exchange_files_keep_every_digit(cli, cli_json, dataset_node, tmp_path):
    cli('dataset', 'export', dataset_node.pk, '-o', tmp_path)
    rows = dataset_node.dataset
    features, gaps = read_xy(tmp_path / 'x.dat', tmp_path / 'y.dat', rows.X.shape[1])
    assert (features == rows.X).all()
    assert (gaps == rows.y).all()
    content = cli_json(
        'dataset', 'import', tmp_path / 'x.dat', tmp_path / 'y.dat', '--labels-from', 'SIESTA 4.1, LDA-CA DZP',
        '--n-features', rows.X.shape[1], '--family', 'h',
    )  # fmt: skip
    imported = orm.load_node(content['uuid'])
    assert (imported.dataset.X == rows.X).all()
    assert (imported.dataset.y == rows.y).all()
    assert content['labels'] == {
        'engine': 'imported', 'title': 'SIESTA', 'version': '4.1', 'protocol': 'LDA-CA DZP', 'parameters': {},
        'pseudopotentials': {},
    }  # fmt: skip
    assert content['families'] == ['h']
    assert sum(content['split'].values()) == len(rows)


def test_faulty_exchange_file_names_the_line(cli, tmp_path):
    (tmp_path / 'x.dat').write_text('1 2\n3\n')
    (tmp_path / 'y.dat').write_text('1\n2\n')
    arguments = ('--labels-from', 'SIESTA 4.1, DZP', '--n-features', 2)
    error = cli('dataset', 'import', tmp_path / 'x.dat', tmp_path / 'y.dat', *arguments, status=1).stderr
    assert 'line 2' in error


@pytest.mark.parametrize('text', ['SIESTA', 'SIESTA, DZP', 'SIESTA 4.1', ''])
def test_source_of_labels_must_be_complete(cli, tmp_path, text):
    with pytest.raises(DatasetError, match='NAME VERSION, PROTOCOL'):
        LabelSource.parse(text)
    for name in ('x.dat', 'y.dat'):
        (tmp_path / name).write_text('1\n')
    files = (tmp_path / 'x.dat', tmp_path / 'y.dat')
    with pytest.raises(InputError, match='NAME VERSION, PROTOCOL') as error:
        fill(ImportDataset, {'x': files[0], 'y': files[1], 'labels_from': text})
    assert error.value.field == 'labels_from'
    told = cli('dataset', 'import', *files, '--labels-from', text, status=2).stderr
    assert "Invalid value for '--labels-from'" in told


def test_model_show_is_the_card(cli_json, cli, model_node):
    content = cli_json('model', 'show', model_node.pk)
    assert content['fingerprint'] == model_node.base.attributes.get('fingerprint')
    assert content['kind'] == 'ridge'
    assert content['type'] == 'nanoml.model'
    assert 'next: aiida-nanoml trace' in cli('model', 'show', model_node.pk).stdout


def test_baseline_is_not_exported_as_a_network(cli, model_node, tmp_path):
    error = cli('model', 'export', model_node.pk, '-o', tmp_path / 'model.keras', status=1).stderr
    assert 'only dense networks' in error
    assert not list(tmp_path.iterdir())


def test_human_output_ends_with_the_next_command(cli, dataset_node):
    lines = cli('dataset', 'show', dataset_node.pk).stdout.splitlines()
    assert lines[-1] == f'next: aiida-nanoml train {dataset_node.pk}'
    assert json.dumps(dataset_node.uuid)[1:-1] in lines[0]


def test_labels_say_how_many_rows_have_an_open_shell():
    structures = StructureSet([1, 1, 1], [[0, 0, 0], [0, 0, 0], [0, 0, 0.75]], [0, 1, 3], names=['H', 'H2'])
    labels = LabelSet(
        LabelSource('xtb', '0.4', 'GFN1-xTB (tblite)', 'balanced'),
        structures.hashes,
        np.array(['ok', 'ok']),
        np.array(['', '']),
        dict.fromkeys(ENERGIES, np.array([-1.0, -2.0])),
        np.array([1, 2]),
        np.array([True, False]),
        np.zeros(2),
    )
    result = LabelResult(None, LabelSetData(labels).store(), StructureSetData(structures).store())
    assert result.lines()['open shell'] == '1: an odd number of electrons; data sets of gaps leave such rows out'
    closed = LabelResult(None, LabelSetData(labels.select(np.array([1]))).store(), result.structures)
    assert 'open shell' not in closed.lines()
