"""Write a node and all that it rests on into a folder for a data repository."""

from __future__ import annotations

import datetime
import hashlib
import json
import shutil
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from aiida import orm
from aiida.common.links import LinkType

from aiida_nanoml.errors import ProvenanceError
from aiida_nanoml.provenance.audit import Audit, audit
from aiida_nanoml.provenance.audit.findings import ERROR
from aiida_nanoml.provenance.graph import ProvenanceGraph
from aiida_nanoml.provenance.lineage import starts, trace
from aiida_nanoml.provenance.publication import readme
from aiida_nanoml.provenance.publication.archive import Contents, check_archive, write_archive
from aiida_nanoml.provenance.publication.bibliography import Bibliography, build_bibliography
from aiida_nanoml.provenance.publication.crate import write_crate
from aiida_nanoml.provenance.publication.facts import (
    LICENCES,
    Facts,
    Person,
    left_out,
    participants,
    persons,
    versions,
)
from aiida_nanoml.provenance.publication.figures import Figure, write_figures
from aiida_nanoml.provenance.publication.statement import latex, markdown, sentences
from aiida_nanoml.provenance.publication.steps import abstract_workflow, find_steps
from aiida_nanoml.provenance.publication.tables import Table, write_tables
from aiida_nanoml.text import counted


class AuditFailedError(ProvenanceError):
    """The audit of a node finds errors: its result does not hold as it stands."""


@dataclass(frozen=True)
class Publication:
    """A written publication.

    :param folder: the folder.
    :param nodes: UUIDs of the published nodes.
    :param contents: contents of the archive, which was checked to have every ancestor with its hash, links and files.
    :param files: SHA-256 of every file, by its path in the folder.
    :param tables: files with tables.
    :param figures: files with figures.
    :param references: keys of the references.
    :param without_reference: what was used and has no known reference.
    :param dft: whether the nodes rest on DFT, or why not.
    """

    folder: str
    title: str
    authors: tuple[str, ...]
    licence: str
    nodes: tuple[str, ...]
    contents: Contents
    files: dict[str, str]
    size_bytes: int
    tables: tuple[str, ...]
    figures: tuple[str, ...]
    references: tuple[str, ...]
    without_reference: tuple[str, ...]
    dft: str

    def to_dict(self) -> dict[str, Any]:
        """Return everything in types of JSON."""
        return asdict(self)

    def render(self) -> str:
        """Return counts, contents and missing references as text."""
        contents = self.contents
        lines = [
            f'{self.folder}: {counted(len(self.files), "file")}, {self.size_bytes / 1e6:.1f} MB, {self.licence}',
            f'by {"; ".join(self.authors)}',
            f'archive: {contents.n_nodes} nodes, among them all {contents.n_ancestors} that the results rest on; '
            'hashes, links and files checked',
            self.dft,
            f'{counted(len(self.tables), "table")}, {counted(len(self.figures), "figure")}, '
            f'{counted(len(self.references), "reference")}',
        ]
        lines += [
            f'no reference is known for {what}: add it to {readme.BIBLIOGRAPHY}' for what in self.without_reference
        ]
        return '\n'.join(lines)


