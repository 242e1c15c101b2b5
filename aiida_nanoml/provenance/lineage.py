"""Lineage of a node: everything that it depends on, from a prediction back to every labelling job."""

from __future__ import annotations

import textwrap
from dataclasses import asdict, dataclass
from typing import Any

from aiida import orm
from aiida.common.links import LinkType

from aiida_nanoml.engines.base import DFT
from aiida_nanoml.errors import ProvenanceError
from aiida_nanoml.provenance.origins import (
    DATASET,
    DENSITIES,
    DENSITY_MODEL,
    DENSITY_PREDICT_JOB,
    DENSITY_TRAIN_JOB,
    LABELS,
    MODEL,
    POTENTIALS,
    PREDICT_JOB,
    PREDICTION,
    RMATRIX_JOB,
    STRUCTURES,
    TRAIN_JOB,
    DataStep,
    Executable,
    LabelClaim,
    LabelJob,
    LabelOrigin,
    LineageGraph,
    PotentialOrigin,
    ProcessStep,
    Pseudopotential,
    Seed,
    StructureOrigin,
    data_step,
    theory_of,
)
from aiida_nanoml.text import counted


@dataclass(frozen=True)
class Lineage:
    """The origin of a node.

    :param node: the node itself.
    :param transmission_jobs: jobs that computed transmissions.
    :param potentials: potentials of these transmissions.
    :param prediction_jobs: jobs that made predictions.
    :param models: trained models; the ``facts`` hold kind, fingerprint and metrics.
    :param training_jobs: jobs that trained them.
    :param datasets: data sets that a model was trained on or applied to, or the node itself.
    :param densities: densities of an engine that a model was trained or tested on, or the node itself.
    :param labelling: the labelling jobs, by engine, version, protocol and parameters.
    :param claims: labels from outside, with what they are said to come from.
    :param structures: origin of the structures.
    :param executables: codes that ran.
    :param pseudopotentials: pseudopotentials of the labels.
    :param computers: host name of each computer, by label.
    :param seeds: seeds of all random numbers.
    :param orphans: models and predictions that no process in the graph made.
    :param began: time of creation of the oldest node, ISO 8601.
    :param ended: time of creation of the newest node.
    :param users: e-mail addresses of the users who stored the nodes.
    :param n_nodes: number of nodes, the node itself included.
    :param statement: one sentence about the labels.
    :param rests_on_dft: whether all labels (not the baseline) come from runs of density-functional theory in the graph.
    :param dft: one sentence about these runs, or why there are none.
    """

    node: DataStep | ProcessStep
    transmission_jobs: tuple[ProcessStep, ...]
    potentials: tuple[PotentialOrigin, ...]
    prediction_jobs: tuple[ProcessStep, ...]
    models: tuple[DataStep, ...]
    training_jobs: tuple[ProcessStep, ...]
    datasets: tuple[DataStep, ...]
    densities: tuple[DataStep, ...]
    labelling: tuple[LabelOrigin, ...]
    claims: tuple[LabelClaim, ...]
    structures: tuple[StructureOrigin, ...]
    executables: tuple[Executable, ...]
    pseudopotentials: tuple[Pseudopotential, ...]
    computers: dict[str, str]
    seeds: tuple[Seed, ...]
    orphans: tuple[DataStep, ...]
    began: str
    ended: str
    users: tuple[str, ...]
    n_nodes: int
    statement: str
    rests_on_dft: bool
    dft: str

    def to_dict(self) -> dict[str, Any]:
        """Return everything in types of JSON."""
        return asdict(self)

    def render(self, all_jobs: bool = False) -> str:
        """Return an indented tree, from the node down to the labelling jobs and the structures.

        :param all_jobs: list every labelling job, not only the first ones.
        """
        labels = [line for origin in self.labelling for line in _label_lines(origin, all_jobs)]
        labels += [
            f'<- {claim.role} said to come from {claim.source} ({claim.way}, pk {claim.node.pk})'
            for claim in self.claims
        ]
        levels = [
            [_node_line(self.node)],
            [f'<- {_job_line("scattered", job)}' for job in self.transmission_jobs if job.pk != self.node.pk],
            [f'<- {_potential_line(origin)}' for origin in self.potentials],
            [f'<- {_job_line("predicted", job)}' for job in self.prediction_jobs if job.pk != self.node.pk],
            [f'<- {_model_line(model)}' for model in self.models if model.pk != self.node.pk],
            [f'<- {_job_line("trained", job)}' for job in self.training_jobs if job.pk != self.node.pk],
            [f'<- {_dataset_line(dataset)}' for dataset in self.datasets if dataset.pk != self.node.pk]
            + [f'<- {_densities_line(densities)}' for densities in self.densities if densities.pk != self.node.pk],
            labels,
            [f'<- {_structures_line(origin)}' for origin in self.structures],
        ]
        filled = [level for level in levels if level]
        lines = [f'{"  " * depth}{line}' for depth, level in enumerate(filled) for line in level]
        return '\n'.join([*lines, *self._summary()])

    def _summary(self) -> list[str]:
        ran = ', '.join(f'{code.label} ({code.path}, {counted(code.n_jobs, "job")})' for code in self.executables)
        seeds = dict.fromkeys(f'{seed.of} {seed.value}{" (default)" if seed.default else ""}' for seed in self.seeds)
        days = dict.fromkeys((self.began[:10], self.ended[:10]))
        lines = [f'{self.statement}; by {", ".join(self.users)}', self.dft]
        lines += [
            f'{step.type} pk {step.pk} was made by no process in the graph: stored by hand, or its process was '
            'deleted or left out of an archive'
            for step in self.orphans
        ]
        lines += [f'executables: {ran}'] if ran else []
        lines += [f'seeds: {", ".join(seeds)}'] if seeds else []
        return [*lines, f'{counted(self.n_nodes, "node")}, {" to ".join(days)}']


