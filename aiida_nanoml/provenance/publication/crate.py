"""Machine-readable description of a publication: a Workflow Run RO-Crate, profile Provenance Run Crate."""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiida_nanoml.engines.registry import engine_names, get_engine
from aiida_nanoml.errors import ProvenanceError
from aiida_nanoml.provenance.graph import ProvenanceGraph
from aiida_nanoml.provenance.origins import OURS
from aiida_nanoml.provenance.publication.facts import Facts, Person
from aiida_nanoml.provenance.publication.readme import ARCHIVE, BIBLIOGRAPHY, CHECKSUMS, CRATE, README, TABLES, WORKFLOW
from aiida_nanoml.provenance.publication.steps import Step, Steps, port_of

if TYPE_CHECKING:
    from rocrate.model.entity import Entity
    from rocrate.rocrate import ROCrate

VERSION = '1.1'
"""Version of RO-Crate, which the profiles below extend."""

PROFILES = {
    'https://w3id.org/ro/wfrun/process/0.5': 'Process Run Crate',
    'https://w3id.org/ro/wfrun/workflow/0.5': 'Workflow Run Crate',
    'https://w3id.org/ro/wfrun/provenance/0.5': 'Provenance Run Crate',
    'https://w3id.org/workflowhub/workflow-ro-crate/1.0': 'Workflow RO-Crate',
}
"""Profiles of a crate with runs; nodes without a process are described by a plain RO-Crate."""

BIOSCHEMAS = 'https://bioschemas.org/profiles/ComputationalWorkflow/1.0-RELEASE'
MAIN_TYPES = ['File', 'SoftwareSourceCode', 'ComputationalWorkflow', 'HowTo']

FEW = 20
"""Largest number of nodes that are listed one by one."""

COMPLETED = 'http://schema.org/CompletedActionStatus'
FAILED = 'http://schema.org/FailedActionStatus'

ENCODINGS = {
    '.csv': 'text/csv',
    '.md': 'text/markdown',
    '.json': 'application/json',
    '.png': 'image/png',
    '.pdf': 'application/pdf',
    '.svg': 'image/svg+xml',
    '.tex': 'text/x-tex',
    '.bib': 'text/x-bibtex',
    '.cwl': 'application/x-yaml',
    '.extxyz': 'chemical/x-xyz',
    '.aiida': 'application/zip',
    '': 'text/plain',
}
"""Media types by file ending."""


def write_crate(folder: Path, facts: Facts, graph: ProvenanceGraph, steps: Steps, titles: Mapping[str, str]) -> None:
    """Write ``ro-crate-metadata.json`` of a folder, after all other files except ``SHA256SUMS``.

    :param titles: description of each file, by its path in the folder.
    :raises ProvenanceError: the crate is not valid.
    """
    writer = _Writer(facts, graph, steps)
    writer.describe_files(folder, titles)
    if steps.steps:
        writer.describe_runs()
    writer.unwrap()
    writer.crate.metadata.write(folder)
    check_crate(folder)


