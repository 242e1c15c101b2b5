"""What a check says: findings with where, why it matters and what to do, or that it could not be made."""

from __future__ import annotations

from dataclasses import dataclass, field

ERROR, WARNING, NOTE = 'error', 'warning', 'note'
SEVERITIES = (ERROR, WARNING, NOTE)
"""A result does not hold as it stands; a referee would ask; worth stating in the paper."""

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

    :param names: of the structures.
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
    :param nodes: where.
    :param rows: where inside the nodes, all of them.
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
    """What a check looked at, and what it found there.

    :param told: what it looked at; a check that found nothing means nothing without it.
    """

    told: str
    findings: list[Finding] = field(default_factory=list)


class NotMadeError(Exception):
    """A check does not apply, or the graph does not hold what it needs; the message says why."""


@dataclass(frozen=True)
class Outcome:
    """How a check went.

    :param outcome: ``clear``, ``found`` or ``not made``.
    :param told: what was looked at, or why the check was not made.
    """

    check: str
    question: str
    outcome: str
    told: str
    n_findings: int