def publish(
    nodes: Sequence[orm.Node],
    folder: Path,
    *,
    title: str = '',
    authors: Sequence[Person] = (),
    licence: str = 'CC-BY-4.0',
    force: bool = False,
    despite_audit: bool = False,
) -> Publication:
    """Write a folder with nodes and all that they rest on, ready for a data repository.

    It is written under a temporary name and moved when it is complete, so that an interrupted publication leaves
    nothing behind.

    :param nodes: results of this package, or processes; at least one. A calculation is published with its outputs.
    :param folder: folder to make; its parent must exist.
    :param title: title of the publication; empty: the labels of the nodes.
    :param authors: authors; empty: the user of AiiDA who stored the first node.
    :param licence: identifier of the SPDX list, a key of :data:`~.facts.LICENCES`.
    :param force: replace a folder that was published before.
    :param despite_audit: publish although the audit finds errors; the statement quotes them.
    :raises AuditFailedError: the audit of a node finds errors.
    :raises ProvenanceError: a node cannot be published, the folder exists, the licence is unknown, or what was
        written is not valid.
    """
    _check_request(nodes, licence)
    title = title or ', '.join(node.label or f'{type(node).__name__} {node.uuid[:8]}' for node in nodes)
    nodes = list({found.uuid: found for node in nodes for found in _with_results(node)}.values())
    audits = _audit(nodes)
    if not despite_audit:
        _check_audits(audits)
    with _new_folder(folder, force) as place:
        graph = ProvenanceGraph.ancestors({pk for node in nodes for pk in starts(node)})
        write_archive(nodes, place / readme.ARCHIVE)
        contents = check_archive(place / readme.ARCHIVE, graph)
        facts = _facts(nodes, graph, title, authors, licence, audits)
        cited = build_bibliography(participants(graph, facts.lineage, facts.core_versions))
        tables, figures = _write_tables_and_figures(place, graph, facts)
        steps = find_steps(graph, facts.lineage)
        texts = _texts(facts, cited, figures)
        if steps.steps:
            texts[readme.WORKFLOW] = abstract_workflow(steps, facts.title)
        files = {*texts, readme.ARCHIVE, readme.CRATE, readme.CHECKSUMS}
        texts[readme.README] = readme.readme(facts, contents, tables, figures, files)
        for name, text in texts.items():
            (place / name).write_text(text, encoding='utf-8')
        write_crate(place, facts, graph, steps, _file_titles(texts, tables, figures))
        sums = _write_checksums(place)
        size = sum((place / name).stat().st_size for name in sums)
    return Publication(
        folder=str(folder),
        title=facts.title,
        authors=tuple(map(str, facts.authors)),
        licence=licence,
        nodes=tuple(node.uuid for node in nodes),
        contents=contents,
        files=sums,
        size_bytes=size,
        tables=tuple(table.name for table in tables),
        figures=tuple(figure.name for figure in figures),
        references=tuple(found.reference.key for found in cited.citations),
        without_reference=cited.missing,
        dft=facts.lineage.dft,
    )


def _write_tables_and_figures(
    folder: Path, graph: ProvenanceGraph, facts: Facts
) -> tuple[tuple[Table, ...], tuple[Figure, ...]]:
    """Write tables and figures into folders of their own, which are removed if nothing is in them."""
    places = [folder / name for name in (readme.TABLES, readme.FIGURES)]
    for place in places:
        place.mkdir()
    tables, figures = write_tables(places[0], graph, facts.lineage), write_figures(places[1], graph)
    for place, written in zip(places, (tables, figures), strict=True):
        if not written:
            place.rmdir()
    return tables, figures


def _texts(facts: Facts, cited: Bibliography, figures: Sequence[Figure]) -> dict[str, str]:
    """Return the content of the text files by name, except the workflow and the README."""
    statement = sentences(facts, cited)
    lineage = json.dumps(facts.lineage.to_dict(), indent=2, ensure_ascii=False, allow_nan=False)
    texts = {
        readme.STATEMENT: markdown(facts.title, statement),
        readme.STATEMENT_TEX: latex(statement),
        readme.BIBLIOGRAPHY: cited.bibtex(),
        readme.LINEAGE: f'{lineage}\n',
        readme.LICENCE: readme.licence_text(facts.licence, facts.authors, facts.published[:4]),
    }
    return texts | ({readme.COMMANDS: readme.commands(figures)} if figures else {})


def _file_titles(texts: Iterable[str], tables: Iterable[Table], figures: Iterable[Figure]) -> dict[str, str]:
    """Return the description of each file in the folder, by its path."""
    titles = {name: readme.FILES.get(name, name) for name in sorted({readme.ARCHIVE, readme.CHECKSUMS, *texts})}
    titles |= {f'{readme.TABLES}/{table.name}': table.title for table in tables}
    return titles | {f'{readme.FIGURES}/{figure.name}': figure.title for figure in figures}


def _facts(
    nodes: Sequence[orm.Node],
    graph: ProvenanceGraph,
    title: str,
    authors: Sequence[Person],
    licence: str,
    audits: tuple[Audit, ...],
) -> Facts:
    lineage = trace(*nodes)
    core, plugin = versions(graph)
    names = persons(set(lineage.users))
    email = graph.nodes[nodes[0].pk].user
    return Facts(
        title=title,
        authors=tuple(authors) or (Person(names[email], email),),
        licence=LICENCES[licence],
        published=datetime.datetime.now(datetime.UTC).date().isoformat(),
        nodes=tuple((node.uuid, graph.type_name(node.pk), node.label) for node in nodes),
        lineage=lineage,
        core_versions=core,
        plugin_versions=plugin,
        left_out=left_out(graph),
        persons=names,
        audits=audits,
    )


def _audit(nodes: Sequence[orm.Node]) -> tuple[Audit, ...]:
    """Audit the nodes that there is something to audit in."""
    found = []
    for node in nodes:
        with suppress(ProvenanceError):
            found.append(audit(node))
    return tuple(found)


