"""Models of scikit-learn: pipelines behind the interface of all models."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field
from sklearn.base import BaseEstimator
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from aiida_nanoml.errors import ModelError
from aiida_nanoml.learning.arrays import Floats, as_features, as_target_columns, lost_in_single_precision
from aiida_nanoml.learning.model import Model, Progress
from aiida_nanoml.parameters import Count, NotNegative, Positive, Seed, check_parameters

ESTIMATOR_FILE = 'estimator.skops'
_TREE_TYPES = ('sklearn.tree._tree.Tree',)


class TargetRegressor(Model):
    """Scikit-learn regressor from features to a target, or to several at once.

    Several targets are learnt standardised, so that none of them counts more than another. ``predict`` returns the
    main target only.

    Attributes:
        ``pipeline_``: the trained pipeline.
        ``n_features_in_``: number of features.
        ``n_targets_``: number of targets.
        ``history_``: empty, as there are no epochs.
    """

    libraries: ClassVar[tuple[str, ...]] = ('scikit-learn', 'skops')

    several_targets: ClassVar[bool] = True
    """Whether one such model can learn several targets."""

    trusted_types: ClassVar[tuple[str, ...]] = ()
    """Types in the trained pipeline that skops may load besides those that it trusts by itself."""

    pipeline_: Pipeline

    single_precision: ClassVar[bool] = False
    """Whether scikit-learn rounds features to single precision: then those that would lose their spread are scaled."""

    @abstractmethod
    def _pipeline(self) -> Pipeline:
        """Return the untrained pipeline for the hyperparameters."""

    def fit(
        self,
        X: npt.ArrayLike,
        y: npt.ArrayLike,
        validation_data: tuple[npt.ArrayLike, npt.ArrayLike] | None = None,
        progress: Progress | None = None,
    ) -> Self:
        """Train.

        :param X: (n, n_features) features.
        :param y: (n,) values of one target, for the gap eV; or (n, n_targets), the main target first.
        :param validation_data: not used.
        :param progress: never called, as there are no epochs.
        :raises DatasetError: shapes, NaN or infinity.
        :raises ModelError: hyperparameters of the wrong type, or several targets for a model that learns one.
        """
        check_parameters(type(self), self.get_params(deep=False))
        features = as_features(X)
        targets = as_target_columns(y, n_rows=len(features))
        self.check_targets(targets.shape[1])
        pipeline = self._pipeline()
        if self.single_precision and lost_in_single_precision(features).any():
            pipeline.steps.insert(0, ('standardscaler', StandardScaler()))
        if targets.shape[1] > 1:
            from sklearn.compose import TransformedTargetRegressor

            name, regressor = pipeline.steps[-1]
            pipeline.steps[-1] = (name, TransformedTargetRegressor(regressor, transformer=StandardScaler()))
        self.pipeline_ = self._train(pipeline, features, targets if targets.shape[1] > 1 else targets[:, 0])
        self.history_ = {}
        self._set_trained(X, targets.shape[1])
        return self

    def _train(self, pipeline: Pipeline, features: Floats, targets: Floats) -> Pipeline:
        """Train the pipeline on features (n, n_features) and targets, (n,) or (n, n_targets)."""
        trained: Pipeline = pipeline.fit(features, targets)
        return trained

    def check_targets(self, n_targets: int) -> None:
        """Check that the model can learn so many targets.

        :raises ModelError: several targets for a model that learns one.
        """
        if n_targets > 1 and not self.several_targets:
            raise ModelError(
                f'{type(self).__name__} learns one target, the data set has {n_targets}: build it without the others, '
                'or take another kind of model'
            )

    def fitted_state(self) -> dict[str, Any]:
        """Return everything that the prediction depends on besides the hyperparameters, by step of the pipeline."""
        return dict(self.pipeline_.steps)

    def save(self, folder: Path) -> None:
        """Write the trained pipeline with skops."""
        import skops.io

        skops.io.dump(self.pipeline_, folder / ESTIMATOR_FILE)

    def load(self, folder: Path) -> None:
        """Read the trained pipeline; types that are not trusted are refused.

        :raises ModelError: missing, damaged, or with foreign types.
        """
        path = folder / ESTIMATOR_FILE
        if not path.is_file():
            raise ModelError(f'{path} is missing')
        import skops.io

        try:
            self.pipeline_ = skops.io.load(path, trusted=list(self.trusted_types))
        except Exception as error:
            raise ModelError(f'{path} is not a readable estimator: {error}') from error
        self.history_ = {}

    def _predict_targets(self, features: Floats) -> Floats:
        return np.asarray(self.pipeline_.predict(features), dtype=np.float64).reshape(len(features), -1)


class LinearEstimator(TargetRegressor):
    """Ordinary least squares on standardised features.

    >>> model = LinearEstimator().fit([[0.0], [1.0], [2.0]], [1.0, 2.0, 3.0])
    >>> model.predict([[4.0]]).round(6).tolist()
    [5.0]
    """

    def _pipeline(self) -> Pipeline:
        from sklearn.linear_model import LinearRegression

        return make_pipeline(StandardScaler(), LinearRegression())


class RidgeEstimator(TargetRegressor):
    """Least squares on standardised features with an L2 penalty.

    :param alpha: strength of the penalty.

    >>> model = RidgeEstimator(alpha=0.1).fit([[0.0], [1.0], [2.0]], [1.0, 2.0, 3.0])
    >>> model.predict([[1.0]]).round(6).tolist()
    [2.0]
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

    >>> model = TreeEstimator(min_samples_leaf=1).fit([[0.0], [1.0], [2.0]], [1.0, 2.0, 3.0])
    >>> model.predict([[1.1]]).tolist()
    [2.0]
    """

    trusted_types = _TREE_TYPES
    single_precision = True

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

    >>> model = ForestEstimator(n_trees=5).fit([[0.0], [1.0], [2.0]], [1.0, 2.0, 3.0])
    >>> values, std = model.predict([[1.0], [2.0]], return_std=True)
    >>> values.shape, std.shape
    ((2,), (2,))
    """

    trusted_types = _TREE_TYPES
    single_precision = True

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
        """Return the standard deviation over the trees."""
        return _spread_of_trees(self.pipeline_, features) if self.n_trees > 1 else super()._predict_std(features)


