"""What was done in a portal, and what its users are told."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ClassVar

from aiida_nanoml.actions.base import Result
from aiida_nanoml.actions.fields import argument, option
from aiida_nanoml.actions.session import Session
from aiida_nanoml.portal.actions.common import Done, PortalAction
from aiida_nanoml.text import aligned

if TYPE_CHECKING:
    from aiida_nanoml.portal.accounts import Entry


class ShowLog(PortalAction):
    """Show who did what in the portal, the newest entry first; entries are never changed."""

    action: ClassVar[str] = 'portal_log'
    command: ClassVar[tuple[str, ...]] = ('portal', 'log')
    example: ClassVar[str] = 'aiida-nanoml portal log --count 20'

    count: int = option(50, 'Entries at most.', ge=1, le=10**6)
    user: str | None = option(None, 'Show only what this user did.')

    def perform(self, session: Session) -> Result:
        """Ask the database."""
        return Log(self.accounts().log(self.count, self.user))


@dataclass(frozen=True)
class Log(Result):
    """Entries of the log.

    :param entries: the newest first.
    """

    entries: list[Entry]

    def to_dict(self) -> dict[str, Any]:
        """Return all entries."""
        return {'entries': [vars(entry) for entry in self.entries]}

    def lines(self) -> str:
        """Return a table."""
        if not self.entries:
            return 'no entries'
        rows = [
            [
                datetime.fromtimestamp(entry.time, UTC).isoformat(timespec='seconds'),
                entry.actor,
                entry.address or '-',
                entry.event,
                entry.detail,
            ]
            for entry in self.entries
        ]
        return aligned([['time', 'who', 'from', 'what', ''], *rows])


class Announce(PortalAction):
    """Show TEXT on the pages of the portal until it is withdrawn there."""

    action: ClassVar[str] = 'portal_announce'
    command: ClassVar[tuple[str, ...]] = ('portal', 'announce')
    example: ClassVar[str] = "aiida-nanoml portal announce 'The cluster is away on Monday.'"

    text: str = argument('What everybody is told.', min_length=1)

    def perform(self, session: Session) -> Result:
        """Write it down."""
        self.accounts().announce(self.actor(), self.text)
        return Done({'announcement': self.text})
