"""Training of dense networks by a compiled loop.

``keras.Model.fit`` spends a millisecond or more of Python on every step, most of the time for networks this small. Here
a whole epoch is one compiled function and the rows stay in memory; Keras provides the layers and the optimiser.
"""

from __future__ import annotations

import contextlib
import functools
import math
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from aiida_nanoml.learning.arrays import Floats, constant_columns
from aiida_nanoml.learning.dense_layers import Singles
from aiida_nanoml.learning.keras_backend import import_keras
from aiida_nanoml.learning.keras_files import core_model, set_core_weights

STEPS_WORTH_XLA = 1_000
"""Steps from which XLA earns its compilation.

Measured for the kind ``fast``, 320 rows of 26 features: 1.2 s more to compile; then 0.4 ms for a step, without it 1.6.
"""


@dataclass(frozen=True)
class TrainingSettings:
    """Hyperparameters of a dense network that its training depends on; they are described there."""

    activation: str
    output: str
    loss: Literal['mse', 'mae', 'huber']
    learning_rate: float
    schedule: Literal['constant', 'cosine']
    batch_size: int
    epochs: int
    weight_decay: float
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


@dataclass(frozen=True)
class Layout:
    """What a compiled training depends on, besides the shapes of its rows.

    :param kernels: (members, n_in, n_out) of each layer.
    :param xla: whether XLA compiles the epoch, beyond TensorFlow's graph of it.
    """

    kernels: tuple[tuple[int, int, int], ...]
    activation: str
    output: str
    loss: str
    weight_decay: float
    xla: bool


class CompiledTraining:
    """The trainable part of a network with its optimiser, and an epoch as one compiled function.

    :param layout: of the networks that can be trained, one after the other.
    """

    def __init__(self, layout: Layout) -> None:
        import_keras()
        import tensorflow as tf

        self.lock = threading.Lock()
        self._tf, self._loss, self._members = tf, layout.loss, layout.kernels[0][0]
        kernels = [np.zeros(shape, np.float32) for shape in layout.kernels]
        self.core = core_model(kernels, [kernel[:, 0] for kernel in kernels], layout.activation, layout.output)
        self.variables = self.core.trainable_variables
        self._optimizer = _optimizer(layout.weight_decay, self.variables)
        self._initial_state = [variable.numpy() for variable in self._optimizer.variables]
        self.run_epoch = tf.function(self._run_steps, jit_compile=layout.xla, autograph=False)
        self.mean_loss = tf.function(self._mean_loss, jit_compile=layout.xla, autograph=False)

    def start(self, kernels: Sequence[Singles], biases: Sequence[Singles]) -> None:
        """Begin a training with these weights and an optimiser without memory."""
        set_core_weights(self.core, kernels, biases)
        for variable, value in zip(self._optimizer.variables, self._initial_state, strict=True):
            variable.assign(value)

    def _losses(self, rows: Any, targets: Any) -> Any:
        """Return the loss of each row, member and target."""
        tf = self._tf
        error = tf.reshape(self.core(rows, training=True), (-1, self._members, targets.shape[1])) - targets[:, None]
        if self._loss == 'mae':
            return tf.abs(error)
        if self._loss == 'huber':
            return tf.where(tf.abs(error) < 1.0, 0.5 * tf.square(error), tf.abs(error) - 0.5)
        return tf.square(error)

    def _mean_loss(self, rows: Any, targets: Any) -> Any:
        return self._tf.reduce_mean(self._losses(rows, targets))

    def _run_steps(self, rows: Any, targets: Any, order: Any, weights: Any, rates: Any) -> Any:
        """Take a step for each batch; return the mean loss.

        :param rows: (n, n_features) scaled features.
        :param targets: (n, n_targets) scaled targets.
        :param order: (n_steps, batch) rows of each batch.
        :param weights: (n_steps, batch) weights of these rows.
        :param rates: (n_steps,) learning rate of each step.
        """
        tf = self._tf

        def step(i: Any, total: Any) -> tuple[Any, Any]:
            with tf.GradientTape() as tape:
                losses = self._losses(tf.gather(rows, order[i]), tf.gather(targets, order[i]))
                summed = tf.reduce_sum(tf.reduce_mean(losses, axis=(1, 2)) * weights[i])
                loss = summed / tf.reduce_sum(weights[i])
            self._optimizer.learning_rate.assign(rates[i])
            self._optimizer.apply(tape.gradient(loss, self.variables), self.variables)
            return i + 1, total + summed

        _, total = tf.while_loop(lambda i, total: i < order.shape[0], step, (tf.constant(0), tf.constant(0.0)))
        return total / rows.shape[0]


_compiled = functools.lru_cache(maxsize=16)(CompiledTraining)
"""To compile takes seconds, more than most trainings: folds, seeds and members of a study share it."""


