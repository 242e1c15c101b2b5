"""Label structures that failed in a campaign once more."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from aiida_nanoml.actions.base import given
from aiida_nanoml.actions.fields import JOB, option
from aiida_nanoml.actions.resume_campaign import ContinueCampaign


class RetryCampaign(ContinueCampaign):
    """Label the structures that failed in the campaign NODE once more, and those that it left open."""

    action: ClassVar[str] = 'retry_campaign'
    command: ClassVar[tuple[str, ...]] = ('campaign', 'retry')
    makes: ClassVar[Mapping[str, str]] = {'': 'nanoml.labels'}
    example: ClassVar[str] = 'aiida-nanoml campaign retry labelling --time-limit 7200'
    retries: ClassVar[bool] = True

    time_limit: float | None = option(
        None, 'Time that one structure may take.', unit='s', gt=0, group=JOB, shown='as before'
    )
    mode: Literal['batch', 'single'] | None = option(
        None, 'Batches, or a run for each structure.', group=JOB, shown='as before'
    )

    def changes(self) -> dict[str, Any]:
        """Return the inputs of the workflow that are not those of before."""
        return super().changes() | given(retry=True, time_limit_s=self.time_limit, mode=self.mode)
