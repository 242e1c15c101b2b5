"""Training of dense networks by a compiled loop.

``keras.Model.fit`` spends a millisecond or more of Python on every step, most of the time for networks this small. Here
a whole epoch is one compiled function and the rows stay in memory; Keras provides the layers and the optimiser.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from aiida_nanoml.learning.arrays import Floats, constant_columns
from aiida_nanoml.learning.dense_layers import Singles
from aiida_nanoml.learning.keras_backend import import_keras


@dataclass(frozen=True)
class TrainingSettings:
    """Hyperparameters of a dense network that its training depends on; they are described there."""

    loss: Literal['mse', 'mae', 'huber']
    learning_rate: float
    schedule: Literal['constant', 'cosine']
    batch_size: int
    epochs: int
    weight_decay: float
    members: int
    seed: int


@dataclass(frozen=True)
class Scaling:
    """Scaling of features and targets for a training.

    :param mean: (n_features,) subtracted from the features.
    :param variance: (n_features,) the features are divided by its square root.
    :param offsets: (n_targets,) subtracted from the targets.
    :param scales: (n_targets,) the targets are divided by them.
    """

    mean: Floats
    variance: Floats
    offsets: Floats
    scales: Floats

    def apply(self, features: Floats, targets: Floats) -> tuple[Singles, Singles]:
        """Return scaled features (n, n_features) and targets (n, n_targets)."""
        return (
            ((features - self.mean) / np.sqrt(self.variance)).astype(np.float32),
            ((targets - self.offsets) / self.scales).astype(np.float32),
        )


def standard_moments(features: Floats) -> tuple[Floats, Floats]:
    """Return mean and variance of features (n, n_features); a variance of 1 for columns that are constant."""
    variance = features.var(axis=0)
    # A constant column has a variance of rounding errors, and dividing by those would blow up rows that differ.
    variance[constant_columns(features)] = 1.0
    return features.mean(axis=0), variance


class TrainingLoop:
    """Epochs as one compiled function over rows that stay in memory.

    :param settings: hyperparameters.
    :param core: trainable part, from scaled features to scaled targets.
    :param training: scaled features and targets.
    :param validation: scaled features and targets to watch.
    """

    def __init__(
        self,
        settings: TrainingSettings,
        core: Any,
        training: tuple[Singles, Singles],
        validation: tuple[Singles, Singles] | None,
    ) -> None:
        import_keras()
        import tensorflow as tf

        self._tf = tf
        self._core = core
        self._variables = core.trainable_variables
        self._kept = [tf.Variable(v.value, trainable=False) for v in self._variables]
        self._loss, self._members = settings.loss, settings.members
        self._order = np.random.Generator(np.random.PCG64(np.random.SeedSequence([settings.seed, 1])))
        self._rows, self._targets = (tf.constant(array) for array in training)
        self._n_rows = len(training[0])
        batch = min(settings.batch_size, self._n_rows)
        self._n_steps = math.ceil(self._n_rows / batch)
        # The last batch is filled up with rows of weight zero: one compiled step serves all.
        self._padding = self._n_steps * batch - self._n_rows
        weights = np.concatenate([np.ones(self._n_rows), np.zeros(self._padding)]).reshape(self._n_steps, batch)
        self._weights = tf.constant(weights, tf.float32)
        self._optimizer = _optimizer(settings, self._n_steps, self._variables)
        self._epoch = tf.function(self._run_steps, jit_compile=True, autograph=False)
        self._watched = None if validation is None else tuple(tf.constant(array) for array in validation)
        self._watch = tf.function(self._mean_loss, jit_compile=True, autograph=False)

    def run_epoch(self) -> dict[str, float]:
        """Train on all rows once, in a new order; return the losses by the names that Keras gives them."""
        order = np.concatenate([self._order.permutation(self._n_rows), np.zeros(self._padding, dtype=np.int64)])
        chosen = self._tf.constant(order.reshape(self._weights.shape), self._tf.int32)
        result = {'loss': float(self._epoch(chosen, self._weights))}
        if self._watched is not None:
            result['val_loss'] = float(self._watch(*self._watched))
        return result

    def keep_weights(self) -> None:
        """Keep the present weights for :meth:`restore_weights`."""
        for kept, variable in zip(self._kept, self._variables, strict=True):
            kept.assign(variable.value)

    def restore_weights(self) -> None:
        """Return to the weights that were kept."""
        for kept, variable in zip(self._kept, self._variables, strict=True):
            variable.assign(kept)

    def _losses(self, rows: Any, targets: Any) -> Any:
        """Return the loss of each row, member and target."""
        tf = self._tf
        error = tf.reshape(self._core(rows, training=True), (-1, self._members, targets.shape[1])) - targets[:, None]
        if self._loss == 'mae':
            return tf.abs(error)
        if self._loss == 'huber':
            return tf.where(tf.abs(error) < 1.0, 0.5 * tf.square(error), tf.abs(error) - 0.5)
        return tf.square(error)

    def _mean_loss(self, rows: Any, targets: Any) -> Any:
        return self._tf.reduce_mean(self._losses(rows, targets))

    def _run_steps(self, order: Any, weights: Any) -> Any:
        """Take a step for each batch; return the mean loss.

        :param order: (n_steps, batch) rows of each batch.
        :param weights: (n_steps, batch) weights of these rows.
        """
        tf = self._tf

        def step(i: Any, total: Any) -> tuple[Any, Any]:
            rows, targets = tf.gather(self._rows, order[i]), tf.gather(self._targets, order[i])
            with tf.GradientTape() as tape:
                summed = tf.reduce_sum(tf.reduce_mean(self._losses(rows, targets), axis=(1, 2)) * weights[i])
                loss = summed / tf.reduce_sum(weights[i])
            self._optimizer.apply(tape.gradient(loss, self._variables), self._variables)
            return i + 1, total + summed

        _, total = tf.while_loop(lambda i, total: i < self._n_steps, step, (tf.constant(0), tf.constant(0.0)))
        return total / self._n_rows


def _optimizer(settings: TrainingSettings, n_steps: int, variables: Any) -> Any:
    """Return AdamW for the variables of a network; biases do not decay."""
    keras = import_keras()
    rate: Any = settings.learning_rate
    if settings.schedule == 'cosine':
        rate = keras.optimizers.schedules.CosineDecay(rate, decay_steps=n_steps * settings.epochs)
    optimizer = keras.optimizers.AdamW(rate, weight_decay=settings.weight_decay)
    optimizer.exclude_from_weight_decay(var_names=['bias'])
    optimizer.build(variables)
    return optimizer
