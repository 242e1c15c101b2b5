"""Origins of a node: labelling jobs, structures, potentials, codes and seeds, each described by one record."""

from __future__ import annotations

import functools
import json
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any

from aiida import orm

from aiida_nanoml.engines import engine_names, get_engine
from aiida_nanoml.learning.splits import split_parameters
from aiida_nanoml.provenance.graph import ProvenanceGraph, select

OURS = 'aiida.calculations:nanoml.'
"""Beginning of the process type of every calculation of this package."""

LABEL_JOB = 'aiida.calculations:nanoml.label'
SINGLE_RUN = 'aiida.calculations:nanoml.siesta'
PROGRAM_RUN = 'aiida.calculations:nanoml.program'
READ_RUN = 'aiida.calculations:nanoml.read_program_run'
RUN_IMPORT = 'aiida.calculations:nanoml.import_siesta_runs'
PROGRAM_RUN_IMPORT = 'aiida.calculations:nanoml.import_runs'
DENSITY_IMPORT = 'aiida.calculations:nanoml.import_siesta_densities'
LABEL_JOBS = (LABEL_JOB, SINGLE_RUN, PROGRAM_RUN, READ_RUN, RUN_IMPORT, PROGRAM_RUN_IMPORT, DENSITY_IMPORT)
TRAIN_JOB = 'aiida.calculations:nanoml.train'
STUDY_JOB = 'aiida.calculations:nanoml.study'
PREDICT_JOB = 'aiida.calculations:nanoml.predict'
DENSITY_TRAIN_JOB = 'aiida.calculations:nanoml.density_train'
DENSITY_PREDICT_JOB = 'aiida.calculations:nanoml.density_predict'
RMATRIX_JOB = 'aiida.calculations:nanoml.rmatrix'
GENERATORS = ('generate_flake_set', 'generate_flake_sets')
STRUCTURE_IMPORT = 'import_structures'
RUN_READERS = ('import_siesta_runs', 'import_runs', 'collect_runs')
DATASET_IMPORT = 'import_dataset'

SPLITS = (('split_dataset', 'parameters'), ('assemble_dataset', 'split'))
"""Functions and inputs that define how rows are split; a seed that is not given is the default."""
PATHS = ('filepath_executable', 'image_name', 'remote_exec_path', 'local_executable')
CODE_INPUTS = ('code', 'engine_code')

LABELS = 'nanoml.labels'
DATASET = 'nanoml.dataset'
MODEL = 'nanoml.model'
PREDICTION = 'nanoml.prediction'
STRUCTURES = 'nanoml.structures'
POTENTIALS = 'nanoml.potentials'
DENSITIES = 'nanoml.densities'
DENSITY_MODEL = 'nanoml.density_model'


@dataclass(frozen=True)
class DataStep:
    """A data node in a lineage.

    :param facts: its most important attributes: number of rows, metrics, fingerprint, …
    """

    pk: int
    uuid: str
    type: str
    label: str
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ProcessStep:
    """A process in a lineage.

    :param code: ``label@computer`` of the executable, and its path in ``executable``; empty for a function.
    :param cached_from: UUID of the process whose results were copied from the cache; empty if this one was really run.
    """

    pk: int
    uuid: str
    type: str
    ctime: str
    user: str
    computer: str
    code: str
    executable: str
    exit_status: int | None
    cached_from: str


@dataclass(frozen=True)
class LabelJob(ProcessStep):
    """A labelling job, with the number of rows that it was given and that it finished.

    :param program: ``label@computer`` of the program that the engine ran; empty for an engine without one.
    :param imported: folder of an imported run, which the program did without AiiDA; else empty.
    """

    n_rows: int
    n_finished: int
    program: str
    imported: str


@dataclass(frozen=True)
class LabelOrigin:
    """Labelling jobs with the same engine, version, protocol and parameters.

    :param pseudopotentials: MD5 of the file of each element, if the engine uses pseudopotentials.
    :param n_structures: finished rows of all jobs together.
    :param role: ``labels``, or ``baseline`` if a data set or a model of the lineage has these labels as its baseline.
    """

    engine: str
    version: str
    title: str
    protocol: str
    parameters: dict[str, Any]
    pseudopotentials: dict[str, str]
    n_structures: int
    n_jobs: int
    jobs: tuple[LabelJob, ...]
    role: str = 'labels'

    @property
    def name(self) -> str:
        """Return title and version of the engine, and the protocol, as sentences name them."""
        return f'{self.title} {self.version} / {self.protocol}'


