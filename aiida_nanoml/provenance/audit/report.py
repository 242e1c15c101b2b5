"""The audit: all checks in the order in which a referee asks, their findings, and the report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

from aiida import orm

from aiida_nanoml.errors import ProvenanceError
from aiida_nanoml.provenance.audit import labels, leakage, models, processes
from aiida_nanoml.provenance.audit.evidence import Evidence
from aiida_nanoml.provenance.audit.findings import (
    CLEAR,
    ERROR,
    FOUND,
    NOT_MADE,
    NOTE,
    SEVERITIES,
    WARNING,
    Checked,
    Finding,
    NotMadeError,
    Outcome,
    Place,
)
from aiida_nanoml.provenance.graph import load_records
from aiida_nanoml.provenance.origins import (
    DATASET,
    DENSITIES,
    DENSITY_MODEL,
    LABELS,
    MODEL,
    POTENTIALS,
    PREDICTION,
    STRUCTURES,
)
from aiida_nanoml.text import counted


@dataclass(frozen=True)
class Check:
    """A question that an audit asks.

    :param name: name in findings and in the documentation.
    :param severities: severities that its findings can have, the worst first.
    :param ask: the function that answers it.
    """

    name: str
    severities: tuple[str, ...]
    ask: Callable[[Evidence], Checked]

    @property
    def question(self) -> str:
        """Return what is checked, in one sentence."""
        return (self.ask.__doc__ or '').partition('\n')[0]


CHECKS = (
    Check('shared-structures', (ERROR, WARNING), leakage.shared_structures),
    Check('same-isomers', (ERROR, WARNING), leakage.same_isomers),
    Check('predicted-training-rows', (WARNING,), leakage.predicted_training_rows),
    Check('columns', (ERROR, WARNING), leakage.columns),
    Check('mixed-origins', (ERROR, WARNING), labels.mixed_origins),
    Check('mixed-pseudopotentials', (ERROR,), labels.mixed_pseudopotentials),
    Check('other-pseudopotentials', (ERROR,), labels.other_pseudopotentials),
    Check('mixed-executables', (NOTE,), labels.mixed_executables),
    Check('claimed-labels', (WARNING,), labels.claimed_labels),
    Check('contradicting-labels', (ERROR,), labels.contradicting_labels),
    Check('unconverged-labels', (ERROR,), labels.unconverged_labels),
    Check('recovered-labels', (WARNING,), labels.recovered_labels),
    Check('excluded-rows', (WARNING, NOTE), labels.excluded_rows),
    Check('open-shell', (ERROR, NOTE), labels.open_shell),
    Check('small-gaps', (WARNING,), labels.small_gaps),
    Check('test-part', (ERROR, WARNING), models.test_part),
    Check('skill', (ERROR, WARNING, NOTE), models.skill),
    Check('out-of-domain', (WARNING,), models.out_of_domain),
    Check('intervals', (WARNING, NOTE), models.intervals),
    Check('mismatches', (ERROR,), models.mismatches),
    Check('seeds', (WARNING, NOTE), processes.seeds),
    Check('nondeterminism', (NOTE,), processes.nondeterminism),
    Check('cached-results', (WARNING, NOTE), processes.cached_results),
    Check('missing-inputs', (ERROR,), processes.missing_inputs),
    Check('missing-processes', (ERROR, WARNING, NOTE), processes.missing_processes),
    Check('failed-processes', (WARNING, NOTE), processes.failed_processes),
    Check('plugin-versions', (NOTE,), processes.plugin_versions),
    Check('library-versions', (WARNING, NOTE), processes.versions_of_libraries),
)
"""All checks of an audit."""

_AUDITED = (STRUCTURES, LABELS, DATASET, MODEL, PREDICTION, POTENTIALS, DENSITIES, DENSITY_MODEL)
_SHOWN_ROWS = 3


@dataclass(frozen=True)
class Audit:
    """Result of an audit.

    :param node: the node that was audited.
    :param findings: the worst first, in the order of the checks.
    :param checks: outcome of each check, also of those without findings or that were not made.
    """

    node: Place
    findings: tuple[Finding, ...]
    checks: tuple[Outcome, ...]

    @property
    def counts(self) -> dict[str, int]:
        """Return the number of findings by severity."""
        found = Counter(finding.severity for finding in self.findings)
        return {severity: found[severity] for severity in SEVERITIES}

    def to_dict(self) -> dict[str, Any]:
        """Return everything in types of JSON."""
        return asdict(self) | {'counts': self.counts}

    def render(self, all_checks: bool = False) -> str:
        """Return the findings, the first rows of each, and what was checked.

        :param all_checks: list every check with its question and what it looked at.
        """
        summary = ', '.join(counted(number, severity) for severity, number in self.counts.items() if number)
        lines = [f'{self.node}, uuid {self.node.uuid}: {summary or "nothing found"}']
        for finding in self.findings:
            lines += _finding_lines(finding)
        if all_checks:
            return '\n'.join(
                [*lines, *(f'{one.check}: {one.question} {one.outcome}: {one.told}' for one in self.checks)]
            )
        clear = [check.check for check in self.checks if check.outcome == CLEAR]
        lines.append(f'{counted(len(clear), "check")} found nothing: {", ".join(clear)}')
        lines += [f'not checked: {one.check}, because {one.told}' for one in self.checks if one.outcome == NOT_MADE]
        return '\n'.join(lines)


def audit(node: orm.Node) -> Audit:
    """Find everything in the provenance of a node that a referee would object to.

    :param node: a prediction, model, data set, set of labels or structures, densities, a transmission, or a process or
        workflow that made one of these; of a process, the results are audited.
    :raises ProvenanceError: the node is not stored, or rests on nothing that can be audited.
    """
    evidence = Evidence(node)
    [record] = load_records([node.pk]).values()
    place = Place(record.pk, record.uuid, record.type, record.label)
    if not evidence.graph.of_type(*_AUDITED):
        raise ProvenanceError(
            f'there is nothing to audit in {place}: it rests on no structures, labels, potentials or models; name '
            'a prediction, a model, a data set, a set of labels, or a process that made one'
        )
    outcomes, findings = [], []
    for check in CHECKS:
        try:
            result = check.ask(evidence)
        except NotMadeError as error:
            outcomes.append(Outcome(check.name, check.question, NOT_MADE, str(error), 0))
            continue
        found = [replace(finding, check=check.name) for finding in result.findings]
        outcomes.append(Outcome(check.name, check.question, FOUND if found else CLEAR, result.told, len(found)))
        findings += found
    findings.sort(key=lambda finding: SEVERITIES.index(finding.severity))
    return Audit(place, tuple(findings), tuple(outcomes))


def _finding_lines(finding: Finding) -> list[str]:
    lines = [f'{finding.severity}: {finding.what} [{finding.check}]']
    if finding.rows:
        shown = '; '.join(map(str, finding.rows[:_SHOWN_ROWS]))
        more = len(finding.rows) - _SHOWN_ROWS
        lines.append(f'  {shown}' + (f'; and {more} more' if more > 0 else ''))
    if finding.severity != NOTE:
        lines += [f'  why: {finding.why}', f'  do:  {finding.todo}']
    return lines
