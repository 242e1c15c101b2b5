"""The gallery: each figure is there, and its command is one of the page that it names."""

from __future__ import annotations

import pytest

from tests.docs import test_docs as pages
from tests.docs.pictures import GALLERY, Entry, entries

SHOWN = GALLERY.read_text(encoding='utf-8')


def test_all_figures_have_a_command_and_a_page() -> None:
    assert len(entries()) == SHOWN.count('![') == SHOWN.count('```bash')


@pytest.mark.parametrize('entry', entries(), ids=lambda entry: entry.image.name)
def test_the_command_stands_on_its_page(entry: Entry) -> None:
    assert entry.image.read_bytes().startswith(b'\x89PNG')
    page = entry.page.read_text(encoding='utf-8')
    assert entry.command in page
    if entry.runs:
        assert entry.image.name in entry.command
    else:
        excuses = [block.text for block in pages.blocks(entry.page) if block.kind == 'bash']
        assert any(entry.command in text for text in excuses) or entry.command.startswith('python benchmarks/')
