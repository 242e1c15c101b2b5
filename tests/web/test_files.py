"""Files of the user: nothing outside of their folder is opened, whatever a name says."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiida_nanoml.web.files import DEEPEST, UserFileError, UserFiles
from tests.web.conftest import Browser, text_of

SECRET = b'a secret'
N_NAMES = 10_000
PARTS = (
    *(
        '..',
        '.',
        '',
        '/',
        '//',
        '\\',
        '~',
        '-rf',
        '\0',
        '\n',
        '\r',
        '%2e%2e',
        '%00',
        '..%2f',
        '．．',
        '‥',
        'ａ',
        '\u202e',
    ),
    *(
        'link',
        'folder_link',
        'pipe',
        'inner',
        'a.txt',
        'secret',
        'outside',
        ' ',
        'é',
        'e\u0301',
        'x' * 300,
        'CON',
        '\ud800',
    ),
    *(
        'proc',
        'self',
        'root',
        'etc',
        'passwd',
        '*',
        '$HOME',
        '`id`',
        '${x}',
        ';',
        '|',
        "'",
        '"',
        '<b>',
        '\u0085',
        '\x7f',
    ),
)
"""What attacks are made of, with the names of all that lies in the folder, and beside it."""


@pytest.fixture
def files(tmp_path: Path) -> UserFiles:
    """A folder with a file, links out of it, and a pipe that nobody writes to."""
    outside = tmp_path / 'outside'
    outside.mkdir()
    (outside / 'secret').write_bytes(SECRET)
    made = UserFiles(tmp_path / 'files', 1000)
    (made.root / 'a.txt').write_text('mine')
    (made.root / 'inner').mkdir()
    (made.root / 'inner' / 'b.txt').write_text('mine, too')
    (made.root / 'link').symlink_to(outside / 'secret')
    (made.root / 'folder_link').symlink_to(outside)
    os.mkfifo(made.root / 'pipe')
    return made


async def parts(*contents: bytes) -> AsyncIterator[bytes]:
    for content in contents:
        yield content


def write(files: UserFiles, path: str, *contents: bytes) -> None:
    asyncio.run(files.write(path, parts(*contents)))


def attack(files: UserFiles, path: str) -> None:
    """Use a path for everything; what can be opened is one of the two files."""
    before = {entry.path for entry in files.entries()}
    try:
        with files.open(path) as handle:
            assert os.path.realpath(f'/proc/self/fd/{handle.fileno()}').startswith(f'{files.root}/')
            assert handle.read() in (b'mine', b'mine, too')
    except UserFileError:
        pass
    try:
        write(files, path, b'new')
    except UserFileError:
        assert {entry.path for entry in files.entries()} == before
    else:
        [new] = {entry.path for entry in files.entries()} - before
        assert new == path
        files.delete(path)
    try:
        files.delete(path)
    except UserFileError:
        pass
    else:
        assert path in before | {'link', 'folder_link', 'pipe'}
    assert (files.root.parent / 'outside' / 'secret').read_bytes() == SECRET
    assert sorted(os.listdir(files.root.parent)) == ['files', 'outside']


def test_ten_thousand_names_open_nothing_outside(files: UserFiles) -> None:
    """The seed is fixed: with these names, and those that others draw below, nothing is left to chance."""
    draw = random.Random(19)  # noqa: S311
    for _ in range(N_NAMES):
        words = draw.choices(PARTS, k=draw.randint(1, 5))
        path = draw.choice(('/', '', '/../')).join(words)
        try:
            with files.open(path) as handle:
                content = handle.read()
        except UserFileError:
            continue
        assert content in (b'mine', b'mine, too'), path


@settings(max_examples=60, deadline=None, database=None)
@given(path=st.one_of(st.text(max_size=40), st.lists(st.sampled_from(PARTS), max_size=6).map('/'.join)))
def test_no_name_reads_writes_or_deletes_anything_outside(path: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    attack(files.__wrapped__(tmp_path_factory.mktemp('attack')), path)


@pytest.mark.parametrize(
    'path', ['link', 'folder_link/secret', 'pipe', '../outside/secret', 'inner/../../outside/secret']
)
def test_links_pipes_and_ways_out_are_not_there(files: UserFiles, path: str) -> None:
    with pytest.raises(UserFileError):
        files.open(path)
    with pytest.raises(UserFileError):
        files.read_text(path)
    with pytest.raises(UserFileError):
        files.check_exists(path, folder=False)
    with pytest.raises(UserFileError):
        write(files, path, b'over it')
    assert (files.root.parent / 'outside' / 'secret').read_bytes() == SECRET


def test_a_link_that_took_the_place_of_a_folder_is_not_followed(files: UserFiles) -> None:
    (files.root / 'inner').rename(files.root / 'moved')
    (files.root / 'inner').symlink_to(files.root.parent / 'outside')
    for path in ('inner/secret', 'inner/new'):
        with pytest.raises(UserFileError, match='there is no file'):
            write(files, path, b'x')
    files.delete('inner')
    assert (files.root.parent / 'outside' / 'secret').read_bytes() == SECRET


def test_only_plain_files_and_folders_are_listed(files: UserFiles) -> None:
    assert [(entry.path, entry.folder, entry.size) for entry in files.entries()] == [
        ('a.txt', False, 4),
        ('inner', True, 0),
        ('inner/b.txt', False, 9),
    ]
    assert [entry.path for entry in files.entries(folders=True)] == ['inner']


def test_an_upload_beyond_the_quota_leaves_nothing(files: UserFiles) -> None:
    write(files, 'most', b'x' * 900)
    with pytest.raises(UserFileError, match='may take 0 MB in all'):
        write(files, 'more', b'x' * 80, b'x' * 80)
    assert [entry.path for entry in files.entries(folders=False)] == ['a.txt', 'inner/b.txt', 'most']


def test_a_file_is_not_replaced(files: UserFiles) -> None:
    with pytest.raises(UserFileError, match='exists already'):
        write(files, 'a.txt', b'other')
    assert files.read_text('a.txt') == ('mine', True)


def test_a_path_is_not_too_deep(files: UserFiles) -> None:
    with pytest.raises(UserFileError, match=f'more than {DEEPEST} parts'):
        files.open('/'.join(['inner'] * (DEEPEST + 1)))


def test_a_person_uploads_looks_downloads_and_deletes(browser: Browser) -> None:
    content = b'<script>alert(1)</script>\n'
    browser.post('/files', {}, files=[('file', ('page.html', content)), ('file', ('x.dat', b'1 2\n'))])
    page = browser.get('/files')
    assert 'page.html' in page
    view = browser.get('/files/view/page.html')
    assert '<script>alert' not in view
    assert '&lt;script&gt;alert(1)' in view
    response = browser.client.get('/files/download/page.html')
    assert response.content == content
    assert response.headers['content-type'] == 'application/octet-stream'
    assert response.headers['content-disposition'].startswith('attachment')
    assert response.headers['content-security-policy'].startswith('sandbox')
    assert 'page.html' not in browser.post('/files/delete/page.html', {}).text
    browser.get('/files/view/page.html', status=404)


@pytest.mark.parametrize('name', ['../up.txt', '..', '.bashrc', 'a\\b', '-rf', 'no/folder.txt', 'x' * 300])
def test_an_upload_with_a_bad_name_is_refused_in_words(browser: Browser, name: str) -> None:
    page = text_of(browser.post('/files', {}, status=422, files={'file': (name, b'x')}).text)
    assert 'no name of a file here' in page or 'there is no file' in page or 'more than 200 bytes' in page
    assert browser.app.site.files.entries() == []


def test_too_much_is_refused_before_it_is_kept(browser: Browser) -> None:
    page = browser.post('/files', {}, status=422, files={'file': ('large', b'x' * 1_100_000)}).text
    assert 'your files may take 1 MB in all' in page
    response = browser.client.post(
        '/files',
        data={'token': browser.token},
        files={'file': ('huge', b'x' * 3_100_000)},
        headers=dict(origin='http://127.0.0.1:8000', **{'sec-fetch-site': 'same-origin'}),
    )
    assert response.status_code == 413
    assert browser.app.site.files.entries() == []