def _check_audits(audits: Sequence[Audit]) -> None:
    """Check that no audit finds an error.

    :raises AuditFailedError: one does; names the first, and its node.
    """
    for found in audits:
        if found.counts[ERROR]:
            raise AuditFailedError(
                f'the audit of {found.node} finds {counted(found.counts[ERROR], "error")}: {found.findings[0].what}; '
                f'see `aiida-nanoml audit {found.node.pk}`'
            )


def _check_request(nodes: Sequence[orm.Node], licence: str) -> None:
    """Check that there are nodes to publish, and that the licence is known.

    :raises ProvenanceError: it is not so.
    """
    if not nodes:
        raise ProvenanceError('name at least one node to publish')
    if licence not in LICENCES:
        raise ProvenanceError(f'unknown licence {licence!r}; known: {", ".join(LICENCES)}')
    for node in nodes:
        _check_kind(node)


def _check_kind(node: orm.Node) -> None:
    """Check that a node is a result that can be published.

    :raises ProvenanceError: it is not stored, has not ended, or is only an input of others.
    """
    if not node.is_stored:
        raise ProvenanceError('the node is not stored: there is nothing to publish yet')
    if isinstance(node, orm.ProcessNode):
        if not node.is_sealed:
            raise ProvenanceError(
                f'{node.process_label} pk {node.pk} has not ended ({node.process_state and node.process_state.value}): '
                'publish it when it has'
            )
    elif isinstance(node, orm.AbstractCode | orm.RemoteData):
        raise ProvenanceError(
            f'pk {node.pk} ({type(node).__name__}) is no result: publish a prediction, a model, a data set, '
            'labels, structures, or a process'
        )


def _with_results(node: orm.Node) -> list[orm.Node]:
    """Return a node; of a calculation also its outputs, those of this package first."""
    if not isinstance(node, orm.CalculationNode):
        return [node]
    made = [link.node for link in node.base.links.get_outgoing(link_type=LinkType.CREATE).all()]
    results = [found for found in made if not isinstance(found, orm.RemoteData)]
    return [*sorted(results, key=lambda found: (not found.node_type.startswith('data.nanoml.'), found.pk)), node]


@contextmanager
def _new_folder(folder: Path, force: bool) -> Iterator[Path]:
    """Yield a new folder beside the final one, and move it there when everything is written."""
    folder = folder.absolute()
    if not folder.parent.is_dir():
        raise ProvenanceError(f'there is no folder {folder.parent}: make it first')
    _check_not_taken(folder, force)
    mark = uuid.uuid4().hex[:8]
    place, old = (folder.with_name(f'.{folder.name}-{mark}-{what}') for what in ('new', 'old'))
    place.mkdir()
    try:
        yield place
        if folder.exists():
            folder.rename(old)
        place.rename(folder)
    except BaseException:
        if old.exists() and not folder.exists():
            old.rename(folder)
        shutil.rmtree(place, ignore_errors=True)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _check_not_taken(folder: Path, force: bool) -> None:
    """Check that a folder is empty, or that all of it was published before and may be replaced.

    :raises ProvenanceError: it is not.
    """
    if not folder.exists():
        return
    if not folder.is_dir():
        raise ProvenanceError(f'{folder} is a file: choose another name')
    there = {path.relative_to(folder).as_posix() for path in folder.rglob('*') if not path.is_dir()}
    if there and not force:
        raise ProvenanceError(f'{folder} is not empty: choose another name, or replace what was published with --force')
    sums = folder / readme.CHECKSUMS
    known = (
        {line.split('  ', 1)[1] for line in sums.read_text(encoding='utf-8').splitlines()} if sums.is_file() else set()
    )
    foreign = sorted(there - known - {readme.CHECKSUMS})
    if foreign:
        raise ProvenanceError(
            f'{folder} has {counted(len(foreign), "file")} that no publication wrote, such as {foreign[0]}: choose '
            'another name, or move them away'
        )


def _write_checksums(folder: Path) -> dict[str, str]:
    """Write ``SHA256SUMS`` over all other files, and return it with its own."""
    sums = {}
    for path in sorted(path for path in folder.rglob('*') if path.is_file()):
        with path.open('rb') as stream:
            sums[path.relative_to(folder).as_posix()] = hashlib.file_digest(stream, 'sha256').hexdigest()
    target = folder / readme.CHECKSUMS
    target.write_text(''.join(f'{digest}  {name}\n' for name, digest in sums.items()), encoding='utf-8')
    return sums | {readme.CHECKSUMS: hashlib.sha256(target.read_bytes()).hexdigest()}
