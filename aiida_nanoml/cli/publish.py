"""``aiida-nanoml publish``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import click

from aiida_nanoml.cli.options import FORCE, JSON, AnyNode, example
from aiida_nanoml.cli.output import emit

_AUTHOR = re.compile(
    r'\s*(?P<name>[^<>,]+?)\s*(<\s*(?P<email>[^<>\s]+@[^<>\s]+)\s*>)?\s*'
    r'(,\s*(https://orcid\.org/)?(?P<orcid>\d{4}-\d{4}-\d{4}-\d{3}[\dX]))?\s*'
)


class Author(click.ParamType):
    """An author: ``Name``, with ``<email>`` and ``, ORCID`` where they are known."""

    name = 'author'

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Read the parts."""
        found = _AUTHOR.fullmatch(value)
        if found is None:
            self.fail(
                f'{value!r} is not of the form "Name <email>, ORCID", as "Ada Lovelace <ada@example.org>"', param, ctx
            )
        if found['orcid'] and not _checks(found['orcid']):
            self.fail(f'the ORCID {found["orcid"]} has a wrong digit: its last one does not fit the others', param, ctx)
        return {name: text or '' for name, text in found.groupdict().items()}


def _checks(orcid: str) -> bool:
    """Tell whether the last digit of an ORCID fits the others (ISO 7064, MOD 11-2)."""
    total = 0
    for digit in orcid.replace('-', '')[:-1]:
        total = (total + int(digit)) * 2
    return orcid[-1] == '0123456789X'[(12 - total % 11) % 11]


@click.command(
    epilog=example('aiida-nanoml publish predictions -o gaps --author "Ada Lovelace <ada@example.org>" --title "Gaps"')
)
@click.argument('nodes', type=AnyNode(), nargs=-1, required=True, metavar='NODE...')
@click.option(
    '-o',
    '--output',
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help='Folder to make.',
)
@click.option('--title', default='', help='Title; default: the labels of the nodes.')
@click.option(
    '--author',
    'authors',
    type=Author(),
    multiple=True,
    help='"Name <email>, ORCID"; repeatable. Default: the user of AiiDA who stored the node.',
)
@click.option('--licence', default='CC-BY-4.0', show_default=True, help='Terms of use, by their SPDX identifier.')
@FORCE
@JSON
def publish(
    nodes: tuple[Any, ...],
    output: Path,
    title: str,
    authors: tuple[dict[str, str], ...],
    licence: str,
    force: bool,
    as_json: bool,
) -> None:
    """Write NODE, and all that it rests on, into a folder for a data repository.

    In it: an AiiDA archive of the node and its ancestors, a Workflow Run RO-Crate, a data statement in Markdown and
    LaTeX, references, tables, figures with the commands that make them, a README, a licence and checksums. The archive
    is checked: every node with its hash, every link, every file.
    """
    from aiida_nanoml.provenance.publication import Person
    from aiida_nanoml.provenance.publication import publish as publish_nodes

    made = publish_nodes(
        nodes,
        output,
        title=title,
        authors=[Person(**author) for author in authors],
        licence=licence,
        force=force,
    )
    emit(as_json, made.to_dict(), made.render(), f'trace {made.nodes[0]} --archive {output / "archive.aiida"}')
