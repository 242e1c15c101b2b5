"""Checks of processes: complete provenance, exit statuses, seeds, versions, repeatability."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

from aiida.common import exceptions
from aiida.engine import ProcessState
from aiida.plugins import CalculationFactory

from aiida_nanoml import __version__
from aiida_nanoml.errors import ModelError
from aiida_nanoml.learning.registry import MODELS, ModelKind
from aiida_nanoml.provenance.audit.evidence import Evidence
from aiida_nanoml.provenance.audit.findings import ERROR, NOTE, WARNING, Checked, Finding, NotMadeError, Row
from aiida_nanoml.provenance.graph import select
from aiida_nanoml.provenance.origins import (
    DATASET,
    DENSITIES,
    DENSITY_MODEL,
    GENERATORS,
    LABEL_JOBS,
    LABELS,
    MODEL,
    OURS,
    PREDICT_JOB,
    PREDICTION,
    STRUCTURES,
    TRAIN_JOB,
)
from aiida_nanoml.provenance.rerun_plan import required_inputs
from aiida_nanoml.text import agree, counted

RANDOM = (*GENERATORS, 'split_dataset', 'hold_out', 'divide_densities', 'generate_alloy_set')
"""Functions that always draw random numbers."""

_MADE = (LABELS, DATASET, MODEL, PREDICTION, DENSITIES, DENSITY_MODEL)


def seeds(evidence: Evidence) -> Checked:
    """Is the seed of everything random recorded?"""
    recorded = evidence.lineage.seeds
    known = {seed.pk for seed in recorded}
    random = [pk for pk in evidence.graph.processes if evidence.graph.type_name(pk) in RANDOM]
    random += [pk for pk in evidence.graph.jobs(TRAIN_JOB) if _is_random(evidence, pk)]
    if not random and not recorded:
        raise NotMadeError('nothing here draws random numbers')
    findings = []
    lost = [pk for pk in random if pk not in known]
    if lost:
        findings.append(
            Finding(
                WARNING,
                f'no seed is recorded of {", ".join(evidence.name(pk) for pk in lost)}',
                'the result cannot be repeated',
                'run it again with a seed among its inputs',
                evidence.places(lost),
            )
        )
    default = [seed for seed in recorded if seed.default]
    if default:
        named = ', '.join(f'{seed.of} ({seed.value})' for seed in default)
        findings.append(
            Finding(
                NOTE,
                f'no seed was given, the default was used: {named}',
                'one seed is one draw: errors differ from split to split',
                'repeat with some seeds (aiida-nanoml study), and quote the scatter',
                evidence.places(seed.pk for seed in default),
            )
        )
    return Checked(counted(len(known | set(random)), 'process', 'processes') + ' that draw random numbers', findings)


def nondeterminism(evidence: Evidence) -> Checked:
    """Is there anything that gives other digits when it is repeated, although its seed is known?"""
    kinds = {pk: _kind_of(evidence, pk) for pk in evidence.models}
    networks = [pk for pk, kind in kinds.items() if kind is not None and 'tensorflow' in kind.model.libraries]
    networks += evidence.of_type(DENSITY_MODEL)
    jobs = [pk for pk in evidence.graph.jobs(*LABEL_JOBS) if pk in evidence.relevant]
    if not networks and not jobs:
        raise NotMadeError('neither a network nor a labelling job is in the graph')
    findings = []
    if networks:
        findings.append(
            Finding(
                NOTE,
                f'{", ".join(map(evidence.name, networks))} {agree(len(networks), "is a network", "are networks")}',
                'weights are the same for the same seed on the same machine only',
                'repeat the training (aiida-nanoml reproduce), and state the machine and the versions',
                evidence.places(networks),
            )
        )
    processes = Counter(_mpi_processes(resources) for _, resources in select(jobs, 'attributes.resources') if resources)
    if len(processes) > 1:
        numbers = ', '.join(f'{number} in {counted(jobs, "job")}' for number, jobs in sorted(processes.items()))
        findings.append(
            Finding(
                NOTE,
                f'labels were computed with different numbers of processes: {numbers}',
                'sums in another order change the last digits',
                'nothing, if labels are rounded to a meV; else label with one number of processes',
                (),
            )
        )
    return Checked(f'{counted(len(networks), "network")}, {counted(len(jobs), "labelling job")}', findings)


def cached_results(evidence: Evidence) -> Checked:
    """Which results were taken from the cache, and is what they were taken from still there?"""
    nodes = evidence.graph.nodes
    cached = {pk: node.cached_from for pk, node in nodes.items() if node.cached_from}
    there = evidence.existing(set(cached.values()))
    findings = []
    for severity, pks, what in (
        (WARNING, [pk for pk, source in cached.items() if source not in there], 'which is no longer in the profile'),
        (NOTE, [pk for pk, source in cached.items() if source in there], 'which is still there'),
    ):
        if pks:
            kinds = ', '.join(f'{kind} {number}' for kind, number in Counter(nodes[pk].type for pk in pks).items())
            findings.append(
                Finding(
                    severity,
                    f'{counted(len(pks), "result")} ({kinds}) taken from the cache, from a process {what}',
                    'the calculation was done by another run than the graph shows, perhaps on another machine',
                    'publish the source as well'
                    if severity == NOTE
                    else 'state it, or run these again without the cache (aiida-nanoml reproduce does)',
                    evidence.places(pks),
                    tuple(Row((nodes[pk].label or f'pk {pk}',), (), f'cached from {cached[pk]}') for pk in pks),
                )
            )
    return Checked(counted(len(evidence.graph.processes), 'process', 'processes'), findings)


def missing_inputs(evidence: Evidence) -> Checked:
    """Are all inputs that a process must have had still linked to it?"""
    lost: dict[tuple[str, str], list[int]] = defaultdict(list)
    required: dict[str, list[str] | None] = {}
    for pk in evidence.graph.processes:
        kind = evidence.graph.nodes[pk].process_type
        if kind not in required:
            required[kind] = _required_inputs(kind)
        for name in required[kind] or ():
            if name not in evidence.graph.inputs[pk]:
                lost[evidence.graph.type_name(pk), name].append(pk)
    findings = [
        Finding(
            ERROR,
            f'{counted(len(pks), kind)} lost the input {name}',
            'it is no longer known what the result rests on',
            'look for an archive with the whole graph, or compute it again',
            evidence.places(pks),
        )
        for (kind, name), pks in lost.items()
    ]
    unknown = sorted(kind.partition(':')[2] for kind, names in required.items() if names is None)
    looked_at = counted(len(evidence.graph.processes), 'process', 'processes') + (
        f'; unknown to this version: {", ".join(unknown)}' if unknown else ''
    )
    return Checked(looked_at, findings)


def missing_processes(evidence: Evidence) -> Checked:
    """Was everything made by a process that is in the graph?"""
    made = evidence.of_type(*_MADE)
    findings = [
        Finding(
            ERROR if evidence.graph.type_name(pk) in (MODEL, PREDICTION, DENSITY_MODEL) else WARNING,
            f'no process made {evidence.name(pk)}',
            'it was stored by hand, or its process was deleted or left out of an archive: nobody can check it',
            'compute it again from what is known, or import the whole archive',
            evidence.places([pk]),
        )
        for pk in made
        if pk not in evidence.graph.creator
    ]
    structures = evidence.of_type(STRUCTURES)
    loose = [pk for pk in structures if pk not in evidence.graph.creator]
    if loose:
        findings.append(
            Finding(
                NOTE,
                f'{", ".join(map(evidence.name, loose))} {agree(len(loose), "was", "were")} stored without a process',
                'it is not recorded how these structures were chosen',
                'state where they come from, or import their file (aiida-nanoml structures import)',
                evidence.places(loose),
            )
        )
    if not made and not structures:
        raise NotMadeError('nothing here has a type that only processes make')
    return Checked(counted(len(made) + len(structures), 'node'), findings)


def failed_processes(evidence: Evidence) -> Checked:
    """Did every process on the way end well?"""
    bad: dict[tuple[str, str, bool], list[int]] = defaultdict(list)
    for pk in evidence.graph.processes:
        node = evidence.graph.nodes[pk]
        if node.state and node.state != ProcessState.FINISHED.value:
            bad[node.type, f'did not finish ({node.state})', False].append(pk)
        elif node.exit_status:
            ending = f'ended with exit status {node.exit_status}'
            bad[node.type, ending, node.process_type in LABEL_JOBS].append(pk)
    findings = [
        Finding(
            NOTE if labels else WARNING,
            f'{counted(len(pks), kind)} {ending}, and {agree(len(pks), "its", "their")} results were used',
            'failed rows are marked in the labels, and left out of data sets'
            if labels
            else 'the results may be incomplete',
            'nothing, if the check unconverged-labels is clear' if labels else 'run it again, and what depends on it',
            evidence.places(pks),
        )
        for (kind, ending, labels), pks in bad.items()
    ]
    return Checked(counted(len(evidence.graph.processes), 'process', 'processes'), findings)


def plugin_versions(evidence: Evidence) -> Checked:
    """Did one version of aiida-nanoml, the present one, run all processes?"""
    versions: dict[str, list[int]] = defaultdict(list)
    ours = [pk for pk in evidence.graph.processes if evidence.graph.nodes[pk].process_type.startswith(OURS)]
    for pk, version in select(ours, 'attributes.version.plugin'):
        if version is not None:
            versions[version].append(pk)
    if not versions:
        raise NotMadeError('no process here records its version')
    other = {version: pks for version, pks in versions.items() if version != __version__}
    findings = []
    if other:
        numbers = ', '.join(f'{version}: {len(pks)}' for version, pks in sorted(other.items()))
        findings.append(
            Finding(
                NOTE,
                f'processes of other versions of aiida-nanoml than {__version__}: {numbers}',
                'defaults and descriptors may have changed since',
                'see the changelog, and name the versions in the paper',
                evidence.places(pk for pks in other.values() for pk in pks),
            )
        )
    looked_at = f'{sum(map(len, versions.values()))} of {len(evidence.graph.processes)} processes record their version'
    return Checked(looked_at, findings)


def versions_of_libraries(evidence: Evidence) -> Checked:
    """Do the libraries agree between models, and between training and prediction?"""
    models = {pk: evidence.attributes(pk).get('versions') or {} for pk in evidence.of_type(MODEL, DENSITY_MODEL)}
    models = {pk: versions for pk, versions in models.items() if versions}
    if not models:
        raise NotMadeError('no model here records the versions of its libraries')
    findings = []
    for library in sorted(set().union(*models.values())):
        found = {versions[library] for versions in models.values() if library in versions}
        if len(found) > 1:
            findings.append(
                Finding(
                    NOTE,
                    f'models were trained with {library} {", ".join(sorted(found))}',
                    'other versions give other weights for the same seed',
                    'train all of them with one version before they are compared',
                    evidence.places(models),
                )
            )
    predictions = [pk for pk in evidence.graph.jobs(PREDICT_JOB) if evidence.graph.inputs[pk].get('model') in models]
    for pk, version in select(predictions, 'attributes.version.plugin'):
        model = evidence.graph.inputs[pk]['model']
        trained = models[model].get('aiida-nanoml')
        if version is not None and trained is not None and version != trained:
            findings.append(
                Finding(
                    WARNING,
                    f'{evidence.name(model)} was trained with aiida-nanoml {trained} and applied with {version}',
                    'the descriptor or the reading of models may have changed between them',
                    'predict some training rows again and compare with the fitted values of the training',
                    evidence.places([model, pk]),
                )
            )
    looked_at = f'{counted(len(models), "model")}, {counted(len(predictions), "prediction job")}; predictions record '
    return Checked(looked_at + 'the version of aiida-nanoml only', findings)


def _is_random(evidence: Evidence, job: int) -> bool:
    """Return whether a training makes a model whose kind uses random numbers."""
    made = [pk for pk in evidence.graph.outputs[job].values() if evidence.graph.type_name(pk) == MODEL]
    kinds = [_kind_of(evidence, pk) for pk in made]
    return any(kind is not None and 'seed' in kind.hyperparameters for kind in kinds)


def _kind_of(evidence: Evidence, model: int) -> ModelKind | None:
    """Return the kind of a model; None for one of a package that is not installed."""
    try:
        return MODELS.load(evidence.attributes(model)['kind'])
    except ModelError:
        return None


def _required_inputs(process_type: str) -> list[str] | None:
    """Return the required inputs of a process of this package; None: this version does not know the process."""
    if not process_type.startswith(OURS):
        return []
    try:
        return required_inputs(CalculationFactory(process_type.partition(':')[2]))
    except exceptions.EntryPointError:
        return None


def _mpi_processes(resources: dict[str, Any]) -> int:
    given = resources.get('tot_num_mpiprocs')
    return int(given or resources.get('num_machines', 1) * (resources.get('num_mpiprocs_per_machine') or 1))
