"""Keep the columns of a data set that its training rows show to be useful."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from aiida_nanoml.actions.base import NamedAction, Result
from aiida_nanoml.actions.common import settings_option
from aiida_nanoml.actions.dataset import DatasetResult
from aiida_nanoml.actions.fields import DatasetNode, argument, option
from aiida_nanoml.actions.session import Session


class SelectFeatures(NamedAction):
    """Keep the columns of NODE that its training rows show to be useful.

    vt: variance above p (1 - p). mit: mutual information with the target above threshold. vt_mit: one, then the other.
    rcr: clusters by growing radius, up to n_features or max_radius. random: n_features by chance, to compare with.
    """

    action: ClassVar[str] = 'select_features'
    command: ClassVar[tuple[str, ...]] = ('dataset', 'select')
    makes: ClassVar[Mapping[str, str]] = {'': 'nanoml.dataset'}
    short: ClassVar[str | None] = 'Keep the features worth keeping.'
    example: ClassVar[str] = 'aiida-nanoml dataset select gaps --by vt --set p=0.95 --name fewer'

    node: DatasetNode = argument('Data set with a split.')
    method: str = option(..., 'Selector: vt, mit, vt_mit, rcr, random, or one of another package.', options=('--by',))
    parameters: dict[str, Any] = settings_option('Parameter of the selector; repeatable.')

    def perform(self, session: Session) -> Result:
        """Select the columns."""
        from aiida.orm import Dict

        from aiida_nanoml.calculations.functions.datasets import select_features

        selection = Dict({'name': self.method, 'params': self.parameters})
        node = session.run_function(select_features, dataset=self.load('node'), selection=selection)
        node.label = self.name
        return DatasetResult(node)