class TrainingLoop:
    """Epochs of one training over rows that stay in memory.

    :param settings: hyperparameters.
    :param compiled: of a layout that fits; its weights are those to begin with.
    :param training: scaled features and targets.
    :param validation: scaled features and targets to watch.
    """

    def __init__(
        self,
        settings: TrainingSettings,
        compiled: CompiledTraining,
        training: tuple[Singles, Singles],
        validation: tuple[Singles, Singles] | None,
    ) -> None:
        import tensorflow as tf

        self._tf = tf
        self._compiled = compiled
        self._kept: list[Any] = []
        self._order = np.random.Generator(np.random.PCG64(np.random.SeedSequence([settings.seed, 1])))
        self._training = tuple(tf.constant(array) for array in training)
        self._n_rows = len(training[0])
        n_steps, batch = _batches(settings, self._n_rows)
        # The last batch is filled up with rows of weight zero: one compiled step serves all.
        self._padding = n_steps * batch - self._n_rows
        weights = np.concatenate([np.ones(self._n_rows), np.zeros(self._padding)]).reshape(n_steps, batch)
        self._weights = tf.constant(weights, tf.float32)
        self._rates = iter(_learning_rates(settings, n_steps))
        self._watched = None if validation is None else tuple(tf.constant(array) for array in validation)

    @property
    def core(self) -> Any:
        """The trainable part, from scaled features to scaled targets, with its present weights."""
        return self._compiled.core

    def run_epoch(self) -> dict[str, float]:
        """Train on all rows once, in a new order; return the losses by the names that Keras gives them."""
        order = np.concatenate([self._order.permutation(self._n_rows), np.zeros(self._padding, dtype=np.int64)])
        chosen = self._tf.constant(order.reshape(self._weights.shape), self._tf.int32)
        result = {'loss': float(self._compiled.run_epoch(*self._training, chosen, self._weights, next(self._rates)))}
        if self._watched is not None:
            result['val_loss'] = float(self._compiled.mean_loss(*self._watched))
        return result

    def keep_weights(self) -> None:
        """Keep the present weights for :meth:`restore_weights`."""
        self._kept = [variable.numpy() for variable in self._compiled.variables]

    def restore_weights(self) -> None:
        """Return to the weights that were kept."""
        for kept, variable in zip(self._kept, self._compiled.variables, strict=True):
            variable.assign(kept)


@contextlib.contextmanager
def training_loop(
    settings: TrainingSettings,
    kernels: Sequence[Singles],
    biases: Sequence[Singles],
    training: tuple[Singles, Singles],
    validation: tuple[Singles, Singles] | None,
) -> Iterator[TrainingLoop]:
    """Prepare a training; its trained part must be read before the context ends, since the next one replaces it.

    :param settings: hyperparameters.
    :param kernels: (members, n_in, n_out) of each layer, to begin with.
    :param biases: (members, n_out) of each layer, to begin with.
    :param training: scaled features and targets.
    :param validation: scaled features and targets to watch.
    """
    n_steps, _ = _batches(settings, len(training[0]))
    layout = Layout(
        kernels=tuple(kernel.shape for kernel in kernels),
        activation=settings.activation,
        output=settings.output,
        loss=settings.loss,
        weight_decay=settings.weight_decay,
        xla=settings.epochs * n_steps >= STEPS_WORTH_XLA,
    )
    compiled = _compiled(layout)
    if not compiled.lock.acquire(blocking=False):  # another thread trains with it
        compiled = CompiledTraining(layout)
        compiled.lock.acquire()
    try:
        compiled.start(kernels, biases)
        yield TrainingLoop(settings, compiled, training, validation)
    finally:
        compiled.lock.release()


def _batches(settings: TrainingSettings, n_rows: int) -> tuple[int, int]:
    """Return the number of batches in an epoch, and their size."""
    batch = min(settings.batch_size, n_rows)
    return math.ceil(n_rows / batch), batch


def _learning_rates(settings: TrainingSettings, n_steps: int) -> Singles:
    """Return the learning rate of each epoch and step (epochs, n_steps); a cosine falls to zero after the last one."""
    steps = np.arange(settings.epochs * n_steps) / (settings.epochs * n_steps)
    shares = (1 + np.cos(np.pi * steps)) / 2 if settings.schedule == 'cosine' else np.ones_like(steps)
    return (settings.learning_rate * shares).astype(np.float32).reshape(settings.epochs, n_steps)


def _optimizer(weight_decay: float, variables: Any) -> Any:
    """Return AdamW for the variables of a network, with a learning rate to be set; biases do not decay."""
    optimizer = import_keras().optimizers.AdamW(0.0, weight_decay=weight_decay)
    optimizer.exclude_from_weight_decay(var_names=['bias'])
    optimizer.build(variables)
    return optimizer
