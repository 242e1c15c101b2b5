"""Commands that run jobs: the usual way from flakes to a traced prediction, and what can go wrong on it."""

from __future__ import annotations

import numpy as np
import pytest
from aiida import orm
from aiida.manage.caching import enable_caching
from ase.build import bulk

from aiida_nanoml.data.dataset import DatasetData
from aiida_nanoml.data.structures import StructureSetData
from aiida_nanoml.learning.dataset import Dataset
from aiida_nanoml.structures import Structure, StructureSet

PNG = b'\x89PNG'


def test_usual_way(aiida_profile_clean, cli, cli_json, code, tmp_path):
    made = cli_json('flakes', 'generate', '--family', 'z', '--size', 2, '--count', 10, '--seed', 1, '--name', 'flakes')
    labels = cli_json(
        'label', 'flakes', '--protocol', 'fast', '--batch-size', 6, '--processes', 2, '--set', 'accuracy=5.0',
        '--wallclock', 600, '--name', 'labels',
    )  # fmt: skip
    assert labels['type'] == 'nanoml.labels'
    assert (labels['n_rows'], labels['n_finished'], labels['failures']) == (10, 10, {})
    assert labels['labels']['parameters']['accuracy'] == 5.0
    assert labels['gap_min_ev'] >= 0
    jobs = orm.QueryBuilder().append(orm.CalcJobNode).all(flat=True)
    assert [job.get_option('resources')['num_cores_per_mpiproc'] for job in jobs] == [2, 2]
    assert {job.get_option('max_wallclock_seconds') for job in jobs} == {600}

    dataset = cli_json('dataset', 'build', 'flakes', '--labels', 'labels', '--name', 'gaps')
    model = cli_json('train', 'gaps', '--model', 'ridge', '--set', 'alpha=0.5', '--name', 'gap-model')
    assert model['parameters'] == {'alpha': 0.5}
    assert model['metrics']['train']['n'] == dataset['split']['train']

    prediction = cli_json('predict', 'gap-model', 'flakes', '--name', 'predictions')
    node = orm.load_node(prediction['uuid'])
    assert prediction['value_ev'] == node.get_array('value').tolist()
    assert prediction['std_ev'] == prediction['spread_ev'] == [None] * 10, 'too few rows to calibrate by'
    assert prediction['calibration'] is None
    assert prediction['outside'] == node.get_array('outside').tolist()
    assert 'not calibrated' in cli('model', 'show', 'gap-model').stdout
    assert 'no calibration' in cli('plot', 'gap-model', '--calibration', '-o', tmp_path / 'c.png', status=1).stderr
    of_rows = cli_json('predict', 'gap-model', 'gaps')
    assert dict(zip(of_rows['names'], of_rows['value_ev'], strict=True)) == pytest.approx(
        dict(zip(prediction['names'], prediction['value_ev'], strict=True))
    )

    unknown = cli('plot', 'predictions', '-o', tmp_path / 'early.png', status=1).stderr
    assert 'aiida-nanoml validate' in unknown
    validated = cli_json('validate', 'predictions', 'labels')
    assert validated['metrics']['all']['n'] == 10
    assert cli_json('plot', 'predictions', '-o', tmp_path / 'validation.png')['n_rows'] == 10
    for key in ('gap-model', model['process'], of_rows['uuid']):
        path = tmp_path / f'{key}.png'
        assert cli_json('plot', key, '-o', path)['drawn'] == 'parity'
        assert path.read_bytes().startswith(PNG)
    assert 'only networks' in cli('plot', 'gap-model', '--learning-curve', '-o', tmp_path / 'c.png', status=1).stderr

    lineage = cli_json('trace', 'predictions')
    assert lineage['uuid'] == prediction['uuid']
    [origin] = lineage['labelling']
    assert (origin['n_structures'], origin['n_jobs']) == (10, 2)
    assert {job['uuid'] for job in origin['jobs']} == {job.uuid for job in jobs}
    text = cli('trace', 'predictions').stdout
    assert 'GFN1-xTB' in text
    assert 'seed 1' in text

    # The same again is answered from the graph where caching is on; the wall time asked for does not matter.
    with enable_caching():
        again = cli_json(
            'label', 'flakes', '--protocol', 'fast', '--batch-size', 6, '--processes', 2, '--set', 'accuracy=5.0'
        )
    assert again['uuid'] != labels['uuid']
    assert again['wall_s'] == labels['wall_s']
    [cached] = cli_json('trace', again['uuid'])['labelling']
    assert {job['cached_from'] for job in cached['jobs']} == {job.uuid for job in jobs}
    assert made['n_structures'] == 10


