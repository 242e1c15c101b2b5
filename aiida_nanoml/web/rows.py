"""Rows of nodes as pages show them: the structure of a row, and its labels; asked in the database's thread."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from aiida_nanoml.structures.pictures import draw_structure
from aiida_nanoml.web.errors import PageError
from aiida_nanoml.web.graph import NodeLink, link_to, load

if TYPE_CHECKING:
    from aiida_nanoml.structures import StructureSet

PICTURE_PX = 300
MOST_LABEL_SETS = 5000
"""Sets of labels that are asked for a structure, the newest ones."""

_VALUES = (
    ('gap_ev', 'gap', 'eV'), ('homo_ev', 'HOMO', 'eV'), ('lumo_ev', 'LUMO', 'eV'), ('energy_ev', 'energy', 'eV'),
)  # fmt: skip


@dataclass(frozen=True)
class LabelOfStructure:
    """A label that a structure has.

    :param source: engine, version and protocol.
    :param status: ``ok``, or the code of the failure.
    :param message: why it failed, or how it was recovered.
    :param values: texts with unit, by name.
    :param labels: the set that holds it.
    :param run: the process that made it; None: the set was stored without one.
    """

    source: str
    status: str
    message: str
    values: dict[str, str]
    labels: NodeLink
    run: NodeLink | None


@dataclass(frozen=True)
class StructurePage:
    """One structure of a set.

    :param picture: SVG.
    :param facts: texts by name.
    :param labels: of all sets that were asked, the newest first.
    :param n_more_sets: older sets of labels that were not asked.
    """

    node: NodeLink
    row: int
    n_rows: int
    name: str
    formula: str
    picture: str
    facts: dict[str, str]
    labels: list[LabelOfStructure]
    n_more_sets: int


def structure_url(uuid: str, row: int) -> str:
    """Return the address of the page of a structure."""
    return f'/structures/{uuid}/{row}'


def describe_structure(uuid: str, row: int) -> StructurePage:
    """Return the page of a structure.

    :raises PageError: there is no such set, or no such row in it.
    """
    node = load(uuid, 'nanoml.structures')
    structures = node.structures
    require_row(row, len(structures))
    structure, [formula] = structures[row], structures[[row]].formulas
    [digest] = structures[[row]].hashes
    labels, n_more = labels_of(str(digest))
    facts = {
        'formula': formula,
        'atoms': str(len(structure)),
        'family': str(structures.families[row]),
        'periodic along': _periodicity(structure.pbc.tolist()),
        'cell': _cell(structure.cell),
        'electrons': 'odd' if structures[[row]].has_odd_electrons[0] else 'even',
        'hash': str(digest),
    }
    name = str(structures.names[row]) or f'structure {row}'
    return StructurePage(
        node=link_to(node),
        row=row,
        n_rows=len(structures),
        name=name,
        formula=formula,
        picture=draw_structure(structure, PICTURE_PX, f'{name}, {formula}'),
        facts={key: text for key, text in facts.items() if text},
        labels=labels,
        n_more_sets=n_more,
    )


def find_structure(uuid: str, row: int) -> tuple[str, int]:
    """Return the set, and the row in it, of the structure behind a row of a data set, of predictions or of labels.

    :raises PageError: there is no such row, or no structure behind it in the graph.
    """
    node = load(uuid)
    digests = row_hashes(node)
    require_row(row, len(digests))
    for structures in structure_sets(node):
        [found] = np.nonzero(structures.structures.hashes == digests[row])
        if found.size:
            return structures.uuid, int(found[0])
    raise PageError(404, f'row {row} of {uuid} rests on no structure in this profile: its features were imported')


def row_hashes(node: Any) -> Any:
    """Return the content hash of the structure of each row of a node (n,).

    :raises PageError: it has no rows.
    """
    from aiida.orm import ArrayData

    if hasattr(node, 'structures'):
        return node.structures.hashes
    if not isinstance(node, ArrayData) or 'hashes' not in node.get_arraynames():
        raise PageError(404, f'{node.uuid} has no rows of structures')
    return node.get_array('hashes')


def structure_sets(node: Any) -> Iterator[Any]:
    """Yield the sets of structures behind a node: those that a process took or made beside it, the nearest first."""
    seen, waiting = {node.uuid}, [node]
    while waiting:
        here = waiting.pop(0)
        if _kind(here) == 'nanoml.structures':
            yield here
            continue
        if here.creator is None:
            continue
        links = here.creator.base.links
        around = [link.node for link in links.get_incoming().all()]
        around += [link.node for link in links.get_outgoing().all() if _kind(link.node) == 'nanoml.structures']
        for found in around:
            if found.uuid not in seen and _kind(found) in ('nanoml.structures', 'nanoml.dataset', 'nanoml.labels'):
                seen.add(found.uuid)
                waiting.append(found)


def pictures_of(structures: StructureSet, rows: list[int], side_px: int) -> list[str]:
    """Return drawings of some structures of a set."""
    return [draw_structure(structures[row], side_px, str(structures.names[row]) or f'structure {row}') for row in rows]


def labels_of(digest: str) -> tuple[list[LabelOfStructure], int]:
    """Return the labels of a structure, the newest first, and how many older sets were not asked.

    What only joins sets is left out, since their parts are there.
    """
    from aiida.orm import QueryBuilder, load_node

    from aiida_nanoml.data.labels import LabelSetData
    from aiida_nanoml.provenance.audit.evidence import JOINING
    from aiida_nanoml.provenance.graph import read_arrays

    query = QueryBuilder().append(LabelSetData, project='id', tag='node').order_by({'node': [{'id': 'desc'}]})
    pks = query.all(flat=True)
    asked = pks[:MOST_LABEL_SETS]
    hashes = read_arrays(asked, 'hashes')
    found = []
    for pk in asked:
        [rows] = np.nonzero(hashes[pk] == digest)
        if not rows.size:
            continue
        node = load_node(pk)
        if node.creator is None or node.creator.process_label not in JOINING:
            found += [_label(node, int(row)) for row in rows]
    return found, len(pks) - len(asked)


def _label(node: Any, row: int) -> LabelOfStructure:
    labels = node.labels
    values = {title: labels.energies[name][row] for name, title, _ in _VALUES}
    return LabelOfStructure(
        source=str(node.label_source),
        status=str(labels.status[row]),
        message=str(labels.messages[row]),
        values={title: f'{values[title]:.4f} {unit}' for _, title, unit in _VALUES if np.isfinite(values[title])},
        labels=link_to(node),
        run=None if node.creator is None else link_to(node.creator),
    )


def _kind(node: Any) -> str:
    from aiida_nanoml.actions.nodes import type_name

    return type_name(node)


def require_row(row: int, number: int) -> None:
    """Check that there is a row.

    :raises PageError: there is none.
    """
    if row >= number:
        raise PageError(404, f'there is no row {row}: there are {number}, counted from 0')


def _periodicity(pbc: list[bool]) -> str:
    return ', '.join(axis for axis, repeats in zip('abc', pbc, strict=True) if repeats) or 'nothing: isolated'


def _cell(cell: Any) -> str:
    if not cell.any():
        return ''
    lengths = np.linalg.norm(cell, axis=1)
    units = cell / lengths[:, None]
    angles = np.degrees(np.arccos(np.clip([units[1] @ units[2], units[2] @ units[0], units[0] @ units[1]], -1, 1)))
    return (
        ' × '.join(f'{length:.3f}' for length in lengths) + ' Å, ' + ', '.join(f'{angle:.1f}' for angle in angles) + '°'
    )
