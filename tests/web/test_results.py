"""Pages of models, predictions and structures: what they say, and the way from a point to its run."""

from __future__ import annotations

import re

import numpy as np
import pytest
from aiida import orm
from plumpy import ProcessState

from aiida_nanoml.calculations.functions.datasets import assemble_dataset, import_dataset, split_dataset
from aiida_nanoml.calculations.functions.labels import merge_labels
from aiida_nanoml.data.labels import LabelSetData
from aiida_nanoml.data.model import ModelData
from aiida_nanoml.data.prediction import PredictionData
from aiida_nanoml.data.structures import StructureSetData
from aiida_nanoml.learning.dataset import Dataset
from aiida_nanoml.structures import StructureSet
from aiida_nanoml.web.figures import MOST_LINKS, loss_plot, parity_plot
from tests.provenance.conftest import store_process
from tests.web.conftest import Browser, elements, text_of
from tests.web.test_pages import check_page

QUADRUPLETS = {'name': 'quadruplets', 'params': {'classes': 22, 'unknown': 'overflow'}}


@pytest.fixture(autouse=True)
def empty_profile(aiida_profile_clean) -> None:
    """Labels of another test would be found."""


@pytest.fixture
def labelled(empty_profile, code, structures_node, flake_labels) -> list[orm.CalcJobNode]:
    """Two labelling jobs of the flakes: seven rows, and five."""
    return [
        store_process(
            code,
            'nanoml.label',
            {'structures': structures_node},
            {'labels': LabelSetData(flake_labels.select(np.arange(12)[part]))},
        )
        for part in (slice(0, 7), slice(7, 12))
    ]


def fitted_columns(rows: Dataset | StructureSet, values: np.ndarray) -> dict[str, np.ndarray]:
    """Return the columns of predictions of a data set, or of structures."""
    n = len(rows)
    columns = {'hashes': rows.hashes, 'names': rows.names, 'families': rows.families, 'value': values}
    return columns | {
        'std': np.full(n, np.nan),
        'spread': np.full(n, np.nan),
        'distance': np.ones(n),
        'outside': np.zeros(n, bool),
    }


@pytest.fixture
def model(labelled, code, structures_node, model_folder) -> ModelData:
    """A model with the job that trained it on a data set of the flakes."""
    parts = {f'labels_{number}': job.outputs.labels for number, job in enumerate(labelled)}
    rows = assemble_dataset(structures_node, merge_labels(**parts), orm.Dict(QUADRUPLETS))
    dataset = split_dataset(rows, orm.Dict({}))
    node = ModelData(model_folder)
    known = dataset.dataset
    values = known.y + np.where(np.arange(len(known)) == 3, 0.5, 0.0)
    fitted = PredictionData(fitted_columns(known, values), node.base.attributes.all)
    history = orm.XyData()
    history.set_x(np.arange(1, 4), 'epoch', '')
    history.set_y([np.array([1.0, 0.1, 0.01]), np.array([2.0, 0.3, 0.2])], ['loss', 'val_loss'], ['', ''])
    outputs = {'model': node, 'fitted': fitted, 'history': history}
    store_process(code, 'nanoml.train', {'dataset': dataset, 'kind': orm.Str('ridge').store()}, outputs)
    return node


def test_a_point_leads_to_its_structure_and_its_run(browser: Browser, model: ModelData, labelled, flakes) -> None:
    page = browser.get(f'/nodes/{model.uuid}')
    check_page(page)
    dataset = model.creator.inputs.dataset
    links = [one for one in elements(page, 'a') if '/rows/' in one['href']]
    points = [one for one in links if one.get('tabindex') == '-1']
    assert {one['href'] for one in points} == {
        f'/nodes/{dataset.uuid}/rows/{row}' for row in range(len(dataset.dataset))
    }
    named = [one for one in points if one['href'].endswith('/rows/3')]
    assert dataset.dataset.names[3] in named[0]['aria-label']
    assert text_of(page).index(f'{dataset.dataset.names[3]} ') < text_of(page).index('+0.500'), 'the largest error'

    response = browser.client.get(f'/nodes/{dataset.uuid}/rows/3')
    row = int(np.flatnonzero(flakes.hashes == dataset.dataset.hashes[3])[0])
    structures = model.creator.inputs.dataset.creator.inputs.dataset.creator.inputs.structures
    assert str(response.url).endswith(f'/structures/{structures.uuid}/{row}')
    check_page(response.text)
    [picture] = [one for one in elements(response.text, 'svg') if one.get('role') == 'img']
    assert flakes.names[row] in picture['aria-label']
    [job] = [one for one in labelled if dataset.dataset.hashes[3] in one.outputs.labels.labels.hashes]
    assert f'href="/processes/{job.uuid}"' in response.text
    assert response.text.count('href="/processes/') == 1, 'the joined set is not another label'


