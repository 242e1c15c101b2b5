"""Show how far the labelling of many structures is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from aiida_nanoml.actions.base import Action, Result, Step, step
from aiida_nanoml.actions.errors import InputError
from aiida_nanoml.actions.fields import AnyNode, argument
from aiida_nanoml.actions.nodes import type_name
from aiida_nanoml.actions.session import Session
from aiida_nanoml.text import aligned, counted, duration

if TYPE_CHECKING:
    from aiida_nanoml.provenance.campaign import Campaign

SHOWN_JOBS = 10


def check_campaign(node: Any) -> None:
    """Check that a node is a process of the workflow ``nanoml.label``.

    :raises InputError: it is something else.
    """
    from aiida_nanoml.provenance.campaign import CAMPAIGN

    if getattr(node, 'process_type', None) != CAMPAIGN:
        raise InputError(
            f'{node.pk} is a {type_name(node)}, not a campaign: see `aiida-nanoml campaign status`', 'node'
        )


class CampaignStatus(Action):
    """Show what is done, what runs, what failed and why, and how long the rest will take.

    Without NODE, all campaigns are listed.
    """

    action: ClassVar[str] = 'campaign_status'
    command: ClassVar[tuple[str, ...]] = ('campaign', 'status')
    example: ClassVar[str] = 'aiida-nanoml campaign status'

    node: AnyNode | None = argument('Process of the command `label`.', None)

    def perform(self, session: Session) -> Result:
        """Look at one campaign, or at all."""
        from aiida_nanoml.provenance.campaign import campaign_status, campaigns
        from aiida_nanoml.provenance.carriers import Carriers

        carriers = Carriers()
        node = self.load('node')
        if node is None:
            return CampaignList(tuple(campaign_status(one, carriers) for one in campaigns()))
        check_campaign(node)
        return CampaignResult(campaign_status(node, carriers))


@dataclass(frozen=True)
class CampaignList(Result):
    """All campaigns, the newest first."""

    campaigns: tuple[Campaign, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return all campaigns."""
        return {'campaigns': [one.to_dict() for one in self.campaigns]}

    def lines(self) -> str:
        """Return one line for each campaign."""
        if not self.campaigns:
            return 'no campaign yet'
        rows: list[list[object]] = [['pk', 'label', 'state', 'done', 'running', 'waiting', 'failed']]
        for one in self.campaigns:
            done = f'{one.n_done} of {one.n_structures}'
            rows.append([one.pk, one.label or '-', _state(one), done, one.n_running, one.n_waiting, one.n_failed])
        return aligned(rows)

    def next_step(self) -> Step:
        """Look at the newest campaign, or start one."""
        if self.campaigns:
            return step('campaign_status', node=self.campaigns[0].pk)
        return step('label', structures='STRUCTURES', engine='xtb')


def _state(campaign: Campaign) -> str:
    return f'{campaign.state}, stands still' if campaign.stands_still else campaign.state


@dataclass(frozen=True)
class CampaignResult(Result):
    """How far one campaign is."""

    campaign: Campaign

    def to_dict(self) -> dict[str, Any]:
        """Return counts, failures and jobs."""
        return self.campaign.to_dict()

    def lines(self) -> dict[str, object]:
        """Return state, counts and the time that is left."""
        found = self.campaign
        each = 'unknown' if found.seconds_each is None else f'{found.seconds_each:.1f} s each'
        remaining = 'unknown' if found.remaining_s is None else f'{duration(found.remaining_s)} of computing'
        if found.stands_still:
            remaining = f'{remaining}, once it was resumed'
        return {
            'campaign': f'{found.label} pk {found.pk}, uuid {found.uuid}'.strip(),
            'state': _state(found),
            **({'stands still': found.stands_still} if found.stands_still else {}),
            'labels': found.source or 'none yet',
            'done': f'{found.n_done} of {found.n_structures}, {each}'
            + (f', {found.n_recovered} recovered' if found.n_recovered else ''),
            'running': f'{found.n_running} in {counted(len(found.jobs), "job")}',
            'waiting': found.n_waiting,
            'failed': found.n_failed,
            'remaining': 'nothing' if not found.n_waiting + found.n_running else remaining,
        }

    def table(self) -> str:
        """Return the failures by their code, and the jobs that have not ended."""
        found = self.campaign
        rows: list[list[object]] = [
            [f'  {failure.code}', failure.n_structures, failure.message] for failure in found.failures
        ]
        rows += [[f'  {job.kind} {job.pk}', job.n_structures, job.state] for job in found.jobs[:SHOWN_JOBS]]
        if len(found.jobs) > SHOWN_JOBS:
            rows.append([f'  and {len(found.jobs) - SHOWN_JOBS} more', '', ''])
        return aligned(rows)

    def next_step(self) -> Step:
        """Wait, resume, retry or trace."""
        found = self.campaign
        if found.stands_still:
            return step('resume_campaign', node=found.pk)
        if not found.ended:
            return step('campaign_status', node=found.pk)
        if found.n_waiting:
            return step('resume_campaign', node=found.pk)
        return step('retry_campaign' if found.failures else 'trace', node=found.pk)
