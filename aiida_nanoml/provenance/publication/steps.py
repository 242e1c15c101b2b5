"""Abstract workflow of a lineage: equal runs at the same depth of the graph are one step."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from aiida_nanoml.provenance.graph import ProvenanceGraph
from aiida_nanoml.provenance.lineage import Lineage
from aiida_nanoml.provenance.origins import CODE_INPUTS

_NUMBER = re.compile(r'_\d+$')
"""Number at the end of link labels of a process that takes many equal inputs, such as ``labels_12``."""


def port_of(label: str) -> str:
    """Return the name of the input or output of a process that a link belongs to."""
    return _NUMBER.sub('', label)


@dataclass(frozen=True)
class Step:
    """Equal runs: the same process, code, person, computer and exit status, for labels also the same source.

    :param key: unique among the steps of a graph, letters, digits and underscores.
    :param name: label of the process.
    :param codes: PKs of the executables.
    :param origin: index among ``labelling`` of the lineage; None if the process labels nothing.
    :param imported: whether the runs were done without AiiDA, and imported.
    :param cached: whether results were copied from the cache.
    :param pks: the runs, in the order in which they were made.
    :param sources: where an input comes from, by its label: ``step/output``, or the key of data from outside.
    :param outputs: labels of the outputs that are in the graph.
    """

    key: str
    name: str
    process_type: str
    user: str
    computer: str
    codes: tuple[int, ...]
    exit_status: int | None
    origin: int | None
    imported: bool
    cached: bool
    pks: tuple[int, ...]
    sources: dict[str, tuple[str, ...]]
    outputs: tuple[str, ...]
    began: str
    ended: str


@dataclass(frozen=True)
class Given:
    """Data that no process in the graph made.

    :param key: name among the inputs of the workflow.
    :param type: entry point of the nodes.
    :param pks: the nodes.
    """

    key: str
    type: str
    pks: tuple[int, ...]


@dataclass(frozen=True)
class Steps:
    """The workflow that led to a node; its steps are in an order in which they can be run."""

    steps: tuple[Step, ...]
    given: tuple[Given, ...]
    results: tuple[str, ...]
    """``step/output`` of the published nodes."""


def find_steps(graph: ProvenanceGraph, lineage: Lineage) -> Steps:
    """Return the steps of a graph.

    The depth of a run is the longest chain of runs before it, so that steps never form a circle: each round of active
    learning has steps of its own.
    """
    jobs = {job.pk: (number, job) for number, origin in enumerate(lineage.labelling) for job in origin.jobs}
    depths = graph.process_depths()
    members: dict[tuple[Any, ...], list[int]] = defaultdict(list)
    for pk in graph.processes:
        if pk not in depths:
            continue
        record = graph.nodes[pk]
        origin, job = jobs.get(pk, (None, None))
        codes = tuple(graph.inputs[pk][name] for name in CODE_INPUTS if name in graph.inputs[pk])
        alike = (
            *(depths[pk], record.type, record.process_type, record.user, record.computer, codes, record.exit_status),
            *(origin, bool(job is not None and job.imported), bool(record.cached_from)),
        )
        members[alike].append(pk)
    names = _unique_names(alike[1] for alike in sorted(members, key=_sort_key))
    keys = dict(zip(sorted(members, key=_sort_key), names, strict=True))
    step_of = {pk: keys[alike] for alike, pks in members.items() for pk in pks}
    given = _outside_data(graph, step_of)
    place_of = {pk: data.key for data in given for pk in data.pks}
    place_of |= {pk: f'{step_of[creator]}/{_port(graph, creator, pk)}' for pk, creator in graph.creator.items()}
    steps = tuple(
        _step(graph, keys[alike], alike, members[alike], place_of) for alike in sorted(members, key=_sort_key)
    )
    results = {place_of[pk] for pk in graph.starts if pk in graph.creator}
    return Steps(steps, given, tuple(sorted(results)))


def _sort_key(alike: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(-1 if value is None else value for value in alike)


def _port(graph: ProvenanceGraph, process: int, pk: int) -> str:
    label = next(label for label, made in graph.outputs[process].items() if made == pk)
    return port_of(label)


def _step(graph: ProvenanceGraph, key: str, alike: tuple[Any, ...], pks: list[int], place_of: dict[int, str]) -> Step:
    sources: dict[str, set[str]] = defaultdict(set)
    for process in pks:
        for label, pk in graph.inputs[process].items():
            sources[port_of(label)].add(place_of[pk])
    made = [pk for process in pks for pk in graph.outputs[process].values()]
    _, name, process_type, user, computer, codes, exit_status, origin, imported, cached = alike
    return Step(
        key=key,
        name=name,
        process_type=process_type,
        user=user,
        computer=computer,
        codes=codes,
        exit_status=exit_status,
        origin=origin,
        imported=imported,
        cached=cached,
        pks=tuple(pks),
        sources={label: tuple(sorted(places)) for label, places in sorted(sources.items())},
        outputs=tuple(sorted({port_of(label) for process in pks for label in graph.outputs[process]})),
        began=min(graph.nodes[pk].ctime for pk in pks),
        ended=max(graph.nodes[pk].ctime for pk in [*pks, *made]),
    )


def _outside_data(graph: ProvenanceGraph, step_of: dict[int, str]) -> tuple[Given, ...]:
    """Return data from outside, by the label under which they are first used, and by their type."""
    found: dict[tuple[str, str], dict[int, None]] = defaultdict(dict)
    seen: set[int] = set()
    for process in step_of:
        for label, pk in graph.inputs[process].items():
            if pk not in graph.creator and pk not in seen:
                seen.add(pk)
                found[port_of(label), graph.type_name(pk)][pk] = None
    names = _unique_names(label for label, _ in found)
    return tuple(Given(name, kind, tuple(pks)) for name, ((_, kind), pks) in zip(names, found.items(), strict=True))


def _unique_names(names: Iterable[str]) -> list[str]:
    used: dict[str, int] = defaultdict(int)
    unique = []
    for name in names:
        plain = re.sub(r'\W', '_', name)
        used[plain] += 1
        unique.append(plain if used[plain] == 1 else f'{plain}_{used[plain]}')
    return unique


def abstract_workflow(steps: Steps, title: str) -> str:
    """Return the steps in the Common Workflow Language, version 1.2, as abstract operations.

    It describes what depended on what; ``aiida-nanoml reproduce`` reruns it.
    """
    ids = _cwl_ids(steps)
    content = {
        'cwlVersion': 'v1.2',
        'class': 'Workflow',
        'label': title,
        'doc': 'Written from the provenance graph: each step is a group of equal runs; runs.csv lists them.',
        'requirements': {'MultipleInputFeatureRequirement': {}},
        'inputs': {
            ids[given.key]: {
                'type': 'Any',
                'doc': f'{given.type}, {len(given.pks)} of them' if len(given.pks) > 1 else given.type,
            }
            for given in steps.given
        },
        'outputs': {
            f'result_{number}_{result.partition("/")[2]}': {'type': 'Any', 'outputSource': ids[result]}
            for number, result in enumerate(steps.results, start=1)
        },
        'steps': {step.key: _cwl_step(step, ids) for step in steps.steps},
    }
    text: str = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=120)
    return text


def _cwl_ids(steps: Steps) -> dict[str, str]:
    """Return the identifier of each input of the workflow and of each output of a step, by its place.

    Inputs and outputs of one process have one space of names there, and so have the inputs and the steps of a workflow.
    """
    keys = {step.key for step in steps.steps}
    ids = {given.key: f'{given.key}_in' if given.key in keys else given.key for given in steps.given}
    for step in steps.steps:
        for port in step.outputs:
            ids[f'{step.key}/{port}'] = f'{step.key}/{port}_out' if port in step.sources else f'{step.key}/{port}'
    return ids


def _cwl_step(step: Step, ids: Mapping[str, str]) -> dict[str, Any]:
    ports = {}
    for label, places in step.sources.items():
        sources = [ids[place] for place in places]
        ports[label] = (
            {'source': sources[0]} if len(sources) == 1 else {'source': sources, 'linkMerge': 'merge_flattened'}
        )
    outputs = [ids[f'{step.key}/{port}'].partition('/')[2] for port in step.outputs]
    return {
        'label': f'{len(step.pks)} x {step.name}' if len(step.pks) > 1 else step.name,
        'run': {
            'class': 'Operation',
            'inputs': dict.fromkeys(step.sources, 'Any'),
            'outputs': dict.fromkeys(outputs, 'Any'),
        },
        'in': ports,
        'out': outputs,
    }
