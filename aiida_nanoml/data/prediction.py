"""Node of the predictions that one model made for many structures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from aiida.orm import ArrayData
from aiida.orm.pydantic import OrmMetadataField
from numpy.typing import NDArray

from aiida_nanoml.errors import DatasetError

COLUMNS = ('hashes', 'names', 'families', 'value', 'std', 'distance')
BASELINE = 'baseline'


class PredictionData(ArrayData):  # type: ignore[misc]
    """Predicted values with their spread and their distance to the training set.

    :param columns: ``hashes``, ``names``, ``families`` (strings), ``value`` (eV), ``std`` (eV, spread over the members
        of an ensemble, NaN for a single model) and ``distance`` (to the training set; 1 is typical), each of shape
        (N,). Of a correction also ``baseline`` (eV), which ``value`` includes.
    :param model: ``fingerprint``, ``kind``, ``target``, ``unit``, ``labels`` and ``baseline`` of the model that made
        them.
    :raises DatasetError: columns are missing or differ in length, or a value is not finite.
    """

    class AttributesModel(ArrayData.AttributesModel):  # type: ignore[misc]
        n_rows: int = OrmMetadataField(description='Number of predictions')
        target: str = OrmMetadataField(description='What is predicted')
        unit: str = OrmMetadataField(description='Unit of value and std')
        model_kind: str = OrmMetadataField(description='Kind of the model')
        model_fingerprint: str = OrmMetadataField(description='sha256 over hyperparameters and weights of the model')
        labels: dict[str, Any] = OrmMetadataField(description='Engine, version and protocol the model learnt from')
        baseline: dict[str, Any] | None = OrmMetadataField(
            None, description='Engine, version and protocol of the baseline that the model corrects'
        )
        max_distance: float = OrmMetadataField(description='Largest distance to the training set')

    def __init__(
        self,
        columns: Mapping[str, NDArray[Any]] | None = None,
        model: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if columns is None or model is None:
            return
        _check(columns)
        for name in (*COLUMNS, BASELINE) if BASELINE in columns else COLUMNS:
            self.set_array(name, np.asarray(columns[name]))
        self.base.attributes.set_many(
            {
                'n_rows': len(columns['value']),
                'target': model['target'],
                'unit': model['unit'],
                'model_kind': model['kind'],
                'model_fingerprint': model['fingerprint'],
                'labels': dict(model['labels'] or {}),
                'baseline': model.get('baseline'),
                'max_distance': float(np.max(columns['distance'])),
            }
        )

    def _validate(self) -> bool:
        super()._validate()
        _check(self.arrays)
        return True


def _check(columns: Mapping[str, NDArray[Any]]) -> None:
    missing = [name for name in COLUMNS if name not in columns]
    if missing:
        raise DatasetError(f'predictions lack the columns {", ".join(missing)}')
    numbers = [name for name in ('value', 'distance', BASELINE) if name in columns]
    lengths = {name: np.shape(columns[name]) for name in {*COLUMNS, *numbers}}
    if len(set(lengths.values())) != 1 or len(lengths['value']) != 1 or lengths['value'][0] == 0:
        raise DatasetError(f'the columns of predictions must have one common length above 0, got {lengths}')
    for name in numbers:
        bad = np.flatnonzero(~np.isfinite(columns[name]))
        if bad.size:
            raise DatasetError(f'prediction {bad[0]}: {name} is not a finite number')