class SvmEstimator(TargetRegressor):
    """Support-vector regression on standardised features, with a radial kernel.

    :param penalty: weight of the rows outside the tube (``C`` in scikit-learn).
    :param tube_width: half width of the tube within which an error costs nothing, in the unit of the target
        (``epsilon``).
    :param kernel_width: coefficient of the kernel (``gamma``), or ``scale``: 1 / (features x variance).

    >>> model = SvmEstimator(tube_width=0.1).fit([[0.0], [1.0], [2.0]], [1.0, 2.0, 3.0])
    >>> bool(abs(model.predict([[1.0]])[0] - 2.0) < 0.2)
    True
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


class FewRowsEstimator(TargetRegressor):
    """The best of ridge regression, support vectors and a forest on standardised features, by cross-validation.

    For some dozen rows. Which of them, and how strongly it is regularised, is chosen within the training rows by the
    root mean square error of rows that are left out; the chosen one learns from all of them. Support vectors learn no
    more than one target.

    Attributes:
        ``chosen_``: the regressor that was chosen, as scikit-learn writes it.

    :param folds: number of parts of the training rows, of which one is left out at a time.
    :param tube_width: half width of the tube within which an error costs nothing, in standard deviations of the target
        (``epsilon``).
    :param seed: of the assignment of rows to parts, and of the forest.

    >>> rows = np.linspace(0.0, 1.0, 30)[:, None]
    >>> model = FewRowsEstimator().fit(rows, 2.0 * rows[:, 0])
    >>> model.chosen_
    'Ridge(alpha=0.1)'
    """

    trusted_types = _TREE_TYPES

    def __init__(
        self, folds: Annotated[int, Field(strict=True, ge=2)] = 5, tube_width: NotNegative = 0.02, seed: Seed = 0
    ) -> None:
        self.folds = folds
        self.tube_width = tube_width
        self.seed = seed

    @property
    def chosen_(self) -> str:
        """Return the regressor that was chosen."""
        return str(self.pipeline_[-1])

    def _pipeline(self) -> Pipeline:
        from sklearn.linear_model import Ridge

        return make_pipeline(StandardScaler(), Ridge())

    def _train(self, pipeline: Pipeline, features: Floats, targets: Floats) -> Pipeline:
        from sklearn.model_selection import GridSearchCV, KFold

        folds = min(self.folds, len(features))
        if folds < 2:
            return super()._train(pipeline, features, targets)
        search = GridSearchCV(
            pipeline,
            {pipeline.steps[-1][0]: self._candidates(targets)},
            scoring='neg_root_mean_squared_error',
            cv=KFold(folds, shuffle=True, random_state=self.seed),
            error_score='raise',
        )
        best: Pipeline = search.fit(features, targets).best_estimator_
        return best

    def _candidates(self, targets: Floats) -> list[BaseEstimator]:
        from sklearn.compose import TransformedTargetRegressor
        from sklearn.ensemble import RandomForestRegressor
        from sklearn.linear_model import Ridge
        from sklearn.svm import SVR

        found: list[BaseEstimator] = [Ridge(alpha=alpha) for alpha in (0.1, 1.0, 10.0, 100.0)]
        found.append(RandomForestRegressor(n_estimators=100, max_features=0.33, random_state=self.seed))
        if targets.ndim > 1:
            return [TransformedTargetRegressor(one, transformer=StandardScaler()) for one in found]
        scale = float(targets.std()) or 1.0
        return found + [SVR(C=share * scale, epsilon=self.tube_width * scale) for share in (1.0, 10.0, 100.0)]

    def _predict_std(self, features: Floats) -> Floats:
        return (
            _spread_of_trees(self.pipeline_, features) if 'Forest' in self.chosen_ else super()._predict_std(features)
        )


def _spread_of_trees(pipeline: Pipeline, features: Floats) -> Floats:
    """Return the standard deviation (n,) of the main target over the trees of a forest, the last step of a pipeline."""
    forest, scale = pipeline[-1], 1.0
    if hasattr(forest, 'transformer_'):
        forest, scale = forest.regressor_, float(forest.transformer_.scale_[0])
    rows = pipeline[:-1].transform(features) if len(pipeline) > 1 else features
    answers = [tree.predict(rows).reshape(len(rows), -1)[:, 0] for tree in forest.estimators_]
    return np.asarray(scale * np.std(answers, axis=0, ddof=1))
