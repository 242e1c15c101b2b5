"""Write a result, and all that it rests on, into a folder for a data repository."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import AfterValidator

from aiida_nanoml.actions.base import FileAction, Result, Step, step
from aiida_nanoml.actions.errors import InputError
from aiida_nanoml.actions.fields import AnyNode, argument, option, output_option
from aiida_nanoml.actions.session import Session

if TYPE_CHECKING:
    from aiida_nanoml.provenance.publication import Publication

_AUTHOR = re.compile(
    r'\s*(?P<name>[^<>,]+?)\s*(<\s*(?P<email>[^<>\s]+@[^<>\s]+)\s*>)?\s*'
    r'(,\s*(https://orcid\.org/)?(?P<orcid>\d{4}-\d{4}-\d{4}-\d{3}[\dX]))?\s*'
)


def parse_author(text: str) -> dict[str, str]:
    """Read name, email and ORCID of an author; a part that is not given is empty.

    :param text: ``Name``, with ``<email>`` and ``, ORCID`` if they are known.
    :raises ValueError: the text has another form, or the check digit of the ORCID is wrong.
    """
    found = _AUTHOR.fullmatch(text)
    if found is None:
        raise ValueError(f'{text!r} is not of the form "Name <email>, ORCID", as "Ada Lovelace <ada@example.org>"')
    if found['orcid'] and found['orcid'][-1] != orcid_check_digit(found['orcid']):
        raise ValueError(f'the ORCID {found["orcid"]} has a wrong digit: its last one does not fit the others')
    return {name: part or '' for name, part in found.groupdict().items()}


def orcid_check_digit(orcid: str) -> str:
    """Return the last digit that the other digits of an ORCID require (ISO 7064, MOD 11-2)."""
    total = 0
    for digit in orcid.replace('-', '')[:-1]:
        total = (total + int(digit)) * 2
    return '0123456789X'[(12 - total % 11) % 11]


def _check_author(text: str) -> str:
    parse_author(text)
    return text


Author = Annotated[str, AfterValidator(_check_author)]


class Publish(FileAction):
    """Write NODE, and all that it rests on, into a folder for a data repository.

    In it: an AiiDA archive of the node and its ancestors, a Workflow Run RO-Crate, a data statement in Markdown and
    LaTeX, references, tables, figures with the commands that make them, a README, a licence and checksums. The archive
    is checked: every node with its hash, every link, every file. What an audit finds is part of the statement.
    """

    action: ClassVar[str] = 'publish'
    command: ClassVar[tuple[str, ...]] = ('publish',)
    example: ClassVar[str] = (
        'aiida-nanoml publish predictions -o gaps --author "Ada Lovelace <ada@example.org>" --title "Gaps"'
    )

    nodes: tuple[AnyNode, ...] = argument('Nodes to publish.', metavar='NODE...', min_length=1)
    output: Path = output_option('Folder to make.', required=True, exists='new folder')
    title: str = option('', 'Title; default: the labels of the nodes.')
    authors: tuple[Author, ...] = option(
        (), '"Name <email>, ORCID"; repeatable. Default: the user of AiiDA who stored the node.', options=('--author',)
    )
    licence: str = option('CC-BY-4.0', 'Terms of use, by their SPDX identifier.')
    despite_audit: bool = option(False, 'Publish although the audit finds errors; the data statement quotes them.')

    def perform(self, session: Session) -> Result:
        """Write the folder."""
        from aiida_nanoml.provenance.publication import AuditFailedError, Person, publish

        try:
            made = publish(
                self.load_all('nodes'),
                self.output,
                title=self.title,
                authors=[Person(**parse_author(author)) for author in self.authors],
                licence=self.licence,
                force=self.force,
                despite_audit=self.despite_audit,
            )
        except AuditFailedError as error:
            raise InputError(f'{error}, mend it, or publish nevertheless with {{despite_audit}}') from error
        return PublishResult(made, self.output)


@dataclass(frozen=True)
class PublishResult(Result):
    """A folder for a data repository.

    :param publication: what was published.
    :param folder: where it is.
    """

    publication: Publication
    folder: Path

    def to_dict(self) -> dict[str, Any]:
        """Return nodes, files and references."""
        return self.publication.to_dict()

    def lines(self) -> str:
        """Return counts of the folder as text."""
        return self.publication.render()

    def next_step(self) -> Step:
        """Trace the first node in the archive that was written."""
        return step('trace', node=self.publication.nodes[0], archive=self.folder / 'archive.aiida')