def trace(node: orm.Node, *beside: orm.Node) -> Lineage:
    """Return the lineage of a node: every process and input that it depends on.

    :param node: a stored node. Of a workflow, the results are followed; of a calculation, its inputs.
    :param beside: nodes whose lineage is included, such as others that are published in the same folder.
    :raises ProvenanceError: a node is not stored.
    """
    return lineage_of(LineageGraph.ancestors({pk for start in (node, *beside) for pk in starts(start)}), node)


def lineage_of(graph: LineageGraph, node: orm.Node) -> Lineage:
    """Return the lineage of a node whose graph is loaded already.

    :param graph: ancestors of the node. Labels of runs of which only another output was used are added to it.
    :param node: as of :func:`trace`.
    """
    made = [record.ctime for record in graph.nodes.values()]
    users = sorted({record.user for record in graph.nodes.values()})
    n_nodes = len(graph.nodes)
    labelling, claims, orphans = graph.label_origins(), graph.claims(), graph.orphans()
    scattered = bool(graph.of_type(POTENTIALS))
    rests_on_dft, dft = _describe_dft(graph.step(node.pk), labelling, claims, orphans, scattered)
    return Lineage(
        node=graph.step(node.pk),
        transmission_jobs=tuple(map(graph.process_step, graph.jobs(RMATRIX_JOB))),
        potentials=graph.potential_origins(),
        prediction_jobs=tuple(map(graph.process_step, graph.jobs(PREDICT_JOB, DENSITY_PREDICT_JOB))),
        models=tuple(data_step(graph, pk) for pk in graph.of_type(MODEL, DENSITY_MODEL)),
        training_jobs=tuple(map(graph.process_step, graph.jobs(TRAIN_JOB, DENSITY_TRAIN_JOB))),
        datasets=tuple(data_step(graph, pk) for pk in graph.datasets(node.pk)),
        densities=tuple(data_step(graph, pk) for pk in graph.densities(node.pk)),
        labelling=labelling,
        claims=claims,
        structures=graph.structure_origins(),
        executables=graph.executables(),
        pseudopotentials=graph.pseudopotentials(labelling),
        computers=graph.computers(),
        seeds=graph.seeds(),
        orphans=orphans,
        began=min(made),
        ended=max(made),
        users=tuple(users),
        n_nodes=n_nodes,
        statement=_statement(labelling, claims, scattered),
        rests_on_dft=rests_on_dft,
        dft=dft,
    )


TABLE = ('uuid', 'type', 'label', 'made_by', 'created', 'user', 'computer', 'code', 'exit_status', 'cached_from')
"""Columns of :func:`lineage_table`."""


