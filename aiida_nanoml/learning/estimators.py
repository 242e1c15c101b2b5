"""Other learners than the gap network: pipelines of scikit-learn behind the interface of the network."""

from __future__ import annotations

from abc import abstractmethod
from typing import Annotated, Any, Literal, overload

import numpy as np
import numpy.typing as npt
from pydantic import Field
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from aiida_nanoml.errors import ModelError
from aiida_nanoml.learning.arrays import Floats, as_features, as_targets, require_width
from aiida_nanoml.learning.gap_network import Progress
from aiida_nanoml.learning.hyperparameters import Count, NotNegative, Positive, Seed, check_hyperparameters


class GapEstimator(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """A scikit-learn regressor from a descriptor to the gap in eV.

    After :meth:`fit`: ``pipeline_``, ``n_features_in_``, and an empty ``history_`` (there are no epochs).
    """

    pipeline_: Pipeline

    @abstractmethod
    def _pipeline(self) -> Pipeline:
        """The untrained pipeline for the hyperparameters."""

    def fit(
        self,
        X: npt.ArrayLike,
        y: npt.ArrayLike,
        validation_data: tuple[npt.ArrayLike, npt.ArrayLike] | None = None,
        progress: Progress | None = None,
    ) -> GapEstimator:
        """Train.

        :param X: (n, n_features) features.
        :param y: (n,) gaps, eV.
        :param validation_data: taken so that all models are called alike; an estimator has nothing to watch.
        :param progress: taken so that all models are called alike; never called, as there are no epochs.
        :raises DatasetError: shapes, NaN or infinity.
        :raises ModelError: hyperparameters of the wrong type.
        """
        check_hyperparameters(type(self), self.get_params(deep=False))
        features = as_features(X)
        gaps = as_targets(y, n_rows=len(features))
        self.pipeline_ = self._pipeline().fit(features, gaps)
        self.history_: dict[str, list[float]] = {}
        self.n_features_in_ = features.shape[1]
        return self

    @overload
    def predict(self, X: npt.ArrayLike, return_std: Literal[False] = False) -> Floats: ...

    @overload
    def predict(self, X: npt.ArrayLike, return_std: Literal[True]) -> tuple[Floats, Floats]: ...

    def predict(self, X: npt.ArrayLike, return_std: bool = False) -> Floats | tuple[Floats, Floats]:
        """Predict gaps.

        :param X: (n, n_features) features, as given to :meth:`fit`.
        :param return_std: also return the standard deviation that the model itself knows. It is no error until
            :class:`~aiida_nanoml.learning.uncertainty.Calibration` makes one of it.
        :returns: (n,) gaps, eV; with ``return_std`` also (n,) deviations, eV, NaN where a model knows none.
        :raises ModelError: not trained, or features of another length.
        :raises DatasetError: shapes, NaN or infinity.
        """
        if not hasattr(self, 'pipeline_'):
            raise ModelError('the model is not trained: call fit or load a model first')
        features = as_features(X)
        require_width(features, self.n_features_in_)
        gaps = np.asarray(self.pipeline_.predict(features), dtype=np.float64)
        return (gaps, self._spread(features)) if return_std else gaps

    def _spread(self, features: Floats) -> Floats:
        """Standard deviation that the trained pipeline knows, (n,) in eV."""
        return np.full(len(features), np.nan)

    def fitted_state(self) -> dict[str, Any]:
        """Everything that the prediction depends on besides the hyperparameters, by step of the pipeline."""
        return dict(self.pipeline_.steps)


class LinearEstimator(GapEstimator):
    """Ordinary least squares on standardised features."""

    def _pipeline(self) -> Pipeline:
        from sklearn.linear_model import LinearRegression

        return make_pipeline(StandardScaler(), LinearRegression())


class RidgeEstimator(GapEstimator):
    """Least squares on standardised features with an L2 penalty.

    :param alpha: strength of the penalty.
    """

    def __init__(self, alpha: NotNegative = 1.0) -> None:
        self.alpha = alpha

    def _pipeline(self) -> Pipeline:
        from sklearn.linear_model import Ridge

        return make_pipeline(StandardScaler(), Ridge(alpha=self.alpha))


class TreeEstimator(GapEstimator):
    """Decision tree.

    :param max_depth: of the tree; ``None``: until the leaves cannot be divided.
    :param min_samples_leaf: rows in a leaf.
    :param seed: breaks ties between equally good divisions.
    """

    def __init__(self, max_depth: Count | None = None, min_samples_leaf: Count = 5, seed: Seed = 0) -> None:
        self.max_depth = max_depth
        self.min_samples_leaf = min_samples_leaf
        self.seed = seed

    def _pipeline(self) -> Pipeline:
        from sklearn.tree import DecisionTreeRegressor

        return make_pipeline(
            DecisionTreeRegressor(
                max_depth=self.max_depth, min_samples_leaf=self.min_samples_leaf, random_state=self.seed
            )
        )


class ForestEstimator(GapEstimator):
    """Random forest.

    :param n_trees: number of trees.
    :param max_depth: of a tree; ``None``: until the leaves cannot be divided.
    :param min_samples_leaf: rows in a leaf.
    :param feature_share: share of the features tried at each division.
    :param seed: of the bootstrap and of the features tried.
    """

    def __init__(
        self,
        n_trees: Count = 300,
        max_depth: Count | None = None,
        min_samples_leaf: Count = 1,
        feature_share: Annotated[float, Field(strict=True, gt=0, le=1)] = 0.33,
        seed: Seed = 0,
    ) -> None:
        self.n_trees = n_trees
        self.max_depth = max_depth
        self.min_samples_leaf = min_samples_leaf
        self.feature_share = feature_share
        self.seed = seed

    def _pipeline(self) -> Pipeline:
        from sklearn.ensemble import RandomForestRegressor

        return make_pipeline(
            RandomForestRegressor(
                n_estimators=self.n_trees,
                max_depth=self.max_depth,
                min_samples_leaf=self.min_samples_leaf,
                max_features=float(self.feature_share),
                random_state=self.seed,
            )
        )

    def _spread(self, features: Floats) -> Floats:
        """Over the trees."""
        trees = self.pipeline_[-1].estimators_
        if len(trees) < 2:
            return super()._spread(features)
        return np.asarray(np.std([tree.predict(features) for tree in trees], axis=0, ddof=1))


class SvmEstimator(GapEstimator):
    """Support-vector regression on standardised features, with a radial kernel.

    :param penalty: weight of the rows outside the tube (C).
    :param tube_ev: half width of the tube within which an error costs nothing, eV (epsilon).
    :param kernel_width: coefficient gamma of the kernel, or ``scale``: 1 / (features x variance).
    """

    def __init__(
        self, penalty: Positive = 10.0, tube_ev: NotNegative = 0.02, kernel_width: Literal['scale'] | Positive = 'scale'
    ) -> None:
        self.penalty = penalty
        self.tube_ev = tube_ev
        self.kernel_width = kernel_width

    def _pipeline(self) -> Pipeline:
        from sklearn.svm import SVR

        return make_pipeline(StandardScaler(), SVR(C=self.penalty, epsilon=self.tube_ev, gamma=self.kernel_width))
