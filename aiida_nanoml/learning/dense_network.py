"""Dense networks from features to a target, or to several at once."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field

from aiida_nanoml.errors import DatasetError, ModelError
from aiida_nanoml.learning.arrays import (
    Floats,
    as_features,
    as_target_columns,
    constant_columns,
    lost_in_single_precision,
    require_width,
)
from aiida_nanoml.learning.dense_layers import DenseLayers, Singles
from aiida_nanoml.learning.dense_training import (
    Scaling,
    TrainingLoop,
    TrainingSettings,
    standard_moments,
    training_loop,
)
from aiida_nanoml.learning.keras_backend import import_keras
from aiida_nanoml.learning.keras_files import KerasNetwork, core_model, core_weights, read_network, write_network
from aiida_nanoml.learning.model import Model, Progress
from aiida_nanoml.learning.model_card import read_history
from aiida_nanoml.parameters import Count, Flag, NotNegative, Positive, Seed, check_parameters

NETWORK_FILE = 'network.keras'
HISTORY_FILE = 'history.json'


class DenseNetwork(Model):
    """Ensemble of feed-forward networks from features to a target, or to several at once.

    ``predict`` returns the main target only, and the standard deviation over the members. It measures what the
    training left open, not the error. Training needs TensorFlow, prediction does not.

    :param hidden_layers: neurons of each hidden layer.
    :param activation: of the hidden layers.
    :param output: ``linear``, or ``softplus``: a smooth bend that never predicts a value below zero.
    :param initializer: ``he_normal`` or ``glorot_uniform`` kernels with zero biases, or ``random_uniform``: kernels and
        biases uniform within ±0.05.
    :param loss: ``mse``, ``mae`` or ``huber``, of target / ``target_scale``. Gaps have a long upper tail, to which
        ``mae`` is less sensitive.
    :param learning_rate: of Adam.
    :param schedule: ``constant``, or ``cosine``: the learning rate falls to zero over ``epochs``.
    :param batch_size: rows of one step.
    :param epochs: largest number of passes over the training rows.
    :param weight_decay: decoupled decay of the kernels (AdamW); 0 is plain Adam.
    :param members: networks trained side by side from different initial weights; the prediction is their mean.
    :param standardize: shift and scale every feature to mean 0 and variance 1 over the training rows (one that is
        constant there is only shifted) and, with a ``linear`` output, shift the targets to mean 0.
    :param target_scale: the target is divided by this, in its own unit, for the gap eV. Best is about the standard
        deviation of the targets. ``None``: each target is divided by its standard deviation over the training rows;
        several targets need that.
    :param early_stopping: stop when the validation loss has not fallen for ``patience`` epochs, and keep the weights of
        the best epoch.
    :param validation_fraction: share of the rows given to ``fit`` that is not learnt but watched, drawn with ``seed``,
        if ``early_stopping`` is set and there are no ``validation_data``. At least one row.
    :param patience: in epochs.
    :param seed: of the initial weights and of the order of the rows. Same seed, same machine: same weights.

    Attributes:
        ``network_``: the trained layers, from raw features to the targets in their units.
        ``history_``: ``loss`` and, with validation data, ``val_loss`` for every epoch, in units of the loss.
        ``best_epoch_``: the epoch (from 1) whose weights are kept.
        ``n_features_in_``: number of features.
        ``n_targets_``: number of targets.

    >>> network = DenseNetwork(epochs=20, early_stopping=False)
    >>> network.fit([[0.0], [1.0], [2.0]], [1.0, 2.0, 3.0]).predict([[1.0]]).shape  # doctest: +SKIP
    (1,)
    """

    libraries: ClassVar[tuple[str, ...]] = ('tensorflow', 'keras')

    network_: DenseLayers | KerasNetwork

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
        validation_fraction: Annotated[float, Field(strict=True, gt=0, lt=1)] = 0.1,
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
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.seed = seed

    def fit(
        self,
        X: npt.ArrayLike,
        y: npt.ArrayLike,
        validation_data: tuple[npt.ArrayLike, npt.ArrayLike] | None = None,
        progress: Progress | None = None,
    ) -> Self:
        """Train from new initial weights.

        :param X: (n, n_features) features.
        :param y: (n,) values of one target, for the gap eV; or (n, n_targets), the main target first.
        :param validation_data: features and targets to watch, never trained on. ``None``: with ``early_stopping``, a
            ``validation_fraction`` of the rows.
        :param progress: called after every epoch.
        :raises DatasetError: shapes, NaN or infinity, or a single row, of which none can be watched.
        :raises ModelError: hyperparameters of the wrong type, or a training that diverged.
        """
        check_parameters(type(self), self.get_params(deep=False))
        features = as_features(X)
        targets = as_target_columns(y, n_rows=len(features))
        self.check_targets(targets.shape[1])
        validation = self._validation_set(validation_data, features.shape[1], targets.shape[1])
        if self.output == 'softplus' and targets.min() < 0:
            raise ModelError(
                "a network with output='softplus' cannot answer below zero, and there are targets below zero: set "
                "output='linear', or take the kind 'correction' for corrections to a baseline, 'alloy' for targets of "
                'either sign'
            )
        if not self.standardize:
            self._check_single_precision(features)
        if self.early_stopping and validation is None:
            (features, targets), validation = self._divide(features, targets)
        scaling = self._scaling(features, targets)
        kernels, biases = self._initial_layers(features.shape[1], targets.shape[1])
        watched = None if validation is None else scaling.apply(*validation)
        names = (field.name for field in dataclasses.fields(TrainingSettings))
        settings = TrainingSettings(**{name: getattr(self, name) for name in names})
        with training_loop(settings, kernels, biases, scaling.apply(features, targets), watched) as loop:
            self.history_, self.best_epoch_ = self._train(loop, progress)
            self.network_ = self._trained_layers(loop.core, scaling)
        self._set_trained(X, targets.shape[1])
        return self

    def check_targets(self, n_targets: int) -> None:
        """Check that several targets are not learnt on one scale: their units differ.

        :raises ModelError: several targets, and ``target_scale`` is a number.
        """
        if n_targets > 1 and self.target_scale is not None:
            raise ModelError(
                f'{n_targets} targets have no scale in common, target_scale={self.target_scale:g}: set it to '
                "None, which divides each by its own standard deviation, or take the kind 'alloy'"
            )

    def loss_label(self, unit: str = 'eV') -> str:
        """Describe the numbers in ``history_``, for the axis of a learning curve.

        :param unit: of the target.
        """
        loss = self.loss.upper() if self.loss != 'huber' else 'Huber loss'
        scale = 'standard deviation' if self.target_scale is None else f'({self.target_scale:g} {unit})'
        return f'{loss} of target / {scale}'

    def fitted_state(self) -> dict[str, Any]:
        """Return everything that the prediction depends on besides the hyperparameters, by layer."""
        return self.network_.state()

    def save(self, folder: Path) -> None:
        """Write the trained layers as an archive of Keras, and the losses."""
        write_network(self.network_, folder / NETWORK_FILE)
        (folder / HISTORY_FILE).write_text(json.dumps(self.history_), encoding='utf-8')

    def load(self, folder: Path) -> None:
        """Read the trained layers and the losses, without TensorFlow.

        :raises ModelError: missing, damaged, or another network than the card says.
        """
        path = folder / NETWORK_FILE
        network = read_network(path, ensemble=self.members > 1)
        if (network.n_features, network.n_targets) != (self.n_features_in_, self.n_targets_):
            raise ModelError(
                f'{path} maps {network.n_features} features to {network.n_targets} targets, '
                f'the card says {self.n_features_in_} to {self.n_targets_}'
            )
        self.network_ = network
        self.history_ = read_history(folder / HISTORY_FILE)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.positive_only = self.output == 'softplus'
        return tags

    def _predict_targets(self, features: Floats) -> Floats:
        targets: Floats = self.network_.predict_members(features).mean(axis=1)
        return targets

    def _predict_std(self, features: Floats) -> Floats:
        """Return the standard deviation over the members."""
        if self.members == 1:
            return super()._predict_std(features)
        deviations: Floats = self.network_.predict_members(features)[..., 0].std(axis=1, ddof=1)
        return deviations

    def _validation_set(
        self, given: tuple[npt.ArrayLike, npt.ArrayLike] | None, n_features: int, n_targets: int
    ) -> tuple[Floats, Floats] | None:
        """Check the features and targets to watch."""
        if given is None:
            return None
        features = as_features(given[0], 'validation X')
        require_width(features, n_features)
        targets = as_target_columns(given[1], 'validation y', n_rows=len(features))
        if targets.shape[1] != n_targets:
            raise DatasetError(f'y has {n_targets} targets, validation y has {targets.shape[1]}')
        return features, targets

    def _divide(self, features: Floats, targets: Floats) -> tuple[tuple[Floats, Floats], tuple[Floats, Floats]]:
        """Draw the rows to watch; return features and targets of the others, and of the rows to watch."""
        n_rows = len(features)
        if n_rows < 2:
            raise DatasetError(
                'early_stopping watches some rows and learns the others, and there is 1 sample: pass validation_data, '
                'or set early_stopping=False'
            )
        n_watched = min(max(1, round(self.validation_fraction * n_rows)), n_rows - 1)
        order = np.random.Generator(np.random.PCG64(np.random.SeedSequence([self.seed, 2]))).permutation(n_rows)
        watched, learnt = np.sort(order[:n_watched]), np.sort(order[n_watched:])
        return (features[learnt], targets[learnt]), (features[watched], targets[watched])

    def _check_single_precision(self, features: Floats) -> None:
        lost = np.flatnonzero(lost_in_single_precision(features))
        if len(lost):
            column = features[:, lost[0]]
            raise ModelError(
                f'feature {lost[0]} is {column.mean():g} ± {column.std():g}: single precision, in which a network '
                'computes, loses this spread; set standardize=True, or shift the feature'
            )

    def _scaling(self, features: Floats, targets: Floats) -> Scaling:
        """Return the scaling that the training rows call for."""
        n_features, n_targets = features.shape[1], targets.shape[1]
        mean, variance = standard_moments(features) if self.standardize else (np.zeros(n_features), np.ones(n_features))
        centred = self.standardize and self.output == 'linear'
        offsets = targets.mean(axis=0) if centred else np.zeros(n_targets)
        if self.target_scale is not None:
            return Scaling(mean, variance, offsets, np.full(n_targets, self.target_scale))
        deviations = targets.std(axis=0)
        deviations[constant_columns(targets)] = 1.0
        return Scaling(mean, variance, offsets, deviations)

    def _train(self, loop: TrainingLoop, progress: Progress | None) -> tuple[dict[str, list[float]], int]:
        """Run the epochs.

        :returns: the losses of every epoch by name, and the epoch whose weights are kept.
        :raises ModelError: the training diverged.
        """
        history: dict[str, list[float]] = {}
        best_loss, best_epoch = math.inf, 0
        for epoch in range(1, self.epochs + 1):
            losses = loop.run_epoch()
            if not all(map(math.isfinite, losses.values())):
                raise ModelError(
                    f'the training diverged in epoch {epoch}: lower learning_rate ({self.learning_rate:g})'
                )
            for name, value in losses.items():
                history.setdefault(name, []).append(value)
            if progress is not None:
                progress(epoch, self.epochs, losses)
            if self.early_stopping:
                if losses['val_loss'] < best_loss:
                    best_loss, best_epoch = losses['val_loss'], epoch
                    loop.keep_weights()
                elif epoch - best_epoch >= self.patience:
                    break
        if not self.early_stopping:
            return history, self.epochs
        loop.restore_weights()
        return history, best_epoch

    def _trained_layers(self, core: Any, scaling: Scaling) -> DenseLayers:
        """Return the layers of the trained part between the scalings."""
        kernels, biases = core_weights(core)
        return DenseLayers(
            kernels,
            biases,
            activation=self.activation,
            output=self.output,
            scales=scaling.scales.tolist(),
            offsets=scaling.offsets.tolist(),
            mean=scaling.mean.tolist() if self.standardize else None,
            variance=scaling.variance.tolist() if self.standardize else None,
        )

    def _build_core(self, n_features: int, n_targets: int = 1) -> Any:
        """Build the trainable part with its initial weights, see :func:`core_model`."""
        return core_model(*self._initial_layers(n_features, n_targets), self.activation, self.output)

    def _initial_layers(self, n_features: int, n_targets: int) -> tuple[list[Singles], list[Singles]]:
        """Return the initial kernels (members, n_in, n_out) and biases (members, n_out) of each layer."""
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
        return kernels, biases

    def _initial_weights(self, n_in: int, n_out: int, kernel_seed: int, bias_seed: int) -> tuple[Any, Any]:
        initializers = import_keras().initializers
        if self.initializer == 'random_uniform':
            kernel = initializers.RandomUniform(-0.05, 0.05, seed=kernel_seed)
            bias = initializers.RandomUniform(-0.05, 0.05, seed=bias_seed)
        else:
            kinds = {'he_normal': initializers.HeNormal, 'glorot_uniform': initializers.GlorotUniform}
            kernel, bias = kinds[self.initializer](seed=kernel_seed), initializers.Zeros()
        return np.asarray(kernel((n_in, n_out))), np.asarray(bias((n_out,)))