def lineage_table(node: orm.Node) -> list[tuple[Any, ...]]:
    """Return a row for every node that a node depends on, in the order in which they were made.

    :param node: as of :func:`trace`.
    :returns: rows with the columns :data:`TABLE`; ``made_by`` is the UUID of the process that made a data node.
    :raises ProvenanceError: the node is not stored.
    """
    graph = LineageGraph.ancestors(starts(node))
    rows = []
    for pk, record in graph.nodes.items():
        code, maker = graph.inputs.get(pk, {}).get('code'), graph.creator.get(pk)
        rows.append(
            (
                record.uuid,
                record.type,
                record.label,
                '' if maker is None else graph.nodes[maker].uuid,
                record.ctime,
                record.user,
                record.computer,
                graph.full_label(code),
                '' if record.exit_status is None else record.exit_status,
                record.cached_from,
            )
        )
    return rows


def starts(node: orm.Node) -> list[int]:
    """Return the PKs where a walk back from a node begins: of a workflow, also what it returned.

    :raises ProvenanceError: the node is not stored.
    """
    if not node.is_stored:
        raise ProvenanceError('the node is not stored: it has no provenance yet')
    if not isinstance(node, orm.WorkflowNode):
        return [node.pk]
    links = node.base.links
    ends = (
        links.get_outgoing(link_type=LinkType.RETURN).all() or links.get_incoming(link_type=LinkType.INPUT_WORK).all()
    )
    return [node.pk, *sorted({link.node.pk for link in ends})]


_NOUNS = {
    STRUCTURES: 'set of structures',
    LABELS: 'set of labels',
    DATASET: 'data set',
    MODEL: 'model',
    PREDICTION: 'prediction',
    POTENTIALS: 'set of potentials',
    DENSITIES: 'set of densities',
    DENSITY_MODEL: 'density model',
}


def _describe_dft(
    node: DataStep | ProcessStep,
    labelling: tuple[LabelOrigin, ...],
    claims: tuple[LabelClaim, ...],
    orphans: tuple[DataStep, ...],
    scattered: bool,
) -> tuple[bool, str]:
    """Return whether a node rests on runs of density-functional theory, and a sentence about it."""
    noun = (
        'process' if isinstance(node, ProcessStep) else _NOUNS.get(node.type, 'transmission' if scattered else 'node')
    )
    runs = [origin for origin in labelling if origin.role == 'labels']
    theories = {(origin.engine, origin.name): theory_of(origin.engine) for origin in runs}
    reasons = [f'{name} is {theory}' for (_, name), theory in theories.items() if theory != DFT]
    reasons += [
        f'the {claim.role} of pk {claim.node.pk} were {claim.way}, without the runs that made them'
        for claim in claims
        if claim.role == 'labels'
    ]
    reasons += [f'no process made the {_NOUNS[step.type]} pk {step.pk}' for step in orphans]
    found = [origin for origin in runs if theory_of(origin.engine) == DFT]
    n_runs = sum(origin.n_structures for origin in found)
    what = ', '.join(origin.name for origin in found)
    if found and not reasons:
        return True, f'DFT: {counted(n_runs, "structure")} of {what}'
    if found:
        return False, f'this {noun} rests only in part on DFT ({n_runs} structures of {what}): {"; ".join(reasons)}'
    reasons = reasons or [
        'its potentials rest on no run of SIESTA in the graph' if scattered else 'it rests on no labels'
    ]
    return False, f'this {noun} has no provenance to DFT, because {"; ".join(reasons)}'


def _statement(labelling: tuple[LabelOrigin, ...], claims: tuple[LabelClaim, ...], scattered: bool) -> str:
    parts = []
    for role, done in (('labels', 'were labelled in'), ('baseline', 'got their baseline in')):
        origins = [origin for origin in labelling if origin.role == role]
        if origins:
            n_structures = sum(origin.n_structures for origin in origins)
            parts.append(f'{n_structures} structures {done} {counted(sum(origin.n_jobs for origin in origins), "job")}')
    for claim in claims:
        what = {LABELS: 'labels', DATASET: 'data set', DENSITIES: 'densities'}[claim.node.type]
        parts.append(f'{claim.way} {what} (pk {claim.node.pk}), {claim.role} said to come from {claim.source}')
    return '; '.join(parts) or ('transmissions rest on no labels' if scattered else 'it rests on no labels')


_SHOWN_JOBS = 3


