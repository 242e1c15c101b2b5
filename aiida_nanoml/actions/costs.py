"""Estimates of what labels, features and trainings cost, from what they took before in the same profile."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from aiida_nanoml.actions.base import Estimate

if TYPE_CHECKING:
    from aiida.orm import CalcJobNode

    from aiida_nanoml.data.model import ModelData
    from aiida_nanoml.structures import StructureSet

KNOWN_SETS = 20
"""Label sets of a profile that an estimate looks at, the newest first."""

KNOWN_JOBS = 50
"""Jobs, or data sets, of a profile that an estimate looks at, the newest first."""

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


def estimate_some_labels(structures: StructureSet, count: int, **settings: Any) -> Estimate:
    """Estimate jobs and seconds of some of the structures, if it is not known which.

    :param structures: n structures.
    :param count: how many of them are labelled.
    :param settings: the other arguments of :func:`estimate_labels`.
    """
    whole = estimate_labels(structures, **settings)
    seconds = None if whole.seconds is None else whole.seconds * count / max(1, len(structures))
    return Estimate(-(-count // settings['batch_size']), seconds, None, whole.basis)


def estimate_features(sets: Sequence[StructureSet], descriptor: Mapping[str, Any]) -> Estimate | None:
    """Estimate the seconds that a descriptor takes, from the data sets of the same one in the profile.

    :param sets: structures to describe.
    :param descriptor: ``name`` and ``params``.
    :returns: None if the descriptor was never used; the parameters may differ.
    """
    from aiida.orm import CalcFunctionNode, QueryBuilder

    from aiida_nanoml.data.dataset import DatasetData
    from aiida_nanoml.data.structures import StructureSetData

    wanted = _descriptor_names(descriptor)
    query = QueryBuilder().append(StructureSetData, project='attributes.n_atoms', tag='structures')
    process = {'process_type': 'aiida.calculations:nanoml.assemble_dataset'}
    query.append(
        CalcFunctionNode,
        with_incoming='structures',
        filters=process,
        project='ctime',
        edge_filters={'label': 'structures'},
        tag='process',
    )
    query.append(DatasetData, with_incoming='process', project=['ctime', 'attributes.descriptor'], tag='dataset')
    query.order_by({'dataset': {'ctime': 'desc'}}).limit(KNOWN_JOBS)
    ratios = [
        (ended - started).total_seconds() / n_atoms
        for n_atoms, started, ended, found in query.iterall()
        if _descriptor_names(found) == wanted
    ]
    if not ratios:
        return None
    n_atoms = sum(int(structures.offsets[-1]) for structures in sets)
    name = '+'.join(wanted)
    basis = f'data sets with the descriptor {name} in this profile ({len(ratios)}), scaled by the number of atoms'
    return Estimate(0, float(np.mean(ratios)) * n_atoms, None, basis)


def estimate_training(n_rows: int, kind: str, hyperparameters: Mapping[str, Any], folds: int | None) -> Estimate:
    """Estimate the seconds of a training from those of the same kind and hyperparameters in the profile.

    :param n_rows: rows of the data set.
    :param folds: of the cross-validation, or None.
    """

    def size_of(job: CalcJobNode) -> int | None:
        inputs = job.inputs
        found = inputs.hyperparameters.get_dict() if 'hyperparameters' in inputs else {}
        same = inputs.kind.value == kind and _without_seed(found) == _without_seed(hyperparameters)
        same = same and (inputs.folds.value if 'folds' in inputs else None) == folds
        return int(inputs.dataset.base.attributes.get('n_rows')) if same else None

    return _estimate_job('nanoml.train', n_rows, size_of, f'trainings of {kind} with the same hyperparameters')


def estimate_prediction(model: ModelData, n_rows: int) -> Estimate:
    """Estimate the seconds of a prediction from those of models of the same kind in the profile.

    :param n_rows: rows to predict.
    """
    kind = model.base.attributes.get('kind')

    def size_of(job: CalcJobNode) -> int | None:
        same = job.inputs.model.base.attributes.get('kind') == kind and 'predictions' in job.outputs
        return int(job.outputs.predictions.base.attributes.get('n_rows')) if same else None

    return _estimate_job('nanoml.predict', n_rows, size_of, f'predictions of models of the kind {kind}')


def estimate_transmissions(n_basis: int, n_potentials: int) -> Estimate:
    """Estimate the seconds of a transmission job from those with the same basis in the profile.

    :param n_basis: number of cosines.
    :param n_potentials: potentials of the job.
    """

    def size_of(job: CalcJobNode) -> int | None:
        same = job.outputs.results.get_dict()['settings']['n_basis'] == n_basis
        return int(job.inputs.potentials.n_potentials) if same else None

    return _estimate_job('nanoml.rmatrix', n_potentials, size_of, f'transmissions with {n_basis} cosines')


def _estimate_job(name: str, size: int, size_of: Callable[[CalcJobNode], int | None], what: str) -> Estimate:
    """Estimate one job of the worker, whose time grows with its rows.

    :param name: entry point of the calculation.
    :param size: number of rows.
    :param size_of: returns the number of rows of a finished job; None if it cannot be compared.
    :param what: such jobs, in words.
    """
    from aiida.orm import CalcJobNode, QueryBuilder

    from aiida_nanoml.calculations.functions.validation import job_seconds

    finished = {'process_type': f'aiida.calculations:{name}', 'attributes.exit_status': 0}
    query = QueryBuilder().append(CalcJobNode, filters=finished, tag='job')
    query.order_by({'job': {'ctime': 'desc'}}).limit(KNOWN_JOBS)
    ratios = []
    for job in query.all(flat=True):
        n_rows = size_of(job)
        if n_rows:
            ratios.append(job_seconds(job.outputs.retrieved) / n_rows)
    if not ratios:
        return Estimate(1, None, None, f'there are no {what} in this profile')
    basis = f'{what} in this profile ({len(ratios)}), scaled by the number of rows'
    return Estimate(1, float(np.mean(ratios)) * size, None, basis)


def _descriptor_names(descriptor: Mapping[str, Any]) -> list[str]:
    """Return the names of the parts of a descriptor, or its own name."""
    parts = (descriptor.get('params') or {}).get('parts')
    return [part['name'] for part in parts] if parts else [descriptor.get('name', '')]


def _without_seed(hyperparameters: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in hyperparameters.items() if name != 'seed'}


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
