"""Features, targets and row identities of a supervised data set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aiida_nanoml.errors import DatasetError

UNASSIGNED = ''


@dataclass(frozen=True)
class Dataset:
    """N rows of features and one target.

    :param X: shape (N, F), features.
    :param y: shape (N,), target (for the gap: eV).
    :param hashes: shape (N,), content hashes of the structures: the identity of each row.
    :param names: shape (N,), labels for people.
    :param families: shape (N,), family of each row, ``''`` where unknown.
    :param split: shape (N,), ``'train'``, ``'validation'``, ``'test'``, or ``''`` before splitting.
    :param feature_names: F names.
    :raises DatasetError: shapes that do not fit, or a value that is not finite (named by row and column).
    """

    X: NDArray[np.float64]
    y: NDArray[np.float64]
    hashes: NDArray[np.str_]
    names: NDArray[np.str_]
    families: NDArray[np.str_]
    split: NDArray[np.str_]
    feature_names: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.X.ndim != 2:
            raise DatasetError(f'features must have shape (N, F), got {self.X.shape}')
        if self.X.shape[1] != len(self.feature_names):
            raise DatasetError(f'{self.X.shape[1]} feature columns but {len(self.feature_names)} feature names')
        if len(self.X) == 0:
            raise DatasetError('the data set has no rows')
        for name in ('y', 'hashes', 'names', 'families', 'split'):
            shape = getattr(self, name).shape
            if shape != (len(self.X),):
                raise DatasetError(f'{name} has shape {shape}, expected ({len(self.X)},)')
        bad = np.argwhere(~np.isfinite(self.X))
        if bad.size:
            row, column = bad[0]
            raise DatasetError(
                f'row {row} ({self.names[row]}): feature {self.feature_names[column]!r} is not a finite number. '
                'Remove or mend the row.'
            )
        rows = np.flatnonzero(~np.isfinite(self.y))
        if rows.size:
            raise DatasetError(
                f'row {rows[0]} ({self.names[rows[0]]}): the target is not a finite number. Remove or mend the row.'
            )

    def __len__(self) -> int:
        return len(self.X)

    def part(self, name: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return features and targets of one part of the split."""
        rows = self.split == name
        return self.X[rows], self.y[rows]

    def with_split(self, split: NDArray[np.str_]) -> Dataset:
        """Return the same rows with another split, shape (N,)."""
        return replace(self, split=split)

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Return the columns by name."""
        return {
            'X': self.X,
            'y': self.y,
            'hashes': self.hashes,
            'names': self.names,
            'families': self.families,
            'split': self.split,
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], feature_names: tuple[str, ...]) -> Dataset:
        """Rebuild a data set from :meth:`to_arrays`.

        :raises DatasetError: a column is missing or the data set is not valid.
        """
        try:
            return cls(
                X=np.asarray(arrays['X'], dtype=np.float64),
                y=np.asarray(arrays['y'], dtype=np.float64),
                hashes=np.asarray(arrays['hashes'], dtype=str),
                names=np.asarray(arrays['names'], dtype=str),
                families=np.asarray(arrays['families'], dtype=str),
                split=np.asarray(arrays['split'], dtype=str),
                feature_names=tuple(feature_names),
            )
        except KeyError as error:
            raise DatasetError(f'the data set lacks the column {error}') from error
