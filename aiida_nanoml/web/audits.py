"""Audits that were run on pages: what the last one of a node found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from aiida_nanoml.text import counted
from aiida_nanoml.web.runs import KEPT, Runs


@dataclass(frozen=True)
class AuditMark:
    """The outcome of an audit.

    :param run: name of the run.
    :param begun: seconds since the epoch.
    :param counts: number of findings by severity, the worst first.
    :param findings: severity, sentence, and name of the check that failed.
    """

    run: str
    begun: float
    counts: Mapping[str, int]
    findings: list[tuple[str, str, str]]

    @property
    def mark(self) -> str:
        """Return the worst severity, or ``clear``."""
        return next((severity for severity, number in self.counts.items() if number), 'clear')

    @property
    def summary(self) -> str:
        """Return how many findings there are."""
        return ', '.join(counted(number, what) for what, number in self.counts.items() if number) or 'nothing found'


def last_audit(runs: Runs, uuid: str) -> AuditMark | None:
    """Return what the last audit of a node found; None: none was run, or it is no longer kept."""
    for run in runs.newest(KEPT):
        found = run.outcome.get('result', {}) if run.action == 'audit' and run.state == 'done' else {}
        if found.get('node', {}).get('uuid') == uuid:
            findings = [(one['severity'], one['what'], one['check']) for one in found['findings']]
            return AuditMark(run.name, run.begun, found['counts'], findings)
    return None