def test_a_model_says_what_it_is_worth(browser: Browser, model: ModelData) -> None:
    page = text_of(browser.get(f'/nodes/{model.uuid}'))
    assert 'it was tested on no rows' in page
    assert 'What helps: train with 5 folds or more' in page
    assert 'kind ridge' in page
    assert 'loss 0.01' in page
    assert 'Nothing yet' in page, 'nothing rests on it'
    columns = fitted_columns(model.creator.inputs.dataset.dataset, np.ones(12))
    made = PredictionData(columns, model.base.attributes.all, label='ones')
    store_process(model.creator.inputs.code, 'nanoml.predict', {'model': model}, {'predictions': made})
    assert re.search('Predictions .* ones prediction', text_of(browser.get(f'/nodes/{model.uuid}')))


def test_a_model_without_a_training_has_a_page(browser: Browser, model_node: ModelData) -> None:
    page = browser.get(f'/nodes/{model_node.uuid}')
    check_page(page)
    assert 'No training in this profile made it' in page


def test_the_last_audit_is_shown(browser: Browser, model: ModelData) -> None:
    page = browser.get(f'/nodes/{model.uuid}')
    assert 'not audited here' in page
    assert 'action="/actions/audit"' in page
    browser.post('/actions/audit', {'node': str(model.pk)})
    page = browser.get(f'/nodes/{model.uuid}')
    check_page(page)
    assert re.search(r'audit: \d+ errors?, ', text_of(page))
    assert re.search(r'error .* \[test-part\]', text_of(page))
    other = browser.get(f'/nodes/{ModelData().uuid}', status=404)
    assert 'audit:' not in other


def test_imported_rows_are_points_without_links(browser: Browser, code, model_folder, flake_labels, tmp_path) -> None:
    (tmp_path / 'x.dat').write_text('\n'.join(f'{row} {row**2}' for row in range(20)))
    (tmp_path / 'y.dat').write_text('\n'.join(f'{0.1 * row}' for row in range(20)))
    x, y = (orm.SinglefileData(tmp_path / f'{name}.dat') for name in 'xy')
    parameters = {'n_features': 2, 'labels': flake_labels.source.to_dict()}
    dataset = split_dataset(import_dataset(x, y, orm.Dict(parameters)), orm.Dict({}))
    node = ModelData(model_folder)
    fitted = PredictionData(fitted_columns(dataset.dataset, dataset.dataset.y), node.base.attributes.all)
    store_process(code, 'nanoml.train', {'dataset': dataset}, {'model': node, 'fitted': fitted})
    page = browser.get(f'/nodes/{node.uuid}')
    check_page(page)
    assert len(elements(page, 'circle')) >= 20
    assert not [one for one in elements(page, 'a') if '/rows/' in one['href']]
    assert 'rests on no structure' in browser.get(f'/nodes/{dataset.uuid}/rows/0', status=404)


def test_an_unlabelled_structure_leads_to_labelling(browser: Browser, structures_node: StructureSetData) -> None:
    page = browser.get(f'/structures/{structures_node.uuid}/11')
    check_page(page)
    assert 'It has no label yet' in page
    assert f'href="/structures/{structures_node.uuid}/10"' in page
    assert f'href="/structures/{structures_node.uuid}/12"' not in page
    for row in ('12', '-1', 'x', '1.0', '9' * 5000, '%D9%A1'):
        browser.get(f'/structures/{structures_node.uuid}/{row}', status=404)
    browser.get(f'/structures/{orm.Int(1).store().uuid}/0', status=404)
    browser.get(f'/nodes/{orm.Int(1).store().uuid}/rows/0', status=404)


def test_a_cell_is_described(browser: Browser, alloy_cells) -> None:
    node = StructureSetData(alloy_cells.select([1])).store()
    page = text_of(browser.get(f'/structures/{node.uuid}/0'))
    assert 'periodic along a, b, c' in page
    assert '2.800 × 2.800 × 3.960 Å, 90.0, 90.0, 90.0°' in page


def test_a_parity_plot_places_points() -> None:
    known, predicted = np.array([0.0, 1.0, 2.0]), np.array([0.0, 1.0, 1.0])
    chart = parity_plot(known, predicted, ['train', 'train', 'test'], ['a', '', 'c'], 'eV', 2)
    assert [point.row for point in chart.points] == [2, 0, 1], 'what it did not learn from comes first'
    assert chart.points[0].title == 'c: predicted 1.00, known 2.00 eV (test)'
    assert chart.points[2].title.startswith('row 1: ')
    places = {point.row: (point.x, point.y) for point in chart.points}
    assert places[0][0] + places[0][1] == pytest.approx(places[1][0] + places[1][1]), 'both lie on the diagonal'
    assert places[2] == (2 * places[1][0] - places[0][0], places[1][1])
    assert [text for _, text in chart.x.ticks] == ['0.0', '0.5', '1.0', '1.5', '2.0']
    assert chart.others == {}


def test_a_crowded_plot_stays_light() -> None:
    known = np.random.default_rng(0).normal(size=50_000)
    parts = np.where(np.arange(50_000) < 200, 'test', 'train').tolist()
    chart = parity_plot(known, known + 0.1, parts, [''] * 50_000, 'eV', 3)
    assert len(chart.points) == MOST_LINKS
    assert {point.row for point in chart.points} >= set(range(200))
    assert set(chart.others) == {'train'}
    assert len(chart.others['train']) < 60_000, 'one dot for a pixel'


