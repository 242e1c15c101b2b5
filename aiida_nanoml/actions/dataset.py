"""A data set as the actions that make or show one print it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aiida_nanoml.actions.base import Result, Step, record, step
from aiida_nanoml.actions.describe import counts, identity_line, source_line

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from aiida_nanoml.data.dataset import DatasetData
    from aiida_nanoml.learning.targets import Target

NATURE = {None: '', False: ' (structure only)', True: ' (runs a tight-binding calculation)'}
"""What a descriptor is made of, by whether it is electronic; None: not known."""

_SHOWN = ('n_rows', 'n_features', 'families', 'split', 'excluded', 'unknown_classes', 'labels', 'target', 'unit')


@dataclass(frozen=True)
class DatasetResult(Result):
    """A data set.

    :param dataset: its node.
    """

    dataset: DatasetData

    def to_dict(self) -> dict[str, Any]:
        """Return counts, origin, and the range of each target."""
        node = self.dataset
        descriptor = node.base.attributes.get('descriptor')
        return record(
            node,
            **{key: node.base.attributes.get(key) for key in _SHOWN},
            baseline=node.baseline_source,
            descriptor=descriptor.get('name'),
            electronic=_is_electronic(descriptor),
            learnt_rows=node.learnt_rows,
            selection=node.selection,
            others=node.others,
            split_by=node.split_by,
            **{
                f'{shown.name}_{what}_{shown.suffix}': getattr(values, what)().item()
                for shown, values in self._columns().items()
                for what in ('min', 'mean', 'max')
            },
        )

    def lines(self) -> dict[str, object]:
        """Return rows, what was left out, features, targets and origin."""
        node, labels = self.dataset, self.dataset.base.attributes.get('labels')
        unknown = node.base.attributes.get('unknown_classes')
        note = f'{unknown} neighbourhoods of heavy atoms have no column in the descriptor'
        return {
            'data set': identity_line(node),
            'rows': self._rows(),
            'left out': counts(node.base.attributes.get('excluded')),
            'features': self._features(),
            **{shown.noun: _range(values, shown) for shown, values in self._columns().items()},
            'labels': source_line(labels) if labels else 'unknown',
            **self._selection(),
            **self._baseline(),
            **({'note': note} if unknown else {}),
        }

    def next_step(self) -> Step:
        """Train a model."""
        return step('train', dataset=self.dataset)

    def _columns(self) -> dict[Target, NDArray[np.float64]]:
        """Return the values of each target."""
        from aiida_nanoml.learning.targets import find_target

        rows = self.dataset.dataset
        return {find_target(self.dataset.target): rows.y} | {
            find_target(name): values for name, values in rows.others.items()
        }

    def _rows(self) -> str:
        node, split = self.dataset, self.dataset.base.attributes.get('split')
        parts = counts(split) if split else 'not split'
        by = f', split by {node.split_by}' if node.dataset.groups is not None else ''
        return f'{node.base.attributes.get("n_rows")} ({parts}){by}'

    def _features(self) -> str:
        node, descriptor = self.dataset, self.dataset.base.attributes.get('descriptor')
        learnt = '' if node.learnt_rows is None else f', learnt on {node.learnt_rows} training rows'
        name = f'{descriptor.get("name", "unknown descriptor")}{NATURE[_is_electronic(descriptor)]}'
        return f'{node.base.attributes.get("n_features")}, {name}{learnt}'

    def _selection(self) -> dict[str, str]:
        selection = self.dataset.selection
        if selection is None:
            return {}
        chosen = ' '.join([selection['name'], *(f'{key}={value}' for key, value in selection['params'].items())])
        kept = f'{self.dataset.base.attributes.get("n_features")} of {selection["n_before"]} columns'
        return {'selection': f'{chosen}: {kept}'}

    def _baseline(self) -> dict[str, str]:
        from aiida_nanoml.learning.targets import find_target

        source, rows = self.dataset.baseline_source, self.dataset.dataset
        if not source or rows.baseline is None:
            return {}
        target = find_target(self.dataset.target)
        error = f'{abs(rows.y - rows.baseline).mean():.{target.digits}f} {target.unit}'
        return {'baseline': f'{source_line(source)}, MAE {error}'}


def _range(values: NDArray[np.float64], target: Target) -> str:
    """Return the range and the mean of a target as text."""
    low, high, mean = (f'{number:.{target.digits}f}' for number in (values.min(), values.max(), values.mean()))
    return f'{low} to {high} {target.unit}, mean {mean} {target.unit}'


def _is_electronic(descriptor: Mapping[str, Any]) -> bool | None:
    """Return whether the descriptor runs an electronic calculation; None if it is not installed, or not known."""
    from aiida_nanoml.errors import DescriptorError
    from aiida_nanoml.features.registry import is_electronic, make_descriptor

    try:
        return is_electronic(make_descriptor(descriptor.get('name', ''), **descriptor.get('params', {})))
    except DescriptorError:
        return None
