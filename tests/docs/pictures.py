"""Draw the figures of the gallery again, by the pages that it names: ``python -m tests.docs.pictures``."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from tests.docs import test_docs as pages

GALLERY = pages.DOCS / 'gallery.md'
ENTRY = re.compile(
    r'!\[[^\]]+\]\((?P<image>[^)]+)\)\n\n```bash\n(?P<command>.*?)\n```\n\n\[[^\]]+\]\((?P<page>[^)]+)\)'
)


class Entry(NamedTuple):
    """A figure of the gallery.

    :param image: its file.
    :param command: what draws it.
    :param page: where the command is run.
    """

    image: Path
    command: str
    page: Path

    @property
    def runs(self) -> bool:
        """Whether the page runs the command, as the tests do."""
        return any(block.kind == 'console' and self.command in block.text for block in pages.blocks(self.page))


def entries() -> list[Entry]:
    """Read the gallery."""
    found = ENTRY.finditer(GALLERY.read_text(encoding='utf-8'))
    return [Entry(pages.DOCS / one['image'], one['command'], pages.DOCS / one['page']) for one in found]


def main() -> None:
    """Run the pages, and copy what they draw."""
    wanted = [entry for entry in entries() if entry.runs]
    for chain in pages.CHAINS:
        drawn = [entry for entry in wanted if str(entry.page.relative_to(pages.ROOT)) in chain]
        if not drawn:
            continue
        with tempfile.TemporaryDirectory() as folder:
            pages.run_chain(chain, Path(folder))
            for entry in drawn:
                save_small(Path(folder) / 'work' / entry.image.name, entry.image)


def save_small(figure: Path, image: Path) -> None:
    """Write half of the dots and 256 colours of a figure, enough for a page."""
    with Image.open(figure) as drawn:
        drawn.convert('RGB').reduce(2).quantize(256).save(image, optimize=True)


if __name__ == '__main__':
    main()