class _Writer:
    """Adds the entities to the crate."""

    def __init__(self, facts: Facts, graph: ProvenanceGraph, steps: Steps) -> None:
        from rocrate.rocrate import ROCrate

        self.facts, self.graph, self.steps = facts, graph, steps
        self.crate: ROCrate = ROCrate(gen_preview=False, version=VERSION)
        self.root = self.crate.root_dataset
        self._persons: dict[str, Entity] = {}
        self._files: dict[str, Entity] = {}
        self._values: dict[str, Entity] = {}
        licence = facts.licence
        self.root['name'] = facts.title
        self.root['description'] = (
            f'{facts.lineage.dft}. {facts.lineage.statement}. Published with its full provenance as an AiiDA archive.'
        )
        self.root['datePublished'] = facts.published
        self.root['license'] = self.add(
            licence.url, 'CreativeWork', name=licence.name, identifier=licence.spdx, description=f'SPDX: {licence.spdx}'
        )
        self.root['author'] = [self.person(author) for author in facts.authors]
        self.root['identifier'] = [uuid for uuid, _, _ in facts.nodes]

    def add(self, key: str, kind: str, /, **properties: Any) -> Entity:
        """Add an entity that is no file; empty properties are left out."""
        from rocrate.model.contextentity import ContextEntity

        given = {name: value for name, value in properties.items() if value not in (None, '', [])}
        return self.crate.add(ContextEntity(self.crate, key, properties={'@type': kind} | given))

    def person(self, who: Person) -> Entity:
        """Return the entity of a person; each person has one."""
        key = who.email or who.name
        if key not in self._persons:
            identifier = f'https://orcid.org/{who.orcid}' if who.orcid else f'#person-{len(self._persons) + 1}'
            self._persons[key] = self.add(identifier, 'Person', name=who.name, email=who.email)
        return self._persons[key]

    def unwrap(self) -> None:
        """Write lists of one value as this value, as RO-Crate recommends."""
        for entity in self.crate.get_entities():
            properties = entity.properties()
            properties |= {
                name: value[0] for name, value in properties.items() if isinstance(value, list) and len(value) == 1
            }

    def describe_files(self, folder: Path, titles: Mapping[str, str]) -> None:
        """Add every file with its type and size."""
        for name, title in titles.items():
            path = folder / name
            properties: dict[str, Any] = {'name': title, 'encodingFormat': ENCODINGS.get(path.suffix, 'text/plain')}
            if name != CHECKSUMS:
                properties['contentSize'] = str(path.stat().st_size)
            if name == WORKFLOW:
                properties |= {'@type': MAIN_TYPES, 'name': f'Steps that led to: {self.facts.title}'}
                self._files[name] = self.crate.add_workflow(path, name, main=True, lang='cwl', properties=properties)
            else:
                self._files[name] = self.crate.add_file(path, name, properties=properties)
        self._files[README]['about'] = self.root
        self.root['citation'] = self._files[BIBLIOGRAPHY]

    def describe_runs(self) -> None:
        """Add the workflow with its steps, tools and parameters, and an action for each step."""
        workflow, archive = self._files[WORKFLOW], self._files[ARCHIVE]
        for identifier, name in PROFILES.items():
            version = identifier.rpartition('/')[2]
            self.root.append_to('conformsTo', self.add(identifier, 'CreativeWork', name=name, version=version))
        workflow['conformsTo'] = self.add(BIOSCHEMAS, 'CreativeWork', name='Bioschemas ComputationalWorkflow')
        workflow['license'] = self.root['license']
        workflow['version'] = self.facts.published
        for given in self.steps.given:
            value = self.value(f'#given-{given.key}', given.key, given.type, given.pks)
            self._values[given.key] = value
            workflow.append_to('input', self.parameter(f'#input-{given.key}', given.key, 'PropertyValue', value))
        for result in self.steps.results:
            workflow.append_to('output', self.parameter(f'#output-{result}', result, 'File', archive))
        actions = [self.step(number, step) for number, step in enumerate(self.steps.steps, start=1)]
        imported = any(step.imported for step in self.steps.steps)
        run = self.add(
            '#run',
            'CreateAction',
            name=f'Runs that led to: {self.facts.title}',
            description='All runs in the provenance of the published nodes, started by workflows or by hand.',
            instrument=workflow,
            object=[self._values[given.key] for given in self.steps.given],
            result=[archive],
            agent=[self.person(Person(name, email)) for email, name in self.facts.persons.items()],
            startTime='' if imported else _to_seconds(self.facts.lineage.began),
            endTime=_to_seconds(self.facts.lineage.ended),
            actionStatus=COMPLETED,
        )
        self.add(
            '#engine',
            'OrganizeAction',
            name='AiiDA ran or imported the processes and recorded their inputs and outputs',
            instrument=self.software('#aiida-core', 'aiida-core', 'https://www.aiida.net', self.facts.core_versions),
            object=[control for _, control in actions],
            result=run,
        )
        self.root['mentions'] = [run, *(action for action, _ in actions)]

    def step(self, position: int, step: Step) -> tuple[Entity, Entity]:
        """Add a step with its results, the action of its runs, and the control action."""
        workflow, tools = self._files[WORKFLOW], self.tools(step)
        for tool in tools:
            if tool not in workflow.get('hasPart', []):
                workflow.append_to('hasPart', tool)
        place = self.add(
            f'{WORKFLOW}#{step.key}', 'HowToStep', name=step.name, position=str(position), workExample=tools[0]
        )
        workflow.append_to('step', place)
        for port in step.outputs:
            pks = [pk for run in step.pks for label, pk in self.graph.outputs[run].items() if port_of(label) == port]
            kind = ', '.join(sorted({self.graph.type_name(pk) for pk in pks}))
            self._values[f'{step.key}/{port}'] = self.value(f'#made-{step.key}-{port}', port, kind, pks)
        sources = dict.fromkeys(place for places in step.sources.values() for place in places)
        failed = step.exit_status not in (0, None)
        action = self.add(
            f'#run-{step.key}',
            'CreateAction',
            name=f'{len(step.pks)} runs of {step.name}' if len(step.pks) > 1 else step.name,
            description=_description(step),
            identifier=[self.graph.nodes[pk].uuid for pk in step.pks] if len(step.pks) <= FEW else '',
            instrument=tools,
            object=[self._values[source] for source in sources],
            result=[self._values[f'{step.key}/{port}'] for port in step.outputs],
            agent=None if step.imported else self.person(Person(self.facts.persons[step.user], step.user)),
            startTime='' if step.imported else _to_seconds(step.began),
            endTime='' if step.imported else _to_seconds(step.ended),
            actionStatus=FAILED if failed else COMPLETED,
            error=f'exit status {step.exit_status}' if failed else '',
            subjectOf=self._files.get(f'{TABLES}/runs.csv'),
        )
        control = self.add(
            f'#control-{step.key}', 'ControlAction', name=f'Control of {step.name}', instrument=place, object=action
        )
        return action, control

    def tools(self, step: Step) -> list[Entity]:
        """Return what a step ran: for labels the code of the engine first, then the process and its executables."""
        tools = []
        if step.origin is not None:
            origin = self.facts.lineage.labelling[step.origin]
            known = get_engine(origin.engine) if origin.engine in engine_names() else None
            name, url = (known.title, known.url) if known else (origin.title, '')
            identifier = f'#{origin.engine}-{origin.version}'.replace(' ', '-')
            tools.append(self.software(identifier, name, url, (origin.version,)))
        ours = step.process_type.startswith(OURS) or not step.process_type
        versions = self.facts.plugin_versions if ours else ()
        tools.append(self.software(f'#process-{step.name}', f'aiida-nanoml {step.name}', '', versions))
        for pk in step.codes:
            code = next(found for found in self.facts.lineage.executables if found.pk == pk)
            tools.append(
                self.software(f'#code-{code.uuid}', code.label, '', (), f'executable {code.path} on {code.hostname}')
            )
        return tools

    def software(self, identifier: str, name: str, url: str, versions: Sequence[str], description: str = '') -> Entity:
        """Return the entity of a code; each code has one."""
        known = self.crate.get(identifier)
        version = ', '.join(versions)
        return known or self.add(
            identifier, 'SoftwareApplication', name=name, url=url, softwareVersion=version, description=description
        )

    def value(self, identifier: str, name: str, kind: str, pks: Sequence[int]) -> Entity:
        """Return the entity of nodes of the archive: the content of a single number or dictionary, else the UUIDs."""
        uuids: str | list[str] = [self.graph.nodes[pk].uuid for pk in pks]
        value: str | list[str] = uuids if len(pks) <= FEW else ''
        if len(pks) == 1 and kind in ('core.dict', 'core.int', 'core.float', 'core.str', 'core.bool', 'core.list'):
            attributes = self.graph.attributes(pks[0])
            value = json.dumps(attributes.get('value', attributes.get('list', attributes)), sort_keys=True)
        nodes = f'{len(pks)} nodes' if len(pks) > 1 else f'node {uuids[0]}'
        description = f'{nodes} of the type {kind} in {ARCHIVE}'
        return self.add(identifier, 'PropertyValue', name=name, value=value or description, description=description)

    def parameter(self, identifier: str, name: str, kind: str, value: Entity) -> Entity:
        """Return the entity of an input or output of the workflow, with its value."""
        found = self.add(identifier, 'FormalParameter', name=name, additionalType=kind, workExample=value)
        value.append_to('exampleOfWork', found)
        return found


