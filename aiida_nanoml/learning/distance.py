"""Distance of a row to the training rows of a model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from sklearn.neighbors import NearestNeighbors

from aiida_nanoml.errors import DatasetError, ModelError
from aiida_nanoml.learning.arrays import Floats, as_features, constant_columns, require_width

_INSIDE = 0.99
_BEYOND_RANGE = 0.5
_ROUNDING = 1e-6


class TrainingDomain:
    """Distance of a row to the nearest training row, in units of what is usual inside the training set.

    Features are divided by their standard deviation over the distinct training rows, a constant one is left alone.
    The unit is the mean, over those rows, of the distance to the nearest other one: 1 is typical, far above 1 is
    extrapolation.

    A row is *outside* when it is farther than 99 % of the training rows are from their nearest ones, or when a feature
    lies beyond its range in the training rows by more than half of that range. A flake of another family or size may be
    near in the many features that say what its neighbourhoods are, and differ in the few that say what its edge is: of
    300 flakes s-C54H20, one in a hundred is far from 180 flakes h-C42H18, and all have another share of hydrogen.

    After :meth:`fit`: ``rows_`` (n_distinct, n_features) in standardised units, ``mean_``, ``scale_`` (n_features,),
    ``typical_distance_``, ``limit_`` (distance beyond which a row is outside), ``n_features_in_``.
    """

    def fit(self, X_train: npt.ArrayLike, groups: npt.NDArray[np.str_] | None = None) -> TrainingDomain:
        """Learn the training rows.

        :param X_train: (n, n_features) features.
        :param groups: (n,) what a split kept together, for example all points of a scan. The unit is then the distance
            to the nearest row of another group, since unseen rows have none of their own group here.
        :raises DatasetError: shapes, NaN or infinity, fewer than two distinct rows, or one group only.
        """
        features, first = np.unique(as_features(X_train, 'X_train'), axis=0, return_index=True)
        if len(features) < 2:
            raise DatasetError('the training domain needs at least two distinct rows')
        scale = features.std(axis=0)
        scale[constant_columns(features)] = 1.0
        mean = features.mean(axis=0)
        self._set(mean, scale, (features - mean) / scale)
        nearest = self._nearest_others(None if groups is None else groups[first])
        self.typical_distance_ = float(nearest.mean())
        self.limit_ = float(np.quantile(nearest, _INSIDE)) / self.typical_distance_
        return self

    def _nearest_others(self, groups: npt.NDArray[np.str_] | None) -> Floats:
        """Distance of each row to the nearest other one, or to the nearest of another group."""
        if groups is None:
            return np.asarray(self._index.kneighbors(None, 1)[0][:, 0])
        _, numbers, sizes = np.unique(groups, return_inverse=True, return_counts=True)
        if len(sizes) < 2:
            raise DatasetError('the training rows are all of one group: the training domain needs at least two')
        # Of so many neighbours, at least one is of another group.
        distances, neighbours = self._index.kneighbors(None, int(sizes.max()))
        foreign = numbers[neighbours] != numbers[:, None]
        return np.asarray(distances[np.arange(len(distances)), foreign.argmax(axis=1)])

    def distance(self, X: npt.ArrayLike) -> Floats:
        """Distance to the training set.

        :param X: (n, n_features) features.
        :returns: (n,) distances without unit; 0 for a training row, 1 is typical of the training set.
        :raises ModelError: not fitted, or features of another length.
        :raises DatasetError: shapes, NaN or infinity.
        """
        if not hasattr(self, 'rows_'):
            raise ModelError('the training domain is not fitted')
        features = as_features(X)
        require_width(features, self.n_features_in_)
        rows = (features - self.mean_) / self.scale_
        nearest = self._index.kneighbors(rows, 1, return_distance=False)[:, 0]
        # From the difference itself: the index uses the binomial formula, which loses the digits of small distances.
        return np.asarray(np.linalg.norm(rows - self.rows_[nearest], axis=1) / self.typical_distance_)

    def outside(self, X: npt.ArrayLike) -> npt.NDArray[np.bool_]:
        """Return whether each row is outside of the domain of the training rows.

        :param X: (n, n_features) features.
        :returns: (n,).
        :raises ModelError: not fitted, or features of another length.
        :raises DatasetError: shapes, NaN or infinity.
        """
        far = self.distance(X) > self.limit_
        rows = (as_features(X) - self.mean_) / self.scale_
        low, high = self.rows_.min(axis=0), self.rows_.max(axis=0)
        allowed = _BEYOND_RANGE * (high - low) + _ROUNDING
        return np.asarray(far | ((rows < low - allowed) | (rows > high + allowed)).any(axis=1))

    def nearest(self, row: npt.ArrayLike, training: npt.ArrayLike, number: int) -> tuple[npt.NDArray[np.int64], Floats]:
        """Return which training rows are nearest to a row.

        :param row: (n_features,) its features.
        :param training: (n, n_features) features of the training rows, repeated ones included.
        :param number: of rows to return at most.
        :returns: indices (m,) into ``training``, the nearest first, and their distances (m,) in the unit of
            :meth:`distance`.
        :raises ModelError: not fitted, or features of another length.
        :raises DatasetError: shapes, NaN or infinity.
        """
        if not hasattr(self, 'rows_'):
            raise ModelError('the training domain is not fitted')
        known, here = as_features(training, 'training'), as_features(np.atleast_2d(row))
        require_width(known, self.n_features_in_)
        require_width(here, self.n_features_in_)
        distances = np.linalg.norm((known - here) / self.scale_, axis=1) / self.typical_distance_
        order = np.argsort(distances, kind='stable')[:number]
        return order, distances[order]

    def save(self, path: Path | str) -> None:
        """Write to an NPZ file.

        :param path: ends in ``.npz``.
        """
        np.savez_compressed(
            path,
            mean=self.mean_,
            scale=self.scale_,
            rows=self.rows_,
            typical_distance=self.typical_distance_,
            limit=self.limit_,
        )

    @classmethod
    def load(cls, path: Path | str) -> TrainingDomain:
        """Read what :meth:`save` wrote.

        :raises ModelError: not such a file.
        """
        try:
            with np.load(path, allow_pickle=False) as stored:
                mean, scale, rows = (np.asarray(stored[name], dtype=np.float64) for name in ('mean', 'scale', 'rows'))
                typical, limit = float(stored['typical_distance']), float(stored['limit'])
        except Exception as error:
            raise ModelError(f'{path} is not a readable training domain: {error}') from error
        if rows.ndim != 2 or not mean.shape == scale.shape == rows.shape[1:] or not min(typical, limit) > 0:
            raise ModelError(f'{path} is not a training domain: its arrays do not fit together')
        if not all(np.isfinite(values).all() for values in (mean, scale, rows, typical, limit)) or scale.min() <= 0:
            raise ModelError(f'{path} is not a training domain: its numbers are not finite')
        domain = cls()
        domain._set(mean, scale, rows)
        domain.typical_distance_, domain.limit_ = typical, limit
        return domain

    def _set(self, mean: Floats, scale: Floats, rows: Floats) -> None:
        self.mean_, self.scale_, self.rows_ = mean, scale, rows
        self.n_features_in_ = rows.shape[1]
        self._index = NearestNeighbors(algorithm='brute').fit(rows)
