"""Other learners than the dense network: pipelines of scikit-learn behind the interface of the network."""

from __future__ import annotations

from abc import abstractmethod
from typing import Annotated, Any, ClassVar, Literal, overload

import numpy as np
import numpy.typing as npt
from pydantic import Field
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from aiida_nanoml.errors import ModelError
from aiida_nanoml.learning.arrays import Floats, as_features, as_target_columns, require_width
from aiida_nanoml.learning.dense_network import Progress
from aiida_nanoml.parameters import Count, NotNegative, Positive, Seed, check_parameters


class TargetRegressor(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """A scikit-learn regressor from a descriptor to the gap, to another target, or to several at once.

    Several targets are learnt standardised, so that none of them counts more than another.

    After :meth:`fit`: ``pipeline_``, ``n_features_in_``, ``n_targets_``, and an empty ``history_`` (there are no
    epochs).
    """

    pipeline_: Pipeline

    several_targets: ClassVar[bool] = True
    """Whether one such model can learn several targets."""

    @abstractmethod
    def _pipeline(self) -> Pipeline:
        """The untrained pipeline for the hyperparameters."""

    def fit(
        self,
        X: npt.ArrayLike,
        y: npt.ArrayLike,
        validation_data: tuple[npt.ArrayLike, npt.ArrayLike] | None = None,
        progress: Progress | None = None,
    ) -> TargetRegressor:
        """Train.

        :param X: (n, n_features) features.
        :param y: (n,) values of one target, for the gap eV; or (n, n_targets), the main target first.
        :param validation_data: taken so that all models are called alike; an estimator has nothing to watch.
        :param progress: taken so that all models are called alike; never called, as there are no epochs.
        :raises DatasetError: shapes, NaN or infinity.
        :raises ModelError: hyperparameters of the wrong type.
        """
        check_parameters(type(self), self.get_params(deep=False))
        features = as_features(X)
        targets = as_target_columns(y, n_rows=len(features))
        self.check_targets(targets.shape[1])
        pipeline = self._pipeline()
        if targets.shape[1] > 1:
            from sklearn.compose import TransformedTargetRegressor

            name, regressor = pipeline.steps[-1]
            pipeline.steps[-1] = (name, TransformedTargetRegressor(regressor, transformer=StandardScaler()))
        self.pipeline_ = pipeline.fit(features, targets if targets.shape[1] > 1 else targets[:, 0])
        self.history_: dict[str, list[float]] = {}
        self.n_features_in_ = features.shape[1]
        self.n_targets_ = targets.shape[1]
        return self

    def check_targets(self, n_targets: int) -> None:
        """Refuse several targets where the model can learn only one.

        :raises ModelError: several targets.
        """
        if n_targets > 1 and not self.several_targets:
            raise ModelError(
                f'{type(self).__name__} learns one target, the data set has {n_targets}: build it without the others, '
                'or take another kind of model'
            )

    @overload
    def predict(self, X: npt.ArrayLike, return_std: Literal[False] = False) -> Floats: ...

    @overload
    def predict(self, X: npt.ArrayLike, return_std: Literal[True]) -> tuple[Floats, Floats]: ...

    def predict(self, X: npt.ArrayLike, return_std: bool = False) -> Floats | tuple[Floats, Floats]:
        """Predict the main target.

        :param X: (n, n_features) features, as given to :meth:`fit`.
        :param return_std: also return the standard deviation that the model itself knows. It is no error until
            :class:`~aiida_nanoml.learning.uncertainty.Calibration` makes one of it.
        :returns: (n,) values in the unit of the target, for the gap eV; with ``return_std`` also (n,) deviations, NaN
            where a model knows none.
        :raises ModelError: not trained, or features of another length.
        :raises DatasetError: shapes, NaN or infinity.
        """
        features = self._validated_features(X)
        values = self._predict_targets(features)[:, 0]
        return (values, self._predict_std(features)) if return_std else values

    def predict_all(self, X: npt.ArrayLike) -> Floats:
        """Predict all targets.

        :param X: (n, n_features) features, as given to :meth:`fit`.
        :returns: (n, n_targets), each in its unit, the main target first.
        :raises ModelError: not trained, or features of another length.
        :raises DatasetError: shapes, NaN or infinity.
        """
        return self._predict_targets(self._validated_features(X))

    def _validated_features(self, X: npt.ArrayLike) -> Floats:
        if not hasattr(self, 'pipeline_'):
            raise ModelError('the model is not trained: call fit or load a model first')
        features = as_features(X)
        require_width(features, self.n_features_in_)
        return features

    def _predict_targets(self, features: Floats) -> Floats:
        return np.asarray(self.pipeline_.predict(features), dtype=np.float64).reshape(len(features), -1)

    def _predict_std(self, features: Floats) -> Floats:
        """Standard deviation of the main target that the trained pipeline knows, (n,) in its unit."""
        return np.full(len(features), np.nan)

    def fitted_state(self) -> dict[str, Any]:
        """Everything that the prediction depends on besides the hyperparameters, by step of the pipeline."""
        return dict(self.pipeline_.steps)


class LinearEstimator(TargetRegressor):
    """Ordinary least squares on standardised features."""

    def _pipeline(self) -> Pipeline:
        from sklearn.linear_model import LinearRegression

        return make_pipeline(StandardScaler(), LinearRegression())


class RidgeEstimator(TargetRegressor):
    """Least squares on standardised features with an L2 penalty.

    :param alpha: strength of the penalty.
    """

    def __init__(self, alpha: NotNegative = 1.0) -> None:
        self.alpha = alpha

    def _pipeline(self) -> Pipeline:
        from sklearn.linear_model import Ridge

        return make_pipeline(StandardScaler(), Ridge(alpha=self.alpha))


class TreeEstimator(TargetRegressor):
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


class ForestEstimator(TargetRegressor):
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

    def _predict_std(self, features: Floats) -> Floats:
        """Over the trees."""
        forest, scale = self.pipeline_[-1], 1.0
        if self.n_targets_ > 1:
            forest, scale = forest.regressor_, float(forest.transformer_.scale_[0])
        trees = forest.estimators_
        if len(trees) < 2:
            return super()._predict_std(features)
        answers = [tree.predict(features).reshape(len(features), -1)[:, 0] for tree in trees]
        return np.asarray(scale * np.std(answers, axis=0, ddof=1))


class SvmEstimator(TargetRegressor):
    """Support-vector regression on standardised features, with a radial kernel.

    :param penalty: weight of the rows outside the tube (C).
    :param tube_width: half width of the tube within which an error costs nothing, in the unit of the target
        (epsilon).
    :param kernel_width: coefficient gamma of the kernel, or ``scale``: 1 / (features x variance).
    """

    several_targets = False

    def __init__(
        self,
        penalty: Positive = 10.0,
        tube_width: NotNegative = 0.02,
        kernel_width: Literal['scale'] | Positive = 'scale',
    ) -> None:
        self.penalty = penalty
        self.tube_width = tube_width
        self.kernel_width = kernel_width

    def _pipeline(self) -> Pipeline:
        from sklearn.svm import SVR

        return make_pipeline(StandardScaler(), SVR(C=self.penalty, epsilon=self.tube_width, gamma=self.kernel_width))
