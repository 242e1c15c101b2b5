"""Find what a referee would object to in a node."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from aiida_nanoml.actions.base import ArchiveAction, Result, Step, step
from aiida_nanoml.actions.fields import OUTPUT, AnyNode, argument, option
from aiida_nanoml.actions.session import Session

if TYPE_CHECKING:
    from aiida_nanoml.provenance.audit import Audit as Findings


class Audit(ArchiveAction):
    """Look for everything that a referee would object to in NODE: leakage, mixed or unsafe labels, missing seeds, …

    NODE is a prediction, a model, a data set, labels, densities, a transmission, or a process that made one. Findings
    are errors (the result does not hold as it stands), warnings (a referee would ask) and notes (to be stated).

    The exit status is 1 when there is an error.
    """

    action: ClassVar[str] = 'audit'
    command: ClassVar[tuple[str, ...]] = ('audit',)
    example: ClassVar[str] = 'aiida-nanoml audit PREDICTION --strict'

    node: AnyNode = argument('Node to audit.')
    strict: bool = option(False, 'Exit with status 1 for warnings as well.', group=OUTPUT)
    checks: bool = option(False, 'Show every check: its question, and what it looked at.', group=OUTPUT)

    def perform(self, session: Session) -> Result:
        """Make all checks."""
        from aiida_nanoml.provenance.audit import audit

        node = self.load('node')
        found = audit(node)
        failed = found.counts['error'] or (self.strict and found.counts['warning'])
        return AuditResult(found, self.checks, self.archive, int(bool(failed)))


@dataclass(frozen=True)
class AuditResult(Result):
    """Findings about a node.

    :param findings: what was found, and what was checked.
    :param all_checks: show every check.
    :param archive: archive that was asked.
    :param exit_status: 1 if the node is not to be published.
    """

    findings: Findings
    all_checks: bool
    archive: Path | None
    exit_status: int

    def to_dict(self) -> dict[str, Any]:
        """Return the node, findings and checks."""
        return self.findings.to_dict()

    def lines(self) -> str:
        """Return the findings as text."""
        return self.findings.render(self.all_checks)

    def next_step(self) -> Step:
        """Compute the node again."""
        return step('reproduce', node=self.findings.node.uuid, archive=self.archive)
