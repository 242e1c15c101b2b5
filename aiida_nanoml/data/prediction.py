"""Node of the predictions that one model made for many structures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from aiida.orm import ArrayData
from aiida.orm.pydantic import OrmMetadataField
from numpy.typing import NDArray

from aiida_nanoml.errors import DatasetError
from aiida_nanoml.learning.dataset import COMPANION_VALUE
from aiida_nanoml.learning.uncertainty import Calibration
from aiida_nanoml.text import ROWS_SHOWN, html_table

if TYPE_CHECKING:
    import pandas as pd

PREDICTED = ('value', 'std', 'spread', 'distance', 'outside')
COLUMNS = ('hashes', 'names', 'families', *PREDICTED)
BASELINE = 'baseline'


class PredictionData(ArrayData):  # type: ignore[misc]
    """Predicted values, how far they may be off, and whether the model knows such structures.

    :param columns: ``hashes``, ``names``, ``families`` (strings), ``value``, ``std`` (of the error; NaN for a model
        without calibration), ``spread`` (over the members of an ensemble; NaN for a single model), all three in the
        unit of the target, ``distance`` (to the training set; 1 is typical) and ``outside`` (bool, beyond what the
        training set covers), each of shape (N,). Of a correction also ``baseline``, which ``value`` includes; of a
        model of several targets ``value_<name>`` for each of the others, which have no ``std``.
    :param model: ``fingerprint``, ``kind``, ``target``, ``unit``, ``others``, ``labels``, ``baseline`` and
        ``calibration`` of the model that made them.
    :raises DatasetError: columns are missing or differ in length, or a value is not finite.
    """

    class AttributesModel(ArrayData.AttributesModel):  # type: ignore[misc]
        n_rows: int = OrmMetadataField(description='Number of predictions')
        target: str = OrmMetadataField(description='What is predicted')
        unit: str = OrmMetadataField(description='Unit of value, std and spread')
        others: dict[str, str] | None = OrmMetadataField(
            None, description='Targets that are predicted beside it, and their units'
        )
        model_kind: str = OrmMetadataField(description='Kind of the model')
        model_fingerprint: str = OrmMetadataField(description='sha256 over hyperparameters and weights of the model')
        labels: dict[str, Any] = OrmMetadataField(description='Engine, version and protocol the model learnt from')
        baseline: dict[str, Any] | None = OrmMetadataField(
            None, description='Engine, version and protocol of the baseline that the model corrects'
        )
        calibration: dict[str, Any] | None = OrmMetadataField(
            None, description='What made std of spread, and the widths of the intervals; None: std is NaN'
        )
        n_outside: int = OrmMetadataField(description='Rows beyond what the training set covers')
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
        others = model.get('others') or {}
        beside = [f'{COMPANION_VALUE}{name}' for name in others]
        missing = [name for name in beside if name not in columns]
        if missing:
            raise DatasetError(f'predictions lack the columns {", ".join(missing)}')
        for name in (*COLUMNS, *([BASELINE] if BASELINE in columns else []), *beside):
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
                'calibration': model.get('calibration'),
                'n_outside': int(np.count_nonzero(columns['outside'])),
                'max_distance': float(np.max(columns['distance'])),
                'others': dict(others),
            }
        )

    def to_dataframe(self) -> pd.DataFrame:
        """Return a data frame with a row for each prediction, its columns those of the node."""
        import pandas as pd

        named = {'hashes': 'hash', 'names': 'name', 'families': 'family'}
        return pd.DataFrame({named.get(name, name): self.get_array(name) for name in self._column_names()})

    def _column_names(self) -> list[str]:
        """Return the names of the columns, in their order."""
        known = self.get_arraynames()
        return [*COLUMNS, *(name for name in known if name not in COLUMNS)]

    def _repr_html_(self) -> str:
        columns = ['name', 'family', 'value', 'std', 'distance', 'outside']
        rows = self.to_dataframe()[columns].head(ROWS_SHOWN).itertuples(index=False)
        return html_table(
            f'{len(self.get_array("value"))} predictions ({self.base.attributes.get("unit")})', columns, rows
        )

    @property
    def others(self) -> dict[str, str]:
        """Targets that are predicted beside the main one, and their units."""
        found: dict[str, str] = self.base.attributes.get('others', {})
        return found

    @property
    def calibration(self) -> Calibration | None:
        """What made ``std``, and gives the widths of intervals; ``None``: the model has none, and ``std`` is NaN."""
        fields = self.base.attributes.get('calibration', None)  # absent before version 0.2
        return None if fields is None else Calibration(**fields)

    def _validate(self) -> bool:
        super()._validate()
        _check(self.arrays)
        return True


def _check(columns: Mapping[str, NDArray[Any]]) -> None:
    missing = [name for name in COLUMNS if name not in columns]
    if missing:
        raise DatasetError(f'predictions lack the columns {", ".join(missing)}')
    numbers = [name for name in ('value', 'distance', BASELINE) if name in columns]
    numbers += [name for name in columns if name.startswith(COMPANION_VALUE)]
    lengths = {name: np.shape(columns[name]) for name in {*COLUMNS, *numbers}}
    if len(set(lengths.values())) != 1 or len(lengths['value']) != 1 or lengths['value'][0] == 0:
        raise DatasetError(f'the columns of predictions must have one common length above 0, got {lengths}')
    for name in numbers:
        bad = np.flatnonzero(~np.isfinite(columns[name]))
        if bad.size:
            raise DatasetError(f'prediction {bad[0]}: {name} is not a finite number')
    if np.asarray(columns['outside']).dtype != bool:
        raise DatasetError('the column outside of predictions must be true or false')
