"""Labels: merge label sets."""

from __future__ import annotations

from aiida_nanoml.calculations.functions.base import calculation_function
from aiida_nanoml.data.labels import LabelSetData
from aiida_nanoml.engines.label_set import LabelSet


@calculation_function
def merge_labels(**sets: LabelSetData) -> LabelSetData:
    """Join label sets in the order of their link labels; of rows with one structure, a finished one wins.

    :raises DatasetError: the sets come from different engines, versions or protocols.
    """
    return LabelSetData(LabelSet.concatenate([sets[key].labels for key in sorted(sets)]))
