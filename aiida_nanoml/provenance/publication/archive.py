"""The AiiDA archive of a node and all that it rests on, and the check that nothing is missing in it."""

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

COMPRESSION = 1
"""Of zlib: level 6 takes a tenth more time for runs of SIESTA and saves a tenth of the size."""

_COLUMNS = ('uuid', 'node_type', 'process_type', 'attributes', 'repository_metadata')
"""What the hash of a node is made of; files stand in the last one with their SHA-256."""


@dataclass(frozen=True)
class Contents:
    """What an archive holds.

    :param n_nodes: with the other results of the runs on the way, which AiiDA never divides from a run.
    :param n_ancestors: the published nodes and what they depend on.
    :param n_files: different files in its repository.
    :param version: of the format of the archive.
    """

    n_nodes: int
    n_ancestors: int
    n_links: int
    n_files: int
    version: str


def write_archive(nodes: Collection[orm.Node], path: Path) -> None:
    """Write nodes, all that they depend on, and what the runs on the way made.

    Workflows are left out: they called the runs, and data do not flow through them; with them would come everything
    else that they called. Groups, comments and the settings of computers are left out as well.

    :param nodes: to publish; of a workflow, itself and all that it called.
    :param path: of the file.
    :raises ProvenanceError: a process on the way has not ended.
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
                f'a process behind what is published has not ended, so that it may still change: {error} Wait until '
                'it has, or kill it with `verdi process kill`.'
            ) from error


def check_archive(path: Path, graph: ProvenanceGraph) -> Contents:
    """Check that an archive holds a graph: every node with all that its hash is made of, every link, every file.

    :param path: of the archive.
    :param graph: what the published nodes depend on.
    :raises ProvenanceError: something is missing or another.
    """
    archive_format = get_format()
    with archive_format.open(path, 'r') as reader:
        found = {row[0]: _content(row) for row in reader.querybuilder().append(orm.Node, project=_COLUMNS).iterall()}
        links = set(_links(reader.querybuilder()))
        files = set(reader.get_backend().get_repository().list_objects())
    known = {row[1]: _content(row[1:]) for row in select(graph.nodes, *_COLUMNS)}
    _refuse('nodes', [uuid for uuid in known if uuid not in found])
    _refuse('nodes as they are', [uuid for uuid, content in known.items() if found[uuid] != content])
    wanted = {
        (graph.nodes[pk].uuid, graph.nodes[process].uuid, label)
        for process, inputs in graph.inputs.items()
        for label, pk in inputs.items()
    } | {
        (graph.nodes[process].uuid, graph.nodes[pk].uuid, label)
        for process, outputs in graph.outputs.items()
        for label, pk in outputs.items()
    }
    _refuse('links', [f'{source} to {target} ({label})' for source, target, label in wanted - links])
    keys = orm.Node.collection.iter_repo_keys(filters={'id': {'in': list(graph.nodes)}})
    _refuse('files', [key for key in set(keys) if key not in files])
    return Contents(len(found), len(known), len(links), len(files), archive_format.latest_version)


def _content(row: Sequence[Any]) -> bytes:
    """Digest of a node without the checkpoint of its process, which archives leave out."""
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


def _refuse(what: str, missing: list[str]) -> None:
    if missing:
        raise ProvenanceError(
            f'the archive that was written is not whole: {len(missing)} {what} are missing in it, as {missing[0]}; '
            'check the profile with `verdi storage maintain --dry-run` and report it'
        )
