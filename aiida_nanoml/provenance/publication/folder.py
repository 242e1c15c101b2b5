"""A node with all that it rests on, as a folder for a data repository."""

from __future__ import annotations

import datetime
import hashlib
import json
import shutil
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from aiida import orm
from aiida.common.links import LinkType

from aiida_nanoml.errors import ProvenanceError
from aiida_nanoml.provenance.graph import ProvenanceGraph
from aiida_nanoml.provenance.lineage import starts, trace
from aiida_nanoml.provenance.publication import readme
from aiida_nanoml.provenance.publication.archive import Contents, check_archive, write_archive
from aiida_nanoml.provenance.publication.bibliography import build_bibliography
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
from aiida_nanoml.provenance.publication.figures import write_figures
from aiida_nanoml.provenance.publication.statement import latex, markdown, sentences
from aiida_nanoml.provenance.publication.steps import abstract_workflow, find_steps
from aiida_nanoml.provenance.publication.tables import write_tables
from aiida_nanoml.text import counted


@dataclass(frozen=True)
class Publication:
    """What was published.

    :param folder: where it lies.
    :param nodes: UUIDs of the published nodes.
    :param contents: of the archive, which was checked to hold every ancestor with its hash, links and files.
    :param files: SHA-256 of every file, by its path in the folder.
    :param tables: files with tables.
    :param figures: files with figures.
    :param references: keys of what is cited.
    :param without_reference: what took part, and nothing is known to cite for it.
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
        """Return some lines for people."""
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
) -> Publication:
    """Write a folder with nodes and all that they rest on, ready for a data repository.

    It is written beside its place and moved there when it is whole, so that a publication which is stopped leaves
    nothing behind.

    :param nodes: results of this package, or processes; at least one. With a calculation goes what it made.
    :param folder: to make; its parent must be there.
    :param title: of the publication; empty: made of the labels of the nodes.
    :param authors: empty: the user of AiiDA who stored the first node, as the profile names him.
    :param licence: identifier of the SPDX list, a key of :data:`~.facts.LICENCES`.
    :param force: replace a folder that was published before.
    :raises ProvenanceError: a node cannot be published, the folder is taken, the licence is unknown, or what was
        written does not hold together.
    """
    if not nodes:
        raise ProvenanceError('name at least one node to publish')
    if licence not in LICENCES:
        raise ProvenanceError(f'unknown licence {licence!r}; known: {", ".join(LICENCES)}')
    for node in nodes:
        _check_kind(node)
    title = title or ', '.join(node.label or f'{type(node).__name__} {node.uuid[:8]}' for node in nodes)
    nodes = list({found.uuid: found for node in nodes for found in _with_results(node)}.values())
    with _new_folder(folder, force) as place:
        graph = ProvenanceGraph.ancestors({pk for node in nodes for pk in starts(node)})
        write_archive(nodes, place / readme.ARCHIVE)
        contents = check_archive(place / readme.ARCHIVE, graph)
        facts = _facts(nodes, graph, title, authors, licence)
        cited = build_bibliography(participants(graph, facts.lineage, facts.core_versions))
        steps = find_steps(graph, facts.lineage)
        for name in (readme.TABLES, readme.FIGURES):
            (place / name).mkdir()
        tables = write_tables(place / readme.TABLES, graph, facts.lineage)
        figures = write_figures(place / readme.FIGURES, graph)
        told = sentences(facts, cited)
        texts = {
            readme.STATEMENT: markdown(facts.title, told),
            readme.STATEMENT_TEX: latex(told),
            readme.BIBLIOGRAPHY: cited.bibtex(),
            readme.LINEAGE: json.dumps(facts.lineage.to_dict(), indent=2, ensure_ascii=False, allow_nan=False) + '\n',
            readme.LICENCE: readme.licence_text(facts.licence, facts.authors, facts.published[:4]),
        }
        if figures:
            texts[readme.COMMANDS] = readme.commands(figures)
        if steps.steps:
            texts[readme.WORKFLOW] = abstract_workflow(steps, facts.title)
        files = {*texts, readme.ARCHIVE, readme.CRATE, readme.CHECKSUMS}
        texts[readme.README] = readme.readme(facts, contents, tables, figures, files)
        for name, text in texts.items():
            (place / name).write_text(text, encoding='utf-8')
        titles = {name: readme.FILES.get(name, name) for name in sorted({readme.ARCHIVE, readme.CHECKSUMS, *texts})}
        titles |= {f'{readme.TABLES}/{table.name}': table.title for table in tables}
        titles |= {f'{readme.FIGURES}/{figure.name}': figure.title for figure in figures}
        for name in (readme.TABLES, readme.FIGURES):
            if not any((place / name).iterdir()):
                (place / name).rmdir()
        write_crate(place, facts, graph, steps, titles)
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


def _facts(
    nodes: Sequence[orm.Node], graph: ProvenanceGraph, title: str, authors: Sequence[Person], licence: str
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
    )


def _check_kind(node: orm.Node) -> None:
    """Refuse what is an input of others and no result."""
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
            f'pk {node.pk} is a {type(node).__name__}, which is no result: publish a prediction, a model, a data set, '
            'labels, structures, or a process'
        )


def _with_results(node: orm.Node) -> list[orm.Node]:
    """A calculation with what it made, which is what it is published for: types of this package first."""
    if not isinstance(node, orm.CalculationNode):
        return [node]
    made = [link.node for link in node.base.links.get_outgoing(link_type=LinkType.CREATE).all()]
    results = [found for found in made if not isinstance(found, orm.RemoteData)]
    return [*sorted(results, key=lambda found: (not found.node_type.startswith('data.nanoml.'), found.pk)), node]


@contextmanager
def _new_folder(folder: Path, force: bool) -> Iterator[Path]:
    """Give an empty folder beside the place, and move it there when all has gone well."""
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
    """Refuse a folder that holds anything, unless all of it was published before and may be replaced."""
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
            f'{folder} holds {counted(len(foreign), "file")} that no publication wrote, as {foreign[0]}: choose '
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
