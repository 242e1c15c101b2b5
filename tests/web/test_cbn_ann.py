"""Page of CBN_ANN: each step leads to a form that is filled with the newest nodes."""

from __future__ import annotations

import pytest
from aiida import orm
from aiida.common.links import LinkType
from plumpy import ProcessState

from aiida_nanoml.data.dataset import DatasetData
from aiida_nanoml.data.labels import LabelSetData
from aiida_nanoml.data.model import ModelData
from aiida_nanoml.data.structures import StructureSetData
from tests.provenance.conftest import store_process
from tests.web.conftest import OURS, Browser, elements, text_of
from tests.web.test_pages import check_page


@pytest.fixture(autouse=True)
def empty_profile(aiida_profile_clean) -> None:
    """Nodes of another test would be the newest ones."""


def links(page: str) -> list[str]:
    return [one['href'] for one in elements(page, 'a') if one.get('class') == 'button']


def test_an_empty_profile_begins_with_structures(browser: Browser) -> None:
    page = browser.get('/applications/cbn_ann/')
    check_page(page)
    assert links(page) == ['/actions/generate_flakes', '/actions/import_structures', '/actions/import_dataset']
    assert 'This needs structures first' in page
    assert 'Nothing runs' in page


def test_steps_are_filled_with_the_newest_nodes(
    browser: Browser,
    code,
    structures_node: StructureSetData,
    flake_labels,
    dataset_node: DatasetData,
    model_node: ModelData,
) -> None:
    labels = LabelSetData(flake_labels, label='gaps')
    store_process(code, 'nanoml.label', {'structures': structures_node}, {'labels': labels})
    unseen = StructureSetData(structures_node.structures.select([0, 1]), label='unseen').store()
    page = browser.get('/applications/cbn_ann/')
    check_page(page)
    assert links(page) == [
        '/actions/generate_flakes',
        '/actions/import_structures',
        f'/actions/label?structures={unseen.pk}',
        f'/actions/build_dataset?structures={structures_node.pk}&labels={labels.pk}',
        '/actions/import_dataset',
        f'/actions/train?dataset={dataset_node.pk}',
        f'/actions/train?dataset={dataset_node.pk}&kind=paper',
        f'/actions/predict?model={model_node.pk}&rows={unseen.pk}',
    ]
    assert f'href="/nodes/{labels.uuid}">gaps</a>' in page
    for link in links(page):
        check_page(browser.get(link.replace('&amp;', '&')))


def test_running_campaigns_show_how_far_they_are(browser: Browser, structures_node: StructureSetData) -> None:
    for label, state in (('night run', ProcessState.WAITING), ('old run', ProcessState.FINISHED)):
        campaign = orm.WorkChainNode()
        campaign.set_process_label('LabelWorkChain')
        campaign.set_process_state(state)
        campaign.base.links.add_incoming(structures_node, LinkType.INPUT_WORK, 'structures')
        campaign.label = label
        campaign.store()
    words = text_of(browser.get('/applications/cbn_ann/'))
    assert 'night run (waiting)' in words
    assert 'old run' not in words


def test_files_lead_to_what_reads_them(browser: Browser) -> None:
    for name in ('x.dat', 'y.dat', 'flakes.extxyz', 'notes.txt'):
        response = browser.client.post(
            '/files', data={'token': browser.token}, files={'file': (name, b'1')}, headers=OURS
        )
        assert response.status_code == 200
    page = browser.get('/applications/cbn_ann/')
    check_page(page)
    found = [one['href'] for one in elements(page, 'a')]
    assert '/actions/import_structures?file=flakes.extxyz' in found
    assert '/actions/import_dataset?x=x.dat&y=y.dat' in found
    assert '/actions/import_dataset?y=y.dat' in found
    assert '/files/view/notes.txt' in found
