"""Show what a data set holds."""

from __future__ import annotations

from typing import ClassVar

from aiida_nanoml.actions.base import Action, Result
from aiida_nanoml.actions.dataset import DatasetResult
from aiida_nanoml.actions.fields import DatasetNode, argument
from aiida_nanoml.actions.session import Session


class ShowDataset(Action):
    """Show what NODE holds."""

    action: ClassVar[str] = 'show_dataset'
    command: ClassVar[tuple[str, ...]] = ('dataset', 'show')
    example: ClassVar[str] = 'aiida-nanoml dataset show gaps'

    node: DatasetNode = argument('Data set to show.')

    def perform(self, session: Session) -> Result:
        """Read the node."""
        return DatasetResult(self.load('node'))
