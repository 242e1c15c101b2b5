"""The pages of R-MATRIX: from a text to V(x) and T(E)."""

from __future__ import annotations

import csv
import io
import re

import numpy as np
import pytest

from aiida_nanoml.transport.files import EXAMPLE, parse_input
from aiida_nanoml.transport.settings import TransmissionSettings
from aiida_nanoml.transport.transmission import compute_transmission
from aiida_nanoml.web.charts import Axis, line_chart
from tests.web.conftest import OURS, Browser, elements, text_of

PAGE = '/applications/rmatrix/'
COMPUTE = f'{PAGE}compute'
TEXT = EXAMPLE.read_text()


@pytest.fixture
def small() -> str:
    """The example with fewer cosines and energies."""
    return re.sub(r'N_energies \d+', 'N_energies 60', re.sub(r'Nb \d+', 'Nb 64', TEXT))


def marks(page: str) -> list[dict[str, str]]:
    return [line for line in elements(page, 'line') if line.get('class') == 'mark']


def test_the_example_is_filled_in_computed_shown_and_downloaded(browser: Browser, small: str) -> None:
    page = browser.get(PAGE)
    assert f'spellcheck="false" aria-describedby="text-hint">{TEXT.splitlines()[0]}\n' in page.replace('\r\n', '\n')

    page = browser.post(COMPUTE, {'text': small.replace('\n', '\r\n')}).text
    content = parse_input(small.encode())
    expected = compute_transmission(content.potential, TransmissionSettings.from_dict(content.settings))
    assert 'class="state done"' in page
    charts = [one['aria-label'] for one in elements(page, 'svg') if one.get('class') == 'chart']
    inside = expected.resonance_energies[expected.resonance_energies <= expected.energies[-1]]
    assert charts == ['Potential V(x)', f'Transmission T(E) with {len(expected.resonance_energies)} resonances']
    assert len(marks(page)) == len(inside) > 3
    potential, transmission = (one['points'] for one in elements(page, 'polyline'))
    assert len(transmission.split()) == 60
    assert len({point.split(',')[1] for point in potential.split()}) == 2, 'a barrier: inside and outside'
    assert 'on a linear scale' not in page, 'half of it is not small'

    table = browser.client.get(next(one['href'] for one in elements(page, 'a') if one.get('href', '').endswith('.csv')))
    rows = list(csv.DictReader(io.StringIO(table.text)))
    assert table.headers['content-disposition'].startswith('attachment')
    np.testing.assert_allclose([float(row['E_eV']) for row in rows], expected.energies, rtol=1e-12)
    np.testing.assert_allclose([float(row['T']) for row in rows], expected.values, rtol=1e-9)
    figure = next(one['href'] for one in elements(page, 'a') if one.get('href', '').endswith('.png'))
    assert browser.client.get(figure).content.startswith(b'\x89PNG')
    command = text_of(page[page.index('id="command"') :]).split('>')[1]
    assert re.match(r'aiida-nanoml rmatrix run rmatrix-[\w-]+\.txt --no-store', command)

    assert [one for one in elements(page, 'a') if one.get('href') == '?scale=log']
    run = re.search(r'results/(\d{14}-\w+)/', page)[1]
    logarithmic = browser.get(f'{PAGE}results/{run}?scale=log')
    assert elements(logarithmic, 'polyline')[1]['points'] != transmission
    assert '1e-20' in logarithmic


def test_what_cannot_be_read_is_told_and_kept(browser: Browser) -> None:
    wrong = TEXT.replace('Nb 512', 'Nb five')
    page = browser.post(COMPUTE, {'text': wrong, 'store': 'true'}, 422).text
    assert 'line 3' in text_of(page)
    assert 'Nb five' in page
    assert [one for one in elements(page, 'input') if one.get('name') == 'store' and 'checked' in one]
    assert 'there is no input' in browser.post(COMPUTE, {'text': ' \n'}, 422).text
    attack = '</textarea><script>alert(1)</script>'
    assert '<script>alert' not in browser.post(COMPUTE, {'text': attack}, 422).text
    assert not browser.app.site.files.entries(), 'nothing was written'
    assert not browser.app.site.runs.newest(1)


def test_a_file_takes_the_place_of_the_text(browser: Browser, small: str) -> None:
    send = {'files': {'file': ('../../mine.txt', small.encode())}}
    page = browser.post(COMPUTE, {'text': 'nonsense'}, **send).text
    assert 'class="state done"' in page
    [source] = [
        one.path for one in browser.app.site.files.entries() if re.fullmatch(r'rmatrix-\d{8}-[\w-]+\.txt', one.path)
    ]
    assert (browser.app.site.files.root / source).read_text() == small
    large = {'files': {'file': ('large.txt', small.encode() + b'#' * 2_500_000)}}
    assert 'large.txt is larger than 2 MB' in browser.post(COMPUTE, {}, 422, **large).text


def test_what_needs_much_memory_is_a_job(browser: Browser, small: str) -> None:
    """4,000 cosines are valid, and take half a minute and 1.1 GB: not in a process without limits."""
    started: list[str] = []
    object.__setattr__(browser.app.site, 'start', started.append)  # nothing is computed here
    for text, stored in ((small, False), (small.replace('Nb 64', 'Nb 4000'), True)):
        response = browser.client.post(
            COMPUTE, data={'token': browser.token, 'text': text}, headers=OURS, follow_redirects=False
        )
        assert response.status_code == 303
        run = browser.app.site.runs.read(started[-1])
        assert ('no_store' not in dict(run.form)) == stored


def test_runs_of_other_actions_are_not_shown(browser: Browser) -> None:
    browser.post('/actions/list_nodes', {'unnamed': 'true'})
    [run] = browser.app.site.runs.newest(1)
    for path in (f'{PAGE}results/{run.name}', f'{PAGE}results/{run.name}/transmission.csv'):
        assert 'is no transmission of this page' in browser.get(path, 404)


def test_axes_have_round_ticks_and_curves_keep_their_peaks() -> None:
    axis = Axis('E (eV)', 0.0, 0.3, 0.0, 300.0)
    assert axis.ticks == [(50.0 * i, f'{0.05 * i:.2f}') for i in range(7)]
    assert axis.places([0.15]) == pytest.approx([150.0])
    logarithmic = Axis('T', -12, 0, 100.0, 0.0, logarithmic=True)
    assert logarithmic.ticks[0] == (100.0, '1e-12')
    assert logarithmic.places([1e-6, 1e-20]) == pytest.approx([50.0, 100.0])
    x = np.linspace(0, 1, 100_001)
    peak = np.where(np.arange(len(x)) == 45_678, 1.0, 0.0)
    chart = line_chart('peak', ('x', x), ('y', peak))
    points = np.array([point.split(',') for point in chart.points.split()], dtype=float)
    assert len(points) < 2500
    assert points[points[:, 1].argmin(), 0] == pytest.approx(chart.x.places(0.45678), abs=0.06)
    with pytest.raises(ValueError, match='above zero'):
        line_chart('nothing', ('x', [0, 1]), ('y', [0, 0]), logarithmic=True)
    flat = line_chart('flat', ('x', [0, 1]), ('y', [2, 2]))
    assert len({point.split(',')[1] for point in flat.points.split()}) == 1
