"""Estimates of what labelling costs, from what it took before."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from aiida_nanoml.actions.base import Estimate

if TYPE_CHECKING:
    from aiida_nanoml.structures import StructureSet

KNOWN_SETS = 20
"""Label sets of a profile that an estimate looks at, the newest first."""

EXPONENT = 2.0
"""Assumed growth of the time with the number of atoms: overhead that grows linearly, and algebra that grows as N^3."""


def estimate_labels(structures: StructureSet, engine: str, protocol: str, batch_size: int, n_places: int) -> Estimate:
    """Estimate jobs and seconds from the label sets of the same engine and protocol in the profile.

    :param structures: n structures to label.
    :param batch_size: structures in one job.
    :param n_places: structures that are evaluated at the same time.
    """
    n_atoms = np.diff(structures.offsets).astype(float)
    jobs = -(-len(structures) // batch_size)
    seconds, n_known = seconds_per_atom(engine, protocol)
    if not n_known:
        basis = f'no label of {engine} with the protocol {protocol} is known in this profile'
        return Estimate(jobs, None, None, basis)
    total = float((seconds * n_atoms**EXPONENT).sum()) / max(1, n_places)
    basis = f'{n_known} labels of {engine} with the protocol {protocol} in this profile, scaled by (atoms)^{EXPONENT:g}'
    return Estimate(jobs, total, None, basis)


def seconds_per_atom(engine: str, protocol: str) -> tuple[float, int]:
    """Return the mean of seconds / atoms^2 over known labels, and how many there are."""
    from aiida.orm import QueryBuilder, WorkChainNode

    from aiida_nanoml.data.labels import LabelSetData
    from aiida_nanoml.data.structures import StructureSetData

    query = QueryBuilder().append(StructureSetData, project='*', tag='structures')
    workflow = {'process_type': 'aiida.workflows:nanoml.label'}
    query.append(WorkChainNode, with_incoming='structures', filters=workflow, tag='process')
    chosen = {'attributes.engine': engine, 'attributes.protocol': protocol}
    query.append(LabelSetData, with_incoming='process', filters=chosen, project='*', tag='labels')
    query.order_by({'labels': {'ctime': 'desc'}}).limit(KNOWN_SETS)
    ratios: list[float] = []
    for structures, labels in query.iterall():
        counts = np.diff(structures.structures.offsets)
        sizes = dict(zip(structures.structures.hashes.tolist(), counts.tolist(), strict=True))
        rows = labels.labels
        for digest, wall_s, finished in zip(rows.hashes.tolist(), rows.wall_s, rows.finished, strict=True):
            if finished and digest in sizes and np.isfinite(wall_s):
                ratios.append(float(wall_s) / sizes[digest] ** EXPONENT)
    return (float(np.mean(ratios)), len(ratios)) if ratios else (0.0, 0)