@dataclass(frozen=True)
class LabelClaim:
    """Labels that no labelling job in the graph made.

    :param node: the data set, labels or densities.
    :param way: ``imported`` or ``stored without a process``.
    :param source: origin that the node states.
    :param role: as of :class:`LabelOrigin`.
    """

    node: DataStep
    way: str
    source: str
    role: str = 'labels'


@dataclass(frozen=True)
class StructureOrigin:
    """Structures that were generated or read from a file, or that no process made.

    :param way: ``generated``, ``imported``, ``read from finished runs``, ``made by`` another function, or ``stored``
        without a process.
    :param parameters: parameters of the generator with its seed, or the name of the file.
    """

    way: str
    n_structures: int
    parameters: dict[str, Any]
    process: ProcessStep | None
    nodes: tuple[DataStep, ...]


@dataclass(frozen=True)
class PotentialOrigin:
    """Potentials of transmissions, and how they were made.

    :param function: function that made them; empty if no process did.
    :param inputs: inputs of the function: numbers and texts as they are, the name of a file, or the PK of another node.
    """

    node: DataStep
    function: str
    inputs: dict[str, Any]


@dataclass(frozen=True)
class Executable:
    """A code that a job of the lineage ran.

    :param label: ``label@computer``.
    :param path: path of the executable, or of the image of a container.
    :param hostname: host name of the computer.
    :param n_jobs: jobs that ran it, directly or as the program of an engine.
    """

    pk: int
    uuid: str
    label: str
    path: str
    hostname: str
    n_jobs: int


@dataclass(frozen=True)
class Pseudopotential:
    """A pseudopotential file that labels were made with.

    :param uuid: UUID of its node; empty if the labels name it by its MD5 only.
    """

    element: str
    md5: str
    filename: str
    uuid: str


@dataclass(frozen=True)
class Seed:
    """A seed of random numbers.

    :param of: function or job that used it.
    :param default: whether it was not given, so that the default was used.
    """

    of: str
    pk: int
    value: int
    default: bool = False


def theory_of(engine: str) -> str:
    """Return the kind of theory of an engine, or that the engine is not installed."""
    return get_engine(engine).theory if engine in engine_names() else f'the engine {engine}, which is not installed'


_FACTS = {
    POTENTIALS: ('n_potentials', 'names'),
    STRUCTURES: ('n_structures', 'formulas', 'families'),
    LABELS: ('engine', 'engine_version', 'engine_title', 'protocol', 'n_rows', 'n_finished', 'failures'),
    DATASET: (
        'n_rows',
        'n_features',
        'families',
        'split',
        'excluded',
        'unknown_classes',
        'labels',
        'baseline',
        'learnt_rows',
        'selection',
    ),
    MODEL: ('kind', 'target', 'fingerprint', 'metrics', 'parameters', 'versions', 'labels', 'baseline'),
    DENSITIES: (
        'n_densities',
        'kind',
        'engine',
        'engine_version',
        'engine_title',
        'protocol',
        'model_fingerprint',
        'n_points',
        'spacing_min_ang',
        'spacing_max_ang',
    ),
    DENSITY_MODEL: ('fingerprint', 'metrics', 'parameters', 'elements', 'n_free_weights', 'versions', 'labels'),
    PREDICTION: ('n_rows', 'target', 'unit', 'model_kind', 'model_fingerprint', 'max_distance', 'baseline'),
}
"""Most important attributes of a data node, by type."""


def data_step(graph: ProvenanceGraph, pk: int) -> DataStep:
    """Describe a data node of a graph."""
    node = graph.nodes[pk]
    facts = {key: graph.attributes(pk).get(key) for key in _FACTS.get(node.type, ())}
    return DataStep(pk=pk, uuid=node.uuid, type=node.type, label=node.label, facts=facts)


