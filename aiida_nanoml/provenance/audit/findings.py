"""Findings of checks: what is wrong, where, why it matters and what to do."""

from __future__ import annotations

from dataclasses import dataclass, field

ERROR, WARNING, NOTE = 'error', 'warning', 'note'
SEVERITIES = (ERROR, WARNING, NOTE)
"""Severities: the result does not hold as it stands; a referee would ask; worth stating in the paper."""

CLEAR, FOUND, NOT_MADE = 'clear', 'found', 'not made'
"""Outcomes of a check."""


@dataclass(frozen=True)
class Place:
    """A node that a finding is about."""

    pk: int
    uuid: str
    type: str
    label: str

    def __str__(self) -> str:
        return ' '.join(part for part in (self.type, self.label, f'pk {self.pk}') if part)


@dataclass(frozen=True)
class Row:
    """A row of a data set, of labels or of predictions, or several rows that are the same structure.

    :param names: names of the structures.
    :param hashes: content hash of each.
    :param detail: what is wrong with it.
    """

    names: tuple[str, ...]
    hashes: tuple[str, ...]
    detail: str = ''

    def __str__(self) -> str:
        return ' = '.join(self.names) + (f' ({self.detail})' if self.detail else '')


@dataclass(frozen=True)
class Finding:
    """Something that a referee would object to, or ask for.

    :param what: what was found, in one sentence.
    :param why: why it matters.
    :param todo: what to do about it.
    :param nodes: nodes that it is about.
    :param rows: all rows of these nodes that it is about.
    :param check: name of the check.
    """

    severity: str
    what: str
    why: str
    todo: str
    nodes: tuple[Place, ...]
    rows: tuple[Row, ...] = ()
    check: str = ''


@dataclass(frozen=True)
class Checked:
    """Result of a check.

    :param told: what the check looked at; without it, a check that found nothing means little.
    """

    told: str
    findings: list[Finding] = field(default_factory=list)


class NotMadeError(Exception):
    """A check does not apply, or the graph does not contain what it needs; the message says why."""


@dataclass(frozen=True)
class Outcome:
    """Outcome of a check in an audit.

    :param outcome: ``clear``, ``found`` or ``not made``.
    :param told: what the check looked at, or why it was not made.
    """

    check: str
    question: str
    outcome: str
    told: str
    n_findings: int
