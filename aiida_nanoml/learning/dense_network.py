"""The dense network: dense layers from descriptor to gap, or to other targets, trained by a compiled loop.

``keras.Model.fit`` spends a millisecond or more of Python on every step, most of the time for networks this small. Here
a whole epoch is one compiled function and the rows stay in memory; Keras gives the layers, the optimiser and the file
format.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Annotated, Any, Literal, overload

import numpy as np
import numpy.typing as npt
from pydantic import Field
from sklearn.base import BaseEstimator, RegressorMixin

from aiida_nanoml.errors import DatasetError, ModelError
from aiida_nanoml.learning.arrays import Floats, as_features, as_target_columns, constant_columns, require_width
from aiida_nanoml.learning.dense_layers import DenseLayers
from aiida_nanoml.learning.keras_backend import import_keras
from aiida_nanoml.learning.keras_files import KerasNetwork, core_model, core_weights
from aiida_nanoml.parameters import Count, Flag, NotNegative, Positive, Seed, check_parameters

Progress = Callable[[int, int, dict[str, float]], None]
"""Called after every epoch with the epoch (from 1), the number of epochs, and the losses."""


class DenseNetwork(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """Feed-forward network from a descriptor to the gap, to another target, or to several at once.

    :param hidden_layers: neurons of each hidden layer.
    :param activation: of the hidden layers.
    :param output: ``linear``, or ``softplus``: a smooth bend that never predicts a value below zero.
    :param initializer: ``he_normal`` or ``glorot_uniform`` kernels with zero biases, or ``random_uniform``: kernels and
        biases uniform within ±0.05.
    :param loss: ``mse``, ``mae`` or ``huber``, of target / ``target_scale``. Gaps have a long upper tail, which
        ``mae`` takes less to heart.
    :param learning_rate: of Adam.
    :param schedule: ``constant``, or ``cosine``: the learning rate falls to zero over ``epochs``.
    :param batch_size: rows of one step.
    :param epochs: largest number of passes over the training rows.
    :param weight_decay: decoupled decay of the kernels (AdamW); 0 is plain Adam.
    :param members: networks trained side by side from different initial weights; the prediction is their mean.
    :param standardize: shift and scale every feature to mean 0 and variance 1 over the training rows (one that is
        constant there is only shifted) and, with a ``linear`` output, shift the targets to mean 0.
    :param target_scale: the target is divided by this, in its own unit, for the gap eV. Best is about the standard
        deviation of the gaps; the source takes 4 eV. ``None``: each target is divided by its standard deviation over
        the training rows; several targets need that.
    :param early_stopping: stop when the validation loss has not fallen for ``patience`` epochs, and keep the weights of
        the best epoch. Needs ``validation_data``.
    :param patience: in epochs.
    :param seed: of the initial weights and of the order of the rows. Same seed, same machine: same weights.

    After :meth:`fit`: ``network_`` (the trained layers, from raw features to the targets in their units), ``history_``
    (``loss`` and, with validation data, ``val_loss`` for every epoch, in units of the loss), ``best_epoch_`` (from 1,
    the epoch whose weights are kept), ``n_features_in_``, ``n_targets_``.
    """

    def __init__(
        self,
        *,
        hidden_layers: Annotated[tuple[Count, ...], Field(min_length=1)] = (64, 64),
        activation: Literal['relu', 'silu', 'gelu', 'tanh', 'elu'] = 'relu',
        output: Literal['linear', 'softplus'] = 'softplus',
        initializer: Literal['he_normal', 'glorot_uniform', 'random_uniform'] = 'he_normal',
        loss: Literal['mse', 'mae', 'huber'] = 'mae',
        learning_rate: Positive = 0.01,
        schedule: Literal['constant', 'cosine'] = 'cosine',
        batch_size: Count = 64,
        epochs: Count = 100,
        weight_decay: NotNegative = 1.0,
        members: Count = 8,
        standardize: Flag = True,
        target_scale: Positive | None = 0.5,
        early_stopping: Flag = True,
        patience: Count = 30,
        seed: Seed = 0,
    ) -> None:
        self.hidden_layers = hidden_layers
        self.activation = activation
        self.output = output
        self.initializer = initializer
        self.loss = loss
        self.learning_rate = learning_rate
        self.schedule = schedule
        self.batch_size = batch_size
        self.epochs = epochs
        self.weight_decay = weight_decay
        self.members = members
        self.standardize = standardize
        self.target_scale = target_scale
        self.early_stopping = early_stopping
        self.patience = patience
        self.seed = seed

    def fit(
        self,
        X: npt.ArrayLike,
        y: npt.ArrayLike,
        validation_data: tuple[npt.ArrayLike, npt.ArrayLike] | None = None,
        progress: Progress | None = None,
    ) -> DenseNetwork:
        """Train from new initial weights.

        :param X: (n, n_features) features.
        :param y: (n,) values of one target, for the gap eV; or (n, n_targets), the main target first.
        :param validation_data: features and targets to watch, never trained on.
        :param progress: called after every epoch.
        :raises DatasetError: shapes, NaN or infinity.
        :raises ModelError: hyperparameters of the wrong type, ``early_stopping`` without ``validation_data``, or a
            training that diverged.
        """
        check_parameters(type(self), self.get_params(deep=False))
        features = as_features(X)
        targets = as_target_columns(y, n_rows=len(features))
        self.check_targets(targets.shape[1])
        if validation_data is None:
            if self.early_stopping:
                raise ModelError('early_stopping needs validation_data: pass it, or set early_stopping=False')
            validation = None
        else:
            watched = as_features(validation_data[0], 'validation X')
            require_width(watched, features.shape[1])
            validation = watched, as_target_columns(validation_data[1], 'validation y', n_rows=len(watched))
            if validation[1].shape[1] != targets.shape[1]:
                raise DatasetError(f'y has {targets.shape[1]} targets, validation y has {validation[1].shape[1]}')

        if self.output == 'softplus' and targets.min() < 0:
            raise ModelError(
                "a network with output='softplus' cannot answer below zero, and there are targets below zero: set "
                "output='linear', or take the kind 'correction' for corrections to a baseline, 'alloy' for targets of "
                'either sign'
            )
        mean, variance = _moments(features, self.standardize)
        centred = self.standardize and self.output == 'linear'
        offsets = targets.mean(axis=0) if centred else np.zeros(targets.shape[1])
        scales = self._scales(targets)
        core = self._build_core(features.shape[1], targets.shape[1])

        def scaled(rows: Floats, values: Floats) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
            return (
                ((rows - mean) / np.sqrt(variance)).astype(np.float32),
                ((values - offsets) / scales).astype(np.float32),
            )

        loop = _Loop(self, core, scaled(features, targets), None if validation is None else scaled(*validation))
        history: dict[str, list[float]] = {'loss': []}
        if validation is not None:
            history['val_loss'] = []
        best_loss, best_epoch = math.inf, 0
        for epoch in range(1, self.epochs + 1):
            losses = loop.run_epoch()
            if not all(map(math.isfinite, losses.values())):
                raise ModelError(
                    f'the training diverged in epoch {epoch}: lower learning_rate ({self.learning_rate:g})'
                )
            for name, value in losses.items():
                history[name].append(value)
            if progress is not None:
                progress(epoch, self.epochs, losses)
            if self.early_stopping:
                if losses['val_loss'] < best_loss:
                    best_loss, best_epoch = losses['val_loss'], epoch
                    loop.keep_weights()
                elif epoch - best_epoch >= self.patience:
                    break
        if self.early_stopping:
            loop.restore_weights()
        else:
            best_epoch = self.epochs

        kernels, biases = core_weights(core)
        self.network_: DenseLayers | KerasNetwork = DenseLayers(
            kernels,
            biases,
            activation=self.activation,
            output=self.output,
            scales=scales.tolist(),
            offsets=offsets.tolist(),
            mean=mean.tolist() if self.standardize else None,
            variance=variance.tolist() if self.standardize else None,
        )
        self.history_ = history
        self.best_epoch_: int | None = best_epoch
        self.n_features_in_ = features.shape[1]
        self.n_targets_ = targets.shape[1]
        return self

    def check_targets(self, n_targets: int) -> None:
        """Refuse to learn several targets on one scale: their units differ.

        :raises ModelError: several targets, and ``target_scale`` is a number.
        """
        if n_targets > 1 and self.target_scale is not None:
            raise ModelError(
                f'{n_targets} targets have no scale in common, target_scale={self.target_scale:g}: set it to '
                "None, which divides each by its own standard deviation, or take the kind 'alloy'"
            )

    @overload
    def predict(self, X: npt.ArrayLike, return_std: Literal[False] = False) -> Floats: ...

    @overload
    def predict(self, X: npt.ArrayLike, return_std: Literal[True]) -> tuple[Floats, Floats]: ...

    def predict(self, X: npt.ArrayLike, return_std: bool = False) -> Floats | tuple[Floats, Floats]:
        """Predict the main target.

        :param X: (n, n_features) features, as given to :meth:`fit`.
        :param return_std: also return the standard deviation over the members. It measures what the training left
            open, not the error: :class:`~aiida_nanoml.learning.uncertainty.Calibration` makes one of the other.
        :returns: (n,) values in the unit of the target, for the gap eV; with ``return_std`` also (n,) deviations, NaN
            with a single member.
        :raises ModelError: not trained, or features of another length.
        :raises DatasetError: shapes, NaN or infinity.
        """
        answers = self._predict_targets(X)[..., 0]
        values: Floats = answers.mean(axis=1)
        if not return_std:
            return values
        return values, answers.std(axis=1, ddof=1) if self.members > 1 else np.full(len(values), np.nan)

    def predict_all(self, X: npt.ArrayLike) -> Floats:
        """Predict all targets.

        :param X: (n, n_features) features, as given to :meth:`fit`.
        :returns: (n, n_targets), each in its unit, the main target first.
        :raises ModelError: not trained, or features of another length.
        :raises DatasetError: shapes, NaN or infinity.
        """
        values: Floats = self._predict_targets(X).mean(axis=1)
        return values

    def _predict_targets(self, X: npt.ArrayLike) -> Floats:
        """Predict all targets by all members, (n, members, n_targets)."""
        if not hasattr(self, 'network_'):
            raise ModelError('the network is not trained: call fit or load a model first')
        features = as_features(X)
        require_width(features, self.n_features_in_)
        return self.network_.predict_members(features)

    def loss_label(self, unit: str = 'eV') -> str:
        """Say what the numbers in ``history_`` are, for the axis of a learning curve.

        :param unit: of the target.
        """
        loss = self.loss.upper() if self.loss != 'huber' else 'Huber loss'
        scale = 'standard deviation' if self.target_scale is None else f'({self.target_scale:g} {unit})'
        return f'{loss} of target / {scale}'

    def _scales(self, targets: Floats) -> Floats:
        """What each target is divided by, (n_targets,)."""
        if self.target_scale is not None:
            return np.full(targets.shape[1], self.target_scale)
        deviations: Floats = targets.std(axis=0)
        deviations[constant_columns(targets)] = 1.0
        return deviations

    def fitted_state(self) -> dict[str, Any]:
        """Everything that the prediction depends on besides the hyperparameters, by layer: arrays and scales."""
        return self.network_.state()

    def _build_core(self, n_features: int, n_targets: int = 1) -> Any:
        """Build the trainable part with its initial weights, see :func:`core_model`."""
        seeds = iter(np.random.SeedSequence(self.seed).generate_state(2 * self.members * (len(self.hidden_layers) + 1)))
        widths = (n_features, *self.hidden_layers, n_targets)
        kernels, biases = [], []
        for n_in, n_out in itertools.pairwise(widths):
            # Drawn one member at a time: Keras would count the axis of the members as part of the fan.
            drawn = [
                self._initial_weights(n_in, n_out, int(next(seeds)), int(next(seeds))) for _ in range(self.members)
            ]
            kernel, bias = map(np.stack, zip(*drawn, strict=True))
            kernels.append(kernel)
            biases.append(bias)
        return core_model(kernels, biases, self.activation, self.output)

    def _initial_weights(self, n_in: int, n_out: int, kernel_seed: int, bias_seed: int) -> tuple[Any, Any]:
        initializers = import_keras().initializers
        if self.initializer == 'random_uniform':
            kernel = initializers.RandomUniform(-0.05, 0.05, seed=kernel_seed)
            bias = initializers.RandomUniform(-0.05, 0.05, seed=bias_seed)
        else:
            kinds = {'he_normal': initializers.HeNormal, 'glorot_uniform': initializers.GlorotUniform}
            kernel, bias = kinds[self.initializer](seed=kernel_seed), initializers.Zeros()
        return np.asarray(kernel((n_in, n_out))), np.asarray(bias((n_out,)))


class _Loop:
    """Epochs as one compiled function over rows that stay in memory."""

    def __init__(
        self,
        settings: DenseNetwork,
        core: Any,
        training: tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]],
        validation: tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]] | None,
    ) -> None:
        keras = import_keras()
        import tensorflow as tf

        self._tf = tf
        self._variables = core.trainable_variables
        self._kept = [tf.Variable(v.value, trainable=False) for v in self._variables]
        self._order = np.random.Generator(np.random.PCG64(np.random.SeedSequence([settings.seed, 1])))
        self._n_rows = n_rows = len(training[0])
        batch = min(settings.batch_size, n_rows)
        n_steps = math.ceil(n_rows / batch)
        self._padding = n_steps * batch - n_rows
        rate: Any = settings.learning_rate
        if settings.schedule == 'cosine':
            rate = keras.optimizers.schedules.CosineDecay(rate, decay_steps=n_steps * settings.epochs)
        optimizer = keras.optimizers.AdamW(rate, weight_decay=settings.weight_decay)
        optimizer.exclude_from_weight_decay(var_names=['bias'])
        optimizer.build(self._variables)
        variables, members = self._variables, settings.members

        def losses(rows: Any, targets: Any) -> Any:
            error = tf.reshape(core(rows, training=True), (-1, members, targets.shape[1])) - targets[:, None]
            if settings.loss == 'mae':
                return tf.abs(error)
            if settings.loss == 'huber':
                return tf.where(tf.abs(error) < 1.0, 0.5 * tf.square(error), tf.abs(error) - 0.5)
            return tf.square(error)

        x_train, y_train = (tf.constant(a) for a in training)

        def epoch(order: Any, weights: Any) -> Any:
            def step(i: Any, total: Any) -> tuple[Any, Any]:
                chosen = order[i]
                rows, targets = tf.gather(x_train, chosen), tf.gather(y_train, chosen)
                with tf.GradientTape() as tape:
                    # The last batch is filled up with rows of weight zero: one compiled step serves all.
                    summed = tf.reduce_sum(tf.reduce_mean(losses(rows, targets), axis=(1, 2)) * weights[i])
                    loss = summed / tf.reduce_sum(weights[i])
                optimizer.apply(tape.gradient(loss, variables), variables)
                return i + 1, total + summed

            _, total = tf.while_loop(lambda i, total: i < n_steps, step, (tf.constant(0), tf.constant(0.0)))
            return total / n_rows

        self._epoch = tf.function(epoch, jit_compile=True, autograph=False)
        self._weights = tf.constant(
            np.concatenate([np.ones(n_rows), np.zeros(self._padding)]).reshape(n_steps, batch), tf.float32
        )
        self._validate: Any = None
        if validation is not None:
            x_val, y_val = (tf.constant(a) for a in validation)
            self._validate = tf.function(
                lambda: tf.reduce_mean(losses(x_val, y_val)), jit_compile=True, autograph=False
            )

    def run_epoch(self) -> dict[str, float]:
        """One pass over the rows in a new order; the losses by the names that Keras gives them."""
        order = np.concatenate([self._order.permutation(self._n_rows), np.zeros(self._padding, dtype=np.int64)])
        result = {
            'loss': float(
                self._epoch(self._tf.constant(order.reshape(self._weights.shape), self._tf.int32), self._weights)
            )
        }
        if self._validate is not None:
            result['val_loss'] = float(self._validate())
        return result

    def keep_weights(self) -> None:
        for kept, variable in zip(self._kept, self._variables, strict=True):
            kept.assign(variable.value)

    def restore_weights(self) -> None:
        for kept, variable in zip(self._kept, self._variables, strict=True):
            variable.assign(kept)


def _moments(features: Floats, standardize: bool) -> tuple[Floats, Floats]:
    """Mean and variance of the features; 0 and 1 without standardisation."""
    n_features = features.shape[1]
    if not standardize:
        return np.zeros(n_features), np.ones(n_features)
    variance = features.var(axis=0)
    # A constant column has a variance of rounding errors, and dividing by those would blow up rows that differ.
    variance[constant_columns(features)] = 1.0
    return features.mean(axis=0), variance
