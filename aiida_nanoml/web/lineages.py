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


def lineage_tree(lineage: Lineage) -> list[list[Branch]]:
    """Return the levels of a lineage, from the node back to its sources; each stands below the one before."""
    computed = [_process(job) for job in (*lineage.prediction_jobs, *lineage.transmission_jobs)]
    single = [
        _branch('Computed by', computed),
        _branch('Models', _others(lineage.models, lineage)),
        _branch('Trained by', [_process(job) for job in lineage.training_jobs]),
        _branch('Data sets', _others(lineage.datasets, lineage)),
        _branch('Densities', _others(lineage.densities, lineage)),
    ]
    labels = [
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
    labels += [
        _branch(f'{claim.role.capitalize()} said to come from {claim.source}, {claim.way}', [_data(claim.node)])
        for claim in lineage.claims
    ]
    structures = [
        _branch(
            f'{counted(origin.n_structures, "structure")} {origin.way}',
            [*([_process(origin.process)] if origin.process else []), *map(_data, origin.nodes)],
        )
        for origin in lineage.structures
    ]
    levels = [*([branch] for branch in single), labels, structures]
    filled = ([branch for branch in level if branch.leaves] for level in levels)
    return [level for level in filled if level]


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
