"""AiiDA archive of a node and all that it rests on, and the check that nothing is missing in it."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiida import orm
from aiida.tools.archive import create_archive
from aiida.tools.archive.abstract import get_format
from aiida.tools.archive.exceptions import ExportValidationError

from aiida_nanoml.errors import ProvenanceError
from aiida_nanoml.provenance.archives import quiet_export
from aiida_nanoml.provenance.graph import DATA_LINKS, ProvenanceGraph, select
from aiida_nanoml.text import counted

COMPRESSION = 1
"""Level of zlib; for runs of SIESTA, level 6 takes 10 % more time and saves 10 % of the size."""

_COLUMNS = ('uuid', 'node_type', 'process_type', 'attributes', 'repository_metadata')
"""Columns that define the content of a node; the last one has the SHA-256 of its files."""


@dataclass(frozen=True)
class Contents:
    """Contents of an archive.

    :param n_nodes: number of nodes; all results of a run are included, because AiiDA never separates them from it.
    :param n_ancestors: number of the published nodes and of what they depend on.
    :param n_files: number of different files in its repository.
    :param version: version of the archive format.
    """

    n_nodes: int
    n_ancestors: int
    n_links: int
    n_files: int
    version: str


def write_archive(nodes: Collection[orm.Node], path: Path) -> None:
    """Write nodes, all that they depend on, and all results of the runs among these.

    Workflows are left out, because data do not flow through them, and everything else that they called would be
    included. Groups, comments and the settings of computers are left out as well.

    :param nodes: nodes to publish; of a workflow, all that it called is included.
    :param path: archive to write.
    :raises ProvenanceError: one of the processes has not ended.
    """
    with quiet_export(logging.WARNING):
        try:
            create_archive(
                nodes,
                path,
                compression=COMPRESSION,
                include_comments=False,
                include_authinfos=False,
                create_backward=True,
                call_calc_backward=False,
                call_work_backward=False,
                return_backward=False,
                input_calc_forward=False,
                input_work_forward=False,
            )
        except ExportValidationError as error:
            raise ProvenanceError(
                f'a process in the provenance has not ended, so that it may still change: {error} Wait until it has, '
                'or kill it with `verdi process kill`'
            ) from error


def check_archive(path: Path, graph: ProvenanceGraph) -> Contents:
    """Check that an archive contains a graph: every node with its attributes, every link, every file.

    :param path: the archive.
    :param graph: the published nodes and what they depend on.
    :raises ProvenanceError: something is missing or differs.
    """
    archive_format = get_format()
    with archive_format.open(path, 'r') as reader:
        found = {row[0]: _content(row) for row in reader.querybuilder().append(orm.Node, project=_COLUMNS).iterall()}
        links = set(_links(reader.querybuilder()))
        files = set(reader.get_backend().get_repository().list_objects())
    known = {row[1]: _content(row[1:]) for row in select(graph.nodes, *_COLUMNS)}
    _check_none('node is missing', 'nodes are missing', [uuid for uuid in known if uuid not in found])
    _check_none('node differs', 'nodes differ', [uuid for uuid, content in known.items() if found[uuid] != content])
    wanted = {
        (graph.nodes[pk].uuid, graph.nodes[process].uuid, label)
        for process, inputs in graph.inputs.items()
        for label, pk in inputs.items()
    } | {
        (graph.nodes[process].uuid, graph.nodes[pk].uuid, label)
        for process, outputs in graph.outputs.items()
        for label, pk in outputs.items()
    }
    _check_none(
        'link is missing',
        'links are missing',
        [f'{source} to {target} ({label})' for source, target, label in wanted - links],
    )
    keys = orm.Node.collection.iter_repo_keys(filters={'id': {'in': list(graph.nodes)}})
    _check_none('file is missing', 'files are missing', [key for key in set(keys) if key not in files])
    return Contents(len(found), len(known), len(links), len(files), archive_format.latest_version)


def _content(row: Sequence[Any]) -> bytes:
    """Return a digest of a node, without the checkpoint of its process, which archives leave out."""
    _, *types, attributes, files = row
    kept = {name: value for name, value in attributes.items() if name != orm.ProcessNode.CHECKPOINT_KEY}
    return hashlib.sha256(json.dumps([types, kept, files], sort_keys=True).encode()).digest()


def _links(query: orm.QueryBuilder) -> Iterator[tuple[str, str, str]]:
    query.append(orm.Node, project='uuid', tag='source')
    query.append(
        orm.Node,
        with_incoming='source',
        project='uuid',
        edge_filters={'type': {'in': DATA_LINKS}},
        edge_project='label',
    )
    yield from map(tuple, query.all())


def _check_none(fault: str, faults: str, found: list[str]) -> None:
    """Check that no fault was found in an archive.

    :param fault: what is wrong, in the singular.
    :param faults: the same in the plural.
    :param found: nodes, links or files with this fault.
    :raises ProvenanceError: there are some.
    """
    if found:
        raise ProvenanceError(
            f'the archive that was written is incomplete: {counted(len(found), fault, faults)}, such as {found[0]}; '
            'check the profile with `verdi storage maintain --dry-run` and report it'
        )
