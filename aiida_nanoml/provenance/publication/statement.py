"""Data statement of a publication: a paragraph for a paper, in Markdown and in LaTeX."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from aiida_nanoml.learning.targets import find_target
from aiida_nanoml.learning.verdict import judge_model
from aiida_nanoml.provenance.audit.findings import ERROR
from aiida_nanoml.provenance.lineage import Lineage
from aiida_nanoml.provenance.origins import MODEL, PREDICTION, DataStep, LabelOrigin, theory_of
from aiida_nanoml.provenance.publication.bibliography import Bibliography, engine_keys
from aiida_nanoml.provenance.publication.facts import Facts
from aiida_nanoml.provenance.publication.latex import escape
from aiida_nanoml.text import capitalised, counted


@dataclass(frozen=True)
class Sentence:
    """Plain text, and the keys of the references that it cites."""

    text: str
    keys: tuple[str, ...] = ()


def sentences(facts: Facts, cited: Bibliography) -> tuple[Sentence, ...]:
    """Return how the published numbers were computed: codes, versions, protocols, counts, seeds, what was left out."""
    return tuple(_sentences(facts, cited))


def _sentences(facts: Facts, cited: Bibliography) -> Iterator[Sentence]:
    lineage = facts.lineage
    uuids = ', '.join(f'{kind} {uuid}' for uuid, kind, _ in facts.nodes)
    yield Sentence(
        f'This publication contains {uuids} with their full provenance, as an AiiDA archive', cited.keys('AiiDA')
    )
    if lineage.rests_on_dft:
        yield Sentence(f'All labels come from density-functional theory: {lineage.dft.removeprefix("DFT: ")}')
    else:
        yield Sentence(capitalised(lineage.dft))
    for origin in lineage.labelling:
        yield from _labels(origin, cited)
    yield from (
        Sentence(
            f'The {claim.role} of node {claim.node.uuid} were {claim.way}; they are said to come from {claim.source}'
        )
        for claim in lineage.claims
    )
    yield from _structures(lineage)
    yield from _models(lineage, cited)
    yield from _audits(facts)
    if lineage.transmission_jobs:
        runs = counted(len(lineage.transmission_jobs), 'run')
        yield Sentence(f'Transmissions were computed in {runs} by the R-matrix method', cited.keys('R-matrix'))
    yield from _software(facts)
    if lineage.seeds:
        seeds = dict.fromkeys(
            f'{seed.value} of {seed.of}{" (default, not given)" if seed.default else ""}' for seed in lineage.seeds
        )
        yield Sentence(f'Seeds of random numbers: {", ".join(seeds)}')
    else:
        yield Sentence('No seed of random numbers is recorded')
    left_out = '; '.join(facts.left_out)
    yield Sentence(f'Left out: {left_out}' if left_out else 'No structure is recorded as left out')
    if cited.missing:
        yield Sentence(f'No reference is known to this package for {"; ".join(cited.missing)}')


def _labels(origin: LabelOrigin, cited: Bibliography) -> Iterator[Sentence]:
    what = 'Baselines' if origin.role == 'baseline' else 'Labels'
    yield Sentence(
        f'{what} of {counted(origin.n_structures, "structure")} were computed in {counted(origin.n_jobs, "run")} with '
        f'{origin.title}, version {origin.version}, protocol {origin.protocol} ({theory_of(origin.engine)})',
        engine_keys(origin.engine, origin.parameters, origin.version),
    )
    yield Sentence(f'Parameters of this protocol: {_parameters(origin)}')
    imported = sum(bool(job.imported) for job in origin.jobs)
    if imported:
        yield Sentence(
            f'{imported} of these runs were done without AiiDA and imported afterwards; who did them and when is not '
            'recorded'
        )
    cached = sum(bool(job.cached_from) for job in origin.jobs)
    if cached:
        yield Sentence(f'The results of {cached} of these runs were copied from the cache, from runs with equal inputs')
    if origin.pseudopotentials:
        files = ', '.join(f'{element} {md5}' for element, md5 in sorted(origin.pseudopotentials.items()))
        yield Sentence(f'Pseudopotentials, by the MD5 of their files: {files}', cited.keys('pseudopotentials'))


def _parameters(origin: LabelOrigin) -> str:
    """Return every parameter that is set."""
    given = {name: value for name, value in origin.parameters.items() if value not in (None, {}, [])}
    return ', '.join(
        f'{name} = {value if isinstance(value, str) else json.dumps(value)}' for name, value in given.items()
    )


def _structures(lineage: Lineage) -> Iterator[Sentence]:
    numbers: dict[str, int] = {}
    for origin in lineage.structures:
        parameters = ', '.join(f'{name} = {value}' for name, value in origin.parameters.items())
        how = f'{origin.way}{f" ({parameters})" if parameters else ""}'
        numbers[how] = numbers.get(how, 0) + origin.n_structures
    for how, number in numbers.items():
        yield Sentence(f'{counted(number, "structure")} were {how}')


def _models(lineage: Lineage, cited: Bibliography) -> Iterator[Sentence]:
    for dataset in lineage.datasets:
        parts = ', '.join(f'{name} {number}' for name, number in (dataset.facts.get('split') or {}).items())
        split = f', split into {parts}' if parts else ', not split'
        yield Sentence(f'The data set {dataset.uuid} has {counted(dataset.facts["n_rows"], "row")}{split}')
    for model in lineage.models:
        kind = model.facts.get('kind') or 'density network'
        versions = ', '.join(f'{name} {version}' for name, version in (model.facts.get('versions') or {}).items())
        keys = (*cited.keys(f'model {kind}'), *cited.keys('machine learning'))
        yield Sentence(f'The model {model.uuid} (kind: {kind}) was trained with {versions}', keys)
        if model.type == MODEL:
            verdict = judge_model(model.facts['metrics'], find_target(model.facts['target']), kind)
            yield Sentence(f'Verdict of aiida-nanoml on this model: {verdict}')
    if isinstance(lineage.node, DataStep) and lineage.node.type == PREDICTION:
        facts = lineage.node.facts
        yield Sentence(
            f'{facts["n_rows"]} values of {facts["target"]} in {facts["unit"]} are predictions of a model, not results '
            'of an electronic-structure calculation'
        )


def _audits(facts: Facts) -> Iterator[Sentence]:
    for found in facts.audits:
        counts = ', '.join(counted(number, severity) for severity, number in found.counts.items() if number)
        errors = '; '.join(finding.what for finding in found.findings if finding.severity == ERROR)
        quoted = f'; errors: {errors}' if errors else ''
        yield Sentence(f'An audit of {found.node.uuid} by aiida-nanoml found {counts or "nothing"}{quoted}')


def _software(facts: Facts) -> Iterator[Sentence]:
    parts = [('aiida-core', facts.core_versions), ('aiida-nanoml', facts.plugin_versions)]
    software = ', '.join(f'{name} {" and ".join(found)}' for name, found in parts if found)
    if software:
        yield Sentence(f'The processes ran with {software}')
    who = ', '.join(facts.persons.values())
    first, last = facts.lineage.began[:10], facts.lineage.ended[:10]
    when = f'on {first}' if first == last else f'between {first} and {last}'
    yield Sentence(f'The nodes were stored {when} by {who}')


def markdown(title: str, sentences: Iterable[Sentence]) -> str:
    """Return the statement in Markdown; keys refer to ``references.bib``, as Pandoc reads them."""
    body = ' '.join(map(_markdown_sentence, sentences))
    return f'# Data statement: {title}\n\n{body}\n'


def _markdown_sentence(sentence: Sentence) -> str:
    keys = '; '.join(f'@{key}' for key in sentence.keys)
    return f'{sentence.text}{f" [{keys}]" if keys else ""}.'


def latex(sentences: Iterable[Sentence]) -> str:
    """Return the statement as a paragraph of LaTeX that cites ``references.bib``."""
    lines = []
    for sentence in sentences:
        cite = f'~\\cite{{{",".join(sentence.keys)}}}' if sentence.keys else ''
        lines.append(f'{escape(sentence.text, braces=True)}{cite}.')
    return (
        '% needs \\bibliography{references}; a UUID or MD5 may stick out of the margin: \\usepackage{microtype}\n'
        + ('\n'.join(lines) + '\n')
    )
