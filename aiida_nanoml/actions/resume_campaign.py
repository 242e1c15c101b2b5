"""Label what a campaign left open."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from aiida_nanoml.actions.base import NamedAction, Result, Step, Submitted, given, record, step
from aiida_nanoml.actions.campaign_status import check_campaign
from aiida_nanoml.actions.describe import identity_line
from aiida_nanoml.actions.errors import ActionError
from aiida_nanoml.actions.fields import JOB, AnyNode, argument, option
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

    def changes(self) -> dict[str, Any]:
        """Return the inputs of the workflow that are not those of before."""
        return given(max_concurrent=self.max_concurrent)

    def perform(self, session: Session) -> Result:
        """Run the workflow again with the labels that there are, or submit it."""
        from aiida_nanoml.provenance.campaign import campaign_status
        from aiida_nanoml.workflows.label import LabelWorkChain

        node = self.load('node')
        check_campaign(node)
        before = campaign_status(node)
        self.check_open(before)
        builder = LabelWorkChain.get_builder_to_resume(node)
        for name, value in self.changes().items():
            builder[name] = value
        if self.wallclock is not None:
            builder.options = builder.options.get_dict() | {'max_wallclock_seconds': self.wallclock}
        name = self.name or node.label
        if self.submit:
            return Submitted(session.submit(builder, name), 'campaign_status')
        builder.metadata.label = name
        process = session.run(builder)
        process.outputs.labels.label = name
        return ContinuedCampaign(process, before, campaign_status(process))

    def check_open(self, campaign: Campaign) -> None:
        """Check that a campaign has ended, and left something to do.

        :raises ActionError: it has not, or everything is labelled.
        """
        if not campaign.ended:
            raise ActionError(
                f'the campaign {campaign.pk} has not ended ({campaign.state}): it continues by itself as soon as a '
                'daemon runs, `verdi daemon start`'
            )
        if not campaign.n_waiting and not (campaign.n_failed and self.retries):
            failed = f'; {campaign.n_failed} failed: `aiida-nanoml campaign retry {campaign.pk}`'
            raise ActionError(
                f'the campaign {campaign.pk} has labelled everything{failed if campaign.n_failed else ""}'
            )


class ResumeCampaign(ContinueCampaign):
    """Label what the campaign NODE, which was killed or failed, left open; failed structures stay as they are."""

    action: ClassVar[str] = 'resume_campaign'
    command: ClassVar[tuple[str, ...]] = ('campaign', 'resume')
    example: ClassVar[str] = 'aiida-nanoml campaign resume labelling'


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
