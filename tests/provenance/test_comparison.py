"""Models side by side, and all models of a profile in a table."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace

import pytest
from aiida import orm
from aiida.manage import get_manager
from sqlalchemy import event

from aiida_nanoml.calculations.functions.datasets import assemble_dataset, import_dataset, split_dataset
from aiida_nanoml.data.densities import DensitySetData
from aiida_nanoml.data.model import ModelData
from aiida_nanoml.errors import ProvenanceError
from aiida_nanoml.learning.exchange import write_xy
from aiida_nanoml.learning.model_files import save_model
from aiida_nanoml.learning.registry import make_model
from aiida_nanoml.learning.training import fit_model, metrics_by_part, predict_columns, training_domain
from aiida_nanoml.provenance.comparison import compare
from aiida_nanoml.provenance.differences import IDENTICAL, compare_outputs
from aiida_nanoml.provenance.models import tabulate_models
from tests.conftest import gaussian_density
from tests.provenance.conftest import QUADRUPLETS


@pytest.fixture
def trained(record_process, tmp_path):
    """Train a model as a job does, and store it with the job."""

    def train(node, kind='ridge', label='', **settings):
        rows, folder = node.dataset, tmp_path / f'model-{len(list(tmp_path.iterdir()))}'
        model, domain = fit_model(make_model(kind, **settings), rows), training_domain(rows)
        columns = predict_columns(model, domain, None, rows.X, rows.baseline)
        attributes = node.base.attributes
        card = {'kind': kind, 'metrics': metrics_by_part(rows, columns['value'], columns)}
        card |= {name: attributes.get(name) for name in ('descriptor', 'labels', 'baseline')}
        save_model(model, folder, card | {'feature_names': list(rows.input_names)}, domain)
        made = ModelData(folder, label=label)
        record_process('nanoml.train', {'dataset': node}, {'model': made})
        return made

    return train


@pytest.fixture
def pair(dataset, trained, snapshots):
    if kept := snapshots.nodes('pair'):
        return tuple(kept)
    return trained(dataset, label='weak', alpha=1.0), trained(dataset, label='strong', alpha=10.0)


@pytest.fixture
def resplit(dataset):
    """The same rows, split by another seed."""
    return split_dataset(dataset.creator.inputs.dataset, orm.Dict({'seed': 1}))


def test_former_names_of_hyperparameters_are_no_difference(dataset, trained, record_process):
    """A node that version 0.1 stored has them in its attributes."""
    made = trained(dataset, 'svm')
    old = made.clone()
    parameters = dict(old.base.attributes.get('parameters'))
    old.base.attributes.set('parameters', {'tube_ev': parameters.pop('tube_width'), **parameters})
    record_process('nanoml.train', {'dataset': dataset}, {'model': old})
    found = compare(made, old)
    assert 'hyperparameters' not in found.differences
    assert {quantity.verdict for quantity in compare_outputs({'model': old}, {'model': made}, 0.0)} == {IDENTICAL}


def of_part(node, part):
    rows = node.dataset
    return set(rows.hashes[rows.split == part].tolist())


def test_models_of_one_data_set_differ_in_what_was_changed(pair, dataset):
    found = compare(*pair)
    assert found.comparable
    assert [row.pk for row in found.models] == [node.pk for node in pair]
    assert found.differences['hyperparameters'] == {
        'alpha': [1.0, 10.0],
        'not the default': [['none'], ['alpha 10 (default 1)']],
    }
    errors = [node.base.attributes.get('metrics')['test']['mae'] for node in pair]
    assert found.differences['metrics']['gap MAE, test (eV)'] == errors
    assert 'data' not in found.differences
    assert 'lineage' not in found.differences
    assert found.same['data']['train rows'] == len(of_part(dataset, 'train'))
    assert found.same['data']['split.seed'] == 0
    assert found.same['lineage']['seed of generate_flake_set'] == [7]
    assert found.same['labels']['theory'] == 'tight binding'
    [labelled] = (value for name, value in found.same['lineage'].items() if name.startswith('labelled by'))
    assert labelled == ['12 structures in 2 jobs on localhost']
    [pair_overlap] = found.overlaps
    assert (pair_overlap.trained, pair_overlap.tested, pair_overlap.one_tested) == (8, 2, 0)
    text = found.render()
    assert text.startswith('test metrics may be compared: the same 2 test rows, gap (eV), labels GFN1-xTB')
    assert 'all learnt from the same 8 rows' in text
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False))['models'][1]['label'] == 'strong'


def test_other_test_rows_are_told_in_counts(dataset, resplit, trained):
    one, other = trained(dataset, label='one'), trained(resplit, label='other')
    found = compare(one, other)
    assert not found.comparable
    tests = of_part(dataset, 'test'), of_part(resplit, 'test')
    assert found.reasons == (
        f'they were evaluated on different test rows: one 2, other 2; {len(tests[0] & tests[1])} are common to all',
    )
    [overlap] = found.overlaps
    assert overlap.trained == len(of_part(dataset, 'train') & of_part(resplit, 'train')) > 0
    assert overlap.one_tested == len(tests[0] & of_part(resplit, 'train'))
    assert overlap.other_tested == len(tests[1] & of_part(dataset, 'train')) > 0
    assert found.differences['data']['split.seed'] == [0, 1]
    assert found.render().startswith('test metrics are not directly comparable:\n- they were evaluated on')
    assert f'{overlap.other_tested} of the 2 test rows of other are training rows of one' in found.render()
    [section] = tabulate_models().sections
    assert len(section.test_sets) == 2
    assert 'metrics of different sets are not comparable' in tabulate_models().render()


def test_other_labels_are_told_key_by_key(dataset, trained, generated, record_job, flake_labels):
    source = flake_labels.source
    parameters = dict(source.parameters) | {'accuracy': 7.0}
    other = replace(flake_labels, source=replace(source, parameters=parameters))
    rows = assemble_dataset(generated, record_job(generated, other), orm.Dict(QUADRUPLETS), split=orm.Dict({}))
    models = trained(dataset, label='one'), trained(rows, label='other')
    found = compare(*models)
    [reason] = found.reasons
    assert reason.startswith('their labels have different origins')
    assert 'with other parameters' in reason
    assert found.differences['labels']['parameters.accuracy'] == [source.parameters.get('accuracy'), 7.0]
    table = tabulate_models()
    assert len(table.sections) == 2
    assert any('accuracy 7.0' in section.labels for section in table.sections)
    assert 'metrics of different sections are not comparable' in table.statement


def test_table_and_figure_have_the_best_first(pair, trained, dataset, tmp_path):
    forest = trained(dataset, 'forest', label='forest', n_trees=5)
    models = (*pair, forest)
    for sort, sign in (('mae', 1), ('rmse', 1), ('r2', -1)):
        table = tabulate_models(sort=sort)
        wanted = sorted(models, key=lambda node: sign * node.card.metrics['test'][sort])
        assert [row.pk for row in table.rows] == [node.pk for node in wanted]
    assert [row.label for row in tabulate_models(kind='forest').rows] == ['forest']
    assert tabulate_models(target='pressure').rows == ()
    assert [row.label for row in tabulate_models([forest.pk]).rows] == ['forest']
    lines = list(csv.DictReader(io.StringIO(tabulate_models().csv())))
    assert {line['label'] for line in lines} == {'weak', 'strong', 'forest'}
    assert {(line['n_train'], line['n_test'], line['unit'], line['nmae']) for line in lines} == {('8', '2', 'eV', '')}
    assert len({line['test_rows'] for line in lines}) == 1
    tabulate_models().draw(tmp_path / 'errors.svg')
    text = (tmp_path / 'errors.svg').read_text()
    assert 'weak (ridge)' in text
    assert 'MAE of the test rows' in text
    assert 'standard error' in text


def test_the_number_of_queries_does_not_grow(dataset, trained):
    engine = get_manager().get_profile_storage().get_session().get_bind()
    asked = []

    def count(*arguments):
        asked.append(arguments[2])

    numbers = []
    for alpha in (1.0, 2.0, 3.0):
        trained(dataset, alpha=alpha)
        asked.clear()
        event.listen(engine, 'before_cursor_execute', count)
        tabulate_models()
        event.remove(engine, 'before_cursor_execute', count)
        numbers.append(len(asked))
    assert numbers[0] == numbers[1] == numbers[2] > 0


def test_a_model_without_training_says_what_is_unknown(pair, model_node, correction_node):
    found = compare(pair[0], model_node)
    assert not found.comparable
    assert f'pk {model_node.pk}: the test rows are unknown' in found.reasons[0]
    assert found.differences['data']['data set'] == [f'pk {pair[0].creator.inputs.dataset.pk}', 'unknown']
    assert found.overlaps == ()
    assert f'pk {model_node.pk}: unknown training data: it was stored by hand' in found.render()
    row = next(row for row in tabulate_models().rows if row.pk == model_node.pk)
    assert (row.training, row.dataset, row.n_rows, row.test_rows) == (None, None, {}, '')
    assert {row.pk for row in tabulate_models().rows[-2:]} == {model_node.pk, correction_node.pk}
    assert f'pk {correction_node.pk}: correction to Cheap 1.0, protocol fast' in tabulate_models().render()


def test_densities_and_gaps_never_share_a_column(pair, densities_node, density_model, record_process, boxed_flakes):
    some = boxed_flakes.select([2])
    source = densities_node.label_source
    test = DensitySetData(some, map(gaussian_density, some), source)
    record_process(
        'nanoml.density_train', {'densities': densities_node, 'test': test.store()}, {'model': density_model}
    )
    found = compare(pair[0], density_model)
    assert found.reasons[0].startswith('they predict different quantities: gap (eV) by weak; density by pk')
    [overlap] = found.overlaps
    assert overlap.tested == len(of_part(pair[0].creator.inputs.dataset, 'test') & set(some.hashes.tolist()))
    assert 'metrics' not in found.same
    table = tabulate_models()
    assert [section.target for section in table.sections] == ['gap', 'density']
    [row] = tabulate_models(target='density').rows
    assert (row.kind, row.n_rows) == ('density', {'train': 3, 'test': 1})
    assert 'NMAE (%)' in table.render()


def test_rows_known_by_features_only_cannot_be_matched(pair, trained, tmp_path, flake_dataset):
    write_xy(tmp_path / 'x.dat', tmp_path / 'y.dat', flake_dataset.X, flake_dataset.y)
    source = {'engine': 'imported', 'version': '1', 'title': 'SIESTA', 'protocol': 'DZP', 'parameters': {}}
    rows = import_dataset(
        x=orm.SinglefileData(tmp_path / 'x.dat'),
        y=orm.SinglefileData(tmp_path / 'y.dat'),
        parameters=orm.Dict({'labels': source, 'n_features': flake_dataset.X.shape[1]}),
    )
    found = compare(pair[0], trained(split_dataset(rows, orm.Dict({})), label='imported'))
    assert any('the rows of imported were imported' in reason for reason in found.reasons)


def test_what_cannot_be_compared(pair, dataset, model_node, tmp_path):
    with pytest.raises(ProvenanceError, match='two models or more'):
        compare(pair[0])
    with pytest.raises(ProvenanceError, match='each of them once'):
        compare(pair[0], pair[0])
    with pytest.raises(ProvenanceError, match=r'\(DatasetData\) is no model'):
        compare(pair[0], dataset)
    with pytest.raises(ProvenanceError, match='no target'):
        tabulate_models(target='colour')
    with pytest.raises(ProvenanceError, match='sorted by'):
        tabulate_models(sort='colour')
    with pytest.raises(ProvenanceError, match='no test error to draw'):
        tabulate_models([model_node.pk]).draw(tmp_path / 'errors.svg')
