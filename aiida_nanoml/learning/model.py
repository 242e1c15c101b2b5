"""Interface of all models: features in, one target or several out, files without pickle."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, overload

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import validate_data

from aiida_nanoml.errors import ModelError
from aiida_nanoml.learning.arrays import Floats, as_features

Progress = Callable[[int, int, dict[str, float]], None]
"""Called after every epoch with the epoch (from 1), the number of epochs, and the losses."""


class NotTrainedError(ModelError, NotFittedError):  # type: ignore[misc]
    """A model that is not trained cannot do what was asked for; for scikit-learn, it is not fitted."""


class Model(RegressorMixin, BaseEstimator, ABC):  # type: ignore[misc]
    """Model from features to a target, or to several at once.

    Constructors follow scikit-learn: every hyperparameter is an argument with a default, annotated with what it may be
    (:mod:`aiida_nanoml.parameters`), and kept in an attribute of the same name. Unlike in scikit-learn,
    ``predict`` returns the main target only, the first column of ``y``; :meth:`predict_all` returns all.

    Attributes:
        ``n_features_in_``: number of features, set by ``fit``.
        ``feature_names_in_``: their names, if ``fit`` was given a data frame.
        ``n_targets_``: number of targets, set by ``fit``.
        ``history_``: losses of every epoch by name; empty for a model without epochs.
        ``best_epoch_``: the epoch (from 1) whose weights are kept; None for a model without epochs.
    """

    libraries: ClassVar[tuple[str, ...]] = ()
    """Packages whose versions are written into the card of a saved model, besides NumPy and this one."""

    n_features_in_: int
    n_targets_: int
    history_: dict[str, list[float]]
    best_epoch_: int | None = None

    @abstractmethod
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
        :param validation_data: features and targets to watch, never trained on.
        :param progress: called after every epoch, if there are any.
        :raises DatasetError: shapes, NaN or infinity.
        :raises ModelError: hyperparameters of the wrong type, or more targets than the model can learn.
        """

    @abstractmethod
    def check_targets(self, n_targets: int) -> None:
        """Check that the model can learn so many targets.

        :raises ModelError: it cannot.
        """

    @overload
    def predict(self, X: npt.ArrayLike, return_std: Literal[False] = False) -> Floats: ...

    @overload
    def predict(self, X: npt.ArrayLike, return_std: Literal[True]) -> tuple[Floats, Floats]: ...

    def predict(self, X: npt.ArrayLike, return_std: bool = False) -> Floats | tuple[Floats, Floats]:
        """Predict the main target.

        :param X: (n, n_features) features, as given to ``fit``.
        :param return_std: also return the standard deviation that the model itself knows. It is uncalibrated; see
            :class:`~aiida_nanoml.learning.uncertainty.Calibration`.
        :returns: (n,) values in the unit of the target, for the gap eV; with ``return_std`` also (n,) deviations, NaN
            if the model knows none.
        :raises ModelError: not trained (:class:`NotTrainedError`), or other features than those of ``fit``.
        :raises DatasetError: shapes, NaN or infinity.
        """
        features = self._validated_features(X)
        values = self._predict_targets(features)[:, 0]
        return (values, self._predict_std(features)) if return_std else values

    def predict_all(self, X: npt.ArrayLike) -> Floats:
        """Predict all targets.

        :param X: (n, n_features) features, as given to ``fit``.
        :returns: (n, n_targets), each in its unit, the main target first.
        :raises ModelError: not trained (:class:`NotTrainedError`), or other features than those of ``fit``.
        :raises DatasetError: shapes, NaN or infinity.
        """
        return self._predict_targets(self._validated_features(X))

    def loss_label(self, unit: str = 'eV') -> str:
        """Describe the numbers in ``history_``, for the axis of a learning curve.

        :param unit: of the target.
        """
        return f'loss ({unit})'

    def require_trained(self) -> None:
        """Check that the model is trained, or was loaded.

        :raises NotTrainedError: it is not.
        """
        if not self.__sklearn_is_fitted__():
            raise NotTrainedError('the model is not trained: call fit or load a model first')

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, 'n_targets_')

    @abstractmethod
    def fitted_state(self) -> dict[str, Any]:
        """Return everything that the prediction depends on besides the hyperparameters.

        :returns: numbers, texts, arrays, estimators of scikit-learn, and lists and mappings of them. The fingerprint of
            the model is made of it.
        """

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write the trained model into a folder, without pickle; the hyperparameters are in the card.

        :param folder: exists, and holds no model.
        """

    @abstractmethod
    def load(self, folder: Path) -> None:
        """Read what :meth:`save` wrote; nothing in the folder may be run.

        The model has its hyperparameters, ``n_features_in_`` and ``n_targets_`` already.

        :raises ModelError: a file is missing, damaged, or not what it should be.
        """

    @abstractmethod
    def _predict_targets(self, features: Floats) -> Floats:
        """Predict all targets of valid features (n, n_features); (n, n_targets)."""

    def _predict_std(self, features: Floats) -> Floats:
        """Return the standard deviation of the main target that the trained model knows, (n,) in its unit."""
        return np.full(len(features), np.nan)

    def _validated_features(self, X: npt.ArrayLike) -> Floats:
        self.require_trained()
        features = as_features(X)
        try:
            validate_data(self, X, reset=False, skip_check_array=True)
        except ValueError as error:
            told = str(error).rstrip('.\n')
            raise ModelError(f'{told}: compute them with the descriptor named in the model card') from None
        return features

    def _set_trained(self, X: npt.ArrayLike, n_targets: int) -> None:
        """Keep what the model was trained on: last, since it makes the model a trained one."""
        validate_data(self, X, skip_check_array=True)
        self.n_targets_ = n_targets