def test_intervals_that_held_out_rows_calibrate(
    aiida_profile_clean, cli, cli_json, code, tmp_path, split_flakes, flake_labels, flake_descriptor
):
    random = np.random.Generator(np.random.PCG64(0))
    X = random.uniform(size=(40, split_flakes.X.shape[1]))
    dataset = Dataset(
        X=X,
        y=2.0 + X[:, 0] + random.normal(scale=0.1, size=40),
        hashes=np.array([f'{row:064x}' for row in range(40)]),
        names=np.array([f'row {row}' for row in range(40)]),
        families=np.full(40, 'z'),
        split=np.repeat(['train', 'validation', 'test'], [20, 10, 10]),
        feature_names=split_flakes.feature_names,
    )
    node = DatasetData(dataset, flake_descriptor, flake_labels.source.to_dict()).store()
    model = cli_json('train', node.pk, '--model', 'ridge', '--folds', 4, '--name', 'calibrated')
    assert (model['calibration']['part'], model['calibration']['rows']) == ('held-out', 40)
    assert model['metrics']['held-out']['coverage_95'] == pytest.approx(39 / 40)
    assert 'of 10 rows (test)' in cli('model', 'show', 'calibrated').stdout
    figures = orm.load_node(model['uuid']).creator.outputs.figures
    assert 'calibration.png' in figures.base.repository.list_object_names()

    prediction = cli_json('predict', 'calibrated', node.pk)
    assert prediction['calibration'] == model['calibration']
    assert min(prediction['std_ev']) > 0
    assert 'by 40 held-out rows' in cli('predict', 'calibrated', node.pk).stdout
    for key in ('calibrated', prediction['uuid']):
        path = tmp_path / f'{key}.png'
        drawn = cli_json('plot', key, '--calibration', '-o', path)
        assert (drawn['drawn'], drawn['n_rows']) == ('calibration', 20)
        assert path.read_bytes().startswith(PNG)
    both = cli('plot', 'calibrated', '--calibration', '--learning-curve', '-o', tmp_path / 'both.png', status=2).stderr
    assert 'one figure' in both


