"""Dense layers in NumPy: what a trained network computes, without TensorFlow.

The layers run in single precision and in the order of Keras, so that both give the same numbers. Only the features are
standardised in double precision, as in the training: Keras would round them first, and lose small spreads of large
numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

Singles = NDArray[np.float32]
Floats = NDArray[np.float64]

_ROWS_AT_ONCE = 16384


@dataclass(frozen=True)
class DenseLayers:
    """Dense networks side by side, between the scaling of the features and that of the targets.

    :param kernels: (members, n_in, n_out) for each layer, the last one has n_targets outputs.
    :param biases: (members, n_out) for each layer.
    :param activation: of the hidden layers, a key of :data:`ACTIVATIONS`.
    :param output: activation of the last layer.
    :param scales: what the answers of each target are multiplied by.
    :param offsets: what is added to them then.
    :param mean: of each feature over the training rows; ``None``: features are not standardised.
    :param variance: of each feature over the training rows.
    """

    kernels: tuple[Singles, ...]
    biases: tuple[Singles, ...]
    activation: str
    output: str
    scales: list[float]
    offsets: list[float]
    mean: list[float] | None = None
    variance: list[float] | None = None

    @property
    def members(self) -> int:
        """Number of networks side by side."""
        return len(self.kernels[0])

    @property
    def n_features(self) -> int:
        """Number of features."""
        return int(self.kernels[0].shape[1])

    @property
    def n_targets(self) -> int:
        """Number of targets."""
        return int(self.kernels[-1].shape[2])

    def predict_members(self, features: Floats) -> Floats:
        """Predict all targets by all members.

        :param features: (n, n_features).
        :returns: (n, members, n_targets), each target in its unit.
        """
        rows = self._standardized(features)
        found = np.empty((len(rows), self.members, self.n_targets))
        for start in range(0, len(rows), _ROWS_AT_ONCE):
            found[start : start + _ROWS_AT_ONCE] = self._forward(rows[start : start + _ROWS_AT_ONCE])
        return found

    def state(self) -> dict[str, Any]:
        """Return everything that the prediction depends on, by layer: arrays and scales.

        The names and shapes are those of the layers in Keras: the fingerprints of models are made of them.
        """
        single = self.members == 1
        layers: dict[str, Any] = {'features': {'weights': []}}
        if self.mean is not None:
            layers['standardize'] = {'weights': [], 'mean': self.mean, 'variance': self.variance}
        if not single:
            layers['copies'] = {'weights': []}
        for name, kernel, bias in zip(layer_names(len(self.kernels)), self.kernels, self.biases, strict=True):
            layers[name] = {'weights': [kernel[0], bias[0]] if single else [kernel, bias]}
        layers['targets' if single else 'members'] = {'weights': [], 'scale': self.scales, 'offset': self.offsets}
        if not single:
            layers['targets'] = {'weights': []}
        return layers

    def _standardized(self, features: Floats) -> Singles:
        """Scale features (n, n_features) as in the training: in double precision, before the rest runs in single."""
        if self.mean is None:
            return features.astype(np.float32)
        scaled: Singles = ((features - np.array(self.mean)) / np.sqrt(np.array(self.variance))).astype(np.float32)
        return scaled

    def _forward(self, rows: Singles) -> Floats:
        """Send standardised rows (n, n_features) through the layers; (n, members, n_targets).

        In double precision, so that a prediction does not depend on the rows beside it.
        """
        values: Floats = rows[None].astype(np.float64)
        for number, (kernel, bias) in enumerate(zip(self.kernels, self.biases, strict=True), start=1):
            values = values @ kernel
            values += bias[:, None]
            values = ACTIVATIONS[self.output if number == len(self.kernels) else self.activation](values)
        scales, offsets = (np.asarray(column, dtype=np.float64) for column in (self.scales, self.offsets))
        return np.swapaxes(values, 0, 1) * scales + offsets


def layer_names(n_layers: int) -> list[str]:
    """Return the names of the dense layers in Keras: ``hidden_1``, ``hidden_2``, ..., ``output``."""
    return [*(f'hidden_{number}' for number in range(1, n_layers)), 'output']


def _gelu(values: Floats) -> Floats:
    from scipy.special import erf

    gate: Floats = 0.5 * (1 + erf(values * np.sqrt(0.5)))
    return values * gate


def _silu(values: Floats) -> Floats:
    from scipy.special import expit

    gate: Floats = expit(values)
    return values * gate


ACTIVATIONS: Mapping[str, Callable[[Floats], Floats]] = MappingProxyType(
    {
        'linear': lambda values: values,
        'relu': lambda values: np.maximum(values, 0.0),
        'silu': _silu,
        'gelu': _gelu,
        'tanh': np.tanh,
        'elu': lambda values: np.where(values > 0, values, np.expm1(np.minimum(values, 0.0))),
        'softplus': lambda values: np.logaddexp(values, 0.0),
    }
)
"""Activation functions by the names that Keras gives them."""
