"""The lineage of a node as a tree that pages fold and unfold."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aiida_nanoml.text import counted

if TYPE_CHECKING:
    from aiida_nanoml.provenance.lineage import Lineage
    from aiida_nanoml.provenance.origins import DataStep, ProcessStep

LEAVES_SHOWN = 100
"""Nodes of a branch that are links."""


@dataclass(frozen=True)
class Leaf:
    """A node in a lineage.

    :param url: of its page.
    """

    text: str
    url: str


@dataclass(frozen=True)
class Branch:
    """Nodes of the same role, which what stands above them rests on.

    :param n_more: nodes that are left out.
    """

    title: str
    leaves: tuple[Leaf, ...]
    n_more: int = 0


def lineage_tree(lineage: Lineage) -> list[Branch]:
    """Return the branches of a lineage, from the node back to its sources; each stands in the one before."""
    branches = [
        _branch('Computed by', [_process(job) for job in (*lineage.prediction_jobs, *lineage.transmission_jobs)]),
        _branch('Models', _others(lineage.models, lineage)),
        _branch('Trained by', [_process(job) for job in lineage.training_jobs]),
        _branch('Data sets', _others(lineage.datasets, lineage)),
        _branch('Densities', _others(lineage.densities, lineage)),
    ]
    branches += [
        _branch(
            f'{origin.role.capitalize()} of {origin.name}: {counted(origin.n_structures, "structure")} in '
            f'{counted(origin.n_jobs, "job")}',
            [
                Leaf(f'{_process(job).text}{f", imported from {job.imported}" if job.imported else ""}', _url(job))
                for job in origin.jobs
            ],
        )
        for origin in lineage.labelling
    ]
    branches += [
        _branch(f'{claim.role.capitalize()} said to come from {claim.source}, {claim.way}', [_data(claim.node)])
        for claim in lineage.claims
    ]
    branches += [
        _branch(
            f'{counted(origin.n_structures, "structure")} {origin.way}',
            [*([_process(origin.process)] if origin.process else []), *map(_data, origin.nodes)],
        )
        for origin in lineage.structures
    ]
    return [branch for branch in branches if branch.leaves]


def _others(steps: Iterable[DataStep], lineage: Lineage) -> list[Leaf]:
    """Return all but the node itself."""
    return [_data(step) for step in steps if step.pk != lineage.node.pk]


def _branch(title: str, leaves: Iterable[Leaf]) -> Branch:
    found = tuple(leaves)
    return Branch(title, found[:LEAVES_SHOWN], max(0, len(found) - LEAVES_SHOWN))


def _data(step: DataStep) -> Leaf:
    return Leaf(f'{step.label or step.type.removeprefix("nanoml.")}, pk {step.pk}', f'/nodes/{step.uuid}')


def _process(step: ProcessStep) -> Leaf:
    return Leaf(f'{step.type}, pk {step.pk}, {step.ctime[:16].replace("T", " ")}', _url(step))


def _url(step: ProcessStep) -> str:
    return f'/processes/{step.uuid}'
