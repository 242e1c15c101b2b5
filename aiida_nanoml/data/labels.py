"""Node of the labels that one engine and one protocol gave to many structures."""

from __future__ import annotations

import io
from collections import defaultdict
from typing import Any

import numpy as np
from aiida.orm import ArrayData
from aiida.orm.pydantic import OrmMetadataField
from numpy.typing import NDArray

from aiida_nanoml.data.source import LabelSourceMixin, source_attributes
from aiida_nanoml.engines.label_set import NUMBERS, VECTORS, LabelSet
from aiida_nanoml.errors import DatasetError


class LabelSetData(LabelSourceMixin, ArrayData):  # type: ignore[misc]
    """Labels of N structures, failed rows included, and the engine, version and protocol that made them.

    :param labels: the labels to store.
    """

    class AttributesModel(ArrayData.AttributesModel):  # type: ignore[misc]
        engine: str = OrmMetadataField(description='Registered name of the engine')
        engine_version: str = OrmMetadataField(description='Version of the engine')
        engine_title: str = OrmMetadataField(description='Name of the engine in plots and tables')
        protocol: str = OrmMetadataField(description='Name of the protocol')
        parameters: dict[str, Any] = OrmMetadataField(description='Every parameter of the engine')
        pseudopotentials: dict[str, str] = OrmMetadataField(
            default_factory=dict, description='MD5 of the pseudopotential file of each element'
        )
        n_rows: int = OrmMetadataField(description='Number of rows')
        n_finished: int = OrmMetadataField(description='Number of rows that the engine completed')
        n_open_shell: int = OrmMetadataField(description='Number of finished rows with an odd electron count')
        failures: dict[str, int] = OrmMetadataField(description='Number of failed rows for each failure code')
        units: dict[str, str] = OrmMetadataField(description='Unit of each column')

    def __init__(self, labels: LabelSet | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if labels is None:
            return
        for name, array in labels.to_arrays().items():
            self.set_array(name, array)
        self.base.attributes.set_many(
            {
                **source_attributes(labels.source),
                'n_rows': len(labels),
                'n_finished': int(labels.finished.sum()),
                'n_open_shell': int((labels.open_shell & labels.finished).sum()),
                'failures': labels.failures,
                'units': dict.fromkeys(labels.energies, 'eV')
                | {'wall_s': 's'}
                | {name: NUMBERS[name] for name in labels.numbers}
                | {name: VECTORS[name] for name in labels.vectors},
            }
        )

    @property
    def arrays(self) -> dict[str, NDArray[Any]]:
        """The arrays by name; of a stored node they are read all at once, which is much faster than one by one."""
        if not self.is_stored:
            return dict(super().arrays)
        names: dict[str, list[str]] = defaultdict(list)
        for file, entry in self.base.repository.metadata.get('o', {}).items():
            names[entry['k']].append(file.removesuffix('.npy'))  # equal arrays are kept once
        arrays = {}
        for key, stream in self.backend.get_repository().iter_object_streams(list(names)):
            content = stream.read()
            for name in names[key]:
                arrays[name] = np.load(io.BytesIO(content), allow_pickle=False)
        return arrays

    @property
    def labels(self) -> LabelSet:
        """The stored labels.

        :raises DatasetError: the stored arrays are damaged.
        """
        return LabelSet.from_arrays(self.label_source, self.arrays)

    def _validate(self) -> bool:
        super()._validate()
        if 'engine' not in self.base.attributes.all:
            raise DatasetError('a node of labels is made from a LabelSet; this one is empty')
        LabelSet.from_arrays(self.label_source, self.arrays)
        return True