def test_a_correction_from_two_labellings_to_a_traced_prediction(aiida_profile_clean, cli, cli_json, code, tmp_path):
    cli_json('flakes', 'generate', '--family', 'z', '--size', 2, '--count', 12, '--seed', 1, '--name', 'flakes')
    cheap = cli_json('label', 'flakes', '--protocol', 'fast', '--name', 'cheap')
    cli_json('label', 'flakes', '--protocol', 'balanced', '--name', 'costly')
    dataset = cli_json('dataset', 'build', 'flakes', '--labels', 'costly', '--baseline', 'cheap', '--name', 'gaps')
    assert dataset['baseline'] == cheap['labels']
    assert dataset['labels']['protocol'] == 'balanced'
    assert 'baseline  GFN1-xTB' in cli('dataset', 'show', 'gaps').stdout

    options = ('--model', 'ridge', '--folds', 3)
    model = cli_json('train', 'gaps', *options, '--name', 'correction')
    assert model['baseline'] == cheap['labels']
    metrics = model['metrics']
    assert metrics['held-out']['mae'] < 0.02, 'the two protocols differ little'
    assert metrics['baseline/held-out']['mae'] < 0.02
    alone = cli_json('train', 'gaps', *options, '--alone', '--name', 'alone')
    assert alone['baseline'] is None
    assert alone['metrics']['held-out']['mae'] > 5 * metrics['held-out']['mae']
    shown = cli('model', 'show', 'correction').stdout
    assert 'protocol fast' in shown.split('corrects')[1].split('\n')[0]
    assert 'baseline MAE (eV)' in shown
    assert 'baseline' not in cli('model', 'show', 'alone').stdout

    refused = cli('predict', 'correction', 'flakes', status=1).stderr
    assert 'the model corrects the values of GFN1-xTB' in refused
    assert 'protocol fast' in refused
    assert 'its errors are others' in cli('predict', 'correction', 'flakes', '--baseline', 'costly', status=1).stderr
    assert 'takes no baseline' in cli('predict', 'alone', 'flakes', '--baseline', 'cheap', status=1).stderr
    predicted = cli_json('predict', 'correction', 'flakes', '--baseline', 'cheap', '--name', 'predictions')
    assert predicted['baseline'] == cheap['labels']
    assert predicted['value_ev'] == pytest.approx(predicted['baseline_ev'], abs=0.05)
    assert 'baseline (eV)' in cli('predict', 'correction', 'gaps').stdout

    validated = cli_json('validate', 'predictions', 'costly')['metrics']
    assert validated['baseline/all']['n'] == validated['all']['n'] == 12
    for name in ('predictions', 'correction'):
        path = tmp_path / f'{name}.svg'
        assert cli_json('plot', name, '-o', path)['n_rows'] == 12
        text = path.read_text()
        assert 'baseline alone' in text
        assert 'correction to GFN1-xTB' in text
    cli_json('plot', 'alone', '-o', tmp_path / 'alone.svg')
    assert 'baseline alone' not in (tmp_path / 'alone.svg').read_text()
    lineage = cli_json('trace', 'predictions')
    assert {origin['role']: origin['protocol'] for origin in lineage['labelling']} == {
        'labels': 'balanced',
        'baseline': 'fast',
    }
    assert 'correction to GFN1-xTB' in cli('trace', 'predictions').stdout


@pytest.mark.timeout(300)
def test_exported_correction_says_what_it_answers(cli, cli_json, code, corrected_node, tmp_path):
    network = ('--epochs', 2, '--hidden-layers', '4', '--set', 'members=1')
    model = cli_json('train', corrected_node.pk, *network)
    assert model['kind'] == 'correction'
    content = cli_json('model', 'export', model['uuid'], '-o', tmp_path / 'network.keras')
    assert content['answer'] == 'correction to Cheap 1.0, protocol fast'
    assert content['feature_names'][-1] == 'baseline_gap_ev'


@pytest.mark.timeout(300)
def test_network_has_a_learning_curve_and_is_exported(cli, cli_json, code, dataset_node, tmp_path):
    model = cli_json(
        'train', dataset_node.pk, '--epochs', 3, '--batch-size', 4, '--hidden-layers', '8,4', '--learning-rate', 0.01,
        '--seed', 5, '--set', 'members=1',
    )  # fmt: skip
    parameters = model['parameters']
    assert (parameters['epochs'], parameters['batch_size'], parameters['hidden_layers']) == (3, 4, [8, 4])
    assert (parameters['learning_rate'], parameters['seed'], parameters['members']) == (0.01, 5, 1)
    for key in (model['uuid'], model['process']):
        content = cli_json('plot', key, '--learning-curve', '-o', tmp_path / 'curve.png', '--force')
        assert content['n_epochs'] == 3
    history = orm.load_node(model['process']).outputs.history
    assert cli_json('plot', history.pk, '-o', tmp_path / 'history.svg')['drawn'] == 'learning curve'
    path = tmp_path / 'cbn_trained_model.h5'
    content = cli_json('model', 'export', model['uuid'], '-o', path)
    assert content['unit'] == 'eV'
    assert path.read_bytes().startswith(b'\x89HDF')
    assert '--force' in cli('model', 'export', model['uuid'], '-o', path, status=1).stderr


