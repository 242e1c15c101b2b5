"""Pages: the form of every action, what a run shows, nodes, processes and the desk."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import pytest
from aiida import orm
from aiida.common.links import LinkType
from plumpy import ProcessState

from aiida_nanoml.actions.errors import ActionError
from aiida_nanoml.actions.registry import action_class, action_names
from aiida_nanoml.data.structures import StructureSetData
from aiida_nanoml.provenance.carriers import note_submitted
from aiida_nanoml.structures import StructureSet
from tests.web.conftest import Browser, elements, text_of

IDENTIFIED = ('div', 'p', 'input', 'select', 'textarea', 'ul', 'main', 'span', 'code', 'h2')
PAYLOADS = (
    '<script>alert(1)</script>',
    '"><img src=x onerror=alert(1)>',
    "' autofocus onfocus=alert(1) x='",
    '</textarea><svg onload=alert(1)>',
    '</option></select><iframe srcdoc="<script>alert(1)</script>">',
    '{{ 7 * 7 }}{% raw %}',
    'javascript:alert(1)',
    '<a href="javascript:alert(1)">x</a>',
    '&lt;b&gt;<b>',
    '\u202e<b>',
)


@pytest.fixture(autouse=True)
def empty_profile(aiida_profile_clean) -> None:
    """Nodes of another test would be offered."""


@pytest.fixture
def chains(make_chains: Callable[..., StructureSet], empty_profile: None) -> StructureSetData:
    """A set of structures with a name."""
    return StructureSetData(make_chains(2, 3, 5), label='chains').store()


def check_page(page: str) -> None:
    """Check what every page keeps: a title, labels of all fields, no script or style in the page, unique names."""
    found = elements(page, 'input', 'select', 'textarea')
    labelled = {one['for'] for one in elements(page, 'label') if 'for' in one}
    for one in found:
        if one.get('type') != 'hidden':
            assert one['id'] in labelled or one.get('aria-label'), one
    ids = [one['id'] for one in elements(page, *IDENTIFIED) if 'id' in one]
    assert len(ids) == len(set(ids))
    described = {word for one in found for word in one.get('aria-describedby', '').split()}
    assert described <= set(ids)
    check_harmless(page)


def check_harmless(page: str) -> None:
    """Check that a page has our script alone, no style, and no handler of events."""
    parts = [*re.findall(r'<(\w+)', page)]
    assert elements(page, 'script') == [{'src': '/static/nanoml.js', 'defer': ''}]
    assert not {'style', 'iframe', 'object', 'embed', 'base'} & set(parts)
    for one in elements(page, *set(parts)):
        assert not [name for name in one if name.startswith('on') or name == 'style'], one
        assert not one.get('href', '').lower().startswith('javascript')
        assert not one.get('src', '/').startswith(('http', '//', 'data:'))


def test_every_action_has_a_page(browser: Browser, third_party_path: str) -> None:
    listed = browser.get('/actions')
    check_page(listed)
    on_pages = {name for name in action_names() if not action_class(name).in_terminal_only}
    assert 'largest' in on_pages
    assert {'quickstart', 'portal_grant'} <= set(action_names()) - on_pages
    assert {one['href'] for one in elements(listed, 'a') if one.get('href', '').startswith('/actions/')} == {
        f'/actions/{name}' for name in on_pages
    }
    for name in on_pages:
        page = browser.get(f'/actions/{name}')
        check_page(page)
        assert f'action="/actions/{name}"' in page
    for name in set(action_names()) - on_pages:
        assert 'command line alone' in browser.get(f'/actions/{name}', status=404)
    browser.get('/actions/nonsense', status=404)


def test_fields_offer_registered_names(browser: Browser, third_party_path: str) -> None:
    page = browser.get('/actions/label')
    [field] = [one for one in elements(page, 'input') if one.get('name') == 'engine']
    names = page[page.index(f'<datalist id="{field["list"]}">') :].partition('</datalist>')[0]
    assert {'siesta', 'xtb', 'paced'} <= {one['value'] for one in elements(names, 'option')}
    assert 'value="quadruplets"' in browser.get('/actions/build_dataset')


def test_an_action_of_another_package_runs(browser: Browser, finish, chains, third_party_path: str) -> None:
    page = browser.get('/actions/largest')
    assert '>chains · 3 structures' in page
    result = finish('largest', structures='chains', count='2')
    assert 'done' in result
    assert 'chain 5 5 chain 3 3' in result
    assert 'aiida-nanoml structures largest chains --count 2' in result


def test_the_next_step_is_a_filled_form(browser: Browser, chains, third_party_path: str) -> None:
    page = browser.post('/actions/largest', {'structures': 'chains'}).text
    [link] = [one['href'] for one in elements(page, 'a') if one.get('class') == 'button']
    assert link == '/actions/show_structures?node=chains'
    following = browser.get(link)
    assert re.search(r'<option value="chains" selected>', following)


def test_errors_stand_at_their_fields(browser: Browser, chains, third_party_path: str) -> None:
    form = {'structures': 'chains', 'count': '0', 'spacing': 'wide', 'longest': '1'}
    page = browser.post('/actions/largest', form, status=422).text
    check_page(page)
    assert 'id="field-spacing-error">&#39;wide&#39; is not a number' in page
    page = browser.post('/actions/largest', form | {'spacing': '2'}, status=422).text
    assert 'id="field-count-error">Input should be greater than or equal to 1' in page
    page = browser.post('/actions/largest', form | {'spacing': '2', 'count': '1'}, status=422).text
    assert 'id="field-longest-error">“longest” must not be below “spacing”' in page
    assert 'value="2"' in page, 'what was typed stays'
    page = browser.post('/actions/largest', {'structures': 'gone'}).text
    assert 'id="field-structures-error">there is no node &#39;gone&#39;' in page


def test_a_file_that_is_not_there_is_told_at_its_field(browser: Browser) -> None:
    page = browser.post('/actions/import_structures', {'file': 'none.xyz'}, status=422).text
    assert 'there is no file none.xyz' in page


def test_files_of_an_action_are_those_of_the_user(browser: Browser, finish, chains) -> None:
    for path in ('../x.xyz', '/tmp/x.xyz', 'a/../../x.xyz', '.x.xyz'):  # noqa: S108
        page = browser.post('/actions/export_structures', {'node': 'chains', 'output': path}, status=422).text
        assert re.search('id="field-output-error">.*(no name of a file here|more than)', page)
    result = finish('export_structures', node='chains', output='chains.extxyz')
    assert 'Wrote chains.extxyz' in result
    assert [entry.path for entry in browser.app.site.files.entries()] == ['chains.extxyz']
    page = browser.get('/actions/import_structures')
    assert '<option value="chains.extxyz">' in page
    assert 'exists already' in finish('export_structures', node='chains', output='chains.extxyz')


def test_a_figure_is_shown(browser: Browser) -> None:
    page = browser.post('/actions/rmatrix_example', {'n_energies': '50', 'n_basis': '64', 'plot': 'barrier.png'}).text
    check_page(page)
    assert '<img class="figure" src="/files/download/barrier.png"' in page
    response = browser.client.get('/files/download/barrier.png')
    assert response.content.startswith(b'\x89PNG')
    assert response.headers['content-type'] == 'image/png'


def test_an_estimate_runs_nothing(browser: Browser, chains) -> None:
    page = browser.post('/actions/label/estimate', {'structures': 'chains', 'batch_size': '2'}).text
    assert '<dt>jobs</dt><dd>2</dd>' in page
    assert 'aiida-nanoml label chains --batch-size 2 --estimate' in page
    assert orm.QueryBuilder().append(orm.ProcessNode).count() == 0


@pytest.mark.parametrize('payload', [' '.join(PAYLOADS[:5]), ' '.join(PAYLOADS[5:])], ids=['breaking', 'odd'])
def test_no_text_becomes_part_of_a_page(browser: Browser, make_chains, payload: str, third_party_path: str) -> None:
    node = StructureSetData(make_chains(2), label=payload, description=payload).store()
    node.base.extras.set('note', payload)
    fields = {
        'structures': payload,
        'engine': payload,
        'parameters': f'a={payload}',
        'name': payload,
        'batch_size': payload,
    }
    pages = [
        browser.get('/'),
        browser.get(f'/nodes/{node.uuid}'),
        browser.get('/actions/label'),
        browser.client.get('/actions/label', params=fields).text,
        browser.post('/actions/label', fields, status=422).text,
        browser.post('/actions/relabel', {'node': str(node.pk), 'name': payload}, status=None).text,
        browser.post('/actions/list_nodes', {'name': payload}).text,
        browser.get('/runs'),
        browser.client.get(f'/actions/{payload}').text,
        browser.client.get(f'/files/view/{payload}').text,
    ]
    for page in pages:
        check_harmless(page)
        assert '49' not in re.findall(r'\{\{|\b49\b', page)


def test_a_node_shows_where_it_comes_from(browser: Browser, chains) -> None:
    process = orm.CalcJobNode()
    process.set_process_label('LabelCalculation')
    process.set_process_state(ProcessState.FINISHED)
    process.set_exit_status(0)
    process.base.links.add_incoming(chains, LinkType.INPUT_CALC, 'structures')
    process.store()
    page = browser.get(f'/nodes/{chains.uuid}')
    check_page(page)
    assert 'chain 5' in page, 'what it draws for a notebook'
    assert '<svg' in page
    assert f'href="/processes/{process.uuid}"' in page
    assert f'href="/actions/label?structures={chains.pk}"' in page
    assert text_of(page).index('label Compute') < text_of(page).index('trace Show'), 'its own kind comes first'
    page = browser.get(f'/processes/{process.uuid}')
    check_page(page)
    assert f'href="/nodes/{chains.uuid}"' in page
    assert 'LabelCalculation · finished' in text_of(page)
    assert 'LabelCalculation' in browser.get('/processes')


def test_files_of_a_node_are_saved_not_shown(browser: Browser) -> None:
    import io

    node = orm.FolderData()
    node.base.repository.put_object_from_filelike(io.BytesIO(b'<svg onload="alert(1)"/>'), 'inner/x.svg')
    node.store()
    page = browser.get(f'/nodes/{node.uuid}')
    assert f'<img class="figure" src="/nodes/{node.uuid}/files/inner/x.svg"' in page
    response = browser.client.get(f'/nodes/{node.uuid}/files/inner/x.svg')
    assert response.headers['content-type'] == 'image/svg+xml'
    assert response.headers['content-disposition'].startswith('attachment')
    assert response.headers['content-security-policy'].startswith('sandbox')
    for name in ('nothing', 'inner', '../x', '%2e%2e/x'):
        assert browser.client.get(f'/nodes/{node.uuid}/files/{name}').status_code == 404, name


def test_the_desk_says_what_waits_and_offers_what_helps(browser: Browser, chains) -> None:
    campaign = orm.WorkChainNode()
    campaign.set_process_label('LabelWorkChain')
    campaign.set_process_type('aiida.workflows:nanoml.label')
    campaign.set_process_state(ProcessState.WAITING)
    campaign.base.links.add_incoming(chains, LinkType.INPUT_WORK, 'structures')
    campaign.label = 'night run'
    campaign.store()
    note_submitted(campaign)
    browser.app.site.orm.ready = True
    page = browser.get('/')
    check_page(page)
    assert 'night run (waiting): no daemon runs Continue it' in text_of(page)
    assert 'action="/actions/resume_campaign"' in page
    assert f'name="node" value="{campaign.pk}"' in page
    for title in ('CBN_ANN', 'SIESTA and engines', 'R-MATRIX', 'Alloys', 'Densities', 'Provenance'):
        assert title in page
    assert f'href="/nodes/{chains.uuid}"' in page
    page = browser.get(f'/processes/{campaign.uuid}')
    check_page(page)
    assert 'It stands still: no daemon runs' in text_of(page)


def test_progress_comes_as_events(browser: Browser, chains) -> None:
    process = orm.CalcJobNode()
    process.set_process_label('LabelCalculation')
    process.set_process_state(ProcessState.FINISHED)
    process.set_exit_status(0)
    process.base.links.add_incoming(chains, LinkType.INPUT_CALC, 'structures')
    process.store()
    response = browser.client.get(f'/processes/{process.uuid}/events')
    assert response.headers['content-type'].startswith('text/event-stream')
    [line] = [line for line in response.text.splitlines() if line.startswith('data: ')]
    look = json.loads(line.removeprefix('data: '))
    assert look == {'state': 'finished', 'progress': {'labelling': [3, 3]}, 'ended': True}


def test_applications_have_pages(browser: Browser) -> None:
    from aiida_nanoml.web.applications import OURS

    names = set(action_names())
    for application in OURS:
        assert set(application.actions) <= names, 'an action that is not there'
        page = browser.get(f'/applications/{application.name}')
        check_page(page)
        for action in application.actions:
            assert f'href="/actions/{action}"' in page
    browser.get('/applications/nonsense', status=404)


def test_a_run_that_was_killed_says_so(browser: Browser) -> None:
    runs = browser.app.site.runs
    name = runs.create('list_nodes', [], estimates=False)
    with runs.path(name).open('a') as file:
        file.write('{"event": "begun", "pid": 1}\n')
    page = browser.get(f'/runs/{name}')
    assert 'Its process ended without a result' in page
    assert runs.read(name).state == 'lost'


def test_only_the_last_runs_are_kept(browser: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr('aiida_nanoml.web.runs.KEPT', 3)
    for _ in range(5):
        browser.post('/actions/list_nodes', {})
    runs = browser.app.site.runs
    assert len(runs.newest(10)) == 3
    for name in ('../x', 'x', '20260101000000-0123456789ab'):
        assert browser.client.get(f'/runs/{name}').status_code == 404


def test_a_storage_that_cannot_be_opened_is_told(browser: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise ActionError('the storage is of a newer version')

    monkeypatch.setattr('aiida_nanoml.actions.nodes.load_storage', refuse)
    browser.app.site.orm.ready = True
    for path in ('/', '/processes', '/actions/label'):
        assert 'the storage is of a newer version' in browser.get(path, status=500)
