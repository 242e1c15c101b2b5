"""``aiida-nanoml compare``."""

from __future__ import annotations

import pytest
from aiida import orm

from aiida_nanoml.data.model import ModelData


@pytest.fixture
def models(dataset_node, model_folder, code):
    """Two trainings that ended in the same weights."""
    from aiida.common.links import LinkType

    made = []
    for label in ('one', 'other'):
        job = orm.CalcJobNode(computer=code.computer, process_type='aiida.calculations:nanoml.train')
        job.set_process_label('TrainCalculation')
        job.set_option('resources', {'num_machines': 1})
        for name, node in {'code': code, 'dataset': dataset_node}.items():
            job.base.links.add_incoming(node, LinkType.INPUT_CALC, name)
        job.store()
        model = ModelData(model_folder, label=label)
        model.base.links.add_incoming(job, LinkType.CREATE, 'model')
        made.append(model.store())
    return made


def test_models_side_by_side(cli, cli_json, models):
    found = cli_json('compare', 'one', 'other')
    assert [row['uuid'] for row in found['models']] == [node.uuid for node in models]
    assert found['comparable']
    assert found['same']['hyperparameters']['alpha'] == 1.0
    text = cli('compare', models[0].pk, models[1].uuid).stdout
    assert text.startswith('test metrics may be compared: the same 2 test rows')
    assert 'one, other: the same weights' in text
    assert text.splitlines()[-1].startswith('next: aiida-nanoml trace o')


def test_all_models_in_a_table(cli, cli_json, models, tmp_path):
    found = cli_json('compare', '--all')
    assert found['n_models'] == 2
    assert [row['label'] for row in found['sections'][0]['models']] == ['one', 'other']
    assert 'gap (eV), labels GFN1-xTB' in cli('compare', '--all', '--sort', 'r2').stdout
    done = cli('compare', '--all', '--csv', tmp_path / 'models.csv')
    assert 'models.csv is written' in done.stderr
    assert len((tmp_path / 'models.csv').read_text().splitlines()) == 3
    again = cli('compare', '--all', '--csv', tmp_path / 'models.csv', status=1)
    assert '--force' in again.stderr


def test_what_is_asked_for_wrongly(cli, models, dataset_node):
    assert 'one model cannot be compared' in cli('compare', 'one', status=2).stderr
    assert 'each of them once' in cli('compare', 'one', 'one', status=1).stderr
    assert '--all' in cli('compare', status=2).stderr
    assert 'go with --all' in cli('compare', 'one', 'other', '--kind', 'ridge', status=2).stderr
    assert 'is a data set (pk ' in cli('compare', 'one', dataset_node.uuid, status=2).stderr
    assert 'no model with target pressure' in cli('compare', '--all', '--target', 'pressure', status=1).stderr