def test_equal_values_have_a_plot() -> None:
    chart = parity_plot(np.full(3, 2.0), np.full(3, 2.0), [''] * 3, [''] * 3, 'eV', 3)
    assert len({(point.x, point.y) for point in chart.points}) == 1
    assert len(chart.x.ticks) > 1


def test_curves_fall_on_a_logarithmic_axis() -> None:
    chart = loss_plot({'loss': [1.0, 0.1, 0.01], 'val_loss': [1.0, 1.0, 0.0]})
    (x0, y0), (x1, y1), (x2, y2) = (map(float, point.split(',')) for point in chart.curves['loss'].split())
    assert x1 - x0 == x2 - x1 > 0
    assert y1 - y0 == pytest.approx(y2 - y1, abs=0.2)
    assert y0 < y2, 'downwards'
    assert chart.curves['val_loss'].count(',') == 2, 'no logarithm of 0'
    assert [text for _, text in chart.x.ticks] == ['1.0', '1.5', '2.0', '2.5', '3.0']
    assert chart.last == {'loss': '0.01', 'val_loss': '0'}
    assert loss_plot({'loss': [0.5]}).curves['loss'].count(',') == 1
    assert loss_plot({'loss': [0.0], 'val_loss': []}) is None


@pytest.fixture
def predictions(model: ModelData, code, structures_node, flakes) -> PredictionData:
    """Predictions of the flakes with the model, whose last row is outside of the domain."""
    n = len(flakes)
    columns = {'hashes': flakes.hashes, 'names': flakes.names, 'families': flakes.families, 'value': np.full(n, 1.5)}
    columns |= {'std': np.full(n, 0.25), 'spread': np.full(n, np.nan), 'distance': np.full(n, 0.5)}
    columns['outside'] = np.arange(n) == n - 1
    node = PredictionData(columns, model.base.attributes.all)
    store_process(code, 'nanoml.predict', {'model': model, 'structures': structures_node}, {'predictions': node})
    return node


def test_a_prediction_shows_the_nearest_training_rows(
    browser: Browser, predictions: PredictionData, model: ModelData, flakes
) -> None:
    dataset = model.creator.inputs.dataset.dataset
    row = int(np.flatnonzero(flakes.hashes == dataset.hashes[dataset.split == 'train'][0])[0])
    page = browser.get(f'/nodes/{predictions.uuid}?row={row}')
    check_page(page)
    words = text_of(page)
    assert f'{flakes.names[row]}: 1.500 ± 0.250 eV' in words
    known = dataset.y[dataset.hashes == flakes.hashes[row]][0]
    assert f'{flakes.names[row]}: known {known:.3f} eV, distance 0.00' in words, 'it is a training row itself'
    distances = [float(text) for text in re.findall(r'known \S+ eV, distance (\S+)', words)]
    assert len(distances) == 4
    assert distances == sorted(distances)
    assert len([one for one in elements(page, 'svg') if one.get('role') == 'img']) == 5
    assert page.count('<span class="badge error">outside') == 1
    for wrong in ('12', '-1', 'x'):
        browser.get(f'/nodes/{predictions.uuid}?row={wrong}', status=404)


def test_the_lineage_is_a_tree(browser: Browser, predictions: PredictionData, model: ModelData, labelled) -> None:
    page = browser.get(f'/nodes/{predictions.uuid}')
    tree = page[page.index('What they rest on') :]
    places = [tree.index(text) for text in ('Models', 'Trained by', 'Data sets', 'Labels of GFN1-xTB')]
    assert places == sorted(places)
    for node in (model.creator, *labelled):
        assert f'href="/processes/{node.uuid}"' in tree
    assert '12 structures were labelled in 2 jobs.' in text_of(tree)


def test_predictions_without_a_job_have_a_page(browser: Browser, model_node: ModelData, flakes) -> None:
    columns = fitted_columns(flakes, np.ones(12))
    page = browser.get(f'/nodes/{PredictionData(columns, model_node.base.attributes.all).store().uuid}')
    check_page(page)
    assert 'its nearest rows are not known' in page


def test_a_running_training_shows_its_losses(browser: Browser, model: ModelData, tmp_path) -> None:
    finished = browser.get(f'/processes/{model.creator.uuid}')
    check_page(finished)
    assert 'val loss 0.2' in text_of(finished)

    training = orm.CalcJobNode()
    training.set_process_label('TrainCalculation')
    training.set_process_state(ProcessState.RUNNING)
    training.set_remote_workdir(str(tmp_path))
    training.store()
    page = browser.get(f'/processes/{training.uuid}')
    check_page(page)
    assert 'epoch' not in text_of(page), 'nothing is written yet'
    (tmp_path / 'losses.jsonl').write_text('{"loss": 1.0, "val_loss": 2.0}\n{"loss": 0.5, "val_loss": 1.5}\n{"loss"')
    page = browser.get(f'/processes/{training.uuid}')
    check_page(page)
    assert 'loss 0.5 val loss 1.5' in text_of(page)
    [curve, _] = elements(page, 'polyline')
    assert len(curve['points'].split()) == 2
