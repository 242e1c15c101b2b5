"""Features, targets and row identities of a supervised data set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from aiida_nanoml.errors import DatasetError
from aiida_nanoml.text import ROWS_SHOWN, html_table

if TYPE_CHECKING:
    import pandas as pd

UNASSIGNED = ''
GAP = 'gap'
"""The target that is learnt unless another is named."""

BASELINE_FEATURE = 'baseline_gap_ev'
"""Name of the column that a baseline of gaps adds to what a model sees; that of another target bears its name."""

LARGEST_VALUE = 1e30
"""Larger features and targets are a mistake; their squares would soon be infinite."""

COMPANION = 'y_'
"""Beginning of the names of columns with further targets."""

COMPANION_VALUE = 'value_'
"""Beginning of the names of columns with predictions of the targets beside the main one."""


@dataclass(frozen=True, repr=False)
class Dataset:
    """N rows of features and one target, perhaps with others that are learnt beside it.

    With a baseline, a model learns the correction to it: target minus baseline, from the features and the baseline
    (Ramakrishnan, Dral, Rupp and von Lilienfeld, J. Chem. Theory Comput. 11, 2087 (2015)). The others are learnt as
    they are.

    :param X: shape (N, F), features.
    :param y: shape (N,), target (for the gap: eV).
    :param hashes: shape (N,), content hashes of the structures: the identity of each row.
    :param names: shape (N,), labels for people.
    :param families: shape (N,), family of each row, ``''`` if unknown.
    :param split: shape (N,), ``'train'``, ``'validation'``, ``'test'``, or ``''`` before splitting.
    :param feature_names: F names.
    :param baseline: shape (N,), the target as a cheaper engine gives it (for the gap: eV); ``None``: without.
    :param target: what ``y`` is, a key of :data:`~aiida_nanoml.learning.targets.TARGETS`.
    :param others: shape (N,) each, further targets by such a key, in alphabetical order.
    :param groups: shape (N,), what a split keeps together, where that is more than equal structures; ``None``: it is
        not.
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
    target: str = GAP
    others: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    groups: NDArray[np.str_] | None = None

    def __post_init__(self) -> None:
        if self.X.ndim != 2:
            raise DatasetError(f'features must have shape (N, F), got {self.X.shape}')
        if self.X.shape[1] != len(self.feature_names):
            raise DatasetError(f'{self.X.shape[1]} feature columns but {len(self.feature_names)} feature names')
        if len(self.X) == 0:
            raise DatasetError('the data set has no rows')
        object.__setattr__(self, 'others', dict(sorted(self.others.items())))
        if self.target in self.others:
            raise DatasetError(f'{self.target!r} is the target and one of the others: name it once')
        for name, column in self.to_arrays().items():
            shape = column.shape
            if name != 'X' and shape != (len(self.X),):
                raise DatasetError(f'{name} has shape {shape}, expected ({len(self.X)},)')
        bad = np.argwhere(~(np.abs(self.X) <= LARGEST_VALUE))
        if bad.size:
            row, column = bad[0]
            what = f'feature {self.feature_names[column]!r}'
            raise DatasetError(
                f'row {row} ({self.names[row]}): {what} is not a finite number, or beyond {LARGEST_VALUE:g}: '
                'remove or mend the row'
            )
        others = ((f'target {name!r}', values) for name, values in self.others.items())
        for what, values in (('target', self.y), ('baseline', self.baseline), *others):
            rows = np.flatnonzero(~(np.abs(values) <= LARGEST_VALUE)) if values is not None else np.empty(0)
            if rows.size:
                raise DatasetError(
                    f'row {rows[0]} ({self.names[rows[0]]}): the {what} is not a finite number, or beyond '
                    f'{LARGEST_VALUE:g}: remove or mend the row'
                )

    def __len__(self) -> int:
        return len(self.X)

    def __repr__(self) -> str:
        corrected = '' if self.baseline is None else ', with a baseline'
        return f'<Dataset: {len(self)} rows, {len(self.feature_names)} features, target {self.target}{corrected}>'

    def _repr_html_(self) -> str:
        shown = min(len(self), ROWS_SHOWN)
        columns = (self.names, self.families, self.split, self.y)
        rows = zip(*(column[:shown].tolist() for column in columns), strict=True)
        return html_table(repr(self).strip('<>'), ('name', 'family', 'split', self.target), rows)

    def to_dataframe(self) -> pd.DataFrame:
        """Return a data frame: name, family, split and hash, targets and baseline by name, then the features."""
        import pandas as pd

        known = {'name': self.names, 'family': self.families, 'split': self.split, 'hash': self.hashes}
        baseline = {} if self.baseline is None else {self.input_names[-1]: self.baseline}
        left = pd.DataFrame(known | {self.target: self.y} | dict(self.others) | baseline)
        return left.join(pd.DataFrame(self.X, columns=list(self.feature_names)))

    @property
    def inputs(self) -> NDArray[np.float64]:
        """Inputs of a model: the features, and the baseline as last column; shape (N, F) or (N, F + 1)."""
        return model_inputs(self.X, self.baseline)

    @property
    def input_names(self) -> tuple[str, ...]:
        """Names of the columns of :attr:`inputs`."""
        if self.baseline is None:
            return self.feature_names
        return (*self.feature_names, BASELINE_FEATURE if self.target == GAP else f'baseline_{self.target}')

    @property
    def identities(self) -> NDArray[np.str_]:
        """Rows with equal values stay in one part of a split, shape (N,): the groups, or else the hashes."""
        return self.hashes if self.groups is None else self.groups

    @property
    def learnt(self) -> NDArray[np.float64]:
        """Values that a model learns of the main target, or their corrections to the baseline; shape (N,)."""
        return self.y if self.baseline is None else self.y - self.baseline

    def part(self, name: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return what a model sees and what it learns of one part of the split.

        :returns: :attr:`inputs` of the rows, and :attr:`learnt`; (n,), with others (n, 1 + others).
        """
        rows = self.split == name
        learnt = np.column_stack([self.learnt, *self.others.values()]) if self.others else self.learnt
        return self.inputs[rows], learnt[rows]

    def with_split(self, split: NDArray[np.str_]) -> Dataset:
        """Return the same rows with another split, shape (N,)."""
        return replace(self, split=split)

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Return the columns by name; ``baseline``, ``groups`` and ``y_<name>`` only if present."""
        arrays = {
            'X': self.X,
            'y': self.y,
            'hashes': self.hashes,
            'names': self.names,
            'families': self.families,
            'split': self.split,
        }
        optional = {'baseline': self.baseline, 'groups': self.groups}
        arrays |= {name: column for name, column in optional.items() if column is not None}
        return arrays | {f'{COMPANION}{name}': column for name, column in self.others.items()}

    @classmethod
    def from_arrays(
        cls, arrays: Mapping[str, NDArray[Any]], feature_names: tuple[str, ...], target: str = GAP
    ) -> Dataset:
        """Rebuild a data set from :meth:`to_arrays`.

        :param target: what ``y`` is.
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
                target=target,
                others={
                    name.removeprefix(COMPANION): np.asarray(column, dtype=np.float64)
                    for name, column in arrays.items()
                    if name.startswith(COMPANION)
                },
                groups=np.asarray(arrays['groups'], dtype=str) if 'groups' in arrays else None,
            )
        except KeyError as error:
            raise DatasetError(f'the data set lacks the column {error}') from error


def model_inputs(features: NDArray[np.float64], baseline: NDArray[np.float64] | None) -> NDArray[np.float64]:
    """Return the inputs of a model: the features, and the baseline as last column.

    The error of a cheap engine depends on its gap more than on anything else: on 84 flakes labelled with SIESTA, this
    column takes a quarter off the error of a correction that sees the descriptor alone.

    :param features: shape (N, F).
    :param baseline: shape (N,), in the unit of the target; ``None``: the model learnt without.
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
