"""Node of a supervised data set."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from aiida.orm import ArrayData
from aiida.orm.pydantic import OrmMetadataField

from aiida_nanoml.errors import DatasetError
from aiida_nanoml.learning.dataset import GAP, UNASSIGNED, Dataset
from aiida_nanoml.learning.splits import BY_STRUCTURE
from aiida_nanoml.learning.targets import find_target


class DatasetData(ArrayData):  # type: ignore[misc]
    """Features X (N, F), target y (N,) and perhaps others, the identity of every row and its part of the split.

    :param dataset: the rows to store.
    :param descriptor: identity of the descriptor that made the features.
    :param labels: engine, version, protocol and parameters behind the target.
    :param excluded: number of structures left out, by reason.
    :param unknown_classes: number of neighbourhoods of heavy atoms that have no column in the descriptor.
    :param baseline: engine, version, protocol and parameters behind the baseline of the rows, if they have one.
    :param learnt_rows: number of training rows that the descriptor learnt its columns from, if it did.
    :param selection: ``name``, ``params`` and ``n_before`` of what selected the columns, if anything did.
    :param split_by: what the split keeps together, a key of :data:`~aiida_nanoml.learning.splits.GROUPS`.
    :raises DatasetError: rows with a baseline whose source is not given, or groups that ``split_by`` does not name, or
        the other way round; an unknown target.
    """

    class AttributesModel(ArrayData.AttributesModel):  # type: ignore[misc]
        target: str = OrmMetadataField(description='What is predicted')
        unit: str = OrmMetadataField(description='Unit of the target')
        others: dict[str, str] | None = OrmMetadataField(
            None, description='Targets that are learnt beside it, and their units'
        )
        descriptor: dict[str, Any] = OrmMetadataField(description='Identity of the descriptor')
        labels: dict[str, Any] = OrmMetadataField(description='Engine, version, protocol and parameters of the target')
        feature_names: list[str] = OrmMetadataField(description='Names of the feature columns')
        n_rows: int = OrmMetadataField(description='Number of rows')
        n_features: int = OrmMetadataField(description='Number of feature columns')
        families: list[str] = OrmMetadataField(description='Families that occur, sorted')
        split: dict[str, int] = OrmMetadataField(description='Number of rows in each part; empty before splitting')
        excluded: dict[str, int] = OrmMetadataField(description='Number of structures left out, by reason')
        unknown_classes: int = OrmMetadataField(description='Neighbourhoods of heavy atoms without a column')
        baseline: dict[str, Any] | None = OrmMetadataField(
            None, description='Engine, version, protocol and parameters of the baseline'
        )
        learnt_rows: int | None = OrmMetadataField(
            None, description='Training rows that the descriptor learnt its columns from'
        )
        selection: dict[str, Any] | None = OrmMetadataField(
            None, description='What selected the columns on the training rows: name, params, n_before'
        )
        split_by: str | None = OrmMetadataField(
            None, description='What the split keeps together: structure, alloy or composition'
        )

    def __init__(
        self,
        dataset: Dataset | None = None,
        descriptor: Mapping[str, Any] | None = None,
        labels: Mapping[str, Any] | None = None,
        excluded: Mapping[str, int] | None = None,
        unknown_classes: int = 0,
        baseline: Mapping[str, Any] | None = None,
        learnt_rows: int | None = None,
        selection: Mapping[str, Any] | None = None,
        split_by: str = BY_STRUCTURE,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if dataset is None:
            return
        if (dataset.baseline is None) != (baseline is None):
            raise DatasetError('the baseline of a data set is a column of its rows and a source: give both or none')
        if (dataset.groups is None) != (split_by == BY_STRUCTURE):
            raise DatasetError('the groups of a data set are a column of its rows and a name: give both or none')
        for name, array in dataset.to_arrays().items():
            self.set_array(name, array)
        parts, counts = np.unique(dataset.split[dataset.split != UNASSIGNED], return_counts=True)
        self.base.attributes.set_many(
            {
                'target': dataset.target,
                'unit': find_target(dataset.target).unit,
                'descriptor': dict(descriptor or {}),
                'labels': dict(labels or {}),
                'feature_names': list(dataset.feature_names),
                'n_rows': len(dataset),
                'n_features': dataset.X.shape[1],
                'families': sorted({str(family) for family in dataset.families if family}),
                'split': {str(part): int(count) for part, count in zip(parts, counts, strict=True)},
                'excluded': dict(excluded or {}),
                'unknown_classes': unknown_classes,
                'baseline': None if baseline is None else dict(baseline),
                'learnt_rows': learnt_rows,
                'selection': None if selection is None else dict(selection),
                'others': {name: find_target(name).unit for name in dataset.others},
                'split_by': split_by,
            }
        )

    @property
    def target(self) -> str:
        """What is predicted."""
        found: str = self.base.attributes.get('target')
        return found

    @property
    def others(self) -> dict[str, str]:
        """Targets that are learnt beside it, and their units."""
        found: dict[str, str] = self.base.attributes.get('others', {})
        return found

    @property
    def split_by(self) -> str:
        """What the split keeps together."""
        found: str = self.base.attributes.get('split_by', BY_STRUCTURE)
        return found

    @property
    def baseline_source(self) -> dict[str, Any] | None:
        """Engine, version, protocol and parameters of the baseline, if the rows have one."""
        found: dict[str, Any] | None = self.base.attributes.get('baseline', None)  # absent before version 0.2
        return found

    @property
    def learnt_rows(self) -> int | None:
        """Number of training rows that the descriptor learnt its columns from, if it did."""
        found: int | None = self.base.attributes.get('learnt_rows', None)
        return found

    @property
    def selection(self) -> dict[str, Any] | None:
        """``name``, ``params`` and ``n_before`` of what selected the columns, if anything did."""
        found: dict[str, Any] | None = self.base.attributes.get('selection', None)
        return found

    @property
    def dataset(self) -> Dataset:
        """The stored rows.

        :raises DatasetError: the stored arrays are damaged.
        """
        return Dataset.from_arrays(self.arrays, tuple(self.base.attributes.get('feature_names')), self.target)

    def _validate(self) -> bool:
        super()._validate()
        attributes = self.base.attributes
        Dataset.from_arrays(self.arrays, tuple(attributes.get('feature_names', [])), attributes.get('target', GAP))
        return True