class LineageGraph(ProvenanceGraph):
    """Ancestors of a node, and records that describe each part of them."""

    def step(self, pk: int) -> DataStep | ProcessStep:
        """Describe a node."""
        return self.process_step(pk) if self.nodes[pk].is_process else data_step(self, pk)

    def process_step(self, pk: int) -> ProcessStep:
        """Describe a process."""
        return ProcessStep(**self._process_fields(pk))

    def _process_fields(self, pk: int) -> dict[str, Any]:
        node = self.nodes[pk]
        code, folder = self.inputs[pk].get('code'), self.inputs[pk].get('remote_folder')
        executable = '' if code is None else self.path(code)
        return {
            'pk': pk,
            'uuid': node.uuid,
            'type': node.type,
            'ctime': node.ctime,
            'user': node.user,
            'computer': node.computer or ('' if folder is None else self.nodes[folder].computer),
            'code': self.full_label(code),
            'executable': executable,
            'exit_status': node.exit_status,
            'cached_from': node.cached_from,
        }

    def path(self, code: int) -> str:
        """Return the path of an executable, from any kind of code, those of aiida-core 1 included."""
        attributes = self.attributes(code)
        return next((str(attributes[key]) for key in PATHS if attributes.get(key)), '')

    def full_label(self, code: int | None) -> str:
        """Return ``label@computer`` of a code; empty without one."""
        return '' if code is None else f'{self.nodes[code].label}@{self.nodes[code].computer}'.rstrip('@')

    def datasets(self, start: int) -> list[int]:
        """Return the PKs of data sets that a job used, or that nothing used; not those from which they were split."""
        return self._used_sets(DATASET, start, TRAIN_JOB, PREDICT_JOB)

    def densities(self, start: int) -> list[int]:
        """Return the PKs of computed densities that a job used, or that nothing used; not the parts of a joined set."""
        found = self._used_sets(DENSITIES, start, DENSITY_TRAIN_JOB, DENSITY_PREDICT_JOB)
        return [pk for pk in found if not self.attributes(pk)['model_fingerprint']]

    def _used_sets(self, kind: str, start: int, *jobs: str) -> list[int]:
        used = {start, *self.used_sets(kind, *jobs)}
        return [pk for pk in self.of_type(kind) if pk in used]

    def label_origins(self) -> tuple[LabelOrigin, ...]:
        """Return the labelling jobs, grouped by engine, version, protocol and parameters."""
        self._add_labels_of_single_runs()
        made = {pk: self.labels_of_job(pk) for pk in self.jobs(*LABEL_JOBS)}
        labelled = _label_facts([pk for pk in made.values() if pk is not None])
        groups: dict[str, list[tuple[dict[str, Any], dict[str, str], LabelJob]]] = defaultdict(list)
        for pk, result in made.items():
            if result is None:  # the node itself, which failed or whose results are not in the lineage
                continue
            source, pseudopotentials, counts = labelled[result]
            folder = self.inputs[pk].get('remote_folder')
            job = LabelJob(
                **self._process_fields(pk),
                n_rows=self._n_given(pk, counts['n_densities']) if counts['n_rows'] is None else counts['n_rows'],
                n_finished=counts['n_densities'] if counts['n_finished'] is None else counts['n_finished'],
                program=self.full_label(self.inputs[pk].get('engine_code')),
                imported='' if folder is None else str(self.attributes(folder)['remote_path']),
            )
            groups[json.dumps(source, sort_keys=True)].append((source, pseudopotentials, job))
        return tuple(
            LabelOrigin(
                **members[0][0],
                pseudopotentials={key: md5 for _, used, _ in members for key, md5 in used.items()},
                n_structures=sum(job.n_finished for _, _, job in members),
                n_jobs=len(members),
                jobs=tuple(job for _, _, job in members),
                role=self.role(members[0][0]),
            )
            for members in groups.values()
        )

    def labels_of_job(self, job: int) -> int | None:
        """Return the PK of the labels that a job made, or of its densities if the labels are not in the graph."""
        made = self.outputs[job]
        kinds = {self.type_name(pk): pk for pk in made.values()}
        return kinds.get(LABELS, kinds.get(DENSITIES))

    def _add_labels_of_single_runs(self) -> None:
        """Add the labels of single runs of which only another output was used, such as files to compare starts."""
        pks = [pk for pk in self.jobs(SINGLE_RUN) if self.outputs[pk] and self.labels_of_job(pk) is None]
        if pks:
            query = orm.QueryBuilder().append(orm.Node, filters={'id': {'in': pks}}, project='id', tag='run')
            query.append(
                orm.Node, with_incoming='run', filters={'node_type': {'like': f'data.{LABELS}.%'}}, project='id'
            )
            for run, labels in query.all():
                self.add(labels, run, 'labels')

    def _n_given(self, job: int, n_made: int) -> int:
        """Return the number of structures that a labelling job was given."""
        inputs = self.inputs[job]
        if 'rows' in inputs:
            return len(self.attributes(inputs['rows'])['list'])
        return int(self.attributes(inputs['structures'])['n_structures']) if 'structures' in inputs else n_made

    def claims(self) -> tuple[LabelClaim, ...]:
        """Return data sets, labels and densities from outside, with the origin that they state."""
        claims = []
        for pk in self.of_type(LABELS, DATASET, DENSITIES):
            creator = self.creator.get(pk)
            if creator is not None and self.type_name(creator) != DATASET_IMPORT:
                continue
            way = 'stored without a process' if creator is None else 'imported'
            attributes = self.attributes(pk)
            if self.type_name(pk) == DATASET:
                source = dict(attributes['labels'])
            else:
                source = {'title': attributes['engine_title'], 'version': attributes['engine_version']}
                source['protocol'] = attributes['protocol']
            engine = f'{source.get("title", "?")} {source.get("version", "")}'.strip()
            stated = f'{engine}, protocol {source.get("protocol", "?")}'
            if attributes.get('model_fingerprint'):
                stated = f'the model {attributes["model_fingerprint"][:12]}, which learnt from {stated}'
            claims.append(LabelClaim(data_step(self, pk), way, stated, self.role(source)))
        return tuple(claims)

    def role(self, source: dict[str, Any]) -> str:
        """Return ``baseline`` if a data set or a model has labels of this origin as its baseline, else ``labels``."""
        baselines = [self.attributes(pk).get('baseline') or {} for pk in self.of_type(DATASET, MODEL)]
        same = any(all(found.get(key) == value for key, value in source.items()) for found in baselines)
        return 'baseline' if same and source else 'labels'

    def potential_origins(self) -> tuple[PotentialOrigin, ...]:
        """Return every set of potentials, with the inputs of the function that made it."""
        origins = []
        for pk in self.of_type(POTENTIALS):
            creator = self.creator.get(pk)
            inputs = {} if creator is None else self.inputs[creator]
            origins.append(
                PotentialOrigin(
                    node=data_step(self, pk),
                    function='' if creator is None else self.type_name(creator),
                    inputs={name: self.short_value(source) for name, source in sorted(inputs.items())},
                )
            )
        return tuple(origins)

    def short_value(self, pk: int) -> Any:
        """Return a number, a text, a dictionary or the name of a file that a node holds, or else its PK."""
        attributes = self.attributes(pk)
        kind = self.type_name(pk)
        if kind == 'core.dict':
            return dict(attributes)
        return attributes.get('value', attributes.get('filename', f'pk {pk}'))

    def structure_origins(self) -> tuple[StructureOrigin, ...]:
        """Return the sets of structures that do not come from other sets, by the process that made them."""
        origins = []
        by_creator: dict[int | None, list[int]] = defaultdict(list)
        placed = set(self.of_type('core.structure')) & self.creator.keys()  # single structures, taken out of a set
        for pk in self.of_type(STRUCTURES):
            by_creator[self.creator.get(pk)].append(pk)
        for creator, members in by_creator.items():
            inputs = self.inputs[creator] if creator is not None else {}
            if any(self.type_name(pk) == STRUCTURES or pk in placed for pk in inputs.values()):
                continue
            way, parameters = 'stored', {}
            if creator is not None:
                function = self.type_name(creator)
                if function in GENERATORS:
                    way, parameters = 'generated', dict(self.attributes(inputs['parameters']))
                elif function == STRUCTURE_IMPORT:
                    way, parameters = 'imported', {'filename': self.attributes(inputs['file'])['filename']}
                elif function in RUN_READERS:
                    way = 'read from finished runs'
                else:
                    way = f'made by {function}'
            nodes = tuple(data_step(self, pk) for pk in members)
            origins.append(
                StructureOrigin(
                    way=way,
                    n_structures=sum(node.facts['n_structures'] for node in nodes),
                    parameters=parameters,
                    process=None if creator is None else self.process_step(creator),
                    nodes=nodes,
                )
            )
        return tuple(origins)

    def executables(self) -> tuple[Executable, ...]:
        """Return the codes that ran, with the number of their jobs."""
        jobs = Counter(pk for inputs in self.inputs.values() for name, pk in inputs.items() if name in CODE_INPUTS)
        hosts = self.computers()
        return tuple(
            Executable(
                pk=pk,
                uuid=self.nodes[pk].uuid,
                label=self.full_label(pk),
                path=self.path(pk),
                hostname=hosts.get(self.nodes[pk].computer, ''),
                n_jobs=jobs[pk],
            )
            for pk in self.nodes
            if pk in jobs
        )

    def computers(self) -> dict[str, str]:
        """Return the host names of the computers, by label."""
        used = {record.computer for record in self.nodes.values()} - {''}
        rows = orm.QueryBuilder().append(orm.Computer, project=['label', 'hostname']).all()
        return {label: hostname for label, hostname in sorted(rows) if label in used}

    def pseudopotentials(self, labelling: tuple[LabelOrigin, ...]) -> tuple[Pseudopotential, ...]:
        """Return the pseudopotentials of the labels: those in the graph, and those that labels name."""
        found = {
            (attributes['element'], attributes['md5']): Pseudopotential(
                attributes['element'], attributes['md5'], attributes.get('filename', ''), self.nodes[pk].uuid
            )
            for pk in self.nodes
            if self.type_name(pk).startswith('pseudo')
            for attributes in [self.attributes(pk)]
        }
        for origin in labelling:
            for element, md5 in origin.pseudopotentials.items():
                found.setdefault((element, md5), Pseudopotential(element, md5, '', ''))
        return tuple(found[key] for key in sorted(found))

    def seeds(self) -> tuple[Seed, ...]:
        """Return the seeds among the inputs of processes, and those that models were trained with."""
        found = []
        for process, inputs in self.inputs.items():
            if self.nodes[process].process_type in LABEL_JOBS:
                continue
            name = self.type_name(process)
            for label, pk in inputs.items():
                if self.type_name(pk) == 'core.int' and label == 'seed':
                    found.append(Seed(name, process, self.attributes(pk)['value']))
                elif self.type_name(pk) == 'core.dict' and 'seed' in self.attributes(pk):
                    found.append(Seed(name, process, self.attributes(pk)['seed']))
                elif (name, label) in SPLITS:
                    found.append(Seed(name, process, split_parameters(self.attributes(pk))['seed'], default=True))
        for pk in self.of_type(MODEL, DENSITY_MODEL):
            seed = self.attributes(pk)['parameters'].get('seed')
            if seed is not None and pk in self.creator:
                found.append(Seed(self.type_name(self.creator[pk]), self.creator[pk], seed))
        unique = {(seed.pk, seed.value): seed for seed in found}
        return tuple(sorted(unique.values(), key=lambda seed: self._position[seed.pk]))

    def orphans(self) -> tuple[DataStep, ...]:
        """Return the models and predictions without the process that made them."""
        return tuple(
            data_step(self, pk) for pk in self.of_type(MODEL, DENSITY_MODEL, PREDICTION) if pk not in self.creator
        )


_COUNTS = ('n_rows', 'n_finished', 'n_densities')
_SOURCE = {'engine': 'engine', 'version': 'engine_version', 'title': 'engine_title', 'protocol': 'protocol'}


def _label_facts(pks: list[int]) -> dict[int, tuple[dict[str, Any], dict[str, str], dict[str, int | None]]]:
    """Return source, pseudopotentials and counts of labels or densities.

    Thousands of them have the same parameters: these are queried as text, and parsed once.
    """
    names = [*_SOURCE.values(), *_COUNTS]
    texts = [{f'attributes.{name}': {'cast': 't'}} for name in ('parameters', 'pseudopotentials')]
    read = functools.cache(json.loads)
    facts = {}
    for pk, *found in select(pks, *(f'attributes.{name}' for name in names), *texts):
        *values, parameters, pseudopotentials = found
        columns = dict(zip(names, values, strict=True))
        source = {key: columns[name] for key, name in _SOURCE.items()} | {'parameters': read(parameters)}
        facts[pk] = source, read(pseudopotentials or '{}'), {name: columns[name] for name in _COUNTS}
    return facts