def _node_line(node: DataStep | ProcessStep) -> str:
    if isinstance(node, ProcessStep):
        return f'{node.type} (pk {node.pk}, uuid {node.uuid}){_cache_note(node)}'
    name = f' {node.label}' if node.label else ''
    rows = f', {node.facts["n_rows"]} rows' if 'n_rows' in node.facts else ''
    if 'n_densities' in node.facts:
        rows = f', {counted(node.facts["n_densities"], "structure")}'
    return f'{node.type}{name} (pk {node.pk}, uuid {node.uuid}){rows}'


def _job_line(verb: str, job: ProcessStep) -> str:
    return f'{verb} by {job.type} pk {job.pk} with {job.code}, {job.ctime[:19]}{_cache_note(job)}'


def _cache_note(job: ProcessStep) -> str:
    return f', cached from {job.cached_from}' if job.cached_from else ''


def _model_line(model: DataStep) -> str:
    if model.type == DENSITY_MODEL:
        group = model.facts['parameters']['group']
        return f'density network {group} pk {model.pk}, fingerprint {model.facts["fingerprint"][:12]}'
    baseline = model.facts['baseline']
    correction = (
        f', correction to {baseline["title"]} {baseline["version"]} / {baseline["protocol"]}' if baseline else ''
    )
    return f'model {model.facts["kind"]} pk {model.pk}, fingerprint {model.facts["fingerprint"][:12]}{correction}'


def _dataset_line(dataset: DataStep) -> str:
    split = ', '.join(f'{part} {rows}' for part, rows in dataset.facts['split'].items())
    return f'data set pk {dataset.pk}: {dataset.facts["n_rows"]} rows' + (f' ({split})' if split else '')


def _densities_line(densities: DataStep) -> str:
    facts = densities.facts
    spacings = dict.fromkeys(f'{facts[f"spacing_{end}_ang"]:.3f}' for end in ('min', 'max'))
    structures = counted(facts['n_densities'], 'structure')
    return f'densities pk {densities.pk}: {structures}, mesh spacing {" to ".join(spacings)} Å'


def _label_lines(origin: LabelOrigin, all_jobs: bool) -> list[str]:
    computers = ', '.join(sorted({job.computer for job in origin.jobs}))
    cached = sum(bool(job.cached_from) for job in origin.jobs)
    imported = sum(bool(job.imported) for job in origin.jobs)
    line = (
        f'<- {origin.role} {origin.name}: {origin.n_structures} structures in '
        f'{counted(origin.n_jobs, "job")} on {computers}'
        + (f', {cached} of them cached' if cached else '')
        + (f', {imported} of them imported runs' if imported else '')
    )
    shown = origin.jobs if all_jobs else origin.jobs[:_SHOWN_JOBS]
    lines = [
        f'     pk {job.pk} {job.uuid} {job.ctime[:19]} {_program_text(job)}: {job.n_finished} of '
        f'{job.n_rows}, exit {job.exit_status}{_cache_note(job)}'
        for job in shown
    ]
    if len(shown) < len(origin.jobs):
        lines.append(f'     and {counted(len(origin.jobs) - len(shown), "job")} more')
    if origin.pseudopotentials:
        digests = ', '.join(f'{element} {md5[:8]}' for element, md5 in sorted(origin.pseudopotentials.items()))
        lines.append(f'     pseudopotentials (MD5): {digests}')
    return [line, *lines]


def _program_text(job: LabelJob) -> str:
    if job.imported:
        return f'imported from {job.imported}'
    return f'{job.code} ({job.executable})' + (f' running {job.program}' if job.program else '')


def _structures_line(origin: StructureOrigin) -> str:
    pks = ', '.join(str(node.pk) for node in origin.nodes)
    formulas = ', '.join(sorted({formula for node in origin.nodes for formula in node.facts['formulas'][:1]}))
    # Bond lengths are rarely changed; the JSON has them.
    shown = {key: value for key, value in origin.parameters.items() if not key.endswith('_length')}
    settings = ', '.join(f'{key} {value}' for key, value in shown.items()) or formulas
    return f'{origin.n_structures} structures {origin.way}: {settings} (pk {pks})'


def _potential_line(origin: PotentialOrigin) -> str:
    what = f'{counted(origin.node.facts["n_potentials"], "potential")} (pk {origin.node.pk})'
    if not origin.function:
        return f'{what}, stored without a process'
    texts = [f'{name} {value}' for name, value in origin.inputs.items() if value != {}]
    inputs = ', '.join(textwrap.shorten(text, 100, placeholder=' …') for text in texts)
    return f'{what} made by {origin.function}: {inputs}'
