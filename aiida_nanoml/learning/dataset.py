"""Features, targets and row identities of a supervised data set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aiida_nanoml.errors import DatasetError

UNASSIGNED = ''
BASELINE_FEATURE = 'baseline_gap_ev'
"""Name of the column that a baseline adds to what a model sees."""


@dataclass(frozen=True)
class Dataset:
    """N rows of features and one target.

    With a baseline, a model learns the correction to it: target minus baseline, from the features and the baseline
    (Ramakrishnan, Dral, Rupp and von Lilienfeld, J. Chem. Theory Comput. 11, 2087 (2015)).

    :param X: shape (N, F), features.
    :param y: shape (N,), target (for the gap: eV).
    :param hashes: shape (N,), content hashes of the structures: the identity of each row.
    :param names: shape (N,), labels for people.
    :param families: shape (N,), family of each row, ``''`` where unknown.
    :param split: shape (N,), ``'train'``, ``'validation'``, ``'test'``, or ``''`` before splitting.
    :param feature_names: F names.
    :param baseline: shape (N,), the target as a cheaper engine gives it (for the gap: eV); ``None``: without.
    :raises DatasetError: shapes that do not fit, or a value that is not finite (named by row and column).
    """

    X: NDArray[np.float64]
    y: NDArray[np.float64]
    hashes: NDArray[np.str_]
    names: NDArray[np.str_]
    families: NDArray[np.str_]
    split: NDArray[np.str_]
    feature_names: tuple[str, ...]
    baseline: NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        if self.X.ndim != 2:
            raise DatasetError(f'features must have shape (N, F), got {self.X.shape}')
        if self.X.shape[1] != len(self.feature_names):
            raise DatasetError(f'{self.X.shape[1]} feature columns but {len(self.feature_names)} feature names')
        if len(self.X) == 0:
            raise DatasetError('the data set has no rows')
        for name, column in self.to_arrays().items():
            shape = column.shape
            if name != 'X' and shape != (len(self.X),):
                raise DatasetError(f'{name} has shape {shape}, expected ({len(self.X)},)')
        bad = np.argwhere(~np.isfinite(self.X))
        if bad.size:
            row, column = bad[0]
            raise DatasetError(
                f'row {row} ({self.names[row]}): feature {self.feature_names[column]!r} is not a finite number. '
                'Remove or mend the row.'
            )
        for what, values in (('target', self.y), ('baseline', self.baseline)):
            rows = np.flatnonzero(~np.isfinite(values)) if values is not None else np.empty(0)
            if rows.size:
                raise DatasetError(
                    f'row {rows[0]} ({self.names[rows[0]]}): the {what} is not a finite number. Remove or mend the row.'
                )

    def __len__(self) -> int:
        return len(self.X)

    @property
    def inputs(self) -> NDArray[np.float64]:
        """What a model sees: the features, and the baseline as last column; shape (N, F) or (N, F + 1)."""
        return model_inputs(self.X, self.baseline)

    @property
    def input_names(self) -> tuple[str, ...]:
        """Names of the columns of :attr:`inputs`."""
        return self.feature_names if self.baseline is None else (*self.feature_names, BASELINE_FEATURE)

    def part(self, name: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return what a model sees and what it learns of one part of the split: the target, or the correction."""
        rows = self.split == name
        learnt = self.y if self.baseline is None else self.y - self.baseline
        return self.inputs[rows], learnt[rows]

    def with_split(self, split: NDArray[np.str_]) -> Dataset:
        """Return the same rows with another split, shape (N,)."""
        return replace(self, split=split)

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Return the columns by name; ``baseline`` only where there is one."""
        arrays = {
            'X': self.X,
            'y': self.y,
            'hashes': self.hashes,
            'names': self.names,
            'families': self.families,
            'split': self.split,
        }
        return arrays if self.baseline is None else arrays | {'baseline': self.baseline}

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
                baseline=np.asarray(arrays['baseline'], dtype=np.float64) if 'baseline' in arrays else None,
            )
        except KeyError as error:
            raise DatasetError(f'the data set lacks the column {error}') from error


def model_inputs(features: NDArray[np.float64], baseline: NDArray[np.float64] | None) -> NDArray[np.float64]:
    """Put the baseline beside the features, as a model that corrects it wants them.

    The error of a cheap engine depends on its gap more than on anything else: on 84 flakes labelled with SIESTA, this
    column takes a quarter off the error of a correction that sees the descriptor alone.

    :param features: shape (N, F).
    :param baseline: shape (N,), eV; ``None``: the model learnt without.
    :returns: shape (N, F + 1), or the features as they are.
    """
    return features if baseline is None else np.column_stack([features, baseline])


def positions_of(wanted: NDArray[np.str_], known: NDArray[np.str_]) -> NDArray[np.int64]:
    """Find rows by their content hash.

    :param wanted: shape (N,), hashes to look for.
    :param known: shape (M,), hashes, each at most once.
    :returns: shape (N,), the row of each in ``known``, -1 where it is absent.
    """
    row_of = {value: row for row, value in enumerate(known.tolist())}
    return np.array([row_of.get(value, -1) for value in wanted.tolist()], dtype=np.int64)
