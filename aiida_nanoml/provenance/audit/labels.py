"""Checks of labels: same origin, converged, computed in the graph, physically meaningful."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator

import numpy as np

from aiida_nanoml.engines.label_set import FINISHED
from aiida_nanoml.learning.dataset import GAP
from aiida_nanoml.learning.targets import find_target
from aiida_nanoml.provenance.audit.evidence import Evidence, LabelRows, Rows
from aiida_nanoml.provenance.audit.findings import ERROR, NOTE, WARNING, Checked, Finding, NotMadeError, Row
from aiida_nanoml.provenance.graph import select
from aiida_nanoml.provenance.origins import CODE_INPUTS, DENSITIES, LABEL_JOBS, LABELS, LabelOrigin
from aiida_nanoml.text import agree, counted

LARGE_SHARE = 0.05
"""Share of the structures beyond which leaving out the failed ones is worth a warning."""

SMALL_GAP_EV = 0.1
"""Gaps (eV) below this are near zero: smaller than the error of any model here, and self-consistency is unsafe."""

_PSEUDO_LINK = re.compile(r'pseudos?_{1,2}([A-Z][a-z]?)')
"""Names of the inputs of labelling jobs and of imports that hold the pseudopotential of an element."""

_SOURCE = ('engine', 'version', 'protocol', 'parameters')


def mixed_origins(evidence: Evidence) -> Checked:
    """Do all labels come from one engine, version, protocol and set of parameters?"""
    origins = [origin for origin in _relevant_origins(evidence) if origin.role == 'labels']
    if not origins:
        raise NotMadeError('no labelling job is in the graph')
    looked_at = f'labels of {counted(sum(origin.n_jobs for origin in origins), "job")}'
    findings = []
    first = max(origins, key=lambda origin: origin.n_structures)
    for origin in origins:
        if origin is first:
            continue
        other = [key for key in _SOURCE if getattr(origin, key) != getattr(first, key)]
        differ = [key for key in other if key != 'parameters']
        keys = sorted(origin.parameters.keys() | first.parameters.keys())
        differ += [key for key in keys if origin.parameters.get(key) != first.parameters.get(key)]
        findings.append(
            Finding(
                WARNING if other == ['version'] else ERROR,
                f'{counted(origin.n_structures, "label")} of {origin.name}, but {first.n_structures} of '
                f'{first.name}; they differ in {", ".join(differ)}',
                'one target then has several meanings: the model learns the difference between the calculations',
                'label all structures with the same settings, or build a data set for each origin',
                evidence.places(job.pk for job in origin.jobs),
            )
        )
    return Checked(looked_at, findings)


def mixed_pseudopotentials(evidence: Evidence) -> Checked:
    """Is there one pseudopotential file for each element?"""
    files: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for pk, used in select(evidence.of_type(LABELS, DENSITIES), 'attributes.pseudopotentials'):
        for element, md5 in (used or {}).items():
            files[element][md5].append(pk)
    if not files:
        raise NotMadeError('no label here names a pseudopotential')
    findings = []
    for element, by_md5 in sorted(files.items()):
        if len(by_md5) > 1:
            found = ', '.join(f'{md5[:8]} in {len(pks)}' for md5, pks in by_md5.items())
            fewest = min(by_md5.values(), key=len)
            findings.append(
                Finding(
                    ERROR,
                    f'{len(by_md5)} pseudopotentials of {element} (MD5 {found} sets of labels)',
                    'energies and gaps with different pseudopotentials do not belong in one target',
                    'label those structures again with one file for each element',
                    evidence.places(fewest),
                )
            )
    return Checked(f'files of {", ".join(sorted(files))}', findings)


def other_pseudopotentials(evidence: Evidence) -> Checked:
    """Are the pseudopotentials that labels name those that their jobs were given?"""
    given: dict[int, dict[str, int]] = {}
    named: dict[int, int] = {}
    for job in evidence.graph.jobs(*LABEL_JOBS):
        labels = evidence.graph.labels_of_job(job)
        if job in evidence.relevant and labels is not None:
            inputs = evidence.graph.inputs[job]
            links = ((link, pk, _PSEUDO_LINK.fullmatch(link)) for link, pk in inputs.items())
            given[job], named[job] = {link[1]: pk for _, pk, link in links if link}, labels
    if not given:
        raise NotMadeError('no labelling job is in the graph')
    nodes = {pk for files in given.values() for pk in files.values()}
    md5s = dict(select(nodes, 'attributes.md5'))
    told = dict(select(list(named.values()), 'attributes.pseudopotentials'))
    wrong: dict[tuple[str, str, str], list[int]] = defaultdict(list)
    for job, files in given.items():
        used = told.get(named[job]) or {}
        for element in sorted(files.keys() & used.keys()):
            if md5s[files[element]] != used[element]:
                wrong[element, md5s[files[element]], used[element]].append(job)
    findings = [
        Finding(
            ERROR,
            f'{counted(len(jobs), "job")} had the pseudopotential {here[:8]} of {element} as input, but '
            f'{agree(len(jobs), "its labels name", "their labels name")} {there[:8]} (MD5)',
            'the graph names a file that the numbers were not made with: what it says about them is wrong',
            'find out which file was used, and label the structures again with it as input',
            evidence.places(jobs),
        )
        for (element, here, there), jobs in sorted(wrong.items())
    ]
    return Checked(f'{counted(len(given), "labelling job")}, {sum(map(bool, given.values()))} with files', findings)


def mixed_executables(evidence: Evidence) -> Checked:
    """Did one executable, on one computer, make all labels?"""
    jobs: Counter[int] = Counter()
    for job in evidence.graph.jobs(*LABEL_JOBS):
        if job in evidence.relevant:
            # The program of an engine matters, not the worker that starts it.
            codes = [
                evidence.graph.inputs[job][name] for name in reversed(CODE_INPUTS) if name in evidence.graph.inputs[job]
            ]
            jobs.update(codes[:1])
    if not jobs:
        raise NotMadeError('no labelling job here records its executable; imported runs have none')
    findings = []
    if len(jobs) > 1:
        codes = {code.pk: code for code in evidence.lineage.executables}
        numbers = ', '.join(
            f'{codes[pk].label} ({codes[pk].path}): {counted(n, "job")}' for pk, n in jobs.most_common()
        )
        findings.append(
            Finding(
                NOTE,
                f'labels were made by {len(jobs)} executables: {numbers}',
                'another compiler or library changes the last digits, another build perhaps more',
                'label some structures with each of them, and state the largest difference',
                evidence.places(jobs),
            )
        )
    looked_at = f'{counted(sum(jobs.values()), "labelling job")}; compilers are not recorded'
    return Checked(looked_at, findings)


def claimed_labels(evidence: Evidence) -> Checked:
    """Are all labels from runs in the graph, and none only declared to be from somewhere?"""
    claims = [claim for claim in evidence.lineage.claims if claim.node.pk in evidence.relevant]
    if not claims and not _relevant_origins(evidence):
        raise NotMadeError('it rests on no labels')
    findings = [
        Finding(
            WARNING,
            f'the {claim.role} of {evidence.name(claim.node.pk)}, {claim.way}, are only said to come from '
            f'{claim.source}',
            'no run in the graph shows how they were computed',
            'import the runs themselves (aiida-nanoml siesta import), or publish them beside the data',
            evidence.places([claim.node.pk]),
        )
        for claim in claims
    ]
    return Checked(counted(sum(origin.n_jobs for origin in _relevant_origins(evidence)), 'labelling job'), findings)


def contradicting_labels(evidence: Evidence) -> Checked:
    """Are there several results of one structure, of the same settings, that contradict each other?"""
    pks = evidence.of_type(LABELS)
    if not pks:
        raise NotMadeError('no set of labels is in the graph')
    findings = []
    for found in evidence.contradictions():
        name = found.names[0] or found.hash[:8]
        places = sorted(set(found.pks))
        findings.append(
            Finding(
                ERROR,
                f'{len(found.details)} runs of structure {name} contradict each other',
                'which of them is right is not known: a joined set refuses all of them, in earlier versions it took '
                'the first',
                'look at both, take the wrong one out, and join the labels again',
                evidence.places(places),
                tuple(
                    Row((own or name,), (found.hash,), detail)
                    for own, detail in zip(found.names, found.details, strict=True)
                ),
            )
        )
    return Checked(counted(len(pks), 'set of labels', 'sets of labels'), findings)


def unconverged_labels(evidence: Evidence) -> Checked:
    """Does a row of a data set have a label that did not finish?"""
    findings = []
    found = _rows_with_labels(evidence)
    for rows, labels in found:
        status = dict(zip(labels.hashes.tolist(), labels.status.tolist(), strict=True))
        bad = [
            rows.row(position, status[digest])
            for position, digest in enumerate(rows.hashes.tolist())
            if status.get(digest, FINISHED) != FINISHED
        ]
        if bad:
            findings.append(
                Finding(
                    ERROR,
                    f'{counted(len(bad), "row")} of {evidence.name(rows.pk)} '
                    f'{agree(len(bad), "has", "have")} a label that did not finish',
                    'the number is not the result of a converged calculation',
                    'label these structures again, or leave the rows out, and train again',
                    evidence.places([rows.pk, *labels.pks]),
                    tuple(bad),
                )
            )
    return Checked(_looked_at(found), findings)


def recovered_labels(evidence: Evidence) -> Checked:
    """Are there labels that were reached only with other settings, or in a second run?"""
    found = _rows_with_labels(evidence)
    findings = []
    for rows, labels in found:
        texts = {
            digest: message
            for digest, status, message in zip(labels.hashes, labels.status, labels.messages, strict=True)
            if status == FINISHED and message
        }
        recovered = [rows.row(at, texts[digest]) for at, digest in enumerate(rows.hashes.tolist()) if digest in texts]
        if recovered:
            findings.append(
                Finding(
                    WARNING,
                    f'{counted(len(recovered), "row")} of {evidence.name(rows.pk)} '
                    f'{agree(len(recovered), "has", "have")} a label that was '
                    'recovered with other settings',
                    'they did not converge with the settings of the protocol, and may have found another state',
                    'look at their gaps and energies beside those of similar structures; state their number',
                    evidence.places([rows.pk, *labels.pks]),
                    tuple(recovered),
                )
            )
    return Checked(_looked_at(found), findings)


def excluded_rows(evidence: Evidence) -> Checked:
    """How many structures were left out, and why?"""
    if evidence.datasets:
        findings = [finding for pk in evidence.datasets for finding in _left_out(evidence, pk)]
        return Checked(counted(len(evidence.datasets), 'data set'), findings)
    if not evidence.labels:
        raise NotMadeError('neither a data set nor a set of labels is in the graph')
    findings = [finding for pk in evidence.labels for finding in _failed_rows(evidence, pk)]
    return Checked(counted(len(evidence.labels), 'set of labels', 'sets of labels'), findings)


def _left_out(evidence: Evidence, dataset: int) -> Iterator[Finding]:
    """Yield findings about structures, and about neighbourhoods of atoms, that a data set leaves out."""
    attributes = evidence.attributes(dataset)
    excluded, name = attributes['excluded'], evidence.name(dataset)
    if excluded:
        failed = excluded.get('failed', 0)
        reasons = ', '.join(f'{reason} {number}' for reason, number in excluded.items())
        yield Finding(
            WARNING if failed / (failed + attributes['n_rows']) > LARGE_SHARE else NOTE,
            f'{name} leaves out {counted(sum(excluded.values()), "structure")}: {reasons}',
            'structures whose calculation fails are no random sample: the data set lacks difficult ones'
            if failed
            else 'a reader must know which structures the model has never seen',
            'state the numbers; label the failed structures again with other settings (nanoml.siesta cures failures)'
            if failed
            else 'state the numbers',
            evidence.places([dataset]),
        )
    if attributes['unknown_classes']:
        yield Finding(
            NOTE,
            f'{attributes["unknown_classes"]} neighbourhoods of atoms in {name} have no column',
            'the features do not see these atoms',
            'state the number, or take a descriptor with more classes',
            evidence.places([dataset]),
        )


def _failed_rows(evidence: Evidence, pk: int) -> Iterator[Finding]:
    """Yield a finding about the failed rows of a set of labels, if there are any."""
    failures = {code: number for code, number in evidence.attributes(pk)['failures'].items() if number}
    if not failures:
        return
    labels, n_failed = evidence.label_rows([pk]), sum(failures.values())
    reasons = ', '.join(f'{code} {number}' for code, number in failures.items())
    yield Finding(
        WARNING if n_failed / evidence.attributes(pk)['n_rows'] > LARGE_SHARE else NOTE,
        f'{counted(n_failed, "row")} of {evidence.name(pk)} failed: {reasons}',
        'structures whose calculation fails are no random sample',
        'label them again with other settings, or state their number',
        evidence.places([pk]),
        tuple(
            Row((str(labels.hashes[at])[:8],), (str(labels.hashes[at]),), str(labels.status[at]))
            for at in np.flatnonzero(labels.status != FINISHED)
        ),
    )


def open_shell(evidence: Evidence) -> Checked:
    """Are there rows with an odd number of electrons, whose closed-shell gap means little?"""
    found, findings = _rows_with_labels(evidence), []
    for rows, labels in found:
        odd = set(labels.hashes[labels.open_shell].tolist())
        these = [rows.row(at) for at, digest in enumerate(rows.hashes.tolist()) if digest in odd]
        if not these:
            continue
        attributes = evidence.attributes(rows.pk)
        targets = [attributes.get('target', GAP), *attributes.get('others', {})] if 'target' in attributes else []
        closed = [name for name in targets if find_target(name).closed_shell]
        findings.append(
            Finding(
                ERROR if closed else NOTE,
                f'{counted(len(these), "row")} of {evidence.name(rows.pk)} '
                f'{agree(len(these), "has", "have")} an odd number of electrons',
                f'the {", ".join(closed)} of a restricted closed-shell calculation means little for a radical'
                if closed
                else 'without spin polarisation such a calculation describes no real state',
                'leave the rows out (nanoml.assemble_dataset does), or label them with spin polarisation',
                evidence.places([rows.pk, *labels.pks]),
                tuple(these),
            )
        )
    return Checked(_looked_at(found), findings)


def small_gaps(evidence: Evidence) -> Checked:
    """Are there gaps near zero?"""
    datasets = [pk for pk in evidence.datasets if evidence.attributes(pk).get('target', GAP) == GAP]
    if not datasets:
        raise NotMadeError('no data set of gaps is in the graph')
    findings = []
    for pk in datasets:
        rows, [gaps] = evidence.rows(pk), evidence.arrays(pk, 'y')
        small = np.flatnonzero(gaps < SMALL_GAP_EV)
        if len(small):
            findings.append(
                Finding(
                    WARNING,
                    f'{counted(len(small), "row")} of {evidence.name(pk)} {agree(len(small), "has", "have")} a gap '
                    f'below {SMALL_GAP_EV} eV',
                    'a closed-shell calculation is unsafe there: smearing, spin or another state may matter',
                    'repeat some with spin polarisation and another start; report errors also without these rows',
                    evidence.places([pk]),
                    tuple(rows.row(at, f'{gaps[at]:.3f} eV') for at in small.tolist()),
                )
            )
    n_rows = sum(evidence.attributes(pk)['n_rows'] for pk in datasets)
    return Checked(f'gaps of {counted(n_rows, "row")}', findings)


def _relevant_origins(evidence: Evidence) -> list[LabelOrigin]:
    return [origin for origin in evidence.lineage.labelling if any(job.pk in evidence.relevant for job in origin.jobs)]


def _rows_with_labels(evidence: Evidence) -> list[tuple[Rows, LabelRows]]:
    """Return data sets with their labels; without data sets, the labels themselves."""
    found = []
    for pk in evidence.datasets:
        labels = evidence.labels_of(pk)
        if labels is not None:
            found.append((evidence.rows(pk), labels))
    if not evidence.datasets:
        for pk in evidence.labels:
            labels = evidence.label_rows([pk])
            done = labels.hashes[labels.status == FINISHED]
            names = np.array([digest[:8] for digest in done.tolist()], dtype=str)
            found.append((Rows(pk, names, done, np.full(len(done), '', dtype='<U10')), labels))
    if not found:
        raise NotMadeError('no data set here has its labels in the graph: their status is not known')
    return found


def _looked_at(found: list[tuple[Rows, LabelRows]]) -> str:
    n_rows = sum(len(rows.hashes) for rows, _ in found)
    known = sum(int(np.isin(rows.hashes, labels.hashes).sum()) for rows, labels in found)
    return f'labels of {counted(known, "row")}' + (f'; {n_rows - known} have none here' if known < n_rows else '')
