"""Label what a campaign left open."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pydantic import model_validator

from aiida_nanoml.actions.base import (
    FOREGROUND,
    NamedAction,
    Result,
    Step,
    Submitted,
    check_way,
    given,
    record,
    step,
)
from aiida_nanoml.actions.campaign_status import check_campaign
from aiida_nanoml.actions.describe import identity_line
from aiida_nanoml.actions.errors import ActionError
from aiida_nanoml.actions.fields import JOB, AnyNode, argument, option
from aiida_nanoml.actions.label import label_names
from aiida_nanoml.actions.session import Session

if TYPE_CHECKING:
    from aiida.orm import ProcessNode

    from aiida_nanoml.provenance.campaign import Campaign


class ContinueCampaign(NamedAction):
    """Continue a campaign that has ended, with what it has labelled already."""

    retries: ClassVar[bool] = False
    """Whether structures that failed are labelled again."""

    node: AnyNode = argument('Process of the command `label`.')
    max_concurrent: int | None = option(None, 'Jobs at the same time.', ge=1, group=JOB, shown='as before')
    wallclock: int | None = option(None, 'Wall time of a job.', unit='s', ge=1, group=JOB)
    submit: bool = option(False, 'Submit the process to the daemon instead of waiting for it.', group=JOB)
    foreground: bool = FOREGROUND

    @model_validator(mode='after')
    def _check_way(self) -> Self:
        """Check that the process is either left to the daemon or kept from it."""
        check_way(self.submit, self.foreground)
        return self

    def changes(self) -> dict[str, Any]:
        """Return the inputs of the workflow that are not those of before."""
        return given(max_concurrent=self.max_concurrent)

    def perform(self, session: Session) -> Result:
        """Run the workflow again with the labels that there are, or submit it."""
        from aiida_nanoml.provenance.campaign import campaign_status

        node = self.load('node')
        check_campaign(node)
        return self.label_rest(node, campaign_status(node), session)

    def label_rest(self, node: ProcessNode, before: Campaign, session: Session) -> Result:
        """Run the workflow again, or submit it.

        :param node: the campaign.
        :param before: its status.
        """
        from aiida_nanoml.provenance.campaign import campaign_status
        from aiida_nanoml.workflows.label import LabelWorkChain

        self.check_open(before)
        builder = LabelWorkChain.get_builder_to_resume(node)
        for name, value in self.changes().items():
            builder[name] = value
        if self.wallclock is not None:
            builder.options = builder.options.get_dict() | {'max_wallclock_seconds': self.wallclock}
        name = self.name or node.label
        builder.metadata.label = name
        if self.submit:
            return Submitted(session.submit(builder, label_names(name)), 'campaign_status')
        process = session.run(builder, names=label_names(name), foreground=self.foreground)
        return ContinuedCampaign(process, before, campaign_status(process))

    def check_open(self, campaign: Campaign) -> None:
        """Check that a campaign has ended, and left something to do.

        :raises ActionError: it has not, or everything is labelled.
        """
        if campaign.stands_still:
            raise ActionError(
                f'the campaign {campaign.pk} stands still ({campaign.stands_still}): continue it first, with '
                f'`aiida-nanoml campaign resume {campaign.pk}`'
            )
        if not campaign.ended:
            raise ActionError(
                f'the campaign {campaign.pk} has not ended ({campaign.state}) and moves: follow it with '
                f'`aiida-nanoml campaign status {campaign.pk}`'
            )
        if campaign.n_running:
            raise ActionError(
                f'the campaign {campaign.pk} has ended, but the daemon still runs jobs of it with {campaign.n_running} '
                'structures: wait for them, or end them with `verdi process kill`'
            )
        if not campaign.n_waiting and not (campaign.n_failed and self.retries):
            failed = f'; {campaign.n_failed} failed: `aiida-nanoml campaign retry {campaign.pk}`'
            raise ActionError(
                f'the campaign {campaign.pk} has labelled everything{failed if campaign.n_failed else ""}'
            )


class ResumeCampaign(ContinueCampaign):
    """Label what the campaign NODE, which was killed or failed, left open; failed structures stay as they are.

    A campaign that has not ended, and that nothing carries, is given to the daemon again, which is started for it.
    """

    action: ClassVar[str] = 'resume_campaign'
    command: ClassVar[tuple[str, ...]] = ('campaign', 'resume')
    makes: ClassVar[Mapping[str, str]] = {'': 'nanoml.labels'}
    example: ClassVar[str] = 'aiida-nanoml campaign resume labelling'

    def perform(self, session: Session) -> Result:
        """Make a campaign that stands still move again; continue one that has ended."""
        from aiida.manage import get_manager

        from aiida_nanoml.actions.mending import end_dead, mend
        from aiida_nanoml.provenance.campaign import campaign_status

        node = self.load('node')
        check_campaign(node)
        before = campaign_status(node)
        if not before.stands_still:
            return self.label_rest(node, before, session)
        profile = get_manager().get_profile()
        if profile.process_control_backend is not None:
            return MendedCampaign(node, tuple(mend(profile, [node])))
        end_dead(node)
        session.note('without a broker nothing can continue its jobs: they are given up, and their rows labelled again')
        return self.label_rest(node, campaign_status(node), session)


@dataclass(frozen=True)
class MendedCampaign(Result):
    """A campaign that stood still and moves again.

    :param process: the campaign.
    :param done: what was done, step by step.
    """

    process: ProcessNode
    done: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the identity of the campaign and what was done."""
        return record(self.process, state='continued', done=list(self.done))

    def lines(self) -> dict[str, object]:
        """Return what was done."""
        return {'campaign': f'pk {self.process.pk}, uuid {self.process.uuid}', 'done': ', '.join(self.done)}

    def next_step(self) -> Step:
        """Look how far it is."""
        return step('campaign_status', node=self.process.pk)


@dataclass(frozen=True)
class ContinuedCampaign(Result):
    """Labels of a campaign that was continued.

    :param process: the workflow that continued it.
    :param before: the campaign that had ended.
    :param after: how far it is now.
    """

    process: ProcessNode
    before: Campaign
    after: Campaign

    def to_dict(self) -> dict[str, Any]:
        """Return the labels and how many structures are done."""
        return record(
            self.process.outputs.labels,
            process=self.process.uuid,
            n_done=self.after.n_done,
            n_structures=self.after.n_structures,
        )

    def lines(self) -> dict[str, object]:
        """Return the labels, and how many structures are done and failed."""
        return {
            'labels': identity_line(self.process.outputs.labels),
            'done': f'{self.after.n_done} of {self.after.n_structures}, {self.before.n_done} of them before',
            'failed': self.after.n_failed,
        }

    def next_step(self) -> Step:
        """Build a data set."""
        return step('build_dataset', structures=[self.process.inputs.structures], labels=[self.process.outputs.labels])
