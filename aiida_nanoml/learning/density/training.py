"""Training of density networks on points that are drawn again in every epoch."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from aiida_nanoml.densities.density import Density
from aiida_nanoml.densities.free_atoms import FreeAtoms
from aiida_nanoml.densities.resampling import resample_values
from aiida_nanoml.errors import DensityError, ModelError
from aiida_nanoml.learning.density.architecture import Architecture, DensitySettings
from aiida_nanoml.learning.density.mesh_view import MeshView, view_structure
from aiida_nanoml.learning.density.symmetry import Floats, Integers
from aiida_nanoml.learning.keras_backend import import_keras

Progress = Callable[[int, int], None]


class Densities(Protocol):
    """Densities that are read one at a time."""

    def __len__(self) -> int: ...

    def __getitem__(self, row: int, /) -> Density: ...


CACHED_POINTS = 40_000_000
"""Mesh points of densities that are kept in memory, each 16 bytes or more; others are read again for every draw."""

DENSITIES_PER_EPOCH = 16
"""Densities that one draw takes its points from."""

WATCHED_POINTS = 20_000

SMALLEST_VARIANCE = 1e-5
"""Share of the largest variance that is added to each: directions that hardly vary are not blown up to noise."""

STEPS_WORTH_XLA = 200
"""Steps from which XLA earns its compilation: that takes 2 s, then a step 32 ms in place of 47 (C24H12, defaults)."""


@dataclass(frozen=True)
class Trained:
    """Free weights and biases of each layer, the scale of the output, and the losses of every epoch."""

    weights: list[NDArray[np.float32]]
    biases: list[NDArray[np.float32]]
    scale: float
    history: dict[str, list[float]]


def train(
    architecture: Architecture,
    free_atoms: FreeAtoms,
    densities: Densities,
    watched: Densities | None = None,
    progress: Progress | None = None,
) -> Trained:
    """Train the weights of a network whose free atoms are known.

    The inputs are whitened: neighbouring points have nearly the same density, and a descent along the few directions in
    which they differ would take very long. Mean and covariance are averaged over the group, so that whitening commutes
    with it, and the weights that stand behind it keep their ties.

    :raises DensityError: a density cannot be put on the common mesh.
    :raises ModelError: the training diverged.
    """
    settings = architecture.settings
    generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence([settings.seed, 1])))
    pool = _Pool(architecture, free_atoms, densities)
    rows, targets = pool.draw(settings.points_per_epoch, generator)
    scale = float(np.abs(targets).mean())
    if not scale > 0:
        raise DensityError('the difference to the free atoms is zero everywhere: there is nothing to learn')
    mean, whitening = _whitening(rows @ architecture.sampling, architecture.inputs)
    shown = None
    if watched is not None and len(watched):
        shown = _Pool(architecture, free_atoms, watched).draw(
            WATCHED_POINTS, np.random.Generator(np.random.PCG64(settings.seed))
        )
    loop = _Loop(architecture, mean, whitening, scale)
    history: dict[str, list[float]] = {'loss': []}
    if shown is not None:
        history['val_loss'] = []
    for epoch in range(1, settings.epochs + 1):
        if epoch > 1:
            rows, targets = pool.draw(settings.points_per_epoch, generator)
        history['loss'].append(loop.run_epoch(rows, targets))
        if not math.isfinite(history['loss'][-1]):
            raise ModelError(
                f'the training diverged in epoch {epoch}: lower learning_rate ({settings.learning_rate:g})'
            )
        if shown is not None:
            history['val_loss'].append(loop.error(*shown))
        if progress is not None:
            progress(epoch, settings.epochs)
    weights, biases = loop.folded()
    return Trained(weights, biases, scale, history)


class _Pool:
    """Densities on the common mesh, as far as they fit into memory."""

    def __init__(self, architecture: Architecture, free_atoms: FreeAtoms, densities: Densities) -> None:
        self._architecture = architecture
        self._free_atoms = free_atoms
        self._densities = densities
        self._kept: OrderedDict[int, tuple[MeshView, NDArray[np.float32]]] = OrderedDict()
        self._order: list[int] = []

    def draw(self, n_points: int, generator: np.random.Generator) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Draw points with a free-atom density.

        :returns: what is read around them (p, k), and the difference there (p,), in random order.
        """
        chosen = [self._next(generator) for _ in range(min(DENSITIES_PER_EPOCH, len(self._densities)))]
        parts = []
        for row, share in zip(chosen, np.diff(np.linspace(0, n_points, len(chosen) + 1).astype(int)), strict=True):
            view, difference = self._look(row)
            if not len(view.occupied):
                raise DensityError(
                    f'density {row} has no free-atom density above {self._architecture.settings.floor:g}'
                )
            places = generator.choice(view.occupied, share)
            parts.append((view.read(places).T, difference[places]))
        rows, targets = (np.concatenate(column) for column in zip(*parts, strict=True))
        order = generator.permutation(len(rows))
        return rows[order], targets[order]

    def _next(self, generator: np.random.Generator) -> int:
        if not self._order:
            self._order = generator.permutation(len(self._densities)).tolist()
        return self._order.pop()

    def _look(self, row: int) -> tuple[MeshView, NDArray[np.float32]]:
        if row in self._kept:
            self._kept.move_to_end(row)
            return self._kept[row]
        density = self._densities[row]
        view = view_structure(density.structure, self._free_atoms, self._architecture)
        found = view, resample_values(density.difference, view.free.shape).ravel()
        self._kept[row] = found
        while len(self._kept) > 1 and sum(view.free.size for view, _ in self._kept.values()) > CACHED_POINTS:
            self._kept.popitem(last=False)
        return found