def _to_seconds(time: str) -> str:
    return datetime.datetime.fromisoformat(time).isoformat(timespec='seconds')


def _description(step: Step) -> str:
    parts = [f'{len(step.pks)} equal runs of {step.name}' if len(step.pks) > 1 else f'one run of {step.name}']
    parts.append(f'at {step.computer}' if step.computer else 'in the process that called it')
    if step.imported:
        parts.append('imported; who ran them and when is not recorded')
    if step.cached:
        parts.append('with results copied from the cache')
    parts.append(f'listed with user, time and exit status in {TABLES}/runs.csv')
    return ', '.join(parts)


def check_crate(folder: Path) -> None:
    """Check what every profile requires: a root, existing files, references to existing entities.

    The profiles themselves are checked by ``rocrate-validator``, which needs their shapes and the web.

    :raises ProvenanceError: the message names everything that is wrong.
    """
    content = json.loads((folder / CRATE).read_text(encoding='utf-8'))
    entities = content['@graph']
    by_id = {entity['@id']: entity for entity in entities}
    faults = [] if len(by_id) == len(entities) else ['two entities have one @id']
    root = by_id.get('./', {})
    faults += [
        f'the root has no {name}' for name in ('name', 'description', 'datePublished', 'license') if not root.get(name)
    ]
    for entity in entities:
        for name, value in entity.items():
            for target in value if isinstance(value, list) else [value]:
                identifier = target.get('@id', '') if isinstance(target, dict) else ''
                if identifier and identifier not in by_id and not identifier.startswith(('http://', 'https://')):
                    faults.append(f'{entity["@id"]}: {name} refers to {identifier}, which does not exist')
        kinds = entity['@type'] if isinstance(entity['@type'], list) else [entity['@type']]
        if 'File' in kinds and entity['@id'] != CHECKSUMS and not (folder / entity['@id']).is_file():
            faults.append(f'there is no file {entity["@id"]}')
        if 'CreateAction' in kinds and not entity.get('instrument'):
            faults.append(f'{entity["@id"]} has no instrument')
    listed = {part['@id'] for part in root.get('hasPart', [])}  # the archive and the README at least
    there = {path.relative_to(folder).as_posix() for path in folder.rglob('*') if path.is_file()} - {CRATE}
    faults += [f'{name} is not in the crate' for name in sorted(there - listed)]
    if faults:
        raise ProvenanceError(f'the RO-Crate that was written is not valid: {"; ".join(faults)}')
