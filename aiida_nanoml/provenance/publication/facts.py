"""Facts about a publication, collected once from the graph for the statement, the README and the crate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from aiida import orm

from aiida_nanoml.provenance.audit import Audit
from aiida_nanoml.provenance.graph import ProvenanceGraph, select
from aiida_nanoml.provenance.lineage import Lineage
from aiida_nanoml.provenance.origins import DATASET, DENSITY_MODEL, LABELS, MODEL
from aiida_nanoml.provenance.publication.bibliography import Participants
from aiida_nanoml.provenance.publication.tables import final_nodes
from aiida_nanoml.text import counted


@dataclass(frozen=True)
class Person:
    """A person.

    :param email: empty if unknown.
    :param orcid: such as ``0000-0002-1825-0097``; empty if unknown.
    """

    name: str
    email: str = ''
    orcid: str = ''

    def __str__(self) -> str:
        email = f' <{self.email}>' if self.email and self.email != self.name else ''
        return f'{self.name}{email}{f", {self.orcid}" if self.orcid else ""}'


@dataclass(frozen=True)
class Licence:
    """Terms under which others may use what is published.

    :param spdx: identifier in the SPDX list.
    """

    spdx: str
    name: str
    url: str


_CC = 'https://creativecommons.org'
LICENCES = {
    licence.spdx: licence
    for licence in (
        Licence('CC-BY-4.0', 'Creative Commons Attribution 4.0 International', f'{_CC}/licenses/by/4.0/'),
        Licence(
            'CC-BY-SA-4.0', 'Creative Commons Attribution Share Alike 4.0 International', f'{_CC}/licenses/by-sa/4.0/'
        ),
        Licence(
            'CC-BY-NC-4.0',
            'Creative Commons Attribution Non Commercial 4.0 International',
            f'{_CC}/licenses/by-nc/4.0/',
        ),
        Licence('CC0-1.0', 'Creative Commons Zero v1.0 Universal', f'{_CC}/publicdomain/zero/1.0/'),
        Licence(
            'ODbL-1.0', 'Open Data Commons Open Database License v1.0', 'https://opendatacommons.org/licenses/odbl/1-0/'
        ),
        Licence('MIT', 'MIT License', 'https://opensource.org/license/mit'),
    )
}
"""Licences by their SPDX identifiers."""


@dataclass(frozen=True)
class Facts:
    """Facts about the published nodes and what they rest on.

    :param nodes: UUID, type and label of each published node.
    :param lineage: lineage of all of them together.
    :param core_versions: versions of aiida-core that the processes record.
    :param plugin_versions: versions of aiida-nanoml.
    :param left_out: rows that were left out of sets, with the reason and the set.
    :param persons: names of the users of AiiDA by their addresses, as the profile records them.
    :param audits: audits of the published nodes that can be audited.
    """

    title: str
    authors: tuple[Person, ...]
    licence: Licence
    published: str
    nodes: tuple[tuple[str, str, str], ...]
    lineage: Lineage
    core_versions: tuple[str, ...]
    plugin_versions: tuple[str, ...]
    left_out: tuple[str, ...]
    persons: dict[str, str]
    audits: tuple[Audit, ...]


def persons(emails: tuple[str, ...] | set[str]) -> dict[str, str]:
    """Return the names of the users of AiiDA by their addresses; without a name, the address."""
    query = orm.QueryBuilder().append(orm.User, project=['email', 'first_name', 'last_name'])
    names = {email: f'{first} {last}'.strip() or email for email, first, last in query.all()}
    return {email: names.get(email, email) for email in emails}


def versions(graph: ProvenanceGraph) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the versions of aiida-core and of this package that the processes ran with, sorted."""
    rows = select(graph.processes, 'attributes.version.core', 'attributes.version.plugin')
    # Processes of other packages record the versions of those.
    own = {pk for pk in graph.processes if ':nanoml.' in graph.nodes[pk].process_type}
    core = {str(core) for _, core, _ in rows if core}
    plugin = {str(plugin) for pk, _, plugin in rows if plugin and pk in own}
    return tuple(sorted(core)), tuple(sorted(plugin))


def left_out(graph: ProvenanceGraph) -> tuple[str, ...]:
    """Return what was left out of sets, and why."""
    texts = []
    for pk in final_nodes(graph, LABELS):
        attributes = graph.attributes(pk)
        where = f'{attributes["n_rows"]} labels of node {graph.nodes[pk].uuid}'
        texts += [f'{count} of {where} failed: {reason}' for reason, count in attributes['failures'].items()]
    for pk in graph.of_type(DATASET):
        attributes = graph.attributes(pk)
        where = f'the data set {graph.nodes[pk].uuid}'
        texts += [
            f'{counted(count, "structure")} of {where}: {reason}' for reason, count in attributes['excluded'].items()
        ]
        if attributes.get('unknown_classes'):
            unknown = counted(attributes['unknown_classes'], 'neighbourhood')
            texts.append(f'{unknown} of heavy atoms without a column in the descriptor of {where}')
    return tuple(texts)


def participants(graph: ProvenanceGraph, lineage: Lineage, core_versions: tuple[str, ...]) -> Participants:
    """Return everything that may have to be cited."""
    models = [(pk, graph.attributes(pk)) for pk in graph.of_type(MODEL, DENSITY_MODEL)]
    generated = [origin.parameters for origin in lineage.structures if origin.way == 'generated']
    pseudos = [pk for pk in graph.nodes if graph.type_name(pk).startswith('pseudo')]
    heads = {f'{graph.attributes(pk)["element"]} (MD5 {graph.attributes(pk)["md5"]})': _head(pk) for pk in pseudos}
    targets = [graph.attributes(pk).get('target') for pk in graph.of_type(DATASET)]
    return Participants(
        labels=tuple((origin.engine, origin.parameters, origin.version) for origin in lineage.labelling),
        models=tuple((attributes.get('kind', 'density network'), attributes['versions']) for _, attributes in models),
        processes=tuple(dict.fromkeys(record.type for record in graph.nodes.values() if record.is_process)),
        pseudopotential_heads=heads,
        core_versions=core_versions,
        corrected=any(attributes.get('baseline') for _, attributes in models),
        quasirandom=any(parameters.get('order') == 'sqs' for parameters in generated),
        density_of_states='dos_fermi' in targets,
    )


def _head(pk: int) -> str:
    """Return the first 400 characters of a pseudopotential file, which name the program that made it."""
    node: Any = orm.load_node(pk)
    return str(node.get_content()[:400])