def _whitening(inputs: Floats, permuted: Integers) -> tuple[Floats, Floats]:
    """Return the mean and the symmetric whitening matrix of inputs.

    :param inputs: (p, n).
    :param permuted: (g, n) permutations under which both are invariant.
    :returns: (n,) and (n, n).
    """
    mean = inputs.mean(axis=0, dtype=np.float64)
    mean = mean[permuted].mean(axis=0)
    centred = inputs - mean
    covariance = centred.T @ centred / len(inputs)
    covariance = np.mean([covariance[np.ix_(image, image)] for image in permuted], axis=0)
    variances, directions = np.linalg.eigh(covariance)
    widths = np.sqrt(np.maximum(variances, 0.0) + SMALLEST_VARIANCE * variances[-1])
    return mean, (directions / widths) @ directions.T


class _Loop:
    """Steps of the optimiser, compiled once."""

    def __init__(self, architecture: Architecture, mean: Floats, whitening: Floats, scale: float) -> None:
        import_keras()
        import tensorflow as tf

        self._tf = tf
        settings = architecture.settings
        self._batch = settings.batch_size
        self._scale = scale
        self._mean, self._whitening = mean, whitening
        self._layers = architecture.layers
        generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence([settings.seed, 0])))
        self._weights, self._biases = [], []
        for number, layer in enumerate(self._layers, start=1):
            width = 1 / math.sqrt(len(layer.weights)) * (0.1 if number == len(self._layers) else 1.0)
            self._weights.append(tf.Variable(generator.normal(0.0, width, layer.n_weights).astype(np.float32)))
            self._biases.append(tf.Variable(np.zeros(layer.n_biases, dtype=np.float32)))
        self._optimizer = _optimizer(settings, [*self._weights, *self._biases])
        self._sampled = tf.constant(architecture.sampling @ whitening, tf.float32)
        self._centre = tf.constant((mean @ whitening)[None], tf.float32)
        n_steps = settings.epochs * (settings.points_per_epoch // settings.batch_size)
        xla = n_steps >= STEPS_WORTH_XLA
        self._step = tf.function(self._take_step, jit_compile=xla, autograph=False)
        self._error = tf.function(self._mean_error, jit_compile=xla, autograph=False)

    def _mean_error(self, rows: Any, targets: Any) -> Any:
        """Return the mean absolute error of the network on rows (p, k) with scaled targets (p,)."""
        tf = self._tf
        values = rows
        for number, layer in enumerate(self._layers, start=1):
            weights = tf.gather(self._weights[number - 1], layer.weights)
            biases = tf.gather(self._biases[number - 1], layer.biases)
            if number == 1:
                # Smaller than the rows: the weights are whitened in their place.
                biases -= tf.reshape(self._centre @ weights, (-1,))
                weights = self._sampled @ weights
            values = values @ weights + biases
            if number < len(self._layers):
                values *= tf.clip_by_value(values / 6 + 0.5, 0.0, 1.0)
        return tf.reduce_mean(tf.abs(values[:, 0] - targets))

    def _take_step(self, rows: Any, targets: Any) -> Any:
        """Take one step of the optimiser; return the loss before it."""
        variables = [*self._weights, *self._biases]
        with self._tf.GradientTape() as tape:
            loss = self._mean_error(rows, targets)
        self._optimizer.apply(tape.gradient(loss, variables), variables)
        return loss

    def run_epoch(self, rows: NDArray[np.float32], targets: NDArray[np.float32]) -> float:
        """Take one step for each whole batch; return their mean loss."""
        losses = [self._step(*batch) for batch in self._batches(rows, targets)]
        return float(np.mean([float(loss) for loss in losses]))

    def error(self, rows: NDArray[np.float32], targets: NDArray[np.float32]) -> float:
        """Return the mean absolute error over whole batches, in units of the scale."""
        return float(np.mean([float(self._error(*batch)) for batch in self._batches(rows, targets)]))

    def folded(self) -> tuple[list[NDArray[np.float32]], list[NDArray[np.float32]]]:
        """Return the free weights and biases of each layer; the whitening becomes a part of the first."""
        weights = [variable.numpy() for variable in self._weights]
        biases = [variable.numpy() for variable in self._biases]
        first = self._layers[0]
        behind = weights[0].astype(np.float64)[first.weights]
        whitened = self._whitening @ behind
        counts = np.bincount(first.weights.ravel(), minlength=first.n_weights)
        weights[0] = (np.bincount(first.weights.ravel(), whitened.ravel(), first.n_weights) / counts).astype(np.float32)
        shifts = self._mean @ whitened
        members = np.bincount(first.biases, minlength=first.n_biases)
        biases[0] = (biases[0] - np.bincount(first.biases, shifts, first.n_biases) / members).astype(np.float32)
        return weights, biases

    def _batches(self, rows: NDArray[np.float32], targets: NDArray[np.float32]) -> Iterator[tuple[Any, Any]]:
        for start in range(0, len(rows) - self._batch + 1, self._batch):
            chosen = slice(start, start + self._batch)
            yield self._tf.constant(rows[chosen]), self._tf.constant(targets[chosen] / np.float32(self._scale))


def _optimizer(settings: DensitySettings, variables: list[Any]) -> Any:
    """Return Adam with a learning rate that falls to zero over the training."""
    keras = import_keras()
    rate = keras.optimizers.schedules.CosineDecay(
        settings.learning_rate, decay_steps=settings.epochs * (settings.points_per_epoch // settings.batch_size)
    )
    optimizer = keras.optimizers.Adam(rate, global_clipnorm=1.0)
    optimizer.build(variables)
    return optimizer