def test_labels_without_gaps_are_told_by_their_energies(aiida_profile_clean, cli, cli_json, code):
    cells = [bulk('Cu', 'fcc', a=a, cubic=cubic) for a, cubic in ((3.5, True), (3.6, False))]
    structures = StructureSet.from_structures(
        [Structure(cell.numbers, cell.positions, cell=cell.cell.array, pbc=cell.pbc) for cell in cells]
    )
    node = StructureSetData(structures).store()
    labels = cli_json('label', node.pk, '--engine', 'ase', '--protocol', 'fast')
    assert (labels['n_finished'], labels['labels']['title']) == (2, 'EMT (ASE)')
    assert not any(key.startswith('gap') for key in labels)
    energies = orm.load_node(labels['uuid']).labels.energies['energy_ev']
    assert labels['energy_per_atom_min_ev'] == pytest.approx(min(energies / [4, 1]))
    assert labels['energy_per_atom_max_ev'] == pytest.approx(max(energies / [4, 1]))
    assert 'energy per atom' in cli('label', node.pk, '--engine', 'ase', '--protocol', 'fast').stdout
    refused = cli('dataset', 'build', node.pk, '--labels', labels['uuid'], status=1).stderr
    assert "no label has the target 'gap': EMT (ASE)" in refused
    assert 'energy_per_atom' in refused


@pytest.mark.parametrize(
    ('arguments', 'said'),
    [
        (('--engine', 'nonsense'), 'registered: '),
        (('--protocol', 'nonsense'), 'has no protocol'),
        (('--set', 'nonsense=1'), 'valid parameters'),
        (('--processes', 2, '--code', 'nowhere@localhost'), 'nowhere'),
    ],
)
def test_label_refuses_before_anything_runs(cli, code, structures_node, arguments, said):
    before = orm.QueryBuilder().append(orm.ProcessNode).count()
    status = 2 if '--code' in arguments else 1
    assert said in cli('label', structures_node.pk, *arguments, status=status).stderr
    assert orm.QueryBuilder().append(orm.ProcessNode).count() == before


def test_unknown_hyperparameter_lists_the_valid_ones(cli, code, dataset_node):
    error = cli('train', dataset_node.pk, '--model', 'ridge', '--epochs', 5, status=1).stderr
    assert "unknown hyperparameter 'epochs'" in error
    assert 'valid: alpha' in error
    assert error.count('\n') == 1


def test_hyperparameter_given_twice(cli, code, dataset_node):
    error = cli('train', dataset_node.pk, '--epochs', 5, '--set', 'epochs=6', status=2).stderr
    assert 'given twice' in error


def test_failed_labelling_says_why_and_what_is_kept(cli, code, tmp_path):
    path = tmp_path / 'far.xyz'
    path.write_text('2\n\nRn 0 0 0\nRn 0 0 0.6\n')
    node = cli('structures', 'import', path, '--json').stdout
    uuid = node.split('"uuid": "')[1].split('"')[0]
    error = cli('label', uuid, status=1).stderr.strip().splitlines()[-1]
    assert 'exit status 510' in error
    assert '; what was computed is kept: nanoml.labels' in error


def test_submit_needs_a_broker(cli, code, structures_node):
    error = cli('label', structures_node.pk, '--submit', status=1).stderr
    assert 'has no broker' in error
    refused = cli('label', structures_node.pk, '--submit', '--foreground', status=2).stderr
    assert 'give either --submit or --foreground' in refused
    assert orm.QueryBuilder().append(orm.ProcessNode, filters={'attributes.process_state': 'created'}).count() == 0


def test_predict_refuses_features_of_another_descriptor(cli, code, model_node, flake_dataset, flake_labels):
    from aiida_nanoml.data.dataset import DatasetData

    other = DatasetData(flake_dataset, {'name': 'imported', 'params': {}}, flake_labels.source.to_dict()).store()
    assert 'descriptor' in cli('predict', model_node.pk, other.pk, status=1).stderr


def test_plot_of_something_else(cli, structures_node, tmp_path):
    error = cli('plot', structures_node.pk, '-o', tmp_path / 'figure.png', status=1).stderr
    assert 'cannot be drawn' in error
    assert not list(tmp_path.iterdir())


def test_a_command_runs_although_a_runner_was_there_before(cli, code, structures_node) -> None:
    """Runners share an event loop unless they are given one, and a runner that is replaced closes its loop."""
    from aiida.manage import get_manager

    get_manager().get_runner()
    for _ in range(2):
        cli('label', structures_node.uuid, '--protocol', 'fast', '--code', code.pk)
